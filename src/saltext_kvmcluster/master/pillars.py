"""The clusters, as the pillar defines them, rendered on the master.

``functions`` are those that Salt gives a runner as ``__salt__``, ``opts`` the master's options.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterable, Mapping, MutableMapping, Sequence
from typing import Any

import salt.utils.minions

from saltext_kvmcluster.core.errors import InputError
from saltext_kvmcluster.core.pillar import agreement, clusters
from saltext_kvmcluster.core.pillar.clusters import Cluster
from saltext_kvmcluster.core.pillar.collection import Clusters

Functions = Mapping[str, Callable[..., Any]]
"""What Salt gives a runner as ``__salt__``."""

# Seconds for which the pillar is not rendered again, however many events come.
MEMBERSHIPS, MEMBERSHIPS_AGE = "kvmcluster.memberships", 10.0


def cluster(name: str | None, opts: Mapping[str, Any], functions: Functions) -> Cluster:
    """Return the cluster of that name, or the only one, as the pillar has it now.

    Minions whose cached pillar has a cluster are rendered first, one of each cluster; the others
    only where that is not enough. InputError if there is no such cluster.
    """
    known = Clusters()
    likely, others = _accepted(opts, functions)
    for minions in (likely, others):
        _read(known, minions, functions)
        if known.has(name):
            break
    else:
        # A node may be of another cluster than the one by whose pillar it was passed over.
        for minion in filter(known.covers, likely):
            with contextlib.suppress(InputError):
                known.read(minion, functions["pillar.show_pillar"](minion))
    return known.choose(name)


def cluster_of(
    node: object, name: str | None, opts: Mapping[str, Any], functions: Functions
) -> Cluster:
    """Return the cluster of that name, or else the one that a node belongs to; as ``cluster``.

    node
        What was given for one, or for several of one cluster.
    """
    first = node[0] if isinstance(node, list) and node else node
    if name is not None or not isinstance(first, str):
        return cluster(name, opts, functions)
    return _known(opts, functions).of_node(first)


def all_clusters(
    name: str | None, opts: Mapping[str, Any], functions: Functions
) -> Sequence[Cluster]:
    """Return the cluster of that name, or else all of this master; as ``cluster``."""
    if name is not None:
        return [cluster(name, opts, functions)]
    known = _known(opts, functions)
    return known.all() or [known.choose(None)]


def _known(opts: Mapping[str, Any], functions: Functions) -> Clusters:
    """Return the clusters of this master."""
    known = Clusters()
    for minions in _accepted(opts, functions):
        _read(known, minions, functions)
        if known.has(None):
            break
    return known


def faults(
    cluster: Cluster, nodes: Iterable[str], opts: Mapping[str, Any], functions: Functions
) -> dict[str, str]:
    """Return by node what is wrong with its pillar, as the master renders it now."""
    accepted = salt.utils.minions.CkMinions(opts).check_minions("*")["minions"]
    found = {
        node: agreement.fault(cluster, functions["pillar.show_pillar"](node))
        if node in accepted
        else "the master has accepted no key of such a minion: salt-key -L"
        for node in nodes
    }
    return {node: why for node, why in found.items() if why}


def memberships(
    opts: Mapping[str, Any], functions: Functions, context: MutableMapping[str, Any]
) -> Mapping[str, tuple[str, ...]]:
    """Return the nodes of every cluster, by a pillar that is some seconds old at most.

    context
        ``__context__``, where they are cached.
    """
    at: float
    members: Mapping[str, tuple[str, ...]]
    at, members = context.get(MEMBERSHIPS, (-MEMBERSHIPS_AGE, {}))
    if time.monotonic() - at > MEMBERSHIPS_AGE:
        known = Clusters()
        likely, others = _accepted(opts, functions)
        _read(known, likely or others, functions)
        members = known.members()
        context[MEMBERSHIPS] = (time.monotonic(), members)
    return members


def _accepted(opts: Mapping[str, Any], functions: Functions) -> tuple[list[str], list[str]]:
    """Return the accepted minions whose cached pillar has a cluster, and the others."""
    accepted = sorted(salt.utils.minions.CkMinions(opts).check_minions("*")["minions"])
    cached = functions["cache.pillar"](tgt="*")
    likely = [minion for minion in accepted if clusters.ROOT in (cached.get(minion) or {})]
    return likely, [minion for minion in accepted if minion not in likely]


def _read(known: Clusters, minions: Iterable[str], functions: Functions) -> None:
    """Render the pillars of minions, but only one of each cluster."""
    for minion in minions:
        if not known.covers(minion):
            known.read(minion, functions["pillar.show_pillar"](minion))
