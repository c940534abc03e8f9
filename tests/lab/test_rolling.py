"""Maintenance of nodes, one after the other: no guest stops, and the first failure ends it."""

import json
import os
import signal
import subprocess
import time

import pytest
from labs import PROGRAM

GUESTS = {"roll1": "node1", "roll2": "node2", "roll3": "node3"}
CLOSED = "/etc/kvmcluster.cordoned"
STEPS = ("assessed", "drained", "updated", "reboot", "undrained")


@pytest.fixture(scope="module")
def everyone(prepared_lab):
    """A guest on each node, at first."""
    for name, node in GUESTS.items():
        prepared_lab.guest(name, node)
    yield prepared_lab
    for name in GUESTS:
        prepared_lab.stop_guest(name)


@pytest.fixture
def guests(everyone):
    """The guests; at the end none has stopped, started again or lost a number."""
    written = {name: everyone.record(name)["written"] for name in GUESTS}
    yield GUESTS
    for name in GUESTS:
        everyone.assert_whole(name)
        assert everyone.record(name)["written"] > written[name]


@pytest.fixture
def tidy(lab):
    """All nodes are up and open, and no run is left over for the next test."""
    yield
    for node in lab.nodes:
        lab.ctl("mend", node, "boot")
        lab.exec(node, "rm", "-f", CLOSED, "/etc/broken", "/etc/updated")
    lab.exec("master", "rm", "-rf", "/var/cache/salt/master/kvmcluster")
    await_minions(lab)


def await_minions(lab):
    end = time.monotonic() + 90
    while lab.run("kvmcluster.status").get("silent") != {}:
        assert time.monotonic() < end


def command(name, test, pillar):
    words = ["salt-run", "--", "--out=json", "state.orchestrate", f"kvmcluster.orch.{name}"]
    return [*words, f"pillar={json.dumps(pillar)}", *(["test=True"] if test else [])]


def orchestrate(lab, name, test=False, **pillar):
    """Run an orchestration; return its exit code, and its states by id, in order."""
    done = lab.ctl(*command(name, test, pillar), check=False, timeout=900)
    return done.returncode, states_of(done.stdout)


def states_of(text):
    (states,) = json.loads(text)["data"].values()
    assert isinstance(states, dict), states
    ordered = sorted(states.values(), key=lambda state: state["__run_num__"])
    return {state["__id__"]: state for state in ordered}


def steps(*nodes, ending=("done",)):
    return [f"{node} {step}" for node in nodes for step in (*STEPS, *ending)]


WHOLE = ["rolling", "preflight", *steps("node1", "node2", "node3")]
GOES_ON = ["rolling", "preflight", *steps("node2", "node3")]


def boots(lab):
    return {node: lab.salt(node, "kvmcluster.boot")["boot"] for node in lab.nodes}


def cordoned(lab):
    return [node for node in lab.nodes if lab.exec(node, "ls", CLOSED, check=False)]


def places(lab):
    return {row["name"]: row["where"] for row in lab.run("kvmcluster.status")["status"]}


def test_a_node_that_somebody_else_has_closed_is_left_alone(lab, guests, tidy):
    lab.salt("node3", "kvmcluster.cordon", "new memory, ask Ann")
    code, states = orchestrate(lab, "rolling", sls="updates")
    assert code != 0 and list(states) == ["rolling", "preflight"]
    assert "new memory, ask Ann" in states["preflight"]["comment"]
    assert cordoned(lab) == ["node3"] and places(lab) == GUESTS


