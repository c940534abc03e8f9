"""The moves of a plan that one node carries out by itself, in one job: its departures.

The node keeps what became of each, and tells it to whoever asks: the job's return may get lost, and
so may the job. What it has marked as begun may have been begun; what it has not, was not.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from saltext_kvmcluster.core.cordons import Cordon
from saltext_kvmcluster.core.drain.batch import Batch
from saltext_kvmcluster.core.drain.placement import Placement
from saltext_kvmcluster.core.drain.plan import Step
from saltext_kvmcluster.core.errors import InputError
from saltext_kvmcluster.core.events import events
from saltext_kvmcluster.core.migration.jobs import KEYS, QUEUED
from saltext_kvmcluster.core.migration.migration import CANCELLED, MOVED, NOT_MOVED, Move
from saltext_kvmcluster.core.ownership import locations
from saltext_kvmcluster.core.pillar.clusters import Cluster
from saltext_kvmcluster.core.untrusted import Reader

KIND = "departures"
WAITS, BEGUN, ENDED = "waits", "begun", "ended"
MOST = 10_000
LONGEST_ID = 40


@dataclass(frozen=True)
class Wishes:
    """What others want of departures: that nothing further is begun, or not these guests.

    ``cancelled``: by UUID, who requested it.
    """

    stop: bool = False
    cancelled: Mapping[str, str] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Return them as plain data, for ``wishes``."""
        return {"stop": self.stop, "cancelled": dict(self.cancelled)}


def wishes(data: object) -> Wishes:
    """Return the wishes that were written down; none where there are none."""
    sent = Reader(data, lenient=True)
    cancelled = sent.at("cancelled").fields(optional=True)
    return Wishes(
        sent.at("stop").flag(default=False) is True,
        {uuid: who.line(default="") or "" for uuid, who in cancelled.items()},
    )


class Departures:
    """Which move is next, within the cluster's limits, and what became of each.

    After the first that fails, or is cancelled, nothing further is begun.

    while_cordoned
        Whether they are wanted only as long as their node is cordoned, as those of a drain. One
        that is uncordoned and cordoned again is cordoned for something else.
    """

    def __init__(
        self, cluster: Cluster, moves: Sequence[Move], while_cordoned: bool = False
    ) -> None:
        self._batch, self._while_cordoned = Batch(cluster), while_cordoned
        self._since: str | None = None
        self._batch.follow(Placement(tuple(Step(move, "") for move in moves), {}))
        self._moves = {move.guest: move for move in moves}
        self._states = dict.fromkeys(self._moves, WAITS)
        self._results: dict[str, Mapping[str, Any]] = {}

    def next(self, wished: Wishes, cordon: Cordon | None) -> Move | None:
        """Return the move to be begun now, None if there is none now.

        cordon
            What cordons the node now.
        """
        self.is_stopped(wished, cordon)
        for guest, move in self._moves.items():
            if self._states[guest] == WAITS and move.uuid in wished.cancelled:
                who = wished.cancelled[move.uuid]
                self._end(move, refused(move, f"{CANCELLED}{who}, before it was begun"))
        due = self._batch.due()
        if due:
            self._states[due.guest] = BEGUN
        return due

    def is_stopped(self, wished: Wishes, cordon: Cordon | None) -> bool:
        """Whether nothing further is to be begun, from now on."""
        if wished.stop or (self._while_cordoned and not self._is_first(cordon)):
            self.stop()
        return self._batch.is_stale

    def _is_first(self, cordon: Cordon | None) -> bool:
        if cordon and self._since is None:
            self._since = cordon.since
        return cordon is not None and cordon.since == self._since

    def put_back(self, move: Move) -> None:
        """Take in that a move was not begun after all, since they were stopped."""
        del self._batch.in_flight[move.guest]
        self._states[move.guest] = WAITS

    @property
    def is_more(self) -> bool:
        """Whether something may have to be begun later."""
        return bool(self._batch.waiting) and not self._batch.is_stale

    def stop(self) -> None:
        """Begin nothing further."""
        self._batch.is_stale = True

    def end(self, move: Move, result: Mapping[str, Any]) -> None:
        """Take in what became of a move that was begun."""
        self._batch.end(move.guest, result)
        self._end(move, result)

    def _end(self, move: Move, result: Mapping[str, Any]) -> None:
        self._states[move.guest], self._results[move.guest] = ENDED, result
        if result["result"] != MOVED:
            self.stop()

    def to_dict(self) -> dict[str, Any]:
        """Return it as plain data, for ``parse``."""
        return {
            "stopped": self._batch.is_stale,
            "moves": [
                {**asdict(move), "state": self._states[guest], "result": self._results.get(guest)}
                for guest, move in self._moves.items()
            ],
        }


