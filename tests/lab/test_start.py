"""A guest is started once, whoever starts it, wherever, at whatever moment.

KVMCLUSTER_STARTS says how many rounds of simultaneous starts (``make nightly``: 100).
"""

import contextlib
import itertools
import os
import re
import time

import pytest
from labs import until

GUEST = "start1"
FOLDER = "/srv/guests"
ROUNDS = int(os.environ.get("KVMCLUSTER_STARTS", "3"))
DEFINITION = """<domain type='qemu'>
  <name>{}</name><uuid>{}</uuid><memory>{}</memory><os><type>hvm</type></os>
</domain>"""
OTHER_UUID = "33333333-3333-3333-3333-333333333333"


@pytest.fixture(scope="module")
def cluster(prepared_lab):
    """A guest of the pillar's list, whose home is node1."""
    lab = prepared_lab
    lab.guest(GUEST, "node1")
    with lab.pillar() as pillar:
        pillar.cluster["guests"] |= {
            "definitions": "shared",
            "path": FOLDER,
            "list": {GUEST: {"home": "node1"}},
        }
        pillar.save()
        lab.refresh_pillar()
        yield lab
    lab.refresh_pillar()
    lab.stop_guest(GUEST)


@pytest.fixture
def lab(cluster):
    """The lab, where the guest runs nowhere."""
    for node in running(cluster):
        cluster.exec(node, "virsh", "destroy", GUEST)
    yield cluster
    assert len(running(cluster)) <= 1


def running(lab):
    """Return the nodes on which a process of the guest is."""
    return [node for node in lab.nodes if GUEST in lab.guests(node)]


def state(lab, node, function, *arguments):
    """Run one of our states on a node and return what it returned."""
    states = lab.salt(node, "state.single", f"kvmcluster.{function}", *arguments)
    assert isinstance(states, dict), states
    return next(iter(states.values()))


def uuid(lab):
    text = lab.read("node1", f"{FOLDER}/{GUEST}.xml")
    return re.search("<uuid>(.*)</uuid>", text).group(1)


def start(lab, node, *arguments):
    return lab.salt(node, "kvmcluster.start", GUEST, *arguments)


def test_two_starts_at_one_moment_make_one_guest(lab):
    pairs = itertools.cycle(itertools.permutations(lab.nodes, 2))
    winners, slowest = [], 0.0
    for number, pair in zip(range(ROUNDS), pairs, strict=False):
        begun = time.monotonic()
        answers = lab.ask(pair, "kvmcluster.start", GUEST)
        slowest = max(slowest, time.monotonic() - begun)
        where = running(lab)
        assert len(where) == 1, (number, where, answers)
        results = {node: (answer["result"], answer["owner"]) for node, answer in answers.items()}
        (loser,) = set(pair) - set(where)
        assert results == {where[0]: ("started", where[0]), loser: ("running", where[0])}, answers
        assert where[0] in answers[loser]["reason"]
        winners.append(where[0])
        lab.exec(where[0], "virsh", "destroy", GUEST)
    won = {node: winners.count(node) for node in lab.nodes}
    print(f"{ROUNDS} rounds, one guest each time; won: {won}; slowest {slowest:.1f} s")


def test_a_start_writes_down_what_was_seen_and_shutdown_ends_it(lab):
    done = start(lab, "node2")
    assert (done["result"], done["owner"], done["node"]) == ("started", "node2", "node2")
    again = start(lab, "node3")
    assert (again["result"], again["owner"]) == ("running", "node2")
    assert "it is on node2" in again["reason"]
    elsewhere = lab.salt("node3", "kvmcluster.shutdown", GUEST)
    assert (elsewhere["result"], elsewhere["owner"]) == ("not_stopped", "node2"), elsewhere
    assert elsewhere["reason"] == "it was absent on node3; it is running on node2"
    wait_for_numbers(lab, "node2")
    stopped = lab.salt("node2", "kvmcluster.shutdown", GUEST, "timeout=60")
    assert (stopped["result"], stopped["owner"]) == ("stopped", None), stopped
    assert running(lab) == [] and lab.record(GUEST)["lost"] == []


def test_a_silent_node_forbids_a_start_unless_somebody_gives_his_word(lab):
    with cut(lab, "node3"):
        done = lab.ctl("salt", "--", "node1", "kvmcluster.start", GUEST, check=False)
        refused = " ".join(done.stdout.split())
        assert "no response from node3, which may have it" in refused, refused
        assert "force_unreachable=node3" in refused and running(lab) == []
        assert done.returncode != 0
        done = start(lab, "node1", "force_unreachable=[node3]")
        assert (done["result"], done["owner"]) == ("started", "node1"), done
    assert running(lab) == ["node1"]


def test_a_node_whose_daemon_alone_is_gone_is_not_off_whatever_anybody_says(lab):
    lab.ctl("kill", "node3", "libvirtd")
    try:
        refused = start(lab, "node1", "force_unreachable=[node3]")
        assert "node3 is not off" in refused, refused
        refused = start(lab, "node1")
        assert "systemctl restart libvirtd" in refused, refused
        assert "node3 is not off" in refused and "force_unreachable" not in refused
    finally:
        lab.ctl("start", "node3", "libvirtd")
    assert running(lab) == []


