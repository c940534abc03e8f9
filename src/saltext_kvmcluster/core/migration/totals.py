"""The sums over all migrations that a node has ever begun, for counters, which never go back.

A node keeps its last migrations only, and the sums over those that it has dropped: both in one
file, which is replaced as a whole, so that each migration counts once.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from saltext_kvmcluster.core.migration.migration import MOVED, NOT_MOVED, UNKNOWN
from saltext_kvmcluster.core.untrusted import Reader

DROPPED = "dropped"
"""The key of the line of a history that holds the sums over what it no longer has."""
RESULTS = (MOVED, NOT_MOVED, UNKNOWN)
SECONDS = (1.0, 2.0, 5.0, 10.0, 20.0, 60.0, 120.0, 300.0, 600.0, 1800.0, 7200.0)
DOWNTIME = (0.02, 0.05, 0.1, 0.2, 0.3, 0.5, 1.0, 2.0, 5.0, 10.0, 60.0)
"""The upper bounds of what is counted, in seconds; whatever is above the last counts, too."""


@dataclass(frozen=True)
class Spread:
    """How many values lie below which bound: a histogram, and the sum of the values.

    ``counts`` has one more than there are bounds, for the values above all of them.
    """

    bounds: tuple[float, ...]
    counts: tuple[int, ...] = ()
    sum: float = 0.0

    def __post_init__(self) -> None:
        if not self.counts:
            object.__setattr__(self, "counts", (0,) * (len(self.bounds) + 1))

    def plus(self, value: float | None) -> Spread:
        """Return it with one more value, itself if that is not known."""
        if value is None or value < 0:
            return self
        at = sum(bound < value for bound in self.bounds)
        counts = tuple(one + (place == at) for place, one in enumerate(self.counts))
        return Spread(self.bounds, counts, self.sum + value)

    def to_dict(self) -> dict[str, Any]:
        """Return it as plain data."""
        return {"bounds": list(self.bounds), "counts": list(self.counts), "sum": self.sum}


@dataclass(frozen=True)
class Totals:
    """How many migrations from a node ended how; of those that moved, seconds, downtime, bytes.

    One whose end was not known counts as that, and once more by the result that was found later.
    """

    results: Mapping[str, int] = field(default_factory=lambda: dict.fromkeys(RESULTS, 0))
    seconds: Spread = Spread(SECONDS)
    downtime: Spread = Spread(DOWNTIME)
    bytes: int = 0

    def plus(self, records: Iterable[object]) -> Totals:
        """Return it with more records of a history; what is no migration does not count."""
        results, seconds, downtime, sent = dict(self.results), self.seconds, self.downtime, 0
        for row in (Reader(record, lenient=True) for record in records):
            result = row.at("result").choice(RESULTS, default="")
            # A guest that crashed is started again where it was.
            if not result or row.at("source").value == row.at("destination").value:
                continue
            results[result] += 1
            if result == MOVED:
                stood = row.at("downtime_ms").number(default=None)
                seconds = seconds.plus(row.at("elapsed").number(default=None))
                downtime = downtime.plus(None if stood is None else stood / 1000)
                sent += row.at("memory_bytes").whole(default=0)
        return Totals(results, seconds, downtime, self.bytes + sent)

    def to_dict(self) -> dict[str, Any]:
        """Return it as plain data."""
        return {
            "results": dict(self.results),
            "seconds": self.seconds.to_dict(),
            "downtime": self.downtime.to_dict(),
            "bytes": self.bytes,
        }


def split(records: Sequence[dict[str, Any]]) -> tuple[Totals, list[dict[str, Any]]]:
    """Return the sums over what a history has dropped, and the records that it has."""
    sums = next((one[DROPPED] for one in records if DROPPED in one), None)
    return parse(sums), [one for one in records if DROPPED not in one]


def line(sums: Totals) -> dict[str, Any]:
    """Return the record of a history that holds the sums over what it has dropped."""
    return {DROPPED: sums.to_dict()}


def parse(kept: object) -> Totals:
    """Return sums that come from a disk or a node; what is not valid begins anew."""
    found = Reader(kept, lenient=True)
    counted = found.at("results")
    return Totals(
        {result: counted.at(result).whole(default=0) for result in RESULTS},
        _spread(found.at("seconds"), SECONDS),
        _spread(found.at("downtime"), DOWNTIME),
        found.at("bytes").whole(default=0),
    )


def _spread(kept: Reader, bounds: tuple[float, ...]) -> Spread:
    counts = tuple(one.whole(default=0) for one in kept.at("counts").items(optional=True))
    known = tuple(one.number(default=None) for one in kept.at("bounds").items(optional=True))
    if known != bounds or len(counts) != len(bounds) + 1:
        return Spread(bounds)
    return Spread(bounds, counts, max(0.0, float(kept.at("sum").number(default=0.0))))
