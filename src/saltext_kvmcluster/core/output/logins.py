"""The ssh trust as text: members, published identities, logins from every node to every node."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from saltext_kvmcluster.core.output.layout import WIDEST, silent, table, verdict
from saltext_kvmcluster.core.text import by_cause, counted, listed


def members(data: Mapping[str, Any]) -> str:
    """Return the nodes of a cluster; what is wrong with their pillars comes first."""
    lines = [
        f"PROBLEM  the pillar of {listed(nodes)}: {why}"
        for why, nodes in by_cause(data["faults"]).items()
    ]
    return "\n".join([*lines, f"cluster {data['cluster']}: {', '.join(data['members'])}"])


def publication(data: Mapping[str, Any]) -> str:
    """Return what was published, failures first."""
    lines = [f"PROBLEM  {node}: {why}" for node, why in data["failed"].items()]
    lines += [f"published  {entry}" for entry in data["published"]]
    lines.append(
        f"{len(data['published'])} published, {len(data['unchanged'])} unchanged,"
        f" {len(data['failed'])} failed"
    )
    return "\n".join(lines)


def rotation(data: Mapping[str, Any]) -> str:
    """Return what became of the keys of nodes, the worst first."""
    lines = []
    for one in sorted(data["nodes"], key=lambda one: bool(one["ok"])):
        if one["result"] == "planned":
            how = {
                "fresh": f"its key {one['key']} would be replaced",
                "begun": f"the replacement of {one['former']} was begun, and would be continued",
                "swapped": f"{one['former']} would be removed from every node",
            }[one["reason"]]
            lines.append(f"would     {one['node']}: {how}")
        elif one["ok"]:
            lines.append(f"replaced  {one['node']}: {one['former']} -> {one['key']}")
        else:
            lines.append(f"PROBLEM   {one['node']}: {one['result']}: {one['reason']}")
            if one["result"] != "not begun":
                lines.append(f"          then: salt-run kvmcluster.rotate {one['node']}")
    done = sum(one["ok"] for one in data["nodes"])
    if data["test"]:
        consent = "; nothing was done"
        if len(data["nodes"]) > 1:
            consent += "; to do it: add test=False"
        return "\n".join([*lines, f"{counted(len(data['nodes']), 'key')} to replace{consent}"])
    return "\n".join(
        [*lines, f"{verdict(data)}: {counted(done, 'key')} replaced in cluster {data['cluster']}"]
    )


def row(data: Mapping[str, Any]) -> str:
    """Return the logins from one node."""
    return matrix(
        {
            "cluster": data["cluster"],
            "nodes": list(dict.fromkeys([data["node"], *(c["peer"] for c in data["cells"])])),
            "rows": {data["node"]: data},
            "silent": {},
            "ok": data["ok"],
            "cells": len(data["cells"]),
            "good": sum(cell["ok"] for cell in data["cells"]),
        }
    )


def matrix(data: Mapping[str, Any]) -> str:
    """Return the logins from every node: each cause once, then a matrix."""
    lines = [*silent(data), *_problems(data)]
    if len(data["nodes"]) <= WIDEST:
        lines.append(table(["ssh from \\ to", *data["nodes"]], _rows(data)))
    else:
        lines.append(f"no matrix is shown for {len(data['nodes'])} nodes; see --out=json")
    waited = data.get("waited")
    lines.append(
        f"{verdict(data)}: {data['good']} of {counted(data['cells'], 'login')} good in cluster"
        f" {data['cluster']}"
        + (f", after {waited:.0f} s in which sshd refused some for a time" if waited else "")
    )
    return "\n".join(lines)


def _problems(data: Mapping[str, Any]) -> Iterable[str]:
    """Say each cause once, with its remedy: a node that is down fails the logins of all others."""
    groups: dict[tuple[str, str, str], list[str]] = {}
    firsts: dict[tuple[str, str, str], Mapping[str, Any]] = {}
    for node, sent in data["rows"].items():
        for alike in _alike(sent["cells"]):
            first, names = alike[0], ", ".join(cell["name"] for cell in alike)
            key = (names, first["cause"], first["detail"] if first["cause"] == "failed" else "")
            groups.setdefault(key, []).append(node)
            firsts.setdefault(key, first)
    for key, nodes in groups.items():
        first = firsts[key]
        quoted = f" ({first['detail']})" if first["detail"] else ""
        yield f"PROBLEM  {listed(nodes)} -> {key[0]}: {first['cause']}{quoted}"
        yield f"         {first['remedy']}"


def _alike(cells: Iterable[Mapping[str, Any]]) -> Iterable[list[Mapping[str, Any]]]:
    """Put the bad logins to one peer together that have one cause."""
    groups: dict[tuple[str, str, str], list[Mapping[str, Any]]] = {}
    for cell in cells:
        if not cell["ok"]:
            detail = cell["detail"] if cell["cause"] == "failed" else ""
            groups.setdefault((cell["peer"], cell["cause"], detail), []).append(cell)
    return groups.values()


def _rows(data: Mapping[str, Any]) -> Iterable[list[str]]:
    for node in [*data["rows"], *data["silent"]]:
        sent = data["rows"].get(node)
        yield [node, *(_cell(node, peer, sent) for peer in data["nodes"])]


def _cell(node: str, peer: str, sent: Mapping[str, Any] | None) -> str:
    if sent is None:
        return "?"
    cells = [cell for cell in sent["cells"] if cell["peer"] == peer]
    if not cells:
        return "-" if node == peer else "?"
    bad = list(dict.fromkeys(cell["cause"].upper() for cell in cells if not cell["ok"]))
    good = sum(cell["ok"] for cell in cells)
    return f"ok {good}/{len(cells)}" if not bad else f"{', '.join(bad)} {good}/{len(cells)}"
