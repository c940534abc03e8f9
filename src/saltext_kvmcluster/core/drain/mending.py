"""Mends what of the pillar's rules about places is broken, by as few moves as do it.

First the guests outside of their ``only``, those that are to be apart and are not, and the groups
that are parted; then guests that are better elsewhere by their ``prefer``.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

from saltext_kvmcluster.core.drain import arrangement
from saltext_kvmcluster.core.drain.load import Capacity, memory_of
from saltext_kvmcluster.core.drain.plan import Plan, Step
from saltext_kvmcluster.core.facts.nodefacts import GuestFacts
from saltext_kvmcluster.core.pillar import groups
from saltext_kvmcluster.core.text import MAX_NAMES, counted, listed, printable

MOST_TRIED = 150_000
"""How many places, of one guest each, the search looks at for one knot of broken rules."""
MOST_WAYS = 12
"""How many places of a guest, the least busy ones, the search tries in a knot, besides those of the
others in it and those that the guest prefers."""
MOST_MEMBERS = 40
"""Of how many guests in one knot the search is tried."""

Score = tuple[int, int, int]


@dataclass(frozen=True)
class Broken:
    """The rules that are broken: guests outside of their only, pairs not apart, groups parted."""

    outside: tuple[str, ...]
    pairs: tuple[tuple[str, str], ...]
    parted: tuple[frozenset[str], ...]

    @property
    def names(self) -> set[str]:
        """The guests that are concerned."""
        return {*self.outside, *(one for pair in self.pairs for one in pair)}.union(*self.parted)


def broken(plan: Plan) -> Broken:
    """Return the rules that are broken once the plan is carried out."""
    only = {one.name: one.only for one in plan.world.cluster.guests.list.values() if one.only}
    ruled = only.keys() | plan.apart.keys() | plan.together.keys()
    sites = {name: site for name in sorted(ruled) if (site := plan.site(name))}
    outside = tuple(name for name, site in sites.items() if site not in only.get(name, (site,)))
    by_site: dict[str, set[str]] = defaultdict(set)
    for name, site in sites.items():
        if name in plan.apart:
            by_site[site].add(name)
    pairs = tuple(
        (name, other)
        for name in plan.apart
        if name in sites
        for other in sorted(plan.apart[name] & by_site[sites[name]])
        if name < other
    )
    wholes = {whole: None for name in sites if (whole := plan.together.get(name))}
    parted = tuple(
        whole for whole in wholes if len({sites[name] for name in whole if name in sites}) > 1
    )
    return Broken(outside, pairs, parted)


def mended(plan: Plan, most: int) -> Iterator[Step]:
    """Yield the moves that mend broken rules, at most so many."""
    roomiest = sorted(plan.places.values(), key=lambda place: (place.load().share, place.node))
    for knot in _knots(plan, broken(plan)):
        left = most - len(plan.chosen)
        if left <= 0:
            return
        yield from _Knot(plan, knot, left, roomiest).steps()


def brought(plan: Plan, most: int) -> Iterator[Step]:
    """Yield the moves to better places by ``prefer``, groups as a whole, at most so many."""
    listed_guests = plan.world.cluster.guests.list
    done: set[str] = set()
    for name in sorted(one.name for one in listed_guests.values() if one.prefer):
        if len(plan.chosen) >= most:
            return
        unit = [] if name in done else _unit(plan, name)
        done.update(one.name for one in unit)
        if not unit or len(plan.chosen) + len(unit) > most:
            continue
        here = unit[0].node
        if sum(_rank(plan, one.name, here) for one in unit) == 0:
            continue
        if place := _better(plan, unit):
            words = "a node that it prefers" if len(unit) == 1 else "a node that they prefer"
            plan.choose_all(unit, place, words)
            yield from (plan.step(one, mends=True) for one in unit)


def notes(plan: Plan, most: int) -> list[str]:
    """Return the rules that stay broken, a sentence each, with the reason."""
    found = broken(plan)
    count = len(found.outside) + len(found.pairs) + len(found.parted)
    if count and len(plan.chosen) >= most:
        return [f"{counted(count, 'rule')} of the pillar would still be broken after {most} moves"]
    sentences = [*islice(_sentences(plan, found), MAX_NAMES)]
    if count > len(sentences):
        sentences.append(f"{count - len(sentences)} more rules of the pillar stay broken")
    return sentences


def _sentences(plan: Plan, found: Broken) -> Iterator[str]:
    for name in found.outside:
        only = listed(plan.world.cluster.guests.only(name))
        where = f"{printable(name)} stays on {plan.site(name)}, and its only names {only}"
        yield f"{where}: {_why(plan, name)}"
    for one, other in found.pairs:
        both = f"{printable(one)} and {printable(other)} are to be apart"
        why = f"{printable(one)}: {_why(plan, one)}; {printable(other)}: {_why(plan, other)}"
        yield f"{both}, and stay on {plan.site(one)}: {why}"
    for whole in found.parted:
        here = [name for name in sorted(whole) if plan.site(name)]
        where = listed(f"{printable(name)} on {plan.site(name)}" for name in here)
        yield f"to be on one node, and not brought together: {where}: {plan.why_parted(here)}"


def units_of(plan: Plan, node: str) -> Iterator[list[GuestFacts]]:
    """Yield the guests of a node that may be moved for the load: alone, or a group as a whole.

    A group that is parted is nothing to move for that.
    """
    seen: set[str] = set()
    for guest in plan.world.nodes[node].guests or ():
        if guest.name not in plan.together:
            yield [guest]
        elif guest.name not in seen:
            unit = _unit(plan, guest.name)
            seen.update(one.name for one in unit)
            if unit:
                yield unit


def worsens(plan: Plan, unit: Sequence[GuestFacts], node: str) -> bool:
    """Whether guests would be on a node that they prefer less than their own."""
    return any(_rank(plan, one.name, node) > _rank(plan, one.name, one.node) for one in unit)


def _rank(plan: Plan, guest: str, node: str) -> int:
    """Return how good a node is by ``prefer`` alone: a home is no reason to move or to stay."""
    known = plan.world.cluster.guests.list.get(guest)
    return known.rank(node) if known and known.prefer else 0


def _unit(plan: Plan, name: str) -> list[GuestFacts]:
    """Return a guest with those that are to be on its node, if all can move from one node."""
    names = [one for one in sorted(plan.together.get(name, (name,))) if plan.site(one)]
    if any(one in plan.chosen or one in plan.in_flight for one in names):
        return []
    found = [guest for one in names for guest in plan.world.by_name[one] if guest.active]
    is_one = len(found) == len(names) and len({guest.node for guest in found}) == 1
    return found if is_one and not _is_cordoned(plan, found[0].node) else []


def _better(plan: Plan, unit: Sequence[GuestFacts]) -> Capacity | None:
    """Return the best place for guests that is better by ``prefer`` than where they are."""
    common = -1
    for one in unit:
        common &= plan.open_to(one)
    nodes = {
        node
        for one in unit
        if (known := plan.world.cluster.guests.list.get(one.name))
        for tier in known.prefer
        for node in tier
        if common & plan.bit.get(node, 0)
    }
    now = sum(_rank(plan, one.name, one.node) for one in unit)
    ranked = sorted(
        (rank, place.load(more=unit[0]).share, place.node)
        for place in (plan.places[node] for node in nodes)
        if (rank := sum(_rank(plan, one.name, place.node) for one in unit)) < now
    )
    for _, _, node in ranked:
        if plan.choose_all(unit, plan.places[node], ""):
            for one in unit:
                plan.give_up(one)
            return plan.places[node]
    return None


def _is_cordoned(plan: Plan, node: str) -> bool:
    return bool(plan.world.nodes[node].cordoned)


def _why(plan: Plan, name: str) -> str:
    found = [one for one in plan.world.by_name.get(name, ()) if one.active]
    if name in plan.in_flight:
        return "it is migrating"
    if found and _is_cordoned(plan, found[0].node):
        return f"{found[0].node} is cordoned"
    return plan.why_stuck(found[0]) if found else "it is not active"


def _knots(plan: Plan, found: Broken) -> list[list[GuestFacts]]:
    """Return the guests that rules which are broken tie to each other, the biggest knots last.

    With whom one of them shares a node by rule, it moves.
    """
    ties: list[tuple[str, ...]] = [(name, name) for name in found.outside]
    ties += found.pairs
    ties += [(*sorted(whole),) for whole in found.parted]
    ties += [(*sorted(plan.together[name]),) for name in found.names if name in plan.together]
    joined = groups.joined(ties)
    knots = []
    for whole in dict.fromkeys(joined.values()):
        members = [
            guest
            for name in sorted(whole)
            for guest in plan.world.by_name.get(name, ())
            if guest.active
        ]
        if len({guest.name for guest in members}) == len(members):
            knots.append(arrangement.by_size(members))
    small = sum(map(len, knots)) <= 10
    if small and len(knots) > 1:
        # They may want the same room.
        return [[guest for knot in knots for guest in knot]]
    return sorted(knots, key=lambda knot: (len(knot), knot[0].name if knot else ""))


class _Knot:
    """Finds the moves of a few guests after which the least rules about them are broken."""

    def __init__(
        self, plan: Plan, guests: Sequence[GuestFacts], most: int, roomiest: Sequence[Capacity]
    ) -> None:
        self.plan, self.most, self.left = plan, most, MOST_TRIED
        self.guests = guests[:MOST_MEMBERS]
        self.only = {one.name: plan.world.cluster.guests.only(one.name) for one in guests}
        for guest in self.guests:
            plan.ways[guest.name] = [] if self._stays(guest) else self._ways(guest, roomiest)
        self.best = (*self._score(len(self.guests)), 0, 0)
        self.found: list[tuple[GuestFacts, Capacity]] = []

    def _ways(self, guest: GuestFacts, roomiest: Sequence[Capacity]) -> list[Capacity]:
        """Return where a guest can go: to others of the knot, by its wish, then to most room."""
        plan, open_to = self.plan, self.plan.open_to(guest)
        if not open_to:
            return []
        known = plan.world.cluster.guests.list.get(guest.name)
        nodes = [one.node for one in self.guests]
        nodes += [node for tier in (known.places if known else ()) for node in tier]
        first = [plan.places[node] for node in dict.fromkeys(nodes) if node in plan.places]
        able = (
            place
            for place in (*first, *(place for place in roomiest if place not in first))
            if open_to & plan.bit[place.node] and plan.fits(guest, place)
        )
        return [*islice(able, len(first) + MOST_WAYS)]

    def steps(self) -> Iterator[Step]:
        """Choose the moves, and return them."""
        before = self.best[:3]
        self._try(0, 0)
        if self.best[:3] >= before:
            return
        for guest, place in self.found:
            self.plan.choose(guest, place, "")
        for guest, place in self.found:
            self.plan.chosen[guest.name] = guest, place, self._words(guest, place)
            yield self.plan.step(guest, mends=True)

    def _words(self, guest: GuestFacts, place: Capacity) -> str:
        """Return for which rule a guest moves."""
        plan, here = self.plan, guest.node
        if self.only[guest.name] and here not in self.only[guest.name]:
            return f"its only does not name {here}"
        near = [one for one in sorted(plan.apart.get(guest.name, ())) if plan.at.get(one) == here]
        if near:
            return f"to be apart from {listed(map(printable, near))}"
        mates = [mate for mate in plan.mates(guest.name) if plan.site(mate) == place.node]
        if mates:
            return f"to be with {listed(map(printable, mates))}"
        return "so that its group can be kept"

    def _stays(self, guest: GuestFacts) -> bool:
        return guest.name in self.plan.in_flight or _is_cordoned(self.plan, guest.node)

    def _try(self, number: int, moves: int) -> None:
        """Decide about the guests from one on, given how many move so far."""
        score = (*self._score(number), moves, 0)
        if self.left <= 0 or score > self.best:
            return
        if number == len(self.guests):
            chosen = [self.plan.chosen[one.name][:2] for one in self.guests if self._moves(one)]
            score = (*score[:4], sum(memory_of(one) for one, _ in chosen))
            if score < self.best:
                self.best, self.found = score, chosen
            return
        guest, plan = self.guests[number], self.plan
        ways = plan.ways[guest.name] if moves < self.most else []
        self.left -= 1 + len(ways)
        self._try(number + 1, moves)
        fit = [place for place in ways if plan.fits(guest, place)]
        fit.sort(key=lambda place: plan.preference(guest, place))
        for place in fit:
            plan.choose(guest, place, "")
            self._try(number + 1, moves + 1)
            plan.give_up(guest)

    def _moves(self, guest: GuestFacts) -> bool:
        return guest.name in self.plan.chosen

    def _score(self, number: int) -> Score:
        """Return how many rules are broken by the first so many guests, and by all others."""
        plan = self.plan
        open_ones = {one.name for one in self.guests[number:]}
        sites = {one.name: plan.site(one.name) for one in self.guests[:number]}
        outside = sum(
            bool(self.only[name]) and site not in self.only[name] for name, site in sites.items()
        )
        pairs = {
            (*sorted((name, other)),)
            for name, site in sites.items()
            for other in plan.apart.get(name, ())
            if other not in open_ones and plan.site(other) == site
        }
        wholes = {plan.together[name] for name in sites if name in plan.together}
        parted = sum(
            len({site for name in whole - open_ones if (site := plan.site(name))}) > 1
            for whole in wholes
        )
        return outside, len(pairs), parted
