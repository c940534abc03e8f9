"""What a guest takes from its host, by checks: secrets, addresses, ports, CPUs, pages, labels."""

from dataclasses import replace

import worlds
from worlds import IMAGE, SECRET, WEB, guest, node, world

from saltext_kvmcluster.core.facts import questions
from saltext_kvmcluster.core.facts.nodefacts import HeldSecret, Inspection, Socket
from saltext_kvmcluster.core.findings import OK, PROBLEM, UNKNOWN
from saltext_kvmcluster.core.guest.binds import Bind
from saltext_kvmcluster.core.guest.kinds import Kind
from saltext_kvmcluster.core.guest.needed_files import TEMPLATE, File
from saltext_kvmcluster.core.guest.secrets import Secret
from saltext_kvmcluster.core.guest.tuning import Pin, Tuning
from saltext_kvmcluster.core.storage.inventory import Mount, StorageFacts

VNC = {"graphics/type": ("sdl", "vnc")}
EMULATOR = (WEB.type, WEB.arch, WEB.machine, WEB.emulator)


def wanting(of=None, daemon=None, names=None, guests=(), free_kib=4096, storage=None, **resources):
    """A world in which the guest wants something of its host, and node2 has these resources."""
    there = node(
        "node2",
        daemon=worlds.daemon("node2", **daemon or {}),
        resources=replace(worlds.RESOURCES, **resources),
        names=names or {},
        guests=guests,
        free_kib=free_kib,
        storage=storage or StorageFacts(mounts=(*worlds.MOUNTS, HUGE)),
    )
    return world(node(guests=(guest(of=replace(WEB, **of or {})),)), there)


def secret(uuid=SECRET, usage="", kind="volume", **daemon):
    return wanting({"secrets": (Secret("disk vda", kind, uuid, usage),)}, daemon)


def listening(address, port=0, protocol="tcp", **more):
    return wanting({"binds": (Bind("vnc", address, port, protocol),)}, **more)


def taken(address, port=5900, by="192.0.2.12", protocol="tcp"):
    return listening(address, port, sockets=frozenset({Socket(protocol, by, port)}))


def tuned(**tuning):
    resources = {name: tuning.pop(name) for name in [*tuning] if name in ("cpus", "confines")}
    daemon = tuning.pop("daemon", None)
    return wanting({"tuning": Tuning(**tuning)}, daemon, **resources)


def pinned(*cpus, **more):
    return tuned(pins=(Pin("vCPU 0", frozenset(cpus)),), **more)


def screen(kind, enums=VNC):
    """A guest with a screen of that kind, and what node2's libvirt tells of its QEMU."""
    key = questions.emulator_key(dict(zip(questions.EMULATOR, EMULATOR, strict=True)))
    told = {name: frozenset(values) for name, values in (enums or {}).items()}
    emulators = {} if enums is None else {key: told}
    return wanting({"kinds": frozenset({Kind("graphics", "type", kind)})}, {"emulators": emulators})


def on_pages(size, memory, mounted=True, **more):
    """A guest with 1024 KiB of memory, and so much of it on hugepages."""
    return wanting({"tuning": Tuning(hugepages=((size, memory),), mounted=mounted)}, **more)


def of_source(path, use, here, there, *more, optional=False):
    """A world in which the guest needs a path, and what each node has there."""
    files = (File(path, use, optional), *more)
    own = {IMAGE: Inspection("file"), path: Inspection(here)}
    own.update({file.path: Inspection("file") for file in more})
    return world(
        node(guests=(guest(of=replace(WEB, files=files)),), observed=own),
        node(
            "node2",
            observed={
                path: Inspection(there),
                **{file.path: Inspection("nothing") for file in more},
            },
        ),
    )


HUGE = Mount("/dev/hugepages", "hugetlbfs", "hugetlbfs", "0:60", ("rw", "pagesize=2M"))
NO_HUGE = StorageFacts(mounts=worlds.MOUNTS)
OTHER = guest("node2", of=replace(WEB, name="other", tuning=Tuning(cid=5)))
CEPH = frozenset({HeldSecret(SECRET, "ceph", "client.admin", False)})
LOST = frozenset({HeldSecret(SECRET, "volume", IMAGE, True)})
VARS = File("/usr/share/VARS.fd", TEMPLATE, optional=True)

