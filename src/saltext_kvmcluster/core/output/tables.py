"""Returned data as text for people: the worst first, a matrix that is read at a glance."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from saltext_kvmcluster.core import cordons
from saltext_kvmcluster.core.findings import SEE
from saltext_kvmcluster.core.text import listed, printable

if TYPE_CHECKING:  # Whoever prints a table need not wait for what it is about.
    from saltext_kvmcluster.core.migration.migration import Move

WIDEST_MATRIX = 16
LONGEST_MATRIX = 200
NOT_ACTIVE = ("shut off", "absent", "unreachable")


def render(data: object) -> str | None:
    """Return the text for data of ours, or None for data of another shape.

    Data comes from minions, too, so no line of it can hold a terminal's sequences.
    """
    if not isinstance(data, Mapping):
        return None
    try:
        text = _rendered(data)
    except (AttributeError, KeyError, OverflowError, TypeError, ValueError):
        return None
    return None if text is None else "\n".join(map(printable, text.split("\n")))


def _rendered(data: Mapping[str, Any]) -> str | None:
    for key, function in (
        ("error", _error),
        ("rows", _matrix),
        ("cells", _row),
        ("published", _published),
        ("members", _members),
        ("plan", _plan),
        ("cordoned", _preflight),
        ("rebooted", _rebooted),
        ("todo", _rolling),
        ("moves", _readiness),
        ("guests", _guests),
        ("status", _status),
        ("jobs", _jobs),
        ("history", _history),
        ("yaml", _yaml),
    ):
        if key in data and "ok" in data:
            return function(data)
    if "downtime_ms" in data:
        return _migration(data)
    if "sightings" in data:
        return _recovery(data)
    return _lifecycle(data) if {"result", "owner", "reason"} <= data.keys() else None


def progress_line(move: Move, reported: object, elapsed: float) -> str:
    """Return one line that says how far a migration is.

    told
        An event's data, empty if there was none yet; one that is none of ours tells nothing.
    """
    where = f"{move.guest}, {move.source} -> {move.destination}, {elapsed:.0f} s: "
    try:
        words = _progress(reported) if isinstance(reported, Mapping) else ""
    except (KeyError, TypeError, ValueError, OverflowError):
        words = ""
    return printable(where + (words or "being checked"))


def _progress(reported: Mapping[str, Any]) -> str:
    words = [reported.get("phase") or reported.get("what") or ""]
    if reported.get("place") is not None:
        words.append(f"place {reported['place']}")
    if reported.get("percentage") is not None:
        words[0] += f" {reported['percentage']} %"
        words += [_rate(reported["rate"]), f"{_bytes(reported['remaining'])} left"]
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
        words.append(f"the guest changes {_rate(row['dirty_rate'])}")
    if row["throttle"]:
        words.append(f"throttled by {row['throttle']} %")
    return words


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return rows in columns under a header, each column as wide as its widest cell."""
    lines = [header, *rows]
    widths = [max(len(line[column]) for line in lines) for column in range(len(header))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in lines
    )


def _error(data: Mapping[str, Any]) -> str:
    return f"ERROR: {data['error']}"


def _yaml(data: Mapping[str, Any]) -> str:
    return str(data["yaml"]).rstrip("\n")


def _plan(data: Mapping[str, Any]) -> str:
    """Return a plan, or what came of it; who is not moved comes next to the prompt."""
    lines = _proposed(data["plan"]) if data["test"] else _moved(data["moved"])
    lines += [
        f"FAILED  {row['guest']}, {row['source']} -> {row['destination']}: {row['reason']}"
        for row in data.get("failed", ())
    ]
    lines += [
        f"UNDER WAY  {row['guest']}, {row['source']} -> {row['destination']}"
        for row in data.get("under_way", ())
    ]
    lines += [f"STUCK  {guest}: {why}" for guest, why in data["stuck"].items()]
    lines += [f"PROBLEM  {data['detail']}"] if data.get("detail") else []
    return "\n".join([*lines, _of_plan(data)])


