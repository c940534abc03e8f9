"""Files in the queues of this node's minion: what waits there to be run."""

from __future__ import annotations

import os
from collections.abc import Iterator

from saltext_kvmcluster.core.errors import WorldError

QUEUES = ("state_queue", "job_queue")
MAX_SIZE = 1 << 20
"""Bytes of a queued job that are read."""


def waiting(cachedir: str) -> Iterator[tuple[str, bytes]]:
    """Yield path and content of each file in the queues; WorldError if a folder cannot be read.

    cachedir
        The minion's. Its queues are in ``queues/MASTER/`` (``queue_base_dir`` in Salt's
        utils/state.py), or, in the releases that first had them, directly in it.
    """
    bases = [cachedir, *(entry.path for entry in _entries(os.path.join(cachedir, "queues")))]
    for folder in [os.path.join(base, queue) for base in bases for queue in QUEUES]:
        for entry in _entries(folder):
            content = _content(entry.path)
            if content is not None:
                yield entry.path, content


def _entries(folder: str) -> list[os.DirEntry[str]]:
    try:
        return sorted(os.scandir(folder), key=lambda entry: entry.name)
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        raise WorldError(f"{folder} cannot be read: {error.strerror}") from None


def _content(path: str) -> bytes | None:
    """Return a file's content, empty if it cannot be read; None if it is no longer there."""
    try:
        with open(path, "rb") as file:
            return file.read(MAX_SIZE)
    except FileNotFoundError:
        return None
    except OSError:
        return b""
