"""The steps by which a node replaces its cluster key, on this node alone, with a real sshd."""

import os
import shutil
import subprocess
import threading
import time

import pytest
from sandbox import SSH, sh, ssh

from saltext_kvmcluster.core.trust import rotation
from saltext_kvmcluster.host import rotating

KEY, NEXT = SSH / "id_rsa_cluster", SSH / "id_rsa_cluster.next"
KEYS = SSH / "authorized_keys2"


def fingerprint(path):
    return sh("ssh-keygen", "-l", "-f", path).split()[1]


@pytest.fixture
def trusting(member):
    for state in ("authorized_keys", "known_hosts", "ssh_config"):
        member.good(state)
    return member


def publish(member):
    """What a node publishes, it does by its minion; here another process is the node."""
    member.publish("alpha", member.call("kvmcluster.identity"))


def accept(member):
    publish(member)
    return member.call("kvmcluster.rotation_accept", "alpha")["accepted"]


def test_step_by_step_and_repeated_the_key_is_replaced_and_every_login_works(trusting):
    old = fingerprint(KEY)
    for _ in range(2):
        begun = trusting.call("kvmcluster.rotation_begin")["own"]
        assert begun["key"] == begun["former"] == old and ssh("beta") == "in\n"
        assert begun["next"] == fingerprint(NEXT) != old
        assert os.stat(NEXT).st_mode & 0o777 == 0o600
    assert sorted(accept(trusting)) == sorted([old, begun["next"]])
    trusting.good("key_present")
    assert trusting.good("authorized_keys")["changes"] == {}
    for _ in range(2):
        swapped = trusting.call("kvmcluster.rotation_swap")
        assert swapped["own"] == {**begun, "key": begun["next"], "next": ""}
        assert all(cell["ok"] for cell in swapped["cells"]) and ssh("beta") == "in\n"
    assert fingerprint(KEY) == fingerprint(f"{KEY}.pub") == begun["next"]
    assert accept(trusting) == [begun["next"]] and ssh("beta") == "in\n"
    for _ in range(2):
        ended = trusting.call("kvmcluster.rotation_end")["own"]
        assert (ended["former"], ended["next"]) == ("", "")
    assert not list(SSH.glob("*.next*"))
    assert {**trusting.good("key_present")}["changes"] == {}


def test_a_key_that_is_not_accepted_everywhere_replaces_nothing(trusting):
    old = fingerprint(KEY)
    trusting.call("kvmcluster.rotation_begin")
    swapped = trusting.call("kvmcluster.rotation_swap")
    assert {cell["cause"] for cell in swapped["cells"]} == {"key not accepted"}
    assert rotation.bad_logins(swapped) and fingerprint(KEY) == old and NEXT.exists()
    assert ssh("beta") == "in\n"


def test_a_login_that_began_before_is_waited_for(trusting):
    trusting.call("kvmcluster.rotation_begin")
    accept(trusting)
    waited = []

    def log_in():
        waited.append(sh("ssh", "beta", "sleep 3; echo in"))
        waited.append(time.monotonic())

    login = threading.Thread(target=log_in)
    login.start()
    time.sleep(0.5)
    trusting.call("kvmcluster.rotation_swap")
    ended = time.monotonic()
    login.join()
    assert waited[0] == "in\n" and ended > waited[1] - 0.5


def test_a_second_key_that_no_replacement_made_is_neither_published_nor_used(trusting, keys):
    shutil.copy(keys / "other", NEXT)
    assert "next_key" not in trusting.call("kvmcluster.identity")
    trusting.call("kvmcluster.rotation_swap")
    begun = trusting.call("kvmcluster.rotation_begin")["own"]
    assert begun["next"] == fingerprint(NEXT) != fingerprint(keys / "other")
    assert begun["key"] == begun["former"] == fingerprint(KEY)


def test_a_replacement_that_was_begun_meanwhile_is_not_forgotten(trusting):
    begun = trusting.call("kvmcluster.rotation_begin")["own"]
    assert trusting.call("kvmcluster.rotation_end")["own"] == begun
    assert trusting.call("kvmcluster.identity")["next_key"]


@pytest.mark.parametrize("left", ["public half", "next key", "damaged next key"])
def test_what_a_kill_leaves_is_continued(trusting, left):
    old = trusting.call("kvmcluster.rotation_begin")["own"]["key"]
    if left == "next key":
        NEXT.unlink()
    if left == "damaged next key":
        NEXT.write_text("half of it")
        assert "next_key" not in trusting.call("kvmcluster.identity")
    begun = trusting.call("kvmcluster.rotation_begin")["own"]
    assert begun["former"] == old and begun["next"] == fingerprint(NEXT)
    accept(trusting)
    trusting.call("kvmcluster.rotation_swap")
    if left == "public half":
        os.rename(f"{KEY}.pub", f"{NEXT}.pub")
        assert ssh("beta") == "in\n"
    assert accept(trusting) == [begun["next"]]
    trusting.call("kvmcluster.rotation_end")
    assert fingerprint(f"{KEY}.pub") == begun["next"] and not list(SSH.glob("*.next*"))


def test_a_key_behind_a_link_is_not_replaced_and_the_reason_is_told(trusting):
    real = KEY.rename(SSH / "elsewhere")
    KEY.symlink_to(real)
    own = trusting.call("kvmcluster.rotation", "alpha")["own"]
    assert f"{KEY} is a link to {real}" in own["problem"]


def test_a_login_that_has_offered_the_former_key_signs_with_the_next_one(
    trusting, monkeypatch, tmp_path
):
    trusting.call("kvmcluster.rotation_begin")
    accept(trusting)
    go, said = tmp_path / "go", tmp_path / "said"
    proxy = f"""until test -e {go}; do sleep 0.02; done
        exec 3<> /dev/tcp/%h/%p; cat <&3 & exec cat >&3""".replace("\n", ";", 1)
    login = ["ssh", "-v", "-E", str(said), "-o", f"ProxyCommand=bash -c '{proxy}'", "beta"]
    under_way = []

    def waited(changed):
        """Instead of waiting for logins: begin one ahead of the swap, go on with it after that."""
        if not under_way:
            under_way.append(subprocess.Popen([*login, "echo in"], stdout=subprocess.PIPE))
            while not said.exists() or f"identity file {NEXT} type" not in said.read_text():
                time.sleep(0.02)
        elif not go.exists():
            go.touch()
            assert under_way[0].communicate(timeout=60)[0] == b"in\n", said.read_text()

    monkeypatch.setattr(rotating, "_await_logins", waited)
    assert trusting.call("kvmcluster.rotation_swap")["own"]["next"] == ""
    assert go.exists() and f"private key {KEY} contents do not match" in said.read_text()
    trusting.call("kvmcluster.rotation_end")
    assert str(NEXT) not in (SSH / "kvmcluster_config").read_text()
    assert trusting.good("ssh_config")["changes"] == {}
