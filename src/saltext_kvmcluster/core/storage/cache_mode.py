"""Whether a disk's cache mode is safe for migration."""

from __future__ import annotations

from saltext_kvmcluster.core.findings import Issue, unknown
from saltext_kvmcluster.core.guest.disks import Disk
from saltext_kvmcluster.core.storage.location import Location, quoted

QEMU_DROPS_CACHE = 4_000_000
"""The first QEMU that drops its host's cache of an image when a guest arrives: 4.0."""

_COHERENT = ("gfs", "gfs2", "ocfs2", "cephfs")
"""File systems whose page cache is the same on all nodes (virFileIsClusterFS, and GFS)."""


def cache_issue(disk: Disk, location: Location, qemu: int = 0) -> Issue | None:
    """Return why a disk's cache mode is not safe for migration on its storage, or None.

    qemu
        QEMU's version on both nodes, the lower one, as libvirt numbers it; 0 if not known.

    The rule is libvirt's own, ``qemuMigrationSrcIsSafe`` in qemu_migration.c, which refuses such
    a migration without VIR_MIGRATE_UNSAFE: a disk is safe that is empty, read-only, on a network
    disk, on a coherent cluster file system, has cache none or directsync (a shareable one by
    default), or whose QEMU drops its cache. libvirt does not check whether a block device is
    shared; ``shared_storage`` does. Stricter than libvirt in one thing: with cache=unsafe QEMU
    passes no flush on, so what the guest wrote may be in the source's memory alone.
    """
    if location.kind == "none" or disk.readonly or location.kind in _COHERENT:
        return None
    if disk.cache in ("none", "directsync") or (disk.shareable and disk.cache in ("", "default")):
        return None
    if disk.cache != "unsafe" and (disk.source.kind == "network" or qemu >= QEMU_DROPS_CACHE):
        return None
    mode = f"{quoted(disk.target)} has cache mode {quoted(disk.cache) or 'default'}"
    if disk.cache != "unsafe" and not qemu:
        return unknown(
            f"not known: {mode}, and whether QEMU drops its cache depends on its version",
            "make sure that 'qemu-system-x86_64 --version' works on both nodes; or set <driver"
            " cache='none'> in its definition and restart the guest",
        )
    return Issue(
        f"{mode}: on {location.kind}, data that the guest wrote, or old data, may stay in one"
        " node's memory",
        "set <driver cache='none'> in its definition and restart the guest",
    )
