"""Notifies of the progress of a migration, and never delays it.

It does so by events, and by a status file in /run, from which this node's jobs are reported.
Either may get lost. To fire an event takes milliseconds, but seconds where
the minion is dead, so a thread does it. A status file names its process, and counts while that one
runs: no clock decides.
"""

from __future__ import annotations

import contextlib
import json
import os
import queue
import threading
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from saltext_kvmcluster.core.errors import WorldError
from saltext_kvmcluster.core.events import events
from saltext_kvmcluster.core.fileplan import FilePlan
from saltext_kvmcluster.host import bootid, files, locks

FOLDER = f"{locks.RUN}/kvmcluster"
PROCESS = "process"
"""The key of the process that writes a status file."""
LAST = ("ended", "refused")
"""What is notified last of a migration: nothing goes on then, though its process may."""
WAITING = 32
# Seconds for the last events to be fired.
FAREWELL = 2.0
LONGEST = 65536
"""Bytes of a status file at most."""

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
    left: set[str] = set()

    def work() -> None:
        while True:
            event = waiting.get()
            if event is None:
                return
            kind, data = event
            # Before the file, which takes as long as the disk does: the last event has little time.
            with contextlib.suppress(Exception):
                fire(events.tag(cluster, kind, here, str(data["guest"])), events.small(data))
            if data.get("what") in LAST:
                left.discard(_path(data))
                _remove(_path(data))
            else:
                left.add(_path(data))
                _write(_path(data), data)

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
            _remove(path)


def statuses() -> list[dict[str, Any]]:
    """Return the status of each migration that a process on this node runs; odd files are none."""
    found = []
    with contextlib.suppress(WorldError):
        for name in files.children(FOLDER):
            found += _status(name)
    return found


def _status(name: str) -> list[dict[str, Any]]:
    """Return the status in a file, if it is that of the guest by whose UUID it is found."""
    try:
        text = files.read(f"{FOLDER}/{name}", most=LONGEST).text or ""
        status = json.loads(text)
    except (ValueError, RecursionError, WorldError):
        return []
    if not isinstance(status, dict) or name != f"{status.get('uuid')}.json":
        return []
    return [status] if bootid.is_alive(str(status.pop(PROCESS, ""))) else []


def _write(path: str, data: Mapping[str, Any]) -> None:
    with contextlib.suppress(Exception):
        text = json.dumps({**data, PROCESS: bootid.process(os.getpid())})
        files.apply(FilePlan(path, text, 0o600, "root", {}))


def _remove(path: str) -> None:
    with contextlib.suppress(WorldError):
        files.remove(path)


def _path(data: Mapping[str, Any]) -> str:
    return f"{FOLDER}/{data['uuid']}.json"
