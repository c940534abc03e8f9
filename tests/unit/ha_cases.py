"""Worlds for the checks that refuse high availability, for test_checks.py."""

from dataclasses import replace

import pacemakers
from worlds import IMAGES, RUNNING, WEB, guest, node, world

from saltext_kvmcluster.core.facts.nodefacts import silent
from saltext_kvmcluster.core.findings import OK, PROBLEM, UNKNOWN
from saltext_kvmcluster.core.guest.disks import Disk, Source
from saltext_kvmcluster.core.pacemaker import pacemaker_facts
from saltext_kvmcluster.core.pacemaker.corosync import Corosync
from saltext_kvmcluster.core.pacemaker.model import Pacemaker
from saltext_kvmcluster.core.pacemaker.pacemaker_tools import fencers_key
from saltext_kvmcluster.core.storage.inventory import Mount, StorageFacts
from saltext_kvmcluster.core.verdicts import Sighting

NODES = ("node1", "node2", "node3")
SHUT_OFF = replace(RUNNING, sighting=Sighting.SHUT_OFF, persistent=True)
FENCE = {"devices": {"fence": {"agent": "fence_xvm", "nodes": [*NODES]}}}
OURS, THEIRS = {"fencing": FENCE}, {"manage": False}
COROSYNC = Corosync(NODES, flags=frozenset({"Quorate"}))
TEXT = (
    "<domain type='kvm'><name>web1</name><uuid>11111111-1111-1111-1111-111111111111</uuid></domain>"
)
LISTED = {"web1": {"ha": True}}


def of_pacemaker(view, *, ha=None, corosync=COROSYNC, names=NODES, agent=True, **changes):
    """A world of three nodes, on each of which Pacemaker is known like that."""
    nodes = [
        node(
            name,
            nodes=NODES,
            guests=(guest(),) if name == "node1" else (),
            pacemaker=replace(view, name=called) if view.runs else view,
            corosync=corosync,
            agent=agent,
        )
        for name, called in zip(NODES, names, strict=True)
    ]
    more = {} if ha is None else {"ha": ha}
    return world(*nodes, **more, **changes)


def fenced_by(*devices, case="running", **more):
    """A world in which the other nodes can fence node1 with these devices alone."""
    outputs = pacemakers.outputs(case, **{fencers_key("node1"): pacemakers.fencers(*devices)})
    return of_pacemaker(pacemaker_facts.parse(outputs), **more)


def edited_fencers(old, new, *devices):
    """The same, with something else in Pacemaker's configuration."""
    view = pacemakers.edited(old, new)
    return of_pacemaker(replace(view, fencers=dict.fromkeys(NODES, frozenset(devices))))


def without_guests(case="running", renamed=False, **more):
    """A world in which Pacemaker has no guests, and no device of it can fence anybody."""
    changes = {fencers_key(name): pacemakers.fencers() for name in NODES}
    outputs = pacemakers.outputs(case, guests={}, **changes)
    if renamed:
        outputs = {
            key: (code, text.replace('id="fence"', 'id="kvmcluster-fence-bmc"'), error)
            for key, (code, text, error) in outputs.items()
        }
    found = {
        key: (code, text.replace('type="VirtualDomain"', 'type="Dummy"'), error)
        for key, (code, text, error) in outputs.items()
    }
    return of_pacemaker(pacemaker_facts.parse(found), **more)


def member_added(name, online="true", more="", **changes):
    """A world in which Pacemaker has one more node."""
    row = f'<node name="{name}" id="9" online="{online}" type="member" {more}/>'
    return of_pacemaker(pacemakers.edited("  </nodes>", f"{row}</nodes>"), **changes)


def pair(*flags, two=False, device=False, runs=True, **more):
    """A world in which Corosync has two nodes, and these flags are in force."""
    found = Corosync(NODES[:2], two, two, device, frozenset(flags) if runs else None)
    return of_pacemaker(pacemakers.good(), corosync=found, **more)


def with_ha(*found, guests=None, of_list=LISTED, **more):
    """A world in which web1 has ha; node2 is another one of the cluster."""
    settings = {"list": of_list, "path": IMAGES, **(guests or {})}
    settings = {key: value for key, value in settings.items() if value is not None}
    nodes = found or (placed("node1", guests=(guest(),)), placed("node2"))
    return world(*nodes, guests=settings, ha={"fencing": fencing_of("node1", "node2")}, **more)


def fencing_of(*nodes):
    return {"devices": {"fence": {"agent": "fence_xvm", "nodes": [*nodes]}}}


