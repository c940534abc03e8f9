"""Carries out plans from the master: begins their moves, gathers the ends, plans anew.

Each move is a Salt job of its own on the node that the guest leaves. What was begun goes on there,
whatever becomes of the master or of us: so nothing is taken for over, or for failed, that was not
heard from the node, or seen by all nodes after the job was gone.
"""

from __future__ import annotations

import contextlib
import time
from dataclasses import dataclass

import salt.utils.jid
from salt.exceptions import SaltException

from saltext_kvmcluster.core import validate
from saltext_kvmcluster.core.drain import report
from saltext_kvmcluster.core.drain.batch import Batch
from saltext_kvmcluster.core.errors import WorldError
from saltext_kvmcluster.core.migration import migration
from saltext_kvmcluster.core.output import tables
from saltext_kvmcluster.core.ownership import locations
from saltext_kvmcluster.master.nodes import ASK_AGAIN
from saltext_kvmcluster.master.terminal import Line, interrupts

POLL = 0.25
# After so many seconds without an answer a node is asked whether the job is still there, and after
# so many without any word of it all nodes are asked for the guest.
QUIET, LOST = 20.0, 300.0
# Seconds for which a node is asked again, in the end, that does not tell who is left on it: after a
# restart of the master minions need some to be back.
SILENT = 60.0
# Seconds between attempts to plan anew, and for how long in vain.
AGAIN, PATIENCE = 5.0, 180.0


def proposed(nodes, plan):
    """Return a plan that is not carried out.

    plan
        Takes a batch; returns a plan for what is left of it.
    """
    reported = report.planned(plan(Batch(nodes.cluster)))
    return {"cluster": nodes.cluster.name, "ok": not reported["stuck"], "test": True, **reported}


def carried_out(nodes, plan, drained=None):
    """Carry out a plan, and return what is to be told of it.

    plan
        Takes a batch; returns a plan for what is left of it.
    drained
        The node that is to have no guest in the end.
    """
    begun, batch = time.monotonic(), Batch(nodes.cluster)
    first = plan(batch)
    batch.follow(first)
    with (
        interrupts() as interrupted,
        contextlib.closing(Line(nodes.opts)) as line,
        nodes.client() as answers,
    ):
        carrier = PlanRunner(nodes, answers, interrupted, line.show)
        if first.steps or first.stuck:
            line.say(tables.render({"ok": True, "test": True, **report.planned(first)}))
        detail, left = carrier.carry_out(batch, plan), []
        for last in [*[False] * report.ROUNDS, True] if drained else ():
            there = _at_the_end(nodes, drained, batch, interrupted, line.show)
            left = report.active(there)
            detail = detail or report.opened_meanwhile(there)
            if detail or interrupted.is_set() or last or not batch.is_old:
                break
            detail = carrier.carry_out(batch, plan)
    reported = report.reported(nodes.cluster, first, batch, left, detail, interrupted.is_set())
    return {**reported, "elapsed": round(time.monotonic() - begun, 1)}


def _at_the_end(nodes, node, batch, interrupted, show):
    """Return a node's facts; a guest there that nobody had seen makes the plan an old one.

    Moves of somebody else are waited for first, for as long as one may take, and all nodes are
    asked for guests of which it is not known where they are.
    """
    end = time.monotonic() + nodes.cluster.migration.options.timeout
    while guests := report.of_others(nodes.under_way(node), batch.in_flight):
        if interrupted.is_set() or time.monotonic() >= end:
            break
        show(f"waiting for {validate.listed(guests)}, whose move somebody else began")
        interrupted.wait(ASK_AGAIN)
    for move in batch.unsettled:
        batch.settle(move, nodes.settled(move))
    there = nodes.facts([node], targets=False, trust=False)[node]
    patience = time.monotonic() + SILENT
    while there.guests is None and time.monotonic() < patience and not interrupted.is_set():
        interrupted.wait(ASK_AGAIN)
        there = nodes.facts([node], targets=False, trust=False)[node]
    left = report.active(there)
    batch.is_old = bool(set(left or ()).difference(batch.stuck, batch.given_up, batch.in_flight))
    return there


@dataclass
class _InFlight:
    """A move that was begun, and its Salt job.

    ``asked``: when its node was asked for the job last; ``heard``: when it said that it is there.
    """

    move: migration.Move
    jid: str
    asked: float
    heard: float


class PlanRunner:
    """One run over a batch of moves.

    nodes
        The cluster's nodes.
    answers
        A client of Salt's, to look for answers with: they are in the master's job cache.
    interrupted
        The event after which nothing more is begun or waited for.
    show
        Takes one line that says how far it is.
    """

    def __init__(self, nodes, answers, interrupted, show):
        self._nodes, self._answers = nodes, answers
        self._interrupted, self._show = interrupted, show
        self._flights = {}

    def carry_out(self, batch, plan):
        """Carry out the moves of a batch, within its limits, until none is left or interrupted.

        plan
            Takes the batch; returns a plan for the rest of it.

        Returns why it could not be planned anew, empty if it could.
        """
        failing = None
        while not self._interrupted.is_set():
            if batch.is_old:
                detail = _planned(batch, plan)
                failing = (failing or time.monotonic()) if detail else None
                if detail and time.monotonic() - failing >= PATIENCE:
                    return f"it could not be planned anew: {detail}"
            while move := batch.due():
                self._begin(move)
            if not batch.in_flight and not batch.is_old:
                return ""
            self._show(batch.line())
            self._interrupted.wait(AGAIN if failing else POLL)
            self._gather(batch)
        return ""

    def _begin(self, move):
        """Tell a guest's node to move it. Its job has a name beforehand, to be asked about."""
        jid = salt.utils.jid.gen_jid(self._nodes.opts)
        now = time.monotonic()
        self._flights[move.guest] = _InFlight(move, jid, now, now)
        # A new one each time: the key to a master that was started anew is another one.
        with self._nodes.client() as client:
            try:
                arguments = [move.guest, move.destination]
                client.run_job(
                    [move.source], "kvmcluster.migrate", arguments, tgt_type="list", jid=jid
                )
            except SaltException:
                pass  # Whether it was told is found out as for one that gives no answer.

    def _gather(self, batch):
        """Take in what has ended."""
        for guest, flight in list(self._flights.items()):
            result = self._result(flight)
            if result is not None:
                del self._flights[guest]
                batch.end(guest, result)

    def _result(self, flight):
        """Return what came of a move, None while that is not known."""
        try:
            done = locations.ended(self._answer(flight))
            if done is None and time.monotonic() - flight.asked >= QUIET:
                done = self._of_quiet(flight)
        except WorldError as error:
            return {"result": migration.NOT_MOVED, "reason": str(error)}
        return done

    def _answer(self, flight):
        """Return what a node answered, None if it did not yet."""
        try:
            return self._answers.get_cache_returns(flight.jid)[flight.move.source]["ret"]
        except (KeyError, OSError, SaltException):
            return None

    def _of_quiet(self, flight):
        """Return what came of a move of which nothing was heard, unless its job is still there."""
        source = flight.move.source
        found = self._nodes.ask([source], "saltutil.find_job", flight.jid).get(source)
        flight.asked = time.monotonic()
        if isinstance(found, dict) and found.get("jid") == flight.jid:
            flight.heard = flight.asked
        if found != {} and flight.asked - flight.heard < LOST:
            return None
        return locations.ended(self._answer(flight)) or self._nodes.settled(flight.move)


def _planned(batch, plan):
    """Plan the rest of a batch anew; return why that cannot be done."""
    try:
        batch.follow(plan(batch))
    except WorldError as error:
        return str(error)
    return ""
