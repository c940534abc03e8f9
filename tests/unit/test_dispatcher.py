"""Lists of moves that are with their nodes: none is forgotten that may still go on."""

from datetime import datetime, timezone
from types import SimpleNamespace

import pytest
from batches import batch, cluster, move, plan

from saltext_kvmcluster.core.drain import departures
from saltext_kvmcluster.core.ownership import locations
from saltext_kvmcluster.engine import dispatcher, drainer
from saltext_kvmcluster.engine.dispatcher import LOST, Dispatcher

ROWS = [{"guest": "a", "state": departures.WAITS}]


class Nodes:
    """A node with one list; ``silent``: it does not answer, but a peer tells where its guests are.

    ``stops`` counts how often it was told to stop.
    """

    def __init__(self):
        self.clock = SimpleNamespace(monotonic=lambda: self.time)
        self.time, self.silent, self.stops, self.known = 0.0, False, 0, True
        self.state = departures.WAITS

    def dispatch(self, source, moves, while_cordoned):
        return "77"

    def hints(self):
        return []

    def returned(self, job, node):
        return None

    def departed(self, node, job, stop=False):
        self.stops += stop and not self.silent
        flags = {"known": self.known, "open": self.known, "stopped": stop or not self.known}
        rows = [{"guest": "a", "state": self.state}] if self.known else []
        told = {"kind": departures.KIND, "id": job, **flags, "moves": rows}
        return None if self.silent else told

    def settled(self, one):
        found = {"owner": one.source, "reason": "it runs there"}
        return locations.settled(one, found)


@pytest.fixture
def handed_over():
    nodes, moves = Nodes(), batch(move("a"))
    made = Dispatcher(nodes, moves)
    made.dispatch()
    return nodes, moves, made


def test_a_node_that_does_not_answer_has_not_stopped(handed_over):
    nodes, moves, made = handed_over
    nodes.silent = True
    assert made.stop() == {"77": "node1"}
    nodes.silent = False
    assert made.stop() == {} and moves.in_flight == {}, "what was not begun is taken back"


def test_a_list_that_was_given_up_is_stopped_once_its_node_answers(handed_over):
    nodes, moves, made = handed_over
    nodes.silent, nodes.time = True, LOST + dispatcher.QUIET
    made.gather()
    assert moves.in_flight == {} and "may still do so" in moves.given_up["a"]
    assert made.stop() == {"77": "node1"}
    nodes.silent = False
    assert made.stop() == {} and nodes.stops == 1
    assert made.stop() == {} and nodes.stops == 1, "it is forgotten"


def test_a_list_that_never_arrived_is_stopped_once(handed_over):
    nodes, moves, made = handed_over
    nodes.known = False
    assert made.stop() == {} and made.stop() == {} and nodes.stops == 1
    assert [*moves.in_flight] == ["a"], "all nodes are asked for it, before it counts as not moved"


def test_a_text_refuses_only_what_its_node_does_not_know(handed_over):
    """As where the list arrived twice, and the second one could not have the lock."""
    nodes, moves, made = handed_over
    nodes.returned = lambda job, node: "ERROR: another run of kvmcluster holds the lock"
    nodes.state = departures.BEGUN
    made.gather()
    made.gather()
    assert [*moves.in_flight] == ["a"] and not moves.ended and nodes.stops == 1
    nodes.silent, nodes.time = True, dispatcher.QUIET
    made.gather()
    assert [*moves.in_flight] == ["a"] and not moves.ended
    nodes.silent, nodes.known, nodes.time = False, False, 2 * dispatcher.QUIET
    made.gather()
    assert [row["reason"] for row in moves.failed] == ["another run of kvmcluster holds the lock"]


class GivesBack(Nodes):
    """A node that begins nothing of any list, as one that cannot write it down."""

    def __init__(self):
        super().__init__()
        self.cluster, self.lists = cluster(), 0
        self.clock.now = lambda: datetime(2030, 1, 1, tzinfo=timezone.utc)
        self.clock.wait = lambda call, seconds: None

    def dispatch(self, source, moves, while_cordoned):
        self.lists += 1
        assert self.lists < 100, "it goes on for ever"
        return "77"

    def returned(self, job, node):
        flags = {"known": True, "open": False, "stopped": True}
        return {"kind": departures.KIND, "id": job, **flags, "moves": ROWS}


def test_a_node_that_begins_nothing_is_not_asked_for_ever():
    nodes = GivesBack()
    console = SimpleNamespace(interrupted=lambda: False, plan=print, progress=print)
    done = drainer.carried_out(nodes, console, lambda batch: plan(move("a")))
    assert not done.ok and "nothing was begun" in done.detail
    assert nodes.lists == drainer.IN_VAIN + 1
