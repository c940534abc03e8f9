"""Text that people read: made safe to print, shortened, listed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

MAX_LENGTH = 500
"""Characters of a message that an error or an event quotes."""
MAX_NAMES = 10
"""Names in an error that is the only place to list them."""
_OPEN, _CLOSE = "([{", ")]}"


def printable(text: str) -> str:
    """Return a text with every non-printable character replaced.

    Files and peers' messages may contain terminal sequences, or bytes that are not UTF-8, which
    Salt cannot carry.
    """
    return "".join(char if char.isprintable() else "\ufffd" for char in text)


def listed(names: Iterable[str], limit: int = 5) -> str:
    """Return the first names, and the number of the others."""
    known = list(names)
    rest = len(known) - limit
    return ", ".join(known[:limit]) + (f" and {rest} more" if rest > 0 else "")


def by_cause(causes: Mapping[str, str]) -> dict[str, list[str]]:
    """Return the names that each cause is about."""
    groups: dict[str, list[str]] = {}
    for name, cause in causes.items():
        groups.setdefault(cause, []).append(name)
    return groups


def one_line(text: str, most: int = MAX_LENGTH) -> str:
    """Return a message as one printable line of at most so many characters."""
    line = printable(" ".join(text.split()))
    return line if len(line) <= most else line[:most] + "…"


def version(number: int) -> str:
    """Return a version that libvirt tells as a number: 7002000 is 7.2.0."""
    return f"{number // 1000000}.{number // 1000 % 1000}.{number % 1000}"


def counted(number: int, noun: str, plural: str = "") -> str:
    """Return a number with its noun: 1 guest, 2 guests.

    plural
        Of a noun that does not just take an s.
    """
    return f"{number} {noun if number == 1 else plural or f'{noun}s'}"


def clauses(sentence: str) -> list[str]:
    """Return a sentence parted by each ';' outside brackets: what is wrong, then what to do."""
    found, depth, begin = [], 0, 0
    for place, char in enumerate(sentence):
        depth += (char in _OPEN) - (char in _CLOSE)
        if depth <= 0 and sentence.startswith("; ", place):
            found.append(sentence[begin:place])
            begin = place + 2
    return [*found, sentence[begin:]]
