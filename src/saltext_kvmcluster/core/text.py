"""Text that people read: made safe to print, shortened, listed."""

from __future__ import annotations

from collections.abc import Iterable

MAX_WORDS = 500
"""Characters of what a program printed that an error quotes."""


def printable(text: str) -> str:
    """Return a text with every non-printable character replaced.

    Files and peers' messages may contain terminal sequences, or bytes that are not UTF-8, which
    Salt cannot carry.
    """
    return "".join(char if char.isprintable() else "\ufffd" for char in text)


def listed(words: Iterable[str], limit: int = 5) -> str:
    """Return some of the words, and the number of the others."""
    known = list(words)
    rest = len(known) - limit
    return ", ".join(known[:limit]) + (f" and {rest} more" if rest > 0 else "")


def short(words: str) -> str:
    """Return a message as one line of limited length."""
    line = " ".join(words.split())
    return line if len(line) <= MAX_WORDS else line[:MAX_WORDS] + "…"


def counted(number: int, noun: str, plural: str = "") -> str:
    """Return a number with its noun: 1 guest, 2 guests.

    plural
        Of a noun that does not just take an s.
    """
    return f"{number} {noun if number == 1 else plural or f'{noun}s'}"