def test_a_node_with_guests_is_not_rebooted(lab, guests, tidy):
    before = boots(lab)
    detail = lab.salt("node1", "kvmcluster.reboot", before["node1"])
    assert "node1 is not cordoned: a guest may arrive at any time" in detail
    lab.salt("node1", "kvmcluster.cordon", "a test")
    detail = lab.salt("node1", "kvmcluster.reboot", before["node1"])
    assert "node1 still has active guests: roll1" in detail
    assert "has rebooted already" in lab.salt("node1", "kvmcluster.reboot", before["node2"])
    done = lab.run("kvmcluster.reboot", "node1", "when=always")
    assert not done["ok"] and not done["rebooted"]
    assert "node1 still has active guests: roll1" in done["missing"]
    assert boots(lab) == before


@pytest.mark.nightly
def test_a_dry_run_does_nothing_and_shows_each_step(lab, guests, tidy):
    before = boots(lab)
    code, dry = orchestrate(lab, "rolling", test=True, sls="updates")
    assert code == 0 and list(dry) == [*WHOLE, "report"]
    assert {name: state["result"] for name, state in dry.items() if not state["changes"]} == {
        "rolling": True,
        "preflight": True,
        **{f"{node} {step}": True for node in lab.nodes for step in ("assessed", "reboot")},
        "report": True,
    }
    assert "roll1" in dry["node1 drained"]["comment"]
    assert (boots(lab), cordoned(lab), places(lab)) == (before, [], GUESTS)


def test_every_node_is_updated_and_rebooted_and_no_guest_stops(lab, guests, tidy):
    before = boots(lab)
    code, states = orchestrate(lab, "rolling", sls="updates")
    assert code == 0 and list(states) == [*WHOLE, "report"], states
    assert all(state["result"] for state in states.values())
    assert "/run/reboot-required exists" in states["node2 reboot"]["comment"]
    after = boots(lab)
    assert all(after[node] != before[node] for node in lab.nodes)
    assert cordoned(lab) == [] and set(places(lab)) == set(GUESTS)


@pytest.mark.nightly
def test_a_node_that_does_not_come_back_ends_it_and_it_goes_on_when_that_is_mended(
    lab, guests, tidy
):
    run = {"sls": "updates", "reboot": "always", "timeout": 40}
    before = boots(lab)
    lab.ctl("spoil", "node2", "boot")
    code, states = orchestrate(lab, "rolling", **run)
    assert code != 0
    assert list(states) == ["rolling", "preflight", *steps("node1"), *steps("node2")[:4]]
    failed = states["node2 reboot"]
    assert failed["result"] is False and failed["changes"] == {}
    assert "no response from the minion of node2" in failed["comment"]
    assert [state["result"] for state in states.values()].count(False) == 1
    alive = places(lab)
    assert all(alive[name] in ("node1", "node3") for name in GUESTS), alive

    code, states = orchestrate(lab, "rolling", **run)
    assert code != 0 and list(states) == ["rolling", "preflight"]
    assert "continues with node2, node3" in states["rolling"]["comment"]
    assert "node2" in states["preflight"]["comment"] and not states["preflight"]["result"]

    lab.ctl("mend", "node2", "boot")
    await_minions(lab)
    middle = boots(lab)
    assert middle["node1"] != before["node1"] and middle["node3"] == before["node3"]
    assert cordoned(lab) == ["node2"] and "kvmcluster.orch.rolling" in lab.read("node2", CLOSED)

    code, states = orchestrate(lab, "rolling", **{**run, "timeout": 120})
    assert code == 0 and list(states) == [*GOES_ON, "report"], states
    assert "already done: node1" in states["rolling"]["comment"]
    assert "all nodes are done" in states["node3 done"]["comment"]
    after = boots(lab)
    assert after["node1"] == middle["node1"]
    assert after["node2"] != middle["node2"] and after["node3"] != middle["node3"]
    assert cordoned(lab) == []
    again = lab.run("kvmcluster.rolling", "updates", "reboot=always", "test=true")
    assert again["todo"] == lab.nodes


