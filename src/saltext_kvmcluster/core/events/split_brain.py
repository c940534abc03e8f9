"""A guest that runs twice: the evidence for the person who has to decide."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from typing import Any

from saltext_kvmcluster.core.facts.nodefacts import GuestFacts, NodeFacts
from saltext_kvmcluster.core.pillar.clusters import Cluster
from saltext_kvmcluster.core.readiness import problems
from saltext_kvmcluster.core.text import printable
from saltext_kvmcluster.core.untrusted import Reader
from saltext_kvmcluster.core.verdicts import Doubled

# Characters of one definition, which a node may have made up.
LONGEST_DEFINITION = 1 << 20


def alarms(
    cluster: Cluster, facts: Mapping[str, NodeFacts], sent: Mapping[str, object], now: datetime
) -> list[dict[str, Any]]:
    """Return the evidence for each guest that runs twice.

    facts, sent
        What every node reported of its guests, parsed and raw; definitions are kept as received.

    Each has ``{cluster, guest, uuid, nodes, sentence, time, copies, silent}``; ``copies`` holds by
    node what was observed there: ``since`` when it runs, or None if unknown, and its
    ``definition``.
    """
    guests = [one for node in facts.values() for one in node.guests or ()]
    silent = sorted(node for node, reported in facts.items() if reported.guests is None)
    return [
        {
            "cluster": cluster.name,
            "guest": copies[double.nodes[0]].name,
            "uuid": copies[double.nodes[0]].uuid,
            "nodes": list(double.nodes),
            "sentence": _sentence(copies[double.nodes[0]], double),
            "time": now.isoformat(timespec="seconds"),
            "copies": {node: _copy(one, sent.get(node), now) for node, one in copies.items()},
            "silent": silent,
        }
        for copies, double in problems.doubles(guests)
    ]


def steady(
    before: Iterable[Mapping[str, Any]], after: Iterable[dict[str, Any]]
) -> list[dict[str, Any]]:
    """Return the alarms of an observation that the previous one had, too, on the same nodes."""
    known = {(one["uuid"], *one["nodes"]) for one in before}
    return [one for one in after if (one["uuid"], *one["nodes"]) in known]


def summary(alarms: Iterable[Mapping[str, Any]]) -> str:
    """Return how many guests run twice, with a digest that differs for other guests or nodes."""
    named = sorted((one["uuid"], *one["nodes"]) for one in alarms)
    digest = hashlib.sha256(repr(named).encode()).hexdigest()[:8]
    runs = "guest runs" if len(named) == 1 else "guests run"
    return f"{len(named)} {runs} twice (alarm {digest})"


def small(alarm: Mapping[str, Any]) -> dict[str, Any]:
    """Return an alarm as an event's data: without the definitions."""
    copies = {
        node: {key: value for key, value in copy.items() if key != "definition"}
        for node, copy in alarm["copies"].items()
    }
    return {**alarm, "what": "twice", "copies": copies}


def _sentence(guest: GuestFacts, double: Doubled) -> str:
    return f"{printable(guest.name)} ({printable(guest.uuid)}) {double.sentence}"


def _copy(guest: GuestFacts, sent: object, now: datetime) -> dict[str, Any]:
    since = None if guest.uptime is None else now - timedelta(seconds=guest.uptime)
    return {
        "state": guest.observation.sighting.value,
        "reason": guest.reason,
        "since": since.isoformat(timespec="seconds") if since else None,
        "persistent": guest.observation.persistent,
        "autostart": guest.observation.autostart,
        "job": guest.observation.job,
        "definition": _definition(guest.uuid, sent),
    }


def _definition(uuid: str, sent: object) -> str | None:
    for guest in Reader(sent, lenient=True).at("guests").items(optional=True):
        xml = guest.at("xml").text(default=None)
        if guest.at("uuid").value == uuid and xml is not None:
            return xml[:LONGEST_DEFINITION]
    return None
