"""The guests of a node, and of the whole cluster: results for people."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from types import MappingProxyType
from typing import Any

from saltext_kvmcluster.core.facts.nodefacts import GuestFacts, NodeFacts
from saltext_kvmcluster.core.findings import BLOCK, PROBLEM, SEE, Issue
from saltext_kvmcluster.core.guest.disks import Disk, Source
from saltext_kvmcluster.core.pacemaker.managers import ManagerIndex
from saltext_kvmcluster.core.pillar.clusters import Cluster
from saltext_kvmcluster.core.readiness import key_notes, problems
from saltext_kvmcluster.core.readiness.checks.base import GUEST, World
from saltext_kvmcluster.core.readiness.checks.registry import REGISTRY
from saltext_kvmcluster.core.storage import shared_storage
from saltext_kvmcluster.core.storage.inventory import StorageFacts
from saltext_kvmcluster.core.storage.location import Location
from saltext_kvmcluster.core.text import printable
from saltext_kvmcluster.core.verdicts import Sighting

NOWHERE = "nowhere"
UNREACHABLE = Sighting.UNREACHABLE.value
_NOTHING: Mapping[str, str] = MappingProxyType({})


@dataclass(frozen=True)
class NodeGuests:
    """Every guest of a node; ``error`` says why its libvirt gave no response, if so."""

    cluster: str
    node: str
    guests: tuple[Mapping[str, Any], ...]
    error: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Return it as plain data."""
        return {
            "kind": "guests",
            "cluster": self.cluster,
            "node": self.node,
            "ok": not self.error,
            **({"detail": self.error} if self.error else {}),
            "guests": list(self.guests),
        }


@dataclass(frozen=True)
class ClusterStatus:
    """All guests of a cluster, one row for each and the node where it is active.

    A guest that is active nowhere has one row, with the nodes that have its definition; its node
    is not known while a node's guests are not. ``silent`` holds the nodes that did not report their
    guests themselves, with the reason; ``kinds`` are sentences on what needs a person, by kind, and
    ``notes`` on what somebody wanted so.
    """

    cluster: str
    nodes: Mapping[str, Mapping[str, Any]]
    silent: Mapping[str, str]
    kinds: Mapping[str, Sequence[str]]
    notes: tuple[str, ...]
    rows: tuple[Mapping[str, Any], ...]

    @property
    def problems(self) -> list[str]:
        """What needs a person, the worst first."""
        return [sentence for sentences in self.kinds.values() for sentence in sentences]

    def to_dict(self) -> dict[str, Any]:
        """Return it as plain data."""
        return {
            "kind": "status",
            "cluster": self.cluster,
            "ok": not self.problems,
            "nodes": dict(self.nodes),
            "silent": dict(self.silent),
            "problems": self.problems,
            "kinds": {kind: len(sentences) for kind, sentences in self.kinds.items()},
            "notes": list(self.notes),
            "status": list(self.rows),
        }


def guests(cluster: Cluster, facts: NodeFacts) -> NodeGuests:
    """Return every guest of a node, by name."""
    found = sorted(facts.guests or (), key=lambda guest: guest.name)
    alone = World(cluster, {facts.node: facts})
    error = problems.silence(facts) if facts.guests is None else ""
    rows = tuple(_row(one, alone, alone.managers) for one in found)
    return NodeGuests(cluster.name, facts.node, rows, error)


def _row(found: GuestFacts, alone: World, index: ManagerIndex) -> dict[str, Any]:
    """Return one guest of a node, which is alone in its world.

    ``movable`` is what this node alone can tell: False with the reasons in ``why``, None where
    nothing but UNKNOWN checks forbid it.

    index
        What the nodes that were asked know of Pacemaker.
    """
    guest, facts = found.guest, alone.nodes[found.node]
    frozen = guest.frozen or (found.kept.frozen if found.kept else None) if guest else None
    movable, why = _movable(found, alone)
    return {
        "name": printable(found.name),
        "uuid": found.uuid,
        "state": found.observation.sighting.value,
        "reason": found.reason,
        "persistent": found.observation.persistent,
        "autostart": found.observation.autostart,
        "frozen": frozen.reason if frozen else None,
        "manager": _manager(found.name, index, [found.node] if found.active else []),
        "vcpus": found.vcpus,
        "memory_kib": found.memory_kib,
        "disks": [_disk(disk, facts) for disk in guest.disks] if guest else _paths(found),
        "networks": [
            {"kind": card.kind, "source": printable(card.source), "mac": card.mac}
            for card in guest.interfaces
        ]
        if guest
        else None,
        "machine": printable(guest.machine) if guest else None,
        "uptime": None if found.uptime is None else round(found.uptime, 1),
        "job": found.observation.job,
        "movable": movable,
        "why": why,
    }


