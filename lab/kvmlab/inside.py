"""What the first process of each namespace does, role by role."""

import json
import os
import subprocess
import sys
import time
from contextlib import suppress

from . import (
    accounts,
    disks,
    fencing,
    hypervisor,
    network,
    pacemaker,
    power,
    room,
    salting,
    storage,
    systems,
)
from .plan import GUESTS, MASTER, LabError, hosts_file
from .processes import BOOT, birth, entering, find, inside_path, run, run_in, wait_until
from .services import OF_CLUSTER, start_here

# Seconds for minions to answer, twice; see LIMIT of cluster.py.
MINIONS = 120
SANDBOX_HOSTS = "127.0.0.1 localhost sandbox\n::1 localhost\n"


def play(role, lab, command):
    if role == "switch":
        switch(lab)
    elif role == "sandbox":
        sandbox(command)
    elif role == fencing.ROLE:
        fencing.serve(lab)
    elif role == MASTER:
        master(lab)
    elif role == "machine":
        machine(lab, command[0])
    else:
        node(lab, role)


def rest():
    """Stay, doing nothing: as long as this process lives, so does its namespace."""
    os.execvp("sleep", ["sleep", "infinity"])


def tell(line):
    print(line, flush=True)


def switch(lab):
    """The lab's root: everything else of the lab is born here and dies with it."""
    run("mount", "-t", "proc", "proc", "/proc")
    network.build_switch()
    if lab.has_fencing:
        fencing.start(lab)
    tell(f"starting master and {lab.size} nodes")
    births = {place: start_place(lab, place) for place in lab.places}
    for place, process in births.items():
        if process.stdout.readline() != b"ready\n":
            raise LabError(f"{place} did not come up:\n{last_lines(lab.logs / place)}")
    tell("mounting the shared volume on every place")
    in_parallel(
        {place: entering(find(lab, place), storage.mount_command()) for place in lab.places}
    )
    tell("waiting for libvirt on every node")
    in_parallel(
        {node: entering(find(lab, node), ["virsh", "--quiet", "list"]) for node in lab.nodes}
    )
    tell("waiting for every minion to answer")
    wait_for_minions(lab)
    if lab.pacemaker.exists():
        tell("waiting for Pacemaker on every node")
        pacemaker.wait_for(lab, lab.nodes)
    lab.ready.write_text("")
    rest()


def start_place(lab, place):
    with open(lab.logs / place, "wb") as log:
        return systems.start(lab, place, stdout=subprocess.PIPE, stderr=log)


def last_lines(path, count=5):
    if not path.exists():
        return "(nothing)"
    return "\n".join(path.read_text(errors="replace").splitlines()[-count:])


def in_parallel(commands):
    started = {
        place: subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        for place, command in commands.items()
    }
    for place, process in started.items():
        said, _ = process.communicate()
        if process.returncode:
            raise LabError(f"{place}: {said.strip()}")


def wait_for_minions(lab):
    """To ask costs a start of Salt: none is asked before all have written that they are ready."""
    try:
        wait_until(lambda: all(is_ready(lab, node) for node in lab.nodes), MINIONS, "")
        wait_until(lambda: not silent_minions(lab), MINIONS, "")
    except LabError as error:
        silent = silent_minions(lab)
        node = silent[0] if silent else lab.nodes[0]
        log = minion_log(lab, node)
        message = f"no answer from {', '.join(silent)}; {node} says:\n{last_lines(log)}"
        raise LabError(message) from error


def minion_log(lab, node):
    return inside_path(find(lab, node), "/var/log/salt/minion")


def is_ready(lab, node):
    log = minion_log(lab, node)
    return log.exists() and "Minion is ready to receive requests" in log.read_text(errors="replace")


def silent_minions(lab):
    command = ["salt", "--static", "--out=json", "--timeout=3", "*", "test.ping"]
    try:
        answers = json.loads(run_in(lab, MASTER, *command))
    except (LabError, ValueError):
        answers = {}
    return [node for node in lab.nodes if answers.get(node) is not True]


def furnish_place(lab, place):
    network.plug_in(place)
    room.install(place, hosts_file(lab))
    GUESTS.mkdir()


def master(lab):
    furnish_place(lab, MASTER)
    # All that lies in /run of the machine is out of sight after that.
    user = "root" if lab.login == "root" else accounts.MASTER_USER
    room.boot(extra_paths=[lab.pillar])
    os.symlink(lab.pillar, salting.MASTER_PILLAR)
    salting.write_master_config(user)
    if user != "root":
        accounts.make_master()
    start_here("salt-master")
    storage.configure()
    start_here("glusterd")
    storage.make_volume()
    tell("ready")
    rest()


def machine(lab, name):
    """A node without its processes: it boots as often as it is rebooted."""
    furnish_place(lab, name)
    network.build_bridge()
    network.reserve_migration_ports()
    salting.write_minion_config(name)
    room.ssh_server()
    hypervisor.configure()
    if lab.login != "root":
        accounts.make(lab.login)
    power.install()
    if lab.pacemaker.exists():
        pacemaker.configure(lab)
    if lab.ha.exists():
        pacemaker.leave_bare()
    code = birth(lab, name, BOOT).wait()
    while code == power.REBOOTED:
        network.set_own_links(name, "down")
        if lab.has_fencing:
            time.sleep(pacemaker.LEAST_BOOT)
        while lab.off(name).exists():
            time.sleep(0.1)
        network.set_own_links(name, "up")
        code = birth(lab, name, BOOT, stdout=subprocess.DEVNULL).wait()
    sys.exit(code)


def node(lab, name):
    # All that lies in /run of the machine is out of sight after that.
    again, fenced, managed = lab.ready.exists(), lab.has_fencing, lab.pacemaker.exists()
    room.boot(extra_paths=[lab.board])
    disks.own_nodes()
    if again:
        # Without its master a node comes up all the same, and lacks the volume.
        with suppress(LabError):
            run(*storage.mount_command())
    if fenced and not managed:
        power.seem_booted()
    for service in ("minion", "sshd", "libvirtd"):
        start_here(service)
    if fenced:
        pacemaker.boot()
        for service in OF_CLUSTER:
            if managed or pacemaker.is_enabled(service):
                start_here(service)
    tell("ready")
    rest()


def sandbox(command):
    directory = os.getcwd()
    room.install("sandbox", SANDBOX_HOSTS)
    room.ssh_server()
    room.boot(own_tmp=False)
    start_here("sshd")
    os.chdir(directory)
    try:
        os.execvp(command[0], command)
    except OSError as error:
        sys.exit(f"{command[0]}: {error.strerror}")
