"""What came of an SLS on nodes, as an orchestration's state returns it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from saltext_kvmcluster.core.applying import course
from saltext_kvmcluster.core.text import listed, one_line

REFUSED, UNKNOWN, OVER, FAILED, DONE = "refused", "unknown", "over", "failed", "done"
"""Nothing was begun; it may still run or wait; it is over without a result; it failed; it is well.
The order is that in which they are reported."""
_ORDER = (UNKNOWN, OVER, FAILED, REFUSED, DONE)
TAKEN = ("replaced", "removed")
"""The lists of a file's changes that a brief report shows whole; what was added, it does not."""


@dataclass(frozen=True)
class Outcome:
    """What came of it on one node. ``detail`` says why, ``returned`` is the states' return."""

    node: str
    result: str
    detail: str = ""
    returned: Any = None
    jid: str = ""

    @property
    def changed(self) -> bool:
        """Whether a state changed something, or would, under test.

        Under test a state that would act has the result None; many say no more, as module.run does.
        """
        return any(one.get("changes") or one["result"] is None for one in _states(self.returned))


def of_return(node: str, jid: str, returned: object) -> Outcome:
    """Return what came of it by what the node returned; an SLS without states returns none."""
    if not isinstance(returned, Mapping):
        lines = returned if isinstance(returned, list) else [returned]
        detail = one_line("; ".join(str(line) for line in lines)) or "it returned nothing"
        if course.is_conflict(returned):
            return Outcome(node, REFUSED, f"nothing was applied: on {node}: {detail}", jid=jid)
        return Outcome(node, FAILED, f"{node}: {detail}", jid=jid)
    failed = [_named(key, one) for key, one in returned.items() if not _is_well(one)]
    if not failed:
        return Outcome(node, DONE, "", returned, jid)
    return Outcome(node, FAILED, f"{node}: failed: {listed(failed, 3)}", returned, jid)


def _is_well(one: object) -> bool:
    """Whether a state succeeded, or would; one without a result did not."""
    return isinstance(one, Mapping) and one.get("result", False) in (True, None)


def _named(key: str, one: object) -> str:
    """Return which state it was, and what it said."""
    if not isinstance(one, Mapping):
        return one_line(f"{key}: {one}", 200)
    return one_line(f"{one.get('__id__', key)}: {one.get('comment', '')}", 200)


def _states(returned: object) -> list[Mapping[str, Any]]:
    values = returned.values() if isinstance(returned, Mapping) else ()
    return [one for one in values if isinstance(one, Mapping) and "result" in one]


def returns(known: Iterable[Outcome]) -> dict[str, Any]:
    """Return by node what it returned, or why there is nothing; a silent node is left out."""
    return {
        one.node: one.detail if one.returned is None else one.returned
        for one in known
        if one.result != UNKNOWN
    }


def to_dict(
    cluster: str, sls: Iterable[str], known: Iterable[Outcome], test: bool
) -> dict[str, Any]:
    """Return outcomes as plain data, as the runner returns it."""
    rows = list(known)
    return {
        "kind": "applied",
        "cluster": cluster,
        "ok": all(one.result == DONE for one in rows),
        "test": test,
        "sls": list(sls),
        "nodes": {
            one.node: {
                "result": one.result,
                "detail": one.detail,
                "job": one.jid,
                "returned": one.returned,
            }
            for one in rows
        },
    }


def outcomes(data: Mapping[str, Any]) -> list[Outcome]:
    """Return the outcomes that are in such data."""
    return [
        Outcome(node, row["result"], row["detail"], row["returned"], row["job"])
        for node, row in data["nodes"].items()
    ]


def text(data: Mapping[str, Any]) -> str:
    """Return such data as text: the worst first."""
    return str(state_return("", outcomes(data), data["test"])["comment"])


def state_return(
    name: str, outcomes: Iterable[Outcome], test: bool, brief: bool = False
) -> dict[str, Any]:
    """Return what the orchestration's state returns: the worst first, then who is well.

    ``changes`` have each node's states in the form that ``salt.state`` uses, so that they are
    printed the same way.

    brief
        Whether they have only what states that changed something say, with what was replaced or
        removed in files, unless one failed.
    """
    known = sorted(outcomes, key=lambda one: _ORDER.index(one.result))
    bad = [one for one in known if one.result != DONE]
    changed = [one.node for one in known if one.changed]
    shown = {
        one.node: one.returned
        for one in known
        if isinstance(one.returned, Mapping) and (one.changed or one.result == FAILED)
    }
    changes: dict[str, Any] = {"out": "highstate", "ret": shown} if shown else {}
    if brief and not bad:
        changes = {one.node: said for one in known if (said := _said(one.returned))}
    lines = [one.detail for one in bad]
    lines += [_well([one for one in known if one.result == DONE], changed, test)]
    return {
        "name": name,
        "changes": changes,
        "result": False if bad else None if test and changed else True,
        "comment": "\n".join(filter(None, lines)),
    }


def _said(returned: object) -> list[str]:
    """Return what the states say that changed something, or would."""
    return [
        line
        for state in _states(returned)
        if (changes := state.get("changes"))
        for line in (one_line(str(state.get("comment", "")), 200), *_taken(changes))
    ]


def _taken(changes: object) -> Iterator[str]:
    """Yield what was replaced or removed in files: a key that is another one now is no detail."""
    for file, change in changes.items() if isinstance(changes, Mapping) else ():
        for how in TAKEN if isinstance(change, Mapping) else ():
            for entry in change.get(how) or ():
                yield one_line(f"{file}: {how}: {entry}", 200)


def _well(done: list[Outcome], changed: list[str], test: bool) -> str:
    """Return one sentence about the nodes where all states succeeded."""
    if not done:
        return ""
    verb = "would change" if test else "changed"
    nodes = [one.node for one in done if one.node in changed]
    same = [one.node for one in done if one.node not in changed]
    parts = [f"{verb}: {listed(nodes, 10)}"] if nodes else []
    parts += [f"as wanted: {listed(same, 10)}"] if same else []
    jobs = listed(dict.fromkeys(one.jid for one in done))
    return f"all states succeeded; {'; '.join(parts)} (job {jobs})"
