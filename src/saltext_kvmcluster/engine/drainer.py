"""Drains, undrains and balances: plans, dispatches migrations within the limits, plans anew.

Each migration is a job of its own on the guest's node, and goes on there whatever becomes of the
master. So nothing counts as over, or as failed, that its node did not report, or that all nodes
together did not show after the job was gone.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Protocol

from saltext_kvmcluster.core import cordons
from saltext_kvmcluster.core.applying import course
from saltext_kvmcluster.core.drain import placement, progress, report
from saltext_kvmcluster.core.drain.batch import Batch
from saltext_kvmcluster.core.drain.placement import Placement
from saltext_kvmcluster.core.drain.progress import BatchProgress
from saltext_kvmcluster.core.drain.report import PlanReport
from saltext_kvmcluster.core.errors import KvmclusterError, WorldError
from saltext_kvmcluster.core.facts.nodefacts import NodeFacts
from saltext_kvmcluster.core.migration import migration
from saltext_kvmcluster.core.migration.migration import Move
from saltext_kvmcluster.core.ownership import locations
from saltext_kvmcluster.core.pacemaker import standby
from saltext_kvmcluster.core.text import listed
from saltext_kvmcluster.engine import applier
from saltext_kvmcluster.engine.fleet import ACTION, ASK_AGAIN, Fleet

POLL = 0.25
"""Seconds between looks for the results of migrations."""
QUIET, LOST = 20.0, 300.0
"""After so many seconds without a result, the node is asked whether the job is still there; after
so many without any response from it, all nodes are asked for the guest."""
SILENT = 60.0
"""Seconds to ask a node again, at the end, that does not report which guests are left on it: after
a restart of the master, minions need some time to reconnect."""
AGAIN, PATIENCE = 5.0, 180.0
"""Seconds between attempts to plan anew, and for how long in vain."""

Planner = Callable[[Batch], Placement]
"""Takes what was done so far; returns a plan for what is left."""


class Console(Protocol):
    """The person who watches, if there is one."""

    def interrupted(self) -> bool:
        """Whether to stop: nothing more is dispatched or waited for."""

    def show(self, line: str) -> None:
        """Show how far it is, in one line."""

    def progress(self, progress: BatchProgress) -> None:
        """Show how far a run over many moves is."""

    def plan(self, plan: Mapping[str, Any]) -> None:
        """Show a plan before it is carried out."""


def refuse_managed(fleet: Fleet, node: object) -> None:
    """Raise WorldError if Pacemaker would act against a drain; to be asked before it is begun."""
    here = fleet.cluster.node(str(node)).id
    facts = fleet.facts([here], targets=False, trust=False)[here]
    if not facts.detail and (why := standby.hindrance(here, facts.pacemaker)):
        raise WorldError(f"{here} was not drained: {why}")


def drain(
    fleet: Fleet, console: Console, node: object, reason: object = None, test: bool = False
) -> PlanReport:
    """Cordon a node and move all its guests to others; see the runner's ``drain``."""
    here = fleet.cluster.node(str(node)).id
    why = cordons.checked_reason(cordons.DRAINED if reason is None else reason)
    plan = _leaving(fleet, here)
    if test:
        return report.proposed(report.DRAIN, fleet.cluster, plan(Batch(fleet.cluster)), here)
    cordon = report.cordon_of(here, fleet.ask([here], "kvmcluster.cordon", why).get(here))
    try:
        done = _PlanRunner(fleet, console, plan).drained(here, cordon.since)
    except KvmclusterError as error:
        raise report.stopped(here, why, error) from None
    return kept_empty(fleet, report.of_drain(done, cordon, fleet.remembered(here)), why)


def cordon(fleet: Fleet, node: object, reason: str) -> dict[str, Any]:
    """Cordon a node, and return what cordons it."""
    here = fleet.cluster.node(str(node)).id
    answer = fleet.ask([here], "kvmcluster.cordon", reason).get(here)
    return report.of_cordon(here, fleet.cluster.name, answer)


def kept_empty(fleet: Fleet, done: PlanReport, reason: str) -> PlanReport:
    """Have Pacemaker start nothing on a node that was drained; return the report with that."""
    if not report.may_be_kept_empty(done):
        return done
    node = done.node
    answer = fleet.ask([node], "kvmcluster.standby", reason, within=ACTION).get(node)
    kept = report.on_standby(done, answer)
    if not (done.left and kept.standby):
        return kept
    left = report.active(fleet.facts([node], targets=False, trust=False)[node])
    return replace(kept, left=left, ok=left == [])


