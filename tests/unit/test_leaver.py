"""Guests that leave a node which shuts down: which are moved, and when that ends."""

from types import SimpleNamespace

import pytest

from saltext_kvmcluster.core.cordons import LEAVING, Cordon
from saltext_kvmcluster.core.drain.placement import Placement, Step
from saltext_kvmcluster.core.errors import WorldError
from saltext_kvmcluster.core.facts.nodefacts import GuestFacts, NodeFacts
from saltext_kvmcluster.core.migration.migration import MOVED, NOT_MOVED, Move
from saltext_kvmcluster.core.verdicts import INCOMING, OUTGOING, Observation, Sighting
from saltext_kvmcluster.engine import leaver
from saltext_kvmcluster.engine.leaver import Leaver

CORDON = Cordon("2026-11-23T12:00:00+00:00", LEAVING)


class Node:
    """A node with guests: the job of each, by name. ``later``: what happens at a second."""

    def __init__(self, *guests, frozen=(), broken=(), **jobs):
        self.jobs = {**dict.fromkeys(guests, ""), **jobs}
        self.frozen, self.broken, self.later = frozen, broken, {}
        self.now, self.plans, self.lasts = 0.0, 0, 10.0

    def monotonic(self):
        return self.now

    def wait(self, call, seconds):
        self.pass_by(seconds)

    def pass_by(self, seconds):
        self.now += seconds
        for at in [at for at in self.later if at <= self.now]:
            self.later.pop(at)(self)

    def facts(self):
        guests = (
            GuestFacts("node1", Observation(Sighting.RUNNING, name, name, job=job))
            for name, job in self.jobs.items()
        )
        return NodeFacts("node1", guests=tuple(guests))

    def plan(self, world, ready, here, avoid=()):
        self.plans += 1
        able = [name for name, job in self.jobs.items() if not job and name not in self.frozen]
        stuck = dict.fromkeys(set(self.jobs).difference(able), "it is busy, or frozen")
        steps = (Step(Move(name, name, "node1", "node2"), "") for name in able)
        return Placement(tuple(steps), stuck)

    def migrate(self, move, seconds):
        self.pass_by(min(self.lasts, seconds))
        if move.guest in self.broken:
            raise WorldError("no route")
        if seconds < self.lasts:
            return {"result": NOT_MOVED, "reason": "it took too long"}
        del self.jobs[move.guest]
        return {"result": MOVED, "owner": "node2", "reason": ""}


@pytest.fixture
def leave(monkeypatch):
    def left(node, seconds=600.0, theirs=()):
        monkeypatch.setattr(leaver.placement, "drain", node.plan)
        limits = SimpleNamespace(max_outgoing=1, max_incoming=1)
        cluster = SimpleNamespace(name="lab", migration=limits)
        managers = SimpleNamespace(of=lambda guest, at: SimpleNamespace(managed=guest in theirs))
        place = lambda: (SimpleNamespace(managers=managers), None)  # noqa: E731
        found = Leaver(cluster, "node1", node, place, node.facts, node.migrate)
        return found.leave(CORDON, seconds).to_dict()

    return left


def moved(done):
    return [row["guest"] for row in done["moved"]]


def test_what_pacemaker_manages_is_left_to_it(leave):
    done = leave(Node("web1", "web2"), theirs=["web2"])
    assert moved(done) == ["web1"] and "Pacemaker manages it" in done["stuck"]["web2"]


def test_all_leave_one_after_another(leave):
    done = leave(Node("web1", "web2"))
    assert (done["ok"], done["left"], moved(done)) == (True, [], ["web1", "web2"])
    assert done["cordoned"]["reason"] == LEAVING


def test_a_guest_that_arrives_meanwhile_leaves_as_well(leave):
    """Its migration to this node was under way when the node was cordoned."""
    node = Node("web1", coming=INCOMING)
    node.later = {30.0: lambda node: node.jobs.update(coming="")}
    done = leave(node)
    assert (done["ok"], moved(done)) == (True, ["web1", "coming"])


def test_a_guest_that_others_did_not_move_away_is_moved(leave):
    node = Node(going=OUTGOING)
    node.later = {30.0: lambda node: node.jobs.update(going="")}
    assert moved(leave(node)) == ["going"]
    node = Node(going=OUTGOING)
    node.later = {30.0: lambda node: node.jobs.clear()}
    done = leave(node)
    assert (done["ok"], done["moved"]) == (True, [])


def test_what_can_go_nowhere_stays_and_is_planned_once_more_at_most(leave):
    node = Node("web1", "cd1", frozen=("cd1",))
    done = leave(node)
    assert (done["ok"], done["left"], moved(done)) == (False, ["cd1"], ["web1"])
    assert node.plans == 2


def test_one_that_fails_is_not_tried_for_ever(leave):
    done = leave(Node("web1", "web2", broken=("web1",)))
    assert (done["left"], moved(done)) == (["web1"], ["web2"])
    assert len(done["failed"]) == 3


def test_it_ends_when_the_time_is_over(leave):
    node = Node("web1", "web2", going=OUTGOING)
    done = leave(node, 15.0)
    assert not done["ok"] and moved(done) == ["web1"] and node.now < 20
    node = Node("web1")
    node.jobs["coming"] = INCOMING
    assert leave(node, 15.0)["left"] == ["coming"] and node.now < 20
