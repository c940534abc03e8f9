"""Waits for a migration's slots: first on its source, then on its destination; see `queues`."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import asdict

from saltext_kvmcluster.core.events import events
from saltext_kvmcluster.core.migration import queues
from saltext_kvmcluster.core.migration.jobs import QUEUED
from saltext_kvmcluster.core.migration.migration import Move
from saltext_kvmcluster.core.migration.queues import Queue, Standing
from saltext_kvmcluster.engine.environment import Environment

POLL = 0.5


@contextlib.contextmanager
def slots(
    env: Environment, move: Move, within: float, is_unwanted: Callable[[], bool]
) -> Iterator[bool]:
    """Hold a migration's slots for as long as the context lasts; yield whether it had to wait.

    within
        Seconds to wait for them; 0 to refuse it instead.
    is_unwanted
        Whether to wait no longer: then Unwanted is raised.
    """
    end = env.clock.monotonic() + within
    waited = False
    with contextlib.ExitStack() as held:
        for queue in queues.queues(env.cluster, move):
            held.callback(env.tickets(queue.node).release, queue)
            waited |= _waited(env, queue, move, within, end, is_unwanted)
        yield waited


def _waited(
    env: Environment,
    queue: Queue,
    move: Move,
    within: float,
    end: float,
    is_unwanted: Callable[[], bool],
) -> bool:
    """Wait for a slot; return whether that was necessary."""
    tickets = env.tickets(queue.node)
    at = _standing(env, queue, move, tickets.take(queue, move))
    waited, reported = at.slot > 0, 0
    while at.slot > 0:
        if at.slot != reported:
            reported = at.slot
            data = {"what": QUEUED, **asdict(move), "slot": reported, "reason": str(at)}
            env.notify(events.MIGRATION, data)
        is_over = env.clock.monotonic() >= end
        cancelled = env.journal(env.here).asked_to_cancel(move.uuid)
        queues.refuse_to_wait(move, at, cancelled, within, is_over)
        if is_unwanted():
            raise queues.unwanted(move, at)
        env.clock.wait(None, POLL)
        at = _standing(env, queue, move, tickets.observe(queue))
    return waited


def _standing(env: Environment, queue: Queue, move: Move, output: str) -> Standing:
    return queues.standing(queue, move, output, env.libvirt(queue.node).moving(queue.job))
