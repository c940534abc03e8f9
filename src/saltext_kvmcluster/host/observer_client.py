"""The minion's side of the beacon: queries the observer, and reports what changed.

The observer is a process of its own (see there), so that an observation costs the minion one line
to and one from a pipe, and a daemon or a disk that hangs cannot block it.
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

# Seconds to wait for a response; and for one that was late, which may be there by now.
RESPONSE_TIME, LATE_RESPONSE_TIME = 1.0, 0.01
# Seconds without a response after which it is an error.
SILENCE_LIMIT = 60.0
# Seconds from one start of the observer to the next, if it ends.
RESTART_INTERVAL = 30.0
OBSERVER = "saltext_kvmcluster.host.observer"
LIMIT = 16 * 1024 * 1024
# Events that are kept while none can be fired.
MAX_UNFIRED = 1000

Fire = Callable[[str, dict[str, Any]], object]


class ObserverClient:
    """A minion's last observation of its node. It outlives reloads of the beacon.

    ``error`` is the beacon's: the last error that it logged.
    """

    def __init__(self) -> None:
        self._end = contextlib.ExitStack()
        self._observer: commands.Held | None = None
        self._started = -RESTART_INTERVAL
        self._asked: tuple[object, ...] | None = None
        self._waiting_since = 0.0
        self._last = Observation()
        self._unfired: list[tuple[str, dict[str, Any]]] = []
        self._ended = ""
        self.error = ""

    def observe(self, cluster: str, node: str, pillar: Mapping[str, Any], fire: Fire) -> None:
        """Observe once, and fire an event for each change.

        cluster, node
            The cluster's name, and this node's minion id.
        pillar
            The pillar's ``kvmcluster`` part, which was validated.
        fire
            Takes a tag and data, and returns False if the event cannot be fired; then it is
            fired at a later observation.

        WorldError if nothing could be observed.
        """
        try:
            for event in self._transitions(node, pillar):
                tag = events.tag(cluster, event.kind, node, event.guest)
                self._unfired.append((tag, events.small(event.data)))
        finally:
            del self._unfired[:-MAX_UNFIRED]
            while self._unfired and fire(*self._unfired[0]) is not False:
                del self._unfired[0]

    def close(self) -> None:
        """End the observer. The last observation is kept; a later one starts a new observer."""
        self._observer = None
        self._end.close()

    def _transitions(self, node: str, pillar: Mapping[str, Any]) -> list[Event]:
        if self._observer is None:
            self._start()
        assert self._observer is not None
        answer = self._answer(node, pillar)
        if answer is None:
            return []
        observation = _parse(answer)
        if observation:
            self._last, changes = transitions.compare(self._last, observation)
            return changes
        return []  # The observer is ready for requests.

    def _start(self) -> None:
        if time.monotonic() < self._started + RESTART_INTERVAL:
            raise WorldError(self._ended)
        self._started = time.monotonic()
        # Salt finds this package by its own path, which another Python need not have.
        code = f"# kvmcluster's observer\nimport sys; sys.path[:] = {sys.path!r}; import runpy;"
        code += f" runpy.run_module({OBSERVER!r}, run_name='__main__')"
        held = commands.held([sys.executable, "-c", code], LIMIT)
        try:
            self._observer = self._end.enter_context(held)
        except WorldError as error:
            self._ended = str(error)
            raise
        self._asked, self._waiting_since = None, self._started

    def _answer(self, node: str, pillar: Mapping[str, Any]) -> str | None:
        """Return the observer's response, None if it is late; WorldError if it ended."""
        assert self._observer is not None
        question = (node, pillar)
        request, time_limit = "", LATE_RESPONSE_TIME
        if not self._waiting_since:
            is_new = question != self._asked
            asked = {"node": node, "pillar": pillar} if is_new else {}
            request, time_limit = f"{json.dumps(asked)}\n", RESPONSE_TIME
            self._asked, self._waiting_since = question, time.monotonic()
        answer = self._observer.answer(request, "\n", time_limit)
        if answer is not None:
            self._waiting_since = 0.0
            return answer
        outcome = self._observer.outcome()
        if outcome.code is None:
            if time.monotonic() > self._waiting_since + SILENCE_LIMIT:
                raise WorldError(
                    f"no response from the observer for {SILENCE_LIMIT:g} s: a disk or a name"
                    " service hangs"
                )
            return None
        self.close()
        detail = outcome.stderr.strip()[-500:] or "no output"
        self._ended = (
            f"the observer ended, and is restarted within {RESTART_INTERVAL:g} s: {detail}"
        )
        raise WorldError(self._ended)


def _parse(answer: str) -> Mapping[str, Any]:
    try:
        observation = json.loads(answer)
    except ValueError:
        observation = None
    if not isinstance(observation, dict):
        raise WorldError(f"invalid observer message: {answer[:200]!r}")
    return observation


CLIENT = ObserverClient()
