"""What the checks found, as text: each reason once, and which guest can go where."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from saltext_kvmcluster.core.findings import SEE
from saltext_kvmcluster.core.output.layout import LONGEST, WIDEST, table, verdict
from saltext_kvmcluster.core.text import counted, listed


def check(data: Mapping[str, Any]) -> str:
    """Return why guests cannot move, then where each can go."""
    lines = [*reasons(_unless_unprepared(data)), *_matrix(data)]
    lines.append(
        f"{verdict(data)}: {data['movable']} of {counted(data['moves'], 'move')} possible in"
        f" cluster {data['cluster']}"
    )
    return "\n".join(lines)


def _unless_unprepared(data: Mapping[str, Any]) -> Iterable[Mapping[str, Any]]:
    """Return the findings; of a cluster without a single key, one in place of all about ssh."""
    without = {
        node
        for one in data["findings"]
        if one["id"] == "ssh.key" and one["sentence"].endswith(" does not exist")
        for node in one["nodes"]
    }
    if not data["nodes"] or not without.issuperset(data["nodes"]):
        return list(data["findings"])
    unprepared = {
        "id": "ssh.key",
        "severity": "BLOCK",
        "outcome": "PROBLEM",
        "sentence": "no node is prepared: there is no cluster key, and no trust between nodes",
        "remedy": "salt-run state.orchestrate kvmcluster.orch.prepare",
        "guests": [],
        "nodes": data["nodes"],
        "destinations": [],
        "everywhere": False,
    }
    return [unprepared, *(one for one in data["findings"] if not one["id"].startswith("ssh."))]


def preflight(data: Mapping[str, Any]) -> str:
    """Return whether maintenance may start, and what forbids it."""
    kinds = ("others", "updates", "begun", "managed", "cordoned", "hindered")
    problems = [detail for kind in kinds for detail in data[kind]]
    lines = [f"PROBLEM  {detail}" for detail in problems]
    if not data["hindered"]:
        lines += [
            f"STUCK  {guest} on {node}: {why}"
            for node, guests in data["stuck"].items()
            for guest, why in guests.items()
        ]
    lines += reasons(data["findings"])
    ready = f"; ready: {listed(data['nodes'])}" if data["ok"] and data["nodes"] else ""
    may = "can" if data["ok"] else "cannot"
    lines.append(f"{verdict(data)}: maintenance {may} start in cluster {data['cluster']}{ready}")
    return "\n".join(lines)


def ha_preflight(data: Mapping[str, Any]) -> str:
    """Return whether guests may be given to Pacemaker, and what forbids it."""
    may = f"by {data['engine']} {'may be set up' if data['ok'] else 'is refused'}"
    guests = counted(len(data["guests"]), "guest") if data["guests"] else "no guest"
    told = f"high availability {may} in cluster {data['cluster']}, where {guests} of the pillar"
    have = "have" if len(data["guests"]) > 1 else "has"
    return "\n".join([*reasons(data["findings"]), f"{verdict(data)}: {told} {have} ha"])


def reasons(findings: Iterable[Mapping[str, Any]]) -> Iterable[str]:
    """Say each reason once, with its remedy; checks that have one reason share a line.

    Of what is not known because of another finding only the checks are named.
    """
    groups: dict[tuple[str, str, str], list[str]] = {}
    follow: dict[str, None] = {}
    for one in findings:
        if one["remedy"].startswith(SEE):
            follow[one["id"]] = None
        else:
            label = one["outcome"] if one["severity"] == "BLOCK" else "WARN"
            detail = f"{_concerned(one)}: {one['sentence']}"
            groups.setdefault((label, detail, one["remedy"]), []).append(one["id"])
    for (label, detail, remedy), ids in groups.items():
        yield f"{label.ljust(7)}  {listed(ids)}  {detail}"
        yield f"         {remedy}"
    if follow:
        have = "has" if len(follow) == 1 else "have"
        yield (
            f"UNKNOWN  {counted(len(follow), 'check')} {have} no result because of this;"
            " see --out=json"
        )


def _concerned(finding: Mapping[str, Any]) -> str:
    named = listed(finding["guests"] or finding["nodes"])
    if finding["everywhere"]:
        return f"{named} -> every node"
    return f"{named} -> {listed(finding['destinations'])}" if finding["destinations"] else named


def _matrix(data: Mapping[str, Any]) -> Iterable[str]:
    """Show where each guest can go: a matrix, or figures where that would be too wide."""
    known, nodes = sorted(data["guests"], key=lambda row: str(row["guest"])), data["nodes"]
    rows = known[:LONGEST]
    if len(nodes) <= WIDEST:
        cells = [[row["guest"], *(_cell(row, node) for node in nodes)] for row in rows]
        yield table(["guest \\ to", *nodes], cells)
    else:
        figures = [
            [row["guest"], row["node"], f"{len(row['movable_to'])} of {len(nodes) - 1} nodes"]
            for row in rows
        ]
        yield table(["guest", "where", "can go to"], figures)
    if len(data["guests"]) > LONGEST:
        rest = counted(len(data["guests"]) - LONGEST, "more guest")
        yield f"{rest} not shown; see --out=json"


def _cell(row: Mapping[str, Any], node: str) -> str:
    if node in row["movable_to"]:
        return "ok"
    ids = row["blocked"].get(node)
    if not ids:
        return "-" if node == row["node"] else ""
    return f"NO {ids[0]}" + (f" +{len(ids) - 1}" if len(ids) > 1 else "")
