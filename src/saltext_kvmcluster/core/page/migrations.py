"""The migrations of a page: the last ones as a table with bars, and as a plot."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from saltext_kvmcluster.core.migration.migration import MOVED, NOT_MOVED, UNKNOWN
from saltext_kvmcluster.core.output.layout import result
from saltext_kvmcluster.core.page import figures, plot
from saltext_kvmcluster.core.text import clauses, counted

MOST_ROWS = 200
"""Migrations of the table, and how many of each node are asked for."""
MOST_FAILED = 20
Record = Mapping[str, Any]


def migrations(observed: Mapping[str, Any], nodes: Sequence[str]) -> dict[str, Any]:
    """Return the migrations that ended, the newest first, and those that are under way."""
    records = [{**one, "number": number} for number, one in enumerate(observed["history"], 1)]
    shown = records[-MOST_ROWS:]
    failed = [one for one in reversed(shown) if one["result"] in (NOT_MOVED, UNKNOWN)]
    longest = max((one["elapsed"] or 0 for one in shown), default=0)
    stopped = max((one["downtime_ms"] or 0 for one in shown), default=0)
    return {
        "rows": [_row(one, longest, stopped) for one in reversed(shown)],
        "left_out": len(records) - len(shown),
        "failed": [_row(one, longest, stopped) for one in failed[:MOST_FAILED]],
        "failed_left_out": max(0, len(failed) - MOST_FAILED),
        "total": counted(len(records), "migration"),
        "many": MOST_ROWS if len(records) >= MOST_ROWS else 0,
        "results": [
            f"{number} {word.replace('_', ' ')}"
            for word, number in Counter(one["result"] for one in records).most_common()
        ],
        "durations": _summary(records, "elapsed", figures.seconds),
        "downtimes": _summary(records, "downtime_ms", figures.milliseconds),
        "plot": plot.of(shown, nodes),
        "untold": list(observed["untold"]),
        "under_way": [_job(one) for one in observed["jobs"]],
        "unsettled": [_unsettled(one) for one in observed["unsettled"]],
    }


def _row(record: Record, longest: float, stopped: float) -> dict[str, Any]:
    elapsed, downtime, copied = (record[key] for key in ("elapsed", "downtime_ms", "memory_bytes"))
    return {
        "number": record["number"],
        "started": figures.at(record["started"]),
        "guest": record["guest"],
        "source": record["source"],
        "destination": record["destination"],
        "result": result(record["result"]),
        "moved": record["result"] == MOVED,
        "reason": clauses(record["reason"] or "no reason was told"),
        "duration": figures.seconds(elapsed),
        "duration_share": _share(elapsed, longest),
        "downtime": figures.milliseconds(downtime),
        "downtime_share": _share(downtime, stopped),
        "copied": figures.memory(None if copied is None else copied / 1024),
    }


def _share(number: float | None, greatest: float) -> int | None:
    return None if number is None else figures.percent(number, greatest)


def _summary(records: Iterable[Record], key: str, form: Any) -> str:
    """Return the median and the greatest figure of those that moved and tell it."""
    known = sorted(one[key] for one in records if one["result"] == MOVED and one[key] is not None)
    if not known:
        return ""
    return f"median {form(known[len(known) // 2])}, longest {form(known[-1])}"


def _job(job: Mapping[str, Any]) -> dict[str, Any]:
    share = job["percentage"]
    return {
        "guest": job["guest"],
        "source": job["source"] or figures.NONE,
        "destination": job["destination"] or figures.NONE,
        "phase": job["phase"],
        "progress": figures.NONE if share is None else f"{share:.0f} %",
        "elapsed": figures.seconds(job["elapsed"]),
    }


def _unsettled(entry: Mapping[str, Any]) -> dict[str, str]:
    return {
        "guest": entry["guest"],
        "source": entry["source"],
        "destination": entry["destination"],
        "began": figures.at(entry["began"]),
        "remedy": f"salt-run kvmcluster.recover {shlex.quote(entry['guest'])}",
    }
