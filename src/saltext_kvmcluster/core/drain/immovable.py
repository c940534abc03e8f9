"""Guests that can go nowhere when their node is drained, and what becomes of them."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping

from saltext_kvmcluster.core import validate
from saltext_kvmcluster.core.drain import maintenance, placement
from saltext_kvmcluster.core.drain.maintenance import Boot
from saltext_kvmcluster.core.errors import WorldError
from saltext_kvmcluster.core.findings import PROBLEM
from saltext_kvmcluster.core.readiness import examination
from saltext_kvmcluster.core.readiness.checks.base import World
from saltext_kvmcluster.core.readiness.report import GroupedFinding, Readiness
from saltext_kvmcluster.core.text import listed, one_line, printable

REFUSE, SHUTDOWN, LEAVE = "refuse", "shutdown", "leave"
STUCK = (REFUSE, SHUTDOWN, LEAVE)
"""What becomes of them: nothing is begun; they are shut down, and started again on their node after
its maintenance; they stay where they are, and their node is not rebooted."""

REMEDY = (
    f"to have such guests shut down, and started again on their node afterwards: stuck: {SHUTDOWN}"
    f" in the pillar; to let them stay where no reboot is due: stuck: {LEAVE}"
)

Stuck = Mapping[str, Mapping[str, str]]
"""By node and guest, why it can go nowhere."""


def by_node(world: World, nodes: Iterable[str]) -> Stuck:
    """Return which guests of nodes can go nowhere, each node drained by itself.

    What an orchestration of ours has cordoned counts as open: it is uncordoned before the next node
    is drained. A node that does not report its guests has none here; it is not ready anyway.
    """
    opened = maintenance.open_world(world)
    examined = examination.examine(opened)
    found: dict[str, Mapping[str, str]] = {}
    for node in nodes:
        try:
            stuck = placement.drain(opened, examined, node).stuck
        except WorldError:
            continue
        if stuck:
            found[node] = stuck
    return found


def doubts(examined: Readiness, stuck: Stuck) -> list[str]:
    """Return a sentence for each guest of which it is not certain that it can go nowhere.

    A node that is silent or not ready for a moment, or a fact that is missing, takes every guest's
    place: that is no reason to shut one down. What a guest has itself, as a local CD-ROM, is.
    """
    found = []
    for node, guests in stuck.items():
        peers = [peer for peer in examined.nodes if peer != node]
        unready = [*maintenance.unready(examined, peers)]
        for guest in guests:
            if any(_is_certain(one, guest, peers) for one in examined.findings):
                continue
            unknown = [one for one in examined.findings if _is_unknown(one, node, guest)]
            why = [f"{one.id}: {one.issue.sentence}" for one in (*unready, *unknown)]
            if why:
                found.append(
                    f"it is not certain that {printable(guest)} on {node} cannot be moved:"
                    f" {one_line('; '.join(dict.fromkeys(why)))}; no guest is shut down for that"
                )
    return found


def _is_certain(finding: GroupedFinding, guest: str, peers: Collection[str]) -> bool:
    """Whether it was seen to forbid a guest to go to any other node."""
    if not finding.blocks or finding.issue.outcome != PROBLEM or guest not in finding.guests:
        return False
    return not finding.destinations or set(peers) <= set(finding.destinations)


def _is_unknown(finding: GroupedFinding, node: str, guest: str) -> bool:
    """Whether it says that it is not known whether a guest can leave a node."""
    if not finding.blocks or finding.issue.outcome == PROBLEM:
        return False
    return guest in finding.guests if finding.guests else node in finding.nodes


def unnamed(node: str, stuck: Mapping[str, str], named: Collection[str] | None) -> list[str]:
    """Return a sentence for each guest that can go nowhere and was not named beforehand.

    named
        Those of the node that were; None if nobody was asked, as where a plan is the beginning.
    """
    return [
        f"{printable(guest)} on {node} cannot be moved: {why}; that was not so when this run began;"
        " the same command begins with naming it"
        for guest, why in stuck.items()
        if named is not None and guest not in named
    ]


def choice(value: object) -> str:
    """Return what becomes of guests that can go nowhere; InputError if it is none of STUCK."""
    return validate.choice({"stuck": value}, "stuck", "", STUCK, REFUSE)


def refusals(stuck: Stuck) -> list[str]:
    """Return a sentence for each guest that can go nowhere."""
    return [
        f"{printable(guest)} on {node} cannot be moved: {why}"
        for node, guests in stuck.items()
        for guest, why in guests.items()
    ]


def reboots(stuck: Stuck, boots: Mapping[str, Boot | None], when: str) -> list[str]:
    """Return a sentence for each node that is due for a reboot while guests are to stay on it.

    boots
        Which boot each node is in, None if it does not respond.
    """
    found = []
    for node, guests in stuck.items():
        boot = boots.get(node)
        if boot is None:
            found.append(f"{node} does not say whether it needs a reboot; {_stays(guests)}")
        elif boot.is_due(when):
            why = f" ({'; '.join(boot.needed)})" if boot.needed else ""
            found.append(f"{node} is to be rebooted{why}, but {_stays(guests)}")
    return found


def _stays(guests: Iterable[str]) -> str:
    names = [printable(guest) for guest in guests]
    return f"{listed(names)} cannot be moved and would stay on it (stuck: {LEAVE})"


def not_restartable(node: str, guest: str, answer: object) -> str:
    """Return why a guest could not be started again on its node once it is off; empty if it could.

    answer
        What the node's ``kvmcluster.startable`` returned.
    """
    name = printable(guest)
    if isinstance(answer, Mapping) and answer.get("ok") is True:
        return ""
    detail = answer.get("detail") if isinstance(answer, Mapping) else answer
    why = f"no response from {node}" if answer is None else one_line(str(detail))
    return f"{name} on {node} cannot be moved, nor be started again there if it is shut down: {why}"
