"""Starts the guests of nodes that are off on the others, by one plan."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

from saltext_kvmcluster.core.failover import takeover
from saltext_kvmcluster.core.failover.takeover import Step
from saltext_kvmcluster.core.readiness import follow_up
from saltext_kvmcluster.core.readiness.checks.base import World
from saltext_kvmcluster.core.text import listed
from saltext_kvmcluster.engine.drainer import Console
from saltext_kvmcluster.engine.fleet import ACTION, Fleet

AGAIN, PATIENCE = 10.0, 240.0
"""Seconds between attempts, and for how long: a file server drops the locks of a client that is
dead after a minute, sanlock's leases end after two and a half."""


def take_over(
    fleet: Fleet,
    console: Console,
    given: object,
    named: Collection[str] | None = None,
    force_unguarded: bool = False,
    test: bool = False,
) -> dict[str, Any]:
    """Start all guests of nodes that are off, each only by the rules of a start.

    given
        The nodes that are off, by a person's word: one, or a list.
    named
        Only these guests; None for all.
    force_unguarded
        As for a start.
    """
    off = takeover.nodes_off(fleet.cluster, given)
    world = World(fleet.cluster, fleet.facts(targets=False))
    others = [node for node in fleet.all if node not in off]
    answers = fleet.ask(others, "kvmcluster.responds", list(off))
    takeover.refuse_unless_off(world.nodes, off, answers)
    found = takeover.guests(world, off, named)
    posed = takeover.posed(world, off, found)
    plan = takeover.plan(world, _answered(fleet, posed, others), off, found)
    if test:
        return plan.to_dict()
    console.plan(plan.to_dict())
    return plan.to_dict(_started(fleet, console, plan.steps, off, force_unguarded))


def _answered(fleet: Fleet, world: World, nodes: Collection[str]) -> World:
    questions = follow_up.questions(world)
    asked = {node: question for node, question in questions.items() if node in nodes}
    return follow_up.answered(world, fleet.ask(list(asked), "kvmcluster.inspect", asked))


def _started(
    fleet: Fleet, console: Console, steps: Sequence[Step], off: Sequence[str], unguarded: bool
) -> list[dict[str, Any]]:
    """Start guests, one at a time on each node, and again those whose disks may be locked still."""
    rows: dict[str, dict[str, Any]] = {}
    waiting = list(steps)
    end = fleet.clock.monotonic() + PATIENCE
    while waiting:
        # Each is tried once after that, however long the others took.
        is_last = fleet.clock.monotonic() >= end
        for side_by_side in takeover.rounds(waiting):
            if console.interrupted():
                return [rows[step.guest] for step in steps if step.guest in rows]
            begun = {step.node: step.guest for step in side_by_side}
            places = (f"{guest} on {node}" for node, guest in begun.items())
            console.show(f"starting {listed(places)}")
            answers = fleet.ask(
                list(begun),
                "kvmcluster.start_assigned",
                begun,
                within=ACTION,
                force_unreachable=list(off),
                force_unguarded=unguarded,
            )
            for step in side_by_side:
                rows[step.guest] = takeover.row(step, answers.get(step.node))
        waiting = [step for step in waiting if takeover.may_follow(rows[step.guest])]
        if not waiting or is_last:
            break
        console.show(f"{len(waiting)} guests could not be started yet, and are tried again")
        fleet.clock.wait(None, AGAIN)
    return [rows[step.guest] for step in steps if step.guest in rows]
