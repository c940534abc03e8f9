"""What a guest's definition wants of its host's CPUs, NUMA nodes and hugepages."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from lxml import etree

from saltext_kvmcluster.core.guest.units import in_bytes
from saltext_kvmcluster.core.guest.xmlparts import text_at

MOST = 16384
"""The most CPUs or NUMA nodes that a list may name: libvirt's VIR_DOMAIN_CPUMASK_LEN."""

ORDINARY = 4
"""The size of an ordinary page in KiB: naming it asks for no hugepages."""

_PART = re.compile(r"(\^?)(\d{1,5})(?:-(\d{1,5}))?", re.A)


@dataclass(frozen=True)
class Pin:
    """The host's CPUs on which a part of a guest has to run; ``use`` names the part."""

    use: str
    cpus: frozenset[int]


@dataclass(frozen=True)
class Tuning:
    """What a guest wants of its host.

    ``nodes`` are the host's NUMA nodes for its memory. ``hugepages`` is its memory in KiB by the
    size of the pages in KiB, 0 for the host's default size; ``mounted`` says whether that needs a
    mounted hugetlbfs. ``models`` are the security drivers of its labels, ``cid`` its fixed vsock
    address, 0 if it has none.
    """

    pins: tuple[Pin, ...] = ()
    nodes: frozenset[int] = frozenset()
    hugepages: tuple[tuple[int, int], ...] = ()
    mounted: bool = True
    models: frozenset[str] = frozenset()
    cid: int = 0


def find(root: etree._Element, memory_kib: int) -> Tuning:
    """Return what a definition wants of the host; an invalid list of CPUs or nodes wants nothing.

    memory_kib
        All memory of the guest.
    """
    return Tuning(
        pins=tuple(_pins(root)),
        nodes=_memory_nodes(root),
        hugepages=tuple(sorted(_hugepages(root, memory_kib).items())),
        mounted=_attribute(root, "memoryBacking/source", "type") != "memfd",
        models=frozenset(
            label.get("model", "")
            for label in root.iter("seclabel")
            if label.get("model", "none") != "none"
        ),
        cid=_cid(root),
    )


def numbers(text: str) -> frozenset[int]:
    """Return the numbers of a list like ``0-3,^2,8``, as libvirt and the kernel write them.

    Empty if it is none; see virBitmapParse in libvirt's src/util/virbitmap.c.
    """
    found: set[int] = set()
    for part in re.sub(r"\s", "", text[: 10 * MOST]).split(","):
        known = _PART.fullmatch(part)
        first = int(known[2]) if known else 0
        last = int(known[3] or known[2]) if known else 0
        if known is None or not first <= last < MOST:
            return frozenset()
        few = range(first, last + 1)
        if known[1]:
            found.difference_update(few)
        else:
            found.update(few)
    return frozenset(found)


def _pins(root: etree._Element) -> Iterator[Pin]:
    """Yield the pins that act: those of parts, and ``<vcpu cpuset=>`` where a part has none.

    See "CPU Allocation" and "CPU Tuning" of libvirt's "Domain XML format".
    """
    named = {
        "vcpupin": ("vcpu", "vCPU"),
        "iothreadpin": ("iothread", "I/O thread"),
        "emulatorpin": ("", "the emulator"),
    }
    pins = []
    for element in root.iterfind("cputune/*"):
        if element.tag in named:
            number, words = named[str(element.tag)]
            use = f"{words} {element.get(number, '')[:5]}" if number else words
            pins.append(Pin(use, numbers(element.get("cpuset", ""))))
    for vcpu in root.iterfind("vcpu[@cpuset]"):
        if not _all_pinned(root, vcpu):
            pins.append(Pin("what is not pinned by itself", numbers(vcpu.get("cpuset", ""))))
    yield from (pin for pin in pins if pin.cpus)


def _all_pinned(root: etree._Element, vcpu: etree._Element) -> bool:
    parts = (("vcpupin", vcpu.text), ("iothreadpin", root.findtext("iothreads")))
    return root.find("cputune/emulatorpin") is not None and all(
        (count or "0").strip() in ("0", str(len(root.findall(f"cputune/{pin}"))))
        for pin, count in parts
    )


def _memory_nodes(root: etree._Element) -> frozenset[int]:
    lists = [one.get("nodeset", "") for one in root.iterfind("numatune/*")]
    lists += [one.text or "" for one in root.iterfind("devices/memory/source/nodemask")]
    return frozenset().union(*map(numbers, filter(None, lists)))


def _hugepages(root: etree._Element, memory_kib: int) -> Mapping[int, int]:
    """Return the memory on hugepages by the size of the pages.

    A page with a nodeset is for those nodes of the guest; one without, for all others. See "Memory
    Backing" of libvirt's "Domain XML format".
    """
    backing = root.find("memoryBacking/hugepages")
    modules = [(_module(one), _size(one, "source/pagesize")) for one in _modules(root)]
    cells = _cells(root)
    if not cells:
        cells = {0: max(0, memory_kib - sum(size for size, _ in modules))}
    wanted: dict[int, int] = defaultdict(int)
    for size, page in modules:
        if page:
            wanted[page] += size
    if backing is not None:
        default, special = _pages(backing)
        for cell, size in cells.items():
            of_cell = special.get(cell, default)
            if of_cell is not None:
                wanted[of_cell] += size
        if default is not None:
            wanted[default] += sum(size for size, page in modules if not page)
    wanted.pop(ORDINARY, None)
    return {page: size for page, size in wanted.items() if size > 0}


def _pages(backing: etree._Element) -> tuple[int | None, dict[int, int]]:
    """Return the default size of pages, None for ordinary ones, and those of some nodes."""
    default: int | None = None if len(backing) else 0
    special: dict[int, int] = {}
    for page in backing.iterfind("page"):
        size = _kib(page.get("size", ""), page.get("unit", "KiB"))
        nodes = page.get("nodeset", "")
        if not size:
            continue
        if nodes:
            special.update(dict.fromkeys(numbers(nodes), size))
        else:
            default = size
    return default, special


def _cells(root: etree._Element) -> dict[int, int]:
    found = {}
    for position, cell in enumerate(root.iterfind("cpu/numa/cell")):
        number = min(numbers(cell.get("id", "")), default=position)
        found[number] = _kib(cell.get("memory", ""), cell.get("unit", "KiB"))
    return found


def _modules(root: etree._Element) -> list[etree._Element]:
    """Return the memory modules whose memory is the host's."""
    return [one for one in root.iterfind("devices/memory") if one.get("model") == "dimm"]


def _module(module: etree._Element) -> int:
    return _size(module, "target/size")


def _size(element: etree._Element, path: str) -> int:
    found = element.find(path)
    return 0 if found is None else _kib(text_at(element, path), found.get("unit", "KiB"))


def _kib(number: str, unit: str) -> int:
    size = in_bytes(number, unit)
    return -(-size // 1024) if size else 0


def _cid(root: etree._Element) -> int:
    for cid in root.iterfind("devices/vsock/cid"):
        known = re.fullmatch(r"[0-9]{1,10}", cid.get("address", ""))
        if known and cid.get("auto") != "yes":
            return int(known[0])
    return 0


def _attribute(root: etree._Element, path: str, name: str) -> str:
    found = root.find(path)
    return "" if found is None else found.get(name, "")
