"""Why a guest goes nowhere: what the checks report, by the node or the guest that it concerns."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping, Set

from saltext_kvmcluster.core.pillar.clusters import Cluster
from saltext_kvmcluster.core.readiness.report import MAX_SENTENCE, Readiness
from saltext_kvmcluster.core.text import printable


def of_nodes(readiness: Readiness) -> Mapping[tuple[str, str], set[str]]:
    """Return what blocks nodes, whichever guest it is, by node and check."""
    found: dict[tuple[str, str], set[str]] = defaultdict(set)
    for reported in readiness.findings:
        if reported.blocks and not reported.guests:
            for node in reported.destinations or reported.nodes:
                found[node, reported.id].add(printable(reported.issue.sentence[:MAX_SENTENCE]))
    return found


def of_guests(
    readiness: Readiness, guests: Set[str], nodes: Collection[str]
) -> Mapping[tuple[str, str], set[str]]:
    """Return what blocks guests on their way to some nodes, by guest and check."""
    found: dict[tuple[str, str], set[str]] = defaultdict(set)
    for reported in readiness.findings:
        is_elsewhere = reported.destinations and set(nodes).isdisjoint(reported.destinations)
        if reported.blocks and not is_elsewhere:
            for guest in guests & set(reported.guests):
                found[guest, reported.id].add(printable(reported.issue.sentence[:MAX_SENTENCE]))
    return found


def kept_apart(cluster: Cluster) -> Mapping[str, frozenset[str]]:
    """Return, by guest, the guests from which it is to be kept apart."""
    groups: dict[str, set[str]] = defaultdict(set)
    for group in cluster.guests.apart:
        for guest in group:
            groups[guest].update(other for other in group if other != guest)
    for one in cluster.guests.list.values():
        for other in one.ha.apart if one.ha else ():
            groups[one.name].add(other)
            groups[other].add(one.name)
    return {guest: frozenset(others) for guest, others in groups.items()}
