"""What a run publishes of itself, and what another process reads of it."""

from dataclasses import replace

import pytest
from batches import batch, begun, move, result
from salt.exceptions import SaltCacheError

from saltext_kvmcluster.core.drain import progress
from saltext_kvmcluster.host import bootid
from saltext_kvmcluster.master import runs

BEGAN = "2026-11-30T01:00:00+00:00"


class Cache:
    """Salt's cache; ``writes`` counts, ``is_full``: nothing more can be written."""

    def __init__(self):
        self.kept, self.writes, self.is_full = {}, 0, False

    def store(self, bank, key, data):
        if self.is_full:
            raise SaltCacheError("no space left on device")
        self.kept[bank, key] = data
        self.writes += 1

    def fetch(self, bank, key):
        return self.kept.get((bank, key), {})

    def flush(self, bank, key):
        self.kept.pop((bank, key), None)

    def list(self, bank):
        return [key for known, key in self.kept if known == bank]


@pytest.fixture
def master(monkeypatch):
    """A master; ``own``: the process that asks, ``alive``: those that run, ``now``: the time."""
    cache, state = Cache(), {"own": "1:10", "alive": {"1:10", "2:20"}, "now": 1000.0}
    monkeypatch.setattr(bootid, "process", lambda pid: state["own"])
    monkeypatch.setattr(bootid, "is_alive", lambda known: known in state["alive"])
    monkeypatch.setattr(runs.salt.cache, "factory", lambda opts: cache)
    monkeypatch.setattr(runs.time, "time", lambda: state["now"])
    return cache, state


def test_a_run_is_there_from_its_begin_to_its_end(master):
    cache, _ = master
    assert runs.published({}, "lab") == []
    run = runs.Publisher({}, "lab", "drain", "node1")
    run.show("web1 is shut down")
    (found,) = runs.published({}, "lab")
    assert (found.name, found.line, found.process) == (
        "drain node1",
        "web1 is shut down",
        "1:10",
    )
    assert runs.published({}, "other") == []
    run.close()
    assert cache.kept == {}


def test_progress_is_written_where_it_changes_but_no_more_than_each_second(master):
    cache, state = master
    made = batch(*(move(name) for name in "abcd"))
    run = runs.Publisher({}, "lab", "drain", "node1")
    first = progress.of(made, BEGAN, 0.0)
    run.progress(first)
    assert cache.writes == 2, "what comes first is shown at once"
    begun(made)
    made.end("a", result())
    for wait, writes in ((0.5, 2), (0.6, 3), (5.0, 3), (5.0, 4)):
        state["now"] += wait
        run.progress(progress.of(made, BEGAN, state["now"]))
        assert cache.writes == writes
    assert runs.published({}, "lab")[0].progress.moved == 1
    run.show("waiting for migrations that others started: x")
    state["now"] += 1.0
    run.progress(replace(first, elapsed=9.0))
    assert runs.published({}, "lab")[0].line == "", "it goes on, and says so"


def test_what_a_killed_run_left_is_shown_until_the_same_begins_again(master):
    _, state = master
    runs.Publisher({}, "lab", "drain", "node1")
    state["alive"].remove("1:10")
    state["own"] = "2:20"
    runs.Publisher({}, "lab", "drain", "node2")
    assert [run.node for run in runs.published({}, "lab")] == ["node1", "node2"]
    state["own"] = "3:30"
    runs.Publisher({}, "lab", "drain", "node1")
    assert sorted(run.process for run in runs.published({}, "lab")) == ["2:20", "3:30"]


def test_a_full_disk_stops_no_run_and_is_told_once(master, monkeypatch):
    cache, _ = master
    warnings = []
    monkeypatch.setattr(runs.log, "warning", lambda *words: warnings.append(words))
    cache.is_full = True
    run = runs.Publisher({}, "lab", "drain", "node1")
    run.show("a line")
    run.progress(progress.of(batch(move("a")), BEGAN, 1.0))
    run.close()
    assert runs.published({}, "lab") == [] and len(warnings) == 1


@pytest.mark.parametrize("odd", [None, {}, [], "x", {"command": "drain"}])
def test_what_cannot_be_read_is_no_run(master, odd):
    cache, _ = master
    cache.kept["kvmcluster/runs/lab", "9"] = odd
    assert runs.published({}, "lab") == []
