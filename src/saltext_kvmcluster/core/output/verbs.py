"""What came of commands for guests as text: a line for each, or the plan; and how to reach one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from saltext_kvmcluster.core.output.layout import result, silent, table_if_any, verdict
from saltext_kvmcluster.core.text import counted, listed
from saltext_kvmcluster.core.verbs.targets import DONE


def acts(data: Mapping[str, Any]) -> str:
    """Return what came of each guest, or what would be done with it."""
    lines = _plan(data) if data["test"] else _results(data)
    return "\n".join(lines)


def reached(data: Mapping[str, Any]) -> str:
    """Return what opens a guest's console or display."""
    head = f"{data['guest']} on {data['node']}"
    if data["reason"]:
        return f"NONE  {head}: {data['reason']}"
    lines = []
    for one in data.get("displays", ()):
        lines.append(f"{head}: {one['kind']}, {one['where']}")
        lines += [f"  {command}" for command in one["commands"]]
    return "\n".join([*lines, *(f"{'  ' * bool(lines)}{one}" for one in data["commands"])])


def _results(data: Mapping[str, Any]) -> list[str]:
    rows = data["guests"]
    lines = []
    for row in rows:
        where = f" on {row['node']}" if row["node"] else ""
        detail = f": {row['reason']}" if row["reason"] else ""
        lines.append(f"{result(row['result'])}  {row['guest']}{where}{detail}")
        lines += [f"WARN  {row['guest']}: {one}" for one in row["warnings"]]
    lines += _missing(data)
    if len(rows) > 1 or data["silent"] or data["unmatched"]:
        well = sum(row["ok"] for row in rows)
        done = f"{well} of {counted(len(rows), 'guest')} {DONE[data['verb']]}"
        lines.append(f"{verdict(data)}: {done} in cluster {data['cluster']}")
    return lines


def _plan(data: Mapping[str, Any]) -> list[str]:
    rows = [row for row in data["guests"] if row["ok"]]
    lines = table_if_any(
        ["guest", "by", "now"], [[row["guest"], row["node"], row["reason"]] for row in rows]
    )
    lines += [
        f"REFUSED  {row['guest']}: {row['reason']}" for row in data["guests"] if not row["ok"]
    ]
    lines += _missing(data)
    would = f"{counted(len(rows), 'guest')} would be {DONE[data['verb']]}; nothing was changed"
    agree = "; to do it: the same command with test=False" if rows else ""
    return [*lines, f"PLAN  {would}{agree}"]


def _missing(data: Mapping[str, Any]) -> list[str]:
    lines = silent(data)
    if data["unmatched"]:
        lines.append(f"PROBLEM  no guest matches {listed(data['unmatched'])}")
    return lines
