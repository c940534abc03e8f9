"""Where the guests of lost nodes find places: one plan for each set of nodes that is lost.

The biggest guests choose first, the node with most room, and move aside for another one that finds
none. A plan may miss a place that a better one would find; it never counts on room that is not
there.
"""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from saltext_kvmcluster.core.drain import load
from saltext_kvmcluster.core.facts.nodefacts import GuestFacts, NodeFacts
from saltext_kvmcluster.core.pillar import groups
from saltext_kvmcluster.core.readiness.checks.base import World
from saltext_kvmcluster.core.text import listed, printable

_MIB = 1024
MOST_NAMED = 5
"""Nodes that a reason names."""
_Pages = Mapping[int, int]


@dataclass(frozen=True)
class Shortage:
    """A guest that finds no place. ``lost``: the first set of nodes with which that is so.

    ``cases`` says with how many sets it is, ``fits`` whether some other node could take it if it
    had room.
    """

    guest: str
    node: str
    lost: tuple[str, ...]
    cases: int
    why: str
    fits: bool

    def to_dict(self) -> dict[str, Any]:
        """Return it as plain data."""
        return {
            "guest": printable(self.guest),
            "node": self.node,
            "lost": list(self.lost),
            "cases": self.cases,
            "why": self.why,
        }


@dataclass(frozen=True)
class _Unit:
    """Guests of one node that start together: one, or those that are to be on one node.

    ``paged``: their memory on hugepages, by the size of the pages, 0 for the default of a node.
    ``better``: the nodes that are tried before the others, the best first. ``parts``: what they are
    parted into where no node can take all of them.
    """

    guests: tuple[GuestFacts, ...]
    open_to: int
    need: int
    paged: tuple[tuple[int, int], ...]
    apart: frozenset[str]
    better: tuple[tuple[str, ...], ...] = ()
    parts: tuple[_Unit, ...] = ()

    @property
    def names(self) -> frozenset[str]:
        return frozenset(guest.name for guest in self.guests)

    @property
    def order(self) -> tuple[int, str]:
        return -self.need, self.guests[0].name