def undrain(
    fleet: Fleet,
    console: Console,
    node: object,
    home: bool = False,
    reason: object = None,
    patience: float = course.SOON,
) -> PlanReport:
    """Uncordon a node, and bring its guests home if wanted; see the runner's ``undrain``."""
    here = fleet.cluster.node(str(node)).id
    _refuse_while_states_run(fleet, console, here, patience)
    answer = fleet.ask([here], "kvmcluster.uncordon", reason).get(here)
    uncordoned = report.uncordoned(here, answer)
    answer = fleet.ask([here], "kvmcluster.unstandby").get(here)
    plan = _returning(fleet, here) if home else report.nothing
    done = report.of_undrain(_PlanRunner(fleet, console, plan).done(), here, uncordoned)
    return report.off_standby(done, answer)


def _refuse_while_states_run(fleet: Fleet, console: Console, node: str, limit: float) -> None:
    """Raise WorldError while Salt's states run or wait on a node, or may do so.

    They may be what the node was cordoned for, and would go on among guests that come to it.
    """
    detail = applier.await_idle(fleet, [node], limit, console, twice=True).get(node)
    if detail:
        raise WorldError(
            f"{node} stays cordoned: {detail}; to uncordon it all the same: salt {node}"
            " kvmcluster.uncordon"
        )


def balance(fleet: Fleet, console: Console, most: object = 4, test: bool = True) -> PlanReport:
    """Plan the few moves that even out the load, or carry them out; see the runner's."""
    plan = _balancing(fleet, report.number_of(most))
    if test:
        return report.proposed(report.BALANCE, fleet.cluster, plan(Batch(fleet.cluster)))
    return _PlanRunner(fleet, console, plan).done()


def carried_out(fleet: Fleet, console: Console, plan: Planner) -> PlanReport:
    """Carry out a plan that was made elsewhere, and those that replace it."""
    return _PlanRunner(fleet, console, plan).done()


def _leaving(fleet: Fleet, here: str) -> Planner:
    def plan(batch: Batch) -> Placement:
        others = report.others(fleet.under_way(here), batch.in_flight, here)
        batch.others |= {move.guest: move for move in others}
        world, ready = fleet.placeable(source=here)
        if batch.ended and report.is_open(world.nodes[here]):
            return report.nothing(batch)
        in_flight = [*batch.in_flight.values(), *others]
        return placement.drain(world, ready, here, batch.avoid, in_flight)

    return plan


def _returning(fleet: Fleet, here: str) -> Planner:
    def plan(batch: Batch) -> Placement:
        world, ready = fleet.placeable(destination=here)
        return placement.home(world, ready, here, batch.avoid, batch.in_flight.values())

    return plan


def _balancing(fleet: Fleet, most: int) -> Planner:
    def plan(batch: Batch) -> Placement:
        left = most - len(batch.moved) - len(batch.in_flight)
        world, ready = fleet.placeable()
        if all(facts.guests is None for facts in world.nodes.values()):
            raise WorldError("nothing was planned: no node reports its guests")
        return placement.balance(world, ready, left, batch.avoid, batch.in_flight.values())

    return plan


@dataclass
class _Job:
    """A migration that was dispatched.

    ``asked``: when its node was asked for the job last; ``alive``: when the node reported it last.
    """

    move: Move
    id: str
    asked: float
    alive: float


