"""Jobs that are sent without waiting for anything: neither for their answers, nor for the master.

Salt tries for long to reach a master that is lost. A thread of its own does so, and whoever sends
goes on, and learns which jobs were not taken.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from saltext_kvmcluster.core.errors import WorldError
from saltext_kvmcluster.master.nodes import SaltNodes

PROMPT = 5.0
"""Seconds in which a master takes a job; after them it counts as lost until it has."""
LAST = 20.0
"""Seconds to wait at the end for a job that is being sent: Python must not end amid Salt's sockets,
and what is sent tries three times for as long as ``SaltNodes.publish`` says."""


@dataclass(frozen=True)
class _Letter:
    job: str
    nodes: Sequence[str]
    function: str
    arguments: Sequence[Any]
    named: dict[str, Any]
    at: float


class Outbox:
    """Sends jobs to the nodes of a cluster, one after the other."""

    def __init__(self, nodes: SaltNodes) -> None:
        self._nodes, self._clock = nodes, nodes.clock
        self._letters: queue.SimpleQueue[_Letter | None] = queue.SimpleQueue()
        self._results: queue.SimpleQueue[tuple[_Letter, str]] = queue.SimpleQueue()
        self._open: list[_Letter] = []
        self._failing: float | None = None
        self._why = ""
        self._closed = False
        self._thread = threading.Thread(target=self._work, daemon=True)

    def send(self, nodes: Sequence[str], function: str, *arguments: Any, **named: Any) -> str:
        """Have nodes run a function; return the job."""
        if not self._thread.is_alive():
            self._thread.start()
        at = self._clock.monotonic()
        letter = _Letter(self._nodes.new_job(), nodes, function, arguments, named, at)
        self._open.append(letter)
        self._letters.put(letter)
        return letter.job

    def refused(self) -> list[str]:
        """Return the jobs that the master has not taken, since this was asked last."""
        found = []
        while not self._results.empty():
            letter, why = self._results.get()
            self._open.remove(letter)
            if why:
                found.append(letter.job)
                self._failing = letter.at if self._failing is None else self._failing
                self._why = why
            else:
                self._failing, self._why = None, ""
        return found

    def is_free(self) -> bool:
        """Whether everything that was sent has left."""
        return not self._open

    def lost(self) -> tuple[float, str] | None:
        """Return since when the master takes no jobs, and why; None if it does."""
        if self._failing is not None:
            return self._failing, self._why
        if self._open and self._clock.monotonic() - self._open[0].at >= PROMPT:
            return self._open[0].at, "the master does not take jobs"
        return None

    def close(self) -> None:
        """End the thread; what it has not sent is not sent."""
        self._closed = True
        self._letters.put(None)
        if self._thread.is_alive():
            self._thread.join(LAST)

    def _work(self) -> None:
        while (letter := self._letters.get()) and not self._closed:
            try:
                self._nodes.publish(
                    letter.job, letter.nodes, letter.function, letter.arguments, letter.named
                )
                why = ""
            except WorldError as error:
                why = str(error)
            except Exception as error:
                why = f"the master does not take jobs: {error!r}"
            self._results.put((letter, why))
