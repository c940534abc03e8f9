"""Locks, full disks, read-only file systems, two runs at once: files are whole, words are plain."""

import fcntl
import json
import os
import pathlib
import shutil
import subprocess
import sys
import threading

import pytest
from sandbox import SSH, sentence, sh, ssh, until, world

from saltext_kvmcluster.core.errors import WorldError
from saltext_kvmcluster.host import locks

SALT_CALL = pathlib.Path(sys.executable).with_name("salt-call")
TRUST = ("authorized-keys", "known-hosts", "ssh-config")
LOCK = "/run/kvmcluster.lock"
STATES = ("key_present", "authorized_keys", "known_hosts", "ssh_config")


@pytest.fixture
def held_lock():
    with open(LOCK, "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield lock


def holders():
    """Count the times that this process has the lock's file open."""
    links = (os.path.join("/proc/self/fd", name) for name in os.listdir("/proc/self/fd"))
    return sum(os.path.realpath(link) == LOCK for link in links)


def test_a_run_waits_for_the_lock(member, held_lock):
    done = []
    run = threading.Thread(target=lambda: done.append(member.state("authorized_keys")))
    run.start()
    until(lambda: holders() == 2, "the state does not ask for the lock")
    assert not done and not (SSH / "authorized_keys2").exists()
    fcntl.flock(held_lock, fcntl.LOCK_UN)
    run.join(30)
    assert done[0]["result"] is True and (SSH / "authorized_keys2").exists()


def test_a_run_gives_up_and_says_how_to_find_the_holder(held_lock):
    with (
        pytest.raises(WorldError, match="another run of kvmcluster") as caught,
        locks.lock(timeout=0.1),
    ):
        pass
    assert "fuser" in str(caught.value)
    assert str(os.getpid()) in sh("fuser", "-v", LOCK)


def test_a_lock_that_cannot_be_had_is_a_sentence(member):
    os.unlink(LOCK)
    os.symlink("/etc/shadow", LOCK)
    try:
        assert LOCK in member.bad("authorized_keys")
    finally:
        os.unlink(LOCK)


def test_two_runs_at_once_on_one_minion_end_whole(member):
    config = member.minions["alpha"].config_dir
    options = ("-c", config, "--out=json", "--log-level=quiet")
    command = [SALT_CALL, *options, "state.apply", "kvmcluster", "concurrent=True"]
    runs = [
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        for _ in range(2)
    ]
    changed = []
    for run in runs:
        states = json.loads(run.communicate(timeout=120)[0])["local"]
        assert run.returncode == 0 and all(state["result"] for state in states.values()), states
        changed += [state["__id__"] for state in states.values() if state["changes"]]
    assert sorted(changed) == [f"kvmcluster-{name}" for name in TRUST]
    assert ssh("beta") == "in\n"
    for state in STATES:
        assert member.good(state)["changes"] == {}


def test_a_highstate_in_test_mode_foretells_what_the_minion_then_does(member):
    dry = member.run("alpha", "state.apply", "kvmcluster", test=True)
    before = world(SSH)
    real = member.run("alpha", "state.apply", "kvmcluster")
    assert {k: v["changes"] for k, v in dry.items()} == {k: v["changes"] for k, v in real.items()}
    assert [state["result"] for state in dry.values()] == [True, None, None, None]
    assert all(state["result"] for state in real.values()) and world(SSH) != before


@pytest.fixture
def small_disk(member):
    """~/.ssh on a file system of its own, trust in place but for beta's lines."""
    copies = "/run/kvmtest/copies"
    shutil.copytree(SSH, copies)
    sh("mount", "-t", "tmpfs", "-o", "size=64k,mode=700", "tmpfs", SSH)
    shutil.copytree(copies, SSH, dirs_exist_ok=True)
    shutil.rmtree(copies)
    for state in STATES:
        assert member.state(state)["result"] is True
    for name in ("authorized_keys2", "kvmcluster_known_hosts", "kvmcluster_config"):
        text = (SSH / name).read_text().replace("beta", "gamma")
        (SSH / name).write_text(text)
    return member


def fill():
    with open(SSH / "ballast", "wb", buffering=0) as ballast:
        try:
            while True:
                ballast.write(bytes(4096))
        except OSError:
            return


def test_a_full_disk_is_named_and_the_old_files_are_whole(small_disk):
    fill()
    before = world(SSH)
    for state in STATES[1:]:
        done = small_disk.state(state)
        assert (done["result"], done["changes"]) == (False, {})
        assert "No space left" in sentence(done["comment"])
    after = world(SSH)
    assert {k: v for k, v in after.items() if k != str(SSH)} == {
        k: v for k, v in before.items() if k != str(SSH)
    }
    os.unlink(SSH / "ballast")
    for state in STATES:
        small_disk.good(state)


def test_a_full_disk_leaves_no_half_key(small_disk):
    for name in ("id_rsa_cluster", "id_rsa_cluster.pub"):
        os.unlink(SSH / name)
    fill()
    done = small_disk.state("key_present")
    assert done["result"] is False and "No space left" in sentence(done["comment"])
    assert not [name for name in os.listdir(SSH) if "id_rsa" in name]
    os.unlink(SSH / "ballast")
    small_disk.good("key_present")


def test_a_file_that_was_written_is_among_the_changes_although_another_was_not(small_disk):
    (SSH / "config").write_text("Host x\n" * 4000)
    fill()
    with open(SSH / "ballast", "r+b") as ballast:
        ballast.truncate(os.path.getsize(SSH / "ballast") - 4096)
    done = small_disk.state("ssh_config")
    assert done["result"] is False and list(done["changes"]) == ["kvmcluster_config"]
    assert "beta" in (SSH / "kvmcluster_config").read_text()
    assert (SSH / "config").read_text() == "Host x\n" * 4000


def test_a_read_only_file_system_is_named(small_disk):
    sh("mount", "-o", "remount,ro", SSH)
    before = world(SSH)
    for state in STATES[1:]:
        done = small_disk.state(state)
        assert (done["result"], done["changes"]) == (False, {})
        assert "Read-only" in sentence(done["comment"])
    assert small_disk.state("key_present")["result"] is True
    assert world(SSH) == before
