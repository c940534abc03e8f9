"""How a node is asked: by running programs there, and by its libvirt."""

from __future__ import annotations

import functools
import shlex
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from saltext_kvmcluster.core.migration import migration
from saltext_kvmcluster.core.pillar.clusters import Cluster, Node
from saltext_kvmcluster.host import commands, ssh
from saltext_kvmcluster.host.hypervisor import Hypervisor

PART = 100_000
"""Bytes of what is run over ssh at once, which is one argument: see MAX_ARG_STRLEN in execve(2)."""

OVERHEAD = 150
"""Bytes that ssh.run_all adds to each program."""

Outputs = Mapping[str, commands.Outcome]


@dataclass(frozen=True)
class NodeAccess:
    """How a host is asked: by running programs there, and by its libvirt."""

    run_all: Callable[[Mapping[str, Sequence[str]]], Outputs]
    hypervisor: Hypervisor

    def close(self) -> None:
        """Let the connection to libvirt go."""
        self.hypervisor.close()


def this_host() -> NodeAccess:
    """Return the access to this host."""
    return NodeAccess(commands.run_all, Hypervisor())


def peer_host(cluster: Cluster, peer: Node) -> NodeAccess:
    """Return the access to a peer: its migration name, as a migration dials it."""
    uri = migration.connection_uri(cluster.ssh.login, peer)
    return NodeAccess(functools.partial(ssh.run_all, peer.migration), Hypervisor(uri))


def run_in_parts(access: NodeAccess, wanted: Mapping[str, Sequence[str]]) -> Outputs:
    """Run many programs, as many at once as a peer can be told to in one login."""
    found: dict[str, commands.Outcome] = {}
    for part in in_parts(wanted, lambda key: size(shlex.join(wanted[key]))):
        found.update(access.run_all({key: wanted[key] for key in part}))
    return found


def in_parts(items: Iterable[str], size: Callable[[str], int]) -> Iterator[list[str]]:
    """Yield items in groups whose sizes, with what goes with each, stay below PART together."""
    part: list[str] = []
    left = PART
    for item in items:
        left -= size(item) + OVERHEAD
        if part and left < 0:
            yield part
            part, left = [], PART - size(item) - OVERHEAD
        part.append(item)
    if part:
        yield part


def size(word: str) -> int:
    return len(shlex.quote(word).encode("utf-8", "replace"))
