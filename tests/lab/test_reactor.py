"""What is put right without a hand: the master's reactors as docs/reactors.md configures them."""

import contextlib
import json
import os
import pathlib
import subprocess
import time

import labs
import pytest
from labs import HOME, PROGRAM

ROOT = pathlib.Path(__file__).resolve().parents[2]
CONFIGURATION = "/etc/salt/master.d/kvmcluster.conf"
LOG = "/var/log/salt/master"
KEYS = f"{HOME}/.ssh/authorized_keys2"
JOURNAL = "/var/lib/kvmcluster/journal"
SPOOL = "/var/cache/salt/master/kvmcluster"
GUEST = "web"
TWIN, TWIN_UUID = "twin", "44444444-4444-4444-8444-444444444444"
# Without a disk: nothing but us would tell.
DEFINITION = f"""<domain type='qemu'>
  <name>{TWIN}</name><uuid>{TWIN_UUID}</uuid><memory>9216</memory><os><type>hvm</type></os>
</domain>"""


@pytest.fixture(scope="module")
def lab(prepared_lab):
    """The lab with its nodes watched, the reactors configured, and a guest on node1."""
    lab = prepared_lab
    with lab.pillar() as pillar:
        pillar.data["beacons"] = {"kvmcluster": [{"interval": 5}]}
        pillar.save()
        yield from configured(lab)
    lab.refresh_pillar()


def configured(lab):
    text = (ROOT / "docs" / "reactors.md").read_text(encoding="utf-8")
    wanted = text.split("```yaml\n")[1].split("```")[0]
    lab.write("master", CONFIGURATION, wanted.replace("/srv/salt/", f"{ROOT}/states/"))
    restart(lab)
    lab.refresh_pillar()
    lab.guest(GUEST, "node1")
    until(lambda: all(is_watched(lab, node) for node in lab.nodes), "nobody watches")
    at_rest(lab)
    yield lab
    lab.stop_guest(GUEST)
    lab.exec("master", "rm", CONFIGURATION)
    restart(lab)


def is_watched(lab, node):
    return lab.exec(node, "pgrep", "-f", "kvmcluster's observer", check=False)


def restart(lab):
    lab.ctl("kill", "master", "salt-master")
    lab.ctl("start", "master", "salt-master")
    until(lambda: answering(lab) == set(lab.nodes), "the minions are not back", 120)


def answering(lab):
    try:
        found = lab.ask(lab.nodes, "test.ping", patience=5)
    except AssertionError:  # The master is not up yet.
        return set()
    return {node for node, answer in found.items() if answer is True}


def until(condition, complaint, seconds=90):
    """Wait until something is so; return the seconds that it took."""
    begun = time.monotonic()
    while not condition():
        assert time.monotonic() < begun + seconds, complaint
        time.sleep(0.3)
    return round(time.monotonic() - begun, 1)


def at_rest(lab):
    """Wait until no reaction is pending or running."""
    command = f"ls {SPOOL} | grep -E '[.](pending|running)$' || true"
    until(lambda: not lab.exec("master", "sh", "-c", command).split(), "reactions are left", 180)


def detail(lab, words):
    text = lab.read("master", LOG)
    return [line for line in text.splitlines() if words in line and "kvmcluster.master" in line]


def reported(what, seconds):
    line = f"{what}: mended {seconds} s later"
    print(line)
    if path := os.environ.get("KVMCLUSTER_TIMES"):
        with open(path, "a", encoding="utf-8") as file:
            file.write(f"{line}\n")


def whole(lab):
    return lab.run("kvmcluster.ssh_matrix").get("ok")


def test_a_reinstalled_node_is_trusted_again_after_its_minions_start(lab):
    lab.ctl("kill", "node2", "minion")
    lab.ctl("reinstall", "node2")
    assert not lab.exec("node2", "ls", KEYS, check=False)
    lab.ctl("start", "node2", "minion")
    key = lab.read("node1", KEYS)
    seconds = until(
        lambda: (
            len(lab.exec("node2", "cat", KEYS, check=False)) == len(key)
            and lab.read("node1", KEYS) != key
            and lab.read("node3", KEYS) != key
        ),
        "the node is not trusted",
    )
    reported("a node reinstalled, from its minion's start", seconds)
    at_rest(lab)
    assert whole(lab)
    assert detail(lab, "its trust is complete again")


