"""The one module that imports libvirt: connections to its daemons, here and on peers over ssh.

No call waits for ever. libvirt's keepalive would need its event loop, a thread that does not
survive the fork by which Salt starts a job, so each call runs in a thread of its own and is given
a time limit; ssh's ServerAlive settings end what hangs on a dead link.
"""

from __future__ import annotations

import concurrent.futures
import functools
import importlib
import json
import re
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import Future, wait
from typing import Any, TypeVar

from saltext_kvmcluster.core import installing
from saltext_kvmcluster.core.errors import Answered, WorldError
from saltext_kvmcluster.core.text import one_line
from saltext_kvmcluster.core.trust import logins
from saltext_kvmcluster.host import interpreter
from saltext_kvmcluster.host.calls import in_thread

_T = TypeVar("_T")
LOCAL = "qemu:///system"
# Above the 30 s for which libvirt itself waits for its lock on a domain.
TIME_LIMIT = 35.0
# How libvirt refuses an account, by its socket or by polkit.
REFUSED = r"libvirt-sock.*Permission denied|authentication (unavailable|failed)"
REMEDY = logins.REMEDIES[logins.NO_LIBVIRT]
# What is added to libvirt's error, by a pattern that is found in it.
EXPLAINED = {
    # After a failure, a daemon that closes its connection to a peer may report that instead.
    "End of file while reading data": (
        "; this may hide the actual cause: on the destination, read the end of the guest's log in"
        " /var/log/libvirt/qemu, then journalctl -u libvirtd -u virtqemud"
    ),
    'Failed to get (shared )?"write" lock': (
        "; its image was still locked: by another QEMU, or on a FUSE file system (GlusterFS) for a"
        " moment longer by its own at the source, which handover=strict waits for"
    ),
}


class Connection:
    """A connection to one libvirt daemon, made when needed and again after it broke."""

    def __init__(self, uri: str = LOCAL) -> None:
        self.uri = uri
        self._connection: Any = None
        self._dialed: Future[Any] | None = None

    def dial(self) -> None:
        """Start to connect ahead of the first call, which raises the error if it fails."""
        if self._connection is None and self._dialed is None:
            self._dialed = in_thread(lambda: load_libvirt().open(self.uri))

    def close(self, after: Sequence[Future[Any]] = ()) -> None:
        """Close the connection, without waiting for a daemon that may never respond.

        after
            Calls that still use the connection, which is closed once they have ended.
        """
        connection, self._connection = self._connection, None
        dialed, self._dialed = self._dialed, None
        if connection is not None:
            in_thread(lambda: (wait(after), connection.close()))
        if dialed is not None:
            in_thread(lambda: dialed.result().close())

    def _begin(self, verb: Callable[[Any], object]) -> Future[None]:
        """Start a call that may take long, on a connection of its own."""
        libvirt = load_libvirt()

        def call() -> None:
            try:
                verb(libvirt.open(self.uri))
            except libvirt.libvirtError as error:
                kind = Answered if error.get_error_domain() == libvirt.VIR_FROM_QEMU else WorldError
                raise kind(explained(error_text(error))) from None

        return in_thread(call)

    def _ask(self, verb: Callable[[Any], _T]) -> _T:
        if self._connection is None:
            self.dial()
            dialed, self._dialed = self._dialed, None
            assert dialed is not None
            self._connection = self._ended(dialed)
        connection = self._connection
        call = in_thread(lambda: verb(connection))
        try:
            return self._ended(call)
        except WorldError:
            self.close(after=[call])
            raise

    def _ended(self, call: Future[_T]) -> _T:
        try:
            return call.result(TIME_LIMIT)
        except concurrent.futures.TimeoutError:
            raise WorldError(f"no response from {self.uri} within {TIME_LIMIT:g} s") from None
        except load_libvirt().libvirtError as error:
            raise WorldError(f"{self.uri}: {error_text(error)}") from None


def explained(words: str) -> str:
    """Return libvirt's error with what may be behind it, if it does not say that itself."""
    return words + next((more for known, more in EXPLAINED.items() if re.search(known, words)), "")


def error_text(error: Any) -> str:
    words = one_line(error.get_error_message() or str(error))
    return f"{words}; {REMEDY}" if re.search(REFUSED, words) else words


@functools.cache
def load_libvirt() -> Any:
    """Return libvirt's Python module, set not to print errors by itself."""
    try:
        libvirt = importlib.import_module("libvirt")
    except ImportError as error:
        raise WorldError(
            f"libvirt-python is missing for {sys.executable} ({error}):"
            f" {installing.command('libvirt-python', interpreter.this_one())}; where pip has no"
            " wheel of it, it needs gcc, pkg-config and libvirt's headers (Debian libvirt-dev, RHEL"
            " libvirt-devel)"
        ) from None
    libvirt.registerErrorHandler(lambda context, error: None, None)
    return libvirt


def ask_qemu(domain: Any, command: str) -> Any:
    """Return the answer of a guest's QEMU to a command, past libvirt, which logs that as a taint.

    A WorldError if QEMU refuses it.
    """
    monitor = importlib.import_module("libvirt_qemu").qemuMonitorCommand
    answer = json.loads(monitor(domain, json.dumps({"execute": command}), 0))
    if "return" not in answer:
        why = answer.get("error", {}).get("desc", "no answer")
        raise WorldError(f"{domain.name()}: its QEMU did not carry out {command}: {why}")
    return answer["return"]


def version(libvirt: Any) -> str:
    number = libvirt.getVersion()
    return f"{number // 1_000_000}.{number // 1000 % 1000}.{number % 1000}"
