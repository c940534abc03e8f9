"""The paths besides disks that a guest needs on its destination, from its definition."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from lxml import etree

from saltext_kvmcluster.core.guest.xmlparts import attributes, text_at


@dataclass(frozen=True)
class File:
    """A path besides the disks that the destination needs; ``use`` is its purpose (kernel, …).

    For a console's log or socket, created when the guest starts, it is the folder.
    """

    path: str
    use: str


_GENERATED = ("/var/lib/libvirt/qemu/", "/run/libvirt/", "/var/run/libvirt/")


def find(root: etree._Element) -> tuple[File, ...]:
    """Return the paths, besides disks, that QEMU or libvirt opens when the guest arrives.

    A path that two devices name, as a console repeats its serial port, is returned once.
    """
    known: dict[str, File] = {}
    for file in _files(root):
        if file.path.startswith("/"):
            known.setdefault(file.path, file)
    return tuple(known.values())


def _files(root: etree._Element) -> Iterator[File]:
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
        files_of = _FILES.get(device.tag)
        if files_of:
            yield from files_of(device)


def _path(element: etree._Element) -> str:
    source = attributes(element, "source")
    return source.get("file", "") or source.get("dev", "")


def _character(device: etree._Element) -> Iterator[File]:
    """Files of serial ports, consoles, channels and so on; the folder of those yet to be created.

    libvirt creates the sockets in its own folders, with other names on the destination.
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
            yield File((backend.text or "").strip(), "random number source")
        yield from _character(backend)


def _tpm(tpm: etree._Element) -> Iterator[File]:
    for backend in tpm.iterfind("backend"):
        source = attributes(backend, "source")
        if backend.get("type") in ("emulator", "external"):
            yield File(source.get("path", ""), "TPM")


def _memory_device(memory: etree._Element) -> Iterator[File]:
    yield File(text_at(memory, "source/path"), "memory device")


def _input(device: etree._Element) -> Iterator[File]:
    yield File(attributes(device, "source").get("dev", ""), "input device")


def _smartcard(card: etree._Element) -> Iterator[File]:
    yield File(text_at(card, "database"), "certificates of smartcard")
    yield from _character(card)


def _graphics(graphics: etree._Element) -> Iterator[File]:
    for element in graphics.iter("gl"):
        yield File(element.get("rendernode", ""), "render node")


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
