"""Whether Pacemaker leaves a node empty that is drained, or may start guests on it at any time."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace

from saltext_kvmcluster.core.pacemaker.managers import START_OR_DISABLE
from saltext_kvmcluster.core.pacemaker.model import Pacemaker
from saltext_kvmcluster.core.text import listed


def unknown(node: str, found: Pacemaker | None) -> str:
    """Return why it is not known what Pacemaker would do on a node; empty if it is."""
    if found is None:
        return f"whether Pacemaker runs on {node} is not known"
    if found.error:
        return f"Pacemaker on {node} cannot be read: {found.error}"
    if not found.runs and _acts(found):
        return (
            f"Pacemaker on {node} does not run, starts with it, and has guests: on {node}:"
            f" {START_OR_DISABLE}"
        )
    return ""


def is_on(node: str, found: Pacemaker) -> bool:
    """Whether Pacemaker has a node on standby: it starts nothing there."""
    member = found.status.members.get(found.name or node) if found.status else None
    return member is not None and member.standby


def lifted(found: Pacemaker | None, nodes: Collection[str]) -> Pacemaker | None:
    """Return what a node would know of Pacemaker if our standby of some nodes were taken back."""
    if found is None or found.status is None or found.configuration is None:
        return found
    names = found.configuration.standbys.keys() & set(nodes)
    members = {
        name: replace(one, standby=one.standby and name not in names)
        for name, one in found.status.members.items()
    }
    return replace(found, status=replace(found.status, members=members))


def is_wanted(node: str, found: Pacemaker) -> bool:
    """Whether a node has to be put on standby for Pacemaker to leave it empty.

    Not if it has no guests, or acts on none of them (unmanaged, or in maintenance, other than by
    a hold of ours, which ends). What a node's maintenance alone keeps it off it acts on once that
    node was restarted.
    """
    return found.runs and _acts(found) and not is_on(node, found)


def refusal(node: str, found: Pacemaker) -> str:
    """Return why a node must not be put on standby now; empty if it may be.

    Pacemaker stops what has no other node.
    """
    own = found.name or node
    members = found.status.members if found.status else {}
    others = [
        name
        for name, one in members.items()
        if name != own
        and one.online
        and not (one.standby or one.maintenance or one.pending or one.unclean)
    ]
    if not others:
        return f"no other node of Pacemaker's takes guests, so it would stop those on {node}"
    if own not in (found.configuration.nodes if found.configuration else {}):
        return f"Pacemaker's configuration has no node {own}"
    return ""


def hindrance(node: str, found: Pacemaker | None) -> str:
    """Return why a node must not be drained now; empty if it can be put on standby afterwards."""
    if why := unknown(node, found):
        return why
    assert found
    return refusal(node, found) if is_wanted(node, found) else ""


def left(node: str, found: Pacemaker | None) -> str:
    """Return why a node on standby is not empty of Pacemaker's guests; empty if it is.

    One that is held from it, or unmanaged, stays.
    """
    if found is None or found.error or not found.status:
        return f"Pacemaker on {node} cannot be read"
    if not is_on(node, found):
        return "Pacemaker does not show it on standby"
    name = found.name or node
    states = {one.id: found.state(one) for one in found.resources}
    there = [key for key, one in states.items() if one.acts and name in one.nodes]
    return f"Pacemaker has not moved away {listed(there)}" if there else ""


def obstacle(node: str, found: Pacemaker | None) -> str:
    """Return why a node cannot count as empty now; empty if Pacemaker leaves it alone.

    Guests of which it does not know are moved as ever.
    """
    if why := unknown(node, found):
        return why
    assert found
    if not is_wanted(node, found):
        return ""
    return (
        f"Pacemaker manages guests, and may start them on {node}; first: salt-run kvmcluster.drain"
        f" {node}; or: {on(found.name or node)}"
    )


def _acts(found: Pacemaker) -> bool:
    """Whether Pacemaker acts on guests, or will once what is held by us is given back."""
    return any(one.mark or found.state(one).acts for one in found.resources)


def on(name: str) -> str:
    """Return how a node is put on standby: Pacemaker moves away what it manages."""
    return f"crm_attribute -N {name} -n standby -v on, then crm_resource --wait"


def off(name: str) -> str:
    """Return how a node takes guests of Pacemaker again."""
    return f"crm_attribute -N {name} -n standby -D"
