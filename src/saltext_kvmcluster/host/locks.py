"""Locks of this node, what holds them, and the wait for them."""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
from collections.abc import Iterator

from saltext_kvmcluster.core import holders
from saltext_kvmcluster.core.errors import WorldError
from saltext_kvmcluster.core.holders import Holder, Process
from saltext_kvmcluster.host.descriptors import is_denied, reason

RUN = "/run"  # not /run/lock, where any account may take a lock's name first
# Opening a named pipe must not wait for its other end.
_OWN = os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
_POLL = 0.05


class Busy(WorldError):
    """Another process holds the lock at ``path``; ``text`` is what is in the file."""

    def __init__(self, path: str, text: str, timeout: float) -> None:
        found = holder(os.uname().nodename, path, text)
        super().__init__(f"another run of kvmcluster holds {path}, waited {timeout:g} s: {found}")
        self.path, self.text = path, text


@contextlib.contextmanager
def lock(name: str = "kvmcluster", timeout: float = 60.0, folder: str = RUN) -> Iterator[None]:
    """Hold a lock of this host; the default one is for all our reads and writes but the cordon's.

    Threads of one process exclude each other, too.

    timeout
        Seconds to wait for another holder before Busy; 0 tries once.
    folder
        Where the lock's file is, if not in /run, where only root may make one.
    """
    path = os.path.join(folder, f"{name}.lock")
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | _OWN, 0o600)
    except OSError as error:
        detail = reason(error) if is_denied(error) else f"{error.strerror}; move it away"
        raise WorldError(f"{path} cannot be opened: {detail}") from None
    try:
        _take(path, descriptor, timeout)
        try:
            _sign(descriptor, _own_line())
            yield
        finally:
            _sign(descriptor, "")
    finally:
        os.close(descriptor)


def _take(path: str, descriptor: int, timeout: float) -> None:
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


def _own_line() -> str:
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


def _sign(descriptor: int, text: str) -> None:
    """Write its holder into a lock's file; it is for refusals alone, so it may fail."""
    with contextlib.suppress(OSError):
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, text.encode(), 0)
