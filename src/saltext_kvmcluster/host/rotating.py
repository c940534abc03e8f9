"""The replacement of this node's cluster key, step by step; see core.trust.rotation.

Each step does nothing that was done before, so any of them can be repeated.
"""

from __future__ import annotations

import contextlib
import os
import time
from datetime import datetime, timezone
from typing import Any

from saltext_kvmcluster.core.errors import InputError, KvmclusterError, WorldError
from saltext_kvmcluster.core.fileplan import FilePlan
from saltext_kvmcluster.core.pillar.clusters import Cluster
from saltext_kvmcluster.core.trust import blocks, client_config, keyfile, logins, rotation
from saltext_kvmcluster.core.trust.identity import PublicKey
from saltext_kvmcluster.core.trust.rotation import SUFFIX, Begun, OwnKey
from saltext_kvmcluster.core.trust.sshd import Account
from saltext_kvmcluster.host import accounts, files, keys, locks, ssh

RECORD = f"{files.LASTING}/rotation.json"
LOGIN_LASTS = 30.0
"""Seconds after which a login that was begun has ended, one way or the other."""
_POLL = 0.2


def next_key(cluster: Cluster, path: str, account: Account) -> PublicKey | None:
    """Return the key that is to replace the one at ``path``; None if there is none that can.

    A file that no replacement made is none: whose it is, and who has it, is not known.
    """
    if not os.path.lexists(path + SUFFIX) or not replaced_since():
        return None
    with contextlib.suppress(KvmclusterError):
        return keyfile.parsed(keys.key_file(path + SUFFIX, account), cluster)
    return None


def own_key(cluster: Cluster) -> OwnKey:
    """Return this node's key, the one beside it, and whether a replacement was begun."""
    path, account = keys.cluster_key(cluster)
    begun = rotation.record(files.read(RECORD).text)
    former = begun.former if begun else ""
    beside = next_key(cluster, path, account)
    after = beside.fingerprint if beside else ""
    try:
        if os.path.islink(path):
            raise InputError(
                f"{path} is a link to {os.path.realpath(path)}, which is not replaced: put the key"
                " itself there, or replace it by hand (docs/security.md)"
            )
        key = keyfile.parsed(keys.key_file(path, account), cluster)
    except KvmclusterError as error:
        return OwnKey("", after, former, str(error))
    return OwnKey(key.fingerprint, after, former)


def age(cluster: Cluster) -> float | None:
    """Return how old the file of this node's key is, in seconds, None if that is not known."""
    with contextlib.suppress(KvmclusterError, OSError):
        return max(0.0, time.time() - os.stat(keys.cluster_key(cluster)[0]).st_mtime)
    return None


def replaced_since() -> str:
    """Return since when this node's key is being replaced, empty if it is not."""
    with contextlib.suppress(KvmclusterError):
        begun = rotation.record(files.read(RECORD).text)
        return begun.since if begun else ""
    return ""


def begin(cluster: Cluster, here: str) -> None:
    """Record that the key is to be replaced, and make the next one beside it."""
    path, account = keys.cluster_key(cluster)
    with locks.lock():
        own = own_key(cluster)
        if own.problem:
            raise WorldError(own.problem)
        if own.phase == rotation.SWAPPED or own.next:
            return
        _remove_next(path)
        if own.phase == rotation.FRESH:
            since = datetime.now(timezone.utc).isoformat(timespec="seconds")
            text = Begun(since, own.key).to_text()
            files.ensure_folder(files.LASTING, "root")
            files.apply(FilePlan(RECORD, text, 0o600, "root", {}))
        comment = blocks.tag(cluster, here)
        keys.make_key(path + SUFFIX, cluster.ssh.key_type, comment, account.login)


