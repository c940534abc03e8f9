"""What a part of the pillar may hold: the fields of a dataclass that have words of their own.

The validator takes its known keys from here, and the pillar's reference its words, so neither
knows a key that the other does not.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import MISSING, dataclass, fields
from typing import Any

_KEY = "pillar"


@dataclass(frozen=True)
class Key:
    """A key of the pillar, for people.

    ``wants``: what may stand there, as the validator's errors say it. ``default``: what holds if
    it is left out, None if it must not be.
    """

    name: str
    wants: str
    says: str
    default: str | None


def words(wants: str, says: str, default: str | None = None) -> Mapping[str, Any]:
    """Return the metadata that makes a field a key.

    default
        What holds if it is left out, where the field's own default does not say it.
    """
    return {_KEY: (wants, says, default)}


def keys_of(part: type) -> tuple[str, ...]:
    """Return the keys that a part of the pillar may have."""
    return tuple(field.name for field in fields(part) if _KEY in field.metadata)


def described(part: type) -> tuple[Key, ...]:
    """Return the same with their words."""
    found = []
    for field in fields(part):
        if _KEY in field.metadata:
            wants, says, default = field.metadata[_KEY]
            found.append(Key(field.name, wants, says, default or _default(field.default)))
    return tuple(found)


def _default(value: object) -> str | None:
    if value is MISSING:
        return None
    if value is None or value == ():
        return "none"
    return f"{value:g}" if isinstance(value, float) else str(value).lower()
