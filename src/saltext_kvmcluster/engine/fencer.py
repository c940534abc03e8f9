"""Tries fence devices from this node, and has another node fenced for a test."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from saltext_kvmcluster.core.errors import WorldError
from saltext_kvmcluster.core.migration import records
from saltext_kvmcluster.core.pacemaker import fenced
from saltext_kvmcluster.core.pacemaker.fenced import Tried
from saltext_kvmcluster.core.pacemaker.fencing import FenceEvent
from saltext_kvmcluster.engine.environment import Environment


def responses(env: Environment, devices: Sequence[str]) -> dict[str, str]:
    """Return, by fence device, why it does not respond to this node; empty if it does."""
    return {device: _response(env, device) for device in devices}


def fence(env: Environment, node: str) -> Tried:
    """Have a node fenced, wait for it, and keep it in the history; WorldError if it must not be."""
    if why := fenced.refusal(env.pacemaker(env.here), node):
        raise WorldError(f"{node} was not fenced: {why}")
    others = [one for one in env.cluster.nodes if one != node]
    events, used = _events(env), _used(env, others, node)
    started, began = env.clock.now(), env.clock.monotonic()
    detail = ""
    try:
        code = env.control(env.here).fence(node)
        detail = f"stonith_admin --reboot={node} ended with exit code {code}" if code else ""
    except WorldError as error:
        code, detail = None, str(error)
    seconds = round(env.clock.monotonic() - began, 1)
    event = fenced.new_event(events, _events(env), node)
    by = event.delegate if event else ""
    tried = Tried(
        fenced.succeeded(event, code),
        by,
        fenced.device_used(used.get(by, ()), _used(env, others, node).get(by, ())),
        seconds,
        detail or ("" if event else "Pacemaker's history does not show it"),
    )
    env.journal(env.here).remember(records.of_test(node, env.here, tried, started.isoformat()))
    return tried


def _response(env: Environment, device: str) -> str:
    try:
        code = env.control(env.here).monitor(device)
    except WorldError as error:
        return str(error)
    return "" if code == 0 else "killed" if code is None else f"exit code {code}"


def _events(env: Environment) -> tuple[FenceEvent, ...]:
    found = env.fencing(env.here)
    return found.events if found else ()


def _used(env: Environment, others: Sequence[str], node: str) -> Mapping[str, list[str]]:
    """Return, by node, the lines of its fencer's log about devices that it used."""

    def lines(other: str) -> list[str]:
        try:
            return fenced.uses(env.control(other).fencer_log(), node)
        except WorldError:
            return []

    return env.side_by_side(lines, others)
