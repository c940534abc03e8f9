"""Carries out the moves of a plan that leave this node, side by side, with connections kept open.

Each is a migration like any other, with its own checks, locks, slots and verdict. What becomes of
one is written down before the next is begun, so that whoever asks is told, whatever ends this job.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager
from typing import Any, Protocol

from saltext_kvmcluster.core.drain import departures
from saltext_kvmcluster.core.errors import KvmclusterError, Unwanted
from saltext_kvmcluster.core.migration.migration import Move
from saltext_kvmcluster.engine import migrator
from saltext_kvmcluster.engine.environment import Environment

POLL = 0.5
"""Seconds between looks for a move that may be begun, where the others wait for a destination."""


class Store(Protocol):
    """Where departures are written down, one access at a time; WorldError if that fails."""

    def next(self) -> Move | None:
        """Return the move to be begun now, which is written down by then; None if there is none."""

    def is_more(self) -> bool:
        """Whether there may be one later."""

    def end(self, move: Move, result: Mapping[str, Any]) -> None:
        """Write down what became of a move; never raises."""

    def put_back(self, move: Move) -> None:
        """Write down that a move was not begun after all; never raises."""

    def is_stopped(self) -> bool:
        """Whether nothing further is to be begun."""

    def stop(self) -> None:
        """Begin nothing further; never raises."""


def depart(
    store: Store,
    opening: Callable[[], AbstractContextManager[Environment]],
    workers: int,
    side_by_side: Callable[[Callable[[int], None], Iterable[int]], None],
) -> None:
    """Begin what is due until nothing is, and wait for its end.

    opening
        Makes an environment, of which each worker has its own: they share no connection.
    workers
        How many migrations may be under way at once.
    side_by_side
        Calls a function for each of some numbers, at the same time, until all have returned.
    """

    def work(_number: int) -> None:
        try:
            with opening() as env:
                _work(store, env)
        except KvmclusterError:
            # What was begun and has no result is settled by who asks.
            store.stop()
        except Exception:
            store.stop()
            raise

    side_by_side(work, range(workers))


def _work(store: Store, env: Environment) -> None:
    while True:
        move = store.next()
        if move:
            _migrate(store, env, move)
        elif store.is_more():
            env.clock.wait(None, POLL)
        else:
            return


def _migrate(store: Store, env: Environment, move: Move) -> None:
    options, unwanted = env.cluster.migration.options, store.is_stopped
    try:
        done = migrator.migrate(
            env, move.guest, move.destination, options, is_unwanted=unwanted
        ).record()
    except Unwanted:
        store.put_back(move)
        return
    except KvmclusterError as error:
        done = departures.refused(move, str(error))
    store.end(move, done)