class _PlanRunner:
    """Carries out a plan, and those that replace it."""

    def __init__(self, fleet: Fleet, console: Console, plan: Planner) -> None:
        self._fleet, self._clock, self._console = fleet, fleet.clock, console
        self._plan = plan
        self._began = self._clock.monotonic()
        self._since = self._clock.now().isoformat(timespec="seconds")
        self._batch = Batch(fleet.cluster)
        self._jobs: dict[str, _Job] = {}

    def done(self) -> PlanReport:
        """Carry the plan out; return what came of it."""
        first = self._planned_first()
        return self._report(first, self._carried_out(), [], report.BALANCE)

    def drained(self, node: str, since: str) -> PlanReport:
        """Carry the plan out until a node has no guests, as far as possible.

        since
            When it was cordoned: what it has moved from then on belongs to the same drain.
        """
        first, batch = self._planned_first(), self._batch
        detail = self._carried_out()
        for is_last in [*[False] * report.ROUNDS, True]:
            facts = self._at_the_end(node, since)
            left = report.active(facts)
            detail = detail or report.uncordoned_meanwhile(facts)
            if detail or self._console.interrupted() or is_last or not batch.is_stale:
                break
            detail = self._carried_out()
        if not self._console.interrupted():
            detail = detail or report.not_reported(facts)
        return self._report(first, detail, left, report.DRAIN, node)

    def _report(
        self, first: Placement, detail: str, left: list[str] | None, kind: str, node: str = ""
    ) -> PlanReport:
        return report.reported(
            kind,
            first,
            self._batch,
            left,
            detail or (report.INTERRUPTED if self._console.interrupted() else ""),
            self._clock.monotonic() - self._began,
            node,
        )

    def _planned_first(self) -> Placement:
        first = self._plan(self._batch)
        self._batch.follow(first)
        if first.steps or first.stuck:
            self._console.plan(report.planned(first))
        return first

    def _carried_out(self) -> str:
        """Carry out the moves of the batch, within its limits, until none is left or interrupted.

        Returns why the rest could not be planned anew, empty if it could.
        """
        failing: float | None = None
        while not self._console.interrupted():
            if self._batch.is_stale:
                detail, now = self._planned_anew(), self._clock.monotonic()
                failing = (now if failing is None else failing) if detail else None
                if failing is not None and now - failing >= PATIENCE:
                    return f"planning the rest failed: {detail}"
            while move := self._batch.due():
                self._dispatch(move)
            if not self._batch.in_flight and not self._batch.is_stale:
                return ""
            self._console.progress(self._progress())
            self._clock.wait(None, POLL if failing is None else AGAIN)
            self._gather()
        return ""

    def _progress(self) -> BatchProgress:
        return progress.of(self._batch, self._since, self._clock.monotonic() - self._began)

    def _planned_anew(self) -> str:
        """Plan the rest of the batch; return why that failed, empty if it did not."""
        try:
            self._batch.follow(self._plan(self._batch))
        except WorldError as error:
            return str(error)
        return ""

    def _dispatch(self, move: Move) -> None:
        now = self._clock.monotonic()
        self._jobs[move.guest] = _Job(move, self._fleet.dispatch(move), now, now)

    def _gather(self) -> None:
        """Take in what has ended."""
        for guest, job in list(self._jobs.items()):
            result = self._result(job)
            if result is not None:
                del self._jobs[guest]
                self._batch.end(guest, result)

    def _result(self, job: _Job) -> dict[str, Any] | None:
        """Return the result of a migration, None while it is not known."""
        try:
            done = self._returned(job)
            if done is None and self._clock.monotonic() - job.asked >= QUIET:
                done = self._result_of_quiet(job)
        except WorldError as error:
            return {"result": migration.NOT_MOVED, "reason": str(error)}
        return done

    def _returned(self, job: _Job) -> dict[str, Any] | None:
        return locations.ended(self._fleet.returned(job.id, job.move.source))

    def _result_of_quiet(self, job: _Job) -> dict[str, Any] | None:
        """Return the result of a migration without a response, unless its job is still there."""
        is_there = self._fleet.has_job(job.move.source, job.id)
        job.asked = self._clock.monotonic()
        if is_there:
            job.alive = job.asked
        if is_there is not False and job.asked - job.alive < LOST:
            return None
        return self._returned(job) or self._fleet.settled(job.move)

    def _at_the_end(self, node: str, since: str) -> NodeFacts:
        """Return a node's facts; a guest there that the plan did not know makes it stale.

        Migrations that others started are waited for first, for as long as one may take, and all
        nodes are asked for guests whose location is not known.
        """
        self._wait_for_others(node)
        self._adopt_others(node, since)
        for move in self._batch.unsettled:
            self._batch.settle(move, self._fleet.settled(move))
        facts = self._facts(node)
        patience = self._clock.monotonic() + SILENT
        while facts.guests is None and self._clock.monotonic() < patience:
            if self._console.interrupted():
                break
            self._clock.wait(None, ASK_AGAIN)
            facts = self._facts(node)
        self._batch.note_left(report.active(facts) or ())
        return facts

    def _adopt_others(self, node: str, since: str) -> None:
        """Have all nodes asked for guests whose migration by others the node did not record."""
        if self._batch.unrecorded(node, ()):
            rows = self._fleet.remembered(node) or ()
            for move in self._batch.unrecorded(node, report.moved_since(rows, node, since)):
                self._batch.adopt(move, self._fleet.settled(move))

    def _wait_for_others(self, node: str) -> None:
        end = self._clock.monotonic() + self._fleet.cluster.migration.options.timeout
        while guests := report.of_others(self._fleet.under_way(node), self._batch.in_flight):
            if self._console.interrupted() or self._clock.monotonic() >= end:
                break
            self._console.show(f"waiting for migrations that others started: {listed(guests)}")
            self._clock.wait(None, ASK_AGAIN)

    def _facts(self, node: str) -> NodeFacts:
        return self._fleet.facts([node], targets=False, trust=False)[node]
