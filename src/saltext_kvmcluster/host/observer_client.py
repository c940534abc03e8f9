"""The minion's side of watching its node: asks the lookout, remembers, and says what changed.

The lookout is a process of its own (see there), so that a look costs the minion one line to and
one from a pipe, and a daemon or a disk that hangs cannot hold it up.
"""

from __future__ import annotations

import contextlib
import json
import sys
import time
from collections.abc import Callable, Mapping
from typing import Any

from saltext_kvmcluster.core.errors import WorldError
from saltext_kvmcluster.core.events import events, transitions
from saltext_kvmcluster.core.events.transitions import Event, Observation
from saltext_kvmcluster.host import commands

# Seconds for an answer; and for one that was waited for in vain, since it may be there by now.
LATEST, GLANCE = 1.0, 0.01
SILENT = 60.0
# Seconds from one start of the lookout to the next, should it end.
AGAIN = 30.0
OBSERVER = "saltext_kvmcluster.host.observer"
LIMIT = 16 * 1024 * 1024
# Events that are kept while none can be fired.
UNTOLD = 1000

Fire = Callable[[str, dict[str, Any]], object]


class ObserverClient:
    """What one minion knows of its node. It lives as long as the minion, whatever is reloaded.

    ``trouble`` is for whoever asks it to look: what was in the way last.
    """

    def __init__(self) -> None:
        self._end = contextlib.ExitStack()
        self._lookout: commands.Held | None = None
        self._started = -AGAIN
        self._asked: tuple[object, ...] | None = None
        self._waits = 0.0
        self._seen = Observation()
        self._untold: list[tuple[str, dict[str, Any]]] = []
        self._ended = ""
        self.trouble = ""

    def observe(self, cluster: str, node: str, pillar: Mapping[str, Any], fire: Fire) -> None:
        """Look once, and fire an event for each thing that changed.

        cluster, node
            The cluster's name, and this node's minion id.
        pillar
            The pillar's ``kvmcluster`` part, which is known to be good.
        fire
            Takes a tag and data, and returns False where the event cannot be fired; then it is
            fired at a later look.

        WorldError if nothing could be seen.
        """
        try:
            for reported in self._transitions(node, pillar):
                tag = events.tag(cluster, reported.kind, node, reported.guest)
                self._untold.append((tag, events.small(reported.data)))
        finally:
            del self._untold[:-UNTOLD]
            while self._untold and fire(*self._untold[0]) is not False:
                del self._untold[0]

    def close(self) -> None:
        """End the lookout. What was seen is kept: a later look begins a new one."""
        self._lookout = None
        self._end.close()

    def _transitions(self, node: str, pillar: Mapping[str, Any]) -> list[Event]:
        if self._lookout is None:
            self._start()
        assert self._lookout is not None
        answer = self._answer(node, pillar)
        if answer is None:
            return []
        observation = _read(answer)
        if observation:
            self._seen, reported = transitions.compare(self._seen, observation)
            return reported
        return []  # It is there, and may be asked.

    def _start(self) -> None:
        if time.monotonic() < self._started + AGAIN:
            raise WorldError(self._ended)
        self._started = time.monotonic()
        # Salt finds this package by its own path, which another Python need not have.
        code = f"# kvmcluster's lookout\nimport sys; sys.path[:] = {sys.path!r}; import runpy;"
        code += f" runpy.run_module({OBSERVER!r}, run_name='__main__')"
        held = commands.held([sys.executable, "-c", code], LIMIT)
        try:
            self._lookout = self._end.enter_context(held)
        except WorldError as error:
            self._ended = str(error)
            raise
        self._asked, self._waits = None, self._started

    def _answer(self, node: str, pillar: Mapping[str, Any]) -> str | None:
        """Return the lookout's answer, None if it takes longer; WorldError if it ended."""
        assert self._lookout is not None
        question = (node, pillar)
        reported, patience = "", GLANCE
        if not self._waits:
            is_new = question != self._asked
            asked = {"node": node, "pillar": pillar} if is_new else {}
            reported, patience = f"{json.dumps(asked)}\n", LATEST
            self._asked, self._waits = question, time.monotonic()
        answer = self._lookout.answer(reported, "\n", patience)
        if answer is not None:
            self._waits = 0.0
            return answer
        outcome = self._lookout.outcome()
        if outcome.code is None:
            if time.monotonic() > self._waits + SILENT:
                raise WorldError(
                    f"the lookout has not answered for {SILENT:g} s: a disk or a name service hangs"
                )
            return None
        self.close()
        detail = outcome.stderr.strip()[-500:] or "it said nothing"
        self._ended = f"the lookout ended, and is begun anew within {AGAIN:g} s: {detail}"
        raise WorldError(self._ended)


def _read(answer: str) -> Mapping[str, Any]:
    try:
        observation = json.loads(answer)
    except ValueError:
        observation = None
    if not isinstance(observation, dict):
        raise WorldError(f"the lookout said what is no look: {answer[:200]!r}")
    return observation


WATCHER = ObserverClient()
