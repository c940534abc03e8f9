"""What high availability is refused for: each reason by name, with what to do about it.

Guests of a lost node are started elsewhere only after it was fenced, by a part of the cluster that
has quorum, on nodes that are known by the same names everywhere; and nobody else may start them.
Sentences name neither the node nor the guest that they are about: both are shown beside them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from shlex import quote

from saltext_kvmcluster.core.findings import Issue, unknown
from saltext_kvmcluster.core.pacemaker.corosync import CONF, Corosync
from saltext_kvmcluster.core.pacemaker.fence_agents import PRETENDING
from saltext_kvmcluster.core.pacemaker.model import Configuration, Pacemaker
from saltext_kvmcluster.core.pillar.clusters import ROOT, Cluster, Listed
from saltext_kvmcluster.core.pillar.ha import Ha
from saltext_kvmcluster.core.text import listed, printable

DEVICES = f"{ROOT}:ha:fencing:devices"
# votequorum_readconfig in corosync's exec/votequorum.c: it is not read again while it runs.
_ANEW = (
    "Corosync reads wait_for_all at its start alone, so restart it and Pacemaker on one node after"
    " the other, each without guests meanwhile"
)


def by_pillar(cluster: Cluster, ha: Ha) -> list[str]:
    """Return why the pillar alone forbids it, where fencing is ours, in sentences with remedies."""
    return [
        f"{node}: {issue.sentence} ({issue.remedy})"
        for node in cluster.nodes
        for issue in (*alone(cluster), *unfenced_by_pillar(node, ha))
    ]


def alone(cluster: Cluster) -> Iterator[Issue]:
    """Yield that a cluster has no second node."""
    if len(cluster.nodes) == 1:
        yield Issue(
            "it is the only node: no other one fences it, or starts its guests",
            f"add nodes to {ROOT}:nodes, or take out {ROOT}:ha",
        )


def unfenced_by_pillar(node: str, ha: Ha) -> Iterator[Issue]:
    """Yield why a node cannot be fenced by the devices of the pillar."""
    levels = ha.fencing.of(node)
    if not levels:
        yield Issue("the pillar has no fence device for it", f"add it to the nodes of a {DEVICES}")
    for name in sorted({name for level in levels for name in level}):
        agent = ha.fencing.devices[name].agent
        if agent in PRETENDING:
            yield Issue(
                f"the pillar's fence device {name} ({agent}) only says that it fences",
                f"{DEVICES}:{name}: use an agent that switches power: stonith_admin"
                " --list-installed",
            )


def unfenced(
    name: str, configured: Configuration, others: Iterable[Pacemaker | None]
) -> Iterator[Issue]:
    """Yield why a node cannot be fenced by the devices that Pacemaker has.

    name
        The node's in Pacemaker.
    others
        Pacemaker as the other nodes know it.
    """
    found = [other.fencers[name] for other in others if other and name in other.fencers]
    asked = "on another node: stonith_admin --list=NODE"
    if not found:
        yield unknown("not known which of Pacemaker's fence devices can fence it", asked)
        return
    pretending = {one.id for one in configured.fencing if one.pretends}
    able = {device for devices in found for device in devices} - pretending
    levels = [one.devices for one in configured.levels if one.target == name]
    if not able:
        yield from _disabled(configured)
        if not any(one.disabled for one in configured.fencing):
            yield Issue(
                f"none of Pacemaker's fence devices can fence it: {_all(configured)}",
                f"name it in pcmk_host_list or pcmk_host_map of one, or add one for it; {asked}"
                " then shows it",
            )
    elif levels and not any({*level} <= able for level in levels):
        wrong = sorted({one for level in levels for one in level} - able)
        yield Issue(
            f"each of its fencing levels has a device that cannot fence it: {listed(wrong)}",
            "pcs stonith level (or fencing-topology in cibadmin --query) shows its levels; they may"
            f" have: {listed(sorted(able))}",
        )


def _disabled(configured: Configuration) -> Iterator[Issue]:
    for one in configured.fencing:
        if one.disabled:
            yield Issue(
                f"nothing can fence it: Pacemaker's fence device {one} is disabled"
                " (target-role=Stopped)",
                f"crm_resource -r {quote(one.id)} --meta -d target-role (or: pcs stonith enable"
                f" {quote(one.id)})",
            )


def _all(configured: Configuration) -> str:
    return listed(map(str, configured.fencing)) or "there is none"


def not_running(found: Pacemaker) -> Iterator[Issue]:
    """Yield that Pacemaker, which the user sets up, does not run on a node."""
    if not found.runs:
        yield Issue(
            f"Pacemaker does not run there, and {ROOT}:ha:manage is false: nobody fences it",
            "set up Corosync and Pacemaker with this node, and start them: systemctl enable --now"
            " corosync pacemaker",
        )


def tied(found: Corosync | None, members: int, runs: bool) -> Iterator[Issue]:
    """Yield why two nodes alone cannot decide which of them goes on.

    Of two nodes neither has a majority. With ``two_node`` one is enough, and whoever fences first
    goes on; without ``wait_for_all`` a node that boots while it is cut off fences the other one.

    members
        How many nodes Pacemaker knows.
    runs
        Whether Pacemaker runs, so that Corosync can tell what is in force.
    """
    if found is None:
        yield unknown(
            f"not known whether two nodes can decide: {CONF} cannot be read",
            f"on that node: root must be able to read {CONF}",
        )
        return
    if (len(found.names) or members) != 2:
        return
    if runs and found.flags is None:
        yield unknown(
            "not known whether two nodes can decide: Corosync does not tell",
            "on that node: corosync-quorumtool -s must show Flags",
        )
        return
    flags = found.flags if found.flags is not None else _configured_flags(found)
    if "Qdevice" in flags:
        return
    if found.device:
        yield Issue(
            "its quorum device is configured, and does not vote",
            "on that node: systemctl enable --now corosync-qdevice; corosync-qdevice-tool -s shows"
            " what it lacks",
        )
    elif "2Node" not in flags:
        yield Issue(
            "two nodes without two_node and without a quorum device: the one that is left has no"
            " quorum, and starts nothing",
            f"in {CONF} on both nodes, under quorum: two_node: 1, and no wait_for_all: 0;"
            f" {_ANEW} (or set up a quorum device)",
        )
    elif "WaitForAll" not in flags:
        yield Issue(
            "two nodes with two_node, and without wait_for_all: one that boots while it is cut off"
            " fences the other one",
            f"in {CONF} on both nodes, under quorum: wait_for_all: 1; {_ANEW} (or set up a quorum"
            " device)",
        )


def _configured_flags(found: Corosync) -> frozenset[str]:
    """Return the flags that Corosync will have, by its configuration."""
    set_ = {"2Node": found.two_node, "WaitForAll": found.wait_for_all, "Qdevice": found.device}
    return frozenset(flag for flag, is_set in set_.items() if is_set)


def misnamed(
    cluster: Cluster, node: str, found: Pacemaker, corosync: Corosync | None
) -> Iterator[Issue]:
    """Yield the names of nodes in Pacemaker, and in Corosync, that are no minion ids.

    A node that is fenced, moved to or put on standby is named by one name for both.
    """
    if found.name and found.name != node:
        yield Issue(f"its name in Pacemaker is {found.name}, not its minion id", _renaming(node))
    elif found.runs and not found.name:
        yield unknown("not known what its name in Pacemaker is", "on that node: crm_node -n")
    members = found.status.members.values() if found.status else ()
    strangers = {
        member.name: member.online
        for member in members
        if member.name not in cluster.nodes and not member.guest and member.name != found.name
    }
    for name in corosync.names if corosync else ():
        if name and name not in cluster.nodes and name != found.name:
            strangers.setdefault(name, False)
    for name, online in strangers.items():
        if whose := [one.id for one in cluster.nodes.values() if name in one.names]:
            yield Issue(f"{whose[0]} is called {printable(name)} there", _renaming(whose[0]))
        elif online or not (cluster.ha and cluster.ha.manage):
            yield Issue(
                f"Pacemaker has a node {printable(name)}, which is no node of the cluster: guests"
                " may be started on it unchecked",
                f"add it to {ROOT}:nodes, by its minion id; or take it out of {CONF}, stop"
                " Pacemaker and Corosync on it, and: crm_node --force --remove"
                f" {quote(printable(name))}",
            )


def _renaming(node: str) -> str:
    return (
        f"with Pacemaker stopped on all nodes, and its guests off: name: {node} for this node in"
        f" the nodelist of {CONF} on every node; start it, and remove the old name: crm_node"
        " --force --remove OLD"
    )


def started_by_states(nodes: Sequence[str]) -> Iterator[Issue]:
    """Yield that the highstates of these nodes start a guest."""
    if nodes:
        yield Issue(
            f"the highstate of {listed(nodes)} has a state that starts it beside Pacemaker",
            f"remove it from the highstate: salt {nodes[0]} state.show_lowstate shows in which SLS"
            " it is",
        )


def homed(guest: Listed) -> Iterator[Issue]:
    """Yield that the pillar has a guest started by a state as well."""
    if guest.ha and guest.home:
        yield Issue(
            f"it has a home in the pillar, {guest.home}, which starts it beside Pacemaker",
            f"remove {ROOT}:guests:list:{guest.name}:home; prefer: [{guest.home}] in its place has"
            " it start there",
        )
