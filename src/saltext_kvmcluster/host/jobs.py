"""Looks at guests of this node that are on their way, or are asked for."""

from __future__ import annotations

import contextlib
import time
from datetime import datetime, timezone
from typing import Any

from saltext_kvmcluster.core import verdicts
from saltext_kvmcluster.core.migration import jobs, migration, progress
from saltext_kvmcluster.core.migration.jobs import Seen
from saltext_kvmcluster.core.ownership import locations
from saltext_kvmcluster.core.verdicts import Look, Sighting
from saltext_kvmcluster.host import notify
from saltext_kvmcluster.host.hypervisor import Hypervisor
from saltext_kvmcluster.host.journal import Journal

_MIGRATIONS = (verdicts.OUTGOING, verdicts.INCOMING)


def under_way(here: str, guest: str | None) -> list[dict[str, Any]]:
    """Return the migrations from and to this node, or that of one guest; see ``core.jobs``."""
    with contextlib.closing(Hypervisor()) as libvirt:
        if guest is None:
            uuids = [uuid for job in _MIGRATIONS for uuid in libvirt.moving(job)]
            looks = [libvirt.by_uuid(uuid) for uuid in uuids]
        else:
            looks = [libvirt.by_name(guest)]
        found = jobs.under_way(
            here,
            [_seen(libvirt, look) for look in looks if look.job in _MIGRATIONS],
            Journal().entries().entries,
            notify.last_words(),
            datetime.now(timezone.utc),
        )
        mine = [row for row in found if guest in (None, row["guest"])]
        if guest is not None and not mine and looks[0].sighting is Sighting.ABSENT:
            raise migration.no_such_guest(guest, here, libvirt.names())
        return mine


def sighting(guest: str) -> dict[str, Any]:
    """Return what this node sees of a guest; see ``core.whereabouts``."""
    with contextlib.closing(Hypervisor()) as libvirt:
        look = libvirt.by_name(guest)
        names = libvirt.names() if look.sighting is Sighting.ABSENT else []
        return locations.as_data(guest, look, names)


def _seen(libvirt: Hypervisor, look: Look) -> Seen:
    if look.job == verdicts.INCOMING:
        return Seen(look, None)
    job = libvirt.progress(look.uuid)
    found = (
        progress.read(job, time.monotonic(), look.sighting in verdicts.IN_POST_COPY)
        if job
        else None
    )
    return Seen(look, found)
