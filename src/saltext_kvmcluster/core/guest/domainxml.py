"""A guest's definition, read: what matters for where its parts are and whether it can move.

Definitions are kept as they are; nothing here writes one. What libvirt takes is read, whatever
else stands in it. See libvirt's "Domain XML format".
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from xml.sax.saxutils import escape, quoteattr

from lxml import etree

from saltext_kvmcluster.core.errors import InputError
from saltext_kvmcluster.core.guest import xmldiff
from saltext_kvmcluster.core.guest.blockers import blockers, pci
from saltext_kvmcluster.core.guest.units import in_bytes
from saltext_kvmcluster.core.text import printable
from saltext_kvmcluster.core.xmltext import MAX_SIZE, parse_xml

__all__ = ["MAX_SIZE", "METADATA", "Guest", "differences", "frozen_xml", "parse"]

METADATA = "urn:saltext-kvmcluster:guest"
"""The namespace of what is ours in a definition's ``<metadata>``."""
MAX_COMPARED = 512 * 1024
MAX_DEVICES = 10_000


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
    running guest; elsewhere it may be empty though there is one.
    """

    target: str
    source: Source
    device: str = "disk"
    cache: str = ""
    readonly: bool = False
    shareable: bool = False
    backing: tuple[Source, ...] = ()

    @property
    def layers(self) -> tuple[Source, ...]:
        """What it is made of, the topmost first."""
        return (self.source, *self.backing)


@dataclass(frozen=True)
class Interface:
    """One network card. ``kind`` is libvirt's word: network, bridge, direct, user, hostdev, …

    ``source`` is the network's, bridge's or host device's name.
    """

    kind: str
    source: str = ""
    mac: str = ""


@dataclass(frozen=True)
class File:
    """A path besides the disks that the destination needs; ``use`` says what for (kernel, …).

    Of what is made when the guest starts, a console's log or socket, it is the folder.
    """

    path: str
    use: str


@dataclass(frozen=True)
class Frozen:
    """An administrator's word that the guest stays where it is."""

    reason: str
    since: str


@dataclass(frozen=True)
class Guest:
    """What a definition says of a guest. ``text`` is the definition itself.

    ``memory_kib`` is what it may grow to, ``vcpus`` what it starts with. ``cpu`` is its ``<cpu>``
    element as canonical XML, empty if it has none. ``blockers`` are sentences: what in it QEMU or
    libvirt refuses to migrate, and why.
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
    text: str | bytes = field(default="", compare=False, repr=False)


def parse(text: str | bytes) -> Guest:
    """Return what a definition says; InputError if it is none.

    text
        At most MAX_SIZE bytes; see xmltext.parse_xml. Whatever libvirt takes is read; what it
        would refuse is not always found, which is its schema's work.
    """
    root = parse_xml(text)
    if root.tag != "domain":
        tag = printable(str(root.tag)[:_WORDS])
        raise InputError(f"it is no definition of a guest: its root is <{tag}>, not <domain>")
    kind, cpu, ostype = root.get("type", ""), root.find("cpu"), root.find("os/type")
    if not kind:
        raise InputError("its <domain> has no type, as type='kvm'")
    if sum(len(devices) for devices in root.iterfind("devices")) > MAX_DEVICES:
        raise InputError(f"it has more than {MAX_DEVICES} devices")
    return Guest(
        _name(root),
        _uuid(root),
        kind,
        arch=ostype.get("arch", "") if ostype is not None else "",
        machine=ostype.get("machine", "") if ostype is not None else "",
        emulator=_text(root, "devices/emulator"),
        memory_kib=_memory(root),
        vcpus=_vcpus(root),
        cpu=canonical_cpu(cpu) if cpu is not None else "",
        disks=tuple(_disk(disk) for disk in root.iterfind("devices/disk")),
        interfaces=tuple(_interface(card) for card in root.iterfind("devices/interface")),
        files=_once(file for file in _files(root) if file.path.startswith("/")),
        blockers=blockers(root),
        frozen=_frozen(root),
        lease=root.find("devices/lease") is not None,
        text=text,
    )


def differences(one: Guest, other: Guest) -> tuple[str, ...]:
    """Return in what two definitions differ in meaning, a sentence each; see meaning.differences.

    "Here" is the first, "there" the second. Longer ones than MAX_COMPARED are not taken apart.
    """
    if one.text == other.text:
        return ()
    if max(len(one.text), len(other.text)) > MAX_COMPARED:
        return ("they are too long to be compared but by their text, which differs",)
    return xmldiff.differences(parse_xml(one.text), parse_xml(other.text), METADATA)


def canonical_cpu(cpu: etree._Element) -> str:
    """Return a ``<cpu>`` element in a text that does not depend on how it was written."""
    cpu.tail = None
    return etree.tostring(cpu, method="c14n", exclusive=True).decode()


def frozen_xml(reason: str, since: str) -> str:
    """Return the element, without a namespace, that tells in METADATA that a guest is frozen.

    ``read`` gives back both, cut to a length and without what does not print.
    """
    reason, since = printable(reason[:_SENTENCE]), printable(since[:_WORDS])
    return f"<guest><frozen since={quoteattr(since)}>{escape(reason)}</frozen></guest>"


def _frozen(root: etree._Element) -> Frozen | None:
    found = root.find(f"metadata/{{{METADATA}}}guest/{{*}}frozen")
    if found is None:
        return None
    reason = printable((found.text or "")[:_SENTENCE])
    return Frozen(reason, printable(found.get("since", "")[:_WORDS]))


def _name(root: etree._Element) -> str:
    name = root.findtext("name") or ""
    if not name.strip():
        raise InputError("it has no <name>")
    if "\n" in name or "/" in name:
        raise InputError(f"its <name> has a '/' or a line's end: {printable(name[:_WORDS])}")
    return name


def _uuid(root: etree._Element) -> str:
    """Return the UUID as libvirt writes it; libvirt's virUUIDParse takes more than one form."""
    reported = root.findtext("uuid")
    if reported is None:
        return ""
    digits = re.sub(r"[-\s]", "", reported).lower()
    if not re.fullmatch(r"[0-9a-f]{32}", digits):
        raise InputError(f"its <uuid> is none: {printable(reported[:_WORDS])}")
    return "-".join(digits[at:end] for at, end in ((0, 8), (8, 12), (12, 16), (16, 20), (20, 32)))


