"""What follows from what every node says of a guest whose migration was left unsettled.

Whose the guest is comes from the table of `recovery` alone. Here it is asked of every pair of
nodes, in both directions, so that a wrong idea of who was the source can mislead nobody.
"""

from __future__ import annotations

import shlex
import uuid
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from enum import Enum

from saltext_kvmcluster.core import verdicts, xmltext
from saltext_kvmcluster.core.errors import InputError, WorldError
from saltext_kvmcluster.core.migration import migration
from saltext_kvmcluster.core.migration.journal import Entry
from saltext_kvmcluster.core.migration.migration import Plan
from saltext_kvmcluster.core.pillar.clusters import Cluster
from saltext_kvmcluster.core.pillar.options import Options
from saltext_kvmcluster.core.verdicts import (
    BACKUP,
    BROKEN,
    IN_POST_COPY,
    OFF,
    OUTGOING,
    Observation,
    Owner,
    Sighting,
    Verdict,
)

RUNNING, PAUSED, NOWHERE = "running", "paused", "nowhere"
CONFLICT, UNKNOWN, BUSY = "conflict", migration.UNKNOWN, "busy"

# Seconds for whoever watches over a migration to end it by himself.
COURTESY = 5.0

KEPT = "/var/lib/kvmcluster/journal"

OWNING = {Sighting.RUNNING: RUNNING, Sighting.PAUSED_BY_USER: PAUSED}


class Do(Enum):
    """What may be done on a node to settle a migration."""

    DESTROY_COPY = "destroy the paused copy that the migration left"
    UNDEFINE = "undefine it"
    DEFINE = "define it as it runs"
    AUTOSTART_OFF = "switch its autostart off"
    RESUME_POST_COPY = "resume the post-copy migration"
    CLEAR = "clear the journal"


@dataclass(frozen=True)
class Action:
    """Something to be done on a node, in this order."""

    do: Do
    node: str


@dataclass(frozen=True)
class Settlement:
    """Whose the guest is, by all nodes; what is to be done; what would settle it otherwise.

    ``result``: the verdict in a word. ``owner``: a node, None where that is not certain or where
    nobody has it. ``needs`` says what is not known, and ``commands`` what an operator who knows
    would type.
    """

    verdict: Verdict
    result: str
    owner: str | None = None
    actions: tuple[Action, ...] = ()
    needs: tuple[str, ...] = ()
    commands: tuple[str, ...] = ()


@dataclass(frozen=True)
class Ending:
    """How a migration is to end now: ``ask`` who watches over it, or have libvirt ``abort`` it."""

    ask: bool
    abort: bool


