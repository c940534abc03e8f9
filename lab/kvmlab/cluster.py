"""A lab's life, seen from outside: up, down, status."""

import os
import re
import shutil
import socket
import subprocess
import sys
import time
from contextlib import contextmanager, suppress

from . import install, network, pacemaker, salting, services, systems
from .plan import (
    MASTER,
    MAX_NODES,
    Lab,
    LabError,
    home,
    host_number,
    lab_name,
    networks_of,
    venv,
)
from .processes import (
    INSIDE,
    NAMESPACES,
    birth,
    clean_environment,
    end,
    find,
    pid_namespace,
    run_in,
)

SANDBOX_PROGRAMS = ["unshare", "nsenter", "tini", "ip", "sshd"]
CLUSTER_PROGRAMS = [*SANDBOX_PROGRAMS, "libvirtd", "virsh", "qemu-system-x86_64", "glusterd"]
# Seconds for a lab to come up; on a quiet machine it takes 20.
LIMIT = 280
PACEMAKER_PROGRAMS = ["corosync", "pacemakerd", "crm_mon"]


def current():
    """The lab that is up; its size is what `up` wrote down."""
    install.need_root()
    lab = Lab(lab_name())
    with suppress(OSError, ValueError):
        lab = Lab(lab.name, int((lab.state / "size").read_text()))
    if find(lab, "switch") is None:
        raise LabError(f"there is no lab {lab.name!r}; run lab/ctl up")
    return lab


@contextmanager
def only_one(lab, blocked=None):
    """Keep two ups of one lab apart, with a socket name that vanishes with its process."""
    lock = socket.socket(socket.AF_UNIX)
    # Labs are found by their processes, so each PID namespace has labs of its own.
    name = f"\0kvmcluster-lab-{lab.name}-{pid_namespace('self')}"
    while True:
        try:
            lock.bind(name)
            break
        except OSError as error:
            if blocked is None:
                message = f"another lab/ctl is building or removing lab {lab.name!r}"
                raise LabError(message) from error
            blocked()
            time.sleep(0.1)
    with lock:
        yield


def up(size, ha, say, own=None, login="root"):
    """Build a lab.

    ha
        Who sets up Pacemaker: ``lab``, or ``ha``, whoever uses it; empty for a lab without.
    own
        The systems of those nodes that are to have another one than the machine.
    login
        The account that nodes log in to on their peers.
    """
    own = own or {}
    if not re.fullmatch("[a-z][a-z0-9]{0,15}", login):
        raise LabError(f"--login {login!r}: use 1 to 16 of the characters a-z and 0-9")
    if not 1 <= size <= MAX_NODES:
        raise LabError(f"--nodes {size}: between 1 and {MAX_NODES}")
    lab = Lab(lab_name(), size)
    check_machine([*CLUSTER_PROGRAMS, *(PACEMAKER_PROGRAMS if ha else [])])
    check_guest_image()
    if strangers := set(own) - set(lab.places):
        raise LabError(f"{min(strangers)}: this lab will have {', '.join(lab.places)}")
    with only_one(lab):
        if is_whole(lab, ha, own, login, say):
            return
        with systems.held(own) as kept:
            for place, system in own.items():
                system.check(place)
            started = time.monotonic()
            try:
                build(lab, ha, own, login, say, kept)
            except BaseException:
                remove(lab)
                raise
    say(f"lab {lab.name!r} is up: master and {size} nodes, {time.monotonic() - started:.0f} s")
    say("try: lab/ctl status; lab/ctl salt -- '*' test.ping; lab/ctl guest web1 --on node1")


def check_machine(programs):
    """Say in plain words why namespaces with these programs cannot be had here."""
    install.need_root()
    missing = [name for name in programs if not shutil.which(name)]
    if missing:
        raise LabError(f"not installed: {', '.join(missing)}; run lab/ctl install")
    if not (venv() / "bin" / "salt-master").exists():
        raise LabError(f"no Salt in {venv()}; install it there, or name another KVMCLUSTER_VENV")
    if subprocess.run(["unshare", *NAMESPACES, "--fork", "true"], capture_output=True).returncode:
        raise LabError(
            "this machine does not let root make namespaces (a container without privileges?): "
            "the lab cannot run here"
        )


def check_guest_image():
    if not (install.KERNEL.exists() and install.INITRAMFS.exists()):
        raise LabError("there is no guest image yet; run lab/ctl install")


def is_whole(lab, ha, own, login, say):
    """True for a lab that is all there, False where there is none; a half one is refused."""
    if find(lab, "switch") is None:
        if lab.state.exists():
            raise LabError("files of a previous lab are left; run lab/ctl down first")
        return False
    there = current()
    if not there.ready.exists() or missing_parts(there):
        raise LabError("the lab is incomplete; run lab/ctl down first")
    if there.size != lab.size:
        raise LabError(f"a lab of {there.size} nodes is up; run lab/ctl down first")
    if ha != ha_of(there):
        raise LabError("the lab that is up differs in Pacemaker; run lab/ctl down first")
    if own != systems.read(there):
        raise LabError("the lab that is up differs in its systems; run lab/ctl down first")
    if login != there.login:
        raise LabError(f"the lab that is up has login {there.login}; run lab/ctl down first")
    say(f"lab {lab.name!r} is up already: master and {lab.size} nodes")
    return True


