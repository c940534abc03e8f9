"""Worlds for the checks: all is well in them until a test changes something."""

from dataclasses import replace

from saltext_kvmcluster.core.facts.nodefacts import (
    Daemon,
    GuestFacts,
    HeldSecret,
    Inspection,
    LoginResults,
    NodeFacts,
    Resources,
    Socket,
)
from saltext_kvmcluster.core.facts.questions import cpu_key
from saltext_kvmcluster.core.facts.starters import Starters
from saltext_kvmcluster.core.guest.disks import Disk, Source
from saltext_kvmcluster.core.guest.domainxml import Guest, Interface
from saltext_kvmcluster.core.pacemaker.model import Pacemaker
from saltext_kvmcluster.core.pillar.parser import from_pillar
from saltext_kvmcluster.core.readiness.checks.base import World
from saltext_kvmcluster.core.storage.inventory import Mount, StorageFacts
from saltext_kvmcluster.core.trust import logins
from saltext_kvmcluster.core.verdicts import Observation, Sighting

NODES = ("node1", "node2", "node3")
UUID, OTHER = "11111111-1111-1111-1111-111111111111", "22222222-2222-2222-2222-222222222222"
CPU = "<cpu><model>qemu64</model></cpu>"
CPU_KEY = cpu_key(
    {
        "type": "kvm",
        "arch": "x86_64",
        "machine": "pc-i440fx-7.2",
        "emulator": "/usr/bin/qemu-system-x86_64",
        "cpu": CPU,
    }
)
IMAGES = "/images"
IMAGE = f"{IMAGES}/web1.img"
MOUNTS = (
    Mount("/", "ext4", "/dev/sda1", "8:1"),
    Mount(IMAGES, "fuse.glusterfs", "storage:/images", "0:50"),
)
SECRET = "44444444-4444-4444-4444-444444444444"
RESOURCES = Resources(
    addresses=frozenset({"127.0.0.1", "::1", "192.0.2.12"}),
    sockets=frozenset({Socket("tcp", "0.0.0.0", 22)}),
    cpus=frozenset(range(8)),
    hugepages={2048: 512},
    default_page=2048,
)
SSH = ("ssh.key", "ssh.authorized", "ssh.config", "ssh.label", "ssh.stale")
RUNNING = Observation(Sighting.RUNNING, name="web1", uuid=UUID)
WEB = Guest(
    "web1",
    UUID,
    "kvm",
    arch="x86_64",
    machine="pc-i440fx-7.2",
    emulator="/usr/bin/qemu-system-x86_64",
    memory_kib=1024,
    vcpus=1,
    cpu=CPU,
    disks=(Disk("vda", Source("file", IMAGE, "raw"), cache="none"),),
    interfaces=(Interface("bridge", "br0"), Interface("network", "default")),
)


def cluster(nodes=NODES[:2], guests=None, **more):
    body = {"name": "lab", "nodes": {node: {"migration": f"{node}-mig"} for node in nodes}}
    return from_pillar({"kvmcluster": {**body, "guests": guests or {}, **more}})


def daemon(node, **changes):
    found = Daemon(
        uuid=f"host-{node}",
        name=node,
        qemu=7002000,
        machines={"x86_64/kvm": frozenset({"pc-i440fx-7.2", "q35"})},
        networks={"default": True},
        cpus={CPU_KEY: ""},
        online=frozenset(range(4)),
        numa_nodes=frozenset({0}),
        models=frozenset({"none", "dac"}),
        filters=frozenset({"clean-traffic"}),
        secrets=frozenset({HeldSecret(SECRET, "volume", IMAGE, False)}),
        secret_values=frozenset({SECRET}),
    )
    return replace(found, **changes)


def cells(peer, **causes):
    """The logins to a peer; ``causes`` says by the ending of a name what went wrong."""
    return tuple(
        {
            "peer": peer,
            "name": name,
            "ok": cause == logins.OK,
            "cause": cause,
            "detail": "",
            "remedy": logins.REMEDIES.get(cause, ""),
            "seconds": 0.1,
        }
        for name, cause in (
            (peer, causes.get("id", logins.OK)),
            (f"{peer}-mig", causes.get("mig", logins.OK)),
        )
    )


def node(name="node1", nodes=NODES[:2], **changes):
    good = NodeFacts(
        name,
        daemon=daemon(name),
        guests=(),
        clock=0.0,
        clock_error=0.1,
        cordoned=(),
        memory_kib=8192,
        free_kib=4096,
        host_name=name,
        resolves=("192.0.2.1",),
        bridges={"br0": True},
        listening=frozenset({22}),
        starters=Starters(),
        resources=RESOURCES,
        storage=StorageFacts(mounts=MOUNTS),
        pacemaker=Pacemaker(),
        ssh=dict.fromkeys(SSH, ()),
        peers={peer: LoginResults(cells(peer), "refused") for peer in nodes if peer != name},
        observed={IMAGE: Inspection("file")},
        written={IMAGES: f"token of {name}"},
        tokens={(IMAGES, peer): (f"token of {peer}",) for peer in nodes},
    )
    return replace(good, **changes)


def guest(at="node1", observation=RUNNING, of=WEB, **changes):
    return replace(
        GuestFacts(at, observation, guest=of, memory_kib=1024, disks=(IMAGE,)), **changes
    )


def world(*nodes, **more):
    """A world of some nodes; without any, all is well: web1 runs on node1."""
    found = {one.node: one for one in nodes or (node(guests=(guest(),)), node("node2"))}
    return World(cluster(tuple(found), **more), found)
