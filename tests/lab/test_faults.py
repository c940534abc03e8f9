"""Every kind of fault once, at a moment that its seed says; ``make faults`` has many of each.

A fault that hits nothing would prove nothing, so what the harness tells is looked at as well.
"""

import judging
import pytest
import series
import tables
from bench import Bench
from cases import DISKS, SERIES, Case
from faults import EDGE, FAULTS
from judging import Sight, contradictions, left_over

HERE, THERE = "node1", "node2"
RUNS = Sight("running (migrated)", "", True, False)
PAUSED = Sight("paused (migrating)", "", True, False)
ABSENT = Sight("absent", "", False, False)
ORPHAN = Sight("absent", "", True, False)
WAITS = Sight("paused (user)", "", True, False, mark=True)


@pytest.fixture(scope="module")
def bench(prepared_lab):
    bench = Bench(prepared_lab)
    bench.prepare()
    yield bench
    bench.leave()


@pytest.mark.nightly
@pytest.mark.parametrize("seed", range(len(FAULTS)), ids=[fault.name for fault in FAULTS])
def test_what_is_returned_is_what_all_nodes_show(bench, seed):
    tale = series.carried_out(bench, Case.of(seed, brief=True))
    assert "disorder" not in tale, tale
    assert tale["wrong"] == [], tale
    assert tale["begun"][0]["effective"], tale


# ---- the judge of runs, on crafted looks ----


NOON = "2026-01-01T12:00:00.000+00:00"


def answer(result, owner):
    """An answer of what was seen ten seconds after noon."""
    nodes = {"source": HERE, "destination": THERE}
    return {"result": result, "owner": owner, **nodes, "started": NOON, "elapsed": 10.0}


MOVED, STAYED = answer("moved", THERE), answer("not_moved", HERE)


def observe(here, there):
    return {HERE: here, THERE: there}


@pytest.mark.parametrize(
    ("answers", "observed", "words"),
    [
        ([MOVED], observe(ABSENT, RUNS), ""),
        ([STAYED], observe(RUNS, ABSENT), ""),
        ([answer("unknown", None)], observe(PAUSED, ABSENT), ""),
        ([], observe(RUNS, ABSENT), ""),
        ([MOVED], observe(RUNS, ABSENT), "moved to node2, but it runs on ['node1']"),
        ([STAYED], observe(ABSENT, RUNS), "not_moved to node1, but it runs on ['node2']"),
        ([STAYED], observe(PAUSED, ABSENT), "not_moved to node1, but it runs on []"),
        ([answer("moved", HERE)], observe(RUNS, ABSENT), "the owner is node1"),
        ([answer("unknown", None)], observe(RUNS, RUNS), "RUNS TWICE"),
        ([answer("unknown", None)], observe(ABSENT, ABSENT), "LOST"),
        ([MOVED, STAYED], observe(ABSENT, RUNS), "not_moved to node1"),
    ],
)
def test_a_wrong_result_is_seen(answers, observed, words):
    found = contradictions(answers, observed, killed={}, own=False)
    assert words in "; ".join(found) if words else found == []


def test_a_guest_whose_own_qemu_was_killed_is_not_lost():
    nowhere, later = observe(ABSENT, ABSENT), "2026-01-01T12:00:10.000+00:00"
    assert contradictions([MOVED], nowhere, {THERE: later}, own=True) == []
    assert contradictions([STAYED], nowhere, {THERE: later}, own=True)
    assert contradictions([MOVED], nowhere, {THERE: NOON}, own=True)


def test_what_recover_left_is_seen():
    settled = {"owner": HERE}
    assert left_over(settled, observe(RUNS, ABSENT), own=False) == []
    assert left_over(settled, observe(RUNS, PAUSED), own=False)
    assert left_over(settled, observe(RUNS, ORPHAN), own=False)
    assert left_over(settled, observe(ABSENT, RUNS), own=False)
    assert left_over({"owner": None}, observe(PAUSED, ABSENT), own=False)
    assert left_over({"owner": None}, observe(RUNS, ABSENT), own=False)
    assert left_over(settled, observe(Sight("running", "", True, True), ABSENT), own=False)
    marked = Sight("running", "", True, False, mark=True)
    assert left_over(settled, observe(marked, ABSENT), own=False)
    assert left_over({"refused": "no"}, observe(RUNS, ABSENT), own=False)


