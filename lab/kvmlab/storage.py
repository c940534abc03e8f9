"""Shared storage: one GlusterFS volume, served by the master, mounted on every node."""

from pathlib import Path

from .plan import BRICK, GUESTS, MASTER
from .processes import run, wait_until

VOLUME = "guests"
# Bricks would otherwise sit on the ports that QEMU migrates through, 49152 to 49215.
GLUSTERD = """volume management
    type mgmt/glusterd
    option working-directory /var/lib/glusterd
    option transport-type socket
    option base-port 50152
    option max-port 50251
end-volume
"""
OPTIONS = {
    # The brick lies in memory, and not every kernel's tmpfs takes O_DIRECT.
    "network.remote-dio": "enable",
    # Caches of a client that would show one node what another has already overwritten.
    "performance.quick-read": "off",
    "performance.io-cache": "off",
    "performance.read-ahead": "off",
    "performance.stat-prefetch": "off",
}


def configure():
    folder = Path("/etc/glusterfs")
    folder.mkdir(exist_ok=True)
    (folder / "glusterd.vol").write_text(GLUSTERD)
    (folder / "gluster-rsyslog-7.2.conf").unlink(missing_ok=True)
    BRICK.mkdir()


def make_volume():
    """Inside the master, with glusterd running."""
    gluster = ["gluster", "--mode=script", "volume"]
    wait_until(lambda: answers([*gluster, "list"]), 30, "glusterd does not answer")
    run(*gluster, "create", VOLUME, f"{MASTER}:{BRICK}", "force")
    settings = [word for pair in OPTIONS.items() for word in pair]
    run(*gluster, "set", VOLUME, *settings)
    run(*gluster, "start", VOLUME)


def answers(command):
    try:
        run(*command, timeout=10)
    except Exception:
        return False
    return True


def mount_command():
    # Without it, a file rewritten in its old size on one node goes on to be read from the
    # kernel's page cache on the others.
    options = "direct-io-mode=enable"
    return ["mount", "-t", "glusterfs", "-o", options, f"{MASTER}:/{VOLUME}", GUESTS]
