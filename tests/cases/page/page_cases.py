"""What the commands return of clusters of any size, as the page of a cluster is made of it."""

import itertools
from datetime import datetime, timedelta, timezone

BEGUN = datetime(2026, 1, 2, 22, 0, tzinfo=timezone.utc)
NOW = "2026-01-03T03:04:05+00:00"
SIZES = (160, 640, 384, 256, 128, 512)


def observed(nodes=4, guests=12, moves=30, silent=(), names=None):
    """Return what ``view`` is given of a cluster whose guests lie evenly on its nodes.

    silent
        The numbers of nodes that do not answer; what runs there is not known.
    names
        Names of the first guests.
    """
    ids = [f"node{number}" for number in range(1, nodes + 1)]
    mute = {f"node{number}": "no response" for number in silent}
    rows = [
        row(name, ids[number % nodes], SIZES[number % len(SIZES)] * 1024)
        for number, name in enumerate(named(guests, names))
        if nodes and ids[number % nodes] not in mute
    ]
    return {
        "cluster": "lab",
        "began": NOW,
        "seconds": 1.25,
        "status": {
            "cluster": "lab",
            "ok": not mute,
            "nodes": {node: node_row(node in mute) for node in ids},
            "silent": mute,
            "problems": [f"{node} is unreachable: no response; if it is up: …" for node in mute],
            "notes": [],
            "status": rows,
        },
        "check": check(ids, rows, mute),
        "history": history(ids, moves),
        "jobs": [],
        "unsettled": [],
        "untold": list(mute),
        "drifted": {},
        "unplaced": None if mute or nodes < 2 else dict.fromkeys(ids, 0),
    }


def named(guests, names=None):
    return list(itertools.islice([*(names or ()), *(f"web{n}" for n in range(guests))], guests))


def node_row(is_silent=False):
    return {
        "state": "unreachable" if is_silent else "ok",
        "seen_from": None,
        "cordoned": None,
        "cordon": None,
        "guests": None if is_silent else 3,
        "active": None if is_silent else 3,
        "memory_kib": None if is_silent else 24 << 20,
        "free_kib": None if is_silent else 18 << 20,
        "cpus": None if is_silent else 2,
    }


def row(name, where, kib):
    return {
        "where": where,
        "name": name,
        "state": "running",
        "defined": [],
        "frozen": None,
        "manager": None,
        "vcpus": 1,
        "memory_kib": kib,
        "job": "",
        "movable": True,
        "why": [],
    }


def check(ids, rows, mute):
    return {
        "nodes": ids,
        "moves": len(rows) * (len(ids) - 1),
        "movable": len(rows) * (len(ids) - 1 - len(mute)),
        "findings": [
            finding("node.answer", nodes=[node], sentence="it is unreachable", outcome="UNKNOWN")
            for node in mute
        ],
        "guests": [
            {
                "guest": row["name"],
                "node": row["where"],
                "movable_to": [node for node in ids if node not in (*mute, row["where"])],
                "blocked": {node: ["node.answer"] for node in mute},
            }
            for row in rows
        ],
    }


def finding(check_id, sentence="it is local", outcome="PROBLEM", **changed):
    return {
        "id": check_id,
        "severity": "BLOCK",
        "outcome": outcome,
        "sentence": sentence,
        "remedy": "move it to shared storage",
        "guests": [],
        "nodes": [],
        "destinations": [],
        "everywhere": False,
        **changed,
    }


def history(ids, moves):
    if len(ids) < 2:
        return []
    return [
        {
            "guest": f"web{number % 12}",
            "uuid": f"{number}",
            "source": ids[number % len(ids)],
            "destination": ids[(number + 1) % len(ids)],
            "owner": None,
            "result": "not_moved" if number == 3 else "unknown" if number == 8 else "moved",
            "reason": "cancelled" if number == 3 else "not known" if number == 8 else "",
            "started": (
                BEGUN + timedelta(seconds=40 * number, hours=5 * (number > 20))
            ).isoformat(),
            "elapsed": 3.4 + number % 7,
            "downtime_ms": None if number in (3, 8) else 40 + 9 * (number % 5),
            "memory_bytes": 90_000_000 + number,
            "iterations": 3,
        }
        for number in range(moves)
    ]
