"""What a watched cluster is shown on: a terminal that it fills, or lines one after the other.

The first needs the library rich; without it, and where there is no terminal, there are lines.
"""

from __future__ import annotations

import contextlib
import logging
import os
import sys
import time
from collections.abc import Iterator, Mapping
from typing import Any

from saltext_kvmcluster.core.output import colours, watching
from saltext_kvmcluster.master.terminal import OUTPUTTER

STYLES = {
    colours.BAD: "bold red",
    colours.WARNING: "yellow",
    colours.GOOD: "green",
    colours.NEWS: "cyan",
}
REFRESH = 1.0
"""Seconds after which a screen is drawn anew though nothing has changed."""


class Nothing:
    """Shows nothing: what is returned is for a program."""

    def show(self, data: Mapping[str, Any]) -> None:
        """Show nothing."""


class Lines:
    """Prints a line for each change."""

    def __init__(self, is_coloured: bool) -> None:
        self._last: Mapping[str, Any] | None = None
        self._is_coloured = is_coloured

    def show(self, data: Mapping[str, Any]) -> None:
        """Print what has changed."""
        lines, self._last = watching.changes(self._last, data), data
        for line in lines:
            text = colours.coloured(line) if self._is_coloured else line
            print(f"{data['at'][11:19]}  {text}", flush=True)


class Screen:
    """Fills a terminal.

    live
        A ``rich.live.Live`` that was started.
    """

    def __init__(self, live: Any, is_coloured: bool) -> None:
        self._live, self._is_coloured = live, is_coloured
        self._drawn: tuple[Any, ...] = ()
        self._at = 0.0

    def show(self, data: Mapping[str, Any]) -> None:
        """Draw it, if it is not what is there already."""
        size = self._live.console.size
        lines = watching.filled(data, size.width, size.height)
        drawn = (size, *lines[1:])
        if drawn != self._drawn or time.monotonic() - self._at >= REFRESH:
            self._drawn, self._at = drawn, time.monotonic()
            self._live.update(self._text(lines), refresh=True)

    def _text(self, lines: list[str]) -> Any:
        """Return lines as rich draws them: as they are, since a ``Text`` has no markup."""
        from rich.text import Text

        text = Text(no_wrap=True, overflow="crop")
        for number, line in enumerate(lines):
            drawn = Text(line)
            for begin, end, style in colours.spans(line) if self._is_coloured else ():
                drawn.stylize(STYLES[style], begin, end)
            text.append("\n" if number else "").append_text(drawn)
        return text


@contextlib.contextmanager
def opened(opts: Mapping[str, Any], once: bool) -> Iterator[Nothing | Lines | Screen]:
    """Give what to show it on, for as long as the context lasts.

    opts
        The master's options.
    once
        Whether only what is returned is wanted.
    """
    if once or opts.get("output") not in (None, OUTPUTTER):
        yield Nothing()
        return
    is_terminal = sys.stdout.isatty() and os.environ.get("TERM", "dumb") != "dumb"
    is_coloured = wants_colour(opts, is_terminal)
    if not is_terminal or (live := _live()) is None:
        yield Lines(is_coloured)
        return
    with live, _quiet():
        yield Screen(live, is_coloured)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep what is logged off the terminal while something fills it; the log file has it."""
    shown = [one for one in logging.getLogger().handlers if _is_on_terminal(one)]
    levels = [handler.level for handler in shown]
    try:
        for handler in shown:
            handler.setLevel(logging.CRITICAL + 1)
        yield
    finally:
        for handler, level in zip(shown, levels, strict=True):
            handler.setLevel(level)


def _is_on_terminal(handler: logging.Handler) -> bool:
    streams = (sys.stdout, sys.stderr, sys.__stderr__)
    return isinstance(handler, logging.StreamHandler) and handler.stream in streams


def wants_colour(opts: Mapping[str, Any], is_terminal: bool) -> bool:
    """Whether words are to be coloured, as the outputter decides it."""
    if opts.get("force_color"):
        return True
    return is_terminal and not (opts.get("no_color") or os.environ.get("NO_COLOR"))


def _live() -> Any:
    """Return what draws on a terminal, None without the library."""
    try:
        from rich.console import Console
        from rich.live import Live
    except ImportError:
        return None
    console = Console(markup=False, highlight=False, emoji=False)
    return Live(console=console, screen=True, auto_refresh=False, redirect_stderr=False)
