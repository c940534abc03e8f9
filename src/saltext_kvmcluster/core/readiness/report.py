"""The result of an examination: findings, and where each guest can go."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from saltext_kvmcluster.core.facts.nodefacts import GuestFacts
from saltext_kvmcluster.core.findings import BLOCK, PROBLEM, Issue
from saltext_kvmcluster.core.readiness.checks.registry import REGISTRY
from saltext_kvmcluster.core.text import printable

MAX_SENTENCE = 1000
"""Characters of a sentence or remedy that are shown: nodes may send any number of them."""

ORDER = {check.id: position for position, check in enumerate(REGISTRY)}
BY_ID = {check.id: check for check in REGISTRY}


@dataclass(frozen=True)
class GroupedFinding:
    """One issue, reported once for all guests, nodes and destinations that have it.

    ``nodes`` are the nodes, or the sources, that it is about. ``destinations`` is empty where it
    is about none or, with ``everywhere``, about all of them.
    """

    id: str
    severity: str
    issue: Issue
    guests: tuple[str, ...] = ()
    nodes: tuple[str, ...] = ()
    destinations: tuple[str, ...] = ()
    everywhere: bool = False

    @property
    def blocks(self) -> bool:
        """Whether it keeps a guest from moving."""
        return self.severity == BLOCK

    @property
    def is_cordon(self) -> bool:
        """Whether it says that a node is cordoned, which is intended and no fault of the node's."""
        return self.id == "node.cordon" and self.issue.outcome == PROBLEM

    def to_dict(self) -> dict[str, Any]:
        """Return it as plain data."""
        return {
            "id": self.id,
            "severity": self.severity,
            "outcome": self.issue.outcome,
            "sentence": printable(self.issue.sentence[:MAX_SENTENCE]),
            "remedy": printable((self.issue.remedy or BY_ID[self.id].remedy)[:MAX_SENTENCE]),
            "guests": [printable(guest) for guest in self.guests],
            "nodes": list(self.nodes),
            "destinations": list(self.destinations),
            "everywhere": self.everywhere,
        }


@dataclass(frozen=True)
class GuestReadiness:
    """One guest, where it is, and which checks forbid it to go where.

    ``nodes`` are all nodes, ``destinations`` those in question, as bits by their position there;
    ``forbidden`` says in the same way to which of them each check forbids it to go.
    """

    guest: GuestFacts
    nodes: tuple[str, ...]
    destinations: int
    forbidden: tuple[tuple[str, int], ...] = ()

    @property
    def blocked(self) -> dict[str, list[str]]:
        """The checks that forbid it, by destination."""
        found = defaultdict(list)
        for check, mask in self.forbidden:
            for node in nodes_of(mask & self.destinations, self.nodes):
                found[node].append(check)
        return dict(found)

    @property
    def movable_to(self) -> tuple[str, ...]:
        """The nodes to which it can go."""
        return nodes_of(self.open_to, self.nodes)

    @property
    def open_to(self) -> int:
        """The nodes to which it can go, as bits."""
        free = self.destinations
        for _, mask in self.forbidden:
            free &= ~mask
        return free

    def to_dict(self) -> dict[str, Any]:
        """Return it as plain data."""
        return {
            "guest": printable(self.guest.name),
            "uuid": self.guest.uuid,
            "node": self.guest.node,
            "state": self.guest.observation.sighting.value,
            "movable_to": list(self.movable_to),
            "blocked": self.blocked,
        }


@dataclass(frozen=True)
class Readiness:
    """The result of an examination: all that is not OK, the worst first, and a row per guest."""

    cluster: str
    nodes: tuple[str, ...]
    findings: tuple[GroupedFinding, ...]
    rows: tuple[GuestReadiness, ...]

    @property
    def ok(self) -> bool:
        """Whether nothing keeps any guest from moving, except that a node is cordoned."""
        return not any(finding.blocks and not finding.is_cordon for finding in self.findings)

    @property
    def moves(self) -> int:
        """How many migrations are in question: of each guest to each destination."""
        return sum(row.destinations.bit_count() for row in self.rows)

    @property
    def movable(self) -> int:
        """How many of these are possible."""
        return sum(row.open_to.bit_count() for row in self.rows)

    def to_dict(self) -> dict[str, Any]:
        """Return it as plain data.

        ``guests`` says where each guest can go, and which checks forbid it to go elsewhere;
        ``findings`` says why, each reason once; ``movable`` of ``moves`` migrations are possible.
        """
        return {
            "kind": "check",
            "cluster": self.cluster,
            "ok": self.ok,
            "nodes": list(self.nodes),
            "moves": self.moves,
            "movable": self.movable,
            "findings": [finding.to_dict() for finding in self.findings],
            "guests": [row.to_dict() for row in self.rows],
        }


def nodes_of(mask: int, nodes: Sequence[str]) -> tuple[str, ...]:
    """Return the nodes whose bits are set."""
    found = []
    while mask:
        lowest = mask & -mask
        found.append(nodes[lowest.bit_length() - 1])
        mask ^= lowest
    return tuple(found)
