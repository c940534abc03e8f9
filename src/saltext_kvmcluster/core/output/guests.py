"""Guests and nodes as text: a node's guests, the cluster's state, a guest's start and end."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from saltext_kvmcluster.core import cordons, verdicts
from saltext_kvmcluster.core.output.layout import (
    duration,
    result,
    size,
    table,
    table_if_any,
    verdict,
)
from saltext_kvmcluster.core.text import counted, listed

NOT_ACTIVE = ("shut off", "absent", "unreachable")


def guests(data: Mapping[str, Any]) -> str:
    """Return a node's guests; what is wrong comes first."""
    lines = [] if data["ok"] else [f"PROBLEM  {data['node']} is unreachable: {data['detail']}"]
    lines += _reasons([{**guest, "where": data["node"]} for guest in data["guests"]])
    header = ["guest", "state", "job", "vcpus", "memory", "uptime", "storage", "autostart"]
    rows = [
        [
            guest["name"],
            _state(guest),
            guest["job"] or "-",
            str(guest["vcpus"]),
            size(guest["memory_kib"]),
            duration(guest["uptime"]),
            ", ".join(dict.fromkeys(disk.get("storage") or "-" for disk in guest["disks"])) or "-",
            "yes" if guest["autostart"] else "no",
            _movable(guest),
        ]
        for guest in data["guests"]
    ]
    lines += table_if_any([*header, "movable"], rows)
    known = f"{counted(len(rows), 'guest')} on {data['node']}"
    lines.append(known if data["ok"] else f"the guests of {data['node']} are not known")
    return "\n".join(lines)


def status(data: Mapping[str, Any]) -> str:
    """Return the cluster's guests; problems come first, and no node is left out."""
    lines = [f"PROBLEM  {problem}" for problem in data["problems"]]
    lines += [
        f"CORDONED  {node} is {one['cordoned']}; to uncordon it: {cordons.remedy(node)}"
        for node, one in data["nodes"].items()
        if one["cordoned"]
    ]
    lines += [f"NOTE  {note}" for note in data["notes"]]
    lines += _reasons(data["status"])
    managed = any(guest.get("manager") for guest in data["status"])
    rows = [
        [
            *(guest["name"], guest["where"], _state(guest)),
            *([guest.get("manager") or "-"] if managed else []),
            _movable(guest),
        ]
        for guest in data["status"]
    ]
    header = ["guest", "where", "state", *(["manager"] if managed else []), "movable"]
    lines += [table(header, rows), ""] if rows else []
    nodes = [
        [
            name,
            "cordoned" if node["cordoned"] and node["state"] == "ok" else node["state"],
            *("?" if node[key] is None else str(node[key]) for key in ("active", "guests")),
            size(node["free_kib"]),
            size(node["memory_kib"]),
        ]
        for name, node in data["nodes"].items()
    ]
    lines.append(table(["node", "state", "active", "guests", "free", "memory"], nodes))
    answered = len(data["nodes"]) - len(data["silent"])
    lines.append(
        f"{verdict(data)}: {counted(len(set(map(_who, data['status']))), 'guest')}, {answered} of"
        f" {counted(len(data['nodes']), 'node')} answered in cluster {data['cluster']}"
    )
    return "\n".join(lines)


def start_or_shutdown(data: Mapping[str, Any]) -> str:
    """Return what became of a guest that was to be started or shut down."""
    took = f"; {data['elapsed']:.1f} s" if "elapsed" in data else ""
    guest = f"{data['guest']} (requested on {data['node']})"
    lines = [f"{result(data['result'])}  {guest}: {data['reason']}{took}"]
    return "\n".join(lines + [f"WARN  {one}" for one in data.get("warnings", ())])


def freeze(data: Mapping[str, Any]) -> str:
    """Return whether a guest may be moved."""
    return _mark(f"{data['guest']} on {data['node']}", "frozen", data)


def cordon(data: Mapping[str, Any]) -> str:
    """Return whether a node takes guests."""
    text = _mark(data["node"], "cordoned", data)
    return f"{text}; to uncordon it: {cordons.remedy(data['node'])}" if data["cordoned"] else text


def _mark(what: str, word: str, data: Mapping[str, Any]) -> str:
    """Return whether something is frozen or cordoned, or was, since when and why."""
    since = f" since {data['since'][:19]} UTC" if data["since"] else ""
    why = f": {data['reason']}" if data["reason"] else ""
    if data[word]:
        return f"{word.upper()}  {what}{since}{why}"
    return f"NOT {word.upper()}  {what}" + (f"; it was{since}{why}" if data["changed"] else "")


def _reasons(found: Iterable[Mapping[str, Any]]) -> list[str]:
    """Return why active guests cannot be moved, each reason once.

    A guest that is shut off is not to be moved, as its state says. Of one that migrates both halves
    are in one line: that is no problem, and what either half alone looks like says nothing.
    """
    migrating: dict[str, list[Mapping[str, Any]]] = {}
    groups: dict[tuple[str, str], list[str]] = {}
    rows = [guest for guest in found if guest["state"] not in NOT_ACTIVE]
    under_way = {_who(guest) for guest in rows if guest.get("job") in verdicts.MIGRATIONS}
    for guest in rows:
        if _who(guest) in under_way:
            migrating.setdefault(guest["name"], []).append(guest)
            continue
        label = "NOT MOVABLE" if guest["movable"] is False else "UNKNOWN"
        for why in guest["why"]:
            groups.setdefault((label, why), []).append(guest["name"])
    lines = [_migration(name, halves) for name, halves in migrating.items()]
    return lines + [f"{label}  {listed(names)}: {why}" for (label, why), names in groups.items()]


def _who(guest: Mapping[str, Any]) -> tuple[Any, Any]:
    return guest["name"], guest.get("uuid")


def _migration(name: str, halves: Iterable[Mapping[str, Any]]) -> str:
    """Return the line of a guest that migrates, by those of its halves that nodes reported."""
    parts = sorted(
        f"{'from' if half['job'] == verdicts.OUTGOING else 'to'} {half['where']}" for half in halves
    )
    return f"MIGRATING  {name} {' '.join(parts)}; its progress: kvmcluster.job {name}"


def _state(guest: Mapping[str, Any]) -> str:
    """Return a guest's state; of the half that arrives its own says nothing, unless it runs."""
    arrives = guest.get("job") == verdicts.INCOMING and not guest["state"].startswith("running")
    frozen = ", frozen" if guest.get("frozen") is not None else ""
    return f"{'incoming' if arrives else guest['state']}{frozen}"


def _movable(guest: Mapping[str, Any]) -> str:
    if guest["state"] in NOT_ACTIVE or guest.get("job") in verdicts.MIGRATIONS:
        return "-"
    return {True: "yes", False: "NO", None: "?"}[guest["movable"]]
