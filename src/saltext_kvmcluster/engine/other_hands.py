"""What Pacemaker, on the nodes that respond, knows: who manages a guest, and whom it fenced."""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Iterator
from datetime import datetime

from saltext_kvmcluster.core.errors import WorldError
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
    now, moves = env.clock.now(), env.side_by_side(lambda node: _ends(env, node), responding)
    began = [end for ends in moves.values() for end in ends]
    rulings = {
        node: fencing.rule(
            {node, *env.cluster.nodes[node].names},
            views,
            now,
            [moment for end, moment in began if end == node],
        )
        for node in silent
    }
    off = [node for node, ruling in rulings.items() if ruling.off]
    alive = env.side_by_side(env.responds, off)
    return {
        node: fencing.back(alive[node]) if alive.get(node) else ruling
        for node, ruling in rulings.items()
    }


def _ends(env: Environment, node: str) -> list[tuple[str, datetime]]:
    """Return the nodes of the migrations in a node's journal, and when these began."""
    found: list[tuple[str, datetime]] = []
    with contextlib.suppress(WorldError):
        for entry in env.journal(node).entries().entries:
            ends = (entry.move.source, entry.move.destination)
            found += [(end, moment) for moment in _moment(entry.began) for end in ends]
    return found


def _moment(text: str) -> Iterator[datetime]:
    with contextlib.suppress(ValueError):
        found = datetime.fromisoformat(text)
        if found.tzinfo:
            yield found
