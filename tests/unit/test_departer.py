"""Moves that a node carries out side by side: one that hangs or breaks takes no other with it."""

import contextlib
import threading
from types import SimpleNamespace

import pytest
from batches import cluster, move

from saltext_kvmcluster.core.drain.departures import ENDED, WAITS, Departures, Wishes
from saltext_kvmcluster.core.errors import Unwanted, WorldError
from saltext_kvmcluster.core.migration.migration import MOVED, NOT_MOVED
from saltext_kvmcluster.engine import departer, migrator
from saltext_kvmcluster.host import calls


class Store:
    """Departures that are written down in memory, one access at a time."""

    def __init__(self, *names):
        self.departures = Departures(cluster(), [move(name) for name in names])
        self.lock = threading.Lock()

    def next(self):
        with self.lock:
            return self.departures.next(Wishes(), None)

    def is_more(self):
        with self.lock:
            return self.departures.is_more

    def end(self, one, result):
        with self.lock:
            self.departures.end(one, result)

    def is_stopped(self):
        with self.lock:
            return self.departures.is_stopped(Wishes(), None)

    def put_back(self, one):
        with self.lock:
            self.departures.put_back(one)

    def stop(self):
        with self.lock:
            self.departures.stop()

    def rows(self):
        with self.lock:
            return {row["guest"]: row for row in self.departures.to_dict()["moves"]}

    def states(self):
        return {guest: row["state"] for guest, row in self.rows().items()}


@pytest.fixture
def departed(monkeypatch):
    """Carry out a list by threads; ``acts``: what becomes of a guest's migration."""
    opened = []

    def depart(store, **acts):
        def migrate(env, guest, destination, options, is_unwanted):
            acts.get(guest, lambda: None)()
            data = {"guest": guest, "uuid": f"uuid of {guest}", "result": MOVED, "reason": ""}
            return SimpleNamespace(record=lambda: {**data, "owner": destination})

        @contextlib.contextmanager
        def opening():
            opened.append(threading.get_ident())
            yield SimpleNamespace(cluster=cluster(), clock=None)

        monkeypatch.setattr(migrator, "migrate", migrate)
        departer.depart(store, opening, 2, calls.side_by_side)
        return opened

    return depart


def test_each_worker_has_an_environment_for_all_its_moves(departed):
    store = Store(*"abcdef")
    assert len(departed(store)) == 2
    assert set(store.states().values()) == {ENDED}


def test_one_that_hangs_holds_up_itself_alone(departed):
    store, hangs, rest = Store(*"abcd"), threading.Event(), threading.Event()
    running = threading.Thread(
        target=departed, args=(store,), kwargs={"a": hangs.wait, "d": rest.set}, daemon=True
    )
    running.start()
    assert rest.wait(20), "the others have all begun"
    running.join(0.2)
    assert running.is_alive() and store.states()["b"] == ENDED == store.states()["c"]
    hangs.set()
    running.join(20)
    assert set(store.states().values()) == {ENDED}


def test_a_refusal_is_a_result_and_stops_the_rest(departed):
    store = Store(*"ab")

    def refuse():
        raise WorldError("no room")

    departed(store, a=refuse)
    assert store.rows()["a"]["result"]["result"] == NOT_MOVED
    assert store.rows()["a"]["result"]["reason"] == "no room"
    assert store.departures.to_dict()["stopped"]


def test_what_waits_for_a_slot_when_the_list_stops_is_not_begun(departed):
    store, waits = Store(*"abc"), threading.Event()

    def refuse():
        assert waits.wait(20)
        raise WorldError("no room")

    def wait():
        waits.set()
        while not store.is_stopped():
            pass
        raise Unwanted("it was stopped")

    departed(store, a=refuse, b=wait)
    assert store.states() == {"a": ENDED, "b": WAITS, "c": WAITS}
    assert store.next() is None


def test_a_worker_that_breaks_leaves_its_move_open_and_begins_no_other(departed):
    store, other = Store(*"abcd"), threading.Event()

    def breaks():
        assert other.wait(20)
        raise KeyError("a bug")

    def slow():
        other.set()
        while not store.departures.to_dict()["stopped"]:
            pass

    with pytest.raises(KeyError):
        departed(store, a=breaks, b=slow)
    assert store.states() == {"a": "begun", "b": ENDED, "c": WAITS, "d": WAITS}


def test_who_cannot_write_it_down_begins_nothing(departed):
    store = Store(*"ab")

    def fails():
        raise WorldError("/run is full")

    store.next = fails
    departed(store)
    assert set(store.states().values()) == {WAITS} and store.departures.to_dict()["stopped"]
