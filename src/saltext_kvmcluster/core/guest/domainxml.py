"""A guest's definition, parsed: where its parts are, and whether it can move.

Definitions are kept as they are; nothing here writes one. What libvirt accepts is parsed, whatever
else is in it. See libvirt's "Domain XML format".
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from xml.sax.saxutils import escape, quoteattr

from lxml import etree

from saltext_kvmcluster.core.errors import InputError
from saltext_kvmcluster.core.guest import (
    binds,
    blockers,
    kinds,
    needed_files,
    passthrough,
    secrets,
    tuning,
    xmldiff,
)
from saltext_kvmcluster.core.guest.binds import Bind
from saltext_kvmcluster.core.guest.blocker import Blocker
from saltext_kvmcluster.core.guest.disks import Disk, parse_disk
from saltext_kvmcluster.core.guest.kinds import Kind
from saltext_kvmcluster.core.guest.libvirt_defaults import GENERATED
from saltext_kvmcluster.core.guest.needed_files import File
from saltext_kvmcluster.core.guest.secrets import Secret
from saltext_kvmcluster.core.guest.tuning import Tuning
from saltext_kvmcluster.core.guest.units import in_bytes
from saltext_kvmcluster.core.guest.xmlparts import attributes, pci_address, text_at
from saltext_kvmcluster.core.text import printable
from saltext_kvmcluster.core.xmltext import parse_xml

METADATA = "urn:saltext-kvmcluster:guest"
"""The namespace of our element in a definition's ``<metadata>``."""

_UNLOCKED = re.compile(r"""locking["']?\s*[=:]\s*["']?off""")
MAX_COMPARED = 512 * 1024
MAX_DEVICES = 10_000
_WORDS = 100
_SENTENCE = 1000
_CREATED = ("network", "bridge", "direct")
_SOURCES = {
    "network": "network",
    "bridge": "bridge",
    "internal": "name",
    "vhostuser": "path",
    "vds": "switchid",
}


@dataclass(frozen=True)
class Interface:
    """One network card. ``kind`` is libvirt's word: network, bridge, direct, user, hostdev, …

    ``source`` is the network's, bridge's or host device's name, ``filter`` that of its network
    filter.
    """

    kind: str
    source: str = ""
    mac: str = ""
    filter: str = ""
    device: str = ""
    """The name of the tap or macvtap that libvirt is to create, empty if it chooses one."""


@dataclass(frozen=True)
class Lease:
    """A lease of a lock manager, for the whole guest; ``target`` is a path on shared storage."""

    lockspace: str
    key: str
    target: str


@dataclass(frozen=True)
class Frozen:
    """An administrator's order that the guest stays where it is."""

    reason: str
    since: str


