"""What all texts are laid out of: tables, figures, verdicts."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

WIDEST = 16
"""Nodes beside each other in a matrix."""
LONGEST = 200
"""Rows of a matrix, or nodes in a sentence."""


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return rows in columns under a header, each column as wide as its widest cell."""
    lines = [header, *rows]
    widths = [max(len(line[column]) for line in lines) for column in range(len(header))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in lines
    )


def table_if_any(header: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Return the text of a table, none of a table without rows."""
    return [table(header, rows)] if rows else []


def verdict(data: Mapping[str, Any]) -> str:
    """Return the word by which a last line begins."""
    return "OK" if data["ok"] else "PROBLEM"


def result(word: str) -> str:
    """Return a result as a word on the screen."""
    return word.upper().replace("_", " ")


def or_dash(value: object, form: str) -> str:
    """Return a value in a form, a dash for None."""
    return "-" if value is None else form.format(value)


def mebibytes(number: float | None) -> str:
    """Return a number of bytes, a dash for None."""
    return "-" if number is None else f"{number / 2**20:.0f} MiB"


def rate(number: float | None) -> str:
    """Return bytes per second, a dash for None."""
    return "-" if number is None else f"{number / 2**20:.1f} MiB/s"


def size(kib: int | None) -> str:
    """Return a number of KiB, a question mark for None."""
    return "?" if kib is None else f"{kib / 1024:.0f} MiB"


def duration(seconds: float | None) -> str:
    """Return a duration in days, hours and minutes, a dash for None."""
    if seconds is None:
        return "-"
    minutes = int(seconds // 60)
    days, hours = minutes // 1440, minutes // 60 % 24
    return f"{days} d {hours} h" if days else f"{hours} h {minutes % 60} min"


def silent(data: Mapping[str, Any]) -> list[str]:
    """Return a line for each node that gave no data."""
    return [
        f"PROBLEM  {node} reported nothing: {why}" for node, why in data.get("silent", {}).items()
    ]


def place(data: Mapping[str, Any]) -> str:
    """Return what data is about: a node, or the whole cluster."""
    return str(data.get("node") or f"cluster {data['cluster']}")
