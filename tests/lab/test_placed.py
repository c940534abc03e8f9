"""Definitions where the pillar wants them: a file that nodes share, or every node's libvirt."""

import json

import pytest
from test_start import state

GUEST = "placed1"
FOLDER = "/srv/guests"
UUID = "44444444-4444-4444-4444-444444444444"


@pytest.fixture(scope="module")
def pillar(prepared_lab):
    with prepared_lab.pillar() as pillar:
        yield pillar
    prepared_lab.refresh_pillar()


@pytest.fixture
def defined(prepared_lab, pillar):
    pillar.cluster["guests"] |= {"definitions": "defined", "list": {GUEST: {"home": "node1"}}}
    pillar.save()
    prepared_lab.refresh_pillar()
    yield prepared_lab
    for node in prepared_lab.nodes:
        prepared_lab.exec(node, "virsh", "destroy", GUEST, check=False)
        prepared_lab.exec(node, "virsh", "undefine", GUEST, check=False)


@pytest.fixture
def shared(prepared_lab, pillar):
    pillar.cluster["guests"] |= {"definitions": "shared", "path": FOLDER}
    pillar.save()
    prepared_lab.refresh_pillar()
    yield prepared_lab
    for node in prepared_lab.nodes:
        prepared_lab.exec(node, "virsh", "destroy", GUEST, check=False)
    prepared_lab.exec("node1", "rm", "-f", f"{FOLDER}/{GUEST}.xml")


def text(memory=16, uuid=UUID):
    """Return a definition that leaves to libvirt what may be left to it; it needs no disk."""
    return (
        f"<domain type='qemu'><name>{GUEST}</name><uuid>{uuid}</uuid>"
        f"<memory unit='MiB'>{memory}</memory>"
        "<os><type arch='x86_64'>hvm</type></os><devices><serial type='null'/></devices></domain>"
    )


def place(lab, node, *more, **definition):
    return state(lab, node, "guest_placed", GUEST, f"contents={text(**definition)!r}", *more)


def test_nodes_that_place_at_once_do_not_fight(shared):
    arguments = ("kvmcluster.guest_placed", GUEST, f"contents={text()!r}")
    answers = shared.ask(shared.nodes, "state.single", *arguments)
    results = [next(iter(done.values())) for done in answers.values()]
    assert [done["result"] for done in results] == [True] * 3, results
    path = f"{FOLDER}/{GUEST}.xml"
    # A client of GlusterFS may hold on to a file that another has just replaced, for a second.
    patient = f"for try in 1 2 3; do cat {path} && exit; sleep 1; done"
    assert text() in shared.exec("node2", "sh", "-c", patient)
    listed = shared.exec("node3", "ls", "-A", FOLDER).split()
    assert [name for name in listed if GUEST in name] == [f"{GUEST}.xml"]


def test_the_definition_of_a_running_guest_takes_effect_at_its_next_start(shared):
    assert place(shared, "node1")["result"] is True
    started = shared.salt("node2", "kvmcluster.start", GUEST)
    assert started["result"] == "started", started
    foretold = place(shared, "node1", "test=True", memory=24)
    done = place(shared, "node1", memory=24)
    assert (foretold["result"], done["result"]) == (None, True)
    assert foretold["changes"] == done["changes"] and "24576 KiB now" in json.dumps(done["changes"])
    for comment in (foretold["comment"], done["comment"]):
        assert f"{GUEST} is running on node2\n{GUEST} goes on as it is until its" in comment
    assert "<memory unit='KiB'>16384</memory>" in shared.exec("node2", "virsh", "dumpxml", GUEST)
    stopped = shared.salt("node2", "kvmcluster.shutdown", GUEST, "timeout=1", "destroy=true")
    assert stopped["result"] == "stopped"
    assert shared.salt("node3", "kvmcluster.start", GUEST)["owner"] == "node3"
    assert "<memory unit='KiB'>24576</memory>" in shared.exec("node3", "virsh", "dumpxml", GUEST)


