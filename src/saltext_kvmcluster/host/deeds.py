"""What this node's disk and libvirt tell of its migrations; see ``core.facts.deeds``."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from typing import Any

from saltext_kvmcluster.core.errors import KvmclusterError
from saltext_kvmcluster.core.migration import records
from saltext_kvmcluster.core.pillar.clusters import Cluster
from saltext_kvmcluster.host import jobs, journal, notifier, trust_files


def gather(cluster: Cluster, node: str, most: int) -> dict[str, Any]:
    """Return what this node can tell; what it cannot is left out.

    most
        How many migrations that ended are listed.
    """
    parts: dict[str, Callable[[], Any]] = {
        "history": lambda: _history(most),
        "totals": lambda: journal.Journal().totals().to_dict(),
        "jobs": lambda: jobs.under_way(node, None),
        "unsettled": lambda: unsettled(node),
        "drifted": lambda: trust_files.drifted(cluster),
    }
    with ThreadPoolExecutor() as pool:
        asked = {key: pool.submit(part) for key, part in parts.items()}
    found = {}
    for key, answer in asked.items():
        with contextlib.suppress(KvmclusterError):
            found[key] = answer.result()
    return found


def unsettled(node: str) -> list[dict[str, Any]]:
    """Return the migrations from this node that were started and are not known to be settled."""
    watched = {status.get("uuid") for status in notifier.statuses()}
    return [
        {
            **asdict(entry.move),
            "began": entry.began,
            "stage": entry.stage,
            "watched": entry.move.uuid in watched,
        }
        for entry in journal.known(node).entries
    ]


def _history(most: int) -> list[dict[str, Any]]:
    return records.chosen(journal.Journal().history(), None, most) if most else []
