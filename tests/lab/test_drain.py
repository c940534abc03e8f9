"""A node is drained: all leave it by one plan, whatever fails on the way, and it stays cordoned."""

import contextlib
import json
import pathlib
import re
import subprocess
import threading
import time

import pytest
from labs import PROGRAM, until
from limits import Watch

HOME = {"web1": "node1", "web2": "node1", "db1": "node1", "web3": "node2"}
SLOW = 8  # MiB/s: a migration lasts for some twelve seconds
LIMIT = 2


@pytest.fixture(scope="module")
def guests(prepared_lab):
    with prepared_lab.pillar() as pillar:
        pillar.cluster["guests"]["list"] = {name: {"home": node} for name, node in HOME.items()}
        pillar.save()
        prepared_lab.refresh_pillar()
        for name, node in HOME.items():
            prepared_lab.guest(name, node)
        yield prepared_lab
        for name in HOME:
            prepared_lab.stop_guest(name)


@pytest.fixture
def lab(guests):
    """The lab with all nodes open and all guests at home; at the end nothing of them is lost."""
    for node in guests.nodes:
        guests.salt(node, "kvmcluster.uncordon")
    guests.run("kvmcluster.undrain", "node1", "home=True")
    for name, nodes in where(guests).items():
        guests.exec(nodes[0], "virsh", "migrate-setspeed", name, "0")
    assert where(guests) == {name: [node] for name, node in HOME.items()}
    yield guests
    assert {len(nodes) for nodes in where(guests).values()} == {1}
    for name in HOME:
        guests.assert_whole(name)


def running(lab, node):
    return {name for name, (runs, _) in lab.guests(node).items() if runs}


def where(lab):
    """Return the nodes on which libvirt says that each guest runs."""
    found = {name: [] for name in HOME}
    for node in lab.nodes:
        for name in running(lab, node):
            found[name].append(node)
    return found


def slow(lab):
    for name in ("web1", "web2", "db1"):
        lab.exec("node1", "virsh", "migrate-setspeed", name, str(SLOW))


def sending(lab, node="node1"):
    """Return the guests of which libvirt shows a migration under way."""
    return [name for name, (_, half) in lab.guests(node).items() if half == "outgoing"]


def receiving(lab):
    """Return the nodes at which libvirt shows guests that arrive from node1."""
    going = sending(lab)
    return [
        node
        for node in lab.nodes[1:]
        for name, (_, half) in lab.guests(node).items()
        if half == "incoming" and name in going
    ]


