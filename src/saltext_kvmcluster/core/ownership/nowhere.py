"""A guest that runs nowhere, or is to: the command that starts it, and what would forbid that."""

from __future__ import annotations

import shlex
from collections.abc import Collection, Mapping
from dataclasses import replace

from saltext_kvmcluster.core import cordons
from saltext_kvmcluster.core.ownership import startup
from saltext_kvmcluster.core.ownership.startup import Decision, NodeAnswer, Request
from saltext_kvmcluster.core.pillar.clusters import Cluster
from saltext_kvmcluster.core.text import listed
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
    only = cluster.guests.only(guest)
    able = [node for node in answered if node in keepers or not defined]
    if able and only and not (able := [node for node in able if node in only]):
        return f"no node that can be asked is in its only ({listed(only)})"
    if not able:
        return (
            "no node that responded has its definition: the state kvmcluster.guest_placed adds it"
            if answered
            else "no node can be asked to start it"
        )
    known = cluster.guests.list.get(guest)

    def preference(node: str) -> tuple[bool, int, bool]:
        return node in cordoned, known.rank(node) if known else 0, node not in keepers

    node = min(able, key=preference)
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
