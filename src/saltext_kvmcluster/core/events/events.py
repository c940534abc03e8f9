"""Events as values: their tags, and the data that they carry.

A receiver takes an event as a reason to check, never as a fact: it may be lost, late or forged.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

from saltext_kvmcluster.core.text import one_line

ROOT = "kvmcluster"
MIGRATION = "migration"
GUEST = "guest"
DAEMON = "daemon"
TRUST = "trust"
IDENTITY = "identity"
READINESS = "readiness"
ALARM = "alarm"
RESTART = "restart"
BALANCE = "balance"


def tag(cluster: str, kind: str, node: str, guest: str = "") -> str:
    """Return an event's tag. Every part is URL-quoted, so that none adds another part.

    guest
        Its name; empty where the event is about the node itself.
    """
    parts = (cluster, kind, node, guest) if guest else (cluster, kind, node)
    return "/".join([ROOT, *(quote(part, safe="", errors="replace") for part in parts)])


def small(data: Mapping[str, Any]) -> dict[str, Any]:
    """Return an event's data with every text as one line of bounded length."""
    return {
        key: one_line(value) if isinstance(value, str) else value for key, value in data.items()
    }
