"""Evens out the nodes' load by the few moves that help most; groups move as a whole."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from saltext_kvmcluster.core.drain import mending
from saltext_kvmcluster.core.drain.load import Capacity, has_room, memory_of, vcpus_of
from saltext_kvmcluster.core.drain.plan import Plan, Step
from saltext_kvmcluster.core.facts.nodefacts import GuestFacts
from saltext_kvmcluster.core.migration.migration import Move
from saltext_kvmcluster.core.text import listed, printable

NOTICEABLE = 0.02
"""By how much a move has to make the busier of its two nodes less busy, to be worth it."""
FEW = 50
"""How many nodes, the least busy that it may go to, are looked at for each guest to even out."""

_Relief = tuple[float, float, str, str, Sequence[GuestFacts]]
"""The share of the busier of two nodes afterwards, that of the destination, names, the guests."""


def evened(plan: Plan, most: int) -> Iterator[Step]:
    """Yield the moves that even out the load most, one after another.

    most
        At most so many guests go anywhere, those that the plan has already included.
    """
    nodes = plan.world.nodes
    # Who takes guests off a cordoned node drains it.
    places = [place for place in plan.places.values() if not nodes[place.node].cordoned]
    spent: set[str] = set()
    while len(plan.chosen) < most:
        places.sort(key=lambda place: (place.load().share, place.node))
        sources = [place for place in places if place.node not in spent]
        for source in sorted(sources, key=lambda place: (-place.load().share, place.node)):
            steps = _relief(plan, source, places, most - len(plan.chosen))
            if steps:
                yield from steps
                break
            spent.add(source.node)
        else:
            return


def _relief(plan: Plan, source: Capacity, places: list[Capacity], most: int) -> list[Step]:
    """Plan what relieves a node most; nothing if none does so noticeably.

    places
        All nodes, the least busy first.
    """
    found = min(_reliefs(plan, source, places, most), key=lambda one: one[:-1], default=None)
    if found is None:
        return []
    busier, _, _, node, unit = found
    before, place = source.load(), plan.places[node]
    for guest in unit:
        plan.choose(guest, place, "")
        source.lose(guest)
    mates = f"with {listed(printable(one.name) for one in unit)}, " if len(unit) > 1 else ""
    why = (
        f"{mates}lowers the higher load of the two nodes from {before.share:.2f} to {busier:.2f}:"
        f" then {source.node} has {source.load()}, and {node} {place.load()}"
    )
    return [Step(Move(one.name, one.uuid, source.node, node), why) for one in unit]


def _reliefs(plan: Plan, source: Capacity, places: list[Capacity], most: int) -> Iterator[_Relief]:
    """Yield each noticeable relief."""
    bar = source.load().share - NOTICEABLE
    for unit in mending.units_of(plan, source.node):
        open_to = _open_to(plan, unit) if len(unit) <= most else 0
        if not open_to:
            continue
        guest = unit[0] if len(unit) == 1 else _as_one(unit)
        left = source.load(less=guest).share
        looked_at = 0
        for place in places if left <= bar else ():
            if looked_at == FEW or place.load().share > bar:
                break
            if open_to & plan.bit[place.node]:
                looked_at += 1
                there = place.load(more=guest).share
                if max(left, there) <= bar and _fits(plan, unit, guest, place):
                    yield max(left, there), there, guest.name, place.node, unit


def _open_to(plan: Plan, unit: Sequence[GuestFacts]) -> int:
    """Return the nodes to which all guests of a unit may go, as bits."""
    open_to = -1
    for guest in unit:
        if guest.name in plan.chosen or guest.name in plan.in_flight:
            return 0
        open_to &= plan.open_to(guest)
    return open_to


def _as_one(unit: Sequence[GuestFacts]) -> GuestFacts:
    """Return a guest that needs as much as several."""
    memory, vcpus = sum(map(memory_of, unit)), sum(map(vcpus_of, unit))
    return replace(unit[0], guest=None, memory_kib=memory, vcpus=vcpus)


def _fits(plan: Plan, unit: Sequence[GuestFacts], guest: GuestFacts, place: Capacity) -> bool:
    return (
        has_room(plan.world, guest, place)
        and not any(plan.others(one, place) for one in unit)
        and not mending.worsens(plan, unit, place.node)
    )
