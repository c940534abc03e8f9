"""Ends what was left of a guest half-way in Pacemaker, once it is certain where the guest is."""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Iterator, Mapping
from dataclasses import replace

from saltext_kvmcluster.core.errors import InputError, WorldError
from saltext_kvmcluster.core.guest import store
from saltext_kvmcluster.core.ha import leftovers
from saltext_kvmcluster.core.ha.leftovers import End
from saltext_kvmcluster.core.migration.results import Step
from saltext_kvmcluster.core.ownership import startup
from saltext_kvmcluster.core.ownership.results import Recovery
from saltext_kvmcluster.core.verdicts import Observation
from saltext_kvmcluster.engine import holding, other_hands
from saltext_kvmcluster.engine.environment import Environment
from saltext_kvmcluster.engine.holding import Held

LOOK_AGAIN = "have Pacemaker look for it again"
CLAIM = 300.0
"""Seconds that a claim lasts, by which nobody starts the guest meanwhile."""


def ended(
    env: Environment,
    done: Recovery,
    observations: Mapping[str, Observation],
    responding: Collection[str],
) -> Recovery:
    """End what was left of a guest that was recovered; return it with each step.

    The caller has locked the guest on every node that responds, which takes root there.

    observations
        The last one of every node.
    responding
        The nodes that respond.
    """
    steps = _steps(env, done, observations, responding)
    return replace(done, actions=(*done.actions, *steps))


def may_have_changed(done: Recovery) -> bool:
    """Whether Pacemaker may have started or moved a guest since it was seen."""
    steps = (holding.GIVE_BACK, LOOK_AGAIN)
    return any(one.ok and one.step in steps for one in done.actions)


def _steps(
    env: Environment,
    done: Recovery,
    observations: Mapping[str, Observation],
    responding: Collection[str],
) -> list[Step]:
    wanted = _wanted(env, done, responding)
    if wanted is None:
        return []
    step = holding.GIVE_BACK if wanted.mark else LOOK_AGAIN
    why = env.cluster.ssh.lacks_root
    why = why or leftovers.forbids_end(done.result, done.owner, observations)
    if why:
        return [Step(step, env.here, False, f"not done: {why}")]
    try:
        with _claims(env, done.uuid or _uuid(env, done.guest), responding):
            # Whoever held it may have given it back meanwhile.
            if _wanted(env, done, responding) != wanted:
                return [Step(step, env.here, False, "not done: it changed meanwhile; try again")]
            return [*_carried_out(env, done, wanted, responding)]
    except WorldError as error:
        return [Step(step, env.here, False, f"not done: {error}")]


def _wanted(env: Environment, done: Recovery, responding: Collection[str]) -> End | None:
    where = (done.owner,) if done.owner else ()
    found = other_hands.management(env, done.guest, responding, where)
    return leftovers.end(found, done.result)


def _carried_out(
    env: Environment, done: Recovery, wanted: End, responding: Collection[str]
) -> Iterator[Step]:
    by = holding.driver(env.side_by_side(env.pacemaker, responding), env.here)
    if wanted.mark:
        held = Held(env, done.guest, wanted.resource, wanted.mark, by)
        left = held.give_back(done.uuid, done.owner, wanted.role, wanted.stays_off)
        yield from left or (Step(holding.GIVE_BACK, by, True),)
        if left:
            return
    else:
        why = _looked_again(env, wanted.resource, by)
        yield Step(LOOK_AGAIN, by, not why, why)
    if not wanted.stays_off:
        # Pacemaker may start or move it now: where it is then is seen afterwards.
        with contextlib.suppress(WorldError):
            env.control(by).wait(holding.SETTLING)


def _looked_again(env: Environment, resource: str, by: str) -> str:
    """Have every node look for a resource; return why it is still blocked afterwards."""
    control, clock = env.control(by), env.clock
    control.refresh(resource)
    with contextlib.suppress(WorldError):
        control.wait(holding.SETTLING)
    end = clock.monotonic() + holding.SETTLING
    while True:
        why = leftovers.blocked(env.pacemaker(by), resource)
        if not why or clock.monotonic() >= end:
            return why
        clock.wait(None, holding.POLL)


@contextlib.contextmanager
def _claims(env: Environment, uuid: str, nodes: Collection[str]) -> Iterator[None]:
    """Have nobody start a guest meanwhile; AtWork if somebody does."""
    if not uuid:
        yield
        return
    with contextlib.ExitStack() as stack:
        for node in startup.claim_order(nodes):
            claim = env.claim(node, uuid, CLAIM)
            stack.callback(claim.release)
            claim.take()
        yield


def _uuid(env: Environment, guest: str) -> str:
    """Return the UUID of a guest's definition on shared storage; empty if it has none."""
    guests = env.cluster.guests
    try:
        there = [path for path in store.all_paths(guests, guest) if env.exists(path)]
        path = store.find(guests, guest, there).path
        return store.parse(guest, env.read(path), path).uuid
    except (InputError, WorldError):
        return ""
