"""The keys of a part of the pillar: the dataclass fields that have a description.

The validator takes its known keys from here, and the pillar's reference their descriptions, so
neither has a key that the other lacks.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import MISSING, dataclass, fields
from typing import Any

_KEY = "pillar"


@dataclass(frozen=True)
class Key:
    """A documented key of the pillar.

    ``wants``: what is accepted, as in the validator's errors. ``default``: the default as text,
    None if the key is required.
    """

    name: str
    wants: str
    text: str
    default: str | None


def described(wants: str, text: str, default: str | None = None) -> Mapping[str, Any]:
    """Return the metadata that makes a field a documented key.

    default
        The default as text, if it is not the field's own.
    """
    return {_KEY: (wants, text, default)}


def keys_of(part: type) -> tuple[str, ...]:
    """Return the keys that a part of the pillar may have."""
    return tuple(field.name for field in fields(part) if _KEY in field.metadata)


def documented(part: type) -> tuple[Key, ...]:
    """Return the keys of a part of the pillar with their descriptions."""
    found = []
    for field in fields(part):
        if _KEY in field.metadata:
            wants, text, default = field.metadata[_KEY]
            found.append(Key(field.name, wants, text, default or _default(field.default)))
    return tuple(found)


def _default(value: object) -> str | None:
    if value is MISSING:
        return None
    if value is None or value == ():
        return "none"
    return f"{value:g}" if isinstance(value, float) else str(value).lower()
