"""What forbids to give Pacemaker a guest that it does not have yet: it starts what it sees nowhere.

A guest that runs on a node that Pacemaker does not see, or where it has no agent to look with,
would be started a second time.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping

from saltext_kvmcluster.core.ha import content
from saltext_kvmcluster.core.ha.difference import Difference
from saltext_kvmcluster.core.pacemaker import managers
from saltext_kvmcluster.core.pacemaker.model import Pacemaker, is_true
from saltext_kvmcluster.core.pacemaker.pacemaker_tools import AGENT_PATH


def of(wanted: Difference, guests: Collection[str]) -> list[str]:
    """Return the guests that a difference gives to Pacemaker anew."""
    changes = {guest: wanted.changes.get(content.resource(guest)) for guest in guests}
    return [guest for guest, change in changes.items() if change and "old" not in change]


def absent(nodes: Iterable[str], view: Pacemaker | None) -> list[str]:
    """Return the nodes that Pacemaker does not have online, so that it does not look there."""
    members = view.status.members if view and view.status else {}
    found = {node: members.get(node) for node in nodes}
    return [
        node
        for node, member in found.items()
        if member is None or not member.online or member.pending or member.unclean
    ]


def hindrances(
    guests: Collection[str], here: str, view: Pacemaker | None, agents: Mapping[str, str]
) -> Iterator[str]:
    """Yield why new guests must not be given to Pacemaker now; nothing if they may be.

    view
        Pacemaker as the node ``here`` knows it.
    agents
        By node of the cluster why it has no agent of ours, empty if it has one.
    """
    if view is None or view.error or view.status is None or view.configuration is None:
        why = view.error if view and view.error else "it does not run, or does not answer"
        yield f"Pacemaker on {here} cannot be read: {why}"
        return
    options = view.status.options
    if not is_true(options.get("fencing-enabled", options.get("stonith-enabled", "true"))):
        yield "Pacemaker fences nobody (stonith-enabled=false): apply kvmcluster.ha.fencing first"
    unseen = absent(agents, view)
    for node, lacks in agents.items():
        if node in unseen:
            yield (
                f"Pacemaker does not have {node} online, and would start once more what runs there:"
                f" on {node}: systemctl start pacemaker, until crm_mon -1 shows it online"
            )
        elif lacks:
            yield (
                f"on {node}, {AGENT_PATH}: {lacks}; without it Pacemaker does not see what runs"
                f" there: salt {node} state.apply kvmcluster.ha.agent"
            )
    for guest in guests:
        found = managers.of(guest, {here: view})
        for other in found.managers:
            yield (
                f"{guest} is Pacemaker's already, as its resource {other.name}, and two resources"
                f" would start it twice: crm_resource -r {other.name} --meta -p target-role -v"
                " Stopped, then crm_resource --wait, then delete it"
            )
        for doubt in () if found.managers else found.doubts:
            yield f"not known whether {guest} is Pacemaker's: {doubt.sentence} ({doubt.remedy})"
