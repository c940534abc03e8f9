"""Whether Pacemaker leaves a node empty that is drained, or may start guests on it at any time."""

from __future__ import annotations

from saltext_kvmcluster.core.pacemaker.managers import START_OR_DISABLE
from saltext_kvmcluster.core.pacemaker.model import Pacemaker


def obstacle(node: str, found: Pacemaker | None) -> str:
    """Return why a node must not be drained now; empty if Pacemaker leaves it alone.

    It does if it has no guests, acts on none of them (unmanaged, or in maintenance), or has the
    node on standby. What a node's maintenance alone keeps it off it acts on once that node was
    restarted. Guests of which it does not know are moved as ever.
    """
    if found is None:
        return f"whether Pacemaker runs on {node} is not known"
    if found.error:
        return f"Pacemaker on {node} cannot be read: {found.error}"
    if not any(found.state(one).acts for one in found.resources):
        return ""
    if not found.runs:
        return (
            f"Pacemaker on {node} does not run, starts with it, and has guests: on {node}:"
            f" {START_OR_DISABLE}"
        )
    name = found.name or node
    member = found.status.members.get(name) if found.status else None
    if member and member.standby:
        return ""
    return f"Pacemaker manages guests, and may start them on {node}; first: {on(name)}"


def on(name: str) -> str:
    """Return how a node is put on standby: Pacemaker moves away what it manages."""
    return f"crm_attribute -N {name} -n standby -v on, then crm_resource --wait"


def off(name: str) -> str:
    """Return how a node takes guests of Pacemaker again."""
    return f"crm_attribute -N {name} -n standby -D"
