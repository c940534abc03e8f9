"""Applies an SLS on nodes: waits until nothing of Salt's runs there, begins a job, follows it.

Not by ``queue: true``: a state that waits in Salt's queue begins whenever what runs there ends,
long after it was given up here. Nor by "did not return", which says nothing about whether it runs.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Protocol

from saltext_kvmcluster.core.applying import course, outcome, running
from saltext_kvmcluster.core.applying.course import Begun, Watched
from saltext_kvmcluster.core.applying.outcome import Outcome
from saltext_kvmcluster.core.applying.running import NodeJobs
from saltext_kvmcluster.engine.fleet import ASK_AGAIN, Fleet

POLL = 0.5
"""Seconds between looks for the return of a job."""
LOOK = 10.0
"""Seconds between questions to nodes that have not returned yet, whether the job is there."""


class Console(Protocol):
    """The person who watches, if there is one."""

    def interrupted(self) -> bool:
        """Whether to stop."""

    def show(self, line: str) -> None:
        """Show what is waited for, in one line."""


class Nobody:
    """Where nobody watches."""

    def interrupted(self) -> bool:
        return False

    def show(self, line: str) -> None:
        pass


def await_idle(
    fleet: Fleet, nodes: Iterable[str], limit: float, console: Console, twice: bool = False
) -> dict[str, str]:
    """Wait until nothing of Salt's runs or waits on nodes; return why not, for those that stay so.

    A job that was begun there and whose end is not known is looked for, too.

    limit
        Seconds to wait.
    twice
        Whether a node has to be idle at two looks in a row: what leaves a queue is for a moment
        neither there nor in the folder ``proc``. Where a job follows, Salt itself refuses it then.
    """
    begun, now = fleet.begun_states(), fleet.clock.monotonic()
    busy = "not known yet" if twice else ""
    waiting = [Watched(node, now, begun.get(node), busy=busy) for node in nodes]
    hindered: dict[str, str] = {}
    while waiting:
        found = _look(fleet, waiting)
        now = fleet.clock.monotonic()
        waiting = [_settled(fleet, one.looked(found[one.node], now), found, now) for one in waiting]
        waiting = [one for one in waiting if not one.is_idle()]
        for one in waiting:
            detail = one.hindrance(now, limit)
            if not detail and console.interrupted():
                detail = f"interrupted while waiting for {one.waits_for(now)}"
            if detail:
                hindered[one.node] = detail
        waiting = [one for one in waiting if one.node not in hindered]
        if waiting:
            console.show(f"waits for {waiting[0].waits_for(now)}")
            fleet.clock.wait(None, ASK_AGAIN)
    return hindered


def unended(fleet: Fleet, nodes: Iterable[str], console: Console) -> dict[str, str]:
    """Return by node what was begun there and may not have ended, as sentences."""
    begun = fleet.begun_states()
    return await_idle(fleet, [node for node in nodes if node in begun], 0.0, console)


def apply(
    fleet: Fleet,
    nodes: Sequence[str],
    sls: Sequence[str],
    test: bool,
    console: Console,
    limit: float = course.WAIT,
) -> list[Outcome]:
    """Apply SLS files on some nodes, and return what came of it on each.

    test
        Only return what would be changed.
    limit
        Seconds to wait until nothing else of Salt's runs or waits there.
    """
    outcomes: dict[str, Outcome] = {}
    todo, end = list(nodes), fleet.clock.monotonic() + limit
    while todo:
        left = max(0.0, end - fleet.clock.monotonic())
        hindered = await_idle(fleet, todo, left, console)
        for node, detail in hindered.items():
            outcomes[node] = Outcome(node, outcome.REFUSED, f"nothing was applied: {detail}")
        ready = [node for node in todo if node not in hindered]
        if ready and console.interrupted():
            detail = "nothing was applied: interrupted before it was begun"
            outcomes |= {node: Outcome(node, outcome.REFUSED, detail) for node in ready}
            break
        for one in _applied(fleet, ready, sls, test, console) if ready else ():
            outcomes[one.node] = one
        is_late = fleet.clock.monotonic() >= end
        # Where another state began meanwhile, Salt did nothing: that one is waited for, too.
        todo = [node for node in ready if outcomes[node].result == outcome.REFUSED]
        todo = [] if is_late else todo
    return [outcomes[node] for node in nodes]


def _look(fleet: Fleet, watched: Iterable[Watched]) -> dict[str, NodeJobs]:
    """Ask nodes what of Salt's runs and waits there, and for the returns of their jobs."""
    nodes = [one.node for one in watched]
    jobs = sorted({one.job.jid for one in watched if one.job})
    answers = fleet.ask(nodes, "kvmcluster.state_jobs", jobs)
    return {node: running.parse(answers.get(node)) for node in nodes}


def _settled(fleet: Fleet, one: Watched, found: Mapping[str, NodeJobs], now: float) -> Watched:
    """Forget the job that was begun on a node once its end is known."""
    if one.job is None:
        return one
    has_returned = course.returned(one.job, fleet.returned(one.job.jid, one.node), found[one.node])
    if not has_returned and not one.is_gone(now):
        return one
    fleet.forget_states(one.node, one.job)
    return replace(one, job=None)


def _applied(
    fleet: Fleet, nodes: Sequence[str], sls: Sequence[str], test: bool, console: Console
) -> list[Outcome]:
    """Begin a job on nodes where nothing else runs, and follow it until its end is known."""
    begun = Begun(fleet.new_job(), f"state.sls {','.join(sls)}")
    for node in nodes:
        fleet.remember_states(node, begun)
    fleet.begin_states(begun.jid, nodes, sls, test)
    now = fleet.clock.monotonic()
    watched, outcomes, look = {node: Watched(node, now, begun) for node in nodes}, [], now + LOOK
    while watched:
        found: dict[str, NodeJobs] = {}
        if fleet.clock.monotonic() >= look:
            found = _look(fleet, watched.values())
            look = fleet.clock.monotonic() + LOOK
        now, returns = fleet.clock.monotonic(), fleet.returns(begun.jid)
        for node in list(watched):
            if node in found:
                watched[node] = watched[node].looked(found[node], now)
            returned = course.returned(begun, returns.get(node), found.get(node))
            ended = _ended(fleet, watched[node], begun, returned, now)
            if ended is None and console.interrupted():
                ended = _unknown(node, begun, "interrupted: ")
            if ended:
                outcomes.append(ended)
                del watched[node]
        if watched:
            console.show(f"{begun.what}, job {begun.jid}, on {', '.join(watched)}")
            fleet.clock.wait(None, POLL)
    return outcomes


def _ended(
    fleet: Fleet, one: Watched, begun: Begun, returned: tuple[Any] | None, now: float
) -> Outcome | None:
    """Return what came of a job on a node; None while that is not known."""
    if returned:
        fleet.forget_states(one.node, begun)
        return outcome.of_return(one.node, begun.jid, returned[0])
    if one.is_gone(now):
        fleet.forget_states(one.node, begun)
        detail = course.ended_without(one.node, begun)
        return Outcome(one.node, outcome.OVER, detail, jid=begun.jid)
    return _unknown(one.node, begun, "no response: ") if one.is_lost(now) else None


def _unknown(node: str, begun: Begun, why: str) -> Outcome:
    detail = f"{why}{course.may_still_run(node, begun)}"
    return Outcome(node, outcome.UNKNOWN, detail, jid=begun.jid)
