"""The steps of maintenance as an orchestration's states: what is skipped, shown and reported."""

import pytest

from saltext_kvmcluster.states import kvmcluster as states

NOTHING = {"kind": "assessment", "cluster": "lab", "node": "node1", "ok": True, "update": False}
NOTHING |= {"reboot": False, "needed": [], "drain": False, "left": [], "skip": True, "detail": ""}
REBOOT = {"kind": "reboot", "cluster": "lab", "node": "node1", "ok": True, "when": "needed"}
REBOOT |= {"rebooted": False, "needed": [], "still": [], "missing": "", "findings": []}
DRAINED = {"kind": "evacuation", "cluster": "lab", "node": "node1", "ok": True, "test": False}
DRAINED |= {"moved": [], "failed": [], "under_way": [], "stuck": {}, "detail": "", "left": []}
DRAINED |= {"cordoned": {"since": "2026-11-23T12:00:00", "reason": "why"}, "elapsed": 1.0}
DRAINED |= {"shut_down": [], "stay": []}
PREFLIGHT = {"nodes": ["node1"], "findings": [], "hindered": []}
PREFLIGHT |= {"updates": [], "begun": [], "managed": [], "cordoned": []}

MASTER = {"master_job_cache": "local_cache"}


@pytest.fixture
def run(monkeypatch):
    """Set what runner functions return; return the names of those that were called."""
    called, returns = [], {}

    class Runners:
        def __getitem__(self, runner):
            def call(**arguments):
                called.append(runner.partition(".")[2])
                return {"data": dict(returns[called[-1]])}

            return call

    monkeypatch.setattr(states, "__context__", {states._RUNNERS: Runners()}, raising=False)
    monkeypatch.setattr(states, "__opts__", {**MASTER, "test": False}, raising=False)

    def given(**found):
        returns.update(found)
        return called

    return given


def test_a_node_with_nothing_to_do_is_left_alone_and_reported(run):
    called = run(assess=NOTHING)
    assert states.assessed("node1 assessed", "node1")["result"] is True
    steps = [
        states.drained("node1 drained", "node1", "why"),
        states.drained("node1 drained to be rebooted", "node1", "why", before_reboot="needed"),
        states.applied("node1 updated", "updates", ["node1"]),
        states.reboot("node1 reboot", "node1"),
        states.undrained("node1 undrained", "node1"),
    ]
    assert all(step["result"] is True and not step["changes"] for step in steps)
    assert called == ["assess"]
    report = states.reported("report")["comment"]
    assert report == "node1  skipped      nothing to update, and no reboot is due"


def test_what_an_earlier_run_left_is_undone(run):
    left = {**NOTHING, "skip": False, "left": ["cordoned"]}
    undrained = {**DRAINED, "kind": "undrain", "uncordoned": True}
    called = run(assess=left, reboot={**REBOOT, "elapsed": 1.0}, undrain=undrained)
    states.assessed("node1 assessed", "node1")
    assert states.drained("node1 drained", "node1", "why")["comment"] == "node1 is not drained"
    states.reboot("node1 reboot", "node1")
    assert states.undrained("node1 undrained", "node1")["result"] is True
    assert called == ["assess", "reboot", "undrain"]
    assert states.reported("report")["comment"].startswith("node1  done")


@pytest.mark.parametrize("due", [True, False])
def test_a_node_is_drained_once_its_update_needs_a_reboot(run, due):
    updated = {**NOTHING, "skip": False, "update": True}
    called = run(assess=updated, reboot={**REBOOT, "rebooted": due}, evacuate=DRAINED)
    states.assessed("node1 assessed", "node1", drain="reboot")
    states.drained("node1 drained", "node1", "why")
    states.drained("node1 drained to be rebooted", "node1", "why", before_reboot="needed")
    assert called == ["assess", "reboot", *(["evacuate"] if due else [])]


def test_a_step_that_fails_has_the_report(run, capsys):
    error = {"kind": "error", "ok": False, "error": "no response from node1"}
    run(preflight={**NOTHING, "kind": "preflight"}, assess=NOTHING, evacuate=error)
    states.preflight("preflight", ["node1", "node2"])
    failed = states.drained("node1 drained", "node1", "why")
    assert failed["result"] is False
    assert failed["comment"].splitlines() == [
        "ERROR: no response from node1",
        "",
        "node1  failed       failed: node1 drained",
        "node2  not begun",
    ]
    assert "node1 drained: ERROR: no response from node1" in capsys.readouterr().err


