"""The keys of a part of the pillar: the dataclass fields that have a description.

Some fields are only arguments of a call: they have a description, but are no keys.

The validator takes its known keys from here, and the pillar's reference their descriptions, so
neither has a key that the other lacks.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import MISSING, dataclass, fields
from typing import Any

_KEY, _ARGUMENT = "pillar", "argument"


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


def argument(wants: str, text: str) -> Mapping[str, Any]:
    """Return the metadata that makes a field an argument of a call, and no key."""
    return {_ARGUMENT: (wants, text, None)}


def keys_of(part: type) -> tuple[str, ...]:
    """Return the keys that a part of the pillar may have."""
    return tuple(key.name for key in documented(part))


def documented(part: type) -> tuple[Key, ...]:
    """Return the keys of a part of the pillar with their descriptions."""
    return _described(part, (_KEY,))


def arguments(part: type) -> tuple[Key, ...]:
    """Return what may be an argument of a call: the keys, and what is no key."""
    return _described(part, (_KEY, _ARGUMENT))


def _described(part: type, kinds: tuple[str, ...]) -> tuple[Key, ...]:
    found = []
    for field in fields(part):
        for kind in kinds:
            if kind in field.metadata:
                wants, text, default = field.metadata[kind]
                # A key that is a word of Python's has '_' after it as a field.
                name = field.name.rstrip("_")
                found.append(Key(name, wants, text, default or _default(field.default)))
    return tuple(found)


def _default(value: object) -> str | None:
    if value is MISSING:
        return None
    if value is None or value == ():
        return "none"
    return f"{value:g}" if isinstance(value, float) else str(value).lower()
