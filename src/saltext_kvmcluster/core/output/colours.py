"""Colours of the words by which a text says how it is.

They are put into text that is laid out and safe to print already, so that no width counts them, and
no name from outside brings its own. A word has its colour where a line begins with it, or where it
is a whole cell of a table, but for the first, which is a name.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

BAD, WARNING, GOOD, NEWS = "bad", "warning", "good", "news"
_CODES = {BAD: "1;31", WARNING: "33", GOOD: "32", NEWS: "36"}
_WORDS: Mapping[str, frozenset[str]] = {
    BAD: frozenset(
        ("PROBLEM", "ERROR", "FAILED", "STALLED", "NO PLACE", "FENCING FAILED", "KILLED")
    ),
    WARNING: frozenset(
        (
            *("UNKNOWN", "STUCK", "WARN", "WARNING", "CORDONED", "INCOMPLETE", "NEEDED", "OFF"),
            *("SKIPPED", "NOT BEGUN", "REFUSED", "FENCED NOT BACK"),
        )
    ),
    GOOD: frozenset(
        (
            *("OK", "MOVED", "DRAINED", "DONE", "STARTED", "RUNNING", "STOPPED", "SHUT DOWN"),
            "FENCED",
        )
    ),
    NEWS: frozenset(("PLAN", "CHOSEN", "NOTE", "MIGRATING", "UNDER WAY", "AT WORK")),
}
_CELLS: Mapping[str, frozenset[str]] = {
    BAD: frozenset(("unreachable", "silent", "minion silent", "minion error", "NO", "absent")),
    WARNING: frozenset(("cordoned", "STALLED", "nowhere")),
}
_LABEL = re.compile(r"([A-Z]+(?: [A-Z]+)*)(?=  |: )")
_CELL = re.compile(r"(?<=  )(\S+(?: \S+)*)(?=  |\Z)")


def coloured(text: str) -> str:
    """Return a text for a terminal with its words in colour; it is laid out and printable."""
    return "\n".join(map(_line, text.split("\n")))


def spans(line: str) -> list[tuple[int, int, str]]:
    """Return where a line has words in colour: from, to, and the style."""
    label = _LABEL.match(line)
    if label:
        found = [(label, of_label(label[0]))]
    else:
        found = [(cell, of_cell(cell[0])) for cell in _CELL.finditer(line)]
    return [(*match.span(), style) for match, style in found if style]


def of_label(word: str) -> str:
    """Return the style of a word by which a line begins, empty if it has none."""
    for style, words in _WORDS.items():
        if word in words:
            return style
    return BAD if word.startswith("NOT ") else ""


def of_cell(text: str) -> str:
    """Return the style of a cell of a table, empty if it has none."""
    for style, words in _CELLS.items():
        if text in words:
            return style
    if text.startswith("NO "):
        return BAD
    return of_label(text) if text.isupper() else ""


def _line(line: str) -> str:
    for begin, end, style in reversed(spans(line)):
        line = f"{line[:begin]}\x1b[{_CODES[style]}m{line[begin:end]}\x1b[0m{line[end:]}"
    return line
