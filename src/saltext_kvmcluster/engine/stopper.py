"""Shutdowns of guests on this node."""

from __future__ import annotations

import contextlib
import shlex
from collections.abc import Callable, Sequence
from dataclasses import replace

from saltext_kvmcluster.core.errors import InputError, WorldError
from saltext_kvmcluster.core.facts.nodefacts import ACTIVE
from saltext_kvmcluster.core.ha import holds
from saltext_kvmcluster.core.migration import migration
from saltext_kvmcluster.core.ownership import startup
from saltext_kvmcluster.core.ownership.results import ShutdownResult
from saltext_kvmcluster.core.ownership.startup import Request
from saltext_kvmcluster.core.text import listed
from saltext_kvmcluster.core.verdicts import OFF, OUTGOING, Observation, Sighting
from saltext_kvmcluster.engine import holding, inquiry
from saltext_kvmcluster.engine.environment import Clock, Environment, Libvirt
from saltext_kvmcluster.engine.holding import Held
from saltext_kvmcluster.engine.peers import Peers

POLL = 0.5
SETTLING = 10.0


def shutdown(
    env: Environment,
    guest: str,
    timeout: float = 120.0,
    destroy: bool = False,
    stays_off: bool = True,
) -> ShutdownResult:
    """Press a guest's power button and wait until it is off; return what was observed afterwards.

    A guest of the pillar's list need not be defined here.

    It is ``stopped`` if it was active here at first and is active on no node that responds, or if
    all nodes respond. It is ``unknown`` where a node does not and it may run there: if it was not
    active here at first, was observed migrating to another node, or its last migration from here is
    not settled.

    timeout
        Seconds until it is reported, or acted on, that it is not off.
    destroy
        Whether to end one that is still active then, without a shutdown, unless it is
        migrating to another node or a job of libvirt is active on it.
    stays_off
        Whether to note on this node, for the cluster's status, that it is off on purpose; also if
        it was off before.
    """
    peers = Peers(env)
    own = peers.own
    observation = own.by_name(guest)
    if observation.sighting is Sighting.ABSENT:
        if guest not in env.cluster.guests.list:
            raise _not_here(peers, guest)
        observation = replace(observation, name=guest)
    with contextlib.ExitStack() as locking, contextlib.ExitStack() as stack:
        try:
            taken = _locked(env, observation, locking)
            held = stack.enter_context(
                holding.taken(env, observation.name, holds.SHUTDOWN, [env.here], [env.here])
            )
            if held is None:
                locking.close()
            elif taken:
                raise WorldError(taken)
            observation = _refuse_job(own, env.here, observation, held is not None)
        except WorldError as error:
            raise WorldError(f"{guest} was not shut down: {error}") from None
        if held:
            held.touched = observation.sighting in ACTIVE
        done = _shut_down(peers, observation, timeout, destroy, stays_off)
        return _given_back(held, done) if held else done


def _not_here(peers: Peers, guest: str) -> InputError:
    """Return the error that a guest is not on this node, and where it is if a node tells."""
    asked = peers.ask(guest, "")
    active = [
        f"{answer.same_name.sighting.value} on {node}"
        for node, answer in asked.items()
        if not answer.detail and answer.same_name.sighting in ACTIVE
    ]
    if not active:
        return migration.no_such_guest(guest, peers.here)
    return InputError(
        f"{guest} is not on {peers.here}, it is {listed(active)}; nothing was done; to shut it down"
        f" where it is: salt-run kvmcluster.shutdown {shlex.quote(guest)}"
    )


def _locked(env: Environment, observation: Observation, stack: contextlib.ExitStack) -> str:
    """Have nobody recover a guest, and so give it back to Pacemaker, before it is off.

    It is locked before it is held: what is held and not locked `recover` may give back. Returns why
    that failed.
    """
    if not observation.uuid:
        return ""
    return stack.enter_context(inquiry.locked(env, observation.name, observation.uuid, ()))