@dataclass(frozen=True)
class _Case:
    """What is known. ``entry``: the youngest one, by which its roles are called."""

    guest: str
    entries: Mapping[str, Entry]
    observations: Mapping[str, Observation]
    fresh: bool

    @property
    def entry(self) -> Entry | None:
        return youngest(self.entries) if self.entries else None

    @property
    def typed(self) -> str:
        """The guest's name as one types it in a shell."""
        return shlex.quote(self.guest)

    @property
    def ends(self) -> set[str]:
        """The nodes between which it is known to have been on its way."""
        return set(_ends(self.entries))

    def observed(self, *sightings: Sighting) -> list[str]:
        return [
            node
            for node, observation in self.observations.items()
            if observation.sighting in sightings
        ]

    def sighting(self, node: str) -> Sighting:
        return self.observations[node].sighting

    @property
    def active(self) -> list[str]:
        return [
            node
            for node in self.observations
            if node not in self.observed(*OFF, Sighting.UNREACHABLE)
        ]

    @property
    def reported(self) -> str:
        """Every sighting in words."""
        return ", ".join(
            f"on {node} it is {observation.sighting.value}"
            for node, observation in self.observations.items()
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
    case = _Case(guest, entries, {**_strangers(entries, observations), **observations}, fresh)
    jobs = {
        node: observation.job
        for node, observation in observations.items()
        if observation.job not in ("", BROKEN)
    }
    # A backup explains no second copy: that one is an alarm at once.
    if steady and len(case.observed(Sighting.RUNNING)) > 1 and set(jobs.values()) <= {BACKUP}:
        return _conflict(case)
    if jobs:
        active = " and ".join(f"{job} on {node}" for node, job in jobs.items())
        return busy(f"still at work: {active}; look again later")
    if not steady:
        return busy("it changed while the nodes were asked; look again")
    owner = _owner(case)
    if owner:
        return _owned(case, owner)
    if case.observed(*IN_POST_COPY):
        return _torn(case)
    if not case.active and not case.observed(Sighting.UNREACHABLE):
        sentence = "it runs on no node; an operator has to start it"
        return Settlement(Verdict(Owner.NOBODY, sentence), NOWHERE, actions=_cleared(case))
    return _unknown(case)


def _strangers(
    entries: Mapping[str, Entry], observations: Mapping[str, Observation]
) -> dict[str, Observation]:
    """Return the ends of a migration that nobody can ask, since they left the cluster."""
    detail = "it is no node of this cluster any more"
    return {
        node: Observation(Sighting.UNREACHABLE, detail=detail)
        for node in _ends(entries)
        if node not in observations
    }


def _ends(entries: Mapping[str, Entry]) -> list[str]:
    moves = [entry.move for entry in entries.values()]
    return [node for move in moves for node in (move.source, move.destination)]


def name_of(guest: str) -> str:
    """Return a guest's name, or its UUID as libvirt writes it; many tools print it in capitals."""
    return guest.lower() if is_uuid(guest.lower()) else guest


def is_uuid(guest: str) -> bool:
    """Whether that is a guest's UUID, and not a name."""
    try:
        return str(uuid.UUID(guest)) == guest
    except ValueError:
        return False


def busy(sentence: str) -> Settlement:
    """Return what follows while something is at work: to look again."""
    return Settlement(Verdict(Owner.UNKNOWN, sentence), BUSY)


def unheard(guest: str, silent: Collection[str]) -> Settlement:
    """Return what follows where no node that answers knows a guest."""
    sentence = f"no node that answers has a guest {guest}; {' and '.join(silent)} may have it"
    needs = tuple(f"an answer of {node}" for node in silent)
    return Settlement(Verdict(Owner.UNKNOWN, sentence), UNKNOWN, needs=needs)


def refuse_unless_one(
    guest: str, entries: Iterable[tuple[str, Entry]], observations: Mapping[str, Observation]
) -> None:
    """Raise InputError if there is no such guest, or more than one of that name.

    entries
        What journals hold, each with its node.
    """
    found: dict[str, list[str]] = {}
    for node, observation in observations.items():
        if observation.uuid:
            found.setdefault(observation.uuid, []).append(f"on {node}")
    for node, entry in entries:
        found.setdefault(entry.move.uuid, []).append(f"in the journal of {node}")
    if len(found) > 1:
        which = "; ".join(f"{uuid} {' and '.join(where)}" for uuid, where in found.items())
        raise InputError(f"{guest}: several guests have that name; give the UUID instead: {which}")
    if not found and not any(observation.detail for observation in observations.values()):
        raise InputError(f"{guest}: no node has such a guest, and none a journal of it")


def refuse_foreign(node: str, entries: Collection[Entry]) -> None:
    """Raise InputError if a journal tells of migrations that were begun elsewhere.

    A node keeps account of its own migrations alone.
    """
    for entry in entries:
        if entry.move.source != node:
            raise InputError(
                f"{KEPT}/{entry.move.uuid}.json on {node} tells of a migration from"
                f" {entry.move.source}; if none is under way, remove it"
            )


def ending(
    observation: Observation, watched: bool, waited: float, may_switch: bool
) -> Ending | None:
    """Return what to do now about a migration that is to end, None if it has ended.

    Whoever watches over it knows the reason then, and says it; so it is left to him at first.

    look
        The last look at its source.
    watched
        Whether somebody watches over it.
    waited
        For how many seconds it has been wanted to end.
    may_switch
        Whether it may switch to post-copy: that it was told to, only who told it knows.
    """
    leaving = observation.job == OUTGOING
    if not watched and not leaving:
        return None
    late = waited >= COURTESY and not may_switch
    return Ending(ask=watched, abort=leaving and (late or not watched))


def refuse_to_cancel(guest: str, node: str, observation: Observation) -> None:
    """Raise WorldError if a guest's migration cannot be ended any more."""
    if observation.sighting in IN_POST_COPY:
        raise WorldError(
            f"the migration of {guest} was not cancelled: it is in post-copy, its memory is on two"
            " nodes, and to end it would lose the guest; wait for its end; if it stands still:"
            f" kvmcluster.recover {guest}"
        )


def nothing_to_cancel(guest: str, here: str) -> InputError:
    """Return the error that says that no migration from here is there to be cancelled."""
    return InputError(
        f"no migration of {guest} from {here} is under way or waits for its turn; nothing was"
        " cancelled"
    )


def after_cancel(owner: str | None, here: str) -> str:
    """Return the result of a migration from here that was to be cancelled; it may be too late."""
    if owner is None:
        return UNKNOWN
    return migration.NOT_MOVED if owner == here else migration.MOVED


def youngest(entries: Mapping[str, Entry]) -> Entry:
    """Return the entry of the migration that was begun last."""
    return max(entries.values(), key=lambda entry: entry.began)


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
    way = migration.plan(cluster, destination, options, entry.persistent, address)
    return replace(way, flags=(*entry.flags, "POSTCOPY_RESUME"))


def concerned(
    action: Action, owner: str | None, entries: Mapping[str, Entry], nodes: Collection[str]
) -> set[str]:
    """Return the nodes at which one has to look immediately before an action.

    The two halves of a guest in post-copy tell enough: neither of them runs without the other.
    """
    if action.do is Do.RESUME_POST_COPY:
        move = youngest(entries).move
        return {move.source, move.destination}
    return {action.node, owner} if owner else set(nodes)


def forbids(action: Action, owner: str | None, nodes: Mapping[str, Observation]) -> str:
    """Return why an action must not be carried out now, empty if nothing forbids it.

    nodes
        A look, taken just now, at the nodes that it concerns.
    """
    if action.do is Do.CLEAR:
        return ""
    allowed = ("", BROKEN) if action.do is Do.RESUME_POST_COPY else ("",)
    for node, observation in nodes.items():
        if observation.job not in allowed:
            return f"{observation.job} is active on {node}"
        if observation.sighting is Sighting.UNREACHABLE:
            return f"{node} does not answer: {observation.detail}"
    found = nodes[action.node]
    wanted = _WANTED[action.do] if action.node != owner else tuple(OWNING)
    if found.sighting not in wanted:
        return f"on {action.node} it is {found.sighting.value} now"
    if action.do is Do.UNDEFINE and found.saved:
        return f"{action.node} keeps a saved state of it"
    return _owner_changed(action, owner, nodes)


def hazard(definition: str) -> str:
    """Return why libvirt must not destroy a copy of a guest that runs elsewhere; empty if it may.

    libvirt takes it for a guest that ends, not for one that left: it restores the SELinux labels
    of disks that the other one has open (qemuProcessStop without VIR_QEMU_PROCESS_STOP_MIGRATED),
    and removes the state of an emulated TPM (qemuTPMEmulatorCleanupHost).
    """
    try:
        domain = xmltext.parse_xml(definition)
    except InputError as error:
        return f"its definition cannot be read: {error}"
    if domain.find("devices/tpm/backend[@type='emulator']") is not None:
        return "libvirt would remove the state of its emulated TPM, which may lie on shared storage"
    if domain.find("seclabel[@model='selinux'][@relabel='yes']") is not None:
        return "libvirt would take the SELinux labels from its disks, which the owner has open"
    return ""


_WANTED = {
    Do.DESTROY_COPY: (Sighting.PAUSED_FOR_MIGRATION,),
    Do.UNDEFINE: (Sighting.SHUT_OFF,),
    Do.DEFINE: (),
    Do.AUTOSTART_OFF: (Sighting.SHUT_OFF,),
    Do.RESUME_POST_COPY: (Sighting.PAUSED_IN_POST_COPY,),
}


def _owner_changed(action: Action, owner: str | None, nodes: Mapping[str, Observation]) -> str:
    if action.do is Do.RESUME_POST_COPY:
        return ""
    if owner is None:
        others = [node for node, observation in nodes.items() if observation.sighting not in OFF]
        others = [node for node in others if node != action.node]
        return f"it is on {' and '.join(others)} now" if others else ""
    running = nodes[owner].sighting is Sighting.RUNNING
    if running or (action.do is not Do.DESTROY_COPY and nodes[owner].sighting in OWNING):
        return ""
    return f"on {owner} it is {nodes[owner].sighting.value} now"


def _owner(case: _Case) -> str | None:
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


def _needed(case: _Case, node: str) -> bool:
    """Whether a node's answer is needed to tell the owner. Silence of one that is needed is not.

    Between the two ends of a migration that both answered, a third node's silence changes
    nothing: whatever it has, the guest that was seen to run has written to its disks since a
    paused copy stopped, so that copy must never go on. If it should run on the third node as
    well, that is an alarm that no tidying here makes worse. Without a journal, the silent one
    could itself be one of the ends.
    """
    silent = case.sighting(node) is Sighting.UNREACHABLE
    return not silent or not case.ends or node in case.ends


def _owned(case: _Case, owner: str) -> Settlement:
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
        (*actions, *_cleared(case)),
        needs=tuple(saved),
    )


