"""The process that looks at its node for the beacon: ``python -m saltext_kvmcluster.host.lookout``.

libvirt's events need a thread that turns a loop, and the minion forks a process for each job: so
neither libvirt nor anything that may hang is touched in the minion itself. It asks here by one
line, an object with ``node`` and ``pillar`` or an empty one for the same again, and is answered
by one line, a look as ``core.watching.compare`` reads it. An empty object is said first, when we
can be asked. The end of our input is our end.
"""

from __future__ import annotations

import glob
import json
import os
import select
import sys
import threading
import time
from collections.abc import Callable, Iterable
from typing import Any

from saltext_kvmcluster.core.errors import KvmclusterError
from saltext_kvmcluster.core.pillar import clusters, parser
from saltext_kvmcluster.core.pillar.clusters import Cluster
from saltext_kvmcluster.core.trust import (
    client_config,
    keyfile,
    login_keys,
    pinned_hosts,
    sshd,
)
from saltext_kvmcluster.host import files, libvirt_events, ssh

# Happenings that are kept for whoever asks, and seconds after which nobody will.
MOST, PATIENCE = 10000, 3600.0
# Seconds after which what nothing shows to have changed is looked at again all the same.
AGE = 600.0
LISTENING = ("/proc/net/tcp", "/proc/net/tcp6")
_LISTEN = "0A"

_Signature = tuple[object, ...]


class Observer:
    """What is seen of this node, look by look; what costs more is looked at when it changed."""

    def __init__(self, cluster: Cluster, node: str) -> None:
        """Name the cluster, and the minion id of this node in it."""
        self._cluster = cluster
        self._node = node
        self._access = _Kept(self._look_at_access)
        self._drift = _Kept(self._look_at_trust)

    def observe(self) -> dict[str, Any]:
        """Return the node's own part of a look."""
        cluster = self._cluster
        try:
            account = ssh.account(cluster.ssh.login)
            key = keyfile.key_path(cluster, account.home)
            identity, obstacles, ports = self._access.observed(_signature(_access_paths(key)))
        except KvmclusterError as error:
            identity, obstacles, ports = {}, [str(error)], []
        return {
            "identity": identity,
            "obstacles": [*obstacles, *_unheard(ports)],
            "drifted": self._drifted(),
        }

    def _drifted(self) -> list[str] | None:
        try:
            found: list[str] = self._drift.observed(_signature([files.NOTED, *self._trust_files()]))
        except KvmclusterError:
            return None
        return found

    def _look_at_trust(self) -> list[str]:
        return files.drifted(self._trust_files(), self._cluster.ssh.exclusive)

    def _trust_files(self) -> list[str]:
        login = self._cluster.ssh.login
        own = [os.path.join(ssh.account(login).home, ".ssh", login_keys.AUTHORIZED_KEYS)]
        for account in map(ssh.account, dict.fromkeys(["root", login])):
            names = (pinned_hosts.KNOWN_HOSTS, client_config.CONFIG, client_config.USER_CONFIG)
            own += [os.path.join(account.home, ".ssh", name) for name in names]
        return [*own, sshd.DROP_IN]

    def _look_at_access(self) -> tuple[dict[str, list[str]], list[str], list[str]]:
        """Return what identifies the node, what keeps peers out, and sshd's ports."""
        cluster = self._cluster
        account = ssh.account(cluster.ssh.login)
        obstacles: list[str] = []

        def tried(examine: Callable[[], list[str]]) -> list[str]:
            try:
                return examine()
            except KvmclusterError as error:
                obstacles.append(str(error))
                return []

        def key() -> list[str]:
            found = ssh.key_file(keyfile.key_path(cluster, account.home), account)
            return [keyfile.parsed(found, cluster).fingerprint]

        def kept_out() -> list[str]:
            connections = ssh.connections(cluster.peers(self._node))
            return [found.problem for found in ssh.obstacles(cluster, account, connections)]

        identity = {
            "cluster_key": tried(key),
            "host_keys": tried(lambda: [found.fingerprint for found in ssh.host_keys()]),
        }
        ports = tried(
            lambda: list(ssh.effective_settings("root", "localhost", "127.0.0.1").get("port", ()))
        )
        kept = tried(kept_out)
        return identity, list(dict.fromkeys([*obstacles, *kept])), ports