def placed(name, **changes):
    return node(name, definitions={"web1": TEXT}, **changes)


def on_disk(disk):
    web = guest(of=replace(WEB, disks=(disk,)))
    return with_ha(placed("node1", guests=(web,)), placed("node2"))


LUN = Disk("vdb", Source("block", "/dev/sdz"), cache="none")
LOCAL = StorageFacts(mounts=(Mount("/", "ext4", "/dev/sda1", "8:1"),))
NFS = StorageFacts(mounts=(Mount("/", "ext4", "/d", "8:1"), Mount(IMAGES, "nfs4", "o:/x", "0:9")))
LOCAL_DISK = with_ha(
    placed(
        "node1",
        guests=(guest(of=replace(WEB, disks=(Disk("vda", Source("file", "/root/web1.img")),))),),
    ),
    placed("node2"),
)
STOPPED = (
    '<nvpair id="fence-check" name="pcmk_host_check"',
    '</instance_attributes><meta_attributes id="m"><nvpair id="r" name="target-role"'
    ' value="Stopped"/></meta_attributes><instance_attributes id="more"><nvpair id="fence-check"'
    ' name="pcmk_host_check"',
)
LEVEL = '<fencing-topology><fencing-level id="l" index="1" target="node1" devices="{}"/>'
LEVEL += "</fencing-topology><constraints/>"

