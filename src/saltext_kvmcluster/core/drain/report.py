"""What drain, undrain and balance return: the plan, what moved, what did not and why."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from typing import Any

from saltext_kvmcluster.core import cordons, validate
from saltext_kvmcluster.core.cordons import Cordon
from saltext_kvmcluster.core.drain.batch import SHOWN, Batch
from saltext_kvmcluster.core.drain.placement import Placement
from saltext_kvmcluster.core.errors import InputError, WorldError
from saltext_kvmcluster.core.facts.node_report import NO_RETURN
from saltext_kvmcluster.core.facts.nodefacts import NodeFacts
from saltext_kvmcluster.core.migration.migration import MOVED, Move
from saltext_kvmcluster.core.pillar.clusters import Cluster
from saltext_kvmcluster.core.text import listed, one_line, printable

DRAIN, UNDRAIN, BALANCE = "drain", "undrain", "balance"
ROUNDS = 5
"""How often the node is checked at the end, and the rest planned anew, while guests are found
there that the plan did not know."""
MOST = 1000


@dataclass(frozen=True)
class PlanReport:
    """What a plan is, or what came of it when it was carried out.

    ``plan``: the steps at the beginning. ``left``: the guests that are still active on a node that
    is drained, None if not known. ``detail``: why nothing more was begun. ``under_way``: the
    moves without a result. ``elapsed`` is in seconds. ``cordon``: what cordons a node that was
    drained; ``uncordoned``: whether a node that was undrained had been cordoned. ``missing``: what
    the report of a drain may lack, and why; ``known``: all guests of its plans. ``standby``:
    whether Pacemaker has the node on standby by us, in the end. ``notes``: which of the pillar's
    rules stay broken, by the first plan.
    """

    kind: str
    cluster: str
    ok: bool
    plan: Sequence[Mapping[str, Any]]
    stuck: Mapping[str, str]
    test: bool = False
    moved: Sequence[Mapping[str, Any]] = ()
    failed: Sequence[Mapping[str, Any]] = ()
    under_way: Sequence[Move] = ()
    left: Sequence[str] | None = ()
    detail: str = ""
    elapsed: float = 0.0
    node: str = ""
    cordon: Cordon | None = None
    uncordoned: bool = False
    missing: Sequence[str] = ()
    known: Collection[str] = ()
    standby: bool = False
    notes: Sequence[str] = ()

    def to_dict(self) -> dict[str, Any]:
        """Return it as plain data, as the runner returns it."""
        data = {
            "kind": self.kind,
            "cluster": self.cluster,
            "ok": self.ok,
            "test": self.test,
            "plan": [dict(step) for step in self.plan],
            "stuck": dict(self.stuck),
            "notes": list(self.notes),
        }
        if self.node:
            data["node"] = self.node
        if self.test:
            return data
        data |= {
            "moved": [dict(row) for row in self.moved],
            "failed": [dict(row) for row in self.failed],
            "under_way": [asdict(move) for move in self.under_way],
            "detail": self.detail,
            "elapsed": round(self.elapsed, 1),
        }
        if self.kind == UNDRAIN:
            data["uncordoned"] = self.uncordoned
        if self.kind == DRAIN:
            data["left"] = None if self.left is None else list(self.left)
            data["cordoned"] = asdict(self.cordon) if self.cordon else None
            data["missing"] = list(self.missing)
            data["standby"] = self.standby
        if self.kind == UNDRAIN:
            data["standby"] = self.standby
        return data


def planned(plan: Placement) -> dict[str, Any]:
    """Return a plan as plain data: its moves, in order, and which guests are stuck, and why."""
    return {
        "plan": [{**asdict(step.move), "why": step.why} for step in plan.steps],
        "stuck": _printable(plan.stuck),
        "notes": list(plan.notes),
    }


def nothing(batch: Batch) -> Placement:
    """Return a plan that moves nothing."""
    return Placement((), {})


def proposed(kind: str, cluster: Cluster, plan: Placement, node: str = "") -> PlanReport:
    """Return a plan that is not carried out."""
    return PlanReport(kind, cluster.name, not plan.stuck, test=True, node=node, **planned(plan))


def reported(
    kind: str,
    first: Placement,
    batch: Batch,
    left: list[str] | None,
    detail: str,
    elapsed: float,
    node: str = "",
) -> PlanReport:
    """Return what came of a plan that was carried out.

    first
        The plan at the beginning.
    left
        The guests that are still active on the node, None if that is not known.
    detail
        Why nothing more was begun.
    """
    stuck = {**batch.stuck, **batch.given_up}
    return PlanReport(
        kind,
        batch.cluster.name,
        left == [] and not (stuck or detail),
        planned(first)["plan"],
        _printable(stuck),
        moved=batch.moved,
        failed=batch.failed,
        under_way=tuple(batch.in_flight.values()),
        left=None if left is None else [printable(guest) for guest in left],
        detail=detail,
        elapsed=elapsed,
        node=node,
        known=batch.known,
        notes=first.notes,
    )


def of_drain(
    done: PlanReport, cordon: Cordon, rows: Iterable[Mapping[str, Any]] | None
) -> PlanReport:
    """Return the report of a drain: a guest that has left is not stuck, and none left is success.

    rows
        The node's history, None if it did not report it: what it moved since it was cordoned
        belongs to the same drain.
    """
    stuck = {
        guest: why for guest, why in done.stuck.items() if done.left is None or guest in done.left
    }
    ok = done.left is not None and not (done.left or done.detail or done.under_way)
    moved = merged(done.moved, rows or (), done.node, cordon.since)
    done = replace(done, ok=ok, stuck=stuck, moved=moved, cordon=cordon)
    return replace(done, missing=tuple(_missing(done, rows is not None)))


def may_be_kept_empty(done: PlanReport) -> bool:
    """Whether Pacemaker may be asked to keep a node empty: nothing is left that has not moved once.

    What moved and is there again it has fetched back itself, and can move. What is stuck it would
    stop, or fail to move.
    """
    moved = {row["guest"] for row in done.moved}
    known = done.left is not None and moved.issuperset(done.left)
    return known and not (done.detail or done.under_way)


def on_standby(done: PlanReport, answer: object) -> PlanReport:
    """Return the report of a drain after Pacemaker was asked to keep the node empty.

    answer
        What the node's ``kvmcluster.standby`` returned.
    """
    if isinstance(answer, Mapping) and answer.get("ok") is True:
        return replace(done, standby=answer.get("standby") is True)
    detail = one_line(str(answer)) if answer else f"no response from {done.node}"
    return replace(done, ok=False, detail=f"Pacemaker may start guests on it: {detail}")


def off_standby(done: PlanReport, answer: object) -> PlanReport:
    """Return the report of an undrain after the node's ``kvmcluster.unstandby`` returned."""
    if isinstance(answer, Mapping) and answer.get("ok") is True:
        return done
    detail = one_line(str(answer)) if answer else f"no response from {done.node}"
    return replace(
        done,
        ok=False,
        standby=True,
        detail=f"it may still be on standby: {detail}; to try again: {cordons.remedy(done.node)}",
    )


