"""On what kind of storage a disk lies, fit for live migration or not, and which one it is.

Decided from facts that a node tells: its mounts, block devices, logical volumes, DRBD resources
and multipath maps. What is not known to be shared is refused.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Mount:
    """One mounted file system. ``device`` is what was mounted, ``number`` its MAJOR:MINOR."""

    folder: str
    kind: str
    device: str
    number: str
    options: tuple[str, ...] = ()


@dataclass(frozen=True)
class Device:
    """One block device as lsblk and udev know it; what is not known is empty."""

    path: str
    type: str
    number: str = ""
    wwn: str = ""
    serial: str = ""
    transport: str = ""
    uuid: str = ""
    partition: str = ""
    size: int = 0
    parents: tuple[str, ...] = ()
    names: tuple[str, ...] = ()


@dataclass(frozen=True)
class Volume:
    """One logical volume. ``shared``: its group is clustered or under lvmlockd."""

    path: str
    uuid: str
    group: str
    shared: bool
    active: bool


@dataclass(frozen=True)
class Replica:
    """One DRBD volume on this node."""

    resource: str
    volume: int
    minor: int
    role: str
    disk: str
    peers: Mapping[str, str] = field(default_factory=dict)
    """Each peer's role."""
    dual_primary: bool = False
    protocol: str = ""


@dataclass(frozen=True)
class StorageFacts:
    """All that a node tells of its storage; None where a tool is there and could not be asked."""

    mounts: tuple[Mount, ...] | None = ()
    devices: tuple[Device, ...] | None = ()
    volumes: tuple[Volume, ...] | None = ()
    replicas: tuple[Replica, ...] | None = ()
    links: Mapping[str, str] = field(default_factory=dict)
    """Where symbolic links lead, of the paths that were asked about."""
    said: str = ""


@dataclass(frozen=True)
class Place:
    """Where a disk lies, as one node sees it.

    ``kind`` names it (gfs2, nfs, lv, lun, drbd, rbd, ext4, …). ``fit`` is True, False, or None
    where it is not known; ``why`` is the sentence. ``identity`` is equal on two nodes only if
    both see the same storage, empty where nothing proves it. ``folder`` is the mount point that
    a token proves, empty for what is not in a file system.
    """

    kind: str
    fit: bool | None
    why: str
    identity: str = ""
    folder: str = ""
