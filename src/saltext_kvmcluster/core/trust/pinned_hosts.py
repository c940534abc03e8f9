"""The wanted known hosts file: each member's host keys under all its names."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from saltext_kvmcluster.core.errors import InputError
from saltext_kvmcluster.core.fileplan import Wanted
from saltext_kvmcluster.core.pillar.clusters import Cluster
from saltext_kvmcluster.core.trust.blocks import BEGIN, END, TAG, KeyChanges, tag
from saltext_kvmcluster.core.trust.identity import Identities, PublicKey, parse_public_key

KNOWN_HOSTS = "kvmcluster_known_hosts"


def wanted(cluster: Cluster, identities: Identities, present: str) -> Wanted:
    """Return the wanted known hosts file: each host key of each member under all its names."""
    known = {node: identity.host_keys for node, identity in identities.accepted.items()}
    text = _text(cluster, known)
    if text == present:
        return Wanted(text)
    held = _parse(present)
    keys = {node: known.get(node) or held.get(node, ("", ()))[1] for node in cluster.nodes}
    changes = KeyChanges()
    for node in dict.fromkeys([*cluster.nodes, *held]):
        old_names, old_keys = held.get(node, ("", ()))
        changes.compare(node, old_keys, keys.get(node, ()))
        if node in cluster.nodes and old_keys and old_names != _names(cluster, node):
            changes.replaced.append(f"{node} names {old_names} -> {_names(cluster, node)}")
    return Wanted(_text(cluster, keys), changes.changes())


def unproven(identities: Identities, present: str) -> list[str]:
    """Return the nodes whose identities would change their host keys."""
    held = _parse(present)
    return [
        node
        for node, one in identities.accepted.items()
        if set(one.host_keys) != set(held.get(node, ("", ()))[1])
    ]


def _text(cluster: Cluster, keys: Mapping[str, Iterable[PublicKey]]) -> str:
    lines = (
        f"{_names(cluster, node)} {key} {tag(cluster, node)}\n"
        for node in cluster.nodes
        for key in keys.get(node, ())
    )
    return "".join([BEGIN, *lines, END])


def _names(cluster: Cluster, node: str) -> str:
    """Return a node's names as known_hosts has them: ssh compares in lower case."""
    return ",".join(name.lower() for name in cluster.nodes[node].names)


def _parse(text: str) -> dict[str, tuple[str, tuple[PublicKey, ...]]]:
    """Return the names and keys that our own file holds for each node."""
    held: dict[str, tuple[str, tuple[PublicKey, ...]]] = {}
    for line in text.splitlines():
        names, kind, blob, comment = (*line.split(None, 3), "", "", "", "")[:4]
        match = TAG.match(comment)
        if not match:
            continue
        try:
            key = parse_public_key(f"{kind} {blob}")
        except InputError:
            continue
        held[match.group(1)] = (names, (*held.get(match.group(1), ("", ()))[1], key))
    return held
