"""The rules of Pacemaker that the simulation keeps, asked of the real one."""

import os
import time

import beside
import pytest
from attempts import switch_off
from kvmlab import pacemaker
from labs import until
from managed import MOVE

pytest.register_assert_rewrite("pacemaker_rules")
from pacemaker_rules import *  # noqa: E402, F403
from pacemaker_rules import GUEST, HOME  # noqa: E402

pytestmark = pytest.mark.nightly


class Rules:
    """A lab with Pacemaker, and one guest of it on a disk that nothing guards."""

    def __init__(self, bench):
        self.bench = bench
        bench.remove(GUEST)
        bench.make(GUEST)
        self.meta("multiple-active", "block")
        until(lambda: self.known() == [HOME], "Pacemaker knows it")
        self.settle()

    def alive(self):
        return set(self.bench.qemus(GUEST))

    def starts(self):
        return self.bench.look(GUEST).record["boots"]

    def known(self):
        return self.bench.known(GUEST)

    def blocked(self):
        shown = pacemaker.monitor(self.bench.place, self.bench.asked())
        found = shown.find(f"resources//resource[@id='{GUEST}']")
        return found is not None and found.get("blocked") == "true"

    def move_by_hand(self, source, destination):
        self.bench.lab.exec(source, *MOVE, GUEST, f"qemu+ssh://{destination}-mig/system")

    def end_by_hand(self, node):
        self.bench.lab.exec(node, "virsh", "destroy", GUEST)

    def meta(self, name, value):
        self.bench.meta(GUEST, name, value)

    def refresh(self):
        self.bench.crm("crm_resource", "--refresh", "-r", GUEST)

    def settle(self):
        self.bench.settle()

    def standby(self, node, on):
        words = ("-v", "on") if on else ("-D",)
        self.bench.crm("crm_attribute", "-N", node, "-n", "standby", *words)

    def kill_node(self, node):
        switch_off(self.bench, node)

    def wait(self, seconds):
        time.sleep(seconds)

    def until(self, condition, seconds):
        end = time.monotonic() + seconds
        while not condition():
            if time.monotonic() >= end:
                return False
            time.sleep(1)
        return True


@pytest.fixture(scope="module")
def bench():
    worker = os.environ.get("PYTEST_XDIST_WORKER", "").removeprefix("gw")
    with beside.bench_of(os.environ.get("KVMCLUSTER_LAB", "rules") + worker) as bench:
        yield bench


@pytest.fixture
def rules(bench):
    rules = Rules(bench)
    yield rules
    bench.lab.ctl("mend", HOME, "boot", check=False)
    bench.await_members()
    rules.standby(HOME, False)
    rules.meta("is-managed", None)
