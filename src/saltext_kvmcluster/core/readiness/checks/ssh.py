"""Whether nodes trust each other's ssh: what each one says of itself, and what it saw of a peer."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

from saltext_kvmcluster.core.facts.nodefacts import NodeFacts
from saltext_kvmcluster.core.findings import PROBLEM, UNKNOWN, WARN, Issue
from saltext_kvmcluster.core.pillar.clusters import Node
from saltext_kvmcluster.core.readiness.checks.base import SOURCE_NOT_TOLD, World, unreported
from saltext_kvmcluster.core.trust import logins

UNTRIED = {
    "ok": False,
    "cause": logins.NOT_TRIED,
    "remedy": "try it there: salt NODE kvmcluster.ssh_check",
}


def reported(check: str) -> Callable[[World, NodeFacts], Iterable[Issue]]:
    """Return the function of a check that a node makes of itself, see ``core.sshcheck``."""

    def find(world: World, node: NodeFacts) -> Iterable[Issue]:
        """As the node finds by its own files, ``ssh -G`` and ``sshd -T``.

        Nothing is said of a peer that is asked by another node, and not by Salt: ssh.reach shows
        whether it lets the login in.
        """
        if node.by_peer:
            return ()
        if check in node.ssh:
            return node.ssh[check]
        return (unreported("no word of it", node),)

    return find


def reaches(world: World, source: NodeFacts, destination: NodeFacts) -> Iterable[Issue]:
    """Whether the destination answers by every name, as a migration dials it.

    Only the migration name stops a migration; another name is for people and for later.
    """
    peer = world.cluster.nodes[destination.node]
    cells, names = _cells(source, destination), wanted(peer, source)
    if len(cells) == len(names) and all(cell["ok"] for cell in cells.values()):
        return ()
    if source.detail:
        return (SOURCE_NOT_TOLD,)
    return _unreached(peer, names, cells)


def wanted(peer: Node, source: NodeFacts) -> Sequence[str]:
    """Return the names by which the source was to log in to a peer."""
    observed = source.peers.get(peer.id)
    return [name for name in peer.names if observed and name in observed.names] or peer.names


def is_quiet(world: World, source: NodeFacts, destination: NodeFacts) -> Iterable[Issue]:
    """Whether a login prints nothing; libvirt would take what it prints for its peer's answer."""
    cells = _cells(source, destination)
    if not cells:
        return (unreported("no login was tried", source, destination),)
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
    """Put the names together that have one cause, the migration name apart."""
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
