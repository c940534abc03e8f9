"""All checks over all guests and nodes: which guest can go where, and why not.

Every guest is judged against every destination, so subjects that are alike are judged once, and
a set of nodes is the bits of one number.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable, Mapping
from functools import cached_property

from saltext_kvmcluster.core.facts.nodefacts import GuestFacts, NodeFacts
from saltext_kvmcluster.core.findings import BLOCK, PROBLEM, Issue
from saltext_kvmcluster.core.readiness.checks.base import (
    DESTINATION,
    GUEST,
    MOVE,
    NODE,
    PAIR,
    SOURCE,
    Check,
    World,
)
from saltext_kvmcluster.core.readiness.checks.registry import REGISTRY
from saltext_kvmcluster.core.readiness.report import (
    BY_ID,
    ORDER,
    GroupedFinding,
    GuestReadiness,
    Readiness,
    nodes_of,
)
from saltext_kvmcluster.core.readiness.subjects import guests_in_question, nodes_in_question

BY_SCOPE = {
    scope: tuple(check for check in REGISTRY if check.scope == scope)
    for scope in (NODE, PAIR, GUEST, MOVE)
}


def examine(
    world: World,
    guest: str | None = None,
    source: str | None = None,
    destination: str | None = None,
) -> Readiness:
    """Run all checks and say which guest can go where.

    guest
        The name of the one guest in question; None for all that are active. Guests that are
        not active are checked for what would matter if they were started.
    source
        The one node whose guests are in question; None for all.
    destination
        The one node to which they would go; None for all.

    InputError if there is no such guest or node.
    """
    return _Examination(world, source, destination).readiness(guest)


class _Examination:
    """One run over the registry: collects the issues, and what they forbid."""

    def __init__(self, world: World, source: str | None, destination: str | None) -> None:
        self.world = world
        self.source = source
        self.nodes = tuple(world.nodes)
        self.bit = {node: 1 << position for position, node in enumerate(self.nodes)}
        self.sources = nodes_in_question(world, source)
        self.destinations = [
            node
            for node in nodes_in_question(world, destination)
            if destination or len(self.sources) > 1 or node != source
        ]
        self.all = sum(self.bit[node] for node in self.destinations)
        self.reported: dict[tuple[str, Issue, int], tuple[dict[str, None], dict[str, None]]] = {}
        self.judged: dict[tuple[str, Hashable], dict[Issue, int]] = {}

    def readiness(self, guest: str | None) -> Readiness:
        forbidden = self._nodes()
        rows = []
        for found in guests_in_question(self.world, guest, self.source):
            everything = found.active or guest is not None
            row = self._guest(found, everything, forbidden[found.node])
            if everything:
                rows.append(row)
        return Readiness(self.world.cluster.name, self.nodes, self._findings(), tuple(rows))

    def _nodes(self) -> dict[str, dict[str, int]]:
        """Run the checks of nodes and pairs; return what they forbid, by source and check."""
        forbidden: dict[str, dict[str, int]] = {node: {} for node in self.sources}
        for check in BY_SCOPE[NODE]:
            there = self._as_destination(check)
            for node in self.sources:
                blocked = SOURCE in check.role and self._node(check, node)
                mask = self.all if blocked else there
                if mask:
                    forbidden[node][check.id] = mask
        for check in BY_SCOPE[PAIR]:
            for node in self.sources:
                mask = self._pairs(check, self.world.nodes[node])
                if mask:
                    forbidden[node][check.id] = mask
        return forbidden

    def _as_destination(self, check: Check) -> int:
        if DESTINATION not in check.role:
            return 0
        return sum(self.bit[node] for node in self.destinations if self._node(check, node))

    def _node(self, check: Check, node: str) -> bool:
        """Report a node's issues; return whether one of them keeps guests from moving."""
        found = list(check.find(self.world, self.world.nodes[node]))
        for issue in found:
            self._report(check, issue, node=node)
        return any(_blocks(check, issue) for issue in found)

    def _pairs(self, check: Check, source: NodeFacts) -> int:
        """Report the issues of one source; return the destinations that they forbid."""
        found: dict[Issue, int] = defaultdict(int)
        for node in self.destinations:
            if node != source.node:
                for issue in check.find(self.world, source, self.world.nodes[node]):
                    found[issue] |= self.bit[node]
        for issue, mask in found.items():
            self._report(check, issue, node=source.node, mask=mask)
        return _forbidden(check, found)

    def _guest(
        self, guest: GuestFacts, everything: bool, of_nodes: Mapping[str, int]
    ) -> GuestReadiness:
        forbidden = dict(of_nodes)
        for check in BY_SCOPE[GUEST]:
            if everything or check.resting:
                mask = self._guest_alone(check, guest)
                if mask:
                    forbidden[check.id] = mask
        destinations = self.all & ~self.bit[guest.node]
        if everything:
            for check in BY_SCOPE[MOVE]:
                mask = self._moves(check, guest, destinations)
                if mask:
                    forbidden[check.id] = mask
        ordered = sorted(forbidden.items(), key=lambda item: ORDER[item[0]])
        return GuestReadiness(guest, self.nodes, destinations, tuple(ordered))

    def _guest_alone(self, check: Check, guest: GuestFacts) -> int:
        """Report a guest's own issues; return the destinations that they forbid."""
        mask = 0
        for issue in check.find(self.world, guest):
            to = self.bit[issue.destination] if issue.destination else self.all
            if to & self.all:
                self._report(check, issue, guest.name, mask=to if issue.destination else 0)
                mask |= to if _blocks(check, issue) else 0
        return mask

    def _moves(self, check: Check, guest: GuestFacts, destinations: int) -> int:
        """Report why a guest cannot go to some nodes; return these."""
        asked = check.asks(self.world, guest)
        if asked is None:
            return 0
        if (check.id, asked) not in self.judged:
            self.judged[check.id, asked] = self._judge(check, asked)
        found = self.judged[check.id, asked]
        for issue, mask in found.items():
            if mask & destinations:
                self._report(check, issue, guest.name, mask=mask)
        return _forbidden(check, found)

    def _judge(self, check: Check, asked: Hashable) -> dict[Issue, int]:
        found: dict[Issue, int] = defaultdict(int)
        for offered, mask in self._offers[check.id].items():
            for issue in check.judged(self.world, asked, offered):
                found[issue] |= mask
        return found

    @cached_property
    def _offers(self) -> dict[str, dict[Hashable, int]]:
        """What the destinations offer to each check; those that offer the same are one."""
        found: dict[str, dict[Hashable, int]] = {}
        for check in BY_SCOPE[MOVE]:
            groups: dict[Hashable, int] = defaultdict(int)
            for node in self.destinations:
                groups[check.offers(self.world, self.world.nodes[node])] |= self.bit[node]
            found[check.id] = groups
        return found

    def _is_all(self, mask: int) -> bool:
        """Whether it is all the destinations, of several."""
        return mask == self.all and len(self.destinations) > 1

    def _report(
        self, check: Check, issue: Issue, guest: str = "", node: str = "", mask: int = 0
    ) -> None:
        guests, nodes = self.reported.setdefault((check.id, issue, mask), ({}, {}))
        if guest:
            guests[guest] = None
        if node:
            nodes[node] = None

    def _findings(self) -> tuple[GroupedFinding, ...]:
        """Return the findings, the worst first."""
        found = [
            GroupedFinding(
                check,
                issue.severity or BY_ID[check].severity,
                issue,
                tuple(guests),
                tuple(nodes),
                () if self._is_all(mask) else nodes_of(mask, self.nodes),
                everywhere=self._is_all(mask),
            )
            for (check, issue, mask), (guests, nodes) in self.reported.items()
        ]
        return tuple(sorted(found, key=_by_severity))


def _blocks(check: Check, issue: Issue) -> bool:
    return (issue.severity or check.severity) == BLOCK


def _forbidden(check: Check, found: Mapping[Issue, int]) -> int:
    mask = 0
    for issue, nodes in found.items():
        if _blocks(check, issue):
            mask |= nodes
    return mask


def _by_severity(finding: GroupedFinding) -> tuple[bool, bool, int]:
    return not finding.blocks, finding.issue.outcome != PROBLEM, ORDER[finding.id]
