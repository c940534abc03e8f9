"""Where rumours wait for an answer: one mark for each kind of answer, however many they are.

Whoever gets the lock answers, and goes on for as long as rumours come; all others leave their mark
and go. A mark goes when its answer begins, and what was begun is marked, too, until it has ended:
so whoever comes after a killed one finds what is left.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable

from saltext_kvmcluster.core.errors import WorldError
from saltext_kvmcluster.core.fileplan import FilePlan
from saltext_kvmcluster.host import descriptors, files

# Seconds: in which rumours of one event come together; from the end of an answer to the next one.
SETTLING, DISTANCE = 2.0, 30.0
# Seconds that an answer may come late before a rumour of it counts as forgotten.
SPARE = 30.0
HEARD, BEGUN, TOLD, KEPT = ".heard", ".begun", ".told", ".json"
MOST_KEPT = 100


class Pending:
    """Rumours by key, in a folder of this account's own in the master's cache directory.

    Every verb raises WorldError.
    """

    def __init__(self, cachedir: str) -> None:
        self._folder = os.path.join(cachedir, "kvmcluster")
        self._owner = descriptors.owner_name(os.getuid())

    def leave(self, key: str) -> None:
        """Leave a rumour."""
        files.mark(self._path(key, HEARD))

    def heard(self) -> set[str]:
        """Return the keys of which rumours wait that will be answered soon: one more adds nothing.

        One that has waited longer may have been left by somebody who was killed.
        """
        return {key for key in self._keys(HEARD) if self._is_young(key)}

    def left(self) -> list[str]:
        """Return the keys of which rumours wait, or whose answer has not ended."""
        return sorted(self._keys(HEARD, BEGUN))

    def answer(self, key: str, work: Callable[[str], str]) -> None:
        """Answer the rumours of a key, unless somebody else is doing it, until none is left.

        work
            Takes what the last look came to, and returns what this one comes to, in words.
        """
        while self._is_left(key):
            try:
                with files.lock(key, 0.0, self._folder):
                    while self._is_left(key):
                        self._answer(key, work)
            except files.Busy:
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
            files.remove(old)
        return path

    def _answer(self, key: str, work: Callable[[str], str]) -> None:
        at, detail = self._reported(key)
        # Of a clock that was set back nothing is to be waited for.
        time.sleep(max(SETTLING, min(at + DISTANCE - time.time(), DISTANCE)))
        files.mark(self._path(key, BEGUN))
        files.remove(self._path(key, HEARD))
        self._tell(key, time.time(), detail)
        try:
            detail = work(detail)
            self._tell(key, time.time(), detail)
        finally:
            files.remove(self._path(key, BEGUN))

    def _keys(self, *kinds: str) -> set[str]:
        names = [os.path.splitext(os.path.basename(path)) for path in files.listed(self._folder)]
        return {name for name, kind in names if kind in kinds}

    def _is_young(self, key: str) -> bool:
        try:
            age = time.time() - os.stat(self._path(key, HEARD)).st_mtime
        except OSError:
            return False
        return 0 <= age < SETTLING + DISTANCE + SPARE

    def _is_left(self, key: str) -> bool:
        return any(files.exists(self._path(key, kind)) for kind in (HEARD, BEGUN))

    def _reported(self, key: str) -> tuple[float, str]:
        """Return when the last answer began, and what it came to."""
        try:
            at, detail = json.loads(files.read(self._path(key, TOLD)).text or "")
            return float(at), str(detail)
        except (ValueError, TypeError):
            return 0.0, ""

    def _tell(self, key: str, at: float, detail: str) -> None:
        self._write(self._path(key, TOLD), json.dumps([at, detail]))

    def _write(self, path: str, text: str) -> None:
        files.apply(FilePlan(path, text, 0o600, self._owner, {}))

    def _path(self, key: str, kind: str) -> str:
        if "/" in key:
            raise WorldError(f"{key} cannot be kept: it is no file's name")
        return os.path.join(self._folder, key + kind)
