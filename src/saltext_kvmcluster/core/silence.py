"""Which nodes a job is still waited for on, and which were silent a moment ago.

A node is silent that gave no sign of life for a time after it was asked for one: neither its
return, nor that its job runs. Silence is not absence; what such a node returns later counts.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable

FIRST = 2.0
"""Seconds without a return until a node is asked whether the job runs there."""
AGAIN = 2.5
"""Seconds until it is asked again, if it did not respond."""
BUSY = 10.0
"""Seconds until one is asked again on which the job runs."""
DOUBT = 3.0
"""Seconds without any sign of life after which others may look after a node."""
LIMIT = 10.0
"""Seconds without any sign of life after which a node is silent."""
LOOKED_AFTER = 7.0
"""The same where others have looked after such nodes meanwhile."""
BRIEF = 3.0
"""The same of a node that was silent a moment ago, which is asked whether the job runs at once."""
MEMORY = 30.0
"""Seconds for which that is remembered; then the node is waited for in full again."""


class Wait:
    """A job on nodes that have not returned yet; times are in seconds by any one clock."""

    def __init__(
        self, nodes: Iterable[str], now: float, limit: float, silent: Collection[str] = ()
    ) -> None:
        """Begin when the job is sent.

        limit
            Seconds without a sign of life after which a node is silent.
        silent
            The nodes that were silent a moment ago.
        """
        self._limits = {node: BRIEF if node in silent else limit for node in nodes}
        self._unheard: dict[str, float | None] = dict.fromkeys(self._limits, now)
        self._due = {node: now + (0.0 if node in silent else FIRST) for node in self._limits}
        self._limit = limit

    def returned(self, node: str) -> None:
        """Note that a node has returned."""
        self._unheard.pop(node, None)
        self._due.pop(node, None)

    def running(self, node: str, now: float) -> None:
        """Note that the job runs on a node."""
        if node in self._unheard:
            self._unheard[node] = None
            self._due[node] = now + BUSY
            self._limits[node] = self._limit

    def to_be_asked(self, now: float) -> list[str]:
        """Return the nodes that are to be asked now whether the job runs; they count as asked."""
        due = [node for node, when in self._due.items() if now >= when]
        for node in due:
            self._due[node] = now + AGAIN
            if self._unheard[node] is None:
                self._unheard[node] = now
        return due

    def unheard(self, now: float, seconds: float) -> list[str]:
        """Return the nodes without a sign of life for so many seconds."""
        return [
            node
            for node, since in self._unheard.items()
            if since is not None and now - since >= seconds
        ]

    def silent(self, now: float) -> list[str]:
        """Return the nodes that are silent."""
        return [
            node
            for node, since in self._unheard.items()
            if since is not None and now - since >= self._limits[node]
        ]

    def is_over(self, now: float) -> bool:
        """Whether nobody is left who may still return."""
        return len(self.silent(now)) == len(self._unheard)


class Memory:
    """Which nodes were silent a moment ago."""

    def __init__(self) -> None:
        self._since: dict[str, float] = {}

    def silent(self, now: float) -> set[str]:
        """Return the nodes that need not be waited for in full again."""
        return {node for node, since in self._since.items() if now - since < MEMORY}

    def note(self, silent: Iterable[str], heard: Iterable[str], now: float) -> None:
        """Note who was silent, and who gave a sign of life."""
        known = self.silent(now)
        self._since |= {node: now for node in silent if node not in known}
        for node in heard:
            self._since.pop(node, None)


def limit(timeout: float, looked_after: bool) -> float:
    """Return the limit for silence.

    timeout
        Salt's own, of the master: where it is longer, it is somebody's wish.
    """
    return max(LOOKED_AFTER if looked_after else LIMIT, timeout)
