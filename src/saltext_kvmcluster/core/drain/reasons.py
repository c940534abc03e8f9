"""Why a guest goes nowhere: what the checks report, by the node or the guest that it concerns."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping, Set

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
