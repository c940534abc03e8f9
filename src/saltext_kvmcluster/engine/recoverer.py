"""Settles what a migration left: observes all nodes, judges, and acts as far as that is certain.

What is destroyed or undefined is observed immediately before, with no job active anywhere.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace

from saltext_kvmcluster.core.errors import WorldError
from saltext_kvmcluster.core.migration import migration, records
from saltext_kvmcluster.core.migration.journal import RUNS, Entry
from saltext_kvmcluster.core.migration.results import Step
from saltext_kvmcluster.core.ownership import (
    cases,
    handovers,
    identification,
    safeguards,
    settlements,
)
from saltext_kvmcluster.core.ownership.cases import Action, Do, Settlement
from saltext_kvmcluster.core.ownership.results import Recovery
from saltext_kvmcluster.core.pacemaker.managers import Management
from saltext_kvmcluster.core.verdicts import Observation, Sighting
from saltext_kvmcluster.engine import inquiry, leftovers, other_hands, resumption
from saltext_kvmcluster.engine.environment import Environment

POLL = 0.5
# Seconds for the answer to a resume.
ANSWER = 5.0


def recover(env: Environment, guest: str, patience: float = 10.0) -> Recovery:
    """Settle a guest's last migration as far as the observations of all nodes allow it.

    guest
        Its name, or its UUID if several guests have that name.
    patience
        Seconds to keep checking while something is in progress.

    InputError if no node has such a guest, nor a journal entry of it, nor the pillar's list.
    """
    name = identification.name_of(migration.named(guest, "guest"))
    done = _recovered(env, name, patience)
    if not leftovers.may_have_changed(done):
        return done
    after = _recovered(env, name, patience)
    return replace(after, actions=(*done.actions, *after.actions))


def _recovered(env: Environment, guest: str, patience: float) -> Recovery:
    """Settle a guest, and end what was left of it in Pacemaker."""
    case = _found(env, guest)
    answering = [node for node in case.nodes if node not in case.silent]
    if not case.uuid:
        case.find_manager(answering)
        here = dict.fromkeys(answering, Observation(Sighting.ABSENT))
        case.observations = here | case.unreachable(case.silent, answering)
        done = case.recovery(settlements.no_responses(case.guest, case.observations), [])
        return leftovers.ended(env, done, case.observations, answering)
    # A peer's locks take root.
    to_lock = answering if env.cluster.ssh.is_root else ()
    with inquiry.locked(env, case.guest, case.uuid, to_lock) as taken:
        if not taken:
            case.read_again(answering)
            case.find_manager(answering)
            done = case.settled(patience)
            return leftovers.ended(env, done, case.observations, answering)
    case.observations = case.observe(case.nodes)
    return case.recovery(settlements.busy(taken), [])


def settle_after(env: Environment, entry: Entry) -> list[Step]:
    """Put right what a migration that has just been judged left; return each step's result.

    Each end is observed once; if nothing is to be put right, the journal is cleared.
    """
    case = _Case(env, entry.move.guest, entry.move.uuid, {entry.move.source: entry}, fresh=True)
    case.nodes = (entry.move.source, entry.move.destination)
    settlement = case.judged(case.observe(case.nodes), steady=True)
    if settlement.owner is None:
        return [Step("observe both sides", "", False, settlement.verdict.sentence)]
    steps = case.carried_out(settlement)
    usual = (Do.CLEAR.value, Do.UNMARK.value)
    return [step for step in steps if step.step not in usual or not step.ok]


def complete(env: Environment, uuid: str, by_ends: bool = False) -> Recovery | None:
    """Complete a strict handover of this node's journal, if no process holds it.

    The guest is locked only if something can be done: a node that does not respond takes long, and
    people want to recover the guest meanwhile.

    by_ends
        Whether to ask its two ends alone, as long as nobody can have started it elsewhere.

    None if there is nothing to complete, or somebody else is at it.
    """
    case = _own(env, uuid, by_ends)
    if case is None or inquiry.is_held(env, case.guest, uuid):
        return None
    settlement = case.judged_patiently(0.0)
    if settlement.owner is None or not settlement.actions:
        return case.recovery(settlement, [])
    with inquiry.locked(env, case.guest, uuid, ()) as taken:
        found = None if taken else _own(env, uuid, by_ends)
        if found is None:
            return None
        found.silent = case.silent
        return found.completed()


def _own(env: Environment, uuid: str, by_ends: bool) -> _Case | None:
    """Return a strict handover of this node's journal, None if there is none."""
    for entry in inquiry.own_handovers(env, uuid):
        case = _Case(env, entry.move.guest, uuid, {env.here: inquiry.agreed(env, entry)})
        if by_ends:
            case.nodes = (entry.move.source, entry.move.destination)
        return case
    return None


