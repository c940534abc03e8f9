"""Whether the mine holds the identities that the nodes report."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from saltext_kvmcluster.core.errors import InputError
from saltext_kvmcluster.core.pillar.clusters import Cluster
from saltext_kvmcluster.core.text import one_line
from saltext_kvmcluster.core.trust.identity import Identity, parse_identity


def same_keys(one: Identity | None, other: Identity | None) -> bool:
    """Whether two identities of a node agree in all but their time, and are signed alike."""
    if one is None or other is None:
        return one is other
    signed = len(one.signatures) == len(other.signatures)
    return signed and one.keys == other.keys and set(one.host_keys) == set(other.host_keys)


def reported_identities(
    cluster: Cluster, answers: Mapping[str, Any]
) -> tuple[dict[str, Identity], dict[str, str]]:
    """Sort the nodes' own answers into identities and, for the others, the errors.

    answers
        Minion id -> what ``kvmcluster.identity`` returned there, or None for no response.
    """
    reported: dict[str, Identity] = {}
    failed: dict[str, str] = {}
    for node in cluster.nodes:
        answer = answers.get(node)
        if answer is None:
            failed[node] = "no response"
        elif isinstance(answer, str):
            failed[node] = one_line(answer)
        else:
            try:
                reported[node] = parse_identity(node, answer, cluster.ssh.login)
            except InputError as error:
                failed[node] = one_line(str(error))
    return reported, failed


def pending(reported: Mapping[str, Identity], filed: Mapping[str, Identity]) -> list[str]:
    """Return the nodes whose mine entry is not yet the identity that they report."""
    return [node for node, identity in reported.items() if not same_keys(identity, filed.get(node))]


def report(
    cluster: Cluster,
    reported: Mapping[str, Identity],
    before: Mapping[str, Identity],
    after: Mapping[str, Identity],
    failed: Mapping[str, str],
) -> dict[str, Any]:
    """Return what publishing did: fresh entries, unchanged ones, and why the others failed."""
    late = dict.fromkeys(
        pending(reported, after),
        "its identity did not reach the mine in time: check whether the master accepts mine data",
    )
    fresh = [
        f"{node} {identity.cluster_key.fingerprint}"
        for node, identity in reported.items()
        if node not in late and not same_keys(before.get(node), identity)
    ]
    return {
        "kind": "publication",
        "cluster": cluster.name,
        "ok": not late and not failed,
        "published": fresh,
        "unchanged": [node for node in reported if same_keys(before.get(node), after.get(node))],
        "failed": {**failed, **late},
    }
