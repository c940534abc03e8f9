"""Measure the examination of simulated clusters: core alone, no node, no libvirt.

Run by ``make bench``. Each cluster is examined in a process of its own, facts already made; times
are of the processor, since nothing here waits.
"""

import argparse
import json
import resource
import subprocess
import sys
import time

from saltext_kvmcluster.core.facts.nodefacts import (
    Daemon,
    GuestFacts,
    Inspection,
    LoginResults,
    NodeFacts,
)
from saltext_kvmcluster.core.facts.questions import cpu_key
from saltext_kvmcluster.core.facts.starters import Starters
from saltext_kvmcluster.core.guest.blocker import Blocker
from saltext_kvmcluster.core.guest.disks import Disk, Source
from saltext_kvmcluster.core.guest.domainxml import Guest, Interface
from saltext_kvmcluster.core.pacemaker.model import Pacemaker
from saltext_kvmcluster.core.pillar.parser import from_pillar
from saltext_kvmcluster.core.readiness import examination, follow_up
from saltext_kvmcluster.core.readiness.checks.base import World
from saltext_kvmcluster.core.readiness.checks.registry import REGISTRY
from saltext_kvmcluster.core.storage.inventory import Mount, StorageFacts
from saltext_kvmcluster.core.verdicts import Observation, Sighting

CPUS = [f"<cpu><model>Model{number}</model></cpu>" for number in range(4)]
MACHINES = [f"pc-i440fx-{number}" for number in range(40)]
CAN_RUN = {
    cpu_key({"type": "kvm", "arch": "x86_64", "machine": machine, "emulator": "", "cpu": cpu}): ""
    for machine in MACHINES
    for cpu in CPUS
}
FOLDERS = [f"/images{number}" for number in range(4)]
UNIQUE = ("guest.name", "guest.uuid")
MOST = {"seconds": 30.0, "MiB": 1024.0, "growth": 12.0, "audit": 1.0}


def main():
    arguments = _arguments()
    if arguments.one:
        print(json.dumps(measure(*arguments.one)))
        return 0
    sizes = ((1000, 2000), (1000, 20000))
    found = [in_a_process(*size) for size in sizes]
    audited = in_a_process(1000, 100000)
    figures = {
        "seconds": found[1]["questions"] + found[1]["examine"],
        "MiB": found[1]["MiB"],
        "growth": found[1]["examine"] / found[0]["examine"],
        "audit": audited["unique"],
    }
    for size, one in zip(sizes, found, strict=True):
        print(
            f"{size[0]} nodes, {size[1]} guests: questions {one['questions']:.2f} s, examination"
            f" {one['examine']:.2f} s, {one['MiB']:.0f} MiB, {one['movable']} of {one['moves']}"
            f" moves possible, {one['findings']} findings"
        )
    print(
        f"audit of 100000 guests: names and UUIDs {audited['unique']:.2f} s,"
        f" disks {audited['disks']:.2f} s"
    )
    missed = {name: bar for name, bar in MOST.items() if figures[name] > bar}
    for name, bar in missed.items():
        print(f"MISSED {name}: {figures[name]:.2f}, the limit is {bar}")
    return 1 if missed else 0


def measure(nodes, guests):
    """Return the figures of one cluster, as plain data; an audit alone of the largest."""
    facts = cluster_of(nodes, guests)
    if guests > 20000:
        return {
            "unique": seconds(lambda: audit(facts, *UNIQUE))[0],
            "disks": seconds(lambda: audit(facts, "guest.disk"))[0],
        }
    asking, asked = seconds(lambda: follow_up.questions(facts))
    assert len(asked) == nodes
    taken, found = seconds(lambda: examination.examine(facts))
    return {
        "questions": asking,
        "examine": taken,
        "MiB": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        "moves": found.moves,
        "movable": found.movable,
        "findings": len(found.findings),
    }


def audit(facts, *ids):
    """Run checks that compare every guest with every other."""
    checks = [check for check in REGISTRY if check.id in ids]
    return sum(1 for guest in facts.guests for check in checks for _ in check.find(facts, guest))


