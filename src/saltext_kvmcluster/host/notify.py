"""Tells what becomes of a migration while it lasts, and never holds it up.

It is told in two ways: as events to whoever listens, and as a last word in /run to whoever asks
this node for its jobs. Either may get lost. To fire an event takes milliseconds, but seconds where
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
# For the last events to be fired, when all else is done.
FAREWELL = 2.0
# A last word is shown to be somebody's again and again; whoever was killed shows nothing.
BEAT, LATELY = 10.0, 40.0

Fire = Callable[[str, dict[str, Any]], object]
_Said = tuple[str, Mapping[str, Any]]


@contextlib.contextmanager
def event_sender(
    cluster: str, here: str, fire: Fire
) -> Iterator[Callable[[str, Mapping[str, Any]], None]]:
    """Yield what takes an event's kind and data, and returns at once.

    fire
        Takes a tag and data. What it raises is lost with the event.
    """
    waiting: queue.Queue[_Said | None] = queue.Queue(WAITING)
    left: dict[str, Mapping[str, Any]] = {}

    def work() -> None:
        while True:
            try:
                detail = waiting.get(timeout=BEAT)
            except queue.Empty:
                _leave(left)
                continue
            if detail is None:
                return
            kind, data = detail
            left[_path(data)] = data
            _leave(left)
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
    """Return what was told last, and lately, of each migration that is watched from here."""
    found = []
    for path in files.listed(FOLDER):
        with contextlib.suppress(ValueError, WorldError, OSError):
            word = json.loads(files.read(path).text or "")
            lately = time.time() - os.stat(path).st_mtime < LATELY
            found += [word] if lately and isinstance(word, dict) else []
    return found


def _leave(left: Mapping[str, Mapping[str, Any]]) -> None:
    """Leave last words, or show that they are somebody's still."""
    for path, data in left.items():
        with contextlib.suppress(Exception):
            files.apply(FilePlan(path, json.dumps(data), 0o600, "root", {}))


def _path(data: Mapping[str, Any]) -> str:
    return f"{FOLDER}/{data['uuid']}.json"
