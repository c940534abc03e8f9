"""Completes strict handovers that no process holds.

Run as a program by the keeper of one migration; the beacon's observer looks after all of a node.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Mapping
from typing import Any

from saltext_kvmcluster.core.errors import KvmclusterError
from saltext_kvmcluster.core.pillar import clusters, parser
from saltext_kvmcluster.core.pillar.clusters import Cluster
from saltext_kvmcluster.engine import recoverer
from saltext_kvmcluster.host import this_node
from saltext_kvmcluster.host.journal import Journal

# Seconds between two attempts: at first, and as long as nothing changes.
SOON, LATER = 0.2, 5.0
# Seconds after which the keeper of one migration leaves it to the observer, and to people.
PATIENCE = 86400.0
INTERVAL = 1.0


def complete(cluster: Cluster, here: str, uuid: str) -> None:
    """Try once to complete the handover of a guest."""
    with this_node.environment(cluster, here) as env:
        recoverer.complete(env, uuid)


def unsettled() -> list[str]:
    """Return the UUIDs of the strict handovers in this node's journal."""
    return [entry.move.uuid for entry in Journal().entries().entries if entry.handover]


def watch(known: Callable[[], tuple[Cluster, str] | None]) -> None:
    """Complete the handovers of this node for ever; never raises.

    known
        Returns the cluster and this node's id, None as long as they are not known.
    """
    due: dict[str, tuple[float, float]] = {}
    while True:
        time.sleep(INTERVAL)
        try:
            left = unsettled()
            due = {uuid: due[uuid] for uuid in left if uuid in due}
            for uuid in left:
                at, pause = due.get(uuid, (0.0, INTERVAL))
                if (found := known()) and time.monotonic() >= at:
                    complete(*found, uuid)
                    due[uuid] = (time.monotonic() + pause, min(2 * pause, LATER))
        except KvmclusterError:
            continue


def keep(request: Mapping[str, Any]) -> None:
    """Complete the handover of one guest, and end with that."""
    cluster = parser.from_pillar({clusters.ROOT: request["pillar"]})
    end, pause = time.monotonic() + PATIENCE, SOON
    while request["uuid"] in unsettled() and time.monotonic() < end:
        try:
            complete(cluster, request["node"], request["uuid"])
        except KvmclusterError as error:
            print(error, file=sys.stderr)
        if request["uuid"] in unsettled():
            time.sleep(pause)
            pause = min(1.5 * pause, LATER)


if __name__ == "__main__":
    keep(json.loads(sys.stdin.readline()))