class Drain:
    """A drain that is under way; ``end`` returns its data and its exit code."""

    def __init__(self, lab, node="node1"):
        command = [*PROGRAM, "salt-run", "--", "--out=json"]
        self.process = subprocess.Popen(
            [*command, "kvmcluster.drain", node],
            env=lab.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def ended(self):
        """Return how it ended, in words, and nothing while it is under way; for ``until``."""
        if self.process.poll() is None:
            return ""
        return f"exit code {self.process.returncode}: {self.process.communicate()}"

    def end(self, timeout=500):
        out, detail = self.process.communicate(timeout=timeout)
        assert "Traceback" not in out + detail
        return json.loads(out), self.process.returncode


def doubles(lab):
    """Return guests that ran on a node both before and after they were seen on another one."""
    there = [*range(len(lab.nodes))]
    observations = [(at, running(lab, lab.nodes[at])) for at in [*there, *reversed(there)]]
    return [
        (name, lab.nodes[first], lab.nodes[between])
        for first, names in observations[: len(there)]
        for between, others in observations[first + 1 : -first - 1]
        for name in names & others & observations[-first - 1][1]
        if between != first
    ]


@contextlib.contextmanager
def seen_once(lab):
    """Look again and again while a block runs: no guest ever runs on two nodes."""
    over, twice = threading.Event(), []

    def observe():
        while not over.is_set():
            twice.extend(doubles(lab))
            over.wait(1)

    thread = threading.Thread(target=observe)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join(60)
    assert twice == []


@pytest.mark.pair
def test_all_leave_and_the_node_stays_closed(lab):
    plan = lab.run("kvmcluster.drain", "node1", "test=True")
    assert {step["guest"] for step in plan["plan"]} == {"web1", "web2", "db1"}
    assert (plan["ok"], plan["stuck"], plan["test"]) == (True, {}, True)
    assert where(lab)["web1"] == ["node1"]
    assert lab.salt("node1", "kvmcluster.cordon", "mine")["changed"] is True
    assert lab.salt("node1", "kvmcluster.uncordon")["reason"] == "mine"

    with Watch(lab) as watch, seen_once(lab):
        done = lab.run("kvmcluster.drain", "node1", "new memory")
    assert (done["ok"], done["left"], done["stuck"], done["failed"]) == (True, [], {}, [])
    assert max(watch.most.values()) <= LIMIT
    planned = {step["guest"]: step["destination"] for step in done["plan"]}
    assert planned == {step["guest"]: step["destination"] for step in plan["plan"]}
    assert {row["guest"]: row["destination"] for row in done["moved"]} == planned
    assert where(lab) == {**{name: [node] for name, node in planned.items()}, "web3": ["node2"]}

    assert "kvmcluster.undrain node1" in refused(
        lab, "node2", "kvmcluster.migrate", "web3", "node1"
    )
    detail = refused(lab, "node1", "kvmcluster.start", "nobody")
    assert "node1 is cordoned since" in detail
    shown = lab.ctl("salt-run", "--", "kvmcluster.status").stdout
    assert re.search(r"CORDONED  node1 is cordoned since \S+: new memory", shown)
    again = lab.run("kvmcluster.drain", "node1")
    assert (again["ok"], again["cordoned"]) == (True, done["cordoned"])
    assert {row["guest"] for row in again["moved"]} == {"web1", "web2", "db1"}

    back = lab.run("kvmcluster.undrain", "node1", "home=True")
    assert (back["ok"], back["uncordoned"]) == (True, True)
    assert where(lab) == {name: [node] for name, node in HOME.items()}


@pytest.mark.pair
def test_guests_leave_a_node_that_shuts_down(lab):
    """As its unit calls it: the node itself moves them, and uncordons itself at its next boot."""
    unit = pathlib.Path(__file__).parents[2] / "states/kvmcluster/files/kvmcluster-leave.service"
    (reason,) = re.findall(r'kvmcluster.uncordon "(.*)"', unit.read_text())
    lab.salt("node1", "kvmcluster.freeze", "web2", "stays")
    done = lab.salt("node1", "kvmcluster.leave", "timeout=120")
    lab.salt("node1", "kvmcluster.unfreeze", "web2")
    assert (done["ok"], done["left"]) == (False, ["web2"])
    assert done["stuck"].keys() == {"web2"} and "stays" in done["stuck"]["web2"]
    assert {row["guest"] for row in done["moved"]} == {"web1", "db1"}
    assert done["cordoned"]["reason"] == reason

    lab.exec("node1", "virsh", "migrate-setspeed", "web2", str(SLOW))
    late = lab.salt("node1", "kvmcluster.leave", "timeout=3")
    assert (late["ok"], late["left"], late["elapsed"] < 20) == (False, ["web2"], True), late
    assert where(lab)["web2"] == ["node1"]
    assert lab.salt("node1", "kvmcluster.uncordon", f"'{reason}'")["changed"] is True


def refused(lab, node, function, *arguments):
    answer = lab.salt(node, function, *arguments)
    assert isinstance(answer, str), answer
    assert "Traceback" not in answer
    return answer


def test_one_is_stuck_a_destination_is_cut_and_the_master_is_killed(lab):
    slow(lab)
    assert lab.salt("node1", "kvmcluster.freeze", "db1", "a backup")["changed"] is True
    drain = Drain(lab)
    try:
        with seen_once(lab):
            going = until(lambda: receiving(lab), "a migration under way", ended=drain.ended)
            lab.ctl("cut", going[-1], "--network", "migration")
            lab.ctl("kill", "master", "salt-master")
            time.sleep(2)
            lab.ctl("start", "master", "salt-master")
            done, code = drain.end()
    finally:
        for node in lab.nodes:
            lab.heal(node)
        lab.ctl("salt", "--", "node1", "kvmcluster.unfreeze", "db1")
    at = where(lab)
    assert (done["ok"], code) == (False, 1)
    assert "frozen" in done["stuck"]["db1"] and "db1" in done["left"]
    assert sorted(done["left"]) == sorted(name for name, nodes in at.items() if nodes == ["node1"])
    for row in done["moved"]:
        assert at[row["guest"]] == [row["destination"]]
    assert {row["guest"] for row in done["moved"]} == {"web1", "web2", "db1"} - {*done["left"]}
    for name in {*done["left"]} - {"db1"}:
        lab.run("kvmcluster.recover", name)
    again = lab.run("kvmcluster.drain", "node1")
    assert (again["ok"], again["left"]) == (True, [])
    assert {row["guest"] for row in again["moved"]} == {"web1", "web2", "db1"}


@pytest.mark.parametrize("number", ["INT", pytest.param("KILL", marks=pytest.mark.nightly)])
def test_an_interrupted_drain_goes_on(lab, number):
    slow(lab)
    drain = Drain(lab)
    first = until(lambda: sending(lab), "a migration under way", ended=drain.ended)
    lab.exec("master", "pkill", f"-{number}", "-f", "salt-run.*kvmcluster[.]drain")
    if number == "INT":
        done, code = drain.end()
        assert (done["ok"], code) == (False, 1)
        assert "kvmcluster.job" in done["detail"]
        assert {row["guest"] for row in done["under_way"]} >= {*first}
    else:
        drain.process.wait(60)
        drain.process.communicate()
    again = lab.run("kvmcluster.drain", "node1")
    assert (again["ok"], again["left"]) == (True, [])
    assert {row["guest"] for row in again["moved"]} == {"web1", "web2", "db1"}


def test_the_best_node_is_chosen_and_it_is_said_why(lab):
    done = lab.run("kvmcluster.migrate", "web1")
    assert (done["result"], done["destination"]) == ("moved", "node3")
    assert "least loaded" in done["chosen"]
    proposed = lab.run("kvmcluster.balance")
    assert proposed["test"] is True
    assert where(lab)["web1"] == ["node3"]
    assert "reason: want a line" in lab.run("kvmcluster.drain", "node1", "reason=")["error"]
    assert "its nodes are" in lab.run("kvmcluster.drain", "node11")["error"]
