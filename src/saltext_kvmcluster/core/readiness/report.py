"""What an examination found, as values and as plain data."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from saltext_kvmcluster.core.facts.nodefacts import GuestFacts
from saltext_kvmcluster.core.findings import BLOCK, PROBLEM, Issue
from saltext_kvmcluster.core.readiness.checks.registry import REGISTRY
from saltext_kvmcluster.core.text import printable

WORDS = 1000
ORDER = {check.id: position for position, check in enumerate(REGISTRY)}
BY_ID = {check.id: check for check in REGISTRY}


@dataclass(frozen=True)
class GroupedFinding:
    """One trouble, told once for all whom it concerns.

    ``nodes`` are the nodes, or the sources, that it is about. ``destinations`` is empty where it
    is about none or, ``everywhere``, about all of them.
    """

    id: str
    severity: str
    trouble: Issue
    guests: tuple[str, ...] = ()
    nodes: tuple[str, ...] = ()
    destinations: tuple[str, ...] = ()
    everywhere: bool = False

    @property
    def blocks(self) -> bool:
        """Whether it keeps a guest from moving."""
        return self.severity == BLOCK

    @property
    def is_closed(self) -> bool:
        """Whether it says that somebody has cordoned a node, which is no fault of the node's."""
        return self.id == "node.cordon" and self.trouble.outcome == PROBLEM

    def to_dict(self) -> dict[str, Any]:
        """Return it as plain data."""
        return {
            "id": self.id,
            "severity": self.severity,
            "outcome": self.trouble.outcome,
            "sentence": printable(self.trouble.sentence[:WORDS]),
            "remedy": printable((self.trouble.remedy or BY_ID[self.id].remedy)[:WORDS]),
            "guests": [printable(guest) for guest in self.guests],
            "nodes": list(self.nodes),
            "destinations": list(self.destinations),
            "everywhere": self.everywhere,
        }


@dataclass(frozen=True)
class GuestReadiness:
    """One guest, where it is, and what forbids it to go where.

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
    def ways(self) -> tuple[int, int]:
        """To how many nodes it can go, of how many."""
        return self.open_to.bit_count(), self.destinations.bit_count()

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
    """What an examination found: all that is not OK, the worst first, and a row for each guest."""

    cluster: str
    nodes: tuple[str, ...]
    findings: tuple[GroupedFinding, ...]
    rows: tuple[GuestReadiness, ...]

    @property
    def ok(self) -> bool:
        """Whether nothing keeps any guest from moving, but that somebody has cordoned a node."""
        return not any(reported.blocks and not reported.is_closed for reported in self.findings)

    def to_dict(self) -> dict[str, Any]:
        """Return it as plain data.

        ``guests`` says of each guest where it can go, and which checks forbid it to go elsewhere;
        ``findings`` says why, each reason once; ``movable`` of ``moves`` moves are possible.
        """
        ways = [row.ways for row in self.rows]
        return {
            "cluster": self.cluster,
            "ok": self.ok,
            "nodes": list(self.nodes),
            "moves": sum(all_ways for _, all_ways in ways),
            "movable": sum(free for free, _ in ways),
            "findings": [reported.to_dict() for reported in self.findings],
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
