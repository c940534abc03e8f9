"""Where guests could start if they lost their nodes: what checks say of it, whatever room there is.

A start needs other things than a migration: no login, no port, no cache mode, no shared clock; but
a definition, and whatever of the host the guest uses.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable, Iterator, Mapping
from functools import cached_property

from saltext_kvmcluster.core.drain import load
from saltext_kvmcluster.core.facts.nodefacts import GuestFacts
from saltext_kvmcluster.core.findings import BLOCK, PROBLEM, UNKNOWN, Issue, unknown
from saltext_kvmcluster.core.readiness.checks import devices
from saltext_kvmcluster.core.readiness.checks.base import MOVE, Check, World
from saltext_kvmcluster.core.readiness.checks.registry import REGISTRY

_ROOM = "node.memory"
_OF_MIGRATIONS = ("storage.cache",)
_OF_NODES = tuple(check for check in REGISTRY if check.id in ("node.daemon", "node.cordon"))
_OF_STARTS = tuple(
    check for check in REGISTRY if check.scope == MOVE and check.id not in (_ROOM, *_OF_MIGRATIONS)
)
_NO_DEFINITION = Issue("it has no definition there")
_UNKNOWN_NEED = unknown("not known: how much memory it needs", "")
_UNREAD_DEFINITION = unknown("not known: its definition there", "")

Masks = Mapping[tuple[str, Issue], int]
"""By check and issue the nodes that it forbids, as bits."""


class Eligibility:
    """On which nodes of a world each guest could start: as bits, by the nodes' order there.

    tries
        Whether guests ran on none of these nodes, and are to start: what is not known forbids
        nothing then, since libvirt's start shows it.
    """

    def __init__(self, world: World, tries: bool = False) -> None:
        self._world, self._tries = world, tries
        self._outcomes = (PROBLEM,) if tries else (PROBLEM, UNKNOWN)
        self._bits = {node: 1 << place for place, node in enumerate(world.nodes)}
        self._all = (1 << len(self._bits)) - 1
        self._judged: dict[tuple[str, Hashable], Masks] = {}

    def nodes(self, guest: GuestFacts) -> int:
        """Return the nodes on which nothing but room can forbid a guest to start."""
        free = self._all & ~self._closed
        for found in self._of_guest(guest):
            for mask in found.values():
                free &= ~mask
        return free

    def against(self, guest: GuestFacts) -> list[tuple[str, int]]:
        """Return why a guest cannot start on some nodes, whatever room there is, and which."""
        return [
            (f"{check} ({issue.sentence})", mask)
            for found in (self._nodes, *self._of_guest(guest))
            for (check, issue), mask in found.items()
        ]

    def _of_guest(self, guest: GuestFacts) -> Iterator[Masks]:
        for check in _OF_STARTS:
            asked = check.asks(self._world, guest)
            if asked is not None:
                yield self._of_check(check, asked)
        if not self._tries and not load.memory_of(guest):
            yield {(_ROOM, _UNKNOWN_NEED): self._all}
        yield self._of_devices(guest)
        yield self._of_pillar(guest)

    def _of_check(self, check: Check, asked: Hashable) -> Masks:
        key = check.id, asked
        if key not in self._judged:
            found: dict[tuple[str, Issue], int] = defaultdict(int)
            for offered, mask in self._offers[check.id].items():
                for issue in check.judged(self._world, asked, offered):
                    if self._forbids(issue, check.severity):
                        found[check.id, issue] |= mask
            self._judged[key] = found
        return self._judged[key]

    def _of_devices(self, guest: GuestFacts) -> Masks:
        """Return what binds a guest to its host: what cannot leave it may not be elsewhere."""
        if guest.guest is None:
            return {}
        issues = devices.refused(self._world, guest, guest.guest)
        elsewhere = self._all if self._tries else self._all & ~self._bits[guest.node]
        return {
            ("guest.blockers", issue): elsewhere for issue in issues if self._forbids(issue, BLOCK)
        }

    def _forbids(self, issue: Issue, severity: str) -> bool:
        return (issue.severity or severity) == BLOCK and issue.outcome in self._outcomes

    def _of_pillar(self, guest: GuestFacts) -> Masks:
        """Return where a guest of the list has no definition."""
        listed = self._world.cluster.guests.list.get(guest.name)
        if listed is None:
            return {}
        found: dict[tuple[str, Issue], int] = defaultdict(int)
        for bit, texts in self._definitions:
            if not texts.get(guest.name):
                missing = guest.name in texts
                issue = _NO_DEFINITION if missing else _UNREAD_DEFINITION
                found["guest.definition", issue] |= bit
        return found

    @cached_property
    def _definitions(self) -> list[tuple[int, Mapping[str, str]]]:
        """Return the definitions of the list's guests on the nodes that take guests."""
        nodes = self._world.nodes.items()
        known = [(self._bits[node], facts.definitions) for node, facts in nodes]
        return [(bit, texts) for bit, texts in known if not bit & self._closed]

    @cached_property
    def _closed(self) -> int:
        mask = 0
        for bits in self._nodes.values():
            mask |= bits
        return mask

    @cached_property
    def _nodes(self) -> Masks:
        """Return which nodes take no guest at all."""
        found: dict[tuple[str, Issue], int] = defaultdict(int)
        for node, facts in self._world.nodes.items():
            for check in _OF_NODES:
                for issue in check.find(self._world, facts):
                    if self._forbids(issue, check.severity):
                        found[check.id, issue] |= self._bits[node]
        return found

    @cached_property
    def _offers(self) -> Mapping[str, Mapping[Hashable, int]]:
        """What the nodes offer to each check; those that offer the same are one."""
        found: dict[str, dict[Hashable, int]] = {}
        for check in _OF_STARTS:
            groups: dict[Hashable, int] = defaultdict(int)
            for node, facts in self._world.nodes.items():
                groups[check.offers(self._world, facts)] |= self._bits[node]
            found[check.id] = groups
        return found
