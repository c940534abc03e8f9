"""The replacement of one node's cluster key by another: how far it is, and what may come next.

A second key is made beside the first one, and published with it; every node accepts both; the node
logs in everywhere with the second one alone; only then it takes the first one's place; and then the
first one is removed everywhere. At each moment every node accepts the key that the node has, and a
login that is under way finds one of the two as it was.
"""

from __future__ import annotations

import fnmatch
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from saltext_kvmcluster.core.errors import InputError
from saltext_kvmcluster.core.pillar.clusters import Cluster
from saltext_kvmcluster.core.text import MAX_NAMES, by_cause, listed, one_line
from saltext_kvmcluster.core.trust.identity import MAX_FIELD
from saltext_kvmcluster.core.untrusted import Reader, from_json
from saltext_kvmcluster.core.validate import shown

FRESH, BEGUN, SWAPPED = "fresh", "begun", "swapped"
SUFFIX = ".next"
"""What the path of the second key ends with while it is beside the first one."""
COMMAND = "salt-run kvmcluster.rotate"
MAX_LOGINS = 10_000
ON_REQUEST = "ended on request, between two steps"


@dataclass(frozen=True)
class Begun:
    """The record of a replacement that was begun on its node: when, and of which key."""

    since: str
    former: str

    def to_text(self) -> str:
        return json.dumps({"since": self.since, "former": self.former}) + "\n"


@dataclass(frozen=True)
class OwnKey:
    """What the node itself has: its key, the one beside it, and the record; why it cannot begin."""

    key: str
    next: str = ""
    former: str = ""
    problem: str = ""

    @property
    def phase(self) -> str:
        """How far it is; without a record, and with another key than the recorded one."""
        if not self.former:
            return FRESH
        if self.key == self.former or self.next not in ("", self.key):
            return BEGUN
        return SWAPPED


@dataclass(frozen=True)
class Look:
    """What all nodes answered: the node's own key, whom it may log in to by which keys."""

    own: OwnKey | None
    accepted: Mapping[str, tuple[str, ...]]
    failed: Mapping[str, str] = field(default_factory=dict)

    def without(self, keys: Iterable[str]) -> list[str]:
        """Return the nodes that are not known to accept all of these."""
        wanted = set(keys)
        known = self.accepted
        return [node for node in [*known, *self.failed] if not wanted <= set(known.get(node, ()))]

    def beyond(self, key: str) -> list[str]:
        """Return the nodes that are not known to accept this key alone."""
        return [
            node for node in [*self.accepted, *self.failed] if self.accepted.get(node) != (key,)
        ]


def words(given: object) -> list[str]:
    """Return names and patterns of nodes, given with commas or as a list; InputError if wrong."""
    raw = given.split(",") if isinstance(given, str) else given
    if not isinstance(raw, list) or not all(isinstance(one, str) for one in raw):
        raise InputError(f"node: want a minion id, several, or a pattern, got {shown(given)}")
    found = [one.strip() for one in raw if one.strip()]
    if not found or not all(one.isprintable() for one in found):
        raise InputError(f"node: want a minion id, several, or a pattern, got {shown(given)}")
    return found


def is_pattern(word: str) -> bool:
    return any(sign in word for sign in "*?[")


def named(cluster: Cluster, asked: Iterable[str]) -> list[str]:
    """Return the nodes that names and patterns mean; InputError for one that means none."""
    found: dict[str, None] = {}
    for word in asked:
        if not is_pattern(word):
            found[cluster.node(word).id] = None
            continue
        nodes = fnmatch.filter(cluster.nodes, word)
        if not nodes:
            raise InputError(
                f"node: {shown(word)} matches no node of cluster {cluster.name}, which has"
                f" {listed(list(cluster.nodes), MAX_NAMES)}; nothing was done"
            )
        found.update(dict.fromkeys(nodes))
    return list(found)


def record(text: str | None) -> Begun | None:
    """Return the record on the node; None if there is none, or it is not one."""
    sent = from_json(text or "", "", lenient=True)
    since, former = (sent.at(key).text("", most=MAX_FIELD) for key in ("since", "former"))
    return Begun(since, former) if since and former else None


