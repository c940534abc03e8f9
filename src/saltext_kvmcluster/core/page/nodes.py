"""The nodes of a page: how loaded each is, and its guests as boxes sized by their memory."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from saltext_kvmcluster.core import cordons
from saltext_kvmcluster.core.page import figures
from saltext_kvmcluster.core.readiness.overview import NOWHERE
from saltext_kvmcluster.core.text import counted
from saltext_kvmcluster.core.verdicts import INCOMING, OUTGOING, Sighting

MOST_BOXES = 2000
"""Guests that are drawn, the biggest of each node first."""
LEAST_WIDTH = 1
"""Percent of the widest box."""
WIDEST_NAME = 24
"""Characters of a name that is not wrapped."""
Row = Mapping[str, Any]

_STATES = {
    "ok": "answers",
    "minion silent": "minion silent",
    "minion error": "minion answered with an error",
    Sighting.UNREACHABLE.value: "guests not known",
}


def cards(status: Mapping[str, Any], unplaced: Mapping[str, int] | None) -> list[dict[str, Any]]:
    """Return a card for each node, in the order of the pillar.

    unplaced
        By node, how many guests would find no room if it were lost; None if that is not known.
    """
    here: dict[str, list[Row]] = defaultdict(list)
    for row in status["status"]:
        here[str(row["where"])].append(row)
    biggest = max((row.get("memory_kib") or 0 for row in status["status"]), default=0)
    most = MOST_BOXES // max(1, len(status["nodes"]))
    busiest = max((_per_cpu(node, here[name]) for name, node in status["nodes"].items()), default=0)
    return [
        {
            "name": name,
            "answers": node["state"] == "ok",
            "known": node["guests"] is not None,
            "state": _STATES.get(node["state"], node["state"]),
            "seen_from": node["seen_from"],
            "silence": status["silent"].get(name, ""),
            "cordoned": node["cordoned"] is not None,
            "memory": _memory(node, here[name]),
            "cpus": _cpus(node, here[name], busiest),
            "active": counted(len(here[name]), "guest"),
            "room": _room(name, here[name], unplaced),
            **boxes(here[name], biggest, most),
        }
        for name, node in status["nodes"].items()
    ]


def elsewhere(status: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the guests that are active on no node, and those of which that is not known."""
    return [
        {
            "name": row["name"],
            "where": row["state"] if row["where"] == NOWHERE else "not known",
            "defined": list(row.get("defined", ())),
        }
        for row in status["status"]
        if row["where"] not in status["nodes"]
    ]


def cordoned(status: Mapping[str, Any]) -> list[dict[str, str]]:
    """Return the nodes that are cordoned, since when, and why."""
    found = [(name, node["cordon"]) for name, node in status["nodes"].items() if node["cordoned"]]
    return [
        {
            "node": name,
            "since": figures.at(cordon["since"]) if cordon["since"] else figures.NONE,
            "reason": cordon["reason"] or "no reason was given",
            "remedy": cordons.remedy(name),
        }
        for name, cordon in found
    ]


def boxes(rows: Iterable[Row], biggest: int, most: int) -> dict[str, Any]:
    """Return the boxes of a node's guests, the biggest first, and how many are not drawn."""
    ordered = sorted(rows, key=lambda row: (-(row.get("memory_kib") or 0), str(row["name"])))
    return {
        "boxes": [_box(row, biggest) for row in ordered[:most]],
        "more": counted(len(ordered) - most, "smaller guest") if len(ordered) > most else "",
    }


def _box(row: Row, biggest: int) -> dict[str, Any]:
    kib = row.get("memory_kib")
    marks = [] if row["state"] == Sighting.RUNNING.value else [row["state"]]
    marks += [f"frozen: {row['frozen']}"] if row.get("frozen") else []
    marks += [{INCOMING: "arriving", OUTGOING: "leaving"}[job]] if (job := _job(row)) else []
    return {
        "name": row["name"],
        "memory": figures.memory(kib) if kib else "memory not known",
        "width": max(LEAST_WIDTH, figures.percent(kib or 0, biggest)),
        "least": min(WIDEST_NAME, max(len(str(row["name"])), 8)),
        "marks": marks,
        "managed": row.get("manager") or "",
    }


def _job(row: Row) -> str:
    job = row.get("job") or ""
    return job if job in (INCOMING, OUTGOING) else ""


def _room(node: str, rows: Sequence[Row], unplaced: Mapping[str, int] | None) -> dict[str, Any]:
    """Return whether the other nodes have room for a node's guests, should it be lost."""
    if unplaced is None or node not in unplaced:
        return {"lacks": False, "text": "not known"}
    if not rows:
        return {"lacks": False, "text": "it has no guests"}
    lacking, all_of_them = unplaced[node], counted(len(rows), "guest")
    text = f"not for {lacking} of {all_of_them}" if lacking else "for all its guests"
    return {"lacks": lacking > 0, "text": text}


def _memory(node: Row, rows: Iterable[Row]) -> dict[str, Any] | None:
    """Return how much of a node's memory is in use; None if that is not known."""
    total, free = node["memory_kib"], node["free_kib"]
    if not total or free is None:
        return None
    used, given = max(0, total - free), sum(row.get("memory_kib") or 0 for row in rows)
    return {
        "percent": figures.percent(used, total),
        "text": f"{figures.memory(used)} of {figures.memory(total)} in use",
        "guests": f"its guests have {figures.memory(given)}" if given else "",
    }


def _cpus(node: Row, rows: Iterable[Row], busiest: float) -> dict[str, Any] | None:
    """Return how many vCPUs a node has for its CPUs; None if that is not known."""
    if not node.get("cpus"):
        return None
    ratio = _per_cpu(node, rows)
    return {
        "percent": figures.percent(ratio, max(1.0, busiest)),
        "text": f"{counted(_vcpus(rows), 'vCPU')} on {counted(node['cpus'], 'CPU')}",
        "ratio": f"{ratio:.2f}",
    }


def _per_cpu(node: Row, rows: Iterable[Row]) -> float:
    return _vcpus(rows) / node["cpus"] if node.get("cpus") else 0.0


def _vcpus(rows: Iterable[Row]) -> int:
    return sum(row.get("vcpus") or 0 for row in rows)
