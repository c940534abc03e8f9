"""Maintenance: whether it may begin, whether a node is to be rebooted, whether it is back."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from saltext_kvmcluster.core import cordons, validate
from saltext_kvmcluster.core.errors import InputError
from saltext_kvmcluster.core.facts.nodefacts import NodeFacts
from saltext_kvmcluster.core.findings import PROBLEM
from saltext_kvmcluster.core.pacemaker import standby
from saltext_kvmcluster.core.pillar.clusters import Cluster
from saltext_kvmcluster.core.readiness import report
from saltext_kvmcluster.core.readiness.checks.base import GUEST, MOVE, World
from saltext_kvmcluster.core.readiness.report import GroupedFinding, Readiness
from saltext_kvmcluster.core.text import listed, one_line, printable
from saltext_kvmcluster.core.untrusted import Reader

NEEDED, ALWAYS, NEVER = "needed", "always", "never"
WHEN = (NEEDED, ALWAYS, NEVER)
OF_FILES = "storage.visible"
"""The check that misses files which are not on shared storage."""
OF_DISKS = "storage.kind"
"""The check that says which disks are not on shared storage."""
TWO = 2
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
    """Return which boot a node reports; None if it reports none."""
    sent = Reader(answer, lenient=True)
    boot_id = sent.at("boot").text(default=None)
    if boot_id is None:
        return None
    reasons = sent.at("needed").items(optional=True)
    return Boot(boot_id, tuple(one_line(str(reason.value)) for reason in reasons))


def when(value: object) -> str:
    """Return when a node is to be rebooted; InputError if that is not one of WHEN."""
    return validate.choice({"reboot": value}, "reboot", "", WHEN, NEEDED)


def some_slses(value: object) -> tuple[str, ...]:
    """Return the SLS files that are asked for, as `slses`; InputError for none."""
    found = slses(value)
    if not found:
        raise InputError("sls: want the name of an SLS, or a list of them, got nothing")
    return found


def slses(value: object) -> tuple[str, ...]:
    """Return the SLS files that are asked for: a name, several with commas, a list, or none."""
    if value is None:
        return ()
    words = value.split(",") if isinstance(value, str) else value
    if isinstance(words, list) and words and all(map(_is_sls, words)):
        return tuple(dict.fromkeys(word.strip() for word in words))
    raise InputError(
        f"sls: want the name of an SLS, or a list of them, got {validate.shown(value)}"
    )


def _is_sls(word: object) -> bool:
    return isinstance(word, str) and word.strip().isprintable() and len(word.split()) == 1


def may_reboot(found: NodeFacts) -> None:
    """Raise InputError with the reason if a reboot could end a guest."""
    drain = f"first: salt-run kvmcluster.drain {found.node}"
    if not found.cordoned:
        raise InputError(f"{found.node} is not cordoned: a guest may arrive at any time; {drain}")
    if found.guests is None:
        raise InputError(
            f"{found.node} does not report its guests: {found.daemon_detail or found.detail};"
            " there: systemctl restart libvirtd (or virtqemud)"
        )
    if why := standby.obstacle(found.node, found.pacemaker):
        raise InputError(f"{found.node} was not rebooted: {why}")
    active = [printable(guest.name) for guest in found.guests if guest.active]
    if active:
        raise InputError(f"{found.node} still has active guests: {listed(active)}; {drain}")


def unready(found: Readiness, nodes: Collection[str]) -> list[GroupedFinding]:
    """Return what keeps nodes from taking part: what blocks, and is not of a guest alone."""
    return [
        reported
        for reported in found.findings
        if reported.blocks and _concerns(reported, nodes) and not _is_of_guests(found, reported)
    ]


def _is_of_guests(found: Readiness, reported: GroupedFinding) -> bool:
    """Whether guests lack a file on every node but their own: theirs, as a local CD-ROM is.

    Of two nodes the other one may have lost the file, as a loader that an update removed: there the
    guest's disk has to be a local one as well.
    """
    if reported.id != OF_FILES or reported.issue.outcome != PROBLEM:
        return False
    if len(found.nodes) == TWO and not set(reported.guests) <= _with_local_disks(found):
        return False
    lacking = set(reported.destinations)
    guests = [row.guest for row in found.rows if row.guest.name in reported.guests]
    return bool(guests) and all(set(found.nodes) - {one.node} <= lacking for one in guests)


def _with_local_disks(found: Readiness) -> set[str]:
    return {
        guest
        for reported in found.findings
        if reported.id == OF_DISKS and reported.issue.outcome == PROBLEM
        for guest in reported.guests
    }


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


def cordoned_by_others(world: World, nodes: Iterable[str], reason: str | None = None) -> list[str]:
    """Return, for each node that others have cordoned, why, and how to uncordon it.

    reason
        Why this run cordons nodes: one that another run of ours has left cordoned is not its own,
        and its cordon would stand against the end of this one. None for any run of ours.
    """
    return [
        f"{node} is {cordoned}; when no longer needed: {cordons.remedy(node)}"
        for node in nodes
        for cordoned in world.nodes[node].cordoned or ()
        if not (
            cordoned.reason.startswith(cordons.ORCHESTRATION) and reason in (None, cordoned.reason)
        )
    ]


def open_world(world: World) -> World:
    """Return a world in which what orchestrations of ours have cordoned is open.

    Nor does Pacemaker have it on standby, if that was us.
    """
    opened = {node: _opened(facts) for node, facts in world.nodes.items()}
    ours = [node for node, facts in opened.items() if facts.cordoned != world.nodes[node].cordoned]
    return replace(
        world,
        nodes={
            node: replace(facts, pacemaker=standby.lifted(facts.pacemaker, ours))
            for node, facts in opened.items()
        },
    )


def _opened(facts: NodeFacts) -> NodeFacts:
    theirs = tuple(
        one for one in facts.cordoned or () if not one.reason.startswith(cordons.ORCHESTRATION)
    )
    return facts if facts.cordoned is None else replace(facts, cordoned=theirs)


def ours(node: str, reason: str, drained: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return what a drain returned; that the node is cordoned for another reason is a failure.

    That reason stands against what comes next: the reboot, and the uncordon.
    """
    cordoned = drained.get("cordoned")
    if not drained["ok"] or not cordoned or cordoned["reason"] == cordons.checked_reason(reason):
        return drained
    detail = (
        f"{node} is cordoned for another reason, so maintenance stops here: {cordoned['reason']}"
    )
    return {**drained, "ok": False, "detail": detail}


