"""What keeps a second writer off a disk: every kind of storage, lock manager and odd input."""

from dataclasses import replace

import pytest
import worlds
from hypothesis import given
from hypothesis import strategies as st
from worlds import IMAGE, IMAGES, WEB, guest, node, world

from saltext_kvmcluster.core.facts import nodefacts
from saltext_kvmcluster.core.guest import domainxml
from saltext_kvmcluster.core.guest.disks import Disk, Source
from saltext_kvmcluster.core.guest.domainxml import Lease
from saltext_kvmcluster.core.readiness.checks import guards
from saltext_kvmcluster.core.readiness.checks.guards import (
    IMAGE_LOCK,
    LEASE,
    NOT_KNOWN,
    NOTHING,
)
from saltext_kvmcluster.core.readiness.checks.guest import guard
from saltext_kvmcluster.core.storage import disk_guards, lock_manager
from saltext_kvmcluster.core.storage.inventory import Device, Mount, StorageFacts, Volume
from saltext_kvmcluster.core.storage.lock_manager import LOCKD, SANLOCK, LockManager

NFS = "rw,vers=3,hard,proto=tcp,local_lock=none"
BOTH = ("node1", "node2")
KNOWS_WEB = frozenset({"web1"})
LEASES = f"{IMAGES}/leases"
AUTO = LockManager(LOCKD, True, LEASES, holders=KNOWS_WEB)
LUN = Source("block", "/dev/sdz")
NBD = Source("network", "nbd:web1", "raw", "nbd", ("storage:10809",))
OWN = Lease("leases", worlds.UUID, IMAGES)
DEVICES = (Device("/dev/sdz", "disk", name="/dev/sdz", wwn="0x600", transport="fc"),)
VOLUMES = (Volume("/dev/vg/web1", "/dev/mapper/vg-web1", "u", "vg", True, True),)


def storage(kind="fuse.glusterfs", options="rw", devices=DEVICES):
    mounts = (worlds.MOUNTS[0], Mount(IMAGES, kind, "s:/images", "0:50", tuple(options.split(","))))
    return StorageFacts(mounts=mounts, devices=devices, volumes=VOLUMES)


def disk(source=WEB.disks[0].source, **changes):
    return replace(Disk("vda", source, cache="none"), **changes)


def of(source=WEB.disks[0].source, leases=(), unlocked=False, **changes):
    return replace(WEB, disks=(disk(source, **changes),), leases=leases, unlocked=unlocked)


def both(what, facts=None, manager=None, there=None, elsewhere=None):
    """A world of two nodes with the same storage and lock manager, and the guest on node1."""
    here = {"storage": facts or storage()}
    other = {"storage": elsewhere or facts or storage()}
    if manager:
        here["daemon"] = worlds.daemon("node1", locks=manager)
        other["daemon"] = worlds.daemon("node2", locks=replace(there or manager, holders=None))
    return world(node(guests=(guest(of=what),), **here), node("node2", **other))


def judged(one, nodes=BOTH):
    (web,) = one.nodes["node1"].guests
    return guards.guards(one, web, nodes)


def only(one, nodes=BOTH):
    (found,) = judged(one, nodes)
    assert found.holds == (found.by in (IMAGE_LOCK, LEASE))
    assert found.holds or (found.why and found.remedy), found
    return found


@pytest.mark.parametrize(
    ("kind", "options", "by"),
    [
        ("nfs", NFS, IMAGE_LOCK),
        ("nfs", "rw,vers=3,local_lock=flock", IMAGE_LOCK),
        ("nfs", "rw,vers=3,nolock,local_lock=all", NOTHING),
        ("nfs", "rw,vers=3,local_lock=posix", NOTHING),
        ("nfs", "rw,vers=3,nolock", NOTHING),
        ("nfs4", "rw,vers=4.2,local_lock=none", IMAGE_LOCK),
        ("nfs4", "rw,vers=4.2,local_lock=all", NOTHING),
        ("gfs2", "rw,lockproto=lock_dlm,locktable=a:b", IMAGE_LOCK),
        ("gfs2", "rw,localflocks", NOTHING),
        ("gfs2", "rw,lockproto=lock_nolock", NOTHING),
        ("gfs", "rw,localflocks", NOTHING),
        ("ocfs2", "rw,cluster_stack=pcmk,coherency=full", IMAGE_LOCK),
        ("ocfs2", "rw,cluster_stack=pcmk,localflocks", NOTHING),
        ("ocfs2", "rw,cluster_stack=o2cb", NOTHING),
        ("ocfs2", "rw,heartbeat=local", NOTHING),
        ("ceph", "rw,name=admin,acl", IMAGE_LOCK),
        ("fuse.ceph-fuse", "rw", IMAGE_LOCK),
        ("fuse.glusterfs", "rw,default_permissions", IMAGE_LOCK),
        ("lustre", "rw,flock", IMAGE_LOCK),
        ("lustre", "rw,localflock", NOTHING),
        ("lustre", "rw", NOTHING),
        ("9p", "rw,trans=virtio", NOTHING),
        ("virtiofs", "rw", NOTHING),
        ("fuse.sshfs", "rw", NOTHING),
        ("ext4", "rw", NOTHING),
        ("tmpfs", "rw", NOTHING),
        ("autofs", "rw,fd=5", NOT_KNOWN),
        ("", "", NOTHING),
        ("nfs4\nok", "local_lock=none", NOTHING),
    ],
)
def test_an_image_is_locked_where_locks_reach_the_other_nodes(kind, options, by):
    found = only(both(of(), storage(kind, options)))
    assert found.by == by, found
    if by == NOTHING:
        assert "stay on the node" in found.why and found.why.isprintable()