def status(
    cluster: Cluster,
    nodes: Mapping[str, NodeFacts],
    pillars: Mapping[str, str] = _NOTHING,
    short: Iterable[str] = (),
) -> ClusterStatus:
    """Return all guests of a cluster, and where each is active.

    pillars
        What is wrong with the pillars of nodes, as the master renders them.
    short
        Problems with what would find no place if a node were lost.
    """
    silent = {
        node: facts.minion or problems.silence(facts)
        for node, facts in nodes.items()
        if facts.asker or facts.guests is None
    }
    hidden = [node for node, facts in nodes.items() if facts.guests is None]
    groups: dict[tuple[str, str], list[GuestFacts]] = {}
    for facts in nodes.values():
        for found in facts.guests or ():
            groups.setdefault((found.name, found.uuid), []).append(found)
    elsewhere = "?" if hidden else NOWHERE
    alone = {node: World(cluster, {node: facts}) for node, facts in nodes.items()}
    index = World(cluster, nodes).managers
    rows = [row for group in groups.values() for row in _shown(group, alone, index, elsewhere)]
    rows += [
        {**_unseen(name, sorted(hidden)), "manager": _manager(name, index, [])}
        for name in cluster.guests.list
        if not any(name == known for known, _ in groups)
    ]
    return ClusterStatus(
        cluster.name,
        {node: _node(facts) for node, facts in nodes.items()},
        silent,
        problems.problems(cluster, nodes, pillars, short),
        tuple(problems.notes(cluster, nodes)),
        tuple(sorted(rows, key=lambda row: (str(row["name"]), str(row["where"])))),
    )


def _state(facts: NodeFacts) -> str:
    if facts.guests is None:
        return UNREACHABLE
    if facts.asker:
        return "minion error" if facts.answered else "minion silent"
    return "ok"


def _node(facts: NodeFacts) -> dict[str, Any]:
    active = None if facts.guests is None else sum(guest.active for guest in facts.guests)
    return {
        "state": _state(facts),
        "seen_from": facts.asker or None,
        "cordoned": str(facts.cordoned[0]) if facts.cordoned else None,
        "cordon": asdict(facts.cordoned[0]) if facts.cordoned else None,
        "guests": None if facts.guests is None else len(facts.guests),
        "active": active,
        "memory_kib": facts.memory_kib,
        "free_kib": facts.free_kib,
        "key_age": key_notes.days(facts),
        "cpus": (facts.daemon.threads or None) if facts.daemon else None,
    }


def _shown(
    group: list[GuestFacts], alone: Mapping[str, World], index: ManagerIndex, elsewhere: str
) -> Iterable[dict[str, Any]]:
    """Yield the rows of one guest, reported by one node or more, each alone in its world."""
    active = [found for found in group if found.active]
    defined = [found.node for found in group if found.observation.persistent]
    for found in active:
        yield {"where": found.node, "defined": defined, **_row(found, alone[found.node], index)}
    if not active:
        row = _row(group[0], alone[group[0].node], index)
        yield {"where": elsewhere, "defined": defined, **row}


def _manager(guest: str, index: ManagerIndex, where: list[str]) -> str | None:
    """Return which resource of Pacemaker manages a guest; ``?`` where that is not known."""
    return str(index.of(guest, where)) or None


def _unseen(name: str, silent: list[str]) -> dict[str, Any]:
    """Return the row of a guest of the pillar's list that no node has."""
    detail = (
        f"no node has it, but {', '.join(silent)} did not respond" if silent else "no node has it"
    )
    state = UNREACHABLE if silent else Sighting.ABSENT.value
    return {
        "where": "?" if silent else NOWHERE,
        "defined": [],
        "name": name,
        "state": state,
        "movable": None if silent else False,
        "why": [detail],
    }


def _movable(found: GuestFacts, world: World) -> tuple[bool | None, list[str]]:
    """Return whether it can move and why not, by the checks of its own node before a migration."""
    if not found.active:
        return False, [f"it is {found.observation.sighting.value}"]
    issues = sorted(_issues(found, world), key=lambda issue: issue.outcome != PROBLEM)
    shown = [one for one in issues if not one.remedy.startswith(SEE)] or issues
    why = [f"{one.sentence}; {one.remedy}" if one.remedy else one.sentence for one in shown]
    if not issues:
        return True, []
    return (False if issues[0].outcome == PROBLEM else None), [printable(one) for one in why]


def _issues(found: GuestFacts, world: World) -> Iterable[Issue]:
    """Yield the issues that forbid it to move anywhere, of storage those of its own node."""
    for check in REGISTRY:
        reported: Iterable[Issue] = ()
        if check.scope == GUEST:
            reported = check.find(world, found)
        elif check.id in ("storage.kind", "storage.cache"):
            here = world.nodes[found.node]
            reported = check.judged(world, check.asks(world, found), check.offers(world, here))
        for issue in reported:
            if (issue.severity or check.severity) == BLOCK:
                yield issue


def _locate(source: Source, facts: NodeFacts) -> Location | None:
    """Return where a disk is; None for a drive without a medium."""
    if not source.kind or not source.path:
        return None
    return shared_storage.locate(source, facts.storage or StorageFacts())


def _disk(disk: Disk, facts: NodeFacts) -> dict[str, Any]:
    location = _locate(disk.source, facts)
    return {
        "target": disk.target,
        "device": disk.device,
        "source": printable(disk.source.path),
        "kind": disk.source.kind,
        "format": disk.source.format,
        "cache": disk.cache,
        "readonly": disk.readonly,
        "storage": location.kind if location else None,
        "fit": location.fit if location else None,
    }


def _paths(found: GuestFacts) -> list[dict[str, Any]]:
    """Return the disks of a guest whose definition was not asked for."""
    return [{"source": printable(path)} for path in found.disks]
