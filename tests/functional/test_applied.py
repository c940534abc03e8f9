"""An SLS on a real minion where other states run, wait in its queue, or where it is stopped."""

import contextlib
import os
import pathlib
import shutil
import signal
import threading
import time

import psutil
import pytest
import salt.config
import salt.payload
from sandbox import NODES, SALT, until

from saltext_kvmcluster.core.applying import course
from saltext_kvmcluster.core.applying.outcome import DONE, FAILED, OVER, REFUSED
from saltext_kvmcluster.core.drain import departures
from saltext_kvmcluster.core.errors import WorldError
from saltext_kvmcluster.core.migration.migration import NOT_MOVED, Move
from saltext_kvmcluster.core.pillar import parser
from saltext_kvmcluster.engine import applier, drainer
from saltext_kvmcluster.engine.applier import Nobody
from saltext_kvmcluster.engine.fleet import ACTION
from saltext_kvmcluster.host import kept_returns
from saltext_kvmcluster.master import reboots
from saltext_kvmcluster.master.nodes import SaltNodes

RAN, HELD = SALT / "ran", SALT / "held"
SLSES = {
    "quick": f"ran:\n  cmd.run:\n    - name: echo quick >>{RAN}\n",
    "slow": f"ran:\n  cmd.run:\n    - name: sleep 6; echo slow >>{RAN}\n",
    "broken": "fit:\n  cmd.run:\n    - name: exit 7\n",
}


@pytest.fixture(scope="module", autouse=True)
def slses(salt_master):
    """SLS files that tell in a file that they ran."""
    folder = SALT / "states"
    folder.mkdir(exist_ok=True)
    for name, text in SLSES.items():
        (folder / f"{name}.sls").write_text(text)
    yield
    for name in SLSES:
        (folder / f"{name}.sls").unlink()


@pytest.fixture
def nodes(kvm):
    """The cluster's nodes as the runner asks them; no state runs on them at first, or at last."""
    RAN.unlink(missing_ok=True)
    for node in NODES:
        kvm.run(node, "saltutil.refresh_pillar", wait=True)
    opts = salt.config.master_config(kvm.master.config_file)
    cluster = parser.from_pillar({"kvmcluster": {"name": "test", "nodes": NODES}})
    with SaltNodes(opts, cluster) as found:
        yield found
        HELD.unlink(missing_ok=True)
        until(lambda: not any(jobs(kvm)), f"states still run: {jobs(kvm)}", 60)
        assert found.begun_states() == {}


def jobs(kvm):
    """Return what runs and what waits on alpha."""
    found = kvm.run("alpha", "kvmcluster.state_jobs")
    return found["running"], found["waiting"]


def apply(nodes, *sls, limit=60.0, test=False):
    (found,) = applier.apply(nodes, ["alpha"], sls, test, Nobody(), limit)
    return found


def ran():
    return RAN.read_text().split() if RAN.exists() else []


def test_several_questions_are_one_job_and_an_error_is_a_line(nodes):
    questions = {"test.echo": ["a b"], "kvmcluster.departed": ["x/y"], "test.ping": []}
    found = nodes.ask_in_turn("alpha", questions)
    assert (found["test.echo"], found["test.ping"]) == ("a b", True)
    assert found["kvmcluster.departed"] == "ERROR: id: want the id of a job, letters and digits"


def test_what_is_handed_over_to_a_node_is_told_and_returned(nodes):
    before = nodes.new_job()
    move = Move("web1", "uuid", "alpha", "beta")
    job = nodes.dispatch("alpha", [move], False)
    until(lambda: departures.parse(nodes.returned(job, "alpha"), job), "no return", 60)
    found = departures.parse(nodes.returned(job, "alpha"), job)
    assert found.results["web1"]["result"] == NOT_MOVED and not found.open and found.stopped
    told = departures.parse(nodes.departed("alpha", job), job)
    assert (told.results, told.open) == (found.results, False)
    late = departures.parse(nodes.departed("alpha", before), before)
    assert not late.known, "what was never sent is not known"


def others(kvm, **named):
    """Have somebody else's state run on alpha until ``HELD`` is gone; return the job's id."""
    HELD.touch()
    line = f"while test -e {HELD}; do sleep 0.2; done; echo other >>{RAN}"
    jid = kvm.client.cmd_async("alpha", "state.single", ["cmd.run", line], kwarg=named)
    until(lambda: any(job["jid"] == jid for row in jobs(kvm) for job in row), "it is not there")
    return jid


def processes(kvm):
    """Return the processes of alpha's minion."""
    root = psutil.Process(kvm.minions["alpha"].pid)
    return [root, *root.children(recursive=True)]


def test_an_sls_is_applied_its_return_kept_and_nothing_remembered(kvm, nodes):
    dry = apply(nodes, "quick", test=True)
    assert dry.result == DONE and dry.changed and ran() == []
    found = apply(nodes, "quick")
    assert found.result == DONE and found.changed and ran() == ["quick"]
    kept = kvm.run("alpha", "kvmcluster.state_jobs", [found.jid])
    assert kept["returned"] == {found.jid: found.returned}
    path = kept_returns.FOLDER + "/" + found.jid
    assert os.stat(path).st_mode & 0o777 == 0o600
    for _ in range(kept_returns.MOST):
        kept_returns.keep(nodes.new_job(), "{}")
    assert not os.path.exists(path) and kept_returns.read(found.jid) is None
    assert len(os.listdir(kept_returns.FOLDER)) == kept_returns.MOST


