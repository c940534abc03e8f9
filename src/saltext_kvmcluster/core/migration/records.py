"""The history: migrations that ended, starts by a person's word, and fencing tests.

Such a start has the node that was declared offline as its source, a test the one that was fenced.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict
from typing import Any

from saltext_kvmcluster.core.errors import InputError
from saltext_kvmcluster.core.migration.journal import Entry
from saltext_kvmcluster.core.migration.migration import MOVED, NOT_MOVED, UNKNOWN
from saltext_kvmcluster.core.pacemaker.fenced import Tried
from saltext_kvmcluster.core.untrusted import MAX_TEXT, Reader

TEXTS = ("guest", "uuid", "source", "destination", "owner", "result", "reason", "started")
FIGURES = ("elapsed", "downtime_ms", "memory_bytes", "iterations")
GREATEST = 1 << 60
"""What is more is no figure: an exbibyte, or some billion years."""
_NEEDED = ("guest", "source", "destination", "result", "started")
MOST = 1000
BY_WORD, BY_WORD_UNSEEN = "started", "start_unknown"
"""The results of a start while a person declared the source offline: seen to run, or not known."""

NOTHING = "-"
"""The guest and the destination of a fencing test, which has none."""
TESTED, TEST_FAILED, TEST_UNSEEN = "fenced", "fencing_failed", "fencing_unknown"
TESTS = (TESTED, TEST_FAILED, TEST_UNSEEN)
"""Its results, as the node saw them that had it done."""


def chosen(records: Iterable[object], guest: str | None, limit: int) -> list[dict[str, Any]]:
    """Return the last records, in their order; of one guest, or of all.

    A node's history has the newest last, whatever its clock said.

    They come from a disk or a node: what is not a valid record is left out. If the end of a
    migration was first unknown and settled later, the later record is returned.
    """
    found: dict[tuple[Any, Any], dict[str, Any]] = {}
    for row in filter(None, map(_row, records)):
        known = found.get((row["uuid"], row["started"]))
        if guest in (None, row["guest"]) and (known is None or known["result"] == UNKNOWN):
            found[row["uuid"], row["started"]] = row
    return list(found.values())[-limit:]


def merged(
    reported: Mapping[str, Iterable[object]], guest: str | None, limit: int
) -> list[dict[str, Any]]:
    """Return the last records of several nodes, as ``chosen``, by their clocks: for people only."""
    rows = [row for rows in reported.values() for row in chosen(rows, guest, MOST)]
    ordered = sorted(rows, key=lambda row: str(row["started"]))
    return chosen(ordered, None, limit)


def of_node(answer: object) -> list[dict[str, Any]] | None:
    """Return the migrations in the history that a node sends; None if it does not."""
    rows = answer.get("history") if isinstance(answer, Mapping) else None
    return chosen(rows, None, MOST) if isinstance(rows, list) else None


def settled(entry: Entry, owner: str | None, reason: str) -> dict[str, Any]:
    """Return the record of a migration whose result was found only after it had ended."""
    move = entry.move
    results = {move.source: NOT_MOVED, move.destination: MOVED}
    return {
        **dict.fromkeys((*TEXTS, *FIGURES)),
        **asdict(move),
        "owner": owner,
        "result": results.get(str(owner), UNKNOWN),
        "reason": f"settled later: {reason}",
        "started": entry.began,
    }


def by_word(
    guest: str,
    uuid: str,
    here: str,
    declared: Iterable[str],
    started: str,
    elapsed: float,
    was_seen: bool = True,
) -> dict[str, Any]:
    """Return the record of a guest that was started here while nodes were declared offline.

    was_seen
        Whether it was seen to run afterwards.
    """
    nodes = ", ".join(sorted(declared))
    return {
        **dict.fromkeys((*TEXTS, *FIGURES)),
        "guest": guest,
        "uuid": uuid,
        "source": nodes,
        "destination": here,
        "owner": here if was_seen else None,
        "result": BY_WORD if was_seen else BY_WORD_UNSEEN,
        "reason": f"{nodes} declared offline (force_unreachable)",
        "started": started,
        "elapsed": elapsed,
    }


def of_test(node: str, here: str, tried: Tried, started: str) -> dict[str, Any]:
    """Return the record of a node that was fenced from here, for a test."""
    results = {True: TESTED, False: TEST_FAILED, None: TEST_UNSEEN}
    by = tried.device or "a device that was not seen"
    how = f"by {by}, carried out by {tried.by or '?'}" if tried.ok else tried.detail
    return {
        **dict.fromkeys((*TEXTS, *FIGURES)),
        "guest": NOTHING,
        "uuid": "",
        "source": node,
        "destination": NOTHING,
        "result": results[tried.ok],
        "reason": f"fencing test, asked for on {here}: {how}",
        "started": started,
        "elapsed": tried.seconds,
    }


def number_of(limit: object) -> int:
    """Return an argument that is a number of records; InputError otherwise."""
    if isinstance(limit, bool) or not isinstance(limit, int) or not 0 < limit <= MOST:
        raise InputError(f"limit: want a number from 1 to {MOST}, got {limit!r}")
    return limit


def _row(record: object) -> dict[str, Any] | None:
    kept = Reader(record, lenient=True)
    row: dict[str, Any] = {key: kept.at(key).line(default=None, most=MAX_TEXT) for key in TEXTS}
    figures = {key: kept.at(key).number(default=None) for key in FIGURES}
    row.update({key: None if abs(one or 0) > GREATEST else one for key, one in figures.items()})
    return None if any(row[key] is None for key in _NEEDED) else row
