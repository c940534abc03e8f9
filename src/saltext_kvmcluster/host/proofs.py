"""Signs this node's identity, and verifies the signatures of others; see core.trust.proofs."""

from __future__ import annotations

import json
from collections.abc import Collection
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import datetime, timezone

from saltext_kvmcluster.core.errors import WorldError
from saltext_kvmcluster.core.fileplan import FilePlan
from saltext_kvmcluster.core.pillar.clusters import Cluster
from saltext_kvmcluster.core.trust import keyfile, proofs
from saltext_kvmcluster.core.trust.identity import Identities, Identity, PublicKey
from saltext_kvmcluster.core.trust.rotation import SUFFIX
from saltext_kvmcluster.core.untrusted import from_json
from saltext_kvmcluster.host import commands, files, keys, rotating

TIMES = f"{files.LASTING}/identities.json"
"""The time of the identity of each node from which something was taken last."""
WORKERS = 4
TIME_LIMIT = 10.0
_TOO_OLD = ("illegal option", "unknown option", "invalid option")


def own(cluster: Cluster, here: str, host_keys: tuple[PublicKey, ...]) -> Identity:
    """Return the identity of this node, signed; again if its key was replaced meanwhile."""
    while True:
        path, account = keys.cluster_key(cluster)
        beside = rotating.next_key(cluster, path, account)
        key = keyfile.parsed(keys.key_file(path, account), cluster)
        after = None if beside == key else beside
        now = datetime.now(timezone.utc).isoformat()
        identity = Identity(here, key, host_keys, cluster.ssh.login, now, after)
        paths = [path, path + SUFFIX] if after else [path]
        found = signed(cluster, identity, paths)
        if not after or rotating.next_key(cluster, path, account) == after:
            return found


def signed(cluster: Cluster, identity: Identity, paths: Collection[str]) -> Identity:
    """Return an identity signed with its private keys; without, where ssh-keygen cannot sign.

    paths
        Of the private keys, in the order of ``identity.keys``.
    """
    text = proofs.statement(cluster, identity)
    made = []
    for path in paths:
        line = ["ssh-keygen", "-q", "-Y", "sign", "-n", proofs.NAMESPACE, "-f", path]
        outcome = commands.run(line, TIME_LIMIT, given=[text])
        if outcome.code is None:
            raise WorldError(f"ssh-keygen did not sign with {path} within {TIME_LIMIT:g} s")
        if outcome.code != 0:
            return identity
        made.append(outcome.stdout)
    return replace(identity, signatures=tuple(made))


def judged(
    cluster: Cluster, identities: Identities, asked: Collection[str], remember: bool
) -> Identities:
    """Return the identities without those that may not change anything here.

    asked
        The nodes whose identities would change something: only those are verified.
    remember
        Whether what they say is taken over now.
    """
    if not asked:
        return identities
    wanted = [identities.accepted[node] for node in asked]
    with ThreadPoolExecutor(WORKERS) as pool:
        found = pool.map(lambda one: _verdict(cluster, one), wanted)
    last = _times()
    good = proofs.judged(cluster, identities, asked, dict(zip(asked, found, strict=True)), last)
    if remember:
        times = proofs.taken(good, asked, last, datetime.now(timezone.utc))
        files.ensure_folder(files.LASTING, "root")
        files.apply(FilePlan(TIMES, json.dumps(times, indent=1), 0o600, "root", {}))
    return good


def _verdict(cluster: Cluster, identity: Identity) -> str | None:
    """Return an empty text for an identity that proves its keys, why it does not, or None."""
    if not identity.signatures:
        return None
    if len(identity.signatures) != len(identity.keys):
        return "a signature is missing"
    text = proofs.statement(cluster, identity)
    pairs = zip(identity.keys, identity.signatures, strict=True)
    verdicts = [_verified(text, key, signature) for key, signature in pairs]
    return None if None in verdicts else next(filter(None, verdicts), "")


def _verified(text: str, key: PublicKey, signature: str) -> str | None:
    line = ["ssh-keygen", "-Y", "verify", "-n", proofs.NAMESPACE, "-I", proofs.PRINCIPAL]
    given = [text, proofs.signer(key), signature]
    outcome = commands.run([*line, "-f", "{1}", "-s", "{2}"], TIME_LIMIT, given=given)
    if outcome.code == 0:
        return ""
    if outcome.code is None:
        return f"ssh-keygen did not verify it within {TIME_LIMIT:g} s"
    if any(word in outcome.stderr for word in _TOO_OLD):
        return None
    return f"its signature is not that key's over what it publishes ({key.type})"


def _times() -> dict[str, str]:
    """Return the remembered times; none of what is not one."""
    noted = from_json(files.read(TIMES).text or "", "", lenient=True).fields(optional=True)
    found = {}
    for node, entry in noted.items():
        try:
            found[node] = datetime.fromisoformat(str(entry.value)).isoformat()
        except ValueError:
            continue
    return found
