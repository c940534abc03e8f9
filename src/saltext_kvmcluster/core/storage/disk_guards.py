"""What keeps a second writer off a guest's disk across nodes, as one node sees it.

Two things do: QEMU's image lock, on a file system whose locks reach the other nodes, and a lease of
libvirt's lock manager. Nothing else does:

- QEMU locks images of its drivers ``file`` and ``host_device`` (block/file-posix.c) by fcntl's OFD
  locks, which an inode of /dev keeps on its node. Its drivers for nbd, iscsi, nfs, gluster and rbd
  lock nothing. RBD's exclusive-lock feature hands its lock over to whoever writes next ("automatic
  cooperative lock transitions", Ceph's page "RBD Exclusive Locks"); QEMU never calls
  ``rbd_lock_acquire``, which would keep it.
- ``<shareable/>`` lets others write: QEMU gives up the lock, and lockd leases the disk as shared.
- lockd and sanlock lease disks that are files, block devices or folders
  (``virDomainLockManagerAddImage`` in libvirt's src/locking/domain_lock.c), so no network disk;
  a ``<lease>`` in the definition covers the guest with all its disks.
- Without ``file_lockspace_dir`` lockd locks the disk itself by fcntl, so for a block device nothing
  reaches other nodes (libvirt's page "Virtual machine lock manager, virtlockd plugin").
"""

from __future__ import annotations

import posixpath
from dataclasses import dataclass, replace
from typing import NamedTuple

from saltext_kvmcluster.core.guest.disks import Source
from saltext_kvmcluster.core.guest.domainxml import Guest, Lease
from saltext_kvmcluster.core.storage import shared_storage
from saltext_kvmcluster.core.storage.file_systems import mount_of
from saltext_kvmcluster.core.storage.inventory import Mount, StorageFacts
from saltext_kvmcluster.core.storage.location import quoted
from saltext_kvmcluster.core.storage.lock_manager import LOCKD, SANLOCK, LockManager
from saltext_kvmcluster.core.text import listed, printable

LEASES = (
    "set guests: leases: true in the pillar, apply the state kvmcluster.disk_leases on every node,"
    " then restart the guest"
)
MOVE_ONCE = "migrate it once, or restart it"
START_ANEW = "shut it down and start it: a migration does not bring the lease of its definition"
RESTART = "on that node, while no migration runs: systemctl restart libvirtd (or virtqemud)"


@dataclass(frozen=True)
class Judgement:
    """Whether one means guards a disk on one node; ``holds`` is None if that is not known.

    ``folder`` is where a lease is: it guards between two nodes only if both have the same folder.
    """

    holds: bool | None
    why: str
    remedy: str = ""
    folder: str = ""


@dataclass(frozen=True)
class DiskGuards:
    """What guards a disk on one node."""

    image: Judgement
    lease: Judgement

    @property
    def missing(self) -> str:
        """Why it is not known that anything guards it, empty if something does."""
        held = self.image.holds or self.lease.holds
        return "" if held else f"{self.image.why}, and {self.lease.why}"


class Subject(NamedTuple):
    """What of a disk, and of its guest, decides on its guards.

    ``leases`` are those of the guest, ``unlocked`` whether it switches QEMU's locks off.
    """

    source: Source
    shareable: bool = False
    leases: tuple[Lease, ...] = ()
    unlocked: bool = False


def written(guest: Guest) -> tuple[tuple[str, str, Subject], ...]:
    """Return the disks that a guest writes: the target, the name of the source, and the subject.

    The keys of leases, which differ from guest to guest, are left out: they decide nothing.
    """
    leases = tuple(replace(lease, key="") for lease in guest.leases)
    return tuple(
        (
            printable(disk.target[:100]) or "a disk without a name",
            quoted(disk.source.path),
            Subject(disk.source, disk.shareable, leases, guest.unlocked),
        )
        for disk in guest.disks
        if disk.source.kind and not disk.readonly
    )


def of_node(
    subject: Subject, storage: StorageFacts | None, manager: LockManager | None
) -> DiskGuards:
    """Return what guards a disk on a node.

    storage, manager
        The node's; None where it is not known.
    """
    return DiskGuards(_image_lock(subject, storage), _lease(subject, storage, manager))


def is_leased(subject: Subject) -> bool:
    """Whether lock managers may lease a disk by itself, with no ``<lease>`` in the definition."""
    return subject.source.kind in _LEASED and not subject.shareable


def held(guest: str, manager: LockManager | None) -> Judgement:
    """Return whether a guest that runs on a node with leases has its own: QEMU may be older."""
    if manager is None or not manager.is_on:
        return Judgement(False, "libvirt has no lock manager", LEASES)
    if manager.holders is None:
        why = f"{manager.name} did not list its guests"
        return Judgement(None, why, f"make sure that {_LISTER[manager.name]} works there")
    if guest not in manager.holders:
        why = f"it was started without {manager.name}, so it has no lease"
        return Judgement(False, why, MOVE_ONCE)
    return Judgement(True, f"{manager.name} knows its QEMU")


