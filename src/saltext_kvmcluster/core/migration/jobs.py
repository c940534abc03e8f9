"""The migrations that are under way on a node, as plain data for people."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
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

# The phase of a migration that waits for a slot, the one that its destination reports, and that of
# one whose outcome is being checked after libvirt's part is over.
QUEUED, ARRIVING, CHECKING = "queued", "arriving", "checking"
KEYS = (
    *("guest", "uuid", "source", "destination", "phase", "percentage", "rate", "dirty_rate"),
    *("remaining", "expected_end", "expected_downtime_ms", "downtime_ms", "iteration", "throttle"),
    *("stalled", "elapsed", "slot", "reason"),
)
_TEXTS = ("guest", "uuid", "source", "destination", "phase", "reason")
_FIGURES = (
    *("rate", "dirty_rate", "remaining", "expected_end", "expected_downtime_ms", "downtime_ms"),
    *("iteration", "throttle", "elapsed"),
)
_NEEDED = ("guest", "uuid")


@dataclass(frozen=True)
class JobObservation:
    """A guest that libvirt is migrating, and its progress, if libvirt reports it."""

    observation: Observation
    progress: Progress | None


def under_way(
    here: str,
    observed: Iterable[JobObservation],
    entries: Iterable[Entry],
    statuses: Iterable[Mapping[str, Any]],
    now: datetime,
) -> list[dict[str, Any]]:
    """Return the migrations that are under way on a node, each with all KEYS.

    entries
        What the node's journal holds.
    statuses
        The last status of each migration from here.
    """
    kept = {entry.move.uuid: entry for entry in entries}
    begun = {uuid: entry for uuid, entry in kept.items() if entry.stage == BEGUN}
    reported = {str(status.get("uuid")): status for status in statuses}
    rows = {
        one.observation.uuid: _row(
            here, one, begun.get(one.observation.uuid), reported.get(one.observation.uuid, {}), now
        )
        for one in observed
    }
    queued = [_queued(status) for uuid, status in reported.items() if uuid not in rows]
    checking = [
        _checking(kept[uuid], now)
        for uuid, status in reported.items()
        if uuid in kept and uuid not in rows and status.get("what") != QUEUED
    ]
    return [*rows.values(), *checking, *filter(None, queued)]


def merged(reported: Mapping[str, Iterable[Any]]) -> list[dict[str, Any]]:
    """Return the migrations that several nodes report, each once: its source reports more.

    By guest. A figure that is none counts as not known, and so does a key of a later version.
    """
    rows = [row for rows in reported.values() for row in map(_parsed, rows) if row]
    sent = {row["uuid"] for row in rows if row["phase"] != ARRIVING}
    found = [row for row in rows if row["phase"] != ARRIVING or row["uuid"] not in sent]
    return sorted(found, key=lambda row: str(row["guest"]))


def of_node(node: str, answer: object) -> list[dict[str, Any]]:
    """Return the migrations that a node reports; none if it does not."""
    rows = answer.get("jobs") if isinstance(answer, Mapping) else None
    return merged({node: rows}) if isinstance(rows, list) else []


def sender(guest: str, reported: Mapping[str, Iterable[Any]], silent: Mapping[str, str]) -> str:
    """Return the node from which a guest is migrating; WorldError if it is not."""
    for node, rows in reported.items():
        sent = [row for row in map(_parsed, rows) if row and row["phase"] != CHECKING]
        if any((row["guest"], row["source"]) == (guest, node) for row in sent):
            return node
    hidden = "".join(f"; no information from {node}: {detail}" for node, detail in silent.items())
    raise WorldError(f"no node that responded has a migration of {guest} under way{hidden}")


def _parsed(row: object) -> dict[str, Any] | None:
    """Return a migration that a node reports, with all KEYS; None if it is none."""
    sent = Reader(row, lenient=True)
    found: dict[str, Any] = dict.fromkeys(KEYS)
    found |= {key: sent.at(key).line(default=None) for key in _TEXTS}
    found |= {key: sent.at(key).number(default=None) for key in _FIGURES}
    found["percentage"] = sent.at("percentage").whole(default=None, most=100)
    found["slot"] = sent.at("slot").whole(default=None)
    found["stalled"] = sent.at("stalled").flag(default=None)
    # Without a phase: libvirt may show a job before it tells how far it is.
    is_odd = sent.at("phase").value is not None and found["phase"] is None
    return None if is_odd or any(found[key] is None for key in _NEEDED) else found


def _row(
    here: str, one: JobObservation, entry: Entry | None, status: Mapping[str, Any], now: datetime
) -> dict[str, Any]:
    named = {"guest": printable(one.observation.name), "uuid": one.observation.uuid}
    if one.observation.job == verdicts.INCOMING:
        return {**dict.fromkeys(KEYS), **named, "destination": here, "phase": ARRIVING}
    known = (
        progress.shown(one.progress, status.get("stalled"), _downtime_ms(one.observation, status))
        if one.progress
        else {}
    )
    if entry:
        known["destination"] = entry.move.destination
        known["elapsed"] = _since(entry.began, now)
    known = {key: value for key, value in known.items() if key in KEYS}
    return {**dict.fromkeys(KEYS), **named, "source": here, **known}


def _downtime_ms(observation: Observation, status: Mapping[str, Any]) -> int | None:
    """Return how long a guest has been stopped; only the process that runs the migration knows."""
    if observation.sighting is Sighting.RUNNING:
        return 0
    return Reader(status, lenient=True).at("downtime_ms").whole(default=None, least=1)


def _queued(status: Mapping[str, Any]) -> dict[str, Any] | None:
    if status.get("what") != QUEUED:
        return None
    known = ("guest", "uuid", "source", "destination", "slot", "reason")
    return {**dict.fromkeys(KEYS), **{key: status.get(key) for key in known}, "phase": QUEUED}


def _checking(entry: Entry, now: datetime) -> dict[str, Any]:
    known = {**asdict(entry.move), "phase": CHECKING, "elapsed": _since(entry.began, now)}
    return {**dict.fromkeys(KEYS), **known}


def _since(began: str, now: datetime) -> float | None:
    """Return seconds since then by the node's clock, for people; None if that was set back."""
    try:
        seconds = round((now - datetime.fromisoformat(began)).total_seconds(), 1)
    except (ValueError, TypeError):
        return None
    return seconds if seconds >= 0 else None
