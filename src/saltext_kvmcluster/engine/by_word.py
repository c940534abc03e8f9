"""Keeps in a node's history that a guest was started there by a person's word."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace

from saltext_kvmcluster.core.errors import WorldError
from saltext_kvmcluster.core.migration import records
from saltext_kvmcluster.core.ownership import startup
from saltext_kvmcluster.core.ownership.results import StartResult
from saltext_kvmcluster.engine.environment import Environment


def remembered(env: Environment, done: StartResult, declared: Collection[str]) -> StartResult:
    """Keep that nodes were declared offline as a guest was started, and return the result.

    Nothing is kept of a start that was not begun, or without such a word.
    """
    if not declared or done.result not in (startup.STARTED, startup.UNKNOWN):
        return done
    was_seen = done.result == startup.STARTED
    record = records.by_word(
        done.guest, done.uuid, env.here, declared, done.started, done.elapsed, was_seen
    )
    try:
        env.journal(env.here).remember(record)
    except WorldError as error:
        return replace(done, reason=f"{done.reason}; the history does not have it: {error}")
    return done