def _proposed(steps: Iterable[Mapping[str, Any]]) -> list[str]:
    rows = [[row["guest"], row["source"], row["destination"], row["why"]] for row in steps]
    return [table(["guest", "from", "to", "why"], rows)] if rows else []


def _moved(moves: Iterable[Mapping[str, Any]]) -> list[str]:
    rows = [
        [
            row["guest"],
            row["source"],
            row["destination"],
            _or_dash(row["elapsed"], "{:.1f} s"),
            _or_dash(row["downtime_ms"], "{} ms"),
        ]
        for row in moves
    ]
    return [table(["guest", "from", "to", "took", "downtime"], rows)] if rows else []


def _of_plan(data: Mapping[str, Any]) -> str:
    """Return the last line, by which somebody acts."""
    if data["test"]:
        return f"PLAN  moves: {len(data['plan'])}, stuck: {len(data['stuck'])}; nothing done"
    moved = f"moved: {len(data['moved'])}, in {data['elapsed']:.0f} s"
    if "uncordoned" in data:
        was = "is uncordoned" if data["uncordoned"] else "was not cordoned"
        return f"{data['node']} {was}; {moved}; stuck: {len(data['stuck'])}"
    if "cordoned" not in data:
        return f"{moved}; stuck: {len(data['stuck'])}"
    node, left, cordoned = data["node"], data["left"], data["cordoned"]
    tense = "was" if data["detail"] else "is"
    mark = f"it {tense} cordoned since {cordoned['since'][:19]} UTC: {cordoned['reason']}"
    if left == []:
        word = "DRAINED" if data["ok"] else "NOT DRAINED"
        return f"{word}  {node}: {moved}; none left; {mark}"
    there = "not known who is left" if left is None else f"left: {listed(left, 20)}"
    ways = f"salt-run kvmcluster.drain {node} goes on, kvmcluster.undrain {node} uncordons it"
    return f"NOT DRAINED  {node}: {moved}; {there}; {mark}; {ways}"


def _migration(data: Mapping[str, Any]) -> str:
    lines = [
        f"{finding['outcome']}  {finding['sentence']}: {finding['remedy']}"
        for finding in data["findings"]
        if finding["outcome"] != "OK"
    ]
    measured = [] if data["elapsed"] is None else [f"{data['elapsed']:.1f} s"]
    if data["downtime_ms"] is not None:
        measured.append(f"downtime {data['downtime_ms']} ms")
    if data["memory_bytes"] is not None:
        measured.append(f"{data['memory_bytes'] / 2**20:.0f} MiB sent")
    lines += _steps(data["afterwards"])
    lines += [f"CHOSEN  {data['destination']}: {data['chosen']}"] if data.get("chosen") else []
    detail = "; ".join(filter(None, [data["reason"], ", ".join(measured)]))
    way = f"{data['guest']}, {data['source']} -> {data['destination']}"
    lines.append(f"{_word(data['result'])}  {way}: {detail}")
    return "\n".join(lines)


def _steps(steps: Iterable[Mapping[str, Any]]) -> list[str]:
    """Say what was done to put things right, and what could not be."""
    return [
        f"{'DONE' if step['ok'] else 'FAILED'}  "
        + ": ".join(filter(None, [step.get("node"), step["step"], step["detail"]]))
        for step in steps
    ]


def _recovery(data: Mapping[str, Any]) -> str:
    """Return what was seen, done and found; where it is not settled, what would settle it."""
    rows = [[node, detail] for node, detail in data["sightings"].items()]
    lines = [table(["node", data["guest"]], rows)] if rows else []
    lines += _steps(data["actions"])
    lines += [f"NEEDED  {need}" for need in data["needs"]]
    lines += [f"  to be typed by whoever knows: {command}" for command in data["commands"]]
    where = f", owner {data['owner']}" if data["owner"] else ""
    lines.append(f"{_word(data['result'])}  {data['guest']}{where}: {data['reason']}")
    return "\n".join(lines)


