"""Whether guests may be given to Pacemaker: the checks that forbid it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace

from saltext_kvmcluster.core.facts.nodefacts import GuestFacts
from saltext_kvmcluster.core.findings import Finding, Issue
from saltext_kvmcluster.core.guest.domainxml import Guest
from saltext_kvmcluster.core.readiness.checks.base import Check, World
from saltext_kvmcluster.core.readiness.report import BY_ID
from saltext_kvmcluster.core.verdicts import Observation, Sighting

OF_NODES = ("ha.fencing", "ha.two_nodes", "ha.names", "ha.quorum", "ha.definitions")
OF_GUESTS = ("guest.autostart", "ha.disks", "ha.starts", "ha.stored")
INSTALLED = ("ha.agent",)
"""What is judged only when all is installed."""


def refused(world: World, installed: bool = False) -> tuple[Finding, ...]:
    """Return why the guests with ``ha`` may not be given to Pacemaker; nothing if they may.

    What is not known forbids it as a problem does.

    world
        All nodes of the cluster, as the checks have them. A node that does not respond refuses.
    installed
        Whether the resource agent should be on every node already. Default: it comes later.
    """
    return (*_of_nodes(world, installed), *_of_guests(world))


def sentences(found: Iterable[Finding]) -> list[str]:
    """Return each reason once, with the nodes or guests that it is about."""
    about: dict[tuple[str, str, str], list[str]] = {}
    for one in found:
        about.setdefault((one.id, one.sentence, one.remedy), []).append(one.guest or one.source)
    return [
        f"{check}: {', '.join(dict.fromkeys(subjects))}: {sentence}"
        + (f" ({remedy})" if remedy else "")
        for (check, sentence, remedy), subjects in about.items()
    ]


def _of_nodes(world: World, installed: bool) -> Iterator[Finding]:
    for check in map(BY_ID.__getitem__, (*OF_NODES, *(INSTALLED if installed else ()))):
        for node in world.nodes.values():
            for issue in check.find(world, node):
                yield replace(_finding(check, issue), source=node.node)


def _of_guests(world: World) -> Iterator[Finding]:
    for listed in world.cluster.guests.list.values():
        if listed.ha:
            found = _as_known(world, listed.name)
            for check in map(BY_ID.__getitem__, OF_GUESTS):
                for issue in check.find(world, found):
                    yield replace(_finding(check, issue), guest=listed.name, source=found.node)


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


def _finding(check: Check, issue: Issue) -> Finding:
    return Finding(
        check.id,
        issue.outcome,
        issue.sentence,
        issue.remedy or check.remedy,
        issue.severity or check.severity,
    )
