"""Furnishes the private view of the machine that a node, the master or a sandbox lives in.

Runs inside the new namespaces. /etc, /opt, /usr and /var are overlays over the machine's, some
directories are fresh and empty, and everything lies in memory: it vanishes with the last process.
"""

import shutil
import socket
import uuid
from pathlib import Path

from .plan import kept_paths
from .processes import run

OVERLAID = ["/etc", "/opt", "/usr", "/var"]
# State of daemons that the machine itself may run; ours must start with none of it.
FORGOTTEN = [
    "/etc/corosync",
    "/etc/libvirt",
    "/etc/salt",
    "/etc/glusterfs",
    "/var/log",
    "/var/cache/libvirt",
    "/var/cache/salt",
    "/var/lib/glusterd",
    "/var/lib/libvirt",
    "/var/lib/pacemaker",
]
# Directories that those daemons expect to find.
EXPECTED = ["/var/log/glusterfs", "/var/log/libvirt", "/var/log/salt"]
SHARED_TMP = "/tmp"
FRESH = ["/root", "/home", "/srv"]
# Empty at every boot.
VOLATILE = ["/run", SHARED_TMP]
UDEV = "udev"
# Not below /run: what is kept of it must stay visible until it is replaced.
LAYERS = Path("/mnt")
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


def install(hostname, hosts):
    """Replace the machine's /etc, /usr, /var, /root ... by private ones."""
    run("mount", "-t", "tmpfs", "-o", "mode=755", "layers", LAYERS)
    for path in OVERLAID:
        overlay(path)
    for path in FORGOTTEN:
        Path(path).mkdir(parents=True, exist_ok=True)
        replace(path)
    for path in EXPECTED:
        Path(path).mkdir()
    for path in FRESH:
        replace(path, kept_paths())
    run("ip", "link", "set", "lo", "up")
    name_resolution(hostname, hosts)


def boot(own_tmp=True, extra_paths=()):
    """Give processes that begin now an empty /run and /tmp, and a view of themselves."""
    for path in VOLATILE:
        if own_tmp or path != SHARED_TMP:
            forget(layer(path))
            replace(path, [*kept_paths(), *extra_paths])
    # Out of sight; what was mounted from it stays.
    run("umount", "--lazy", LAYERS)
    Path("/run/sshd").mkdir()
    run("mount", "-t", "proc", "proc", "/proc")
    run("umount", "--recursive", "/sys")
    run("mount", "-t", "sysfs", "sysfs", "/sys")
    run("mount", "-t", "tmpfs", "-o", "mode=1777", "shm", "/dev/shm")


def overlay(path):
    upper = LAYERS / "layers" / path.strip("/") / "upper"
    work = upper.with_name("work")
    upper.mkdir(parents=True)
    work.mkdir()
    options = f"lowerdir={path},upperdir={upper},workdir={work}"
    run("mount", "-t", "overlay", "-o", options, "overlay", path)


def replace(path, keep=()):
    """Put an empty directory in the place of path; only the kept paths below stay visible."""
    fresh = layer(path)
    fresh.mkdir(parents=True, exist_ok=True)
    shutil.copystat(path, fresh)
    for kept in keep:
        if kept.is_relative_to(path) and kept.exists():
            spot = fresh / kept.relative_to(path)
            spot.mkdir(parents=True, exist_ok=True)
            run("mount", "--rbind", kept, spot)
    run("mount", "--rbind", fresh, path)


def layer(path):
    return LAYERS / "layers" / "fresh" / path.strip("/")


def forget(folder):
    """Remove what was in a folder before a reboot, but for what udev would find out again."""
    for path in folder.glob("*"):
        if path.is_dir() and not path.is_symlink():
            if path.name != UDEV:
                shutil.rmtree(path)
        else:
            path.unlink()


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
    """The distribution's default sshd with host keys of its own, and a key exchange that is cheap.

    The default one costs more processor time than the rest of a login.
    """
    ssh = Path("/etc/ssh")
    shutil.rmtree(ssh)
    (ssh / "sshd_config.d").mkdir(parents=True)
    (ssh / "ssh_config.d").mkdir()
    default = Path("/usr/share/openssh/sshd_config")
    text = default.read_text() if default.exists() else "UsePAM yes\n"
    (ssh / "sshd_config").write_text(text)
    # The costly ones; of newer ones some have to stay, or a client of theirs warns at each login.
    (ssh / "sshd_config.d" / "lab.conf").write_text("KexAlgorithms -sntrup*\n")
    (ssh / "ssh_config").write_text("Include /etc/ssh/ssh_config.d/*.conf\n")
    new_host_keys()


def new_host_keys():
    for key in Path("/etc/ssh").glob("ssh_host_*"):
        key.unlink()
    run("ssh-keygen", "-A")
