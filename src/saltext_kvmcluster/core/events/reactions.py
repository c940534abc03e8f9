"""Which reactions an event calls for, and what the master finds when it checks.

An event says no more than what to check, and its data becomes input to nothing: whether anything is
done, and for which guest, follows from what all nodes report then.
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
from saltext_kvmcluster.core.migration.journal import ENDED, FAILED, STAGES
from saltext_kvmcluster.core.migration.migration import MOVED, NOT_MOVED, UNKNOWN
from saltext_kvmcluster.core.pillar.clusters import Cluster
from saltext_kvmcluster.core.pillar.names import guest_name
from saltext_kvmcluster.core.text import MAX_NAMES, listed, one_line
from saltext_kvmcluster.core.trust import publication
from saltext_kvmcluster.core.trust.identity import Identity
from saltext_kvmcluster.core.untrusted import Reader
from saltext_kvmcluster.core.validate import shown

TRUST, RECOVER, ALARM, RESTART = "trust", "recover", "alarm", "restart"
REACTIONS = (TRUST, RECOVER, ALARM, RESTART)
# The reactions to each event, by kind and by its data's ``what``.
BY_EVENT: Mapping[str, Mapping[str, tuple[str, ...]]] = {
    events.IDENTITY: {"changed": (TRUST,)},
    events.TRUST: {"drifted": (TRUST,), "mended": ()},
    events.DAEMON: {transitions.GONE: (), "back": (RECOVER, ALARM)},
    events.READINESS: {"lost": (), "regained": ()},
    events.GUEST: {
        **dict.fromkeys((transitions.STARTED, transitions.APPEARED, transitions.ARRIVED), (ALARM,)),
        **dict.fromkeys((transitions.CRASHED, transitions.GONE), (RESTART,)),
        **dict.fromkeys((transitions.STOPPED, transitions.LEFT), ()),
        **dict.fromkeys((transitions.PAUSED, transitions.RESUMED), ()),
        transitions.STANDS: (RECOVER, ALARM),
    },
    events.MIGRATION: {
        **dict.fromkeys(("queued", "begun", "preparing", "copying", "post-copy", "refused"), ()),
        "ended": (RECOVER, ALARM),
    },
}
JOINED = (TRUST, RECOVER, ALARM)
OF_A_GUEST = (events.GUEST, events.MIGRATION)
OF_THE_MASTER = (events.ALARM, events.RESTART)
RESULTS = (MOVED, NOT_MOVED, UNKNOWN)
# Longer than any valid tag or minion id.
LONGEST = 1200
# Characters of a log line.
MAX_LINE = 2000
# Unsettled migrations of one node; an honest node has few.
MOST_LEFT = 100

_JOINED = re.compile(r"salt/minion/(.+)/start\Z", re.DOTALL)


@dataclass(frozen=True)
class Event:
    """A well-formed event, sent by the node that it is about.

    ``cluster``: the cluster's name, None where the event has none: a minion has started.
    """

    node: str
    cluster: str | None
    reactions: tuple[str, ...]


def low(reaction: str, tag: object, data: object, waiting: Collection[str]) -> dict[str, Any]:
    """Return a reactor's call of ``kvmcluster.react``, or none where the event calls for none.

    Only short texts of the event are passed on. A malformed event is passed to one reaction alone,
    the alarm, which logs it.

    waiting
        The keys with pending events; their check covers this event, too.
    """
    try:
        event = parse(tag, data)
        if reaction not in event.reactions or key(event.cluster or "", reaction) in waiting:
            return {}
    except InputError:
        if reaction != ALARM:
            return {}
    given = [{"reaction": reaction}, {"tag": _cut(tag)}, {"data": _essence(data)}]
    return {f"kvmcluster-{reaction}": {"runner.kvmcluster.react": [{"args": given}]}}


def parse(tag: object, data: object) -> Event:
    """Return an event; InputError, in one line, if it is invalid.

    tag, data
        As received; ``data["id"]`` is the sender, which Salt's master has authenticated.
    """
    try:
        return _parse(tag, data)
    except InputError as error:
        sender = data.get("id") if isinstance(data, Mapping) else None
        raise InputError(
            f"event {shown(tag)} from {shown(sender)} ignored: {line(str(error))}"
        ) from None


def clusters(event: Event, members: Mapping[str, Collection[str]]) -> list[str]:
    """Return the clusters to check after an event; InputError if its node is not a member.

    members
        The nodes of every cluster, by the pillar.
    """
    if event.cluster is None:
        return [name for name, nodes in members.items() if event.node in nodes]
    if event.node not in members.get(event.cluster, ()):
        name = shown(event.cluster)
        why = f"not a node of cluster {name}" if event.cluster in members else f"no cluster {name}"
        raise InputError(f"event from {shown(event.node)} ignored: {why}")
    return [event.cluster]


def key(cluster: str, reaction: str) -> str:
    """Return the key under which the events for one reaction in one cluster are pending."""
    return f"{cluster}.{reaction}"


def parts(name: str) -> tuple[str, str] | None:
    """Return the cluster and the reaction of a key, None if it is not one."""
    cluster, _, reaction = name.rpartition(".")
    return (cluster, reaction) if cluster and reaction in REACTIONS else None


def line(text: str) -> str:
    """Return a text as one printable line of the log."""
    return one_line(text, MAX_LINE)


class LogLimiter:
    """The sentences logged lately, so that none is repeated and the log is not flooded."""

    AGE, MOST = 60.0, 100

    def __init__(self) -> None:
        self._logged: dict[str, float] = {}

    def new(self, sentence: str, now: float) -> str:
        """Return the sentence to log now, empty if there is none.

        now
            Seconds of a clock that never goes back.
        """
        self._logged = {old: at for old, at in self._logged.items() if now - at < self.AGE}
        if sentence in self._logged or len(self._logged) > self.MOST:
            return ""
        self._logged[sentence] = now
        if len(self._logged) <= self.MOST:
            return sentence
        return f"too many ignored events: no more are logged for {self.AGE:g} s"


@dataclass(frozen=True)
class Trust:
    """The state of the trust. By node: ``wrong`` can be repaired, ``stuck`` needs a person.

    ``silent``: the nodes without a response.
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
    """Return where the trust is incomplete. A silent node is not known to be wrong.

    reported, filed
        The identities that nodes report, and those in the mine.
    tried
        By node what ``state.apply`` returned with ``test=True``.
    """
    wrong = dict.fromkeys(
        publication.pending(reported, filed), "the mine does not hold its identity"
    )
    stuck: dict[str, str] = {}
    silent: list[str] = []
    for node in cluster.nodes:
        states = tried.get(node)
        if not _is_states(states):
            detail = "; ".join(map(str, states)) if isinstance(states, list) else states
            detail = "unexpected response" if isinstance(states, Mapping) else detail
            if isinstance(detail, str) and not detail.startswith(NO_RETURN):
                stuck[node] = one_line(detail)
            else:
                silent.append(node)
            continue
        changed = [str(name) for one in states.values() for name in one.get("changes") or ()]
        failed = [str(one.get("comment")) for one in states.values() if one.get("result") is False]
        if changed:
            wrong[node] = f"the states would change {line(listed(changed, MAX_NAMES))}"
        elif failed:
            stuck[node] = one_line("; ".join(failed))
    return Trust(wrong, stuck, tuple(silent))