def _memory(root: etree._Element) -> int:
    """Return the memory in KiB, rounded up; without ``<memory>`` it is that of the NUMA cells."""
    memory = root.find("memory")
    if memory is not None:
        return _kib(memory.text or "", memory)
    cells = root.iterfind("cpu/numa/cell")
    return sum(_kib(cell.get("memory", ""), cell) for cell in cells if cell.get("memory"))


def _kib(number: str, element: etree._Element) -> int:
    size = in_bytes(number, element.get("unit", "KiB"))
    if size is None:
        reported = printable(f"{number[:_WORDS]} {element.get('unit', '')[:_WORDS]}".strip())
        raise InputError(f"its <{element.tag}> is no size: {reported or 'it is empty'}")
    return -(-size // 1024)


def _vcpus(root: etree._Element) -> int:
    vcpu = root.find("vcpu")
    if vcpu is None:
        return 1
    reported = (vcpu.get("current") or vcpu.text or "1").strip()
    if not re.fullmatch(r"[0-9]{1,9}", reported):
        raise InputError(f"its <vcpu> is no number: {printable(reported[:_WORDS])}")
    return int(reported)


def _disk(disk: etree._Element) -> Disk:
    reported, target = _attributes(disk, "driver"), _attributes(disk, "target")
    device, format = disk.get("device", "disk"), reported.get("type", "")
    return Disk(
        target.get("dev", ""),
        _source(disk, format),
        device=device,
        cache=reported.get("cache", ""),
        readonly=device == "cdrom" or disk.find("readonly") is not None,
        shareable=disk.find("shareable") is not None,
        backing=(*_data(disk), *_chain(disk)),
    )


def _chain(disk: etree._Element) -> Iterator[Source]:
    """Return the layers below a disk's image; an empty ``<backingStore/>`` ends them."""
    layer = disk.find("backingStore")
    while layer is not None:
        source = _source(layer, _attributes(layer, "format").get("type", ""))
        if not source.kind:
            return
        yield source
        yield from _data(layer)
        layer = layer.find("backingStore")


def _data(layer: etree._Element) -> Iterator[Source]:
    """Return the file that holds the data of a qcow2 image which holds none itself."""
    for store in layer.iterfind("source/dataStore"):
        yield _source(store, _attributes(store, "format").get("type", ""))


def _source(element: etree._Element, format: str) -> Source:
    """Return what a ``<disk>``, or a layer of one, lies on; empty for a drive without a medium."""
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
        path = pci(address)
    else:
        path = source.get(_PATHS.get(kind, "file"), "")
    return Source(kind, path, format) if path else Source()


def _host(host: etree._Element) -> str:
    name, port = host.get("name", ""), host.get("port", "")
    if host.get("transport") == "unix":
        return host.get("socket", "")
    return f"[{name}]:{port}" if ":" in name and port else f"{name}:{port}" if port else name


def _interface(card: etree._Element) -> Interface:
    """Read a card.

    Of one that runs, libvirt also tells the bridge or device that its network gave it. The
    destination needs the network, which gives it its own there.
    """
    kind, source = card.get("type", ""), card.find("source")
    if source is not None and source.get("network"):
        kind = "network"
    address = card.find("source/address")
    if kind == "hostdev" and address is not None:
        name = pci(address)
    else:
        name = source.get(_SOURCES.get(kind, "dev"), "") if source is not None else ""
    return Interface(kind, name, _attributes(card, "mac").get("address", "").lower())


def _files(root: etree._Element) -> Iterator[File]:
    """Return the paths, besides disks, that QEMU or libvirt opens when the guest arrives."""
    for element in root.iterfind("os/*"):
        if element.tag in ("kernel", "initrd", "dtb", "shim", "loader"):
            yield File((element.text or "").strip(), element.tag)
        elif element.tag == "nvram":
            yield File((element.text or "").strip() or _path(element), "nvram")
        elif element.tag == "acpi":
            yield from (File((table.text or "").strip(), "ACPI table") for table in element)
    for entry in root.iterfind("sysinfo/entry"):
        yield File(entry.get("file", ""), "firmware setting")
    for device in root.iterfind("devices/*"):
        notify = _FILES.get(device.tag)
        if notify:
            yield from notify(device)


def _once(files: Iterator[File]) -> tuple[File, ...]:
    """Return the first of each path: a console is its serial port, told a second time."""
    known: dict[str, File] = {}
    for file in files:
        known.setdefault(file.path, file)
    return tuple(known.values())


def _path(element: etree._Element) -> str:
    source = _attributes(element, "source")
    return source.get("file", "") or source.get("dev", "")


def _character(device: etree._Element) -> Iterator[File]:
    """A serial port, console, channel or such: what is there before, or the folder it needs.

    libvirt makes the sockets in its own folders itself, under other names at the destination.
    """
    use = str(device.tag)
    for source in device.iterfind("source"):
        path, kind = source.get("path", ""), source.get("type", device.get("type", ""))
        made = kind == "file" or (kind == "unix" and source.get("mode") in ("bind", "server"))
        if made and not path.startswith(_GENERATED):
            yield _folder(path, use)
        elif kind in ("dev", "pipe") or (kind == "unix" and not made):
            yield File(path, use)
    for log in device.iterfind("log"):
        yield _folder(log.get("file", ""), f"{use}'s log")


def _folder(path: str, use: str) -> File:
    return File(path.rpartition("/")[0] or path, f"folder of {use}")


def _card(card: etree._Element) -> Iterator[File]:
    if card.get("type") == "vhostuser":
        yield from _character(card)


def _disk_files(disk: etree._Element) -> Iterator[File]:
    for config in disk.iterfind("source/config"):
        yield File(config.get("file", ""), "Ceph configuration")


def _rng(rng: etree._Element) -> Iterator[File]:
    for backend in rng.iterfind("backend"):
        if backend.get("model") == "random":
            yield File((backend.text or "").strip(), "source of random numbers")
        yield from _character(backend)


def _tpm(tpm: etree._Element) -> Iterator[File]:
    for backend in tpm.iterfind("backend"):
        source = _attributes(backend, "source")
        if backend.get("type") in ("emulator", "external"):
            yield File(source.get("path", ""), "TPM")


def _memory_device(memory: etree._Element) -> Iterator[File]:
    yield File(_text(memory, "source/path"), "memory device")


def _input(device: etree._Element) -> Iterator[File]:
    yield File(_attributes(device, "source").get("dev", ""), "input device")


def _smartcard(card: etree._Element) -> Iterator[File]:
    yield File(_text(card, "database"), "certificates of smartcard")
    yield from _character(card)


def _graphics(graphics: etree._Element) -> Iterator[File]:
    for element in graphics.iter("gl"):
        yield File(element.get("rendernode", ""), "render node")


def _attributes(element: etree._Element, path: str) -> dict[str, str]:
    found = element.find(path)
    return {str(name): str(value) for name, value in found.items()} if found is not None else {}


def _text(element: etree._Element, path: str) -> str:
    return (element.findtext(path) or "").strip()


_WORDS = 100
_SENTENCE = 1000
_GENERATED = ("/var/lib/libvirt/qemu/", "/run/libvirt/", "/var/run/libvirt/")
_PATHS = {"block": "dev", "dir": "dir", "vhostuser": "path", "vhostvdpa": "dev"}
_SOURCES = {
    "network": "network",
    "bridge": "bridge",
    "internal": "name",
    "vhostuser": "path",
    "vds": "switchid",
}
_FILES: Mapping[str, Callable[[etree._Element], Iterator[File]]] = {
    "serial": _character,
    "parallel": _character,
    "console": _character,
    "channel": _character,
    "redirdev": _character,
    "interface": _card,
    "disk": _disk_files,
    "rng": _rng,
    "tpm": _tpm,
    "memory": _memory_device,
    "input": _input,
    "smartcard": _smartcard,
    "graphics": _graphics,
}
