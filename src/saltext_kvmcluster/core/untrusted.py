"""Data from outside, read field by field: a node's return, the mine, a file, a program's output.

Each read checks the type and the limits of one value. A value that does not fit raises InputError
with its path, or counts as absent where the reader is lenient.
"""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Collection, Mapping
from typing import Any, TypeVar

from saltext_kvmcluster.core.errors import InputError
from saltext_kvmcluster.core.text import listed, printable

MAX_ITEMS = 100_000
MAX_TEXT = 1 << 26
MAX_LINE = 1000
"""Characters of a text that people read."""
MAX_NAME = 40
"""Characters of a key that an error quotes."""

_D = TypeVar("_D")


class _Required:
    """Marks that a value has no default: its absence is an error."""


REQUIRED = _Required()


class Reader:
    """A value and its path.

    None counts as absent. An absent value is the default of the read, or an error if it has none.

    value
        What was received: anything.
    path
        Its path in errors; empty for the root.
    lenient
        Whether a value that does not fit counts as absent; passed on to all fields and items.
    """

    __slots__ = ("_lenient", "_parent", "_step", "value")

    def __init__(self, value: object, path: str = "", lenient: bool = False) -> None:
        self.value = value
        self._parent: Reader | None = None
        self._step: object = path
        self._lenient = lenient

    @property
    def path(self) -> str:
        """The path of the value, for errors."""
        if self._parent is None:
            return str(self._step)
        before = self._parent.path
        if isinstance(self._step, int):
            return f"{before}[{self._step}]"
        step = printable(str(self._step)[:MAX_NAME])
        return f"{before}:{step}" if before else step

    def has(self, key: str) -> bool:
        """Whether the value is a mapping with that key."""
        return isinstance(self.value, Mapping) and key in self.value

    def at(self, key: str) -> Reader:
        """Return a field of a mapping; InputError if the value is none."""
        if isinstance(self.value, Mapping):
            return self._below(key, self.value.get(key))
        if self._lenient:
            return self._below(key, None)
        raise self.error("a mapping")

    def text(self, default: _D | _Required = REQUIRED, most: int = MAX_TEXT) -> str | _D:
        """Return a text of at most so many characters."""
        value = self.value
        if isinstance(value, str) and len(value) <= most:
            return value
        if isinstance(value, str) and not self._lenient:
            raise InputError(self._named(f"{len(value)} characters, at most {most}"))
        return self._absent("text", default)

    def line(self, default: _D | _Required = REQUIRED, most: int = MAX_LINE) -> str | _D:
        """Return a text for people: what does not print is replaced, what is too long cut."""
        if isinstance(self.value, str):
            return printable(self.value[:most])
        return self._absent("text", default)

    def whole(
        self, default: _D | _Required = REQUIRED, least: int = 0, most: int = sys.maxsize
    ) -> int | _D:
        """Return a whole number within limits."""
        value = self.value
        if isinstance(value, int) and not isinstance(value, bool) and least <= value <= most:
            return value
        return self._absent(f"a whole number from {least} to {most}", default)

    def number(self, default: _D | _Required = REQUIRED) -> int | float | _D:
        """Return a number that is finite."""
        value = self.value
        if isinstance(value, (int, float)) and not isinstance(value, bool) and _is_finite(value):
            return value
        return self._absent("a number", default)

    def flag(self, default: _D | _Required = REQUIRED) -> bool | _D:
        """Return what is true or false."""
        if isinstance(self.value, bool):
            return self.value
        return self._absent("true or false", default)

    def choice(self, choices: Collection[str], default: _D | _Required = REQUIRED) -> str | _D:
        """Return one of several texts."""
        if isinstance(self.value, str) and self.value in choices:
            return self.value
        return self._absent(f"one of {listed(choices)}", default)

    def items(self, optional: bool = False, most: int = MAX_ITEMS) -> list[Reader]:
        """Return the items of a list; none of one that is absent and optional."""
        value = self.value
        if not isinstance(value, list) or self._exceeds(value, most):
            return self._absent("a list", [] if optional else REQUIRED)
        return [self._below(at, item) for at, item in enumerate(value)]

    def fields(self, optional: bool = False, most: int = MAX_ITEMS) -> dict[str, Reader]:
        """Return the fields of a mapping by key; none of one that is absent and optional."""
        value = self.value
        if not isinstance(value, Mapping) or self._exceeds(value, most):
            return self._absent("a mapping", {} if optional else REQUIRED)
        if not self._lenient and not all(isinstance(key, str) for key in value):
            raise InputError(self._named("want text for every key"))
        return {key: self._below(key, one) for key, one in value.items() if isinstance(key, str)}

    def error(self, wanted: str) -> InputError:
        """Return the error of a value that is not what is wanted."""
        got = "nothing" if self.value is None else type(self.value).__name__
        return InputError(self._named(f"want {wanted}, got {got}"))

    def _named(self, sentence: str) -> str:
        path = self.path
        return f"{path}: {sentence}" if path else sentence

    def _below(self, step: object, value: object) -> Reader:
        field = Reader(value, "", self._lenient)
        field._parent, field._step = self, step
        return field

    def _absent(self, wanted: str, default: _D | _Required) -> _D:
        """Return the default where the value may be taken as absent."""
        if isinstance(default, _Required) or not (self.value is None or self._lenient):
            raise self.error(wanted)
        return default

    def _exceeds(self, value: Collection[Any], most: int) -> bool:
        """Whether there are too many entries; an error unless the reader is lenient."""
        if len(value) > most and not self._lenient:
            raise InputError(self._named(f"{len(value)} entries, at most {most}"))
        return len(value) > most


def from_json(text: str, path: str, lenient: bool = False) -> Reader:
    """Return what a text holds as JSON; InputError if it is none, or nothing where lenient."""
    try:
        return Reader(json.loads(text), path, lenient)
    except (ValueError, RecursionError):
        if lenient:
            return Reader(None, path, lenient)
        raise InputError(f"{path}: not JSON" if path else "not JSON") from None


def _is_finite(value: int | float) -> bool:
    try:
        return math.isfinite(value)
    except OverflowError:
        return False
