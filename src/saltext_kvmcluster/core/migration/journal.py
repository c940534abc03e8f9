"""What is kept on disk of a migration from before it begins until it is settled."""

from __future__ import annotations

import json
import re
import uuid
from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from typing import Any

from saltext_kvmcluster.core.errors import InputError
from saltext_kvmcluster.core.migration import handover
from saltext_kvmcluster.core.migration.handover import Handover
from saltext_kvmcluster.core.migration.migration import Move
from saltext_kvmcluster.core.text import MAX_NAMES
from saltext_kvmcluster.core.untrusted import Reader

# Versions of this package that know no strict handover must not settle one: they would take the
# copy for a guest that its user paused.
PLAIN, WITH_HANDOVER = 1, 2
# libvirt may have been called; the migration has ended, but is not settled. Of a strict handover:
# it is certain that the source is over; the copy was observed to run, but may still have its mark.
# Of another one: its copy never ran.
BEGUN, ENDED, OVER, RUNS, FAILED = "begun", "ended", "over", "runs", "failed"
STAGES = (BEGUN, ENDED, OVER, RUNS, FAILED)
FOLDER = "/var/lib/kvmcluster/journal"
LONGEST = 16384
"""Bytes of an entry at most."""
DIGITS = 18
"""Digits of a sequence's number at most."""
KINDS = {
    "d": "a folder",
    "l": "a symbolic link",
    "p": "a named pipe",
    "s": "a socket",
    "b": "a block device",
    "c": "a character device",
}
"""What may lie in a journal besides regular files, by the letters of find(1)."""
OWN = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}\.(json|cancel)", re.ASCII)
"""The names of what belongs in a journal; files that are being written begin with a dot."""


@dataclass(frozen=True)
class Entry:
    """One migration that was begun, and is not known to be settled.

    ``persistent``: whether the source kept a definition of the guest before. ``definitions``: where
    the pillar kept definitions then. ``flags``: libvirt's, by name. ``began``: ISO 8601, UTC, for
    people. ``sequence``: higher than that of each earlier migration of the guest from or to one of
    the two nodes; 0 if it could not be had.
    ``handover``: the strict one, None if libvirt starts the guest at its destination.
    """

    move: Move
    began: str
    stage: str
    persistent: bool
    definitions: str
    flags: tuple[str, ...] = ()
    handover: Handover | None = None
    sequence: int = 0

    def at(self, stage: str) -> Entry:
        """Return the entry of the same migration at another stage."""
        return replace(self, stage=stage)

    @property
    def token(self) -> str:
        """What the mark of its copy says."""
        return handover.token(self.move.source, self.began)


@dataclass(frozen=True)
class Kept:
    """What a journal holds. ``unread``: a sentence for each file that is no valid entry.

    It begins with the file's path, so it has the UUID of the guest that the file may concern.
    """

    entries: tuple[Entry, ...] = ()
    unread: tuple[str, ...] = ()

    def of(self, guest: str) -> tuple[Entry, ...]:
        """Return the entries of a guest, by its name or UUID."""
        return tuple(one for one in self.entries if guest in (one.move.guest, one.move.uuid))

    def doubts(self, uuid: str) -> str:
        """Return why an entry of a guest may be there that is not known; empty if none may be.

        Nothing is found by a name: it may be a word of any sentence.
        """
        is_uuid = OWN.fullmatch(f"{uuid}.json")
        return "; ".join(why for why in self.unread if is_uuid and uuid in why)

    def may_have(self, uuid: str) -> bool:
        """Whether there is an entry of a guest, or a file of its name that cannot be read."""
        return bool(self.of(uuid) or self.doubts(uuid))

    def of_node(self, node: str) -> Kept:
        """Return what a node's journal holds: only migrations that the node sends belong there."""
        foreign = tuple(
            f"{FOLDER}/{one.move.uuid}.json on {node} is the entry of a migration from"
            f" {one.move.source}; if none is under way, remove it"
            for one in self.entries
            if one.move.source != node
        )
        own = tuple(one for one in self.entries if one.move.source == node)
        return Kept(own, self.unread + foreign)


