"""One migration: observe, decide, act, and look at both sides until it is sure where the guest is.

That libvirt's call ended, well or badly, decides nothing. Nothing is destroyed, undefined or
resumed here, whatever is seen.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from concurrent.futures import Future, wait
from dataclasses import replace
from datetime import datetime, timezone
from typing import Any

from saltext_kvmcluster.core import migration
from saltext_kvmcluster.core.cluster import Cluster
from saltext_kvmcluster.core.errors import WorldError
from saltext_kvmcluster.core.migration import Answer, Facts, Plan, Statistics
from saltext_kvmcluster.core.recovery import Look, Owner, Sighting, Verdict
from saltext_kvmcluster.host import files, hypervisor
from saltext_kvmcluster.host.hypervisor import Hypervisor

POLL = 0.5


def migrate(
    cluster: Cluster, here: str, guest: str, destination: str, patience: float = 60.0
) -> dict[str, Any]:
    """Move a guest live from this node to a peer and return what was seen on both afterwards.

    patience
        Seconds to go on asking, after libvirt's call ended, while it is not sure where the guest
        is.

    InputError or WorldError means that nothing was begun.
    """
    node = migration.target(cluster, here, guest, destination)
    source = Hypervisor()
    peer = Hypervisor(migration.connection_uri(cluster.ssh.login, node))
    with contextlib.closing(source), contextlib.closing(peer):
        uuid = _uuid(source, guest, here)
        with _only_one(uuid, guest, here, node.id):
            definitions = cluster.guests.definitions
            look, host = source.by_uuid(uuid), source.host()
            alone = Facts(guest, here, node.id, definitions, look, host)
            migration.examined(alone, migration.LOCAL_CHECKS)
            facts = _asked(alone, peer)
            findings = migration.examined(facts)
            address = hypervisor.address(node.migration)
            way = migration.plan(cluster, node, look.persistent, address)
            done = _carried_out(facts, way, source, peer, patience)
    return {**done, "findings": [finding.shown() for finding in findings]}


def _uuid(source: Hypervisor, guest: str, here: str) -> str:
    found = source.by_name(guest)
    if found.sighting is Sighting.ABSENT:
        raise migration.no_such_guest(guest, here, source.names())
    return found.uuid


@contextlib.contextmanager
def _only_one(uuid: str, guest: str, here: str, destination: str) -> Iterator[None]:
    """Refuse a second call for the same guest while the first is at work.

    libvirt's job lock alone would let the second one wait, and act on what it saw before.
    """
    try:
        with files.lock(f"kvmcluster-migrate-{uuid}", timeout=0):
            yield
    except files.Busy:
        raise migration.refusal(guest, destination, [migration.at_work(guest, here)]) from None


def _asked(facts: Facts, peer: Hypervisor) -> Facts:
    """Ask the destination; that it does not answer is a fact too."""
    try:
        same_uuid, same_name = peer.by_uuid(facts.here.uuid), peer.by_name(facts.guest)
        return replace(facts, answer=Answer(peer.host(), same_uuid, same_name))
    except WorldError as error:
        return replace(facts, said=str(error))


def _carried_out(
    facts: Facts, way: Plan, source: Hypervisor, peer: Hypervisor, patience: float
) -> dict[str, Any]:
    started, begun = datetime.now(timezone.utc), time.monotonic()
    call = source.migrate(facts.here.uuid, way)
    _awaited(call, facts.here.uuid, source, patience)
    if _words(call):
        peer.close()  # The link may be what broke: a new one answers, or fails, sooner.
    looks, judged = _sure(facts, call, source, peer, patience)
    measured = Statistics()
    if judged.owner is Owner.DESTINATION:
        measured = _measured(facts.here.uuid, peer)
    return {
        **migration.result(facts, way, judged, looks, measured, _words(call)),
        "started": started.isoformat(timespec="milliseconds"),
        "elapsed": round(time.monotonic() - begun, 3),
    }


def _awaited(call: Future[None], uuid: str, source: Hypervisor, patience: float) -> None:
    """Wait for libvirt's call as long as it takes, but not for a daemon that no longer speaks."""
    spoke = time.monotonic()
    while time.monotonic() - spoke < patience:
        if wait([call], POLL).done:
            return
        if source.sight(uuid).sighting is not Sighting.UNREACHABLE:
            spoke = time.monotonic()


def _sure(
    facts: Facts, call: Future[None], source: Hypervisor, peer: Hypervisor, patience: float
) -> tuple[tuple[Look, Look], Verdict]:
    """Look at both sides until it is sure whose the guest is, or patience ends."""
    end = time.monotonic() + patience
    while True:
        returned = call.done()
        before = source.sight(facts.here.uuid)
        there = peer.sight(facts.here.uuid)
        looks = (source.sight(facts.here.uuid), there)
        judged = migration.verdict(
            facts, looks, returned, steady=before.sighting is looks[0].sighting
        )
        if judged.owner is not Owner.UNKNOWN or time.monotonic() >= end:
            return looks, judged
        time.sleep(POLL)


def _measured(uuid: str, peer: Hypervisor) -> Statistics:
    """Return what libvirt measured; that it cannot be had makes a moved guest no less moved."""
    try:
        return migration.statistics(peer.measured(uuid))
    except WorldError:
        return Statistics()


def _words(call: Future[None]) -> str:
    error = call.exception() if call.done() else None
    return str(error) if error else ""
