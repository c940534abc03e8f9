"""Freezes of guests on this node: they must not be moved, neither by us nor by Pacemaker."""

from __future__ import annotations

import contextlib
from typing import Any

from saltext_kvmcluster.core.errors import WorldError
from saltext_kvmcluster.core.facts.nodefacts import ACTIVE
from saltext_kvmcluster.core.guest import domainxml
from saltext_kvmcluster.core.guest.domainxml import Frozen
from saltext_kvmcluster.core.ha import holds
from saltext_kvmcluster.core.migration import migration
from saltext_kvmcluster.core.verdicts import Observation, Sighting
from saltext_kvmcluster.engine import holding
from saltext_kvmcluster.engine.environment import Environment, Libvirt


def freeze(env: Environment, guest: str, reason: str | None) -> dict[str, Any]:
    """Keep in a guest's metadata that it must not be moved, and why; None unfreezes it.

    One that Pacemaker manages is held from it meanwhile; if it cannot be given back, it stays
    frozen. Returns what is read in its metadata afterwards.
    """
    own, here = env.libvirt(env.here), env.here
    observation = own.by_name(guest)
    if observation.sighting is Sighting.ABSENT:
        raise migration.no_such_guest(guest, here)
    if reason is None:
        owner = here if observation.sighting in ACTIVE else None
        if why := holding.thaw(env, guest, observation.uuid, owner):
            raise WorldError(f"{guest} stays frozen: {why}")
        return _noted(env, guest, observation, None)
    with contextlib.ExitStack() as stack:
        try:
            held = stack.enter_context(holding.taken(env, guest, holds.FREEZE, [here], [here]))
        except WorldError as error:
            raise WorldError(f"{guest} was not frozen: {error}") from None
        done = _noted(env, guest, observation, reason)
        if held:
            held.touched = True
        return done


def _noted(
    env: Environment, guest: str, observation: Observation, reason: str | None
) -> dict[str, Any]:
    own, here = env.libvirt(env.here), env.here
    since = env.clock.now().isoformat(timespec="seconds")
    before = _frozen(own, observation)
    text = None if reason is None else domainxml.frozen_xml(reason, since)
    own.note(observation.uuid, domainxml.METADATA, text)
    after = _frozen(own, observation)
    if any((one.reason if one else None) != reason for one in after):
        state = "frozen" if any(after) else "not frozen"
        raise WorldError(f"libvirt on {here} did not keep the change: {guest} is {state}")
    known = next(filter(None, (*after, *before)), None)
    return {
        "kind": "freeze",
        "guest": guest,
        "uuid": observation.uuid,
        "node": here,
        "frozen": any(after),
        "reason": known.reason if known else "",
        "since": known.since if known else "",
        "changed": after != before,
    }


def _frozen(own: Libvirt, observation: Observation) -> list[Frozen | None]:
    """Return whether a guest is frozen by the definition that runs, and by the persistent one."""
    texts = (own.described(observation.uuid), own.definition(observation.name))
    return [domainxml.parse(text).frozen for text in texts if text]