def test_what_fails_is_told_and_what_is_not_there_is_no_success(nodes):
    found = apply(nodes, "broken")
    assert (found.result, found.detail.partition(": ")[0]) == (FAILED, "alpha")
    assert "failed: fit: " in found.detail
    assert "No matching sls found for 'nowhere'" in apply(nodes, "nowhere").detail


def test_a_state_that_runs_is_waited_for_or_named_and_nothing_comes_later(kvm, nodes):
    jid = others(kvm)
    assert jobs(kvm)[0] == [{"jid": jid, "what": "state.single cmd.run", "path": ""}]
    found = apply(nodes, "quick", limit=1.0)
    assert found.result == REFUSED and f"state.single cmd.run runs, job {jid}" in found.detail
    HELD.unlink()
    assert apply(nodes, "quick").result == DONE
    assert ran() == ["other", "quick"]


def test_a_state_that_waits_in_the_queue_is_named_with_its_file(kvm, nodes):
    first = others(kvm)
    second = others(kvm, queue=True)
    running, waiting = jobs(kvm)
    known = [*running, *waiting]
    assert [job["jid"] for job in known] == [first, second]
    found = apply(nodes, "quick", limit=1.0)
    assert found.result == REFUSED and second in found.detail
    for job in waiting:  # Releases without queues on the disk wait in the job's process.
        assert os.path.basename(job["path"]).endswith(f"_{second}.p")
        assert f"waits in Salt's queue, job {second}, in {job['path']}" in found.detail
    HELD.unlink()
    assert apply(nodes, "quick").result == DONE
    assert ran() == ["other", "other", "quick"]


def test_what_waits_where_other_releases_queue_and_what_cannot_be_read_is_named_too(kvm, nodes):
    folder = pathlib.Path(kvm.minions["alpha"].config["cachedir"]) / "state_queue"
    path = folder / "queued_1_20300101000000000001.p"
    folder.mkdir()
    try:
        path.write_bytes(b"\xc1 no msgpack")
        (folder / "queue.lock").touch()
        row = {"jid": "20300101000000000001", "what": "a state", "path": str(path)}
        assert jobs(kvm) == ([], [row])
        found = apply(nodes, "quick", limit=1.0)
        assert found.result == REFUSED and f"on alpha: rm {path}" in found.detail
        path.write_bytes(salt.payload.dumps({"fun": "test.ping", "arg": []}))
        assert jobs(kvm) == ([], [])
    finally:
        shutil.rmtree(folder)


def stop(kvm, seconds):
    """Stop alpha's minion and its jobs for so long."""
    stopped = processes(kvm)

    def each(verb):
        for process in stopped:
            with contextlib.suppress(psutil.NoSuchProcess):
                getattr(process, verb)()

    each("suspend")
    threading.Timer(seconds, each, ["resume"]).start()


def test_a_minion_that_is_stopped_meanwhile_does_not_end_it(kvm, nodes):
    stopped = []

    class Stopping(Nobody):
        def show(self, line):
            """Stop the minion once its job runs, for longer than Salt waits for an answer."""
            if not stopped and any(jobs(kvm)):
                stopped.append(stop(kvm, 25))

    begun = time.monotonic()
    (found,) = applier.apply(nodes, ["alpha"], ["slow"], False, Stopping())
    assert stopped and time.monotonic() - begun > 25
    assert found.result == DONE and ran() == ["slow"]


def test_what_takes_long_is_followed_while_its_minion_is_stopped(kvm, nodes):
    threading.Timer(2, stop, [kvm, 25]).start()
    begun = time.monotonic()
    assert nodes.ask(["alpha"], "test.sleep", 6, within=ACTION) == {"alpha": True}
    assert time.monotonic() - begun > 25


def test_a_job_that_was_killed_is_over_without_a_result(kvm, nodes, monkeypatch):
    monkeypatch.setattr(course, "GRACE", 3.0)
    monkeypatch.setattr(applier, "LOOK", 2.0)

    class Killing(Nobody):
        def show(self, line):
            for job in jobs(kvm)[0]:
                kvm.run("alpha", "saltutil.signal_job", job["jid"], signal.SIGKILL)

    (found,) = applier.apply(nodes, ["alpha"], ["slow"], False, Killing())
    assert found.result == OVER and "is over without a result" in found.detail
    assert applier.await_idle(nodes, ["alpha"], 60.0, Nobody()) == {} and ran() == []


def test_what_was_begun_and_may_go_on_is_remembered_beyond_the_process(kvm, nodes):
    begun = course.Begun(nodes.new_job(), "state.sls slow")
    nodes.remember_states("alpha", begun)
    nodes.begin_states(begun.jid, ["alpha"], ["slow"], False)
    until(lambda: jobs(kvm)[0], "it does not begin")
    with SaltNodes(nodes.opts, nodes.cluster) as second:
        assert second.begun_states() == {"alpha": begun}
        told = applier.unended(second, NODES, Nobody())
        assert list(told) == ["alpha"] and begun.jid in told["alpha"]
        assert apply(second, "quick").result == DONE
    assert ran() == ["slow", "quick"]


def test_a_node_that_runs_a_state_stays_cordoned_and_is_not_rebooted(kvm, nodes, monkeypatch):
    jid = others(kvm)
    named = f"on alpha state.single cmd.run runs, job {jid}"
    with pytest.raises(WorldError, match=f"alpha stays cordoned: {named}.*kvmcluster.uncordon"):
        drainer.undrain(nodes, Nobody(), "alpha", patience=1.0)
    monkeypatch.setattr(course, "WAIT", 1.0)
    with pytest.raises(WorldError, match=f"alpha is not rebooted: {named}"):
        reboots.reboot(nodes, Nobody(), "alpha", "always", 5.0, False)
