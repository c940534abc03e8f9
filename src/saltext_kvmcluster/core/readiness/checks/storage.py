"""Checks of storage: a guest's disks on shared storage, the same on both nodes, and complete.

The rule of what is shared is in core/storage/shared_storage.py. Thousands of images lie in one file
system, so what holds for its mount point is judged once for all of them.
"""

from __future__ import annotations

import shlex
from collections.abc import Hashable, Iterable, Iterator, Mapping
from dataclasses import replace
from typing import NamedTuple

from saltext_kvmcluster.core.facts.nodefacts import GuestFacts, Inspection, NodeFacts
from saltext_kvmcluster.core.findings import PROBLEM, WARN, Issue, unknown
from saltext_kvmcluster.core.guest import domainxml
from saltext_kvmcluster.core.guest.disks import Disk, Source
from saltext_kvmcluster.core.guest.needed_files import PROGRAM, TEMPLATE
from saltext_kvmcluster.core.readiness.checks.base import UNREAD, World, is_under
from saltext_kvmcluster.core.storage import cache_mode, same_storage
from saltext_kvmcluster.core.storage.location import Location
from saltext_kvmcluster.core.text import listed

REMEDY = (
    "move it to storage that every node has: GFS2, NFS, GlusterFS, a shared LUN, clustered LVM…"
)
PATHS = ("file", "block", "dir")


class Part(NamedTuple):
    """A disk, or all disks of one file system, as the guest's own node sees it."""

    source: Source
    location: Location | None
    witnesses: frozenset[str] = frozenset()
    """The nodes whose fresh token the source read in its file system."""
    detail: str = ""
    """Why the source could write no token there."""


class Paths(NamedTuple):
    """The paths that a guest needs, each with its use.

    ``missing`` are absent on the source already, ``unseen`` were not checked there, ``alone`` are
    in no shared file system, so the destination has to have them itself. ``media`` are those that
    libvirt can do without.
    """

    missing: tuple[tuple[str, str], ...]
    unseen: tuple[tuple[str, str], ...]
    alone: tuple[tuple[str, str], ...]
    media: frozenset[str]


class Caches(NamedTuple):
    """Disks with the kind of storage that they are on, and the version of QEMU that uses them."""

    disks: tuple[tuple[Disk, Location], ...]
    qemu: int


def parts(world: World, guest: GuestFacts) -> Hashable:
    """Return the storage that a guest's disks are on, each file system once."""
    if guest.guest is None:
        return UNREAD
    found = (_part(world, guest.node, source) for source in _sources(guest.guest))
    return frozenset(found) or None


def destination(world: World, node: NodeFacts) -> Hashable:
    """Return the node itself: no other has the same storage facts."""
    return None if node.detail else node.node


def kind(world: World, asked: Iterable[Part], offered: str) -> Iterator[Issue]:
    """Whether each disk is on storage that hosts may share, on source and destination.

    GFS or GFS2, NFS, a clustered LVM volume that is active on both, a shared LUN or partition,
    dual-primary DRBD; also OCFS2, CephFS and RBD, GlusterFS, iSCSI and NBD. All else is refused.
    """
    for part in sorted(asked, key=_path):
        yield from _unfit(part.source, part.location, "source")
        if part.location and part.location.fit:
            yield from _unfit(part.source, world.locate(offered, part.source), "destination")


def same(world: World, asked: Iterable[Part], offered: str) -> Iterator[Issue]:
    """Whether it is the same storage on both nodes.

    A file system is proven by a token, freshly written on one node and read on the others; a block
    device by its identity: WWN, LV UUID, DRBD resource.
    """
    for part in sorted(asked, key=_path):
        there = world.locate(offered, part.source)
        if part.location is None or there is None or not (part.location.fit and there.fit):
            continue  # An issue of storage.kind.
        issue = same_storage.difference(part.location, there)
        if issue:
            yield issue
        elif part.location.peers and world.nodes[offered].host_name not in part.location.peers:
            yield Issue(
                f"{part.source.path} is replicated with {listed(sorted(part.location.peers))}, not"
                f" with {offered}",
                "move the guest to a node that holds the other copy: drbdadm status",
            )
        elif part.location.folder != there.folder:
            yield unknown(
                f"not proven to be the same storage on both nodes: {part.source.path} is under"
                f" {part.location.folder} on the source, under {there.folder} on the destination",
                "mount the same storage at the same mount points on both: findmnt -T"
                f" {part.source.path}",
            )
        elif part.location.folder:
            yield from _unproven(world, part, offered)


