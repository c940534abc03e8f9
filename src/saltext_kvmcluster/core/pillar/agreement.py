"""Whether all nodes of a cluster have one and the same pillar.

Nodes and master decide by their own copy each: the master renders it at each call, a node keeps
what it was given at its last refresh.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from saltext_kvmcluster.core.errors import InputError
from saltext_kvmcluster.core.pillar.clusters import ROOT, Cluster
from saltext_kvmcluster.core.pillar.parser import from_pillar
from saltext_kvmcluster.core.text import MAX_NAMES, by_cause, listed, one_line, printable

NAME = "name"
FEW = 32
"""Nodes of a cluster of which all pillars are rendered for its status."""


def fault(cluster: Cluster, pillar: Mapping[str, Any]) -> str:
    """Return what is wrong with the pillar of a cluster's node, empty if nothing is."""
    if pillar.get("_errors"):
        return f"it does not render: {one_line(str(pillar['_errors'][0]))}"
    if ROOT not in pillar:
        return f"it has no key {ROOT}; a top file gives it to the other nodes"
    try:
        found = from_pillar(pillar)
    except InputError as error:
        return printable(str(error))
    return _difference(cluster, found.parts, f"that of {cluster.described_by}")


def in_question(cluster: Cluster, kept: Mapping[str, Mapping[str, str]]) -> list[str]:
    """Return the nodes whose pillars the master has to render to tell what is wrong with them.

    Of a large cluster those whose own pillar differs or is not known: each takes some 50 ms.

    kept
        As of ``sentences``.
    """
    if len(kept) <= FEW:
        return list(kept)
    return [node for node, parts in kept.items() if not parts or _difference(cluster, parts, "")]


def sentences(
    cluster: Cluster, kept: Mapping[str, Mapping[str, str]], rendered: Mapping[str, str]
) -> list[str]:
    """Return a sentence for each way in which pillars of nodes are wrong.

    kept
        By node the parts of the pillar that it works by; empty where that is not known.
    rendered
        By node what is wrong with its pillar as the master renders it.
    """
    differing = {
        node: why
        for node, parts in kept.items()
        if parts and node not in rendered
        if (why := _difference(cluster, parts, "the master's"))
    }
    return faulty(rendered) + [
        f"{listed(nodes, MAX_NAMES)} {'works' if len(nodes) == 1 else 'work'} by another pillar"
        f" than the master renders now: {why}: salt -L {','.join(nodes)} saltutil.refresh_pillar"
        for why, nodes in by_cause(differing).items()
    ]


def works_by_another(cluster: Cluster, parts: Mapping[str, str]) -> bool:
    """Whether a node works by another pillar than the cluster's; not if that is not known."""
    return bool(parts) and bool(_difference(cluster, parts, ""))


def faulty(faults: Mapping[str, str]) -> list[str]:
    """Return a sentence for each cause, with the nodes whose pillars it is wrong with."""
    return [
        f"the pillar of {listed(nodes, MAX_NAMES)}: {why}"
        for why, nodes in by_cause(faults).items()
    ]


def _difference(cluster: Cluster, parts: Mapping[str, str], whose: str) -> str:
    """Return how parts of a pillar differ from those of a cluster's, empty if they do not.

    whose
        Which pillar the cluster's is, for the sentence.
    """
    if parts.get(NAME) != cluster.name:
        name = printable(str(parts.get(NAME)))
        return f"it is of cluster {name}, and {whose} of {cluster.name}"
    keys = sorted(
        key for key in {*parts, *cluster.parts} if parts.get(key) != cluster.parts.get(key)
    )
    return f"it differs from {whose} in {', '.join(map(printable, keys))}" if keys else ""
