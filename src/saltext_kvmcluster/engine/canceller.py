"""Ends a migration from this node, and settles what it leaves."""

from __future__ import annotations

import contextlib
from dataclasses import replace

from saltext_kvmcluster.core.errors import WorldError
from saltext_kvmcluster.core.migration import migration
from saltext_kvmcluster.core.ownership import cancellation, identification
from saltext_kvmcluster.core.ownership.results import Recovery
from saltext_kvmcluster.engine import inquiry, recoverer
from saltext_kvmcluster.engine.environment import Environment

POLL = 0.5


def cancel(env: Environment, guest: str, requester: str, patience: float = 60.0) -> Recovery:
    """End a guest's migration from this node, and settle what it leaves.

    requester
        Who requests it, for the reason of its end.
    patience
        Seconds to wait for its end.

    Returns what ``recover`` does, with the ``result`` of `migrate`: moved, not_moved, unknown.
    InputError if there is nothing to cancel, WorldError if it can no longer be cancelled. No
    request to cancel is left in any case.
    """
    own = env.journal(env.here)
    guest = identification.name_of(migration.named(guest, "guest"))
    uuid, begun = _leaving(env, guest)
    try:
        met = _end(env, guest, uuid, requester, patience)
    finally:
        with contextlib.suppress(WorldError):
            own.withdraw(uuid)
    if not met and not begun:
        raise cancellation.nothing_to_cancel(guest, env.here)
    done = recoverer.recover(env, guest)
    return replace(done, result=cancellation.after_cancel(done.owner, env.here))


def _leaving(env: Environment, guest: str) -> tuple[str, bool]:
    """Return the UUID of a guest of this node, and whether its journal has a migration of it."""
    libvirt, kept = env.libvirt(env.here), env.journal(env.here).entries().of(guest)
    observation = inquiry.find(libvirt, guest)
    if not kept and not observation.uuid:
        raise migration.no_such_guest(guest, env.here)
    identification.refuse_unless_one(
        guest, [(env.here, entry) for entry in kept], {env.here: observation}
    )
    return kept[0].move.uuid if kept else observation.uuid, bool(kept)


def _end(env: Environment, guest: str, uuid: str, requester: str, patience: float) -> bool:
    """End a migration, by the process that runs it or by libvirt; return whether there was one.

    One that waits in a list of departures is withdrawn first, so that it cannot begin meanwhile.
    """
    libvirt, own = env.libvirt(env.here), env.journal(env.here)
    begun = env.clock.monotonic()
    may_switch = any("POSTCOPY" in one.flags for one in own.entries().of(uuid))
    met = env.withdraw(uuid, requester)
    while True:
        with inquiry.locked(env, guest, uuid, ()) as taken:
            watched = bool(taken)
        observation, waited = libvirt.sight(uuid), env.clock.monotonic() - begun
        cancellation.refuse_to_cancel(guest, env.here, observation)
        how = cancellation.ending(observation, watched, waited, may_switch)
        if how is None or waited >= patience:
            return met
        with contextlib.suppress(WorldError):
            if how.ask and not own.asked_to_cancel(uuid):
                own.ask_to_cancel(uuid, requester)
            if how.abort:
                libvirt.abort(uuid)
        met = True
        env.clock.wait(None, POLL)
