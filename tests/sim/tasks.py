"""Processes of the simulated world that go on side by side, one of which runs at a time.

What they run is plain code that waits: so each is a thread, which hands the world back while it
waits. Events of the world happen in the main thread alone.
"""

from __future__ import annotations

import threading


class Ended(BaseException):
    """The simulation is over: a process that still waits goes no further."""


class Task:
    """A process. ``error``: what it raised; ``done``: it has ended, one way or the other."""

    def __init__(self, world, work):
        self.world, self._work = world, work
        self.done, self.value, self.error = False, None, None
        self._fatal, self._wakings = None, 0
        self._turn, self._back = threading.Lock(), threading.Lock()
        self._turn.acquire()
        self._back.acquire()
        self._thread = threading.Thread(target=self._run, daemon=True)
        world.tasks.append(self)
        world.after(0, self._begin)

    def kill(self, error):
        """Let it raise an error where it waits; nothing if it has ended."""
        if not self.done and self._fatal is None:
            self._fatal = error
            self._wakings += 1
            self.world.after(0, self.resume)

    def wait(self, end, ready):
        """Wait until it is ready, or so late; for the process itself."""
        world = self.world
        self._wakings += 1
        due = self._wakings
        world.after(end - world.now, lambda: self.resume() if due == self._wakings else None)
        if ready:
            world.waiting[self] = ready
        self._back.release()
        self._turn.acquire()
        if self._fatal:
            raise self._fatal

    def resume(self):
        """Let it go on until it waits again; for the main thread."""
        if self.done:
            return
        world = self.world
        world.waiting.pop(self, None)
        self._wakings += 1
        world.task = self
        self._turn.release()
        self._back.acquire()
        world.task = None
        if self.done:
            self._thread.join()
            world.tasks.remove(self)
            if isinstance(self.error, Exception):
                raise self.error

    def end(self):
        """End it, since the simulation is over."""
        self._fatal = Ended()
        if not self._thread.is_alive() and not self.done:
            self._begin()
        while not self.done:
            self.resume()

    def _begin(self):
        if not self.done and not self._thread.is_alive():
            self._thread.start()
            self.resume()

    def _run(self):
        self._turn.acquire()
        try:
            if self._fatal:
                raise self._fatal
            self.value = self._work()
        except BaseException as error:
            self.error = error
        self.done = True
        self._back.release()
