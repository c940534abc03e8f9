"""A closed node: nothing starts on it and nothing moves to it, until it is opened again.

What says so is a file on the node, as nologin(5) is for people: that it is there closes the node,
and its text says since when and why. So it outlives a reboot, and whoever can reach the node at
all sees it.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from saltext_kvmcluster.core import given
from saltext_kvmcluster.core.plan import printable

PATH = "/etc/kvmcluster.closed"
ORCHESTRATION = "kvmcluster.orch."
"""How the reasons of our orchestrations begin; they open what they have closed."""
DRAINED = "drained"
"""Why a node is closed by a drain for which nobody gave a reason."""


@dataclass(frozen=True)
class Closed:
    """Since when a node is closed, by its own clock, and why; empty where its file does not say."""

    since: str
    reason: str

    def __str__(self) -> str:
        since = f" since {self.since}" if self.since else ""
        return f"closed{since}{f': {self.reason}' if self.reason else ''}"


def read(text: str) -> Closed:
    """Return what a node's file says, whoever wrote it."""
    words = printable(" ".join(text[: 2 * given.LONGEST_REASON].split()))
    since, _, reason = words.partition(" ")
    return Closed(since, reason) if _is_time(since) else Closed("", words)


def text(closed: Closed) -> str:
    """Return a file's text, for ``read``."""
    return f"{closed.since} {closed.reason}\n"


def reason(value: object) -> str:
    """Return why a node is to be closed, as ``read`` will; InputError if it is no line of text."""
    return " ".join(given.reason(value, "the node is closed").split())


def kept(known: Closed | None, wanted: str) -> str:
    """Return why a node is closed after somebody closes it for what is wanted.

    The first reason stays, but one that a person gives takes the place of an orchestration's:
    whoever gives one does not want the node opened when that is over.
    """
    first = known.reason if known else ""
    is_given = wanted != DRAINED and not wanted.startswith(ORCHESTRATION)
    return wanted if not first or (is_given and first.startswith(ORCHESTRATION)) else first


def remedy(node: str) -> str:
    """Return how a node is opened again."""
    return f"salt-run kvmcluster.undrain {node}"


def _is_time(word: str) -> bool:
    try:
        return datetime.fromisoformat(word).tzinfo is not None
    except ValueError:
        return False