def test_libvirt_keeps_it_on_every_node_and_none_starts_it_by_itself(defined):
    lab = defined
    for node in lab.nodes:
        assert place(lab, node)["changes"][GUEST]["added"], node
        again = place(lab, node)
        assert (again["result"], again["changes"]) == (True, {}), again
    pid = lab.exec("node1", "pidof", "libvirtd")
    lab.exec("node1", "virsh", "autostart", GUEST)
    assert "start it at its next boot" in lab.salt("node2", "kvmcluster.start", GUEST)
    foretold = place(lab, "node1", "test=True", memory=24)
    changed = place(lab, "node1", memory=24)
    assert foretold["changes"] == changed["changes"] and foretold["result"] is None
    assert changed["changes"][GUEST]["autostart"] == "on -> off"
    assert "16384 KiB before, 24576 KiB now" in json.dumps(changed["changes"][GUEST]["replaced"])
    assert "Autostart:      disable" in lab.exec("node1", "virsh", "dominfo", GUEST)
    assert lab.exec("node1", "pidof", "libvirtd") == pid
    other = place(lab, "node1", uuid=UUID.replace("4", "5"))
    assert other["result"] is False and "another guest" in other["comment"]
    assert UUID in lab.exec("node1", "virsh", "domuuid", GUEST)


def test_a_frozen_guest_stays_frozen_when_it_is_defined_anew(defined):
    lab = defined
    for node in lab.nodes:
        assert place(lab, node)["result"] is True
    assert state(lab, "node1", "guest_running", GUEST)["result"] is True
    assert lab.salt("node1", "kvmcluster.freeze", GUEST, "'ask Ann'")["frozen"] is True
    done = place(lab, "node1", memory=24)
    assert "goes on as it is until its next start" in done["comment"], done
    kept = lab.exec("node1", "virsh", "dumpxml", "--inactive", GUEST)
    assert "ask Ann" in kept and "24576" in kept
    assert lab.salt("node1", "kvmcluster.unfreeze", GUEST)["changed"] is True
    assert "ask Ann" not in lab.exec("node1", "virsh", "dumpxml", "--inactive", GUEST)


SCRIPT = "/usr/lib/libvirt/libvirt-guests.sh"
SETTINGS = "/etc/default/libvirt-guests"


def autostart_findings(lab):
    """Return what the check guest.autostart finds about the guest, by severity."""
    found = lab.run("kvmcluster.check", GUEST)["findings"]
    return {
        one["severity"]: one
        for one in found
        if one["id"] == "guest.autostart" and one["outcome"] != "OK"
    }


def test_a_guest_that_libvirt_guests_would_start_a_second_time_is_named(defined):
    """What the unit does when a node shuts down and boots is its script with stop and start."""
    lab = defined
    for node in lab.nodes:
        assert place(lab, node)["result"] is True
    lab.exec("node1", "sh", "-c", f"printf 'ON_BOOT=start\\nSHUTDOWN_TIMEOUT=1\\n' >>{SETTINGS}")
    started = lab.salt("node1", "kvmcluster.start", GUEST)
    assert started["result"] == "started", started
    (warning,) = started["warnings"]
    assert warning.startswith("if it runs on node1 when node1 shuts down, node1 starts it")
    assert autostart_findings(lab).keys() == {"WARN"}
    lab.exec("node1", SCRIPT, "stop")
    lab.exec("node1", "virsh", "destroy", GUEST)
    started = lab.salt("node2", "kvmcluster.start", GUEST)
    (warning,) = started["warnings"]
    assert warning.startswith("node1 starts it at its next boot, wherever it runs by then")
    found = autostart_findings(lab)["BLOCK"]
    assert SETTINGS in found["remedy"] and "libvirt-guests" in found["sentence"]
    lab.exec("node1", "sh", "-c", f"echo ON_BOOT=ignore >>{SETTINGS}")
    assert autostart_findings(lab) == {}
    lab.exec("node1", SCRIPT, "start")
    assert lab.exec("node1", "virsh", "domstate", GUEST).strip() == "shut off"
