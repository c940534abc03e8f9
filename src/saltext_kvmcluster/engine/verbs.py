"""Has nodes act on guests that the master has found: a job for each guest, a few at a time.

What is done goes on whatever becomes of the master. So nothing counts as done, or as failed, that
its node did not report.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from saltext_kvmcluster.core.errors import WorldError
from saltext_kvmcluster.core.facts.nodefacts import NodeFacts
from saltext_kvmcluster.core.failover import takeover
from saltext_kvmcluster.core.guest import graphics
from saltext_kvmcluster.core.guest.graphics import Ways
from saltext_kvmcluster.core.ownership import locations
from saltext_kvmcluster.core.readiness import follow_up
from saltext_kvmcluster.core.readiness.checks.base import World
from saltext_kvmcluster.core.text import listed
from saltext_kvmcluster.core.verbs import results, selection, targets
from saltext_kvmcluster.core.verbs.results import Acts, Row
from saltext_kvmcluster.core.verbs.selection import Selection
from saltext_kvmcluster.core.verbs.targets import Target
from saltext_kvmcluster.engine.drainer import Console
from saltext_kvmcluster.engine.fleet import Fleet

MOST = 8
"""Guests that are acted on at once: each start asks every node."""
POLL = 0.25
QUIET, LOST = 20.0, 60.0
"""After so many seconds without a result, the node is asked whether the job is still there; after
so many in which it does not respond, it is no longer waited for."""


@dataclass
class _Begun:
    """A job; ``asked``: when its node was asked for it last, ``alive``: when it had it last."""

    target: Target
    id: str
    asked: float
    alive: float


def act(
    fleet: Fleet,
    console: Console,
    verb: str,
    facts: Mapping[str, NodeFacts],
    selected: Selection,
    function: str,
    test: bool | None,
    named: Mapping[str, Any],
    node: str = "",
) -> Acts:
    """Act on the guests that are meant, or only tell what would be done.

    function
        The function of the nodes, which takes the guest, and what ``named`` has.
    test
        Whether only to tell that; None: if more guests are meant than the one that was named.
    node
        The node that is to start them; empty: the best.
    """
    cluster = fleet.cluster
    found = [targets.target(verb, cluster, facts, guest) for guest in selected.guests]
    if verb == targets.START:
        found = _placed(fleet, facts, found, node)
    asks = test is None and selected.needs_consent
    silent = selection.silent(facts) if selected.is_open else {}
    if len(found) == 1 and found[0].refusal and not silent:
        raise WorldError(f"{found[0].guest} was not {targets.DONE[verb]}: {found[0].refusal}")
    rows: list[Row]
    if test or asks:
        rows = [results.planned(one) for one in found]
    else:
        may = [one for one in found if not one.refusal]
        done = _carried_out(fleet, console, verb, may, function, named)
        rows = [*results.refusals(found), *done]
    return Acts(
        verb, cluster.name, tuple(rows), bool(test or asks), asks, silent, selected.unmatched
    )


def ways(fleet: Fleet, facts: Mapping[str, NodeFacts], guest: str) -> tuple[str, str, Ways]:
    """Return a guest that runs, its node, and the ways to it."""
    found = targets.target(targets.ACCESS, fleet.cluster, facts, guest)
    if found.refusal:
        raise WorldError(f"{guest}: {found.refusal}")
    answer = fleet.ask([found.node], "kvmcluster.access", guest).get(found.node)
    if not isinstance(answer, Mapping):
        raise WorldError(f"{found.node}: {locations.silent(answer).observation.detail}")
    return guest, found.node, graphics.received(answer)


def _placed(
    fleet: Fleet, facts: Mapping[str, NodeFacts], found: Sequence[Target], node: str
) -> list[Target]:
    """Give each guest that is to start a node: the given one, its home, or the best by a plan."""
    done: list[Target] = []
    open_: list[Target] = []
    for one in found:
        if not one.node and not one.refusal:
            there = targets.defined_on(facts, one.guest)
            one = replace(one, node=node or targets.starter(fleet.cluster, facts, one.guest, there))
        (done if one.node or one.refusal else open_).append(one)
    return [*done, *_planned(fleet, facts, open_)] if open_ else done


def _planned(fleet: Fleet, facts: Mapping[str, NodeFacts], found: Sequence[Target]) -> list[Target]:
    """Choose nodes by one plan, so that what starts side by side has room."""
    names = [one.guest for one in found if one.guest in fleet.cluster.guests.list]
    world = World(fleet.cluster, fleet.facts(targets=False))
    there = takeover.guests(world, (takeover.NOWHERE,), names)
    posed = takeover.posed(world, (takeover.NOWHERE,), there)
    questions = follow_up.questions(posed)
    answers = fleet.ask(list(questions), "kvmcluster.inspect", questions)
    plan = takeover.plan(world, follow_up.answered(posed, answers), (takeover.NOWHERE,), there)
    nodes = {step.guest: step.node for step in plan.steps}
    return [
        targets.chosen(
            fleet.cluster,
            facts,
            one,
            nodes,
            plan.stuck,
            bool(world.managers.of(one.guest, []).managers),
        )
        for one in found
    ]


def _carried_out(
    fleet: Fleet,
    console: Console,
    verb: str,
    found: Sequence[Target],
    function: str,
    named: Mapping[str, Any],
) -> list[Row]:
    """Have nodes act on guests, and wait for each; return what came of them."""
    clock, waiting, begun, rows = fleet.clock, list(found), list[_Begun](), list[Row]()
    while (waiting or begun) and not console.interrupted():
        while waiting and len(begun) < MOST:
            target, now = waiting.pop(0), clock.monotonic()
            job = fleet.begin(target.node, function, target.guest, **named)
            begun.append(_Begun(target, job, now, now))
        console.show(_line(verb, begun, len(rows), len(found)))
        clock.wait(None, POLL)
        for one in list(begun):
            row = _ended(fleet, verb, one)
            if row:
                begun.remove(one)
                rows.append(row)
    rows += [results.not_awaited(one.target, one.id, "interrupted") for one in begun]
    return rows + [
        results.refused(replace(one, refusal="interrupted before it was begun")) for one in waiting
    ]


def _ended(fleet: Fleet, verb: str, job: _Begun) -> Row | None:
    """Return what came of a guest; None while it is not known, and may still be."""
    target, now = job.target, fleet.clock.monotonic()
    answer = fleet.returned(job.id, target.node)
    if answer is not None:
        return results.of_answer(verb, target, answer)
    if now - job.asked < QUIET:
        return None
    is_there = fleet.has_job(target.node, job.id)
    job.asked = fleet.clock.monotonic()
    if is_there:
        job.alive = job.asked
    if is_there is False:
        answer = fleet.returned(job.id, target.node)
        if answer is not None:
            return results.of_answer(verb, target, answer)
        # It may wait in a queue of the minion's, where Salt does not look for it.
        return results.not_awaited(target, job.id, f"{target.node} does not run its job now")
    if job.asked - job.alive < LOST:
        return None
    return results.not_awaited(target, job.id, f"no response from {target.node}")


def _line(verb: str, begun: Sequence[_Begun], done: int, number: int) -> str:
    guests = listed(job.target.guest for job in begun)
    return f"{verb}: {done} of {number} done; under way: {guests}"
