"""An SLS on nodes: what is read of Salt's jobs, when an end is known, what is told of it."""

from dataclasses import replace

import pytest

from saltext_kvmcluster.core.applying import course, outcome, running
from saltext_kvmcluster.core.applying.course import Begun, Watched
from saltext_kvmcluster.core.applying.outcome import DONE, FAILED, OVER, REFUSED, UNKNOWN, Outcome
from saltext_kvmcluster.core.applying.running import NodeJobs, StateJob
from saltext_kvmcluster.core.errors import InputError
from saltext_kvmcluster.core.facts.node_report import NO_RETURN
from saltext_kvmcluster.core.output import tables

JID = "20261129090000000001"
BEGUN = Begun(JID, "state.sls updates")
SILENT = NodeJobs(answered=False)
RUNS = NodeJobs((StateJob(JID, "state.sls updates"),))
CONFLICT = (
    'The function "state.apply" is running as PID 71 and was started at 2026, Nov 29 09:00:00.0'
    f" with jid {JID}"
)
WELL = {"cmd_|-a_|-a_|-run": {"__id__": "a", "result": True, "changes": {}, "comment": "ran"}}
CHANGED = {"k": {"__id__": "b", "result": True, "changes": {"pid": 1}, "comment": "ran"}}
BROKEN = {**WELL, "k": {"__id__": "fit", "result": False, "changes": {}, "comment": "exit\n1"}}


@pytest.mark.parametrize(
    ("held", "what"),
    [
        ({"fun": "state.apply", "arg": ["updates", {"test": True}]}, "state.apply updates"),
        ({"fun": "state.highstate", "arg": []}, "state.highstate"),
        ({"fun": "state.sls"}, "state.sls"),
        ({"fun": ["test.ping", "state.apply"], "arg": [[], ["a"]]}, "test.ping,state.apply"),
        ({"fun": "state.show_sls", "arg": ["a\x1b[2J b"]}, "state.show_sls a�[2J b"),
        (None, "a state"),
        ({"fun": None, "arg": None}, None),
        ({"fun": "test.ping", "arg": []}, None),
        ({"fun": "kvmcluster.migrate", "arg": ["state.x"]}, None),
    ],
)
def test_what_counts_as_a_state(held, what):
    found = running.row(int(JID), held, "/q")
    assert found == (what and {"jid": JID, "what": what, "path": "/q"})


@pytest.mark.parametrize(
    ("name", "job"),
    [
        (f"queued_1795944469107692_{JID}.p", JID),
        (f"queued_1795944469107692_{JID}_1.p", f"{JID}_1"),
        (f"running_1795944469107692_{JID}.p", JID),
        (f"queued_1795944469107692_{JID}.p.tmp", None),
        (JID, None),
        ("queue.lock", None),
    ],
)
def test_which_files_of_a_queue_hold_a_job(name, job):
    assert running.queued_id(name) == job


@pytest.mark.parametrize("wrong", ["../../etc/passwd", "", "1", None, True, [JID], f"{JID}\n"])
def test_a_job_has_an_id_of_salts(wrong):
    assert running.job_id(JID) == running.job_id(int(JID)) == JID
    assert running.job_ids(None) == []
    assert running.job_ids(int(JID)) == running.job_ids(JID) == running.job_ids([JID]) == [JID]
    with pytest.raises(InputError, match="got extra"):
        running.job_ids("extra")
    with pytest.raises(InputError, match="job: want the id of a job"):
        running.job_id(wrong)


def test_what_a_node_answers_is_read_whatever_it_is():
    row = {"jid": JID, "what": "state.apply x\x1b", "path": "/q"}
    found = running.parse({"running": [], "waiting": [row, "odd"], "returned": {JID: None}})
    assert found.jobs[0] == StateJob(JID, "state.apply x�", "/q") and len(found.jobs) == 2
    assert found.has(JID) and not found.has("2") and found.returned == {JID: None}
    for odd in (None, [], {}, {"running": []}, {"running": 1, "waiting": []}, NO_RETURN):
        assert running.parse(odd) == SILENT
    said = running.parse("'kvmcluster.state_jobs' is not available.\n")
    assert said == NodeJobs(answered=False, said="'kvmcluster.state_jobs' is not available.")


def test_what_runs_and_what_waits_is_named_with_what_to_do():
    waits = StateJob("2", "state.apply y", "/q/queued_1_2.p")
    assert running.busy((), "node1") == ""
    assert running.busy((*RUNS.jobs, waits), "node1") == (
        f"on node1 state.sls updates runs, job {JID}, state.apply y waits in Salt's queue, job 2,"
        " in /q/queued_1_2.p; wait for its end, or end it: salt node1 saltutil.kill_job"
        f" {JID}"
    )
    assert running.busy((waits,), "node1").endswith("to drop it, on node1: rm /q/queued_1_2.p")
    taken = running.busy((replace(waits, path="/q/running_1_2.p"),), "node1")
    assert "state.apply y is about to begin, job 2, by /q/running_1_2.p; if it does not" in taken
    running.refuse_reboot([], "node1")
    with pytest.raises(InputError, match=r"state\.apply x runs, job 1.*node1 is not rebooted"):
        running.refuse_reboot([{"jid": "1", "what": "state.apply x", "path": ""}], "node1")