def test_an_option_that_keeps_locks_here_is_named_with_its_remedy():
    found = only(both(of(), storage("nfs", "rw,nolock,local_lock=all")))
    assert "local_lock=all, nolock" in found.why
    assert found.remedy == "mount it without local_lock=all, nolock"


def test_both_nodes_have_to_be_mounted_so():
    found = only(both(of(), storage("nfs", NFS), elsewhere=storage("nfs", "rw,nolock")))
    assert (found.by, found.node) == (NOTHING, "node2")
    found = only(both(of(), storage("nfs", "rw,nolock"), elsewhere=storage("nfs", NFS)))
    assert (found.by, found.node) == (NOTHING, "node1")


@pytest.mark.parametrize(
    "source",
    [
        LUN,
        NBD,
        Source("file", "/dev/sdz"),
        Source("file", "/dev/vg/web1"),
        Source("block", "/dev/vg/web1"),
        Source("block", "/dev/drbd0"),
        Source("block", "/dev/rbd0"),
        Source("network", "rbd:pool/web1", "raw", "rbd", ("mon:6789",)),
        Source("network", "iscsi:iqn/0", "raw", "iscsi", ("storage",)),
        Source("network", "gluster:v/web1.img", "qcow2", "gluster", ("storage",)),
        Source("network", "nfs:/v/web1.img", "raw", "nfs", ("storage",)),
        Source("network", "", "", "", ()),
        Source("nvme", "0000:01:00.0"),
        Source("vhostuser", "/run/x"),
        Source("dir", "/images/floppy"),
        Source("odd\x1b[2J", "/images/x"),
    ],
    ids=lambda source: source.path or "empty",
)
def test_what_is_no_file_is_guarded_by_nothing_without_a_lease(source):
    found = only(both(of(source)))
    assert found.by == NOTHING and "guests: leases: true" in found.remedy
    assert found.why.isprintable()


def test_only_libvirt_knows_where_a_volume_is():
    assert only(both(of(Source("volume", "pool/web1")))).by == NOT_KNOWN


def test_a_shareable_disk_and_one_with_locks_switched_off_are_not_locked():
    assert "shareable" in only(both(of(shareable=True))).why
    found = only(both(of(unlocked=True)))
    assert found.by == NOTHING and "switches QEMU's locks off" in found.why


@pytest.mark.parametrize(
    "value",
    [
        "file=/x,file.locking=off",
        "drive.virtio-disk0.file.locking=off",
        '{"driver":"file","locking":"off"}',
        "{'locking' : 'off'}",
    ],
)
def test_an_argument_that_switches_locks_off_is_found(value):
    text = value.replace("&", "&amp;").replace('"', "&quot;")
    xml = (
        "<domain type='kvm' xmlns:q='http://libvirt.org/schemas/domain/qemu/1.0'><name>x</name>"
        f'<q:commandline><q:arg value="-set"/><q:arg value="{text}"/></q:commandline></domain>'
    )
    assert domainxml.parse(xml).unlocked
    assert not domainxml.parse(xml.replace("off", "on")).unlocked


def test_what_is_never_written_needs_no_guard():
    assert judged(both(of(readonly=True))) == ()
    assert judged(both(of(Source()))) == ()
    assert judged(both(replace(WEB, disks=()))) == ()


def test_a_definition_that_is_not_known_guards_nothing():
    one = world(node(guests=(guest(of=None),)), node("node2"))
    assert only(one).by == NOT_KNOWN


