"""Has what the nodes say of themselves arrived in the mine?"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from saltext_kvmcluster.core.errors import InputError
from saltext_kvmcluster.core.pillar.clusters import Cluster
from saltext_kvmcluster.core.text import printable
from saltext_kvmcluster.core.trust.identity import Identity, parse_identity

MAX_WORDS = 500


def same_keys(one: Identity | None, other: Identity | None) -> bool:
    """Whether two identities of a node agree in all but their time."""
    if one is None or other is None:
        return one is other
    return one.cluster_key == other.cluster_key and set(one.host_keys) == set(other.host_keys)


def reported_identities(
    cluster: Cluster, answers: Mapping[str, Any]
) -> tuple[dict[str, Identity], dict[str, str]]:
    """Sort the nodes' own answers into identities and, for the others, what they said instead.

    answers
        Minion id -> what ``kvmcluster.identity`` returned there, or None for no answer.
    """
    reported: dict[str, Identity] = {}
    failed: dict[str, str] = {}
    for node in cluster.nodes:
        answer = answers.get(node)
        if answer is None:
            failed[node] = "did not answer"
        elif isinstance(answer, str):
            failed[node] = printable(" ".join(answer[:MAX_WORDS].split()))
        else:
            try:
                reported[node] = parse_identity(node, answer, cluster.ssh.login)
            except InputError as error:
                failed[node] = printable(str(error))
    return reported, failed


def pending(reported: Mapping[str, Identity], filed: Mapping[str, Identity]) -> list[str]:
    """Return the nodes whose mine entry is not yet what they said."""
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
        "the mine did not take its identity in time; is mine data refused by the master?",
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
