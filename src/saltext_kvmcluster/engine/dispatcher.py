"""Hands the moves of a batch over to the nodes that they leave, and gathers what became of each.

A node carries out its list whatever becomes of the master. So nothing counts as over, or as failed,
that its node did not report, or that all nodes together did not show after the job was gone.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from saltext_kvmcluster.core.drain import departures
from saltext_kvmcluster.core.drain.batch import Batch
from saltext_kvmcluster.core.drain.departures import GONE, Reported
from saltext_kvmcluster.core.errors import WorldError
from saltext_kvmcluster.core.migration.migration import Move
from saltext_kvmcluster.engine.fleet import ASK_AGAIN, Fleet

QUIET, LOST = 20.0, 300.0
"""After so many seconds without news, a node is asked what became of its list; after so many
without any response from it, all nodes are asked for each guest of it."""


@dataclass
class _Job:
    """A list that was handed over; ``moves`` are those without a result, by guest.

    ``asked``: when its node was asked for it last; ``alive``: when it responded last. ``stopped``:
    whether it is known that nothing further of it is begun. ``lost``: whether its node no longer
    told of it.
    """

    id: str
    source: str
    moves: dict[str, Move]
    asked: float
    alive: float
    stopped: bool = False
    lost: bool = False


class Dispatcher:
    """The lists of a batch that are with their nodes.

    while_cordoned
        Whether they are wanted only as long as their nodes are cordoned.
    """

    def __init__(self, fleet: Fleet, batch: Batch, while_cordoned: bool = False) -> None:
        self._fleet, self._clock, self._batch = fleet, fleet.clock, batch
        self._while_cordoned = while_cordoned
        self._jobs: list[_Job] = []

    def dispatch(self) -> None:
        """Hand over what waits."""
        for source, moves in self._batch.hand_over().items():
            now = self._clock.monotonic()
            job = self._fleet.dispatch(source, moves, self._while_cordoned)
            self._jobs.append(_Job(job, source, {move.guest: move for move in moves}, now, now))

    def gather(self) -> None:
        """Take in what has ended, and what was not begun and is not any more."""
        self._listen()
        for job in [job for job in self._jobs if job.moves]:
            try:
                found = self._news(job)
            except WorldError as error:
                found = self._refused(job, str(error))
            if found:
                self._take_in(job, found)
        self._forget()

    def stop(self) -> dict[str, str]:
        """Have the nodes begin nothing further, and take in what was not begun.

        Returns the lists, by id, that may go on: their nodes did not confirm it; with each node.
        """
        for job in self._jobs:
            found = None if job.stopped else self._told(job, stop=True)
            job.stopped = job.stopped or found is not None
            if found and found.known:
                self._take_in(job, found)
        self._forget()
        return {job.id: job.source for job in self._jobs if not job.stopped}

    def _forget(self) -> None:
        """Forget the lists that are over; one that was lost may go on until it is stopped."""
        self._jobs = [job for job in self._jobs if job.moves or (job.lost and not job.stopped)]

    def _listen(self) -> None:
        """Take hints: of what went well for those who watch, of what did not as a reason to ask."""
        for hint in self._fleet.hints():
            for job in self._jobs:
                if hint.guest not in job.moves or hint.node != job.source:
                    continue
                self._batch.idle.discard(hint.guest)
                if hint.has_failed:
                    soon = self._clock.monotonic() - QUIET
                    job.asked = min(job.asked, max(soon, job.alive + ASK_AGAIN - QUIET))
                elif hint.has_moved:
                    self._batch.arrived.add(hint.guest)

    def _news(self, job: _Job) -> Reported | None:
        """Return what is known of a list by now; None if there is nothing new."""
        done = self._returned(job)
        if done and not done.open:
            return done
        if self._clock.monotonic() - job.asked < QUIET:
            return done
        found = self._told(job)
        if found is None and self._clock.monotonic() - job.alive < LOST:
            return None
        if found and found.open:
            return found
        done = self._returned(job)  # It may have done so since.
        return done if done and not done.open else found or GONE

    def _refused(self, job: _Job, reason: str) -> Reported | None:
        """Take in that nothing was begun, as a node says, unless it knows the list all the same.

        That is so where it arrived twice, and the second one was refused.
        """
        if job.stopped and self._clock.monotonic() - job.asked < QUIET:
            return None
        found = self._told(job, stop=True)
        if found and not found.known:
            for move in [*job.moves.values()]:
                self._end(job, move, departures.refused(move, reason))
            return None
        return found or (None if self._clock.monotonic() - job.alive < LOST else GONE)

    def _returned(self, job: _Job) -> Reported | None:
        return departures.returned(self._fleet.returned(job.id, job.source), job.id)

    def _told(self, job: _Job, stop: bool = False) -> Reported | None:
        """Return what a list's node tells of it when it is asked."""
        answer = self._fleet.departed(job.source, job.id, stop)
        found = departures.parse(answer, job.id)
        job.asked = self._clock.monotonic()
        if found:
            job.alive = job.asked
        return found

    def _take_in(self, job: _Job, found: Reported) -> None:
        job.stopped = job.stopped or found.stopped
        job.lost = job.lost or found is GONE
        for guest, move in [*job.moves.items()]:
            if guest in found.results:
                self._end(job, move, found.results[guest])
            elif found.is_never_begun(guest):
                del job.moves[guest]
                self._batch.take_back(guest)
            elif not found.open:
                self._end(job, move, self._fleet.settled(move))
            elif found.states.get(guest) == departures.BEGUN:
                self._batch.idle.discard(guest)

    def _end(self, job: _Job, move: Move, result: dict[str, Any]) -> None:
        del job.moves[move.guest]
        self._batch.end(move.guest, result)
