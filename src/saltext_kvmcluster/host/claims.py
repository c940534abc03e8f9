"""The claim of a start on one node: a lock there, held by a process, over ssh if need be.

It ends with this process, with the connection, or after its time.
"""

from __future__ import annotations

import contextlib

from saltext_kvmcluster.core.errors import AtWork, WorldError
from saltext_kvmcluster.core.ownership import startup
from saltext_kvmcluster.core.pillar.clusters import Cluster
from saltext_kvmcluster.core.text import one_line
from saltext_kvmcluster.host import accounts, commands, ssh

RESPONSE_TIME = 15.0
CONFLICT = 75
# Holds the lock of the file $1, echoes what it reads, and ends with its input or after $3 seconds.
# The file names the holder, $2. The exit code is 75 if another start holds the lock. What echoes
# has no part in the lock: it may outlive the process that is waited for.
SCRIPT = (
    'umask 077; exec 9<>"$1" && flock -n -E 75 9 ||'
    ' { code=$?; [ -f "$1" ] && head -c 300 "$1"; exit $code; };'
    ' echo "$2" >"$1"; exec timeout "$3" sh -c "exec cat 9>&-"'
)


class Claim:
    """A claim on one node."""

    def __init__(self, cluster: Cluster, here: str, node: str, uuid: str, seconds: float) -> None:
        self.node = node
        self._command = _command(cluster, here, node, uuid, seconds)
        self._end = contextlib.ExitStack()
        self._held: commands.Held | None = None

    def take(self) -> None:
        """Take it; AtWork if another start holds it, WorldError if it cannot be taken."""
        self._held = self._end.enter_context(commands.held(self._command))
        if self._held.echoes(RESPONSE_TIME):
            return
        outcome = self._held.outcome()
        if outcome.code == CONFLICT:
            raise AtWork(startup.claimed(self.node, outcome.stdout))
        detail = one_line(outcome.stderr) or "no response"
        raise WorldError(
            f"the guest was not started: it cannot be claimed on {self.node}: {detail}"
        )

    def is_held(self) -> bool:
        """Whether its holder responds in time."""
        return self._held is not None and self._held.echoes(RESPONSE_TIME)

    def release(self) -> None:
        """Release it."""
        self._end.close()


def command(path: str, here: str, seconds: float) -> list[str]:
    """Return the command that holds a claim for this node, as long as its input stays open."""
    return ["sh", "-c", SCRIPT, "sh", path, here, str(int(seconds))]


def lock_path(is_root: bool, home: str, node: str, uuid: str) -> str:
    """Return the file by which a guest is claimed on a node.

    is_root
        Whether every node of the cluster claims it there as root.
    home
        The login's home there; ``.`` where a login begins. It may be shared: so each node has a
        file of its own.
    """
    if is_root:
        return f"/run/kvmcluster-start-{uuid}.lock"
    return f"{home}/.ssh/kvmcluster-start-{uuid}-{node}.lock"


def _command(cluster: Cluster, here: str, node: str, uuid: str, seconds: float) -> list[str]:
    account, is_root = accounts.account(cluster.ssh.login), cluster.ssh.is_root
    home = account.home if node == here else "."
    line = command(lock_path(is_root, home, node, uuid), here, seconds)
    if node != here:
        line = [*cluster.ssh.becomes_root, *line]
        return ssh.over(cluster.nodes[node].migration, line, RESPONSE_TIME)
    return line if is_root else ["runuser", "-u", account.login, "--", *line]
