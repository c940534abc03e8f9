"""What becomes of guests whose nodes are lost, as text."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from saltext_kvmcluster.core.output.layout import silent
from saltext_kvmcluster.core.text import counted


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


def _and(nodes: list[str]) -> str:
    return " and ".join(nodes)


def _verb(nodes: list[str]) -> str:
    return "is" if len(nodes) == 1 else "are"


def _more(row: Mapping[str, Any]) -> str:
    rest = row["cases"] - 1
    return f", and in {counted(rest, 'more case')}" if rest else ""
