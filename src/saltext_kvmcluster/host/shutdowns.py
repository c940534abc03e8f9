"""Notes of this node's deliberate shutdowns, and of libvirt's logs, for ``core.ownership``."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable
from datetime import datetime

from saltext_kvmcluster.core import cordons
from saltext_kvmcluster.core.errors import WorldError
from saltext_kvmcluster.core.fileplan import FilePlan
from saltext_kvmcluster.core.ownership.deliberate import FOLDER, LONGEST
from saltext_kvmcluster.host import files, leaving


def note(guest: str, time: datetime) -> None:
    """Note that a guest was shut down here because somebody wanted it; WorldError if that fails."""
    files.ensure_folder(files.LASTING, "root")
    text = f"{time.isoformat(timespec='seconds')}\n"
    files.apply(FilePlan(path(guest), text, 0o600, "root", {}))


def forget(guest: str) -> None:
    """Remove the note of a guest."""
    files.remove(path(guest))


def noted(guests: Iterable[str]) -> dict[str, str]:
    """Return when those of some guests were shut down of which there is a note."""
    found = {}
    for guest in guests:
        with contextlib.suppress(WorldError):
            text = (files.read(path(guest), most=LONGEST).text or "").strip()
            if cordons.is_time(text):
                found[guest] = text
    return found


def logged(guests: Iterable[str]) -> dict[str, float]:
    """Return when libvirt wrote its log of a guest last, in seconds; an empty log says nothing.

    logrotate empties them, by libvirt's own configuration.
    """
    found = {}
    for guest in guests:
        with contextlib.suppress(OSError):
            info = os.stat(f"{leaving.LOGS}/{guest}.log")
            if info.st_size:
                found[guest] = info.st_mtime
    return found


def path(guest: str) -> str:
    """Return the file of the note of a guest."""
    return f"{FOLDER}/{guest}"
