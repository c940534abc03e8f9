"""A test of fencing: which device responds where, may a node lose its power, and what came of it.

Error texts of fence agents are not shown: they may have a password in them.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from saltext_kvmcluster.core.drain import maintenance
from saltext_kvmcluster.core.errors import InputError
from saltext_kvmcluster.core.facts.nodefacts import NodeFacts
from saltext_kvmcluster.core.ha import refusals
from saltext_kvmcluster.core.pacemaker import standby
from saltext_kvmcluster.core.pacemaker.fenced import LOG, Tried
from saltext_kvmcluster.core.pacemaker.model import Configuration, Pacemaker
from saltext_kvmcluster.core.readiness.checks.base import World
from saltext_kvmcluster.core.text import one_line, printable
from saltext_kvmcluster.core.untrusted import Reader

KIND = "fence_test"
BACK, AWAY, STAYED = "fenced", "fenced_not_back", "not_off"
"""The node left, and is back; it left, and is not back yet; a device says so, and it ran on."""
FAILED, UNKNOWN = "fencing_failed", "unknown"
Levels = Sequence[Sequence[str]]


@dataclass(frozen=True)
class DeviceRow:
    """A device that is for a node. ``responds``: by asking node why not, empty if it does."""

    node: str
    device: str
    responds: Mapping[str, str]

    def to_dict(self) -> dict[str, Any]:
        """Return it as plain data."""
        return {"node": self.node, "device": self.device, "responds": dict(self.responds)}


@dataclass(frozen=True)
class FenceTest:
    """What is known of fencing, and, of a real test, what is planned and what was done.

    ``node``: the one that is to lose its power, empty if none is. ``asker``: the node that has it
    fenced. ``levels``: its devices, in the order in which they are used. ``guests``: those that run
    there. ``hindered``: why nothing is done.
    """

    cluster: str
    nodes: tuple[str, ...]
    rows: tuple[DeviceRow, ...]
    problems: tuple[str, ...]
    node: str = ""
    asker: str = ""
    levels: Levels = ()
    guests: tuple[str, ...] = ()
    hindered: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Return it as plain data, as the runner returns it."""
        return {
            "kind": KIND,
            "cluster": self.cluster,
            "ok": not (self.problems or self.hindered),
            "test": True,
            "nodes": list(self.nodes),
            "devices": [row.to_dict() for row in self.rows],
            "problems": list(self.problems),
            "node": self.node,
            "asker": self.asker,
            "levels": [list(level) for level in self.levels],
            "guests": list(self.guests),
            "hindered": list(self.hindered),
        }


def questions(world: World, nodes: Collection[str]) -> dict[str, list[str]]:
    """Return, by node, the devices that it has to try: those by which it can fence another node."""
    asked: dict[str, list[str]] = {}
    for asker in world.nodes:
        found = {one for node in nodes if node != asker for one in _able(world, node, asker)}
        if found:
            asked[asker] = sorted(found)
    return asked


def examined(world: World, nodes: Sequence[str], answers: Mapping[str, Any]) -> FenceTest:
    """Return what is known of the fencing of nodes, by what all nodes answered to ``questions``."""
    rows = tuple(row for node in nodes for row in _rows(world, node, answers))
    problems = (
        *(f"{node}: {why}" for node, facts in world.nodes.items() if (why := _unusable(facts))),
        *(f"{node}: {why}" for node in nodes for why in _unfenced(world, node)),
        *dict.fromkeys(why for row in rows for why in _not_responding(row)),
    )
    return FenceTest(world.cluster.name, tuple(nodes), rows, problems)


def planned(world: World, found: FenceTest, node: str, with_guests: bool) -> FenceTest:
    """Return how a node is fenced for a test, or why that must not be done.

    with_guests
        Whether guests may lose their memory there.
    """
    others = [one for one in world.nodes if one != node]
    asker = next((one for one in others if not _unusable(world.nodes[one])), "")
    guests = world.nodes[node].guests or ()
    active = tuple(sorted(printable(guest.name) for guest in guests if guest.active))
    hindered = (
        *found.problems,
        *dict.fromkeys(_out_of_order(world)),
        *_of_quorum(world, node),
        *(_of_guests(world, node) if with_guests else _not_drained(world.nodes[node])),
    )
    return replace(
        found,
        node=node,
        asker=asker,
        levels=_levels(world, node, asker),
        guests=active,
        hindered=hindered,
    )