def test_a_highstate_starts_a_guest_at_home_only_and_not_while_a_node_is_silent(lab):
    elsewhere = state(lab, "node2", "guest_running", GUEST)
    assert (elsewhere["result"], elsewhere["changes"]) == (True, {}) and running(lab) == []
    assert "home of start1 is node1" in elsewhere["comment"]
    with cut(lab, "node3"):
        failed = state(lab, "node1", "guest_running", GUEST)
        assert failed["result"] is False and "no response from node3" in failed["comment"]
        assert running(lab) == []
    foretold = state(lab, "node1", "guest_running", GUEST, "test=True")
    assert foretold["result"] is None and running(lab) == []
    answers = lab.ask(lab.nodes, "state.single", "kvmcluster.guest_running", GUEST)
    results = {node: next(iter(done.values())) for node, done in answers.items()}
    assert [done["result"] for done in results.values()] == [True] * 3, results
    assert results["node1"]["changes"] == foretold["changes"] != {}
    assert running(lab) == ["node1"]
    lab.move_by_hand(GUEST, "node1", "node2")
    moved = state(lab, "node1", "guest_running", GUEST)
    assert (moved["result"], moved["changes"]) == (True, {}) and "node2" in moved["comment"]
    assert running(lab) == ["node2"]


def test_a_killed_starter_leaves_no_claim(lab):
    line = f"setsid salt-call --out=quiet kvmcluster.start {GUEST} >/dev/null 2>&1 & echo $!"
    pid = lab.exec("node1", "sh", "-c", line).strip()
    assert is_claimed(lab, "node2", tries=1000)
    lab.exec("node1", "kill", "-9", pid)
    done = start(lab, "node3")
    assert done["result"] in ("started", "running"), done
    assert running(lab) == [done["owner"]]
    assert not any(is_claimed(lab, node) for node in lab.nodes)


def is_claimed(lab, node, tries=1):
    """Whether somebody holds the guest's lock on a node, at one of so many looks."""
    claim = f"/run/kvmcluster-start-{uuid(lab)}.lock"
    observation = f"test -e {claim} && ! flock -n {claim} true"
    script = f"for try in $(seq {tries}); do {observation} && exit 0; sleep 0.01; done; exit 1"
    return lab.ctl("exec", node, "--", "sh", "-c", script, check=False).returncode == 0


def test_what_is_in_the_way_is_named(lab):
    for name, other, node, detail in (
        (GUEST, OTHER_UUID, "node3", "node3 has another guest of that name"),
        ("start2", uuid(lab), "node3", "node3 has a guest start2 of the same UUID"),
        (GUEST, uuid(lab), "node1", "node1 has an old definition of it"),
    ):
        definition = DEFINITION.format(name, other, 9216)
        lab.exec(node, "virsh", "define", "/dev/stdin", stdin=definition)
        try:
            refused = start(lab, "node1")
            assert isinstance(refused, str) and detail in refused, refused
            assert "Traceback" not in refused and running(lab) == []
        finally:
            lab.exec(node, "virsh", "undefine", name)
    missing = lab.salt("node1", "kvmcluster.start", "nosuch")
    assert f"{FOLDER}/nosuch, {FOLDER}/nosuch.xml" in missing


def test_frozen_travels_with_the_guest(lab):
    start(lab, "node1")
    assert "reason: want" in lab.salt("node1", "kvmcluster.freeze", GUEST, "' '")
    frozen = lab.salt("node1", "kvmcluster.freeze", GUEST, "'ask Ann & <Bob>'")
    assert (frozen["frozen"], frozen["reason"]) == (True, "ask Ann & <Bob>"), frozen
    assert "ask Ann" in lab.salt("node1", "kvmcluster.migrate", GUEST, "node2")
    assert running(lab) == ["node1"]
    lab.move_by_hand(GUEST, "node1", "node2")
    (guest,) = [g for g in lab.salt("node2", "kvmcluster.guests")["guests"] if g["name"] == GUEST]
    assert guest["frozen"] == "ask Ann & <Bob>"
    free = lab.salt("node2", "kvmcluster.unfreeze", GUEST)
    assert (free["frozen"], free["changed"], free["reason"]) == (False, True, "ask Ann & <Bob>")
    assert lab.salt("node2", "kvmcluster.unfreeze", GUEST)["changed"] is False


def test_a_guest_that_ignores_its_power_button_is_destroyed_only_when_asked_for(lab):
    start(lab, "node1")
    lab.exec("node1", "virsh", "suspend", GUEST)
    left = lab.salt("node1", "kvmcluster.shutdown", GUEST, "timeout=1")
    assert isinstance(left, dict), left
    assert (left["result"], left["owner"]) == ("not_stopped", "node1"), left
    assert running(lab) == ["node1"]
    gone = lab.salt("node1", "kvmcluster.shutdown", GUEST, "timeout=1", "destroy=true")
    assert gone["result"] == "stopped" and "destroyed, as requested" in gone["reason"], gone
    assert running(lab) == []


@contextlib.contextmanager
def cut(lab, node):
    """Pull a node's cables; at the end all nodes answer to each other again."""
    lab.ctl("cut", node)
    try:
        yield
    finally:
        lab.heal(node)
        for other in lab.nodes:
            lab.exec(other, "ssh", "-o", "ConnectionAttempts=10", f"{node}-mig", "true")
        for _ in range(100):
            if lab.ask([node], "test.ping", patience=3):
                break


def wait_for_numbers(lab, node):
    """Wait until the guest writes, and so obeys its power button."""

    def printed():
        count = lab.exec(node, "grep", "-c", "<", f"/var/log/guests/{GUEST}.console", check=False)
        return int(count or 0)

    before = printed()
    until(lambda: printed() > before + 2, "the guest writes")
