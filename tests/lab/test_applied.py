"""Orchestrations where other states run or wait on a node, and where its minion is stopped."""

import json
import os
import signal
import subprocess
import threading
import time

import pytest
from labs import PROGRAM

pytestmark = pytest.mark.nightly

DONE = "/var/log/slow"


@pytest.fixture(autouse=True)
def tidy(lab):
    yield
    for node in lab.nodes:
        lab.ctl("cont", node, "minion", check=False)
        end = time.monotonic() + 300
        while any(jobs(lab, node)):
            assert time.monotonic() < end, jobs(lab, node)
        lab.exec(node, "rm", "-f", "/etc/slow", DONE, "/tmp/others")
        lab.run("kvmcluster.undrain", node)


def jobs(lab, node):
    found = lab.salt(node, "kvmcluster.state_jobs")
    return [*found["running"], *found["waiting"]]


def others(lab, node, seconds, *words):
    """Have somebody else's state run on a node, or wait there."""
    line = f"sleep {seconds}; date +%s.%N >>/tmp/others"
    lab.ctl("salt", "--", "--async", node, "state.single", "cmd.run", line, *words)
    before = time.monotonic()
    while not jobs(lab, node):
        assert time.monotonic() < before + 30


def slow(lab, node, seconds):
    lab.exec(node, "sh", "-c", f"echo {seconds} >/etc/slow")


def times(lab, node, path):
    return [float(line) for line in lab.exec(node, "cat", path, check=False).split()]


def orchestrate(lab, name, **pillar):
    """Run an orchestration; return its exit code, and its states by id."""
    words = ["state.orchestrate", f"kvmcluster.orch.{name}", f"pillar={json.dumps(pillar)}"]
    done = lab.ctl("salt-run", "--", "--out=json", *words, check=False, timeout=900)
    (states,) = json.loads(done.stdout)["data"].values()
    return done.returncode, {state["__id__"]: state for state in states.values()}


def test_whoever_sleeps_and_whoever_waits_behind_is_waited_for(lab):
    slow(lab, "node1", 1)
    others(lab, "node1", 150)
    others(lab, "node1", 1, "queue=True")
    others(lab, "node2", 40)
    code, states = orchestrate(lab, "prepare")
    assert code == 0, states
    assert len(times(lab, "node1", "/tmp/others")) == 2, "prepare waits for node1, too"
    others(lab, "node1", 60)
    code, states = orchestrate(lab, "maintenance", node="node1", sls="slow", reboot="never")
    assert code == 0, states
    assert max(times(lab, "node1", "/tmp/others")) < times(lab, "node1", DONE)[0]


def test_a_minion_that_is_stopped_amid_the_sls_ends_no_step(lab):
    for node in lab.nodes:
        slow(lab, node, 20)
    stopped = []

    def stop():
        """Stop node2's minion for half a minute once it applies the SLS."""
        end = time.monotonic() + 300
        while not jobs(lab, "node2") and time.monotonic() < end:
            time.sleep(1)
        lab.ctl("stop", "node2", "minion")
        stopped.append(time.monotonic())
        time.sleep(30)
        lab.ctl("cont", "node2", "minion")

    watcher = threading.Thread(target=stop)
    watcher.start()
    code, states = orchestrate(lab, "rolling", sls="slow", reboot="never", anew=True)
    watcher.join()
    assert stopped and code == 0, states
    assert [len(times(lab, node, DONE)) for node in lab.nodes] == [1, 1, 1]


def test_what_a_killed_run_has_begun_is_looked_for_before_anything_goes_on(lab):
    slow(lab, "node3", 120)
    pillar = json.dumps({"node": "node3", "sls": "slow", "reboot": "never"})
    words = ["salt-run", "--", "state.orchestrate", "kvmcluster.orch.maintenance"]
    with subprocess.Popen(
        [*PROGRAM, *words, f"pillar={pillar}"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env=lab.environment,
        start_new_session=True,
    ) as call:
        try:
            end = time.monotonic() + 120
            while not jobs(lab, "node3"):
                assert time.monotonic() < end and call.poll() is None
        finally:
            os.killpg(call.pid, signal.SIGKILL)
    (job,) = jobs(lab, "node3")
    assert job["what"] == "state.sls slow"
    refused = lab.run("kvmcluster.undrain", "node3")
    assert (
        f"node3 stays cordoned: on node3 state.sls slow runs, job {job['jid']}" in refused["error"]
    )
    code, states = orchestrate(lab, "rolling", sls="slow", reboot="never", anew=True)
    assert code != 0 and list(states) == ["rolling", "preflight"]
    assert job["jid"] in states["preflight"]["comment"] and times(lab, "node3", DONE) == []
    while jobs(lab, "node3"):
        time.sleep(2)
    assert lab.run("kvmcluster.undrain", "node3")["uncordoned"] is True
    assert len(times(lab, "node3", DONE)) == 1
