"""The plan for ``authorized_keys2`` of this host: who may log in, by which keys."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass

from saltext_kvmcluster.core.fileplan import FilePlan, Wanted, plan_file
from saltext_kvmcluster.core.pillar.clusters import Cluster
from saltext_kvmcluster.core.trust import key_lines, login_keys
from saltext_kvmcluster.core.trust.identity import Identities, PublicKey
from saltext_kvmcluster.core.trust.sshd import Account
from saltext_kvmcluster.host import accounts, files, locks, proofs


@dataclass(frozen=True)
class LoginFile:
    """The plan, why identities are refused, whom ``from`` would keep out, and who was not asked."""

    plan: FilePlan
    refused: Mapping[str, str]
    kept_out: tuple[str, ...] = ()
    unasked: tuple[str, ...] = ()


def plan(
    cluster: Cluster, here: str, account: Account, identities: Identities, remember: bool
) -> LoginFile:
    """Return what is to become of the file.

    remember
        Whether it is carried out now.
    """
    path = os.path.join(account.home, ".ssh", login_keys.AUTHORIZED_KEYS)
    found = files.read(path, account.login)
    text = found.text or ""

    def planned(wanted: Wanted, *remarks: tuple[str, ...]) -> LoginFile:
        refused = {**identities.refused, **wanted.refused}
        return LoginFile(plan_file(path, found, wanted, 0o600, account.login), refused, *remarks)

    wanted = login_keys.wanted(cluster, identities, text)
    if wanted.text == text and not wanted.refused:
        return planned(wanted)
    unproven = login_keys.unproven(cluster, identities, text)
    identities = proofs.judged(cluster, identities, unproven, remember)
    wanted = login_keys.wanted(cluster, identities, text)
    limited = login_keys.to_be_limited(cluster, text) if wanted.text != text else {}
    if not limited:
        return planned(wanted)
    from saltext_kvmcluster.host import login_sources

    kept_out, unasked = login_sources.uncovered(cluster, here, limited)
    if as_before := {*kept_out, *unasked}:
        wanted = login_keys.wanted(cluster, identities, text, as_before)
    return planned(wanted, tuple(kept_out.values()), tuple(unasked.values()))


def accept(cluster: Cluster, here: str, identities: Identities, node: str) -> str:
    """Change the file as one node's identity wants it; return why that is refused."""
    account = accounts.account(cluster.ssh.login)
    with locks.lock():
        found = plan(cluster, here, account, identities, remember=True)
        if found.plan.changes:
            files.apply(found.plan)
    return found.refused.get(node, "")


def accepted(cluster: Cluster, node: str) -> tuple[PublicKey, ...]:
    """Return the keys by which the lines of ours let a node in."""
    account = accounts.account(cluster.ssh.login)
    path = os.path.join(account.home, ".ssh", login_keys.AUTHORIZED_KEYS)
    text = files.read(path, account.login).text or ""
    return key_lines.held_keys(text).get(node, ())