@pytest.mark.parametrize("source", [LUN, WEB.disks[0].source], ids=["lun", "file"])
@pytest.mark.parametrize("name", ["", "nop", "odd"])
def test_without_a_lock_manager_there_is_no_lease(name, source):
    facts = storage("nfs", "rw,nolock")
    found = only(both(of(source), facts, LockManager(name, True, LEASES)))
    assert found.by == NOTHING
    found = only(both(of(source, (OWN,)), facts, LockManager(name, True, LEASES)))
    assert found.by == NOTHING and (source != LUN or "does nothing" in found.why)


@pytest.mark.parametrize("source", [LUN, Source("block", "/dev/vg/web1")], ids=["lun", "lv"])
def test_lockd_leases_a_device_in_a_shared_folder(source):
    assert only(both(of(source), manager=AUTO)).by == LEASE


def test_lockd_locks_a_device_itself_without_a_folder_and_that_stays_here():
    found = only(both(of(LUN), manager=replace(AUTO, folder="")))
    assert found.by == NOTHING and "file_lockspace_dir is not set" in found.why
    assert only(both(of(), manager=replace(AUTO, folder=""))).by == IMAGE_LOCK
    options = storage("gfs2", "rw,localflocks")
    assert only(both(of(), options, replace(AUTO, folder=""))).by == NOTHING


def test_folders_of_luns_and_volumes_are_their_own():
    local = "/var/lib/libvirt/lockd"
    volumes = replace(AUTO, folder=local, lvm_folder=LEASES)
    luns = replace(AUTO, folder=local, scsi_folder=LEASES)
    volume = Source("block", "/dev/vg/web1")
    assert [only(both(of(volume), manager=one)).by for one in (volumes, luns)] == [LEASE, NOTHING]
    assert [only(both(of(LUN), manager=one)).by for one in (volumes, luns)] == [NOTHING, LEASE]


def test_a_lease_in_a_local_folder_guards_nothing():
    found = only(both(of(LUN), manager=replace(AUTO, folder="/var/lib/libvirt/lockd")))
    assert found.by == NOTHING and "local file system" in found.why


def test_a_lease_in_a_folder_whose_locks_stay_here_guards_nothing():
    found = only(both(of(LUN), storage("nfs", "rw,nolock"), AUTO))
    assert found.by == NOTHING and "nolock" in found.why


def test_a_network_disk_is_covered_by_a_lease_of_the_guest_alone():
    found = only(both(of(NBD), manager=AUTO))
    assert found.by == NOTHING and "does not lease a nbd disk" in found.why
    assert only(both(of(NBD, (OWN,)), manager=AUTO)).by == LEASE


def test_a_lease_of_the_guest_covers_a_shareable_disk():
    assert only(both(of(LUN, shareable=True), manager=AUTO)).by == NOTHING
    assert only(both(of(LUN, (OWN,), shareable=True), manager=AUTO)).by == LEASE


@pytest.mark.parametrize(
    "lease",
    [
        Lease("other", "k", IMAGES),
        Lease("", "k", LEASES),
        Lease("../leases", "k", f"{IMAGES}/x"),
        Lease("leases", "k", ""),
        Lease("leases", "k", "images"),
        Lease("\x00", "k", "/"),
    ],
)
def test_a_lease_in_a_folder_that_lockd_does_not_know_is_not_taken(lease):
    known = LockManager(LOCKD, True, LEASES, holders=KNOWS_WEB)
    by = LEASE if lease.target.startswith("/images") and lease.lockspace != "other" else NOTHING
    assert only(both(of(NBD, (lease,)), manager=known)).by == by


def test_lockd_that_leases_nothing_by_itself_knows_no_folder():
    manual = replace(AUTO, automatic=False)
    assert "auto_disk_leases" in only(both(of(LUN), manager=manual)).why
    assert only(both(of(NBD, (OWN,)), manager=manual)).by == NOTHING


def test_sanlock_takes_a_lease_at_its_target():
    manager = LockManager(SANLOCK, False, "/var/lib/libvirt/sanlock", holders=KNOWS_WEB)
    lease = Lease("s", "k", f"{IMAGES}/web1.lease")
    assert only(both(of(NBD, (lease,)), manager=manager)).by == LEASE
    assert only(both(of(NBD, (replace(lease, target="/var/x"),)), manager=manager)).by == NOTHING
    auto = replace(manager, automatic=True, folder=LEASES)
    assert only(both(of(LUN), manager=auto)).by == LEASE


