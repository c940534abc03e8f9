"""What of Salt's states runs on a node, and what waits there."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from saltext_kvmcluster.core.errors import InputError
from saltext_kvmcluster.core.facts.node_report import NO_RETURN
from saltext_kvmcluster.core.text import listed, one_line
from saltext_kvmcluster.core.untrusted import Reader

STATES = "state."
"""How the functions begin that exclude each other, as ``state.running`` counts them."""
_JOB = re.compile(r"\d{20}(_\d+)?")
_QUEUED = re.compile(r"(?:queued|running)_\d+_(.+)\.p")
_TAKEN = "running_"
"""How the file is named of a job that is taken from a queue, until it is seen to run."""


@dataclass(frozen=True)
class StateJob:
    """A job that runs, or waits in a queue; ``path`` is the queue's file."""

    jid: str
    what: str
    path: str = ""

    @property
    def _is_taken(self) -> bool:
        return self.path.rpartition("/")[2].startswith(_TAKEN)

    @property
    def detail(self) -> str:
        """What it is, as part of a sentence."""
        if self._is_taken:
            return f"{self.what} is about to begin, job {self.jid}, by {self.path}"
        if self.path:
            return f"{self.what} waits in Salt's queue, job {self.jid}, in {self.path}"
        return f"{self.what} runs, job {self.jid}"

    def remedy(self, node: str) -> str:
        """How to be rid of it."""
        if self._is_taken:
            return (
                f"if it does not begin, its minion was killed meanwhile: on {node}: rm {self.path}"
            )
        if self.path:
            return f"it begins as soon as nothing else runs; to drop it, on {node}: rm {self.path}"
        return f"wait for its end, or end it: salt {node} saltutil.kill_job {self.jid}"


@dataclass(frozen=True)
class NodeJobs:
    """A node's answer, or that there is none that is valid: ``said`` is what it said instead.

    ``returned``: what ended jobs returned, by id, as far as it was kept. ``unseen``: whether a job
    may wait there where nobody sees it.
    """

    jobs: tuple[StateJob, ...] = ()
    returned: Mapping[str, Any] = field(default_factory=dict)
    answered: bool = True
    said: str = ""
    unseen: bool = False

    def has(self, jid: str) -> bool:
        """Whether a job runs or waits."""
        return any(job.jid == jid for job in self.jobs)


def job_id(value: object) -> str:
    """Return a job's id; InputError for what is none."""
    if isinstance(value, int) and not isinstance(value, bool):
        value = str(value)
    if isinstance(value, str) and _JOB.fullmatch(value):
        return value
    raise InputError(f"job: want the id of a job, 20 digits, got {one_line(str(value), 40)}")


def job_ids(value: object) -> list[str]:
    """Return the ids of jobs, of which one may come by itself, as typed at a command line."""
    if value is None:
        return []
    return [job_id(one) for one in (value if isinstance(value, (list, tuple)) else (value,))]


def queued_id(name: str) -> str | None:
    """Return the id of the job that a file of this name in a queue holds; None if it holds none.

    ``queued_TIME_JOB.p``, by ``_check_queue`` of Salt's modules/state.py and ``_queue_job`` of its
    minion.py; 3006.28's ``_process_state_queue_async_impl`` renames it to ``running_TIME_JOB.p``
    until the job has a file in the folder ``proc``.
    """
    found = _QUEUED.fullmatch(name)
    return found.group(1) if found else None


def row(jid: object, held: object, path: str = "") -> dict[str, str] | None:
    """Return one job as a node reports it; None if it is no state's.

    held
        What Salt holds of it: the content of its file in the folder ``proc``, or in a queue. What
        cannot be read counts as a state's.
    """
    content = held if isinstance(held, Mapping) else {}
    functions = content.get("fun", STATES)
    names = functions if isinstance(functions, (list, tuple)) else [functions]
    if not any(str(name).startswith(STATES) for name in names):
        return None
    words = [name for name in content.get("arg") or () if isinstance(name, str)]
    what = ",".join(map(str, names)) if functions != STATES else "a state"
    text = one_line(" ".join([what, *words[:1]]), 100)
    return {"jid": str(jid), "what": text, "path": path}


def parse(answer: object) -> NodeJobs:
    """Return what a node answered."""
    sent = Reader(answer, lenient=True)
    if not (isinstance(sent.at("running").value, list) and sent.has("waiting")):
        said = answer if isinstance(answer, str) and not answer.startswith(NO_RETURN) else ""
        return NodeJobs(answered=False, said=one_line(said))
    rows = [*sent.at("running").items(optional=True), *sent.at("waiting").items(optional=True)]
    jobs = tuple(
        StateJob(
            one.at("jid").line("?", 40), one.at("what").line("a state"), one.at("path").line("")
        )
        for one in rows
    )
    kept = {jid: one.value for jid, one in sent.at("returned").fields(optional=True).items()}
    return NodeJobs(jobs, kept, unseen=sent.at("unseen").flag(False))


def busy(jobs: Iterable[StateJob], node: str) -> str:
    """Return what runs and waits on a node, and what to do about the first; empty if nothing."""
    known = list(jobs)
    if not known:
        return ""
    details = listed((job.detail for job in known), 3)
    return f"on {node} {details}; {known[0].remedy(node)}"


def refuse_reboot(rows: Iterable[Mapping[str, Any]], node: str) -> None:
    """Raise InputError if states run or wait on a node: a reboot would cut them, or begin them."""
    found = parse({"running": list(rows), "waiting": []})
    detail = busy(found.jobs, node)
    if detail:
        raise InputError(f"{detail}; {node} is not rebooted")
