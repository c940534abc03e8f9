"""Balance by schedule: when it is due, what it remembers, what is worth it, and what hinders it."""

from dataclasses import asdict, replace
from datetime import datetime, timedelta, timezone
from types import SimpleNamespace

import pacemakers
import pytest
import worlds
from test_groups import grouped
from test_placement import one

from saltext_kvmcluster.core.drain import placement, scheduled
from saltext_kvmcluster.core.drain.scheduled import Memory
from saltext_kvmcluster.core.errors import InputError
from saltext_kvmcluster.core.facts.nodefacts import silent
from saltext_kvmcluster.core.output import tables
from saltext_kvmcluster.core.pillar import balancing
from saltext_kvmcluster.core.readiness import examination
from saltext_kvmcluster.core.readiness.checks.base import World
from saltext_kvmcluster.core.verdicts import OUTGOING
from saltext_kvmcluster.engine import balancer, drainer

APPLY = balancing.parse({"mode": "apply", "lasts": 600, "hourly": 2}, "b")
NIGHT = balancing.parse({"mode": "apply", "days": ["mon"], "hours": ["22:00-06:00"]}, "b")


def at(text):
    return datetime.fromisoformat(text)


@pytest.mark.parametrize(
    ("when", "allowed"),
    [
        ("2026-11-30T21:59", False),  # a Monday
        ("2026-11-30T22:00", True),
        ("2026-12-01T05:59", True),
        ("2026-12-01T06:00", False),
        ("2026-12-01T23:00", False),
        ("2026-11-30T03:00", False),
    ],
)
def test_a_night_belongs_to_the_day_on_which_it_begins(when, allowed):
    assert NIGHT.allows(at(when)) is allowed


@pytest.mark.parametrize(
    ("given", "when", "allowed"),
    [
        ({}, "2026-11-30T00:00", True),
        ({"days": ["sun"]}, "2026-11-29T23:59", True),
        ({"days": ["sun"]}, "2026-11-30T00:00", False),
        ({"hours": ["12:00-24:00"]}, "2026-11-30T23:59", True),
        ({"hours": ["12:00-24:00"]}, "2026-11-30T00:00", False),
        ({"hours": ["00:00-24:00"]}, "2026-11-30T10:00", True),
    ],
)
def test_times_of_day(given, when, allowed):
    assert balancing.parse(given, "b").allows(at(when)) is allowed


def test_it_has_to_last_by_every_look_in_between():
    memory = Memory()
    seen = []
    for now, imbalance in ((0, 0.5), (300, 0.5), (600, 0.5), (900, 0.2), (1200, 0.5), (1700, 0.5)):
        look, memory = scheduled.look(APPLY, memory, now, imbalance, 0)
        seen.append(look.due)
    assert seen == [False, False, True, False, False, False]
    assert "for 500 s so far, 600 s are waited for" in look.why


def test_looks_that_are_far_apart_are_not_one_time():
    _, memory = scheduled.look(APPLY, Memory(), 0.0, 0.5, 0)
    look, memory = scheduled.look(APPLY, memory, 3601.0, 0.5, 0)
    assert not look.due and memory.since == 3601.0
    look, memory = scheduled.look(APPLY, memory, 1000.0, 0.5, 0)
    assert not look.due and memory.since == 1000.0, "the clock was set back"


def test_broken_groups_are_due_at_any_load():
    _, memory = scheduled.look(APPLY, Memory(), 0.0, 0.0, 1)
    assert scheduled.look(APPLY, memory, 600.0, 0.0, 1)[0].due
    assert not scheduled.look(APPLY, memory, 600.0, 0.0, 0)[0].due