def test_a_guest_that_was_started_before_the_lock_manager_has_no_lease():
    found = only(both(of(LUN), manager=replace(AUTO, holders=frozenset({"web2"}))))
    assert found.by == NOTHING and found.remedy == disk_guards.MOVE_ONCE
    assert only(both(of(LUN), manager=replace(AUTO, holders=None))).by == NOT_KNOWN


def test_a_guest_older_than_lockd_is_named_whatever_else_guards_it():
    older = replace(AUTO, holders=frozenset())
    for manager, issues in ((older, 1), (AUTO, 0), (replace(AUTO, holders=None), 0)):
        one = both(of(), manager=manager)
        (web,) = one.nodes["node1"].guests
        assert only(one).by == IMAGE_LOCK
        found = list(guard(one, web))
        assert len(found) == issues and all("starts nowhere" in one.sentence for one in found)


def test_a_configuration_that_the_daemon_has_not_read_guards_nothing_for_certain():
    found = only(both(of(LUN), manager=replace(AUTO, unread=(lock_manager.QEMU_CONF,))))
    assert found.by == NOT_KNOWN and "/etc/libvirt/qemu.conf was changed" in found.why


def test_the_other_node_needs_the_same_folder_on_the_same_storage():
    without = both(of(LUN), manager=AUTO, there=LockManager())
    assert (only(without).by, only(without).node) == (NOTHING, "node2")
    assert only(without, ["node1"]).by == LEASE
    elsewhere = both(of(LUN), manager=AUTO, there=replace(AUTO, folder=f"{IMAGES}/other"))
    assert only(elsewhere).by == NOTHING and "/images/other" in only(elsewhere).why
    one = both(of(LUN), manager=AUTO)
    nodes = {**one.nodes, "node2": replace(one.nodes["node2"], tokens={})}
    assert only(replace(one, nodes=nodes)).by == NOT_KNOWN


def test_one_means_has_to_hold_on_both_nodes():
    """An image lock here and a lease there keep nobody away."""
    mixed = both(
        of(),
        storage("nfs", "rw,nolock"),
        LockManager(LOCKD, True, "/images/leases", holders=KNOWS_WEB),
        LockManager(),
        storage("nfs", NFS),
    )
    assert only(mixed).by == NOTHING


def test_a_silent_node_is_not_known():
    one = both(of(LUN), manager=AUTO)
    silent = nodefacts.silent("node2", "timed out")
    assert only(replace(one, nodes={**one.nodes, "node2": silent})).by == NOT_KNOWN


def test_all_disks_are_judged_and_the_unguarded_are_named():
    many = replace(
        WEB, disks=(disk(), disk(LUN, target="vdb"), disk(NBD, target=""), disk(readonly=True))
    )
    one = both(many)
    (web,) = one.nodes["node1"].guests
    assert [found.by for found in judged(one)] == [IMAGE_LOCK, NOTHING, NOTHING]
    left = guards.unguarded(one, web, BOTH)
    assert [found.target for found in left] == ["vdb", "a disk without a name"]


# ---- the lock manager, by what programs print


def ages(**times):
    paths = {"qemu": lock_manager.QEMU_CONF, "lockd": lock_manager.LOCKD_CONF}
    paths |= {"daemon": "/run/libvirtd.pid", "virtqemud": "/run/virtqemud.pid"}
    return "".join(f"{time} {paths[name]}\n" for name, time in times.items())


def lines(*settings):
    return "".join(f"{lock_manager.LOCKD_CONF}:{setting}\n" for setting in settings)


def test_lockd_is_read_with_its_defaults():
    found = lock_manager.parse('lock_manager = "lockd"\n', "", "", None)
    assert found == LockManager(LOCKD, True)
    text = lines(
        "auto_disk_leases = 0", 'file_lockspace_dir = "/a b/c" # x', "lvm_lockspace_dir='/l'"
    )
    found = lock_manager.parse("lock_manager='lockd'", text, "", None)
    assert found == LockManager(LOCKD, False, "/a b/c", "/l")
    assert found.folders == ("/a b/c", "/l")


def test_the_first_of_two_settings_counts_and_those_of_the_other_plugin_do_not():
    text = lines('file_lockspace_dir = "/one"', 'file_lockspace_dir = "/two"')
    text += f'{lock_manager.SANLOCK_CONF}:disk_lease_dir = "/three"\n'
    assert lock_manager.parse('lock_manager = "lockd"', text, "", None).folder == "/one"
    found = lock_manager.parse('lock_manager = "sanlock"', text, "", None)
    assert found == LockManager(SANLOCK, False, "/three")
    assert lock_manager.parse("lock_manager = sanlock", "", "", None).folder == (
        lock_manager.SANLOCK_FOLDER
    )


