"""The daemons of the lab: how each is started, recognised and killed."""

import os
import signal
from contextlib import suppress
from pathlib import Path

from .plan import CHECKOUT, MASTER, LabError
from .processes import find, is_over, need, processes_in, run, run_in, stat, wait_until

MINION = CHECKOUT / "lab" / "salt-minion"


PACEMAKER_LOG = ["PCMK_logfile=/var/log/pacemaker/pacemaker.log", "PCMK_logfacility=none"]
LOCKD = "^lock_manager /etc/libvirt/qemu.conf"


def daemon(name, *command):
    """A command that leaves a foreground program running, its output in the log."""
    return ["sh", "-c", f'exec setsid --fork "$@" >>/var/log/{name}.log 2>&1', "sh", *command]


def start_commands(service):
    return {
        "sshd": [["/usr/sbin/sshd"]],
        "libvirtd": [
            # It keeps the guests' consoles open and so outlives a killed libvirtd.
            ["sh", "-c", "pidof virtlogd || virtlogd --daemon"],
            # As systemd would, where its plugin is configured; it keeps the guests' leases.
            ["sh", "-c", f"! grep -qs {LOCKD} || pidof virtlockd || virtlockd --daemon"],
            ["libvirtd", "--daemon"],
        ],
        "minion": [daemon("minion", "python3", str(MINION))],
        "salt-master": [daemon("master", "salt-master")],
        "glusterd": [["glusterd"]],
        "corosync": [daemon("corosync", "corosync", "-f")],
        "pacemaker": [daemon("pacemaker", "env", *PACEMAKER_LOG, "pacemakerd")],
    }[service]


PROGRAMS = {
    "pacemaker": {
        "pacemakerd",
        *(f"pacemaker-{part}" for part in ("attrd", "based", "controld", "execd", "fenced")),
        "pacemaker-schedulerd",
    },
    "minion": {"salt-minion"},
    # From OpenSSH 9.8 on, each connection is a program of its own; from 10.0 on, each login, too.
    "sshd": {"sshd", "sshd-session", "sshd-auth"},
}
OF_MASTER = ["salt-master", "glusterd"]
OF_NODE = ["sshd", "libvirtd", "minion"]
# In the order in which they start.
OF_CLUSTER = ["corosync", "pacemaker"]


def services_of(lab, place):
    if place == MASTER:
        return OF_MASTER
    return [*OF_NODE, *OF_CLUSTER] if lab.has_fencing else OF_NODE


def belongs_to(service, line):
    """Whether a process with this command line is part of the service.

    Programs rename themselves ("sshd: ... [listener]", "python3 .../salt-master MainProcess"),
    so the words are looked at, wherever one argument ends.
    """
    programs = PROGRAMS.get(service, {service})
    words = " ".join(line).split()[:2]
    return not programs.isdisjoint(Path(word).name.rstrip(":") for word in words)


def guest_of(line):
    """The guest that a process with this command line runs, or None."""
    if not line[0].endswith("qemu-system-x86_64") or "-name" not in line:
        return None
    name = line[line.index("-name") + 1].split(",")[0]
    return name.removeprefix("guest=")


def running(lab, place):
    """({service: [pids]}, {guest: [pids]}) of a place, as seen from outside."""
    processes = processes_in(need(lab, place))
    services = {
        service: [pid for pid, line in processes.items() if belongs_to(service, line)]
        for service in services_of(lab, place)
    }
    guests = {}
    for pid, line in processes.items():
        if guest := guest_of(line):
            guests.setdefault(guest, []).append(pid)
    return services, guests


def qemus(lab, guest):
    """The QEMU process of a guest by node, as seen from outside: a node that is off has none."""
    found = {}
    for node in lab.nodes:
        first = find(lab, node)
        for pid, line in (processes_in(first) if first else {}).items():
            if guest_of(line) == guest:
                found[node] = pid
    return found


def targets(lab, place, target):
    """The processes that are meant by SERVICE, qemu:GUEST, job or ssh; a LabError if none is."""
    services, guests = running(lab, place)
    kind, _, guest = target.partition(":")
    if kind == "qemu":
        pids = guests.get(guest, [])
    elif target in PARTS and place != MASTER:
        pids = PARTS[target](lab, place, services)
    elif target in services:
        pids = services[target]
    else:
        known = ", ".join([*services, *PARTS, "qemu:GUEST"])
        raise LabError(f"{target}: unknown process of {place}; known: {known}")
    if not pids:
        raise LabError(f"{target} is not running on {place}")
    return pids


def jobs(lab, place, services):
    """The minion's processes that carry out a job; it names each by the job's id."""
    lines = processes_in(need(lab, place))
    return [pid for pid in services["minion"] if "ProcessPayload(" in " ".join(lines.get(pid, []))]


def ssh_clients(lab, place, services):
    """The ssh clients of the libvirt daemon: its connections to its peers."""
    lines = processes_in(need(lab, place))
    clients = [pid for pid, line in lines.items() if Path(line[0]).name == "ssh"]
    return [pid for pid in clients if int((stat(pid) or [None, 0])[1]) in services["libvirtd"]]


PARTS = {"job": jobs, "ssh": ssh_clients}


def kill(lab, place, target):
    """Kill what is meant as a crash would."""
    pids = targets(lab, place, target)
    send(pids, signal.SIGKILL)
    wait_until(
        lambda: all(is_over(pid) for pid in pids),
        10,
        f"{target} on {place} does not end",
    )


def send(pids, number):
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, number)


def stop(lab, place, target):
    """Make what is meant stand still: it keeps its connections and answers nothing."""
    send(targets(lab, place, target), signal.SIGSTOP)


def cont(lab, place, target):
    send(targets(lab, place, target), signal.SIGCONT)


def is_stopped(pid):
    now = stat(pid)
    return now is not None and now[0] == "T"


def start(lab, place, service):
    services, _ = running(lab, place)
    if service not in services:
        raise LabError(f"{service}: {place} runs {', '.join(services)}")
    if services[service]:
        raise LabError(f"{service} is running on {place} already")
    start_here(service, lambda *command: run_in(lab, place, *command))


def start_here(service, runner=run):
    for command in start_commands(service):
        runner(*command)
