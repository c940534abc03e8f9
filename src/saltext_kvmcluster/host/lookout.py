"""Completes strict handovers that no process holds.

Run as a program by the keeper of one migration; the beacon's observer looks after all of a node.
"""

from __future__ import annotations

import contextlib
import json
import sys
import time
from collections.abc import Callable, Mapping
from typing import Any, NoReturn

from saltext_kvmcluster.core.errors import KvmclusterError
from saltext_kvmcluster.core.pillar import clusters, parser
from saltext_kvmcluster.core.pillar.clusters import Cluster
from saltext_kvmcluster.engine import recoverer
from saltext_kvmcluster.host import this_node
from saltext_kvmcluster.host.journal import Journal

# Seconds between two attempts: at first, and as long as nothing changes.
SOON, LATER = 0.2, 5.0
# Seconds after the end of its job in which nobody starts a guest on a third node: until then the
# keeper does not wait for nodes that may be off.
AT_ONCE = 5.0
# Seconds after which the keeper of one migration leaves it to the observer, and to people.
PATIENCE = 86400.0
INTERVAL = 1.0
Due = dict[str, tuple[float, float]]
"""When each guest's handover is tried again, by the monotonic clock, and the pause after that."""


def complete(cluster: Cluster, here: str, uuid: str, by_ends: bool = False) -> None:
    """Try once to complete the handover of a guest; see ``recoverer.complete``."""
    with this_node.environment(cluster, here) as env:
        recoverer.complete(env, uuid, by_ends)


def unsettled(here: str) -> list[str]:
    """Return the UUIDs of the strict handovers of this node in its journal."""
    kept = Journal().entries().of_node(here)
    return [entry.move.uuid for entry in kept.entries if entry.handover]


def watch(known: Callable[[], tuple[Cluster, str] | None]) -> NoReturn:
    """Complete the handovers of this node for ever.

    known
        Returns the cluster and this node's id, None as long as they are not known.
    """
    due: Due = {}
    while True:
        time.sleep(INTERVAL)
        if found := known():
            due = attempt(*found, due)


def attempt(cluster: Cluster, here: str, due: Due) -> Due:
    """Try what is due; return what is due then. What keeps one from being completed is its own."""
    try:
        left = unsettled(here)
    except KvmclusterError:
        return due
    again: Due = {}
    for uuid in left:
        at, pause = due.get(uuid, (0.0, INTERVAL))
        if time.monotonic() >= at:
            with contextlib.suppress(KvmclusterError):
                complete(cluster, here, uuid)
            at, pause = time.monotonic() + pause, min(2 * pause, LATER)
        again[uuid] = at, pause
    return again


def keep(request: Mapping[str, Any]) -> None:
    """Complete the handover of one guest, and end with that."""
    cluster = parser.from_pillar({clusters.ROOT: request["pillar"]})
    here, uuid = request["node"], request["uuid"]
    begun, pause = time.monotonic(), SOON
    while (since := time.monotonic() - begun) < PATIENCE:
        with contextlib.suppress(KvmclusterError):
            complete(cluster, here, uuid, by_ends=since < AT_ONCE)
            if uuid not in unsettled(here):
                return
        time.sleep(pause)
        pause = min(1.5 * pause, LATER)


if __name__ == "__main__":
    keep(json.loads(sys.stdin.readline()))
