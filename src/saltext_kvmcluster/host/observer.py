"""The process that observes its node for the beacon, run by host/observer_client.py.

libvirt's events need a thread that runs a loop, and the minion forks a process for each job: so
neither libvirt nor anything that may hang is called in the minion itself. The minion sends a
request, one line with an object of ``node`` and ``pillar``, or an empty one to repeat the last;
the response is one line, an observation as core/events/transitions.py takes it. The first line,
an empty object, says that this process is ready. It ends at the end of its input.
"""

from __future__ import annotations

import glob
import json
import os
import select
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterable
from typing import Any

from saltext_kvmcluster.core.errors import KvmclusterError
from saltext_kvmcluster.core.pillar import clusters, parser
from saltext_kvmcluster.core.pillar.clusters import Cluster
from saltext_kvmcluster.core.trust import keyfile, sshd
from saltext_kvmcluster.host import (
    accounts,
    files,
    keys,
    libvirt_events,
    lookout,
    sshd_settings,
    trust_files,
)

# Events that are kept until the next request, and seconds without a request after which it ends.
MAX_EVENTS, IDLE_LIMIT = 10000, 3600.0
# Seconds after which files are checked again although nothing shows a change.
MAX_AGE = 600.0
LISTENING = ("/proc/net/tcp", "/proc/net/tcp6")
_LISTEN = "0A"

_Signature = tuple[object, ...]


class Observer:
    """The state of this node; the costly parts are observed only when their files changed."""

    def __init__(self, cluster: Cluster, node: str) -> None:
        """Name the cluster, and the minion id of this node in it."""
        self._cluster = cluster
        self._node = node
        self._access = _Cached(self._observe_access)
        self._drift = _Cached(self._observe_trust)

    def observe(self) -> dict[str, Any]:
        """Return the node's identity, what keeps peers from logging in, and drifted files."""
        cluster = self._cluster
        try:
            account = accounts.account(cluster.ssh.login)
            key = keyfile.key_path(cluster, account.home)
            identity, issues, ports = self._access.observed(_signature(_access_paths(key)))
        except KvmclusterError as error:
            identity, issues, ports = {}, [str(error)], []
        return {
            "identity": identity,
            "issues": [*issues, *_unused_ports(ports)],
            "drifted": self._drifted(),
            "at": time.monotonic(),
        }

    def _drifted(self) -> list[str] | None:
        try:
            noted = _signature([files.NOTED, *trust_files.paths(self._cluster)])
            found: list[str] = self._drift.observed(noted)
        except KvmclusterError:
            return None
        return found

    def _observe_trust(self) -> list[str]:
        return trust_files.drifted(self._cluster)

    def _observe_access(self) -> tuple[dict[str, list[str]], list[str], list[str]]:
        """Return the node's identity, what keeps peers from logging in, and sshd's ports."""
        cluster = self._cluster
        account = accounts.account(cluster.ssh.login)
        issues: list[str] = []

        def tried(examine: Callable[[], list[str]]) -> list[str]:
            try:
                return examine()
            except KvmclusterError as error:
                issues.append(str(error))
                return []

        def key() -> list[str]:
            found = keys.key_file(keyfile.key_path(cluster, account.home), account)
            return [keyfile.parsed(found, cluster).fingerprint]

        def refused() -> list[str]:
            connections = sshd_settings.connections(cluster.peers(self._node))
            return [found.problem for found in sshd_settings.issues(cluster, account, connections)]

        identity = {
            "cluster_key": tried(key),
            "host_keys": tried(lambda: [found.fingerprint for found in sshd_settings.host_keys()]),
        }
        ports = tried(
            lambda: list(
                sshd_settings.effective_settings("root", "localhost", "127.0.0.1").get("port", ())
            )
        )
        kept_out = tried(refused)
        return identity, list(dict.fromkeys([*issues, *kept_out])), ports


