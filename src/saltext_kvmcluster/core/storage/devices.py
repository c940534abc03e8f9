"""Which block devices are shared storage: LUNs, clustered volumes, DRBD; local ones are refused."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import replace

from saltext_kvmcluster.core.guest.disks import Source
from saltext_kvmcluster.core.storage.drbd import Peer, Replica
from saltext_kvmcluster.core.storage.inventory import (
    Device,
    StorageFacts,
    Volume,
)
from saltext_kvmcluster.core.storage.location import (
    MOVE_IT,
    NOT_LISTED,
    Location,
    not_known,
    quoted,
)
from saltext_kvmcluster.core.storage.nvme import FABRICS

_LOCAL_TRANSPORTS = ("ata", "sata", "usb", "nvme", "mmc", "sbp", "virtio", "pcie")
_NETWORK_TRANSPORTS = ("fc", "fcoe", "iscsi", "srp", FABRICS)
_LAYERS = 4


def block_device(source: Source, facts: StorageFacts) -> Location:
    path = source.path
    volume = facts.volume_at.get(path)
    device = facts.device_at.get(facts.real(path)) or facts.device_at.get(path)
    if device is None and volume is not None:
        return _volume(volume)
    if facts.devices is None:
        return not_known(
            "device", path, facts.detail.get("devices", "the list of devices is missing")
        )
    if device is None:
        why = (
            f"this node has no block device {quoted(path)}; present it to this node, or activate it"
        )
        return Location("nothing", False, why)
    return _device(device, facts)


def _device(device: Device, facts: StorageFacts, above: int = 0) -> Location:
    """Return what a device is; ``above`` says how many partitions were found on top of it."""
    name = re.fullmatch(r"/dev/(drbd|rbd|nbd)\d{1,7}", device.path, re.A)
    judge = _DEVICES.get(name[1] if name else device.type)
    if device.type == "part" and len(device.parents) == 1:
        below = facts.device_at.get(device.parents[0])
        if below and above < _LAYERS:
            return _partition(device, _device(below, facts, above + 1))
    if judge is None:
        kind = quoted(device.type) or "device"
        reason = _LOCAL_TYPES.get(kind.rstrip("0123456789"), NOT_LISTED)
        return Location(kind, False, f"{_name(device)} is a device of type {kind}: {reason}")
    return judge(device, facts)


def _partition(device: Device, below: Location) -> Location:
    if not below.fit:
        return replace(below, why=f"{_name(device)} is a partition: {below.why}")
    known = below.identity and device.partition
    return replace(
        below,
        kind="partition",
        why=f"{_name(device)} is a partition: {below.why}",
        identity=f"{below.identity} partition {device.partition}" if known else "",
    )


def _lv(device: Device, facts: StorageFacts) -> Location:
    names = (device.name, *facts.names_of.get(device.path, ()))
    volume = next((facts.volume_at[name] for name in names if name in facts.volume_at), None)
    if volume is None:
        return not_known("lv", device.name, facts.detail.get("volumes", "lvs does not list it"))
    return _volume(volume)


def _volume(volume: Volume) -> Location:
    name, group = quoted(volume.path), quoted(volume.group)
    if not volume.shared:
        why = (
            f"{name} is in the local volume group {group}, neither clustered nor under lvmlockd:"
            " even"
            " on shared disks, nodes would change it without coordination; make the group shared:"
            f" 'vgchange --lock-type dlm {group}' (or sanlock)"
        )
        return Location("lv", False, why)
    if not volume.active:
        why = (
            f"{name} is not active on this node; activate it on every node: 'lvchange -asy {name}'"
        )
        return Location("lv", False, why)
    why = f"{name} is in the shared volume group {group}"
    return Location("lv", True, why, f"LV {volume.uuid}" if volume.uuid else "")


def _lun(device: Device, _: StorageFacts) -> Location:
    name = _name(device)
    if device.transport in _LOCAL_TRANSPORTS:
        why = f"{name} is a local disk of this node ({device.transport}); {MOVE_IT}"
        return Location("disk", False, why)
    if device.wwn:
        return Location("lun", True, f"{name} is the LUN {quoted(device.wwn)}", f"WWN {device.wwn}")
    if device.transport in _NETWORK_TRANSPORTS:
        return Location("lun", True, f"{name} is a LUN without a WWN ({device.transport})")
    if device.type == "loop":
        why = f"{name} is a loop device on a local file; {MOVE_IT}"
        return Location("loop", False, why)
    why = f"{name} has no WWN, so it may be a local disk; {MOVE_IT}"
    return Location("disk", False, why)


def _multipath(device: Device, facts: StorageFacts) -> Location:
    name, known = _name(device), facts.map_at.get(device.path)
    if known and known.paths and not known.working:
        why = f"no path of the multipath map {name} works; repair one: 'multipath -ll'"
        return Location("lun", False, why)
    paths = [facts.device_at[path] for path in device.parents if path in facts.device_at]
    wwns = {known.wwn} if known and known.wwn else {path.wwn or device.wwn for path in paths}
    if len(wwns) != 1 or not all(wwns):
        why = f"the LUN of the multipath map {name} is not known; check 'multipath -ll'"
        return Location("lun", None, why)
    wwn = wwns.pop()
    return Location("lun", True, f"{name} is the LUN {quoted(wwn)}, by multipath", f"WWN {wwn}")


def _rbd(device: Device, facts: StorageFacts) -> Location:
    """A mapped RBD image; Ceph's udev rules link /dev/rbd/POOL/IMAGE to it."""
    links = facts.names_of.get(device.path, ())
    names = [name.removeprefix("/dev/rbd/") for name in links if name.startswith("/dev/rbd/")]
    names = [name for name in names if not name.startswith("by-id/")]
    image = f"RBD {names[0]}" if len(names) == 1 else ""
    return Location("rbd", True, f"{_name(device)} is the image {quoted(image)}", image)


