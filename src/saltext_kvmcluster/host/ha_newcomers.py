"""Whether guests that Pacemaker does not have yet may be given to it, as this node sees it."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Collection

from saltext_kvmcluster.core.errors import WorldError
from saltext_kvmcluster.core.ha import newcomers
from saltext_kvmcluster.core.pacemaker.pacemaker_tools import AGENT, AGENTS
from saltext_kvmcluster.core.pillar.clusters import Cluster
from saltext_kvmcluster.host import pacemaker_view, ssh

JOINING, PAUSE = 60.0, 2.0
"""Seconds for nodes whose Pacemaker has just started to join."""


def refuse(cluster: Cluster, here: str, guests: Collection[str]) -> None:
    """Raise WorldError if Pacemaker would not see some of these guests where they run."""
    agents = {
        node: _lacking(ssh.Session(None if node == here else node, cluster.ssh.becomes_root))
        for node in cluster.nodes
    }
    end = time.monotonic() + JOINING
    with contextlib.closing(ssh.Session()) as shell:
        while True:
            view = pacemaker_view.observed(shell)
            if not newcomers.absent(cluster.nodes, view) or time.monotonic() > end:
                break
            time.sleep(PAUSE)
    if why := list(newcomers.hindrances(guests, here, view, agents)):
        raise WorldError("; ".join(why))


def _lacking(session: ssh.Session) -> str:
    """Return why a node has no resource agent of ours; empty if it has one."""
    with contextlib.closing(session) as shell:
        try:
            done = shell.run_all(AGENTS)[AGENT]
        except WorldError as error:
            return str(error)
    return "" if done.code == 0 and done.stdout else done.stderr.strip()[:200] or "not there"