def test_a_conflict_is_told_from_every_other_failure():
    assert course.is_conflict([CONFLICT]) and course.is_conflict([CONFLICT, CONFLICT])
    for other in ([], [CONFLICT, "Rendering SLS failed"], CONFLICT, {}, None, [1]):
        assert not course.is_conflict(other)


def watched(*looks, job=None):
    """Look at 0, 10, 20, …; return what was observed and when the last look was."""
    one = Watched("node1", 0.0, job)
    for number, found in enumerate(looks):
        one = one.looked(found, 10.0 * number)
    return one


def test_a_node_is_idle_at_the_first_look_or_at_two_in_a_row():
    assert watched(NodeJobs()).is_idle()
    assert not watched().is_idle() and not watched(SILENT).is_idle()
    assert not watched(RUNS, NodeJobs()).is_idle(), "the next one may be about to begin"
    assert watched(RUNS, NodeJobs(), NodeJobs()).is_idle()
    assert not watched(NodeJobs(), SILENT).is_idle()
    assert not watched(NodeJobs(), job=BEGUN).is_idle()


def test_a_job_is_gone_when_its_node_has_answered_without_it_for_some_time():
    assert not watched(NodeJobs(), job=BEGUN).is_gone(course.GRACE - 1)
    assert watched(NodeJobs(), job=BEGUN).is_gone(course.GRACE)
    assert not watched(NodeJobs(), RUNS, job=BEGUN).is_gone(1000)
    assert not watched(SILENT, job=BEGUN).is_gone(1000), "silence says nothing"
    assert not watched(NodeJobs()).is_gone(1000)
    stopped = watched(NodeJobs(), *[SILENT] * 6, NodeJobs(), job=BEGUN)
    assert not stopped.is_gone(70), "it goes on with a job that was about to begin"
    assert stopped.is_gone(70 + course.GRACE)
    assert watched(NodeJobs(), SILENT, *[NodeJobs()] * 5, job=BEGUN).is_gone(60)


def test_where_jobs_wait_unseen_none_without_a_result_is_over():
    unseen = NodeJobs(unseen=True)
    found = watched(*[unseen] * 61, job=BEGUN)
    assert not found.is_gone(1000) and not found.is_lost(course.LOST - 1)
    assert found.is_lost(course.LOST)
    assert "salt-run cache.flush kvmcluster/applied/CLUSTER node1" in found.hindrance(600, 0.0)
    assert not watched(unseen).is_lost(course.LOST - 1) and watched(unseen).is_idle()
    assert running.parse({"running": [], "waiting": [], "unseen": True}).unseen
    assert not running.parse({"running": [], "waiting": []}).unseen


def test_a_node_is_lost_after_a_long_silence_alone():
    assert not watched(RUNS, job=BEGUN).is_lost(course.LOST - 1)
    assert watched(RUNS, job=BEGUN).is_lost(course.LOST)
    assert not watched(RUNS, SILENT, RUNS, job=BEGUN).is_lost(course.LOST)


@pytest.mark.parametrize(
    ("looks", "job", "now", "detail"),
    [
        ([SILENT], None, 29, ""),
        ([SILENT], None, 30, "no response from the minion of node1; what of Salt's runs there is"),
        ([SILENT], BEGUN, 30, f"may still run or wait: job {JID} (state.sls updates) on node1"),
        ([NodeJobs(answered=False, said="no such function")], None, 30, "no such function; what"),
        ([RUNS], None, 59, ""),
        ([RUNS] * 6, None, 60, f"state.sls updates runs, job {JID}; wait for its end"),
        ([RUNS, SILENT], None, 59, ""),
        ([RUNS, SILENT], None, 60, "no response from the minion of node1"),
        ([NodeJobs()] * 17, BEGUN, 179, ""),
        ([NodeJobs()] * 17, BEGUN, 180, "may still run or wait"),
    ],
)
def test_why_nothing_is_begun_on_a_node(looks, job, now, detail):
    found = watched(*looks, job=job).hindrance(now, 60.0)
    assert detail in found and bool(detail) == bool(found)


def test_what_is_waited_for_is_said():
    assert watched().waits_for(0) == watched(RUNS).waits_for(50) == "an answer of node1"
    assert "state.sls updates runs" in watched(RUNS).waits_for(1)
    assert f"the result of state.sls updates on node1, job {JID}" in watched(
        NodeJobs(), job=BEGUN
    ).waits_for(1)
    assert watched(RUNS, NodeJobs()).waits_for(11) == "node1 to stay idle"


