"""Which guests and nodes a check is asked about."""

from __future__ import annotations

from collections.abc import Sequence

from saltext_kvmcluster.core.errors import InputError
from saltext_kvmcluster.core.facts.nodefacts import GuestFacts
from saltext_kvmcluster.core.migration import migration
from saltext_kvmcluster.core.readiness.checks.base import World
from saltext_kvmcluster.core.text import listed, printable


def guests_in_question(world: World, guest: str | None, source: str | None) -> list[GuestFacts]:
    """Return the guests in question, each once: where it is active, else at its first report."""
    known = world.guests if guest is None else world.by_name.get(guest, [])
    at = set(nodes_in_question(world, source))
    found = [one for one in known if one.node in at and _represents(world, one, at)]
    if guest is not None and not found:
        raise no_such_guest(world, guest, source)
    return found


def _represents(world: World, guest: GuestFacts, at: set[str]) -> bool:
    """Whether findings of a guest are reported for this copy of it."""
    if guest.active:
        return True
    copies = [copy for copy in world.copies(guest) if copy.node in at]
    return guest is copies[0] and not any(copy.active for copy in copies)


def no_such_guest(world: World, guest: str, source: str | None) -> InputError:
    """Return the error for a guest that no node has, or a node in question lacks."""
    silent = [node for node in nodes_in_question(world, source) if world.nodes[node].guests is None]
    words = (
        str(migration.no_such_guest(guest, source))
        if source
        else f"no node of cluster {world.cluster.name} has a guest {guest}; to list the guests:"
        " salt-run kvmcluster.status"
    )
    if silent:
        words += f"; no list of guests from {listed(silent)}"
    return InputError(printable(words))


def nodes_in_question(world: World, node: str | None) -> Sequence[str]:
    if node is None:
        return tuple(world.nodes)
    world.cluster.node(node)
    return (node,)
