"""Whether guests may be given to Pacemaker: the checks that forbid it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from saltext_kvmcluster.core.facts.nodefacts import GuestFacts
from saltext_kvmcluster.core.findings import BLOCK, Issue
from saltext_kvmcluster.core.guest.domainxml import Guest
from saltext_kvmcluster.core.readiness.checks.base import World
from saltext_kvmcluster.core.readiness.report import BY_ID, GroupedFinding
from saltext_kvmcluster.core.text import listed, printable
from saltext_kvmcluster.core.verdicts import Observation, Sighting

OF_NODES = (
    *("node.daemon", "ha.pacemaker", "ha.fencing", "ha.two_nodes", "ha.names", "ha.quorum"),
    "ha.definitions",
)
INSTALLED = ("ha.devices", "ha.agent")
"""What is judged only when all is installed; of devices that are the user's, always."""
OF_GUESTS = ("guest.autostart", "ha.disks", "ha.starts", "ha.stored")
_Found = tuple[str, str, Issue]
"""The check, the node or guest, and the reason."""


def refused(world: World, installed: bool = False) -> tuple[GroupedFinding, ...]:
    """Return why the guests with ``ha`` may not be given to Pacemaker; nothing if they may.

    What is not known forbids it as a problem does.

    world
        All nodes of the cluster, as the checks have them. A node that does not respond refuses.
    installed
        Whether the resource agent should be on every node already. Default: it comes later.
    """
    if world.cluster.ha is None:
        return ()
    more = INSTALLED if installed else () if world.cluster.ha.manage else INSTALLED[:1]
    checks = (*OF_NODES, *more)
    return (*_grouped(_of_nodes(world, checks), False), *_grouped(_of_guests(world), True))


def sentence(finding: GroupedFinding) -> str:
    """Return a finding as one sentence, with its remedy."""
    told = finding.to_dict()
    about = ", ".join(told["guests"] or told["nodes"])
    return f"{finding.id}: {about}: {told['sentence']} ({told['remedy']})"


def _of_nodes(world: World, checks: tuple[str, ...]) -> Iterator[_Found]:
    for check in checks:
        for node in world.nodes.values():
            for issue in BY_ID[check].find(world, node):
                yield check, node.node, issue


def _of_guests(world: World) -> Iterator[_Found]:
    guests = [guest.name for guest in world.cluster.guests.list.values() if guest.ha]
    known = {name: _as_known(world, name) for name in guests}
    for check in OF_GUESTS:
        for name, guest in known.items():
            for issue in BY_ID[check].find(world, guest):
                yield check, name, issue
    for name, guest in known.items():
        for issue in _outside(world, guest):
            yield "guest.only", name, issue


def _outside(world: World, guest: GuestFacts) -> Iterator[Issue]:
    """Yield that a guest runs where Pacemaker would not leave it."""
    only = world.cluster.guests.only(guest.name)
    if guest.active and only and guest.node not in only:
        yield Issue(
            f"it runs on {guest.node}, and its only names {listed(only)}: Pacemaker would move it"
            " at once, or stop it where none of them can take it",
            "move it first: salt-run kvmcluster.balance test=False; or change its only",
        )


def _grouped(found: Iterator[_Found], of_guests: bool) -> Iterator[GroupedFinding]:
    """Yield each reason once, with all nodes or guests that it is about."""
    about: dict[tuple[str, Issue], dict[str, None]] = {}
    for check, subject, issue in found:
        about.setdefault((check, replace(issue, severity="")), {})[printable(subject)] = None
    for (check, issue), names in about.items():
        subjects = tuple(names)
        guests, nodes = (subjects, ()) if of_guests else ((), subjects)
        yield GroupedFinding(check, BLOCK, issue, guests, nodes)


def _as_known(world: World, name: str) -> GuestFacts:
    """Return a guest where it is active, or as a node knows it, or by its definition alone."""
    reports = sorted(world.by_name.get(name, ()), key=lambda one: not one.active)
    if reports:
        return reports[0]
    texts = ((node.node, node.definitions.get(name, "")) for node in world.nodes.values())
    node, text = next(((node, text) for node, text in texts if text), ("", ""))
    parsed = world.definition(text) if text else "there is no definition of it"
    observation = Observation(Sighting.ABSENT, name=name)
    at = node or next(iter(world.nodes))
    if isinstance(parsed, Guest):
        return GuestFacts(at, replace(observation, uuid=parsed.uuid), guest=parsed)
    return GuestFacts(at, observation, error=parsed)
