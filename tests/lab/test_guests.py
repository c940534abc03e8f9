"""Guests as nodes and the cluster report them, against real libvirt, QEMU, sshd and Salt."""

import json
import sys

import pytest
from labs import until

DEFINED = 200
GUEST = """<domain type='qemu'><name>{name}</name><memory unit='MiB'>64</memory><vcpu>1</vcpu>
<os><type arch='x86_64' machine='pc'>hvm</type></os><devices>
<emulator>/usr/bin/qemu-system-x86_64</emulator>
<disk type='file' device='disk'><driver name='qemu' type='raw'/>
<source file='/srv/guests/{name}.img'/><target dev='vda' bus='virtio'/></disk>
</devices></domain>"""
CHANGING = """
import libvirt, sys
libvirt.registerErrorHandler(lambda *a: None, None)
daemon = libvirt.open("qemu:///system")
for number in range({count}):
    name = f"idle{{number}}"
    if {define}:
        daemon.defineXML({guest!r}.format(name=name))
    else:
        daemon.lookupByName(name).undefine()
"""
COUNTING = """
import collections, json, time, libvirt
from saltext_kvmcluster.host import collector
calls = collections.Counter()
LOCAL = ("Free", "GetName", "GetUUID", "Ref", "Open", "Close", "Error", "IsAlive", "GetConnect")
for name in dir(libvirt.libvirtmod):
    function = getattr(libvirt.libvirtmod, name)
    if name.startswith("vir") and callable(function) and not any(w in name for w in LOCAL):
        def counted(*a, _f=function, _n=name):
            calls[_n] += 1
            return _f(*a)
        setattr(libvirt.libvirtmod, name, counted)
reported = collector.gather_host("node1")
print(json.dumps({"calls": calls, "guests": len(reported["guests"])}))
"""


@pytest.fixture(scope="module")
def web1(prepared_lab):
    prepared_lab.guest("web1", "node1")
    yield "web1"
    prepared_lab.stop_guest("web1")


@pytest.fixture
def idle_guests(lab):
    def change(define):
        script = CHANGING.format(count=DEFINED, define=define, guest=GUEST)
        lab.exec("node1", sys.executable, "-c", script)

    change(True)
    yield DEFINED
    change(False)


def named(data, name):
    return next(guest for guest in data if guest["name"] == name)


def test_a_node_tells_of_a_guest_that_nobody_manages(lab, web1):
    data = lab.salt("node1", "kvmcluster.guests")
    found = named(data["guests"], web1)
    assert data["ok"] and found["state"] == "running"
    assert (found["persistent"], found["autostart"], found["frozen"]) == (False, False, None)
    assert found["machine"].startswith("pc-") and 0 < found["uptime"] < 600
    disk = found["disks"][0]
    assert disk["source"] == "/srv/guests/web1.img" and disk["fit"] is True
    assert "glusterfs" in disk["storage"]
    assert found["movable"] is True, found["why"]


def test_guests_are_a_table_for_people(lab, web1):
    text = lab.ctl("salt", "--", "node1", "kvmcluster.guests").stdout
    assert "guest" in text and "web1" in text and "running" in text and "{" not in text


def test_facts_of_a_node_with_many_defined_guests_are_cheap(lab, web1, idle_guests):
    reported = json.loads(lab.exec("node1", sys.executable, "-c", COUNTING))
    assert reported["guests"] == idle_guests + 1
    running = {"virDomainGetJobStats", "virDomainGetState", "virDomainIsPersistent"}
    running |= {"virDomainGetXMLDesc", "virDomainSnapshotNum"}
    for_all = {name: n for name, n in reported["calls"].items() if name not in running}
    assert sum(for_all.values()) <= 10, reported["calls"]
    assert all(reported["calls"].get(name, 0) <= 1 for name in running), reported["calls"]


