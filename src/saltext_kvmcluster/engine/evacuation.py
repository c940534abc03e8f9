"""Empties a node for maintenance, guests that cannot move included, and brings those back."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import replace
from typing import Any, Protocol

from saltext_kvmcluster.core.drain import assessment, immovable, maintenance
from saltext_kvmcluster.core.drain.assessment import Assessment
from saltext_kvmcluster.core.drain.maintenance import Preflight
from saltext_kvmcluster.core.drain.report import PlanReport
from saltext_kvmcluster.core.errors import WorldError
from saltext_kvmcluster.core.ownership import startup
from saltext_kvmcluster.core.readiness import examination
from saltext_kvmcluster.core.readiness.checks.base import World
from saltext_kvmcluster.core.text import one_line, printable
from saltext_kvmcluster.engine import applier, drainer
from saltext_kvmcluster.engine.drainer import Console
from saltext_kvmcluster.engine.fleet import ACTION, Fleet

EVACUATION = "evacuation"
_INTERRUPTED = "interrupted: no further guests are shut down"


class Memory(Protocol):
    """Which guests were shut down for maintenance and are to be started again; outlives us."""

    def stopped(self, node: str) -> list[str]:
        """Return those of a node."""

    def add(self, node: str, guest: str) -> None:
        """Keep one; WorldError if that fails."""

    def remove(self, node: str, guest: str) -> None:
        """Forget one."""


def assess(
    fleet: Fleet,
    console: Console,
    memory: Memory,
    node: str,
    sls: tuple[str, ...],
    when: str,
    drain: str,
) -> Assessment:
    """Return what there is to do on a node: the SLS is tried in test mode."""
    facts = fleet.facts([node], targets=False, trust=False)[node]
    if facts.cordoned is None:
        why = facts.detail or "unexpected response"
        raise WorldError(
            f"{node} does not report whether it is cordoned ({why}): it is not known what there is"
            " to do there"
        )
    boot = maintenance.boot(fleet.ask([node], "kvmcluster.boot").get(node))
    if boot is None:
        raise WorldError(f"no response from {node}: it is not known what there is to do there")
    found = applier.apply(fleet, [node], sls, True, console)[0] if sls else None
    left = assessment.left(facts.cordoned, memory.stopped(node))
    return assessment.assess(fleet.cluster.name, node, found, boot, when, drain, left)


def with_stuck(
    fleet: Fleet,
    found: Preflight,
    world: World,
    nodes: Iterable[str],
    what: str,
    when: str,
    drain: str,
) -> Preflight:
    """Return what preflight has found, and which guests cannot be moved, and what follows.

    world
        All nodes, as they were examined.
    nodes
        Those to be maintained.
    """
    if (drain, when) == (assessment.REBOOT, maintenance.NEVER):
        return found
    known = immovable.by_node(world, nodes)
    hindered: list[str] = []
    if known and what == immovable.REFUSE:
        hindered = [*immovable.refusals(known), immovable.REMEDY]
    elif known and what == immovable.SHUTDOWN:
        examined = examination.examine(maintenance.open_world(world))
        hindered = [*immovable.doubts(examined, known), *unrestartable(fleet, known)]
    elif known:
        answers = fleet.ask(list(known), "kvmcluster.boot")
        boots = {node: maintenance.boot(answers.get(node)) for node in known}
        hindered = immovable.reboots(known, boots, when)
    return replace(found, stuck=known, hindered=tuple(hindered))


def unrestartable(fleet: Fleet, found: immovable.Stuck) -> list[str]:
    """Return a sentence for each guest that could not be started again on its node."""
    sentences = []
    for node, guests in found.items():
        for guest in guests:
            answer = fleet.ask([node], "kvmcluster.startable", guest).get(node)
            sentences.append(immovable.not_restartable(node, guest, answer))
    return [sentence for sentence in sentences if sentence]


def evacuate(
    fleet: Fleet,
    console: Console,
    memory: Memory,
    node: str,
    reason: str,
    what: str,
    test: bool = False,
    named: Collection[str] | None = None,
) -> dict[str, Any]:
    """Drain a node; guests that can go nowhere by the plan are shut down, or stay.

    A guest that was to move and did not is neither: then the node is not empty, and that is said.

    what
        What becomes of guests that can go nowhere: one of ``immovable.STUCK``. With ``refuse`` the
        node is not even cordoned if there is one; nor otherwise if one was not named beforehand;
        nor with ``shutdown`` if one may be movable.
    named
        The guests that may be shut down, or stay; None for all that can go nowhere by this plan.
    """
    proposed = drainer.drain(fleet, console, node, reason, test=True)
    planned, of_all = proposed.stuck, {"kind": EVACUATION, "what": what}
    hindered = _hindered(fleet, node, planned, what, named)
    if test:
        return {**proposed.to_dict(), **of_all, "ok": not hindered, "hindered": hindered}
    if hindered:
        raise WorldError(f"{node} is not drained, nor cordoned: {'; '.join(hindered)}")
    done = drainer.drain(fleet, console, node, reason)
    data: dict[str, Any] = {**done.to_dict(), **of_all, "shut_down": [], "stay": []}
    known = _known(done, planned)
    if what == immovable.REFUSE or not known or done.detail or done.under_way:
        return data
    if what == immovable.LEAVE:
        data["stay"] = known
    elif doubts := _doubts(fleet, node, {guest: planned[guest] for guest in known}):
        data["detail"] = "; ".join(doubts)
    else:
        data["shut_down"] = [_stopped(fleet, console, memory, node, guest) for guest in known]
        off = {row["guest"] for row in data["shut_down"] if row["ok"]}
        data["left"] = [guest for guest in done.left or () if guest not in off]
        data["detail"] = _INTERRUPTED if console.interrupted() else ""
    data["ok"] = set(data["left"] or ()) <= set(data["stay"]) and not data["detail"]
    if data["ok"] and data["shut_down"]:
        kept = drainer.kept_empty(fleet, replace(done, left=data["left"]), reason)
        data |= {"ok": not kept.detail, "detail": kept.detail, "standby": kept.standby}
    return data


def _hindered(
    fleet: Fleet, node: str, planned: Mapping[str, str], what: str, named: Collection[str] | None
) -> list[str]:
    """Return why a node is not drained because of guests that can go nowhere."""
    if not planned:
        return []
    if what == immovable.REFUSE:
        return [*immovable.refusals({node: planned}), immovable.REMEDY]
    unnamed = immovable.unnamed(node, planned, named)
    if unnamed or what == immovable.LEAVE:
        return unnamed
    return _doubts(fleet, node, planned)


def _doubts(fleet: Fleet, node: str, stuck: Mapping[str, str]) -> list[str]:
    """Return why it is not certain that guests can go nowhere, by what all nodes report now."""
    return immovable.doubts(fleet.placeable(source=node)[1], {node: stuck})


def _known(done: PlanReport, planned: Iterable[str]) -> list[str]:
    """Return the guests that are left, and were known before to go nowhere."""
    tried = {row["guest"] for row in done.failed}
    return [
        guest
        for guest in done.left or ()
        if guest in planned and guest in done.stuck and guest not in tried
    ]


def _stopped(
    fleet: Fleet, console: Console, memory: Memory, node: str, guest: str
) -> dict[str, Any]:
    """Shut a guest down, after it was kept that it is to be started again; return the result."""
    if console.interrupted():
        return _failed(guest, startup.NOT_STOPPED, "interrupted before it was shut down")
    answer = fleet.ask([node], "kvmcluster.startable", guest).get(node)
    if why := immovable.not_restartable(node, guest, answer):
        return _failed(guest, startup.NOT_STOPPED, why)
    try:
        memory.add(node, guest)
    except WorldError as error:
        return _failed(guest, startup.NOT_STOPPED, str(error))
    console.show(f"{guest} is shut down")
    call = "kvmcluster.shutdown"
    answer = fleet.ask([node], call, guest, stays_off=False, within=ACTION).get(node)
    return _row(guest, answer, (startup.STOPPED,))


def restore(fleet: Fleet, console: Console, memory: Memory, node: str) -> dict[str, Any]:
    """Start the guests of a node that were shut down for its maintenance; return what came of it.

    Each by the rules of every start: only if no node has it. One that runs, wherever, is done.
    """
    rows = [_restarted(fleet, console, memory, node, guest) for guest in memory.stopped(node)]
    return {
        "kind": "restored",
        "cluster": fleet.cluster.name,
        "node": node,
        "ok": all(row["ok"] for row in rows),
        "started": rows,
    }


def _restarted(
    fleet: Fleet, console: Console, memory: Memory, node: str, guest: str
) -> dict[str, Any]:
    """Start a guest that was shut down, and forget that once it runs; return the result."""
    if console.interrupted():
        return _failed(guest, startup.NOT_STARTED, "interrupted before it was started")
    console.show(f"{guest} is started")
    answer = fleet.ask([node], "kvmcluster.start", guest, within=ACTION).get(node)
    row = _row(guest, answer, (startup.STARTED, startup.RUNNING))
    if row["ok"]:
        try:
            memory.remove(node, guest)
        except WorldError as error:
            return {**row, "ok": False, "reason": f"{row['reason']}; {error}"}
    return row


def _row(guest: str, answer: object, well: tuple[str, ...]) -> dict[str, Any]:
    """Return what came of a guest, by what its node returned; ``owner``: where it is."""
    if not isinstance(answer, Mapping):
        detail = "no response" if answer is None else one_line(str(answer))
        return _failed(guest, "unknown", detail)
    result = one_line(str(answer.get("result")))
    reason = one_line(str(answer.get("reason", "")))
    owner = one_line(str(answer.get("owner") or ""))
    done = _failed(guest, result, reason)
    return {**done, "ok": result in well, "owner": owner}


def _failed(guest: str, result: str, reason: str) -> dict[str, Any]:
    return {
        "guest": printable(guest),
        "ok": False,
        "result": result,
        "reason": reason,
        "owner": "",
    }
