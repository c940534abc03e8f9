"""Every check of the registry, seen OK, PROBLEM and UNKNOWN."""

import importlib
from dataclasses import replace

import pacemakers
import pytest
import worlds
from ha_cases import HA_CASES, of_pacemaker
from host_cases import OF_HOSTS
from worlds import IMAGE, IMAGES, OTHER, RUNNING, UUID, WEB, guest, node, world

from saltext_kvmcluster.core import verdicts
from saltext_kvmcluster.core.cordons import Cordon
from saltext_kvmcluster.core.facts.nodefacts import Inspection, silent
from saltext_kvmcluster.core.facts.starters import Starters
from saltext_kvmcluster.core.findings import OK, PROBLEM, UNKNOWN, WARN, Issue
from saltext_kvmcluster.core.guest.blocker import Blocker
from saltext_kvmcluster.core.guest.disks import Disk, Source
from saltext_kvmcluster.core.guest.domainxml import Frozen, Interface
from saltext_kvmcluster.core.guest.needed_files import File
from saltext_kvmcluster.core.migration.migration import Run
from saltext_kvmcluster.core.pacemaker.model import Pacemaker
from saltext_kvmcluster.core.pillar.options import Options
from saltext_kvmcluster.core.readiness.checks.base import GUEST, NODE, PAIR, World
from saltext_kvmcluster.core.readiness.checks.node import CLIENT, SERVER
from saltext_kvmcluster.core.readiness.checks.registry import REGISTRY
from saltext_kvmcluster.core.readiness.examination import examine
from saltext_kvmcluster.core.storage.inventory import Mount, StorageFacts
from saltext_kvmcluster.core.verdicts import Observation, Sighting

CHECKS = {check.id: check for check in REGISTRY}
SHUT_OFF = replace(RUNNING, sighting=Sighting.SHUT_OFF, persistent=True)
GOOD = world()
SILENT = silent("node2", "timed out")
NO_DAEMON = node("node2", daemon=None, daemon_detail="connection refused", guests=None)


def at(*guests, **changes):
    """Node1 with the guests, and whatever else is changed on it."""
    return node(guests=guests or (guest(),), **changes)


def there(*guests, **changes):
    return world(at(), node("node2", guests=guests, **changes))


def here(*guests, **changes):
    return world(at(*guests, **changes), node("node2"))


def with_definition(**changes):
    return here(guest(of=replace(WEB, **changes)))


def with_only(*allowed, node2=None):
    """web1 on node1 of two nodes, with ``only``."""
    found = there(**node2) if node2 else GOOD
    cluster = worlds.cluster(guests={"list": {"web1": {"only": list(allowed)}}})
    return World(cluster, found.nodes)


def with_disk(**changes):
    return with_definition(disks=(replace(WEB.disks[0], **changes),))


def towards_libvirt(version):
    return there(daemon=worlds.daemon("node2", libvirt=version))


def between_libvirts(source, destination):
    here, there = (
        worlds.daemon("node1", libvirt=source),
        worlds.daemon("node2", libvirt=destination),
    )
    return world(at(daemon=here), node("node2", daemon=there))


ZSTD = {"parallel": 2, "compression": "zstd"}
SERVICE = Starters("libvirt-guests, ON_BOOT=start", "ON_BOOT=ignore")


def starting(starters, observation=RUNNING):
    """A world in which the node that has web1 so starts guests at its next boot."""
    if observation is SHUT_OFF:
        return there(guest("node2", SHUT_OFF, None), starters=starters)
    return here(guest(observation=observation), starters=starters)


def optioned(one, **options):
    """A world in which one migration has options of its own."""
    return World(one.cluster.with_options(Options(**options)), one.nodes)


DEFINITION = """<domain type='kvm'><name>web1</name><uuid>{}</uuid><memory>{}</memory>
<os><type arch='x86_64' machine='pc-i440fx-7.2'>hvm</type></os></domain>"""


def listed(text, detail="", **more):
    """A world in which web1 is listed, and its definition has this text on every node."""
    reported = {
        "definitions": {} if text is None else {"web1": text},
        "definition_notes": {"web1": detail} if detail else {},
    }
    return world(
        at(guest(of=replace(WEB, text=DEFINITION.format(UUID, 1024))), **reported),
        node("node2", **reported),
        guests={"list": {"web1": {}}, "path": "/images", **more},
    )


def ssh(check, outcome):
    error = Issue("it is not well", "mend it", outcome)
    changed = {**dict.fromkeys(worlds.SSH, ()), check: (error,)}
    return world(at(ssh=changed), node("node2", ssh=changed))


def told_nothing(check):
    left = {other: () for other in worlds.SSH if other != check}
    return world(at(ssh=left), node("node2", ssh=left))


def reaching(**causes):
    observed = worlds.LoginResults(worlds.cells("node2", **causes), "refused")
    return here(peers={"node2": observed})


CERTIFICATES = frozenset({"ca-cert.pem", *CLIENT, *SERVER})


def encrypted(here=CERTIFICATES, there=CERTIFICATES, tls=True, **more):
    """A world in which migrations are encrypted, with those certificates."""
    known = {
        name: None if files is None else ("/etc/pki/qemu", files)
        for name, files in (("node1", here), ("node2", there))
    }
    return world(
        at(daemon=worlds.daemon("node1", certificates=known["node1"])),
        node("node2", daemon=worlds.daemon("node2", certificates=known["node2"], **more)),
        migration={"tls": tls},
    )


