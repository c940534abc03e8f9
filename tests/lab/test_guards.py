"""Leases from nothing: a second copy of a guest on a disk without locks is kept away.

The disk comes from an NBD server, which lets anybody write it; QEMU locks nothing on it.
"""

import json
import re

import pytest
from labs import until

GUEST, FILE = "leased", "locked"
FOLDER = "/srv/guests"
LEASES = f"{FOLDER}/kvmcluster-leases"
ORCHESTRATION = ("state.orchestrate", "kvmcluster.orch.disk_leases")
PLAIN = "tls=false"


@pytest.fixture(scope="module")
def lab(prepared_lab):
    """A guest of the list on NBD and one on GlusterFS, and no lock manager anywhere."""
    lab = prepared_lab
    lab.guest(GUEST, "node1", "--disk", "nbd")
    lab.guest(FILE, "node1")
    with lab.pillar() as pillar:
        listed = {name: {"home": "node1"} for name in (GUEST, FILE)}
        pillar.cluster["guests"] |= {"path": FOLDER, "leases": True, "list": listed}
        pillar.save()
        lab.refresh_pillar()
        yield lab
        for name in (GUEST, FILE):
            lab.stop_guest(name)
        for node in lab.nodes:
            lab.exec(node, "rm", "/etc/libvirt/qemu-lockd.conf", check=False)
            lab.exec(node, "sed", "-i", "/^lock_manager/d", "/etc/libvirt/qemu.conf")
            lab.exec(node, "systemctl", "restart", "libvirtd.service")
        lab.exec("node1", "rm", "-rf", LEASES)
    lab.refresh_pillar()


def orchestrate(lab, *arguments):
    """Run the orchestration; return what the state returned on each node."""
    words = ("--out=json", *ORCHESTRATION, *arguments)
    done = lab.ctl("salt-run", "--", *words, check=False, timeout=300)
    (states,) = json.loads(done.stdout)["data"].values()
    one = next(state for state in states.values() if state["__id__"] == "disk-leases")
    of_nodes = one["changes"].get("ret") or {}
    return one, {
        node: next(state for state in found.values() if state["__id__"] == "kvmcluster-disk-leases")
        for node, found in of_nodes.items()
    }


def guarded(lab, name, node="node1"):
    """Return what the check says of a guest's disks."""
    data = lab.salt(node, "kvmcluster.check", name)
    return [found for found in data["findings"] if found["id"] == "guest.guard"]


def second(lab, node, name=GUEST):
    """Start a second copy of a guest as a person with virsh would; return libvirt's answer."""
    done = lab.ctl("exec", node, "--", "virsh", "create", f"{FOLDER}/{name}.xml", check=False)
    assert done.returncode != 0, f"a second copy runs on {node}"
    return done.stderr


def test_leases_from_nothing(lab):
    (before,) = guarded(lab, GUEST)
    assert before["outcome"] == "PROBLEM" and "libvirt has no lock manager" in before["sentence"]
    assert before["remedy"].startswith("apply the state kvmcluster.disk_leases on every node, then")
    assert guarded(lab, FILE) == []  # QEMU's locks reach the other nodes through GlusterFS.
    _, dry = orchestrate(lab, "test=True")
    assert "qemu-lockd.conf" in dry["node2"]["changes"], dry
    assert lab.exec("node1", "ls", FOLDER).count("kvmcluster-leases") == 0
    one, real = orchestrate(lab)
    assert one["result"] is True, one["comment"]
    for node in lab.nodes:
        added = real[node]["changes"]["qemu-lockd.conf"]["added"]
        assert f'file_lockspace_dir = "{LEASES}"' in added, real[node]
        assert real[node]["changes"]["libvirtd"] == {"restart": "to read its configuration"}
        assert "libvirtd was restarted" in real[node]["comment"]
        assert "libvirtd would be restarted" in dry[node]["comment"]
    one, again = orchestrate(lab)
    assert one["result"] is True and not any(found["changes"] for found in again.values()), again
    assert lab.running(GUEST) == ["node1"] and lab.record(GUEST)["whole"]


def test_a_running_guest_has_its_lease_from_its_next_start_on(lab):
    found = guarded(lab, GUEST)
    sentences = " ".join(one["sentence"] for one in found)
    assert {one["outcome"] for one in found} == {"PROBLEM"}, found
    assert "nothing keeps a second writer off vda" in sentences and "without lockd" in sentences
    assert all("shut it down and start it" in one["remedy"] for one in found), found
    lab.exec("node1", "virsh", "destroy", GUEST)
    assert lab.salt("node1", "kvmcluster.start", GUEST)["result"] == "started"
    assert guarded(lab, GUEST) == []


def test_a_second_copy_is_refused_by_the_lease_and_the_guest_moves_with_it(lab):
    refused = second(lab, "node2")
    assert re.search("Lockspace resource .* is locked", refused), refused
    for source, destination in (("node1", "node2"), ("node2", "node3")):
        moved = lab.salt(source, "kvmcluster.migrate", GUEST, destination, PLAIN)
        assert moved["result"] == "moved", moved
        assert guarded(lab, GUEST, destination) == []
        assert "is locked" in second(lab, source)
    record = lab.record(GUEST)
    assert lab.running(GUEST) == ["node3"] and record["lost"] == record["doubled"] == []
    # The lease goes with its QEMU, however that ends.
    lab.ctl("kill", "node3", f"qemu:{GUEST}")
    until(lambda: lab.running(GUEST) == [], "the guest is still there")
    assert lab.salt("node1", "kvmcluster.start", GUEST)["result"] == "started"


