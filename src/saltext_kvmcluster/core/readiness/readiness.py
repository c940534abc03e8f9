"""Readiness of a cluster: which guest can go where, and why not.

Every guest meets every destination, so what is alike is judged once, and a set of nodes is the
bits of one number.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from saltext_kvmcluster.core.errors import InputError
from saltext_kvmcluster.core.facts import nodefacts
from saltext_kvmcluster.core.facts.nodefacts import GuestFacts, NodeFacts
from saltext_kvmcluster.core.facts.questions import cpu_key, is_path
from saltext_kvmcluster.core.findings import BLOCK, OK, PROBLEM, Finding, Issue
from saltext_kvmcluster.core.guest.domainxml import Source
from saltext_kvmcluster.core.migration import migration
from saltext_kvmcluster.core.readiness.checks import REGISTRY
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
from saltext_kvmcluster.core.readiness.checks.node import asked_cpu
from saltext_kvmcluster.core.readiness.checks.storage import in_shared, needed
from saltext_kvmcluster.core.text import listed, printable

WITNESSES = 3
WORDS = 1000
ORDER = {check.id: place for place, check in enumerate(REGISTRY)}
BY_ID = {check.id: check for check in REGISTRY}
BY_SCOPE = {
    scope: tuple(check for check in REGISTRY if check.scope == scope)
    for scope in (NODE, PAIR, GUEST, MOVE)
}


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
class Row:
    """One guest, where it is, and what forbids it to go where.

    ``nodes`` are all nodes, ``destinations`` those in question, as bits by their place there;
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
            for node in _names(mask & self.destinations, self.nodes):
                found[node].append(check)
        return dict(found)

    @property
    def movable_to(self) -> tuple[str, ...]:
        """The nodes to which it can go."""
        return _names(self.open_to, self.nodes)

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
    rows: tuple[Row, ...]

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


def examine(
    world: World,
    guest: str | None = None,
    source: str | None = None,
    destination: str | None = None,
) -> Readiness:
    """Run all checks and say which guest can go where.

    guest
        The name of the one guest in question; None for all that are active. Guests that are
        not active are looked at for what would matter if they were started.
    source
        The one node whose guests are in question; None for all.
    destination
        The one node to which they would go; None for all.

    InputError if there is no such guest or node.
    """
    return _Examination(world, source, destination).readiness(guest)


def findings(world: World, guest: GuestFacts, destination: str) -> tuple[Finding, ...]:
    """Return what each blocking check says of one move, in the registry's order, OK or not."""
    source, there = world.nodes[guest.node], world.nodes[destination]
    return tuple(
        finding
        for check in REGISTRY
        if check.severity == BLOCK
        for finding in _of_move(world, check, guest, source, there)
    )


def questions(
    world: World,
    guest: str | None = None,
    source: str | None = None,
    destination: str | None = None,
) -> dict[str, dict[str, Any]]:
    """Return what the nodes have to look at, once it is known what guests there are.

    Each guest's own node looks at all that the guest needs; the others only at what no shared
    file system brings along. In each of those they read the tokens of some nodes. Which CPU a
    guest has is asked of the nodes to which it would go. Parameters as in ``examine``.
    """
    moving = [found for found in _subjects(world, guest, source) if found.active]
    needs: dict[str, dict[str, None]] = {found.node: {} for found in moving}
    alone: dict[str, None] = {}
    for found in moving:
        for need in filter(_is_asked, needed(found)):
            needs[found.node][need.path] = None
            if not in_shared(world, found.node, need):
                alone[need.path] = None
    tokens, cpus = _witnesses(world, needs), _cpus(world, moving)
    away = dict.fromkeys(_one_or_all(world, destination))
    return {
        node: {
            "paths": list({**needs.get(node, {}), **(alone if node in away else {})}),
            "tokens": tokens,
            "cpus": cpus if node in away else [],
        }
        for node in {**needs, **away}
        if not world.nodes[node].detail
    }


def answered(world: World, answers: Mapping[str, object]) -> World:
    """Return the world with what the nodes answered to their questions."""
    nodes = {node: nodefacts.answered(one, answers.get(node)) for node, one in world.nodes.items()}
    return World(world.cluster, nodes)


