"""Every login from every node to every node, again while sshd refuses some of them for a time."""

from __future__ import annotations

from typing import Any

from saltext_kvmcluster.core.trust import logins
from saltext_kvmcluster.engine.applier import Console
from saltext_kvmcluster.engine.fleet import QUESTION
from saltext_kvmcluster.master.nodes import SaltNodes

# Between two matrices; each costs every node its logins.
PAUSES = (5.0, 10.0, 20.0, 30.0)


def observed(
    nodes: SaltNodes, console: Console, timeout: float, time_limit: float, wait: float
) -> dict[str, Any]:
    """Return the matrix of all logins; see the runner's ``ssh_matrix``.

    wait
        Seconds for which all is tried again while nothing but a refusal for a time is wrong: sshd
        adds no penalty for a login that it refuses (srclimit.c), but it does for one that fails.
    """
    end, began = nodes.clock.monotonic() + wait, nodes.clock.monotonic()
    tries = 0
    while True:
        rows = nodes.ask(
            nodes.all,
            "kvmcluster.ssh_check",
            within=time_limit + QUESTION,
            timeout=timeout,
            time_limit=time_limit,
        )
        now = nodes.clock.monotonic()
        found = logins.matrix(nodes.cluster, rows)
        pause = min(PAUSES[min(tries, len(PAUSES) - 1)], end - now)
        if not logins.refused_for_now(found) or pause <= 0 or console.interrupted():
            return {**found, "waited": round(now - began, 1) if tries else 0.0}
        console.show(f"sshd refuses logins for a time; waiting, {end - now:.0f} s at most")
        nodes.clock.wait(None, pause)
        tries += 1
