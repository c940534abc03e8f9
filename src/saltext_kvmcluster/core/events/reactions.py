"""Rumours: events as the master judges them before it looks for itself.

An event says no more than where to look. What it says becomes input to nothing: whether anything is
done, and for which guest, follows from what all nodes tell then.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, TypeGuard
from urllib.parse import quote, unquote

from saltext_kvmcluster.core.errors import InputError
from saltext_kvmcluster.core.events import events, transitions
from saltext_kvmcluster.core.facts.node_report import NO_RETURN
from saltext_kvmcluster.core.migration.journal import ENDED, STAGES
from saltext_kvmcluster.core.migration.migration import MOVED, NOT_MOVED, UNKNOWN
from saltext_kvmcluster.core.pillar.clusters import Cluster
from saltext_kvmcluster.core.pillar.names import guest_name
from saltext_kvmcluster.core.text import printable, short
from saltext_kvmcluster.core.trust import publication
from saltext_kvmcluster.core.trust.identity import Identity
from saltext_kvmcluster.core.validate import listed, shown

TRUST, RECOVER, ALARM = "trust", "recover", "alarm"
REACTIONS = (TRUST, RECOVER, ALARM)
# What each event is answered with, by kind and by its data's ``what``.
ANSWERS: Mapping[str, Mapping[str, tuple[str, ...]]] = {
    events.IDENTITY: {"changed": (TRUST,)},
    events.TRUST: {"drifted": (TRUST,), "mended": ()},
    events.DAEMON: {transitions.GONE: (), "back": (RECOVER, ALARM)},
    events.READINESS: {"lost": (), "regained": ()},
    events.GUEST: {
        **dict.fromkeys((transitions.STARTED, transitions.APPEARED, transitions.ARRIVED), (ALARM,)),
        **dict.fromkeys(
            (transitions.STOPPED, transitions.CRASHED, transitions.GONE, transitions.LEFT), ()
        ),
        **dict.fromkeys((transitions.PAUSED, transitions.RESUMED), ()),
    },
    events.MIGRATION: {
        **dict.fromkeys(("queued", "begun", "preparing", "copying", "post-copy", "refused"), ()),
        "ended": (RECOVER, ALARM),
    },
}
JOINED = REACTIONS
OF_A_GUEST = (events.GUEST, events.MIGRATION)
RESULTS = (MOVED, NOT_MOVED, UNKNOWN)
# Longer than any tag or minion id of ours.
LONGEST = 1200
MOST_WORDS = 2000
# Of one node: migrations that are not settled, which are few on one that does not make them up.
MOST_LEFT = 100

_JOINED = re.compile(r"salt/minion/(.+)/start\Z", re.DOTALL)


@dataclass(frozen=True)
class Event:
    """An event that is well-formed, and from the node that it speaks of.

    ``cluster``: the cluster's name, None where it does not say: a minion has started.
    """

    node: str
    cluster: str | None
    reactions: tuple[str, ...]


def low(reaction: str, tag: object, data: object, waiting: Collection[str]) -> dict[str, Any]:
    """Return a reactor's call of ``kvmcluster.react``, or none where the event calls for none.

    Of the event only short texts are passed on. Of several reactions to one that is malformed it is
    the alarm that says so.

    waiting
        The keys of which rumours wait for an answer, which will be that to this one, too.
    """
    try:
        event = heard(tag, data)
        if reaction not in event.reactions or key(event.cluster or "", reaction) in waiting:
            return {}
    except InputError:
        if reaction != ALARM:
            return {}
    given = [{"reaction": reaction}, {"tag": _cut(tag)}, {"data": _essence(data)}]
    return {f"kvmcluster-{reaction}": {"runner.kvmcluster.react": [{"args": given}]}}


def heard(tag: object, data: object) -> Event:
    """Return what an event says, or InputError in one line that says what is wrong with it.

    tag, data
        As the event has them; ``data["id"]`` is its sender, for whom Salt's master vouches.
    """
    try:
        return _heard(tag, data)
    except InputError as error:
        sender = data.get("id") if isinstance(data, Mapping) else None
        raise InputError(
            f"the event {shown(tag)} from {shown(sender)} is ignored: {line(str(error))}"
        ) from None


def clusters(event: Event, members: Mapping[str, Collection[str]]) -> list[str]:
    """Return the clusters in which a rumour is to be followed; InputError if its node is no member.

    members
        The nodes of every cluster, by the pillar.
    """
    if event.cluster is None:
        return [name for name, nodes in members.items() if event.node in nodes]
    if event.node not in members.get(event.cluster, ()):
        known = "" if event.cluster in members else ", and there is no such cluster"
        raise InputError(
            f"an event from {shown(event.node)} is ignored: it is no node of cluster"
            f" {shown(event.cluster)}{known}"
        )
    return [event.cluster]


def key(cluster: str, reaction: str) -> str:
    """Return the name under which the rumours for one reaction in one cluster are kept."""
    return f"{cluster}.{reaction}"


def parts(name: str) -> tuple[str, str] | None:
    """Return the cluster and the reaction of such a name, None if it is none."""
    cluster, _, reaction = name.rpartition(".")
    return (cluster, reaction) if cluster and reaction in REACTIONS else None


def line(words: str) -> str:
    """Return somebody's words as one line that prints, of bounded length."""
    flat = printable(" ".join(words.split()))
    return flat if len(flat) <= MOST_WORDS else f"{flat[:MOST_WORDS]}…"


