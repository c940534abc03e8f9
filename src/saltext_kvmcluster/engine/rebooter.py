"""Reboots of guests on this node: by the power button, and seen by libvirt's own event."""

from __future__ import annotations

from saltext_kvmcluster.core.errors import WorldError
from saltext_kvmcluster.core.migration import migration
from saltext_kvmcluster.core.ownership import guest_reboots
from saltext_kvmcluster.core.ownership.guest_reboots import RebootResult
from saltext_kvmcluster.core.verdicts import OFF, Observation, Sighting
from saltext_kvmcluster.engine import inquiry
from saltext_kvmcluster.engine.environment import Call, Environment, Libvirt

POLL = 0.5
SETTLING = 10.0
"""Seconds for a reset to be reported."""


def reboot(env: Environment, guest: str, timeout: float, reset: bool = False) -> RebootResult:
    """Press a guest's power button for a reboot; return what was observed afterwards.

    Its QEMU stays, so that Pacemaker sees it active all the while. No migration of ours begins
    meanwhile: at its destination libvirt would not know that it is to start anew.

    timeout
        Seconds to wait for it to be reset.
    reset
        Whether to reset it then, without a shutdown.
    """
    own, here = env.libvirt(env.here), env.here
    found = own.by_name(guest)
    if found.sighting is Sighting.ABSENT:
        raise migration.no_such_guest(guest, here)
    with inquiry.locked(env, guest, found.uuid, ()) as taken:
        # Once more: it may have changed before it was locked.
        found = own.by_name(guest)
        text = own.described(found.uuid) if found.sighting is Sighting.RUNNING else ""
        if why := taken or guest_reboots.refusal(found, here, text):
            raise WorldError(f"{guest} was not rebooted: {why}")
        try:
            with env.reboots(found.uuid) as seen:
                steps = _rebooted(env, own, found, seen, timeout, reset)
                last = own.sight(found.uuid)
                return guest_reboots.ended(found, last, here, _has_rebooted(seen), steps)
        except WorldError as error:
            raise WorldError(f"{guest} was not rebooted: {error}") from None


def _rebooted(
    env: Environment, own: Libvirt, found: Observation, seen: Call, timeout: float, reset: bool
) -> list[str]:
    """Press the button, and wait; return what did not go as it should, as sentences."""
    steps = _tried(own, found.uuid, "press_reboot")
    last = _until_reset(env, own, found.uuid, seen, timeout)
    if seen.done() or last.sighting in OFF:
        # Where it could no longer be seen, it may have reacted, and is not reset.
        return [*steps, *_lost(seen)]
    steps.append(f"it did not react within {timeout:g} s to its power button")
    if not reset:
        return steps
    if last.job or last.sighting is not Sighting.RUNNING:
        return [*steps, f"it was not reset: it is {last.job or last.sighting.value}"]
    failed = _tried(own, found.uuid, "reset")
    _until_reset(env, own, found.uuid, seen, SETTLING)
    return [*steps, *(failed or ["it was reset, as requested"]), *_lost(seen)]


def _has_rebooted(seen: Call) -> bool | None:
    """Return whether the guest was reset; None if that could no longer be seen."""
    if not seen.done():
        return False
    return None if seen.exception() else True


def _lost(seen: Call) -> list[str]:
    lost = seen.exception() if seen.done() else None
    return [f"libvirt's events were lost: {lost}"] if lost else []


def _until_reset(
    env: Environment, own: Libvirt, uuid: str, seen: Call, timeout: float
) -> Observation:
    """Wait until a guest was reset, or is off; return the last observation."""
    clock = env.clock
    end = clock.monotonic() + timeout
    while True:
        last = own.sight(uuid)
        if seen.done() or last.sighting in OFF or clock.monotonic() >= end:
            return last
        clock.wait(seen, POLL)


def _tried(own: Libvirt, uuid: str, verb: str) -> list[str]:
    """Do something; return libvirt's error if it failed. What is observed afterwards decides."""
    try:
        getattr(own, verb)(uuid)
    except WorldError as error:
        return [f"libvirt: {error}"]
    return []
