"""Which guest goes where: when a node is drained, when it is back, when others have more to do.

What leaves a node counts there until it has left: the moves of a plan run side by side, and some
may fail. So a plan never counts on room that only another of its moves would make.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from types import MappingProxyType

from saltext_kvmcluster.core.drain import reasons
from saltext_kvmcluster.core.drain.load import (
    Capacity,
    capacity_of,
    has_room,
    memory_of,
)
from saltext_kvmcluster.core.errors import WorldError
from saltext_kvmcluster.core.facts.nodefacts import GuestFacts
from saltext_kvmcluster.core.migration.migration import Move
from saltext_kvmcluster.core.readiness.checks.base import World
from saltext_kvmcluster.core.readiness.checks.node import MIB
from saltext_kvmcluster.core.readiness.report import GuestReadiness, Readiness
from saltext_kvmcluster.core.readiness.subjects import no_such_guest
from saltext_kvmcluster.core.text import listed, printable

NOTICEABLE = 0.02
"""By how much a move has to make the busier of its two nodes less busy, to be worth it."""
MOST_MOVED_ASIDE = 32
"""How many guests, one after another, are given other places for one that finds none."""
FEW = 50
"""How many nodes, the least busy that it may go to, are looked at for each guest to even out."""

MEMORY = "node.memory"
_NOTHING: Mapping[str, Collection[str]] = MappingProxyType({})


@dataclass(frozen=True)
class Step:
    """One move of a plan, and in a sentence why it goes there."""

    move: Move
    why: str


@dataclass(frozen=True)
class Placement:
    """A plan: its steps, the biggest guest first, and for each guest that is stuck every reason."""

    steps: tuple[Step, ...]
    stuck: Mapping[str, str]


def drain(
    world: World,
    readiness: Readiness,
    node: str,
    avoid: Mapping[str, Collection[str]] = _NOTHING,
    in_flight: Iterable[Move] = (),
) -> Placement:
    """Plan where all active guests of a node go.

    Each goes home if it can, else where is most room for it. The biggest choose first; one that
    finds no room may have it made by others that are planned already. The same call, with fresh
    facts, plans anew what is left in the middle of a drain.

    readiness
        What was found in this world of all guests of the node, to all nodes.
    avoid
        By guest, nodes that are no destination for it, as where a migration of it failed.
    in_flight
        Moves that were begun, or wait for their turn. Room is kept for them, and their guests are
        left out of the plan.

    WorldError if the node does not tell what guests it has; InputError if there is no such node.
    """
    world.cluster.node(node)
    facts = world.nodes.get(node)
    if facts is None or facts.guests is None:
        detail = (facts.detail or facts.daemon_detail) if facts else ""
        raise WorldError(
            f"nothing was moved off {node}: its guests are not known"
            f"{f': {printable(detail)}' if detail else ''}"
        )
    plan = _Plan(world, readiness, avoid, in_flight)
    return plan.placed(guest for guest in facts.guests if guest.active)


def home(
    world: World,
    readiness: Readiness,
    node: str,
    avoid: Mapping[str, Collection[str]] = _NOTHING,
    in_flight: Iterable[Move] = (),
) -> Placement:
    """Plan to bring home those whose home a node is, and that are active elsewhere.

    Those that run nowhere are nobody's to move. Parameters and errors as of `drain`; ``readiness``
    of all guests, to that node at least.
    """
    world.cluster.node(node)
    residents = {one.name for one in world.cluster.guests.list.values() if one.home == node}
    plan = _Plan(world, readiness, avoid, in_flight, only=node)
    found = [guest for guest in world.guests if guest.active and guest.name in residents]
    placed = plan.placed(guest for guest in found if guest.node != node)
    unseen = residents.difference(plan.in_flight, (guest.name for guest in found))
    silent = [one.node for one in world.nodes.values() if one.guests is None]
    if silent:
        sentence = f"its location is not known: no response from {listed(silent)}"
        return Placement(placed.steps, {**placed.stuck, **dict.fromkeys(sorted(unseen), sentence)})
    return placed


def best(world: World, readiness: Readiness, guest: str) -> Step:
    """Return the best move for one guest, chosen as in `drain`, and why.

    WorldError, with every reason, if it can go nowhere; InputError if there is no such guest.
    """
    found = [row.guest for row in readiness.rows if row.guest.name == guest]
    if not found:
        raise no_such_guest(world, guest, None)
    placed = _Plan(world, readiness, _NOTHING, ()).placed(found[:1])
    if placed.stuck:
        raise WorldError(f"{printable(guest)} was not migrated: {placed.stuck[guest]}")
    return placed.steps[0]


def balance(
    world: World,
    readiness: Readiness,
    most: int,
    avoid: Mapping[str, Collection[str]] = _NOTHING,
    in_flight: Iterable[Move] = (),
) -> Placement:
    """Plan the few moves that even out the nodes' load (see `Load`) most; nobody is stuck.

    The busiest node that can be relieved is, again and again, by the move after which the busier
    of its two nodes is the least busy. That has to be NOTICEABLE less than before.

    most
        At most so many moves are planned; they come in the order in which they help.

    Other parameters as of `drain`; ``readiness`` of all guests, to all nodes.
    """
    plan = _Plan(world, readiness, avoid, in_flight)
    return Placement(tuple(plan.evened(most)), {})


class _Plan:
    """One plan in the making."""

    def __init__(
        self,
        world: World,
        readiness: Readiness,
        avoid: Mapping[str, Collection[str]],
        in_flight: Iterable[Move],
        only: str | None = None,
    ) -> None:
        self.world, self.readiness = world, readiness
        self.avoid = avoid
        self.rows = {(row.guest.node, row.guest.name): row for row in readiness.rows}
        self.bit = {node: 1 << place for place, node in enumerate(readiness.nodes)}
        self.places = {node: capacity_of(facts) for node, facts in sorted(world.nodes.items())}
        self.question = [self.places[only]] if only in self.places else list(self.places.values())
        self.apart = reasons.kept_apart(world.cluster)
        self.chosen: dict[str, tuple[GuestFacts, Capacity, str]] = {}
        self.ways: dict[str, list[Capacity]] = {}
        self.in_flight: set[str] = set()
        for move in in_flight:
            self._expect(move)

    def placed(self, guests: Iterable[GuestFacts]) -> Placement:
        """Return the plan in which as many as possible of some guests have a place."""
        by_name = {guest.name: guest for guest in guests if guest.name not in self.in_flight}
        waiting = sorted(by_name.values(), key=lambda one: (-memory_of(one), one.name))
        self.ways = {guest.name: self._ways(guest) for guest in waiting}
        left, before = waiting, len(waiting) + 1
        while len(left) < before:  # Who moved aside for one may have made room for another.
            before = len(left)
            left = [guest for guest in left if not self._is_placed(guest, set())]
        return Placement(
            tuple(self._step(guest) for guest in waiting if guest.name in self.chosen),
            {guest.name: self._why_stuck(guest) for guest in left},
        )

    def evened(self, most: int) -> Iterator[Step]:
        """Yield the moves that even out the load most, one after another."""
        nodes = self.world.nodes
        # Who takes guests off a cordoned node drains it.
        places = [place for place in self.places.values() if not nodes[place.node].cordoned]
        spent: set[str] = set()
        while len(self.chosen) < most:
            places.sort(key=lambda place: (place.load().share, place.node))
            sources = [place for place in places if place.node not in spent]
            for source in sorted(sources, key=lambda place: (-place.load().share, place.node)):
                step = self._relief(source, places)
                if step:
                    yield step
                    break
                spent.add(source.node)
            else:
                return

    def _expect(self, move: Move) -> None:
        """Keep room for a guest that is on its way, unless it is seen where it goes to."""
        self.in_flight.add(move.guest)
        copies = {copy.node: copy for copy in self.world.by_name.get(move.guest, ())}
        there = copies.pop(move.destination, None)
        if move.destination not in self.places or (there and there.active):
            return
        place = self.places[move.destination]
        if move.guest not in place.guests:
            place.guests.add(move.guest)
            known = copies.get(move.source) or next(iter(copies.values()), there)
            if known:
                place.reserve(known)

    def _is_placed(self, guest: GuestFacts, tried: set[str]) -> bool:
        """Give a guest a place, and return whether there was one.

        tried
            Those that were to move aside for others already: each is asked once.
        """
        tried.add(guest.name)
        ways = self.ways[guest.name]
        fit = [place for place in ways if self._fits(guest, place)]
        if fit:
            found = min(fit, key=lambda place: self._preference(guest, place))
            self._choose(guest, found, self._why(guest, found, len(fit)))
            return True
        return any(self._makes_room(place, guest, tried) for place in ways if place.planned)

    def _makes_room(self, place: Capacity, guest: GuestFacts, tried: set[str]) -> bool:
        """Give a guest the place of another one that finds a further place, if there is such."""
        for other in list(place.planned.values()):
            if other.name in tried or len(tried) > MOST_MOVED_ASIDE:
                continue
            why = self._give_up(other)
            if self._fits(guest, place):
                self._choose(guest, place, "another guest goes elsewhere to make room")
                if self._is_placed(other, tried):
                    return True
                self._give_up(guest)
            self._choose(other, place, why)
        return False

    def _ways(self, guest: GuestFacts) -> list[Capacity]:
        """Return where a guest can go, by what is planned so far."""
        open_to = self._open_to(guest)
        return [
            place
            for place in self.question
            if open_to & self.bit[place.node] and self._fits(guest, place)
        ]

    def _open_to(self, guest: GuestFacts) -> int:
        """Return the nodes to which a guest may go, whatever room they have, as bits."""
        row = self._row(guest)
        shut = self.bit.keys() & self.avoid.get(guest.name, ())
        return row.open_to & ~sum(self.bit[node] for node in shut) if row else 0

    def _row(self, guest: GuestFacts) -> GuestReadiness | None:
        return self.rows.get((guest.node, guest.name))

    def _fits(self, guest: GuestFacts, place: Capacity) -> bool:
        return has_room(self.world, guest, place) and not self._others(guest, place)

    def _others(self, guest: GuestFacts, place: Capacity) -> list[str]:
        """Return those from whom a guest is to be kept apart, and who are there or go there."""
        apart = self.apart.get(guest.name)
        return sorted(apart & (place.guests | place.planned.keys())) if apart else []

    def _preference(self, guest: GuestFacts, place: Capacity) -> tuple[bool, float, str]:
        return not self._is_home(guest, place), place.load(more=guest).share, place.node

    def _is_home(self, guest: GuestFacts, place: Capacity) -> bool:
        known = self.world.cluster.guests.list.get(guest.name)
        return known is not None and known.home == place.node

    def _why(self, guest: GuestFacts, place: Capacity, ways: int) -> str:
        if self._is_home(guest, place):
            return "its home node"
        if ways == 1:
            return "the only eligible node"
        return f"least loaded of {ways} eligible nodes"

    def _choose(self, guest: GuestFacts, place: Capacity, why: str) -> None:
        place.reserve(guest)
        place.planned[guest.name] = guest
        self.chosen[guest.name] = guest, place, why

    def _give_up(self, guest: GuestFacts) -> str:
        """Take a guest from its place, and return why it was there."""
        _, place, why = self.chosen.pop(guest.name)
        place.reserve(place.planned.pop(guest.name), -1)
        return why

    def _step(self, guest: GuestFacts) -> Step:
        _, place, why = self.chosen[guest.name]
        words = f"{why}; as planned, {place.node} has {place.load()}"
        if held := self.world.managers.of(guest.name, [guest.node]).unmanaged:
            words += f"; {held.given_back}"
        return Step(Move(guest.name, guest.uuid, guest.node, place.node), words)

    def _relief(self, source: Capacity, places: list[Capacity]) -> Step | None:
        """Plan the move that relieves a node most; None if none does so noticeably.

        places
            All nodes, the least busy first.
        """
        found = min(self._reliefs(source, places), key=lambda one: one[:-1], default=None)
        if found is None:
            return None
        busier, _, _, node, guest = found
        before, place = source.load(), self.places[node]
        words = f"from {before.share:.2f} to {busier:.2f}"
        self._choose(guest, place, "")
        source.lose(guest)
        why = (
            f"lowers the higher load of the two nodes {words}: then {source.node} has"
            f" {source.load()}, and {node} {place.load()}"
        )
        return Step(Move(guest.name, guest.uuid, source.node, node), why)

    def _reliefs(
        self, source: Capacity, places: list[Capacity]
    ) -> Iterator[tuple[float, float, str, str, GuestFacts]]:
        """Yield each noticeable relief: the best has the least of these, in this order.

        The share of the busier of the two nodes then, that of the destination, names, the guest.
        """
        bar = source.load().share - NOTICEABLE
        for guest in self.world.nodes[source.node].guests or ():
            open_to = 0 if guest.name in {*self.chosen, *self.in_flight} else self._open_to(guest)
            left = source.load(less=guest).share
            looked_at = 0
            for place in places if open_to and left <= bar else ():
                if looked_at == FEW or place.load().share > bar:
                    break
                if open_to & self.bit[place.node]:
                    looked_at += 1
                    there = place.load(more=guest).share
                    if max(left, there) <= bar and self._fits(guest, place):
                        yield max(left, there), there, guest.name, place.node, guest

    def _why_stuck(self, guest: GuestFacts) -> str:
        """Return every reason why a guest goes nowhere: each once, with the nodes it is about."""
        row = self._row(guest)
        if row is None:
            return "not examined"
        blocked = row.blocked
        groups: dict[tuple[str, ...], list[str]] = defaultdict(list)
        for place in self.question:
            if row.destinations & self.bit[place.node]:
                reasons = tuple(self._against(guest, place, blocked.get(place.node, ())))
                groups[reasons].append(place.node)
        if not groups:
            return "there is no other node"
        reported = [(listed(nodes), ", ".join(reasons)) for reasons, nodes in groups.items()]
        if len(reported) == 1:
            nodes, why = reported[0]
            is_alone = len(next(iter(groups.values()))) == 1
            return f"{nodes} is not eligible: {why}" if is_alone else f"no eligible node: {why}"
        return "no eligible node: " + "; ".join(f"{nodes}: {why}" for nodes, why in reported)

    def _against(self, guest: GuestFacts, place: Capacity, failed: Iterable[str]) -> Iterator[str]:
        """Yield each reason why a guest does not go to a node; ``failed`` checks forbid it."""
        for check in failed:
            detail = self._of_guests.get((guest.name, check)) or self._issues(guest, place, check)
            yield f"{check} ({min(detail)})" if len(detail) == 1 else check
        if place.node in self.avoid.get(guest.name, ()):
            yield "its migration there failed"
        for other in self._others(guest, place):
            is_there = "is" if other in place.guests else "goes"
            yield f"to be kept apart from {printable(other)}, which {is_there} there"
        if MEMORY not in failed and not has_room(self.world, guest, place):
            needed = memory_of(guest) // MIB
            yield f"{MEMORY} (planned guests leave less than its {needed} MiB)"

    def _issues(self, guest: GuestFacts, place: Capacity, check: str) -> set[str]:
        """Return what a check reports of a node as a destination, or else of the source."""
        nodes = (place.node, guest.node)
        return next(filter(None, (self._of_nodes.get((node, check)) for node in nodes)), set())

    @cached_property
    def _of_nodes(self) -> Mapping[tuple[str, str], set[str]]:
        return reasons.of_nodes(self.readiness)

    @cached_property
    def _of_guests(self) -> Mapping[tuple[str, str], set[str]]:
        nodes = {place.node for place in self.question}
        return reasons.of_guests(self.readiness, self.ways.keys(), nodes)
