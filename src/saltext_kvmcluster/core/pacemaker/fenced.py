"""What came of a fencing that a node asked for: by the history, and by the fencers' logs."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable
from dataclasses import asdict, dataclass
from typing import Any

from saltext_kvmcluster.core.pacemaker.fencing import SUCCESS, FenceEvent
from saltext_kvmcluster.core.pacemaker.model import Pacemaker
from saltext_kvmcluster.core.text import printable

LOG = "/var/log/pacemaker/pacemaker.log"
"""Where each node's fencer says which device it used, unless PCMK_logfile says otherwise."""
_USED = " targeting {} using "
_LINE = re.compile(r"using (\S+) returned 0\b")


@dataclass(frozen=True)
class Tried:
    """What became of a fencing, as the node saw that asked for it.

    ``device``: the one that did it, empty if that was not seen. ``by``: the node whose fencer did.
    ``ok`` is None if it is not known whether it succeeded.
    """

    ok: bool | None
    by: str = ""
    device: str = ""
    seconds: float = 0.0
    detail: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Return it as plain data."""
        return asdict(self)


def refusal(found: Pacemaker | None, node: str) -> str:
    """Return why the node that is asked for it must not fence another one now; empty if it may."""
    status = found.status if found else None
    if status is None:
        return "Pacemaker cannot be read here"
    if not status.quorum:
        return "Pacemaker has no quorum here"
    member = status.members.get(node)
    if member is None or not member.online or member.pending or member.unclean:
        return f"Pacemaker does not show {node} online"
    return ""


def new_event(
    before: Iterable[FenceEvent], after: Iterable[FenceEvent], node: str
) -> FenceEvent | None:
    """Return the newest fencing of a node that was not in the history before and has ended."""
    known = list(before)
    return next(
        (one for one in after if one.target == node and one.completed and one not in known), None
    )


def succeeded(event: FenceEvent | None, code: int | None) -> bool | None:
    """Return whether a node was fenced, by the history, and by stonith_admin's exit code."""
    if event:
        return event.status == SUCCESS
    return False if code else None


def uses(log: str, node: str) -> list[str]:
    """Return the lines of a fencer's log about devices that it used on a node."""
    wanted = _USED.format(node)
    return [line for line in log.splitlines() if wanted in line]


def device_used(before: Collection[str], after: Iterable[str]) -> str:
    """Return the devices with which a fencer succeeded since, by ``uses``; empty if not seen."""
    found = (_LINE.search(line) for line in after if line not in before)
    return ", ".join(dict.fromkeys(printable(one[1]) for one in found if one))
