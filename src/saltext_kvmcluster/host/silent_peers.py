"""Looks over ssh at peers whose minions are silent, all side by side."""

from __future__ import annotations

import concurrent.futures
import contextlib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

from saltext_kvmcluster.core.errors import WorldError
from saltext_kvmcluster.core.facts import parsers
from saltext_kvmcluster.core.pillar.clusters import Cluster, Node
from saltext_kvmcluster.core.trust import logins
from saltext_kvmcluster.host import collector, ssh
from saltext_kvmcluster.host.node_access import peer_host

LOGIN = 4.0
"""Seconds for a login: the host may be off."""
HEAD_START = 0.5
"""Seconds until the next name is tried, too, while a login by one is under way."""
WORKERS = 32


def facts(cluster: Cluster, peers: Sequence[Node]) -> dict[str, Any]:
    """Return the facts of some peers; a sentence for one that cannot be had."""

    def ask(peer: Node) -> object:
        try:
            return _of_peer(cluster, peer)
        except WorldError as error:
            return str(error)

    with ThreadPoolExecutor(WORKERS) as pool:
        found = pool.map(ask, peers)
        return {peer.id: one for peer, one in zip(peers, found, strict=True)}


def _of_peer(cluster: Cluster, peer: Node) -> dict[str, Any]:
    """Return a peer's facts by the first name that lets us in; WorldError with each one's cause."""
    causes = {}
    with ThreadPoolExecutor() as pool:
        tried = {}
        for name in dict.fromkeys((peer.migration, *peer.names)):
            tried[name] = pool.submit(ssh.probe, name, LOGIN)
            concurrent.futures.wait([tried[name]], HEAD_START)
            if tried[name].done() and tried[name].result().code == 0:
                break
    for name, login in tried.items():
        cell = logins.cell(peer.id, name, login.result(), encrypted_key=False)
        if cell["ok"]:
            with contextlib.closing(peer_host(cluster, replace(peer, migration=name))) as access:
                return collector.of_access(access, peer.id, (), parsers.OF_PEER)
        causes[name] = cell["cause"]
    found = ", ".join(f"{name}: {cause}" for name, cause in causes.items())
    raise WorldError(f"no login by ssh ({found})")