def reach(path: str, storage: StorageFacts) -> Judgement:
    """Return whether fcntl's locks on a file reach the other nodes, by its file system.

    The kernel's sources: ``nfs_lock`` in fs/nfs/file.c keeps locks on the node with ``nolock`` and
    ``local_lock=posix`` or ``all`` (nfs(5); ``local_lock=flock`` concerns flock alone);
    ``gfs2_set_iop`` in fs/gfs2/inode.c does with ``localflocks``; ``ocfs2_populate_inode`` in
    fs/ocfs2/inode.c does with ``localflocks`` and under the stack o2cb, which has no POSIX locks.
    CephFS (``ceph_lock``), GlusterFS (its xlator features/locks, through FUSE) and Lustre mounted
    with ``flock`` lock at their servers. All else is taken to lock on its node alone: virtiofs and
    9p do unless configured otherwise.
    """
    mount = mount_of(storage.real(path), storage) if path.startswith("/") else None
    if storage.mounts is None or mount is None:
        why = storage.detail.get("mounts", "it is on no mount in the list of mounts")
        return Judgement(None, f"the storage of {quoted(path)} is not known: {quoted(why)}", _TOOLS)
    where = f"on {quoted(mount.folder)} ({quoted(mount.kind)})"
    if mount.kind == "autofs":
        remedy = f"ls {quoted(mount.folder)}, which mounts it; then check again"
        return Judgement(None, f"{where}, which is not mounted yet", remedy)
    reason, remedy = _local_locks(mount)
    if reason:
        return Judgement(False, f"locks {where} stay on the node: {reason}", remedy)
    return Judgement(True, f"locks {where} reach the other nodes", folder=mount.folder)


def _local_locks(mount: Mount) -> tuple[str, str]:
    """Return why locks in a file system stay on its node, and a remedy; empty if they do not."""
    options, kind = set(mount.options), mount.kind
    found = sorted(options & _LOCAL_OPTIONS.get(kind, frozenset()))
    if found:
        return f"mounted with {', '.join(found)}", f"mount it without {', '.join(found)}"
    if kind == "ocfs2":
        stacks = {word.partition("=")[2] for word in options if word.startswith("cluster_stack=")}
        if not stacks - {"o2cb"}:
            return "the cluster stack o2cb has no POSIX locks", f"use the stack pcmk, or {LEASES}"
    elif kind == "lustre":
        if "flock" not in options:
            return "mounted without flock", "mount it with the option flock"
    elif kind not in _REACHING:
        return "not a file system whose locks are known to reach other nodes", LEASES
    return "", ""


def _image_lock(subject: Subject, storage: StorageFacts | None) -> Judgement:
    """Judge QEMU's image lock, which exists for files alone."""
    source = subject.source
    if storage is None:
        return Judgement(None, "the storage of that node is not known", _TOOLS)
    if source.kind == "volume":
        why = "only libvirt knows where a storage pool's volume is"
        return Judgement(None, why, "name the disk by its path in the definition (virsh edit)")
    if source.kind != "file" or _is_device(source.path, storage):
        what = quoted(source.protocol or source.kind)
        return Judgement(False, f"QEMU's locks do not reach other nodes on a {what} disk", LEASES)
    if subject.shareable:
        remedy = "remove <shareable/> (virsh edit), then restart the guest"
        return Judgement(False, "it is shareable, so QEMU lets others write it", remedy)
    if subject.unlocked:
        remedy = "remove locking=off from <qemu:commandline> (virsh edit), then restart the guest"
        return Judgement(False, "its definition switches QEMU's locks off", remedy)
    return reach(source.path, storage)


def _lease(
    subject: Subject, storage: StorageFacts | None, manager: LockManager | None
) -> Judgement:
    """Judge a lease of the lock manager: one of the guest's own, or of this disk."""
    if manager is None or storage is None:
        return Judgement(None, "the lock manager of that node is not known", _DAEMON)
    if not manager.is_on:
        why = "libvirt has no lock manager"
        if subject.leases:
            why += ", so the <lease> in its definition does nothing"
        return Judgement(False, why, LEASES)
    if manager.unread:
        why = f"{listed(manager.unread)} was changed after libvirt's daemon read it"
        return Judgement(None, why, RESTART)
    own = _own_lease(subject, storage, manager)
    if own and own.holds:
        return own
    of_disk = _disk_lease(subject, storage, manager)
    return of_disk if of_disk.holds or own is None else own


