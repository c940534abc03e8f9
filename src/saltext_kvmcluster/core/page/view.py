"""What a page shows of a cluster, as a value: plain data that a template puts into its place.

It is made of what the commands return. Names and reasons come from guests and nodes: here they
become printable, the template escapes them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from saltext_kvmcluster.core.page import destinations, figures, migrations, nodes
from saltext_kvmcluster.core.text import MAX_NAMES, clauses, counted, listed, printable

MOST_LINES = 200
DENSE = 150
"""Guests above which their boxes are small."""
LONGEST = 2000
"""Characters of one text."""


def view(observed: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a page shows of a cluster.

    observed
        A Snapshot as plain data, with what the checks found.
    """
    status, check = observed["status"], observed["check"]
    problems = list(status["problems"])
    answering = [name for name, node in status["nodes"].items() if node["guests"] is not None]
    data = {
        "cluster": observed["cluster"],
        "observed": figures.at(observed["began"]),
        "took": figures.seconds(observed["seconds"]),
        "verdict": _verdict(problems),
        "ok": not problems,
        "problems": [clauses(sentence) for sentence in problems[:MOST_LINES]],
        "problems_left_out": max(0, len(problems) - MOST_LINES),
        "notes": list(status["notes"][:MOST_LINES]),
        "notes_left_out": max(0, len(status["notes"]) - MOST_LINES),
        "silent": dict(status["silent"]),
        "figures": _figures(status, check, answering),
        "dense": len(status["status"]) > DENSE,
        "nodes": nodes.cards(status, observed["unplaced"]),
        "elsewhere": nodes.elsewhere(status),
        "cordoned": nodes.cordoned(status),
        "matrix": destinations.matrix(check),
        "unexamined": _unexamined(status, check),
        "migrations": migrations.migrations(observed, list(status["nodes"])),
        "drifted": _drifted(observed["drifted"]),
    }
    shown: dict[str, Any] = _printable(data)
    return shown


def _verdict(problems: list[str]) -> str:
    if not problems:
        return "Nothing needs a person"
    return f"{counted(len(problems), 'problem')} {'needs' if len(problems) == 1 else 'need'} you"


def _figures(
    status: Mapping[str, Any], check: Mapping[str, Any], answering: Sequence[str]
) -> list[dict[str, str]]:
    """Return the few figures at the head of the page, of the nodes that told them."""
    total = len(status["nodes"])
    active = [row for row in status["status"] if row["where"] in status["nodes"]]
    memory = sum(row.get("memory_kib") or 0 for row in active)
    cordoned = sum(node["cordoned"] is not None for node in status["nodes"].values())
    some = len(answering) < total
    known = (
        ("Active guests", len(active), f"{len(active):,}"),
        ("Memory of guests", memory, figures.memory(memory)),
        ("Possible moves", check["movable"], f"{check['movable']:,} of {check['moves']:,}"),
        ("Cordoned nodes", cordoned, str(cordoned)),
    )
    return [
        {"name": "Nodes that told their guests", "value": f"{len(answering)} of {total}"},
        *(
            {"name": name, "value": _at_least(number, text) if some else text}
            for name, number, text in known
        ),
    ]


def _at_least(number: int, text: str) -> str:
    """Return a figure to which what is not known may add."""
    return f"at least {text}" if number else "none seen"


def _unexamined(status: Mapping[str, Any], check: Mapping[str, Any]) -> list[dict[str, str]]:
    """Return the guests that were seen, but whose node did not tell what the checks need."""
    judged = {(row["guest"], row["node"]) for row in check["guests"]}
    seen: dict[str, list[str]] = {}
    for row in status["status"]:
        if row["where"] in status["nodes"] and (row["name"], row["where"]) not in judged:
            seen.setdefault(str(row["where"]), []).append(str(row["name"]))
    return [{"node": node, "guests": listed(names, MAX_NAMES)} for node, names in seen.items()]


def _drifted(found: Mapping[str, Iterable[str]]) -> list[dict[str, str]]:
    return [
        {"node": node, "files": listed(paths, MAX_NAMES)} for node, paths in found.items() if paths
    ]


def _printable(value: Any) -> Any:
    """Return data with every text in it made printable, and shortened."""
    if isinstance(value, str):
        lines = "\n".join(printable(line) for line in value[:LONGEST].split("\n"))
        return lines + ("…" if len(value) > LONGEST else "")
    if isinstance(value, Mapping):
        return {_printable(key): _printable(item) for key, item in value.items()}
    return [_printable(item) for item in value] if isinstance(value, list) else value
