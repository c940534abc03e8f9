"""A guest that runs nowhere, or is to: the command that starts it, and what would forbid that."""

from __future__ import annotations

import shlex
from collections.abc import Collection, Mapping
from dataclasses import replace

from saltext_kvmcluster.core import cordons
from saltext_kvmcluster.core.ownership import startup
from saltext_kvmcluster.core.ownership.startup import Decision, NodeAnswer, Request
from saltext_kvmcluster.core.pillar.clusters import Cluster
from saltext_kvmcluster.core.verdicts import Observation, Sighting


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


def once_off(
    request: Request, observation: Observation, asked: Mapping[str, NodeAnswer]
) -> Decision:
    """Return whether a guest could be started again on its node if it were off.

    That the node is cordoned does not count. What libvirt keeps of it there would still be there.

    observation
        The guest on its node, where it is active.
    asked
        What all nodes answer of it.
    """
    own = startup.NOWHERE
    if observation.persistent:
        own = replace(observation, sighting=Sighting.SHUT_OFF, job="")
    there = replace(asked[request.here], same_uuid=own, same_name=own)
    return startup.decide(replace(request, cordoned=None), {**asked, request.here: there})