@dataclass(frozen=True)
class Guest:
    """A guest's parsed definition. ``text`` is the definition itself.

    ``memory_kib`` is its maximum memory, ``vcpus`` the number that it starts with. ``cpu`` is
    its ``<cpu>`` element as canonical XML, empty if it has none. ``blockers`` is what QEMU or
    libvirt refuses to migrate, and why. ``passthrough`` are sentences: what it hands QEMU past
    libvirt.
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
    blockers: tuple[Blocker, ...] = ()
    passthrough: tuple[str, ...] = ()
    tsc: int = 0
    """The frequency of its time stamp counter in Hz, 0 if its definition sets none."""
    frozen: Frozen | None = None
    leases: tuple[Lease, ...] = ()
    secrets: tuple[Secret, ...] = ()
    binds: tuple[Bind, ...] = ()
    tuning: Tuning = field(default_factory=Tuning)
    kinds: frozenset[Kind] = frozenset()
    """The kinds of its devices that a QEMU may lack."""
    networks: tuple[str, ...] = ()
    """The networks whose addresses its screens listen on."""
    unlocked: bool = False
    """Whether it hands QEMU an argument that switches image locks off."""
    text: str | bytes = field(default="", compare=False, repr=False)

    @property
    def asks(self) -> bool:
        """Whether only its running QEMU knows if it can be migrated."""
        return any(blocker.asks for blocker in self.blockers)


def parse(text: str | bytes) -> Guest:
    """Return a parsed definition; InputError if it is invalid.

    text
        At most MAX_SIZE bytes; see xmltext.parse_xml. Everything that libvirt accepts is parsed;
        not everything that it refuses is found, which is left to its schema.
    """
    root = parse_xml(text)
    if root.tag != "domain":
        tag = printable(str(root.tag)[:_WORDS])
        raise InputError(f"not a guest's definition: the root element is <{tag}>, not <domain>")
    kind, cpu, ostype = root.get("type", ""), root.find("cpu"), root.find("os/type")
    if not kind:
        raise InputError("its <domain> has no type, such as type='kvm'")
    if sum(len(devices) for devices in root.iterfind("devices")) > MAX_DEVICES:
        raise InputError(f"it has more than {MAX_DEVICES} devices")
    return Guest(
        _name(root),
        _uuid(root),
        kind,
        arch=ostype.get("arch", "") if ostype is not None else "",
        machine=ostype.get("machine", "") if ostype is not None else "",
        emulator=text_at(root, "devices/emulator"),
        memory_kib=_memory(root),
        vcpus=_vcpus(root),
        cpu=canonical_cpu(cpu) if cpu is not None else "",
        disks=tuple(parse_disk(disk) for disk in root.iterfind("devices/disk")),
        interfaces=tuple(_interface(card) for card in root.iterfind("devices/interface")),
        files=needed_files.find(root),
        blockers=blockers.find(root),
        passthrough=passthrough.find(root),
        tsc=_tsc(root),
        frozen=_frozen(root),
        leases=tuple(map(_lease, root.iterfind("devices/lease"))),
        secrets=secrets.find(root),
        binds=binds.find(root),
        tuning=tuning.find(root, _memory(root)),
        kinds=kinds.find(root),
        networks=binds.networks(root),
        unlocked=any(map(_UNLOCKED.search, passthrough.arguments(root))),
        text=text,
    )


def differences(one: Guest, other: Guest) -> tuple[str, ...]:
    """Return how two definitions differ in meaning, a sentence each; see xmldiff.differences.

    "Here" is the first, "there" the second. Definitions over MAX_COMPARED are not analysed.
    """
    if one.text == other.text:
        return ()
    if max(len(one.text), len(other.text)) > MAX_COMPARED:
        return ("their texts differ, and are too long for a comparison by meaning",)
    return xmldiff.differences(parse_xml(one.text), parse_xml(other.text), METADATA)


def canonical_cpu(cpu: etree._Element) -> str:
    """Return a ``<cpu>`` element as canonical XML."""
    cpu.tail = None
    return etree.tostring(cpu, method="c14n", exclusive=True).decode()


def frozen_xml(reason: str, since: str) -> str:
    """Return the element, without its namespace METADATA, that marks a guest as frozen.

    ``parse`` returns both, limited in length and printable.
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
        raise InputError(f"its <name> contains a '/' or a newline: {printable(name[:_WORDS])}")
    return name


def _uuid(root: etree._Element) -> str:
    """Return the UUID as libvirt writes it; libvirt's virUUIDParse accepts several forms."""
    reported = root.findtext("uuid")
    if reported is None:
        return ""
    digits = re.sub(r"[-\s]", "", reported).lower()
    if not re.fullmatch(r"[0-9a-f]{32}", digits):
        raise InputError(f"its <uuid> is invalid: {printable(reported[:_WORDS])}")
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
        raise InputError(f"its <{element.tag}> is not a size: {reported or 'it is empty'}")
    return -(-size // 1024)


def _vcpus(root: etree._Element) -> int:
    vcpu = root.find("vcpu")
    if vcpu is None:
        return 1
    reported = (vcpu.get("current") or vcpu.text or "1").strip()
    if not re.fullmatch(r"[0-9]{1,9}", reported):
        raise InputError(f"its <vcpu> is not a number: {printable(reported[:_WORDS])}")
    return int(reported)


def _tsc(root: etree._Element) -> int:
    for timer in root.iterfind("clock/timer"):
        frequency = timer.get("frequency", "")
        if timer.get("name") == "tsc" and re.fullmatch(r"[0-9]{1,15}", frequency):
            return int(frequency)
    return 0


def _lease(lease: etree._Element) -> Lease:
    target = attributes(lease, "target").get("path", "")
    return Lease(text_at(lease, "lockspace"), text_at(lease, "key"), target)


def _interface(card: etree._Element) -> Interface:
    """Return a network card.

    For a running guest, libvirt adds the bridge or device that the network assigned. The
    destination needs the network, which assigns its own there.
    """
    kind, source = card.get("type", ""), card.find("source")
    if source is not None and source.get("network"):
        kind = "network"
    address = card.find("source/address")
    if kind == "hostdev" and address is not None:
        name = pci_address(address)
    elif kind == "ethernet":
        # A device that libvirt does not create has to exist (qemuInterfaceEthernetConnect).
        target = attributes(card, "target")
        name = target.get("dev", "") if target.get("managed") == "no" else ""
    else:
        name = source.get(_SOURCES.get(kind, "dev"), "") if source is not None else ""
    mac, filtered = attributes(card, "mac"), attributes(card, "filterref")
    device = attributes(card, "target").get("dev", "") if kind in _CREATED else ""
    return Interface(
        kind,
        name,
        mac.get("address", "").lower(),
        filtered.get("filter", ""),
        "" if device.startswith(GENERATED) else device,
    )