@pytest.mark.nightly
def test_updates_that_fail_leave_the_node_closed_and_as_it_was(lab, guests, tidy):
    before = boots(lab)
    lab.exec("node3", "touch", "/etc/broken")
    work = {"node": "node3", "sls": "updates"}
    code, states = orchestrate(lab, "maintenance", **work)
    assert code != 0 and list(states) == ["preflight", *steps("node3")[:3]]
    assert states["node3 updated"]["comment"].startswith("node3: failed: fit: ")
    assert cordoned(lab) == ["node3"] and boots(lab) == before
    assert "node3" not in places(lab).values()

    lab.exec("node3", "rm", "/etc/broken")
    code, states = orchestrate(lab, "maintenance", home=True, **work)
    assert code == 0 and list(states) == ["preflight", *steps("node3", ending=()), "report"], states
    after = boots(lab)
    assert cordoned(lab) == [] and after["node3"] != before["node3"]

    code, states = orchestrate(lab, "maintenance", **work)
    assert code == 0 and "nothing to update" in states["node3 assessed"]["comment"]
    assert states["report"]["comment"].startswith("node3  skipped")
    assert boots(lab) == after


@pytest.mark.nightly
def test_a_master_that_is_killed_half_way_goes_on_afterwards(lab, guests, tidy):
    run = {"sls": "updates", "timeout": 120}
    before = boots(lab)
    with subprocess.Popen(
        [*PROGRAM, *command("rolling", False, run)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env=lab.environment,
        start_new_session=True,
    ) as call:
        try:
            end = time.monotonic() + 300
            while lab.exec("node2", "ls", CLOSED, check=False) == "":
                assert time.monotonic() < end and call.poll() is None
            refused = lab.run("kvmcluster.rolling", "updates")
            assert "is in progress on this master" in refused["error"]
        finally:
            os.killpg(call.pid, signal.SIGKILL)
    lab.ctl("kill", "master", "salt-master")
    lab.ctl("start", "master", "salt-master")
    await_minions(lab)
    middle = boots(lab)
    assert middle["node1"] != before["node1"]

    code, states = orchestrate(lab, "rolling", **run)
    assert code == 0 and list(states) == [*GOES_ON, "report"], states
    after = boots(lab)
    assert after["node1"] == middle["node1"] and after["node3"] != before["node3"]
    assert cordoned(lab) == []


def test_what_a_person_closes_meanwhile_is_not_opened(lab, tidy):
    ours = "kvmcluster.orch.rolling updates"
    assert lab.salt("node3", "kvmcluster.cordon", ours)["reason"] == ours
    reported = lab.salt("node3", "kvmcluster.cordon", "new memory, ask Ann")
    assert (reported["reason"], reported["changed"]) == ("new memory, ask Ann", True)
    done = lab.run("kvmcluster.undrain", "node3", f"reason={ours}")
    assert "it stays cordoned, for another reason" in done["error"]
    assert cordoned(lab) == ["node3"]
    assert lab.run("kvmcluster.undrain", "node3")["uncordoned"] is True


def test_what_cannot_be_meant_is_refused_before_anything_is_done(lab):
    before = places(lab)
    for name, pillar, detail in (
        ("rolling", {"sls": "updates", "reboot": "allways"}, "did you mean always?"),
        ("maintenance", {"node": "node1", "sls": ["a b"]}, "sls: want the name of an SLS"),
    ):
        code, states = orchestrate(lab, name, **pillar)
        assert code != 0 and list(states) == ["request"]
        assert detail in states["request"]["comment"]
    code, states = orchestrate(lab, "maintenance", node="node1", sls="updatez")
    assert code != 0 and list(states) == ["preflight"]
    assert "node1: there is no SLS updatez" in states["preflight"]["comment"]
    assert cordoned(lab) == [] and places(lab) == before
    code, states = orchestrate(lab, "maintenance", test=True, node="node1")
    wanted = [f"node1 {step}" for step in STEPS if step != "updated"]
    assert list(states) == ["preflight", *wanted, "report"], states
    assert cordoned(lab) == []