@dataclass(frozen=True)
class Found:
    """Something in a journal's folder.

    ``where``: its path, for sentences. ``kind``: find's letter. ``text``: of a regular file that
    may be an entry. ``error``: why it could not be read.
    """

    name: str
    where: str
    kind: str
    size: int
    text: str = ""
    error: str = ""


def text(entry: Entry) -> str:
    """Return an entry as it is kept."""
    kept = {"version": WITH_HANDOVER if entry.handover else PLAIN, **asdict(entry)}
    if entry.handover is None:
        del kept["handover"]
    return json.dumps(kept, indent=1) + "\n"


def read_all(found: Iterable[Found]) -> Kept:
    """Return what a journal holds; whatever else lies there hides no entry.

    A foreign name concerns no guest, so only the first MAX_NAMES of those are reported.
    """
    entries, unread, foreign = [], [], []
    for one in sorted(found, key=lambda one: one.name):
        if not OWN.fullmatch(one.name):
            if not one.name.startswith("."):
                foreign.append(f"{_shown(one.where)} does not belong there; move it away")
        elif detail := _oddity(one):
            unread.append(_refusal(one.where, detail))
        elif one.name.endswith(".json"):
            try:
                entries.append(_named(parse(one.text, one.where), one))
            except InputError as error:
                unread.append(str(error))
    excess = len(foreign) - MAX_NAMES
    more = [f"{excess} more files there do not belong there"] if excess > 0 else []
    return Kept(tuple(entries), (*unread, *foreign[:MAX_NAMES], *more))


def parse(kept: str, where: str) -> Entry:
    """Return the entry that was kept; InputError, which names ``where``, if it is invalid.

    It may come from a peer, or have been edited.
    """
    try:
        raw = Reader(json.loads(kept, object_pairs_hook=_fields), where)
        move = Move(**{key: _text(raw.at("move").at(key)) for key in Move.__dataclass_fields__})
        # They become part of paths and commands; libvirt's QEMU driver takes no name with a slash.
        if str(uuid.UUID(move.uuid)) != move.uuid or not move.guest or "/" in move.guest:
            raise ValueError
        raw.at("version").whole(least=PLAIN, most=WITH_HANDOVER)
        return Entry(
            move,
            _text(raw.at("began")),
            raw.at("stage").choice(STAGES),
            raw.at("persistent").flag(),
            _text(raw.at("definitions")),
            tuple(_text(flag) for flag in raw.at("flags").items()),
            handover.parse(raw.at("handover")),
            sequence=raw.at("sequence").whole(default=0),
        )
    except (ValueError, RecursionError, InputError):
        raise InputError(_refusal(where, "")) from None


def counted(text: str, where: str) -> int:
    """Return the last number that a node has counted, by its file; InputError if it is invalid."""
    number = text.strip()
    if not (number.isascii() and number.isdecimal() and len(number) <= DIGITS):
        raise InputError(f"{_shown(where)} holds no number; remove it")
    return int(number)


def _fields(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Return a JSON object; ValueError if it has a key twice: which one counts is not certain."""
    fields = dict(pairs)
    if len(fields) != len(pairs):
        raise ValueError
    return fields


def _oddity(one: Found) -> str:
    """Return why something of an entry's name is not read; empty if it is a file like ours."""
    if one.kind in KINDS:
        return f"it is {KINDS[one.kind]}"
    if one.size > LONGEST:
        return f"it has {one.size} bytes, at most {LONGEST} are read"
    return one.error


def _named(entry: Entry, one: Found) -> Entry:
    """Return an entry that is of the guest by whose UUID it is found."""
    if one.name != f"{entry.move.uuid}.json":
        detail = f"its name is another guest's, it is that of {entry.move.guest}, {entry.move.uuid}"
        raise InputError(_refusal(one.where, detail))
    return entry


def _refusal(where: str, detail: str) -> str:
    reason = detail or f"it is not a journal entry of version {PLAIN} or {WITH_HANDOVER}"
    return (
        f"{_shown(where)} is not a valid journal entry: {reason}; if no migration is under way,"
        " remove it"
    )


def _shown(where: str) -> str:
    """Return a path in one line; with what does not print escaped, as Python and bash write it."""
    return where if where.isprintable() else repr(where)


def _text(value: Reader) -> str:
    text = value.text()
    if not text.isprintable():
        raise value.error("printable text")
    return text
