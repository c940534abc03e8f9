"""What programs printed on a node, for readers: an output is foreign, and may be anything.

A reader returns what an output says, or raises InputError, with why, where it cannot be relied on.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from saltext_kvmcluster.core.errors import InputError

Output = tuple[int | None, str]
"""What a program did: its exit code, None if it was ended, and what it printed."""

NOT_INSTALLED = 127


class Outputs:
    """What some commands printed, each under its key."""

    def __init__(
        self, commands: Mapping[str, tuple[str, ...]], outputs: Mapping[str, Output]
    ) -> None:
        self._commands = commands
        self._outputs = outputs

    def code(self, key: str) -> int | None:
        return self._outputs.get(key, (None, ""))[0]

    def text(self, key: str, *good: int) -> str:
        """Return what a command printed that ended well, or with one of the ``good`` codes."""
        code, text = self._outputs.get(key, (None, ""))
        if code == 0 or code in good:
            return text
        tool = " ".join(self._commands[key][:2])
        if code is None:
            raise InputError(f"'{tool}' was not run, or did not end")
        if code == NOT_INSTALLED:
            raise InputError(f"{self._commands[key][0]} is not installed")
        raise InputError(f"'{tool}' ended with exit code {code}")

    def document(self, key: str, *good: int) -> Any:
        """Return the JSON that a command printed."""
        try:
            return json.loads(self.text(key, *good))
        except (ValueError, RecursionError):
            raise InputError(f"what {self._commands[key][0]} printed is not JSON") from None


def items(fields: Any, key: str, wanted: bool = False) -> list[Mapping[str, Any]]:
    """Return a list of mappings; none of them where there is no such list and none is wanted."""
    if not isinstance(fields, Mapping) or (wanted and key not in fields):
        raise InputError(f"there is no {key} where one belongs")
    return as_list(fields.get(key) or [])


def as_list(found: Any) -> list[Mapping[str, Any]]:
    """Return what is a list of mappings."""
    if not isinstance(found, list) or not all(isinstance(item, Mapping) for item in found):
        raise InputError("something stands where a list belongs")
    return found


def text(fields: Mapping[str, Any], key: str) -> str:
    """Return a text, empty where there is none."""
    found = fields.get(key)
    if found is None:
        return ""
    if not isinstance(found, str):
        raise InputError(f"{key} is no text")
    return found


def number(fields: Mapping[str, Any], key: str) -> int:
    """Return a number of something: whole, and no less than 0."""
    found = fields.get(key)
    if not isinstance(found, int) or isinstance(found, bool) or not 0 <= found < 2**31:
        raise InputError(f"{key} is no number")
    return found
