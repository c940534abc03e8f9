"""What becomes of guests whose nodes are lost, as text."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from saltext_kvmcluster.core.output.layout import result, silent, table_if_any
from saltext_kvmcluster.core.text import counted, listed


def capacity(data: Mapping[str, Any]) -> str:
    """Return which guests would find no place; the reasons come before the verdict."""
    lines = [
        f"NO PLACE  {row['guest']}, if {_and(row['lost'])} {_verb(row['lost'])} lost{_more(row)}:"
        f" {row['why']}"
        for row in data["shortages"]
    ]
    lost = "any node is" if data["nodes"] == 1 else f"any {data['nodes']} nodes are"
    short = len(data["shortages"])
    tried = f"{counted(data['cases'], 'case')}, {counted(data['guests'], 'active guest')}"
    if data["ok"]:
        last = f"OK: if {lost} lost, the others have a place for all its guests ({tried})"
        return last if data["nodes"] == 1 else last.replace("all its", "all their")
    known = f"{counted(short, 'guest')} would find no place if {lost} lost ({tried})"
    return "\n".join([*lines, *silent(data), f"PROBLEM: {known}"])


def takeover(data: Mapping[str, Any]) -> str:
    """Return which guests of nodes that are off start where, and what came of it."""
    nodes, verb = _and(data["nodes"]), _verb(data["nodes"])
    lines = [
        f"NOTE  {guest} {why}; it is not started, unless it is named (guests)"
        for guest, why in data["off"].items()
    ]
    stuck = [f"STUCK  {guest}: {why}" for guest, why in data["stuck"].items()]
    if data["test"]:
        rows = [[row["guest"], row["node"]] for row in data["plan"]]
        end = "" if data.get("begins") else "; nothing was changed"
        count = counted(len(rows), "guest")
        last = f"PLAN  {count} to start while {nodes} {verb} off, {len(stuck)} stuck{end}"
        return "\n".join([*lines, *table_if_any(["guest", "starts on"], rows), *stuck, last])
    for row in data["started"]:
        lines.append(f"{result(row['result'])}  {row['guest']} on {row['node']}: {row['reason']}")
        lines += [f"WARN  {row['guest']}: {one}" for one in row["warnings"]]
    reported = {row["guest"] for row in data["started"]}
    left = [row["guest"] for row in data["plan"] if row["guest"] not in reported]
    failed = [row["guest"] for row in data["started"] if not row["ok"]]
    well = counted(len(data["started"]) - len(failed), "guest")
    if data["ok"] and not left:
        return "\n".join([*lines, f"OK: {well} seen running, while {nodes} {verb} off"])
    lines += [*stuck, *(f"NOT BEGUN  {guest}" for guest in left)]
    off = listed([*failed, *left, *data["stuck"]])
    last = f"PROBLEM: {well} seen running, while {nodes} {verb} off; not seen running: {off}"
    return "\n".join([*lines, f"{last}; to try again: the same command"])


def _and(nodes: list[str]) -> str:
    return " and ".join(nodes)


def _verb(nodes: list[str]) -> str:
    return "is" if len(nodes) == 1 else "are"


def _more(row: Mapping[str, Any]) -> str:
    rest = row["cases"] - 1
    return f", and in {counted(rest, 'more case')}" if rest else ""
