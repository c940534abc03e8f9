"""The only place that runs a process: from an argument list, with a time limit.

No shell is involved unless the list names one. Two do, for this host: the claim of a start, and
the tickets of the queue. Commands for a peer name ssh, and sshd runs them by the login's shell.
What a process prints may come from a peer, so it is kept up to a limit only. A process is given
a session of its own, and the rest of its group is killed with it.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import selectors
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import IO

from saltext_kvmcluster.core.errors import WorldError

SYSTEM_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
LIMIT = 1024 * 1024
CHUNK = 65536
GRACE = 0.2
PAUSES = (0.001, 0.05)
PACKAGES = {
    "ssh": "openssh-client",
    "ssh-keygen": "openssh-client",
    "sshd": "openssh-server",
    "restorecon": "policycoreutils",
    "lvs": "lvm2",
    "multipathd": "multipath-tools",
    "drbdsetup": "drbd-utils",
}
NOT_FOUND = 127


class NotInstalled(WorldError):
    """There is no such program on this host."""


@dataclass(frozen=True)
class Outcome:
    """What a process did. ``code`` is None when it was ended: time ran out, or it overflowed."""

    code: int | None
    stdout: str
    stderr: str
    overflowed: bool = False


@dataclass
class _Heard:
    """What a process has printed so far, and whether it ended by itself."""

    stdout: bytearray = field(default_factory=bytearray)
    stderr: bytearray = field(default_factory=bytearray)
    ended: bool = False
    overflowed: bool = False


def run(arguments: Sequence[str], timeout: float = 30.0, limit: int = LIMIT) -> Outcome:
    """Run a program and return what it did, whatever its exit code.

    timeout
        Seconds after which the program is killed; its outcome then has code None.
    limit
        Bytes of standard output, and of standard error, that are kept. A program that prints
        more is killed; its outcome then has code None and says that it overflowed.

    A program that has ended and left its output open to another is not waited for beyond a short
    grace. Raises WorldError if the program is not installed. Output is decoded as UTF-8, with
    every undecodable byte shown as a replacement character.
    """
    end = time.monotonic() + timeout
    process = _start(arguments)
    try:
        heard = _listen(process, end, limit)
    finally:
        _finish(process)
    code = process.returncode if heard.ended and not heard.overflowed else None
    return Outcome(code, _text(heard.stdout), _text(heard.stderr), heard.overflowed)


def checked(arguments: Sequence[str], timeout: float = 30.0) -> str:
    """Run a program that has to succeed and return its standard output; WorldError otherwise."""
    outcome = run(arguments, timeout)
    if outcome.code == 0:
        return outcome.stdout
    ended = f"no end within {timeout:g} s" if outcome.code is None else f"exit code {outcome.code}"
    ended = f"it was ended after {LIMIT} bytes of output" if outcome.overflowed else ended
    detail = outcome.stderr.strip() or outcome.stdout.strip() or "nothing"
    raise WorldError(f"{' '.join(arguments)}: {ended}; it said: {detail[:500]}")


def run_all(
    wanted: Mapping[str, Sequence[str]], timeout: float = 30.0, limit: int = LIMIT
) -> dict[str, Outcome]:
    """Run programs one after another and return what each one did, by the key it has in ``wanted``.

    timeout
        Seconds for all of them; what is not begun by then has code None.

    A program that is not installed has code 127, as from a shell. See ``ssh.run_all``.
    """
    end = time.monotonic() + timeout
    return {key: _tried(arguments, end, limit) for key, arguments in wanted.items()}


class Held:
    """A process that stays until it is let go, and answers what it is told."""

    def __init__(self, process: subprocess.Popen[bytes], limit: int) -> None:
        self._process = process
        self._limit = limit
        self._heard = _Heard()
        self._code: int | None = None

    def echoes(self, timeout: float) -> bool:
        """Whether the process, which echoes, is still there: whether it does so in time."""
        word = secrets.token_hex(8)
        return self.answer(f"{word}\n", word, timeout) is not None

    def answer(self, reported: str, end: str, timeout: float) -> str | None:
        """Tell the process something; return what it prints until it prints ``end``.

        None if that does not come in time, or not before the limit: then nobody knows what the
        process is at, and it should be told nothing more.
        """
        left = memoryview(reported.encode("utf-8", "surrogateescape"))
        mark, searched = end.encode(), 0
        limit = time.monotonic() + timeout
        while (at := self._heard.stdout.find(mark, searched)) < 0:
            searched = max(0, len(self._heard.stdout) - len(mark))
            seconds = limit - time.monotonic()
            if self._heard.ended or seconds <= 0:
                return None
            left = left[self._exchange(left, seconds) :]
        detail = _text(self._heard.stdout[:at])
        del self._heard.stdout[: at + len(mark)]
        return detail

    def outcome(self) -> Outcome:
        """Return what the process has done that is no answer; code None if it has not ended."""
        heard = self._heard
        return Outcome(self._code, _text(heard.stdout), _text(heard.stderr), heard.overflowed)

    def _exchange(self, left: memoryview, timeout: float) -> int:
        """Wait until something can be told or heard; return how much of what is left was told."""
        kept = {
            _stream(self._process.stdout): self._heard.stdout,
            _stream(self._process.stderr): self._heard.stderr,
        }
        stdin = _stream(self._process.stdin)
        with selectors.DefaultSelector() as selector:
            for stream in kept:
                selector.register(stream, selectors.EVENT_READ)
            if left:
                selector.register(stdin, selectors.EVENT_WRITE)
            ready = [key.fd for key, _ in selector.select(timeout)]
        for stream in kept.keys() & ready:
            self._take(stream, kept[stream])
        if stdin not in ready:
            return 0
        assert self._process.stdin is not None
        try:
            return self._process.stdin.write(left[:CHUNK]) or 0
        except OSError:
            return len(left)  # It reads no more; why, it says as it ends.

    def _take(self, stream: int, kept: bytearray) -> None:
        detail = os.read(stream, CHUNK)
        kept += detail[: self._limit - len(kept)]
        self._heard.overflowed |= len(kept) == self._limit
        self._heard.ended |= not detail or self._heard.overflowed
        if self._heard.ended:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._code = self._process.wait(GRACE)


@contextlib.contextmanager
def held(arguments: Sequence[str], limit: int = LIMIT) -> Iterator[Held]:
    """Keep a program running that reads its standard input, and end it with the context.

    If we are killed, it reads the end of its input.

    limit
        Bytes of standard output, of one answer, and of standard error that are kept.
    """
    process = _start(arguments, stdin=subprocess.PIPE)
    os.set_blocking(_stream(process.stdin), False)
    try:
        yield Held(process, limit)
    finally:
        _finish(process)


def _tried(arguments: Sequence[str], end: float, limit: int) -> Outcome:
    left = end - time.monotonic()
    if left <= 0:
        return Outcome(None, "", "time ran out before it was begun")
    try:
        return run(arguments, left, limit)
    except NotInstalled as error:
        return Outcome(NOT_FOUND, "", str(error))
    except WorldError as error:
        return Outcome(None, "", str(error))


def _start(arguments: Sequence[str], stdin: int = subprocess.DEVNULL) -> subprocess.Popen[bytes]:
    """Start a program in a session of its own, its output piped to us."""
    environment = {"PATH": SYSTEM_PATH, "LC_ALL": "C", "HOME": os.path.expanduser("~")}
    try:
        return subprocess.Popen(
            list(arguments),
            bufsize=0,
            stdin=stdin,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=environment,
            start_new_session=True,
        )
    except FileNotFoundError:
        raise NotInstalled(f"{arguments[0]} is not installed{_package(arguments[0])}") from None
    except OSError as error:
        raise WorldError(f"{arguments[0]} cannot be run: {error.strerror}") from None


def _listen(process: subprocess.Popen[bytes], end: float, limit: int) -> _Heard:
    """Keep what a process prints until it has ended, its time is up or it has printed too much."""
    heard = _Heard()
    gone = None
    pause = PAUSES[0]
    with selectors.DefaultSelector() as selector:
        for stream, kept in ((process.stdout, heard.stdout), (process.stderr, heard.stderr)):
            if stream is not None:
                selector.register(stream, selectors.EVENT_READ, kept)
        while not (heard.ended or heard.overflowed) and (left := end - time.monotonic()) > 0:
            if gone is None and _has_ended(process):
                gone = time.monotonic()
            ready = selector.select(min(pause, left))
            pause = PAUSES[0] if ready else min(2 * pause, PAUSES[1])
            for key, _ in ready:
                heard.overflowed |= _take(selector, key, limit)
            silent = not ready and gone is not None and time.monotonic() > gone + GRACE
            heard.ended = silent or (gone is not None and not selector.get_map())
    return heard


def _take(selector: selectors.BaseSelector, key: selectors.SelectorKey, limit: int) -> bool:
    """Read once from a stream that is ready; return whether that was more than its limit."""
    kept: bytearray = key.data
    detail = os.read(key.fd, CHUNK)
    if not detail:
        selector.unregister(key.fileobj)
    room = limit - len(kept)
    kept += detail[:room]
    return len(detail) > room


def _has_ended(process: subprocess.Popen[bytes]) -> bool:
    """Whether a process has ended; it is not reaped yet, so that its number stays its own."""
    try:
        options = os.WEXITED | os.WNOHANG | os.WNOWAIT
        return os.waitid(os.P_PID, process.pid, options) is not None
    except ChildProcessError:
        return True


def _finish(process: subprocess.Popen[bytes]) -> None:
    """Kill what is left of a process and its group, and let go of its output."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(GRACE)
    for stream in (process.stdin, process.stdout, process.stderr):
        if stream is not None:
            stream.close()


def _stream(stream: IO[bytes] | None) -> int:
    assert stream is not None
    return stream.fileno()


def _text(output: bytearray) -> str:
    return output.decode("utf-8", "replace")


def _package(program: str) -> str:
    package = PACKAGES.get(os.path.basename(program))
    return f"; it belongs to {package}" if package else ""