def swap(cluster: Cluster, here: str, timeout: float, limit: float) -> list[dict[str, Any]]:
    """Put the next key in place of the present one if it opens every peer by every name.

    Returns the logins by the next key alone; none if it is in its place already.

    timeout, limit
        Seconds for one login, and for all.
    """
    path, account = keys.cluster_key(cluster)
    own = own_key(cluster)
    if own.problem:
        raise WorldError(own.problem)
    cells: list[dict[str, Any]] = []
    if own.next and own.next != own.key:
        named = logins.by_every_name(cluster, here)
        with_next = (path + SUFFIX, own.next)
        observed = ssh.probe_peers(named, timeout, limit, ("true",), with_next)
        cells = [
            ssh.cell_of(peer.id, name, observed.get((peer.id, name)), False)
            for peer, names in named.items()
            for name in names
        ]
        if not all(cell["ok"] for cell in cells):
            return cells
        with locks.lock():
            changed = _offer(cluster, path, both=True)
        _await_logins(changed)
        with locks.lock():
            if own_key(cluster).next == own.next:
                _take_place(path, account.login)
    _await_logins(os.stat(path).st_ctime)
    with locks.lock():
        now = own_key(cluster)
        if now.next and now.next == now.key:
            _remove_next(path)
    return cells


def end(cluster: Cluster) -> None:
    """Remove the record, as the former key is removed everywhere, and what a kill left.

    Nothing is done while there is a second key: another replacement was begun meanwhile.
    """
    path, account = keys.cluster_key(cluster)
    with locks.lock():
        if next_key(cluster, path, account):
            return
        if not os.path.lexists(path + SUFFIX):
            files.remove(f"{path}{SUFFIX}.pub")
        public = keys.public_half(path)[0]
        if public and not os.path.lexists(f"{path}.pub"):
            files.create(FilePlan(f"{path}.pub", f"{public}\n", 0o644, account.login, {}))
        _offer(cluster, path, both=os.path.lexists(path + SUFFIX))
        files.remove(RECORD)


def _offer(cluster: Cluster, path: str, both: bool) -> float:
    """Have ssh offer the next key, too, or no more; return when that was last changed."""
    changed = 0.0
    for account in map(accounts.account, dict.fromkeys(["root", cluster.ssh.login])):
        rules = os.path.join(account.home, ".ssh", client_config.CONFIG)
        text = files.read(rules, account.login).text
        if text is None:
            continue
        wanted = client_config.offering(text, path, both)
        if wanted != text:
            files.apply(FilePlan(rules, wanted, 0o600, account.login, {}))
        changed = max(changed, os.stat(rules).st_ctime)
    return changed


def _take_place(path: str, login: str) -> None:
    """Put a copy of the next key in place of the present one; ssh takes either at each moment.

    It offers what the public half beside a key says, or the key itself where there is none.
    """
    private, public = (files.read(f"{path}{SUFFIX}{end}", login).text for end in ("", ".pub"))
    files.remove(f"{path}.pub")
    files.apply(FilePlan(path, private or "", 0o600, login, {}))
    if public:
        files.apply(FilePlan(f"{path}.pub", public, 0o644, login, {}))


def _remove_next(path: str) -> None:
    for half in (path + SUFFIX, f"{path}{SUFFIX}.pub"):
        files.remove(half)


def _await_logins(changed: float) -> None:
    """Wait until no login is under way that began before something changed.

    An ssh that runs for longer than a login lasts is logged in: a migration, or a person.
    """
    begin, end = changed - LOGIN_LASTS, changed + LOGIN_LASTS
    while (now := time.time()) < end and any(
        begin <= now - age <= changed + 1 for age in _ssh_ages()
    ):
        time.sleep(_POLL)


def _ssh_ages() -> list[float]:
    """Return for how many seconds each ssh client of this host runs."""
    ages = []
    up = float((files.read("/proc/uptime").text or "0").split()[0])
    for name in os.listdir("/proc"):
        if name.isdecimal():
            with contextlib.suppress(KvmclusterError, OSError, ValueError, IndexError):
                text = files.read(f"/proc/{name}/stat").text or ""
                if "(ssh)" in text:
                    ticks = int(text.rpartition(")")[2].split()[19])
                    ages.append(up - ticks / os.sysconf("SC_CLK_TCK"))
    return ages
