"""The ssh facts of this node: its own trust, and its logins to its peers."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from saltext_kvmcluster.core.errors import KvmclusterError, WorldError
from saltext_kvmcluster.core.facts import parsers
from saltext_kvmcluster.core.findings import Issue, unknown
from saltext_kvmcluster.core.pillar.clusters import Cluster, Node
from saltext_kvmcluster.core.trust import (
    keyfile,
    login_keys,
    logins,
    pinned_hosts,
    sshcheck,
)
from saltext_kvmcluster.core.trust.identity import Identities
from saltext_kvmcluster.core.trust.keyfile import KeyFile
from saltext_kvmcluster.core.trust.sshd import Account
from saltext_kvmcluster.host import accounts, files, keys, resolver, ssh, ssh_client, sshd_settings

Checks = Mapping[str, Callable[[], list[Issue]]]
LOGIN_TIME = 5.0
PEERS_TIME = 60.0
PORT_TIME = 3.0
PORTS_TRIED = 16


def own_trust(
    cluster: Cluster, node: str, identities: Identities | None
) -> dict[str, list[dict[str, str]]]:
    """Return the issues of this node's ssh, by the check's id."""
    account = accounts.account(cluster.ssh.login)
    path = keyfile.key_path(cluster, account.home)
    checks = {
        **dialing(
            cluster, account, lambda: keys.key_file(path, account), sshcheck.names(cluster, node)
        ),
        "ssh.authorized": lambda: sshcheck.authorized(
            sshd_settings.issues(cluster, account, sshd_settings.connections(cluster.peers(node)))
        ),
    }
    if identities is not None:
        known, folder = identities, os.path.join(account.home, ".ssh")
        checks["ssh.stale"] = lambda: sshcheck.stale(cluster, known, _key_files(folder))
    return issues_of(checks)


def dialing(
    cluster: Cluster, account: Account, key: Callable[[], KeyFile], names: Sequence[str]
) -> Checks:
    """Return the checks of what this node needs to log in to its peers by their names."""
    root = os.path.join(accounts.account("root").home, ".ssh", pinned_hosts.KNOWN_HOSTS)
    path = keyfile.key_path(cluster, account.home)
    return {
        "ssh.key": lambda: sshcheck.key(key(), cluster),
        "ssh.config": lambda: sshcheck.config(
            cluster, ssh_client.settings(names), ssh_client.texts, path, root
        ),
        "ssh.label": lambda: sshcheck.label(accounts.labels(os.path.join(account.home, ".ssh"))),
    }


def is_encrypted(key: Callable[[], KeyFile]) -> bool:
    """Whether the cluster key has a passphrase; if it cannot be read, ssh.key reports it."""
    try:
        return key().encrypted
    except KvmclusterError:
        return False


def issues_of(checks: Checks) -> dict[str, list[dict[str, str]]]:
    """Return the issues that checks find; a check that fails is an issue too."""

    def found_by(check: Callable[[], list[Issue]]) -> list[Issue]:
        try:
            return check()
        except KvmclusterError as error:
            return [unknown(str(error), "fix that on this node, then check again")]

    return {
        name: [
            {"sentence": one.sentence, "remedy": one.remedy, "outcome": one.outcome}
            for one in found_by(check)
        ]
        for name, check in checks.items()
    }


def _key_files(folder: str) -> dict[str, str]:
    paths = [os.path.join(folder, name) for name in ("authorized_keys", login_keys.AUTHORIZED_KEYS)]
    return {path: files.read(path).text or "" for path in paths}


def peers_seen(cluster: Cluster, login_targets: logins.Targets) -> dict[str, dict[str, Any]]:
    """Return this node's results for each peer: logins and a migration port."""
    if not login_targets:
        return {}
    account = accounts.account(cluster.ssh.login)
    with ThreadPoolExecutor() as pool:
        tried = pool.map(migration_port, login_targets)
        encrypted = keys.key_file(keyfile.key_path(cluster, account.home), account).encrypted
        observed = ssh.probe_peers(login_targets, LOGIN_TIME, PEERS_TIME, logins.trial(cluster.ssh))
        ports = dict(zip(login_targets, tried, strict=True))
    return {
        peer.id: {
            "cells": [
                ssh.cell_of(
                    peer.id, name, observed.get((peer.id, name)), encrypted, cluster.ssh.from_
                )
                for name in names
            ],
            "names": [] if tuple(names) == tuple(peer.names) else list(names),
            **ports[peer],
        }
        for peer, names in login_targets.items()
    }


def migration_port(peer: Node) -> dict[str, str]:
    """Return the result of a connection to a free migration port of a peer: refused is good.

    Which ports are free there is not known here, so some are tried, from the end of the range:
    libvirt lets QEMU listen on the first free one, and QEMU takes the first connection for the
    source. See parsers.PORTS.
    """
    try:
        address = resolver.address(peer.migration)
    except WorldError as error:
        return {"port": str(error)}
    for port in range(parsers.PORTS[1], parsers.PORTS[1] - PORTS_TRIED, -1):
        try:
            socket.create_connection((address, port), PORT_TIME).close()
        except ConnectionRefusedError:
            return {"port": "refused"}
        except TimeoutError:
            return {"port": f"no response from port {port}"}
        except OSError as error:
            return {"port": f"port {port}: {error.strerror}"}
    return {"port": "taken"}
