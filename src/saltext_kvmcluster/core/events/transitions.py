"""From what a node saw of itself, look by look, to what changed: transitions, and only those.

A look brings what libvirt's daemon told since the one before, in its order, and the node's own
state. What was not seen is not said: a guest that vanished while the daemon was away is gone,
however it ended.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from saltext_kvmcluster.core import validate
from saltext_kvmcluster.core.errors import InputError, WorldError
from saltext_kvmcluster.core.events.events import DAEMON, GUEST, IDENTITY, READINESS, TRUST

# What the daemon tells: all its guests when it was reached, one guest's change, that it is lost.
LISTING, CHANGE, LOST = "listing", "change", "lost"

STARTED, STOPPED, CRASHED = "started", "stopped", "crashed"
ARRIVED, LEFT, APPEARED, GONE = "arrived", "left", "appeared", "gone"
PAUSED, RESUMED = "paused", "resumed"

IO_ERROR, PANICKED, ARRIVING = "I/O error", "panicked", "arriving"
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
_ON_THE_WAY = ("migration", "starting up")


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
    """A guest that was seen active: ``run`` is libvirt's number of this run of it.

    ``trouble`` is ``I/O error``, ``panicked``, ``arriving`` (not here yet), or empty.
    """

    uuid: str
    name: str
    run: int
    trouble: str = ""

    def reported(self, what: str, how: str) -> Event:
        """Return what became of it."""
        data = {"what": what, "guest": self.name, "uuid": self.uuid, "how": how}
        return Event(GUEST, self.name, data)


@dataclass(frozen=True)
class Observation:
    """What was seen last of a node. None stands for what has not been seen yet."""

    guests: Mapping[str, Guest] | None = None
    daemon: bool | None = None
    lost: str = ""
    drifted: tuple[str, ...] = ()
    identity: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    ready: bool | None = None


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
    """Return what is seen now, and every transition since what was seen before.

    At the first look bad conditions are told, but not what runs.

    look
        ``happenings`` of the daemon, in order; ``drifted``: paths of trust files, None if that
        could not be found out; ``identity``: fingerprints by what they are of, empty lists for
        what cannot be read; ``obstacles``: sentences that say why peers cannot count on this node.

    WorldError if it is no such look.
    """
    reported: list[Event] = []
    try:
        for happening in observation["happenings"]:
            observed, more = _happened(observed, happening)
            reported += more
        for part in (_identity, _drift, _readiness):
            observed, more = part(observed, observation)
            reported += more
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise WorldError(f"the lookout said what is no look: {error!r}") from None
    return observed, reported


def _happened(
    observed: Observation, happening: Mapping[str, Any]
) -> tuple[Observation, list[Event]]:
    if happening["kind"] == LOST:
        detail = str(happening["detail"])
        if observed.daemon is False:
            return observed, []
        return replace(observed, daemon=False, lost=detail), [_node(DAEMON, GONE, reason=detail)]
    if happening["kind"] == LISTING:
        back = [_node(DAEMON, "back")] if observed.daemon is False else []
        guests, reported = _listed(observed.guests, happening["guests"])
        return replace(observed, daemon=True, lost="", guests=guests), back + reported
    if observed.guests is None:
        return observed, []  # The first listing is about to show it.
    guests = dict(observed.guests)
    found = Guest(happening["uuid"], happening["name"], int(happening["run"]))
    known = guests.pop(found.uuid, None)
    now, reported = _changed(known, found, happening["what"], happening["how"])
    if now:
        guests[now.uuid] = now
    return replace(observed, guests=guests), reported


def _changed(
    known: Guest | None, found: Guest, what: str, how: str
) -> tuple[Guest | None, list[Event]]:
    """Return a guest after a change that libvirt told of it, None if it is not active then."""
    if what == STARTED:
        return _begun(known, found, how)
    if known is None:
        return None, []  # The next listing shows it, or has shown its end.
    if what == STOPPED:
        return None, _ended(known, how)
    if known.trouble == ARRIVING:
        is_here = what == RESUMED or (what, how) == (PAUSED, "by its user")
        return (
            (replace(known, trouble=""), [known.reported(ARRIVED, how)]) if is_here else (known, [])
        )
    if what == RESUMED:
        return _in_state(known, "")
    if (what, how) == (PAUSED, IO_ERROR):
        return _in_state(known, IO_ERROR)
    return _in_state(known, PANICKED) if what == CRASHED else (known, [])


def _begun(known: Guest | None, found: Guest, how: str) -> tuple[Guest, list[Event]]:
    if known and known.run == found.run:
        return known, []
    before = [known.reported(GONE, "")] if known and known.trouble != ARRIVING else []
    if how == "migrated":
        return replace(found, trouble=ARRIVING), before
    return found, [*before, found.reported(STARTED, how)]


def _ended(known: Guest, how: str) -> list[Event]:
    """Say how a guest ended, unless it never was here, or that it crashed was said before."""
    what = _ENDS.get(how, GONE)
    if known.trouble == ARRIVING or (known.trouble == PANICKED and what == CRASHED):
        return []
    return [known.reported(what, how)]


def _in_state(known: Guest, trouble: str) -> tuple[Guest, list[Event]]:
    """Return a guest that goes on in a state, and what is to be told of it."""
    now = replace(known, trouble=trouble)
    if trouble == known.trouble:
        return now, []
    if trouble == IO_ERROR:
        return now, [now.reported(PAUSED, IO_ERROR)]
    if trouble == PANICKED:
        return now, [now.reported(CRASHED, PANICKED)]
    return now, [now.reported(RESUMED, IO_ERROR)] if known.trouble == IO_ERROR else []


def _listed(
    before: Mapping[str, Guest] | None, listing: Iterable[Mapping[str, Any]]
) -> tuple[dict[str, Guest], list[Event]]:
    """Compare all guests with those that were seen before the daemon was lost, if any."""
    entries = {entry["uuid"]: entry for entry in listing}
    active = {uuid: entry for uuid, entry in entries.items() if entry["active"]}
    reported: list[Event] = []
    for uuid, known in (before or {}).items():
        is_another = uuid in active and int(active[uuid]["run"]) != known.run
        if uuid not in active or is_another:
            reported += _ended(known, "" if is_another else entries.get(uuid, {}).get("how", ""))
    guests = {}
    for uuid, entry in active.items():
        found = Guest(uuid, entry["name"], int(entry["run"]))
        known_now = (before or {}).get(uuid)
        if known_now and known_now.run == found.run:
            guests[uuid], more = _still(known_now, entry)
        else:
            guests[uuid], more = _found(found, entry, is_first=before is None)
        reported += more
    return guests, reported


def _still(known: Guest, entry: Mapping[str, Any]) -> tuple[Guest, list[Event]]:
    """Return a guest that was seen before, in the same run of it."""
    if known.trouble != ARRIVING:
        return _in_state(known, _trouble(entry))
    if entry["state"] != "running" and entry["how"] != "by its user":
        return known, []
    return replace(known, trouble=""), [known.reported(ARRIVED, entry["how"])]


def _found(found: Guest, entry: Mapping[str, Any], is_first: bool) -> tuple[Guest, list[Event]]:
    """Return a guest that was not seen before; how it came here may be unknown."""
    how = entry["how"]
    if not is_first and entry["state"] == "paused" and how in _ON_THE_WAY:
        return replace(found, trouble=ARRIVING), []
    came = [] if is_first else [found.reported(_BEGINNINGS.get(how, APPEARED), how)]
    now, reported = _in_state(found, _trouble(entry))
    return now, came + reported


def _trouble(entry: Mapping[str, Any]) -> str:
    if entry["state"] == "crashed" or (entry["state"], entry["how"]) == ("paused", "crashed"):
        return PANICKED
    return IO_ERROR if (entry["state"], entry["how"]) == ("paused", IO_ERROR) else ""


def _identity(
    observed: Observation, observation: Mapping[str, Any]
) -> tuple[Observation, list[Event]]:
    """Compare what identifies the node; what cannot be read now is as it was seen last."""
    now = {name: tuple(prints) for name, prints in observation["identity"].items() if prints}
    changed = [
        name for name, prints in now.items() if observed.identity.get(name, prints) != prints
    ]
    known = {**observed.identity, **now}
    reported = {name: list(prints) for name, prints in known.items()}
    return (
        replace(observed, identity=known),
        [_node(IDENTITY, "changed", changed=changed, **reported)] if changed else [],
    )


def _drift(
    observed: Observation, observation: Mapping[str, Any]
) -> tuple[Observation, list[Event]]:
    if observation["drifted"] is None:
        return observed, []
    now = tuple(observation["drifted"])
    changes = {
        "drifted": [path for path in now if path not in observed.drifted],
        "mended": [path for path in observed.drifted if path not in now],
    }
    reported = [_node(TRUST, what, files=paths) for what, paths in changes.items() if paths]
    return replace(observed, drifted=now), reported


def _readiness(
    observed: Observation, observation: Mapping[str, Any]
) -> tuple[Observation, list[Event]]:
    """Judge readiness as soon as the daemon was reached, or was not to be reached."""
    if observed.daemon is None:
        return observed, []
    lost = [] if observed.daemon else [f"the libvirt daemon cannot be asked: {observed.lost}"]
    reasons = [*lost, *(str(words) for words in observation["obstacles"])]
    ready = not reasons
    now = replace(observed, ready=ready)
    if ready == observed.ready or (ready and observed.ready is None):
        return now, []
    if ready:
        return now, [_node(READINESS, "regained")]
    return now, [_node(READINESS, "lost", reason="; ".join(reasons))]


def _node(kind: str, what: str, **more: Any) -> Event:
    return Event(kind, "", {"what": what, **more})