def refused(move: Move, reason: str) -> dict[str, Any]:
    """Return the result of a move that was not begun."""
    return {**asdict(move), "owner": None, "result": NOT_MOVED, "reason": reason}


def moves_of(cluster: Cluster, here: str, given: object) -> list[Move]:
    """Return the moves that a node is to carry out; InputError if they are none."""
    sent = Reader(given, "moves")
    moves = []
    for row in sent.items(most=MOST):
        guest, uuid, destination = (row.at(key).text() for key in ("guest", "uuid", "destination"))
        if destination not in cluster.nodes or destination == here:
            raise InputError(f"{row.path}: {destination!r} is no other node of this cluster")
        moves.append(Move(guest, uuid, here, destination))
    if len({move.guest for move in moves}) < len(moves):
        raise InputError("moves: a guest is in it twice")
    return moves


def id_of(given: object) -> str:
    """Return the id of a job, which becomes the name of a file; InputError if it is none."""
    if isinstance(given, int) and not isinstance(given, bool):
        given = str(given)  # Salt reads it so from a command line.
    if isinstance(given, str) and given.isascii() and given.isalnum() and len(given) <= LONGEST_ID:
        return given
    raise InputError("id: want the id of a job, letters and digits")


@dataclass(frozen=True)
class Reported:
    """What a node told of departures.

    ``known``: whether it knows them. ``open``: whether their job is still there. ``stopped``:
    whether nothing further is begun. ``states``, ``results``: by guest.
    """

    known: bool
    open: bool
    stopped: bool
    states: Mapping[str, str] = field(default_factory=dict)
    results: Mapping[str, dict[str, Any]] = field(default_factory=dict)

    def is_never_begun(self, guest: str) -> bool:
        """Whether a move was not begun, and is not any more."""
        return self.states.get(guest) == WAITS and (self.stopped or not self.open)


@dataclass(frozen=True)
class Hint:
    """What an event says of a guest's migration; it proves nothing."""

    node: str
    guest: str
    has_moved: bool = False
    has_failed: bool = False


def hint(cluster: str, tag: object, data: object) -> Hint | None:
    """Return what an event says, None if it is not about a migration of this cluster.

    data
        As the master has it: the minion that sent it is its ``id``.
    """
    sent = Reader(data, lenient=True)
    node, sent = sent.at("id").text(default="") or "", sent.at("data")
    guest, what = sent.at("guest").text(default="") or "", sent.at("what").text(default="")
    if not node or not guest or tag != events.tag(cluster, events.MIGRATION, node, guest):
        return None
    has_moved = what == "ended" and sent.at("result").value == MOVED
    return Hint(node, guest, has_moved, what in ("ended", "refused") and not has_moved)


GONE = Reported(known=False, open=False, stopped=False)
"""What is known of departures whose node does not tell."""


def parse(answer: object, id: str) -> Reported | None:
    """Return what a node told of the departures of that id; None if that is nothing of use."""
    sent = Reader(answer)
    states, results = {}, {}
    try:
        if sent.at("kind").text() != KIND or sent.at("id").text() != id:
            return None
        for row in sent.at("moves").items(most=MOST):
            guest, state = row.at("guest").text(), row.at("state").choice((WAITS, BEGUN, ENDED))
            states[guest] = state
            if state == ENDED:
                result = row.at("result").value
                if not isinstance(result, Mapping) or not locations.is_ending(result):
                    return None
                results[guest] = dict(result)
        known, is_open, stopped = (sent.at(key).flag() for key in ("known", "open", "stopped"))
    except InputError:
        return None
    return Reported(known, is_open, stopped, states, results)


def returned(answer: object, id: str) -> Reported | None:
    """Return what a job returned; None if that leaves its end open.

    WorldError, with the node's text, if nothing was begun.
    """
    found = parse(answer, id)
    if found is None and isinstance(answer, str):
        locations.ended(answer)
    return found


def queued(kept: Iterable[object]) -> list[dict[str, Any]]:
    """Return the moves that wait in departures, as ``kvmcluster.job`` has them.

    kept
        What is written down of each whose process is there.
    """
    rows: list[dict[str, Any]] = []
    for data in kept:
        sent = Reader(data, lenient=True)
        if sent.at("stopped").flag(default=True):
            continue
        waiting = [
            row for row in sent.at("moves").items(optional=True) if row.at("state").value == WAITS
        ]
        for slot, row in enumerate(waiting, 1):
            move = {
                key: row.at(key).line(default="")
                for key in ("guest", "uuid", "source", "destination")
            }
            rows.append({**dict.fromkeys(KEYS), **move, "phase": QUEUED, "slot": slot})
    return rows