def answered(answer: object, asker: str) -> Tried:
    """Return what the node reported that was asked to fence another one."""
    if isinstance(answer, str):
        return Tried(False, detail=one_line(answer))
    sent = Reader(answer, lenient=True)
    if not sent.has("seconds"):
        return Tried(None, detail=f"no response from {asker}")
    ok = sent.at("ok").value
    return Tried(
        ok if isinstance(ok, bool) else None,
        sent.at("by").line(""),
        sent.at("device").line(""),
        float(sent.at("seconds").number(0.0) or 0.0),
        sent.at("detail").line(""),
    )


def alive(answer: object, node: str) -> str:
    """Return how a node responds, by ``kvmcluster.responds`` of another one; empty if not."""
    sent = Reader(answer, lenient=True).at("responses").at(node)
    return sent.line("whether it responds on the network is not known")


def missing(node: str, before: str, now: maintenance.Boot | None, is_online: bool) -> str:
    """Return what of a fencing, and of the node's return, was not seen yet; empty if nothing.

    before
        The boot that the node was in.
    """
    if now is None:
        return f"no response from the minion of {node}"
    if now.id == before:
        return f"{node} runs on in the boot in which it was"
    return "" if is_online else f"Pacemaker does not show {node} online"


def outcome(
    tried: Tried, before: str, now: maintenance.Boot | None, is_online: bool, alive: str
) -> str:
    """Return what came of a fencing, by what was seen of the node.

    before
        The boot that it was in.
    is_online
        Whether Pacemaker has it as a member.
    alive
        How it responds to the node that asked; empty if it does not.
    """
    if not tried.ok:
        return FAILED if tried.ok is False else UNKNOWN
    if now is None:
        return UNKNOWN if alive else AWAY
    if now.id == before:
        return STAYED
    return BACK if is_online else AWAY


def with_outcome(
    plan: FenceTest, tried: Tried, result: str, elapsed: float, detail: str
) -> dict[str, Any]:
    """Return a plan as plain data, with what was done and seen.

    elapsed
        Seconds from the beginning until the node was back, or was no longer waited for.
    detail
        What was not seen in the end.
    """
    done = {**tried.to_dict(), "result": result, "elapsed": elapsed, "missing": detail}
    return {**plan.to_dict(), "ok": result == BACK, "test": False, "fenced": done}


def _unusable(facts: NodeFacts) -> str:
    """Return why nothing is known of a node's Pacemaker; empty if that is known."""
    if facts.detail:
        return facts.detail
    found = facts.pacemaker
    if found is None:
        return "not known whether Pacemaker runs there"
    if not found.runs:
        return "Pacemaker does not run there"
    return f"Pacemaker cannot be read there: {found.error}" if found.error else ""


def _views(world: World) -> Iterator[tuple[str, Pacemaker]]:
    for node, facts in world.nodes.items():
        if facts.pacemaker and not _unusable(facts):
            yield node, facts.pacemaker


def _able(world: World, node: str, asker: str) -> list[str]:
    """Return the devices by which a node can fence another one; a watchdog is none."""
    view = world.nodes[asker].pacemaker
    if view is None or view.configuration is None:
        return []
    configured = [one.id for one in view.configuration.fencing]
    return [one for one in configured if one in view.fencers.get(node, ())]


def _rows(world: World, node: str, answers: Mapping[str, Any]) -> Iterator[DeviceRow]:
    askers = [asker for asker in world.nodes if asker != node]
    able = {asker: _able(world, node, asker) for asker in askers}
    for device in dict.fromkeys(one for found in able.values() for one in found):
        asked = {
            asker: _response(answers.get(asker), device)
            for asker in askers
            if device in able[asker]
        }
        yield DeviceRow(node, device, asked)