class LogLimiter:
    """What was said lately, so that nothing is said twice, nor too much."""

    AGE, MOST = 60.0, 100

    def __init__(self) -> None:
        self._detail: dict[str, float] = {}

    def new(self, sentence: str, now: float) -> str:
        """Return the sentence if it is to be said now, empty if not.

        now
            Seconds of a clock that never goes back.
        """
        self._detail = {old: at for old, at in self._detail.items() if now - at < self.AGE}
        if sentence in self._detail or len(self._detail) > self.MOST:
            return ""
        self._detail[sentence] = now
        if len(self._detail) <= self.MOST:
            return sentence
        return f"so many events are ignored that of others nothing is said for {self.AGE:g} s"


@dataclass(frozen=True)
class Trust:
    """What is seen of the trust. By node: ``wrong`` can be mended, ``stuck`` needs a person.

    ``silent``: the nodes of which nothing is known.
    """

    wrong: Mapping[str, str]
    stuck: Mapping[str, str]
    silent: tuple[str, ...]


def trust(
    cluster: Cluster,
    reported: Mapping[str, Identity],
    filed: Mapping[str, Identity],
    tried: Mapping[str, Any],
) -> Trust:
    """Return where the trust is not whole. A node that is silent is not known to be wrong.

    told, filed
        What nodes say of themselves, and what the mine holds.
    tried
        What applying the states would do: what ``state.apply`` returned by node, under test.
    """
    wrong = dict.fromkeys(
        publication.pending(reported, filed), "the mine does not hold its identity"
    )
    stuck: dict[str, str] = {}
    silent: list[str] = []
    for node in cluster.nodes:
        states = tried.get(node)
        if not _is_states(states):
            words = "; ".join(map(str, states)) if isinstance(states, list) else states
            words = "its answer is none of ours" if isinstance(states, Mapping) else words
            if isinstance(words, str) and not words.startswith(NO_RETURN):
                stuck[node] = short(line(words))
            else:
                silent.append(node)
            continue
        changed = [str(name) for one in states.values() for name in one.get("changes") or ()]
        failed = [str(one.get("comment")) for one in states.values() if one.get("result") is False]
        if changed:
            wrong[node] = f"it would change {line(listed(changed))}"
        elif failed:
            stuck[node] = short(line("; ".join(failed)))
    return Trust(wrong, stuck, tuple(silent))


@dataclass(frozen=True)
class Left:
    """Guests whose last migration is not settled; ``watched``: those that somebody is at.

    ``unread``: what of journals could not be read, in words. ``silent``: the nodes of which nothing
    is known.
    """

    guests: tuple[str, ...]
    watched: tuple[str, ...]
    unread: tuple[str, ...]
    silent: tuple[str, ...]


def left(cluster: Cluster, answers: Mapping[str, Any]) -> Left:
    """Return which guests' migrations are to be settled, by what nodes' journals hold.

    answers
        What ``kvmcluster.unsettled`` returned by node, which may be anything.
    """
    kept = {
        node: (answers[node]["unsettled"], answers[node]["unread"])
        for node in cluster.nodes
        if isinstance(answers.get(node), Mapping)
        and isinstance(answers[node].get("unsettled"), list)
        and isinstance(answers[node].get("unread"), list)
    }
    rows = [row for rows, _ in kept.values() for row in filter(_is_row, rows[:MOST_LEFT])]
    watched = {row["guest"] for row in rows if _is_watched(row)}
    # That somebody is at it on one node says nothing of what another one was left with.
    alone = {row["guest"] for row in rows if not _is_watched(row)}
    unread = [
        f"{node}: {detail}"
        for node, (_, reported) in kept.items()
        for detail in reported[:MOST_LEFT]
    ]
    unread += [
        f"{node}: of {len(rows)} migrations that are not settled, {MOST_LEFT} were looked at"
        for node, (rows, _) in kept.items()
        if len(rows) > MOST_LEFT
    ]
    silent = [node for node in cluster.nodes if node not in kept]
    return Left(
        tuple(sorted(alone)),
        tuple(sorted(watched - alone)),
        tuple(short(line(detail)) for detail in unread),
        tuple(silent),
    )


