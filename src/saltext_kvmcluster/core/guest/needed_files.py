"""The paths besides disks that a guest needs on its destination, from its definition."""

from __future__ import annotations

import posixpath
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from lxml import etree

from saltext_kvmcluster.core.guest.xmlparts import attributes, text_at


@dataclass(frozen=True)
class File:
    """A path besides the disks that the destination needs; ``use`` is its purpose (kernel, …).

    For a console's log or socket, created when the guest starts, it is the folder. ``optional``:
    the destination needs it only if the source has it.
    """

    path: str
    use: str
    optional: bool = False


PROGRAM = "program"
"""The use of a program that libvirt runs; where it is on the source, a destination needs it."""

TEMPLATE = "nvram template"
"""The use of a file that libvirt reads only where the nvram does not exist."""

_GENERATED = ("/var/lib/libvirt/qemu/", "/run/libvirt/", "/var/run/libvirt/")


def find(root: etree._Element) -> tuple[File, ...]:
    """Return the paths, besides disks, that QEMU or libvirt opens when the guest arrives.

    A path that two devices name, as a console repeats its serial port, is returned once.
    """
    known: dict[str, File] = {}
    for file in _files(root):
        if file.path.startswith("/") and (file.path not in known or known[file.path].optional):
            known[file.path] = file
    return tuple(known.values())


def _files(root: etree._Element) -> Iterator[File]:
    for element in root.iterfind("os/*"):
        if element.tag in ("kernel", "initrd", "dtb", "shim", "loader"):
            yield File((element.text or "").strip(), element.tag)
        elif element.tag in ("nvram", "varstore"):
            yield File((element.text or "").strip() or _path(element), "nvram")
            yield File(element.get("template", ""), TEMPLATE, optional=True)
        elif element.tag == "acpi":
            yield from (File((table.text or "").strip(), "ACPI table") for table in element)
    for entry in root.iterfind("sysinfo/entry"):
        yield File(entry.get("file", ""), "firmware setting")
    placed = [*root.iterfind("vcpu"), *root.iterfind("numatune/memory")]
    if any(one.get("placement") == "auto" for one in placed):
        yield _program("numad")
    for device in root.iterfind("blkiotune/device"):
        yield File(text_at(device, "path"), "device of <blkiotune>", optional=True)
    for device in root.iterfind("devices/*"):
        for rom in device.iterfind("rom"):
            yield File(rom.get("file", ""), "ROM")
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
        elif kind == "pipe":
            # QEMU takes a pair of pipes where there is one (qemu_chr_open_pipe in char-pipe.c).
            yield from (File(path + end, use, optional=True) for end in ("", ".in", ".out"))
        elif kind == "dev" or (kind == "unix" and not made):
            yield File(path, use)
    for log in device.iterfind("log"):
        yield _folder(log.get("file", ""), f"{use}'s log")


def _folder(path: str, use: str) -> File:
    return File(path.rpartition("/")[0] or path, f"folder of {use}")


def _program(name: str) -> File:
    """Return a program that libvirt looks for in the PATH, or where it was when it was built."""
    return File(f"/usr/bin/{name}", PROGRAM, optional=True)


def _emulator(emulator: etree._Element) -> Iterator[File]:
    yield File((emulator.text or "").strip(), "emulator")


def _card(card: etree._Element) -> Iterator[File]:
    """A card's socket, scripts and devices; a name without a path is a script in /etc.

    libvirt insists on vhost-net where the driver is named (qemuInterfaceOpenVhostNet).
    """
    if card.get("type") == "vhostuser":
        yield from _character(card)
    if attributes(card, "driver").get("name") == "vhost":
        yield File("/dev/vhost-net", "device of network card")
    if attributes(card, "backend").get("type") == "passt":
        yield _program("passt")
    for element in (*card.iterfind("script"), *card.iterfind("downscript")):
        if element.get("path"):
            yield File(posixpath.join("/etc", element.get("path", "")), "script of network card")
    for backend in card.iterfind("backend"):
        yield File(backend.get("tap", ""), "device of network card")
        yield File(backend.get("vhost", ""), "device of network card")