def _own_lease(subject: Subject, storage: StorageFacts, manager: LockManager) -> Judgement | None:
    """Judge the leases in the definition, one of which is enough; None if there is none that acts.

    lockd takes TARGET/LOCKSPACE for the folder and the key for the file in it, and knows the
    folders of its configuration alone (``virLockManagerLockDaemonAddResource``); sanlock takes the
    target for the file, which its page wants on shared storage.
    """
    judged = []
    for lease in subject.leases:
        if manager.name == SANLOCK:
            where = shared_storage.locate(Source("file", lease.target), storage)
            why = f"its <lease>: {where.why.partition('; ')[0]}"
            judged.append(Judgement(where.fit, why, _MOVE_LEASE, where.folder))
        else:
            folder = posixpath.normpath(posixpath.join(lease.target, lease.lockspace or "."))
            if manager.automatic and folder in map(posixpath.normpath, manager.folders):
                judged.append(_in_folder(folder, storage, "its <lease>"))
    return next((one for one in judged if one.holds), judged[0] if judged else None)


def _disk_lease(subject: Subject, storage: StorageFacts, manager: LockManager) -> Judgement:
    source, remedy = subject.source, _SANLOCK_LEASE if manager.name == SANLOCK else LEASES
    if source.kind not in _LEASED:
        what = quoted(source.protocol or source.kind)
        return Judgement(False, f"{manager.name} does not lease a {what} disk by itself", remedy)
    if not manager.automatic:
        why = f"{manager.name} leases no disk by itself (auto_disk_leases), and it has no <lease>"
        return Judgement(False, why, remedy)
    if subject.shareable:
        why = f"it is shareable, and {manager.name} leases such a disk to several guests"
        return Judgement(False, why, "remove <shareable/> (virsh edit), then restart the guest")
    folder = _folder(source, storage, manager)
    if folder:
        return _in_folder(folder, storage, f"{manager.name}'s lease")
    if _is_device(source.path, storage) or source.kind == "block":
        why = "lockd locks the device on its node alone: file_lockspace_dir is not set"
        return Judgement(False, why, LEASES)
    found = reach(source.path, storage)
    return Judgement(found.holds, f"lockd's lock on the image: {found.why}", found.remedy)


def _folder(source: Source, storage: StorageFacts, manager: LockManager) -> str:
    """Return where the lease of a disk is, empty if lockd locks the disk itself."""
    if manager.name == LOCKD and source.path.startswith("/dev"):
        kind = shared_storage.locate(source, storage).kind
        if kind == "lv" and manager.lvm_folder:
            return manager.lvm_folder
        if kind == "lun" and manager.scsi_folder:
            return manager.scsi_folder
    return manager.folder


def _in_folder(folder: str, storage: StorageFacts, what: str) -> Judgement:
    """Judge a lease by the folder that it is in: its locks have to reach the other nodes."""
    where = shared_storage.locate(Source("file", folder), storage)
    if not where.fit:
        reason = f"{what} is in {quoted(folder)}: {where.why.partition('; ')[0]}"
        return Judgement(where.fit, reason, _MOVE_LEASES if where.fit is False else _TOOLS)
    found = reach(folder, storage)
    why = f"{what} is in {quoted(folder)}: {found.why}"
    remedy = _MOVE_LEASES if LEASES in found.remedy else found.remedy
    return Judgement(found.holds, why, remedy, posixpath.normpath(folder))


def _is_device(path: str, storage: StorageFacts) -> bool:
    """Whether a path of a ``file`` disk is a block device nevertheless."""
    real = storage.real(path)
    return real.startswith("/dev/") or real in storage.device_at or path in storage.device_at


_TOOLS = "make sure that findmnt, lsblk and lvs work on that node, then check again"
_DAEMON = "make sure that libvirt's daemon responds on that node, then check again"
_MOVE_LEASES = (
    "while all guests are shut down, move the folder of the leases to a file system whose locks"
    " reach all nodes, as docs/guards.md says"
)
_MOVE_LEASE = "put the target of its <lease> on storage that every node has (virsh edit)"
_SANLOCK_LEASE = f"add a <lease> of sanlock to its definition (virsh edit), then {START_ANEW}"
_LISTER = {LOCKD: "ss -xp", SANLOCK: "sanlock client status"}
_LEASED = ("file", "block", "dir")
_REACHING = frozenset(
    {
        *("nfs", "nfs4", "gfs", "gfs2", "ceph", "fuse.ceph", "fuse.ceph-fuse", "fuse.glusterfs"),
        *("ocfs2", "lustre"),
    }
)
_NFS = frozenset({"nolock", "local_lock=all", "local_lock=posix"})
_GFS = frozenset({"localflocks", "lockproto=lock_nolock"})
_LOCAL_OPTIONS = {
    "nfs": _NFS,
    "nfs4": _NFS,
    "gfs": _GFS,
    "gfs2": _GFS,
    "ocfs2": frozenset({"localflocks"}),
    "lustre": frozenset({"localflock", "noflock"}),
}
