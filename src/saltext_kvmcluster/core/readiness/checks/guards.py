"""Whether every disk that a guest writes is guarded against a second writer on some nodes.

Thousands of images lie in one file system, so what holds for its mount point is judged once for all
of them.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from saltext_kvmcluster.core.facts.nodefacts import GuestFacts
from saltext_kvmcluster.core.findings import SEE
from saltext_kvmcluster.core.guest.disks import Source
from saltext_kvmcluster.core.guest.domainxml import Guest
from saltext_kvmcluster.core.readiness.checks.base import World
from saltext_kvmcluster.core.readiness.checks.storage import in_shared
from saltext_kvmcluster.core.storage import disk_guards
from saltext_kvmcluster.core.storage.disk_guards import Judgement, Subject
from saltext_kvmcluster.core.storage.lock_manager import LOCKD, LockManager

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
    if guest.guest is None:
        why = "its definition cannot be read"
        return (Guard("its disks", "", NOT_KNOWN, why, f"{SEE}guest.blockers", guest.node),)
    asked, found = frozenset(nodes), []
    for target, name, subject in disk_guards.written(guest.guest):
        guard = _of_disk(world, guest, subject, asked)
        remedy = _remedy(world, guest, subject, guard)
        found.append(replace(guard, target=target, name=name, remedy=remedy))
    return tuple(found)


def unguarded(world: World, guest: GuestFacts, nodes: Iterable[str]) -> tuple[Guard, ...]:
    """Return the disks that are not known to be guarded on these nodes; see ``guards``."""
    return tuple(guard for guard in guards(world, guest, nodes) if not guard.holds)


def by_cause(bare: Iterable[Guard]) -> Mapping[Guard, list[str]]:
    """Return the disks that lack a guard for one reason, by that reason: a guard without a disk."""
    found: dict[Guard, list[str]] = defaultdict(list)
    for disk in bare:
        found[replace(disk, target="", name="")].append(disk.target)
    return found


def outlives(world: World, guest: GuestFacts) -> str:
    """Return that a guest is older than lockd, which then never frees its leases; else empty.

    libvirt's daemon takes leases for it at a resume, so after a pause or a failed migration, and
    virtlockd frees those of its own clients alone (``virLockDaemonClientFree`` in libvirt's
    src/locking/lock_daemon.c): once its QEMU has died, it starts nowhere.
    """
    daemon = world.nodes[guest.node].daemon
    if not guest.active or daemon is None or daemon.locks.name != LOCKD:
        return ""
    if daemon.locks.holders is None or guest.name in daemon.locks.holders:
        return ""
    return (
        "it was started without lockd, so it has no lease; one that it gets when it is resumed"
        " stays when its QEMU dies, and then it starts nowhere"
    )


def age_remedy(bare: Iterable[Guard]) -> str:
    """Return the remedy for a guest that is older than lockd, with disks that nothing guards.

    A migration is enough, unless a disk waits for the guest's next start anyway.
    """
    restarts = (disk_guards.LEASES, disk_guards.START_ANEW)
    found = (disk.remedy for disk in bare if disk.remedy.endswith(restarts))
    return next(found, disk_guards.MOVE_ONCE)


def _remedy(world: World, guest: GuestFacts, subject: Subject, found: Guard) -> str:
    """Return the remedy for a disk; of leases that the pillar wants, what is left to be done."""
    if disk_guards.LEASES not in found.remedy or not world.cluster.guests.leases:
        return found.remedy
    steps = []
    if guest.name not in world.cluster.guests.list:
        steps.append("add it to guests: list in the pillar")
    own = found.node == guest.node
    if steps or not own or not _is_set_up(world, guest.node) or not _next_has_lease(world, guest):
        steps.append("apply the state kvmcluster.disk_leases on every node")
    if own:
        moves = disk_guards.is_leased(subject) or subject.leases
        steps.append(disk_guards.MOVE_ONCE if moves else disk_guards.START_ANEW)
    return found.remedy.replace(disk_guards.LEASES, ", then ".join(steps))


def _is_set_up(world: World, node: str) -> bool:
    """Whether lockd is configured on a node as the state disk_leases does it."""
    daemon = world.nodes[node].daemon
    locks = daemon.locks if daemon else LockManager()
    return (
        locks.name == LOCKD and locks.automatic and world.cluster.guests.leases_in in locks.folders
    )


def _next_has_lease(world: World, guest: GuestFacts) -> bool:
    """Whether the definition of a guest's next start has a lease, as far as it is known."""
    text = world.nodes[guest.node].definitions.get(guest.name, "")
    found = world.definition(text) if text else guest.kept
    return isinstance(found, Guest) and bool(found.leases)


