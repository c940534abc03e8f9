"""Tests fencing: asks every device from every node, and has one node fenced if that is wanted."""

from __future__ import annotations

from typing import Any

from saltext_kvmcluster.core.applying import course
from saltext_kvmcluster.core.drain import maintenance
from saltext_kvmcluster.core.drain.maintenance import Boot
from saltext_kvmcluster.core.errors import WorldError
from saltext_kvmcluster.core.failover import fence_test
from saltext_kvmcluster.core.failover.fence_test import FenceTest
from saltext_kvmcluster.core.pacemaker import fenced
from saltext_kvmcluster.core.pacemaker.fenced import Tried
from saltext_kvmcluster.core.readiness.checks.base import World
from saltext_kvmcluster.engine import applier
from saltext_kvmcluster.engine.drainer import Console
from saltext_kvmcluster.engine.fleet import ACTION, ASK_AGAIN, Fleet

STAYED = 20.0
"""Seconds after which a node that is still in the boot in which it was has not lost its power."""


def examine(fleet: Fleet, nodes: list[str]) -> tuple[World, FenceTest]:
    """Ask every fence device of nodes from every other node; nothing is switched."""
    world = World(fleet.cluster, fleet.facts(targets=False))
    asked = fence_test.questions(world, nodes)
    answers = fleet.ask(list(asked), "kvmcluster.fence_devices", asked, within=ACTION)
    return world, fence_test.examined(world, nodes, answers)


def fence(
    fleet: Fleet, console: Console, node: str, with_guests: bool, limit: float, test: bool
) -> dict[str, Any]:
    """Have a node fenced, and return what was seen of it.

    with_guests
        Whether guests may run there.
    limit
        Seconds to wait until it is back.
    test
        Whether it is only planned.
    """
    world, found = examine(fleet, [node])
    plan = fence_test.planned(world, found, node, with_guests)
    if test or plan.hindered:
        return plan.to_dict()
    _refuse_while_states_run(fleet, console, node)
    before = _boot(fleet, node)
    if before is None:
        raise WorldError(f"no response from {node}: it was not fenced")
    console.plan(plan.to_dict())
    began = fleet.clock.monotonic()
    console.show(f"{plan.asker} has {node} fenced")
    answer = fleet.ask([plan.asker], "kvmcluster.fence", node, within=ACTION).get(plan.asker)
    tried = fence_test.answered(answer, plan.asker)
    result, missing = _observed(fleet, console, plan, tried, before, began + limit)
    elapsed = fleet.clock.monotonic() - began
    return fence_test.with_outcome(plan, tried, result, elapsed, missing)


def _observed(
    fleet: Fleet, console: Console, plan: FenceTest, tried: Tried, before: Boot, end: float
) -> tuple[str, str]:
    """Wait until a node that was fenced is back; return what came of it, and what is missing."""
    began = fleet.clock.monotonic()
    while True:
        now = _boot(fleet, plan.node)
        view = fleet.facts([plan.asker], targets=False, trust=False)[plan.asker].pacemaker
        is_online = not fenced.refusal(view, plan.node)
        missing = fence_test.missing(plan.node, before.id, now, is_online)
        at = fleet.clock.monotonic()
        has_stayed = now is not None and now.id == before.id and at - began > STAYED
        if not (tried.ok and missing) or has_stayed or at > end or console.interrupted():
            alive = "" if now else _alive(fleet, plan)
            result = fence_test.outcome(tried, before.id, now, is_online, alive)
            return result, "; ".join(filter(None, [missing, alive]))
        console.show(f"waits: {missing}")
        fleet.clock.wait(None, ASK_AGAIN)


def _boot(fleet: Fleet, node: str) -> Boot | None:
    return maintenance.boot(fleet.ask([node], "kvmcluster.boot").get(node))


def _alive(fleet: Fleet, plan: FenceTest) -> str:
    """Return how a node responds to the one that had it fenced; empty if it does not."""
    answer = fleet.ask([plan.asker], "kvmcluster.responds", plan.node).get(plan.asker)
    return fence_test.alive(answer, plan.node)


def _refuse_while_states_run(fleet: Fleet, console: Console, node: str) -> None:
    """Raise WorldError while Salt's states run or wait on a node, after waiting for them."""
    detail = applier.await_idle(fleet, [node], course.SOON, console).get(node)
    if detail:
        raise WorldError(f"{node} was not fenced: {detail}")