def look(cluster: Cluster, node: str, answers: Mapping[str, Any]) -> Look:
    """Return what nodes answered to ``kvmcluster.rotation``; what is not an answer has failed."""
    accepted, failed, own = {}, {}, None
    for here in cluster.nodes:
        try:
            sent = _answer(answers.get(here))
            keys = sent.at("accepted").items(most=100)
            accepted[here] = tuple(sorted(key.line(most=MAX_FIELD) for key in keys))
            if why := sent.at("refused").line(""):
                failed[here] = why
                del accepted[here]
            if here == node:
                own = _own(sent.at("own"))
        except InputError as error:
            accepted.pop(here, None)
            failed[here] = one_line(str(error))
    return Look(own, accepted, failed)


def refusal(cluster: Cluster, node: str, seen: Look) -> str:
    """Return why it cannot be begun or continued, with what to do; empty if it can.

    Once the second key is the node's own, every node has both, and nothing can be lost.
    """
    if seen.own is None:
        why = seen.failed.get(node, "no response")
        return f"{node} itself does not tell of its key: {why}; nothing was changed"
    if seen.own.problem:
        return f"{node}: {seen.own.problem}; nothing was changed"
    if seen.failed and seen.own.phase != SWAPPED:
        return (
            f"{unknown(seen.failed)}; nothing was replaced, since what a node accepts that does not"
            " tell it is not known: bring it back, or take it out of the pillar"
        )
    return ""


def unknown(failed: Mapping[str, str]) -> str:
    """Return which nodes did not do their part, and why."""
    return "; ".join(f"{listed(nodes)}: {why}" for why, nodes in by_cause(failed).items())


def bad_logins(answer: object) -> list[str]:
    """Return the logins by the second key alone that failed, as sentences."""
    cells = Reader(answer, lenient=True).at("cells").items(optional=True, most=MAX_LOGINS)
    return [
        ": ".join(filter(None, (cell.at(key).line("") for key in ("name", "cause", "detail"))))
        for cell in cells
        if not cell.at("ok").flag(False)
    ]


def result(cluster: Cluster, rows: Sequence[Mapping[str, Any]], test: bool) -> dict[str, Any]:
    """Return what became of the keys of nodes, as data."""
    return {
        "kind": "rotation",
        "cluster": cluster.name,
        "ok": all(row["ok"] for row in rows),
        "test": test,
        "nodes": list(rows),
    }


def row(
    node: str, done: str, seen: Look, former: str = "", left: Sequence[str] = (), why: str = ""
) -> dict[str, Any]:
    """Return what became of one node's key.

    done
        ``replaced``, ``left`` (replaced, but not removed everywhere), ``refused``, ``failed``,
        ``interrupted``, ``not begun`` or ``planned``.
    """
    return {
        "node": node,
        "result": done,
        "ok": done in ("replaced", "planned"),
        "former": former,
        "key": seen.own.key if seen.own else "",
        "left": list(left),
        "reason": why,
    }


def not_begun(node: str) -> dict[str, Any]:
    """Return what became of a key that comes after one which was not replaced."""
    return row(node, "not begun", Look(None, {}), why="one before it was not replaced")


def left_sentence(nodes: Sequence[str], failed: Mapping[str, str]) -> str:
    """Return where the former key may still be, and what removes it."""
    told = unknown({node: failed[node] for node in nodes if node in failed})
    return (
        f"the former key is not known to be removed from {listed(nodes)}"
        + (f" ({told})" if told else "")
        + "; the same command, kvmcluster.orch.prepare or a highstate there removes it"
    )


def _answer(value: object) -> Reader:
    if value is None:
        raise InputError("no response")
    if isinstance(value, str):
        older = "its release is older: update the extension there"
        raise InputError(older if "is not available" in value else value or "no response")
    return Reader(value)


def _own(sent: Reader) -> OwnKey:
    key, after, former = (
        sent.at(name).line("", most=MAX_FIELD) for name in ("key", "next", "former")
    )
    return OwnKey(key, after, former, sent.at("problem").line(""))
