"""What there is to do on a node in maintenance, and what is reported of all nodes in the end."""

import pytest

from saltext_kvmcluster.core.applying.outcome import Outcome
from saltext_kvmcluster.core.cordons import Cordon
from saltext_kvmcluster.core.drain import assessment
from saltext_kvmcluster.core.drain.ledger import FAILED, SKIPPED, Ledger
from saltext_kvmcluster.core.drain.maintenance import Boot
from saltext_kvmcluster.core.output import tables

SAME = Outcome("node1", "done", returned={"a": {"changes": {}, "result": True}})
CHANGES = Outcome("node1", "done", returned={"a": {"changes": {"x": 1}, "result": None}})
WOULD_ACT = Outcome("node1", "done", returned={"a": {"changes": {}, "result": None}})
BROKEN = Outcome("node1", "failed", "node1: failed: a: no")
QUIET = Boot("1")
DUE = Boot("1", ("a kernel",))


def assess(found=SAME, boot=QUIET, when="needed", drain="always", left=()):
    return assessment.assess("lab", "node1", found, boot, when, drain, left)


@pytest.mark.parametrize(
    ("given", "update", "reboot", "drain", "skip"),
    [
        ({}, False, False, False, True),
        ({"found": None}, False, False, False, True),
        ({"found": CHANGES}, True, False, True, False),
        ({"found": WOULD_ACT}, True, False, True, False),
        ({"found": BROKEN}, True, False, True, False),
        ({"boot": DUE}, False, True, True, False),
        ({"boot": DUE, "when": "never"}, False, False, False, True),
        ({"when": "always"}, False, True, True, False),
        ({"found": CHANGES, "drain": "reboot"}, True, False, False, False),
        ({"found": CHANGES, "drain": "reboot", "boot": DUE}, True, True, True, False),
        ({"left": ["cordoned"]}, False, False, False, False),
    ],
)
def test_what_there_is_to_do(given, update, reboot, drain, skip):
    found = assess(**given)
    assert (found.update, found.reboot, found.drain, found.skip) == (update, reboot, drain, skip)
    assert found.to_dict()["ok"]


@pytest.mark.parametrize("result", ["refused", "unknown", "over"])
def test_a_trial_without_a_result_is_no_reason_to_skip(result):
    found = assess(Outcome("node1", result, "a state runs there"))
    assert not found.skip and not found.to_dict()["ok"]
    assert "a state runs there" in tables.render(found.to_dict())


def test_what_an_earlier_run_left_is_told():
    ours = Cordon("2026-11-23T12:00:00+00:00", "kvmcluster.orch.rolling updates")
    anns = Cordon("2026-11-23T12:00:00+00:00", "ask Ann")
    assert assessment.left([anns], []) == []
    cordoned, off = assessment.left([ours, anns], ["web1", "db1"])
    assert "kvmcluster.orch.rolling" in cordoned
    assert off == "shut down and not started again: web1, db1"


def test_an_assessment_in_words():
    assert tables.render(assess().to_dict()) == (
        "SKIPPED  node1: nothing to update, and no reboot is due"
    )
    assert tables.render(assess(CHANGES, DUE, left=["cordoned"]).to_dict()) == (
        "OK: node1: to be updated; to be rebooted (a kernel); to be drained; left by an earlier"
        " run: cordoned"
    )


def test_the_report_in_the_end():
    ledger = Ledger()
    ledger.before({"node1": "done: 2 guests moved"})
    ledger.expect(["node2", "node3", "node4", "node5"])
    ledger.of("node2").state = SKIPPED
    moved = [{"guest": "web1"}]
    off = [{"guest": "cd1", "ok": True}, {"guest": "cd2", "ok": False}]
    ledger.evacuated("node3", {"moved": moved, "shut_down": off, "stay": []})
    ledger.restored("node3", {"started": [{"guest": "cd1", "ok": True, "result": "started"}]})
    ledger.of("node3").rebooted = True
    ledger.of("node3").finish()
    ledger.evacuated("node4", {"moved": [], "shut_down": off, "stay": ["db1"]})
    ledger.of("node4").fail("node4 updated")
    assert ledger.text().splitlines() == [
        "node1  done before  done: 2 guests moved",
        "node2  skipped",
        "node3  done         1 guest moved; shut down: cd1; started again: cd1; rebooted",
        "node4  failed       failed: node4 updated; shut down: cd1; stays: db1; still off: cd1",
        "node5  not begun",
    ]
    assert ledger.of("node4").state == FAILED
    ledger.of("node4").finish()
    assert ledger.of("node4").state == FAILED