def port(detail):
    return here(peers={"node2": worlds.LoginResults(worlds.cells("node2"), detail)})


def other_range(detail):
    observed = worlds.LoginResults(worlds.cells("node2"), detail)
    elsewhere = worlds.daemon("node2", ports=(50000, 50010))
    return world(at(peers={"node2": observed}), node("node2", daemon=elsewhere))


def passed_through(cpu):
    """A guest with the CPU of its host; node2 can run the one of the other guests alone."""
    other = worlds.CPU_KEY.replace("qemu64", "Other")
    answers = {worlds.CPU_KEY: "", other: "no avx512"}
    return world(
        at(
            guest(of=replace(WEB, cpu='<cpu mode="host-passthrough"></cpu>')),
            daemon=worlds.daemon("node1", cpu=cpu),
        ),
        node("node2", daemon=worlds.daemon("node2", cpus=answers)),
    )


def timed(wanted, offered, **changes):
    """A guest with a frequency of its TSC, and a destination whose own cannot be scaled."""
    return world(
        at(guest(of=replace(WEB, tsc=wanted, **changes))),
        node("node2", daemon=worlds.daemon("node2", tsc=offered)),
    )


def on_nfs(source, destination, cache=""):
    """A disk on NFS with a cache mode, and QEMU's versions of both nodes."""
    mounts = (worlds.MOUNTS[0], Mount(IMAGES, "nfs4", "s:/images", "0:50"))
    facts = {"storage": StorageFacts(mounts=mounts)}
    return world(
        at(
            guest(of=replace(WEB, disks=(replace(WEB.disks[0], cache=cache),))),
            daemon=worlds.daemon("node1", qemu=source),
            **facts,
        ),
        node("node2", daemon=worlds.daemon("node2", qemu=destination), **facts),
    )


LAN, BRIDGED = Interface("network", "default"), Interface("bridge", "br0")
FILTERED = replace(BRIDGED, filter="clean-traffic")
LACKING = dict.fromkeys(("networks", "filters"), "this function is not supported")


def carded(card, **there):
    """A guest with one network card, and what the destination's libvirt lists of networks."""
    return world(
        at(guest(of=replace(WEB, interfaces=(card,)))),
        node("node2", daemon=worlds.daemon("node2", **there)),
    )


def medium(path, found, dispensable=False):
    """A CD-ROM in a drive of the guest, and what node2 has at its path."""
    disk = Disk("sda", Source("file", path, "raw"), "cdrom", "", True, dispensable=dispensable)
    return world(
        at(
            guest(of=replace(WEB, disks=(disk,))),
            observed={path: Inspection("file"), IMAGE: Inspection("file")},
        ),
        node("node2", observed={path: found} if found else {}),
    )


def program(here, there=""):
    """A program that the guest needs where the source has it, and what is at its path."""
    path = "/usr/bin/swtpm"
    return world(
        at(
            guest(of=replace(WEB, files=(File(path, "program", optional=True),))),
            observed={path: Inspection(here), IMAGE: Inspection("file")},
        ),
        node("node2", observed={path: Inspection(there)} if there else {}),
    )


def paused(run):
    """A guest that its user paused, with what is known of the run of its QEMU."""
    observation = replace(RUNNING, sighting=Sighting.PAUSED_BY_USER)
    return here(guest(observation=observation, run=run))


def covered(*mounts):
    """An image in a folder of the shared file system, on which node2 has more mounts."""
    path = f"{IMAGES}/web/web1.img"
    disk = replace(WEB.disks[0], source=Source("file", path, "raw"))
    kernel = File(f"{IMAGES}/web/vmlinuz", "kernel")
    return world(
        at(
            guest(of=replace(WEB, disks=(disk,), files=(kernel,))),
            observed={path: Inspection("file"), kernel.path: Inspection("file")},
        ),
        node(
            "node2",
            storage=StorageFacts(mounts=(*worlds.MOUNTS, *mounts)),
            observed={kernel.path: Inspection("nothing")},
        ),
    )


OVER = Mount(f"{IMAGES}/web", "ext4", "/dev/sdb1", "8:17")
BIND = Mount(f"{IMAGES}/web", "fuse.glusterfs", "storage:/other", "0:51")
TWIN = guest("node2", replace(RUNNING, name="twin", uuid=OTHER), replace(WEB, name="twin"))
LOCAL = Disk("vdb", Source("file", "/var/lib/web1.img", "raw"), cache="none")
LUN = Disk("vdb", Source("block", "/dev/sdz"), cache="none")
BROKEN = guest(of=None, error="its definition is no XML")

HA = (
    *("fencing", "quorum", "moves", "stickiness", "start_failure", "constraints", "unmanaged"),
    *("definitions", "network", "names", "two_nodes", "agent", "devices"),
)


def of_our_agent(hosts):
    return here(pacemaker=pacemakers.of_our_agent(migration_hosts=hosts))


def managed_beside(other):
    return world(at(pacemaker=pacemakers.view()), node("node2", pacemaker=other))


def defined_beside_pacemaker():
    guests = {"list": {"web1": {}}, "definitions": "defined"}
    return world(at(pacemaker=pacemakers.view()), node("node2"), guests=guests)


