"""A guest that runs nowhere: the command that starts it."""

from __future__ import annotations

import shlex
from collections.abc import Collection

from saltext_kvmcluster.core import cordons
from saltext_kvmcluster.core.pillar.clusters import Cluster


def remedy(
    cluster: Cluster,
    guest: str,
    keepers: Collection[str],
    answered: Collection[str],
    cordoned: Collection[str] = (),
) -> str:
    """Return how to start a guest: on its home if it can start there, else on another node.

    keepers
        The nodes whose libvirt has a definition of it.
    answered
        The nodes that can be asked to start it.
    cordoned
        Those of them that are known to be cordoned, on which nothing starts.
    """
    defined = cluster.guests.definitions == "defined"
    able = [node for node in answered if node in keepers or not defined]
    if not able:
        return (
            "no node that responded has its definition: the state kvmcluster.guest_placed adds it"
            if answered
            else "no node can be asked to start it"
        )
    known = cluster.guests.list.get(guest)
    home = known.home if known else None
    node = min(able, key=lambda one: (one in cordoned, one != home, one not in keepers))
    start = f"salt {node} kvmcluster.start {shlex.quote(guest)}"
    if node in cordoned:
        return f"to start it, uncordon a node: {cordons.remedy(node)}; then: {start}"
    return f"to start it: {start}"
