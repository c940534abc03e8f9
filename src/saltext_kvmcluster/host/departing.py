"""The departures of this node, on its disk in /run: what became of each move, and what is wished.

The process that carries them out writes the one file, whoever wants something of them the other.
Both are read and written under one lock. So nothing is begun after it was answered that nothing
further is, and departures that arrive a second time, or too late, begin nothing at all.
"""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any

from saltext_kvmcluster.core.cordons import Cordon
from saltext_kvmcluster.core.drain import departures
from saltext_kvmcluster.core.drain.departures import Departures, Wishes
from saltext_kvmcluster.core.errors import WorldError
from saltext_kvmcluster.core.fileplan import FilePlan
from saltext_kvmcluster.core.migration.migration import Move
from saltext_kvmcluster.core.pillar.clusters import Cluster
from saltext_kvmcluster.core.untrusted import from_json
from saltext_kvmcluster.host import bootid, cordons, files, locks

FOLDER = f"{locks.RUN}/kvmcluster-departures"
PROCESS = "process"
KEPT = 86400.0
"""Seconds for which what became of departures can be asked for."""


class Departing:
    """Departures that this process carries out."""

    def __init__(
        self, id: str, cluster: Cluster, moves: Sequence[Move], while_cordoned: bool = False
    ) -> None:
        self._id, self._departures = id, Departures(cluster, moves, while_cordoned)
        self._process = bootid.process(os.getpid())

    def begin(self) -> bool:
        """Write them down; return whether this is the first to do so, and nobody forbade it."""
        with _locked():
            _forget_old()
            if files.exists(_path(self._id)) or files.exists(_wishes(self._id)):
                return False
            self._write()
        return True

    def next(self) -> Move | None:
        """Return the move to be begun now, None if there is none."""
        with _locked():
            move = self._departures.next(*self._wished())
            self._write()
        return move

    def is_stopped(self) -> bool:
        """Whether nothing further is to be begun."""
        with _locked():
            return self._departures.is_stopped(*self._wished())

    def _wished(self) -> tuple[Wishes, Cordon | None]:
        """Return what others want of them, and what cordons this node."""
        return departures.wishes(_read(_wishes(self._id))), cordons.current()

    def is_more(self) -> bool:
        """Whether something may have to be begun later."""
        with _locked():
            return self._departures.is_more

    def end(self, move: Move, result: Mapping[str, Any]) -> None:
        """Write down what became of a move."""
        with self._noted():
            self._departures.end(move, result)

    def put_back(self, move: Move) -> None:
        """Write down that a move was not begun after all."""
        with self._noted():
            self._departures.put_back(move)

    def stop(self) -> None:
        """Begin nothing further."""
        with self._noted():
            self._departures.stop()

    def answer(self) -> dict[str, Any]:
        """Return what became of them, now that all that was begun has ended."""
        self._process = ""
        with self._noted():
            return _answer(self._id, known=True, open=False, data=self._departures.to_dict())

    @contextlib.contextmanager
    def _noted(self) -> Iterator[None]:
        """Change something, and write it down; this process knows it in any case."""
        with contextlib.ExitStack() as held:
            with contextlib.suppress(WorldError):
                held.enter_context(_locked())
            yield
            with contextlib.suppress(WorldError):
                self._write()

    def _write(self) -> None:
        _put(_path(self._id), {PROCESS: self._process, **self._departures.to_dict()})


def told(id: str, stop: bool = False) -> dict[str, Any]:
    """Return what became of departures; what is not known here is not begun any more either.

    stop
        Whether nothing further is to be begun.
    """
    with _locked():
        kept = _read(_path(id))
        if stop or kept is None:
            wished = departures.wishes(_read(_wishes(id)))
            _put(_wishes(id), Wishes(True, wished.cancelled).to_dict())
        if kept is None:
            return _answer(id, known=False, open=False, data={"stopped": True, "moves": []})
        is_open = bootid.is_alive(str(kept.pop(PROCESS, "")))
        kept["stopped"] = bool(kept.get("stopped")) or stop
        return _answer(id, known=True, open=is_open, data=kept)


def withdraw(uuid: str, requester: str) -> bool:
    """Have a guest not depart that waits to; return whether it did."""
    found = False
    with _locked():
        for id, kept in _alive():
            if any(row["uuid"] == uuid for row in departures.queued([kept])):
                wished = departures.wishes(_read(_wishes(id)))
                cancelled = {**wished.cancelled, uuid: requester}
                _put(_wishes(id), Wishes(wished.stop, cancelled).to_dict())
                found = True
    return found


def queued() -> list[dict[str, Any]]:
    """Return the moves that wait here to be begun, as ``kvmcluster.job`` has them."""
    return departures.queued(
        kept for id, kept in _alive() if not departures.wishes(_read(_wishes(id))).stop
    )


def _answer(id: str, known: bool, open: bool, data: Mapping[str, Any]) -> dict[str, Any]:
    return {**data, "kind": departures.KIND, "id": id, "known": known, "open": open, "ok": True}


def _locked() -> AbstractContextManager[None]:
    return locks.lock("kvmcluster-departures")


def _alive() -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the id of each departures whose process is there, and what is written down of them."""
    for name in files.children(FOLDER):
        id, _, kind = name.partition(".")
        kept = _read(_path(id)) if kind == "json" else None
        if kept and bootid.is_alive(str(kept.get(PROCESS, ""))):
            yield id, kept


def _forget_old() -> None:
    for name in files.children(FOLDER):
        path = f"{FOLDER}/{name}"
        with contextlib.suppress(OSError, WorldError):
            is_old = time.time() - os.stat(path).st_mtime > KEPT
            if is_old and not _is_alive(name.partition(".")[0]):
                files.remove(path)


def _is_alive(id: str) -> bool:
    return bootid.is_alive(str((_read(_path(id)) or {}).get(PROCESS, "")))


def _read(path: str) -> dict[str, Any] | None:
    text = files.read(path).text
    if text is None:
        return None
    found = from_json(text, path, lenient=True).value
    return found if isinstance(found, dict) else {}


def _put(path: str, data: Mapping[str, Any]) -> None:
    files.apply(FilePlan(path, json.dumps(data), 0o600, "root", {}))


def _path(id: str) -> str:
    return f"{FOLDER}/{id}.json"


def _wishes(id: str) -> str:
    return f"{FOLDER}/{id}.wishes"
