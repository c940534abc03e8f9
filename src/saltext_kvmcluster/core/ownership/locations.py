"""Where a guest is, by the reports of all nodes: which node has to migrate it."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from saltext_kvmcluster.core import verdicts
from saltext_kvmcluster.core.errors import InputError, KvmclusterError, WorldError
from saltext_kvmcluster.core.facts.node_report import BY_SALT, NO_RETURN
from saltext_kvmcluster.core.migration.migration import MOVED, Move
from saltext_kvmcluster.core.ownership import cases, nowhere
from saltext_kvmcluster.core.pillar.clusters import ROOT, Cluster
from saltext_kvmcluster.core.text import MAX_NAMES, listed, printable
from saltext_kvmcluster.core.untrusted import Reader
from saltext_kvmcluster.core.verdicts import Observation, Sighting

_BROKEN = re.compile(rf"Traceback|\A({NO_RETURN}|Passed invalid arguments|The minion function)")
_NOT_ACTIVE = (*verdicts.OFF, Sighting.UNREACHABLE)
_SIGHTINGS = tuple(sighting.value for sighting in Sighting)


@dataclass(frozen=True)
class Answer:
    """What one node reports of a guest; ``heard``: whether its minion returned anything."""

    observation: Observation
    heard: bool = True


def as_data(guest: str, observation: Observation) -> dict[str, Any]:
    """Return what a node reports of a guest as plain data."""
    return {
        "guest": guest,
        "uuid": observation.uuid,
        "state": observation.sighting.value,
        "job": observation.job,
    }


def parse(answers: Mapping[str, object], nodes: tuple[str, ...]) -> dict[str, Answer]:
    """Return the answer of every node; one without valid data is unreachable, with its text."""
    return {node: _reported(answers.get(node)) for node in nodes}


def home(cluster: Cluster, guest: str, node: object) -> str:
    """Return the node that is to start a guest: the given one, or its home by the pillar."""
    if node is not None:
        return cluster.node(str(node)).id
    listed = cluster.guests.list.get(guest)
    if listed and listed.home:
        return listed.home
    raise InputError(
        f"{ROOT}:guests:list:{guest}:home is not set, so no node is to start {guest}: set it, or"
        " give node"
    )


def source(cluster: Cluster, guest: str, reported: Mapping[str, Answer], destination: str) -> str:
    """Return the node that a guest is to leave; an error if there is not exactly one."""
    active = [node for node, one in reported.items() if one.observation.sighting not in _NOT_ACTIVE]
    if not active:
        raise _nowhere(cluster, guest, reported)
    if len(active) > 1 or reported[active[0]].observation.job in verdicts.MIGRATIONS:
        raise WorldError(f"{guest} was not migrated: {_under_way(guest, reported, active)}")
    if active[0] == destination:
        raise InputError(f"{guest} is on {destination} already; nothing was done")
    return active[0]


def refuse_unknown(cluster: Cluster, guest: str, reported: Mapping[str, Answer]) -> None:
    """Raise InputError if no node has a guest, and the pillar does not list it.

    Where no node answers at all nothing can be said.
    """
    known = [one.observation.sighting for one in reported.values()]
    answered = [one for one in known if one is not Sighting.UNREACHABLE]
    if guest in cluster.guests.list or not answered or set(answered) != {Sighting.ABSENT}:
        return
    raise _unknown(guest, reported)


def fit_to_ask(reported: Mapping[str, Answer]) -> list[str]:
    """Return the nodes that answered, those that have the guest first."""
    answered = [
        n for n, one in reported.items() if one.observation.sighting is not Sighting.UNREACHABLE
    ]
    return sorted(answered, key=lambda node: reported[node].observation.sighting in _NOT_ACTIVE)


def nobody(guest: str, reported: Mapping[str, Answer]) -> WorldError:
    """Return the error that no node reported anything usable, with their texts."""
    detail = {one.observation.detail for one in reported.values()}
    if len(detail) == 1:
        return WorldError(f"{detail.pop()} (reported by {listed(reported, MAX_NAMES)})")
    return WorldError(f"no node reported on {guest}; nothing was done{_hidden(reported)}")


def silent(answer: object) -> Answer:
    """Return what follows from an answer without data about a guest."""
    answered = isinstance(answer, str) and not answer.startswith(NO_RETURN)
    detail = _text(str(answer)) if answered else "no response"
    return Answer(Observation(Sighting.UNREACHABLE, detail=detail), answered)


def ended(answer: object) -> dict[str, Any] | None:
    """Return what a node reported of a migration; None if that leaves its end open.

    WorldError, with the node's text, if nothing was begun.
    """
    if isinstance(answer, Mapping) and is_ending(answer):
        return dict(answer)
    if isinstance(answer, str) and answer and not is_broken(answer):
        raise WorldError(_text(answer))
    return None


def is_broken(answer: str) -> bool:
    """Whether a text is Salt's for a missing response or a failed program.

    Neither means that nothing was begun.
    """
    return _BROKEN.search(answer) is not None


def is_ending(answer: object) -> bool:
    """Whether data of a node, which may say anything, is that of a migration or a recovery."""
    sent = Reader(answer)
    try:
        for key in ("guest", "uuid", "result", "reason"):
            sent.at(key).text()
        sent.at("owner").text(default=None)
        steps = sent.at("actions").items() if sent.has("actions") else []
        if sent.has("needs"):
            sent.at("needs").items()
    except InputError:
        return False
    return sent.has("owner") and all(step.has("ok") for step in steps)


def is_settled(found: Mapping[str, Any]) -> bool:
    """Whether a recovery left nothing open."""
    certain = found["result"] in (cases.RUNNING, cases.PAUSED, cases.NOWHERE)
    steps = found.get("actions", [])
    return certain and not found.get("needs") and all(action["ok"] for action in steps)


def settled(move: Move, found: Mapping[str, Any]) -> dict[str, Any]:
    """Return the result of a migration by the observations of the other nodes."""
    reason = f"{move.source} did not report how it ended; according to all nodes: {found['reason']}"
    if found["owner"] == move.destination:
        return {**lost(move, reason), "owner": move.destination, "result": MOVED, "reason": reason}
    if found["owner"] == move.source:
        reason += f"; {move.source} may not have begun it yet and may still do so"
    return {**lost(move, reason), "owner": found["owner"]}


def lost(move: Move, reason: str) -> dict[str, Any]:
    """Return the result of a migration whose end was not observed, with how to find out."""
    guest = shlex.quote(move.guest)
    remedy = (
        f"to watch it: salt {move.source} kvmcluster.job {guest}; to end it: salt-run"
        f" kvmcluster.cancel {guest}; to see where it is: salt-run kvmcluster.recover {guest}"
    )
    return {
        "guest": move.guest,
        "uuid": move.uuid,
        "source": move.source,
        "destination": move.destination,
        "owner": None,
        "result": cases.UNKNOWN,
        "reason": f"{reason}; {remedy}",
        "findings": [],
        "started": None,
        "elapsed": None,
        "downtime_ms": None,
        "memory_bytes": None,
        "iterations": None,
        "afterwards": [],
    }


def _text(answer: str) -> str:
    """Return a node's text without Salt's prefix; of a traceback the last line."""
    detail = answer.strip().splitlines()[-1:] if "Traceback" in answer else [answer]
    return printable(BY_SALT.sub("", " ".join(detail)))


def _reported(answer: object) -> Answer:
    if not isinstance(answer, Mapping):
        return silent(answer)
    sent = Reader(answer)
    try:
        observation = Observation(
            Sighting(sent.at("state").choice(_SIGHTINGS)),
            sent.at("guest").text(),
            sent.at("uuid").line(),
            job=sent.at("job").line(),
        )
        return Answer(observation)
    except InputError:
        return silent("unexpected response")


def _under_way(guest: str, reported: Mapping[str, Answer], active: list[str]) -> str:
    where = ", ".join(f"{reported[node].observation.sighting.value} on {node}" for node in active)
    sending = [node for node in active if reported[node].observation.job == verdicts.OUTGOING]
    if sending:
        return (
            f"it is already migrating from {sending[0]}; to watch it:"
            f" salt {sending[0]} kvmcluster.job {shlex.quote(guest)}"
        )
    return (
        f"it is {where}{_hidden(reported)}; to settle it:"
        f" salt-run kvmcluster.recover {shlex.quote(guest)}"
    )


def _nowhere(cluster: Cluster, guest: str, reported: Mapping[str, Answer]) -> KvmclusterError:
    answered = fit_to_ask(reported)
    off = [node for node in answered if reported[node].observation.sighting is Sighting.SHUT_OFF]
    start = nowhere.remedy(cluster, guest, off, answered)
    if off:
        return WorldError(
            f"{guest} does not run: it is shut off on {listed(off, MAX_NAMES)}{_hidden(reported)};"
            f" {start}"
        )
    if not answered:
        return nobody(guest, reported)
    if len(answered) == len(reported) and guest in cluster.guests.list:
        return WorldError(f"{guest} runs nowhere: no node has it; {start}")
    return _unknown(guest, reported)


def _unknown(guest: str, reported: Mapping[str, Answer]) -> InputError:
    return InputError(
        f"no node that responded has a guest {guest}{_hidden(reported)}; to list the guests:"
        " salt-run kvmcluster.status"
    )


def _hidden(reported: Mapping[str, Answer]) -> str:
    silent = [
        f"{node} ({one.observation.detail})"
        for node, one in reported.items()
        if one.observation.sighting is Sighting.UNREACHABLE
    ]
    return f"; no information from {listed(silent, MAX_NAMES)}" if silent else ""