@dataclass(frozen=True)
class Left:
    """Guests whose last migration is unsettled; ``watched``: still handled by a running process.

    ``unread``: why journals could not be read. ``silent``: the nodes without a valid response.
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
    watched: set[str] = set()
    unwatched: set[str] = set()
    unread: list[str] = []
    excess: list[str] = []
    silent: list[str] = []
    for node in cluster.nodes:
        sent = Reader(answers.get(node), lenient=True)
        try:
            rows, details = sent.at("unsettled").items(), sent.at("unread").items()
        except InputError:
            silent.append(node)
            continue
        for guest, is_watched in filter(None, map(_unsettled, rows[:MOST_LEFT])):
            (watched if is_watched else unwatched).add(guest)
        unread += [
            one_line(f"{node}: {detail.text(default='unexpected response')}")
            for detail in details[:MOST_LEFT]
        ]
        if len(rows) > MOST_LEFT:
            excess.append(f"{node}: {len(rows)} unsettled migrations, {MOST_LEFT} were checked")
    return Left(
        tuple(sorted(unwatched)),
        # A process on one node does not settle what another node's journal holds.
        tuple(sorted(watched - unwatched)),
        (*unread, *excess),
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


def _parse(tag: object, data: object) -> Event:
    if not isinstance(tag, str) or len(tag) > LONGEST:
        raise InputError("unknown tag")
    if not isinstance(data, Mapping):
        raise InputError("its data is not a mapping")
    joined = _JOINED.match(tag)
    if joined:
        return _from(data, Event(joined[1], None, JOINED))
    cluster, kind, node = _parts(tag)
    if kind in OF_THE_MASTER:
        return Event(node, cluster, ())
    return _from(data, Event(node, cluster, _reactions(kind, data.get("data"))))


def _parts(tag: str) -> tuple[str, str, str]:
    """Return the cluster, the kind and the node that a tag names."""
    root, *quoted = tag.split("/")
    named = [unquote(part) if part.isascii() else "" for part in quoted]
    if root != events.ROOT or not all(named):
        raise InputError("unknown tag")
    if [quote(name, safe="") for name in named] != quoted:
        raise InputError("its tag is not URL-quoted")
    kind = named[1] if len(named) > 1 else ""
    if kind not in BY_EVENT and kind not in OF_THE_MASTER:
        raise InputError(f"unknown kind of event {shown(kind)}")
    of_a_guest = kind in OF_A_GUEST or kind in OF_THE_MASTER
    if len(named) != (4 if of_a_guest else 3):
        raise InputError(f"its tag has {len(quoted)} parts below {events.ROOT}")
    if of_a_guest:
        guest_name(named[3], "its tag")
    return named[0], kind, named[2]


def _reactions(kind: str, detail: object) -> tuple[str, ...]:
    what = detail.get("what") if isinstance(detail, Mapping) else None
    if not isinstance(detail, Mapping) or not isinstance(what, str) or what not in BY_EVENT[kind]:
        raise InputError(f"unknown {kind} event {shown(what)}")
    if (kind, what) != (events.MIGRATION, "ended"):
        return BY_EVENT[kind][what]
    result = detail.get("result")
    if not isinstance(result, str) or result not in RESULTS:
        raise InputError(f"unknown migration result {shown(result)}")
    return () if result == MOVED else BY_EVENT[kind][what]


def _from(data: Mapping[Any, Any], event: Event) -> Event:
    if data.get("id") != event.node:
        raise InputError(f"it is about node {shown(event.node)}, which did not send it")
    return event


def _essence(data: object) -> dict[str, Any]:
    """Return the part of an event's data that is used, as short texts."""
    if not isinstance(data, Mapping):
        return {}
    detail = data.get("data")
    inner = detail if isinstance(detail, Mapping) else {}
    known = {key: _cut(inner[key]) for key in ("what", "result") if key in inner}
    return {"id": _cut(data.get("id")), "data": known}


def _cut(value: object) -> str | None:
    """Return a text; one that is too long becomes an invalid one."""
    if not isinstance(value, str):
        return None
    return value if len(value) <= LONGEST else f"{value[:60]}… and more"


def _is_states(states: object) -> TypeGuard[Mapping[str, Mapping[str, Any]]]:
    return isinstance(states, Mapping) and all(
        isinstance(one, Mapping) and isinstance(one.get("changes"), (Mapping, type(None)))
        for one in states.values()
    )


def _unsettled(row: Reader) -> tuple[str, bool] | None:
    """Return the guest of a journal's row, and whether a process handles it; None if invalid."""
    try:
        guest = guest_name(row.at("guest").value, "guest")
        watched, stage = row.at("watched").flag(), row.at("stage").choice(STAGES)
    except InputError:
        return None
    return guest, watched and stage not in (ENDED, FAILED)
