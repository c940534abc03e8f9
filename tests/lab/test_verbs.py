"""Every verb of the master on real guests, found by their names alone."""

import json

import pytest
from labs import until

WEB, DB = "verb-web1", "verb-db1"
FOLDER = "/srv/guests"


@pytest.fixture(scope="module")
def cluster(prepared_lab):
    """Two guests of the pillar's list, at home on node1, with a console and a display each."""
    lab = prepared_lab
    for guest in (WEB, DB):
        lab.guest(guest, "node1")
    with lab.pillar() as pillar:
        pillar.cluster["guests"] |= {
            "definitions": "shared",
            "path": FOLDER,
            "list": {guest: {"home": "node1"} for guest in (WEB, DB)},
        }
        pillar.save()
        lab.refresh_pillar()
        yield lab
    lab.refresh_pillar()
    for guest in (WEB, DB):
        lab.stop_guest(guest)


def rows(lab, verb, guest, *arguments, code=0):
    """Have a verb done; return the result of each guest."""
    done = lab.run(f"kvmcluster.{verb}", guest, *arguments)
    assert done["retcode"] == code, json.dumps(done)
    return {row["guest"]: row["result"] for row in done["guests"]}


def reboot(lab, guest):
    """Reboot a guest; one that does not write again yet would not react to its power button."""
    before = lab.record(guest)["boots"]
    assert rows(lab, "reboot", guest) == {guest: "rebooted"}
    until(lambda: lab.record(guest)["boots"] == before + 1, f"{guest} wrote after its reboot")


@pytest.mark.nightly
def test_every_verb_finds_its_guest_and_reports_what_it_saw(cluster):
    lab = cluster
    assert rows(lab, "shutdown", "verb-*", code=1) == {DB: "planned", WEB: "planned"}
    assert lab.running(WEB) == lab.running(DB) == ["node1"], "a plan changes nothing"

    reboot(lab, WEB)

    assert lab.run("kvmcluster.cordon", "node3", "as is tried here")["cordoned"]
    assert rows(lab, "freeze", f"{WEB},{DB}", "backup", "test=False") == {
        DB: "frozen",
        WEB: "frozen",
    }
    frozen = lab.run("kvmcluster.migrate", WEB, "node2")
    assert "guest.frozen" in frozen["error"]
    assert rows(lab, "unfreeze", "verb-*", "test=False") == {DB: "not_frozen", WEB: "not_frozen"}
    moved = lab.run("kvmcluster.migrate", WEB)
    assert (moved["result"], moved["owner"]) == ("moved", "node2"), "node3 is cordoned"

    reboot(lab, WEB)
    assert rows(lab, "shutdown", "verb-*", "test=False") == {DB: "stopped", WEB: "stopped"}
    assert not lab.running(WEB) and not lab.running(DB)
    assert rows(lab, "shutdown", WEB) == {WEB: "stopped"}, "it is off already"
    assert lab.run("kvmcluster.status")["ok"], "both are off on purpose"
    for verb in ("reboot", "console", "display"):
        assert "to start it" in lab.run(f"kvmcluster.{verb}", WEB)["error"]

    assert lab.run("kvmcluster.cordon", "node1", "its home")["cordoned"]
    assert rows(lab, "start", "verb-*", "test=False") == {DB: "started", WEB: "started"}
    assert lab.running(WEB) == lab.running(DB) == ["node2"], "the only node that takes guests"
    assert rows(lab, "start", WEB, "node1") == {WEB: "running"}
    for node in ("node1", "node3"):
        assert lab.run("kvmcluster.uncordon", node)["uncordoned"]
    console = lab.run("kvmcluster.console", WEB)
    assert console["node"] == "node2" and "of type file" in console["reason"]
    assert "no display" in lab.run("kvmcluster.display", WEB)["reason"]

    for verb, wrong in (("start", "node1"), ("shutdown", "web9"), ("reboot", f"{WEB},node1")):
        assert "no node that responded has a guest" in lab.run(f"kvmcluster.{verb}", wrong)["error"]
    assert "web9 is not a node" in lab.run("kvmcluster.cordon", "web9", "x")["error"]
    assert "no guest matches" in lab.run("kvmcluster.start", "mail*")["error"]
    assert lab.running(WEB) == lab.running(DB) == ["node2"]