def test_moves_of_an_hour_are_counted_and_survive_what_is_kept():
    memory = scheduled.memory_of(Memory(0.0, 600.0).with_moves(600.0, 2).to_dict())
    assert memory == Memory(0.0, 600.0, (600.0, 600.0))
    look, memory = scheduled.look(APPLY, memory, 1200.0, 0.5, 0)
    assert not look.due and "2 moves within the last hour, 2 are allowed" in look.why
    memory = replace(memory, last=4000.0)
    assert scheduled.look(APPLY, memory, 4200.0, 0.5, 0)[0].due
    proposes = replace(APPLY, mode="propose")
    assert scheduled.look(proposes, Memory(0.0, 600.0, (600.0,) * 3), 1200.0, 0.5, 0)[0].due


def test_nothing_kept_is_no_memory_and_what_cannot_be_read_is_not_nothing():
    assert scheduled.memory_of({}) == Memory()
    for raw in (None, ["x"], {"since": None, "last": 1.0, "moves": 3}, {"moves": []}):
        with pytest.raises(InputError):
            scheduled.memory_of(raw)


def test_why_nothing_is_even_looked_at():
    now = at("2026-11-30T10:00")
    assert scheduled.closed(balancing.Balance(), now, "") == "kvmcluster:balance:mode is off"
    assert scheduled.closed(APPLY, now, "a drain") == "a drain"
    assert "Mon 10:00, outside of its days and hours" in scheduled.closed(NIGHT, now, "")
    assert scheduled.closed(APPLY, now, "") == ""


def test_what_hinders_it():
    good = grouped([8, 8], one("web", 1))
    assert scheduled.hindrance(good) == ""
    dead = World(good.cluster, {**good.nodes, "node2": silent("node2", "timed out")})
    assert scheduled.hindrance(dead).startswith("no response from node2")
    busy = grouped([8, 8], one("web", 1, job=OUTGOING))
    assert scheduled.hindrance(busy) == "web is migrating, or has another job"
    view = pacemakers.view()
    status = replace(
        view.status,
        resources={name: replace(s, moving=True) for name, s in view.status.resources.items()},
    )
    acting = worlds.node("node1", pacemaker=replace(view, status=status))
    assert "Pacemaker acts on" in scheduled.hindrance(worlds.world(acting))


def test_moves_that_take_too_little_away_are_left_out():
    found = grouped([2, 12, 14], one("a", 4), one("b", 3), one("c", 1))
    plan = placement.balance(found, examination.examine(found), 5)
    assert len(plan.steps) > 1
    assert scheduled.worthwhile(found, plan, replace(APPLY, improvement=1.0)).steps == ()
    assert scheduled.worthwhile(found, plan, replace(APPLY, threshold=5.0)).steps == ()
    some = scheduled.worthwhile(found, plan, replace(APPLY, threshold=0.01, improvement=0.3))
    assert 0 < len(some.steps) < len(plan.steps) or some.steps == plan.steps


class Clock:
    def __init__(self):
        self.time = datetime(2026, 11, 30, 3, tzinfo=timezone.utc)

    def now(self):
        return self.time


class Fleet:
    """A cluster that is as told; it counts how often it was asked."""

    def __init__(self, found, policy):
        self.cluster = replace(found.cluster, balance=policy)
        self.world, self.clock, self.asked = World(self.cluster, found.nodes), Clock(), 0

    def placeable(self):
        self.asked += 1
        return self.world, examination.examine(self.world)


class Kept:
    def __init__(self):
        self.memory, self.saved = Memory(), []

    def load(self):
        return self.memory

    def save(self, memory):
        self.memory = memory
        self.saved.append(memory)


@pytest.fixture
def carried(monkeypatch):
    """The plans that were carried out: all moves succeed."""
    plans = []

    def carried_out(fleet, console, plan):
        found = plan(SimpleNamespace(ended=[]))
        assert plan(SimpleNamespace(ended=[1])).steps == (), "after one that failed nothing follows"
        plans.append(found)
        rows = [{**asdict(step.move), "elapsed": 1.0, "downtime_ms": 1} for step in found.steps]
        done = drainer.report.proposed("balance", fleet.cluster, found)
        return replace(done, test=False, moved=rows)

    monkeypatch.setattr(balancer.drainer, "carried_out", carried_out)
    return plans


