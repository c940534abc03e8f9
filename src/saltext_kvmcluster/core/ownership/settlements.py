"""What follows from the observations of a guest on all nodes after an unsettled migration.

The owner comes only from the table in `verdicts`. It is applied to every pair of nodes, in both
directions, so that a wrong assumption about which node was the source changes nothing.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace

from saltext_kvmcluster.core import verdicts
from saltext_kvmcluster.core.migration import plans
from saltext_kvmcluster.core.migration.journal import Entry
from saltext_kvmcluster.core.migration.plans import Plan
from saltext_kvmcluster.core.ownership import handovers, nowhere, undecided
from saltext_kvmcluster.core.ownership.cases import (
    BUSY,
    NOWHERE,
    OWNING,
    PAUSED,
    RUNNING,
    STANDS,
    UNKNOWN,
    Action,
    Case,
    Do,
    Settlement,
    cleared,
    ends_of,
)
from saltext_kvmcluster.core.ownership.handovers import Ruling
from saltext_kvmcluster.core.pacemaker.fencing import FencingRuling
from saltext_kvmcluster.core.pacemaker.managers import Manager
from saltext_kvmcluster.core.pillar.clusters import Cluster
from saltext_kvmcluster.core.pillar.options import Options
from saltext_kvmcluster.core.verdicts import (
    BACKUP,
    BROKEN,
    COPIES,
    IN_POST_COPY,
    Observation,
    Owner,
    Sighting,
    Verdict,
)

RUNS_NOWHERE = "it runs on no node; an operator has to start it"


def settle(
    guest: str,
    entries: Mapping[str, Entry],
    observations: Mapping[str, Observation],
    steady: bool,
    fresh: bool = False,
    doubted: bool = False,
) -> Settlement:
    """Return the verdict and what is to be done.

    entries
        The guest's journal entries, by the node whose journal it is.
    observations
        The last observation on every node of the cluster; UNREACHABLE if it did not respond.
    steady
        Whether two consecutive observations of every node agree.
    fresh
        Whether the migration has just ended, so that its journal entry is current.
    doubted
        Whether a file that cannot be read may be a later entry of the guest.
    """
    known = {**_strangers(entries, observations), **observations}
    case = Case(guest, entries, known, fresh, doubted)
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
        return busy(f"still in progress: {active}; check again later")
    if not steady:
        return busy("its state changed while the nodes were queried; check again later")
    ruling = _ruling(case)
    if ruling:
        return _ruled(case, ruling)
    owner = _owner(case)
    if owner:
        return _owned(case, owner)
    if case.observed(Sighting.WAITING):
        return undecided.waiting(case, "")
    if case.observed(*IN_POST_COPY):
        return undecided.arriving(case) or undecided.torn(case)
    if not case.active and not case.observed(Sighting.UNREACHABLE):
        return Settlement(Verdict(Owner.NOBODY, RUNS_NOWHERE), NOWHERE, actions=cleared(case))
    return undecided.unknown(case)


def _ruling(case: Case) -> Ruling | None:
    """Return what follows by the entry of a strict handover, None if other rows judge it."""
    entry = case.entry
    if entry is None or not set(case.active) <= {entry.move.source, entry.move.destination}:
        return None
    here, there = (case.observations[node] for node in (entry.move.source, entry.move.destination))
    return handovers.rule(entry, here, there, case.fresh)


def _ruled(case: Case, ruling: Ruling) -> Settlement:
    entry = case.entry
    assert entry is not None
    owners = {Owner.SOURCE: entry.move.source, Owner.DESTINATION: entry.move.destination}
    owner = owners.get(ruling.verdict.owner)
    if owner is None and entry.handover is None:
        return undecided.may_have_run(case, entry, ruling.verdict)
    if owner is None:
        return undecided.waiting(case, ruling.verdict.sentence)
    sighting = case.sighting(owner)
    paused = sighting in (Sighting.PAUSED_BY_USER, Sighting.WAITING)
    result = STANDS if ruling.stands else PAUSED if paused else RUNNING
    if ruling.is_open:
        return Settlement(ruling.verdict, result, owner, needs=undecided.silence(case))
    actions = (*ruling.actions, *_definitions(case, owner), *cleared(case))
    return Settlement(ruling.verdict, result, owner, actions)


def _strangers(
    entries: Mapping[str, Entry], observations: Mapping[str, Observation]
) -> dict[str, Observation]:
    """Return the ends of a migration that have left the cluster and cannot be queried."""
    detail = "no longer a node of this cluster"
    return {
        node: Observation(Sighting.UNREACHABLE, detail=detail)
        for node in ends_of(entries)
        if node not in observations
    }


def busy(sentence: str) -> Settlement:
    """Return what follows while something is in progress: to check again later."""
    return Settlement(Verdict(Owner.UNKNOWN, sentence), BUSY)


def no_responses(guest: str, observations: Mapping[str, Observation]) -> Settlement:
    """Return what follows where no node that responds has the guest.

    observations
        Those of the nodes that do not respond; if there are none it runs nowhere.
    """
    away = {node: one for node, one in observations.items() if one.detail}
    silent = [node for node, one in away.items() if one.sighting is Sighting.UNREACHABLE]
    if not silent:
        fenced = "".join(f"; {node} was {one.detail}" for node, one in away.items())
        return Settlement(Verdict(Owner.NOBODY, f"{RUNS_NOWHERE}{fenced}"), NOWHERE)
    sentence = f"no node that responds has a guest {guest}; {' and '.join(silent)} may have it"
    needs = tuple(f"a response from {node}" for node in silent)
    return Settlement(Verdict(Owner.UNKNOWN, sentence), UNKNOWN, needs=needs)


def left_to_its_source(settlement: Settlement) -> Settlement:
    """Return what remains where neither the locks nor the journals of the peers can be had.

    A node that has the migration in its own journal settles it under its own lock, as that of a
    migration is. Any other could act beside it.
    """
    if not settlement.actions:
        return settlement
    left = ", ".join(f"{action.do.value} on {action.node}" for action in settlement.actions)
    need = (
        f"root on the peers, so that nothing else is done to it meanwhile, to {left}: set"
        " kvmcluster:ssh:sudo (docs/login.md), or run this on the source of its migration"
    )
    return replace(settlement, actions=(), needs=(*settlement.needs, need))


def commands(
    cluster: Cluster,
    guest: str,
    settlement: Settlement,
    observations: Mapping[str, Observation],
    held: Manager | None = None,
) -> tuple[str, ...]:
    """Return the manual steps that remain: those of a settlement, and the start of a guest.

    held
        Pacemaker's resource that manages it.
    """
    if settlement.result != NOWHERE:
        return settlement.commands
    if held:
        return (*settlement.commands, f"to start it: {held.started}")
    keepers = [node for node, one in observations.items() if one.persistent]
    answered = [node for node, one in observations.items() if not one.detail]
    return (*settlement.commands, nowhere.remedy(cluster, guest, keepers, answered))


def silent(detail: str, ruling: FencingRuling) -> Observation:
    """Return the observation of a node that does not respond.

    detail
        Why it does not.
    ruling
        Whether it was fenced: then nothing runs there.
    """
    if ruling.off:
        return Observation(Sighting.ABSENT, detail=ruling.sentence)
    more = f"; {ruling.sentence}" if ruling.sentence else ""
    return Observation(Sighting.UNREACHABLE, detail=f"{detail}{more}")


def same(before: Observation, after: Observation) -> bool:
    """Whether two observations of a node agree."""
    return (before.sighting, before.job) == (after.sighting, after.job)


def text(observation: Observation) -> str:
    """Return an observation as text."""
    parts = (
        observation.sighting.value,
        f"{observation.job} is active" if observation.job else "",
        observation.detail,
    )
    return "; ".join(filter(None, parts))


def resumption(cluster: Cluster, entry: Entry, address: str) -> Plan:
    """Return how libvirt is to resume a broken post-copy migration.

    It requires the flags with which the migration was begun.
    """
    destination = cluster.node(entry.move.destination)
    options = Options(post_copy=True, tls="TLS" in entry.flags)
    plan = plans.plan(cluster, destination, options, entry.persistent, address)
    return replace(plan, flags=(*entry.flags, "POSTCOPY_RESUME"))


def _owner(case: Case) -> str | None:
    """Return the node that owns the guest by every pair, in either direction."""
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
    """Whether a node's observation is needed to determine the owner.

    If both ends of a migration responded, an unreachable third node changes nothing: the guest
    that was observed running has written to its disks since a paused copy stopped, so that copy
    must never resume. If it also runs on the third node, that is an alarm which removing the copy
    does not make worse. Without a journal, the unreachable node could be one of the ends.
    """
    silent = case.sighting(node) is Sighting.UNREACHABLE
    return not silent or not case.ends or node in case.ends


def _owned(case: Case, owner: str) -> Settlement:
    copies = case.observed(*COPIES)
    actions = [
        *(Action(Do.DESTROY_COPY, node) for node in copies),
        *_definitions(case, owner),
    ]
    saved = [
        f"{node} keeps a saved state of it, which is out of date: on {node}:"
        f" virsh managedsave-remove {case.typed}"
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

    With ``shared`` only the owner keeps a definition, and a guest that was transient has none;
    with ``defined`` every node keeps one. A definition that the migration did not leave may be
    the only one, or have been added since: it stays. Autostart is switched off on all nodes but
    the owner, where it is the operator's choice; the check guest.autostart reports it.
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
