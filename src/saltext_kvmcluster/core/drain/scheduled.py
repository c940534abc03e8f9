"""When a balance by schedule is due, and which of its moves are worth it."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from saltext_kvmcluster.core.drain.load import Capacity, capacity_of
from saltext_kvmcluster.core.drain.placement import Placement
from saltext_kvmcluster.core.drain.plan import Step
from saltext_kvmcluster.core.facts.nodefacts import GuestFacts
from saltext_kvmcluster.core.pillar.balancing import OFF, PROPOSE, Balance
from saltext_kvmcluster.core.readiness.checks.base import World
from saltext_kvmcluster.core.text import counted, listed, printable
from saltext_kvmcluster.core.untrusted import Reader

HOUR = 3600.0
MOST_APART = 3600.0
"""Seconds between two looks that count as one time."""


@dataclass(frozen=True)
class Memory:
    """What outlives a call. Times are in seconds since 1970.

    ``since``: when what is due was seen first, of all looks without a gap; None if it was not at
    the last one, ``last``. ``moves``: when each move of the last hour was begun.
    """

    since: float | None = None
    last: float = 0.0
    moves: tuple[float, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Return it as plain data."""
        return {"since": self.since, "last": self.last, "moves": list(self.moves)}

    def looked(self, now: float, is_due: bool) -> Memory:
        """Return what is remembered after a look."""
        is_one_time = self.since is not None and 0 <= now - self.last <= MOST_APART
        since = (self.since if is_one_time else now) if is_due else None
        return Memory(since, now, self.recent(now))

    def recent(self, now: float) -> tuple[float, ...]:
        """Return the moves of the last hour; one in the future, by a clock that was set, is one."""
        return tuple(at for at in self.moves if now - at < HOUR)

    def with_moves(self, now: float, number: int) -> Memory:
        """Return what is remembered once so many moves are begun."""
        return replace(self, moves=(*self.recent(now), *[now] * number))


def memory_of(raw: object) -> Memory:
    """Return what was remembered, by its data; InputError where that is none.

    Salt's cache has an empty mapping where nothing was stored, and None for a file that is empty:
    one that a crash of the machine has left.
    """
    if raw == {}:
        return Memory()
    sent = Reader(raw)
    moves = tuple(item.number() for item in sent.at("moves").items())
    since = sent.at("since").number(default=-1.0)
    return Memory(since if since >= 0 else None, sent.at("last").number(), moves)


@dataclass(frozen=True)
class Look:
    """What a call by schedule has seen, and whether anything is due; ``why`` says why not."""

    mode: str
    due: bool
    why: str
    imbalance: float | None = None
    since: float | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return it as plain data."""
        found = self.imbalance
        return {
            "mode": self.mode,
            "due": self.due,
            "why": self.why,
            "imbalance": None if found is None else round(found, 3),
        }


def closed(policy: Balance, now: datetime, held: str) -> str:
    """Return why nothing is even looked at; empty if it is.

    now
        In the master's own time zone.
    held
        Which other run is at work on this master, empty if none is.
    """
    if policy.mode == OFF:
        return "kvmcluster:balance:mode is off"
    if held:
        return held
    return "" if policy.allows(now) else f"it is {now:%a %H:%M}, outside of its days and hours"


def hindrance(world: World) -> str:
    """Return why nothing is moved by itself as the cluster is; empty if nothing hinders that."""
    silent = [node for node, facts in world.nodes.items() if facts.guests is None]
    if silent:
        return f"no response from {listed(silent)}: nothing is moved by itself meanwhile"
    unknown = [
        node for node, one in world.nodes.items() if not one.memory_kib or one.free_kib is None
    ]
    if unknown:
        return f"the memory of {listed(unknown)} is not known, so that the imbalance is not, either"
    busy = sorted({one.name for one in world.guests if one.observation.job})
    if busy:
        return f"{listed(map(printable, busy))} is migrating, or has another job"
    views = [facts.pacemaker for facts in world.nodes.values() if facts.pacemaker]
    acting = sorted(
        {
            name
            for view in views
            for name, state in (view.status.resources if view.status else {}).items()
            if state.busy or state.moving
        }
    )
    return f"Pacemaker acts on {listed(map(printable, acting))}" if acting else ""


def imbalance_of(world: World) -> float:
    """Return how uneven the load of the nodes is that take guests: 0 is even."""
    return _imbalance(_places(world).values())


def look(
    policy: Balance, memory: Memory, now: float, imbalance: float, mends: int
) -> tuple[Look, Memory]:
    """Return whether moves are due, and what is remembered then.

    mends
        How many moves would mend rules of the pillar.
    """
    what = [f"imbalance {imbalance:.2f}, {policy.threshold:g} is accepted"]
    if mends:
        what.append(f"{counted(mends, 'move')} would mend groups")
    known = memory.looked(now, imbalance > policy.threshold or mends > 0)
    found = Look(policy.mode, False, "; ".join(what), imbalance, known.since)
    if known.since is None:
        return found, known
    lasted = now - known.since
    if lasted < policy.lasts:
        words = f"for {lasted:.0f} s so far, {policy.lasts} s are waited for"
        return replace(found, why=f"{found.why}; {words}"), known
    if len(known.moves) >= policy.hourly and policy.mode != PROPOSE:
        words = f"{len(known.moves)} moves within the last hour, {policy.hourly} are allowed"
        return replace(found, why=f"{found.why}; {words}"), known
    return replace(found, due=True, why=f"{found.why}; for {lasted:.0f} s"), known


def worthwhile(world: World, plan: Placement, policy: Balance) -> Placement:
    """Return a plan without the moves for the load that do not take enough of the imbalance away.

    Nor is there any where the imbalance is accepted.
    """
    places = _places(world)
    before = _imbalance(places.values())
    guests = {(one.node, one.name): one for one in world.guests}
    kept: list[Step] = []
    for number, step in enumerate(plan.steps):
        guest = guests[step.move.source, step.move.guest]
        _move(places, guest, step)
        after = _imbalance(places.values())
        is_last = number + 1 == len(plan.steps) or plan.steps[number + 1].why != step.why
        if step.mends:
            before = after
        elif before <= policy.threshold or (is_last and after > before * (1 - policy.improvement)):
            break
        elif is_last:
            before = after
        kept.append(step)
    while kept and len(kept) < len(plan.steps) and _is_half(kept[-1], plan.steps[len(kept)]):
        kept.pop()
    return replace(plan, steps=tuple(kept))


def _is_half(step: Step, following: Step) -> bool:
    """Whether a move is one of a group, whose next one is left out."""
    return not step.mends and step.why == following.why


def _move(places: Mapping[str, Capacity], guest: GuestFacts, step: Step) -> None:
    if step.move.source in places:
        places[step.move.source].lose(guest)
    if step.move.destination in places:
        places[step.move.destination].reserve(guest)


def _places(world: World) -> dict[str, Capacity]:
    nodes = world.nodes.items()
    return {node: capacity_of(facts) for node, facts in nodes if not facts.cordoned}


def _imbalance(places: Iterable[Capacity]) -> float:
    shares = [place.load().share for place in places]
    mean = statistics.fmean(shares) if shares else 0.0
    return statistics.pstdev(shares) / mean if mean > 0 else 0.0
