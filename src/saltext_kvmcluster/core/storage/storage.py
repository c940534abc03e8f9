"""On what kind of storage a disk lies, fit for live migration or not, and which one it is.

The list is that of the cluster project's page on migrating KVM guests, and what has come since:
GFS and GFS2, NFS, clustered logical volumes, shared LUNs and their partitions, DRBD with two
primaries; OCFS2, CephFS and RBD, GlusterFS, disks from iSCSI and NBD servers. The page goes on:
"If it is not in the above list, DO NOT USE IT". What is not known to be shared is refused.
"""

from __future__ import annotations

import ipaddress
import posixpath
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from saltext_kvmcluster.core.findings import Issue, unknown
from saltext_kvmcluster.core.guest.domainxml import Disk, Source
from saltext_kvmcluster.core.storage.drbd import Peer, Replica
from saltext_kvmcluster.core.storage.inventory import (
    COMMANDS,
    MAX_PATH,
    Device,
    Mount,
    StorageFacts,
    Volume,
    parse,
)
from saltext_kvmcluster.core.text import printable

__all__ = ["COMMANDS", "Place", "StorageFacts", "cache_trouble", "parse", "place", "same"]

QEMU_DROPS_CACHE = 4_000_000
"""The QEMU that first drops what its host has cached of an image when a guest arrives: 4.0."""