def _sentence(case: _Case, owner: str, copies: Collection[str]) -> Verdict:
    """Return the table's sentence, of the migration's two ends or of the owner and a copy."""
    ends = (case.entry.move.source, case.entry.move.destination) if case.entry else ()
    pair = ends if owner in ends else (owner, *copies)[:2]
    if len(pair) < 2:
        found = case.sighting(owner).value
        return Verdict(Owner.SOURCE, f"it is {found} on {owner}, and active on no other node")
    return verdicts.judge(case.sighting(pair[0]), case.sighting(pair[1]), *pair)


def _definitions(case: _Case, owner: str) -> list[Action]:
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


def _cleared(case: _Case) -> tuple[Action, ...]:
    return tuple(Action(Do.CLEAR, node) for node in case.entries)


def _conflict(case: _Case) -> Settlement:
    nodes = case.observed(Sighting.RUNNING)
    sentence = (
        f"it RUNS TWICE, on {' and on '.join(nodes)}: its disks are in danger; nothing was touched,"
        " decide which of them has to go"
    )
    return Settlement(
        Verdict(Owner.CONFLICT, sentence),
        CONFLICT,
        needs=("which of them is the right one: the one whose work its users see",),
        commands=(
            *(f"on {node}: virsh suspend {case.typed}" for node in nodes[1:]),
            f"on the node where it has to go: virsh destroy {case.typed}",
            f"kvmcluster.recover {case.typed}",
        ),
    )