CASES = [
    *((check, OK, GOOD) for check in worlds.SSH),
    *((check, PROBLEM, ssh(check, PROBLEM)) for check in worlds.SSH),
    *((check, UNKNOWN, ssh(check, UNKNOWN)) for check in worlds.SSH),
    *((check, UNKNOWN, told_nothing(check)) for check in worlds.SSH),
    ("ssh.reach", OK, GOOD),
    ("ssh.reach", PROBLEM, reaching(mig="timed out")),
    ("ssh.reach", PROBLEM, reaching(id="refused")),
    ("ssh.reach", OK, reaching(mig="noise")),
    ("ssh.reach", UNKNOWN, reaching(mig="not tried")),
    ("ssh.reach", UNKNOWN, here(peers={})),
    ("ssh.noise", OK, GOOD),
    ("ssh.noise", PROBLEM, reaching(mig="noise")),
    ("ssh.noise", UNKNOWN, here(peers={})),
    ("node.daemon", OK, GOOD),
    ("node.daemon", PROBLEM, world(at(), NO_DAEMON)),
    ("node.daemon", UNKNOWN, world(at(), SILENT)),
    ("node.versions", OK, GOOD),
    ("node.versions", PROBLEM, with_definition(machine="pc-i440fx-9.0")),
    ("node.versions", PROBLEM, with_definition(arch="aarch64")),
    ("node.versions", PROBLEM, there(daemon=worlds.daemon("node2", qemu=6002000))),
    ("node.versions", OK, there(daemon=worlds.daemon("node2", qemu=8002000))),
    *(
        ("node.versions", outcome, optioned(towards_libvirt(version), **options))
        for outcome, version, options in (
            (PROBLEM, 11_002_000, {"post_copy": True}),
            (PROBLEM, 11_003_000, {"post_copy": True}),
            (OK, 11_003_000, {"post_copy": True, "force_post_copy": True}),
            (OK, 11_003_000, {}),
            (OK, 11_004_000, {"post_copy": True}),
            (OK, 11_001_000, {"post_copy": True}),
            (OK, 0, {"post_copy": True}),
        )
    ),
    *(
        ("node.versions", outcome, optioned(between_libvirts(*versions), **options))
        for outcome, versions, options in (
            (OK, (11_003_000, 9_004_000), ZSTD),
            (PROBLEM, (11_003_000, 9_000_000), ZSTD),
            (PROBLEM, (9_000_000, 11_003_000), ZSTD),
            (OK, (9_000_000, 9_000_000), {"compression": "xbzrle"}),
            (UNKNOWN, (11_003_000, 0), {"parallel": 2, "compression": "zlib"}),
        )
    ),
    ("node.versions", PROBLEM, there(daemon=worlds.daemon("node2", refuses={UUID: "no ps2"}))),
    ("node.versions", OK, there(daemon=worlds.daemon("node2", refuses={OTHER: "no ps2"}))),
    ("node.versions", UNKNOWN, world(at(), NO_DAEMON)),
    ("node.versions", UNKNOWN, here(BROKEN)),
    ("node.uuid", OK, GOOD),
    ("node.uuid", PROBLEM, there(daemon=worlds.daemon("node2", uuid="host-node1"))),
    ("node.uuid", PROBLEM, there(daemon=worlds.daemon("node2", name="node1"))),
    ("node.uuid", UNKNOWN, there(daemon=worlds.daemon("node2", uuid=""))),
    ("node.uuid", UNKNOWN, world(at(), SILENT)),
    ("node.name", OK, GOOD),
    ("node.name", PROBLEM, there(resolves=("127.0.1.1",))),
    ("node.name", PROBLEM, there(resolves=("::1", "192.0.2.1"))),
    ("node.name", PROBLEM, there(resolves=("::ffff:127.0.0.1",))),
    ("node.name", PROBLEM, there(resolves=())),
    ("node.name", UNKNOWN, there(resolves=None)),
    ("node.ports", OK, GOOD),
    ("node.ports", OK, port("taken")),
    ("node.ports", PROBLEM, port("no answer from port 49152")),
    ("node.ports", PROBLEM, there(listening=frozenset(range(49152, 49216)))),
    ("node.ports", OK, there(listening=frozenset(range(49152, 49215)))),
    ("node.ports", UNKNOWN, there(listening=None)),
    ("node.ports", UNKNOWN, port("")),
    ("node.ports", UNKNOWN, other_range("no answer from port 49215")),
    ("node.ports", UNKNOWN, other_range("refused")),
    ("node.ports", UNKNOWN, world(at(), SILENT)),
    ("node.tls", OK, GOOD),
    ("node.tls", OK, encrypted(None, frozenset(), tls=False)),
    ("node.tls", OK, encrypted()),
    ("node.tls", OK, encrypted(CERTIFICATES - {*SERVER}, CERTIFICATES - {*CLIENT})),
    ("node.tls", OK, encrypted(frozenset({"ca-cert.pem"}), verifies=False)),
    ("node.tls", PROBLEM, encrypted(CERTIFICATES - {CLIENT[0]})),
    ("node.tls", PROBLEM, encrypted(CERTIFICATES - {"ca-cert.pem"}, verifies=False)),
    ("node.tls", PROBLEM, encrypted(there=CERTIFICATES - {SERVER[1]})),
    ("node.tls", PROBLEM, encrypted(there=frozenset())),
    ("node.tls", UNKNOWN, encrypted(None)),
    ("node.tls", UNKNOWN, encrypted(there=None)),
    ("node.memory", OK, GOOD),
    ("node.memory", OK, there(free_kib=1024)),
    ("node.memory", PROBLEM, there(free_kib=1023)),
    ("node.memory", UNKNOWN, there(free_kib=None)),
    ("node.cordon", OK, GOOD),
    ("node.cordon", PROBLEM, there(cordoned=(Cordon("", "updates"),))),
    ("node.cordon", UNKNOWN, there(cordoned=None)),
    ("node.minion", OK, GOOD),
    ("node.minion", PROBLEM, there(minion_process="no salt-minion runs there")),
    ("node.minion", UNKNOWN, there(minion_process=None)),
    ("node.minion", UNKNOWN, world(at(), SILENT)),
    ("node.clock", OK, GOOD),
    ("node.clock", OK, there(clock=5.1)),
    ("node.clock", PROBLEM, there(clock=5.3)),
    ("node.clock", PROBLEM, there(clock=-5.3)),
    ("node.clock", UNKNOWN, there(clock=None)),
    ("cpu.model", OK, GOOD),
    ("cpu.model", OK, with_definition(cpu="")),
    ("cpu.model", OK, with_definition(cpu="<cpu><topology></topology></cpu>")),
    ("cpu.model", OK, passed_through(worlds.CPU)),
    ("cpu.model", PROBLEM, passed_through("<cpu><model>Other</model></cpu>")),
    ("cpu.model", UNKNOWN, passed_through("")),
    (
        "cpu.model",
        PROBLEM,
        there(daemon=worlds.daemon("node2", cpus={worlds.CPU_KEY: "no avx512"})),
    ),
    ("cpu.model", UNKNOWN, there(daemon=worlds.daemon("node2", cpus={}))),
    ("cpu.model", OK, timed(2_596_138_000, 2_596_138_000)),
    ("cpu.model", OK, timed(2_596_787_034, 2_596_138_000)),
    ("cpu.model", PROBLEM, timed(2_596_787_035, 2_596_138_000)),
    ("cpu.model", PROBLEM, timed(2_000_000_000, 2_596_138_000, cpu="")),
    ("cpu.model", OK, timed(2_000_000_000, 0, cpu="")),
    ("cpu.model", OK, timed(0, 2_596_138_000)),
    ("cpu.model", UNKNOWN, with_definition(machine="q35")),
    ("network.present", OK, GOOD),
    ("network.present", OK, with_definition(interfaces=(Interface("user"),))),
    ("network.present", PROBLEM, there(bridges={})),
    ("network.present", PROBLEM, there(bridges={"br0": False})),
    ("network.present", PROBLEM, there(daemon=worlds.daemon("node2", networks={}))),
    ("network.present", UNKNOWN, there(bridges=None)),
    ("network.present", OK, carded(Interface("bridge", "br0", device="tap7"))),
    ("network.present", PROBLEM, carded(Interface("bridge", "br0", device="br0"))),
    ("network.present", PROBLEM, carded(LAN, networks={}, drivers=LACKING)),
    ("network.present", UNKNOWN, carded(LAN, networks=None, drivers=LACKING)),
    ("network.present", OK, carded(BRIDGED, networks={}, drivers=LACKING)),
    ("network.present", OK, carded(BRIDGED, networks=None, filters=None)),
    ("network.present", OK, carded(FILTERED, filters=frozenset({"clean-traffic"}))),
    ("network.present", PROBLEM, carded(FILTERED, filters=frozenset({"other"}))),
    ("network.present", PROBLEM, carded(FILTERED, drivers=LACKING)),
    ("network.present", UNKNOWN, carded(FILTERED, filters=None)),
    ("network.present", PROBLEM, with_definition(networks=("lan",))),
    ("network.present", PROBLEM, with_definition(interfaces=(Interface("ethernet", "tap0"),))),
    ("network.present", OK, with_definition(interfaces=(Interface("ethernet", "br0"),))),
    *OF_HOSTS,
    ("storage.kind", OK, GOOD),
    ("storage.kind", PROBLEM, with_definition(disks=(LOCAL,))),
    ("storage.kind", PROBLEM, there(storage=StorageFacts(mounts=worlds.MOUNTS[:1]))),
    ("storage.kind", OK, with_disk(device="cdrom", readonly=True, source=LOCAL.source)),
    ("storage.kind", UNKNOWN, there(storage=StorageFacts(mounts=None))),
    ("storage.kind", UNKNOWN, there(storage=None)),
    ("storage.kind", UNKNOWN, here(BROKEN)),
    ("storage.same", OK, GOOD),
    (
        "storage.same",
        PROBLEM,
        there(
            storage=StorageFacts(
                mounts=(worlds.MOUNTS[0], Mount(IMAGES, "nfs4", "other:/images", "0:51"))
            )
        ),
    ),
    ("storage.kind", PROBLEM, covered(OVER)),
    ("storage.visible", PROBLEM, covered(OVER)),
    ("storage.kind", PROBLEM, covered(replace(OVER, folder=f"{IMAGES}/web/web1.img"))),
    ("storage.same", UNKNOWN, covered(BIND)),
    ("storage.same", OK, covered()),
    ("storage.same", OK, covered(replace(OVER, folder=f"{IMAGES}/we"))),
    ("storage.visible", OK, covered()),
    ("storage.same", UNKNOWN, world(at(tokens={}), node("node2", tokens={}))),
    ("storage.same", UNKNOWN, world(at(written={}, tokens={}), node("node2", tokens={}))),
    ("storage.visible", OK, GOOD),
    ("storage.visible", PROBLEM, here(observed={IMAGE: Inspection("nothing")})),
    (
        "storage.visible",
        PROBLEM,
        world(
            at(
                guest(of=replace(WEB, files=(File("/boot/vmlinuz", "kernel"),))),
                observed={IMAGE: Inspection("file"), "/boot/vmlinuz": Inspection("file")},
            ),
            node("node2", observed={"/boot/vmlinuz": Inspection("nothing")}),
        ),
    ),
    ("guest.blockers", PROBLEM, paused(Run(True, 7_002_000))),
    ("guest.blockers", UNKNOWN, paused(None)),
    ("guest.blockers", OK, paused(Run(True, 10_000_000))),
    ("guest.blockers", OK, paused(Run())),
    ("storage.visible", PROBLEM, program("file", "nothing")),
    ("storage.visible", UNKNOWN, program("file")),
    ("storage.visible", OK, program("file", "file")),
    ("storage.visible", OK, program("nothing", "nothing")),
    ("storage.visible", OK, medium("/root/cd.iso", Inspection("file"))),
    ("storage.visible", PROBLEM, medium("/root/cd.iso", Inspection("nothing"))),
    ("storage.visible", PROBLEM, medium("/root/cd.iso", Inspection("nothing"), True)),
    ("storage.visible", OK, medium(f"{IMAGES}/cd.iso", None, True)),
    ("storage.visible", UNKNOWN, here(observed={})),
    (
        "storage.visible",
        UNKNOWN,
        world(
            at(
                guest(of=replace(WEB, files=(File("/boot/vmlinuz", "kernel"),))),
                observed={IMAGE: Inspection("file"), "/boot/vmlinuz": Inspection("file")},
            ),
            node("node2"),
        ),
    ),
    ("storage.cache", OK, GOOD),
    ("storage.cache", PROBLEM, on_nfs(7002000, 7002000, "unsafe")),
    ("storage.cache", UNKNOWN, here(BROKEN)),
    ("storage.cache", OK, on_nfs(7002000, 7002000)),
    ("storage.cache", PROBLEM, on_nfs(3001000, 7002000)),
    ("storage.cache", PROBLEM, on_nfs(7002000, 3001000)),
    ("storage.cache", UNKNOWN, on_nfs(7002000, 0)),
    ("storage.cache", UNKNOWN, on_nfs(0, 7002000)),
    ("guest.name", OK, GOOD),
    ("guest.name", PROBLEM, there(guest("node2", replace(SHUT_OFF, uuid=OTHER), None))),
    ("guest.name", UNKNOWN, world(at(), SILENT)),
    ("guest.uuid", OK, GOOD),
    ("guest.uuid", PROBLEM, there(guest("node2", replace(SHUT_OFF, name="twin"), None))),
    ("guest.uuid", PROBLEM, there(guest("node2", SHUT_OFF, None))),
    (
        "guest.uuid",
        OK,
        world(
            at(),
            node("node2", guests=(guest("node2", SHUT_OFF, None),)),
            guests={"definitions": "defined"},
        ),
    ),
    ("guest.uuid", UNKNOWN, world(at(), NO_DAEMON)),
    ("guest.disk", OK, GOOD),
    ("guest.disk", PROBLEM, there(TWIN)),
    ("guest.disk", PROBLEM, here(guest(), replace(TWIN, node="node1"))),
    (
        "guest.disk",
        PROBLEM,
        there(replace(TWIN, guest=None, observation=replace(SHUT_OFF, uuid=OTHER))),
    ),
    ("guest.disk", OK, there(replace(TWIN, observation=RUNNING))),
    ("guest.disk", UNKNOWN, world(at(), SILENT)),
    ("guest.disk", UNKNOWN, world(at(storage=None), node("node2", guests=(TWIN,)))),
    ("guest.definition", OK, GOOD),
    ("guest.definition", OK, listed(DEFINITION.format(UUID, 1024))),
    ("guest.definition", PROBLEM, listed("")),
    ("guest.definition", PROBLEM, listed(DEFINITION.format(UUID, 4096))),
    ("guest.definition", PROBLEM, listed("no XML")),
    ("guest.definition", PROBLEM, listed(DEFINITION.format(OTHER, 4096))),
    ("guest.definition", PROBLEM, listed("", path=None, definitions="defined")),
    ("guest.definition", UNKNOWN, listed(None)),
    ("guest.definition", PROBLEM, listed(DEFINITION.format(UUID, 1024), detail="/b is not used")),
    ("guest.definition", UNKNOWN, listed(None, detail="Permission denied")),
    ("guest.blockers", OK, GOOD),
    ("guest.blockers", PROBLEM, with_definition(blockers=(Blocker("it has a host device"),))),
    ("guest.blockers", PROBLEM, with_definition(passthrough=("it hands QEMU arguments",))),
    ("guest.blockers", UNKNOWN, with_definition(blockers=(Blocker("a", since=(1, 0), asks=True),))),
    ("guest.blockers", PROBLEM, here(guest(block_jobs=("vda",)))),
    ("guest.blockers", PROBLEM, here(guest(observation=replace(RUNNING, job="a backup")))),
    ("guest.blockers", PROBLEM, here(guest(snapshots=1))),
    (
        "guest.blockers",
        PROBLEM,
        here(guest(observation=replace(RUNNING, sighting=Sighting.PAUSED_OTHERWISE))),
    ),
    ("guest.blockers", UNKNOWN, here(BROKEN)),
    ("guest.frozen", OK, GOOD),
    ("guest.frozen", PROBLEM, with_definition(frozen=Frozen("a test", "2026-01-01"))),
    ("guest.frozen", UNKNOWN, here(BROKEN)),
    ("guest.once", OK, GOOD),
    ("guest.once", PROBLEM, there(guest("node2"))),
    (
        "guest.once",
        PROBLEM,
        there(guest("node2", observation=replace(RUNNING, sighting=Sighting.PAUSED_FOR_MIGRATION))),
    ),
    ("guest.once", PROBLEM, here(guest(observation=SHUT_OFF, of=None))),
    ("guest.once", UNKNOWN, world(at(), SILENT)),
    ("guest.autostart", OK, GOOD),
    ("guest.autostart", PROBLEM, here(guest(observation=replace(RUNNING, autostart=True)))),
    ("guest.autostart", PROBLEM, there(guest("node2", replace(SHUT_OFF, autostart=True), None))),
    ("guest.autostart", UNKNOWN, world(at(), SILENT)),
    ("guest.autostart", OK, starting(SERVICE)),
    ("guest.autostart", PROBLEM, starting(SERVICE, replace(RUNNING, persistent=True))),
    ("guest.autostart", PROBLEM, starting(replace(SERVICE, listed={UUID}), SHUT_OFF)),
    ("guest.autostart", OK, starting(SERVICE, SHUT_OFF)),
    ("guest.autostart", UNKNOWN, starting(Starters(detail="no systemctl"), SHUT_OFF)),
    ("guest.autostart", UNKNOWN, starting(None, SHUT_OFF)),
    ("guest.handover", OK, GOOD),
    ("guest.handover", OK, optioned(here(guest(of=replace(WEB, disks=(LUN,)))))),
    ("guest.handover", OK, optioned(GOOD, handover="libvirt")),
    (
        "guest.handover",
        PROBLEM,
        optioned(here(guest(of=replace(WEB, disks=(LUN,)))), handover="libvirt"),
    ),
    (
        "guest.handover",
        PROBLEM,
        optioned(here(guest(of=replace(WEB, disks=(LUN,)))), post_copy=True),
    ),
    (
        "guest.handover",
        OK,
        optioned(here(guest(of=replace(WEB, disks=(LUN,)))), post_copy=True, force_post_copy=True),
    ),
    ("guest.handover", UNKNOWN, optioned(here(BROKEN), handover="libvirt")),
    *(
        (f"ha.{name}", UNKNOWN, here(pacemaker=view))
        for name in HA
        for view in (None, Pacemaker(runs=True, error="no answer"))
    ),
    *((f"ha.{name}", OK, one) for name in HA for one in (GOOD, of_pacemaker(pacemakers.good()))),
    *((f"ha.{name}", OK, here(pacemaker=pacemakers.without_guests())) for name in HA),
    ("ha.fencing", PROBLEM, here(pacemaker=pacemakers.view("no-fencing"))),
    ("ha.fencing", PROBLEM, here(pacemaker=pacemakers.view("no-device"))),
    *HA_CASES,
    (
        "ha.fencing",
        OK,
        here(pacemaker=pacemakers.set_to("no-device", "stonith-watchdog-timeout", "10s")),
    ),
    (
        "ha.fencing",
        PROBLEM,
        here(pacemaker=pacemakers.set_to("no-device", "stonith-watchdog-timeout", "0")),
    ),
    ("ha.fencing", PROBLEM, here(pacemaker=pacemakers.edited("fence_kvmlab", "fence_dummy"))),
    ("ha.fencing", OK, of_pacemaker(pacemakers.edited("fence_kvmlab", "fence_scsi"))),
    (
        "ha.fencing",
        OK,
        here(pacemaker=pacemakers.set_to("no-device", "fencing-watchdog-timeout", "10s")),
    ),
    ("ha.quorum", PROBLEM, here(pacemaker=pacemakers.edited('"stop"', '"ignore"'))),
    ("ha.moves", PROBLEM, here(pacemaker=pacemakers.edited('on-fail="block"', ""))),
    (
        "ha.moves",
        PROBLEM,
        here(pacemaker=pacemakers.edited('name="allow-migrate"', 'name="other"')),
    ),
    (
        "ha.stickiness",
        PROBLEM,
        here(pacemaker=pacemakers.edited('stickiness" value="100"', 'stickiness" value="0"')),
    ),
    (
        "ha.stickiness",
        PROBLEM,
        here(pacemaker=pacemakers.edited('stickiness" value="100"', 'stickiness" value="-5"')),
    ),
    (
        "ha.stickiness",
        OK,
        here(
            pacemaker=pacemakers.edited('stickiness" value="100"', 'stickiness" value="INFINITY"')
        ),
    ),
    (
        "ha.stickiness",
        PROBLEM,
        here(pacemaker=pacemakers.edited('name="resource-stickiness"', 'name="other"')),
    ),
    ("ha.start_failure", PROBLEM, here(pacemaker=pacemakers.view())),
    ("ha.constraints", PROBLEM, here(pacemaker=pacemakers.view("moved"))),
    ("ha.constraints", PROBLEM, here(pacemaker=pacemakers.view("banned"))),
    ("ha.unmanaged", PROBLEM, here(pacemaker=pacemakers.view("unmanaged"))),
    ("ha.unmanaged", PROBLEM, here(pacemaker=pacemakers.view("maintenance"))),
    ("ha.unmanaged", PROBLEM, here(pacemaker=pacemakers.view("node-maintenance"))),
    ("ha.unmanaged", OK, here(pacemaker=pacemakers.view("blocked"))),
    ("ha.unmanaged", OK, here(pacemaker=pacemakers.view("stopped"))),
    ("ha.definitions", PROBLEM, defined_beside_pacemaker()),
    ("ha.network", PROBLEM, here(pacemaker=pacemakers.edited('value="-mig"', 'value="-move"'))),
    (
        "ha.network",
        PROBLEM,
        here(pacemaker=pacemakers.edited('name="migration_network_suffix"', 'name="other"')),
    ),
    ("ha.network", OK, of_our_agent("node1=node1-mig node2=node2-mig node3=node3-mig")),
    ("ha.network", PROBLEM, of_our_agent("node1=node1-mig node2=node2 node3=node3-mig")),
    ("ha.network", PROBLEM, of_our_agent("node1=node1-mig")),
    ("ha.pacemaker", OK, GOOD),
    ("ha.pacemaker", OK, here(pacemaker=pacemakers.view())),
    ("ha.pacemaker", OK, here(pacemaker=pacemakers.at_rest(**{pacemakers.STARTS: (0, "", "")}))),
    ("ha.pacemaker", PROBLEM, here(pacemaker=pacemakers.view("just-started"))),
    ("ha.pacemaker", UNKNOWN, here(pacemaker=pacemakers.at_rest())),
    ("ha.pacemaker", UNKNOWN, here(pacemaker=None)),
    ("ha.pacemaker", UNKNOWN, there(pacemaker=Pacemaker(runs=True, error="no answer"))),
    ("ha.manager", OK, GOOD),
    ("ha.manager", OK, here(pacemaker=pacemakers.others())),
    ("ha.manager", OK, managed_beside(pacemakers.view(node="node2"))),
    # It could not be given back where Pacemaker does not run.
    ("ha.manager", PROBLEM, here(pacemaker=pacemakers.view())),
    ("ha.manager", PROBLEM, here(pacemaker=pacemakers.view("blocked"))),
    ("ha.manager", PROBLEM, there(pacemaker=pacemakers.view("blocked"))),
    ("ha.manager", PROBLEM, here(pacemaker=pacemakers.view("unmanaged"))),
    ("ha.manager", UNKNOWN, here(pacemaker=None)),
    ("ha.manager", UNKNOWN, there(pacemaker=pacemakers.at_rest())),
    ("guest.only", OK, GOOD),
    ("guest.only", OK, with_only("node1", "node2")),
    ("guest.only", PROBLEM, with_only("node1")),
    ("guest.only", UNKNOWN, with_only("node1", "node2", node2={"daemon": None})),
    ("guest.guard", OK, GOOD),
    ("guest.guard", PROBLEM, with_definition(disks=(LUN,))),
    ("guest.guard", PROBLEM, with_disk(shareable=True)),
    ("guest.guard", UNKNOWN, here(BROKEN)),
    ("guest.guard", UNKNOWN, with_definition(disks=(Disk("vda", Source("volume", "p/v")),))),
]