def test_only_who_waits_and_is_nowhere_else_is_left_to_a_person():
    unknown = {"owner": None, "result": "unknown"}
    assert judging.is_for_an_operator(unknown, observe(ABSENT, WAITS))
    assert not judging.is_for_an_operator(unknown, observe(RUNS, WAITS))
    assert judging.is_for_an_operator(unknown, observe(PAUSED, ABSENT))
    assert not judging.is_for_an_operator(unknown, observe(PAUSED, ORPHAN))
    assert not judging.is_for_an_operator(unknown, observe(PAUSED, PAUSED))
    assert not judging.is_for_an_operator({**unknown, "result": "running"}, observe(PAUSED, ABSENT))
    assert not judging.is_for_an_operator({"refused": "no"}, observe(PAUSED, ABSENT))


def test_a_seed_stands_for_one_case_and_all_faults_get_their_turn():
    assert Case.of(77) == Case.of(77)
    assert {Case.of(seed).faults[0].name for seed in range(len(FAULTS))} == {
        fault.name for fault in FAULTS
    }
    drawn = [Case.of(seed) for seed in range(300)]
    for fault in FAULTS:
        assert {case.disk for case in drawn if case.faults[0] is fault} == set(DISKS)
    assert any(len(case.faults) == 2 for case in drawn)
    assert any(case.lasting is None for case in drawn)


def test_a_series_has_its_own_faults_moments_and_disk():
    drawn = [Case.of(seed, series=SERIES["cuts"], disk="nbd") for seed in range(60)]
    assert {(case.moment, case.disk) for case in drawn} == {(EDGE, "nbd")}
    assert {case.name for case in drawn} == {fault.name for fault in SERIES["cuts"].faults}
    assert 0 <= min(case.after_the_stop for case in drawn) < 0.01
    assert 0.15 < max(case.after_the_stop for case in drawn) <= 0.2


def test_a_downtime_that_nobody_saw_is_seen():
    assert judging.claims({"downtime_ms": 90}, 60) == []
    assert judging.claims({"downtime_ms": None}, 60) == []
    assert judging.claims({"downtime_ms": 90}, None) == []
    assert judging.claims("refused", 60) == []
    assert judging.claims({"downtime_ms": 2552}, 60)


WHOLE = {"lost": [], "repeated": [], "doubled": [], "boots": 1}


@pytest.mark.parametrize(
    "broken", [{"lost": [3]}, {"repeated": [3]}, {"doubled": [3]}, {"boots": 2}]
)
def test_a_broken_record_is_seen(broken):
    assert judging.faults_of(WHOLE) == []
    assert judging.faults_of({**WHOLE, **broken})


def tale(fault, disk, result, effective=True):
    begun = [{"fault": fault, "effective": effective}]
    ended = {"wrong": [], "own_qemu_killed": False, "answer": {"result": result}}
    return {"fault": fault, "disk": disk, "begun": begun, **ended}


def test_what_came_of_it_is_counted_by_fault_and_by_disk():
    first, second = FAULTS[1].name, FAULTS[3].name
    told = [tale(first, "nbd", "moved"), tale(first, "lun", "not_moved")]
    told += [tale(second, "nbd", "moved", effective=False)]
    told += [{**tale(second, "nbd", "moved"), "wrong": ["RUNS TWICE"]}]
    by_fault, by_disk = tables.tables(told).split("\n\n")
    assert f"| {first} | 2 | 1 | 1 |" in by_fault
    assert f"| {second} | 1 |  |  |  |  |  |  |  | 1 |" in by_fault
    assert f"| {tables.MISSED} | 1 | 1 |" in by_fault
    assert "| nbd | 3 | 2 |" in by_disk
    assert "| lun | 1 |  | 1 |" in by_disk
    assert "gluster" not in by_disk
