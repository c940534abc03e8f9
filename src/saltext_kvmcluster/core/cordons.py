"""A cordoned node: nothing starts on it and nothing moves to it, until it is uncordoned.

What says so is a file on the node, as nologin(5) is for people: that it is there cordons the node,
and its text says since when and why. So it outlives a reboot, and whoever can reach the node at
all sees it.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from saltext_kvmcluster.core import validate
from saltext_kvmcluster.core.text import printable

PATH = "/etc/kvmcluster.cordoned"
ORCHESTRATION = "kvmcluster.orch."
"""How the reasons of our orchestrations begin; they open what they have cordoned."""
DRAINED = "drained"
"""Why a node is cordoned by a drain for which nobody gave a reason."""


@dataclass(frozen=True)
class Cordon:
    """Since when a node is cordoned, by its own clock, and why; empty where the file is silent."""

    since: str
    reason: str

    def __str__(self) -> str:
        since = f" since {self.since}" if self.since else ""
        return f"cordoned{since}{f': {self.reason}' if self.reason else ''}"


def parse(text: str) -> Cordon:
    """Return what a node's file says, whoever wrote it."""
    words = printable(" ".join(text[: 2 * validate.LONGEST_REASON].split()))
    since, _, reason = words.partition(" ")
    return Cordon(since, reason) if _is_time(since) else Cordon("", words)


def text(cordoned: Cordon) -> str:
    """Return a file's text, for ``read``."""
    return f"{cordoned.since} {cordoned.reason}\n"


def checked_reason(value: object) -> str:
    """Return the reason for a cordon as ``read`` gives it; InputError if it is no line of text."""
    return " ".join(validate.reason(value, "the node is cordoned").split())


def kept(known: Cordon | None, wanted: str) -> str:
    """Return why a node is cordoned after somebody cordons it for what is wanted.

    The first reason stays, but one that a person gives takes the place of an orchestration's:
    whoever gives one does not want the node uncordoned when that is over.
    """
    first = known.reason if known else ""
    is_given = wanted != DRAINED and not wanted.startswith(ORCHESTRATION)
    return wanted if not first or (is_given and first.startswith(ORCHESTRATION)) else first


def remedy(node: str) -> str:
    """Return how a node is uncordoned."""
    return f"salt-run kvmcluster.undrain {node}"


def _is_time(word: str) -> bool:
    try:
        return datetime.fromisoformat(word).tzinfo is not None
    except ValueError:
        return False
