"""Beside a real Pacemaker: what it manages is not touched, and what it leaves alone is ours.

The same attempts one by one, in rounds: beside.py.
"""

import os

import beside
import pytest
from attempts import ATTEMPTS
from managed import Attempt, Said, answered

# All of them are tried before the lab is watched.
PLAIN = [one for one in ATTEMPTS if one.is_plain]
REST = [one for one in ATTEMPTS if one not in PLAIN]


@pytest.fixture(scope="module")
def bench():
    worker = os.environ.get("PYTEST_XDIST_WORKER", "").removeprefix("gw")
    with beside.bench_of(os.environ.get("KVMCLUSTER_LAB", "pcmk") + worker + "p") as bench:
        yield bench


def test_what_pacemaker_manages_is_not_touched(bench):
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


@pytest.mark.nightly
@pytest.mark.parametrize("attempt", REST, ids=lambda one: one.name.replace(" ", "-"))
def test_beside_it(bench, attempt):
    bench.put_in_order()
    tale = bench.carry_out(attempt)
    assert not tale["wrong"], tale
