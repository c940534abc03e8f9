"""Starts guests of this node again that crashed here."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from saltext_kvmcluster.core.errors import KvmclusterError, WorldError
from saltext_kvmcluster.core.failover import restarts
from saltext_kvmcluster.core.pillar.clusters import Listed
from saltext_kvmcluster.engine import lifecycle
from saltext_kvmcluster.engine.environment import Environment


def restarted(
    env: Environment,
    logged: Mapping[str, float],
    history: Callable[[], Iterable[object]],
    noted: Callable[[str], str | None],
) -> list[dict[str, Any]]:
    """Start each guest again that just crashed here, by the rules of every start.

    So all nodes have to answer that they do not have it, and this one must not be cordoned.

    logged
        When libvirt wrote its log of a guest last, in seconds.
    history
        What this node remembers.
    noted
        When a guest was shut down here on purpose, ISO 8601; None if there is no note of that.

    Returns a row for each guest that crashed.
    """
    rows = []
    for guest in restarts.wanted(env.cluster):
        try:
            row = _restarted(env, guest, logged.get(guest.name), history(), noted(guest.name))
        except KvmclusterError as error:
            row = restarts.row(guest.name, restarts.REFUSED, str(error))
        rows += [row] if row else []
    return rows


def _restarted(
    env: Environment,
    guest: Listed,
    logged: float | None,
    history: Iterable[object],
    noted: str | None,
) -> dict[str, Any] | None:
    if logged is None:
        return None
    run, now = env.journal(env.here).last_run(guest.name), env.clock.now()
    verdict = restarts.decide(guest, env.here, run, logged, history, now, noted)
    if verdict is None:
        return None
    if not verdict.again:
        return restarts.row(guest.name, restarts.REFUSED, verdict.sentence)
    begun = restarts.begun(guest.name, env.here, verdict.sentence, now)
    env.journal(env.here).remember(begun)
    try:
        done = lifecycle.start(env, guest.name, by_hand=False)
        result, reason = done.result, f"{verdict.sentence}; {done.reason}"
    except KvmclusterError as error:
        result, reason = restarts.REFUSED, f"{verdict.sentence}; {error}"
    ended = {**begun, "result": result, "reason": reason}
    try:
        env.journal(env.here).remember(ended)
    except WorldError as error:
        reason = f"{reason}; the history does not have it: {error}"
    return restarts.row(guest.name, result, reason)
