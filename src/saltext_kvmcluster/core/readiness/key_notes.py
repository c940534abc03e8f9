"""What is to be known of the nodes' cluster keys: old ones, and those that are being replaced."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from saltext_kvmcluster.core.facts.nodefacts import NodeFacts
from saltext_kvmcluster.core.pillar.clusters import Cluster
from saltext_kvmcluster.core.trust import rotation

DAY = 86400


def days(facts: NodeFacts) -> int | None:
    """Return how many days old a node's key is, None if that is not known."""
    return None if facts.key_age is None else int(facts.key_age // DAY)


def notes(cluster: Cluster, nodes: Mapping[str, NodeFacts]) -> Iterator[str]:
    """Yield a sentence for each key that is too old, or whose replacement was not finished."""
    most = cluster.ssh.key_age
    for node, facts in nodes.items():
        age = days(facts)
        if facts.key_replaced:
            yield (
                f"the replacement of {node}'s key, begun {facts.key_replaced}, is not finished;"
                f" unless it runs now: {rotation.COMMAND} {node}"
            )
        elif most is not None and age is not None and age > most:
            yield (
                f"the key of {node} is {age} days old, and kvmcluster:ssh:key_age is {most}; to"
                f" replace it: {rotation.COMMAND} {node}"
            )
