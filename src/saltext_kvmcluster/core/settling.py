"""What follows from what every node says of a guest whose migration was left unsettled."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum

from saltext_kvmcluster.core.journal import Entry
from saltext_kvmcluster.core.recovery import Look, Verdict


class Do(Enum):
    """What may be done on a node to settle a migration."""

    DESTROY_COPY = "destroy the paused copy that the migration left"
    UNDEFINE = "undefine it"
    DEFINE = "define it as it runs"
    AUTOSTART_OFF = "switch its autostart off"
    RESUME_POST_COPY = "resume the post-copy migration"
    CLEAR = "clear the journal"


@dataclass(frozen=True)
class Action:
    """Something to be done on a node, in this order."""

    do: Do
    node: str


@dataclass(frozen=True)
class Settlement:
    """Whose the guest is, by all nodes; what is to be done; what would settle it otherwise.

    ``owner``: a node, None where that is not certain; then ``actions`` is empty, ``needs`` says
    what is not known, and ``commands`` what an operator who knows would type.
    """

    verdict: Verdict
    owner: str | None
    actions: tuple[Action, ...] = ()
    needs: tuple[str, ...] = ()
    commands: tuple[str, ...] = ()


def settle(
    guest: str, entries: Mapping[str, Entry], looks: Mapping[str, Look], steady: bool
) -> Settlement:
    """Return what follows.

    entries
        What journals hold of the guest, by the node whose journal it is.
    looks
        The last look at every node of the cluster; a silent one is UNREACHABLE.
    steady
        Whether every node said the same when it was asked twice.
    """
    raise NotImplementedError