class _Examination:
    """One run over the registry; what it tells and forbids is gathered on the way."""

    def __init__(self, world: World, source: str | None, destination: str | None) -> None:
        self.world = world
        self.source = source
        self.nodes = tuple(world.nodes)
        self.bit = {node: 1 << place for place, node in enumerate(self.nodes)}
        self.sources = _one_or_all(world, source)
        self.destinations = [
            node
            for node in _one_or_all(world, destination)
            if destination or len(self.sources) > 1 or node != source
        ]
        self.all = sum(self.bit[node] for node in self.destinations)
        self.reported: dict[tuple[str, Issue, int], tuple[dict[str, None], dict[str, None]]] = {}
        self.judged: dict[tuple[str, Hashable], dict[Issue, int]] = {}

    def readiness(self, guest: str | None) -> Readiness:
        forbidden = self._nodes()
        rows = []
        for found in _subjects(self.world, guest, self.source):
            everything = found.active or guest is not None
            row = self._guest(found, everything, forbidden[found.node])
            if everything:
                rows.append(row)
        return Readiness(self.world.cluster.name, self.nodes, self._telling(), tuple(rows))

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
        """Tell of a node's troubles; return whether one of them keeps guests from moving."""
        found = list(check.find(self.world, self.world.nodes[node]))
        for trouble in found:
            self._tell(check, trouble, node=node)
        return any(_blocks(check, trouble) for trouble in found)

    def _pairs(self, check: Check, source: NodeFacts) -> int:
        """Tell of the troubles from one source; return the destinations that they forbid."""
        found: dict[Issue, int] = defaultdict(int)
        for node in self.destinations:
            if node != source.node:
                for trouble in check.find(self.world, source, self.world.nodes[node]):
                    found[trouble] |= self.bit[node]
        for trouble, mask in found.items():
            self._tell(check, trouble, node=source.node, mask=mask)
        return _forbidden(check, found)

    def _guest(self, guest: GuestFacts, everything: bool, of_nodes: Mapping[str, int]) -> Row:
        forbidden = dict(of_nodes)
        for check in BY_SCOPE[GUEST]:
            if everything or check.resting:
                mask = self._alone(check, guest)
                if mask:
                    forbidden[check.id] = mask
        destinations = self.all & ~self.bit[guest.node]
        if everything:
            for check in BY_SCOPE[MOVE]:
                mask = self._moves(check, guest, destinations)
                if mask:
                    forbidden[check.id] = mask
        ordered = sorted(forbidden.items(), key=lambda item: ORDER[item[0]])
        return Row(guest, self.nodes, destinations, tuple(ordered))

    def _alone(self, check: Check, guest: GuestFacts) -> int:
        """Tell of a guest's own troubles; return the destinations that they forbid."""
        mask = 0
        for trouble in check.find(self.world, guest):
            to = self.bit[trouble.destination] if trouble.destination else self.all
            if to & self.all:
                self._tell(check, trouble, guest.name, mask=to if trouble.destination else 0)
                mask |= to if _blocks(check, trouble) else 0
        return mask

    def _moves(self, check: Check, guest: GuestFacts, destinations: int) -> int:
        """Tell why a guest cannot go to some nodes; return these."""
        asked = check.asks(self.world, guest)
        if asked is None:
            return 0
        if (check.id, asked) not in self.judged:
            self.judged[check.id, asked] = self._judge(check, asked)
        found = self.judged[check.id, asked]
        for trouble, mask in found.items():
            if mask & destinations:
                self._tell(check, trouble, guest.name, mask=mask)
        return _forbidden(check, found)

    def _judge(self, check: Check, asked: Hashable) -> dict[Issue, int]:
        found: dict[Issue, int] = defaultdict(int)
        for offered, mask in self._offers[check.id].items():
            for trouble in check.judged(self.world, asked, offered):
                found[trouble] |= mask
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

    def _tell(
        self, check: Check, trouble: Issue, guest: str = "", node: str = "", mask: int = 0
    ) -> None:
        guests, nodes = self.reported.setdefault((check.id, trouble, mask), ({}, {}))
        if guest:
            guests[guest] = None
        if node:
            nodes[node] = None

    def _telling(self) -> tuple[GroupedFinding, ...]:
        """Return what there is to tell, the worst first."""
        found = [
            GroupedFinding(
                check,
                trouble.severity or BY_ID[check].severity,
                trouble,
                tuple(guests),
                tuple(nodes),
                () if self._is_all(mask) else _names(mask, self.nodes),
                everywhere=self._is_all(mask),
            )
            for (check, trouble, mask), (guests, nodes) in self.reported.items()
        ]
        return tuple(sorted(found, key=_badness))


