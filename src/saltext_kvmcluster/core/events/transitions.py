"""Compares a node's observations of itself: the events of what changed between two of them.

An observation has libvirt's events since the previous one, in order, and the node's own state. What
was not observed is not reported: a guest that vanished while the daemon was unreachable is gone,
however it ended.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from saltext_kvmcluster.core import validate
from saltext_kvmcluster.core.errors import InputError, WorldError
from saltext_kvmcluster.core.events.events import DAEMON, GUEST, IDENTITY, READINESS, TRUST

# Events from the daemon: all its guests once it is connected, one guest's change, its loss.
LISTING, CHANGE, LOST = "listing", "change", "lost"

STARTED, STOPPED, CRASHED = "started", "stopped", "crashed"
ARRIVED, LEFT, APPEARED, GONE = "arrived", "left", "appeared", "gone"
PAUSED, RESUMED, STANDS = "paused", "resumed", "stands"

IO_ERROR, PANICKED, ARRIVING = "I/O error", "panicked", "arriving"
# Why a guest is paused. A copy that waits for its handover is not here yet. While libvirt's job is
# active, a guest that is paused for it migrates, on either side, and as long as its memory takes.
BY_USER, HANDOVER = "by its user", "handover"
MIGRATION, MIGRATING = "migration", "migrating"
# As host/libvirt_events.py names them.
_ENDS = {
    "shut down": STOPPED,
    "destroyed": STOPPED,
    "saved": STOPPED,
    "from a snapshot": STOPPED,
    "crashed": CRASHED,
    "failed": CRASHED,
    "migrated": LEFT,
}
_BEGINNINGS = {
    "booted": STARTED,
    "restored": STARTED,
    "from a snapshot": STARTED,
    "migrated": ARRIVED,
    "post-copy": ARRIVED,
}
_ON_THE_WAY = (MIGRATING, "starting up", HANDOVER)
# Why a guest stands that no migration lets go on: the switch itself takes less than a second, and
# what a killed process left is completed within seconds.
_STANDING = (MIGRATION, "API error", "post-copy failed", HANDOVER)
STOOD_TOO_LONG = 60.0


PATH = "beacons:kvmcluster"
# Salt's own settings of any beacon; there are no others.
_FLAGS = ("enabled", "disable_during_state_run", "run_once")
_SETTINGS = ("interval", *_FLAGS, "beacon_module")
_SALTS_NOTE = "_beacon_name"


@dataclass(frozen=True)
class Event:
    """One transition: an event to be fired. ``guest`` is empty where it is about the node."""

    kind: str
    guest: str
    data: Mapping[str, Any]


@dataclass(frozen=True)
class Guest:
    """A guest that was observed active: ``run`` is libvirt's number of this run of it.

    ``condition`` is ``I/O error``, ``panicked``, ``arriving`` (not here yet), or empty. ``paused``:
    why it is paused, empty if it is not, or if that is not known.
    """

    uuid: str
    name: str
    run: int
    condition: str = ""
    paused: str = ""

    @property
    def stands(self) -> bool:
        """Whether it stands for a migration."""
        return self.paused in _STANDING

    def event(self, what: str, how: str, **more: object) -> Event:
        """Return the event of a transition of this guest."""
        data = {"what": what, "guest": self.name, "uuid": self.uuid, "how": how, **more}
        return Event(GUEST, self.name, data)


@dataclass(frozen=True)
class Standing:
    """A guest's run that stands: why, since when, by the observer's clock, and if reported."""

    run: int
    how: str
    since: float
    reported: bool = False


@dataclass(frozen=True)
class Observation:
    """The last known state of a node; None for what has not been observed yet."""

    guests: Mapping[str, Guest] | None = None
    daemon: bool | None = None
    lost: str = ""
    drifted: tuple[str, ...] = ()
    identity: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    ready: bool | None = None
    standing: Mapping[str, Standing] = field(default_factory=dict)


def check_settings(config: object) -> None:
    """Raise InputError, which names the key, unless it is a good configuration of the beacon."""
    if not isinstance(config, list):
        raise InputError(f"{PATH}: want a list such as [interval: 5], got {validate.shown(config)}")
    fields: dict[str, Any] = {}
    for item in config:
        known = {**item} if isinstance(item, Mapping) else item
        if isinstance(known, dict):
            known.pop(_SALTS_NOTE, None)
        fields.update(validate.section(known, PATH, _SETTINGS))
    validate.seconds(fields, "interval", PATH, most=86400, default=1)
    for name in _FLAGS:
        validate.flag(fields, name, PATH, default=True)
    if not isinstance(fields.get("beacon_module", ""), str):
        raise InputError(
            f"{PATH}:beacon_module: want a name, got {validate.shown(fields['beacon_module'])}"
        )


def compare(
    observed: Observation, observation: Mapping[str, Any]
) -> tuple[Observation, list[Event]]:
    """Return the state now, and an event for every transition since the previous observation.

    The first observation reports bad conditions, but not what runs.

    observation
        ``events`` of the daemon, in order; ``drifted``: paths of trust files, None if
        unknown; ``identity``: fingerprints by what they are of, empty lists for
        what cannot be read; ``issues``: why peers cannot rely on this node; ``at``: seconds of the
        host's monotonic clock.

    WorldError if the observation is invalid.
    """
    changes: list[Event] = []
    try:
        for event in observation["events"]:
            observed, more = _after(observed, event)
            changes += more
        for part in (_identity, _drift, _readiness, _standing):
            observed, more = part(observed, observation)
            changes += more
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise WorldError(f"invalid observer message: {error!r}") from None
    return observed, changes


def _after(observed: Observation, event: Mapping[str, Any]) -> tuple[Observation, list[Event]]:
    if event["kind"] == LOST:
        detail = str(event["detail"])
        if observed.daemon is False:
            return observed, []
        return replace(observed, daemon=False, lost=detail), [_node(DAEMON, GONE, reason=detail)]
    if event["kind"] == LISTING:
        back = [_node(DAEMON, "back")] if observed.daemon is False else []
        guests, changes = _listed(observed.guests, event["guests"])
        return replace(observed, daemon=True, lost="", guests=guests), back + changes
    if observed.guests is None:
        return observed, []  # The first listing is about to show it.
    guests = dict(observed.guests)
    found = Guest(event["uuid"], event["name"], int(event["run"]))
    known = guests.pop(found.uuid, None)
    now, changes = _changed(known, found, event["what"], event["how"])
    if now:
        paused = {PAUSED: event["how"], CRASHED: now.paused}.get(event["what"], "")
        guests[now.uuid] = replace(now, paused=paused)
    return replace(observed, guests=guests), changes


def _changed(
    known: Guest | None, found: Guest, what: str, how: str
) -> tuple[Guest | None, list[Event]]:
    """Return a guest after a change that libvirt reported, None if it is no longer active."""
    if what == STARTED:
        return _begun(known, found, how)
    if known is None:
        return None, []  # The next listing shows it, or has shown its end.
    if what == STOPPED:
        return None, _ended(known, how)
    if known.condition == ARRIVING:
        is_here = what == RESUMED or (what, how) == (PAUSED, BY_USER)
        return (
            (replace(known, condition=""), [known.event(ARRIVED, how)]) if is_here else (known, [])
        )
    if what == RESUMED:
        return _in_state(known, "")
    if (what, how) == (PAUSED, IO_ERROR):
        return _in_state(known, IO_ERROR)
    return _in_state(known, PANICKED) if what == CRASHED else (known, [])


def _begun(known: Guest | None, found: Guest, how: str) -> tuple[Guest, list[Event]]:
    if known and known.run == found.run:
        return known, []
    before = [known.event(GONE, "")] if known and known.condition != ARRIVING else []
    if how == "migrated":
        return replace(found, condition=ARRIVING), before
    return found, [*before, found.event(STARTED, how)]


def _ended(known: Guest, how: str) -> list[Event]:
    """Report how a guest ended, unless it never was here or its crash was reported before."""
    what = _ENDS.get(how, GONE)
    if known.condition == ARRIVING or (known.condition == PANICKED and what == CRASHED):
        return []
    return [known.event(what, how)]


def _in_state(known: Guest, condition: str) -> tuple[Guest, list[Event]]:
    """Return a guest in a new condition, and the events of that."""
    now = replace(known, condition=condition)
    if condition == known.condition:
        return now, []
    if condition == IO_ERROR:
        return now, [now.event(PAUSED, IO_ERROR)]
    if condition == PANICKED:
        return now, [now.event(CRASHED, PANICKED)]
    return now, [now.event(RESUMED, IO_ERROR)] if known.condition == IO_ERROR else []


def _listed(
    before: Mapping[str, Guest] | None, listing: Iterable[Mapping[str, Any]]
) -> tuple[dict[str, Guest], list[Event]]:
    """Compare all guests with those known before the daemon was lost, if any."""
    entries = {entry["uuid"]: entry for entry in listing}
    active = {uuid: entry for uuid, entry in entries.items() if entry["active"]}
    changes: list[Event] = []
    for uuid, known in (before or {}).items():
        is_another = uuid in active and int(active[uuid]["run"]) != known.run
        if uuid not in active or is_another:
            changes += _ended(known, "" if is_another else entries.get(uuid, {}).get("how", ""))
    guests = {}
    for uuid, entry in active.items():
        found = Guest(uuid, entry["name"], int(entry["run"]))
        known_now = (before or {}).get(uuid)
        if known_now and known_now.run == found.run:
            guests[uuid], more = _still(known_now, entry)
        else:
            guests[uuid], more = _found(found, entry, is_first=before is None)
        paused = str(entry["how"]) if entry["state"] == "paused" else ""
        guests[uuid] = replace(guests[uuid], paused=paused)
        changes += more
    return guests, changes


def _still(known: Guest, entry: Mapping[str, Any]) -> tuple[Guest, list[Event]]:
    """Return a guest that was known before, in the same run of it."""
    if known.condition != ARRIVING:
        return _in_state(known, _condition(entry))
    if entry["state"] != "running" and entry["how"] != BY_USER:
        return known, []
    return replace(known, condition=""), [known.event(ARRIVED, entry["how"])]


def _found(found: Guest, entry: Mapping[str, Any], is_first: bool) -> tuple[Guest, list[Event]]:
    """Return a guest that was not known before; how it came here may be unknown."""
    how = entry["how"]
    if not is_first and entry["state"] == "paused" and how in _ON_THE_WAY:
        return replace(found, condition=ARRIVING), []
    came = [] if is_first else [found.event(_BEGINNINGS.get(how, APPEARED), how)]
    now, changes = _in_state(found, _condition(entry))
    return now, came + changes


def _condition(entry: Mapping[str, Any]) -> str:
    if entry["state"] == "crashed" or (entry["state"], entry["how"]) == ("paused", "crashed"):
        return PANICKED
    return IO_ERROR if (entry["state"], entry["how"]) == ("paused", IO_ERROR) else ""


def _identity(
    observed: Observation, observation: Mapping[str, Any]
) -> tuple[Observation, list[Event]]:
    """Compare what identifies the node; what cannot be read now stays as it was."""
    now = {name: tuple(prints) for name, prints in observation["identity"].items() if prints}
    changed = [
        name for name, prints in now.items() if observed.identity.get(name, prints) != prints
    ]
    known = {**observed.identity, **now}
    fingerprints = {name: list(prints) for name, prints in known.items()}
    return (
        replace(observed, identity=known),
        [_node(IDENTITY, "changed", changed=changed, **fingerprints)] if changed else [],
    )


def _drift(
    observed: Observation, observation: Mapping[str, Any]
) -> tuple[Observation, list[Event]]:
    if observation["drifted"] is None:
        return observed, []
    now = tuple(observation["drifted"])
    paths_of = {
        "drifted": [path for path in now if path not in observed.drifted],
        "mended": [path for path in observed.drifted if path not in now],
    }
    changes = [_node(TRUST, what, files=paths) for what, paths in paths_of.items() if paths]
    return replace(observed, drifted=now), changes


def _readiness(
    observed: Observation, observation: Mapping[str, Any]
) -> tuple[Observation, list[Event]]:
    """Judge readiness once it is known whether the daemon can be reached."""
    if observed.daemon is None:
        return observed, []
    lost = [] if observed.daemon else [f"the libvirt daemon is unreachable: {observed.lost}"]
    reasons = [*lost, *(str(issue) for issue in observation["issues"])]
    ready = not reasons
    now = replace(observed, ready=ready)
    if ready == observed.ready or (ready and observed.ready is None):
        return now, []
    if ready:
        return now, [_node(READINESS, "regained")]
    return now, [_node(READINESS, "lost", reason="; ".join(reasons))]


def _standing(
    observed: Observation, observation: Mapping[str, Any]
) -> tuple[Observation, list[Event]]:
    """Report a guest that stands for too long, and one that goes on after that."""
    at = float(observation["at"])
    if not observed.daemon or observed.guests is None:
        return observed, []
    now: dict[str, Standing] = {}
    changes: list[Event] = []
    for uuid, guest in observed.guests.items():
        known = observed.standing.get(uuid)
        if known is None or known.run != guest.run:
            known = Standing(guest.run, guest.paused, at)
        if guest.stands:
            now[uuid], more = _stood(guest, known, at)
            changes += more
        elif known.reported and not guest.paused and known.how != HANDOVER:
            changes.append(guest.event(RESUMED, known.how))
    return replace(observed, standing=now), changes


def _stood(guest: Guest, known: Standing, at: float) -> tuple[Standing, list[Event]]:
    seconds = at - known.since
    if known.reported or seconds < STOOD_TOO_LONG:
        return replace(known, how=guest.paused), []
    stands = guest.event(STANDS, guest.paused, seconds=round(seconds))
    return replace(known, how=guest.paused, reported=True), [stands]


def _node(kind: str, what: str, **more: Any) -> Event:
    return Event(kind, "", {"what": what, **more})
