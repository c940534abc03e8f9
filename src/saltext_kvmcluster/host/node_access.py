"""Access to a node, this one or a peer: programs run there, and its libvirt."""

from __future__ import annotations

import functools
import shlex
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from saltext_kvmcluster.core.migration import plans
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
    """Access to a host: a way to run programs there, and its libvirt."""

    run_all: Callable[[Mapping[str, Sequence[str]]], Outputs]
    hypervisor: Hypervisor

    def close(self) -> None:
        """Close the connection to libvirt."""
        self.hypervisor.close()


def this_host() -> NodeAccess:
    """Return the access to this host."""
    return NodeAccess(commands.run_all, Hypervisor())


def peer_host(cluster: Cluster, peer: Node) -> NodeAccess:
    """Return the access to a peer, by its migration name as a migration uses it."""
    uri = plans.connection_uri(cluster.ssh.login, peer)
    return NodeAccess(
        functools.partial(ssh.run_all, peer.migration, ahead=cluster.ssh.becomes_root),
        Hypervisor(uri),
    )


def run_in_parts(access: NodeAccess, wanted: Mapping[str, Sequence[str]]) -> Outputs:
    """Run many programs, as many at once as one ssh login can carry."""
    found: dict[str, commands.Outcome] = {}
    for part in in_parts(wanted, lambda key: size(shlex.join(wanted[key]))):
        found.update(access.run_all({key: wanted[key] for key in part}))
    return found


def in_parts(items: Iterable[str], size: Callable[[str], int]) -> Iterator[list[str]]:
    """Yield items in groups, each below PART bytes with the overhead of its items."""
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
