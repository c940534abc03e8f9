"""A balance by schedule on a real master: what it keeps in the master's cache, who is at work."""

import os
from pathlib import Path

import pytest
import salt.config
from sandbox import NODES
from test_master import Master, pillar

from saltext_kvmcluster.core.drain.scheduled import Memory
from saltext_kvmcluster.core.errors import WorldError
from saltext_kvmcluster.host import bootid
from saltext_kvmcluster.master import balances, holds, runs


@pytest.fixture
def master(kvm, salt_run):
    """A master whose cluster balances by a schedule, by itself."""
    found = Master(kvm, salt_run)
    text = pillar("test", *NODES)
    text["kvmcluster"]["balance"] = {"mode": "apply", "lasts": 0}
    kvm.pillar(raw=text)
    for node in NODES:
        kvm.run(node, "saltutil.refresh_pillar", wait=True)
    found.opts = salt.config.master_config(f"{found.config}/master")
    return found


def test_an_argument_that_would_not_count_is_refused(master):
    for word in ("test=true", "most=2"):
        error = master.data("kvmcluster.balance", "scheduled=true", word, code=1)["error"]
        assert error.startswith(f"{word[:4]}: with scheduled=True the pillar decides")


def scheduled(master):
    return master.data("kvmcluster.balance", "scheduled=true")


def test_nothing_is_moved_while_another_run_is_at_work_or_a_node_does_not_tell(master):
    run = runs.Publisher(master.opts, "test", "drain", "alpha")
    try:
        look = scheduled(master)["scheduled"]
        assert (look["due"], look["why"]) == (
            False,
            "another run is at work on this master: drain alpha",
        )
    finally:
        run.close()
    damaged = Path(master.opts["cachedir"]) / runs.BANK / "test" / "1.p"
    damaged.parent.mkdir(parents=True, exist_ok=True)
    damaged.write_bytes(b"\xc1")
    try:
        error = master.data("kvmcluster.balance", "scheduled=true", code=1)["error"]
        assert "it is not known whether another run is at work" in error
    finally:
        damaged.unlink()
    cache = balances.BalanceMemories(master.opts, "test")._cache
    cache.store(f"{holds.BANK}/test", "beta", bootid.process(os.getpid()))
    try:
        assert scheduled(master)["scheduled"]["why"] == "beta is in maintenance on this master"
    finally:
        cache.flush(f"{holds.BANK}/test", "beta")
    data = scheduled(master)
    assert data["ok"] and data["test"] and data["plan"] == []
    assert "no response from" in data["scheduled"]["why"], "these nodes have no libvirt"
    text = master.text("kvmcluster.balance", "scheduled=true")
    assert text.startswith("NOT DUE  mode apply: no response from")


def test_what_is_remembered_outlives_the_process_and_what_is_damaged_is_not_nothing(master):
    memories = balances.BalanceMemories(master.opts, "test")
    assert memories.load() == Memory()
    memories.save(Memory(1.0, 2.0, (3.0, 4.0)))
    assert balances.BalanceMemories(master.opts, "test").load() == Memory(1.0, 2.0, (3.0, 4.0))
    memories._cache.store(balances.BANK, "test", {"moves": "none"})
    with pytest.raises(WorldError, match=r"cannot be counted: .*salt-run cache\.flush"):
        memories.load()
    (Path(master.opts["cachedir"]) / balances.BANK / "test.p").write_bytes(b"")
    with pytest.raises(WorldError, match=r"cannot be counted: "):
        memories.load()
    memories._cache.flush(balances.BANK, "test")
