"""What in a guest's definition QEMU or libvirt refuses to migrate, in sentences.

The rules are those of libvirt (qemuMigrationSrcIsAllowed and qemuMigrationSrcIsAllowedHostdev in
src/qemu/qemu_migration.c) and of QEMU (its callers of migrate_add_blocker, and devices whose
VMStateDescription says ``unmigratable``), as far as a definition shows them. Devices of the host
are reported even where libvirt leaves the refusal to QEMU.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from lxml import etree

from saltext_kvmcluster.core.guest.xmlparts import pci_address
from saltext_kvmcluster.core.text import printable

_WORDS = 100


def find(domain: etree._Element) -> tuple[str, ...]:
    """Return a sentence for each part of a ``<domain>`` that cannot be migrated, and why."""
    found = [*_whole(domain)]
    for device in domain.iterfind("devices/*"):
        rule = _RULES.get(device.tag)
        if rule:
            found.extend(rule(device))
    return tuple(dict.fromkeys(found))


def _whole(domain: etree._Element) -> Iterator[str]:
    """Blockers outside devices: ``<launchSecurity>``, ``<cpu>`` and ``<features>``.

    QEMU: "SEV: Migration is not implemented", "protected VMs are currently not migratable",
    "'hv-passthrough' CPU flag prevents migration". libvirt: "domain has 'invtsc' CPU feature but
    TSC frequency is not specified".
    """
    for security in domain.iterfind("launchSecurity"):
        kind = _shown(security.get("type", ""))
        yield f"its memory is protected ({kind}), which QEMU does not migrate"
    hyperv = domain.find("features/hyperv")
    if hyperv is not None and hyperv.get("mode") == "passthrough":
        yield "<hyperv mode='passthrough'> depends on the host: QEMU needs each feature named"
    for feature in domain.iterfind("cpu/feature"):
        wanted = feature.get("policy", "require") in ("require", "force")
        if feature.get("name") == "invtsc" and wanted and not _tells_frequency(domain):
            yield "its CPU has invtsc, but <timer name='tsc'> sets no frequency"


def _tells_frequency(domain: etree._Element) -> bool:
    timers = domain.iterfind("clock/timer")
    return any(timer.get("name") == "tsc" and timer.get("frequency") for timer in timers)


def _disk(disk: etree._Element) -> Iterator[str]:
    """libvirt: "domain has active block job", "migration with transient disk is not supported".

    QEMU: "The %s format used by node does not support live migration", and NVMe (unmigratable).
    """
    name = f"disk {_shown(_get(disk, 'target', 'dev'))}"
    if disk.find("mirror") is not None:
        yield (
            f"{name} has an active block job; wait until it ends, or abort it: virsh blockjob GUEST"
            f" {_shown(_get(disk, 'target', 'dev'))} --abort"
        )
    if disk.find("transient") is not None:
        yield f"{name} is transient: its changes are on this node, until the guest stops"
    if _get(disk, "target", "bus") == "nvme":
        yield f"{name} is on an NVMe controller, which QEMU does not migrate"
    for reported in (*disk.iterfind("driver"), *disk.iter("format")):
        kind = reported.get("type", "")
        if kind in _FORMATS or (kind == "fat" and disk.find("readonly") is None):
            yield f"{name} has the format {kind}, which QEMU does not migrate live"


def _hostdev(hostdev: etree._Element) -> Iterator[str]:
    """libvirt's qemuMigrationSrcIsAllowedHostdev; failover: ``<teaming type='transient'>``.

    libvirt accepts a USB device, and looks for the same one on the destination, which drops it
    only where ``startupPolicy`` allows it (requisite, optional).
    """
    kind = hostdev.get("type", "")
    if hostdev.get("mode") == "capabilities":
        yield f"it uses the host's {_shown(kind)} device {_shown(_source(hostdev))}"
    elif kind == "usb":
        if _get(hostdev, "source", "startupPolicy") not in ("requisite", "optional"):
            yield f"it uses the host's USB device {_shown(_source(hostdev))}"
    elif kind != "pci" or not _fails_over(hostdev):
        yield f"it uses the host's {_shown(kind)} device {_shown(_source(hostdev))}"


def _interface(interface: etree._Element) -> Iterator[str]:
    """libvirt: "cannot migrate a domain with <interface type='hostdev'>", "vDPA devices …"."""
    kind = interface.get("type", "")
    if kind == "hostdev" and not _fails_over(interface):
        yield f"its network card is the host's device {_shown(_source(interface))}"
    if kind == "vdpa":
        device = _shown(_get(interface, "source", "dev"))
        yield f"its network card is the host's vDPA device {device}"


def _fails_over(device: etree._Element) -> bool:
    return _get(device, "teaming", "type") == "transient"


def _filesystem(filesystem: etree._Element) -> Iterator[str]:
    """QEMU: "Migration is disabled when VirtFS export path is mounted in the guest".

    libvirt before 10: "migration with virtiofs device is not supported"; virtiofsd since 1.11
    (libvirt's page on virtiofs).
    """
    source = filesystem.find("source")
    folder = _shown(" ".join(_values(source))) if source is not None else ""
    if _get(filesystem, "driver", "type") == "virtiofs":
        yield f"it shares {folder} by virtiofs, which only newer libvirt and virtiofsd migrate"
    else:
        yield f"it shares {folder} with the host (9p), which QEMU does not migrate while mounted"


def _shmem(shmem: etree._Element) -> Iterator[str]:
    """libvirt: "migration with legacy shmem device …", "only shmem with role='master' …"."""
    model = _get(shmem, "model", "type") or "ivshmem"
    if model == "ivshmem" or shmem.get("role") != "master":
        yield (
            f"its shared memory {_shown(shmem.get('name', ''))} is on the host: libvirt migrates"
            " only role='master' of ivshmem-plain or ivshmem-doorbell"
        )


def _tpm(tpm: etree._Element) -> Iterator[str]:
    """A passed-through TPM keeps its keys; an emulated one's state is migrated by libvirt."""
    if _get(tpm, "backend", "type") == "passthrough":
        device = _get(tpm, "backend/device", "path") or "/dev/tpm0"
        yield f"it uses the host's TPM {_shown(device)}"


def _video(video: etree._Element) -> Iterator[str]:
    """QEMU: "virgl is not yet migratable"."""
    if _get(video, "model/acceleration", "accel3d") == "yes":
        yield "its video card is accelerated by the host's (accel3d)"


def _input(device: etree._Element) -> Iterator[str]:
    """QEMU: virtio-input-host is unmigratable."""
    if device.get("type") == "passthrough":
        yield f"it uses the host's input device {_shown(_get(device, 'source', 'evdev'))}"


def _smartcard(card: etree._Element) -> Iterator[str]:
    """QEMU's ccid-card-emulated mirrors the readers of its host, and has no state to send."""
    if card.get("mode") == "host":
        yield "it uses the host's smartcard readers"


def _sound(sound: etree._Element) -> Iterator[str]:
    """QEMU: usb-audio is unmigratable."""
    if sound.get("model") == "usb":
        yield "its sound card is a USB device, which QEMU does not migrate"


def _crypto(_: etree._Element) -> Iterator[str]:
    """QEMU: virtio-crypto is unmigratable."""
    yield "it has a virtio-crypto device, which QEMU does not migrate"


def _source(device: etree._Element) -> str:
    """Return the host's name of a device."""
    source = device.find("source")
    if source is None:
        return ""
    reported = [value for child in source for value in _values(child)]
    detail = [child.text or "" for child in source]
    address = source.find("address")
    if address is not None and address.get("slot") is not None:
        return pci_address(address)
    return " ".join((*reported, *detail, *_values(source))).strip()


def _get(element: etree._Element, path: str, name: str) -> str:
    child = element.find(path)
    return child.get(name, "") if child is not None else ""


def _values(element: etree._Element) -> list[str]:
    return [str(value) for value in element.attrib.values()]


def _shown(text: str) -> str:
    return printable(text[:_WORDS])


_FORMATS = ("qcow", "vdi", "vhd", "vmdk", "vpc", "ploop")
_RULES: Mapping[str, Callable[[etree._Element], Iterator[str]]] = {
    "disk": _disk,
    "hostdev": _hostdev,
    "interface": _interface,
    "filesystem": _filesystem,
    "shmem": _shmem,
    "tpm": _tpm,
    "video": _video,
    "input": _input,
    "smartcard": _smartcard,
    "sound": _sound,
    "crypto": _crypto,
}
