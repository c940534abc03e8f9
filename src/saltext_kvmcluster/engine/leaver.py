"""Moves all guests off this node before it shuts down, without the master and within a time."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from saltext_kvmcluster.core.cordons import Cordon
from saltext_kvmcluster.core.drain import placement, report
from saltext_kvmcluster.core.drain.batch import Batch
from saltext_kvmcluster.core.drain.placement import Placement
from saltext_kvmcluster.core.drain.report import PlanReport
from saltext_kvmcluster.core.errors import KvmclusterError
from saltext_kvmcluster.core.facts.nodefacts import NodeFacts
from saltext_kvmcluster.core.migration import migration
from saltext_kvmcluster.core.migration.migration import Move
from saltext_kvmcluster.core.pillar.clusters import Cluster
from saltext_kvmcluster.core.readiness.checks.base import World
from saltext_kvmcluster.core.readiness.report import Readiness
from saltext_kvmcluster.core.verdicts import MIGRATIONS
from saltext_kvmcluster.engine.environment import Clock

POLL = 1.0
_THEIRS = "Pacemaker manages it, and moves it as it stops on this node"
Migrate = Callable[[Move, float], Mapping[str, Any]]
"""Migrates a guest within so many seconds, and returns what became of it."""


class Leaver:
    """Moves guests one after another, the biggest first, and plans anew when one has failed.

    place
        Observes the cluster, and which guest can go where.
    own
        Observes this node.
    """

    def __init__(
        self,
        cluster: Cluster,
        here: str,
        clock: Clock,
        place: Callable[[], tuple[World, Readiness]],
        own: Callable[[], NodeFacts],
        migrate: Migrate,
    ) -> None:
        self._cluster, self._here, self._clock = cluster, here, clock
        self._place, self._own, self._migrate = place, own, migrate
        self._batch = Batch(cluster)

    def leave(self, cordon: Cordon, seconds: float) -> PlanReport:
        """Move what can be moved in so many seconds; return what came of it, and what is left."""
        began = self._clock.monotonic()
        end = began + seconds
        first, detail = Placement((), {}), ""
        try:
            first = self._planned()
            self._batch.follow(first)
            detail = self._carried_out(end)
            for _ in range(report.ROUNDS):
                if detail or not self._is_more_to_do(end):
                    break
                detail = self._carried_out(end)
        except KvmclusterError as error:
            detail = str(error)
        left = report.active(self._until_others_end(end))
        took = self._clock.monotonic() - began
        done = report.reported(report.DRAIN, first, self._batch, left, detail, took, self._here)
        return report.of_drain(done, cordon, ())

    def _planned(self) -> Placement:
        """Plan what is to be moved: Pacemaker moves its guests itself as it stops."""
        world, ready = self._place()
        plan = placement.drain(world, ready, self._here, self._batch.avoid)
        theirs = {
            step.move.guest
            for step in plan.steps
            if world.managers.of(step.move.guest, [self._here]).managed
        }
        steps = tuple(step for step in plan.steps if step.move.guest not in theirs)
        return Placement(steps, {**plan.stuck, **dict.fromkeys(theirs, _THEIRS)})

    def _is_more_to_do(self, end: float) -> bool:
        """Whether guests can be moved now that have arrived meanwhile, or that others did not move.

        A migration to this node that was under way when it was cordoned goes on.
        """
        if not report.active(self._until_others_end(end)) or self._clock.monotonic() >= end:
            return False
        self._batch.follow(self._planned())
        return bool(self._batch.waiting)

    def _carried_out(self, end: float) -> str:
        """Carry the plan out; return why that ended early, empty if it did not."""
        while True:
            if self._batch.is_stale:
                self._batch.follow(self._planned())
            move = self._batch.due()
            if move is None:
                return ""
            left = end - self._clock.monotonic()
            if left <= 0:
                del self._batch.in_flight[move.guest]
                return "the time is over"
            self._batch.end(move.guest, self._migrated(move, left))

    def _migrated(self, move: Move, seconds: float) -> Mapping[str, Any]:
        try:
            return self._migrate(move, seconds)
        except KvmclusterError as error:
            return {"result": migration.NOT_MOVED, "reason": str(error)}

    def _until_others_end(self, end: float) -> NodeFacts:
        """Wait until no guest leaves this node or comes to it; return its facts."""
        while True:
            facts = self._own()
            moving = any(guest.observation.job in MIGRATIONS for guest in facts.guests or ())
            if not moving or self._clock.monotonic() >= end:
                return facts
            self._clock.wait(None, POLL)
