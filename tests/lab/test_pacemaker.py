"""Beside a real Pacemaker: what it manages is held while we act on it, or not touched.

The same attempts one by one, in rounds: beside.py.
"""

import os

import beside
import pytest
from attempts import (
    ATTEMPTS,
    DRAIN,
    EMPTIED,
    FREEZE,
    database_away,
    one_after_the_other,
    right,
    runner,
)
from managed import HOME, Attempt, Said, answered

# All of them are tried before the lab is watched.
PLAIN = [one for one in ATTEMPTS if one.is_plain]
REST = [one for one in ATTEMPTS if one not in PLAIN]


@pytest.fixture(scope="module")
def bench():
    worker = os.environ.get("PYTEST_XDIST_WORKER", "").removeprefix("gw")
    with beside.bench_of(os.environ.get("KVMCLUSTER_LAB", "pcmk") + worker + "p") as bench:
        yield bench


def test_what_cannot_be_held_is_not_touched(bench):
    wrong = {}

    def all_of_them(bench):
        for attempt in PLAIN:
            said = attempt.act(bench)
            if found := answered(attempt, said):
                wrong[attempt.name] = found, said.text
            bench.uncordon()
        return Said(1, "")

    ends = {name: end for attempt in PLAIN for name, end in attempt.ends.items()}
    tale = bench.carry_out(Attempt("all", all_of_them, words=(), ends=ends))
    assert not wrong, wrong
    assert not tale["wrong"], tale


def test_its_guests_are_moved_frozen_and_drained_without_a_fight(bench):
    bench.put_in_order()
    there_and_back = runner("migrate", "web1", "node2"), runner("migrate", "web1", HOME)
    act = one_after_the_other(*there_and_back, *FREEZE, DRAIN)
    tale = bench.carry_out(right("all", act, arrange=database_away, ends=EMPTIED))
    assert not tale["wrong"], tale


@pytest.mark.nightly
@pytest.mark.parametrize("attempt", REST, ids=lambda one: one.name.replace(" ", "-"))
def test_beside_it(bench, attempt):
    bench.put_in_order()
    tale = bench.carry_out(attempt)
    assert not tale["wrong"], tale
