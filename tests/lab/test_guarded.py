"""What kvmcluster.orch.ha guards: nodes that fail. Many of them: kills.py."""

import os

import kills
import pytest

pytestmark = pytest.mark.nightly


@pytest.fixture(scope="module")
def bench():
    worker = os.environ.get("PYTEST_XDIST_WORKER", "").removeprefix("gw")
    name = os.environ.get("KVMCLUSTER_LAB", "guard") + worker + "g"
    with kills.bench_of(name, kills.HOMES) as bench:
        yield bench


@pytest.mark.parametrize("kind", kills.KINDS)
def test_guests_of_a_node_that_fails_come_back_by_themselves(bench, kind):
    tale = kills.carry_out(bench, kind, kills.busiest(bench))
    assert not tale["wrong"], tale
