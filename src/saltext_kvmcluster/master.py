"""Carries out many moves from the master: begins them, gathers their ends, plans anew.

Each is a Salt job of its own on the node that the guest leaves. What was begun goes on there,
whatever becomes of the master or of us: so nothing is taken for over, or for failed, that was not
heard from the node, or seen by all nodes after the job was gone.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

import salt.client
import salt.utils.jid
from salt.exceptions import SaltException

from saltext_kvmcluster.core import migration, whereabouts
from saltext_kvmcluster.core.errors import WorldError

POLL = 0.25
# After so many seconds without an answer a node is asked whether the job is still there, and after
# so many without any word of it all nodes are asked for the guest.
QUIET, LOST = 20.0, 300.0
# Seconds for which a node is asked again, in the end, that does not tell who is left on it: after a
# restart of the master minions need some to be back.
SILENT = 60.0
# Seconds between attempts to plan anew, and for how long in vain.
AGAIN, PATIENCE = 5.0, 180.0


@dataclass
class _Flight:
    """A move that was begun, and its Salt job.

    ``asked``: when its node was asked for the job last; ``heard``: when it said that it is there.
    """

    move: migration.Move
    jid: str
    asked: float
    heard: float


class Carrier:
    """One run over a batch of moves.

    ask
        Takes nodes, a function and its arguments; returns what each node answers.
    settle
        Takes a move whose job is gone; returns its result, by what all nodes see.
    interrupted
        The event after which nothing more is begun or waited for.
    show
        Takes one line that says how far it is.
    """

    def __init__(self, opts, ask, settle, interrupted, show):
        self._opts, self._ask, self._settle = opts, ask, settle
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
                said = _planned(batch, plan)
                failing = (failing or time.monotonic()) if said else None
                if said and time.monotonic() - failing >= PATIENCE:
                    return f"it could not be planned anew: {said}"
            while move := batch.due():
                self._begin(move)
            if not batch.coming and not batch.is_old:
                return ""
            self._show(batch.line())
            self._interrupted.wait(AGAIN if failing else POLL)
            self._gather(batch)
        return ""

    def _begin(self, move):
        """Tell a guest's node to move it. Its job has a name beforehand, to be asked about."""
        jid = salt.utils.jid.gen_jid(self._opts)
        now = time.monotonic()
        self._flights[move.guest] = _Flight(move, jid, now, now)
        with salt.client.get_local_client(self._opts["conf_file"]) as client:
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
            done = whereabouts.ended(self._answer(flight))
            if done is None and time.monotonic() - flight.asked >= QUIET:
                done = self._of_quiet(flight)
        except WorldError as error:
            return {"result": migration.NOT_MOVED, "reason": str(error)}
        return done

    def _answer(self, flight):
        """Return what a node answered, None if it did not yet."""
        source = flight.move.source
        # A new one each time: the key to a master that was started anew is another one.
        with salt.client.get_local_client(self._opts["conf_file"]) as client:
            try:
                return client.get_cache_returns(flight.jid)[source]["ret"]
            except (KeyError, OSError, SaltException):
                return None

    def _of_quiet(self, flight):
        """Return what came of a move of which nothing was heard, unless its job is still there."""
        source = flight.move.source
        found = self._ask([source], "saltutil.find_job", flight.jid).get(source)
        flight.asked = time.monotonic()
        if isinstance(found, dict) and found.get("jid") == flight.jid:
            flight.heard = flight.asked
        if found != {} and flight.asked - flight.heard < LOST:
            return None
        return whereabouts.ended(self._answer(flight)) or self._settle(flight.move)


def _planned(batch, plan):
    """Plan the rest of a batch anew; return why that cannot be done."""
    try:
        batch.follow(plan(batch))
    except WorldError as error:
        return str(error)
    return ""
