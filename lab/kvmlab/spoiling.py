"""What is wrong with a node though all its processes run, and how it is mended."""

from . import power
from .plan import MASTER, Lab, LabError, home
from .processes import find, run_in

# Of the lab, not of the product: its known hosts are put aside, and come back as they were.
KNOWN_HOSTS = "/root/.ssh/kvmcluster_known_hosts"
SSHD_DROP_IN = "/etc/ssh/sshd_config.d/banner.conf"
RELOAD_SSHD = "kill -HUP $(cat /run/sshd.pid)"

SPOILING = {
    "banner": (
        "printf '%s\\n' 'Authorised use only.' 'All is logged.' 'Goodbye.' > /etc/ssh/banner;"
        f" echo 'Banner /etc/ssh/banner' > {SSHD_DROP_IN}; {RELOAD_SSHD}",
        f"rm -f /etc/ssh/banner {SSHD_DROP_IN}; {RELOAD_SSHD}",
    ),
    "noise": (
        "echo 'echo Welcome to $(hostname)' > {home}/.bashrc",
        "rm -f {home}/.bashrc",
    ),
    # All of a node's file systems but the shared one are one tmpfs.
    "disk": (
        "mount -o remount,size=$(($(df -k --output=used /run | tail -n 1) + 256))k /run;"
        " cat /dev/zero > /run/full 2>/dev/null || true",
        "mount -o remount,size=50% /run; rm -f /run/full",
    ),
    "known-hosts": (
        f"mv -T {KNOWN_HOSTS} {KNOWN_HOSTS}.aside",
        f"if [ -e {KNOWN_HOSTS}.aside ]; then mv -T {KNOWN_HOSTS}.aside {KNOWN_HOSTS}; fi",
    ),
}
# What of a node lies outside it: its next boot, and its power as fencing switches it.
BOOT = "boot"
OUTSIDE = {BOOT: Lab.off, "power": Lab.deaf}
KINDS = (*SPOILING, *OUTSIDE)


def spoil(lab, node, kind):
    if node == MASTER:
        raise LabError(f"{node} cannot be spoilt; only nodes can")
    if kind in OUTSIDE:
        OUTSIDE[kind](lab, node).touch()
    else:
        _run(lab, node, SPOILING[kind][0])


def mend(lab, node, kind):
    if node == MASTER:
        raise LabError(f"{node} cannot be spoilt; only nodes can")
    if kind in SPOILING:
        _run(lab, node, SPOILING[kind][1])
        return
    OUTSIDE[kind](lab, node).unlink(missing_ok=True)
    if kind == BOOT and not find(lab, node):
        power.wait_for(lab, node)


def _run(lab, node, script):
    run_in(lab, node, "sh", "-ec", script.replace("{home}", str(home(lab.login))))