@pytest.mark.parametrize(
    ("times", "unread"),
    [
        ({"qemu": 5, "lockd": 6.5, "daemon": 10}, ()),
        ({"qemu": 15, "lockd": 6, "daemon": 10}, (lock_manager.QEMU_CONF,)),
        ({"qemu": 15, "daemon": 10, "virtqemud": 20}, ()),
        ({"lockd": 11, "virtqemud": 10}, (lock_manager.LOCKD_CONF,)),
        ({"lockd": 11}, ()),
        ({}, ()),
    ],
)
def test_files_that_are_younger_than_the_daemon_are_unread(times, unread):
    assert lock_manager.parse("lock_manager = lockd", "", ages(**times), None).unread == unread


SS = """\
u_str ESTAB 0      0      /run/libvirt/virtlockd-sock 100 * 101 users:(("virtlockd",pid=7,fd=9))
u_str ESTAB 0      0      * 101 * 100 users:(("qemu-system-x86",pid=42,fd=20))
u_str ESTAB 0      0      /run/libvirt/virtlogd-sock 200 * 201 users:(("virtlogd",pid=8,fd=9))
u_str ESTAB 0      0      * 201 * 200 users:(("qemu-system-x86",pid=43,fd=20))
u_str LISTEN 0 128 /run/libvirt/virtlockd-sock 99 * 0 users:(("virtlockd",pid=7,fd=8))
"""
PIDS = "/run/libvirt/qemu/web1.pid:42\n/run/libvirt/qemu/a b.pid:43\n/run/libvirt/qemu/x.pid:zz\n"


def test_lockd_knows_the_guests_that_have_a_connection_to_it():
    known = lock_manager.parse("lock_manager=lockd", "", "", {"pids": PIDS, "holders": SS})
    assert known.holders == {"web1"}
    nothing = lock_manager.parse("lock_manager=lockd", "", "", {"pids": PIDS, "holders": ""})
    assert nothing.holders is None


def test_sanlock_lists_its_processes():
    status = "daemon 1 host\np -1 helper\np 43 a b\ns LS:1:/x:0\nr LS:k:/y:0:5 p 42\n"
    known = lock_manager.parse("lock_manager=sanlock", "", "", {"pids": PIDS, "holders": status})
    assert known.holders == {"a b"}


TEXT = st.text(max_size=60) | st.sampled_from([SS, PIDS, ages(qemu=1), lines("a = 1"), "= = ="])


@given(TEXT, TEXT, TEXT, st.none() | st.fixed_dictionaries({"pids": TEXT, "holders": TEXT}))
def test_whatever_is_printed_is_a_lock_manager(settings, leases, times, holders):
    prefixed = f'lock_manager = "lockd"\n{settings}'
    for text in (settings, prefixed):
        found = lock_manager.parse(text, leases, times, holders)
        assert all(folder.startswith("/") for folder in found.folders)


ODD = st.text(max_size=30)
FOLDERS = ODD | st.sampled_from([LEASES, "/", "//", "/images/../images/leases", "relative"])


@given(
    st.builds(
        LockManager,
        st.sampled_from(["", "nop", LOCKD, SANLOCK]),
        st.booleans(),
        FOLDERS,
        FOLDERS,
        FOLDERS,
        holders=st.none() | st.just(KNOWS_WEB),
    ),
    st.builds(Source, st.sampled_from(["file", "block", "network", "volume", "dir", "x"]), ODD),
    st.lists(st.builds(Lease, ODD, ODD, FOLDERS), max_size=2),
    ODD,
    ODD,
)
def test_whatever_a_node_sends_is_judged(manager, source, leases, kind, options):
    what = of(source, tuple(leases))
    for facts in (storage(kind, options), StorageFacts(), None):
        for target, _, subject in disk_guards.written(what):
            one = disk_guards.of_node(subject, facts, manager)
            assert one.image.why and one.lease.why and target


def test_a_file_is_locked_by_its_image_and_the_path_of_that_is_resolved():
    linked = replace(storage("nfs", NFS), links={"/links": IMAGES})
    assert only(both(of(Source("file", "/links/web1.img")), linked)).by == IMAGE_LOCK
    assert only(both(of(Source("file", "/srv/web1.img")), linked)).by == NOTHING
    assert only(both(of(Source("file", "relative")), linked)).by == NOT_KNOWN
    assert IMAGE.startswith(IMAGES)
