"""One run of maintenance at a time on each node."""

import pytest

from saltext_kvmcluster.core.errors import InputError
from saltext_kvmcluster.host import bootid
from saltext_kvmcluster.master import holds


@pytest.fixture
def cache(monkeypatch):
    """Salt's cache; ``alive``: the processes that run, ``own``: the one that asks."""
    kept, state = {}, {"own": "1:10", "alive": {"1:10", "2:20"}}
    monkeypatch.setattr(bootid, "process", lambda pid: state["own"])
    monkeypatch.setattr(bootid, "is_alive", lambda known: known in state["alive"])
    functions = {
        "cache.fetch": lambda bank, key: kept.get((bank, key), {}),
        "cache.store": lambda bank, key, data: kept.__setitem__((bank, key), data),
        "cache.flush": lambda bank, key: kept.pop((bank, key), None),
    }
    return functions, state, kept


def test_a_node_is_held_by_one_process_until_that_ends(cache):
    functions, state, kept = cache
    holds.refuse_second(functions, "lab", "node1")
    holds.hold(functions, "lab", "node1")
    holds.hold(functions, "lab", "node1")
    state["own"] = "2:20"
    holds.hold(functions, "lab", "node2")
    for refused in (holds.hold, holds.refuse_second):
        with pytest.raises(InputError, match="another run on this master, in process 1; wait"):
            refused(functions, "lab", "node1")
    holds.release(functions, "lab", "node1")
    assert kept["kvmcluster/maintained/lab", "node1"] == "1:10", "it is not its own"
    state["alive"].remove("1:10")
    holds.hold(functions, "lab", "node1")
    holds.release(functions, "lab", "node1")
    assert list(kept) == [("kvmcluster/maintained/lab", "node2")]


def test_of_two_that_begin_at_once_one_is_refused(cache):
    functions, _, _ = cache
    store = functions["cache.store"]

    def late(bank, key, data):
        store(bank, key, data)
        store(bank, key, "2:20")

    functions["cache.store"] = late
    with pytest.raises(InputError, match="in process 2"):
        holds.hold(functions, "lab", "node1")


@pytest.mark.parametrize("odd", [{}, None, [], "x", 7, "1:99"])
def test_what_cannot_be_read_holds_nothing(cache, odd):
    functions, _, kept = cache
    kept["kvmcluster/maintained/lab", "node1"] = odd
    holds.refuse_second(functions, "lab", "node1")