def ha_of(lab):
    return "lab" if lab.pacemaker.exists() else "ha" if lab.ha.exists() else ""


def missing_parts(lab):
    missing = []
    for place in lab.places:
        if find(lab, place) is None:
            missing.append(place)
            continue
        found, _ = services.running(lab, place)
        set_up = [name for name in found if not (lab.ha.exists() and name in services.OF_CLUSTER)]
        missing += [f"{name} on {place}" for name in set_up if not found[name]]
    return missing


def build(lab, ha, own, login, say, kept):
    lab.logs.mkdir(parents=True)
    systems.write(lab, own)
    lab.board.mkdir()
    if ha == "lab":
        pacemaker.make_key(lab)
    if ha == "ha":
        lab.ha.touch()
    (lab.state / "size").write_text(f"{lab.size}\n")
    if login != "root":
        (lab.state / "login").write_text(login)
    salting.write_pillar(lab)
    path = lab.logs / "lab"
    with open(path, "wb") as log:
        root = birth(lab, "switch", stdout=log, stderr=log, pass_fds=kept)
    with open(path) as progress:
        deadline = time.monotonic() + LIMIT
        while not lab.ready.exists():
            over = root.poll() is not None
            if lines := progress.read().rstrip():
                say(lines)
            if over:
                raise LabError("the lab did not come up; it was removed")
            if time.monotonic() > deadline:
                raise LabError(f"not ready after {LIMIT} seconds")
            time.sleep(0.05)


def down(say):
    lab = Lab(lab_name())
    install.need_root()
    there = find(lab, "switch") is not None or lab.state.exists()
    with only_one(lab, blocked=lambda: end_root(lab)):
        remove(lab)
    say(f"lab {lab.name!r} is down" if there else f"there is no lab {lab.name!r}")


def end_root(lab):
    root = find(lab, "switch")
    if root is not None:
        end(root)


def remove(lab):
    """All processes, namespaces and mounts of a lab die with its root; files remain.

    The folder around `state` is every lab's: whoever removed it when empty would take it from
    beneath a lab that is just being built.
    """
    end_root(lab)
    shutil.rmtree(lab.state, ignore_errors=True)


def status():
    """One row for each place: its addresses, services and guests."""
    lab = current()
    cut = network.cut_networks(lab)
    rows = [("place", *networks_heading(), "services", "guests")]
    for place in lab.places:
        if find(lab, place) is None:
            rows.append((place, "-", "-", "GONE", ""))
            continue
        found, guests = services.running(lab, place)
        words = [service_word(name, pids) for name, pids in found.items()]
        links = [link(place, name, cut[place]) for name in ("management", "migration")]
        rows.append((place, *links, ", ".join(words), ", ".join(sorted(guests))))
    return table(rows)


def service_word(name, pids):
    if not pids:
        return f"{name} DOWN"
    return f"{name} STOPPED" if any(map(services.is_stopped, pids)) else name


def networks_heading():
    return "management", "migration"


def link(place, name, cut):
    networks = networks_of(place)
    if name not in networks:
        return "-"
    address = networks[name].address(host_number(place))
    return f"{address} CUT" if name in cut else address


def table(rows):
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        for row in rows
    ]
    return "\n".join(line.rstrip() for line in lines)


def reinstall(lab, node):
    """Make a node look as if its system had been installed anew under the same name."""
    if node == MASTER:
        raise LabError("the master cannot be reinstalled")
    run_in(lab, node, "sh", "-ec", "rm -f /etc/ssh/ssh_host_*; ssh-keygen -A")
    # What is mounted below /root (a Python, a checkout) cannot be deleted, and is not visited.
    emptied = ["/root", home(lab.login)]
    run_in(
        *(lab, node, "sh", "-c"),
        f"find {' '.join(map(str, emptied))} -xdev -mindepth 1 -delete 2>/dev/null; true",
    )
    found, _ = services.running(lab, node)
    if found["sshd"]:
        services.kill(lab, node, "sshd")
    services.start(lab, node, "sshd")


def sandbox(command):
    """Become a throw-away environment that runs the command; all of it ends with the command."""
    check_machine(SANDBOX_PROGRAMS)
    environment = {**os.environ, **clean_environment(), "TERM": os.environ.get("TERM", "dumb")}
    line = [
        "unshare",
        *NAMESPACES,
        "--fork",
        "--kill-child",
        "tini",
        "-s",
        "--",
        sys.executable,
        "-B",
        INSIDE,
        "sandbox",
        "sandbox",
        "0",
        *command,
    ]
    os.execvpe(line[0], line, environment)