def _nbd(device: Device, _: StorageFacts) -> Location:
    why = (
        f"the server of {_name(device)} is not known; let QEMU connect to it, with"
        " <source protocol='nbd'> in the definition"
    )
    return Location("nbd", None, why)


def _name(device: Device) -> str:
    return quoted(device.name or device.path)


def _drbd(device: Device, facts: StorageFacts) -> Location:
    minor = int(device.path.removeprefix("/dev/drbd"))
    replica = facts.replica_numbered.get(minor)
    if replica is None:
        return not_known(
            "drbd", device.path, facts.detail.get("replicas", "drbdsetup does not list it")
        )
    name = f"DRBD {replica.resource}/{replica.volume}" if replica.resource else ""
    shown = f"{_name(device)} ({quoted(name) or f'DRBD minor {minor}'})"
    peers = [peer for peer in replica.peers if peer.connected and _is_good(peer.disk)]
    fit, why = _replicated(replica, peers)
    ends = frozenset(end for peer in peers if peer.net for end in peer.net.ends)
    names = frozenset(peer.name for peer in peers if peer.name)
    return Location("drbd", fit, f"{shown} {why}", name, ends=ends, peers=names)


def _replicated(replica: Replica, peers: list[Peer]) -> tuple[bool | None, str]:
    resource = quoted(replica.resource) or "RESOURCE"
    if replica.suspended:
        return False, f"is suspended: its I/O stands still; check 'drbdadm status {resource}'"
    if not replica.quorum:
        return False, f"has no quorum; connect its peers: 'drbdadm status {resource}'"
    if not _is_good(replica.disk):
        return False, f"is {quoted(replica.disk)} on this node; wait until it is UpToDate"
    if not peers or "UpToDate" not in (replica.disk, *(peer.disk for peer in peers)):
        return False, f"has no connected peer that is UpToDate; check 'drbdadm status {resource}'"
    both = replica.role == "Primary" and any(peer.role == "Primary" for peer in peers)
    nets = [peer.net for peer in peers if peer.net]
    if any(net.protocol != "C" for net in nets):
        return False, "does not replicate by protocol C, so its peer may lag behind; set protocol C"
    if not both and len(nets) != len(peers):
        return None, "may not allow two primaries; make sure that 'drbdsetup show' works"
    if not both and not any(net.two_primaries for net in nets):
        return False, "does not allow two primaries; set allow-two-primaries in its net section"
    if replica.role != "Primary" and not replica.promotes:
        return False, f"is not Primary on this node; promote it: 'drbdadm primary {resource}'"
    return True, "is replicated, and may be Primary on both nodes"


def _is_good(disk: str) -> bool:
    """Whether a copy is complete, or the node uses its peer's."""
    return disk in ("UpToDate", "Diskless")


_DEVICES: Mapping[str, Callable[[Device, StorageFacts], Location]] = {
    "disk": _lun,
    "loop": _lun,
    "lvm": _lv,
    "mpath": _multipath,
    "drbd": _drbd,
    "rbd": _rbd,
    "nbd": _nbd,
}
_LOCAL_TYPES: Mapping[str, str] = {
    "crypt": "encrypted by this node; let QEMU do it, by <encryption> on the device below",
    "raid": f"a software RAID local to this node; {MOVE_IT}",
    "dmraid": f"a software RAID local to this node; {MOVE_IT}",
    "linear": f"a software RAID local to this node; {MOVE_IT}",
    "rom": "a local drive; give the guest an image on shared storage, or eject the medium",
}
