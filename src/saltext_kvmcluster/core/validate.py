"""Validates the pillar and the arguments of calls.

Every error names the path, the expected value and the one found.
"""

from __future__ import annotations

import difflib
import re
import reprlib
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from saltext_kvmcluster.core.errors import InputError
from saltext_kvmcluster.core.text import MAX_NAMES, listed

FLAG = "true or false"
LIST = "a list"


class _Short(reprlib.Repr):
    def repr_int(self, x: int, level: int) -> str:
        # Python 3.14 shows its address instead, earlier ones raise.
        try:
            repr(x)
        except ValueError:
            return "a number too long to be shown"
        return super().repr_int(x, level)


_SHORT = _Short()
_SHORT.maxstring = _SHORT.maxother = _SHORT.maxlong = 60

LONGEST_REASON = 500


def section(
    raw: object, path: str, known: Iterable[str], may_be_empty: bool = False
) -> Mapping[str, Any]:
    """Return a mapping whose keys are all known; with all of them commented out it is empty."""
    if raw is None and may_be_empty:
        return {}
    if not isinstance(raw, Mapping):
        raise InputError(f"{path}: want a mapping, got {shown(raw)}")
    known = tuple(known)
    if unknown := [key for key in raw if key not in known]:
        raise InputError(f"{path}: {_unknown(unknown, known)}")
    return raw


def _unknown(keys: list[object], known: tuple[str, ...]) -> str:
    names = f"known keys are {', '.join(known)}"
    if len(keys) == 1:
        return f"unknown key {shown(keys[0])}; {names}{suggestion(keys[0], known)}"
    return f"unknown keys {listed(map(shown, keys), MAX_NAMES)}; {names}" + "".join(
        f"{question} (for {shown(key)})" for key in keys if (question := suggestion(key, known))
    )


@dataclass(frozen=True)
class Signature:
    """The arguments of a function that is typed at a command line, in order."""

    command: str
    arguments: tuple[str, ...]
    required: frozenset[str]

    def check(self, positional: int, named: Iterable[str]) -> None:
        """Raise InputError unless so many positional arguments, and those by name, are its own.

        Python's own error would end as the function's whole docstring, and with exit code 0.
        """
        named = tuple(named)
        unknown = [name for name in named if name not in self.arguments]
        first = self.arguments[:positional]
        missing = [
            name for name in self.arguments if name in self.required.difference(first, named)
        ]
        if unknown:
            nearest = suggestion(unknown[0], self.arguments)
            raise self._error(f"unknown argument {shown(unknown[0])}{nearest}")
        if positional > len(self.arguments):
            extra = positional - len(self.arguments)
            raise self._error(f"{extra} argument{'s' * (extra > 1)} too many")
        for name in first:
            if name in named:
                raise self._error(f"{name} is given twice")
        if missing:
            raise self._error(
                f"{' and '.join(missing)} {'is' if len(missing) < 2 else 'are'} missing"
            )

    def _error(self, what: str) -> InputError:
        known = " ".join(name if name in self.required else f"[{name}]" for name in self.arguments)
        return InputError(f"{what}; usage: {self.command} {known}".rstrip() + "; nothing was done")


def full_path(path: str, key: str) -> str:
    """Return the path of a key; an argument of a call has no path above it."""
    return f"{path}:{key}" if path else key


def items(fields: Mapping[str, Any], key: str, path: str) -> list[object]:
    """Return a list; empty if the key is missing."""
    value = fields.get(key, [])
    if not isinstance(value, list):
        raise InputError(f"{full_path(path, key)}: want {LIST}, got {shown(value)}")
    return value


def flag(fields: Mapping[str, Any], key: str, path: str, default: bool) -> bool:
    """Return what is true or false."""
    value = fields.get(key, default)
    if not isinstance(value, bool):
        raise InputError(f"{full_path(path, key)}: want {FLAG}, got {shown(value)}")
    return value


def number(
    fields: Mapping[str, Any],
    key: str,
    path: str,
    limits: tuple[int, int],
    default: int,
    unit: str = "",
) -> int:
    """Return a whole number within limits; ``unit`` is named in an error."""
    value = fields.get(key, default)
    least, most = limits
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
        raise InputError(
            f"{full_path(path, key)}: want {whole(least, most, unit)}, got {shown(value)}"
        )
    return value


def seconds(fields: Mapping[str, Any], key: str, path: str, most: float, default: float) -> float:
    """Return a number of seconds above 0."""
    value = fields.get(key, default)
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value <= most:
        raise InputError(f"{full_path(path, key)}: want {span(most)}, got {shown(value)}")
    return float(value)


def choice(
    fields: Mapping[str, Any], key: str, path: str, choices: tuple[str, ...], default: str
) -> str:
    """Return one of several texts."""
    value = fields.get(key, default)
    if value not in choices:
        raise InputError(
            f"{full_path(path, key)}: want {one_of(choices)}, got {shown(value)}"
            f"{suggestion(value, choices)}"
        )
    return str(value)


def whole(least: int, most: int, unit: str = "") -> str:
    """Return what ``number`` accepts, for an error."""
    return f"a whole number{unit and f' of {unit}'} from {least} to {most}"


def span(most: float) -> str:
    """Return what ``seconds`` accepts, for an error."""
    return f"seconds, above 0 and at most {most:g}"


def one_of(choices: tuple[str, ...]) -> str:
    """Return what ``choice`` accepts, for an error."""
    return " or ".join(choices)


def matching(
    fields: Mapping[str, Any],
    key: str,
    path: str,
    pattern: re.Pattern[str],
    form: str,
    default: str | None = None,
) -> str:
    """Return a text that matches a pattern; ``form`` describes it in an error."""
    value = fields.get(key, default)
    if not isinstance(value, str) or not pattern.match(value):
        is_number = isinstance(value, (int, float))
        remedy = "" if is_number and not pattern.match(shown(value)) else quotes(value)
        raise InputError(f"{full_path(path, key)}: want {form}, got {shown(value)}{remedy}")
    return value


def quotes(value: object) -> str:
    """Return the remedy for text that YAML parsed as a number, a date or a boolean."""
    is_unaffected = value is None or isinstance(value, (str, list, Mapping))
    return "" if is_unaffected else "; put it in quotes"


def suggestion(value: object, known: Collection[str]) -> str:
    """Return a question that names the nearest known value, empty if none is near."""
    close = difflib.get_close_matches(value[:80], known, n=1) if isinstance(value, str) else []
    return f"; did you mean {close[0]}?" if close else ""


def shown(value: object) -> str:
    """Return a value as a short text, however large, deep or odd it is."""
    if value is None:
        return "nothing"
    return _SHORT.repr(value)


def reason(value: object, what: str) -> str:
    """Return a reason, as given for ``what``; InputError unless it is one printable line."""
    text = value.strip() if isinstance(value, str) else ""
    if text and text.isprintable() and len(text) <= LONGEST_REASON:
        return text
    raise InputError(
        f"reason: want a line of text of at most {LONGEST_REASON} characters that tells others why"
        f" {what}"
    )
