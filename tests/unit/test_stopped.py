"""Guests that are to be started again, as the master keeps them."""

import pytest
import salt.cache
from salt.exceptions import SaltCacheError

from saltext_kvmcluster.core.errors import WorldError
from saltext_kvmcluster.master.stopped import StoppedGuests


class Cache:
    def __init__(self):
        self.kept, self.fails = {}, False

    def fetch(self, bank, key):
        if self.fails:
            raise SaltCacheError("no such disk")
        return self.kept.get((bank, key), {})

    def store(self, bank, key, data):
        self.kept[bank, key] = data

    def flush(self, bank, key):
        self.kept.pop((bank, key), None)


@pytest.fixture
def cache(monkeypatch):
    found = Cache()
    monkeypatch.setattr(salt.cache, "factory", lambda opts: found)
    return found


def test_guests_are_kept_by_cluster_and_node_until_they_run(cache):
    guests, others = StoppedGuests({}, "lab"), StoppedGuests({}, "other")
    assert guests.stopped("node1") == []
    for guest in ("cd2", "cd1", "cd2"):
        guests.add("node1", guest)
    assert guests.stopped("node1") == ["cd2", "cd1"]
    assert guests.stopped("node2") == others.stopped("node1") == []
    guests.remove("node1", "cd2")
    assert guests.stopped("node1") == ["cd1"]
    guests.remove("node1", "cd1")
    guests.remove("node1", "cd1")
    assert cache.kept == {}


@pytest.mark.parametrize("odd", [None, [], "x", 7, ["cd1"]])
def test_what_cannot_be_read_is_not_nothing(cache, odd):
    guests = StoppedGuests({}, "lab")
    cache.kept["kvmcluster/stopped/lab", "node1"] = odd
    for use in (
        guests.stopped,
        lambda node: guests.add(node, "x"),
        lambda node: guests.remove(node, "x"),
    ):
        with pytest.raises(WorldError, match=r"salt-run cache\.flush kvmcluster/stopped/lab node1"):
            use("node1")
    assert cache.kept["kvmcluster/stopped/lab", "node1"] == odd


def test_a_cache_that_fails_is_told(cache):
    guests = StoppedGuests({}, "lab")
    cache.fails = True
    with pytest.raises(WorldError, match="guests of node1 that are shut down fails: no such disk"):
        guests.stopped("node1")