def _of_disk(world: World, guest: GuestFacts, subject: Subject, nodes: frozenset[str]) -> Guard:
    """Return the guard of one disk. What its own node lacks comes first."""
    shared = world.locate(guest.node, subject.source)
    if shared and subject.source.kind == "file" and in_shared(world, guest.node, subject.source):
        subject = subject._replace(source=Source("file", shared.folder))
    found = _known(world, subject, frozenset({guest.node}))
    if found.holds:
        found = _known(world, subject, nodes)
    if found.by != LEASE or not guest.active:
        return found
    daemon = world.nodes[guest.node].daemon
    held = disk_guards.held(guest.name, daemon.locks if daemon else None)
    if held.holds:
        return found
    by = NOTHING if held.holds is False else NOT_KNOWN
    return Guard("", "", by, held.why, held.remedy, guest.node)


def _known(world: World, subject: Subject, nodes: frozenset[str]) -> Guard:
    """Return the guard of equal disks on some nodes, which is found once."""
    key = (subject, nodes)
    if key not in world.guarded:
        world.guarded[key] = _judged(world, subject, [one for one in world.nodes if one in nodes])
    found: Guard = world.guarded[key]
    return found


def _judged(world: World, subject: Subject, nodes: Sequence[str]) -> Guard:
    """Return the guard of a disk: a means guards it if it does on every node."""
    found = {node: _of_node(world, subject, node) for node in nodes}
    image_lock, node = _weakest({node: one.image for node, one in found.items()})
    leased, there = _weakest({node: one.lease for node, one in found.items()})
    if image_lock.holds:
        return Guard("", "", IMAGE_LOCK, image_lock.why)
    if leased.holds:
        leased, there = _one_folder(world, {node: one.lease for node, one in found.items()})
    if leased.holds:
        return Guard("", "", LEASE, leased.why)
    by = NOTHING if image_lock.holds is False and leased.holds is False else NOT_KNOWN
    first = by == NOT_KNOWN and image_lock.holds is None
    # Where the image lock can be had by mounting otherwise, that is the shorter way.
    if first or (by == NOTHING and image_lock.remedy != disk_guards.LEASES):
        return Guard("", "", by, image_lock.why, image_lock.remedy, node)
    why = f"{image_lock.why}, and {leased.why}" if node == there else leased.why
    return Guard("", "", by, why, leased.remedy, there)


def _of_node(world: World, subject: Subject, node: str) -> disk_guards.DiskGuards:
    facts = world.nodes[node]
    return disk_guards.of_node(subject, facts.storage, facts.daemon.locks if facts.daemon else None)


def _weakest(found: Mapping[str, Judgement]) -> tuple[Judgement, str]:
    """Return the weakest of the nodes' judgements, with its node."""
    order: Sequence[bool | None] = (False, None, True)
    node = min(found, key=lambda node: order.index(found[node].holds))
    return found[node], node


def _one_folder(world: World, found: Mapping[str, Judgement]) -> tuple[Judgement, str]:
    """Return whether leases on several nodes are the same: in one folder on the same storage."""
    here = next(iter(found))
    for node, one in found.items():
        differs = _difference(world, here, node, found[here].folder, one.folder)
        if differs:
            return differs, node
    return found[here], here


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
