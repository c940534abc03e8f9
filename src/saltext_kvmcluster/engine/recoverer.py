"""Settles what a migration left: observes all nodes, judges, and acts as far as that is certain.

What is destroyed or undefined is observed immediately before, with no job active anywhere.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from saltext_kvmcluster.core.errors import AtWork, WorldError
from saltext_kvmcluster.core.migration import migration, records
from saltext_kvmcluster.core.migration.journal import Entry, Kept
from saltext_kvmcluster.core.migration.migration import Move
from saltext_kvmcluster.core.migration.results import Step
from saltext_kvmcluster.core.ownership import (
    cases,
    identification,
    safeguards,
    settlements,
)
from saltext_kvmcluster.core.ownership.cases import Action, Do, Settlement
from saltext_kvmcluster.core.ownership.results import Recovery
from saltext_kvmcluster.core.verdicts import BROKEN, OFF, OUTGOING, Observation, Sighting
from saltext_kvmcluster.engine.environment import Environment, Libvirt

POLL = 0.5
# Seconds for a broken post-copy migration to resume, and for its end; it may still do so later.
RESUMED, RESUMING = 60.0, 600.0
# Seconds for a guest to appear at its destination after the call that resumed it has failed.
ARRIVED = 30.0


def recover(env: Environment, guest: str, patience: float = 10.0) -> Recovery:
    """Settle a guest's last migration as far as the observations of all nodes allow it.

    guest
        Its name, or its UUID if several guests have that name.
    patience
        Seconds to keep checking while something is in progress.

    InputError if no node has such a guest, nor a journal entry of it.
    """
    case = _found(env, identification.name_of(migration.named(guest, "guest")))
    if not case.uuid:
        return case.recovery(settlements.no_responses(case.guest, case.silent), [])
    answering = [node for node in case.nodes if node not in case.silent]
    with locked(env, case.guest, case.uuid, answering) as taken:
        if not taken:
            case.read_again(answering)
            return case.settled(patience)
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
    return [step for step in steps if step.step != Do.CLEAR.value or not step.ok]


@dataclass
class _Case:
    """A guest whose migration is to be settled. ``silent``: unreachable nodes, and why."""

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

    def __post_init__(self) -> None:
        self.nodes = self.nodes or tuple(self.env.cluster.nodes)

    def read_again(self, nodes: Collection[str]) -> None:
        """Read the journals again, now that the guest is locked."""
        answers = self.env.side_by_side(lambda node: _journal(self.env, node, self.uuid), nodes)
        self.entries = {
            node: _agreed(self.env, entry)
            for node, (entries, _) in answers.items()
            for entry in entries.of(self.uuid)
        }
        self.unread = {node: unread for node, (_, unread) in answers.items() if unread}
        self.doubted = any(kept.doubts(self.uuid) for kept, _ in answers.values())

    def settled(self, patience: float) -> Recovery:
        """Judge, act, and judge again by new observations."""
        settlement = self._judged_patiently(patience)
        actions = self.carried_out(settlement)
        # It may go on, or have ended, even if libvirt reported an error.
        if any(one.step == Do.RESUME_POST_COPY.value for one in actions):
            settlement = self._judged_patiently(patience)
            if settlement.owner is not None:
                actions += self.carried_out(settlement)
        if any(one.step != Do.CLEAR.value for one in actions):
            settlement = self._judged_patiently(patience)
        return self.recovery(settlement, actions + self._remembered(settlement, actions))

    def observe(self, nodes: Collection[str]) -> dict[str, Observation]:
        """Observe nodes in parallel; one that was unreachable is not tried again."""
        asked = [node for node in nodes if node not in self.silent]
        found = self.env.side_by_side(lambda node: self.env.libvirt(node).sight(self.uuid), asked)
        for node, observation in found.items():
            if observation.sighting is Sighting.UNREACHABLE:
                self.silent[node] = observation.detail
        kept = {
            node: Observation(Sighting.UNREACHABLE, detail=detail)
            for node, detail in self.silent.items()
        }
        return {node: found.get(node) or kept[node] for node in nodes}

    def judged(self, observations: dict[str, Observation], steady: bool) -> Settlement:
        """Return what follows from observations, and keep them."""
        self.observations = observations
        return settlements.settle(
            self.guest, self.entries, observations, steady, self.fresh, self.doubted
        )

    def carried_out(self, settlement: Settlement) -> list[Step]:
        """Carry out the actions, each after new observations; stop at the first that fails."""
        done: list[Step] = []
        for action in settlement.actions:
            detail = self._done(action, settlement.owner)
            done.append(Step(action.do.value, action.node, not detail, detail))
            if detail:
                break
        return done

    def recovery(self, settlement: Settlement, actions: Sequence[Step]) -> Recovery:
        """Return what `recover` returns."""
        unread = (
            f"the journal of {node}, which could not be read: {detail}"
            for node, detail in self.unread.items()
        )
        return Recovery(
            guest=self.guest,
            uuid=self.uuid,
            owner=settlement.owner,
            result=settlement.result,
            reason=settlement.verdict.sentence,
            sightings={
                node: settlements.text(observation)
                for node, observation in self.observations.items()
            },
            actions=tuple(actions),
            needs=(*settlement.needs, *unread),
            commands=settlement.commands,
        )

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

    def _judged_patiently(self, patience: float) -> Settlement:
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
            why = safeguards.forbids(action, owner, self.observe(nodes))
            if why:
                return f"not done: {why}"
        verbs: dict[Do, Callable[[str], object]] = {
            Do.DESTROY_COPY: self._destroy_copy,
            Do.UNDEFINE: self._undefine,
            Do.DEFINE: self._define,
            Do.AUTOSTART_OFF: lambda node: self.env.libvirt(node).autostart_off(self.uuid),
            Do.RESUME_POST_COPY: self._resume,
            Do.CLEAR: lambda node: self.env.journal(node).clear(self.uuid),
        }
        try:
            verbs[action.do](action.node)
        except WorldError as error:
            return str(error)
        return ""

    def _destroy_copy(self, node: str) -> None:
        libvirt = self.env.libvirt(node)
        why = safeguards.hazard(libvirt.described(self.uuid))
        if why:
            raise WorldError(
                f"not done: {why}; on {node}: virsh destroy, once the owner is shut down; until"
                " then the copy is harmless, but never resume it"
            )
        libvirt.destroy_copy(self.uuid)

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
        """Resume a broken post-copy migration, and wait for its end."""
        cluster, entry = self.env.cluster, cases.latest(self.entries)
        assert entry  # Only the latest one is resumed.
        node = cluster.node(entry.move.destination)
        plan = settlements.resumption(cluster, entry, self.env.address(node.migration))
        libvirt, begun = self.env.libvirt(source), self.env.clock.monotonic()
        call = libvirt.migrate(self.uuid, plan)
        while not call.done() and (lasted := self.env.clock.monotonic() - begun) < RESUMING:
            self.env.clock.wait(call, POLL)
            if lasted >= RESUMED and libvirt.sight(self.uuid).job == BROKEN:
                raise WorldError(
                    f"it had not resumed within {RESUMED:g} s, and still may; QEMU on {node.id} may"
                    " be unresponsive; neither half was destroyed; check again later"
                )
        if not call.done():
            raise WorldError(
                f"it resumed, and had not ended within {RESUMING:g} s; check again later"
            )
        if (error := call.exception()) and not self._has_arrived(entry.move, begun + RESUMING):
            raise WorldError(str(error))

    def _has_arrived(self, move: Move, end: float) -> bool:
        """Whether a guest has arrived: the call may have failed only because its connection did.

        end
            Until when to wait for a job that continues without its caller.
        """
        source, destination = self.env.libvirt(move.source), self.env.libvirt(move.destination)
        soon = self.env.clock.monotonic() + ARRIVED
        while True:
            here, there = source.sight(self.uuid), destination.sight(self.uuid)
            if here.sighting in OFF and there.sighting is Sighting.RUNNING:
                return True
            if self.env.clock.monotonic() >= (end if here.job == OUTGOING else soon):
                return False
            self.env.clock.wait(None, POLL)


@dataclass(frozen=True)
class _Answer:
    """What one node reports of a guest; ``unread``: why its journal could not be read."""

    observation: Observation
    entries: tuple[Entry, ...] = ()
    unread: str = ""


def _found(env: Environment, guest: str) -> _Case:
    """Return the guest of a name or UUID, by journals and nodes.

    InputError if there is none, or more than one.
    """
    nodes = tuple(env.cluster.nodes)
    answers = env.side_by_side(lambda node: _asked(env, node, guest), nodes)
    kept = [(node, entry) for node, answer in answers.items() for entry in answer.entries]
    observations = {node: answer.observation for node, answer in answers.items()}
    silent = {
        node: observation.detail for node, observation in observations.items() if observation.detail
    }
    identification.refuse_unless_one(guest, kept, observations)
    names = [entry.move.guest for _, entry in kept]
    names += [observation.name for observation in observations.values() if observation.name]
    uuids = [entry.move.uuid for _, entry in kept]
    uuids += [observation.uuid for observation in observations.values() if observation.uuid]
    return _Case(
        env,
        names[0] if names else guest,
        uuids[0] if uuids else "",
        dict(kept),
        silent=silent,
        unread={node: answer.unread for node, answer in answers.items() if answer.unread},
    )


def _asked(env: Environment, node: str, guest: str) -> _Answer:
    kept, unread = _journal(env, node, guest)
    libvirt = env.libvirt(node)
    try:
        observation = find(libvirt, guest)
    except WorldError as error:
        observation = Observation(Sighting.UNREACHABLE, detail=str(error))
    return _Answer(observation, kept.of(guest), unread)


def _journal(env: Environment, node: str, guest: str) -> tuple[Kept, str]:
    """Return what a node's journal holds, and why what it has of a guest could not be read."""
    try:
        kept = env.journal(node).entries().of_node(node)
    except WorldError as error:
        return Kept(), str(error)
    return kept, kept.doubts(guest)


def _agreed(env: Environment, entry: Entry) -> Entry:
    """Return an entry by which no definition is removed that the pillar now keeps."""
    if entry.definitions == env.cluster.guests.definitions:
        return entry
    return replace(entry, definitions="defined")


def find(libvirt: Libvirt, guest: str) -> Observation:
    return libvirt.by_uuid(guest) if identification.is_uuid(guest) else libvirt.by_name(guest)


@contextlib.contextmanager
def locked(env: Environment, guest: str, uuid: str, nodes: Collection[str]) -> Iterator[str]:
    """Lock a guest on these nodes; yield why that failed, empty if all are locked."""
    taken = ""
    with contextlib.ExitStack() as stack:
        for node in {env.here: None, **dict.fromkeys(nodes)}:
            try:
                stack.enter_context(env.lock(Move(guest, uuid, node, env.here)))
            except AtWork as error:
                holder = f": {error.holder}" if error.holder else ""
                taken = f"another kvmcluster command is at work on it on {node}{holder}"
                break
        yield taken
