"""Notifies of the progress of a migration, and never delays it.

It does so by events, and by a status file in /run, from which this node's jobs are reported.
Either may get lost. To fire an event takes milliseconds, but seconds where
the minion is dead, so a thread does it.
"""

from __future__ import annotations

import contextlib
import json
import os
import queue
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from saltext_kvmcluster.core.errors import WorldError
from saltext_kvmcluster.core.events import events
from saltext_kvmcluster.core.fileplan import FilePlan
from saltext_kvmcluster.host import files

FOLDER = f"{files.RUN}/kvmcluster"
WAITING = 32
# Seconds for the last events to be fired.
FAREWELL = 2.0
# Seconds after which a status file is rewritten, and after which it is stale: its process died.
BEAT, STALE = 10.0, 40.0

Fire = Callable[[str, dict[str, Any]], object]
_Event = tuple[str, Mapping[str, Any]]


@contextlib.contextmanager
def event_sender(
    cluster: str, here: str, fire: Fire
) -> Iterator[Callable[[str, Mapping[str, Any]], None]]:
    """Yield a function that takes an event's kind and data, and returns at once.

    fire
        Takes a tag and data. What it raises is lost with the event.
    """
    waiting: queue.Queue[_Event | None] = queue.Queue(WAITING)
    left: dict[str, Mapping[str, Any]] = {}

    def work() -> None:
        while True:
            try:
                event = waiting.get(timeout=BEAT)
            except queue.Empty:
                _write(left)
                continue
            if event is None:
                return
            kind, data = event
            left[_path(data)] = data
            _write(left)
            with contextlib.suppress(Exception):
                fire(events.tag(cluster, kind, here, str(data["guest"])), events.small(data))

    def notify(kind: str, data: Mapping[str, Any]) -> None:
        with contextlib.suppress(queue.Full):
            waiting.put_nowait((kind, data))

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    try:
        yield notify
    finally:
        with contextlib.suppress(queue.Full):
            waiting.put_nowait(None)
        thread.join(FAREWELL)
        for path in tuple(left):
            with contextlib.suppress(WorldError):
                files.remove(path)


def statuses() -> list[dict[str, Any]]:
    """Return the current status of each migration that a process on this node runs."""
    found = []
    for path in files.listed(FOLDER):
        with contextlib.suppress(ValueError, WorldError, OSError):
            status = json.loads(files.read(path).text or "")
            is_current = time.time() - os.stat(path).st_mtime < STALE
            found += [status] if is_current and isinstance(status, dict) else []
    return found


def _write(left: Mapping[str, Mapping[str, Any]]) -> None:
    """Write the status files, which shows that their process is alive."""
    for path, data in left.items():
        with contextlib.suppress(Exception):
            files.apply(FilePlan(path, json.dumps(data), 0o600, "root", {}))


def _path(data: Mapping[str, Any]) -> str:
    return f"{FOLDER}/{data['uuid']}.json"
