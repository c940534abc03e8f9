"""Which guest goes where: when a node is drained, when it is back, when others have more to do.

The pillar's rules are kept by it: ``apart`` and ``only`` always, ``with`` and ``prefer`` where the
guests find places so.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

from saltext_kvmcluster.core.drain import arrangement, evening, mending
from saltext_kvmcluster.core.drain.plan import NOTHING, Plan, Step
from saltext_kvmcluster.core.errors import WorldError
from saltext_kvmcluster.core.facts.nodefacts import GuestFacts
from saltext_kvmcluster.core.migration.migration import Move
from saltext_kvmcluster.core.readiness.checks.base import World
from saltext_kvmcluster.core.readiness.report import Readiness
from saltext_kvmcluster.core.readiness.subjects import no_such_guest
from saltext_kvmcluster.core.text import listed, printable


@dataclass(frozen=True)
class Placement:
    """A plan: its steps, the biggest guest first, and for each guest that is stuck every reason.

    ``notes`` say which of the pillar's rules stay broken, and why.
    """

    steps: tuple[Step, ...]
    stuck: Mapping[str, str]
    notes: tuple[str, ...] = ()


def drain(
    world: World,
    readiness: Readiness,
    node: str,
    avoid: Mapping[str, Collection[str]] = NOTHING,
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
    plan = Plan(world, readiness, avoid, in_flight)
    return _placed(plan, [guest for guest in facts.guests if guest.active])


def home(
    world: World,
    readiness: Readiness,
    here: str,
    avoid: Mapping[str, Collection[str]] = NOTHING,
    in_flight: Iterable[Move] = (),
) -> Placement:
    """Plan to bring home those whose home a node is, or that prefer it most, from elsewhere.

    Who is to be on one node with them comes along, unless it has another home; a group that cannot
    come as a whole stays. Those that run nowhere are nobody's to move. Parameters and errors as of
    `drain`; ``readiness`` of all guests, to that node at least.
    """
    world.cluster.node(here)
    residents = {
        one.name for one in world.cluster.guests.list.values() if here in (one.places or ((),))[0]
    }
    plan = Plan(world, readiness, avoid, in_flight, only=here)
    found = [guest for guest in world.guests if guest.active and guest.name in residents]
    away = [guest for guest in found if guest.node != here]
    placed = _placed(plan, [*away, *_followers(plan, away, residents, here)], parts=False)
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
    placed = _placed(Plan(world, readiness), found[:1])
    if placed.stuck:
        raise WorldError(f"{printable(guest)} was not migrated: {placed.stuck[guest]}")
    return placed.steps[0]


def balance(
    world: World,
    readiness: Readiness,
    most: int,
    avoid: Mapping[str, Collection[str]] = NOTHING,
    in_flight: Iterable[Move] = (),
) -> Placement:
    """Plan the few moves that mend the pillar's rules, then those that even out the load.

    First guests outside of their ``only``, guests that are to be apart, groups that are parted, and
    guests that prefer another node. Then the busiest node that can be relieved is, again and again,
    by the move after which the busier of its two nodes is the least busy (see `Load`). That has to
    be NOTICEABLE less than before; no rule is broken for it. Nobody is stuck.

    most
        At most so many moves are planned; they come in the order in which they help.

    Other parameters as of `drain`; ``readiness`` of all guests, to all nodes.
    """
    plan = Plan(world, readiness, avoid, in_flight)
    steps = [*mending.mended(plan, most), *mending.brought(plan, most)]
    steps += evening.evened(plan, most)
    return Placement(tuple(steps), {}, tuple(mending.notes(plan, most)))


def _placed(plan: Plan, guests: Iterable[GuestFacts], parts: bool = True) -> Placement:
    """Return the plan in which as many as possible of some guests have a place.

    parts
        Whether groups that are together may be parted by it.
    """
    by_name = {guest.name: guest for guest in guests if guest.name not in plan.in_flight}
    whole = {} if parts else _whole(plan, by_name)
    left = arrangement.arrange(plan, by_name.values())
    for name in whole:
        mates = [mate for mate in plan.together[name] if mate in plan.at]
        if name in plan.chosen and len({plan.site(mate) for mate in mates}) > 1:
            plan.give_up(by_name[name])
    steps = [plan.step(one) for one in arrangement.by_size(by_name.values()) if _goes(plan, one)]
    stuck = {guest.name: plan.why_stuck(guest) for guest in left}
    held = {name: _held(plan, name, stuck) for name in whole if name not in plan.chosen}
    return Placement(tuple(steps), {**held, **stuck})


def _goes(plan: Plan, guest: GuestFacts) -> bool:
    return guest.name in plan.chosen


def _whole(plan: Plan, names: Iterable[str]) -> list[str]:
    """Return those of some guests whose group is on one node now."""
    return [
        name
        for name in names
        if name in plan.together
        and len({plan.site(mate) for mate in plan.together[name]} - {None}) == 1
    ]


def _held(plan: Plan, name: str, stuck: Mapping[str, str]) -> str:
    """Return why a guest stays with its group."""
    mates = [mate for mate in plan.mates(name) if mate in stuck] or plan.mates(name)
    why = next((f": {stuck[mate]}" for mate in mates if mate in stuck), ", which stays")
    return f"to be on one node with {listed(map(printable, mates))}{why}"


def _followers(
    plan: Plan, guests: Iterable[GuestFacts], residents: Collection[str], here: str
) -> list[GuestFacts]:
    """Return who comes along with guests that come home: of their groups, whose home is nowhere
    else."""
    found: dict[str, GuestFacts] = {}
    known = plan.world.cluster.guests.list
    for guest in guests:
        for mate in plan.mates(guest.name):
            is_free = mate not in known or not known[mate].places or known[mate].rank(here) == 0
            for one in plan.world.by_name.get(mate, ()):
                if one.active and one.node != here and is_free and mate not in residents:
                    found[mate] = one
    return list(found.values())