OF_HOSTS = [
    ("secret.present", OK, secret()),
    ("secret.present", OK, secret("", IMAGE)),
    ("secret.present", OK, secret("", "client.admin", "ceph", secrets=CEPH)),
    ("secret.present", PROBLEM, secret("", "client.admin", "iscsi", secrets=CEPH)),
    ("secret.present", PROBLEM, secret("", "/another")),
    ("secret.present", PROBLEM, secret(worlds.OTHER)),
    ("secret.present", PROBLEM, secret(secrets=frozenset())),
    ("secret.present", PROBLEM, secret(secret_values=frozenset())),
    ("secret.present", UNKNOWN, secret(secrets=None)),
    ("secret.present", UNKNOWN, secret(secret_values=None)),
    ("secret.present", UNKNOWN, secret(secrets=LOST)),
    ("network.listen", OK, listening("")),
    ("network.listen", OK, listening("0.0.0.0", 5900)),
    ("network.listen", OK, listening("127.0.0.1", 5900)),
    ("network.listen", OK, listening("192.0.2.12", 5900)),
    ("network.listen", OK, listening("localhost", 5900)),
    ("network.listen", PROBLEM, listening("192.0.2.11")),
    ("network.listen", OK, listening("192.0.2.11", anywhere=frozenset({4}))),
    ("network.listen", PROBLEM, listening("192.0.2.11", anywhere=frozenset({6}))),
    ("network.listen", PROBLEM, listening("2001:db8::11", anywhere=frozenset({4}))),
    ("network.listen", UNKNOWN, listening("192.0.2.11", addresses=None)),
    ("network.listen", PROBLEM, listening("node1", names={"node1": ("192.0.2.11",)})),
    ("network.listen", OK, listening("here", names={"here": ("192.0.2.9", "192.0.2.12")})),
    ("network.listen", PROBLEM, listening("node1", names={"node1": ()})),
    ("network.listen", UNKNOWN, listening("node1")),
    ("network.listen", PROBLEM, taken("")),
    ("network.listen", PROBLEM, taken("0.0.0.0")),
    ("network.listen", PROBLEM, taken("192.0.2.12")),
    ("network.listen", PROBLEM, taken("192.0.2.12", by="0.0.0.0")),
    ("network.listen", PROBLEM, taken("192.0.2.12", by="*")),
    ("network.listen", OK, taken("127.0.0.1")),
    ("network.listen", OK, taken("192.0.2.12", by="::1")),
    ("network.listen", OK, taken("192.0.2.12", protocol="udp")),
    ("network.listen", UNKNOWN, listening("0.0.0.0", 5900, sockets=None)),
    ("network.listen", PROBLEM, wanting({"tuning": Tuning(cid=5)}, guests=(OTHER,))),
    ("network.listen", OK, wanting({"tuning": Tuning(cid=6)}, guests=(OTHER,))),
    ("cpu.pinning", OK, pinned(0, 3)),
    ("cpu.pinning", PROBLEM, pinned(4)),
    ("cpu.pinning", PROBLEM, pinned(3, 4)),
    ("cpu.pinning", PROBLEM, pinned(3, 9)),
    ("cpu.pinning", UNKNOWN, pinned(0, cpus=None)),
    ("cpu.pinning", UNKNOWN, pinned(0, daemon={"online": frozenset()})),
    ("cpu.pinning", OK, tuned(nodes=frozenset({0}))),
    ("cpu.pinning", PROBLEM, tuned(nodes=frozenset({0, 1}))),
    ("cpu.pinning", UNKNOWN, tuned(nodes=frozenset({0}), daemon={"numa_nodes": frozenset()})),
    ("emulator.devices", OK, screen("vnc")),
    ("emulator.devices", PROBLEM, screen("spice")),
    ("emulator.devices", PROBLEM, screen("vnc", {"graphics/*": ()})),
    ("emulator.devices", OK, screen("spice", {"video/modelType": ("vga",)})),
    ("emulator.devices", UNKNOWN, screen("vnc", None)),
    ("memory.hugepages", OK, on_pages(2048, 512 * 2048)),
    ("memory.hugepages", OK, on_pages(0, 512 * 2048)),
    ("memory.hugepages", PROBLEM, on_pages(2048, 512 * 2048 + 1)),
    ("memory.hugepages", PROBLEM, on_pages(1048576, 1)),
    ("memory.hugepages", UNKNOWN, on_pages(0, 1, default_page=0)),
    ("memory.hugepages", PROBLEM, on_pages(0, 1, default_page=0, hugepages={})),
    ("memory.hugepages", UNKNOWN, on_pages(2048, 1, storage=StorageFacts(mounts=None))),
    ("memory.hugepages", OK, on_pages(2048, 1, mounted=False, storage=StorageFacts(mounts=None))),
    ("memory.hugepages", PROBLEM, on_pages(2048, 1, hugepages={})),
    ("memory.hugepages", UNKNOWN, on_pages(2048, 1, hugepages=None)),
    ("memory.hugepages", PROBLEM, on_pages(2048, 1, storage=NO_HUGE)),
    ("memory.hugepages", OK, on_pages(2048, 1, mounted=False, storage=NO_HUGE)),
    ("node.labels", OK, tuned(models=frozenset({"dac"}))),
    ("node.labels", PROBLEM, tuned(models=frozenset({"dac", "selinux"}))),
    ("node.labels", UNKNOWN, tuned(models=frozenset({"dac"}), daemon={"models": frozenset()})),
    ("node.memory", OK, on_pages(2048, 1024, free_kib=0)),
    ("node.memory", PROBLEM, on_pages(2048, 512, free_kib=0)),
    ("storage.visible", OK, of_source("/pipe.in", "serial", "nothing", "nothing", optional=True)),
    (
        "storage.visible",
        PROBLEM,
        of_source("/pipe.in", "serial", "other", "nothing", optional=True),
    ),
    ("storage.visible", PROBLEM, of_source("/usr/bin/qemu", "emulator", "file", "nothing")),
    ("storage.visible", OK, of_source("/vars", "nvram", "file", "file", VARS)),
    ("storage.visible", PROBLEM, of_source("/vars", "nvram", "file", "nothing", VARS)),
]
