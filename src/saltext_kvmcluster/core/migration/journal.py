"""What is kept on disk of a migration from before it begins until it is settled."""

from __future__ import annotations

import json
import uuid
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace

from saltext_kvmcluster.core.errors import InputError
from saltext_kvmcluster.core.migration import handover
from saltext_kvmcluster.core.migration.handover import Handover
from saltext_kvmcluster.core.migration.migration import Move
from saltext_kvmcluster.core.untrusted import Reader, from_json

# Versions of this package that know no strict handover must not settle one: they would take the
# copy for a guest that its user paused.
PLAIN, WITH_HANDOVER = 1, 2
# libvirt may have been called; the migration has ended, but is not settled. Of a strict handover:
# it is certain that the source is over; the copy was observed to run, but may still have its mark.
BEGUN, ENDED, OVER, RUNS = "begun", "ended", "over", "runs"
STAGES = (BEGUN, ENDED, OVER, RUNS)


@dataclass(frozen=True)
class Entry:
    """One migration that was begun, and is not known to be settled.

    ``persistent``: whether the source kept a definition of the guest before. ``definitions``: where
    the pillar kept definitions then. ``flags``: libvirt's, by name. ``began``: ISO 8601, UTC.
    ``handover``: the strict one, None if libvirt starts the guest at its destination.
    """

    move: Move
    began: str
    stage: str
    persistent: bool
    definitions: str
    flags: tuple[str, ...] = ()
    handover: Handover | None = None

    def at(self, stage: str) -> Entry:
        """Return the entry of the same migration at another stage."""
        return replace(self, stage=stage)

    @property
    def token(self) -> str:
        """What the mark of its copy says."""
        return handover.token(self.move.source, self.began)


@dataclass(frozen=True)
class Kept:
    """What a journal holds. ``unread``: a sentence for each file that is no valid entry."""

    entries: tuple[Entry, ...] = ()
    unread: tuple[str, ...] = ()

    def of(self, guest: str) -> tuple[Entry, ...]:
        """Return the entries of a guest, by its name or UUID."""
        return tuple(one for one in self.entries if guest in (one.move.guest, one.move.uuid))

    def may_have(self, uuid: str) -> bool:
        """Whether there is an entry of a guest, or a file of its name that cannot be read."""
        return bool(self.of(uuid)) or any(uuid in why for why in self.unread)


def text(entry: Entry) -> str:
    """Return an entry as it is kept."""
    kept = {"version": WITH_HANDOVER if entry.handover else PLAIN, **asdict(entry)}
    if entry.handover is None:
        del kept["handover"]
    return json.dumps(kept, indent=1) + "\n"


def read_all(texts: Mapping[str, str]) -> Kept:
    """Return what a journal holds, from its files; an invalid one hides no other.

    texts
        The text of each file, by its name for sentences.
    """
    entries, unread = [], []
    for where, kept in texts.items():
        try:
            entries.append(parse(kept, where))
        except InputError as error:
            unread.append(str(error))
    return Kept(tuple(entries), tuple(unread))


def parse(kept: str, where: str) -> Entry:
    """Return the entry that was kept; InputError, which names ``where``, if it is invalid.

    It may come from a peer, or have been edited.
    """
    try:
        raw = from_json(kept, where)
        move = Move(**{key: _text(raw.at("move").at(key)) for key in Move.__dataclass_fields__})
        # It becomes part of paths and commands.
        if str(uuid.UUID(move.uuid)) != move.uuid or not move.guest:
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
        )
    except (ValueError, InputError):
        raise InputError(
            f"{where} is not a journal entry of version {PLAIN} or {WITH_HANDOVER}; if no migration"
            " is under way, remove it"
        ) from None


def _text(value: Reader) -> str:
    text = value.text()
    if not text.isprintable():
        raise value.error("printable text")
    return text
