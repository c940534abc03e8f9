"""The only place that runs a process: from an argument list, with a time limit.

No shell is involved unless the list names one. Two do, for this host: the claim of a start, and
the tickets of the queue. Commands for a peer name ssh, and sshd runs them by the login's shell.
Output may come from a peer, so it is kept up to a limit only. Each process has
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
    "setsid": "util-linux",
}
NOT_FOUND = 127


class NotInstalled(WorldError):
    """There is no such program on this host."""


@dataclass(frozen=True)
class Outcome:
    """What a process did. ``code`` is None if it was killed: at its timeout or by overflow."""

    code: int | None
    stdout: str
    stderr: str
    overflowed: bool = False


@dataclass
class _Output:
    """What a process has printed so far, and whether it ended by itself."""

    stdout: bytearray = field(default_factory=bytearray)
    stderr: bytearray = field(default_factory=bytearray)
    ended: bool = False
    overflowed: bool = False


def run(
    arguments: Sequence[str], timeout: float = 30.0, limit: int = LIMIT, given: Sequence[str] = ()
) -> Outcome:
    """Run a program and return what it did, whatever its exit code.

    timeout
        Seconds after which the program is killed; its outcome then has code None.
    limit
        Bytes of standard output, and of standard error, that are kept. A program that prints
        more is killed; its outcome then has code None and says that it overflowed.
    given
        Texts that it reads: the first one as its standard input, all of them as files, by the
        placeholders ``{0}``, ``{1}`` in the arguments. They are in memory, and in no folder.

    If a program ends but leaves its output open to another, that is waited for only briefly.
    WorldError if the program is not installed. Output is decoded as UTF-8, with a replacement
    character for every invalid byte.
    """
    end = time.monotonic() + timeout
    with contextlib.ExitStack() as stack:
        texts = [stack.enter_context(_in_memory(text)) for text in given]
        if texts:
            paths = {f"{{{at}}}": f"/dev/fd/{text}" for at, text in enumerate(texts)}
            arguments = [paths.get(word, word) for word in arguments]
        process = _start(arguments, texts[0] if texts else subprocess.DEVNULL, keep=texts)
    try:
        output = _collect(process, end, limit)
    finally:
        _finish(process)
    code = process.returncode if output.ended and not output.overflowed else None
    return Outcome(code, _text(output.stdout), _text(output.stderr), output.overflowed)


def checked(arguments: Sequence[str], timeout: float = 30.0) -> str:
    """Run a program that has to succeed and return its standard output; WorldError otherwise."""
    outcome = run(arguments, timeout)
    if outcome.code == 0:
        return outcome.stdout
    ended = f"timeout after {timeout:g} s" if outcome.code is None else f"exit code {outcome.code}"
    ended = f"killed after {LIMIT} bytes of output" if outcome.overflowed else ended
    detail = outcome.stderr.strip() or outcome.stdout.strip() or "none"
    raise WorldError(f"{' '.join(arguments)}: {ended}; output: {detail[:500]}")


def run_all(
    wanted: Mapping[str, Sequence[str]], timeout: float = 30.0, limit: int = LIMIT
) -> dict[str, Outcome]:
    """Run programs one after another and return what each one did, by the key it has in ``wanted``.

    timeout
        Seconds for all of them; a program not started by then has code None.

    A program that is not installed has code 127, as from a shell. See ``ssh.run_all``.
    """
    end = time.monotonic() + timeout
    return {key: _tried(arguments, end, limit) for key, arguments in wanted.items()}


class Held:
    """A process that runs until it is released, and responds to requests."""

    def __init__(self, process: subprocess.Popen[bytes], limit: int) -> None:
        self._process = process
        self._limit = limit
        self._output = _Output()
        self._code: int | None = None

    def echoes(self, timeout: float) -> bool:
        """Whether the process, which echoes its input, still does so in time."""
        token = secrets.token_hex(8)
        return self.answer(f"{token}\n", token, timeout) is not None

    def answer(self, request: str, end: str, timeout: float) -> str | None:
        """Send a request; return what the process prints before ``end``.

        None if ``end`` does not come in time, or not within the limit: then the state of the
        process is unknown, and it must get no further request.
        """
        left = memoryview(request.encode("utf-8", "surrogateescape"))
        mark, searched = end.encode(), 0
        limit = time.monotonic() + timeout
        while (at := self._output.stdout.find(mark, searched)) < 0:
            searched = max(0, len(self._output.stdout) - len(mark))
            seconds = limit - time.monotonic()
            if self._output.ended or seconds <= 0:
                return None
            left = left[self._exchange(left, seconds) :]
        response = _text(self._output.stdout[:at])
        del self._output.stdout[: at + len(mark)]
        return response

    def outcome(self) -> Outcome:
        """Return the output that is not a response yet; code None if the process has not ended."""
        output = self._output
        return Outcome(self._code, _text(output.stdout), _text(output.stderr), output.overflowed)

    def _exchange(self, left: memoryview, timeout: float) -> int:
        """Wait until the process can be written or read; return the number of bytes written."""
        kept = {
            _stream(self._process.stdout): self._output.stdout,
            _stream(self._process.stderr): self._output.stderr,
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
            return len(left)  # It reads no more; its output will say why.

    def _take(self, stream: int, kept: bytearray) -> None:
        data = os.read(stream, CHUNK)
        kept += data[: self._limit - len(kept)]
        self._output.overflowed |= len(kept) == self._limit
        self._output.ended |= not data or self._output.overflowed
        if self._output.ended:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._code = self._process.wait(GRACE)


@contextlib.contextmanager
def held(arguments: Sequence[str], limit: int = LIMIT) -> Iterator[Held]:
    """Keep a program running that reads its standard input, and end it with the context.

    If this process is killed, the program reads the end of its input.

    limit
        Bytes of standard output, of one response, and of standard error that are kept.
    """
    process = _start(arguments, stdin=subprocess.PIPE)
    os.set_blocking(_stream(process.stdin), False)
    try:
        yield Held(process, limit)
    finally:
        _finish(process)


@contextlib.contextmanager
def outliving(arguments: Sequence[str], request: str) -> Iterator[None]:
    """Start a program that outlives this process; it reads the end of its input with the context.

    It has a session of its own, and no parent: what kills this process's children spares it.

    request
        The first line of its input.
    """
    process = _start(["setsid", "--fork", *arguments], subprocess.PIPE, subprocess.DEVNULL)
    assert process.stdin is not None
    try:
        with contextlib.suppress(OSError):
            process.stdin.write(f"{request}\n".encode("utf-8", "surrogateescape"))
        yield
    finally:
        with contextlib.suppress(OSError):
            process.stdin.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(GRACE)


def _tried(arguments: Sequence[str], end: float, limit: int) -> Outcome:
    left = end - time.monotonic()
    if left <= 0:
        return Outcome(None, "", "timeout before it was started")
    try:
        return run(arguments, left, limit)
    except NotInstalled as error:
        return Outcome(NOT_FOUND, "", str(error))
    except WorldError as error:
        return Outcome(None, "", str(error))


@contextlib.contextmanager
def _in_memory(text: str) -> Iterator[int]:
    """Open a file without a name, with a text to be read."""
    descriptor = os.memfd_create("kvmcluster")
    try:
        os.pwrite(descriptor, text.encode("utf-8", "surrogateescape"), 0)
        yield descriptor
    finally:
        os.close(descriptor)


def _start(
    arguments: Sequence[str],
    stdin: int = subprocess.DEVNULL,
    output: int = subprocess.PIPE,
    keep: Sequence[int] = (),
) -> subprocess.Popen[bytes]:
    """Start a program in a session of its own, its output piped to us.

    keep
        Descriptors that it has, too.
    """
    environment = {"PATH": SYSTEM_PATH, "LC_ALL": "C", "HOME": os.path.expanduser("~")}
    try:
        return subprocess.Popen(
            list(arguments),
            bufsize=0,
            stdin=stdin,
            stdout=output,
            stderr=output,
            env=environment,
            start_new_session=True,
            pass_fds=keep,
        )
    except FileNotFoundError:
        raise NotInstalled(f"{arguments[0]} is not installed{_package(arguments[0])}") from None
    except OSError as error:
        raise WorldError(f"{arguments[0]} cannot be run: {error.strerror}") from None


def _collect(process: subprocess.Popen[bytes], end: float, limit: int) -> _Output:
    """Collect a process's output until it ends, its time is up or it has printed too much."""
    output = _Output()
    gone = None
    pause = PAUSES[0]
    with selectors.DefaultSelector() as selector:
        for stream, kept in ((process.stdout, output.stdout), (process.stderr, output.stderr)):
            if stream is not None:
                selector.register(stream, selectors.EVENT_READ, kept)
        while not (output.ended or output.overflowed) and (left := end - time.monotonic()) > 0:
            if gone is None and _has_ended(process):
                gone = time.monotonic()
            ready = selector.select(min(pause, left))
            pause = PAUSES[0] if ready else min(2 * pause, PAUSES[1])
            for key, _ in ready:
                output.overflowed |= _take(selector, key, limit)
            silent = not ready and gone is not None and time.monotonic() > gone + GRACE
            output.ended = silent or (gone is not None and not selector.get_map())
    return output


def _take(selector: selectors.BaseSelector, key: selectors.SelectorKey, limit: int) -> bool:
    """Read once from a stream that is ready; return whether that was more than its limit."""
    kept: bytearray = key.data
    data = os.read(key.fd, CHUNK)
    if not data:
        selector.unregister(key.fileobj)
    room = limit - len(kept)
    kept += data[:room]
    return len(data) > room


def _has_ended(process: subprocess.Popen[bytes]) -> bool:
    """Whether a process has ended; it is not reaped yet, so its number is not reused."""
    try:
        options = os.WEXITED | os.WNOHANG | os.WNOWAIT
        return os.waitid(os.P_PID, process.pid, options) is not None
    except ChildProcessError:
        return True


def _finish(process: subprocess.Popen[bytes]) -> None:
    """Kill what is left of a process and its group, and close its output."""
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
    return f"; install {package}" if package else ""
