"""Observes a cluster once, by as few jobs as can be, for what shows it as a whole."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from typing import Any

from saltext_kvmcluster.core.facts.nodefacts import NodeFacts
from saltext_kvmcluster.core.failover import shortages
from saltext_kvmcluster.core.monitoring.snapshot import Snapshot
from saltext_kvmcluster.core.pillar import agreement
from saltext_kvmcluster.core.readiness import overview
from saltext_kvmcluster.core.readiness.overview import ClusterStatus
from saltext_kvmcluster.master import pillars
from saltext_kvmcluster.master.nodes import SaltNodes
from saltext_kvmcluster.master.pillars import Functions


def observed(
    nodes: SaltNodes, functions: Functions, history: int = 0, readiness: bool = False
) -> Snapshot:
    """Return a cluster as it is now.

    One job; a second one for ``readiness``, for a node whose minion is silent, and for what may be
    no problem a moment later.

    functions
        ``__salt__`` of a runner.
    history
        How many of the last migrations of each node.
    readiness
        Whether to find out which guest can go where, too.
    """
    began, since = nodes.clock.now(), nodes.clock.monotonic()
    if readiness:
        world, ready = nodes.placeable(history=history)
        facts = nodes.steadied(world.nodes, history=history)
        status = _status(nodes, facts, functions)
    else:
        ready, (facts, status) = None, status_of(nodes, functions, history=history)
    seconds = nodes.clock.monotonic() - since
    return Snapshot(nodes.cluster, began, seconds, facts, status, ready)


def status_of(
    nodes: SaltNodes, functions: Functions, **named: Any
) -> tuple[dict[str, NodeFacts], ClusterStatus]:
    """Return the facts of all nodes, and the status that they show.

    Where all pillars are to be rendered anyway, that is done while the nodes are at work.

    named
        Further arguments of ``kvmcluster.facts``.
    """
    rendered: dict[str, str] | None = None

    def render() -> None:
        nonlocal rendered
        # What fails here fails again below, where it is nothing of the job that was sent.
        with contextlib.suppress(Exception):
            rendered = pillars.faults(nodes.cluster, nodes.all, nodes.opts, functions)

    few = len(nodes.all) <= agreement.FEW
    facts = nodes.steady_facts(sent=render if few else None, **named)
    return facts, _status(nodes, facts, functions, rendered)


def _status(
    nodes: SaltNodes,
    facts: Mapping[str, NodeFacts],
    functions: Functions,
    rendered: Mapping[str, str] | None = None,
) -> ClusterStatus:
    """Return the status that facts of all nodes show, with what is wrong with their pillars.

    rendered
        What is wrong with any pillar; None if that is not known yet.
    """
    faults = rendered
    if faults is None:
        kept = {node: one.pillar for node, one in facts.items()}
        asked = agreement.in_question(nodes.cluster, kept)
        faults = pillars.faults(nodes.cluster, asked, nodes.opts, functions)
    short = shortages.sentences(nodes.cluster, facts)
    return overview.status(nodes.cluster, facts, faults, short)