def test_a_node_without_lockd_is_named_and_mended(lab):
    lab.exec("node3", "sed", "-i", "/^lock_manager/d", "/etc/libvirt/qemu.conf")
    lab.exec("node3", "systemctl", "restart", "libvirtd.service")
    (found,) = guarded(lab, GUEST)
    assert found["outcome"] == "PROBLEM" and "on node3: " in found["sentence"], found
    state = lab.apply("node3", "kvmcluster.disk_leases")["kvmcluster-disk-leases"]
    assert state["result"] is True and set(state["changes"]) == {"qemu.conf", "libvirtd"}, state
    assert guarded(lab, GUEST) == []


def test_a_daemon_that_has_not_read_its_configuration_is_not_trusted(lab):
    lab.exec("node2", "touch", "-d", "1 minute", "/etc/libvirt/qemu-lockd.conf")
    (found,) = guarded(lab, GUEST)
    assert found["outcome"] == "UNKNOWN" and "qemu-lockd.conf was changed" in found["sentence"]
    lab.exec("node2", "touch", "-d", "1 hour ago", "/etc/libvirt/qemu-lockd.conf")


def test_a_guest_older_than_lockd_is_named_until_it_has_moved(lab):
    """A lease that it got by a resume would stay when its QEMU dies."""
    (found,) = guarded(lab, FILE)
    assert found["outcome"] == "PROBLEM" and "started without lockd" in found["sentence"], found
    moved = lab.salt("node1", "kvmcluster.migrate", FILE, "node2", PLAIN)
    assert moved["result"] == "moved", moved
    assert guarded(lab, FILE, "node2") == []
    assert "lock" in second(lab, "node1", FILE)
    lab.exec("node2", "virsh", "suspend", FILE)
    lab.exec("node2", "virsh", "resume", FILE)
    lab.ctl("kill", "node2", f"qemu:{FILE}")
    until(lambda: lab.running(FILE) == [], "the guest is still there")
    assert lab.salt("node3", "kvmcluster.start", FILE)["result"] == "started"


def test_a_forced_start_probes_first_and_asks_again_where_nothing_guards(lab):
    """With leases the first word is enough; it never is for a node that responds."""
    lab.exec("node1", "virsh", "destroy", GUEST)
    lab.ctl("kill", "node3", "libvirtd")
    try:
        refused = lab.salt("node1", "kvmcluster.start", GUEST, "force_unreachable=[node3]")
        assert "node3 is not off: " in refused and "node3-mig accepts ssh logins" in refused
    finally:
        lab.ctl("start", "node3", "libvirtd")
    lab.ctl("cut", "node3")
    try:
        lab.exec("node1", "sed", "-i", "/^lock_manager/d", "/etc/libvirt/qemu.conf")
        refused = lab.salt("node1", "kvmcluster.start", GUEST, "force_unreachable=[node3]")
        assert "force_unguarded=true" in refused and "nbd:leased" in refused, refused
        assert lab.running(GUEST) == []
        lab.exec("node1", "sed", "-i", '$ a lock_manager = "lockd"', "/etc/libvirt/qemu.conf")
        lab.exec("node1", "touch", "-d", "1 hour ago", "/etc/libvirt/qemu.conf")
        done = lab.salt("node1", "kvmcluster.start", GUEST, "force_unreachable=[node3]")
        assert done["result"] == "started", done
    finally:
        lab.ctl("heal", "node3")
        until(lambda: lab.ask(["node3"], "test.ping", patience=3), "node3 is not back")
    assert lab.running(GUEST) == ["node1"]


def test_a_definition_that_libvirt_keeps_has_its_lease(lab):
    text = lab.read("node1", f"{FOLDER}/{GUEST}.xml")
    bare = re.sub("<lease>.*</lease>", "", text)
    lab.exec("node2", "virsh", "define", "/dev/stdin", stdin=bare)
    with lab.pillar() as pillar:
        pillar.cluster["guests"]["definitions"] = "defined"
        pillar.save()
        lab.refresh_pillar()
        try:
            sls = ("node2", "kvmcluster.disk_leases")
            dry = lab.apply(*sls, "test=True")["kvmcluster-disk-leases"]
            state = lab.apply(*sls)["kvmcluster-disk-leases"]
            assert state["result"] is True and dry["changes"] == state["changes"] != {}, state
            kept = lab.exec("node2", "virsh", "dumpxml", "--inactive", GUEST)
            assert "<lockspace>kvmcluster-leases</lockspace>" in kept
            assert lab.apply(*sls)["kvmcluster-disk-leases"]["changes"] == {}
        finally:
            lab.exec("node2", "virsh", "undefine", GUEST)
    lab.refresh_pillar()