def _response(answer: object, device: str) -> str:
    if isinstance(answer, str):
        return one_line(answer)
    return Reader(answer, lenient=True).at("devices").at(device).line("no answer was returned")


def _not_responding(row: DeviceRow) -> Iterator[str]:
    for asker, why in row.responds.items():
        if why:
            yield (
                f"{row.device} does not respond to {asker} ({why}); on {asker}: stonith_admin"
                f" --query={row.device} --verbose, and {LOG}"
            )


def _unfenced(world: World, node: str) -> Iterator[str]:
    view = world.nodes[node].pacemaker or next((one for _, one in _views(world)), None)
    if view is None or view.configuration is None:
        return
    others = (one.pacemaker for name, one in world.nodes.items() if name != node)
    for issue in refusals.unfenced(node, view.configuration, others):
        yield f"{issue.sentence}; {issue.remedy}" if issue.remedy else issue.sentence


def _levels(world: World, node: str, asker: str) -> Levels:
    """Return a node's devices in the order in which they are used; those of a level together."""
    able = _able(world, node, asker) if asker else []
    view = world.nodes[asker].pacemaker if asker else None
    configured = view.configuration if view else None
    levels = [one.devices for one in (configured or Configuration()).levels if one.target == node]
    return levels or [[one] for one in able]


def _out_of_order(world: World) -> Iterator[str]:
    """Yield what is wrong with Pacemaker's cluster, so that it must not lose a node besides."""
    known = {node for node, _ in _views(world)}
    for view in (view for _, view in _views(world)):
        if view.status is None:
            continue
        if not view.status.quorum:
            yield f"Pacemaker on {view.name} has no quorum"
        for member in view.status.members.values():
            wrong = (
                *(() if member.online else ("offline",)),
                *(("pending",) if member.pending else ()),
                *(("unclean",) if member.unclean else ()),
                *(("in maintenance",) if member.maintenance else ()),
            )
            if wrong and not member.guest:
                yield f"Pacemaker has {member.name} {' and '.join(wrong)}"
    for node, view in _views(world):
        if view.name != node and node in known:
            name = view.name or "?"
            yield f"{node} is called {name} in Pacemaker; see: salt-run kvmcluster.check"


def _of_quorum(world: World, node: str) -> Iterator[str]:
    """Yield why the others would have no quorum without a node."""
    others = [facts for name, facts in world.nodes.items() if name != node]
    if not others:
        yield "no other node could fence it"
    for facts in others:
        status = facts.pacemaker.status if facts.pacemaker else None
        if status is None:
            continue
        count = sum(not one.guest for one in status.members.values())
        yield from (one.sentence for one in refusals.tied(facts.corosync, count, runs=True))
        configured = facts.pacemaker.configuration if facts.pacemaker else None
        number = configured.nodes.get(node, "") if configured else ""
        left = facts.corosync.is_quorate_without(number) if facts.corosync else None
        if left is None:
            yield f"not known whether {facts.node} would have quorum without it"
        elif not left:
            yield f"{facts.node} would lose quorum without it, and start nothing"


def _not_drained(facts: NodeFacts) -> Iterator[str]:
    if facts.detail:
        return  # That it does not respond is named already; whether it is drained is not known.
    try:
        maintenance.may_reboot(facts)
    except InputError as error:
        yield str(error).replace("was not rebooted", "may not be fenced")


def _of_guests(world: World, node: str) -> Iterator[str]:
    """Yield why guests would not come back from a node that loses its power."""
    facts = world.nodes[node]
    if facts.guests is None and not facts.detail:
        yield f"{node} does not report its guests: {facts.daemon_detail}"
    if facts.pacemaker and (why := standby.refusal(node, facts.pacemaker)):
        yield why
    for guest in facts.guests or ():
        if guest.active and not world.managers.of(guest.name, [node]).managed:
            yield (
                f"{printable(guest.name)} runs there, and Pacemaker would not start it elsewhere:"
                f" salt-run kvmcluster.migrate {printable(guest.name)}"
            )
