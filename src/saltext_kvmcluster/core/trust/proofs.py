"""The proof that a node holds the private keys whose public halves it publishes.

It signs its identity with them (``ssh-keygen -Y sign``). What is in place already needs no proof:
only what would change is looked at, so that a node which publishes another one's key changes
nothing, and the other one is none the worse for it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from datetime import datetime, timezone

from saltext_kvmcluster.core.pillar.clusters import ROOT, Cluster
from saltext_kvmcluster.core.trust.identity import Identities, Identity, PublicKey

NAMESPACE = "kvmcluster-identity"
PRINCIPAL = "node"
UNSIGNED = f"{ROOT}:ssh:unsigned"

Verdicts = Mapping[str, str | None]
"""By node: empty for one that proved its keys, or why it did not; None where nothing shows it."""


def statement(cluster: Cluster, identity: Identity) -> str:
    """Return the text that a node signs: all that others take from its identity.

    The cluster and the node are those of whoever reads it: a signature for others is none.
    """
    lines = [
        "kvmcluster identity 1",
        f"cluster {cluster.name}",
        f"node {identity.node}",
        f"login {identity.login}",
        *(f"key {key}" for key in identity.keys),
        *(f"host {key}" for key in identity.host_keys),
        f"time {identity.time}",
    ]
    return "".join(f"{line}\n" for line in lines)


def signer(key: PublicKey) -> str:
    """Return the file of allowed signers that names one key; see ssh-keygen(1)."""
    return f'{PRINCIPAL} namespaces="{NAMESPACE}" {key}\n'


def copied(identities: Identities) -> list[str]:
    """Return the nodes that publish a key which another node publishes, too."""
    publishers = _publishers(identities)
    return [
        node
        for node, one in identities.accepted.items()
        if any(len(publishers[key]) > 1 for key in one.keys)
    ]


def judged(
    cluster: Cluster,
    identities: Identities,
    asked: Iterable[str],
    verdicts: Verdicts,
    last: Mapping[str, str],
) -> Identities:
    """Return the identities without those that may not change anything.

    asked
        The nodes whose identities would change something.
    verdicts
        What is known of the proof of each of them.
    last
        The time of the identity of each node from which something was taken last.
    """
    publishers = _publishers(identities)
    proven = {node for node, why in verdicts.items() if why == ""}
    refused = {}
    for node in asked:
        if node not in identities.accepted:
            continue
        identity, why = identities.accepted[node], verdicts.get(node)
        others = {other for key in identity.keys for other in publishers[key]} - {node}
        if node not in proven and (why or others & proven or cluster.ssh.unsigned == "refuse"):
            refused[node] = _unproven(identity, why, others)
        elif node in last and _moment(identity.time) < _moment(last[node]):
            refused[node] = (
                f"it is of {identity.time}, older than the one of {last[node]} that was accepted"
                f" last; check the clock there, then run: salt {node} mine.send kvmcluster.identity"
            )
    accepted = {node: one for node, one in identities.accepted.items() if node not in refused}
    return Identities(accepted, {**identities.refused, **refused}, identities.missing)


def taken(
    identities: Identities, asked: Collection[str], last: Mapping[str, str], now: datetime
) -> dict[str, str]:
    """Return the times to remember once these nodes' identities are taken over.

    A clock that is ahead does not count: later identities of a clock that was set right would be
    refused.
    """
    times = {
        node: min(_moment(identities.accepted[node].time), now).isoformat()
        for node in asked
        if node in identities.accepted
    }
    return {**last, **times}


def _unproven(identity: Identity, why: str | None, others: Collection[str]) -> str:
    several = len(identity.keys) > 1
    key = f"the cluster key{'s' if several else ''} "
    key += " and ".join(key.fingerprint for key in identity.keys)
    if others:
        key += f", {'one of ' if several else ''}which {min(others)} publishes, too"
    if why:
        return f"it does not prove that it holds {key}: {why}"
    return (
        f"nothing proves that it holds {key}: it is not signed, or cannot be verified here (an"
        " older release of kvmcluster, or OpenSSH before 8.1); update that, then run: salt"
        f" {identity.node} mine.send kvmcluster.identity; or set {UNSIGNED}: accept"
    )


def _publishers(identities: Identities) -> dict[PublicKey, list[str]]:
    publishers: dict[PublicKey, list[str]] = {}
    for node, one in identities.accepted.items():
        for key in one.keys:
            publishers.setdefault(key, []).append(node)
    return publishers


def _moment(text: str) -> datetime:
    found = datetime.fromisoformat(text)
    return found if found.tzinfo else found.replace(tzinfo=timezone.utc)
