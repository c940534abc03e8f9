"""Whether every disk that a guest writes is guarded against a second writer on some nodes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from saltext_kvmcluster.core.facts.nodefacts import GuestFacts
from saltext_kvmcluster.core.findings import SEE
from saltext_kvmcluster.core.guest.disks import Source
from saltext_kvmcluster.core.readiness.checks.base import World
from saltext_kvmcluster.core.storage import disk_guards
from saltext_kvmcluster.core.storage.disk_guards import DiskGuards, Judgement

IMAGE_LOCK, LEASE, NOTHING, NOT_KNOWN = "image lock", "lease", "nothing", "not known"


@dataclass(frozen=True)
class Guard:
    """What keeps a second writer off one disk, the same on all the nodes in question.

    ``by`` is IMAGE_LOCK or LEASE; NOTHING, or NOT_KNOWN, with ``why`` and ``remedy`` then.
    ``node`` is the node that lacks it.
    """

    target: str
    name: str
    by: str
    why: str
    remedy: str = ""
    node: str = ""

    @property
    def holds(self) -> bool:
        """Whether it is known that the disk is guarded."""
        return self.by in (IMAGE_LOCK, LEASE)


def guards(world: World, guest: GuestFacts, nodes: Iterable[str]) -> tuple[Guard, ...]:
    """Return for each disk that the guest writes what keeps a second writer on these nodes away.

    All are guarded if every ``holds``. Nothing is returned for a guest that writes no disk; one
    whose definition is not known has one guard, NOT_KNOWN.

    nodes
        Those between which a second writer is to be kept away, the guest's own included, such as
        source and destination.
    """
    asked = tuple(dict.fromkeys(nodes))
    if guest.guest is None:
        why = "its definition cannot be read"
        return (Guard("its disks", "", NOT_KNOWN, why, f"{SEE}guest.blockers", guest.node),)
    found = {node: _of_node(world, guest, node) for node in asked}
    rows = zip(*found.values(), strict=True)
    return tuple(_judged(world, dict(zip(found, row, strict=True))) for row in rows)


def unguarded(world: World, guest: GuestFacts, nodes: Iterable[str]) -> tuple[Guard, ...]:
    """Return the disks that are not known to be guarded on these nodes; see ``guards``."""
    return tuple(guard for guard in guards(world, guest, nodes) if not guard.holds)


def _of_node(world: World, guest: GuestFacts, node: str) -> tuple[DiskGuards, ...]:
    facts = world.nodes[node]
    assert guest.guest is not None
    manager = facts.daemon.locks if facts.daemon else None
    return disk_guards.of_node(guest.guest, facts.storage, manager, node == guest.node)


def _judged(world: World, row: dict[str, DiskGuards]) -> Guard:
    """Return the guard of one disk: a means guards it if it does on every node."""
    disk = next(iter(row.values()))
    image = _on_all({node: one.image for node, one in row.items()})
    lease = _on_all({node: one.lease for node, one in row.items()}, world)
    for by, (judgement, _) in ((IMAGE_LOCK, image), (LEASE, lease)):
        if judgement.holds:
            return Guard(disk.target, disk.name, by, judgement.why)
    (image_lock, node), (leased, there) = image, lease
    by = NOTHING if image_lock.holds is False and leased.holds is False else NOT_KNOWN
    first = by == NOT_KNOWN and image_lock.holds is None
    # Where the image lock can be had by mounting otherwise, that is the shorter way.
    if first or (by == NOTHING and image_lock.remedy != disk_guards.LEASES):
        return Guard(disk.target, disk.name, by, image_lock.why, image_lock.remedy, node)
    why = f"{image_lock.why}, and {leased.why}" if node == there else leased.why
    return Guard(disk.target, disk.name, by, why, leased.remedy, there)


def _on_all(found: dict[str, Judgement], world: World | None = None) -> tuple[Judgement, str]:
    """Return the weakest of the nodes' judgements, with its node.

    world
        For leases: they guard between nodes only if their folder is the same storage on all.
    """
    weakest = min(found, key=lambda node: _strength(found[node]))
    if not found[weakest].holds or world is None:
        return found[weakest], weakest
    here, folder = next((node, one.folder) for node, one in found.items())
    for node, one in found.items():
        differs = _difference(world, here, node, folder, one.folder)
        if differs:
            return differs, node
    return found[weakest], weakest


def _difference(world: World, here: str, node: str, folder: str, other: str) -> Judgement | None:
    """Return why leases in two nodes' folders are not known to be the same ones."""
    if folder != other:
        why = f"its lease is in {folder or 'the image'} on {here}, in {other or 'the image'} there"
        return Judgement(False, why, f"use the same folder on both: {disk_guards.LEASES}")
    if not folder or node == here:
        return None
    if world.witnesses(here, _mount(world, here, folder)) & world.witnesses(
        node, _mount(world, node, folder)
    ):
        return None
    identities = {world.identity(one, folder) for one in (here, node)}
    if len(identities) == 1 and all(identities):
        return None
    why = f"{folder} is not proven to be the same storage on {here} and on {node}"
    return Judgement(None, why, f"ls {folder} must show the same on both nodes; then check again")


def _mount(world: World, node: str, folder: str) -> str:
    location = world.locate(node, Source("file", folder))
    return location.folder if location else ""


def _strength(judgement: Judgement) -> int:
    order: Sequence[bool | None] = (False, None, True)
    return order.index(judgement.holds)
