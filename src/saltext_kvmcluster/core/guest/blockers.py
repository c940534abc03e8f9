"""What in a guest's definition QEMU or libvirt refuses to migrate.

The rules are those of libvirt (qemuMigrationSrcIsAllowed and qemuMigrationSrcIsAllowedHostdev in
src/qemu/qemu_migration.c) and of QEMU (its callers of migrate_add_blocker, devices whose
VMStateDescription is ``unmigratable``, and those that have none and so lose their state), as far
as a definition shows them. docs/blockers.md lists them, with who refuses and since when. From
libvirt 8.6 and QEMU 6.0 on, libvirt asks QEMU what it refuses, and leaves host devices to it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from lxml import etree

from saltext_kvmcluster.core.findings import WARN
from saltext_kvmcluster.core.guest.blocker import Blocker, Versions
from saltext_kvmcluster.core.guest.xmlparts import attribute, pci_address, shown

Rule = Callable[[etree._Element], Iterator[Blocker]]
_ANY = Versions(0, 0)
_ASKED = Versions(8_006_000, 6_000_000)
_VFIO = Versions(8_006_000, 8_001_000)
_VIRTIOFS = Versions(10_006_000, 8_002_000)


def find(domain: etree._Element) -> tuple[Blocker, ...]:
    """Return each part of a ``<domain>`` that cannot be migrated, or not with every version."""
    found = [*_security(domain), *_hyperv(domain), *_cpu(domain), *_channel_bus(domain)]
    for device in domain.iterfind("devices/*"):
        for rule in (_RULES.get(device.tag), _vdagent):
            found.extend(rule(device) if rule else ())
    return tuple(dict.fromkeys(found))


def block_job(disk: str) -> Blocker:
    """Return the blocker of a disk that is being copied, committed, pulled or backed up."""
    return Blocker(
        f"disk {disk} has an active block job",
        f"wait until it ends, or abort it: virsh blockjob GUEST {disk} --abort",
    )


def _security(domain: etree._Element) -> Iterator[Blocker]:
    """QEMU: "SEV: Migration is not implemented", "protected VMs are currently not migratable"."""
    for security in domain.iterfind("launchSecurity"):
        kind = shown(security.get("type", ""))
        yield Blocker(f"its memory is protected ({kind}), which QEMU does not migrate")


def _hyperv(domain: etree._Element) -> Iterator[Blocker]:
    """QEMU with KVM, which alone has these: "'hv-passthrough' CPU flag prevents migration".

    The destination's QEMU ends with "'tsc-frequency=' has to be specified" if the guest has
    enabled re-enlightenment notifications (hyperv_reenlightenment_post_load).
    """
    if domain.get("type") == "qemu":
        return
    if attribute(domain, "features/hyperv", "mode") == "passthrough":
        yield Blocker("<hyperv mode='passthrough'> depends on the host: QEMU needs features named")
    enabled = attribute(domain, "features/hyperv/reenlightenment", "state") == "on"
    if enabled and not _tells_frequency(domain):
        yield Blocker(
            "if it uses Hyper-V's re-enlightenment, it does not arrive: <timer name='tsc'> sets no"
            " frequency",
            "set <timer name='tsc' frequency='…'/>, or <reenlightenment state='off'/>: virsh edit"
            " GUEST, then restart the guest",
            severity=WARN,
        )


def _cpu(domain: etree._Element) -> Iterator[Blocker]:
    """libvirt: "domain has 'invtsc' CPU feature but TSC frequency is not specified".

    migratable='off' hands the guest whatever the host has, invtsc included, which QEMU blocks
    ("State blocked by non-migratable CPU device (invtsc flag)"); an emulated CPU has no invtsc.
    """
    if _tells_frequency(domain):
        return
    if attribute(domain, "cpu", "migratable") == "off" and domain.get("type") != "qemu":
        yield Blocker(
            "its CPU may have what QEMU does not migrate (migratable='off')",
            "set migratable='on' in its <cpu>: virsh edit GUEST, then restart the guest",
        )
    for feature in domain.iterfind("cpu/feature"):
        wanted = feature.get("policy", "require") in ("require", "force")
        if feature.get("name") == "invtsc" and wanted:
            yield Blocker("its CPU has invtsc, but <timer name='tsc'> sets no frequency")


def _tells_frequency(domain: etree._Element) -> bool:
    timers = domain.iterfind("clock/timer")
    return any(timer.get("name") == "tsc" and timer.get("frequency") for timer in timers)


def _channel_bus(domain: etree._Element) -> Iterator[Blocker]:
    """QEMU: zpci is unmigratable (hw/s390x/s390-pci-bus.c)."""
    addresses = domain.iterfind("devices/*/address")
    if attribute(domain, "os/type", "arch") in ("s390", "s390x") and any(
        address.get("type") == "pci" for address in addresses
    ):
        yield Blocker("it has PCI devices (zpci), which QEMU does not migrate on s390x")


def _disk(disk: etree._Element) -> Iterator[Blocker]:
    """libvirt: "domain has active block job", "migration with transient disk is not supported".

    QEMU: "The %s format used by node does not support live migration", and NVMe (unmigratable).
    """
    target = shown(attribute(disk, "target", "dev"))
    name = f"disk {target}"
    if disk.find("mirror") is not None:
        yield block_job(target)
    if disk.find("transient") is not None:
        yield Blocker(f"{name} is transient: its changes are on this node, until the guest stops")
    if disk.get("type") == "vhostuser":
        yield Blocker(f"{name} is another process (vhostuser)", since=_ANY, asks=True)
    if attribute(disk, "target", "bus") == "nvme":
        yield Blocker(f"{name} is on an NVMe controller, which QEMU does not migrate")
    for reported in (*disk.iterfind("driver"), *disk.iter("format")):
        kind = reported.get("type", "")
        if kind in _FORMATS or (kind == "fat" and disk.find("readonly") is None):
            yield Blocker(f"{name} has the format {kind}, which QEMU does not migrate live")


def _hostdev(hostdev: etree._Element) -> Iterator[Blocker]:
    """libvirt's qemuMigrationSrcIsAllowedHostdev; failover: ``<teaming type='transient'>``.

    libvirt accepts a USB device, and looks for one on the destination, which drops it only where
    ``startupPolicy`` allows it (requisite, optional): by an address alone it takes whatever is
    there (virHostdevFindUSBDevice in src/hypervisor/virhostdev.c). QEMU moves a SCSI device, but
    its address may be that of another one there; not so a LUN that it fetches by iSCSI itself.
    vfio-ap and vfio-ccw are unmigratable, vhost-scsi unless it is set to "migratable", which
    libvirt does not.
    """
    kind = hostdev.get("type", "")
    what = f"it uses the host's {shown(kind)} device {shown(_source(hostdev))}"
    if hostdev.get("mode") == "capabilities":
        yield Blocker(what)
    elif kind == "usb":
        yield _usb(hostdev)
    elif kind == "scsi" and attribute(hostdev, "source", "protocol") == "iscsi":
        yield Blocker(f"it uses the LUN {shown(_source(hostdev))} by iSCSI", since=_ASKED)
    elif kind == "pci" or (kind == "mdev" and hostdev.get("model") == "vfio-pci"):
        if not _fails_over(hostdev):
            yield Blocker(what, since=_VFIO, asks=True)
    else:
        yield Blocker(what)


def _usb(hostdev: etree._Element) -> Blocker:
    named = (value for child in hostdev.iterfind("source/*") for value in _values(child))
    what = f"it uses the host's USB device {shown(' '.join(named))}"
    if attribute(hostdev, "source", "startupPolicy") not in ("requisite", "optional"):
        return Blocker(what)
    if hostdev.find("source/vendor") is None:
        return Blocker(
            f"{what} by its address alone, where the destination may have another one",
            "name it by <vendor> and <product>: virsh edit GUEST, then restart the guest",
        )
    return Blocker(
        f"{what}: on the destination it gets that node's device of this kind, or none",
        "unplug it first, if it must be that very one: virsh detach-device GUEST",
        severity=WARN,
    )


def _interface(interface: etree._Element) -> Iterator[Blocker]:
    """libvirt: "cannot migrate a domain with <interface type='hostdev'>", "vDPA devices …".

    QEMU: usb-net is unmigratable; "vhost-user backend lacks VHOST_USER_PROTOCOL_F_LOG_SHMFD".
    """
    kind = interface.get("type", "")
    if kind == "hostdev" and not _fails_over(interface):
        what = f"its network card is the host's device {shown(_source(interface))}"
        yield Blocker(what, since=_VFIO, asks=True)
    if kind == "vdpa":
        device = shown(attribute(interface, "source", "dev"))
        what = f"its network card is the host's vDPA device {device}"
        yield Blocker(what, since=_VFIO, asks=True)
    if kind == "vhostuser":
        yield Blocker("its network card is another process (vhostuser)", since=_ANY, asks=True)
    if attribute(interface, "model", "type") == "usb-net":
        yield Blocker("its network card is a USB device, which QEMU does not migrate")


def _fails_over(device: etree._Element) -> bool:
    return attribute(device, "teaming", "type") == "transient"


def _filesystem(filesystem: etree._Element) -> Iterator[Blocker]:
    """QEMU: "Migration is disabled when VirtFS export path is mounted in the guest"; usb-mtp.

    libvirt before 10.6: "migration with virtiofs device is not supported"; QEMU before 8.2:
    vhost-user-fs is unmigratable; virtiofsd since 1.11 (libvirt's page on virtiofs).
    """
    source = filesystem.find("source")
    folder = shown(" ".join(_values(source))) if source is not None else ""
    kind = attribute(filesystem, "driver", "type")
    if kind == "virtiofs":
        yield Blocker(
            f"it shares {folder} by virtiofs",
            since=_VIRTIOFS,
            unless="virtiofsd is 1.11 or newer on both nodes",
        )
    elif kind == "mtp":
        yield Blocker(f"it shares {folder} by MTP, which QEMU does not migrate")
    else:
        yield Blocker(
            f"it shares {folder} with the host (9p), which QEMU does not migrate while it is"
            " mounted",
            "unmount it in the guest, then check again",
            since=Versions(0, 6_000_000),
            asks=True,
        )


def _shmem(shmem: etree._Element) -> Iterator[Blocker]:
    """libvirt: "migration with legacy shmem device …", "only shmem with role='master' …"."""
    model = attribute(shmem, "model", "type") or "ivshmem"
    if model == "ivshmem" or shmem.get("role") != "master":
        yield Blocker(
            f"its shared memory {shown(shmem.get('name', ''))} is on the host: libvirt migrates"
            " only role='master' of ivshmem-plain or ivshmem-doorbell"
        )


def _tpm(tpm: etree._Element) -> Iterator[Blocker]:
    """QEMU's page on TPM: none of the state of a hardware TPM can be migrated."""
    if attribute(tpm, "backend", "type") == "passthrough":
        device = attribute(tpm, "backend/device", "path") or "/dev/tpm0"
        yield Blocker(f"it uses the host's TPM {shown(device)}")


def _memory(memory: etree._Element) -> Iterator[Blocker]:
    """Of virtio-pmem QEMU sends no state, nor of SGX, which is bound to the host's CPU.

    What is in an NVDIMM is sent as memory, into the file or device of that path.
    """
    model = memory.get("model", "")
    if model == "virtio-pmem":
        yield Blocker("it has virtio-pmem memory, which hangs after a migration: its state is lost")
    elif model == "sgx-epc":
        yield Blocker("its enclaves (SGX) are bound to the host's CPU, and lost by a migration")
    elif model == "nvdimm":
        path = shown(memory.findtext("source/path") or "")
        yield Blocker(
            f"its NVDIMM is {path}: a migration overwrites what the destination has there",
            f"make sure that {path} on the destination is nobody else's",
            severity=WARN,
        )


def _video(video: etree._Element) -> Iterator[Blocker]:
    """QEMU: "virgl is not yet migratable"; blob resources since 8.2; vhost-user-gpu has no state.

    With blob resources QEMU 8.1 refuses, and an older one may die.
    """
    if attribute(video, "model/acceleration", "accel3d") == "yes":
        yield Blocker("its video card is accelerated by the host's (accel3d)")
    if attribute(video, "model", "blob") == "on":
        yield Blocker("its video card has blob resources", since=Versions(0, 8_002_000))
    if attribute(video, "driver", "name") == "vhostuser":
        yield Blocker("its video card is another process (vhostuser), whose state is lost")


def _input(device: etree._Element) -> Iterator[Blocker]:
    """QEMU: virtio-input-host is unmigratable; an evdev device has no state of the host's."""
    if device.get("type") == "passthrough":
        yield Blocker(
            f"it uses the host's input device {shown(attribute(device, 'source', 'evdev'))}"
        )
    elif device.get("type") == "evdev":
        yield _another("input device", attribute(device, "source", "dev"))


def _smartcard(card: etree._Element) -> Iterator[Blocker]:
    """QEMU's ccid-card-emulated mirrors the readers of its host, and has no state to send."""
    if card.get("mode") == "host":
        yield Blocker("it uses the host's smartcard readers")


def _sound(sound: etree._Element) -> Iterator[Blocker]:
    """QEMU: usb-audio and virtio-sound are unmigratable."""
    if sound.get("model") in ("usb", "virtio"):
        kind = "USB" if sound.get("model") == "usb" else "virtio"
        yield Blocker(f"its sound card is a {kind} device, which QEMU does not migrate")


def _crypto(_: etree._Element) -> Iterator[Blocker]:
    """QEMU: virtio-crypto is unmigratable."""
    yield Blocker("it has a virtio-crypto device, which QEMU does not migrate")


def _serial(serial: etree._Element) -> Iterator[Blocker]:
    """QEMU: usb-serial is unmigratable."""
    if attribute(serial, "target", "type") == "usb-serial":
        yield Blocker("it has a serial port on USB, which QEMU does not migrate")
    yield from _port(serial)


def _port(port: etree._Element) -> Iterator[Blocker]:
    """QEMU opens the device of that path (char-serial.c, char-parallel.c), its own on each host."""
    if port.get("type") == "dev":
        yield _another(f"{port.tag} port", attribute(port, "source", "path"))


def _another(use: str, path: str) -> Blocker:
    return Blocker(
        f"its {use} is the host's {shown(path)}: on the destination it is that node's own",
        f"make sure that {shown(path)} on the destination is connected to the same",
        severity=WARN,
    )


def _iommu(iommu: etree._Element) -> Iterator[Blocker]:
    """QEMU before 10.1: amd-iommu is unmigratable."""
    if iommu.get("model") == "amd":
        yield Blocker("it has an AMD IOMMU", since=Versions(0, 10_001_000), asks=True)


def _controller(controller: etree._Element) -> Iterator[Blocker]:
    """QEMU: nvme is unmigratable."""
    if controller.get("type") == "nvme":
        yield Blocker("it has an NVMe controller, which QEMU does not migrate")


def _vdagent(device: etree._Element) -> Iterator[Blocker]:
    """QEMU before 10.1: "The vdagent chardev doesn't yet support migration"."""
    if device.get("type") == "qemu-vdagent":
        what = f"its {shown(str(device.tag))} is QEMU's own agent (qemu-vdagent)"
        yield Blocker(what, since=Versions(0, 10_001_000))


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
    if source.get("protocol"):
        return source.get("name", "")
    return " ".join((*reported, *detail, *_values(source))).strip()


def _values(element: etree._Element) -> list[str]:
    return [str(value) for value in element.attrib.values()]


_FORMATS = ("qcow", "vdi", "vhd", "vmdk", "vpc", "ploop")
_RULES: Mapping[str, Rule] = {
    "disk": _disk,
    "hostdev": _hostdev,
    "interface": _interface,
    "filesystem": _filesystem,
    "shmem": _shmem,
    "tpm": _tpm,
    "memory": _memory,
    "video": _video,
    "input": _input,
    "smartcard": _smartcard,
    "sound": _sound,
    "crypto": _crypto,
    "serial": _serial,
    "parallel": _port,
    "iommu": _iommu,
    "controller": _controller,
}
