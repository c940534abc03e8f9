"""Many moves carried out together: which is next, what came of each, when to plan anew.

A plan holds for as long as all goes well. The first move that fails makes the rest of it old: what
kept one guest away may keep the others away, too, so no further one is told to a node before there
is a new plan; what a node was told already it begins when there is a place.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from saltext_kvmcluster.core.drain.placement import Placement, Step
from saltext_kvmcluster.core.migration.migration import CANCELLED, MOVED, NOT_MOVED, UNKNOWN, Move
from saltext_kvmcluster.core.pillar.clusters import Cluster
from saltext_kvmcluster.core.text import printable

AHEAD = 2
"""How many more than may be under way are told to a source, so that the next ones are ready."""
ATTEMPTS = 3
"""To how many nodes, one after another, it is tried to move one guest."""
SHOWN = ("guest", "uuid", "source", "destination", "result", "reason", "elapsed", "downtime_ms")


@dataclass
class Batch:
    """The moves of a plan, and of those that replace it, within the cluster's limits.

    ``coming`` are the moves that were begun and whose end is not known yet, by guest. ``ended``
    are results as `migrate` returns them. ``avoid`` are the nodes to which a guest was tried to
    move in vain, ``given_up`` the guests that are not tried again, each with the reason.
    """

    cluster: Cluster
    in_flight: dict[str, Move] = field(default_factory=dict)
    ended: list[dict[str, Any]] = field(default_factory=list)
    avoid: dict[str, list[str]] = field(default_factory=dict)
    given_up: dict[str, str] = field(default_factory=dict)
    stuck: Mapping[str, str] = field(default_factory=dict)
    is_old: bool = False
    waiting: list[Step] = field(default_factory=list)

    def follow(self, plan: Placement) -> None:
        """Go on by a plan, in place of the one before."""
        gone = self.in_flight.keys() | self.given_up.keys()
        self.waiting = [step for step in plan.steps if step.move.guest not in gone]
        self.stuck = {guest: why for guest, why in plan.stuck.items() if guest not in gone}
        self.is_old = False

    def due(self) -> Move | None:
        """Return the next move that there is a place for, and count it as begun."""
        limits = self.cluster.migration
        leaving = Counter(move.source for move in self.in_flight.values())
        arriving = Counter(move.destination for move in self.in_flight.values())
        for step in () if self.is_old else self.waiting:
            move = step.move
            full = leaving[move.source] >= limits.max_outgoing + AHEAD
            if not full and arriving[move.destination] < limits.max_incoming + AHEAD:
                self.waiting.remove(step)
                self.in_flight[move.guest] = move
                return move
        return None

    def end(self, guest: str, result: Mapping[str, Any]) -> None:
        """Take in what came of a move.

        One that is not moved is tried elsewhere, unless somebody cancelled it, or it is not known
        what came of it.
        """
        move = self.in_flight.pop(guest)
        result = _about(move, result)
        self.ended.append({**dict.fromkeys(SHOWN), **dict(result), **asdict(move)})
        if result["result"] == MOVED:
            return
        self.is_old = True
        tried = self.avoid.setdefault(guest, [])
        tried.append(move.destination)
        if result["result"] != NOT_MOVED:
            there = f"it is not known what came of its move to {move.destination}"
            self.given_up[guest] = f"{there}: {result['reason']}"
        elif CANCELLED in str(result["reason"]):
            self.given_up[guest] = str(result["reason"])
        elif len(tried) >= ATTEMPTS:
            self.given_up[guest] = f"{len(tried)} attempts failed; the last one: {result['reason']}"

    @property
    def unsettled(self) -> list[Move]:
        """The moves of which it is not known what came of them."""
        last = {row["guest"]: row for row in self.ended}
        return [
            Move(guest, row["uuid"], row["source"], row["destination"])
            for guest, row in last.items()
            if guest in self.given_up and row["result"] == UNKNOWN
        ]

    def settle(self, move: Move, found: Mapping[str, Any]) -> None:
        """Take in where a guest of which it was not known has been found by all nodes."""
        if found["result"] == MOVED:
            self.ended.append({**dict.fromkeys(SHOWN), **dict(found), **asdict(move)})
        if found["result"] == MOVED or found["owner"] == move.source:
            del self.given_up[move.guest]
            self.is_old = True

    def line(self) -> str:
        """Return one line that says how far it is."""
        there = ", ".join(f"{one.guest} -> {one.destination}" for one in self.in_flight.values())
        return printable(
            f"{len(self.moved)} moved, {len(self.failed)} not, {len(self.waiting)} to go; under"
            f" way, or next: {there or 'none'}"
        )

    @property
    def moved(self) -> list[dict[str, Any]]:
        """The moves that went well."""
        return [self._shown(row) for row in self.ended if row["result"] == MOVED]

    @property
    def failed(self) -> list[dict[str, Any]]:
        """The moves that did not, and those of which it is not known."""
        return [self._shown(row) for row in self.ended if row["result"] != MOVED]

    @staticmethod
    def _shown(row: Mapping[str, Any]) -> dict[str, Any]:
        return {key: row[key] for key in SHOWN}


def _about(move: Move, result: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return what came of a move; an answer about something else tells nothing of it."""
    there = result["result"] != MOVED or result.get("owner") == move.destination
    if result.get("uuid", move.uuid) == move.uuid and there:
        return result
    detail = f"what {move.source} answered is not about this move: {printable(str(result)[:300])}"
    return {"result": UNKNOWN, "reason": detail}
