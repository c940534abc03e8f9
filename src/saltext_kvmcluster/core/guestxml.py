"""A guest's definition, read: what matters for where its parts are and whether it can move.

Definitions are kept as they are; nothing here writes one. What libvirt takes is read, whatever
else stands in it. See libvirt's "Domain XML format".
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Source:
    """Where the bytes of one disk, or of one layer of its backing chain, lie.

    ``kind`` is libvirt's word: file, block, dir, network, volume, nvme, vhostuser, vhostvdpa, or
    empty for a drive without a medium. ``path`` is the path, for a network disk
    ``PROTOCOL:NAME``, for a volume ``POOL/VOLUME``; ``hosts`` the servers of a network disk.
    """

    kind: str = ""
    path: str = ""
    format: str = ""
    protocol: str = ""
    hosts: tuple[str, ...] = ()


@dataclass(frozen=True)
class Disk:
    """One disk of a guest. ``backing`` is its chain below ``source``, nearest first.

    ``backing`` is what the definition tells: libvirt writes the whole chain into that of a
    running guest; elsewhere it may be empty though there is one (``chain_told`` is False then).
    """

    target: str
    source: Source
    device: str = "disk"
    bus: str = ""
    cache: str = ""
    io: str = ""
    readonly: bool = False
    shareable: bool = False
    transient: bool = False
    serial: str = ""
    mirror: bool = False
    backing: tuple[Source, ...] = ()
    chain_told: bool = False


@dataclass(frozen=True)
class Interface:
    """One network card. ``kind`` is libvirt's word: network, bridge, direct, user, hostdev, …

    ``source`` is the network's, bridge's or host device's name.
    """

    kind: str
    source: str = ""
    mac: str = ""
    model: str = ""


@dataclass(frozen=True)
class File:
    """A file besides the disks that the destination needs; ``use`` says what for (kernel, …).

    ``written`` is True where the guest writes it, as its nvram.
    """

    path: str
    use: str
    written: bool = False


@dataclass(frozen=True)
class Frozen:
    """An administrator's word that the guest stays where it is."""

    reason: str
    since: str


@dataclass(frozen=True)
class Guest:
    """What a definition says of a guest.

    ``cpu`` is its ``<cpu>`` element as canonical XML, empty if it has none. ``blockers`` are
    sentences: what in it QEMU or libvirt refuses to migrate, and why.
    """

    name: str
    uuid: str
    type: str
    arch: str = ""
    machine: str = ""
    emulator: str = ""
    memory_kib: int = 0
    vcpus: int = 0
    cpu: str = ""
    disks: tuple[Disk, ...] = ()
    interfaces: tuple[Interface, ...] = ()
    files: tuple[File, ...] = ()
    blockers: tuple[str, ...] = ()
    frozen: Frozen | None = None
    lease: bool = False
    """Whether it holds a lock manager's lease."""
