"""Guests that crashed are started again where they crashed: whether, and how often.

What counts is what libvirt wrote into its logs of a guest, not an event: on that node that it
crashed, and on no other one that it ran since. A restart is a row of the node's history whose
source and destination are the same.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from saltext_kvmcluster.core.migration import records
from saltext_kvmcluster.core.migration.handover import LastRun
from saltext_kvmcluster.core.migration.migration import UNKNOWN
from saltext_kvmcluster.core.ownership import startup
from saltext_kvmcluster.core.pillar.clusters import Cluster, Listed
from saltext_kvmcluster.core.text import MAX_NAMES, counted, listed, one_line, printable
from saltext_kvmcluster.core.untrusted import Reader

KIND = "restarts"
REFUSED = "refused"
# How a run ended, by libvirt's log.
CRASHED, FAILED = "crashed", "failed"
RECENT = 300.0
"""Seconds after which a crash is left to people: somebody may want the guest off by then."""
TOLERANCE = 2.0
"""Seconds by which two nodes may differ about one moment: they count whole ones."""


@dataclass(frozen=True)
class Traces:
    """What a node's disk tells of a guest: its last run there, by libvirt's log of it.

    ``logged``: how many seconds ago libvirt wrote that log; ``shut_down``: how many ago somebody
    had it shut down there, by us. None: never.
    """

    run: LastRun
    logged: float | None = None
    shut_down: float | None = None


@dataclass(frozen=True)
class Verdict:
    """Whether a guest that crashed is started again, and why, in a sentence."""

    again: bool
    sentence: str


def wanted(cluster: Cluster) -> list[Listed]:
    """Return the guests of the list that are started again after a crash."""
    return [guest for guest in cluster.guests.list.values() if guest.restarts]


def has_crashed(here: Traces) -> bool:
    """Whether a guest has just crashed on a node, by what is known there."""
    age = here.logged
    return here.run.ended == CRASHED and age is not None and 0 <= age + 1 <= RECENT


def is_over(here: Traces, others: Mapping[str, Traces]) -> bool:
    """Whether a crash is no reason to start a guest any more: it was shut down, or ran elsewhere.

    A start that failed, and the copy of a migration that did, are no run.

    here, others
        What is known on the node where it crashed, and on the others.
    """
    crashed = here.logged or 0.0
    shut_down = [one.shut_down for one in (here, *others.values())]
    ran = [one.logged for one in others.values() if one.run.ended != FAILED]
    return any(ago is not None and ago <= crashed for ago in shut_down) or any(
        ago is not None and ago < crashed - TOLERANCE for ago in ran
    )


def decide(guest: Listed, node: str, history: Iterable[object], now: datetime) -> Verdict:
    """Return what follows for a guest that has crashed on a node.

    history
        What the node remembers.
    """
    begin = now - timedelta(seconds=guest.within)
    before = sum(
        row["source"] == row["destination"] == node
        and row["result"] != REFUSED
        and _is_since(str(row["started"]), begin)
        for row in records.chosen(history, guest.name, records.MOST)
    )
    of = f"of {guest.restarts} within {guest.within} s"
    if before >= guest.restarts:
        return Verdict(
            False,
            f"it crashed on {node}, where {counted(before, 'restart')} {of} were begun: it stays"
            f" off; its log is /var/log/libvirt/qemu/{printable(guest.name)}.log",
        )
    return Verdict(True, f"it crashed on {node}: restart {before + 1} {of}")


def begun(guest: str, node: str, reason: str, now: datetime) -> dict[str, Any]:
    """Return the record of a restart that is about to be begun."""
    return {
        **dict.fromkeys((*records.TEXTS, *records.FIGURES)),
        "guest": guest,
        "source": node,
        "destination": node,
        "result": UNKNOWN,
        "reason": reason,
        "started": now.isoformat(timespec="milliseconds"),
    }


def row(guest: str, result: str, reason: str) -> dict[str, Any]:
    """Return what came of a guest that crashed, as plain data."""
    return {
        "guest": printable(guest),
        "ok": result in (startup.STARTED, startup.RUNNING),
        "result": result,
        "reason": one_line(reason),
    }


def answered(
    cluster: Cluster, answers: Mapping[str, object]
) -> tuple[list[dict[str, Any]], list[str]]:
    """Return what came of crashed guests by what nodes returned, with the node, and what failed."""
    rows: list[dict[str, Any]] = []
    failed: list[str] = []
    for node in cluster.nodes:
        answer = answers.get(node)
        if isinstance(answer, str):
            failed.append(one_line(f"{node}: {answer}"))
        for one in Reader(answer, lenient=True).at("restarts").items(optional=True):
            texts = {key: one.at(key).line(default="") for key in ("guest", "result", "reason")}
            if texts["guest"] in cluster.guests.list:
                rows.append({"node": node, **texts})
    return rows, failed


def summary(rows: Iterable[Mapping[str, Any]]) -> str:
    """Return what a person has to look at; empty if nothing."""
    off = [
        f"{row['guest']} on {row['node']} is {row['result'].replace('_', ' ')}: {row['reason']}"
        for row in rows
        if row["result"] not in (startup.STARTED, startup.RUNNING)
    ]
    return f"crashed guests: {listed(off, MAX_NAMES)}" if off else ""


def _is_since(text: str, begin: datetime) -> bool:
    try:
        return datetime.fromisoformat(text) >= begin
    except (TypeError, ValueError):
        return False