def _disk_files(disk: etree._Element) -> Iterator[File]:
    """Files of network disks, and sockets: of their servers, and of persistent reservations."""
    for config in disk.iter("config"):
        yield File(config.get("file", ""), "Ceph configuration")
    for key in disk.iter("identity"):
        yield File(key.get("keyfile", ""), "ssh key")
    for hosts in disk.iter("knownHosts"):
        yield File(hosts.get("path", ""), "ssh's known hosts")
    for host in disk.iter("host"):
        yield File(host.get("socket", ""), "socket of disk")
    for reservations in disk.iter("reservations"):
        if reservations.get("managed") == "no":
            yield File(attributes(reservations, "source").get("path", ""), "reservations' socket")
        elif reservations.get("managed") == "yes":
            yield _program("qemu-pr-helper")


def _filesystem(filesystem: etree._Element) -> Iterator[File]:
    source = attributes(filesystem, "source")
    yield File(source.get("dir", ""), "shared folder")
    yield File(source.get("socket", ""), "socket of shared folder")
    yield File(attributes(filesystem, "binary").get("path", ""), "virtiofsd")


def _shmem(shmem: etree._Element) -> Iterator[File]:
    yield File(attributes(shmem, "server").get("path", ""), "server of shared memory")


def _vsock(_: etree._Element) -> Iterator[File]:
    yield File("/dev/vhost-vsock", "vsock device")


def _audio(audio: etree._Element) -> Iterator[File]:
    if audio.get("type") == "file" and audio.get("path", "").startswith("/"):
        yield _folder(audio.get("path", ""), "audio")
    for direction in ("input", "output"):
        yield File(attributes(audio, direction).get("dev", ""), "audio device")


def _rng(rng: etree._Element) -> Iterator[File]:
    for backend in rng.iterfind("backend"):
        if backend.get("model") == "random":
            yield File((backend.text or "").strip(), "random number source")
        yield from _character(backend)


def _tpm(tpm: etree._Element) -> Iterator[File]:
    """A TPM's state or socket; libvirt wants all of swtpm's programs (virTPMEmulatorInit)."""
    for backend in tpm.iterfind("backend"):
        source = attributes(backend, "source")
        if backend.get("type") == "emulator":
            yield from map(_program, ("swtpm", "swtpm_setup", "swtpm_ioctl"))
        if backend.get("type") in ("emulator", "external"):
            yield File(source.get("path", ""), "TPM")


def _pstore(pstore: etree._Element) -> Iterator[File]:
    """A file that libvirt creates where it does not exist (qemuProcessPreparePstore)."""
    path = text_at(pstore, "path")
    if path and not path.startswith(_GENERATED):
        yield _folder(path, "pstore")


def _memory_device(memory: etree._Element) -> Iterator[File]:
    yield File(text_at(memory, "source/path"), "memory device")


def _input(device: etree._Element) -> Iterator[File]:
    yield File(attributes(device, "source").get("dev", ""), "input device")


def _smartcard(card: etree._Element) -> Iterator[File]:
    yield File(text_at(card, "database"), "certificates of smartcard")
    yield from _character(card)


def _graphics(graphics: etree._Element) -> Iterator[File]:
    """Sockets that a screen listens on, whose folder has to be there; and the render node."""
    sockets = [
        graphics.get("socket", ""),
        *(one.get("socket", "") for one in graphics.iter("listen")),
    ]
    for path in filter(None, sockets):
        if not path.startswith(_GENERATED):
            yield _folder(path, str(graphics.get("type", "graphics")))
    for element in graphics.iter("gl"):
        yield File(element.get("rendernode", ""), "render node")


_FILES: Mapping[str, Callable[[etree._Element], Iterator[File]]] = {
    "emulator": _emulator,
    "filesystem": _filesystem,
    "shmem": _shmem,
    "vsock": _vsock,
    "audio": _audio,
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
    "pstore": _pstore,
    "input": _input,
    "smartcard": _smartcard,
    "graphics": _graphics,
}