def _of_move(
    world: World, check: Check, guest: GuestFacts, source: NodeFacts, there: NodeFacts
) -> Iterator[Finding]:
    """Yield what one check says of one move: its troubles, or that it is OK."""
    subject = {"guest": guest.name, "source": source.node, "destination": there.node}
    troubles: list[tuple[str, Issue]] = []
    if check.scope == NODE:
        roles = {SOURCE: source, DESTINATION: there}
        nodes = [roles[role] for role in check.role if not (check.own and roles[role].by_peer)]
        if not nodes:
            return
        for node in nodes:
            troubles += [(f"{node.node}: ", found) for found in check.find(world, node)]
    elif check.scope == PAIR:
        troubles += [("", found) for found in check.find(world, source, there)]
    elif check.scope == GUEST:
        troubles += [("", found) for found in check.find(world, guest)]
    else:
        asked, offered = check.asks(world, guest), check.offers(world, there)
        troubles += [("", found) for found in check.judged(world, asked, offered)]
    troubles = [item for item in troubles if item[1].destination in ("", there.node)]
    if not troubles:
        yield Finding(
            check.id,
            OK,
            check.says + _limits(world, check, source, there),
            severity=check.severity,
            **subject,
        )
    for prefix, found in troubles:
        yield Finding(
            check.id,
            found.outcome,
            prefix + printable(found.sentence[:WORDS]),
            printable((found.remedy or check.remedy)[:WORDS]),
            found.severity or check.severity,
            **subject,
        )


def _limits(world: World, check: Check, source: NodeFacts, there: NodeFacts) -> str:
    """Say of what nodes a guest's check speaks, and by what names, where not all were asked."""
    observed = source.peers.get(there.node)
    if observed and observed.names and check.id in ("ssh.reach", "ssh.config"):
        return f" (of {there.node}, as a migration dials it)"
    if check.scope != GUEST or len(world.nodes) == len(world.cluster.nodes):
        return ""
    return f" (of {listed(world.nodes)}, which were asked)"


def _subjects(world: World, guest: str | None, source: str | None) -> list[GuestFacts]:
    """Return the guests in question, each once: where it is active, else where it is told first."""
    known = world.guests if guest is None else world.by_name.get(guest, [])
    at = set(_one_or_all(world, source))
    found = [one for one in known if one.node in at and _speaks(world, one, at)]
    if guest is not None and not found:
        raise no_such_guest(world, guest, source)
    return found


def _speaks(world: World, guest: GuestFacts, at: set[str]) -> bool:
    """Whether a guest's findings are told at this copy of it."""
    if guest.active:
        return True
    copies = [copy for copy in world.copies(guest) if copy.node in at]
    return guest is copies[0] and not any(copy.active for copy in copies)


def no_such_guest(world: World, guest: str, source: str | None) -> InputError:
    """Return the error that says that no node has the guest, and which ones there are."""
    nodes = _one_or_all(world, source)
    names = sorted({found.name for found in world.guests if found.node in nodes})
    silent = [node for node in nodes if world.nodes[node].guests is None]
    words = str(migration.no_such_guest(guest, source or f"cluster {world.cluster.name}", names))
    if silent:
        words = f"of the nodes that answered, {words}; {listed(silent)} did not tell"
    return InputError(printable(words))


def _one_or_all(world: World, node: str | None) -> Sequence[str]:
    if node is None:
        return tuple(world.nodes)
    world.cluster.node(node)
    return (node,)


def _witnesses(world: World, sources: Iterable[str]) -> dict[str, list[str]]:
    """Return in which folders tokens are to be read, and whose: of some nodes for each storage.

    Who has seen the same fresh token sees the same storage, so few are enough, of any number of
    nodes; of the sources first.
    """
    folders: dict[str, Counter[str]] = {}
    tokens: dict[str, list[str]] = defaultdict(list)
    for node in {**dict.fromkeys(sources), **world.nodes}:
        for folder in world.nodes[node].written:
            storage = world.identity(node, folder)
            counted = folders.setdefault(folder, Counter())
            if counted[storage] < WITNESSES:
                counted[storage] += 1
                tokens[folder].append(node)
    return dict(tokens)


def _is_asked(need: Source) -> bool:
    """Whether a node can be asked; what a hostile definition names costs the others nothing."""
    return is_path(need.path)


def _cpus(world: World, guests: Iterable[GuestFacts]) -> list[Mapping[str, str]]:
    """Return each different CPU of the guests once, as ``host.facts.look`` is asked about it."""
    asked = (asked_cpu(world, one) for one in guests)
    return list({cpu_key(cpu): cpu for cpu in asked if cpu}.values())


def _blocks(check: Check, trouble: Issue) -> bool:
    return (trouble.severity or check.severity) == BLOCK


def _forbidden(check: Check, found: Mapping[Issue, int]) -> int:
    mask = 0
    for trouble, nodes in found.items():
        if _blocks(check, trouble):
            mask |= nodes
    return mask


def _badness(reported: GroupedFinding) -> tuple[bool, bool, int]:
    return not reported.blocks, reported.trouble.outcome != PROBLEM, ORDER[reported.id]


def _names(mask: int, nodes: Sequence[str]) -> tuple[str, ...]:
    """Return the nodes whose bits are set."""
    found = []
    while mask:
        lowest = mask & -mask
        found.append(nodes[lowest.bit_length() - 1])
        mask ^= lowest
    return tuple(found)
