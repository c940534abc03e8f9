"""A balance by schedule: looks, remembers what it saw, and proposes moves or carries them out."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Protocol

from saltext_kvmcluster.core.drain import placement, report, scheduled
from saltext_kvmcluster.core.drain.batch import Batch
from saltext_kvmcluster.core.drain.placement import Placement
from saltext_kvmcluster.core.drain.report import PlanReport
from saltext_kvmcluster.core.drain.scheduled import Look, Memory
from saltext_kvmcluster.core.pillar.balancing import APPLY
from saltext_kvmcluster.engine import drainer
from saltext_kvmcluster.engine.drainer import Console
from saltext_kvmcluster.engine.fleet import Fleet


class Memories(Protocol):
    """What was seen and done before; outlives us. WorldError where it cannot be kept."""

    def load(self) -> Memory: ...
    def save(self, memory: Memory) -> None: ...


@dataclass(frozen=True)
class ScheduledBalance:
    """What a call by schedule has seen, and what came of it."""

    look: Look
    plan: PlanReport

    def to_dict(self) -> dict[str, Any]:
        """Return it as plain data: that of a balance, and what was seen."""
        return {**self.plan.to_dict(), "scheduled": self.look.to_dict()}


def scheduled_balance(
    fleet: Fleet, console: Console, memories: Memories, held: str
) -> ScheduledBalance:
    """Do what the pillar wants of a balance by schedule; see the runner's ``balance``.

    held
        Which other run is at work on this master, empty if none is.
    """
    policy, now = fleet.cluster.balance, fleet.clock.now()
    if why := scheduled.closed(policy, now.astimezone(), held):
        return _nothing(fleet, Look(policy.mode, False, why))
    memory, at = memories.load(), now.timestamp()
    world, ready = fleet.placeable()
    if why := scheduled.hindrance(world):
        return _nothing(fleet, Look(policy.mode, False, why))
    left = policy.hourly - (len(memory.recent(at)) if policy.mode == APPLY else 0)
    plan = placement.balance(world, ready, max(left, 1))
    mends = sum(step.mends for step in plan.steps)
    imbalance = scheduled.imbalance_of(world)
    look, memory = scheduled.look(policy, memory, at, imbalance, mends)
    memories.save(memory)
    plan = scheduled.worthwhile(world, plan, policy) if look.due else Placement((), {})
    if look.due and not plan.steps:
        return _nothing(fleet, replace(look, due=False, why=f"{look.why}; no move helps enough"))
    if policy.mode != APPLY or not look.due:
        return ScheduledBalance(look, report.proposed(report.BALANCE, fleet.cluster, plan))
    # What is begun is remembered before: the limit holds if we are killed amid it.
    memories.save(memory.with_moves(at, len(plan.steps)))

    def once(batch: Batch) -> Placement:
        return Placement((), {}) if batch.ended else plan

    done = drainer.carried_out(fleet, console, once)
    attempts = len(done.moved) + len(done.failed) + len(done.under_way)
    # They may have taken long, and the last one was begun later.
    memories.save(memory.with_moves(fleet.clock.now().timestamp(), attempts))
    return ScheduledBalance(look, done)


def _nothing(fleet: Fleet, look: Look) -> ScheduledBalance:
    return ScheduledBalance(look, report.proposed(report.BALANCE, fleet.cluster, Placement((), {})))
