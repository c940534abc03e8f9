"""Starts guests of this node again that crashed here."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from saltext_kvmcluster.core.errors import KvmclusterError, WorldError
from saltext_kvmcluster.core.failover import restarts
from saltext_kvmcluster.core.failover.restarts import Traces
from saltext_kvmcluster.core.ownership.startup import May
from saltext_kvmcluster.core.pillar.clusters import Listed
from saltext_kvmcluster.engine import lifecycle
from saltext_kvmcluster.engine.environment import Environment


def restarted(env: Environment, history: Callable[[], Iterable[object]]) -> list[dict[str, Any]]:
    """Start each guest again that just crashed here, by the rules of every start.

    So all nodes have to answer that they do not have it, and this one must not be cordoned. One
    that was shut down, or ran elsewhere, since it crashed is left alone, and so is one that runs.

    history
        What this node remembers.

    Returns a row for each guest that crashed and does not run.
    """
    rows = []
    for guest in restarts.wanted(env.cluster):
        try:
            row = _restarted(env, guest, history)
        except KvmclusterError as error:
            row = restarts.row(guest.name, restarts.REFUSED, str(error))
        rows += [row] if row else []
    return rows


def _restarted(
    env: Environment, guest: Listed, history: Callable[[], Iterable[object]]
) -> dict[str, Any] | None:
    here = env.journal(env.here).traces(guest.name)
    if not restarts.has_crashed(here):
        return None
    decision = lifecycle.runs(env, guest.name)
    if decision.may is May.RUNS:
        return None
    if decision.may is not May.START:
        return restarts.row(guest.name, restarts.REFUSED, f"it crashed; {decision.sentence}")
    if restarts.is_over(here, _elsewhere(env, guest.name)):
        return None
    now = env.clock.now()
    verdict = restarts.decide(guest, env.here, history(), now)
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


def _elsewhere(env: Environment, guest: str) -> Mapping[str, Traces]:
    """Return what the other nodes know of a guest's runs there; WorldError if one does not tell."""
    others = [node for node in env.cluster.nodes if node != env.here]
    found: Mapping[str, Traces] = env.side_by_side(
        lambda node: env.journal(node).traces(guest), others
    )
    return found
