"""Gives guests places: groups as a whole first, the biggest guests first, then what is left.

Where that leaves a guest stuck, or a group parted, a bounded search looks for a better arrangement.
In a small plan it tries all of them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

from saltext_kvmcluster.core.drain.load import Capacity, memory_of
from saltext_kvmcluster.core.drain.plan import Plan
from saltext_kvmcluster.core.facts.nodefacts import GuestFacts

MOST_MOVED_ASIDE = 32
"""How many guests, one after another, are given other places for one that finds none."""
MOST_TRIED = 150_000
"""How many places, of one guest each, the search looks at: a cluster of some 15 guests is searched
wholly, and a bigger one for half a second."""
MOST_GUESTS = 100
"""Of how many guests the search is tried."""
MOST_WAYS = 30
"""How many places of a guest, its best ones, the search tries."""


def arrange(plan: Plan, guests: Iterable[GuestFacts]) -> list[GuestFacts]:
    """Give as many guests as possible a place; return those without, the biggest first.

    As few groups as possible are parted by it.
    """
    waiting = by_size(guests)
    plan.ways |= {guest.name: plan.find_ways(guest) for guest in waiting}
    for unit in units(plan, waiting):
        place_together(plan, unit)
    left, before = [one for one in waiting if one.name not in plan.chosen], len(waiting) + 1
    while len(left) < before:  # Who moved aside for one may have made room for another.
        before = len(left)
        left = [guest for guest in left if not _is_placed(plan, guest, set())]
    score = len(left), _parted(plan, waiting)
    if any(score) and len(waiting) <= MOST_GUESTS:
        _Search(plan, waiting, score).run()
    return [guest for guest in waiting if guest.name not in plan.chosen]


def by_size(guests: Iterable[GuestFacts]) -> list[GuestFacts]:
    """Return guests, the biggest first."""
    return sorted(guests, key=lambda one: (-memory_of(one), one.name))


def units(plan: Plan, waiting: Sequence[GuestFacts]) -> list[list[GuestFacts]]:
    """Return those of the guests that are to be on one node, group by group, the biggest first."""
    found: dict[frozenset[str], list[GuestFacts]] = {}
    for guest in waiting:
        if guest.name in plan.together:
            found.setdefault(plan.together[guest.name], []).append(guest)
    return sorted(found.values(), key=lambda unit: -sum(map(memory_of, unit)))


def place_together(plan: Plan, unit: Sequence[GuestFacts]) -> bool:
    """Give guests of one group the best place that has room for all; return whether there is one.

    Where others of the group are on one node, that is the only such place.
    """
    names = {guest.name for guest in unit}
    rest = {plan.site(mate) for mate in plan.mates(unit[0].name) if mate not in names}
    if len(rest) > 1 or (len(unit) == 1 and not rest):
        return False
    ways = [
        place
        for place in plan.ways[unit[0].name]
        if (not rest or place.node in rest)
        and all(place in plan.ways[guest.name] for guest in unit[1:])
    ]

    def preference(place: Capacity) -> tuple[int, float, str]:
        rank = sum(plan.rank(guest.name, place.node) for guest in unit)
        return rank, place.load(more=unit[0]).share, place.node

    for place in sorted(ways, key=preference):
        if plan.choose_all(unit, place, plan.why(unit[0], place, len(ways))):
            return True
    return False


def _is_placed(plan: Plan, guest: GuestFacts, tried: set[str]) -> bool:
    """Give a guest a place, and return whether there was one.

    tried
        Those that were to move aside for others already: each is asked once.
    """
    tried.add(guest.name)
    ways = plan.ways[guest.name]
    fit = [place for place in ways if plan.fits(guest, place)]
    if fit:
        found = min(fit, key=lambda place: plan.preference(guest, place))
        plan.choose(guest, found, plan.why(guest, found, len(fit)))
        return True
    return any(_makes_room(plan, place, guest, tried) for place in ways if place.planned)


def _makes_room(plan: Plan, place: Capacity, guest: GuestFacts, tried: set[str]) -> bool:
    """Give a guest the place of another one that finds a further place, if there is such."""
    for other in list(place.planned.values()):
        if other.name in tried or len(tried) > MOST_MOVED_ASIDE:
            continue
        if any(plan.site(mate) == place.node for mate in plan.mates(other.name)):
            continue
        why = plan.give_up(other)
        if plan.fits(guest, place):
            plan.choose(guest, place, "another guest goes elsewhere to make room")
            if _is_placed(plan, other, tried):
                return True
            plan.give_up(guest)
        plan.choose(other, place, why)
    return False


def _parted(plan: Plan, waiting: Sequence[GuestFacts]) -> int:
    """Return how many groups of the guests are not on one node, by the plan."""
    wholes = {plan.together[one.name] for one in waiting if one.name in plan.together}
    return sum(len({plan.site(name) for name in whole} - {None}) > 1 for whole in wholes)


class _Search:
    """Tries arrangements, depth first, for one with fewer guests stuck, or fewer groups parted."""

    def __init__(self, plan: Plan, waiting: Sequence[GuestFacts], score: tuple[int, int]) -> None:
        self.plan = plan
        grouped = [guest for unit in units(plan, waiting) for guest in unit]
        known = {guest.name for guest in grouped}
        self.guests = [*grouped, *(guest for guest in waiting if guest.name not in known)]
        self.best, self.left = score, MOST_TRIED
        self.found: list[tuple[GuestFacts, Capacity, str]] = []
        self.sites: dict[frozenset[str], Counter[str]] = {}

    def run(self) -> None:
        """Change the plan to the best arrangement that is found, if it is better."""
        plan = self.plan
        before = [plan.chosen[one.name] for one in self.guests if one.name in plan.chosen]
        for guest, _, _ in before:
            plan.give_up(guest)
        names = {guest.name for guest in self.guests}
        for guest in self.guests:
            whole = plan.together.get(guest.name)
            if whole:
                rest = (plan.site(name) for name in whole - names)
                self.sites[whole] = Counter(node for node in rest if node)
        # A group that others have parted stays so.
        self._try(0, 0, sum(len(sites) > 1 for sites in self.sites.values()))
        for guest, place, why in self.found or before:
            plan.choose(guest, place, why)

    def _try(self, number: int, stuck: int, parted: int) -> None:
        """Place the guests from one on, given how many are stuck and groups parted so far."""
        if (stuck, parted) >= self.best or self.left <= 0:
            return
        if number == len(self.guests):
            self.best = stuck, parted
            self.found = [self.plan.chosen[one.name] for one in self.guests if self._has(one)]
            return
        guest, plan = self.guests[number], self.plan
        self.left -= 1 + len(plan.ways[guest.name])
        ways = [place for place in plan.ways[guest.name] if plan.fits(guest, place)]
        ways.sort(key=lambda place: plan.preference(guest, place))
        for place in ways[:MOST_WAYS]:
            plan.choose(guest, place, plan.why(guest, place, len(ways)))
            self._count(guest, place.node, number, stuck, parted)
            plan.give_up(guest)
        self._count(guest, guest.node, number, stuck + 1, parted)

    def _count(self, guest: GuestFacts, node: str, number: int, stuck: int, parted: int) -> None:
        """Go on with the next guest, with this one on a node."""
        whole = self.plan.together.get(guest.name)
        if whole is None:
            self._try(number + 1, stuck, parted)
            return
        sites = self.sites[whole]
        before = len(sites) > 1
        sites[node] += 1
        self._try(number + 1, stuck, parted + (len(sites) > 1) - before)
        sites[node] -= 1
        if not sites[node]:
            del sites[node]

    def _has(self, guest: GuestFacts) -> bool:
        return guest.name in self.plan.chosen
