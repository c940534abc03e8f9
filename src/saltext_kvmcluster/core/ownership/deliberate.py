"""Guests that run nowhere because ``kvmcluster.shutdown`` was asked to, and not by a fault.

The node that shut a guest down notes it. Nothing follows the guest from there: somebody may start
it elsewhere, and that run may end by a fault. So a note counts only while no node's log of the
guest, which libvirt writes at each start and end, is younger. What is not known of a node, as where
a peer was asked in its stead, may be just that.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime

from saltext_kvmcluster.core.facts.nodefacts import NodeFacts

FOLDER = "/var/lib/kvmcluster/shutdown"
LONGEST = 100
"""Bytes of a note that are read at most."""
TOLERANCE = 30.0
"""Seconds by which a log may be younger: clocks differ, and the end is logged as it is noted."""


@dataclass(frozen=True)
class Shutdown:
    """Which node shut a guest down, and when by its own clock (ISO 8601)."""

    node: str
    since: str


def shutdowns(nodes: Mapping[str, NodeFacts], guests: Iterable[str]) -> dict[str, Shutdown]:
    """Return those of some guests, active nowhere, that were shut down deliberately."""
    found = {guest: _shutdown(nodes, guest) for guest in guests}
    return {guest: one for guest, one in found.items() if one}


def _shutdown(nodes: Mapping[str, NodeFacts], guest: str) -> Shutdown | None:
    noted, logged = [], []
    for facts in nodes.values():
        since, log = facts.shutdowns.get(guest), (facts.logged or {}).get(guest)
        if facts.logged is None or (facts.clock is None and (since or log)):
            return None
        if since:
            noted.append((datetime.fromisoformat(since).timestamp() - (facts.clock or 0.0), facts))
        if log:
            logged.append(log - (facts.clock or 0.0))
    if not noted:
        return None
    time, last = max(noted, key=lambda one: one[0])
    if any(one > time + TOLERANCE for one in logged):
        return None
    return Shutdown(last.node, last.shutdowns[guest])
