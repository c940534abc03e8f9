"""What is kept on disk of a migration from before it begins until it is settled."""

from __future__ import annotations

import json
import uuid
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from saltext_kvmcluster.core.errors import InputError
from saltext_kvmcluster.core.migration.migration import Move

VERSION = 1
# libvirt may have been told to migrate; its migration is over, but not everything is settled.
BEGUN, ENDED = "begun", "ended"
STAGES = (BEGUN, ENDED)


@dataclass(frozen=True)
class Entry:
    """One migration that was begun, and is not known to be settled.

    ``persistent``: whether the source kept a definition of the guest before. ``definitions``: the
    pillar's word on where definitions are kept, then. ``flags``: libvirt's, by name. ``began``: ISO
    8601, UTC.
    """

    move: Move
    began: str
    stage: str
    persistent: bool
    definitions: str
    flags: tuple[str, ...] = ()

    def ended(self) -> Entry:
        """Return the entry of the same migration after libvirt ended it."""
        return replace(self, stage=ENDED)


@dataclass(frozen=True)
class Kept:
    """What a journal holds. ``unread``: why a file is no entry, each in a sentence."""

    entries: tuple[Entry, ...] = ()
    unread: tuple[str, ...] = ()

    def of(self, guest: str) -> tuple[Entry, ...]:
        """Return the entries of a guest, by its name or UUID."""
        return tuple(one for one in self.entries if guest in (one.move.guest, one.move.uuid))


def text(entry: Entry) -> str:
    """Return an entry as it is kept."""
    return json.dumps({"version": VERSION, **asdict(entry)}, indent=1) + "\n"


def read_all(texts: Mapping[str, str]) -> Kept:
    """Return what a journal holds, by what its files hold; one that is no entry hides no other.

    texts
        What each file holds, by what to call it.
    """
    entries, unread = [], []
    for where, kept in texts.items():
        try:
            entries.append(parse(kept, where))
        except InputError as error:
            unread.append(str(error))
    return Kept(tuple(entries), tuple(unread))


def parse(kept: str, where: str) -> Entry:
    """Return the entry that was kept; InputError, which names ``where``, if it is none.

    It may come from a peer, or have been edited.
    """
    try:
        raw = json.loads(kept)
        if not isinstance(raw, Mapping) or raw.get("version") != VERSION:
            raise ValueError
        move = Move(**{key: _word(raw["move"], key) for key in Move.__dataclass_fields__})
        stage = _word(raw, "stage")
        # It becomes part of paths and commands.
        if str(uuid.UUID(move.uuid)) != move.uuid or not move.guest:
            raise ValueError
        if stage not in STAGES or not isinstance(raw["flags"], list):
            raise ValueError
        flags = tuple(_word({"flag": flag}, "flag") for flag in raw["flags"])
        return Entry(
            move,
            _word(raw, "began"),
            stage,
            _truth(raw, "persistent"),
            _word(raw, "definitions"),
            flags,
        )
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise InputError(
            f"{where} is no journal entry of version {VERSION}; if no migration is under way,"
            " remove it"
        ) from None


def _word(raw: Mapping[str, Any], key: str) -> str:
    value = raw[key]
    if not isinstance(value, str) or not value.isprintable():
        raise ValueError(key)
    return value


def _truth(raw: Mapping[str, Any], key: str) -> bool:
    if not isinstance(raw[key], bool):
        raise ValueError(key)
    return bool(raw[key])
