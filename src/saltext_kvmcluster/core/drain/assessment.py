"""What there is to do on a node in maintenance: known before anything is done to it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from saltext_kvmcluster.core import cordons, validate
from saltext_kvmcluster.core.applying import outcome
from saltext_kvmcluster.core.applying.outcome import Outcome
from saltext_kvmcluster.core.cordons import Cordon
from saltext_kvmcluster.core.drain.maintenance import Boot
from saltext_kvmcluster.core.text import listed, printable

ALWAYS, REBOOT = "always", "reboot"
DRAIN = (ALWAYS, REBOOT)
"""When a node is drained: always, or if it is rebooted."""


@dataclass(frozen=True)
class Assessment:
    """What there is to do on a node.

    ``update``: an SLS would change something there, or it is not certain that it would not.
    ``reboot``: it is due for one. ``needed``: why. ``drain``: it is drained first. ``left``: what
    an earlier run has left there. ``detail``: why it is not known what there is to do.
    """

    cluster: str
    node: str
    update: bool
    reboot: bool
    needed: tuple[str, ...]
    drain: bool
    left: tuple[str, ...] = ()
    detail: str = ""

    @property
    def skip(self) -> bool:
        """Whether there is nothing to do."""
        return not (self.update or self.reboot or self.left or self.detail)

    def to_dict(self) -> dict[str, Any]:
        """Return it as plain data, as the runner returns it."""
        return {
            "kind": "assessment",
            "cluster": self.cluster,
            "node": self.node,
            "ok": not self.detail,
            "update": self.update,
            "reboot": self.reboot,
            "needed": list(self.needed),
            "drain": self.drain,
            "left": list(self.left),
            "skip": self.skip,
            "detail": self.detail,
        }


def choice(value: object) -> str:
    """Return when a node is drained; InputError if that is none of DRAIN."""
    return validate.choice({"drain": value}, "drain", "", DRAIN, ALWAYS)


def assess(
    cluster: str,
    node: str,
    found: Outcome | None,
    boot: Boot,
    when: str,
    drain: str,
    left: Iterable[str] = (),
) -> Assessment:
    """Return what there is to do on a node.

    found
        What came of the SLS in test mode; None if none is to be applied.
    when, drain
        When it is to be rebooted, and drained.
    """
    due = boot.is_due(when)
    update = found is not None and (found.changed or found.result == outcome.FAILED)
    is_known = found is None or found.result in (outcome.DONE, outcome.FAILED)
    drained = (update or due) and (drain == ALWAYS or due)
    detail = "" if found is None or is_known else found.detail
    return Assessment(
        cluster, node, update, due, boot.needed if due else (), drained, tuple(left), detail
    )


def left(cordoned: Iterable[Cordon], stopped: Iterable[str]) -> list[str]:
    """Return what an earlier run has left on a node: its cordon, and guests that are off."""
    found = [str(cordon) for cordon in cordoned if cordon.reason.startswith(cordons.ORCHESTRATION)]
    names = [printable(guest) for guest in stopped]
    return [*found, f"shut down and not started again: {listed(names)}"] if names else found


def text(data: Mapping[str, Any]) -> str:
    """Return an assessment as text."""
    node = data["node"]
    if data["detail"]:
        return f"PROBLEM: it is not known what there is to do on {node}: {data['detail']}"
    if data["skip"]:
        return f"SKIPPED  {node}: nothing to update, and no reboot is due"
    return f"OK: {node}: {steps(data)}"


def steps(data: Mapping[str, Any]) -> str:
    """Return what there is to do, in words."""
    why = f" ({'; '.join(data['needed'])})" if data.get("needed") else ""
    parts = [
        "to be updated" if data["update"] else "nothing to update",
        f"to be rebooted{why}" if data["reboot"] else "no reboot is due",
        "to be drained" if data["drain"] else "not drained",
        *(f"left by an earlier run: {one}" for one in data["left"]),
    ]
    return "; ".join(parts)
