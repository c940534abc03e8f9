"""A node emptied for maintenance: what is shut down, stays, is refused, and comes back."""

from types import SimpleNamespace

import pytest
import worlds

from saltext_kvmcluster.core.cordons import Cordon
from saltext_kvmcluster.core.drain.ledger import Ledger
from saltext_kvmcluster.core.drain.report import DRAIN, PlanReport
from saltext_kvmcluster.core.errors import WorldError
from saltext_kvmcluster.core.findings import BLOCK, UNKNOWN, Issue
from saltext_kvmcluster.core.migration.migration import Move
from saltext_kvmcluster.core.output import tables
from saltext_kvmcluster.core.readiness.report import GroupedFinding, Readiness
from saltext_kvmcluster.engine import drainer, evacuation

CORDON = Cordon("2026-11-23T12:00:00+00:00", "kvmcluster.orch.rolling")
CONSOLE = SimpleNamespace(show=lambda line: None, interrupted=lambda: False, plan=lambda plan: None)
WHY = "no eligible node: storage.kind"
FAILED = {"guest": "web1", "source": "node1", "destination": "node2", "reason": "no"}


class Fleet:
    """Nodes that answer by rote; ``asked`` keeps what they were asked, and what was kept before."""

    def __init__(self, memory, **answers):
        self.cluster, self.all = SimpleNamespace(name="lab"), ["node1"]
        self.memory, self.answers, self.asked = memory, answers, []
        self.doubts = []

    def placeable(self, source):
        """What all nodes report is well, or in doubt each time that is asked for."""
        doubt = self.doubts.pop(0) if self.doubts else ""
        issue = Issue(doubt, outcome=UNKNOWN)
        found = GroupedFinding("storage.same", BLOCK, issue, guests=("cd1",))
        return None, Readiness("lab", ("node1", "node2"), (found,) if doubt else (), ())

    def ask(self, nodes, function, *arguments, **named):
        name = function.partition(".")[2]
        self.asked.append((name, *arguments, tuple(self.memory.kept)))
        answer = self.answers.get(name)
        return {} if answer is None else {"node1": answer}


class Memory:
    def __init__(self, *kept):
        self.kept = list(kept)

    def stopped(self, node):
        return list(self.kept)

    def add(self, node, guest):
        self.kept.append(guest)

    def remove(self, node, guest):
        self.kept.remove(guest)


@pytest.fixture
def drained(monkeypatch):
    """Say what the drain finds: the plan beforehand, and the report of the real one."""
    calls = []

    def plan(planned=(), **done):
        reasons = dict.fromkeys(planned, WHY)
        proposal = PlanReport(DRAIN, "lab", not planned, (), reasons, test=True, node="node1")
        wanted = {"left": list(planned), "stuck": reasons, **done}
        ok = wanted["left"] == []
        real = PlanReport(DRAIN, "lab", ok, (), node="node1", cordon=CORDON, **wanted)

        def drain(fleet, console, node, reason, test=False):
            calls.append(test)
            return proposal if test else real

        monkeypatch.setattr(drainer, "drain", drain)
        return calls

    return plan


OK = {
    "startable": {"ok": True},
    "shutdown": {"result": "stopped", "reason": "it is off"},
    "standby": {"ok": True, "standby": True},
}


def evacuate(fleet, what, test=False):
    return evacuation.evacuate(fleet, CONSOLE, fleet.memory, "node1", "why", what, test)


def test_one_that_cannot_be_moved_is_refused_before_the_node_is_cordoned(drained):
    calls = drained(["cd1"])
    with pytest.raises(WorldError, match="not drained, nor cordoned: cd1 on node1 cannot be moved"):
        evacuate(Fleet(Memory()), "refuse")
    assert calls == [True]


def test_it_is_shut_down_after_that_was_kept(drained):
    drained(["cd1"])
    fleet = Fleet(Memory(), **OK)
    data = evacuate(fleet, "shutdown")
    assert data["ok"] and data["left"] == [] and data["shut_down"][0]["guest"] == "cd1"
    assert fleet.asked == [
        ("startable", "cd1", ()),
        ("shutdown", "cd1", ("cd1",)),
        ("standby", "why", ("cd1",)),
    ]
    text = tables.render(data)
    assert text.startswith("SHUT DOWN  cd1: it is off") and "DRAINED  node1" in text
    assert data["standby"] and "on standby in Pacemaker" in text
    assert "STUCK" not in text


@pytest.mark.parametrize("named", [None, ["cd1"]])
def test_nothing_is_drained_while_it_may_be_movable(drained, named):
    """A peer that is silent for a moment takes every guest's place."""
    calls = drained(["cd1"])
    fleet = Fleet(Memory(), **OK)
    fleet.doubts = ["not known: no response from node2"]
    with pytest.raises(WorldError, match="nor cordoned: it is not certain that cd1 on node1"):
        evacuation.evacuate(fleet, CONSOLE, fleet.memory, "node1", "why", "shutdown", named=named)
    assert calls == [True] and fleet.asked == []


