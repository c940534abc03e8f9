"""A cluster watched: its nodes are asked again and again, and nobody is waited for."""

from __future__ import annotations

import math
import threading
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any, Protocol

from saltext_kvmcluster.core.errors import WorldError
from saltext_kvmcluster.core.migration import jobs, records
from saltext_kvmcluster.core.watching import view
from saltext_kvmcluster.core.watching.inquiry import PATIENCE, Inquiry
from saltext_kvmcluster.core.watching.view import View
from saltext_kvmcluster.host import bootid
from saltext_kvmcluster.master import rollings, runs
from saltext_kvmcluster.master.looks import Looks
from saltext_kvmcluster.master.nodes import SaltNodes
from saltext_kvmcluster.master.outbox import Outbox
from saltext_kvmcluster.master.pillars import Functions

STEP = 0.25
RUNS = 1.0
"""Seconds between two looks at the runs of this master."""
HISTORY, AGAIN = 20, 20.0
"""Of how many migrations a node is asked how they ended; seconds until it is asked again."""
LOST, RETRY = 60.0, 5.0
"""Seconds without a master after which the watching ends, and between two attempts to reach it."""
ONCE = 40.0
"""Seconds that one look takes at most."""


class Display(Protocol):
    """What shows a view."""

    def show(self, data: Mapping[str, Any]) -> None:
        """Show it in place of the last one."""