def paths(world: World, guest: GuestFacts) -> Hashable:
    """Return what a guest needs at the same path on its destination."""
    if guest.guest is None:
        return UNREAD
    missing, unseen, alone = [], [], []
    observed = world.nodes[guest.node].observed
    disks = frozenset(_sources(guest.guest))
    uses = {file.path: file.use for file in guest.guest.files}
    media = frozenset(disk.source.path for disk in guest.guest.disks if disk.dispensable)
    optional = {*media, *(file.path for file in guest.guest.files if file.optional)}
    for source in needed(guest):
        there = observed.get(source.path)
        what = (source.path, uses.get(source.path, "image"))
        if there is None:
            unseen.append(what)
        elif there.kind == "nothing":
            if source.path not in optional:
                missing.append(what)
        elif source not in disks and not in_shared(world, guest.node, source):
            alone.append(what)
    found = Paths(tuple(missing), tuple(unseen), tuple(alone), media)
    return found if any(found[:-1]) else None


def visible(world: World, asked: Paths, offered: str) -> Iterator[Issue]:
    """Whether the images, backing chains and all other paths of it are on the destination.

    Emulator, loader, kernel, initrd, nvram; devices, sockets, pipes, ROMs, scripts; the folders of
    sockets and logs. The template of an nvram is needed only where the nvram itself is not there,
    a program that libvirt runs beside QEMU (swtpm, passt, numad, qemu-pr-helper) only where the
    source has it.

    What is in a file system that is the same on both nodes (storage.same) is on both if it is on
    the source. A disk elsewhere is left to storage.kind and storage.same, since it must not be
    copied to the destination. Everything else is looked for on the destination itself. Where a
    medium may be missing (startupPolicy optional or requisite), libvirt leaves the drive empty.
    """
    for path, use in asked.missing:
        yield Issue(f"{use} {path} is missing on the source", f"find out what removed {path}")
    for path, _ in asked.unseen:
        yield unknown(f"not known: {path} was not checked on the source", _look_for(path, "source"))
    observed = world.nodes[offered].observed
    lost = [path for path, use in asked.alone if use == "nvram" and _is_nothing(observed, path)]
    for path, use in asked.alone:
        if use == TEMPLATE and not lost:
            continue
        if path not in observed:
            yield unknown(
                f"not known: {path} was not checked on the destination",
                _look_for(path, "destination"),
            )
        elif observed[path].kind == "nothing" and path in asked.media:
            yield Issue(
                f"medium {path} does not exist on the destination: libvirt leaves the drive empty"
                " there (startupPolicy)",
                f"to keep the medium, copy {path} from the source to the destination",
                PROBLEM,
                WARN,
            )
        elif observed[path].kind == "nothing" and use == "nvram":
            # qemuPrepareNVRAM in qemu_process.c; what the guest has written migrates
            # with its memory.
            yield Issue(
                f"nvram {path} does not exist on the destination: libvirt creates it from the"
                " firmware's"
                " template",
                "install the same firmware on the destination, or keep the nvram on shared storage",
                PROBLEM,
                WARN,
            )
        elif observed[path].kind == "nothing":
            yield Issue(
                f"{use} {path} does not exist on the destination",
                f"install {path} on the destination, as on the source"
                if use == PROGRAM
                else f"copy {path} from the source to the destination, or put it on shared storage",
            )


def _is_nothing(observed: Mapping[str, Inspection], path: str) -> bool:
    return path not in observed or observed[path].kind == "nothing"


def cached(world: World, guest: GuestFacts) -> Hashable:
    """Return the disks whose cache modes are not safe with every QEMU, without their paths."""
    if guest.guest is None:
        return UNREAD
    found = []
    for disk in guest.guest.disks:
        location = world.locate(guest.node, disk.source) if disk.source.kind else None
        if location and cache_mode.cache_issue(disk, location):
            bare = replace(disk, source=Source(disk.source.kind), backing=())
            found.append((bare, Location(location.kind, location.fit, "")))
    return Caches(tuple(found), _qemu(world.nodes[guest.node]) or 0) if found else None