def cluster_of(size, guests):
    """Return a cluster in which one thing in a hundred is not as it should be."""
    names = [f"node{number}" for number in range(size)]
    reached = {name: LoginResults(cells(name), "refused") for name in names}
    homes = {name: [] for name in names}
    for number in range(guests):
        homes[names[number % size]].append(number)
    pillar = {"name": "bench", "nodes": dict.fromkeys(names)}
    nodes = {
        name: node(name, place, [guest(name, number) for number in homes[name]], reached)
        for place, name in enumerate(names)
    }
    return World(from_pillar({"kvmcluster": pillar}), nodes)


def node(name, place, guests, reached):
    broken = place % 100 == 7
    token = {folder: f"token of {name} in {folder}" for folder in FOLDERS}
    return NodeFacts(
        name,
        daemon=Daemon(
            uuid=f"host {name}",
            name=name,
            qemu=7002000,
            machines={"x86_64/kvm": frozenset(MACHINES)},
            networks={"default": True},
            cpus=CAN_RUN,
        ),
        guests=tuple(guests),
        clock=0.1,
        clock_error=0.1,
        cordoned=(),
        memory_kib=256 << 20,
        free_kib=(64 << 20) + place,
        host_name=name,
        resolves=("192.0.2.1",),
        bridges={**{f"br{number}": True for number in range(20)}, f"tap of {name}": True}
        if not broken
        else {},
        listening=frozenset({22, 49152, 49153}),
        starters=Starters(),
        pacemaker=Pacemaker(),
        minion_process="",
        storage=StorageFacts(mounts=mounts(), devices=(), volumes=(), replicas=(), maps=()),
        ssh={check.id: () for check in REGISTRY if check.id.startswith("ssh.")},
        peers=reached,
        observed={
            source.path: Inspection("file")
            for one in guests
            for disk in one.guest.disks
            for source in (disk.source, *disk.backing)
        },
        written=token,
        tokens={
            (folder, f"node{writer}"): (f"token of node{writer} in {folder}",)
            for folder in FOLDERS
            for writer in range(3)
        },
    )


def guest(at, number):
    uuid = f"00000000-0000-0000-0000-{number:012d}"
    folder = FOLDERS[number % len(FOLDERS)]
    image = Source("file", f"{folder}/guest{number}.qcow2", "qcow2")
    base = Source("file", f"{folder}/base{number % 10}.img", "raw")
    found = Guest(
        f"guest{number}",
        uuid,
        "kvm",
        arch="x86_64",
        machine=MACHINES[number % len(MACHINES)],
        memory_kib=(1 + number % 100) << 20,
        vcpus=2,
        cpu=CPUS[number % len(CPUS)],
        disks=(Disk("vda", image, cache="none", backing=(base,)),),
        interfaces=(Interface("bridge", f"br{number % 20}"),),
        blockers=(Blocker("it has a host device"),) if number % 100 == 3 else (),
    )
    observation = Observation(Sighting.RUNNING, name=found.name, uuid=uuid)
    return GuestFacts(at, observation, guest=found, memory_kib=found.memory_kib)


def mounts():
    return (
        Mount("/", "ext4", "/dev/sda1", "8:1"),
        *(
            Mount(folder, "nfs4", f"server:{folder}", f"0:{number}")
            for number, folder in enumerate(FOLDERS)
        ),
    )


def cells(peer):
    good = {"peer": peer, "ok": True, "cause": "ok", "detail": "", "remedy": "", "seconds": 0.1}
    return ({**good, "name": peer},)


def seconds(run):
    begun = time.process_time()
    result = run()
    return time.process_time() - begun, result


def in_a_process(nodes, guests):
    command = [sys.executable, __file__, "--one", str(nodes), str(guests)]
    return json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)


def _arguments():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--one", type=int, nargs=2, metavar=("NODES", "GUESTS"))
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