class Watch:
    """A cluster that is watched.

    interval
        Seconds between two questions about migrations.
    """

    def __init__(
        self, nodes: SaltNodes, functions: Functions, interval: float, outbox: Outbox
    ) -> None:
        self._nodes, self._clock, self._functions = nodes, nodes.clock, functions
        self._outbox = outbox
        self._jobs, self._looks = Inquiry(nodes.all, interval), Looks(nodes, outbox)
        self._past = Inquiry((), math.inf)
        self._began, self._began_at = self._clock.monotonic(), self._clock.now()
        self._missed: dict[str, Mapping[str, Any]] = {}
        self._covered: dict[str, set[str]] = {}
        self._ended: list[Mapping[str, Any]] = []
        self._rows: list[dict[str, Any]] = []
        self._runs: list[dict[str, Any]] = []
        self._runs_at = -math.inf
        self._tried = -math.inf

    def until(
        self, display: Display, interrupted: threading.Event, limit: float | None, once: bool
    ) -> dict[str, Any]:
        """Show how it is until interrupted, or the seconds are over; return what was seen last."""
        while True:
            data = self._step().to_dict()
            display.show(data)
            passed = self._clock.monotonic() - self._began
            is_over = once and (self._is_complete() or passed >= ONCE)
            if is_over or interrupted.is_set() or (limit is not None and passed >= limit):
                return data
            if (lost := self._outbox.lost()) and self._clock.monotonic() - lost[0] >= LOST:
                raise WorldError(f"{lost[1]}, for {LOST:g} s; is salt-master running?")
            interrupted.wait(STEP)

    def _step(self) -> View:
        now = self._clock.monotonic()
        for job in self._outbox.refused():
            for inquiry in (self._jobs, self._past, self._looks):
                inquiry.forget(job)
        if self._outbox.lost():
            # Answers to what was asked before may be lost with it.
            self._jobs.unanswered.clear()
        if self._outbox.is_free() and (not self._outbox.lost() or now - self._tried >= RETRY):
            self._tried = now
            self._ask(now)
            self._looks.step()
        self._take(now)
        if now - self._runs_at >= RUNS:
            self._runs, self._runs_at = self._published(), now
        return self._view(now)

    def _ask(self, now: float) -> None:
        """Send what is due: one job for all nodes, and one for those where a migration ended."""
        due = self._jobs.due(now)
        if due:
            self._jobs.sent(self._outbox.send(due, "kvmcluster.job"), due, now)
        pending = {str(row["source"]) for row in self._missed.values()} & {*self._nodes.all}
        sources = [node for node in sorted(pending) if self._is_to_tell(node, now)]
        if sources:
            job = self._outbox.send(sources, "kvmcluster.history", None, HISTORY)
            self._past.sent(job, sources, now)
            self._covered |= {node: {*self._missed} for node in sources}

    def _is_to_tell(self, node: str, now: float) -> bool:
        """Whether a node is to be asked how its migrations ended."""
        since = self._past.waits_since(node)
        return (since is None or now - since >= AGAIN) and node not in self._silent(now)

    def _take(self, now: float) -> None:
        """Take in what nodes have returned."""
        for job in self._jobs.to_read(now):
            self._jobs.take(job, self._nodes.returns(job), now)
        before, rows = self._rows, view.migrations(self._jobs.answers, self._silent(now))
        self._missed = view.missed({**self._missed, **view.gone(before, rows)}, rows)
        self._rows = rows
        for job in self._past.to_read(now):
            for node in self._past.take(job, self._nodes.returns(job), now):
                self._take_history(node)

    def _take_history(self, node: str) -> None:
        """Take in how migrations from a node ended.

        What had ended before it was asked, and it does not tell, is not asked again.
        """
        answer = self._past.answers[node]
        rows = answer.get("history") if isinstance(answer, Mapping) else None
        found = records.chosen(rows, None, HISTORY) if isinstance(rows, list) else []
        ends = view.ends(found, self._missed)
        self._ended = [*self._ended, *ends][-view.NEWEST :]
        self._missed = view.missed(self._missed, ends)
        covered = self._covered.pop(node, set())
        told = {uuid for uuid, row in self._missed.items() if row["source"] == node}
        for uuid in told & covered:
            del self._missed[uuid]

    def _silent(self, now: float) -> dict[str, datetime]:
        """Return the nodes that do not answer, with when they were heard last, or this began.

        While the master is lost nothing is known of that.
        """
        found: dict[str, datetime] = {}
        if self._outbox.lost():
            return found
        for node in self._nodes.all:
            since = self._jobs.waits_since(node)
            if since is not None and now - since >= PATIENCE:
                heard = self._jobs.heard.get(node, self._began)
                found[node] = self._clock.now() - timedelta(seconds=now - heard)
        return found

    def _published(self) -> list[dict[str, Any]]:
        known = runs.published(self._nodes.opts, self._nodes.cluster.name)
        course = rollings.observed(self._nodes.cluster, self._functions)
        processes = {run.process for run in known} | ({course[0].process} if course else set())
        alive = {process for process in processes if bootid.is_alive(process)}
        return view.run_rows(known, alive, course)

    def _view(self, now: float) -> View:
        silent, look = self._silent(now), self._looks.last
        gone = [view.gone_row(row, silent) for row in self._missed.values()]
        moving = [row for row in self._rows if row["phase"] != jobs.QUEUED]
        status, facts = (look.status.nodes, look.facts) if look else ({}, {})
        current = {
            node for node in facts if look and (node not in silent or look.at > silent[node])
        }
        lost = self._outbox.lost()
        lost_at = self._clock.now() - timedelta(seconds=now - lost[0]) if lost else None
        return View(
            self._nodes.cluster.name,
            self._clock.now(),
            {
                node: view.node_row(
                    self._jobs.answers.get(node),
                    silent.get(node),
                    facts.get(node) if node in current else None,
                    status.get(node) if node in current else None,
                )
                for node in self._nodes.all
            },
            [*moving, *gone],
            [row for row in self._rows if row["phase"] == jobs.QUEUED],
            self._ended,
            self._runs,
            look.status.problems if look else None,
            look.at if look else None,
            f"{lost[1]}, since {lost_at:%H:%M:%S} UTC" if lost else "",
        )

    def _is_complete(self) -> bool:
        now = self._clock.monotonic()
        silent = self._silent(now)
        return self._looks.last is not None and all(
            node in silent or node in self._jobs.answers for node in self._nodes.all
        )