HA_CASES = [
    # Whom the fencers of the other nodes can fence is what counts.
    ("ha.devices", PROBLEM, fenced_by()),
    ("ha.devices", OK, fenced_by("fence")),
    ("ha.devices", OK, fenced_by("watchdog")),
    ("ha.devices", PROBLEM, edited_fencers(*STOPPED)),
    ("ha.devices", UNKNOWN, of_pacemaker(replace(pacemakers.good(), fencers={}))),
    # Its own fencer is no help once it is lost.
    (
        "ha.devices",
        UNKNOWN,
        world(node(guests=(guest(),), pacemaker=pacemakers.good()), node("node2")),
    ),
    *(
        ("ha.devices", wanted, edited_fencers("<constraints/>", LEVEL.format(devices), "fence"))
        for wanted, devices in ((OK, "fence"), (PROBLEM, "fence,pdu"), (PROBLEM, "old"))
    ),
    ("ha.fencing", OK, of_pacemaker(Pacemaker(), ha=OURS)),
    (
        "ha.fencing",
        PROBLEM,
        of_pacemaker(Pacemaker(), ha={"fencing": fencing_of("node1", "node3")}),
    ),
    ("ha.fencing", PROBLEM, of_pacemaker(Pacemaker(), ha={})),
    (
        "ha.fencing",
        PROBLEM,
        of_pacemaker(
            Pacemaker(),
            ha={"fencing": {"devices": {"d": {"agent": "fence_dummy", "nodes": [*NODES]}}}},
        ),
    ),
    # The pillar's devices may not be in Pacemaker yet.
    ("ha.fencing", OK, fenced_by(ha=OURS)),
    ("ha.fencing", OK, without_guests("no-device", ha=OURS)),
    ("ha.fencing", PROBLEM, without_guests("no-device", ha=THEIRS)),
    ("ha.devices", OK, without_guests(ha=OURS)),
    ("ha.devices", PROBLEM, without_guests(ha=THEIRS)),
    ("ha.devices", PROBLEM, without_guests(ha=OURS, renamed=True)),
    ("ha.fencing", PROBLEM, fenced_by(ha=OURS, case="no-fencing")),
    ("ha.fencing", PROBLEM, of_pacemaker(Pacemaker(), ha=THEIRS)),
    ("ha.fencing", OK, of_pacemaker(pacemakers.without_guests(), ha=THEIRS)),
    ("ha.quorum", PROBLEM, of_pacemaker(pacemakers.edited('"stop"', '"ignore"'), ha=THEIRS)),
    ("ha.two_nodes", OK, pair("2Node", "WaitForAll", "Quorate")),
    ("ha.two_nodes", OK, pair("Qdevice", device=True)),
    ("ha.two_nodes", PROBLEM, pair("Quorate")),
    ("ha.two_nodes", PROBLEM, pair("2Node", "Quorate", two=True)),
    ("ha.two_nodes", PROBLEM, pair("Quorate", device=True)),
    ("ha.two_nodes", UNKNOWN, pair(two=True, runs=False)),
    ("ha.two_nodes", UNKNOWN, of_pacemaker(pacemakers.good(), corosync=None)),
    ("ha.two_nodes", OK, of_pacemaker(Pacemaker(), corosync=Corosync(), ha=OURS)),
    ("ha.names", OK, of_pacemaker(Pacemaker(), ha=OURS)),
    ("ha.names", PROBLEM, of_pacemaker(pacemakers.good(), names=("node1-mig", "node2", "node3"))),
    ("ha.names", UNKNOWN, of_pacemaker(pacemakers.good(), names=("", "node2", "node3"))),
    ("ha.names", PROBLEM, member_added("node2-mig")),
    ("ha.names", PROBLEM, member_added("db9")),
    ("ha.names", PROBLEM, member_added("db9", "false")),
    ("ha.names", OK, member_added("db9", "false", ha=OURS)),
    ("ha.names", PROBLEM, member_added("db9", ha=OURS)),
    ("ha.names", OK, member_added("web1", more='id_as_resource="web1"')),
    (
        "ha.names",
        PROBLEM,
        of_pacemaker(Pacemaker(), ha=OURS, corosync=Corosync(("node1-mig", "node2", "node3"))),
    ),
    ("ha.agent", PROBLEM, of_pacemaker(pacemakers.ours(), agent=False)),
    ("ha.agent", OK, of_pacemaker(pacemakers.ours())),
    ("ha.agent", OK, of_pacemaker(pacemakers.good(), agent=False)),
    ("ha.agent", UNKNOWN, of_pacemaker(pacemakers.ours(), agent=None)),
    ("ha.definitions", PROBLEM, with_ha(guests={"definitions": "defined", "path": None})),
    ("ha.definitions", OK, with_ha()),
    ("ha.disks", OK, world()),
    ("ha.disks", OK, with_ha()),
    ("ha.disks", PROBLEM, on_disk(LUN)),
    ("ha.disks", UNKNOWN, on_disk(Disk("vda", Source("volume", "p/v")))),
    # A lease of the guest guards a local disk, and leaves it where it is.
    ("ha.disks", PROBLEM, LOCAL_DISK),
    # What guards it where it may not run is of no account.
    (
        "ha.disks",
        OK,
        with_ha(
            placed("node1", guests=(guest(),)),
            placed("node2", storage=LOCAL),
            of_list={"web1": {"only": ["node1"], "ha": True}},
        ),
    ),
    (
        "ha.disks",
        PROBLEM,
        with_ha(placed("node1", guests=(guest(),)), placed("node2", storage=LOCAL)),
    ),
    ("ha.starts", OK, world()),
    ("ha.starts", OK, with_ha()),
    ("ha.starts", OK, with_ha(of_list={"web1": {"home": "node1"}})),
    ("ha.starts", PROBLEM, with_ha(of_list={"web1": {"ha": True, "home": "node1"}})),
    (
        "ha.starts",
        PROBLEM,
        with_ha(
            placed("node1", guests=(guest(),)),
            placed("node2", state_starts=frozenset({"web1"})),
        ),
    ),
    (
        "ha.starts",
        UNKNOWN,
        with_ha(placed("node1", guests=(guest(),)), placed("node2", state_detail="no such SLS")),
    ),
    ("ha.stored", OK, world()),
    ("ha.stored", OK, with_ha()),
    ("ha.stored", OK, with_ha(placed("node1", guests=(guest(),)), silent("node2", "off"))),
    ("ha.stored", PROBLEM, with_ha(guests={"path": "/root/guests"})),
    ("ha.stored", PROBLEM, with_ha(guests={"path": f"{IMAGES}:/root/guests"})),
    ("ha.stored", OK, with_ha(of_list={"web1": {"ha": True, "xmlfile": f"{IMAGES}/a/web1.xml"}})),
    ("ha.stored", PROBLEM, with_ha(of_list={"web1": {"ha": True, "xmlfile": "/etc/web1.xml"}})),
    ("ha.stored", PROBLEM, with_ha(guests={"path": None})),
    (
        "ha.stored",
        PROBLEM,
        with_ha(node(guests=(guest(),), definitions={"web1": ""}), placed("node2")),
    ),
    ("ha.stored", UNKNOWN, with_ha(node(guests=(guest(),)), placed("node2"))),
    (
        "ha.stored",
        PROBLEM,
        with_ha(placed("node1", guests=(guest(),)), placed("node2", storage=NFS, tokens={})),
    ),
    ("ha.stored", UNKNOWN, with_ha(placed("node1", guests=(guest(),)), placed("node2", tokens={}))),
    (
        "ha.stored",
        UNKNOWN,
        with_ha(placed("node1", guests=(guest(),)), placed("node2", storage=None)),
    ),
]
