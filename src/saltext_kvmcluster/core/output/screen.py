"""Lines that fit a terminal: columns are dropped and cells cut, and parts share its height."""

from __future__ import annotations

import textwrap
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from saltext_kvmcluster.core.text import printable

LEAST, SHORTEST = 6, 20
"""Columns of a terminal to which a cell is cut at most, and a text before another is dropped."""
GAP = 2


@dataclass(frozen=True)
class Column:
    """A column of a table: its title, and whether it is dropped where there is little room.

    ``rank``: of those that may be, the one with the highest rank goes first; 0 stays.
    ``is_text``: it is cut before any column is dropped for it.
    """

    title: str
    rank: int = 0
    is_text: bool = False


@dataclass(frozen=True)
class Part:
    """A part of a screen: lines under a header, if it has one.

    ``more`` says where to find what does not fit.
    """

    header: str
    lines: Sequence[str]
    more: str = ""

    @property
    def height(self) -> int:
        return len(self.lines) + bool(self.header)


def width_of(text: str) -> int:
    """Return how many columns of a terminal a printable text takes."""
    return sum(_width(char) for char in text)


def cut(text: str, width: int) -> str:
    """Return a text of at most so many columns."""
    if width_of(text) <= width:
        return text
    taken, room = "", width - 1
    for char in text:
        room -= _width(char)
        if room < 0:
            break
        taken += char
    return f"{taken}…" if width > 0 else ""


def table(columns: Sequence[Column], rows: Iterable[Sequence[str]], width: int) -> list[str]:
    """Return a table's header and lines, each no wider than the width."""
    cells = [[printable(cell) for cell in row] for row in rows]
    titles = [column.title for column in columns]
    kept = _kept(columns, cells, width)
    widths = _fitted([_natural(titles, cells, at) for at in kept], width)
    return [
        "  ".join(_padded(row[at], wide) for at, wide in zip(kept, widths, strict=True)).rstrip()
        for row in [titles, *cells]
    ]


def wrapped(text: str, width: int, indent: int, most: int) -> list[str]:
    """Return a text as at most so many lines, those after the first one indented."""
    wide = max(width, indent + LEAST)
    lines = textwrap.wrap(printable(text), wide, subsequent_indent=" " * indent) or [""]
    if len(lines) > most:
        lines = [*lines[: most - 1], lines[most - 1] + " …"]
    return [cut(line, width) for line in lines]


def arranged(parts: Sequence[Part], height: int, width: int) -> list[str]:
    """Return the lines of all parts, at most so many; the first parts are cut last.

    Each part has one line, if there is room, before another has more.
    """
    shown = [part for part in parts if part.lines]
    room = [0] * len(shown)
    left = height
    for at, part in enumerate(shown):
        room[at] = min(left, 1 + bool(part.header))
        left -= room[at]
    while left > 0 and any(room[at] < part.height for at, part in enumerate(shown)):
        for at, part in enumerate(shown):
            if left > 0 and room[at] < part.height:
                room[at] += 1
                left -= 1
    gaps = max(0, min(left, len(shown) - 1))
    found: list[str] = []
    for at, part in enumerate(shown):
        found += [""] if found and at <= gaps else []
        found += _of_part(part, room[at], width)
    return found


def _of_part(part: Part, room: int, width: int) -> list[str]:
    lines = [*([part.header] if part.header else []), *part.lines]
    if len(lines) <= room:
        return lines
    if room <= 1 + bool(part.header):
        return lines[:room]
    hidden = len(lines) - room + 1
    more = f"… {hidden} more{f': {part.more}' if part.more else ''}"
    return [*lines[: room - 1], cut(more, width)]


def _kept(columns: Sequence[Column], cells: Sequence[Sequence[str]], width: int) -> list[int]:
    """Return which columns there is room for."""
    kept = list(range(len(columns)))
    titles = [column.title for column in columns]
    widths = [_natural(titles, cells, at) for at in kept]
    for at, column in enumerate(columns):
        widths[at] = min(widths[at], SHORTEST) if column.is_text else widths[at]
    while True:
        needed = sum(widths[at] for at in kept) + GAP * (len(kept) - 1)
        droppable = [at for at in kept if columns[at].rank]
        if needed <= width or not droppable:
            return kept
        kept.remove(max(droppable, key=lambda at: columns[at].rank))


def _fitted(widths: Sequence[int], width: int) -> list[int]:
    """Return widths of columns, the widest of them cut until all fit."""
    found = list(widths)
    while sum(found) + GAP * (len(found) - 1) > width and max(found) > LEAST:
        found[found.index(max(found))] -= 1
    return found


def _natural(titles: Sequence[str], cells: Sequence[Sequence[str]], at: int) -> int:
    return max(width_of(titles[at]), *(width_of(row[at]) for row in cells), 0)


def _padded(text: str, width: int) -> str:
    text = cut(text, width)
    return text + " " * (width - width_of(text))


def _width(char: str) -> int:
    if unicodedata.combining(char) or unicodedata.category(char) in ("Mn", "Me"):
        return 0
    return 2 if unicodedata.east_asian_width(char) in "WF" else 1
