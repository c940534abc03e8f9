"""Whether nodes trust each other's ssh: what each one says of itself, and what it saw of a peer."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping

from saltext_kvmcluster.core import reach
from saltext_kvmcluster.core.checks.base import World
from saltext_kvmcluster.core.facts import NodeFacts
from saltext_kvmcluster.core.findings import PROBLEM, WARN, Trouble, unknown


def told(check: str) -> Callable[[World, NodeFacts], Iterable[Trouble]]:
    """Return the function of a check that a node makes of itself, see ``core.sshcheck``."""

    def find(world: World, node: NodeFacts) -> Iterable[Trouble]:
        if check in node.ssh:
            return node.ssh[check]
        return (
            unknown(f"it said nothing of it{_why(node)}", f"salt {node.node} kvmcluster.facts"),
        )

    return find


def reaches(world: World, source: NodeFacts, destination: NodeFacts) -> Iterable[Trouble]:
    """Whether the destination answers by every name, as a migration dials it.

    Only the migration name stops a migration; another name is for people and for later.
    """
    peer = world.cluster.nodes[destination.node]
    cells = _cells(source, destination)
    if len(cells) == len(peer.names) and all(cell["ok"] for cell in cells.values()):
        return ()
    return _unreached(source, peer.names, peer.migration, cells)


def is_quiet(world: World, source: NodeFacts, destination: NodeFacts) -> Iterable[Trouble]:
    """Whether a login prints nothing; libvirt would take what it prints for its peer's answer."""
    cells = _cells(source, destination)
    if not cells:
        return (unknown(f"no login was tried{_why(source)}"),)
    noisy = [cell for cell in cells.values() if cell["cause"] == reach.NOISE]
    if not noisy:
        return ()
    return (Trouble(f"a login prints something: {noisy[0]['said']}", str(noisy[0]["remedy"])),)


def _cells(source: NodeFacts, destination: NodeFacts) -> dict[str, Mapping[str, object]]:
    seen = source.peers.get(destination.node)
    return {str(cell["name"]): cell for cell in seen.cells} if seen else {}


def _unreached(
    source: NodeFacts,
    names: Iterable[str],
    migration: str,
    cells: Mapping[str, Mapping[str, object]],
) -> Iterator[Trouble]:
    """Put the names together that have one cause, the migration name apart."""
    groups: dict[tuple[str, str, bool], list[str]] = {}
    for name in names:
        cell = cells.get(name, {"ok": False, "cause": reach.NOT_TRIED, "remedy": ""})
        if not cell["ok"] and cell["cause"] != reach.NOISE:
            key = (str(cell["cause"]), str(cell["remedy"]), name == migration)
            groups.setdefault(key, []).append(name)
    for (cause, remedy, blocks), alike in groups.items():
        severity = "" if blocks else WARN
        if cause == reach.NOT_TRIED:
            sentence = f"no login by {', '.join(alike)} was tried{_why(source)}"
            yield Trouble(sentence, remedy, "UNKNOWN", severity)
        else:
            sentence = f"no login by {', '.join(alike)}: {cause}"
            yield Trouble(sentence, remedy, PROBLEM, severity)


def _why(node: NodeFacts) -> str:
    return ": it did not answer" if node.said else ""
