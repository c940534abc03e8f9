"""Who can go where: a matrix whose rows are guests alike, and every reason once, with a number."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from saltext_kvmcluster.core.findings import BLOCK, SEE, UNKNOWN
from saltext_kvmcluster.core.readiness.checks.base import BOTH, DESTINATION, SOURCE
from saltext_kvmcluster.core.readiness.report import BY_ID
from saltext_kvmcluster.core.text import counted, listed

MOST_CELLS = 5_000
"""Cells of the matrix; the rows of guests that can go to the fewest nodes come first."""
WIDEST = 12
"""Nodes beside each other with a word in each cell; a sign alone if there are more."""
MOST_NAMES = 200
"""Guests that are named in a row."""
MOST_REASONS = 200
MOST_NUMBERS = 5
"""Reasons to which a cell refers."""
LONGEST_TITLE = 600
"""Characters that are shown where the pointer rests; a quarter of it in a wide matrix."""
HERE, YES, NO, NOT_KNOWN, NOT_ASKED = "here", "yes", "no", "unknown", "not asked"
Finding = Mapping[str, Any]
_Row = Mapping[str, Any]
_Key = tuple[str, str, str]


def matrix(check: Mapping[str, Any]) -> dict[str, Any]:
    """Return the matrix, its reasons, and what else the checks found."""
    nodes = check["nodes"]
    found = _Reasons(check["findings"])
    groups = sorted(_groups(check["guests"]), key=lambda rows: len(rows[0]["movable_to"]))
    most = max(1, MOST_CELLS // max(1, len(nodes)))
    rows = [_shown(group, nodes, found) for group in groups[:most]]
    left_out = sum(len(group) for group in groups[most:])
    numbered = found.numbered[:MOST_REASONS]
    warnings = [_reason(one) for one in check["findings"] if found.is_further(one)]
    return {
        "nodes": list(nodes),
        "dense": len(nodes) > WIDEST,
        "rows": rows,
        "left_out": counted(left_out, "more guest") if left_out else "",
        "reasons": numbered,
        "reasons_left_out": len(found.numbered) - len(numbered),
        "further": warnings[:MOST_REASONS],
        "further_left_out": max(0, len(warnings) - MOST_REASONS),
        "movable": check["movable"],
        "moves": check["moves"],
    }


class _Reasons:
    """The findings, numbered in the order in which cells refer to them."""

    def __init__(self, findings: Iterable[Finding]) -> None:
        self.by_check: dict[str, list[Finding]] = {}
        for one in findings:
            if one["severity"] == BLOCK:
                self.by_check.setdefault(one["id"], []).append(one)
        self.numbers: dict[_Key, int] = {}
        self.numbered: list[dict[str, Any]] = []

    def of_cell(self, row: _Row, node: str) -> list[dict[str, Any]]:
        """Return why a guest cannot go to a node; what follows from it only if it is all."""
        found = [
            one
            for check in row["blocked"].get(node, ())
            for one in _about(self.by_check.get(check, ()), row, node)
        ]
        own = [one for one in found if not one["remedy"].startswith(SEE)] or found
        numbered = {one["number"]: one for one in map(self._number, own)}
        return [numbered[number] for number in sorted(numbered)]

    def is_further(self, finding: Finding) -> bool:
        """Whether no cell refers to a finding, and it is no consequence of another one."""
        return _key(finding) not in self.numbers and not finding["remedy"].startswith(SEE)

    def _number(self, finding: Finding) -> dict[str, Any]:
        key = _key(finding)
        if key not in self.numbers:
            self.numbers[key] = len(self.numbers) + 1
            self.numbered.append({**_reason(finding), "number": self.numbers[key]})
        return self.numbered[self.numbers[key] - 1]


def _about(findings: Iterable[Finding], row: _Row, node: str) -> list[Finding]:
    """Return the findings of one check that keep a guest from one node."""
    to_there = [
        one
        for one in findings
        if one["everywhere"] or not one["destinations"] or node in one["destinations"]
    ]
    return [
        one
        for one in to_there
        if (row["guest"] in one["guests"] if one["guests"] else _of_nodes(one, row["node"], node))
    ]


def _of_nodes(finding: Finding, source: str, destination: str) -> bool:
    """Whether a finding without a guest is about the node it would leave, or the one it goes to."""
    if finding["destinations"] or finding["everywhere"]:
        return source in finding["nodes"]
    role = BY_ID[finding["id"]].role if finding["id"] in BY_ID else BOTH
    as_destination = DESTINATION in role and destination in finding["nodes"]
    return as_destination or (SOURCE in role and source in finding["nodes"])


def _key(finding: Finding) -> _Key:
    return finding["outcome"], finding["sentence"], finding["remedy"]


def _reason(finding: Finding) -> dict[str, Any]:
    return {
        "id": finding["id"],
        "blocks": finding["severity"] == BLOCK,
        "unknown": finding["outcome"] == UNKNOWN,
        "concerned": _concerned(finding),
        "sentence": finding["sentence"],
        "remedy": finding["remedy"],
    }


def _concerned(finding: Finding) -> str:
    named = listed(finding["guests"] or finding["nodes"])
    if finding["everywhere"]:
        return f"{named} → every node"
    return f"{named} → {listed(finding['destinations'])}" if finding["destinations"] else named


def _groups(rows: Iterable[_Row]) -> list[list[_Row]]:
    """Return the guests that are on one node and can go to the same nodes for the same reasons."""
    found: dict[object, list[_Row]] = {}
    for row in rows:
        blocked = tuple((node, tuple(ids)) for node, ids in row["blocked"].items())
        found.setdefault((row["node"], tuple(row["movable_to"]), blocked), []).append(row)
    return list(found.values())


def _shown(group: Sequence[_Row], nodes: Sequence[str], found: _Reasons) -> dict[str, Any]:
    names = sorted(row["guest"] for row in group)
    return {
        "guests": names[:MOST_NAMES],
        "more": len(names) - len(names[:MOST_NAMES]),
        "count": len(names),
        "node": group[0]["node"],
        "cells": [_cell(group, node, nodes, found) for node in nodes],
    }


def _cell(
    group: Sequence[_Row], node: str, nodes: Sequence[str], found: _Reasons
) -> dict[str, Any]:
    row = group[0]
    reasons: list[dict[str, Any]] = []
    if node in row["movable_to"]:
        kind = YES
    elif node in row["blocked"]:
        reasons = found.of_cell(row, node)
        kind = NOT_KNOWN if reasons and all(one["unknown"] for one in reasons) else NO
    else:
        kind = HERE if node == row["node"] else NOT_ASKED
    known = [one["number"] for one in reasons if one["number"] <= MOST_REASONS]
    title = "\n".join(f"{one['sentence']}; {one['remedy']}" for one in reasons)
    longest = LONGEST_TITLE // (4 if len(nodes) > WIDEST else 1)
    return {
        "node": node,
        "kind": kind,
        "numbers": known[:MOST_NUMBERS],
        "more": max(0, len(reasons) - len(known[:MOST_NUMBERS])),
        "title": title[:longest] + ("…" if len(title) > longest else ""),
        "checks": [] if reasons else list(row["blocked"].get(node, ()))[:MOST_NUMBERS],
    }
