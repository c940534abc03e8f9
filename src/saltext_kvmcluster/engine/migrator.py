"""One migration: observe, decide, journal, act, and observe both sides until the result is certain.

How libvirt's call ended decides nothing. What is left to be put right afterwards is done by
`recoverer`, which can also be called later.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, replace
from typing import Any

from saltext_kvmcluster.core.errors import Answered, WorldError
from saltext_kvmcluster.core.events import events
from saltext_kvmcluster.core.migration import (
    handover,
    migration,
    pacing,
    plans,
    progress,
    results,
)
from saltext_kvmcluster.core.migration.handover import Handover
from saltext_kvmcluster.core.migration.journal import BEGUN, ENDED, FAILED, OVER, RUNS, Entry
from saltext_kvmcluster.core.migration.migration import (
    Abort,
    Act,
    Judge,
    Move,
    Snapshot,
    Watch,
)
from saltext_kvmcluster.core.migration.pacing import Pace, SetDowntime, StartPostCopy
from saltext_kvmcluster.core.migration.results import MigrationResult, Statistics, Step
from saltext_kvmcluster.core.ownership import handovers
from saltext_kvmcluster.core.pillar.clusters import Node
from saltext_kvmcluster.core.pillar.options import Options
from saltext_kvmcluster.core.verdicts import (
    CANCELED,
    IN_POST_COPY,
    Observation,
    Owner,
    Sighting,
    Verdict,
)
from saltext_kvmcluster.engine import holding, queue, recoverer
from saltext_kvmcluster.engine.environment import Call, Environment
from saltext_kvmcluster.engine.handover import StrictHandover

POLL = 0.5
NOTIFY_EVERY = 3.0


def migrate(
    env: Environment,
    guest: str,
    destination: str,
    options: Options,
    patience: float = 60.0,
    within: float | None = None,
    is_unwanted: Callable[[], bool] = lambda: False,
) -> MigrationResult:
    """Move a guest from this node to a peer and return what was observed on both afterwards.

    patience
        Seconds to keep observing, after libvirt's call ended, while the owner is not certain.
    within
        Seconds to wait for its slots, 0 to be refused instead; None for the options' timeout.
    is_unwanted
        Whether nobody wants it any more, while it waits for its slots.

    InputError or WorldError means that nothing was begun; Unwanted, that it was given up so.
    """
    migration.named(guest, "guest")
    node = migration.target(env.cluster, env.here, destination)
    observation = _here(env, guest)
    move = Move(guest, observation.uuid, env.here, node.id)
    wait = options.timeout if within is None else within
    with env.lock(move), contextlib.ExitStack() as taking, contextlib.ExitStack() as held:
        with _refusal_reported(env, move):
            _refuse_unsettled(env, move)
            findings = env.examine(move)
            if held.enter_context(queue.slots(env, move, wait, is_unwanted)):
                findings = env.examine(move)
            # Until now Pacemaker has guarded the guest, if it manages it.
            taken = taking.enter_context(holding.of_move(env, move))
            begun = _Begun(env, move, node, options, held)
        if taken:
            taken.touched = True
        done = _Migration(env, begun, patience).carried_out()
        held.close()  # The next one may have the slot.
        if taken:
            done = taken.given_back_after(done)
    return replace(done, findings=tuple(findings))


def _here(env: Environment, guest: str) -> Observation:
    source = env.libvirt(env.here)
    observation = source.by_name(guest)
    if observation.sighting is Sighting.ABSENT:
        raise migration.no_such_guest(guest, env.here)
    return observation


@contextlib.contextmanager
def _refusal_reported(env: Environment, move: Move) -> Iterator[None]:
    """Report that nothing was begun, and why; the migration may have been queued for long."""
    try:
        yield
    except WorldError as error:
        env.notify(events.MIGRATION, {"what": "refused", **asdict(move), "reason": str(error)})
        raise


class _Begun:
    """A migration that is in the journal from now on: its entry, and how libvirt is to do it.

    held
        Keeps what has to last as long as the migration.
    """

    def __init__(
        self,
        env: Environment,
        move: Move,
        node: Node,
        options: Options,
        held: contextlib.ExitStack,
    ) -> None:
        source = env.libvirt(env.here)
        observation = source.by_uuid(move.uuid)
        migration.refuse_unless_movable(move, observation)
        runs = observation.sighting is Sighting.RUNNING
        if not runs:
            migration.refuse_if_it_stands_since_arrival(move, source.run(move.uuid))
        self.options = handover.options_for(options, runs)
        is_strict = handover.is_strict(self.options, runs)
        if not is_strict:
            # It may have been paused when that was checked, so that nothing was at risk.
            disks = env.unguarded(source.described(move.uuid))
            migration.refuse_risk(move, handover.risk(self.options, runs, disks))
        leaving = held.enter_context(env.leaving(move)) if is_strict else None
        entry = Entry(
            move,
            env.clock.now().isoformat(timespec="milliseconds"),
            BEGUN,
            observation.persistent,
            env.cluster.guests.definitions,
            sequence=_sequence(env, move),
            handover=Handover(runs, leaving.sent) if leaving else None,
        )
        copy = handover.marked(source.migratable(move.uuid), entry.token) if leaving else ""
        address = env.address(node.migration)
        self.plan = plans.plan(
            env.cluster, node, self.options, observation.persistent, address, copy
        )
        self.entry = replace(entry, flags=self.plan.flags)
        self.strict = StrictHandover(env, self.entry, leaving, copy) if leaving else None
        if leaving:
            held.enter_context(env.keeper(move))
        env.journal(env.here).write(self.entry)


def _sequence(env: Environment, move: Move) -> int:
    """Return a number above all that either node has counted, and have both count it.

    0 if that fails: then nothing is concluded from the order of this migration and another one.
    """
    own, peer = env.journal(move.source), env.journal(move.destination)
    try:
        number = peer.advance(own.advance(0))
        own.advance(number - 1)
    except WorldError:
        return 0
    return number


def _refuse_unsettled(env: Environment, move: Move) -> None:
    """Refuse a guest whose last migration from here is not settled; forget old requests to cancel.

    It is settled first, if it can be.
    """
    own = env.journal(env.here)
    kept = own.entries().of_node(env.here)
    refusal = f"{move.guest} was not migrated to {move.destination}"
    if unread := kept.doubts(move.uuid):
        raise WorldError(
            f"{refusal}: whether its last migration from {env.here} is settled is not known: on"
            f" {env.here}: {unread}"
        )
    if kept.of(move.uuid):
        why = recoverer.recover(env, move.uuid).reason
        if own.entries().of(move.uuid):
            raise WorldError(f"{refusal}: its last migration is not settled: {why}")
    own.clear(move.uuid)


class _Migration:
    """A migration that is in the journal, until it is judged."""

    def __init__(self, env: Environment, begun: _Begun, patience: float) -> None:
        self.env, self.entry, self.move = env, begun.entry, begun.entry.move
        self.plan, self.options, self.strict = begun.plan, begun.options, begun.strict
        self.patience = patience
        self.source = env.libvirt(self.move.source)
        self.peer = env.libvirt(self.move.destination)
        self.journal = env.journal(env.here)
        self._reported: tuple[str, float] = ("", 0.0)

    @property
    def known(self) -> Entry:
        """The entry, with what is known by now."""
        return self.strict.entry if self.strict else self.entry

    def carried_out(self) -> MigrationResult:
        """Let libvirt migrate, and return the result, what was done afterwards included."""
        began = self.env.clock.monotonic()
        self._notify("begun", {})
        # A small guest has moved before pacing sets it for the first time.
        self._carry_out(SetDowntime(pacing.first_downtime(self.options)))
        call = self.source.migrate(self.move.uuid, self.plan)
        watch = self._watched(call, began)
        if _error(call):
            self.peer.close()  # The link may be what broke: a new one answers, or fails, sooner.
        observations, judged = self._sure(call)
        measured = self._measured() if judged.owner is Owner.DESTINATION else Statistics()
        elapsed = self.env.clock.monotonic() - began
        done = replace(
            results.result(
                self.move,
                self.plan,
                judged,
                observations,
                measured,
                _error(call),
                watch.ending,
                watch.paused,
            ),
            started=self.entry.began,
            elapsed=round(elapsed, 3),
        )
        done = replace(done, afterwards=tuple(self._afterwards(judged, done)))
        record = done.record()
        reported = ("result", "owner", "reason", "elapsed", "downtime_ms")
        self._notify("ended", {key: record[key] for key in reported})
        return done

    def _watched(self, call: Call, began: float) -> Watch:
        """Watch a migration until it has ended; return what is kept of it."""
        watch = Watch(began, began, Pace(began))
        while True:
            self._wait(call)
            observed = self._observed(call)
            watch, act = migration.act(watch, observed, self.options, self.patience)
            if isinstance(act, Judge):
                return watch
            self._carry_out(act)
            self._show(observed, watch)

    def _wait(self, call: Call) -> None:
        """Wait for the next observation; what a handover has to notice is noticed meanwhile."""
        if not self.strict:
            self.env.clock.wait(call, POLL)
            return
        end = self.env.clock.monotonic() + POLL
        while not call.done() and self.env.clock.monotonic() < end:
            left = end - self.env.clock.monotonic()
            self.env.clock.wait((call, *self.strict.waits_for), min(left, POLL))
            self.strict.notice()
            end = max(end, self.strict.undisturbed_until)
        self.strict.notice()

    def _observed(self, call: Call) -> Snapshot:
        uuid, at = self.move.uuid, self.env.clock.monotonic()
        if call.done():
            return Snapshot(at, True, True, None)
        try:
            observation = self.source.by_uuid(uuid)
            job = self.source.progress(uuid)
            outdated = ""
            if self.strict and job:
                self.strict.prepare()
                outdated = self.strict.outdated()
        except WorldError:
            return Snapshot(self.env.clock.monotonic(), call.done(), False, None)
        in_post_copy = observation.sighting in IN_POST_COPY
        found = progress.parse(job, at, in_post_copy) if job else None
        stands = observation.sighting is Sighting.PAUSED_FOR_MIGRATION
        cancel = outdated or self._asked_to_cancel()
        return Snapshot(at, call.done(), True, found, stands, cancel)

    def _asked_to_cancel(self) -> str:
        """Return who requested its cancellation; empty if the journal cannot be read."""
        try:
            return self.journal.asked_to_cancel(self.move.uuid)
        except WorldError:
            return ""

    def _carry_out(self, act: Act | None) -> None:
        """Do what was decided; what cannot be done now is decided again at the next observation."""
        with contextlib.suppress(WorldError):
            if isinstance(act, SetDowntime):
                self.source.set_downtime(self.move.uuid, act.milliseconds)
            elif isinstance(act, StartPostCopy):
                self.source.start_post_copy(self.move.uuid)
            elif isinstance(act, Abort):
                self.source.abort(self.move.uuid)

    def _show(self, observed: Snapshot, watch: Watch) -> None:
        """Report each new phase, and progress every few seconds."""
        if observed.progress is None:
            return
        phase, last = self._reported
        if phase != observed.progress.phase or observed.at - last >= NOTIFY_EVERY:
            self._reported = (observed.progress.phase, observed.at)
            stalled = pacing.stalled(watch.pace, observed.progress)
            downtime = migration.downtime_ms(watch, observed)
            self._notify(
                observed.progress.phase, progress.shown(observed.progress, stalled, downtime)
            )

    def _sure(self, call: Call) -> tuple[tuple[Observation, Observation], Verdict]:
        """Observe both sides until the owner is certain, or patience ends."""
        end = self.env.clock.monotonic() + self.patience
        while True:
            returned = call.done()
            before = self.source.sight(self.move.uuid)
            if self.strict and returned:
                self.strict.returned(bool(_error(call)), before)
            elif returned and self._never_switched(call, before):
                self.entry = self.entry.at(FAILED)
            there = self.peer.sight(self.move.uuid)
            here = self.source.sight(self.move.uuid)
            if self.strict:
                here = self.strict.known(here)
            observations = (here, there)
            judged = results.verdict(
                self.move,
                observations,
                returned,
                steady=before.sighting is here.sighting,
                ruled=handovers.verdict(self.known, here, there),
            )
            if self.strict:
                self.strict.pending(there)
            if judged.owner is not Owner.UNKNOWN or self.env.clock.monotonic() >= end:
                return observations, judged
            self.env.clock.wait(None, POLL)

    def _never_switched(self, call: Call, here: Observation) -> bool:
        """Whether the copy never ran: libvirt says so, or the source was never stopped."""
        ran_on = here.sighting is Sighting.RUNNING and not here.job and here.reason != CANCELED
        return ran_on or isinstance(call.exception(), Answered)

    def _measured(self) -> Statistics:
        """Return what was measured; the migration counts as moved without it."""
        try:
            found = results.statistics(self.peer.measured(self.move.uuid))
        except WorldError:
            found = Statistics()
        return self.strict.measured(found) if self.strict else found

    def _afterwards(self, judged: Verdict, done: MigrationResult) -> list[Step]:
        """Put right what is left to be put right, each step with a result of its own."""
        if judged.owner in results.RESULTS:
            steps = recoverer.settle_after(self.env, self.known)
        else:
            is_over = self.strict is not None and self.strict.is_over
            stage = OVER if is_over else ENDED
            ended = self.known if self.known.stage in (RUNS, FAILED) else self.entry.at(stage)
            steps = _failed(
                "record its end in the journal",
                self.env.here,
                lambda: self.journal.write(ended),
            )
        return steps + _failed(
            "record it in the history", self.env.here, lambda: self.journal.remember(done.record())
        )

    def _notify(self, what: str, data: Mapping[str, Any]) -> None:
        self.env.notify(events.MIGRATION, {"what": what, **asdict(self.move), **data})


def _failed(step: str, node: str, verb: Callable[[], None]) -> list[Step]:
    """Do something that may fail without harm; return the failed step, if it does."""
    try:
        verb()
    except WorldError as error:
        return [Step(step, node, False, str(error))]
    return []


def _error(call: Call) -> str:
    error = call.exception() if call.done() else None
    return str(error) if error else ""
