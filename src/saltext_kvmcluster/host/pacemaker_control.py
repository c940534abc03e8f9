"""Pacemaker's tools that change something, on this node or on a peer."""

from __future__ import annotations

from collections.abc import Sequence

from saltext_kvmcluster.core.errors import WorldError
from saltext_kvmcluster.core.ha import crm_tools, holds
from saltext_kvmcluster.core.ha.holds import Edit, Hold
from saltext_kvmcluster.core.pacemaker import fenced
from saltext_kvmcluster.core.text import one_line
from saltext_kvmcluster.host.commands import Outcome
from saltext_kvmcluster.host.ssh import Session

_KEY = "done"
_SPARE = 10.0


class Control:
    """Pacemaker, driven through the tools of the node of a shell.

    All methods raise WorldError if it was not done, or that is not known.
    """

    def __init__(self, shell: Session) -> None:
        self._shell = shell

    def hold(self, resource: str, hold: Hold) -> bool:
        """Hold a resource; return False if it is held already, or there is none."""
        return self._edited(holds.created(resource, hold))

    def release(self, resource: str, mark: str) -> None:
        """End the hold of that mark; cibadmin does not tell whether there was one."""
        self._edited(holds.deleted(resource, mark))

    def standby(self, node: str, number: str, mark: str) -> bool:
        """Put a node on standby; return False if it is by us already."""
        return self._edited(holds.standby_on(node, number, mark))

    def end_standby(self, node: str, number: str) -> None:
        """End our own standby of a node; cibadmin does not tell whether there was one."""
        self._edited(holds.standby_off(node, number))

    def refresh(self, resource: str) -> None:
        """Have every node forget a resource's history, and look for it anew."""
        self._checked(crm_tools.refresh(resource), crm_tools.REFRESH)

    def wait(self, seconds: float) -> None:
        """Wait until Pacemaker has nothing left to do."""
        self._checked(crm_tools.wait(seconds), seconds)

    def want(self, resource: str, role: str) -> None:
        """Set whether a resource is to run: its target-role."""
        self._checked(crm_tools.role(resource, role), crm_tools.SECONDS)

    def monitor(self, device: str) -> int | None:
        """Ask a fence device whether it responds; return the exit code, None if it was killed."""
        return self._ran(crm_tools.monitor(device), crm_tools.MONITOR + crm_tools.SPARE).code

    def fence(self, node: str) -> int | None:
        """Have a node fenced, and wait for it; return the exit code, None if it was killed."""
        return self._ran(crm_tools.fence(node), crm_tools.FENCE).code

    def fencer_log(self) -> str:
        """Return the end of the log of this node's fencer; empty if there is none."""
        return self._ran(crm_tools.fencer_log(fenced.LOG), crm_tools.SECONDS).stdout

    def _edited(self, change: Edit) -> bool:
        done = self._ran(crm_tools.edit(change), crm_tools.SECONDS)
        if done.code not in (0, crm_tools.MISSED):
            raise self._failed("cibadmin", done)
        return done.code == 0

    def _checked(self, command: Sequence[str], seconds: float) -> None:
        done = self._ran(command, seconds)
        if done.code != 0:
            raise self._failed("crm_resource", done)

    def _ran(self, command: Sequence[str], seconds: float) -> Outcome:
        return self._shell.run_all({_KEY: command}, seconds + _SPARE)[_KEY]

    def _failed(self, program: str, done: Outcome) -> WorldError:
        ended = "killed" if done.code is None else f"exit code {done.code}"
        detail = one_line(done.stderr) or one_line(done.stdout) or ended
        return WorldError(f"{program} on {self._shell.name or 'this node'} failed: {detail}")