def test_only_guests_that_preflight_named_may_be_shut_down(run, monkeypatch):
    named = []
    stuck = {"node1": {"cd1": "storage.kind"}}
    run(preflight={**NOTHING, "kind": "preflight", **PREFLIGHT, "stuck": stuck}, evacuate=DRAINED)
    plain = states._run

    def call(runner, **arguments):
        named.append(arguments.get("guests"))
        return plain(runner, **arguments)

    monkeypatch.setattr(states, "_run", call)
    states.drained("node1 drained", "node1", "why", stuck="shutdown")
    states.preflight("preflight", ["node1", "node2"], stuck="shutdown")
    states.drained("node1 drained", "node1", "why", stuck="shutdown")
    states.drained("node2 drained", "node2", "why", stuck="shutdown")
    assert named == [None, None, ["cd1"], []]


def test_a_run_in_test_mode_reports_what_would_be_done(run, monkeypatch):
    monkeypatch.setattr(states, "__opts__", {**MASTER, "test": True})
    todo = {**NOTHING, "skip": False, "update": True, "drain": True, "reboot": True}
    plan = {"kind": "evacuation", "ok": True, "test": True, "plan": [], "stuck": {}, "hindered": []}
    run(assess=todo, evacuate={**plan, "what": "refuse"}, reboot={**REBOOT, "rebooted": True})
    states.assessed("node1 assessed", "node1")
    states.drained("node1 drained", "node1", "why")
    states.reboot("node1 reboot", "node1")
    states.undrained("node1 undrained", "node1")
    assert states.reported("report")["comment"] == (
        "node1  would do     to be updated; to be rebooted; to be drained"
    )


def test_ctrl_c_during_a_step_that_ended_well_ends_the_run(run):
    runs = {"started": [{"guest": "cd1", "ok": True, "result": "started", "reason": "it runs"}]}
    run(restore={"kind": "restored", "node": "node1", "ok": True, "interrupted": True, **runs})
    done = states.restored("node1 restored", "node1")
    assert done["result"] is False and done["changes"]
    assert "PROBLEM: interrupted; no further step is begun" in done["comment"]
    assert states._unless_interrupted({"result": True, "comment": ""})["result"] is True


def test_a_node_that_was_not_cordoned_is_not_told_as_uncordoned(run):
    left = {**NOTHING, "skip": False, "left": ["shut down and not started again: cd1"]}
    for uncordoned in (True, False):
        undrained = {**DRAINED, "kind": "undrain", "uncordoned": uncordoned}
        run(assess=left, undrain=undrained)
        states.assessed("node1 assessed", "node1")
        done = states.undrained("node1 undrained", "node1")
        assert done["result"] is True and bool(done["changes"]) is uncordoned


def test_with_another_outputter_nothing_is_shown(run, monkeypatch, capsys):
    run(assess=NOTHING)
    monkeypatch.setattr(states, "__opts__", {**MASTER, "test": False, "output": "json"})
    states.assessed("node1 assessed", "node1")
    assert capsys.readouterr() == ("", "")


def test_guests_that_were_shut_down_are_in_the_report(run):
    off = {"guest": "cd1", "ok": True, "result": "stopped", "reason": "it is off"}
    on = {"kind": "restored", "cluster": "lab", "node": "node1", "ok": True}
    on |= {"started": [{**off, "result": "started", "reason": "it runs"}]}
    run(evacuate={**DRAINED, "shut_down": [off]}, restore=on)
    done = states.drained("node1 drained", "node1", "why", stuck="shutdown")
    assert done["changes"]["cd1"] == {"old": "node1", "new": "shut down"}
    assert states.restored("node1 restored", "node1")["changes"] == {
        "cd1": {"old": "shut down", "new": "runs on node1"}
    }
    report = states.reported("report")["comment"]
    assert report == "node1  done         shut down: cd1; started again: cd1"


def test_a_drained_node_is_not_said_to_have_been_open_before(run):
    """An earlier run may have left it cordoned."""
    run(assess={**NOTHING, "drain": True, "skip": False}, evacuate=DRAINED)
    states.assessed("node1 assessed", "node1")
    changes = states.drained("node1 drained", "node1", "why")["changes"]
    assert changes == {"node1": {"new": "cordoned and empty"}}
