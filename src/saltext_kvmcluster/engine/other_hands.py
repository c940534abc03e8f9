"""What Pacemaker, on the nodes that respond, knows: who manages a guest, and whom it fenced."""

from __future__ import annotations

from collections.abc import Collection

from saltext_kvmcluster.core.errors import WorldError
from saltext_kvmcluster.core.ownership import contacts
from saltext_kvmcluster.core.ownership.contacts import Contact
from saltext_kvmcluster.core.pacemaker import fencing, managers
from saltext_kvmcluster.core.pacemaker.fencing import FencingRuling
from saltext_kvmcluster.core.pacemaker.managers import Management
from saltext_kvmcluster.engine.environment import Environment


def management(
    env: Environment, guest: str, nodes: Collection[str], where: Collection[str] = ()
) -> Management:
    """Return which resource manages a guest.

    nodes
        Those to ask: all that respond.
    where
        The nodes on which it is active.
    """
    return managers.of(guest, env.side_by_side(env.pacemaker, nodes), where)


def fenced(
    env: Environment, silent: Collection[str], responding: Collection[str]
) -> dict[str, FencingRuling]:
    """Return which nodes count as off: Pacemaker fenced them, and none of their names responds.

    silent
        Nodes whose libvirt does not respond.
    """
    views = env.side_by_side(env.fencing, responding)
    if not any(views.values()):
        return dict.fromkeys(silent, fencing.NO_WORD)
    now, known = env.clock.now(), env.side_by_side(lambda node: _contacts(env, node), responding)
    unread = tuple(node for node, found in known.items() if found is None)
    seen = [contact for found in known.values() for contact in found or ()]
    rulings = {
        node: fencing.rule(
            {node, *env.cluster.nodes[node].names},
            views,
            now,
            [contact.moment for contact in seen if contact.node == node],
            unread,
        )
        for node in silent
    }
    off = [node for node, ruling in rulings.items() if ruling.off]
    alive = env.side_by_side(env.responds, off)
    return {
        node: fencing.back(alive[node]) if alive.get(node) else ruling
        for node, ruling in rulings.items()
    }


def _contacts(env: Environment, node: str) -> list[Contact] | None:
    """Return which nodes were up, and when, by what a node keeps; None if it cannot be read."""
    journal = env.journal(node)
    try:
        begun = [
            contact
            for entry in journal.entries().entries
            for end in (entry.move.source, entry.move.destination)
            for contact in contacts.at(end, entry.began)
        ]
        return [*begun, *journal.contacts()]
    except WorldError:
        return None
