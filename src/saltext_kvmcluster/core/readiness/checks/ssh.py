"""Checks of the ssh trust between nodes: each node's own files, and its logins to its peers."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

from saltext_kvmcluster.core.facts.nodefacts import NodeFacts
from saltext_kvmcluster.core.findings import PROBLEM, UNKNOWN, WARN, Issue
from saltext_kvmcluster.core.pillar.clusters import Node
from saltext_kvmcluster.core.readiness.checks.base import NO_SOURCE, World, unreported
from saltext_kvmcluster.core.trust import logins

UNTRIED = {
    "ok": False,
    "cause": logins.NOT_TRIED,
    "remedy": "try it from the source: salt NODE kvmcluster.ssh_check",
}


def reported_by_node(check: str) -> Callable[[World, NodeFacts], Iterable[Issue]]:
    """Return the function of a check that a node runs on itself, see ``core.trust.sshcheck``."""

    def find(world: World, node: NodeFacts) -> Iterable[Issue]:
        """As the node finds by its own files, ``ssh -G`` and ``sshd -T``.

        Skipped for a peer that was asked over ssh and not by Salt: ssh.reach shows whether it
        accepts the login.
        """
        if node.by_peer:
            return ()
        if check in node.ssh:
            return node.ssh[check]
        return (unreported("its own result", node),)

    return find


def reach(world: World, source: NodeFacts, destination: NodeFacts) -> Iterable[Issue]:
    """Whether the source can log in to the destination by its migration name, as a migration does.

    ``salt-run kvmcluster.ssh_matrix`` tries every name.
    """
    peer = world.cluster.nodes[destination.node]
    cells, names = _cells(source, destination), wanted(peer, source)
    if len(cells) == len(names) and all(cell["ok"] for cell in cells.values()):
        return ()
    if source.detail:
        return (NO_SOURCE,)
    return _unreached(peer, names, cells)


def wanted(peer: Node, source: NodeFacts) -> Sequence[str]:
    """Return the names by which the source had to log in to a peer."""
    observed = source.peers.get(peer.id)
    return [name for name in peer.names if observed and name in observed.names] or peer.names


def noise(world: World, source: NodeFacts, destination: NodeFacts) -> Iterable[Issue]:
    """Whether a login prints nothing: libvirt would take the output for its peer's response."""
    cells = _cells(source, destination)
    if not cells:
        return (unreported("whether a login prints something", source, destination),)
    noisy = [cell for cell in cells.values() if cell["cause"] == logins.NOISE]
    if not noisy:
        return ()
    return (Issue(f"a login prints something: {noisy[0]['detail']}", str(noisy[0]["remedy"])),)


def _cells(source: NodeFacts, destination: NodeFacts) -> dict[str, Mapping[str, object]]:
    observed = source.peers.get(destination.node)
    return {str(cell["name"]): cell for cell in observed.cells} if observed else {}


def _unreached(
    peer: Node, names: Sequence[str], cells: Mapping[str, Mapping[str, object]]
) -> Iterator[Issue]:
    """Yield an issue for each cause, with the names that have it; the migration name apart."""
    groups: dict[tuple[str, str, bool], list[str]] = {}
    for name in names:
        cell = cells.get(name, UNTRIED)
        if not cell["ok"] and cell["cause"] != logins.NOISE:
            key = (str(cell["cause"]), str(cell["remedy"]), name == peer.migration)
            groups.setdefault(key, []).append(name)
    for (cause, remedy, blocks), alike in groups.items():
        outcome = UNKNOWN if cause == logins.NOT_TRIED else PROBLEM
        sentence = f"login by {', '.join(alike)}: {cause}"
        yield Issue(sentence, remedy, outcome, "" if blocks else WARN)