def found(check, one):
    """Return the troubles of a check: web1 of node1 would go to node2."""
    source, destination = one.nodes["node1"], one.nodes["node2"]
    (web,) = (each for each in source.guests if each.name == "web1")
    if check.scope == NODE:
        return [*check.find(one, source), *check.find(one, destination)]
    if check.scope == PAIR:
        return list(check.find(one, source, destination))
    if check.scope == GUEST:
        return list(check.find(one, web))
    return list(check.judged(one, check.asks(one, web), check.offers(one, destination)))


def outcome(troubles):
    """Return a check's outcome: a problem is worse than what is not known."""
    outcomes = {error.outcome for error in troubles}
    return PROBLEM if PROBLEM in outcomes else UNKNOWN if outcomes else OK


@pytest.mark.parametrize(("check", "wanted", "one"), CASES)
def test_check(check, wanted, one):
    troubles = found(CHECKS[check], one)
    assert outcome(troubles) == wanted, troubles
    for error in troubles:
        assert error.sentence and "\n" not in error.sentence
        assert error.remedy or (error.outcome == PROBLEM and CHECKS[check].remedy)


def test_every_check_was_seen_ok_problem_and_unknown():
    observed = {(check, wanted) for check, wanted, _ in CASES}
    assert observed == {(check, wanted) for check in CHECKS for wanted in (OK, PROBLEM, UNKNOWN)}


