"""What holds a lock of this node, and the wait for it."""

from __future__ import annotations

import fcntl
import os
import time

from saltext_kvmcluster.core import holders
from saltext_kvmcluster.core.errors import WorldError
from saltext_kvmcluster.core.holders import Holder, Process

_POLL = 0.05


class Busy(WorldError):
    """Another process holds the lock at ``path``; ``text`` is what is in the file."""

    def __init__(self, path: str, text: str, timeout: float) -> None:
        found = holder(os.uname().nodename, path, text)
        super().__init__(f"another run of kvmcluster holds {path}, waited {timeout:g} s: {found}")
        self.path, self.text = path, text


def wait_for(path: str, descriptor: int, timeout: float) -> None:
    """Take a lock; Busy if another process has it for longer than so many seconds."""
    end = time.monotonic() + timeout
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            if time.monotonic() >= end:
                raise Busy(path, _signature(descriptor), timeout) from None
            time.sleep(_POLL)


def own_line() -> str:
    """Return what this process writes into the file of a lock that it has taken."""
    pid = os.getpid()
    return holders.line(pid, _read(f"/proc/{pid}/stat"), _read("/proc/uptime"))


def holder(node: str, path: str, text: str) -> Holder:
    """Return what holds a lock of this node, by what is in its file.

    node
        What this node is called.
    """
    pid = holders.pid_of(text)
    command = _read(f"/proc/{pid}/cmdline").replace("\0", " ")
    found = Process(_read(f"/proc/{pid}/stat"), command)
    return holders.holder(node, path, text, found, _read("/proc/uptime"))


def _signature(descriptor: int) -> str:
    """Return what is in a lock's file; its holder may have had no time to write it yet."""
    for pause in (_POLL, 0.0):
        try:
            text = os.pread(descriptor, holders.LONGEST, 0).decode("utf-8", "replace")
        except OSError:
            return ""
        if text:
            return text
        time.sleep(pause)
    return ""


def _read(path: str) -> str:
    """Return the beginning of a file in /proc; empty if the process is gone."""
    try:
        with open(path, "rb") as file:
            return file.read(4096).decode("utf-8", "replace")
    except OSError:
        return ""
