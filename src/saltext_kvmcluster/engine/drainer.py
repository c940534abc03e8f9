"""Drains, undrains and balances: plans, hands the moves over to their nodes, plans anew."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Protocol

from saltext_kvmcluster.core import cordons
from saltext_kvmcluster.core.applying import course
from saltext_kvmcluster.core.cordons import Cordon
from saltext_kvmcluster.core.drain import endings, placement, progress, report
from saltext_kvmcluster.core.drain.batch import Batch
from saltext_kvmcluster.core.drain.placement import Placement
from saltext_kvmcluster.core.drain.progress import BatchProgress
from saltext_kvmcluster.core.drain.report import PlanReport
from saltext_kvmcluster.core.errors import KvmclusterError, WorldError
from saltext_kvmcluster.core.facts.nodefacts import NodeFacts
from saltext_kvmcluster.core.migration import jobs, records
from saltext_kvmcluster.core.pacemaker import standby
from saltext_kvmcluster.core.text import listed
from saltext_kvmcluster.engine import applier
from saltext_kvmcluster.engine.dispatcher import Dispatcher
from saltext_kvmcluster.engine.fleet import ACTION, ASK_AGAIN, Fleet

POLL = 0.25
"""Seconds between looks for what became of the moves."""
SILENT = 60.0
"""Seconds to ask a node again, at the end, that does not report which guests are left on it: after
a restart of the master, minions need some time to reconnect."""
AGAIN, PATIENCE = 5.0, 180.0
"""Seconds between attempts to plan anew, and for how long in vain."""

IN_VAIN = 3
"""After so many plans in a row of which no node has begun anything, there is no further one."""

Planner = Callable[[Batch], Placement]
"""Takes what was done so far; returns a plan for what is left."""


class Console(Protocol):
    """The person who watches, if there is one."""

    def interrupted(self) -> bool:
        """Whether to stop: nothing more is begun or waited for."""

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
    if test:
        plan = _leaving(fleet, here)
        return report.proposed(report.DRAIN, fleet.cluster, plan(Batch(fleet.cluster)), here)
    first = fleet.ask_in_turn(here, {"kvmcluster.cordon": [why], "kvmcluster.job": []})
    cordon = report.cordon_of(here, first.get("kvmcluster.cordon"))
    under_way = jobs.of_node(here, first.get("kvmcluster.job"))
    plan = _leaving(fleet, here, cordon.since, under_way)
    try:
        done = _PlanRunner(fleet, console, plan, while_cordoned=True).drained(here, cordon.since)
    except KvmclusterError as error:
        raise report.stopped(here, why, error) from None
    return _ended(fleet, done, cordon, why)


def _ended(fleet: Fleet, done: PlanReport, cordon: Cordon, reason: str) -> PlanReport:
    """Return the report of a drain, with what its node has recorded; have it kept empty."""
    if not report.may_be_kept_empty(done):
        done = report.of_drain(done, cordon, fleet.remembered(done.node))
        return kept_empty(fleet, done, reason)
    questions: dict[str, list[Any]] = {
        "kvmcluster.history": [None, records.MOST],
        "kvmcluster.standby": [reason],
    }
    found = fleet.ask_in_turn(done.node, questions, within=ACTION)
    done = report.of_drain(done, cordon, records.of_node(found.get("kvmcluster.history")))
    return _on_standby(fleet, done, found.get("kvmcluster.standby"))


def cordon(fleet: Fleet, node: object, reason: str) -> dict[str, Any]:
    """Cordon a node, and return what cordons it."""
    here = fleet.cluster.node(str(node)).id
    answer = fleet.ask([here], "kvmcluster.cordon", reason).get(here)
    return report.of_cordon(here, fleet.cluster.name, answer)


def kept_empty(fleet: Fleet, done: PlanReport, reason: str) -> PlanReport:
    """Have Pacemaker start nothing on a node that was drained; return the report with that."""
    if not report.may_be_kept_empty(done):
        return done
    answer = fleet.ask([done.node], "kvmcluster.standby", reason, within=ACTION).get(done.node)
    return _on_standby(fleet, done, answer)


def _on_standby(fleet: Fleet, done: PlanReport, answer: object) -> PlanReport:
    node = done.node
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


def _leaving(
    fleet: Fleet, here: str, since: str = "", under_way: Sequence[dict[str, Any]] | None = None
) -> Planner:
    """Return what plans the moves away from a node.

    since
        Since when it is cordoned: it is planned anew only as long as it stays so.
    under_way
        The migrations that it has just reported, for the first plan; None to ask for them.
    """
    known = [] if under_way is None else [under_way]

    def plan(batch: Batch) -> Placement:
        rows = known.pop() if known else fleet.under_way(here)
        others = report.others(rows, batch.in_flight, here)
        batch.others |= {move.guest: move for move in others}
        world, ready = fleet.placeable(source=here)
        if batch.known and cordons.was_lifted(world.nodes[here].cordoned, since):
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


class _PlanRunner:
    """Carries out a plan, and those that replace it."""

    def __init__(
        self, fleet: Fleet, console: Console, plan: Planner, while_cordoned: bool = False
    ) -> None:
        self._fleet, self._clock, self._console = fleet, fleet.clock, console
        self._plan = plan
        self._began = self._clock.monotonic()
        self._since = self._clock.now().isoformat(timespec="seconds")
        self._batch = Batch(fleet.cluster)
        self._dispatcher = Dispatcher(fleet, self._batch, while_cordoned)

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
            detail = detail or report.uncordoned_meanwhile(facts, since)
            if detail or self._console.interrupted() or is_last or not batch.is_stale:
                break
            detail = self._carried_out()
        if not self._console.interrupted():
            detail = detail or report.not_reported(facts)
        return self._report(first, detail, left, report.DRAIN, node)

    def _report(
        self, first: Placement, detail: str, left: list[str] | None, kind: str, node: str = ""
    ) -> PlanReport:
        unstopped = self._dispatcher.stop()
        return report.reported(
            kind,
            first,
            self._batch,
            left,
            endings.ending(detail, self._console.interrupted(), unstopped),
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
        vain, ended = 0, -1
        while not self._console.interrupted():
            if self._batch.is_stale:
                self._dispatcher.stop()
                if failing is None:
                    # Else it would go on for ever where a node gives everything back.
                    vain = vain + 1 if len(self._batch.ended) == ended else 0
                    ended = len(self._batch.ended)
                if vain >= IN_VAIN:
                    return endings.in_vain(vain)
                detail, now = self._planned_anew(), self._clock.monotonic()
                failing = (now if failing is None else failing) if detail else None
                if failing is not None and now - failing >= PATIENCE:
                    return f"planning the rest failed: {detail}"
            self._dispatcher.dispatch()
            if not self._batch.in_flight and not self._batch.is_stale:
                return ""
            self._console.progress(self._progress())
            self._clock.wait(None, POLL if failing is None else AGAIN)
            self._dispatcher.gather()
        self._dispatcher.stop()
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

    def _at_the_end(self, node: str, since: str) -> NodeFacts:
        """Return a node's facts; a guest there that the plan did not know makes it stale.

        Migrations that others started are waited for first, for as long as one may take, and all
        nodes are asked for guests whose location is not known.
        """
        facts = self._without_others(node)
        adopted = self._adopt_others(node, since)
        unsettled = self._batch.unsettled
        for move in unsettled:
            self._batch.settle(move, self._fleet.settled(move))
        if adopted or unsettled:
            facts = self._facts(node)
        patience = self._clock.monotonic() + SILENT
        while facts.guests is None and self._clock.monotonic() < patience:
            if self._console.interrupted():
                break
            self._clock.wait(None, ASK_AGAIN)
            facts = self._facts(node)
        self._batch.note_left(report.active(facts) or ())
        return facts

    def _adopt_others(self, node: str, since: str) -> bool:
        """Have all nodes asked for guests whose migration by others the node did not record.

        Returns whether there may have been such.
        """
        if not self._batch.unrecorded(node, ()):
            return False
        rows = self._fleet.remembered(node) or ()
        for move in self._batch.unrecorded(node, report.moved_since(rows, node, since)):
            self._batch.adopt(move, self._fleet.settled(move))
        return True

    def _without_others(self, node: str) -> NodeFacts:
        """Return a node's facts once it has no migrations that others started."""
        end = self._clock.monotonic() + self._fleet.cluster.migration.options.timeout
        while True:
            rows, facts = self._fleet.look(node)
            guests = report.of_others(rows, self._batch.in_flight)
            if not guests or self._console.interrupted() or self._clock.monotonic() >= end:
                return facts
            self._console.show(f"waiting for migrations that others started: {listed(guests)}")
            self._clock.wait(None, ASK_AGAIN)

    def _facts(self, node: str) -> NodeFacts:
        return self._fleet.facts([node], targets=False, trust=False)[node]