def of_undrain(done: PlanReport, node: str, uncordoned: bool) -> PlanReport:
    """Return the report of an undrain; ``uncordoned`` is whether the node had been cordoned."""
    return replace(done, kind=UNDRAIN, node=node, uncordoned=uncordoned)


def moved_since(rows: Iterable[Mapping[str, Any]], source: str, since: str) -> list[dict[str, Any]]:
    """Return the migrations in a node's history that left it since it was cordoned.

    A drain that was interrupted is one drain: its report does not begin anew with each attempt.
    Both times are of the node's own clock. If that was set meanwhile, there are too many or too few
    rows: for the report alone, since where a guest is, is always observed.
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
    """Return the moves of this run, after what else the node has moved since it was cordoned.

    What was settled on other nodes is in their history, and a clock may have been set back.
    """
    own = [dict(row) for row in moved]
    known = {(row["uuid"], row["destination"]) for row in own}
    before = moved_since(rows, source, since)
    return [row for row in before if (row["uuid"], row["destination"]) not in known] + own


def active(facts: NodeFacts) -> list[str] | None:
    """Return the guests that are active on a node, None where that is not known."""
    if facts.guests is None:
        return None
    return sorted(guest.name for guest in facts.guests if guest.active)


def others(rows: Iterable[Mapping[str, Any]], known: Collection[str], node: str) -> list[Move]:
    """Return the moves from and to a node that others started, as the node reports them.

    known
        The guests of our own moves.
    """
    found = []
    for row in rows:
        names = [row["guest"], row["uuid"], row["source"], row["destination"]]
        if all(isinstance(name, str) and name for name in names):
            move = Move(*map(str, names))
            if move.guest not in known and node in (move.source, move.destination):
                found.append(move)
    return found


def of_others(rows: Iterable[Mapping[str, Any]], known: Collection[str]) -> list[str]:
    """Return the guests that others have started to migrate, as a node reports them."""
    names = {str(row["guest"]) for row in rows if row["guest"]}
    return sorted(names.difference(known))


def not_reported(facts: NodeFacts) -> str:
    """Return why the guests of a node are not known; empty if they are."""
    if facts.guests is not None:
        return ""
    why = facts.detail or facts.daemon_detail
    return f"{facts.node} did not report its guests{why and ': '}{why}"


def uncordoned_meanwhile(facts: NodeFacts, since: str) -> str:
    """Return why nothing more is begun if a node was uncordoned; empty if it was not."""
    if not cordons.was_lifted(facts.cordoned, since):
        return ""
    return f"{facts.node} was uncordoned during the drain; no further migrations are begun"


def stopped(node: str, reason: str, error: Exception) -> WorldError:
    """Return the error of a drain that cannot go on: the node has been cordoned all the same.

    reason
        Why it was cordoned.
    """
    return WorldError(
        f"{error}; {node} stays cordoned; to continue: {cordons.continuing(node, reason)};"
        f" to uncordon it: {cordons.remedy(node)}"
    )


def cordon_of(node: str, answer: object) -> Cordon:
    """Return what cordons a node, by its response; WorldError if it did not cordon itself."""
    if isinstance(answer, Mapping) and answer.get("cordoned") is True:
        return Cordon(str(answer.get("since", "")), printable(str(answer.get("reason", ""))))
    raise _no_answer(node, "cordoned", answer)


def of_cordon(node: str, cluster: str, answer: object) -> dict[str, Any]:
    """Return what cordons a node as plain data; WorldError as of ``cordon_of``."""
    found = cordon_of(node, answer)
    return {
        "kind": "cordon",
        "cluster": cluster,
        "node": node,
        "ok": True,
        "cordoned": True,
        "since": found.since,
        "reason": found.reason,
        "changed": isinstance(answer, Mapping) and answer.get("changed") is True,
    }


def uncordoned(node: str, answer: object) -> bool:
    """Return whether a node was cordoned; WorldError if it did not uncordon itself."""
    if isinstance(answer, Mapping) and answer.get("cordoned") is False:
        return answer.get("changed") is True
    raise _no_answer(node, "uncordoned", answer)


def number_of(most: object) -> int:
    """Return an argument that is a number of moves; InputError otherwise."""
    if isinstance(most, bool) or not isinstance(most, int) or not 0 < most <= MOST:
        raise InputError(f"most: want a number from 1 to {MOST}, got {validate.shown(most)}")
    return most


def _missing(done: PlanReport, has_history: bool) -> Iterable[str]:
    """Return what a drain's report may lack: moves that others have made, or guests that left."""
    node, rows = done.node, [*done.moved, *done.failed]
    if not has_history:
        yield (
            f"no migration history from {node}: guests that others have moved, or an earlier drain,"
            f" may not be listed; to see them: salt {node} kvmcluster.history"
        )
    named = {row["guest"] for row in rows} | {move.guest for move in done.under_way}
    gone = [printable(guest) for guest in sorted({*done.known} - named)]
    gone = [guest for guest in gone if done.left is not None and guest not in done.left]
    if gone:
        yield (
            f"no longer on {node}, without a recorded migration: {listed(gone)}; to find them:"
            " salt-run kvmcluster.status"
        )


def _no_answer(node: str, what: str, answer: object) -> WorldError:
    if isinstance(answer, str) and answer and not answer.startswith(NO_RETURN):
        return WorldError(
            f"{node} was not {what}, and nothing was moved: {printable(answer[:300])}"
        )
    is_odd = answer and not isinstance(answer, str)
    detail = f"{'unexpected' if is_odd else 'no'} response from {node}"
    return WorldError(
        f"{detail}; nothing was moved, and it is not known whether {node} was {what}; to check:"
        " salt-run kvmcluster.status"
    )


def _printable(stuck: Mapping[str, str]) -> dict[str, str]:
    return {printable(guest): why for guest, why in stuck.items()}


def _time(text: object) -> datetime | None:
    try:
        found = datetime.fromisoformat(str(text))
    except ValueError:
        return None
    return found if found.tzinfo else None
