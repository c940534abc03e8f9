"""What a person at the master's terminal sees of migrations, and interrupts with Ctrl-C."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Iterator, Mapping
from types import FrameType
from typing import Any

from saltext_kvmcluster.core.drain.progress import BatchProgress
from saltext_kvmcluster.core.output import tables
from saltext_kvmcluster.master.runs import Publisher

OUTPUTTER = "kvmcluster"
INTERRUPTED = threading.Event()
"""Set by a Ctrl-C that a command has noted: whatever it returns, nothing is to follow it."""
# Of a terminal whose width is not known.
COLUMNS = 80


class Line:
    """A line on a terminal that is written over until it is closed; shown nowhere else."""

    def __init__(self, opts: Mapping[str, Any]) -> None:
        self._shown = sys.stderr.isatty() and opts.get("output") in (None, OUTPUTTER)
        self._text = ""

    def show(self, text: str) -> None:
        """Write it over with this."""
        if self._shown and text != self._text:
            self._text = text
            columns = os.get_terminal_size(sys.stderr.fileno()).columns or COLUMNS
            print(f"\r{text[: columns - 1]}\x1b[K", end="", file=sys.stderr, flush=True)

    def print(self, text: str) -> None:
        """Print something that stays."""
        if self._shown:
            self.close()
            print(text, file=sys.stderr, flush=True)

    def close(self) -> None:
        """Remove it."""
        if self._text:
            print("\r\x1b[K", end="", file=sys.stderr, flush=True)
            self._text = ""


class Terminal:
    """The terminal of a run over many migrations: a ``Console`` of the drain engine.

    publisher
        What tells other processes how far it is; None if nothing does.
    """

    def __init__(
        self, line: Line, interrupted: threading.Event, publisher: Publisher | None = None
    ) -> None:
        self._line, self._interrupted, self._publisher = line, interrupted, publisher

    def interrupted(self) -> bool:
        """Whether Ctrl-C was pressed."""
        return self._interrupted.is_set()

    def show(self, line: str) -> None:
        """Show how far it is."""
        self._line.show(line)
        if self._publisher:
            self._publisher.show(line)

    def progress(self, progress: BatchProgress) -> None:
        """Show how far a run over many moves is."""
        self._line.show(progress.line())
        if self._publisher:
            self._publisher.progress(progress)

    def plan(self, plan: Mapping[str, Any]) -> None:
        """Print a plan that is about to be carried out; a drained node is cordoned by then."""
        data = {"ok": True, "test": True, "kind": "drain", "begins": True, **plan}
        self._line.print(tables.render(data) or "")


@contextlib.contextmanager
def attached(opts: Mapping[str, Any]) -> Iterator[Terminal]:
    """Give the terminal for as long as the context lasts."""
    with interrupts() as interrupted, contextlib.closing(Line(opts)) as line:
        yield Terminal(line, interrupted)


@contextlib.contextmanager
def publishing(
    opts: Mapping[str, Any], cluster: str, command: str, node: str = ""
) -> Iterator[Terminal]:
    """Give the terminal, and publish what is shown there; see `runs.Publisher`."""
    with (
        interrupts() as interrupted,
        contextlib.closing(Line(opts)) as line,
        contextlib.closing(Publisher(opts, cluster, command, node)) as publisher,
    ):
        yield Terminal(line, interrupted, publisher)


@contextlib.contextmanager
def interrupts() -> Iterator[threading.Event]:
    """Yield an event that the first Ctrl-C sets, the next one does what it always does.

    An exception would not do: Salt's event bus takes KeyboardInterrupt for an event.
    """
    interrupted = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield interrupted
        return

    def note(number: int, frame: FrameType | None) -> None:
        signal.signal(signal.SIGINT, before)
        interrupted.set()
        INTERRUPTED.set()

    before = signal.signal(signal.SIGINT, note)
    try:
        yield interrupted
    finally:
        signal.signal(signal.SIGINT, before)