class _Cached:
    """An observation, cached until a file changes or it is too old."""

    def __init__(self, observation: Callable[[], Any]) -> None:
        self._observe = observation
        self._signature: _Signature | None = None
        self._until = 0.0
        self._value: Any = None

    def observed(self, signature: _Signature) -> Any:
        """Return it, observed anew if the signature changed or it is too old."""
        now = time.monotonic()
        if signature != self._signature or now >= self._until:
            self._signature = None
            self._value = self._observe()
            self._signature, self._until = signature, now + MAX_AGE
        return self._value


class _Events:
    """The daemon's events since the last request."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._pending: list[dict[str, Any]] = []

    def add(self, event: dict[str, Any]) -> None:
        """Keep an event. With too many the process ends, and the beacon starts a new one."""
        with self._lock:
            self._pending.append(event)
            too_many = len(self._pending) > MAX_EVENTS
        if too_many:
            os._exit(0)

    def taken(self) -> list[dict[str, Any]]:
        """Return and forget them, the oldest first."""
        with self._lock:
            taken, self._pending = self._pending, []
        return taken


def main() -> None:
    """Answer each line of standard input, until its end or the idle limit."""
    events = _Events()
    threading.Thread(target=libvirt_events.watch, args=[events.add], daemon=True).start()
    observer: Observer | None = None
    known: tuple[Cluster, str] | None = None
    threading.Thread(target=_look_out, args=[lambda: known], daemon=True).start()
    print("{}", flush=True)
    while select.select([sys.stdin], [], [], IDLE_LIMIT)[0] and (line := sys.stdin.readline()):
        asked = json.loads(line)
        if asked:
            cluster = parser.from_pillar({clusters.ROOT: asked["pillar"]})
            observer = Observer(cluster, asked["node"])
            known = (cluster, asked["node"])
        assert observer is not None
        observation = {**observer.observe(), "events": events.taken()}
        print(json.dumps(observation), flush=True)
    os._exit(0)  # Without waiting for a thread that hangs.


def _look_out(known: Callable[[], tuple[Cluster, str] | None]) -> None:
    """Complete handovers; if that cannot go on, this process ends with the reason."""
    try:
        lookout.watch(known)
    except BaseException:
        traceback.print_exc()
        os._exit(1)


def _access_paths(key: str) -> list[str]:
    """Return the files that decide whether peers can log in, and this node's identity."""
    folder = os.path.dirname(sshd_settings.SSHD_CONFIG)
    drop_ins = os.path.dirname(sshd.DROP_IN)
    return [
        *sorted(glob.glob(f"{folder}/*")),
        *sorted(glob.glob(f"{drop_ins}/*")),
        key,
        f"{key}.pub",
    ]


def _signature(paths: Iterable[str]) -> _Signature:
    """Return a value that changes when one of the files, or a folder above it, does."""
    paths = list(paths)
    folders = {os.path.dirname(path) for path in paths}
    folders |= {os.path.dirname(folder) for folder in folders}
    return (
        *((path, *_stat(path, is_file=True)) for path in paths),
        *((path, *_stat(path, is_file=False)) for path in sorted(folders)),
    )


def _stat(path: str, is_file: bool) -> _Signature:
    try:
        found = os.stat(path)
    except OSError as error:
        return (error.errno,)
    kind = (found.st_mode, found.st_uid)
    return (
        (*kind, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns)
        if is_file
        else kind
    )


def _unused_ports(ports: Iterable[str]) -> list[str]:
    """Return an issue for each of sshd's ports on which nothing listens."""
    wanted = list(ports)
    open_ports = _open_ports() if wanted else set()
    return [f"nothing listens on sshd's port {port}" for port in wanted if port not in open_ports]


def _open_ports() -> set[str]:
    """Return the TCP ports in use by listeners, which the kernel lists first."""
    found = set()
    for path in LISTENING:
        try:
            with open(path, encoding="ascii") as table:
                next(table)
                for line in table:
                    fields = line.split()
                    if fields[3] != _LISTEN:
                        break
                    found.add(str(int(fields[1].rpartition(":")[2], 16)))
        except (OSError, StopIteration):
            continue
    return found


if __name__ == "__main__":
    main()