def test_status_shows_every_node_and_never_leaves_one_out(lab, web1):
    data = lab.run("kvmcluster.status")
    assert data["ok"] and set(data["nodes"]) == set(lab.nodes)
    assert named(data["status"], web1)["where"] == "node1"
    lab.ctl("kill", "node2", "libvirtd")
    try:
        data = lab.run("kvmcluster.status")
        assert not data["ok"] and list(data["silent"]) == ["node2"]
        done = lab.ctl("salt-run", "--", "kvmcluster.status", check=False)
        assert (
            done.returncode == 1 and "PROBLEM  node2: its libvirt does not respond" in done.stdout
        )
    finally:
        lab.ctl("start", "node2", "libvirtd")


@pytest.fixture(scope="module")
def listed(prepared_lab, web1):
    """web1 is in the pillar's list, and a guest that is nowhere."""
    with prepared_lab.pillar() as pillar:
        pillar.cluster["guests"]["list"] = {web1: {"home": "node1"}, "ghost": {"home": "node3"}}
        pillar.save()
        prepared_lab.refresh_pillar()
        yield
    prepared_lab.refresh_pillar()


def status(lab):
    """Return what status prints, and its exit code."""
    done = lab.ctl("salt-run", "--", "kvmcluster.status", check=False)
    return done.stdout, done.returncode


def test_a_listed_guest_that_runs_nowhere_is_a_problem_until_somebody_wants_it_off(lab, listed):
    text, code = status(lab)
    start = "to start it: salt node3 kvmcluster.start ghost"
    assert code == 1 and f"PROBLEM  ghost runs nowhere: no node has it; {start}\n" in text
    found = lab.run("kvmcluster.recover", "ghost")
    assert (found["result"], found["ok"], found["commands"]) == ("nowhere", True, [start])
    assert lab.salt("node2", "kvmcluster.shutdown", "ghost")["result"] == "stopped"
    text, code = status(lab)
    assert code == 0 and "PROBLEM" not in text
    assert "NOTE  ghost was shut down by kvmcluster.shutdown on node2 at " in text


def test_a_node_whose_minion_is_silent_is_seen_by_its_peers(lab, web1, listed):
    lab.ctl("stop", "node2", "minion")
    try:
        moved = lab.ctl("salt-run", "--", "kvmcluster.migrate", web1, "node2")
        assert "WARNING  node2: its minion does not answer (no response)" in moved.stdout
        assert f"MOVED  {web1}, node1 -> node2" in moved.stdout
        text, code = status(lab)
        seen = "minion silent (no response; its salt-minion is stopped), host reachable by ssh"
        mend = "on node2: systemctl restart salt-minion"
        assert code == 1
        assert f"PROBLEM  node2: {seen} from node1: guests {web1} there; {mend}\n" in text
        assert named(lab.run("kvmcluster.status")["status"], web1)["where"] == "node2"
        called = lab.ctl("salt-call", "node2", "--", "kvmcluster.start", web1).stdout
        assert "its salt-minion is stopped: the master loses sight of what runs there" in called
        checked = lab.salt("node1", "kvmcluster.check")["findings"]
        assert [one["nodes"] for one in checked if one["id"] == "node.minion"] == [["node2"]]
    finally:
        lab.ctl("cont", "node2", "minion")
    until(lambda: lab.run("kvmcluster.status")["ok"], "node2's minion does not answer again")
    assert lab.run("kvmcluster.migrate", web1, "node1")["ok"]


def test_a_token_written_on_one_node_is_read_on_another(lab, web1):
    sent = lab.salt("node1", "kvmcluster.facts", "targets=false")
    assert list(sent["written"]) == ["/srv/guests"] and not sent["write_errors"]
    question = {"node2": {"tokens": {"/srv/guests": ["node1", "node3"]}}}
    answer = lab.salt("node2", "kvmcluster.inspect", json.dumps(question))
    assert sent["written"]["/srv/guests"] in answer["tokens"]["/srv/guests"]["node1"].splitlines()
