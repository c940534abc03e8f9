"""A question that is put to nodes again and again, and by which no node is waited for.

A node that has not answered is asked again ever more seldom: what hangs there shall not pile up. So
is one that answers by an error, which its minion logs each time.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

PATIENCE = 10.0
"""Seconds without an answer after which a node counts as silent."""
FIRST, LONGEST = 10.0, 60.0
"""Seconds until a node without an answer, or data, is asked again: at first, and at most."""
MOST = 4
"""How many unanswered jobs of a node are still looked at."""
SHARE, NODES = 8, 1000
"""The returns of a job are read again after this part of its age, and after a second for so many
nodes: each time the master reads a file for each of them."""


@dataclass
class Inquiry:
    """One question, and by node what is known of its answer.

    ``every``: seconds between two questions to a node that answers. ``heard``: when a node answered
    last; ``unanswered``: the jobs that it has not answered, each with when it was sent.
    """

    nodes: Sequence[str]
    every: float
    answers: dict[str, object] = field(default_factory=dict)
    heard: dict[str, float] = field(default_factory=dict)
    unanswered: dict[str, list[tuple[str, float]]] = field(default_factory=dict)
    _asked: dict[str, float] = field(default_factory=dict)
    _read: dict[str, float] = field(default_factory=dict)

    def due(self, now: float) -> list[str]:
        """Return the nodes that are to be asked now."""
        return [
            node
            for node in self.nodes
            if node not in self._asked or now - self._asked[node] >= self._pause(node)
        ]

    def sent(self, job: str, nodes: Sequence[str], now: float) -> None:
        """Take in that nodes were asked by a job."""
        for node in nodes:
            self._asked[node] = now
            self.unanswered[node] = [*self.unanswered.get(node, ()), (job, now)][-MOST:]

    def jobs(self) -> list[str]:
        """Return the jobs that some node has not answered."""
        return list(dict.fromkeys(job for jobs in self.unanswered.values() for job, _ in jobs))

    def to_read(self, now: float) -> list[str]:
        """Return the jobs that some node has not answered, and whose returns are to be read now."""
        sent = {job: at for jobs in self.unanswered.values() for job, at in jobs}
        found = [
            job
            for job, at in sent.items()
            if now - self._read.get(job, at) >= max((now - at) / SHARE, len(self.nodes) / NODES)
        ]
        self._read = {job: self._read[job] for job in sent if job in self._read}
        self._read |= dict.fromkeys(found, now)
        return found

    def take(self, job: str, returned: Mapping[str, object], now: float) -> list[str]:
        """Take in what nodes have returned for a job; return those that had not answered it."""
        fresh = [
            node
            for node in returned
            if any(job == known for known, _ in self.unanswered.get(node, ()))
        ]
        for node in fresh:
            self.answers[node], self.heard[node] = returned[node], now
            del self.unanswered[node]
        return fresh

    def forget(self, job: str) -> None:
        """Take in that a job was never sent."""
        for node, jobs in list(self.unanswered.items()):
            if any(job == known for known, _ in jobs):
                self.unanswered[node] = [one for one in jobs if one[0] != job]
                self._asked.pop(node, None)
                if not self.unanswered[node]:
                    del self.unanswered[node]

    def waits_since(self, node: str) -> float | None:
        """Return since when an answer of a node is missing, None if none is."""
        jobs = self.unanswered.get(node)
        return jobs[0][1] if jobs else None

    def is_answered(self) -> bool:
        """Whether every node was asked, and has answered."""
        return not self.unanswered and self._asked.keys() >= {*self.nodes}

    def _pause(self, node: str) -> float:
        tries = len(self.unanswered.get(node, ()))
        if not tries and isinstance(self.answers.get(node), Mapping):
            return self.every
        return max(self.every, min(FIRST * (1 << max(0, tries - 1)), LONGEST))
