"""How long a job of states is waited for and followed, and when its end is known.

A minion that is stopped gets a job when it goes on, and begins it then; Salt removes a job's file
in the folder ``proc`` before it sends the return. So a job that is not seen is not over until its
node has answered without it for some time, and a node without an answer says nothing.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from saltext_kvmcluster.core.applying import running
from saltext_kvmcluster.core.applying.running import NodeJobs
from saltext_kvmcluster.core.errors import InputError
from saltext_kvmcluster.core.text import one_line

WAIT = 600.0
"""Seconds to wait until nothing of Salt's runs or waits on a node."""
SOON = 60.0
"""The same before a node is uncordoned, which a person waits for."""
SILENT = 30.0
"""Seconds without an answer after which nothing is begun on a node."""
LOST = 600.0
"""Seconds without an answer after which a job on a node is no longer followed."""
GRACE = 60.0
"""Seconds that a node answers without a job before the job counts as over: the return may be on its
way (``return_retry_tries`` times ``return_retry_timer_max``, 30), or the job be about to begin."""

_UNSEEN = (
    "this release of Salt with process_count_max holds jobs back where nobody sees them; a restart"
    " of its minion drops them; to forget it then: salt-run cache.flush kvmcluster/applied/CLUSTER"
    " {node}"
)
_CONFLICT = re.compile(r'The function "[^"]*" is running as PID .* with jid \S+', re.DOTALL)


@dataclass(frozen=True)
class Begun:
    """An SLS that was sent to a node, whose end is not known: what the master remembers."""

    jid: str
    what: str

    def to_dict(self) -> dict[str, str]:
        """Return it as plain data, for ``begun``."""
        return {"jid": self.jid, "what": self.what}


def begun(data: object) -> Begun | None:
    """Return what was remembered; None if it cannot be read."""
    known = data if isinstance(data, Mapping) else {}
    try:
        return Begun(running.job_id(known.get("jid")), one_line(str(known.get("what"))))
    except InputError:
        return None


def is_conflict(returned: object) -> bool:
    """Whether Salt did nothing, since another state runs: ``running`` in its modules/state.py."""
    return (
        isinstance(returned, list)
        and bool(returned)
        and all(isinstance(line, str) and _CONFLICT.match(line) for line in returned)
    )


@dataclass(frozen=True)
class Watched:
    """What was observed of one node. Times are of the monotonic clock, ``since``: the beginning.

    ``job``: what was begun there, as far as its end is not known. ``heard``: the last answer.
    ``absent``: since when the node answers without that job, and was not silent for long. ``busy``:
    what runs or waits there.
    ``steady``: whether nothing does, by the first look, or by two in a row. ``said``: what it said
    last instead of an answer, such as that it lacks the function. ``unseen``: whether a job may
    wait there unseen: then one without a result is never over.
    """

    node: str
    since: float
    job: Begun | None = None
    heard: float | None = None
    absent: float | None = None
    busy: str = ""
    steady: bool = False
    said: str = ""
    unseen: bool = False

    def looked(self, found: NodeJobs, now: float) -> Watched:
        """Return it with one more answer, or none."""
        if not found.answered:
            return replace(self, steady=False, said=found.said)
        busy = running.busy(found.jobs, self.node)
        is_absent = self.job is not None and not found.has(self.job.jid)
        # A minion that was stopped goes on with what was about to begin.
        is_new = self.absent is None or self.silence(now) >= SILENT
        return replace(
            self,
            heard=now,
            absent=(now if is_new else self.absent) if is_absent else None,
            busy=busy,
            steady=not busy and not self.busy,
            unseen=found.unseen,
        )

    def silence(self, now: float) -> float:
        """Return for how many seconds the node has not answered."""
        return now - (self.since if self.heard is None else self.heard)

    def is_gone(self, now: float) -> bool:
        """Whether the job that was begun there is over without a result."""
        return self.absent is not None and now - self.absent >= GRACE and not self.unseen

    def is_lost(self, now: float) -> bool:
        """Whether the node has been silent, or its job unseen, for too long to follow it."""
        is_unseen = self.unseen and self.absent is not None and now - self.absent >= LOST
        return self.silence(now) >= LOST or is_unseen

    def is_idle(self) -> bool:
        """Whether an SLS may be applied."""
        return self.steady and self.job is None

    def hindrance(self, now: float, limit: float) -> str:
        """Return why nothing is begun on the node, once it is no longer waited for."""
        waited = now - self.since
        if self.silence(now) >= SILENT and (self.heard is None or waited >= limit):
            silent = self.said or f"no response from the minion of {self.node}"
            return f"{silent}; {_unknown(self.node, self.job)}"
        if self.busy and waited >= limit:
            return f"{self.busy}; waited {waited:.0f} s"
        if self.job and waited >= limit + 2 * GRACE:
            forget = f"; {_UNSEEN.format(node=self.node)}" if self.unseen else ""
            return f"{may_still_run(self.node, self.job)}{forget}"
        return ""

    def waits_for(self, now: float) -> str:
        """Return what is waited for, for a person."""
        if self.heard is None or self.silence(now) >= SILENT:
            return f"an answer of {self.node}"
        if self.job and self.absent is not None:
            return f"the result of {self.job.what} on {self.node}, job {self.job.jid}"
        return self.busy or f"{self.node} to stay idle"


def _unknown(node: str, job: Begun | None) -> str:
    if job is None:
        return f"what of Salt's runs there is not known; on {node}: systemctl status salt-minion"
    return may_still_run(node, job)


def may_still_run(node: str, job: Begun) -> str:
    """Return that a job's end is not known, and what to do."""
    return (
        f"may still run or wait: job {job.jid} ({job.what}) on {node}; keep {node} cordoned until"
        f" its minion answers; what runs and waits there: salt {node} kvmcluster.state_jobs; its"
        f" result: salt-run jobs.lookup_jid {job.jid}"
    )


def ended_without(node: str, job: Begun) -> str:
    """Return that a job is over, and left no result."""
    return (
        f"job {job.jid} ({job.what}) on {node} is over without a result: it neither runs nor waits"
        " there; it was killed, as by a reboot, or never arrived; what it did is not known; the"
        " same command applies it again"
    )


def returned(job: Begun, filed: object, found: NodeJobs | None) -> tuple[Any] | None:
    """Return what a job returned, in a tuple, from the job cache or from the node; None if nothing.

    filed
        What the job cache holds of the node; None if nothing.
    """
    if filed is not None:
        return (filed,)
    if found and job.jid in found.returned:
        return (found.returned[job.jid],)
    return None
