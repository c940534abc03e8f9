"""Maintenance: whether a node is to be rebooted, whether it is back, how far a rolling run is."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any

from saltext_kvmcluster.core import cordons, validate
from saltext_kvmcluster.core.errors import InputError
from saltext_kvmcluster.core.facts.nodefacts import NodeFacts
from saltext_kvmcluster.core.pillar.clusters import Cluster
from saltext_kvmcluster.core.readiness import report
from saltext_kvmcluster.core.readiness.checks.base import GUEST, MOVE, World
from saltext_kvmcluster.core.readiness.report import GroupedFinding, Readiness
from saltext_kvmcluster.core.text import listed, printable

NEEDED, ALWAYS, NEVER = "needed", "always", "never"
WHEN = (NEEDED, ALWAYS, NEVER)
MEMORY = 86400
"""Seconds for which a rolling run that stopped can be continued."""
OF_LOAD = ("node.cordon", "node.memory")
"""Checks that say whether a node is in use, not whether it is well."""


@dataclass(frozen=True)
class Boot:
    """Which boot of a node it is, and what asks for another one."""

    id: str
    needed: tuple[str, ...] = ()

    def is_due(self, when: str) -> bool:
        """Whether the node is to be rebooted, if that is to be done ``when``."""
        return when == ALWAYS or (when == NEEDED and bool(self.needed))


def boot(answer: object) -> Boot | None:
    """Read what a node told of its boot; None if it did not."""
    if not isinstance(answer, Mapping) or not isinstance(answer.get("boot"), str):
        return None
    needed = answer.get("needed")
    words = needed if isinstance(needed, list) else []
    return Boot(answer["boot"], tuple(printable(str(word)[:500]) for word in words))


def when(value: object) -> str:
    """Return when a node is to be rebooted; InputError if that is none of the words."""
    return validate.choice({"reboot": value}, "reboot", "", WHEN, NEEDED)


def slses(value: object) -> tuple[str, ...]:
    """Return the SLS files that are asked for: a name, several with commas, a list, or none."""
    if value is None:
        return ()
    words = value.split(",") if isinstance(value, str) else value
    if isinstance(words, list) and all(map(_is_sls, words)):
        return tuple(word.strip() for word in words)
    raise InputError(
        f"sls: want the name of an SLS, or a list of them, got {validate.shown(value)}"
    )


def _is_sls(word: object) -> bool:
    return isinstance(word, str) and word.strip().isprintable() and len(word.split()) == 1


def may_reboot(found: NodeFacts) -> None:
    """Raise InputError with the reason if a guest could end with a node that is rebooted."""
    drain = f"first: salt-run kvmcluster.drain {found.node}"
    if not found.cordoned:
        raise InputError(
            f"{found.node} is not cordoned: a guest may come to it at any moment; {drain}"
        )
    if found.guests is None:
        raise InputError(
            f"it is not known what guests {found.node} has: {found.daemon_detail or found.detail};"
            " there: systemctl restart libvirtd (or virtqemud)"
        )
    active = [printable(guest.name) for guest in found.guests if guest.active]
    if active:
        raise InputError(f"{found.node} still has {listed(active)}; {drain}")


def unready(found: Readiness, nodes: Collection[str]) -> list[GroupedFinding]:
    """Return what keeps nodes from taking part: all that blocks and is not a guest's own trouble.

    A guest that can go nowhere says nothing about the nodes.
    """
    return [
        reported for reported in found.findings if reported.blocks and _concerns(reported, nodes)
    ]


def _concerns(reported: GroupedFinding, nodes: Collection[str]) -> bool:
    scope = report.BY_ID[reported.id].scope
    if scope == GUEST or reported.id in OF_LOAD:
        return False
    if scope == MOVE:
        return not reported.everywhere and not set(nodes).isdisjoint(reported.destinations)
    return reported.everywhere or not set(nodes).isdisjoint(
        (*reported.nodes, *reported.destinations)
    )


def peers_of(cluster: Cluster, nodes: Collection[str]) -> list[str]:
    """Return the nodes that are a peer of one of those to be worked on, and have to be well."""
    return [node for node in cluster.nodes if set(nodes) - {node}]


def cordoned_by_others(world: World, nodes: Iterable[str]) -> list[str]:
    """Say of each node that somebody else has cordoned why, and how it is uncordoned."""
    return [
        f"{node} is {cordoned}; if that is over: {cordons.remedy(node)}"
        for node in nodes
        for cordoned in world.nodes[node].cordoned or ()
        if not cordoned.reason.startswith(cordons.ORCHESTRATION)
    ]


def ours(node: str, reason: str, drained: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return what a drain returned; one of a node cordoned for another reason is a failure.

    Whoever cordoned it objects to what comes next: the reboot, and the uncordon.
    """
    cordoned = drained.get("cordoned")
    if not drained["ok"] or not cordoned or cordoned["reason"] == cordons.checked_reason(reason):
        return drained
    detail = (
        f"{node} had been cordoned for another reason, so it is left alone: {cordoned['reason']}"
    )
    return {**drained, "ok": False, "detail": detail}


