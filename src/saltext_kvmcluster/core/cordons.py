"""A cordoned node: nothing starts on it and nothing moves to it, until it is uncordoned.

The cordon is a file on the node, as nologin(5) is for logins: its presence cordons the node, and
its text says since when and why. So it outlives a reboot, and every way to reach the node shows it.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime

from saltext_kvmcluster.core import validate
from saltext_kvmcluster.core.text import one_line

PATH = "/etc/kvmcluster.cordoned"
LONGEST = 4096
"""Bytes of the file that are read at most."""
ORCHESTRATION = "kvmcluster.orch."
"""Prefix of the reasons of our orchestrations, which uncordon what they have cordoned."""
LEAVING = "kvmcluster.leave: this node shuts down"
"""The reason of a node that its guests leave because it shuts down; its next boot uncordons it."""
DRAINED = "drained"
"""The reason of a drain without a reason of its own."""


@dataclass(frozen=True)
class Cordon:
    """Since when a node is cordoned, by its own clock, and why; empty where unknown."""

    since: str
    reason: str

    def __str__(self) -> str:
        since = f" since {self.since}" if self.since else ""
        return f"cordoned{since}{f': {self.reason}' if self.reason else ''}"


def parse(text: str) -> Cordon:
    """Return the cordon in a node's file, which a person may have written."""
    line = one_line(text, 2 * validate.LONGEST_REASON)
    since, _, reason = line.partition(" ")
    return Cordon(since, reason) if is_time(since) else Cordon("", line)


def text(cordoned: Cordon) -> str:
    """Return a file's text, for ``parse``."""
    return f"{cordoned.since} {cordoned.reason}\n"


def checked_reason(value: object) -> str:
    """Return the reason for a cordon as ``parse`` returns it; InputError if it is not one line."""
    return " ".join(validate.reason(value, "the node is cordoned").split())


def kept(known: Cordon | None, wanted: str) -> str:
    """Return the reason of a cordon after a node is cordoned for the wanted one.

    The first reason stays, but a person's replaces one of ours, which would uncordon the node.
    """
    first, ours = known.reason if known else "", (ORCHESTRATION, LEAVING)
    is_given = wanted != DRAINED and not wanted.startswith(ours)
    return wanted if not first or (is_given and first.startswith(ours)) else first


def was_lifted(now: Collection[Cordon] | None, since: str) -> bool:
    """Whether a node was uncordoned; by now it may be cordoned for something else.

    now
        What cordons it, None where that is not known.
    since
        Since when it was cordoned.
    """
    return now is not None and not any(cordon.since in ("", since) for cordon in now)


def remedy(node: str) -> str:
    """Return how a node is uncordoned."""
    return f"salt-run kvmcluster.undrain {node}"


def continuing(node: str, reason: str) -> str:
    """Return what goes on with the work for which a node was cordoned, once interrupted."""
    if reason.startswith(ORCHESTRATION):
        return f"salt-run state.orchestrate {reason.split()[0]}, with the same pillar"
    return f"salt-run kvmcluster.drain {node}"


def is_time(text: str) -> bool:
    """Whether that is a time in ISO 8601, with its zone."""
    try:
        return datetime.fromisoformat(text).tzinfo is not None
    except ValueError:
        return False