def test_a_return_comes_from_the_job_cache_or_from_the_node():
    assert course.returned(BEGUN, WELL, None) == (WELL,)
    assert course.returned(BEGUN, None, NodeJobs((), {JID: None})) == (None,)
    assert course.returned(BEGUN, None, RUNS) is course.returned(BEGUN, None, None) is None


def test_what_the_master_remembers_is_read_whatever_it_is():
    assert course.begun(BEGUN.to_dict()) == BEGUN
    for odd in (None, {}, "x", [], {"what": "x"}, {"jid": "x", "what": "x"}, {"jid": None}):
        assert course.begun(odd) is None


@pytest.mark.parametrize(
    ("returned", "result", "detail"),
    [
        (WELL, DONE, ""),
        (BROKEN, FAILED, "node1: failed: fit: exit 1"),
        ([CONFLICT], REFUSED, "nothing was applied: on node1: The function"),
        (["No matching sls found for 'x'"], FAILED, "node1: No matching sls found for 'x'"),
        ("'state.sls' is not available.", FAILED, "node1: 'state.sls' is not available."),
        ({}, DONE, ""),
        (None, FAILED, "node1: None"),
        ({"k": "odd"}, FAILED, "node1: failed: k: odd"),
        ({"k": {"changes": {}}}, FAILED, "node1: failed: k"),
        ({"k": {"result": "yes"}}, FAILED, "node1: failed: k"),
        ({"k": {"result": 0}}, FAILED, "node1: failed: k"),
    ],
)
def test_what_came_of_it_by_what_was_returned(returned, result, detail):
    found = outcome.of_return("node1", JID, returned)
    assert (found.result, found.node, found.jid) == (result, "node1", JID)
    assert found.detail.startswith(detail)


def test_the_state_tells_the_worst_first_and_is_well_only_if_all_are():
    well = outcome.of_return("node1", JID, CHANGED)
    same = outcome.of_return("node2", JID, WELL)
    bad = outcome.of_return("node3", JID, BROKEN)
    lost = Outcome("node4", UNKNOWN, course.may_still_run("node4", BEGUN))
    gone = Outcome("node5", OVER, course.ended_without("node5", BEGUN))
    found = outcome.state_return("x", [well, same, bad, lost, gone], False)
    lines = found["comment"].splitlines()
    assert found["result"] is False and [line[:20] for line in lines[:2]] == [
        "may still run or wai",
        f"job {JID}"[:20],
    ]
    assert lines[2] == "node3: failed: fit: exit 1"
    assert lines[3] == f"all states succeeded; changed: node1; as wanted: node2 (job {JID})"
    assert found["changes"] == {"out": "highstate", "ret": {"node1": CHANGED, "node3": BROKEN}}
    assert outcome.state_return("x", [well], False)["result"] is True
    assert outcome.state_return("x", [well], True)["result"] is None
    assert outcome.state_return("x", [same], True)["result"] is True
    assert "would change: node1" in outcome.state_return("x", [well], True)["comment"]
    brief = outcome.state_return("x", [well, same], False, brief=True)
    assert brief["changes"] == {"node1": ["ran"]}
    file = {"added": ["node1 a"], "removed": [], "replaced": ["node2 ssh-rsa SHA256:x -> y"]}
    keys = {"k": {"result": True, "comment": "known_hosts changed", "changes": {"hosts": file}}}
    key = outcome.state_return("x", [Outcome("node1", DONE, "", keys)], False, brief=True)
    shown = ["known_hosts changed", "hosts: replaced: node2 ssh-rsa SHA256:x -> y"]
    assert key["changes"] == {"node1": shown}, "another key of a node is shown"
    failed = outcome.state_return("x", [well, bad], False, brief=True)
    assert failed["changes"]["ret"]["node3"] == BROKEN, "what failed is told whole"
    refused = Outcome("node1", REFUSED, "nothing was applied: x")
    assert outcome.state_return("x", [refused], True)["result"] is False


def test_outcomes_are_data_and_text():
    known = [outcome.of_return("node1", JID, WELL), Outcome("node2", REFUSED, "busy")]
    data = outcome.to_dict("lab", ["updates"], known, False)
    assert (data["kind"], data["ok"], outcome.outcomes(data)) == ("applied", False, known)
    assert tables.render(data) == f"busy\nall states succeeded; as wanted: node1 (job {JID})"
    assert outcome.returns(known) == {"node1": WELL, "node2": "busy"}
    assert outcome.returns([Outcome("node1", UNKNOWN, "x")]) == {}


def test_what_runs_on_a_node_is_a_table():
    data = {"kind": "state_jobs", "node": "node1", "running": [], "waiting": []}
    assert tables.render(data) == "node1: no state runs or waits"
    data["waiting"] = [{"jid": JID, "what": "state.apply x", "path": "/q"}]
    assert "waits  20261129090000000001  state.apply x  /q" in tables.render(data)
