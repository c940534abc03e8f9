"""Plans of many moves as text: before, and after they were carried out."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from saltext_kvmcluster.core import cordons
from saltext_kvmcluster.core.output.layout import or_dash, table_if_any
from saltext_kvmcluster.core.ownership import startup
from saltext_kvmcluster.core.text import counted, listed

LEFT = 20
"""Guests of which the last line of a drain says that they are left."""


def proposal(data: Mapping[str, Any]) -> str:
    """Return a plan that was not carried out, or, with ``begins``, that is about to be."""
    end = "" if data.get("begins") else "; nothing was changed"
    last = f"PLAN  {counted(len(data['plan']), 'move')}, {_stuck(data)}{end}"
    return "\n".join([*_steps(data["plan"]), *_stays(data), last])


def balance(data: Mapping[str, Any]) -> str:
    """Return the moves that mend groups and even out the load."""
    text = proposal(data) if data["test"] else _outcome(data, f"{_moved(data)}, {_stuck(data)}")
    look = data.get("scheduled")
    if not look:
        return text
    if not look["due"]:
        return f"NOT DUE  mode {look['mode']}: {look['why']}"
    return f"DUE  mode {look['mode']}: {look['why']}\n{text}"


def drain(data: Mapping[str, Any]) -> str:
    """Return the moves away from a node, and whether it is empty."""
    return proposal(data) if data["test"] else _outcome(data, _drained(data))


def evacuation(data: Mapping[str, Any]) -> str:
    """Return the moves away from a node in maintenance, and what became of the other guests."""
    if data["test"]:
        problems = [f"PROBLEM  {detail}" for detail in data["hindered"]]
        return "\n".join([proposal(data), *(problems or _would(data))])
    gone = {row["guest"] for row in data["shut_down"]}
    stuck = {guest: why for guest, why in data["stuck"].items() if guest not in gone}
    lines = [
        f"{'SHUT DOWN' if row['ok'] else 'NOT SHUT DOWN'}  {row['guest']}: {row['reason']}"
        for row in data["shut_down"]
    ]
    last = _drained(data)
    if data["ok"] and data["left"]:
        cordoned = data["cordoned"]
        last = (
            f"DRAINED  {data['node']}: {listed(data['left'], LEFT)} stays, as requested;"
            f" {_moved(data)}; cordoned since {cordoned['since'][:19]} UTC: {cordoned['reason']}"
        )
    return "\n".join([*lines, _outcome({**data, "stuck": stuck}, last)])


def _would(data: Mapping[str, Any]) -> list[str]:
    """Return what would become of the guests that cannot be moved."""
    fates = {"shutdown": "would be shut down, and started again later", "leave": "would stay"}
    fate = fates.get(data["what"])
    return [f"{guest} {fate}" for guest in data["stuck"]] if fate else []


def restored(data: Mapping[str, Any]) -> str:
    """Return which guests were started again after maintenance."""
    rows = [f"{row['result'].upper()}  {row['guest']}: {row['reason']}" for row in data["started"]]
    if not data["ok"]:
        failed = [row["guest"] for row in data["started"] if not row["ok"]]
        remedy = f"to try again: the same command, or salt {data['node']} kvmcluster.start GUEST"
        return "\n".join([*rows, f"PROBLEM: not started again: {listed(failed)}; {remedy}"])
    if not rows:
        return f"OK: no guest of {data['node']} is to be started"
    ran = sum(row["result"] == startup.RUNNING for row in data["started"])
    already = f"; {counted(ran, 'guest')} ran already" if ran else ""
    count = counted(len(rows) - ran, "guest")
    return "\n".join([*rows, f"OK: {count} started again on {data['node']}{already}"])


def undrain(data: Mapping[str, Any]) -> str:
    """Return the moves to a node that was uncordoned."""
    was = "is uncordoned" if data["uncordoned"] else "was not cordoned"
    moved = f"; {_moved(data)}, {_stuck(data)}" if _has_moves(data) else ""
    text = _outcome(data, f"{data['node']} {was}{moved}")
    off = data.get("shut_down")
    if not off:
        return text
    remedy = f"to start them: salt-run kvmcluster.restore {data['node']}"
    return (
        f"OFF  {listed(off, LEFT)}: shut down for maintenance of {data['node']}; {remedy}\n{text}"
    )


def _has_moves(data: Mapping[str, Any]) -> bool:
    return any(data[key] for key in ("plan", "stuck", "moved", "failed", "under_way"))


def _outcome(data: Mapping[str, Any], last: str) -> str:
    """Return what came of a plan; the guests that stay come next to the prompt.

    Each guest has one place: an attempt that failed is told where its guest is, if it has moved
    after all, or is under way, or stays.
    """
    lines = _moves(data["moved"], data["failed"])
    elsewhere = {row["guest"] for row in (*data["moved"], *data["under_way"])} | {*data["stuck"]}
    lines += [
        f"FAILED  {row['guest']}, {row['source']} -> {row['destination']}: {row['reason']}"
        for row in sorted(data["failed"], key=_guest)
        if row["guest"] not in elsewhere
    ]
    lines += [
        f"UNDER WAY  {row['guest']}, {row['source']} -> {row['destination']}"
        f"{_before(row, data['failed'])}"
        for row in sorted(data["under_way"], key=_guest)
    ]
    lines += _stays(data)
    lines += [f"INCOMPLETE  {text}" for text in data.get("missing", ())]
    lines += [f"PROBLEM  {data['detail']}"] if data["detail"] else []
    return "\n".join([*lines, last])


def _stays(data: Mapping[str, Any]) -> list[str]:
    failed = data.get("failed", ())
    notes = [f"NOTE  {text}" for text in data.get("notes", ())]
    return notes + [
        f"STUCK  {guest}: {why}{_before({'guest': guest}, failed, why)}"
        for guest, why in sorted(data["stuck"].items())
    ]


def _guest(row: Mapping[str, Any]) -> str:
    return str(row["guest"])


def _before(row: Mapping[str, Any], failed: Iterable[Mapping[str, Any]], known: str = "") -> str:
    """Return which attempts to move a guest failed, as the end of a sentence; or nothing.

    known
        What is told of it anyway.
    """
    tried = [one for one in failed if one["guest"] == row["guest"] and one["reason"] not in known]
    return "".join(f"; not moved to {one['destination']}: {one['reason']}" for one in tried)


def _steps(steps: Iterable[Mapping[str, Any]]) -> list[str]:
    rows = [[row["guest"], row["source"], row["destination"], row["why"]] for row in steps]
    return table_if_any(["guest", "from", "to", "why"], rows)


def _moves(
    moves: Iterable[Mapping[str, Any]], failed: Iterable[Mapping[str, Any]] = ()
) -> list[str]:
    """Return the guests that moved, and what failed before, where anything did."""
    rows = [
        [
            row["guest"],
            row["source"],
            row["destination"],
            or_dash(row["elapsed"], "{:.1f} s"),
            or_dash(row["downtime_ms"], "{} ms"),
            _before(row, failed).removeprefix("; "),
        ]
        for row in sorted(moves, key=_guest)
    ]
    header = ["guest", "from", "to", "took", "downtime", "before"]
    width = len(header) if any(row[-1] for row in rows) else len(header) - 1
    return table_if_any(header[:width], [row[:width] for row in rows])


def _stuck(data: Mapping[str, Any]) -> str:
    return f"{counted(len(data['stuck']), 'guest')} stuck"


def _moved(data: Mapping[str, Any]) -> str:
    return f"{counted(len(data['moved']), 'guest')} moved in {data['elapsed']:.0f} s"


def _drained(data: Mapping[str, Any]) -> str:
    """Return the last line of a drain: whether the node is empty, and how to go on."""
    node, left, cordoned = data["node"], data["left"], data["cordoned"]
    tense = "was cordoned" if data["detail"] else "cordoned"
    mark = f"{tense} since {cordoned['since'][:19]} UTC: {cordoned['reason']}"
    if left == []:
        word = "DRAINED" if data["ok"] else "NOT DRAINED"
        mark += "; on standby in Pacemaker" if data.get("standby") else ""
        return f"{word}  {node}: no guests left; {_moved(data)}; {mark}"
    there = "the guests left are not known" if left is None else f"left: {listed(left, LEFT)}"
    if left and not data["plan"] and not data["moved"] and {*left} <= {*data["stuck"]}:
        mark += " (as asked for, though none of its guests can leave)"
    return (
        f"NOT DRAINED  {node}: {there}; {_moved(data)}; {mark}; to continue:"
        f" {cordons.continuing(node, cordoned['reason'])}; to uncordon it: {cordons.remedy(node)}"
    )
