"""How far a run over many moves is: what is done, at which rate, and when it is expected to end.

What was not seen is unknown: there is no rate before some guests have moved, and no expected end
while the rest is planned anew.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from saltext_kvmcluster.core.drain.batch import Batch
from saltext_kvmcluster.core.errors import InputError
from saltext_kvmcluster.core.migration.migration import Move
from saltext_kvmcluster.core.text import printable
from saltext_kvmcluster.core.untrusted import Reader

ENOUGH = 2
"""So many things have to be done before there is a rate: one alone shows nothing of the next."""
MINUTE, HOUR = 60.0, 3600.0


@dataclass(frozen=True)
class BatchProgress:
    """How far it is, in guests.

    ``total`` are those that have moved or are to move. ``failed`` are attempts, as in the report.
    ``stuck`` are the guests that are not moved, or no longer. ``began`` is the time of day, UTC,
    ``elapsed`` the seconds since then. ``is_stale``: the rest is planned anew.
    """

    total: int
    moved: int
    failed: int
    waiting: int
    stuck: int
    in_flight: tuple[Move, ...]
    is_stale: bool
    began: str
    elapsed: float

    @property
    def done(self) -> str:
        """What is done, as words."""
        return f"{self.moved}/{self.total} moved, {self.failed} failed"

    @property
    def rate(self) -> float | None:
        """Guests a minute since it began, None if that is not known."""
        if self.moved < ENOUGH or self.elapsed <= 0:
            return None
        return self.moved * MINUTE / self.elapsed

    @property
    def left(self) -> float | None:
        """The seconds that the rest is expected to take, None if that is not known."""
        if self.rate is None or self.is_stale:
            return None
        return (self.waiting + len(self.in_flight)) * MINUTE / self.rate

    def to_dict(self) -> dict[str, Any]:
        """Return it as plain data, for ``parse`` and for whoever watches."""
        moves = [asdict(move) for move in self.in_flight]
        return {**asdict(self), "in_flight": moves, "rate": self.rate, "left": self.left}

    def line(self) -> str:
        """Return one line that says how far it is; what matters most comes first."""
        moves = ", ".join(f"{one.guest} -> {one.destination}" for one in self.in_flight)
        words = [
            self.figures(),
            *([f"{self.stuck} stuck"] if self.stuck else []),
            f"{self.waiting} waiting",
        ]
        return printable(f"{', '.join(words)}; in flight: {moves or 'none'}")

    def figures(self) -> str:
        """Return what is done, the rate and the expected end."""
        if self.is_stale:
            return f"{self.done}, the rest is planned anew"
        rate = "" if self.rate is None else f", {pace(self.rate, 'guest')}"
        return f"{self.done}{rate}, {expected(self.left)}"


def of(batch: Batch, began: str, elapsed: float) -> BatchProgress:
    """Return how far a batch is."""
    arrived = batch.arrived & batch.in_flight.keys()
    idle = (batch.idle & batch.in_flight.keys()) - arrived
    begun = [move for guest, move in batch.in_flight.items() if guest not in idle | arrived]
    moved = {row["guest"] for row in batch.moved} | arrived
    to_move = {step.move.guest for step in batch.waiting} | batch.in_flight.keys()
    tried = {row["guest"] for row in batch.ended}
    stays = (batch.stuck.keys() | batch.given_up.keys()) - moved
    return BatchProgress(
        total=len(moved | to_move | tried),
        moved=len(moved),
        failed=len(batch.failed),
        waiting=len(batch.waiting) + len(idle),
        stuck=len(stays),
        in_flight=tuple(begun),
        is_stale=batch.is_stale,
        began=began,
        elapsed=round(elapsed, 1),
    )


def parse(data: object) -> BatchProgress | None:
    """Return progress that was published; None if it cannot be read."""
    read = Reader(data)
    try:
        return BatchProgress(
            total=read.at("total").whole(),
            moved=read.at("moved").whole(),
            failed=read.at("failed").whole(),
            waiting=read.at("waiting").whole(),
            stuck=read.at("stuck").whole(),
            in_flight=tuple(_move(one) for one in read.at("in_flight").items()),
            is_stale=read.at("is_stale").flag(),
            began=read.at("began").line(),
            elapsed=read.at("elapsed").number(),
        )
    except InputError:
        return None


def pace(rate: float, noun: str) -> str:
    """Return a number of things a minute, or an hour where that says more."""
    if rate >= 1:
        return f"{rate:.1f} {noun}s/min"
    return f"{rate * HOUR / MINUTE:.1f} {noun}s/h"


def expected(left: float | None) -> str:
    """Return in how long something is expected to end, as people say it."""
    if left is None:
        return "time left unknown"
    if left < 2 * MINUTE:
        return f"about {max(5, 5 * round(left / 5))} s left"
    if left < 2 * HOUR:
        return f"about {left / MINUTE:.0f} min left"
    return f"about {left / HOUR:.1f} h left"


def _move(read: Reader) -> Move:
    keys = ("guest", "uuid", "source", "destination")
    return Move(*(read.at(key).line() for key in keys))
