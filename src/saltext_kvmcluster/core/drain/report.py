"""What is told of many moves, before and after: the plan, what moved, what did not and why."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import asdict
from datetime import datetime
from typing import Any

from saltext_kvmcluster.core import cordons
from saltext_kvmcluster.core.cordons import Cordon
from saltext_kvmcluster.core.drain.batch import SHOWN, Batch
from saltext_kvmcluster.core.drain.placement import Placement
from saltext_kvmcluster.core.errors import InputError, WorldError
from saltext_kvmcluster.core.facts.node_report import NO_RETURN
from saltext_kvmcluster.core.facts.nodefacts import NodeFacts
from saltext_kvmcluster.core.migration.migration import MOVED, Move
from saltext_kvmcluster.core.pillar.clusters import Cluster
from saltext_kvmcluster.core.text import printable

ROUNDS = 5
"""How often it is looked again, and planned anew, while guests are found that nobody had seen."""

MOST = 1000
INTERRUPTED = (
    "interrupted: no further move is told to a node; those that were told go on, or wait for their"
    " place: salt-run kvmcluster.job shows them; to end one: salt-run kvmcluster.cancel GUEST"
)


def planned(plan: Placement) -> dict[str, Any]:
    """Return a plan as plain data: its moves, in order, and who is stuck, with every reason."""
    return {
        "plan": [{**asdict(step.move), "why": step.why} for step in plan.steps],
        "stuck": _printable(plan.stuck),
    }


def nothing(batch: Batch) -> Placement:
    """Return the plan of whoever wants nothing moved."""
    return Placement((), {})


def reported(
    cluster: Cluster,
    first: Placement,
    batch: Batch,
    left: list[str] | None,
    detail: str,
    interrupted: bool,
) -> dict[str, Any]:
    """Return what came of a plan that was carried out.

    first
        The plan at the beginning.
    left
        Who is still active on the node that is to be left, None if that is not known.
    said
        Why nothing more was begun.
    """
    stuck = {**batch.stuck, **batch.given_up}
    words = detail or (INTERRUPTED if interrupted else "")
    return {
        "cluster": cluster.name,
        "ok": left == [] and not (stuck or words),
        "test": False,
        "plan": planned(first)["plan"],
        "stuck": _printable(stuck),
        "moved": batch.moved,
        "failed": batch.failed,
        "under_way": [asdict(move) for move in batch.in_flight.values()],
        "left": None if left is None else [printable(guest) for guest in left],
        "detail": words,
    }


def moved_since(rows: Iterable[Mapping[str, Any]], source: str, since: str) -> list[dict[str, Any]]:
    """Return the moves from a node that it remembers to have gone well since it was cordoned.

    An interrupted drain is one drain: so its report does not begin anew with each attempt.
    """
    begin = _time(since)
    return [
        {key: row.get(key) for key in SHOWN}
        for row in rows
        if (row["source"], row["result"]) == (source, MOVED)
        and begin is not None
        and (at := _time(row["started"])) is not None
        and at >= begin
    ]


def merged(
    moved: Iterable[Mapping[str, Any]], rows: Iterable[Mapping[str, Any]], source: str, since: str
) -> list[dict[str, Any]]:
    """Return the moves of this run, and before them what else the node remembers since it cordoned.

    What was settled by others is in their history, and a clock may have been set back.
    """
    own = [dict(row) for row in moved]
    known = {(row["uuid"], row["destination"]) for row in own}
    before = moved_since(rows, source, since)
    return [row for row in before if (row["uuid"], row["destination"]) not in known] + own


def active(facts: NodeFacts) -> list[str] | None:
    """Return the guests that are active on a node, None where it does not tell."""
    if facts.guests is None:
        return None
    return sorted(guest.name for guest in facts.guests if guest.active)


def others(rows: Iterable[Mapping[str, Any]], known: Collection[str], node: str) -> list[Move]:
    """Return the moves from and to a node that somebody else began, by what the node tells."""
    found = []
    for row in rows:
        names = [row["guest"], row["uuid"], row["source"], row["destination"]]
        if all(isinstance(name, str) and name for name in names):
            move = Move(*map(str, names))
            if move.guest not in known and node in (move.source, move.destination):
                found.append(move)
    return found


def of_others(rows: Iterable[Mapping[str, Any]], known: Collection[str]) -> list[str]:
    """Return the guests whose moves from or to a node somebody else began, by what it tells."""
    names = {str(row["guest"]) for row in rows if row["guest"]}
    return sorted(names.difference(known))


def emptied(done: Mapping[str, Any]) -> dict[str, Any]:
    """Return what came of a drain: who has left is not stuck, and all is well if nobody is left."""
    left = done["left"]
    stuck = {guest: why for guest, why in done["stuck"].items() if left is None or guest in left}
    ok = left == [] and not (done["detail"] or done["under_way"])
    return {**done, "stuck": stuck, "ok": ok}


def is_open(facts: NodeFacts) -> bool:
    """Whether a node says that nothing cordons it."""
    return facts.cordoned == ()


def uncordoned_meanwhile(facts: NodeFacts) -> str:
    """Say that somebody has uncordoned a node while it was drained; empty if not."""
    if not is_open(facts):
        return ""
    return f"{facts.node} was uncordoned meanwhile, so nothing more is begun"


def stopped(node: str, error: Exception) -> WorldError:
    """Return the error of a drain that cannot go on: the node has been cordoned all the same."""
    return WorldError(
        f"{error}; {node} stays cordoned: to go on: salt-run kvmcluster.drain {node};"
        f" to uncordon it: {cordons.remedy(node)}"
    )


def cordon_of(node: str, answer: object) -> Cordon:
    """Return what cordons a node, by its answer; WorldError if it did not cordon itself."""
    if isinstance(answer, Mapping) and answer.get("cordoned") is True:
        return Cordon(str(answer.get("since", "")), printable(str(answer.get("reason", ""))))
    raise _no_answer(node, "cordoned", answer)


def uncordoned(node: str, answer: object) -> bool:
    """Return whether a node was cordoned, by its answer; WorldError if it did not open itself."""
    if isinstance(answer, Mapping) and answer.get("cordoned") is False:
        return answer.get("changed") is True
    raise _no_answer(node, "uncordoned", answer)


def number_of(most: object) -> int:
    """Return an argument that is a number of moves; InputError otherwise."""
    if isinstance(most, bool) or not isinstance(most, int) or not 0 < most <= MOST:
        raise InputError(f"most: want a number from 1 to {MOST}, got {printable(repr(most))}")
    return most


def _no_answer(node: str, what: str, answer: object) -> WorldError:
    if isinstance(answer, str) and answer and not answer.startswith(NO_RETURN):
        return WorldError(
            f"{node} was not {what}, and nothing was moved: {printable(answer[:300])}"
        )
    detail = "its answer is none of ours" if answer and not isinstance(answer, str) else "no answer"
    return WorldError(
        f"nothing was moved, and it is not known whether {node} was {what}: {detail}; to look:"
        " salt-run kvmcluster.status"
    )


def _printable(stuck: Mapping[str, str]) -> dict[str, str]:
    return {printable(guest): why for guest, why in stuck.items()}


def _time(word: object) -> datetime | None:
    try:
        found = datetime.fromisoformat(str(word))
    except ValueError:
        return None
    return found if found.tzinfo else None
