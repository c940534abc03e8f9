"""A plan in the making: what goes where so far, and what keeps the others from going anywhere.

What leaves a node counts there until it has left: the moves of a plan run side by side, and some
may fail. So a plan never counts on room that only another of its moves would make.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from types import MappingProxyType

from saltext_kvmcluster.core.drain import reasons
from saltext_kvmcluster.core.drain.load import Capacity, capacity_of, has_room, memory_of
from saltext_kvmcluster.core.facts.nodefacts import GuestFacts
from saltext_kvmcluster.core.migration.migration import Move
from saltext_kvmcluster.core.pillar import groups
from saltext_kvmcluster.core.readiness.checks.base import World
from saltext_kvmcluster.core.readiness.checks.node import MIB
from saltext_kvmcluster.core.readiness.report import GuestReadiness, Readiness
from saltext_kvmcluster.core.text import listed, printable

MEMORY = "node.memory"
NOTHING: Mapping[str, Collection[str]] = MappingProxyType({})


@dataclass(frozen=True)
class Step:
    """One move of a plan, and in a sentence why it goes there.

    ``mends``: it is for a rule of the pillar that is broken, and not for the load.
    """

    move: Move
    why: str
    mends: bool = False


class Plan:
    """Where guests go, by what is planned so far.

    ``places`` are the nodes, ``question`` those to which guests may go. ``chosen`` has by guest
    where it goes, and why. ``ways`` are the places that each guest had at first.
    """

    def __init__(
        self,
        world: World,
        readiness: Readiness,
        avoid: Mapping[str, Collection[str]] = NOTHING,
        in_flight: Iterable[Move] = (),
        only: str | None = None,
    ) -> None:
        self.world, self.readiness = world, readiness
        self.avoid = avoid
        self.rows = {(row.guest.node, row.guest.name): row for row in readiness.rows}
        self.bit = {node: 1 << place for place, node in enumerate(readiness.nodes)}
        self.places = {node: capacity_of(facts) for node, facts in sorted(world.nodes.items())}
        self.question = [self.places[only]] if only in self.places else list(self.places.values())
        self.apart = groups.kept_apart(world.cluster.guests)
        self.together = groups.kept_together(world.cluster.guests)
        self.chosen: dict[str, tuple[GuestFacts, Capacity, str]] = {}
        self.ways: dict[str, list[Capacity]] = {}
        self.in_flight: dict[str, str] = {}
        for move in in_flight:
            self._expect(move)

    def _expect(self, move: Move) -> None:
        """Keep room for a guest that is on its way, unless it is seen where it goes to."""
        self.in_flight[move.guest] = move.destination
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

    def choose(self, guest: GuestFacts, place: Capacity, why: str) -> None:
        """Have a guest go to a place."""
        place.reserve(guest)
        place.planned[guest.name] = guest
        self.chosen[guest.name] = guest, place, why

    def give_up(self, guest: GuestFacts) -> str:
        """Take a guest from its place, and return why it was to go there."""
        _, place, why = self.chosen.pop(guest.name)
        place.reserve(place.planned.pop(guest.name), -1)
        return why

    def choose_all(self, members: Sequence[GuestFacts], place: Capacity, why: str) -> bool:
        """Have several guests go to a place, unless it cannot take all; return whether it can."""
        done: list[GuestFacts] = []
        for guest in members:
            if not self.fits(guest, place):
                for one in done:
                    self.give_up(one)
                return False
            self.choose(guest, place, why)
            done.append(guest)
        return True

    def find_ways(self, guest: GuestFacts) -> list[Capacity]:
        """Return where a guest can go, by what is planned so far."""
        open_to = self.open_to(guest)
        return [
            place
            for place in self.question
            if open_to & self.bit[place.node] and self.fits(guest, place)
        ]

    def open_to(self, guest: GuestFacts) -> int:
        """Return the nodes to which a guest may go, whatever room they have, as bits."""
        row = self.row(guest)
        shut = self.bit.keys() & self.avoid.get(guest.name, ())
        return row.open_to & ~sum(self.bit[node] for node in shut) if row else 0

    def row(self, guest: GuestFacts) -> GuestReadiness | None:
        """Return what the checks say of a guest's moves."""
        return self.rows.get((guest.node, guest.name))

    def fits(self, guest: GuestFacts, place: Capacity) -> bool:
        """Whether a place has room for a guest, and nobody from whom it is kept apart."""
        return has_room(self.world, guest, place) and not self.others(guest, place)

    def others(self, guest: GuestFacts, place: Capacity) -> list[str]:
        """Return those from whom a guest is to be kept apart, and who are there or go there."""
        apart = self.apart.get(guest.name)
        return sorted(apart & (place.guests | place.planned.keys())) if apart else []

    def site(self, name: str) -> str | None:
        """Return the node where a guest will be, by what is planned and on its way; or None."""
        if name in self.chosen:
            return self.chosen[name][1].node
        return self.in_flight.get(name) or self.at.get(name)

    @cached_property
    def at(self) -> Mapping[str, str]:
        """Where each guest is active now."""
        return {one.name: one.node for one in self.world.guests if one.active}

    def mates(self, name: str) -> list[str]:
        """Return the guests that are to be on one node with a guest, as far as they run."""
        whole = self.together.get(name, frozenset())
        return sorted(other for other in whole if other != name and self.site(other))

    def rank(self, guest: str, node: str) -> int:
        """Return how good a node is for a guest by the pillar: 0 is the best."""
        known = self.world.cluster.guests.list.get(guest)
        return known.rank(node) if known else 0

    def preference(self, guest: GuestFacts, place: Capacity) -> tuple[bool, int, float, str]:
        """Return what makes one place better than another one for a guest: the least is best."""
        alone = guest.name in self.together and place.node not in map(
            self.site, self.mates(guest.name)
        )
        rank = self.rank(guest.name, place.node)
        return alone, rank, place.load(more=guest).share, place.node

    def why(self, guest: GuestFacts, place: Capacity, ways: int) -> str:
        """Return why a guest goes to a place, one of so many."""
        known = self.world.cluster.guests.list.get(guest.name)
        if known and known.rank(place.node) < len(known.places):
            return "its home node" if known.home == place.node else "a node that it prefers"
        if ways == 1:
            return "the only eligible node"
        return f"least loaded of {ways} eligible nodes"

    def step(self, guest: GuestFacts, mends: bool = False) -> Step:
        """Return the move that is planned for a guest, and why it goes there."""
        _, place, why = self.chosen[guest.name]
        words = f"{why}{self.parted(guest)}; as planned, {place.node} has {place.load()}"
        if held := self.world.managers.of(guest.name, [guest.node]).unmanaged:
            words += f"; {held.given_back}"
        return Step(Move(guest.name, guest.uuid, guest.node, place.node), words, mends)

    def parted(self, guest: GuestFacts) -> str:
        """Return with whom a guest is, or is not, by the plan, though it should; or nothing."""
        here = self.site(guest.name)
        mates = self.mates(guest.name)
        away = [mate for mate in mates if self.site(mate) != here]
        if not mates:
            return ""
        if not away:
            return f", with {listed(map(printable, mates))}"
        where = listed(f"{printable(mate)} on {self.site(mate)}" for mate in away)
        return f"; NOT together with {where}: {self._why_away(guest, mates)}"

    def _why_away(self, guest: GuestFacts, mates: Sequence[str]) -> str:
        """Return why a guest goes where others of its group are not."""
        rest = [mate for mate in mates if mate not in self.chosen]
        sites = {self.site(mate) for mate in rest}
        if len(sites) > 1:
            return "they are parted already"
        if sites and sites != {guest.node}:
            return f"{sites.pop()} cannot take it"
        if sites and self.ways.keys().isdisjoint(rest):
            return "it is moved alone"
        return self.why_parted([guest.name, *mates])

    def why_parted(self, members: Sequence[str]) -> str:
        """Return why guests that are to be on one node are not."""
        found = [one for name in sorted(members) for one in self._active(name)]
        fixed = [one for one in found if one.name not in self.in_flight and not self.open_to(one)]
        if fixed:
            nodes = {one.node for one in fixed}
            rest = f", and {fixed[0].node} cannot take the others" if len(nodes) == 1 else ""
            return ", ".join(map(self._fixed, fixed)) + rest
        common = -1
        for one in found:
            common &= self.open_to(one) | self.bit.get(one.node, 0)
        return f"no node {'can take' if common else 'is open to'} all of them"

    def _fixed(self, guest: GuestFacts) -> str:
        row = self.row(guest)
        checks = [check for check, mask in row.forbidden if mask] if row else []
        why = f" ({', '.join(checks[:3])})" if checks else ""
        return f"{printable(guest.name)} cannot leave {guest.node}{why}"

    def _active(self, name: str) -> list[GuestFacts]:
        return [one for one in self.world.by_name.get(name, ()) if one.active]

    def why_stuck(self, guest: GuestFacts) -> str:
        """Return every reason why a guest goes nowhere: each once, with the nodes it is about."""
        row = self.row(guest)
        if row is None:
            return "not examined"
        blocked = row.blocked
        found: dict[tuple[str, ...], list[str]] = defaultdict(list)
        for place in self.question:
            if row.destinations & self.bit[place.node]:
                against = tuple(self._against(guest, place, blocked.get(place.node, ())))
                found[against].append(place.node)
        if not found:
            return "there is no other node"
        reported = [(listed(nodes), ", ".join(against)) for against, nodes in found.items()]
        if len(reported) == 1:
            nodes, why = reported[0]
            is_alone = len(next(iter(found.values()))) == 1
            return f"{nodes} is not eligible: {why}" if is_alone else f"no eligible node: {why}"
        return "no eligible node: " + "; ".join(f"{nodes}: {why}" for nodes, why in reported)

    def _against(self, guest: GuestFacts, place: Capacity, failed: Iterable[str]) -> Iterator[str]:
        """Yield each reason why a guest does not go to a node; ``failed`` checks forbid it."""
        for check in failed:
            detail = self._of_guests.get((guest.name, check)) or self._issues(guest, place, check)
            yield f"{check} ({min(detail)})" if len(detail) == 1 else check
        if place.node in self.avoid.get(guest.name, ()):
            yield "its migration there failed"
        for other in self.others(guest, place):
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