def looked(fleet, kept, later=0, held=""):
    fleet.clock.time += timedelta(seconds=later)
    return balancer.scheduled_balance(fleet, None, kept, held).to_dict()


BROKEN = grouped([8, 8, 8], one("db", 1), one("web", 1, "node2"), together=[["db", "web"]])


def test_it_moves_once_it_has_lasted_and_counts_before_it_moves(carried):
    fleet, kept = Fleet(BROKEN, APPLY), Kept()
    first = looked(fleet, kept)
    assert not first["scheduled"]["due"] and first["plan"] == [] and carried == []
    assert tables.render(first).startswith("NOT DUE  mode apply: imbalance 0.")
    done = looked(fleet, kept, 601)
    assert done["scheduled"]["due"] and not done["test"] and len(carried) == 1
    now = fleet.clock.time.timestamp()
    assert kept.saved[-2].moves == kept.saved[-1].moves == (now,)
    assert tables.render(done).startswith("DUE  mode apply: ")


def test_what_took_long_counts_from_when_it_ended(carried, monkeypatch):
    fleet, kept = Fleet(BROKEN, replace(APPLY, lasts=0)), Kept()
    carried_out = balancer.drainer.carried_out

    def slowly(*arguments):
        done = carried_out(*arguments)
        fleet.clock.time += timedelta(seconds=3500)
        return done

    monkeypatch.setattr(balancer.drainer, "carried_out", slowly)
    assert looked(fleet, kept)["scheduled"]["due"]
    assert len(kept.memory.recent(fleet.clock.time.timestamp() + 600)) == 1


def test_of_a_node_whose_memory_is_not_known_no_imbalance_is_made(carried):
    fleet, kept = Fleet(BROKEN, replace(APPLY, lasts=0)), Kept()
    for change in ({"memory_kib": None}, {"free_kib": None}):
        nodes = fleet.world.nodes
        blind = {**nodes, "node3": replace(nodes["node3"], **change)}
        fleet.world = World(fleet.cluster, blind)
        found = looked(fleet, kept)["scheduled"]
        assert found["why"].startswith("the memory of node3 is not known")
        assert found["imbalance"] is None and not found["due"]
        fleet.world = World(fleet.cluster, nodes)


def test_no_more_moves_than_an_hour_has_left(carried):
    fleet, kept = Fleet(BROKEN, APPLY), Kept()
    looked(fleet, kept)
    kept.memory = kept.memory.with_moves(fleet.clock.time.timestamp(), 2)
    assert "2 are allowed" in looked(fleet, kept, 700)["scheduled"]["why"] and carried == []


def test_a_proposal_moves_nothing(carried):
    fleet, kept = Fleet(BROKEN, replace(APPLY, mode="propose", lasts=0)), Kept()
    found = looked(fleet, kept)
    assert found["scheduled"]["due"] and found["test"] and len(found["plan"]) == 1
    assert carried == [] and kept.memory.moves == ()


def test_a_closed_one_asks_nobody(carried):
    for policy, held in ((balancing.Balance(), ""), (APPLY, "a drain is at work")):
        fleet, kept = Fleet(BROKEN, policy), Kept()
        assert not looked(fleet, kept, held=held)["scheduled"]["due"]
        assert fleet.asked == 0 and kept.saved == []


def test_a_silent_node_stops_it_and_leaves_what_was_seen(carried):
    fleet, kept = Fleet(BROKEN, APPLY), Kept()
    looked(fleet, kept)
    nodes = fleet.world.nodes
    fleet.world = World(fleet.cluster, {**nodes, "node3": silent("node3", "timed out")})
    found = looked(fleet, kept, 700)
    assert "no response from node3" in found["scheduled"]["why"] and carried == []
    fleet.world = World(fleet.cluster, nodes)
    assert looked(fleet, kept, 100)["scheduled"]["due"]
