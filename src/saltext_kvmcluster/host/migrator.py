"""One migration: observe, decide, act, and look at both sides until it is sure where the guest is.

That libvirt's call ended, well or badly, decides nothing. Nothing is destroyed, undefined or
resumed here, whatever is seen.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from concurrent.futures import Future, wait
from datetime import datetime, timezone
from typing import Any

from saltext_kvmcluster.core import migration, readiness
from saltext_kvmcluster.core.cluster import Cluster, Node
from saltext_kvmcluster.core.errors import WorldError
from saltext_kvmcluster.core.findings import Finding
from saltext_kvmcluster.core.migration import Move, Plan, Statistics
from saltext_kvmcluster.core.recovery import Look, Owner, Sighting, Verdict
from saltext_kvmcluster.host import examiner, files, hypervisor
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
    migration.named(guest, "guest")
    node = migration.target(cluster, here, destination)
    source = Hypervisor()
    peer = Hypervisor(migration.connection_uri(cluster.ssh.login, node))
    with contextlib.closing(source), contextlib.closing(peer):
        move = Move(guest, _uuid(source, guest, here), here, node.id)
        with _only_one(move):
            findings = _examined(cluster, node, move)
            address = hypervisor.address(node.migration)
            persistent = source.by_uuid(move.uuid).persistent
            way = migration.plan(cluster, node, persistent, address)
            done = _carried_out(move, way, source, peer, patience)
    return {**done, "findings": [finding.shown() for finding in findings]}


def _examined(cluster: Cluster, node: Node, move: Move) -> tuple[Finding, ...]:
    """Run the blocking checks and return what they found; WorldError if one forbids the move."""
    world = examiner.look(cluster, move.source, (node,), move.guest)
    found = [one for one in world.by_uuid.get(move.uuid, []) if one.node == move.source]
    if not found:
        said = world.nodes[move.source].daemon_said or f"it is no longer on {move.source}"
        raise WorldError(f"{move.guest} was not touched, not sent to {node.id}: {said}")
    findings = readiness.findings(world, found[0], node.id)
    migration.refuse_if_blocked(move, findings)
    return findings


def _uuid(source: Hypervisor, guest: str, here: str) -> str:
    found = source.by_name(guest)
    if found.sighting is Sighting.ABSENT:
        raise migration.no_such_guest(guest, here, source.names())
    return found.uuid


@contextlib.contextmanager
def _only_one(move: Move) -> Iterator[None]:
    """Refuse a second call for the same guest while the first is at work.

    libvirt's job lock alone would let the second one wait, and act on what it saw before.
    """
    try:
        with files.lock(f"kvmcluster-migrate-{move.uuid}", timeout=0):
            yield
    except files.Busy:
        raise migration.at_work(move) from None


def _carried_out(
    move: Move, way: Plan, source: Hypervisor, peer: Hypervisor, patience: float
) -> dict[str, Any]:
    started, begun = datetime.now(timezone.utc), time.monotonic()
    call = source.migrate(move.uuid, way)
    _awaited(call, move.uuid, source, patience)
    if _words(call):
        peer.close()  # The link may be what broke: a new one answers, or fails, sooner.
    looks, judged = _sure(move, call, source, peer, patience)
    measured = Statistics()
    if judged.owner is Owner.DESTINATION:
        measured = _measured(move.uuid, peer)
    return {
        **migration.result(move, way, judged, looks, measured, _words(call)),
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
    move: Move, call: Future[None], source: Hypervisor, peer: Hypervisor, patience: float
) -> tuple[tuple[Look, Look], Verdict]:
    """Look at both sides until it is sure whose the guest is, or patience ends."""
    end = time.monotonic() + patience
    while True:
        returned = call.done()
        before = source.sight(move.uuid)
        there = peer.sight(move.uuid)
        looks = (source.sight(move.uuid), there)
        judged = migration.verdict(
            move, looks, returned, steady=before.sighting is looks[0].sighting
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
