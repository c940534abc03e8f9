"""libvirt's configuration on a node."""

import fcntl
import re
import uuid
from pathlib import Path

from .plan import CONSOLES

KVM_CREATE_VM = 0xAE01
# The keepalive: a migration whose link is dead ends after 8 seconds instead of 30.
QEMU_CONF = """user = "root"
group = "root"
security_driver = "none"
namespaces = []
cgroup_controllers = []
remember_owner = 0
keepalive_interval = 2
keepalive_count = 3
"""
# Never roll a console over: all of it is evidence.
VIRTLOGD_CONF = "max_size = 0\n"


def configure():
    folder = Path("/etc/libvirt")
    (folder / "qemu").mkdir(parents=True)
    libvirtd = f'host_uuid = "{uuid.uuid4()}"\nauth_unix_rw = "none"\n'
    (folder / "libvirtd.conf").write_text(libvirtd)
    (folder / "qemu.conf").write_text(QEMU_CONF)
    (folder / "virtlogd.conf").write_text(VIRTLOGD_CONF)
    CONSOLES.mkdir(parents=True)


def domain_type():
    """kvm where the processor truly can, not only where /dev/kvm exists.

    Some virtual machines have a /dev/kvm that makes guests which then never get anywhere.
    """
    flags = re.findall(r"^flags\s*:(.*)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    if not flags or not {"vmx", "svm"} & set(flags[0].split()):
        return "qemu"
    try:
        with open("/dev/kvm", "rb", buffering=0) as device:
            fcntl.ioctl(device, KVM_CREATE_VM, 0)
    except OSError:
        return "qemu"
    return "kvm"