def test_every_check_says_what_it_wants_and_what_to_do():
    for check in REGISTRY:
        assert check.title and check.remedy and check.find.__doc__, check.id
    assert len(CHECKS) == len(REGISTRY) == 58


@pytest.mark.parametrize("check", REGISTRY, ids=lambda check: check.id)
def test_the_function_of_a_check_is_found_by_its_id(check):
    """FILE.FUNCTION, but for the checks that a node runs on itself: those share one."""
    subject, name = check.id.split(".")
    module = importlib.import_module(f"saltext_kvmcluster.core.readiness.checks.{subject}")
    assert check.find.__module__ == module.__name__
    assert check.own or check.find is getattr(module, name)


def test_certificates_are_told_by_file_folder_and_side():
    (here,) = found(CHECKS["node.tls"], encrypted(CERTIFICATES - {*CLIENT}))
    (there,) = found(CHECKS["node.tls"], encrypted(there=frozenset(SERVER)))
    detail = "client-cert.pem, client-key.pem missing in /etc/pki/qemu on the source"
    assert here.sentence.replace(" and ", ", ") == detail
    assert there.sentence == "ca-cert.pem missing in /etc/pki/qemu on the destination"


@pytest.mark.parametrize(
    ("check", "one", "severity"),
    [
        ("ssh.reach", reaching(id="refused"), "WARN"),
        ("ssh.reach", reaching(mig="refused"), ""),
        ("node.versions", there(daemon=worlds.daemon("node2", qemu=6002000)), "WARN"),
        ("guest.name", world(at(), SILENT), "WARN"),
        ("node.ports", other_range("refused"), "WARN"),
        ("storage.visible", medium("/root/cd.iso", Inspection("nothing")), ""),
        ("storage.visible", medium("/root/cd.iso", Inspection("nothing"), True), "WARN"),
    ],
)
def test_what_stops_no_migration_is_a_warning(check, one, severity):
    (error,) = found(CHECKS[check], one)
    assert error.severity == severity


