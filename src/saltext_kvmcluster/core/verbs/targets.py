"""Which node acts on a guest, by what all nodes tell of it; or why none does."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import dataclass, replace

from saltext_kvmcluster.core import verdicts
from saltext_kvmcluster.core.facts.nodefacts import NodeFacts
from saltext_kvmcluster.core.pillar.clusters import Cluster
from saltext_kvmcluster.core.text import listed, printable
from saltext_kvmcluster.core.verbs import selection
from saltext_kvmcluster.core.verdicts import Observation

START, SHUTDOWN, REBOOT = "start", "shutdown", "reboot"
FREEZE, UNFREEZE, ACCESS = "freeze", "unfreeze", "access"
DONE = {
    START: "started",
    SHUTDOWN: "shut down",
    REBOOT: "rebooted",
    FREEZE: "frozen",
    UNFREEZE: "unfrozen",
}
"""What a guest is to be, as a word for sentences."""


@dataclass(frozen=True)
class Target:
    """A guest and the node that acts on it.

    ``state``: where it is, in words. ``refusal``: why nothing is done. Both ``node`` and
    ``refusal`` are empty where a node to start it is yet to be chosen.
    """

    guest: str
    node: str = ""
    state: str = ""
    refusal: str = ""


def target(verb: str, cluster: Cluster, facts: Mapping[str, NodeFacts], guest: str) -> Target:
    """Return the node that is to act on a guest. The node looks again, and decides."""
    seen = {
        node: one.observation
        for node, facts_there in facts.items()
        for one in facts_there.guests or ()
        if one.name == guest
    }
    active = {node: one for node, one in seen.items() if one.sighting not in verdicts.OFF}
    off = [node for node in seen if node not in active]
    state = _state(active or seen)
    if why := _in_between(guest, active):
        return Target(guest, state=state, refusal=why)
    if active:
        node = next(iter(active))
        others = [one for one, known in facts.items() if hears(known)]
        if verb == START and others and not hears(facts[node]):
            # Any node asks all others itself, and finds that it runs.
            return Target(guest, others[0], state)
        return _unless_silent(Target(guest, node, state), facts[node])
    if verb == START:
        return Target(guest, state=state)
    hidden = selection.hidden(facts)
    if verb == SHUTDOWN:
        return _of_shutdown(cluster, facts, guest, state, off)
    if verb in (FREEZE, UNFREEZE) and not hidden and len(off) == 1:
        return _unless_silent(Target(guest, off[0], state), facts[off[0]])
    why = f"it does not run: {state}{hidden}"
    if verb in (FREEZE, UNFREEZE) and len(off) > 1 and not hidden:
        why += f"; on one node: salt NODE kvmcluster.{verb} {shlex.quote(guest)}"
    elif not hidden:
        why += f"; to start it: salt-run kvmcluster.start {shlex.quote(guest)}"
    return Target(guest, state=state, refusal=why)


def starter(
    cluster: Cluster, facts: Mapping[str, NodeFacts], guest: str, defined_on: list[str]
) -> str:
    """Return the node that is to start a guest where no plan is needed: its home; or nothing.

    defined_on
        The nodes whose libvirt has a definition of it.
    """
    able = able_to_start(cluster, facts, defined_on)
    listed_guest = cluster.guests.list.get(guest)
    if listed_guest and listed_guest.home in able:
        return listed_guest.home
    if listed_guest is not None or not able:
        return ""
    # Nothing is known of what it needs.
    return max(able, key=lambda node: facts[node].free_kib or 0)


def chosen(
    cluster: Cluster,
    facts: Mapping[str, NodeFacts],
    found: Target,
    nodes: Mapping[str, str],
    stuck: Mapping[str, str],
    is_managed: bool,
) -> Target:
    """Return a guest with the node that a plan chose to start it, or why there is none.

    Pacemaker's own guests are not planned: any node that may start them is asked, and decides.

    nodes, stuck
        The plan's: by guest the node, and why there is none.
    is_managed
        Whether Pacemaker manages it.
    """
    if found.guest in nodes:
        return replace(found, node=nodes[found.guest])
    there = defined_on(facts, found.guest)
    only = cluster.guests.only(found.guest)
    able = [node for node in able_to_start(cluster, facts, there) if not only or node in only]
    if able and is_managed:
        return replace(found, node=able[0])
    why = stuck.get(found.guest, "no node that responds may start it")
    return replace(found, refusal=f"no node can start it: {why}{selection.hidden(facts)}")


def able_to_start(
    cluster: Cluster, facts: Mapping[str, NodeFacts], defined_on: list[str]
) -> list[str]:
    """Return the nodes that can be asked to start a guest, and are not cordoned."""
    shared = cluster.guests.definitions != "defined"
    return [
        node
        for node, one in facts.items()
        if hears(one)
        and one.guests is not None
        and not one.cordoned
        and (shared or node in defined_on)
    ]


def defined_on(facts: Mapping[str, NodeFacts], guest: str) -> list[str]:
    """Return the nodes on which a guest is seen, active or not."""
    return [
        node
        for node, one in facts.items()
        if any(there.name == guest for there in one.guests or ())
    ]


def hears(facts: NodeFacts) -> bool:
    """Whether a node's minion answers, so that it can be asked for more."""
    return not facts.detail and not facts.by_peer


def _of_shutdown(
    cluster: Cluster,
    facts: Mapping[str, NodeFacts],
    guest: str,
    state: str,
    off: list[str],
) -> Target:
    """Return the node that notes that a guest is to stay off: one that has it, or its home.

    It asks all others itself, also those whose minions are silent.
    """
    known = cluster.guests.list.get(guest)
    home = known.home if known else None
    answering = [node for node, one in facts.items() if hears(one)]
    able = [node for node in answering if node in off or known]
    if not able:
        return Target(guest, state=state, refusal=f"no node can be asked{selection.hidden(facts)}")
    node = min(able, key=lambda one: (one not in off, one != home))
    return Target(guest, node, state)


def _in_between(guest: str, active: Mapping[str, Observation]) -> str:
    """Return that a guest is migrating, or active on more than one node; empty if neither."""
    where = ", ".join(f"{one.sighting.value} on {node}" for node, one in active.items())
    sending = [node for node, one in active.items() if one.job == verdicts.OUTGOING]
    arriving = [node for node, one in active.items() if one.job == verdicts.INCOMING]
    if sending or arriving:
        ends = [f"from {sending[0]}"] if sending else []
        ends += [f"to {arriving[0]}"] if arriving else []
        return (
            f"it is migrating {' '.join(ends)}; wait for its end; to watch it: salt-run"
            f" kvmcluster.job {shlex.quote(guest)}"
        )
    if len(active) > 1:
        return f"it is {where}; to settle it: salt-run kvmcluster.recover {shlex.quote(guest)}"
    return ""


def _unless_silent(found: Target, facts: NodeFacts) -> Target:
    if hears(facts):
        return found
    why = (
        f"it is {found.state}, as {facts.asker or 'a peer'} sees it, and the minion of"
        f" {facts.node} does not answer: {printable(facts.minion or facts.detail)}"
    )
    return Target(found.guest, state=found.state, refusal=why)


def _state(seen: Mapping[str, Observation]) -> str:
    if not seen:
        return "no node has it"
    by_word: dict[str, list[str]] = {}
    for node, one in seen.items():
        by_word.setdefault(one.sighting.value, []).append(node)
    return ", ".join(f"{word} on {listed(nodes)}" for word, nodes in by_word.items())