def not_back(node: str, before: Boot, now: Boot | None, answer: object) -> str:
    """Say what of a node's reboot has not been seen yet; empty if it is in another boot.

    answer
        What the node's ``kvmcluster.reboot`` returned: words if it failed, None if it did not
        return, as that of a node that goes down at once.
    """
    if now is None:
        return f"the minion of {node} does not answer"
    if now.id != before.id:
        return ""
    words = answer.get("detail") if isinstance(answer, Mapping) else answer
    detail = f"; it said: {printable(' '.join(str(words)[:500].split()))}" if words else ""
    return f"{node} is still in the boot that was to end{detail}"


@dataclass(frozen=True)
class Rolling:
    """A rolling run: what is done to every node, and which nodes are done, and when.

    ``process`` is whoever carries it out: an id that no other process ever has.
    """

    sls: tuple[str, ...]
    reboot: str
    done: Mapping[str, str]
    at: float
    process: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Return it as plain data, for ``rolling``."""
        return {
            "sls": list(self.sls),
            "reboot": self.reboot,
            "done": dict(self.done),
            "at": self.at,
            "process": self.process,
        }


def rolling(data: object) -> Rolling | None:
    """Read what was written down of a rolling run; None if that cannot be understood."""
    try:
        return Rolling(
            tuple(map(str, data["sls"])),  # type: ignore[index]
            str(data["reboot"]),  # type: ignore[index]
            {str(node): str(when) for node, when in data["done"].items()},  # type: ignore[index]
            float(data["at"]),  # type: ignore[index]
            str(data["process"]),  # type: ignore[index]
        )
    except (AttributeError, KeyError, TypeError, ValueError):
        return None


def continued(wanted: Rolling, last: Rolling | None, anew: bool) -> Rolling:
    """Return the run that is wanted with what of it was done before.

    Only the same run is continued, and only within a day: after that, what was done then says
    nothing about what is to be done now.
    """
    same = last and (last.sls, last.reboot) == (wanted.sls, wanted.reboot)
    if not last or not same or anew or not 0 <= wanted.at - last.at <= MEMORY:
        return wanted
    return Rolling(wanted.sls, wanted.reboot, last.done, wanted.at, wanted.process)


def with_done(run: Rolling, node: str, at: float) -> Rolling:
    """Return a run that is done with one more node."""
    when = datetime.fromtimestamp(at, timezone.utc).isoformat(timespec="seconds")
    return Rolling(run.sls, run.reboot, {**run.done, node: when}, at, run.process)


def course(cluster: Cluster, run: Rolling) -> dict[str, Any]:
    """Return which nodes are still to be done, and say so."""
    todo = [node for node in cluster.nodes if node not in run.done]
    done = {node: when for node, when in run.done.items() if node in cluster.nodes}
    return {"kind": "rolling", "cluster": cluster.name, "ok": True, "todo": todo, "done": done}
