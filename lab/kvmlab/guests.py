"""Real guests on the lab's nodes: their definitions, disks, life and records."""

import os
import re
import shutil
import time
import uuid

from . import disks, install, services
from .hypervisor import domain_type
from .plan import CONSOLES, GUESTS, MASTER, LabError
from .processes import find, inside_path, need, run_in, wait_until
from .record import PRINTED, judge

BOOT = GUESTS / "boot"
STALE = 5
# Emulated, half of what a kernel does at its start is to guard, test and move itself.
KERNEL_OPTIONS = "quiet panic=-1 mitigations=off nokaslr cryptomgr.notests"
# KiB beyond whole MiB. QEMU before 9.0 loses writes of an emulated guest that migrates: when it
# fetches the dirty bitmap 64 pages at a time, it does not reset the emulated TLB, so later writes
# through entries that are still there go unnoticed, and those pages arrive as they were. Memory
# that is no multiple of 64 pages is fetched page by page, which does reset it. libvirt rounds
# memory to MiB, so QEMU gets a memory backend of its own beside libvirt's.
ODD_KIB = 8
DEFINITION = """<domain type='{type}' xmlns:qemu='http://libvirt.org/schemas/domain/qemu/1.0'>
  <name>{name}</name>
  <uuid>{uuid}</uuid>
  <memory unit='MiB'>{memory}</memory>
  <vcpu>1</vcpu>
  <os>
    <type arch='x86_64' machine='pc'>hvm</type>
    <kernel>{boot}/vmlinuz</kernel>
    <initrd>{boot}/initramfs</initrd>
    <cmdline>console=ttyS0 {options} dirty={dirty}</cmdline>
  </os>
  <features><acpi/></features>
  <clock offset='utc'/>
  <on_poweroff>destroy</on_poweroff>
  <on_reboot>restart</on_reboot>
  <on_crash>destroy</on_crash>
  <devices>
    <emulator>/usr/bin/qemu-system-x86_64</emulator>
    {disk}
    {interface}
    <serial type='file'>
      <source path='{console}' append='on'/>
      <target port='0'/>
    </serial>
    <memballoon model='none'/>
  </devices>
  <qemu:commandline>
    <qemu:arg value='-object'/>
    <qemu:arg value='memory-backend-ram,id=lab.ram,size={size_kib}k'/>
    <qemu:arg value='-machine'/>
    <qemu:arg value='memory-backend=lab.ram'/>
    <qemu:arg value='-m'/>
    <qemu:arg value='size={size_kib}k'/>
  </qemu:commandline>
</domain>
"""
INTERFACE = "<interface type='bridge'><source bridge='{}'/><model type='virtio'/></interface>"


def check_name(name):
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,62}", name):
        raise LabError(f"{name!r}: invalid guest name; use letters and digits, and . _ - inside")
    return name


def definition_path(name):
    return GUESTS / f"{name}.xml"


def console_path(name):
    return CONSOLES / f"{name}.console"


def where(lab, name):
    """The nodes on which a process of the guest runs."""
    nodes = [node for node in lab.nodes if find(lab, node)]
    return [node for node in nodes if name in services.running(lab, node)[1]]


def start(lab, name, node, memory, dirty, disk, cache, backing, bridge):
    check_name(name)
    if node not in lab.nodes:
        raise LabError(f"--on {node}: the nodes are {', '.join(lab.nodes)}")
    volume = inside_path(need(lab, MASTER), GUESTS)
    definition = inside_path(need(lab, MASTER), definition_path(name))
    if definition.exists():
        raise LabError(f"guest {name} exists already; remove it with: lab/ctl guest {name} --stop")
    put_boot_files(volume / BOOT.name)
    definition.write_text(
        DEFINITION.format(
            type=domain_type(),
            name=name,
            uuid=uuid.uuid4(),
            memory=memory,
            size_kib=(memory << 10) + ODD_KIB,
            dirty=dirty,
            boot=BOOT,
            options=KERNEL_OPTIONS,
            disk=disks.make(lab, name, node, disk, cache, backing),
            interface=INTERFACE.format(bridge) if bridge else "",
            console=console_path(name),
        )
    )
    try:
        create(lab, name, node)
    except LabError:
        stop(lab, name)
        raise
    console = inside_path(need(lab, node), console_path(name))
    wait_until(
        lambda: numbers_printed(console) >= 3,
        60,
        f"guest {name} does not write to its disk; see its console on {node}, {console_path(name)}",
    )


def create(lab, name, node):
    """Start a guest; GlusterFS may still know an older file by the name of its disk."""
    for _ in range(STALE):
        try:
            return run_in(lab, node, "virsh", "--quiet", "create", definition_path(name))
        except LabError as error:
            if "Stale file handle" not in str(error):
                raise
            time.sleep(1)
    return run_in(lab, node, "virsh", "--quiet", "create", definition_path(name))


def put_boot_files(folder):
    """The kernel lies on the shared volume: every node must find it in the same place."""
    if folder.exists():
        return
    aside = folder.with_name("boot.new")
    aside.mkdir(exist_ok=True)
    shutil.copyfile(install.KERNEL, aside / "vmlinuz")
    shutil.copyfile(install.INITRAMFS, aside / "initramfs")
    aside.rename(folder)


def stop(lab, name):
    """End the guest wherever it runs and remove its files."""
    check_name(name)
    volume = inside_path(need(lab, MASTER), GUESTS)
    nodes = where(lab, name)
    for node in nodes:
        try:
            run_in(lab, node, "virsh", "destroy", name, timeout=10)
        except LabError:
            services.kill(lab, node, f"qemu:{name}")
    paths = [volume / definition_path(name).name, *console_files(lab, name).values()]
    there = [path for path in paths if path.exists()]
    if not (nodes or there or disks.files(lab, name)):
        raise LabError(f"there is no guest {name}")
    for path in there:
        path.unlink()
    disks.remove(lab, name)


def console_files(lab, name):
    pids = {node: find(lab, node) for node in lab.nodes}
    return {node: inside_path(pid, console_path(name)) for node, pid in pids.items() if pid}


def numbers_printed(console):
    """How many numbers the guest has written; each was on its disk before it was printed."""
    return len(PRINTED.findall(console.read_text(errors="replace"))) if console.exists() else 0


def record(lab, name):
    check_name(name)
    # Consoles first: what is printed was on the disk before.
    consoles = {
        node: path.read_text(errors="replace")
        for node, path in console_files(lab, name).items()
        if os.path.exists(path)
    }
    return judge(disks.written(disks.raw_file(lab, name)), consoles)