def test_nothing_is_shut_down_that_may_be_movable_by_then(drained):
    drained(["cd1"])
    fleet = Fleet(Memory(), **OK)
    fleet.doubts = ["", "not known: no response from node2"]
    data = evacuate(fleet, "shutdown")
    assert not data["ok"] and data["left"] == ["cd1"] and fleet.asked == []
    assert "PROBLEM  it is not certain" in tables.render(data)


def test_one_that_was_not_named_beforehand_is_not_shut_down(drained):
    calls = drained(["cd1", "web1"])
    fleet = Fleet(Memory(), **OK)
    given = (fleet, CONSOLE, fleet.memory, "node1", "why", "shutdown")
    with pytest.raises(WorldError, match="nor cordoned: web1 on node1 cannot be moved"):
        evacuation.evacuate(*given, named=["cd1"])
    assert calls == [True] and fleet.asked == []
    with pytest.raises(WorldError, match="nor cordoned: web1 on node1 cannot be moved"):
        evacuation.evacuate(*given[:-1], "leave", named=["cd1"])
    data = evacuation.evacuate(*given, test=True, named=["cd1"])
    assert not data["ok"] and "PROBLEM  web1 on node1 cannot" in tables.render(data)


def test_what_could_not_be_started_again_is_not_shut_down(drained):
    drained(["cd1"])
    fleet = Fleet(Memory(), startable={"ok": False, "detail": "it is transient"})
    data = evacuate(fleet, "shutdown")
    assert not data["ok"] and data["left"] == ["cd1"] and fleet.memory.kept == []
    assert [name for name, *_ in fleet.asked] == ["startable"]
    assert "NOT SHUT DOWN  cd1: cd1 on node1 cannot be moved, nor be" in tables.render(data)


@pytest.mark.parametrize("answer", [None, "ERROR: no", {"result": "not_stopped"}, {"result": 7}])
def test_one_that_is_not_off_keeps_the_node_from_being_empty(drained, answer):
    drained(["cd1"])
    fleet = Fleet(Memory(), startable={"ok": True}, shutdown=answer)
    data = evacuate(fleet, "shutdown")
    assert not data["ok"] and data["left"] == ["cd1"]
    assert fleet.memory.kept == ["cd1"], "whether it is off is not known: it is started again"


def test_one_that_was_to_move_and_did_not_is_never_shut_down(drained):
    drained(
        ["cd1"], left=["cd1", "web1"], stuck={"cd1": WHY, "web1": "3 attempts"}, failed=[FAILED]
    )
    fleet = Fleet(Memory(), **OK)
    data = evacuate(fleet, "shutdown")
    assert not data["ok"] and data["left"] == ["web1"]
    assert all(guest == "cd1" for _, guest, _ in fleet.asked)


@pytest.mark.parametrize(
    "done",
    [
        {"detail": "interrupted"},
        {"under_way": (Move("web1", "u", "node1", "node2"),)},
        {"left": None},
    ],
)
def test_nothing_is_shut_down_by_a_drain_that_did_not_end(drained, done):
    drained(["cd1"], **done)
    fleet = Fleet(Memory(), **OK)
    assert not evacuate(fleet, "shutdown")["ok"] and fleet.asked == []


def test_it_stays_if_that_is_asked_for(drained):
    drained(["cd1"])
    data = evacuate(Fleet(Memory()), "leave")
    assert data["ok"] and data["stay"] == data["left"] == ["cd1"]
    assert "DRAINED  node1: cd1 stays, as requested" in tables.render(data)


@pytest.mark.parametrize(
    ("what", "ok", "words"),
    [
        ("refuse", False, "1 guest stuck"),
        ("shutdown", True, "cd1 would be shut down, and started again later"),
        ("leave", True, "cd1 would stay"),
    ],
)
def test_a_plan_says_what_would_become_of_it(drained, what, ok, words):
    assert drained(["cd1"]) == []
    data = evacuate(Fleet(Memory()), what, test=True)
    assert data["ok"] is ok and words in tables.render(data)


@pytest.mark.parametrize("result", ["started", "running"])
def test_it_is_started_again_and_forgotten(result):
    memory = Memory("cd1", "cd2")
    fleet = Fleet(memory, start={"result": result, "reason": "it runs"})
    data = evacuation.restore(fleet, CONSOLE, memory, "node1")
    assert data["ok"] and memory.kept == []
    count = 2 if result == "started" else 0
    assert f"OK: {count} guests started again on node1" in tables.render(data)


@pytest.mark.parametrize("answer", [None, "ERROR: node2 does not respond", {"result": "unknown"}])
def test_one_that_was_not_started_is_kept_for_the_next_run(answer):
    memory = Memory("cd1")
    data = evacuation.restore(Fleet(memory, start=answer), CONSOLE, memory, "node1")
    assert not data["ok"] and memory.kept == ["cd1"]
    assert "PROBLEM: not started again: cd1" in tables.render(data)