def failures(states: object) -> str:
    """Return the comments of the states of an orchestration that failed, empty if none did."""
    if not isinstance(states, Mapping) or not states:
        return line(f"the orchestration returned {states!r}")
    failed = [
        f"{one.get('__id__')}: {one.get('comment')}" if isinstance(one, Mapping) else str(one)
        for one in states.values()
        if not isinstance(one, Mapping) or one.get("result") is not True
    ]
    return line("; ".join(failed))


def _heard(tag: object, data: object) -> Event:
    if not isinstance(tag, str) or len(tag) > LONGEST:
        raise InputError("its tag is none of ours")
    if not isinstance(data, Mapping):
        raise InputError("its data is no mapping")
    joined = _JOINED.match(tag)
    if joined:
        return _from(data, Event(joined[1], None, JOINED))
    cluster, kind, node = _parts(tag)
    if kind == events.ALARM:
        return Event(node, cluster, ())
    return _from(data, Event(node, cluster, _reactions(kind, data.get("data"))))


def _parts(tag: str) -> tuple[str, str, str]:
    """Return the cluster, the kind and the node that a tag names."""
    root, *words = tag.split("/")
    named = [unquote(word) if word.isascii() else "" for word in words]
    if root != events.ROOT or not all(named):
        raise InputError("its tag is none of ours")
    if [quote(name, safe="") for name in named] != words:
        raise InputError("its tag is not quoted as ours are")
    kind = named[1] if len(named) > 1 else ""
    if kind not in ANSWERS and kind != events.ALARM:
        raise InputError(f"there is no kind of event {shown(kind)}")
    of_a_guest = kind in OF_A_GUEST or kind == events.ALARM
    if len(named) != (4 if of_a_guest else 3):
        raise InputError(f"its tag has {len(words)} parts below {events.ROOT}")
    if of_a_guest:
        guest_name(named[3], "its tag")
    return named[0], kind, named[2]


def _reactions(kind: str, detail: object) -> tuple[str, ...]:
    what = detail.get("what") if isinstance(detail, Mapping) else None
    if not isinstance(detail, Mapping) or not isinstance(what, str) or what not in ANSWERS[kind]:
        raise InputError(f"its data say {shown(what)} of a {kind}, which is none of ours")
    if (kind, what) != (events.MIGRATION, "ended"):
        return ANSWERS[kind][what]
    result = detail.get("result")
    if not isinstance(result, str) or result not in RESULTS:
        raise InputError(f"the migration's result {shown(result)} is none of ours")
    return () if result == MOVED else ANSWERS[kind][what]


def _from(data: Mapping[Any, Any], event: Event) -> Event:
    if data.get("id") != event.node:
        raise InputError(f"it speaks of node {shown(event.node)}, which did not send it")
    return event


def _essence(data: object) -> dict[str, Any]:
    """Return what of an event's data is looked at, as short texts."""
    if not isinstance(data, Mapping):
        return {}
    detail = data.get("data")
    inner = detail if isinstance(detail, Mapping) else {}
    known = {key: _cut(inner[key]) for key in ("what", "result") if key in inner}
    return {"id": _cut(data.get("id")), "data": known}


def _cut(value: object) -> str | None:
    """Return a text; one that is too long is made one that is none of ours."""
    if not isinstance(value, str):
        return None
    return value if len(value) <= LONGEST else f"{value[:60]}… and more"


def _is_states(states: object) -> TypeGuard[Mapping[str, Mapping[str, Any]]]:
    return isinstance(states, Mapping) and all(
        isinstance(one, Mapping) and isinstance(one.get("changes"), (Mapping, type(None)))
        for one in states.values()
    )


def _is_watched(row: Mapping[str, Any]) -> bool:
    return bool(row["watched"]) and row["stage"] != ENDED


def _is_row(row: object) -> bool:
    if not isinstance(row, Mapping) or not isinstance(row.get("watched"), bool):
        return False
    try:
        guest_name(row.get("guest"), "guest")
    except InputError:
        return False
    return row.get("stage") in STAGES
