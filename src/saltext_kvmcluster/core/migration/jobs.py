"""The migrations that are under way on a node, as plain data for people."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from saltext_kvmcluster.core import verdicts
from saltext_kvmcluster.core.errors import WorldError
from saltext_kvmcluster.core.migration import progress
from saltext_kvmcluster.core.migration.journal import BEGUN, Entry
from saltext_kvmcluster.core.migration.progress import Progress
from saltext_kvmcluster.core.text import printable
from saltext_kvmcluster.core.untrusted import Reader
from saltext_kvmcluster.core.verdicts import Observation, Sighting

# What a migration waits for its place in, and what its destination sees of it.
QUEUED, ARRIVING = "queued", "arriving"
KEYS = (
    *("guest", "uuid", "source", "destination", "phase", "percentage", "rate", "dirty_rate"),
    *("remaining", "expected_end", "expected_downtime_ms", "downtime_ms", "iteration", "throttle"),
    *("stalled", "elapsed", "place"),
)


@dataclass(frozen=True)
class JobObservation:
    """A guest that libvirt has a migration under way with, and how far that is, if it says."""

    observation: Observation
    progress: Progress | None


def under_way(
    here: str,
    observed: Iterable[JobObservation],
    entries: Iterable[Entry],
    words: Iterable[Mapping[str, Any]],
    now: datetime,
) -> list[dict[str, Any]]:
    """Return the migrations that are under way on a node, each with all KEYS.

    entries
        What the node's journal holds.
    words
        What was told last of each migration from here.
    """
    begun = {entry.move.uuid: entry for entry in entries if entry.stage == BEGUN}
    reported = {str(word.get("uuid")): word for word in words}
    rows = {
        one.observation.uuid: _row(
            here, one, begun.get(one.observation.uuid), reported.get(one.observation.uuid, {}), now
        )
        for one in observed
    }
    queued = [_queued(word) for uuid, word in reported.items() if uuid not in rows]
    return [*rows.values(), *filter(None, queued)]


def merged(reported: Mapping[str, Iterable[Any]]) -> list[dict[str, Any]]:
    """Return what several nodes told, each migration once: its source knows more of it."""
    rows = [dict(row) for rows in reported.values() for row in rows if _is_row(row)]
    sent = {row["uuid"] for row in rows if row["phase"] != ARRIVING}
    return [row for row in rows if row["phase"] != ARRIVING or row["uuid"] not in sent]


def sender(guest: str, reported: Mapping[str, Iterable[Any]], silent: Mapping[str, str]) -> str:
    """Return the node from which a guest is on its way; WorldError if it is not."""
    for node, rows in reported.items():
        if any(_is_row(row) and (row["guest"], row["source"]) == (guest, node) for row in rows):
            return node
    hidden = "".join(f"; not known of {node}: {detail}" for node, detail in silent.items())
    raise WorldError(f"no node that answered has a migration of {guest} under way{hidden}")


def _is_row(row: object) -> bool:
    sent = Reader(row)
    return all(
        sent.has(key) and isinstance(sent.at(key).value, (str, int, float, type(None)))
        for key in KEYS
    )


def _row(
    here: str, one: JobObservation, entry: Entry | None, word: Mapping[str, Any], now: datetime
) -> dict[str, Any]:
    named = {"guest": printable(one.observation.name), "uuid": one.observation.uuid}
    if one.observation.job == verdicts.INCOMING:
        return {**dict.fromkeys(KEYS), **named, "destination": here, "phase": ARRIVING}
    known = (
        progress.shown(one.progress, word.get("stalled"), _downtime_ms(one.observation, word))
        if one.progress
        else {}
    )
    if entry:
        known["destination"] = entry.move.destination
        known["elapsed"] = _since(entry.began, now)
    known = {key: value for key, value in known.items() if key in KEYS}
    return {**dict.fromkeys(KEYS), **named, "source": here, **known}


def _downtime_ms(observation: Observation, word: Mapping[str, Any]) -> int | None:
    """Return for how long a guest has stood still so far; since when, only its watcher saw."""
    if observation.sighting is Sighting.RUNNING:
        return 0
    return Reader(word, lenient=True).at("downtime_ms").whole(default=None, least=1)


def _queued(word: Mapping[str, Any]) -> dict[str, Any] | None:
    if word.get("what") != QUEUED:
        return None
    known = ("guest", "uuid", "source", "destination", "place")
    return {**dict.fromkeys(KEYS), **{key: word.get(key) for key in known}, "phase": QUEUED}


def _since(began: str, now: datetime) -> float | None:
    try:
        return round((now - datetime.fromisoformat(began)).total_seconds(), 1)
    except (ValueError, TypeError):
        return None
