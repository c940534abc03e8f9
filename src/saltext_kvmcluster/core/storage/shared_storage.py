"""The rule that refuses a local disk: on what storage a disk lies, and whether it is shared.

The list is that of the cluster project's page on migrating KVM guests, and what has come since:
GFS and GFS2, NFS, clustered logical volumes, shared LUNs and their partitions, DRBD with two
primaries; OCFS2, CephFS and RBD, GlusterFS, disks from iSCSI and NBD servers. The page goes on:
"If it is not in the above list, DO NOT USE IT". What is not known to be shared is refused.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from saltext_kvmcluster.core.guest.disks import Source
from saltext_kvmcluster.core.storage.devices import block_device
from saltext_kvmcluster.core.storage.file_systems import (
    ON_DEVICES,
    SHARED_FILE_SYSTEMS,
    mount_of,
    on_file_system,
)
from saltext_kvmcluster.core.storage.inventory import (
    MAX_PATH,
    StorageFacts,
)
from saltext_kvmcluster.core.storage.location import (
    MOVE_IT,
    NOT_LISTED,
    Location,
    not_known,
    quoted,
)
from saltext_kvmcluster.core.storage.network_disks import network_disk


def locate(source: Source, facts: StorageFacts) -> Location:
    """Return where a disk, or a layer of its backing chain, is on the node of the facts."""
    if not source.kind or not source.path:
        return Location("none", True, "the drive is empty")
    if len(source.path) > MAX_PATH:
        return not_known(quoted(source.kind), source.path, "its path is longer than PATH_MAX")
    judge = _KINDS.get(source.kind)
    if judge is None:
        return Location(
            quoted(source.kind),
            False,
            f"{quoted(source.path)} is of type {quoted(source.kind)}, {NOT_LISTED}",
        )
    return judge(source, facts)


def needs_mounts_alone(source: Source, facts: StorageFacts) -> bool:
    """Whether the list of mounts is enough to locate a disk: no block device is involved."""
    judge = _KINDS.get(source.kind)
    if judge is not _file:
        return judge is not block_device
    mount = mount_of(facts.real(source.path), facts)
    kind = SHARED_FILE_SYSTEMS.get(mount.kind) if mount else None
    return kind is not None and kind not in ON_DEVICES


def _file(source: Source, facts: StorageFacts) -> Location:
    real = facts.real(source.path)
    mount = mount_of(real, facts)
    if real in facts.device_at or (mount and mount.kind == "devtmpfs"):
        return block_device(source, facts)
    if not source.path.startswith("/") or mount is None:
        why = facts.detail.get("mounts", "it is on no mount in the list of mounts")
        return not_known("file", source.path, why)
    return on_file_system(mount, source.path, facts)


def _pool(source: Source, _: StorageFacts) -> Location:
    why = (
        "only libvirt knows where a storage pool's volume is; name the disk by its path or device"
        " in the definition"
    )
    return not_known("volume", source.path, why)


def _local_device(source: Source, _: StorageFacts) -> Location:
    kind = quoted(source.kind)
    return Location(kind, False, f"{quoted(source.path)} is a local {kind} device; {MOVE_IT}")


_KINDS: Mapping[str, Callable[[Source, StorageFacts], Location]] = {
    "file": _file,
    "dir": _file,
    "block": block_device,
    "network": network_disk,
    "volume": _pool,
    "nvme": _local_device,
    "vhostuser": _local_device,
    "vhostvdpa": _local_device,
}
