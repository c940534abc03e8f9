"""Reboots of guests: may it be done, and what came of it by what was observed."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from saltext_kvmcluster.core import verdicts
from saltext_kvmcluster.core.errors import InputError
from saltext_kvmcluster.core.guest.xmlparts import text_at
from saltext_kvmcluster.core.verdicts import Observation, Sighting
from saltext_kvmcluster.core.xmltext import parse_xml

REBOOTED, NOT_REBOOTED, UNKNOWN = "rebooted", "not_rebooted", "unknown"
_STAYS = ("", "restart")


@dataclass(frozen=True)
class RebootResult:
    """What became of a guest that was to reboot on ``node``; ``owner``: the node that has it."""

    guest: str
    uuid: str
    node: str
    result: str
    owner: str | None
    reason: str

    def to_dict(self) -> dict[str, Any]:
        """Return it as data."""
        return {"kind": "guest_reboot", **asdict(self)}


def refusal(observation: Observation, here: str, definition: str) -> str:
    """Return why a guest must not be rebooted now; empty if it may be.

    definition
        The one that runs, empty if it does not.
    """
    name = shlex.quote(observation.name)
    if observation.job:
        watch = f"salt-run kvmcluster.job {name}"
        if observation.job not in verdicts.MIGRATIONS:
            watch = f"virsh domjobinfo {name}"
        return f"{observation.job} of it is active on {here}; wait for its end ({watch})"
    state = f"it is {observation.sighting.value} on {here}"
    if observation.sighting in verdicts.OFF:
        return f"{state}; to start it: salt-run kvmcluster.start {name}"
    if observation.sighting is not Sighting.RUNNING:
        return f"{state}, and cannot react"
    try:
        what = text_at(parse_xml(definition), "on_reboot")
    except InputError as error:
        return f"its definition cannot be read: {error}"
    if what not in _STAYS:
        return (
            f"by its definition (<on_reboot>{what}</on_reboot>) a reboot ends it; shut it down and"
            f" start it: salt-run kvmcluster.shutdown {name}"
        )
    return ""


def ended(
    before: Observation, after: Observation, here: str, seen: bool | None, steps: Sequence[str]
) -> RebootResult:
    """Return what became of a guest that was to reboot.

    seen
        Whether libvirt reported that it was reset; None if it could no longer report that.
    steps
        What was done, or failed, as sentences.
    """
    is_there = after.sighting not in (*verdicts.OFF, Sighting.UNREACHABLE)
    runs = after.sighting is Sighting.RUNNING
    well = seen and runs
    unknown = after.sighting is Sighting.UNREACHABLE or (seen is None and runs)
    state = after.detail or after.sighting.value
    now = f"it {'has rebooted' if seen else 'was not seen to reboot'}, and is {state} on {here}"
    return RebootResult(
        before.name,
        before.uuid,
        here,
        REBOOTED if well else UNKNOWN if unknown else NOT_REBOOTED,
        here if is_there else None,
        "; ".join([now, *steps]),
    )
