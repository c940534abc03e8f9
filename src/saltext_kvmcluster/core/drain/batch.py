"""Many migrations of one plan: which is next, what came of each, when to plan anew.

A plan holds for as long as all goes well. The first migration that fails makes the rest of it
stale: what kept one guest away may keep the others away, too. So nothing further is begun before
there is a new plan.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from saltext_kvmcluster.core.drain.placement import Placement
from saltext_kvmcluster.core.drain.plan import Step
from saltext_kvmcluster.core.migration.migration import CANCELLED, MOVED, NOT_MOVED, UNKNOWN, Move
from saltext_kvmcluster.core.pillar.clusters import Cluster
from saltext_kvmcluster.core.text import printable

ATTEMPTS = 3
"""To how many nodes, one after another, a guest's migration is attempted."""
SHOWN = ("guest", "uuid", "source", "destination", "result", "reason", "elapsed", "downtime_ms")


@dataclass
class Batch:
    """The moves of a plan, and of those that replace it, within the cluster's limits.

    ``in_flight`` are the moves that were begun, or handed over to their node, and have no result
    yet, by guest. Of these, ``idle`` are not begun as far as is known, and ``arrived`` are said to
    have moved: both are for people. ``ended`` are results as `migrate` returns them. ``avoid`` are,
    by guest, the nodes to which its migration failed, ``given_up`` the guests that are not retried,
    each with the reason. ``others`` are the moves that others started, as the nodes reported them,
    by guest; ``known`` all guests of all plans.
    """

    cluster: Cluster
    in_flight: dict[str, Move] = field(default_factory=dict)
    idle: set[str] = field(default_factory=set)
    arrived: set[str] = field(default_factory=set)
    ended: list[dict[str, Any]] = field(default_factory=list)
    avoid: dict[str, list[str]] = field(default_factory=dict)
    given_up: dict[str, str] = field(default_factory=dict)
    stuck: Mapping[str, str] = field(default_factory=dict)
    others: dict[str, Move] = field(default_factory=dict)
    known: set[str] = field(default_factory=set)
    is_stale: bool = False
    waiting: list[Step] = field(default_factory=list)

    def follow(self, plan: Placement) -> None:
        """Go on by a plan, in place of the one before."""
        gone = self.in_flight.keys() | self.given_up.keys()
        self.waiting = [step for step in plan.steps if step.move.guest not in gone]
        self.stuck = {guest: why for guest, why in plan.stuck.items() if guest not in gone}
        self.known |= {step.move.guest for step in plan.steps} | plan.stuck.keys()
        self.is_stale = False

    def due(self) -> Move | None:
        """Return the next move that the limits allow, and count it as begun."""
        limits = self.cluster.migration
        leaving = Counter(move.source for move in self.in_flight.values())
        arriving = Counter(move.destination for move in self.in_flight.values())
        for step in () if self.is_stale else self.waiting:
            move = step.move
            full = leaving[move.source] >= limits.max_outgoing
            if not full and arriving[move.destination] < limits.max_incoming:
                self.waiting.remove(step)
                self.in_flight[move.guest] = move
                return move
        return None

    def hand_over(self) -> dict[str, list[Move]]:
        """Return the moves that wait, by source; each source carries out its own, in this order."""
        lists: dict[str, list[Move]] = {}
        while self.waiting and not self.is_stale:
            move = self.waiting.pop(0).move
            self.in_flight[move.guest] = move
            self.idle.add(move.guest)
            lists.setdefault(move.source, []).append(move)
        return lists

    def take_back(self, guest: str) -> None:
        """Take in that a move was not begun, and is not any more by the list of its node."""
        del self.in_flight[guest]
        self.is_stale = True

    def end(self, guest: str, result: Mapping[str, Any]) -> None:
        """Take in the result of a move.

        A guest that has not moved is tried elsewhere, unless its migration was cancelled, or its
        result is unknown.
        """
        move = self.in_flight.pop(guest)
        self.arrived.discard(guest)
        result = _about(move, result)
        self.ended.append({**dict.fromkeys(SHOWN), **dict(result), **asdict(move)})
        if result["result"] == MOVED:
            return
        self.is_stale = True
        tried = self.avoid.setdefault(guest, [])
        tried.append(move.destination)
        if result["result"] != NOT_MOVED:
            detail = f"the result of its migration to {move.destination} is unknown"
            self.given_up[guest] = f"{detail}: {result['reason']}"
        elif CANCELLED in str(result["reason"]):
            self.given_up[guest] = str(result["reason"])
        elif len(tried) >= ATTEMPTS:
            self.given_up[guest] = f"{len(tried)} attempts failed; last: {result['reason']}"

    @property
    def unsettled(self) -> list[Move]:
        """The moves whose result is unknown."""
        last = {row["guest"]: row for row in self.ended}
        return [
            Move(guest, row["uuid"], row["source"], row["destination"])
            for guest, row in last.items()
            if guest in self.given_up and row["result"] == UNKNOWN
        ]

    def settle(self, move: Move, found: Mapping[str, Any]) -> None:
        """Take in where all nodes have found a guest whose move had an unknown result."""
        if found["result"] == MOVED:
            self.ended.append({**dict.fromkeys(SHOWN), **dict(found), **asdict(move)})
        if found["result"] == MOVED or found["owner"] == move.source:
            del self.given_up[move.guest]
            self.is_stale = True

    def unrecorded(self, node: str, recorded: Iterable[Mapping[str, Any]]) -> list[Move]:
        """Return the moves that others started away from a node, and whose end is not known.

        recorded
            The moves away from the node that it has recorded.
        """
        ends = {(row["uuid"], row["destination"]) for row in recorded}
        known = {row["guest"] for row in self.moved} | self.given_up.keys() | self.in_flight.keys()
        return [
            move
            for guest, move in self.others.items()
            if move.source == node
            and guest not in known
            and (move.uuid, move.destination) not in ends
        ]

    def adopt(self, move: Move, found: Mapping[str, Any]) -> None:
        """Take in where all nodes have found a guest that others had started to migrate."""
        self.in_flight[move.guest] = move
        self.end(move.guest, found)

    def note_left(self, guests: Iterable[str]) -> None:
        """Take in which guests are left; one that the plan did not know makes it stale."""
        self.is_stale = bool(set(guests).difference(self.stuck, self.given_up, self.in_flight))

    @property
    def moved(self) -> list[dict[str, Any]]:
        """The migrations that succeeded."""
        return [self._shown(row) for row in self.ended if row["result"] == MOVED]

    @property
    def failed(self) -> list[dict[str, Any]]:
        """The migrations that failed, and those whose result is unknown."""
        return [self._shown(row) for row in self.ended if row["result"] != MOVED]

    @staticmethod
    def _shown(row: Mapping[str, Any]) -> dict[str, Any]:
        return {key: row[key] for key in SHOWN}


def _about(move: Move, result: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the result of a move; a response about something else leaves it unknown."""
    is_there = result["result"] != MOVED or result.get("owner") == move.destination
    if result.get("uuid", move.uuid) == move.uuid and is_there:
        return result
    detail = (
        f"unexpected response from {move.source}, not about this migration:"
        f" {printable(str(result)[:300])}"
    )
    return {"result": UNKNOWN, "reason": detail}
