"""What a page shows of a cluster, as a value: plain data that a template puts into its place.

It is made of what the commands return. Names and reasons come from guests and nodes: here they
become printable, the template escapes them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from saltext_kvmcluster.core.page import destinations, figures, migrations, nodes
from saltext_kvmcluster.core.text import MAX_NAMES, counted, listed, printable

MOST_LINES = 200
LONGEST = 2000
"""Characters of one text."""
_OPEN, _CLOSE = "([{", ")]}"


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
        "problems": [_split(sentence) for sentence in problems[:MOST_LINES]],
        "problems_left_out": max(0, len(problems) - MOST_LINES),
        "notes": list(status["notes"][:MOST_LINES]),
        "notes_left_out": max(0, len(status["notes"]) - MOST_LINES),
        "silent": dict(status["silent"]),
        "figures": _figures(status, check, answering),
        "nodes": nodes.cards(status, observed["unplaced"]),
        "elsewhere": nodes.elsewhere(status),
        "cordoned": nodes.cordoned(status),
        "matrix": destinations.matrix(check),
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
    known = {
        "Active guests": str(len(active)),
        "Memory of guests": figures.memory(memory),
        "Possible moves": f"{check['movable']} of {check['moves']}",
        "Cordoned nodes": str(cordoned),
    }
    some = "" if len(answering) == total else "at least "
    return [
        {"name": "Nodes that told their guests", "value": f"{len(answering)} of {total}"},
        *(
            {"name": name, "value": f"{some}{value}" if answering else "not known"}
            for name, value in known.items()
        ),
    ]


def _drifted(found: Mapping[str, Iterable[str]]) -> list[dict[str, str]]:
    return [
        {"node": node, "files": listed(paths, MAX_NAMES)} for node, paths in found.items() if paths
    ]


def _split(sentence: str) -> dict[str, str]:
    """Return what is wrong, and what there is to do: parted by the first ';' outside brackets."""
    depth = 0
    for place, char in enumerate(sentence):
        depth += (char in _OPEN) - (char in _CLOSE)
        if depth <= 0 and sentence.startswith("; ", place):
            return {"what": sentence[:place], "remedy": sentence[place + 2 :]}
    return {"what": sentence, "remedy": ""}


def _printable(value: Any) -> Any:
    """Return data with every text in it made printable, and shortened."""
    if isinstance(value, str):
        lines = "\n".join(printable(line) for line in value[:LONGEST].split("\n"))
        return lines + ("…" if len(value) > LONGEST else "")
    if isinstance(value, Mapping):
        return {_printable(key): _printable(item) for key, item in value.items()}
    return [_printable(item) for item in value] if isinstance(value, list) else value
