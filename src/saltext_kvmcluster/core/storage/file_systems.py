"""Which file systems are shared storage, and which are local to one host."""

from __future__ import annotations

import posixpath

from saltext_kvmcluster.core.storage.inventory import (
    Mount,
    StorageFacts,
)
from saltext_kvmcluster.core.storage.location import MOVE_IT, NOT_LISTED, Location, quoted

SHARED_FILE_SYSTEMS = {
    "gfs": "gfs",
    "gfs2": "gfs2",
    "nfs": "nfs",
    "nfs4": "nfs",
    "ocfs2": "ocfs2",
    "ceph": "cephfs",
    "fuse.ceph": "cephfs",
    "fuse.ceph-fuse": "cephfs",
    "fuse.glusterfs": "glusterfs",
}
_LOCAL_FILE_SYSTEMS = frozenset(
    {
        *("ext2", "ext3", "ext4", "xfs", "btrfs", "zfs", "bcachefs", "f2fs", "jfs", "reiserfs"),
        *("vfat", "exfat", "ntfs", "ntfs3", "iso9660", "squashfs", "erofs", "overlay"),
        *("tmpfs", "ramfs", "rootfs", "devtmpfs", "hugetlbfs"),
    }
)
ON_DEVICES = ("gfs2", "ocfs2")


def mount_of(path: str, facts: StorageFacts) -> Mount | None:
    while path not in facts.mount_at and path != "/":
        path = posixpath.dirname(path)
    return facts.mount_at.get(path)


def on_file_system(mount: Mount, path: str, facts: StorageFacts) -> Location:
    where = f"{quoted(path)} is on {quoted(mount.folder)} ({quoted(mount.kind)})"
    kind = SHARED_FILE_SYSTEMS.get(mount.kind)
    if mount.kind == "autofs":
        why = f"{where}, which is not mounted yet; list the folder once to have it automounted"
        return Location("autofs", None, why, folder=mount.folder)
    if kind is None:
        own = mount.kind in _LOCAL_FILE_SYSTEMS
        why = f"a local file system; {MOVE_IT}" if own else f"{NOT_LISTED}; {MOVE_IT}"
        return Location(quoted(mount.kind), False, f"{where}, {why}", folder=mount.folder)
    if _is_mounted_alone(mount):
        why = f"{where}, mounted without cluster locks; mount it with the cluster's locks"
        return Location(kind, False, why, folder=mount.folder)
    device = facts.device_numbered.get(mount.number)
    known = kind in ON_DEVICES and device and device.uuid
    identity = f"{kind} {device.uuid}" if device and known else ""
    return Location(kind, True, where, identity, mount.folder)


def _is_mounted_alone(mount: Mount) -> bool:
    """Whether a cluster file system was mounted without its locks: see gfs2(5), mount.ocfs2(8).

    An OCFS2 under a cluster stack of user space has no heartbeat of its own either.
    """
    if mount.kind == "ocfs2":
        stack = any(option.startswith("cluster_stack=") for option in mount.options)
        return "heartbeat=none" in mount.options and not stack
    return "lockproto=lock_nolock" in mount.options
