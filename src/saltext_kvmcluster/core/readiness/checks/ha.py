"""Checks of Pacemaker, where it runs on the nodes: whose guests are whose, and what harms them."""

from __future__ import annotations

from collections.abc import Iterable

from saltext_kvmcluster.core.facts.nodefacts import GuestFacts, NodeFacts
from saltext_kvmcluster.core.findings import WARN, Issue, unknown
from saltext_kvmcluster.core.pacemaker import managers
from saltext_kvmcluster.core.pacemaker.managers import Management
from saltext_kvmcluster.core.readiness.checks.base import World, unreported

READ = "on that node: crm_mon -1 must show the cluster, and cibadmin --query its configuration"


def management(world: World, guest: GuestFacts) -> Management:
    """Return which resource of Pacemaker manages a guest, by the nodes that responded."""
    reports = {name: node.pacemaker for name, node in world.nodes.items() if not node.detail}
    return managers.of(guest.name, reports, [guest.node] if guest.active else ())


def pacemaker(world: World, node: NodeFacts) -> Iterable[Issue]:
    """Whether Pacemaker can be read where it runs, or starts with the node and has guests.

    By ``crm_mon`` and ``cibadmin``. Pacemaker starts a guest again that it misses, and stops one
    that it does not want to run, so what it would do has to be known before anything is moved.
    Without quorum it may stop what runs there, and the node may be about to be fenced.
    """
    found = node.pacemaker
    if found is None:
        yield unreported("whether Pacemaker runs there", node)
    elif found.error:
        yield unknown(f"not known what Pacemaker would do: {found.error}", READ)
    elif found.resources and not found.runs:
        sentence = "Pacemaker starts with the node, has guests, and does not run: not known what it"
        yield unknown(f"{sentence} would do", managers.START_OR_DISABLE)
    elif found.status and not found.status.quorum:
        yield Issue(
            "its Pacemaker has no quorum: it may stop its guests, and the node may be fenced",
            "on that node: corosync-quorumtool -s shows which nodes are missing",
        )


def manager(world: World, guest: GuestFacts) -> Iterable[Issue]:
    """Whether Pacemaker leaves the guest alone: nothing of it manages the guest, or it may not now.

    A guest is Pacemaker's if the definition that a resource of the agent VirtualDomain names
    (``config``) has its name. Its monitor would miss the guest at the source, and start it there
    again. One that is unmanaged, or in maintenance, may be moved.
    """
    found = management(world, guest)
    if one := found.managed:
        sentence = f"Pacemaker manages it, as its resource {one.name}"
        yield Issue(f"{sentence}, and would start it again", f"to move it: {one.moved}")
    elif found.doubts:
        for doubt in found.doubts:
            yield unknown(f"not known whether it is Pacemaker's: {doubt.sentence}", doubt.remedy)
    elif one := found.unmanaged:
        sentence = f"it is Pacemaker's, as its resource {one.name}, which is unmanaged now"
        yield Issue(sentence, one.given_back, severity=WARN)
