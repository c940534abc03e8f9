"""Furnishes the private view of the machine that a node, the master or a sandbox lives in.

Runs inside the new namespaces. /etc and /var are overlays over the machine's, some directories
are fresh and empty, and everything lies in memory: it vanishes with the last process.
"""

import shutil
import socket
import uuid
from pathlib import Path

from .plan import kept_paths
from .processes import run

OVERLAID = ["/etc", "/var"]
# State of daemons that the machine itself may run; ours must start with none of it.
FORGOTTEN = [
    "/etc/libvirt",
    "/etc/salt",
    "/etc/glusterfs",
    "/var/log",
    "/var/cache/libvirt",
    "/var/cache/salt",
    "/var/lib/glusterd",
    "/var/lib/libvirt",
]
# Directories that those daemons expect to find.
EXPECTED = ["/var/log/glusterfs", "/var/log/libvirt", "/var/log/salt"]
SHARED_TMP = "/tmp"
FRESH = ["/root", "/home", "/srv", "/run", SHARED_TMP]
NSSWITCH = """passwd: files
group: files
shadow: files
gshadow: files
hosts: files
networks: files
protocols: files
services: files
ethers: files
rpc: files
"""


def furnish(hostname, hosts, own_tmp=True, extra_paths=()):
    """Replace the machine's /etc, /var, /root, /run ... by private ones."""
    # Not below /run: what is kept of it must stay visible until it is replaced.
    layers = Path("/mnt")
    run("mount", "-t", "tmpfs", "-o", "mode=755", "layers", layers)
    for path in OVERLAID:
        overlay(path, layers)
    for path in FORGOTTEN:
        Path(path).mkdir(parents=True, exist_ok=True)
        replace(path, layers)
    for path in EXPECTED:
        Path(path).mkdir()
    for path in FRESH:
        if own_tmp or path != SHARED_TMP:
            replace(path, layers, [*kept_paths(), *extra_paths])
    # Out of sight; what was mounted from it stays.
    run("umount", "--lazy", layers)
    run("mount", "-t", "proc", "proc", "/proc")
    run("umount", "--recursive", "/sys")
    run("mount", "-t", "sysfs", "sysfs", "/sys")
    run("mount", "-t", "tmpfs", "-o", "mode=1777", "shm", "/dev/shm")
    run("ip", "link", "set", "lo", "up")
    name_resolution(hostname, hosts)


def overlay(path, layers):
    upper = layers / "layers" / path.strip("/") / "upper"
    work = upper.with_name("work")
    upper.mkdir(parents=True)
    work.mkdir()
    options = f"lowerdir={path},upperdir={upper},workdir={work}"
    run("mount", "-t", "overlay", "-o", options, "overlay", path)


def replace(path, layers, keep=()):
    """Put an empty directory in the place of path; only the kept paths below stay visible."""
    fresh = layers / "layers" / "fresh" / path.strip("/")
    fresh.mkdir(parents=True)
    shutil.copystat(path, fresh)
    for kept in keep:
        if kept.is_relative_to(path) and kept.exists():
            spot = fresh / kept.relative_to(path)
            spot.mkdir(parents=True, exist_ok=True)
            run("mount", "--rbind", kept, spot)
    run("mount", "--rbind", fresh, path)


def name_resolution(hostname, hosts):
    socket.sethostname(hostname)
    files = {
        "hostname": f"{hostname}\n",
        "hosts": hosts,
        "nsswitch.conf": NSSWITCH,
        "resolv.conf": "",
        "machine-id": f"{uuid.uuid4().hex}\n",
    }
    for name, text in files.items():
        path = Path("/etc") / name
        path.unlink(missing_ok=True)
        path.write_text(text)


def ssh_server():
    """The distribution's default sshd with host keys of its own."""
    ssh = Path("/etc/ssh")
    shutil.rmtree(ssh)
    (ssh / "sshd_config.d").mkdir(parents=True)
    (ssh / "ssh_config.d").mkdir()
    default = Path("/usr/share/openssh/sshd_config")
    text = default.read_text() if default.exists() else "UsePAM yes\n"
    (ssh / "sshd_config").write_text(text)
    (ssh / "ssh_config").write_text("Include /etc/ssh/ssh_config.d/*.conf\n")
    Path("/run/sshd").mkdir(exist_ok=True)
    new_host_keys()


def new_host_keys():
    for key in Path("/etc/ssh").glob("ssh_host_*"):
        key.unlink()
    run("ssh-keygen", "-A")