def _shut_down(
    peers: Peers, observation: Observation, timeout: float, destroy: bool, stays_off: bool
) -> ShutdownResult:
    env, own, clock = peers.env, peers.own, peers.env.clock
    if observation.sighting not in ACTIVE:
        steps = [f"it was {observation.sighting.value} on {env.here}"]
        return _ended(peers, observation, steps, False, stays_off)
    unsettled = _may_be_unsettled(env, observation.uuid)
    steps = _tried(lambda: own.press_power(observation.uuid))
    last, stayed = _until_off(own, clock, observation.uuid, timeout)
    stayed &= not unsettled
    if last.sighting not in OFF:
        steps.append(f"it was not off {timeout:g} s after its power button was pressed")
        if destroy:
            steps += _destroyed(own, observation.uuid)
            stayed &= _until_off(own, clock, observation.uuid, SETTLING)[1]
    return _ended(peers, observation, steps, stayed, stays_off)


def _refuse_job(own: Libvirt, here: str, before: Observation, again: bool) -> Observation:
    """Return what is observed of a guest; WorldError while a job of libvirt's is active on it.

    again
        Whether to look again, now that Pacemaker is kept off it.
    """
    found = own.by_name(before.name) if again else before
    if found.job and found.sighting in ACTIVE:
        raise WorldError(
            f"{found.job} of it is active on {here}; wait for its end (virsh domjobinfo"
            f" {before.name})"
        )
    return before if found.sighting is Sighting.ABSENT else found


def _given_back(held: Held, done: ShutdownResult) -> ShutdownResult:
    """Give a guest back to Pacemaker that was to be shut down: one that is off is to stay so."""
    if done.result == startup.UNKNOWN:
        steps = [held.left("where it runs is not certain")] if held.touched else []
    elif done.result == startup.STOPPED:
        steps = held.give_back(done.uuid, None, holds.STOPPED, stays_off=True)
    else:
        steps = held.give_back(done.uuid, done.owner) if held.touched else []
    return replace(done, warnings=tuple(map(str, steps)))


def _may_be_unsettled(env: Environment, uuid: str) -> bool:
    try:
        return env.journal(env.here).entries().may_have(uuid)
    except WorldError:
        return True


def _until_off(own: Libvirt, clock: Clock, uuid: str, timeout: float) -> tuple[Observation, bool]:
    """Wait until a guest is off; return the last observation, and whether none showed it leave."""
    end, stayed = clock.monotonic() + timeout, True
    while True:
        observation = own.sight(uuid)
        stayed &= observation.job != OUTGOING
        if observation.sighting in OFF or clock.monotonic() >= end:
            return observation, stayed
        clock.wait(None, POLL)


def _destroyed(own: Libvirt, uuid: str) -> list[str]:
    """Destroy a guest if that may be done now; return what was done."""
    observation = own.sight(uuid)
    if observation.sighting in OFF:
        return []
    why = startup.forbids_destroy(observation)
    if why:
        return [f"it was not destroyed: {why}"]
    return _tried(lambda: own.destroy(uuid)) or ["it was destroyed, as requested"]


def _ended(
    peers: Peers, observation: Observation, steps: Sequence[str], stayed: bool, stays_off: bool
) -> ShutdownResult:
    """Return what became of a guest that was to be shut down: it may have moved meanwhile."""
    definitions = peers.env.cluster.guests.definitions
    request = Request(observation.name, observation.uuid, peers.here, definitions)
    asked = peers.ask(observation.name, observation.uuid)
    done = startup.stopped(request, asked, steps, stayed)
    return _noted(peers.env, done) if stays_off and done.result == startup.STOPPED else done


def _noted(env: Environment, done: ShutdownResult) -> ShutdownResult:
    """Note that a guest is off because somebody wanted it; a failure is reported."""
    try:
        env.journal(env.here).note_shutdown(done.guest, env.clock.now())
    except WorldError as error:
        reason = f"{done.reason}; that this was wanted could not be noted: {error}"
        return replace(done, reason=reason)
    return done


def _tried(verb: Callable[[], None]) -> list[str]:
    """Do something; return libvirt's error if it failed. What is observed afterwards decides."""
    try:
        verb()
    except WorldError as error:
        return [f"libvirt: {error}"]
    return []
