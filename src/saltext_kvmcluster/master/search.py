"""Finds guests in the clusters of this master, by what their nodes tell."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from saltext_kvmcluster.core.errors import WorldError
from saltext_kvmcluster.core.facts import nodefacts
from saltext_kvmcluster.core.facts.nodefacts import NodeFacts
from saltext_kvmcluster.core.verbs import selection
from saltext_kvmcluster.core.verbs.selection import Words
from saltext_kvmcluster.master import pillars
from saltext_kvmcluster.master.nodes import SaltNodes
from saltext_kvmcluster.master.pillars import Functions


def of_guests(
    opts: Mapping[str, Any], functions: Functions, cluster: str | None, asked: Words
) -> tuple[SaltNodes, Mapping[str, NodeFacts]]:
    """Return the nodes of the cluster to which guests belong, and what they tell of their guests.

    cluster
        Its name; None for the one that has such guests.

    InputError where names do not decide; WorldError if no node tells its guests.
    """
    found = [SaltNodes(opts, one) for one in pillars.all_clusters(cluster, opts, functions)]
    seen = {nodes.cluster.name: (nodes.cluster, nodes.seen()) for nodes in found}
    name = selection.cluster_of(asked, seen)
    facts = seen[name][1]
    if all(one.guests is None for one in facts.values()):
        suspect = f"; {nodefacts.NOBODY}" if nodefacts.nobody_answers(facts) else ""
        raise WorldError(
            f"no node of cluster {name} tells its guests; nothing was done{suspect}"
            f"{selection.hidden(facts)}"
        )
    return next(nodes for nodes in found if nodes.cluster.name == name), facts


def is_guest(opts: Mapping[str, Any], functions: Functions, cluster: str | None, name: str) -> bool:
    """Whether a node has a guest of that name, or the pillar lists one."""
    return any(
        name in selection.known_names(one, SaltNodes(opts, one).seen())
        for one in pillars.all_clusters(cluster, opts, functions)
    )