def qemu(world: World, node: NodeFacts) -> Hashable:
    return _qemu(node)


def cache(world: World, asked: Caches, offered: int) -> Iterator[Issue]:
    """Whether no disk has a cache on the source that the destination does not see.

    libvirt refuses the same (qemuMigrationSrcIsSafe), except on what it takes for a cluster file
    system or block storage.
    """
    for disk, location in asked.disks:
        issue = cache_mode.cache_issue(disk, location, min(asked.qemu, offered))
        if issue:
            yield issue


def needed(guest: GuestFacts) -> Iterable[Source]:
    """Return all files and devices that a guest needs, as far as its definition is known."""
    if guest.guest:
        for disk in guest.guest.disks:
            yield from (source for source in (disk.source, *disk.backing) if source.kind in PATHS)
        yield from (Source("file", file.path) for file in guest.guest.files)


def in_shared(world: World, node: str, source: Source) -> bool:
    """Whether it is in a shared file system that a token proves.

    Not if some node has another file system mounted above it.
    """
    location = world.locate(node, source)
    if not (
        location and location.fit and location.folder and is_under(location.folder, source.path)
    ):
        return False
    facts = world.nodes[node].storage
    ways = {source.path, facts.real(source.path) if facts else source.path}
    return not any(world.is_covered(way, location.folder) for way in ways)


def _sources(guest: domainxml.Guest) -> Iterable[Source]:
    """Return the disks that have to be on shared storage: all but read-only media.

    Those never change, so each node may have its own copy.
    """
    for disk in guest.disks:
        if disk.source.kind and not _is_medium(disk):
            yield from (disk.source, *disk.backing)


def _is_medium(disk: Disk) -> bool:
    return disk.readonly and disk.device in ("cdrom", "floppy")


def _part(world: World, node: str, source: Source) -> Part:
    location = world.locate(node, source)
    if location is None or not location.fit:
        return Part(source, location)
    if not location.folder:
        return Part(source, location)
    witnesses = world.witnesses(node, location.folder)
    if in_shared(world, node, source):
        source = replace(source, path=location.folder, format="")
        location = replace(location, why="")
    detail = world.nodes[node].write_errors.get(location.folder, "")
    return Part(source, location, witnesses, detail)


def _unfit(source: Source, location: Location | None, where: str) -> Iterator[Issue]:
    if location is None:
        yield unknown(
            f"not known: the storage of the {where}, for {source.path}",
            f"on the {where}: make sure that findmnt, lsblk and lvs work, then check again",
        )
    elif not location.fit:
        what, _, how = location.why.partition("; ")
        if location.fit is None:
            yield unknown(
                f"on the {where}: {what}",
                how or f"on the {where}: check {source.path} with findmnt, lsblk and lvs",
            )
        else:
            yield Issue(f"on the {where}: {what}", how or REMEDY)


def private(world: World, guest: GuestFacts) -> Iterator[tuple[Source, Issue]]:
    """Yield each disk of a guest that is known to be on no shared storage, and why."""
    for source in _sources(guest.guest) if guest.guest else ():
        location = world.locate(guest.node, source)
        if location is not None and location.fit is False:
            what, _, how = location.why.partition("; ")
            yield source, Issue(what, how or REMEDY)


def _look_for(path: str, where: str) -> str:
    return f"check again; if that does not help, on the {where}: ls -lLd {shlex.quote(path)}"


def _unproven(world: World, part: Part, offered: str) -> Iterator[Issue]:
    folder = part.location.folder if part.location else ""
    if part.witnesses & world.witnesses(offered, folder):
        return
    if part.witnesses:
        yield unknown(
            f"not proven to be the same storage on both nodes: {folder}; the destination read none"
            " of the tokens that the source read",
            f"ls {folder} must show the same on both nodes; if not, mount it again on the"
            " destination",
        )
    else:
        yield unknown(
            f"not proven to be the same storage on both nodes: {folder}; the source wrote no token:"
            f" {part.detail or 'it was not asked to'}",
            f"on the source: let root write in {folder}/.kvmcluster",
        )


def _qemu(node: NodeFacts) -> int | None:
    return node.daemon.qemu if node.daemon else None


def _path(part: Part) -> str:
    return part.source.path
