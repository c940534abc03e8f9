"""Reactions that are pending: one mark for each kind of reaction, however many events call for it.

The process that gets the lock reacts, and goes on for as long as events come; all others leave
their mark and end. The mark is removed when its reaction begins; one that runs is marked, too,
until it has ended well: so after a process was killed the next one finds what is left.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import time
from collections.abc import Callable

from saltext_kvmcluster.core.errors import WorldError
from saltext_kvmcluster.core.fileplan import FilePlan
from saltext_kvmcluster.host import descriptors, files, locks

# Seconds: in which events with one cause come together; from one reaction to the next one.
SETTLING, DISTANCE = 2.0, 30.0
# Seconds that a reaction may be late before its mark counts as abandoned.
SPARE = 30.0
PENDING, RUNNING, RESULT, KEPT = ".pending", ".running", ".result", ".json"
MOST_KEPT = 100


class Pending:
    """Pending reactions by key, in a folder of this account's own in the master's cache directory.

    Every verb raises WorldError.
    """

    def __init__(self, cachedir: str) -> None:
        self._folder = os.path.join(cachedir, "kvmcluster")
        self._owner = descriptors.owner_name(os.getuid())

    def leave(self, key: str) -> None:
        """Leave a mark."""
        files.mark(self._path(key, PENDING))

    def young(self) -> set[str]:
        """Return the keys of reactions that will be done soon: one more mark adds nothing.

        A mark that is older may be of a process that was killed.
        """
        return {key for key in self._keys(PENDING) if self._is_young(key)}

    def left(self) -> list[str]:
        """Return the keys of reactions that are pending, or have not ended."""
        return sorted(self._keys(PENDING, RUNNING))

    def last(self, key: str) -> tuple[float, str]:
        """Return how many seconds ago a reaction began or ended last, and its result."""
        try:
            at, detail = json.loads(files.read(self._path(key, RESULT)).text or "")
            return time.time() - float(at), str(detail)
        except (ValueError, TypeError, RecursionError, WorldError):
            return math.inf, ""

    def answer(self, key: str, work: Callable[[str], str]) -> None:
        """Do the reaction of a key, unless another process does, until no mark is left.

        work
            Takes the last result, and returns the new one, as text.
        """
        while self._is_left(key):
            try:
                with locks.lock(key, 0.0, self._folder):
                    while self._is_left(key):
                        self._answer(key, work)
            except locks.Busy:
                return

    def keep(self, name: str, stamp: str, text: str) -> str:
        """Keep a file that only this account reads, and the last MOST_KEPT of that name.

        stamp
            Sorts behind all earlier ones.
        """
        path = self._path(f"{name}.{stamp}", KEPT)
        self._write(path, text)
        start = self._path(name, ".")
        kept = [one for one in files.listed(self._folder) if one.startswith(start)]
        for old in [one for one in kept if one.endswith(KEPT)][:-MOST_KEPT]:
            if old != path:  # After a clock was set back the new one is not the last.
                with contextlib.suppress(WorldError):
                    files.remove(old)
        return path

    def _answer(self, key: str, work: Callable[[str], str]) -> None:
        ago, detail = self.last(key)
        # Of a clock that was set back nothing is to be waited for.
        time.sleep(max(SETTLING, min(DISTANCE - ago, DISTANCE)))
        files.mark(self._path(key, RUNNING))
        files.remove(self._path(key, PENDING))
        self._note(key, detail)
        self._note(key, work(detail))
        # Not where anything raised, as at the end of this process: then it is still to be done.
        files.remove(self._path(key, RUNNING))

    def _keys(self, *kinds: str) -> set[str]:
        names = [os.path.splitext(os.path.basename(path)) for path in files.listed(self._folder)]
        return {name for name, kind in names if kind in kinds}

    def _is_young(self, key: str) -> bool:
        try:
            age = time.time() - os.stat(self._path(key, PENDING)).st_mtime
        except OSError:
            return False
        return 0 <= age < SETTLING + DISTANCE + SPARE

    def _is_left(self, key: str) -> bool:
        return any(files.exists(self._path(key, kind)) for kind in (PENDING, RUNNING))

    def _note(self, key: str, detail: str) -> None:
        self._write(self._path(key, RESULT), json.dumps([time.time(), detail]))

    def _write(self, path: str, text: str) -> None:
        files.apply(FilePlan(path, text, 0o600, self._owner, {}))

    def _path(self, key: str, kind: str) -> str:
        if "/" in key:
            raise WorldError(f"{key} cannot be kept: it is no file's name")
        return os.path.join(self._folder, key + kind)