def _jobs(data: Mapping[str, Any]) -> str:
    """Return the migrations that are under way, on a node or in the cluster."""
    lines = _silent(data)
    lines += [
        f"STALLED  {row['guest']}: nothing of it is sent; to end it: salt {row['source']}"
        f" kvmcluster.cancel {shlex.quote(row['guest'])}"
        for row in data["jobs"]
        if row["stalled"]
    ]
    header = ["guest", "from", "to", "phase", "done", "rate", "guest changes", "left", "ends in"]
    header += ["pass", "throttle", "switch", "downtime", "since"]
    rows = [
        [
            row["guest"],
            row["source"] or "?",
            row["destination"] or "?",
            row["phase"] if row["place"] is None else f"{row['phase']}, place {row['place']}",
            _or_dash(row["percentage"], "{} %"),
            _rate(row["rate"]),
            _rate(row["dirty_rate"] or None),
            _bytes(row["remaining"]),
            _or_dash(row["expected_end"], "{:.0f} s"),
            _or_dash(row["iteration"], "{}"),
            _or_dash(row["throttle"] or None, "{} %"),
            _or_dash(row["expected_downtime_ms"], "{} ms"),
            _or_dash(row["downtime_ms"], "{} ms"),
            _or_dash(row["elapsed"], "{:.0f} s"),
        ]
        for row in data["jobs"]
    ]
    lines += [table(header, rows)] if rows else []
    where = data.get("node") or f"cluster {data['cluster']}"
    lines.append(f"migrations under way on {where}: {len(rows)}")
    return "\n".join(lines)


def _history(data: Mapping[str, Any]) -> str:
    """Return the migrations that ended, the newest last, and so next to the prompt."""
    header = ["started", "guest", "from", "to", "result", "took", "downtime", "sent", "reason"]
    rows = [
        [
            row["started"][:19],
            row["guest"],
            row["source"],
            row["destination"],
            _word(row["result"]),
            _or_dash(row["elapsed"], "{:.1f} s"),
            _or_dash(row["downtime_ms"], "{} ms"),
            _bytes(row["memory_bytes"]),
            row["reason"] or "-",
        ]
        for row in data["history"]
    ]
    lines = _silent(data) + ([table(header, rows)] if rows else [])
    where = data.get("node") or f"cluster {data['cluster']}"
    lines.append(f"migrations remembered of {where}: {len(rows)}; times are UTC")
    return "\n".join(lines)


def _silent(data: Mapping[str, Any]) -> list[str]:
    return [
        f"PROBLEM  {node} told nothing: {detail}" for node, detail in data.get("silent", {}).items()
    ]


def _word(result: str) -> str:
    return result.upper().replace("_", " ")


def _or_dash(value: object, form: str) -> str:
    return "-" if value is None else form.format(value)


def _bytes(number: float | None) -> str:
    return "-" if number is None else f"{number / 2**20:.0f} MiB"


def _rate(number: float | None) -> str:
    return "-" if number is None else f"{number / 2**20:.1f} MiB/s"


def _guests(data: Mapping[str, Any]) -> str:
    """Return a node's guests; what is wrong comes first."""
    lines = [] if data["ok"] else [f"PROBLEM  {data['node']} is unreachable: {data['detail']}"]
    lines += _why_not(data["guests"])
    header = [
        "guest",
        "state",
        "job",
        "vcpus",
        "memory",
        "uptime",
        "storage",
        "autostart",
        "movable",
    ]
    rows = [
        [
            guest["name"],
            _state(guest),
            guest["job"] or "-",
            str(guest["vcpus"]),
            _size(guest["memory_kib"]),
            _duration(guest["uptime"]),
            ", ".join(dict.fromkeys(disk.get("storage") or "-" for disk in guest["disks"])) or "-",
            "yes" if guest["autostart"] else "no",
            _movable(guest),
        ]
        for guest in data["guests"]
    ]
    lines += [table(header, rows)] if rows else []
    lines.append(f"guests on {data['node']}: {len(rows)}" if data["ok"] else "guests: not known")
    return "\n".join(lines)