@pytest.mark.pair
def test_a_migration_whose_destinations_libvirtd_was_killed_is_settled(lab):
    lab.exec("node1", "virsh", "migrate-setspeed", GUEST, "1")
    call = labs.Call(lab.salt, "node1", "kvmcluster.migrate", GUEST, "node2", "patience=5")
    labs.until(lambda: entries(lab), "a journal entry", ended=call.ended)
    labs.until(lambda: lab.copying("node1", GUEST), "memory that was sent", ended=call.ended)
    lab.ctl("kill", "node2", "libvirtd")
    try:
        # Without an event, as if it was lost, it is tried by the schedule, within four minutes.
        seconds = until(
            lambda: not entries(lab) or detail(lab, "not settled: "), "nothing was tried", 400
        )
        print(f"tried {seconds} s after the daemon was killed; left: {entries(lab)}")
    except AssertionError:
        print(lab.exec("node1", "ps", "-eo", "pid,etime,args"), lab.read("master", LOG)[-9000:])
        raise
    finally:
        begun = time.monotonic()
        lab.ctl("start", "node2", "libvirtd")
    until(lambda: not entries(lab), "the migration is not settled", 120)
    reported("libvirtd of a destination back", round(time.monotonic() - begun, 1))
    call.end()
    at_rest(lab)
    lab.exec("node1", "virsh", "migrate-setspeed", GUEST, "10000", check=False)
    assert len(lab.running(GUEST)) == 1
    lab.assert_whole(GUEST)
    assert len(detail(lab, "not settled: ")) <= 1


def test_emptied_keys_are_put_back(lab):
    """Not the next one to have trust mended: two of these are half a minute apart."""
    before = lab.read("node3", KEYS)
    lab.write("node3", KEYS, "")
    seconds = until(lambda: lab.read("node3", KEYS) == before, "the keys are not back")
    reported("authorized_keys2 emptied", seconds)
    at_rest(lab)
    assert whole(lab)


def test_a_guest_that_runs_twice_is_told_with_evidence_and_left_alone(lab):
    nodes = ("node1", "node2")
    with waiting_for(lab, "kvmcluster/*/alarm/*") as event:
        begun = time.monotonic()
        for node in nodes:
            lab.exec(node, "virsh", "create", "/dev/stdin", stdin=DEFINITION)
        before = [lab.exec(node, "virsh", "domid", TWIN) for node in nodes]
        try:
            text = event(120)
            reported("a guest runs twice, alarm", round(time.monotonic() - begun, 1))
            at_rest(lab)
            assert [lab.exec(node, "virsh", "domid", TWIN) for node in nodes] == before
        finally:
            for node in nodes:
                lab.exec(node, "virsh", "destroy", TWIN, check=False)
    tag, _, data = text.partition("\t")
    assert tag.endswith(f"/alarm/node1/{TWIN}")
    assert json.loads(data)["uuid"] == TWIN_UUID
    (path,) = lab.exec("master", "sh", "-c", f"ls {SPOOL}/alarm.*").split()
    (evidence,) = json.loads(lab.read("master", path))
    assert (evidence["uuid"], evidence["nodes"]) == (TWIN_UUID, [*nodes])
    assert all("<domain" in evidence["copies"][node]["definition"] for node in nodes)
    assert len(detail(lab, f"the evidence is in {path}")) == 1
    at_rest(lab)


@contextlib.contextmanager
def waiting_for(lab, tag):
    """Listen for an event while a block runs; yields what waits for it and returns its line."""
    command = [*PROGRAM, "exec", "master", "--", "salt-run", "state.event"]
    listener = subprocess.Popen(
        [*command, f"tagmatch={tag}", "count=1"],
        env=lab.environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    until(
        lambda: lab.exec("master", "pgrep", "-f", "state.event tagmatch", check=False).split(),
        "nobody listens",
    )
    time.sleep(2)
    try:
        yield lambda seconds: listener.communicate(timeout=seconds)[0].splitlines()[0]
    finally:
        lab.exec("master", "pkill", "-f", "state.event tagmatch", check=False)
        listener.wait(30)


def entries(lab):
    """Return the files of node1's journal."""
    return lab.exec("node1", "sh", "-c", f"ls {JOURNAL}/*.json 2>/dev/null || true").split()
