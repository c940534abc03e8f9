"""What somebody who watches a cluster sees at one moment, as a value."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from saltext_kvmcluster.core.drain.progress import BatchProgress
from saltext_kvmcluster.core.drain.rolling import Course, Rolling
from saltext_kvmcluster.core.drain.runs import Run
from saltext_kvmcluster.core.facts.nodefacts import NodeFacts
from saltext_kvmcluster.core.migration import jobs
from saltext_kvmcluster.core.ownership import locations

SILENT, ASKED, OK = "silent", "asked", "ok"
"""States of a node: it does not answer; it was not heard yet, and has time left; it answers."""
NEWEST = 10
"""Migrations that ended, of those that were seen under way."""


@dataclass(frozen=True)
class View:
    """A cluster at one moment.

    ``nodes`` are rows by node. ``moving`` and ``queue`` are rows of ``kvmcluster.job``, ``ended``
    rows of ``kvmcluster.history``. ``problems`` are those of the last status, None before one was
    seen, and ``status_at`` is when that was. ``runs``: what runs on this master.
    """

    cluster: str
    at: datetime
    nodes: Mapping[str, Mapping[str, Any]]
    moving: Sequence[Mapping[str, Any]] = ()
    queue: Sequence[Mapping[str, Any]] = ()
    ended: Sequence[Mapping[str, Any]] = ()
    runs: Sequence[Mapping[str, Any]] = ()
    problems: Sequence[str] | None = None
    status_at: datetime | None = None
    master: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Return it as plain data."""
        return {
            "kind": "watch",
            "cluster": self.cluster,
            "ok": not self.master,
            "at": self.at.isoformat(timespec="seconds"),
            "nodes": {node: dict(row) for node, row in self.nodes.items()},
            "moving": [dict(row) for row in self.moving],
            "queue": [dict(row) for row in self.queue],
            "ended": [dict(row) for row in self.ended],
            "runs": [dict(row) for row in self.runs],
            "problems": None if self.problems is None else list(self.problems),
            "status_at": self.status_at.isoformat(timespec="seconds") if self.status_at else None,
            "master": self.master,
        }


def node_row(
    answer: object,
    silent_since: datetime | None,
    facts: NodeFacts | None,
    status: Mapping[str, Any] | None,
) -> dict[str, Any]:
    """Return a node as it is seen.

    answer
        What its ``kvmcluster.job`` returned last, None before it has.
    silent_since
        When it was heard last, or the watching began, if it does not answer now.
    facts, status
        What its facts, and the status made of them, said last; None before that, or if it has
        become silent since.
    """
    state, detail = OK, ""
    if silent_since:
        state, detail = SILENT, f"no answer since {silent_since:%H:%M:%S} UTC"
    elif answer is None:
        state = ASKED
    elif not _rows(answer):
        state, detail = "minion error", locations.silent(answer).observation.detail
    elif status and status["state"] == "unreachable":
        state, detail = "unreachable", facts.detail or facts.daemon_detail if facts else ""
    known = status or dict.fromkeys(("cordoned", "active", "guests", "free_kib", "memory_kib"))
    if facts and facts.cordoned and not detail:
        cordon = facts.cordoned[0]
        detail = f"since {cordon.since[:16].replace('T', ' ')} UTC: {cordon.reason}"
    keys = ("cordoned", "active", "guests", "free_kib", "memory_kib")
    return {"state": state, "detail": detail, **{key: known[key] for key in keys}}


def migrations(answers: Mapping[str, object], silent: Collection[str]) -> list[dict[str, Any]]:
    """Return the migrations that are under way, and those that wait, the first to begin first.

    answers
        By node, what its ``kvmcluster.job`` returned last. What a silent node said last is not
        what it does now.
    """
    told = {
        node: rows
        for node, answer in answers.items()
        if node not in silent and (rows := _rows(answer))
    }
    found = jobs.merged({node: rows["jobs"] for node, rows in told.items()})
    return sorted(found, key=lambda row: (str(row["source"]), row["slot"] or 0, row["guest"]))


def run_rows(
    runs: Iterable[Run], alive: Collection[str], course: tuple[Rolling, Course] | None
) -> list[dict[str, Any]]:
    """Return what runs on the master, and what was killed there.

    alive
        The identities of the processes that run.
    course
        A rolling run that has not done all nodes, and how far it is.
    """
    rows = []
    if course and course[0].process in alive:
        rows.append(
            {
                "name": " ".join(["rolling run", *course[0].sls]),
                "pid": course[0].process.partition(":")[0],
                "alive": True,
                "line": course[1].figures(),
                "remedy": "",
                "progress": {**course[1].to_dict(), "kind": "rolling"},
            }
        )
    for run in runs:
        is_alive = run.process in alive
        line = _figures(run.progress, is_alive) if run.progress else ""
        rows.append(
            {
                "name": run.name,
                "pid": run.pid,
                "alive": is_alive,
                "line": "; ".join(filter(None, [line, run.line])) or "begins",
                "remedy": "" if is_alive else _remedy(run),
                "progress": run.progress.to_dict() if run.progress else None,
            }
        )
    return rows


def _figures(progress: BatchProgress, is_alive: bool) -> str:
    """Return how far moves are; of a run that was killed nothing is expected."""
    return progress.figures() if is_alive else progress.done


def gone(
    before: Iterable[Mapping[str, Any]], now: Iterable[Mapping[str, Any]]
) -> dict[str, Mapping[str, Any]]:
    """Return the migrations that were under way, and are no longer, by UUID."""
    left = {row["uuid"] for row in now}
    return {str(row["uuid"]): row for row in before if row["uuid"] not in left and row["source"]}


def missed(
    known: Mapping[str, Mapping[str, Any]], now: Iterable[Mapping[str, Any]]
) -> dict[str, Mapping[str, Any]]:
    """Return those of the migrations that were missed which are not under way again."""
    there = {row["uuid"] for row in now}
    return {uuid: row for uuid, row in known.items() if uuid not in there}


def gone_row(row: Mapping[str, Any], silent: Collection[str]) -> dict[str, Any]:
    """Return the row of a migration that its node does not report, until it says how it ended."""
    phase = "source silent" if row["source"] in silent else "ended"
    named = {key: row[key] for key in ("guest", "uuid", "source", "destination")}
    return {**dict.fromkeys(row), **named, "phase": phase}


def ends(
    rows: Iterable[Mapping[str, Any]], missed: Mapping[str, Mapping[str, Any]]
) -> list[dict[str, Any]]:
    """Return how migrations ended that are no longer under way, by their node's history."""
    last = {str(row["uuid"]): dict(row) for row in rows}
    return [
        row
        for uuid, row in last.items()
        if uuid in missed
        and (row["source"], row["destination"])
        == (missed[uuid]["source"], missed[uuid]["destination"])
    ]


def _rows(answer: object) -> Mapping[str, Any] | None:
    known = isinstance(answer, Mapping) and isinstance(answer.get("jobs"), list)
    return answer if known else None  # type: ignore[return-value]


def _remedy(run: Run) -> str:
    """Return how a run goes on whose process was killed."""
    if run.command in ("drain", "undrain", "restore"):
        return f"salt-run kvmcluster.{run.command} {run.node}"
    return "the same command"
