"""Guests that Pacemaker manages, and fifteen operations on them; 100 of them: operations.py.

Waits take most of the time, so that what does not disturb another is carried out side by side.
"""

import os

import operations
import pytest

pytestmark = pytest.mark.nightly

# None in which Pacemaker itself moves a guest: libvirt's own handover fails by chance where
# GlusterFS releases an image late (Lab.move_by_hand in labs.py).
ROUNDS = [
    (
        *("migrate", "freeze", "shutdown_and_start"),
        *("stop_and_start_by_hand", "stop_and_start_by_hand", "crash"),
    ),
    (
        *("migrate", "freeze", "shutdown_and_start"),
        *("stopped_during_a_move", "stopped_during_a_move", "crash"),
    ),
    ("killed_job",),
    ("drain",),
    ("lose_power",),
]


@pytest.fixture(scope="module")
def bench():
    worker = os.environ.get("PYTEST_XDIST_WORKER", "").removeprefix("gw")
    name = os.environ.get("KVMCLUSTER_LAB", "hands") + worker + "o"
    with operations.bench_of(name, operations.HOMES) as bench:
        yield bench


# What would come later than the end of one comes amid the next, whose guests it is not meant for.
@pytest.mark.parametrize("seed", range(len(ROUNDS)), ids=["-".join(one) for one in ROUNDS])
def test_guests_run_once_and_where_they_are_to_be(bench, seed):
    last = seed == len(ROUNDS) - 1
    afterwards = operations.AFTERWARDS if last else 0
    tale = operations.carry_out(bench, seed, ROUNDS[seed], afterwards)
    assert not tale["wrong"], tale
