"""The outputs of programs on a node, for the parsers: they come from outside, and may be anything.

Every function raises InputError, with the reason, where an output cannot be relied on.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from saltext_kvmcluster.core.errors import InputError

Output = tuple[int | None, str]
"""A program's exit code, None if it was killed, and its output."""

NOT_INSTALLED = 127


class Outputs:
    """The outputs of some commands, by key."""

    def __init__(
        self, commands: Mapping[str, tuple[str, ...]], outputs: Mapping[str, Output]
    ) -> None:
        self._commands = commands
        self._outputs = outputs

    def code(self, key: str) -> int | None:
        return self._outputs.get(key, (None, ""))[0]

    def text(self, key: str, *good: int) -> str:
        """Return the output of a command that exited with 0, or one of the ``good`` codes."""
        code, text = self._outputs.get(key, (None, ""))
        if code == 0 or code in good:
            return text
        tool = " ".join(self._commands[key][:2])
        if code is None:
            raise InputError(f"'{tool}' was not run, or did not end")
        if code == NOT_INSTALLED:
            raise InputError(f"{self._commands[key][0]} is not installed")
        raise InputError(f"'{tool}' failed with exit code {code}")

    def document(self, key: str, *good: int) -> Any:
        """Return the JSON that a command printed."""
        try:
            return json.loads(self.text(key, *good))
        except (ValueError, RecursionError):
            raise InputError(f"the output of {self._commands[key][0]} is not JSON") from None


def items(fields: Any, key: str, wanted: bool = False) -> list[Mapping[str, Any]]:
    """Return a list of mappings, empty where it is missing and not required."""
    if not isinstance(fields, Mapping) or (wanted and key not in fields):
        raise InputError(f"{key} is missing")
    return as_list(fields.get(key) or [])


def as_list(found: Any) -> list[Mapping[str, Any]]:
    """Return a list of mappings."""
    if not isinstance(found, list) or not all(isinstance(item, Mapping) for item in found):
        raise InputError("not a list of mappings")
    return found


def text(fields: Mapping[str, Any], key: str) -> str:
    """Return a text, empty where it is missing."""
    found = fields.get(key)
    if found is None:
        return ""
    if not isinstance(found, str):
        raise InputError(f"{key} is not text")
    return found


def number(fields: Mapping[str, Any], key: str) -> int:
    """Return a whole number from 0."""
    found = fields.get(key)
    if not isinstance(found, int) or isinstance(found, bool) or not 0 <= found < 2**31:
        raise InputError(f"{key} is not a number")
    return found
