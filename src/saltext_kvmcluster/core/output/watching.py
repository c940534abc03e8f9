"""A cluster that is watched, as text: what fills a terminal, and one line for each change."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from saltext_kvmcluster.core.migration.migration import MOVED
from saltext_kvmcluster.core.output import screen
from saltext_kvmcluster.core.output.layout import mebibytes, or_dash, rate, result, size
from saltext_kvmcluster.core.output.screen import Column, Part
from saltext_kvmcluster.core.text import counted, listed, printable

UNBOUNDED = 10_000
LINES = 3
"""Lines of one problem on a screen."""
STEP = 25
"""Percent between two lines about a migration, where each change is a line."""

_MOVING = (
    *(Column("moves"), Column("from"), Column("to"), Column("phase", 5), Column("done")),
    *(Column("left", 4), Column("rate", 3), Column("to go", 2), Column("seconds", 1)),
)
_QUEUE = (Column("waits"), Column("from"), Column("to"), Column("slot", 1), Column("for", 0, True))
_NODES = (
    *(Column("node"), Column("state"), Column("active", 1), Column("guests", 3)),
    *(Column("free", 2), Column("memory", 4), Column("", 0, True)),
)
# Where the limit is set: for who reads the whole sentence.
_KEY = re.compile(r" \(kvmcluster:[a-z_:]+\)")
_STATES_FIRST = ("silent", "unreachable", "minion error")


def full(data: Mapping[str, Any]) -> str:
    """Return all of what was seen last, for the outputter."""
    return "\n".join([*_lines(data, UNBOUNDED, UNBOUNDED), _head(data)])


def filled(data: Mapping[str, Any], width: int, height: int) -> list[str]:
    """Return the lines of a terminal of that size."""
    body = _lines(data, width, height - 2)
    return [screen.cut(line, width) for line in (_head(data), *body, _foot(data))][:height]


def changes(before: Mapping[str, Any] | None, now: Mapping[str, Any]) -> list[str]:
    """Return a line for each thing that changed."""
    known = before or {"nodes": {}, "moving": [], "queue": [], "ended": [], "runs": []}
    lines = [_begun(now)] if before is None else []
    lines += _new(before or {}, now, "problems", lambda one: f"PROBLEM  {one}", "OVER  {}")
    if now["master"] and now["master"] != known.get("master"):
        lines.append(f"PROBLEM  {now['master']}")
    lines += _of_nodes(known["nodes"], now["nodes"])
    lines += _of_runs(known["runs"], now["runs"])
    lines += _of_migrations(known, now)
    return [printable(line) for line in lines]


def _lines(data: Mapping[str, Any], width: int, height: int) -> list[str]:
    most = LINES if height < UNBOUNDED else UNBOUNDED
    wrong = [f"PROBLEM  {data['master']}"] if data["master"] else []
    wrong += [f"PROBLEM  {one}" for one in data["problems"] or ()]
    problems = [line for one in wrong for line in screen.wrapped(one, width, 9, most)]
    runs = [line for row in data["runs"] for line in screen.wrapped(_run(row), width, 9, most)]
    parts = [
        Part("", problems, "salt-run kvmcluster.status"),
        Part("", runs),
        _table(_MOVING, map(_moving, data["moving"]), width, "salt-run kvmcluster.job"),
        _table(_QUEUE, map(_waiting, data["queue"]), width, "salt-run kvmcluster.job"),
        _table(_NODES, _nodes(data["nodes"], height), width, "salt-run kvmcluster.status"),
        Part("", [screen.cut(printable(_ended(row)), width) for row in reversed(data["ended"])]),
    ]
    return screen.arranged(parts, height, width)


def _table(columns: Sequence[Column], rows: Iterable[Sequence[str]], width: int, more: str) -> Part:
    header, *lines = screen.table(columns, rows, width)
    return Part(header, lines, more)


def _head(data: Mapping[str, Any]) -> str:
    silent = [node for node, row in data["nodes"].items() if row["state"] == "silent"]
    problems = data["problems"]
    words = [
        f"cluster {data['cluster']}",
        f"{data['at'][11:19]} UTC",
        "status unknown" if problems is None else counted(len(problems), "problem"),
        counted(len(data["nodes"]), "node") + (f", {len(silent)} silent" if silent else ""),
        f"{counted(len(data['moving']), 'migration')}, {len(data['queue'])} waiting",
    ]
    return printable("  ".join(words))


def _foot(data: Mapping[str, Any]) -> str:
    at = f"status of {data['status_at'][11:19]} UTC; " if data["status_at"] else ""
    return f"{at}Ctrl-C ends this view, and nothing else"


def _run(row: Mapping[str, Any]) -> str:
    if row["alive"]:
        return f"AT WORK  {row['name']} (process {row['pid']}): {row['line']}"
    return (
        f"KILLED  {row['name']} (process {row['pid']}), without a report; it said last:"
        f" {row['line']}; what nodes have of it goes on; to continue: {row['remedy']}"
    )


def _moving(row: Mapping[str, Any]) -> list[str]:
    return [
        str(row["guest"]),
        row["source"] or "?",
        row["destination"] or "?",
        "STALLED" if row["stalled"] else row["phase"],
        or_dash(row["percentage"], "{} %"),
        mebibytes(row["remaining"]),
        rate(row["rate"]),
        or_dash(row["expected_end"], "{:.0f} s"),
        or_dash(row["elapsed"], "{:.0f} s"),
    ]


def _waiting(row: Mapping[str, Any]) -> list[str]:
    slot = or_dash(row["slot"], "{}")
    return [str(row["guest"]), row["source"] or "?", row["destination"] or "?", slot, _why(row)]


def _why(row: Mapping[str, Any]) -> str:
    return _KEY.sub("", str(row["reason"] or "-"))


def _nodes(nodes: Mapping[str, Mapping[str, Any]], height: int) -> list[list[str]]:
    """Return the rows of the nodes; if they do not all fit, what is not well comes first."""
    names = list(nodes)
    if len(names) > height // 2:
        names.sort(key=lambda node: nodes[node]["state"] == "ok" and not nodes[node]["cordoned"])
        names.sort(key=lambda node: nodes[node]["state"] not in _STATES_FIRST)
    return [
        [
            node,
            _state(nodes[node]),
            *(
                "?" if nodes[node][key] is None else str(nodes[node][key])
                for key in ("active", "guests")
            ),
            size(nodes[node]["free_kib"]),
            size(nodes[node]["memory_kib"]),
            nodes[node]["detail"],
        ]
        for node in names
    ]


def _state(row: Mapping[str, Any]) -> str:
    return "cordoned" if row["cordoned"] and row["state"] == "ok" else str(row["state"])


def _ended(row: Mapping[str, Any]) -> str:
    figures = [
        or_dash(row["elapsed"], "{:.1f} s"),
        *([f"downtime {row['downtime_ms']} ms"] if row["downtime_ms"] is not None else []),
    ]
    why = f"; {row['reason']}" if row["reason"] and row["result"] != MOVED else ""
    path = f"{row['guest']}, {row['source']} -> {row['destination']}"
    return f"{result(row['result'])}  {path}: {', '.join(figures)}{why}"


def _begun(now: Mapping[str, Any]) -> str:
    return f"watching cluster {now['cluster']}: {listed(now['nodes'], 16)}"


def _new(
    before: Mapping[str, Any], now: Mapping[str, Any], key: str, form: Any, over: str
) -> list[str]:
    old, new = before.get(key) or (), now[key] or ()
    lines = [form(one) for one in new if one not in old]
    return lines + [over.format(one) for one in old if one not in new and now[key] is not None]


def _of_nodes(
    before: Mapping[str, Mapping[str, Any]], now: Mapping[str, Mapping[str, Any]]
) -> list[str]:
    lines = []
    for node, row in now.items():
        state, old = _state(row), before.get(node)
        was = _state(old) if old else "ok"
        if state != was and state != "asked" and (was, state) != ("asked", "ok"):
            lines.append(f"{node}: {state}" + (f": {row['detail']}" if row["detail"] else ""))
    return lines


def _of_runs(before: Iterable[Mapping[str, Any]], now: Iterable[Mapping[str, Any]]) -> list[str]:
    old = {(row["pid"], row["name"]): row for row in before}
    new = {(row["pid"], row["name"]): row for row in now}
    lines = [_run(row) for key, row in new.items() if _sense(row) != _sense(old.get(key))]
    return lines + [
        f"{row['name']} (process {row['pid']}) ended; it said last: {row['line']}"
        for key, row in old.items()
        if key not in new and row["alive"]
    ]


def _sense(row: Mapping[str, Any] | None) -> object:
    """Return what of a run makes a line of its own: not that time passes."""
    if row is None:
        return None
    told = row["progress"]
    if not told:
        return row["alive"], row["line"]
    return row["alive"], told.get("moved"), told.get("failed"), len(told.get("todo", ()))


def _of_migrations(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    old = {row["uuid"]: row for row in (*before["moving"], *before["queue"])}
    new = {row["uuid"]: row for row in (*now["moving"], *now["queue"])}
    lines = [_ended(row) for row in now["ended"] if row not in before["ended"]]
    told = {row["uuid"] for row in now["ended"]}
    lines += [
        f"{_path(row)}: {_vanished(row, now)}"
        for uuid, row in old.items()
        if uuid not in new and uuid not in told
    ]
    return lines + [
        f"{_path(row)}: {_how_far(row)}"
        for uuid, row in new.items()
        if uuid not in old or _steps(row) != _steps(old[uuid])
    ]


def _vanished(row: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    """Return what is known of a migration that is not reported any more."""
    source = now["nodes"].get(row["source"])
    if source and source["state"] != "ok":
        return f"not known any more: {row['source']} is {source['state']}"
    return "no longer under way"


def _path(row: Mapping[str, Any]) -> str:
    return f"{row['guest']}, {row['source'] or '?'} -> {row['destination'] or '?'}"


def _steps(row: Mapping[str, Any]) -> object:
    percentage = row["percentage"]
    done = None if percentage is None else percentage // STEP
    return row["phase"], done, bool(row["stalled"]), row["slot"]


def _how_far(row: Mapping[str, Any]) -> str:
    words = [str(row["phase"])]
    if row["slot"] is not None:
        words += [f"slot {row['slot']}", _why(row)]
    if row["percentage"] is not None:
        words += [f"{row['percentage']} %", rate(row["rate"])]
    if row["stalled"]:
        words.append("STALLED")
    if row["elapsed"] is not None:
        words.append(f"{row['elapsed']:.0f} s")
    return ", ".join(words)
