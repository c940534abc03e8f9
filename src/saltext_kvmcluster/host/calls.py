"""Calls that may never return: into a library, or into a file system that hangs."""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable, Iterable
from concurrent import futures
from concurrent.futures import Future
from typing import TypeVar

_T = TypeVar("_T")


def in_thread(call: Callable[[], _T]) -> Future[_T]:
    """Run a call in a thread that nothing waits for, not even the end of the program."""
    future: Future[_T] = Future()

    def work() -> None:
        try:
            future.set_result(call())
        except BaseException as error:
            future.set_exception(error)

    threading.Thread(target=work, daemon=True).start()
    return future


def side_by_side(call: Callable[[int], None], numbers: Iterable[int]) -> None:
    """Run a call for each of some numbers, each in a thread, until all have ended.

    What one of them raises is raised then. What ends the program does not wait for them.
    """
    running = [in_thread(functools.partial(call, number)) for number in numbers]
    futures.wait(running)
    for one in running:
        one.result()
