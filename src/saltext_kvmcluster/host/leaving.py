"""A guest of this node that migrates away: what must be noticed at once, not at the next poll.

The end of its QEMU is noticed by a pidfd. What libvirt was about then is read from its own status
file, which is libvirt's business: where it does not say what is expected, nothing follows.
"""

from __future__ import annotations

import contextlib
import os
import select
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future

from saltext_kvmcluster.core.errors import WorldError
from saltext_kvmcluster.core.migration import handover
from saltext_kvmcluster.core.migration.handover import LastRun, Status
from saltext_kvmcluster.core.migration.migration import Move
from saltext_kvmcluster.host import files, libvirt_events

STATUS = "/run/libvirt/qemu"
LOGS = "/var/log/libvirt/qemu"
# The end of a guest's log: of its last run, libvirt's own lines are among the last ones.
LOG_TAIL = 256 * 1024


class Leaving:
    """A guest that leaves; see ``engine.environment.Leaving``."""

    def __init__(self, move: Move) -> None:
        self._move = move
        self.ended: Future[None] = Future()
        self._last: Status | None = None
        self._stopped_at: float | None = None
        status = _status(move.guest, move.uuid)
        self.pid = status.pid if status else 0
        self.started = _started(self.pid) if status else 0
        self.sent = _sent(move.guest)

    def is_confirmed(self) -> bool:
        """Whether libvirt had confirmed the migration when the guest's QEMU ended."""
        status = self._last
        return status is not None and status.pid == self.pid and status.is_confirmed

    def stopped_at(self) -> float | None:
        """Return when it stopped last, by the monotonic clock, None if that was not observed."""
        return self._stopped_at

    def note_stop(self) -> None:
        """Take note that it has stopped."""
        self._stopped_at = time.monotonic()

    def wait(self, process: int, over: int) -> None:
        """Wait until its QEMU has ended, or this is over; both are descriptors."""
        poll = select.poll()
        poll.register(process, select.POLLIN)
        poll.register(over, select.POLLIN | select.POLLHUP)
        ready = {descriptor for descriptor, _ in poll.poll()}
        if process in ready:
            # At once: libvirt removes the file some 200 ms later.
            self._last = _status(self._move.guest, self._move.uuid)
            self.ended.set_result(None)


@contextlib.contextmanager
def leaving(move: Move) -> Iterator[Leaving]:
    """Watch a guest of this node for as long as the context lasts."""
    found = Leaving(move)
    with contextlib.ExitStack() as held:
        if process := _process(found):
            held.callback(os.close, process)
            over, end = os.pipe()
            held.callback(os.close, over)
            thread = threading.Thread(target=found.wait, args=(process, over), daemon=True)
            thread.start()
            held.callback(thread.join)
            held.callback(os.close, end)
        held.enter_context(libvirt_events.stops(move.uuid, found.note_stop))
        yield found


def last_run(guest: str) -> LastRun:
    """Return the last run of a guest on this node, by libvirt's log of it."""
    return handover.last_run(files.tail(f"{LOGS}/{guest}.log", LOG_TAIL))


def _sent(guest: str) -> int:
    """Return how many times a guest was sent in its present run, once the disk has the log of it.

    -1 if the log says that it does not run, or cannot be had.
    """
    try:
        files.flush(f"{LOGS}/{guest}.log")
        run = last_run(guest)
    except WorldError:
        return -1
    return -1 if run.ended else run.sent


def _process(found: Leaving) -> int | None:
    """Return a pidfd of the guest's QEMU; None if that cannot be had."""
    if not found.pid or not found.started:
        return None
    try:
        process = os.pidfd_open(found.pid)
    except OSError:
        return None
    # Its number may have been given to another process in between.
    if _started(found.pid) == found.started:
        return process
    os.close(process)
    return None


def process_of(guest: str, uuid: str) -> int:
    """Return the number of a guest's QEMU on this node, 0 if that is not known."""
    status = _status(guest, uuid)
    return status.pid if status else 0


def has_arrived(pid: int) -> bool:
    """Whether a QEMU was started to receive a guest, and not to boot one."""
    try:
        with open(f"/proc/{pid}/cmdline", "rb") as line:
            return b"-incoming" in line.read().split(b"\0")
    except OSError:
        return False


def _status(guest: str, uuid: str) -> Status | None:
    try:
        text = files.read(f"{STATUS}/{guest}.xml").text
    except WorldError:
        return None
    return handover.status(text, uuid) if text else None


def _started(pid: int) -> int:
    """Return when a process started, in the kernel's clock ticks; 0 if there is none."""
    try:
        with open(f"/proc/{pid}/stat", encoding="ascii", errors="replace") as stat:
            # The name of the program, in brackets, may have spaces and brackets itself.
            return int(stat.read().rpartition(")")[2].split()[19])
    except (OSError, ValueError, IndexError):
        return 0
