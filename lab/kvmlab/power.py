"""A node's reboot: all its processes end, /run and /tmp are empty, and its services start again."""

import signal
from pathlib import Path

from . import services
from .plan import MASTER, LabError
from .processes import end, find, need, run_in, wait_until

# Process 1 passes SIGTERM on to what it waits for, and tells how that ended.
REBOOTED = 128 + signal.SIGTERM
PROGRAMS = Path("/usr/local/sbin")
SHUTDOWN = """#!/bin/sh
# Ends process 1 of this node, and so all its processes; the lab boots it again. As systemd does, it
# has Pacemaker leave the cluster before, which takes what it manages to other nodes.
case "${0##*/} $*" in
  reboot*|*" -r"*)
    for daemon in pacemakerd corosync; do
      pidof "$daemon" >/dev/null && kill $(pidof "$daemon")
      while pidof "$daemon" >/dev/null; do sleep 0.1; done
    done
    kill -TERM 1 ;;
  *) echo "${0##*/}: a node of the lab can only be rebooted" >&2; exit 1 ;;
esac
"""


SYSTEMCTL = """#!/bin/sh
# What a node of the lab has of systemd: the units of libvirt's daemons, of corosync and Pacemaker.
unit=${2%.service}
case "$1 $unit" in
  "start corosync"|"start pacemaker"|"stop corosync"|"stop pacemaker"|"restart pacemaker")
    exec "/etc/init.d/$unit" "$1" ;;
  "status corosync"|"status pacemaker"|"is-active corosync"|"is-active pacemaker")
    "/etc/init.d/$unit" status || { echo inactive; exit 3; }
    echo active; exit ;;
  "status "*) exit 4 ;;
  "--version "*) echo "systemd 252"; exit ;;
  "show "*|"--system daemon-reload") exit ;;
esac
case "$1 $2" in
  "start virtlockd.socket") pidof virtlockd >/dev/null || exec virtlockd --daemon ;;
  "restart libvirtd.service")
    kill $(pidof libvirtd)
    while pidof libvirtd >/dev/null; do sleep 0.1; done
    exec libvirtd --daemon ;;
  is-enabled*|"enable corosync"*|"enable pacemaker"*)
    SYSTEMD_OFFLINE=1 exec /usr/bin/systemctl "$@" ;;
  *) echo "systemctl: a node of the lab cannot $*" >&2; exit 1 ;;
esac
"""


def install():
    """Put programs of systemd into a node's private view, ahead of the machine's own."""
    for name, text in (("shutdown", SHUTDOWN), ("reboot", SHUTDOWN), ("systemctl", SYSTEMCTL)):
        path = PROGRAMS / name
        path.write_text(text)
        path.chmod(0o755)


def seem_booted():
    """Have programs ask `systemctl` for services: without systemd, Salt would ask nothing."""
    Path("/run/systemd/system").mkdir(parents=True)


def reboot(lab, node):
    """Play a reboot, and wait for the node unless it is spoilt."""
    if node == MASTER:
        raise LabError(f"{node} cannot be rebooted; only nodes can")
    switch_off(need(lab, node))
    if not lab.off(node).exists():
        wait_for(lab, node)


def switch_off(pid):
    """End process 1 of a node as a reboot does, and wait until all that ran there is over."""
    end(pid, signal.SIGTERM)


def wait_for(lab, node):
    """Wait until a node's services are there and its libvirt daemon answers."""
    wait_until(lambda: find(lab, node), 30, f"{node} does not boot; see {lab.logs / node}")
    wait_until(
        lambda: all(services.running(lab, node)[0].values()),
        90,
        f"not all services of {node} start; see {lab.logs / node}",
    )
    wait_until(lambda: _answers(lab, node), 30, f"libvirt of {node} does not answer")


def _answers(lab, node):
    try:
        run_in(lab, node, "virsh", "--quiet", "list")
    except LabError:
        return False
    return True