def test_why_no_token_was_written_is_told():
    detail = {IMAGES: "read-only file system"}
    one = world(at(written={}, tokens={}, write_errors=detail), node("node2", tokens={}))
    assert "wrote no token: read-only file system" in found(CHECKS["storage.same"], one)[0].sentence


FIX = "on node1: virsh domstate --reason web1; fix that first"
MEND = "it does not end by itself; repair the network, then: kvmcluster.recover web1"
STUCK = (
    "on node1: virsh domcontrol web1; if that hangs, find what its QEMU waits for, mostly its"
    " storage; if it answers, restart libvirtd (or virtqemud), which leaves guests running"
)


def test_a_copy_that_waits_is_to_be_recovered_and_not_resumed_by_hand():
    for sighting, remedy in (
        (Sighting.WAITING, "kvmcluster.recover web1"),
        (Sighting.PAUSED_OTHERWISE, FIX),
    ):
        one = here(guest(observation=replace(RUNNING, sighting=sighting)))
        (issue,) = found(CHECKS["guest.blockers"], one)
        assert issue.remedy == remedy


@pytest.mark.parametrize(
    ("job", "remedies"),
    [
        (verdicts.INCOMING, ["wait until it ends: kvmcluster.job web1"]),
        (verdicts.OUTGOING, ["wait until it ends: kvmcluster.job web1"]),
        (verdicts.BACKUP, ["wait until it ends: virsh domjobinfo web1"]),
        (verdicts.BROKEN, [MEND, FIX]),
        (verdicts.ENDLESS, [STUCK, FIX]),
        ("", [FIX]),
    ],
)
def test_a_state_that_a_job_will_end_is_not_to_be_fixed(job, remedies):
    paused = replace(RUNNING, sighting=Sighting.PAUSED_OTHERWISE, job=job)
    issues = found(CHECKS["guest.blockers"], here(guest(observation=paused)))
    assert [issue.remedy for issue in issues] == remedies


