"""Has Pacemaker keep this node empty while it is drained, and take it back afterwards.

What Pacemaker manages and we could not move it moves away itself; it starts nothing here. Only our
own standby is taken back: that of a person bears no mark of ours.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable

from saltext_kvmcluster.core.errors import WorldError
from saltext_kvmcluster.core.ha import holds
from saltext_kvmcluster.core.pacemaker import standby
from saltext_kvmcluster.core.pacemaker.model import Pacemaker
from saltext_kvmcluster.engine.environment import Environment

POLL = 1.0
LEAVING = 300.0
"""Seconds for Pacemaker to move away what it manages."""
SETTLING = 30.0


def begin(env: Environment, reason: str) -> bool:
    """Put this node on standby, if Pacemaker may start guests on it; return whether it is by us.

    It returns once Pacemaker shows that, and no guest that it manages as active here.

    reason
        Why; kept in the mark.

    WorldError if it must not be put on standby, or some of its guests have not left in time.
    """
    found = _found(env)
    name = found.name or env.here
    if standby.is_wanted(env.here, found):
        if why := standby.refusal(env.here, found):
            raise WorldError(f"{env.here} was not put on standby: {why}")
        _undisturbed(env)
        assert found.configuration
        mark = f"{env.here} {env.clock.now().isoformat(timespec='milliseconds')} {reason}"
        env.control(env.here).standby(name, found.configuration.nodes[name], mark)
    if not standby.is_wanted(env.here, found) and not standby.is_on(env.here, found):
        return False
    with contextlib.suppress(WorldError):
        env.control(env.here).wait(SETTLING)
    why = _until(env, lambda view: standby.left(env.here, view), LEAVING)
    if why:
        raise WorldError(f"{env.here} is on standby, but {why}")
    return _is_ours(_found(env), name)


def end(env: Environment) -> bool:
    """Take this node back from our own standby; return whether there was one.

    WorldError if that is not certain: then it may still be on standby.
    """
    found = _found(env)
    name = found.name or env.here
    if not _is_ours(found, name):
        return False
    _undisturbed(env)
    assert found.configuration
    env.control(env.here).end_standby(name, found.configuration.nodes.get(name, ""))

    def still(view: Pacemaker | None) -> str:
        if view is None or view.error or _is_ours(view, name):
            return "Pacemaker still shows that it is on standby"
        return ""

    if why := _until(env, still, SETTLING):
        raise WorldError(why)
    return True


def _undisturbed(env: Environment) -> None:
    """Wait until Pacemaker moves no guest, which the change would block."""
    if why := _until(env, holds.migrating, LEAVING):
        raise WorldError(f"{env.here} was left as it is: {why}; try again")


def _found(env: Environment) -> Pacemaker:
    found = env.pacemaker(env.here)
    if why := standby.unknown(env.here, found):
        raise WorldError(why)
    assert found
    return found


def _is_ours(found: Pacemaker, name: str) -> bool:
    return bool(found.configuration and name in found.configuration.standbys)


def _until(env: Environment, why: Callable[[Pacemaker | None], str], seconds: float) -> str:
    end = env.clock.monotonic() + seconds
    while True:
        detail = why(env.pacemaker(env.here))
        if not detail or env.clock.monotonic() >= end:
            return detail
        env.clock.wait(None, POLL)
