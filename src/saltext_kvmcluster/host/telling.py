"""Tells what becomes of a migration while it lasts, and never holds it up.

It is told in two ways: as events to whoever listens, and as a last word in /run to whoever asks
this node for its jobs. Either may get lost. To fire an event takes milliseconds, but seconds where
the minion is dead, so a thread does it.
"""

from __future__ import annotations

import contextlib
import json
import queue
import threading
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from saltext_kvmcluster.core import events
from saltext_kvmcluster.core.errors import WorldError
from saltext_kvmcluster.core.plan import FilePlan
from saltext_kvmcluster.host import files

FOLDER = f"{files.RUN}/kvmcluster"
WAITING = 32
# For the last events to be fired, when all else is done.
FAREWELL = 2.0

Fire = Callable[[str, dict[str, Any]], object]
_Said = tuple[str, Mapping[str, Any]]


@contextlib.contextmanager
def teller(
    cluster: str, here: str, fire: Fire
) -> Iterator[Callable[[str, Mapping[str, Any]], None]]:
    """Yield what takes an event's kind and data, and returns at once.

    fire
        Takes a tag and data. What it raises is lost with the event.
    """
    waiting: queue.Queue[_Said | None] = queue.Queue(WAITING)

    def work() -> None:
        while (said := waiting.get()) is not None:
            kind, data = said
            with contextlib.suppress(Exception):
                _leave(data)
            with contextlib.suppress(Exception):
                fire(events.tag(cluster, kind, here, str(data["guest"])), events.small(data))

    def tell(kind: str, data: Mapping[str, Any]) -> None:
        with contextlib.suppress(queue.Full):
            waiting.put_nowait((kind, data))

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    try:
        yield tell
    finally:
        with contextlib.suppress(queue.Full):
            waiting.put_nowait(None)
        thread.join(FAREWELL)


def last_words() -> list[dict[str, Any]]:
    """Return what was told last of each migration that is under way here, or was cut short."""
    found = []
    for path in files.listed(FOLDER):
        with contextlib.suppress(ValueError, WorldError):
            word = json.loads(files.read(path).text or "")
            found += [word] if isinstance(word, dict) else []
    return found


def _leave(data: Mapping[str, Any]) -> None:
    """Leave the last word of a migration; when it has ended there is none."""
    path = f"{FOLDER}/{data['uuid']}.json"
    if data["what"] == "ended":
        files.remove(path)
    else:
        files.apply(FilePlan(path, json.dumps(data), 0o600, "root", {}))
