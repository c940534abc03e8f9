"""Migrations as text: those under way, what came of one, what was recovered, the history."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from saltext_kvmcluster.core.findings import PROBLEM, WARN
from saltext_kvmcluster.core.migration import records
from saltext_kvmcluster.core.output.layout import (
    mebibytes,
    or_dash,
    place,
    rate,
    result,
    silent,
    table_if_any,
)
from saltext_kvmcluster.core.text import counted, printable

if TYPE_CHECKING:  # Whoever prints a table need not wait for what it is about.
    from saltext_kvmcluster.core.migration.migration import Move


def migration(data: Mapping[str, Any]) -> str:
    """Return what came of a migration, its result next to the prompt."""
    lines = [
        f"{_label(finding)}  {finding['sentence']}: {finding['remedy']}"
        for finding in data["findings"]
        if finding["outcome"] != "OK"
    ]
    measured = [] if data["elapsed"] is None else [f"{data['elapsed']:.1f} s"]
    if data["downtime_ms"] is not None:
        measured.append(f"downtime {data['downtime_ms']} ms")
    if data["memory_bytes"] is not None:
        measured.append(f"{mebibytes(data['memory_bytes'])} sent")
    lines += _steps(data["afterwards"])
    lines += [f"CHOSEN  {data['destination']}: {data['chosen']}"] if data.get("chosen") else []
    detail = "; ".join(filter(None, [data["reason"], ", ".join(measured)]))
    path = f"{data['guest']}, {data['source']} -> {data['destination']}"
    lines.append(f"{result(data['result'])}  {path}: {detail}")
    return "\n".join(lines)


def _label(finding: Mapping[str, Any]) -> str:
    """Return how a finding is called: what forbids nothing is a warning."""
    is_warning = finding["outcome"] == PROBLEM and finding.get("severity") == WARN
    return "WARNING" if is_warning else str(finding["outcome"])


def recovery(data: Mapping[str, Any]) -> str:
    """Return what was observed and done; where it is not settled, what would settle it."""
    lines = table_if_any(["node", data["guest"]], [list(row) for row in data["sightings"].items()])
    lines += _steps(data["actions"])
    lines += [f"NEEDED  {need}" for need in data["needs"]]
    lines += ["manual steps:"] if data["commands"] else []
    lines += [f"  {command}" for command in data["commands"]]
    owner = f", owner {data['owner']}" if data["owner"] else ""
    lines.append(f"{result(data['result'])}  {data['guest']}{owner}: {data['reason']}")
    return "\n".join(lines)


def jobs(data: Mapping[str, Any]) -> str:
    """Return the migrations that are under way, on a node or in the cluster."""
    lines = silent(data)
    lines += [
        f"STALLED  {row['guest']}: no data is being sent; to cancel it: salt {row['source']}"
        f" kvmcluster.cancel {shlex.quote(row['guest'])}"
        for row in data["jobs"]
        if row["stalled"]
    ]
    header = ["guest", "from", "to", "phase", "done", "rate", "dirty rate", "remaining", "ends in"]
    header += ["iteration", "throttle", "expected downtime", "downtime", "elapsed"]
    rows = [
        [
            row["guest"],
            row["source"] or "?",
            row["destination"] or "?",
            row["phase"] if row["slot"] is None else f"{row['phase']}, slot {row['slot']}",
            or_dash(row["percentage"], "{} %"),
            rate(row["rate"]),
            rate(row["dirty_rate"] or None),
            mebibytes(row["remaining"]),
            or_dash(row["expected_end"], "{:.0f} s"),
            or_dash(row["iteration"], "{}"),
            or_dash(row["throttle"] or None, "{} %"),
            or_dash(row["expected_downtime_ms"], "{} ms"),
            or_dash(row["downtime_ms"], "{} ms"),
            or_dash(row["elapsed"], "{:.0f} s"),
        ]
        for row in data["jobs"]
    ]
    lines += table_if_any(header, rows)
    where = f"{'on' if data.get('node') else 'in'} {place(data)}"
    lines.append(f"{counted(len(rows), 'migration')} under way {where}")
    return "\n".join(lines)


def history(data: Mapping[str, Any]) -> str:
    """Return the migrations that ended, the newest last, and so next to the prompt."""
    header = ["started", "guest", "from", "to", "result", "took", "downtime", "sent", "reason"]
    rows = [
        [
            row["started"][:19],
            row["guest"],
            row["source"],
            row["destination"],
            result(row["result"]),
            or_dash(row["elapsed"], "{:.1f} s"),
            or_dash(row["downtime_ms"], "{} ms"),
            mebibytes(row["memory_bytes"]),
            row["reason"] or "-",
        ]
        for row in data["history"]
    ]
    where = f"{'on' if data.get('node') else 'in'} {place(data)}"
    tests = sum(row["result"] in records.TESTS for row in data["history"])
    starts = sum(map(_is_start, data["history"]))
    more = [counted(starts, "start")] if starts else []
    more += [counted(tests, "fencing test")] if tests else []
    found = " and ".join([counted(len(rows) - starts - tests, "migration"), *more])
    last = f"{found} recorded {where}; times are UTC"
    return "\n".join([*silent(data), *table_if_any(header, rows), last])


def _is_start(row: Mapping[str, Any]) -> bool:
    """Whether it is no migration: a start by a person's word, or after a crash."""
    is_by_word = row["result"] in (records.BY_WORD, records.BY_WORD_UNSEEN)
    return is_by_word or row["source"] == row["destination"]


def progress_line(move: Move, reported: object, elapsed: float) -> str:
    """Return one line that says how far a migration is.

    reported
        An event's data, empty if there was none yet; data of another shape is ignored.
    """
    where = f"{move.guest}, {move.source} -> {move.destination}, {elapsed:.0f} s: "
    try:
        words = _progress(reported) if isinstance(reported, Mapping) else ""
    except (KeyError, TypeError, ValueError, OverflowError):
        words = ""
    return printable(where + (words or "being checked"))


def _progress(reported: Mapping[str, Any]) -> str:
    words = [reported.get("phase") or reported.get("what") or ""]
    if reported.get("slot") is not None:
        words.append(f"slot {reported['slot']}")
    if reported.get("percentage") is not None:
        words[0] += f" {reported['percentage']} %"
        words += [rate(reported["rate"]), f"{mebibytes(reported['remaining'])} left"]
        words += _speed(reported)
    return ", ".join(words)


def _speed(row: Mapping[str, Any]) -> list[str]:
    """Say what speaks of a migration's end, as far as it is known."""
    words = []
    if row["stalled"]:
        words.append("STALLED")
    if row["expected_end"] is not None:
        words.append(f"{row['expected_end']:.0f} s to go")
    if row["dirty_rate"]:
        words.append(f"dirty rate {rate(row['dirty_rate'])}")
    if row["throttle"]:
        words.append(f"throttled by {row['throttle']} %")
    return words


def _steps(steps: Iterable[Mapping[str, Any]]) -> list[str]:
    """Say what was done to put things right, and what could not be."""
    return [
        f"{'DONE' if step['ok'] else 'FAILED'}  "
        + ": ".join(filter(None, [step.get("node"), step["step"], step["detail"]]))
        for step in steps
    ]