def test_a_load_that_nobody_reports_is_not_told_as_even():
    nodes = {"node1": SimpleNamespace(guests=None), "node2": SimpleNamespace(guests=None)}
    fleet = SimpleNamespace(
        cluster=worlds.cluster(), placeable=lambda: (SimpleNamespace(nodes=nodes), None)
    )
    with pytest.raises(WorldError, match="no node reports its guests"):
        drainer.balance(fleet, CONSOLE)


class Interrupting:
    """A console whose Ctrl-C comes while the first guest is treated."""

    def __init__(self):
        self.lines = []

    def show(self, line):
        self.lines.append(line)

    def interrupted(self):
        return bool(self.lines)


def test_ctrl_c_shuts_down_no_further_guest_and_the_node_is_not_empty(drained):
    drained(["cd1", "cd2"])
    fleet = Fleet(Memory(), **OK)
    data = evacuation.evacuate(
        fleet, Interrupting(), fleet.memory, "node1", "why", "shutdown", False
    )
    assert [row["ok"] for row in data["shut_down"]] == [True, False]
    assert not data["ok"] and data["left"] == ["cd2"] and fleet.memory.kept == ["cd1"]
    text = tables.render(data)
    assert "NOT SHUT DOWN  cd2: interrupted before" in text and "PROBLEM  interrupted" in text


def test_ctrl_c_starts_no_further_guest_and_keeps_it(drained):
    memory = Memory("cd1", "cd2")
    fleet = Fleet(memory, start={"result": "started", "reason": "it runs"})
    data = evacuation.restore(fleet, Interrupting(), memory, "node1")
    assert not data["ok"] and memory.kept == ["cd2"]
    assert [row["ok"] for row in data["started"]] == [True, False]


def test_what_cannot_be_kept_is_not_shut_down_and_the_others_are_told(drained, monkeypatch):
    drained(["cd1", "cd2"])
    fleet = Fleet(Memory(), **OK)

    def full(node, guest):
        if guest == "cd2":
            raise WorldError("is its disk full?")
        fleet.memory.kept.append(guest)

    monkeypatch.setattr(fleet.memory, "add", full)
    data = evacuate(fleet, "shutdown")
    assert [(row["guest"], row["ok"]) for row in data["shut_down"]] == [
        ("cd1", True),
        ("cd2", False),
    ]
    assert data["left"] == ["cd2"] and "shutdown" not in [
        name for name, guest, _ in fleet.asked if guest == "cd2"
    ]


def test_what_cannot_be_forgotten_keeps_no_other_guest_off(monkeypatch):
    memory = Memory("cd1", "cd2")

    def full(node, guest):
        raise WorldError("is its disk full?")

    monkeypatch.setattr(memory, "remove", full)
    fleet = Fleet(memory, start={"result": "started", "reason": "it runs"})
    data = evacuation.restore(fleet, CONSOLE, memory, "node1")
    assert not data["ok"] and [row["guest"] for row in data["started"]] == ["cd1", "cd2"]
    assert data["started"][0]["reason"] == "it runs; is its disk full?"


def test_one_that_ran_already_is_not_told_as_started():
    memory = Memory("cd1")
    fleet = Fleet(memory, start={"result": "running", "owner": "node2", "reason": "it is on node2"})
    data = evacuation.restore(fleet, CONSOLE, memory, "node1")
    assert data["ok"] and data["started"][0]["owner"] == "node2" and memory.kept == []
    text = tables.render(data)
    assert text.endswith("OK: 0 guests started again on node1; 1 guest ran already")
    ledger = Ledger()
    ledger.evacuated("node1", {"shut_down": [{"guest": "cd1", "ok": True}]})
    ledger.restored("node1", data)
    ledger.of("node1").fail("node1 done")
    assert ledger.of("node1").summary().endswith("shut down: cd1; ran already: cd1")


@pytest.mark.parametrize(
    ("cordoned", "error"), [(None, "does not report whether it is cordoned"), ((), "")]
)
def test_a_node_that_does_not_say_whether_it_is_cordoned_is_not_skipped(cordoned, error):
    fleet = Fleet(Memory(), boot={"boot": "1", "needed": []})
    facts = SimpleNamespace(cordoned=cordoned, detail="no response")
    fleet.facts = lambda nodes, **named: {"node1": facts}
    given = (fleet, CONSOLE, fleet.memory, "node1", (), "needed", "always")
    if error:
        with pytest.raises(WorldError, match=error):
            evacuation.assess(*given)
    else:
        assert evacuation.assess(*given).skip


def test_who_uncordons_a_node_is_told_of_guests_that_are_still_off():
    data = {"kind": "undrain", "ok": True, "node": "node1", "uncordoned": True, "moved": []}
    data |= {"failed": [], "under_way": [], "stuck": {}, "detail": "", "elapsed": 1.0, "plan": []}
    text = tables.render({**data, "shut_down": ["cd1"]})
    assert text.startswith("OFF  cd1: shut down for maintenance of node1; to start them: salt-run")
    assert tables.render(data) == "node1 is uncordoned"