def _torn(case: _Case) -> Settlement:
    """Return what follows where its memory is on two nodes: neither half may ever be destroyed."""
    entry = case.entry
    sentence = f"{case.reported}: its memory is on two nodes, neither of which can go on alone"
    verdict = Verdict(Owner.UNKNOWN, sentence)
    if entry and "POSTCOPY" in entry.flags and _both_broke(case, entry):
        return Settlement(
            verdict, UNKNOWN, actions=(Action(Do.RESUME_POST_COPY, entry.move.source),)
        )
    known = (entry.move.source, entry.move.destination) if entry else ("SOURCE", "DESTINATION")
    source, destination = map(shlex.quote, known)
    return Settlement(
        verdict,
        UNKNOWN,
        needs=_silence(case) or ("whether both halves are still there, and can reach each other",),
        commands=(
            f"on {source}: virsh migrate --live --p2p --postcopy --postcopy-resume {case.typed}"
            f" qemu+ssh://{destination}/system tcp:{destination}",
            "if one half is lost, so is its memory: on the other node: virsh destroy"
            f" {case.typed}, then start it anew",
        ),
    )


def _both_broke(case: _Case, entry: Entry) -> bool:
    source, destination = (
        case.observations[entry.move.source],
        case.observations[entry.move.destination],
    )
    return (
        source.sighting is Sighting.PAUSED_IN_POST_COPY
        and source.job == destination.job == BROKEN
        and set(case.active) == {entry.move.source, entry.move.destination}
    )


def _silence(case: _Case) -> tuple[str, ...]:
    return tuple(
        f"an answer of {node}, which may have it; it was asked, and:"
        f" {case.observations[node].detail}"
        for node in case.observed(Sighting.UNREACHABLE)
    )


def _unknown(case: _Case) -> Settlement:
    again = f"kvmcluster.recover {case.typed}"
    entry = case.entry
    verdict = Verdict(Owner.UNKNOWN, f"{case.reported}: that does not tell which of them owns it")
    silent = _silence(case)
    if silent:
        gone = [
            f"if {node} is gone for good, and the guest is where it should be: on"
            f" {entry.move.source}: rm {KEPT}/{entry.move.uuid}.json"
            for node in case.observed(Sighting.UNREACHABLE)
            if entry and node in case.ends
        ]
        commands = (f"once they answer: {again}", *gone)
        return Settlement(verdict, UNKNOWN, needs=silent, commands=commands)
    if entry and case.active == [entry.move.source] == case.observed(Sighting.PAUSED_FOR_MIGRATION):
        return _switched(case, entry)
    return Settlement(
        verdict,
        UNKNOWN,
        needs=("which node has the youngest state of it",),
        commands=(
            *(f"on {node}: virsh domstate --reason {case.typed}" for node in case.active),
            f"where the right one is paused: virsh resume {case.typed}",
            f"where an old one is: virsh destroy {case.typed}",
            again,
        ),
    )


def _switched(case: _Case, entry: Entry) -> Settlement:
    """Return what follows where the source waits, and the destination has nothing any more."""
    source, destination, guest = entry.move.source, entry.move.destination, case.typed
    return Settlement(
        verdicts.judge(case.sighting(source), case.sighting(destination), source, destination),
        UNKNOWN,
        needs=(f"whether it ran on {destination} after {entry.began}, even for a moment",),
        commands=(
            f"on {destination}: tail /var/log/libvirt/qemu/{guest}.log",
            f"on {source}: stat its disks: were they written after it was paused?",
            f"only if it never ran on {destination}: on {source}: virsh resume {guest}",
            f"otherwise its memory is old: on {source}: virsh destroy {guest}, then start it anew",
            f"kvmcluster.recover {guest}",
        ),
    )