_SHARED_FILE_SYSTEMS = {
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
_OWN_FILE_SYSTEMS = frozenset(
    {
        *("ext2", "ext3", "ext4", "xfs", "btrfs", "zfs", "bcachefs", "f2fs", "jfs", "reiserfs"),
        *("vfat", "exfat", "ntfs", "ntfs3", "iso9660", "squashfs", "erofs", "overlay"),
        *("tmpfs", "ramfs", "rootfs", "devtmpfs", "hugetlbfs"),
    }
)
_ON_DEVICES = ("gfs2", "ocfs2")
_COHERENT = ("gfs", "gfs2", "ocfs2", "cephfs")
"""File systems whose page cache is the same on all nodes (virFileIsClusterFS, and GFS)."""

_SHARED_PROTOCOLS = {
    "rbd": "rbd",
    "iscsi": "iscsi",
    "nbd": "nbd",
    "nfs": "nfs",
    "gluster": "glusterfs",
}
_READ_ONLY_PROTOCOLS = ("http", "https", "ftp", "ftps", "tftp")
_OWN_TRANSPORTS = ("ata", "sata", "usb", "nvme", "mmc", "sbp", "virtio", "pcie")
_NETWORK_TRANSPORTS = ("fc", "fcoe", "iscsi", "srp")
_OWN_NAME = re.compile(r"(.*\.)?(localhost([46]?(\.localdomain[46]?)?)|ip6-localhost|ip6-loopback)")
_LAYERS = 4
_REFUSED = (
    'it is not on the list of shared storage: "If it is not in the above list, DO NOT USE IT"'
)
_MOVE = "move it to a shared file system (GFS2, OCFS2, NFS, CephFS, GlusterFS) or a shared device"


@dataclass(frozen=True)
class Place:
    """Where a disk lies, as one node sees it.

    ``kind`` names it (gfs2, nfs, lv, lun, drbd, rbd, ext4, …). ``fit`` is True, False, or None
    where it is not known; ``why`` is the sentence. ``identity`` is equal on two nodes only if
    both see the same storage, empty where nothing proves it. ``folder`` is the mount point that
    a token proves, empty for what is not in a file system. ``ends`` are the connections of a
    DRBD volume that are up, None for what is none: its name alone may mean another volume on
    another pair of nodes. ``peers`` are the host names of a DRBD volume's peers, where it tells.
    """

    kind: str
    fit: bool | None
    why: str
    identity: str = ""
    folder: str = ""
    ends: frozenset[tuple[str, str]] | None = None
    peers: frozenset[str] = frozenset()


def place(source: Source, facts: StorageFacts) -> Place:
    """Return where a disk, or a layer of its backing chain, lies on the node of the facts."""
    if not source.kind or not source.path:
        return Place("none", True, "the drive is empty")
    if len(source.path) > MAX_PATH:
        return _not_known(_shown(source.kind), source.path, "its path is longer than any can be")
    judge = _KINDS.get(source.kind)
    if judge is None:
        return Place(
            _shown(source.kind),
            False,
            f"{_shown(source.path)} is a {_shown(source.kind)}: {_REFUSED}",
        )
    return judge(source, facts)


def is_told_by_mounts(source: Source, facts: StorageFacts) -> bool:
    """Whether what is mounted is enough to know where a disk lies: no device has a part in it."""
    judge = _KINDS.get(source.kind)
    if judge is not _file:
        return judge is not _block
    mount = _mount_of(facts.real(source.path), facts)
    kind = _SHARED_FILE_SYSTEMS.get(mount.kind) if mount else None
    return kind is not None and kind not in _ON_DEVICES


def same(here: Place, there: Place) -> Issue | None:
    """Return why two nodes are not known to see the same storage, None if they are.

    Of file systems only a contradiction is found: a freshly written token proves them.
    """
    if here.kind == there.kind == "none":
        return None
    if here.kind != there.kind:
        return Issue(
            f"it is {here.kind} on one node and {there.kind} on the other",
            "present the same storage to both, under the same path",
        )
    if here.identity and there.identity and here.identity != there.identity:
        return Issue(
            f"one node sees {_shown(here.identity)}, the other {_shown(there.identity)}",
            "present the same storage to both; the names of devices may differ from node to node:"
            " use one from /dev/disk/by-id",
        )
    if here.folder and there.folder:
        return None
    if not here.identity or not there.identity:
        return unknown(
            f"nothing proves that this {here.kind} is the same one on both nodes",
            _PROOFS.get(here.kind, "use storage that tells the same identity on every node"),
        )
    return _connected(here, there)


def cache_trouble(disk: Disk, place: Place, qemu: int = 0) -> Issue | None:
    """Return why a disk's cache mode is not safe for migration on the storage it lies on, or None.

    qemu
        QEMU's version on both nodes, the lower one, as libvirt numbers it; 0 if not known.

    The rule is libvirt's own, ``qemuMigrationSrcIsSafe`` in qemu_migration.c, which refuses such
    a migration without VIR_MIGRATE_UNSAFE: a disk is safe that is empty, read-only, on a network
    disk, on a coherent cluster file system, has cache none or directsync (as a shareable one has
    by itself), or whose QEMU drops its cache. libvirt does not look whether a block device is
    shared at all; ``place`` does. Stricter than libvirt in one thing: with cache=unsafe QEMU
    passes no flush on, so what the guest wrote may be in the source's memory alone.
    """
    if place.kind == "none" or disk.readonly or place.kind in _COHERENT:
        return None
    if disk.cache in ("none", "directsync") or (disk.shareable and disk.cache in ("", "default")):
        return None
    if disk.cache != "unsafe" and (disk.source.kind == "network" or qemu >= QEMU_DROPS_CACHE):
        return None
    mode = f"{_shown(disk.target)} has cache mode {_shown(disk.cache) or 'default'}"
    if disk.cache != "unsafe" and not qemu:
        return unknown(
            f"not known: {mode}, and whether QEMU drops its cache depends on its version",
            "see that 'qemu-system-x86_64 --version' tells it on both nodes; or set <driver"
            " cache='none'> in its definition and start the guest anew",
        )
    return Issue(
        f"{mode}, which may leave what the guest wrote, or an old state of it, in one host's"
        f" memory on {place.kind}",
        "set <driver cache='none'> in its definition and start the guest anew",
    )


def _file(source: Source, facts: StorageFacts) -> Place:
    real = facts.real(source.path)
    mount = _mount_of(real, facts)
    if real in facts.device_at or (mount and mount.kind == "devtmpfs"):
        return _block(source, facts)
    if not source.path.startswith("/") or mount is None:
        why = facts.detail.get("mounts", "no mount of it was seen")
        return _not_known("file", source.path, why)
    return _on(mount, source.path, facts)


def _mount_of(path: str, facts: StorageFacts) -> Mount | None:
    while path not in facts.mount_at and path != "/":
        path = posixpath.dirname(path)
    return facts.mount_at.get(path)


def _on(mount: Mount, path: str, facts: StorageFacts) -> Place:
    where = f"{_shown(path)} lies on {_shown(mount.folder)} ({_shown(mount.kind)})"
    kind = _SHARED_FILE_SYSTEMS.get(mount.kind)
    if mount.kind == "autofs":
        why = f"{where}, which its automounter has not mounted yet; enter the folder once"
        return Place("autofs", None, why, folder=mount.folder)
    if kind is None:
        own = mount.kind in _OWN_FILE_SYSTEMS
        why = f"which this host has for itself; {_MOVE}" if own else f"{_REFUSED}; {_MOVE}"
        return Place(_shown(mount.kind), False, f"{where}, {why}", folder=mount.folder)
    if _is_mounted_alone(mount):
        why = f"{where}, which is mounted for this host alone; mount it with the cluster's locks"
        return Place(kind, False, why, folder=mount.folder)
    device = facts.device_numbered.get(mount.number)
    known = kind in _ON_DEVICES and device and device.uuid
    identity = f"{kind} {device.uuid}" if device and known else ""
    return Place(kind, True, where, identity, mount.folder)


def _is_mounted_alone(mount: Mount) -> bool:
    """Whether a cluster file system was mounted without its locks: see gfs2(5), mount.ocfs2(8).

    An OCFS2 under a cluster stack of user space has no heartbeat of its own either.
    """
    if mount.kind == "ocfs2":
        stack = any(option.startswith("cluster_stack=") for option in mount.options)
        return "heartbeat=none" in mount.options and not stack
    return "lockproto=lock_nolock" in mount.options


def _block(source: Source, facts: StorageFacts) -> Place:
    path = source.path
    volume = facts.volume_at.get(path)
    device = facts.device_at.get(facts.real(path)) or facts.device_at.get(path)
    if device is None and volume is not None:
        return _volume(volume)
    if facts.devices is None:
        return _not_known("device", path, facts.detail.get("devices", "it was not asked"))
    if device is None:
        why = (
            f"this host has no block device {_shown(path)}; present it to this host, or activate it"
        )
        return Place("nothing", False, why)
    return _device(device, facts)


def _device(device: Device, facts: StorageFacts, above: int = 0) -> Place:
    """Return what a device is; ``above`` says how many partitions were found to be made of it."""
    name = re.fullmatch(r"/dev/(drbd|rbd|nbd)\d{1,7}", device.path, re.A)
    judge = _DEVICES.get(name[1] if name else device.type)
    if device.type == "part" and len(device.parents) == 1:
        below = facts.device_at.get(device.parents[0])
        if below and above < _LAYERS:
            return _partition(device, _device(below, facts, above + 1))
    if judge is None:
        kind = _shown(device.type) or "device"
        reason = _OWN_TYPES.get(kind.rstrip("0123456789"), _REFUSED)
        return Place(kind, False, f"{_name(device)} is a device of type {kind}: {reason}")
    return judge(device, facts)


def _partition(device: Device, below: Place) -> Place:
    if not below.fit:
        return replace(below, why=f"{_name(device)} is a partition: {below.why}")
    known = below.identity and device.partition
    return replace(
        below,
        kind="partition",
        why=f"{_name(device)} is a partition: {below.why}",
        identity=f"{below.identity} partition {device.partition}" if known else "",
    )


def _lv(device: Device, facts: StorageFacts) -> Place:
    names = (device.name, *facts.names_of.get(device.path, ()))
    volume = next((facts.volume_at[name] for name in names if name in facts.volume_at), None)
    if volume is None:
        return _not_known("lv", device.name, facts.detail.get("volumes", "lvs does not list it"))
    return _volume(volume)


def _volume(volume: Volume) -> Place:
    name, group = _shown(volume.path), _shown(volume.group)
    if not volume.shared:
        why = (
            f"{name} is in the volume group {group}, which is neither clustered nor under"
            " lvmlockd: even on shared disks, nodes would change it unseen by each other; make it"
            f" a shared one, with 'vgchange --lock-type dlm {group}' or sanlock"
        )
        return Place("lv", False, why)
    if not volume.active:
        why = (
            f"{name} is not active on this host; activate it on every node: 'lvchange -asy {name}'"
        )
        return Place("lv", False, why)
    why = f"{name} is in the shared volume group {group}"
    return Place("lv", True, why, f"LV {volume.uuid}" if volume.uuid else "")


def _lun(device: Device, _: StorageFacts) -> Place:
    name = _name(device)
    if device.transport in _OWN_TRANSPORTS:
        why = (
            f"{name} is a disk of this host ({device.transport}), which no other node sees; {_MOVE}"
        )
        return Place("disk", False, why)
    if device.wwn:
        return Place("lun", True, f"{name} is the LUN {_shown(device.wwn)}", f"WWN {device.wwn}")
    if device.transport in _NETWORK_TRANSPORTS:
        return Place("lun", True, f"{name} is a LUN without a WWN ({device.transport})")
    if device.type == "loop":
        why = f"{name} is a loop device: the file behind it is this host's own; {_MOVE}"
        return Place("loop", False, why)
    why = f"{name} has no WWN, so nothing tells it from a disk of this host alone; {_MOVE}"
    return Place("disk", False, why)


def _multipath(device: Device, facts: StorageFacts) -> Place:
    name, known = _name(device), facts.map_at.get(device.path)
    if known and known.paths and not known.working:
        why = f"no path of the multipath map {name} works; see 'multipath -ll' and mend one"
        return Place("lun", False, why)
    paths = [facts.device_at[path] for path in device.parents if path in facts.device_at]
    wwns = {known.wwn} if known and known.wwn else {path.wwn or device.wwn for path in paths}
    if len(wwns) != 1 or not all(wwns):
        why = f"which LUN the multipath map {name} leads to is not known; see 'multipath -ll'"
        return Place("lun", None, why)
    wwn = wwns.pop()
    return Place("lun", True, f"{name} is the LUN {_shown(wwn)}, by multipath", f"WWN {wwn}")


def _rbd(device: Device, facts: StorageFacts) -> Place:
    """A mapped RBD image; Ceph's udev rules link /dev/rbd/POOL/IMAGE to it."""
    links = facts.names_of.get(device.path, ())
    names = [name.removeprefix("/dev/rbd/") for name in links if name.startswith("/dev/rbd/")]
    names = [name for name in names if not name.startswith("by-id/")]
    image = f"RBD {names[0]}" if len(names) == 1 else ""
    return Place("rbd", True, f"{_name(device)} is the image {_shown(image)}", image)


def _nbd(device: Device, _: StorageFacts) -> Place:
    why = (
        f"which server {_name(device)} is connected to is not known; let QEMU connect to it, with"
        " <source protocol='nbd'> in the definition"
    )
    return Place("nbd", None, why)


def _drbd(device: Device, facts: StorageFacts) -> Place:
    minor = int(device.path.removeprefix("/dev/drbd"))
    replica = facts.replica_numbered.get(minor)
    if replica is None:
        return _not_known(
            "drbd", device.path, facts.detail.get("replicas", "drbdsetup lists it not")
        )
    name = f"DRBD {replica.resource}/{replica.volume}" if replica.resource else ""
    shown = f"{_name(device)} ({_shown(name) or f'DRBD minor {minor}'})"
    peers = [peer for peer in replica.peers if peer.connected and _is_good(peer.disk)]
    fit, why = _replicated(replica, peers)
    ends = frozenset(end for peer in peers if peer.net for end in peer.net.ends)
    names = frozenset(peer.name for peer in peers if peer.name)
    return Place("drbd", fit, f"{shown} {why}", name, ends=ends, peers=names)


def _replicated(replica: Replica, peers: list[Peer]) -> tuple[bool | None, str]:
    resource = _shown(replica.resource) or "RESOURCE"
    if not _is_good(replica.disk):
        return False, f"is {_shown(replica.disk)} on this host; wait until it is UpToDate"
    if not peers or "UpToDate" not in (replica.disk, *(peer.disk for peer in peers)):
        return False, f"has no connected peer that is UpToDate; see 'drbdadm status {resource}'"
    both = replica.role == "Primary" and any(peer.role == "Primary" for peer in peers)
    nets = [peer.net for peer in peers if peer.net]
    if any(net.protocol != "C" for net in nets):
        return False, "does not replicate by protocol C: the other copy may lag behind; set it"
    if not both and len(nets) != len(peers):
        return None, "may allow two primaries, or not: 'drbdsetup show' did not tell"
    if not both and not any(net.two_primaries for net in nets):
        return False, "does not allow two primaries; set allow-two-primaries in its net section"
    if replica.role != "Primary" and not replica.promotes:
        return False, f"is not Primary on this host; make it so: 'drbdadm primary {resource}'"
    return True, "is replicated, and may be Primary on both nodes"


def _is_good(disk: str) -> bool:
    """Whether a copy is whole, or the node reads and writes its peer's."""
    return disk in ("UpToDate", "Diskless")


def _network(source: Source, _: StorageFacts) -> Place:
    name = source.path.removeprefix(f"{source.protocol}:")
    shown = f"{_shown(name)} ({_shown(source.protocol)})"
    at = " ".join(sorted(source.hosts))
    own = [host for host in source.hosts if _is_own(host)]
    if source.protocol in _READ_ONLY_PROTOCOLS and not own:
        why = f"{shown} comes from a server and is read only"
        return Place(source.protocol, True, why, f"{source.path} at {at}")
    kind = _SHARED_PROTOCOLS.get(source.protocol, "")
    if not kind:
        return Place(_shown(source.protocol), False, f"{shown}: {_REFUSED}; {_MOVE}")
    if own or (not source.hosts and kind != "rbd"):
        server = _shown(own[0]) if own else "no server"
        why = f"{shown} names {server}, which every node takes for itself; name its server by an"
        return Place(kind, False, f"{why} address that every node reaches")
    if not source.hosts:
        why = f"{shown} lies on the monitors of each node's own Ceph configuration"
        return Place(kind, True, why)
    return Place(kind, True, f"{shown} lies on {_shown(at)}", f"{source.path} at {at}")


def _is_own(host: str) -> bool:
    """Whether a server's name means this host itself: a loopback address or a local socket."""
    name = re.sub(r"\A\[([^\]]*)\](:\d*)?\Z|\A([^:]*):\d*\Z", r"\1\3", host).lower().rstrip(".")
    if name.startswith(("/", "unix")) or _OWN_NAME.fullmatch(name):
        return True
    try:
        address = ipaddress.ip_address(name)
    except ValueError:
        # A C library takes 127.1, 2130706433 and 0x7f.1 for addresses, too.
        return not name or bool(re.fullmatch(r"(0x[0-9a-f]+|\d+)(\.(0x[0-9a-f]+|\d+))*", name))
    address = getattr(address, "ipv4_mapped", None) or address
    return address.is_loopback or address.is_unspecified


def _pool(source: Source, _: StorageFacts) -> Place:
    why = (
        "it is a volume of a storage pool, and only libvirt knows where; name the disk by its"
        " path or device in the definition"
    )
    return _not_known("volume", source.path, why)


def _own(source: Source, _: StorageFacts) -> Place:
    kind = _shown(source.kind)
    return Place(
        kind, False, f"{_shown(source.path)} is a {kind} device of this host alone; {_MOVE}"
    )


def _connected(here: Place, there: Place) -> Issue | None:
    if here.ends is None or there.ends is None:
        return None
    if any((other, own) in there.ends for own, other in here.ends):
        return None
    if here.ends and there.ends:
        return Issue(
            f"both nodes have {_shown(here.identity)}, but not connected with each other",
            "see 'drbdadm status' on both; give different resources different names",
        )
    return unknown(
        f"nothing tells which node {_shown(here.identity)} is connected with",
        "see that 'drbdsetup show' works on both nodes",
    )


def _not_known(kind: str, path: str, why: str) -> Place:
    return Place(kind, None, f"where {_shown(path)} lies is not known: {_shown(why)}")


def _name(device: Device) -> str:
    return _shown(device.name or device.path)


def _shown(text: str) -> str:
    return printable(text[:200])


_KINDS: Mapping[str, Callable[[Source, StorageFacts], Place]] = {
    "file": _file,
    "dir": _file,
    "block": _block,
    "network": _network,
    "volume": _pool,
    "nvme": _own,
    "vhostuser": _own,
    "vhostvdpa": _own,
}
_DEVICES: Mapping[str, Callable[[Device, StorageFacts], Place]] = {
    "disk": _lun,
    "loop": _lun,
    "lvm": _lv,
    "mpath": _multipath,
    "drbd": _drbd,
    "rbd": _rbd,
    "nbd": _nbd,
}
_OWN_TYPES: Mapping[str, str] = {
    "crypt": "this host encrypts it; let QEMU do so, by <encryption> on the device beneath",
    "raid": f"a software RAID, which this host puts together for itself; {_MOVE}",
    "dmraid": f"a software RAID, which this host puts together for itself; {_MOVE}",
    "linear": f"a software RAID, which this host puts together for itself; {_MOVE}",
    "rom": "a drive of this host; give the guest an image on shared storage, or eject it",
}
_PROOFS: Mapping[str, str] = {
    "lun": "give the LUN a WWN on its target; see 'lsblk -o NAME,WWN'",
    "partition": "give the LUN a WWN and a partition table with UUIDs; see 'lsblk -o +PARTUUID'",
    "rbd": "name the monitors in the definition, or map the image with Ceph's udev rules in place",
    "drbd": "see that 'drbdsetup show' works on both nodes",
}
