"""Looks at guests of this node that are on their way, or are asked for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from saltext_kvmcluster.core import jobs, migration, progress, recovery, whereabouts
from saltext_kvmcluster.core.jobs import Seen
from saltext_kvmcluster.core.recovery import Look, Sighting
from saltext_kvmcluster.host.environment import Environment

_MIGRATIONS = (recovery.OUTGOING, recovery.INCOMING)
_IN_POST_COPY = (Sighting.RUNNING_IN_POST_COPY, Sighting.PAUSED_IN_POST_COPY)


def under_way(
    env: Environment, guest: str | None, words: Sequence[Mapping[str, Any]]
) -> list[dict[str, Any]]:
    """Return the migrations from and to this node, or that of one guest; see ``core.jobs``.

    words
        What was told last of each migration from here.
    """
    libvirt = env.libvirt(env.here)
    names = libvirt.names() if guest is None else [guest]
    looks = [libvirt.by_name(name) for name in names]
    found = jobs.under_way(
        env.here,
        [_seen(env, look) for look in looks if look.job in _MIGRATIONS],
        env.journal(env.here).entries(),
        words,
        env.clock.now(),
    )
    mine = [row for row in found if guest in (None, row["guest"])]
    if guest is not None and not mine and looks[0].sighting is Sighting.ABSENT:
        raise migration.no_such_guest(guest, env.here, libvirt.names())
    return mine


def sighting(env: Environment, guest: str) -> dict[str, Any]:
    """Return what this node sees of a guest; see ``core.whereabouts``."""
    libvirt = env.libvirt(env.here)
    look = libvirt.by_name(guest)
    names = libvirt.names() if look.sighting is Sighting.ABSENT else []
    return whereabouts.as_data(guest, look, names)


def _seen(env: Environment, look: Look) -> Seen:
    if look.job == recovery.INCOMING:
        return Seen(look, None)
    job = env.libvirt(env.here).progress(look.uuid)
    at = env.clock.monotonic()
    return Seen(look, progress.read(job, at, look.sighting in _IN_POST_COPY) if job else None)
