"""What is kept on disk of a migration from before it begins until it is settled."""

from __future__ import annotations

import json
import uuid
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace

from saltext_kvmcluster.core.errors import InputError
from saltext_kvmcluster.core.migration.migration import Move
from saltext_kvmcluster.core.untrusted import Reader, from_json

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
        raw = from_json(kept, where)
        move = Move(**{key: _word(raw.at("move").at(key)) for key in Move.__dataclass_fields__})
        # It becomes part of paths and commands.
        if str(uuid.UUID(move.uuid)) != move.uuid or not move.guest:
            raise ValueError
        raw.at("version").whole(least=VERSION, most=VERSION)
        return Entry(
            move,
            _word(raw.at("began")),
            raw.at("stage").choice(STAGES),
            raw.at("persistent").flag(),
            _word(raw.at("definitions")),
            tuple(_word(flag) for flag in raw.at("flags").items()),
        )
    except (ValueError, InputError):
        raise InputError(
            f"{where} is no journal entry of version {VERSION}; if no migration is under way,"
            " remove it"
        ) from None


def _word(value: Reader) -> str:
    word = value.text()
    if not word.isprintable():
        raise value.error("printable text")
    return word
