"""What follows from what every node says of a guest whose migration was left unsettled.

Whose the guest is comes from the table of `recovery` alone. Here it is asked of every pair of
nodes, in both directions, so that a wrong idea of who was the source can mislead nobody.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace

from saltext_kvmcluster.core import verdicts
from saltext_kvmcluster.core.migration import plans
from saltext_kvmcluster.core.migration.journal import Entry
from saltext_kvmcluster.core.migration.plans import Plan
from saltext_kvmcluster.core.ownership import undecided
from saltext_kvmcluster.core.ownership.cases import (
    BUSY,
    NOWHERE,
    OWNING,
    UNKNOWN,
    Action,
    Case,
    Do,
    Settlement,
    cleared,
    ends_of,
)
from saltext_kvmcluster.core.pillar.clusters import Cluster
from saltext_kvmcluster.core.pillar.options import Options
from saltext_kvmcluster.core.verdicts import (
    BACKUP,
    BROKEN,
    IN_POST_COPY,
    Observation,
    Owner,
    Sighting,
    Verdict,
)


def settle(
    guest: str,
    entries: Mapping[str, Entry],
    observations: Mapping[str, Observation],
    steady: bool,
    fresh: bool = False,
) -> Settlement:
    """Return what follows.

    entries
        What journals hold of the guest, by the node whose journal it is.
    looks
        The last look at every node of the cluster; a silent one is UNREACHABLE.
    steady
        Whether every node said the same when it was asked twice.
    fresh
        Whether the migration has ended just now, so that what its journal says is still so.
    """
    case = Case(guest, entries, {**_strangers(entries, observations), **observations}, fresh)
    jobs = {
        node: observation.job
        for node, observation in observations.items()
        if observation.job not in ("", BROKEN)
    }
    # A backup explains no second copy: that one is an alarm at once.
    if steady and len(case.observed(Sighting.RUNNING)) > 1 and set(jobs.values()) <= {BACKUP}:
        return undecided.conflict(case)
    if jobs:
        active = " and ".join(f"{job} on {node}" for node, job in jobs.items())
        return busy(f"still at work: {active}; look again later")
    if not steady:
        return busy("it changed while the nodes were asked; look again")
    owner = _owner(case)
    if owner:
        return _owned(case, owner)
    if case.observed(*IN_POST_COPY):
        return undecided.torn(case)
    if not case.active and not case.observed(Sighting.UNREACHABLE):
        sentence = "it runs on no node; an operator has to start it"
        return Settlement(Verdict(Owner.NOBODY, sentence), NOWHERE, actions=cleared(case))
    return undecided.unknown(case)


def _strangers(
    entries: Mapping[str, Entry], observations: Mapping[str, Observation]
) -> dict[str, Observation]:
    """Return the ends of a migration that nobody can ask, since they left the cluster."""
    detail = "it is no node of this cluster any more"
    return {
        node: Observation(Sighting.UNREACHABLE, detail=detail)
        for node in ends_of(entries)
        if node not in observations
    }


def busy(sentence: str) -> Settlement:
    """Return what follows while something is at work: to look again."""
    return Settlement(Verdict(Owner.UNKNOWN, sentence), BUSY)


def unheard(guest: str, silent: Collection[str]) -> Settlement:
    """Return what follows where no node that answers knows a guest."""
    sentence = f"no node that answers has a guest {guest}; {' and '.join(silent)} may have it"
    needs = tuple(f"an answer of {node}" for node in silent)
    return Settlement(Verdict(Owner.UNKNOWN, sentence), UNKNOWN, needs=needs)


def same(before: Observation, after: Observation) -> bool:
    """Whether two looks at a node agree."""
    return (before.sighting, before.job) == (after.sighting, after.job)


def words(observation: Observation) -> str:
    """Return a look in words."""
    parts = (
        observation.sighting.value,
        f"{observation.job} is active" if observation.job else "",
        observation.detail,
    )
    return "; ".join(filter(None, parts))


def resumption(cluster: Cluster, entry: Entry, address: str) -> Plan:
    """Return how libvirt is to let a post-copy migration go on that broke.

    It wants the flags with which it was begun.
    """
    destination = cluster.node(entry.move.destination)
    options = Options(post_copy=True, tls="TLS" in entry.flags)
    way = plans.plan(cluster, destination, options, entry.persistent, address)
    return replace(way, flags=(*entry.flags, "POSTCOPY_RESUME"))


def _owner(case: Case) -> str | None:
    """Return the node that owns the guest by every pair, whichever of the two was the source."""
    asked = {
        node: observation.sighting
        for node, observation in case.observations.items()
        if _needed(case, node)
    }

    def over(node: str, other: str) -> bool:
        forth = verdicts.judge(asked[node], asked[other], node, other).owner
        back = verdicts.judge(asked[other], asked[node], other, node).owner
        return forth is Owner.SOURCE and back is Owner.DESTINATION

    for node in case.observed(*OWNING):
        if all(over(node, other) for other in asked if other != node):
            return node
    return None


def _needed(case: Case, node: str) -> bool:
    """Whether a node's answer is needed to tell the owner. Silence of one that is needed is not.

    Between the two ends of a migration that both answered, a third node's silence changes
    nothing: whatever it has, the guest that was seen to run has written to its disks since a
    paused copy stopped, so that copy must never go on. If it should run on the third node as
    well, that is an alarm that no tidying here makes worse. Without a journal, the silent one
    could itself be one of the ends.
    """
    silent = case.sighting(node) is Sighting.UNREACHABLE
    return not silent or not case.ends or node in case.ends


def _owned(case: Case, owner: str) -> Settlement:
    copies = case.observed(Sighting.PAUSED_FOR_MIGRATION)
    actions = [
        *(Action(Do.DESTROY_COPY, node) for node in copies),
        *_definitions(case, owner),
    ]
    saved = [
        f"{node} keeps a saved state of it, which is old: on {node}: virsh managedsave-remove"
        f" {case.typed}"
        for node in case.observed(Sighting.SHUT_OFF)
        if case.observations[node].saved
    ]
    return Settlement(
        _sentence(case, owner, copies),
        OWNING[case.sighting(owner)],
        owner,
        (*actions, *cleared(case)),
        needs=tuple(saved),
    )


def _sentence(case: Case, owner: str, copies: Collection[str]) -> Verdict:
    """Return the table's sentence, of the migration's two ends or of the owner and a copy."""
    ends = (case.entry.move.source, case.entry.move.destination) if case.entry else ()
    pair = ends if owner in ends else (owner, *copies)[:2]
    if len(pair) < 2:
        found = case.sighting(owner).value
        return Verdict(Owner.SOURCE, f"it is {found} on {owner}, and active on no other node")
    return verdicts.judge(case.sighting(pair[0]), case.sighting(pair[1]), *pair)


def _definitions(case: Case, owner: str) -> list[Action]:
    """Return what puts definitions and autostart right, by how the guest was kept before.

    With ``shared`` nobody but the owner keeps a definition, and a guest that was transient has
    none at all; with ``defined`` every node keeps one. A definition that the migration did not
    leave may be the only one, or somebody's wish since: it stays. No node but the owner starts it
    by itself; whether that one may is an operator's wish, which the check guest.autostart names.
    """
    if not case.entry:
        return []
    entry, observation = case.entry, case.observations[owner]
    shared = entry.definitions == "shared"
    actions = []
    lacking = entry.persistent and not observation.persistent
    if lacking and owner in case.ends:
        actions.append(Action(Do.DEFINE, owner))
    arrived = owner == entry.move.destination and not entry.persistent and observation.persistent
    if shared and case.fresh and arrived:
        actions.append(Action(Do.UNDEFINE, owner))
    for node, kept in case.observations.items():
        if node == owner or not kept.persistent or kept.saved:
            continue
        if shared and entry.persistent and {node, owner} <= case.ends:
            actions.append(Action(Do.UNDEFINE, node))
        elif kept.autostart:
            actions.append(Action(Do.AUTOSTART_OFF, node))
    return actions