def _status(data: Mapping[str, Any]) -> str:
    """Return the cluster's guests; problems come first, and no node is left out."""
    lines = [f"PROBLEM  {problem}" for problem in data["problems"]]
    lines += [
        f"CORDONED  {node} is {one['cordoned']}; to uncordon it: {cordons.remedy(node)}"
        for node, one in data["nodes"].items()
        if one["cordoned"]
    ]
    lines += _why_not(data["status"])
    rows = [
        [guest["name"], guest["where"], _state(guest), _movable(guest)] for guest in data["status"]
    ]
    lines += [table(["guest", "where", "state", "movable"], rows), ""] if rows else []
    nodes = [
        [
            name,
            "cordoned" if node["cordoned"] and node["state"] == "ok" else node["state"],
            *("?" if node[key] is None else str(node[key]) for key in ("active", "guests")),
            _size(node["free_kib"]),
            _size(node["memory_kib"]),
        ]
        for name, node in data["nodes"].items()
    ]
    lines.append(table(["node", "state", "active", "guests", "free", "memory"], nodes))
    state = "OK" if data["ok"] else "PROBLEM"
    lines.append(
        f"{state}: {len(rows)} guests, {len(data['nodes']) - len(data['silent'])} of"
        f" {len(data['nodes'])} nodes answered in cluster {data['cluster']}"
    )
    return "\n".join(lines)


def _why_not(guests: Iterable[Mapping[str, Any]]) -> list[str]:
    """Return why active guests cannot be moved; a shut off one says so in its state."""
    return [
        f"{'NOT MOVABLE' if guest['movable'] is False else 'UNKNOWN'}  {guest['name']}: {why}"
        for guest in guests
        if guest["state"] not in NOT_ACTIVE
        for why in guest["why"]
    ]


def _state(guest: Mapping[str, Any]) -> str:
    frozen = ", frozen" if guest.get("frozen") is not None else ""
    return f"{guest['state']}{frozen}"


def _movable(guest: Mapping[str, Any]) -> str:
    if guest["state"] in NOT_ACTIVE:
        return "-"
    return {True: "yes", False: "NO", None: "?"}[guest["movable"]]


def _size(kib: int | None) -> str:
    return "?" if kib is None else f"{kib / 1024:.0f} MiB"


