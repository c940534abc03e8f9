"""Observes the migrations of this node, or one of its guests."""

from __future__ import annotations

import contextlib
import time
from datetime import datetime, timezone
from typing import Any

from saltext_kvmcluster.core import verdicts
from saltext_kvmcluster.core.migration import jobs, migration, progress
from saltext_kvmcluster.core.migration.jobs import JobObservation
from saltext_kvmcluster.core.ownership import locations
from saltext_kvmcluster.core.verdicts import Observation, Sighting
from saltext_kvmcluster.host import departing, journal, notifier
from saltext_kvmcluster.host.hypervisor import Hypervisor


def under_way(here: str, guest: str | None) -> list[dict[str, Any]]:
    """Return the migrations from and to this node, or that of one guest; see
    ``core.migration.jobs``.
    """
    with contextlib.closing(Hypervisor()) as libvirt:
        if guest is None:
            uuids = [uuid for job in verdicts.MIGRATIONS for uuid in libvirt.moving(job)]
            observations = [libvirt.by_uuid(uuid) for uuid in uuids]
        else:
            observations = [libvirt.by_name(guest)]
        found = jobs.under_way(
            here,
            [
                _observed(libvirt, observation)
                for observation in observations
                if observation.job in verdicts.MIGRATIONS
            ],
            journal.known(here).entries,
            notifier.statuses(),
            datetime.now(timezone.utc),
        )
        moving = {row["uuid"] for row in found}
        found += [row for row in departing.queued() if row["uuid"] not in moving]
        mine = [row for row in found if guest in (None, row["guest"])]
        if guest is not None and not mine and observations[0].sighting is Sighting.ABSENT:
            raise migration.no_such_guest(guest, here)
        return mine


def sighting(guest: str) -> dict[str, Any]:
    """Return this node's observation of a guest; see ``core.ownership.locations``."""
    with contextlib.closing(Hypervisor()) as libvirt:
        return locations.as_data(guest, libvirt.by_name(guest))


def _observed(libvirt: Hypervisor, observation: Observation) -> JobObservation:
    if observation.job == verdicts.INCOMING:
        return JobObservation(observation, None)
    job = libvirt.progress(observation.uuid)
    found = (
        progress.parse(job, time.monotonic(), observation.sighting in verdicts.IN_POST_COPY)
        if job
        else None
    )
    return JobObservation(observation, found)
