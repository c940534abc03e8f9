"""The disks of a guest, and the layers of their backing chains, from its definition."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from lxml import etree

from saltext_kvmcluster.core.guest.xmlparts import attributes, pci_address


@dataclass(frozen=True)
class Source:
    """The source of one disk, or of one layer of its backing chain.

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

    ``backing`` is as complete as the definition: libvirt writes the whole chain into that of a
    running guest; elsewhere it may be missing. ``dispensable``: where its medium is missing,
    libvirt leaves the drive empty when the guest arrives (startupPolicy optional or requisite).
    """

    target: str
    source: Source
    device: str = "disk"
    cache: str = ""
    readonly: bool = False
    shareable: bool = False
    backing: tuple[Source, ...] = ()
    dispensable: bool = False

    @property
    def layers(self) -> tuple[Source, ...]:
        """Its layers, the topmost first."""
        return (self.source, *self.backing)


_PATHS = {"block": "dev", "dir": "dir", "vhostuser": "path", "vhostvdpa": "dev"}


def parse_disk(disk: etree._Element) -> Disk:
    reported, target = attributes(disk, "driver"), attributes(disk, "target")
    device, format = disk.get("device", "disk"), reported.get("type", "")
    return Disk(
        target.get("dev", ""),
        _source(disk, format),
        device=device,
        cache=reported.get("cache", ""),
        readonly=device == "cdrom" or disk.find("readonly") is not None,
        shareable=disk.find("shareable") is not None,
        backing=(*_data(disk), *_chain(disk)),
        dispensable=device in ("cdrom", "floppy")
        and attributes(disk, "source").get("startupPolicy") in ("optional", "requisite"),
    )


def _chain(disk: etree._Element) -> Iterator[Source]:
    """Return the layers below a disk's image; an empty ``<backingStore/>`` ends them."""
    layer = disk.find("backingStore")
    while layer is not None:
        source = _source(layer, attributes(layer, "format").get("type", ""))
        if not source.kind:
            return
        yield source
        yield from _data(layer)
        layer = layer.find("backingStore")


def _data(layer: etree._Element) -> Iterator[Source]:
    """Return the external data file of a qcow2 image."""
    for store in layer.iterfind("source/dataStore"):
        yield _source(store, attributes(store, "format").get("type", ""))


def _source(element: etree._Element, format: str) -> Source:
    """Return the source of a ``<disk>``, or of one of its layers; empty for an empty drive."""
    source = element.find("source")
    kind = element.get("type", "file")
    if source is None:
        return Source()
    if kind == "network":
        protocol = source.get("protocol", "")
        path = f"{protocol}:{source.get('name', '')}"
        return Source(kind, path, format, protocol, tuple(map(_host, source.iterfind("host"))))
    if kind == "volume" and source.get("volume"):
        path = f"{source.get('pool', '')}/{source.get('volume')}"
    elif kind == "nvme" and (address := source.find("address")) is not None:
        path = pci_address(address)
    else:
        path = source.get(_PATHS.get(kind, "file"), "")
    return Source(kind, path, format) if path else Source()


def _host(host: etree._Element) -> str:
    name, port = host.get("name", ""), host.get("port", "")
    if host.get("transport") == "unix":
        return host.get("socket", "")
    return f"[{name}]:{port}" if ":" in name and port else f"{name}:{port}" if port else name