def test_an_old_definition_forbids_the_way_to_it_alone():
    (error,) = found(CHECKS["guest.uuid"], there(guest("node2", SHUT_OFF, None)))
    assert error.destination == "node2"


def test_a_backing_file_that_another_guest_writes():
    based = replace(
        WEB.disks[0], source=Source("file", f"{IMAGES}/top"), backing=(Source("file", IMAGE),)
    )
    one = world(at(guest(of=replace(WEB, disks=(based,)))), node("node2", guests=(TWIN,)))
    assert "twin on node2 uses its disk" in found(CHECKS["guest.disk"], one)[0].sentence


def test_disks_that_both_share_are_meant_so():
    disk = replace(WEB.disks[0], shareable=True)
    twin = replace(TWIN, guest=replace(WEB, name="twin", disks=(disk,)))
    one = world(at(guest(of=replace(WEB, disks=(disk,)))), node("node2", guests=(twin,)))
    assert found(CHECKS["guest.disk"], one) == []


def test_one_path_of_two_local_disks_is_no_clash():
    disks = (LOCAL,)
    twin = replace(TWIN, guest=replace(WEB, name="twin", disks=disks), disks=())
    one = world(at(guest(of=replace(WEB, disks=disks))), node("node2", guests=(twin,)))
    assert found(CHECKS["guest.disk"], one) == []


def test_a_token_seen_by_both_of_a_third_proves_their_storage():
    nodes = [node(name, worlds.NODES, written={}) for name in ("node1", "node2")]
    nodes[0] = replace(nodes[0], guests=(guest(),))
    one = world(*nodes, node("node3", worlds.NODES))
    assert found(CHECKS["storage.same"], one) == []


def test_a_definition_that_lists_no_guest_is_not_asked_for():
    one = here(guest(observation=Observation(Sighting.RUNNING, name="web1", uuid=UUID)))
    assert found(CHECKS["guest.definition"], one) == []


def test_nvram_that_libvirt_makes_there_forbids_nothing():
    nvram = "/var/lib/libvirt/qemu/nvram/web1.fd"
    web = guest(of=replace(WEB, files=(File(nvram, "nvram"),)))
    readiness = examine(
        world(
            at(web, observed={IMAGE: Inspection("file"), nvram: Inspection("file")}),
            node("node2", observed={nvram: Inspection("nothing")}),
        )
    )
    assert (readiness.movable, readiness.moves) == (1, 1)
    assert [
        reported.severity for reported in readiness.findings if reported.id == "storage.visible"
    ] == [WARN]