def not_back(node: str, before: Boot, now: Boot | None, answer: object) -> str:
    """Return what of a node's reboot has not been observed yet; empty if it is in another boot.

    answer
        What the node's ``kvmcluster.reboot`` returned: text if it failed, None if it did not
        return, as on a node that goes down at once.
    """
    if now is None:
        return f"no response from the minion of {node}"
    if now.id != before.id:
        return ""
    response = answer.get("detail") if isinstance(answer, Mapping) else answer
    detail = f"; its response: {one_line(str(response))}" if response else ""
    return f"{node} has not rebooted yet{detail}"


@dataclass(frozen=True)
class Preflight:
    """Whether maintenance may begin.

    ``nodes``: those that have to be ready. ``updates``: why an SLS cannot be applied to a node.
    ``begun``: the SLS files that were begun on nodes and may not have ended. ``managed``: on which
    nodes Pacemaker would act against it. ``stuck``: by node and guest, why it cannot be moved.
    ``hindered``: why maintenance cannot begin because of these. ``others``: on which nodes another
    run of this master is at work.
    """

    cluster: str
    nodes: tuple[str, ...]
    cordoned: tuple[str, ...]
    findings: tuple[GroupedFinding, ...]
    updates: tuple[str, ...] = ()
    begun: tuple[str, ...] = ()
    managed: tuple[str, ...] = ()
    stuck: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    hindered: tuple[str, ...] = ()
    others: tuple[str, ...] = ()

    @property
    def ok(self) -> bool:
        found = (
            self.cordoned,
            self.findings,
            self.updates,
            self.begun,
            self.managed,
            self.hindered,
            self.others,
        )
        return not any(found)

    def to_dict(self) -> dict[str, Any]:
        """Return it as plain data, as the runner returns it."""
        return {
            "kind": "preflight",
            "cluster": self.cluster,
            "ok": self.ok,
            "nodes": list(self.nodes),
            "updates": list(self.updates),
            "cordoned": list(self.cordoned),
            "begun": list(self.begun),
            "managed": list(self.managed),
            "stuck": {node: dict(guests) for node, guests in self.stuck.items()},
            "hindered": list(self.hindered),
            "others": list(self.others),
            "findings": [one.to_dict() for one in self.findings],
        }


def to_work_on(cluster: Cluster, nodes: object) -> list[str]:
    """Return the nodes that maintenance is for: one, several, or all for None; checked."""
    asked = list(cluster.nodes) if nodes is None else nodes if isinstance(nodes, list) else [nodes]
    if not asked:
        raise InputError("nodes: want a minion id, or a list of them, got an empty list")
    return list(dict.fromkeys(cluster.node(str(node)).id for node in asked))


def preflight(
    world: World,
    examined: Readiness,
    work: list[str],
    updates: Iterable[str] = (),
    begun: Iterable[str] = (),
    reason: str | None = None,
) -> Preflight:
    """Return whether maintenance of these nodes may begin.

    updates
        Why an SLS cannot be applied to one of them.
    begun
        What was begun on any node and may not have ended, as sentences.
    reason
        Why they are to be cordoned; None if that is not known.
    """
    peers = peers_of(world.cluster, work)
    return Preflight(
        world.cluster.name,
        tuple(peers),
        tuple(cordoned_by_others(world, work, reason)),
        tuple(unready(examined, peers)),
        tuple(updates),
        tuple(begun),
        tuple(_managed(world, work)),
    )


def _managed(world: World, work: Collection[str]) -> Iterator[str]:
    """Yield why nodes cannot be put on standby, one after another, while they are maintained."""
    opened = open_world(world)
    for node in work:
        known = opened.nodes[node]
        if not known.detail and (why := standby.hindrance(node, known.pacemaker)):
            yield why


@dataclass(frozen=True)
class Reboot:
    """What came of a reboot. ``now``: the boot in the end, None if not observed.

    ``missing``: what of the reboot was not observed in time. ``due``: whether it was to be
    rebooted, which is all that is known under ``test``.
    """

    cluster: str
    node: str
    when: str
    before: Boot
    due: bool
    test: bool = False
    now: Boot | None = None
    missing: str = ""
    findings: tuple[GroupedFinding, ...] = ()
    elapsed: float = 0.0

    def to_dict(self) -> dict[str, Any]:
        """Return it as plain data, as the runner returns it."""
        rebooted = None if self.now is None else self.now.id != self.before.id
        data = {
            "kind": "reboot",
            "cluster": self.cluster,
            "node": self.node,
            "ok": not (self.missing or self.findings),
            "when": self.when,
            "rebooted": self.due if self.test else rebooted,
            "needed": list(self.before.needed),
            "still": list(self.now.needed) if self.now else [],
            "missing": self.missing,
            "findings": [one.to_dict() for one in self.findings],
        }
        return data if self.test else {**data, "elapsed": self.elapsed}