class _Kept:
    """Something that was seen, for as long as nothing shows that it is otherwise now."""

    def __init__(self, observation: Callable[[], Any]) -> None:
        self._observe = observation
        self._signature: _Signature | None = None
        self._until = 0.0
        self._seen: Any = None

    def observed(self, signature: _Signature) -> Any:
        """Return it; it is looked at anew where the signature is another, or age has come."""
        now = time.monotonic()
        if signature != self._signature or now >= self._until:
            self._signature = None
            self._seen = self._observe()
            self._signature, self._until = signature, now + AGE
        return self._seen


class _Happenings:
    """What the daemon told since somebody asked last."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._waiting: list[dict[str, Any]] = []

    def add(self, happening: dict[str, Any]) -> None:
        """Keep a happening. Where too many wait we end: who asks then begins anew."""
        with self._lock:
            self._waiting.append(happening)
            too_many = len(self._waiting) > MOST
        if too_many:
            os._exit(0)

    def taken(self) -> list[dict[str, Any]]:
        """Return them, the oldest first, and keep none of them."""
        with self._lock:
            taken, self._waiting = self._waiting, []
        return taken


def main() -> None:
    """Answer each line of standard input, until its end or until nobody asks any more."""
    happenings = _Happenings()
    threading.Thread(target=libvirt_events.watch, args=[happenings.add], daemon=True).start()
    lookout: Observer | None = None
    print("{}", flush=True)
    while select.select([sys.stdin], [], [], PATIENCE)[0] and (line := sys.stdin.readline()):
        asked = json.loads(line)
        if asked:
            cluster = parser.from_pillar({clusters.ROOT: asked["pillar"]})
            lookout = Observer(cluster, asked["node"])
        assert lookout is not None
        observation = {**lookout.observe(), "happenings": happenings.taken()}
        print(json.dumps(observation), flush=True)
    os._exit(0)  # Not held up by what may hang in a thread.


def _access_paths(key: str) -> list[str]:
    """Return what tells whether peers can log in, and as whom this node shows itself."""
    folder = os.path.dirname(ssh.SSHD_CONFIG)
    drop_ins = os.path.dirname(sshd.DROP_IN)
    return [
        *sorted(glob.glob(f"{folder}/*")),
        *sorted(glob.glob(f"{drop_ins}/*")),
        key,
        f"{key}.pub",
    ]


def _signature(paths: Iterable[str]) -> _Signature:
    """Return what differs when one of the files does, or the way to it."""
    paths = list(paths)
    folders = {os.path.dirname(path) for path in paths}
    folders |= {os.path.dirname(folder) for folder in folders}
    return (
        *((path, *_stat(path, whole=True)) for path in paths),
        *((path, *_stat(path, whole=False)) for path in sorted(folders)),
    )


def _stat(path: str, whole: bool) -> _Signature:
    try:
        found = os.stat(path)
    except OSError as error:
        return (error.errno,)
    kind = (found.st_mode, found.st_uid)
    return (
        (*kind, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns)
        if whole
        else kind
    )


def _unheard(ports: Iterable[str]) -> list[str]:
    """Return those of sshd's ports at which nobody listens, as sentences."""
    wanted = list(ports)
    open_ports = _open_ports() if wanted else set()
    return [f"nobody listens at sshd's port {port}" for port in wanted if port not in open_ports]


def _open_ports() -> set[str]:
    """Return the TCP ports at which somebody listens; the kernel tells of these first."""
    found = set()
    for path in LISTENING:
        try:
            with open(path, encoding="ascii") as table:
                next(table)
                for line in table:
                    words = line.split()
                    if words[3] != _LISTEN:
                        break
                    found.add(str(int(words[1].rpartition(":")[2], 16)))
        except (OSError, StopIteration):
            continue
    return found


if __name__ == "__main__":
    main()