@dataclass
class _Case:
    """A guest whose migration is to be settled. ``silent``: unreachable nodes, and why.

    ``management``: who else may act on it.
    """

    env: Environment
    guest: str
    uuid: str
    entries: Mapping[str, Entry]
    silent: dict[str, str] = field(default_factory=dict)
    unread: dict[str, str] = field(default_factory=dict)
    observations: dict[str, Observation] = field(default_factory=dict)
    nodes: Collection[str] = ()
    fresh: bool = False
    doubted: bool = False
    management: Management = field(default_factory=Management)

    def __post_init__(self) -> None:
        self.nodes = self.nodes or tuple(self.env.cluster.nodes)

    def read_again(self, nodes: Collection[str]) -> None:
        """Read the journals again, now that the guest is locked."""
        answers = self.env.side_by_side(
            lambda node: inquiry.journal(self.env, node, self.uuid), nodes
        )
        self.entries = {
            node: inquiry.agreed(self.env, entry)
            for node, (entries, _) in answers.items()
            for entry in entries.of(self.uuid)
        }
        self.unread = {node: unread for node, (_, unread) in answers.items() if unread}
        self.doubted = any(kept.doubts(self.uuid) for kept, _ in answers.values())

    def settled(self, patience: float) -> Recovery:
        """Judge, act, and judge again by new observations."""
        settlement = self.judged_patiently(patience)
        if not self.env.cluster.ssh.is_root and self.env.here not in self.entries:
            return self.recovery(settlements.left_to_its_source(settlement), [])
        actions = self.carried_out(settlement)
        # It may go on, or have ended, even if libvirt reported an error.
        if any(one.step == Do.RESUME_POST_COPY.value for one in actions):
            settlement = self.judged_patiently(patience)
            if settlement.owner is not None:
                actions += self.carried_out(settlement)
        if any(one.step != Do.CLEAR.value for one in actions):
            settlement = self.judged_patiently(patience)
        return self.recovery(settlement, actions + self._remembered(settlement, actions))

    def completed(self) -> Recovery:
        """Judge and act where the owner is certain; what runs nowhere is left to `recover`."""
        settlement = self.judged_patiently(0.0)
        if settlement.owner is None:
            return self.recovery(settlement, [])
        actions = self.carried_out(settlement)
        settlement = self.judged_patiently(0.0)
        return self.recovery(settlement, actions + self._remembered(settlement, actions))

    def observe(self, nodes: Collection[str]) -> dict[str, Observation]:
        """Observe nodes in parallel; one that was unreachable is not tried again."""
        asked = [node for node in nodes if node not in self.silent]
        found = self.env.side_by_side(lambda node: self.env.libvirt(node).sight(self.uuid), asked)
        for node, observation in found.items():
            if observation.sighting is Sighting.UNREACHABLE:
                self.silent[node] = observation.detail
        answered = [node for node in found if node not in self.silent]
        kept = self.unreachable([node for node in nodes if node in self.silent], answered)
        return {node: kept.get(node) or found[node] for node in nodes}

    def unreachable(self, nodes: Collection[str], asked: Sequence[str]) -> dict[str, Observation]:
        """Return the observations of nodes that do not respond: one that was fenced has nothing."""
        rulings = other_hands.fenced(self.env, nodes, asked) if nodes else {}
        return {node: settlements.silent(self.silent[node], rulings[node]) for node in nodes}

    def find_manager(self, responding: Collection[str]) -> None:
        """Find out whether another hand would act against what is to be done."""
        self.management = other_hands.management(self.env, self.guest, responding)

    def judged(self, observations: dict[str, Observation], steady: bool) -> Settlement:
        """Return what follows from observations, and keep them."""
        self.observations = self._proved(observations)
        return settlements.settle(
            self.guest, self.entries, self.observations, steady, self.fresh, self.doubted
        )

    def _proved(self, observations: dict[str, Observation]) -> dict[str, Observation]:
        """Find out how the run of a source ended, where a copy waits for that."""
        entry = cases.latest(self.entries)
        if entry is None or not {entry.move.source, entry.move.destination} <= set(observations):
            return observations
        here, there = observations[entry.move.source], observations[entry.move.destination]
        if entry.handover is None or not handovers.needs_proof(entry, here, there):
            return observations
        try:
            run = self.env.journal(entry.move.source).last_run(self.guest)
        except WorldError:
            return observations
        return {
            **observations,
            entry.move.source: replace(here, left=entry.handover.has_left(run)),
        }

    def carried_out(self, settlement: Settlement) -> list[Step]:
        """Carry out the actions, each after new observations; stop at the first that fails.

        A guest that stands is resumed although its copy must stay: that one runs only by a proof
        that the source's run is over.
        """
        done: list[Step] = []
        for action in settlement.actions:
            if done and not done[-1].ok and action.do is not Do.RESUME_SOURCE:
                break
            detail = self._done(action, settlement.owner)
            done.append(Step(action.do.value, action.node, not detail, detail))
            if detail:
                self._note_run(action)
            if detail and action.do is not Do.DESTROY_COPY:
                break
        return done

    def _note_run(self, action: Action) -> None:
        """Note that a copy ran whose mark is left: if it stands, its user paused it."""
        entry, found = cases.latest(self.entries), self.observations[action.node].sighting
        ran = entry and (entry.stage == RUNS or found is Sighting.RUNNING)
        if entry and ran and action.do is Do.UNMARK:
            self._note(entry.at(RUNS))

    def recovery(self, settlement: Settlement, actions: Sequence[Step]) -> Recovery:
        """Return what `recover` returns."""
        cluster, seen = self.env.cluster, self.observations
        unread = (
            f"what the journal of {node} has of it: {detail}"
            for node, detail in self.unread.items()
            if node not in self.observations or not self._is_off(node)
        )
        return Recovery(
            guest=self.guest,
            uuid=self.uuid,
            owner=settlement.owner,
            result=settlement.result,
            reason=settlement.verdict.sentence,
            sightings={node: settlements.text(observation) for node, observation in seen.items()},
            actions=tuple(actions),
            needs=(*settlement.needs, *unread),
            commands=settlements.commands(
                cluster, self.guest, settlement, seen, self.management.managed
            ),
        )

    def _is_off(self, node: str) -> bool:
        """Whether a node that does not respond was fenced; its journal is read once it is back."""
        return node in self.silent and self.observations[node].sighting is Sighting.ABSENT

    def _remembered(self, settlement: Settlement, actions: Sequence[Step]) -> list[Step]:
        """Record settled migrations in the history of this node; return the step if that failed."""
        cleared = {one.node for one in actions if one.step == Do.CLEAR.value and one.ok}
        history = self.env.journal(self.env.here)
        try:
            for node in cleared:
                sentence = settlement.verdict.sentence
                history.remember(records.settled(self.entries[node], settlement.owner, sentence))
        except WorldError as error:
            return [Step("record it in the history", self.env.here, False, str(error))]
        return []

    def judged_patiently(self, patience: float) -> Settlement:
        """Judge by two observations of every node; repeat while something is in progress."""
        end = self.env.clock.monotonic() + patience
        while True:
            before, after = self.observe(self.nodes), self.observe(self.nodes)
            steady = all(settlements.same(before[node], after[node]) for node in self.nodes)
            settlement = self.judged(after, steady)
            if settlement.result != cases.BUSY or self.env.clock.monotonic() >= end:
                return settlement
            self.env.clock.wait(None, POLL)

    def _done(self, action: Action, owner: str | None) -> str:
        """Carry out an action, if it still may be; return why it was not, empty if it was."""
        nodes = safeguards.concerned(action, owner, self.entries, self.nodes)
        if action.do is not Do.CLEAR:
            entry = cases.latest(self.entries)
            why = safeguards.forbids(action, owner, self.observe(nodes), entry)
            if why := why or safeguards.forbids_beside(action, self.management):
                return f"not done: {why}"
        verbs: dict[Do, Callable[[str], object]] = {
            Do.RESUME_COPY: self._resume_copy,
            Do.DESTROY_COPY: self._destroy_copy,
            Do.RESUME_SOURCE: self._resume_source,
            Do.UNMARK: lambda node: self.env.libvirt(node).unmark(self.uuid),
            Do.UNDEFINE: self._undefine,
            Do.DEFINE: self._define,
            Do.AUTOSTART_OFF: lambda node: self.env.libvirt(node).autostart_off(self.uuid),
            Do.RESUME_POST_COPY: self._resume,
            Do.CLEAR: lambda node: self.env.journal(node).clear(self.uuid),
        }
        try:
            verbs[action.do](action.node)
        except WorldError as error:
            return safeguards.not_done(str(error))
        return ""

    def _destroy_copy(self, node: str) -> None:
        libvirt = self.env.libvirt(node)
        why = safeguards.hazard(libvirt.described(self.uuid))
        if why:
            raise WorldError(
                f"not done: {why}; on {node}: virsh destroy, once the owner is shut down; until"
                " then the copy is harmless, but never resume it"
            )
        libvirt.destroy_copy(self.uuid, self.observations[node].mark)

    def _resume_copy(self, node: str) -> None:
        """Resume a copy that waits, and see it run."""
        libvirt, entry = self.env.libvirt(node), cases.latest(self.entries)
        assert entry  # It named the copy.
        call = libvirt.resume(self.uuid, entry.token)
        self.env.clock.wait(call, ANSWER)
        if not call.done():
            libvirt.close()
            raise WorldError(f"no response from {node} within {ANSWER:g} s")
        if error := call.exception():
            raise WorldError(str(error))
        found = libvirt.by_uuid(self.uuid)
        if found.sighting is not Sighting.RUNNING:
            raise WorldError(f"it was resumed, and is {found.sighting.value}")
        self._note(entry.at(RUNS))

    def _note(self, entry: Entry) -> None:
        """Keep a stage in this node's own journal, if the entry is of it."""
        if entry.move.source == self.env.here:
            with contextlib.suppress(WorldError):
                self.env.journal(self.env.here).write(entry)
            self.entries = {**self.entries, self.env.here: entry}

    def _resume_source(self, node: str) -> None:
        """Let a guest go on where its migration stopped it, and see it run."""
        libvirt = self.env.libvirt(node)
        libvirt.resume_stopped(self.uuid)
        found = libvirt.by_uuid(self.uuid)
        if found.sighting is not Sighting.RUNNING:
            raise WorldError(f"it was resumed, and is {found.sighting.value}")

    def _undefine(self, node: str) -> None:
        """Undefine a guest on a node; its definition is kept here, outside of libvirt."""
        libvirt = self.env.libvirt(node)
        self.env.journal(self.env.here).keep(node, self.uuid, libvirt.definition_of(self.uuid))
        libvirt.undefine(self.uuid)

    def _define(self, owner: str) -> None:
        """Define a guest where it runs, as its source kept it, or else as it runs."""
        entry = cases.latest(self.entries)
        source = entry.move.source if entry else owner
        kept = source in self.observations and self.observations[source].persistent
        definition = self.env.libvirt(source if kept else owner).definition_of(self.uuid)
        self.env.libvirt(owner).define(definition)

    def _resume(self, source: str) -> None:
        entry = cases.latest(self.entries)
        assert entry  # Only the latest one is resumed.
        resumption.resume(self.env, entry, source)


def _found(env: Environment, guest: str) -> _Case:
    """Return the guest of a name or UUID; InputError if there is none, or more than one."""
    found = inquiry.found(env, guest)
    return _Case(
        env,
        found.guest,
        found.uuid,
        found.entries,
        silent=found.silent,
        observations=found.observations,
        unread=found.unread,
    )
