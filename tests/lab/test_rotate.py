"""A node's key is replaced while all log in, migrate, prepare, and kill whatever is at work.

KVMCLUSTER_KILLS says at how many random moments (``make nightly``: 200).
"""

import os
import random
import threading
import time

import pytest
from labs import Call, until

NODES = ("node1", "node2", "node3")
KILLS = int(os.environ.get("KVMCLUSTER_KILLS", "5"))
KEY = "/root/.ssh/id_rsa_cluster"
# Most of them are what a reboot is, too, and take less time.
WHAT = (
    "runner",
    "job",
    "minion",
    "job",
    "runner",
    "ssh-keygen",
    "runner",
    "job",
    "minion",
    "reboot",
)
pytestmark = pytest.mark.nightly


def fingerprint(lab, node, path=KEY):
    return lab.exec(node, "ssh-keygen", "-l", "-f", path).split()[1]


def accepted(lab, node):
    """Return by node the keys by which a node may log in there, as the file has them."""
    return {
        here: sorted(
            line.split()[1]
            for line in lab.exec(
                here, "ssh-keygen", "-l", "-f", "/root/.ssh/authorized_keys2"
            ).splitlines()
            if line.split()[2].endswith(f"/{node}")
        )
        for here in NODES
    }


def only(*keys):
    """Return what ``accepted`` does where every node accepts these keys."""
    return {node: sorted(keys) for node in NODES}


def logins(lab):
    """Log in from every node to every node, and return those that failed."""
    bad = []
    for node in NODES:
        for peer in (other for other in NODES if other != node):
            done = lab.ctl("exec", node, "--", "ssh", f"{peer}-mig", "echo in", check=False)
            if done.stdout != "in\n":
                bad.append((node, peer, done.stderr))
    return bad


def rotate(lab, node, code=0):
    done = lab.ctl("salt-run", "--", "kvmcluster.rotate", node, check=False)
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout


def test_a_key_is_replaced_everywhere_while_logins_go_on(lab):
    before = fingerprint(lab, "node1")
    bad, end = [], threading.Event()

    def log_in():
        while not end.is_set():
            bad.extend(logins(lab))

    both = Call(log_in)
    try:
        done = rotate(lab, "node1")
    finally:
        end.set()
        both.end()
    after = fingerprint(lab, "node1")
    assert f"replaced  node1: {before} -> {after}" in done
    assert bad == [] and accepted(lab, "node1") == only(after)


def test_a_migration_goes_on_while_both_keys_are_replaced(lab):
    lab.guest("moved", "node1")
    try:
        call = Call(lab.run, "kvmcluster.migrate", "moved", "node2", "bandwidth=2")
        until(lambda: lab.copying("node1", "moved"), "no memory was sent")
        for node in ("node1", "node2"):
            rotate(lab, node)
        assert lab.copying("node1", "moved"), "the migration ended before"
        assert call.end()["result"] == "moved"
        lab.assert_whole("moved")
    finally:
        lab.stop_guest("moved")


def test_a_silent_peer_is_named_before_anything_is_replaced(lab):
    before = fingerprint(lab, "node1")
    lab.ctl("cut", "node3")
    try:
        assert "refused: node3: no response" in rotate(lab, "node1", code=1)
        assert fingerprint(lab, "node1") == before
    finally:
        lab.heal("node3")
    rotate(lab, "node1")


def test_a_prepare_in_the_middle_drops_neither_key(lab):
    old = fingerprint(lab, "node1")
    lab.salt("node1", "kvmcluster.rotation_begin")
    lab.prepare()
    two = [old, fingerprint(lab, "node1", f"{KEY}.next")]
    assert accepted(lab, "node1") == only(*two) and logins(lab) == []
    assert (
        "the replacement of node1's key, begun "
        in lab.ctl("salt-run", "--", "kvmcluster.status").stdout
    )
    rotate(lab, "node1")
    assert accepted(lab, "node1") == only(fingerprint(lab, "node1"))


def test_a_kill_at_any_moment_loses_no_login_and_the_same_command_completes(lab):
    seed = random.randrange(1 << 32)
    chance = random.Random(seed)
    begun = time.monotonic()
    lab.exec("master", "salt-run", "kvmcluster.rotate", "node1")
    length = time.monotonic() - begun
    for number in range(KILLS):
        what = WHAT[number % len(WHAT)]
        moment = chance.uniform(0.1, length)
        where = f"kill {number} of {what} after {moment:.2f} s, seed {seed}"
        killed(lab, what, moment)
        assert logins(lab) == [], where
        rotate(lab, "node1")
        key = fingerprint(lab, "node1")
        assert accepted(lab, "node1") == only(key), where
        assert fingerprint(lab, "node1", f"{KEY}.pub") == key and logins(lab) == [], where
    print(f"{KILLS} kills, a rotation takes {length:.1f} s, seed {seed}")


def killed(lab, what, moment):
    """Begin a rotation of node1, and kill something of it after so many seconds."""
    command = ["salt-run", "kvmcluster.rotate", "node1"]
    if what == "runner":
        lab.exec("master", "timeout", "-s", "KILL", f"{moment:.3f}", *command, check=False)
        return
    call = Call(lab.ctl, "exec", "master", "--", *command, check=False)
    time.sleep(moment)
    if what == "ssh-keygen":
        lab.exec("node1", "pkill", "-KILL", "-x", "ssh-keygen", check=False)
    elif what == "reboot":
        lab.ctl("reboot", "node1", check=False)
    else:
        lab.ctl("kill", "node1", what, check=False)
    if what == "minion":
        lab.ctl("start", "node1", "minion")
    call.end()