@dataclass
class _Place:
    """A node that may take guests: what it has left, and which guests it has.

    ``is_known``: whether it told its available memory; else none is counted on.
    """

    node: str
    bit: int
    free: int
    is_known: bool
    pages: _Pages
    default_page: int
    guests: Collection[str]
    planned: list[_Unit] = field(default_factory=list)

    def left(self) -> int:
        return self.free - sum(unit.need for unit in self.planned)

    def refusal(self, unit: _Unit) -> str:
        """Return why there is no room for a unit; empty if there is."""
        if not self.is_known:
            return "node.memory (not known: its available memory)"
        names = set(self.guests).union(*(planned.names for planned in self.planned))
        if others := sorted(unit.apart & names):
            return f"to be kept apart from {listed(map(printable, others))}"
        if self.left() < unit.need:
            return (
                f"node.memory (it needs {unit.need // _MIB} MiB,"
                f" {max(0, self.left()) // _MIB} MiB would be left)"
            )
        wanted = self._paged([unit])
        taken = self._paged(self.planned) if wanted else {}
        for size, count in wanted.items():
            if size in self.pages and self.pages[size] - taken.get(size, 0) < count:
                return f"memory.hugepages (it needs {count} of {size} KiB)"
        return ""

    def _paged(self, units: Iterable[_Unit]) -> _Pages:
        """Return the hugepages that units need here, by size; the check tells where one is none."""
        found: dict[int, int] = defaultdict(int)
        for unit in units:
            for size, memory in unit.paged:
                if page := size or self.default_page:
                    found[page] += -(-memory // page)
        return found


class Survey:
    """What becomes of guests as sets of nodes are lost, one set after the other."""

    def __init__(
        self,
        world: World,
        open_to: Callable[[GuestFacts], int],
        against: Callable[[GuestFacts], list[tuple[str, int]]],
        victims: Sequence[GuestFacts] | None = None,
    ) -> None:
        self._against = against
        nodes = world.nodes
        self._names = list(nodes)
        self._all = (1 << len(nodes)) - 1
        self._places = {
            node: _place(facts, 1 << place) for place, (node, facts) in enumerate(nodes.items())
        }
        # The roomiest first: who finds no room there finds none further on.
        self._roomiest = sorted(self._places.values(), key=lambda one: (-one.free, one.node))
        active = (guest for guest in world.guests if guest.active and _stays(world, guest))
        self.victims = list(active) if victims is None else victims
        # What becomes of guests is planned by their wishes; whether there is room at all, without.
        self._units = _units(world, self.victims, open_to, by_wish=victims is not None)

    def shortages(self, number: int) -> tuple[tuple[Shortage, ...], int]:
        """Return the guests that find no place, by node and name, and how many sets were tried."""
        found: dict[tuple[str, str], Shortage] = {}
        cases = 0
        for lost in itertools.combinations(self._places, number):
            cases += 1
            for unit in self._stuck(lost):
                for guest in unit.guests:
                    key = guest.node, guest.name
                    before = found.get(key)
                    found[key] = self._shortage(guest, unit, lost, before)
            for place in self._touched:
                place.planned.clear()
        return tuple(found[key] for key in sorted(found)), cases

    def placed(self, lost: tuple[str, ...]) -> tuple[list[tuple[GuestFacts, str]], list[Shortage]]:
        """Return where the guests of lost nodes go, the biggest first, and which find no place."""
        stuck = [
            self._shortage(guest, unit, lost, None)
            for unit in self._stuck(lost)
            for guest in unit.guests
        ]
        units = [(unit, place.node) for place in self._touched for unit in place.planned]
        units.sort(key=lambda one: one[0].order)
        return [(guest, node) for unit, node in units for guest in unit.guests], stuck

    def _stuck(self, lost: tuple[str, ...]) -> list[_Unit]:
        """Give the guests of lost nodes places; return those that find none."""
        self._touched: list[_Place] = []
        units = [unit for node in lost for unit in self._units.get(node, ())]
        gone = sum(self._places[node].bit for node in lost if node in self._places)
        units.sort(key=lambda unit: unit.order)
        left = [unit for unit in units if not self._is_placed(unit, gone, {id(unit)})]
        smaller = [part for unit in left for part in unit.parts]
        whole = [unit for unit in left if not unit.parts]
        return whole + [part for part in smaller if not self._is_placed(part, gone, {id(part)})]

    def _is_placed(self, unit: _Unit, gone: int, tried: set[int]) -> bool:
        """Give a unit a place, and return whether there was one.

        tried
            Those that were to move aside for others already: each is asked once.
        """
        open_to = unit.open_to & ~gone
        wishes = (sum(self._places[node].bit for node in tier) for tier in unit.better)
        tried_first = (self._roomiest_for(unit, open_to & mask) for mask in wishes)
        place = next(filter(None, tried_first), None) or self._roomiest_for(unit, open_to)
        if place:
            self._choose(unit, place)
            return True
        return any(
            self._makes_room(place, unit, gone, tried)
            for place in list(self._touched)
            if place.bit & open_to
        )

    def _roomiest_for(self, unit: _Unit, open_to: int) -> _Place | None:
        best: _Place | None = None
        for place in self._roomiest if open_to else ():
            if place.free < unit.need or (best and best.left() >= place.free):
                break
            is_better = best is None or place.left() > best.left()
            if place.bit & open_to and is_better and not place.refusal(unit):
                best = place
        return best

    def _makes_room(self, place: _Place, unit: _Unit, gone: int, tried: set[int]) -> bool:
        """Give a unit the place of another one that finds a further place, if there is such."""
        for other in list(place.planned):
            if id(other) in tried:
                continue
            tried.add(id(other))
            place.planned.remove(other)
            if not place.refusal(unit):
                place.planned.append(unit)
                if self._is_placed(other, gone, tried):
                    return True
                place.planned.remove(unit)
            place.planned.append(other)
        return False

    def _choose(self, unit: _Unit, place: _Place) -> None:
        place.planned.append(unit)
        if len(place.planned) == 1:
            self._touched.append(place)

    def _shortage(
        self, guest: GuestFacts, unit: _Unit, lost: tuple[str, ...], before: Shortage | None
    ) -> Shortage:
        if before:
            return replace(before, cases=before.cases + 1)
        others = self._all & ~sum(self._places[node].bit for node in lost)
        why = self._why(guest, unit, others)
        return Shortage(guest.name, guest.node, lost, 1, why, bool(unit.open_to & others))

    def _why(self, guest: GuestFacts, unit: _Unit, others: int) -> str:
        """Return why a guest finds no place on the nodes that are left."""
        reasons = [
            f"{self._named(mask & others)}: {why}"
            for why, mask in self._against(guest)
            if mask & others
        ]
        able = unit.open_to & others
        for place in self._roomiest if able else ():
            if place.bit & able:
                full = place.refusal(unit) or "another guest of the plan takes it"
                best = f"{place.node}, the best of {able.bit_count()} that could take it"
                reasons.append(f"{best if able != place.bit else place.node}: {full}")
                break
        if not reasons:
            reasons.append("no node could take all guests that are to run with it")
        return printable("; ".join(reasons))

    def _named(self, mask: int) -> str:
        """Return the names of the first nodes of several, and the number of the others."""
        found: list[str] = []
        rest = mask
        while rest and len(found) < MOST_NAMED:
            lowest = rest & -rest
            found.append(self._names[lowest.bit_length() - 1])
            rest ^= lowest
        return ", ".join(found) + (f" and {rest.bit_count()} more" if rest else "")


def _place(facts: NodeFacts, bit: int) -> _Place:
    known = load.capacity_of(facts)
    pages = facts.resources.hugepages or {}
    is_known = facts.free_kib is not None
    default = facts.resources.default_page
    return _Place(facts.node, bit, known.free, is_known, pages, default, known.guests)


def _stays(world: World, guest: GuestFacts) -> bool:
    """Whether a guest is where it is observed: the half that arrives is counted at the source."""
    copies = [one for one in world.by_uuid[guest.uuid] if one.active]
    return len(copies) == 1 or not load.arrives(guest)


def _units(
    world: World,
    guests: Iterable[GuestFacts],
    open_to: Callable[[GuestFacts], int],
    by_wish: bool,
) -> Mapping[str, Sequence[_Unit]]:
    """Return by node the guests that start there, those that are to be on one node as one."""
    known = world.cluster.guests
    apart, together = groups.kept_apart(known), groups.kept_together(known)
    bound = groups.kept_bound(known)

    def unit(members: list[GuestFacts], parts: Iterable[_Unit] = ()) -> _Unit:
        mask = -1
        for guest in members:
            mask &= open_to(guest)
        return _Unit(
            tuple(members),
            mask,
            sum(map(_memory, members)),
            tuple(paged for guest in members for paged in _paged(guest)),
            frozenset().union(*(apart.get(guest.name, ()) for guest in members)),
            _better(world, members, together) if by_wish else (),
            tuple(parts),
        )

    found: dict[str, list[_Unit]] = defaultdict(list)
    by_node: dict[str, list[GuestFacts]] = defaultdict(list)
    for guest in guests:
        by_node[guest.node].append(guest)
    for node, there in by_node.items():
        for members in _grouped(there, together):
            smaller = [unit(part) for part in _grouped(members, bound)]
            found[node].append(unit(members, smaller) if len(smaller) > 1 else smaller[0])
    return found


def _better(
    world: World, members: Sequence[GuestFacts], together: groups.Groups
) -> tuple[tuple[str, ...], ...]:
    """Return the nodes where others of a group are active, then those that a guest prefers."""
    first = members[0].name
    mates = together.get(first, frozenset()) - {guest.name for guest in members}
    near = sorted({one.node for mate in mates for one in world.by_name.get(mate, ()) if one.active})
    known = world.cluster.guests.list.get(first)
    return (*((tuple(near),) if near else ()), *(known.places if known else ()))


def _grouped(guests: Iterable[GuestFacts], of: groups.Groups) -> list[list[GuestFacts]]:
    found: dict[frozenset[str], list[GuestFacts]] = defaultdict(list)
    for guest in guests:
        found[of.get(guest.name, frozenset({guest.name}))].append(guest)
    return list(found.values())


def _memory(guest: GuestFacts) -> int:
    """Return the KiB that a guest needs besides hugepages."""
    return max(0, load.memory_of(guest) - sum(memory for _, memory in _paged(guest)))


def _paged(guest: GuestFacts) -> tuple[tuple[int, int], ...]:
    return guest.guest.tuning.hugepages if guest.guest else ()