def _duration(seconds: float | None) -> str:
    if seconds is None:
        return "-"
    minutes = int(seconds // 60)
    days, hours = minutes // 1440, minutes // 60 % 24
    return f"{days} d {hours} h" if days else f"{hours} h {minutes % 60} min"


def _readiness(data: Mapping[str, Any]) -> str:
    lines = [*_reasons(data["findings"]), *_ways(data)]
    state = "OK" if data["ok"] else "PROBLEM"
    lines.append(
        f"{state}: {data['movable']} of {data['moves']} moves possible in cluster {data['cluster']}"
    )
    return "\n".join(lines)


def _preflight(data: Mapping[str, Any]) -> str:
    lines = [f"PROBLEM  {detail}" for detail in data["cordoned"]]
    lines += _reasons(data["findings"])
    who = f": {listed(data['nodes'])} are well" if data["ok"] and data["nodes"] else ""
    lines.append(f"{_ok(data)}: maintenance {_may(data)} begin in cluster {data['cluster']}{who}")
    return "\n".join(lines)


def _may(data: Mapping[str, Any]) -> str:
    return "may" if data["ok"] else "must not"


def _ok(data: Mapping[str, Any]) -> str:
    return "OK" if data["ok"] else "PROBLEM"


def _rebooted(data: Mapping[str, Any]) -> str:
    node = data["node"]
    needed = f" ({'; '.join(data['needed'])})" if data["needed"] else ""
    if "elapsed" not in data:
        if data["rebooted"]:
            return f"{node} would be rebooted{needed}"
        unless = "" if data["when"] == "never" else ", unless what is done before asks for it"
        return f"{node} would not be rebooted{unless}"
    lines = list(_reasons(data["findings"]))
    if data["still"]:
        lines.append(f"WARN     a reboot of it is still asked for: {'; '.join(data['still'])}")
    after = f"{data['elapsed']:.0f} s"
    if data["missing"]:
        what = f"{data['missing']}, {after} after it was told to reboot{needed}"
    else:
        what = f"{node} was rebooted{needed}" if data["rebooted"] else f"{node} was not rebooted"
        what += f", and is {'' if data['ok'] else 'not '}ready after {after}"
    stays = f"; it stays as it is; to uncordon it: salt-run kvmcluster.undrain {node}"
    return "\n".join([*lines, f"{_ok(data)}: {what}{'' if data['ok'] else stays}"])


def _rolling(data: Mapping[str, Any]) -> str:
    todo = listed(data["todo"], LONGEST_MATRIX)
    if not data["done"]:
        return f"to be done, one after the other: {todo}"
    done = ", ".join(f"{node} at {when}" for node, when in data["done"].items())
    if not todo:
        return f"every node is done: {done}"
    if data.get("just"):
        return f"{data['just']} is done; still to be done: {todo}"
    return (
        f"goes on where it stopped, with {todo}; not done again: {done}; to begin with the first"
        " node: anew: true in the pillar"
    )


def _reasons(findings: Iterable[Mapping[str, Any]]) -> Iterable[str]:
    """Say each reason once, with its remedy; checks that have one reason share a line.

    Of what is not known because of another finding only the checks are named.
    """
    groups: dict[tuple[str, str, str], list[str]] = {}
    follow: dict[str, None] = {}
    for one in findings:
        if one["remedy"].startswith(SEE):
            follow[one["id"]] = None
        else:
            label = one["outcome"] if one["severity"] == "BLOCK" else "WARN"
            detail = f"{_concerned(one)}: {one['sentence']}"
            groups.setdefault((label, detail, one["remedy"]), []).append(one["id"])
    for (label, detail, remedy), checks in groups.items():
        yield f"{label.ljust(7)}  {listed(checks)}  {detail}"
        yield f"         {remedy}"
    if follow:
        yield f"UNKNOWN  because of that {len(follow)} checks tell nothing; --out=json names them"


def _concerned(finding: Mapping[str, Any]) -> str:
    who = listed(finding["guests"] or finding["nodes"])
    if finding["everywhere"]:
        return f"{who} -> every node"
    return f"{who} -> {listed(finding['destinations'])}" if finding["destinations"] else who


def _ways(data: Mapping[str, Any]) -> Iterable[str]:
    """Show where each guest can go: a matrix, or figures where that would be too wide."""
    rows = data["guests"][:LONGEST_MATRIX]
    nodes = data["nodes"]
    if len(nodes) <= WIDEST_MATRIX:
        cells = [[row["guest"], *(_way(row, node) for node in nodes)] for row in rows]
        yield table(["guest \\ to", *nodes], cells)
    else:
        figures = [
            [row["guest"], row["node"], f"{len(row['movable_to'])} of {len(nodes) - 1} nodes"]
            for row in rows
        ]
        yield table(["guest", "where", "can go to"], figures)
    if len(data["guests"]) > LONGEST_MATRIX:
        yield f"and {len(data['guests']) - LONGEST_MATRIX} more guests: --out=json shows them"


def _way(row: Mapping[str, Any], node: str) -> str:
    if node in row["movable_to"]:
        return "ok"
    checks = row["blocked"].get(node)
    if not checks:
        return "-" if node == row["node"] else ""
    return f"NO {checks[0]}" + (f" +{len(checks) - 1}" if len(checks) > 1 else "")


def _lifecycle(data: Mapping[str, Any]) -> str:
    took = f"; {data['elapsed']:.1f} s" if "elapsed" in data else ""
    who = f"{data['guest']} (asked of {data['node']})"
    return f"{_word(data['result'])}  {who}: {data['reason']}{took}"


def _members(data: Mapping[str, Any]) -> str:
    return f"cluster {data['cluster']}: {', '.join(data['members'])}"


def _published(data: Mapping[str, Any]) -> str:
    lines = [f"PROBLEM  {node}: {why}" for node, why in data["failed"].items()]
    lines += [f"published  {entry}" for entry in data["published"]]
    lines.append(
        f"{len(data['published'])} published, {len(data['unchanged'])} unchanged,"
        f" {len(data['failed'])} failed"
    )
    return "\n".join(lines)


def _row(data: Mapping[str, Any]) -> str:
    return _matrix(
        {
            "cluster": data["cluster"],
            "nodes": list(dict.fromkeys([data["node"], *(c["peer"] for c in data["cells"])])),
            "rows": {data["node"]: data},
            "silent": {},
            "ok": data["ok"],
            "cells": len(data["cells"]),
            "good": sum(cell["ok"] for cell in data["cells"]),
        }
    )


def _matrix(data: Mapping[str, Any]) -> str:
    parts = [_problems(data)]
    if len(data["nodes"]) <= WIDEST_MATRIX:
        parts.append(table(["ssh from \\ to", *data["nodes"]], _matrix_rows(data)))
    else:
        parts.append(f"{len(data['nodes'])} nodes: no matrix is shown, --out=json has every cell")
    state = "OK" if data["ok"] else "PROBLEM"
    parts.append(
        f"{state}: {data['good']} of {data['cells']} logins good in cluster {data['cluster']}"
    )
    return "\n".join(part for part in parts if part)


def _problems(data: Mapping[str, Any]) -> str:
    lines = [f"PROBLEM  {node} gave no row: {why}" for node, why in data["silent"].items()]
    for node, row in data["rows"].items():
        for alike in _grouped(row["cells"]):
            names = ", ".join(cell["name"] for cell in alike)
            detail = f" ({alike[0]['detail']})" if alike[0]["detail"] else ""
            lines.append(f"PROBLEM  {node} -> {names}: {alike[0]['cause']}{detail}")
            lines.append(f"         {alike[0]['remedy']}")
    return "\n".join(lines)


def _grouped(cells: Iterable[Mapping[str, Any]]) -> Iterable[list[Mapping[str, Any]]]:
    """Put the bad logins to one peer together that have one cause."""
    groups: dict[tuple[str, str, str], list[Mapping[str, Any]]] = {}
    for cell in cells:
        if not cell["ok"]:
            detail = cell["detail"] if cell["cause"] == "failed" else ""
            groups.setdefault((cell["peer"], cell["cause"], detail), []).append(cell)
    return groups.values()


def _matrix_rows(data: Mapping[str, Any]) -> Iterable[list[str]]:
    for node in [*data["rows"], *data["silent"]]:
        row = data["rows"].get(node)
        yield [node, *(_cell(node, peer, row) for peer in data["nodes"])]


def _cell(node: str, peer: str, row: Mapping[str, Any] | None) -> str:
    if row is None:
        return "?"
    cells = [cell for cell in row["cells"] if cell["peer"] == peer]
    if not cells:
        return "-" if node == peer else "?"
    bad = list(dict.fromkeys(cell["cause"].upper() for cell in cells if not cell["ok"]))
    good = sum(cell["ok"] for cell in cells)
    return f"ok {good}/{len(cells)}" if not bad else f"{', '.join(bad)} {good}/{len(cells)}"
