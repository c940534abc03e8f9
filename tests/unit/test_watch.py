"""A cluster watched over Salt: nobody is waited for, and a master that is lost is told."""

import threading
from datetime import datetime, timedelta, timezone

import pytest
import worlds
from test_watching import AT, NODES, answer, ended, row

from saltext_kvmcluster.core.errors import WorldError
from saltext_kvmcluster.master import rollings, runs, watch
from saltext_kvmcluster.master.looks import EVERY
from saltext_kvmcluster.master.watch import LOST, Watch


class Clock:
    def __init__(self):
        self.seconds = 0.0

    def monotonic(self):
        return self.seconds

    def now(self):
        return AT + timedelta(seconds=self.seconds)


class Nodes:
    """Nodes that answer by what is so when they are asked, and a second later, or as ``late``.

    ``silent`` do not answer; while ``master`` is False nothing can be sent.
    """

    def __init__(self, **jobs):
        self.cluster, self.clock, self.opts = worlds.cluster(NODES), Clock(), {}
        self.all, self.silent, self.master, self.late = list(NODES), set(), True, {}
        self.jobs, self.history, self.sent, self.replies = jobs, {}, [], []
        self.dead, self.since = [], None

    def send(self, nodes, function, *arguments, **named):
        if not self.master:
            self.dead.append("dead")
            self.since = self.clock.seconds if self.since is None else self.since
            return "dead"
        self.since = None
        self.sent.append((self.clock.seconds, function, list(nodes)))
        there = [node for node in nodes if node not in self.silent]
        self.replies.append({node: self.reply(function, node) for node in there})
        return str(len(self.sent) - 1)

    def refused(self):
        found, self.dead = self.dead, []
        return found

    def is_free(self):
        return True

    def lost(self):
        return None if self.since is None else (self.since, "the master does not take jobs")

    def returns(self, job):
        if job == "dead":
            return {}
        at, function, _ = self.sent[int(job)]
        late = self.late.get(function, 1.0)
        return {} if self.clock.seconds - at < late else self.replies[int(job)]

    def reply(self, function, node):
        if function == "kvmcluster.job":
            return answer(*self.jobs.get(node, ()))
        if function == "kvmcluster.history":
            return {"history": list(self.history.get(node, []))}
        return "no facts here"

    def asked(self, function):
        return [(at, nodes) for at, name, nodes in self.sent if name == function]


class Interrupted(threading.Event):
    """Ctrl-C after so many seconds of a clock; ``then`` is what happens at which second."""

    def __init__(self, clock, seconds, **then):
        super().__init__()
        self.clock, self.seconds = clock, seconds
        self.then = {}

    def wait(self, timeout=None):
        self.clock.seconds += timeout
        for at in [at for at in self.then if at <= self.clock.seconds]:
            self.then.pop(at)()
        if self.clock.seconds >= self.seconds:
            self.set()


class Display:
    def __init__(self):
        self.shown = []

    def show(self, data):
        self.shown.append(data)


@pytest.fixture(autouse=True)
def nothing_published(monkeypatch):
    monkeypatch.setattr(runs, "published", lambda opts, cluster: [])
    monkeypatch.setattr(rollings, "observed", lambda cluster, functions: None)


def watched(nodes, seconds=30.0, limit=None, once=False, **then):
    shown, interrupted = Display(), Interrupted(nodes.clock, seconds)
    interrupted.then = {float(at[1:]): what for at, what in then.items()}
    last = Watch(nodes, {}, 3.0, nodes).until(shown, interrupted, limit, once)
    return last, shown.shown


def test_all_nodes_are_asked_by_one_small_job_each_interval():
    nodes = Nodes()
    last, _ = watched(nodes, 31.0)
    asked = nodes.asked("kvmcluster.job")
    assert [at for at, _ in asked] == [3.0 * number for number in range(11)]
    assert all(one == [*NODES] for _, one in asked)
    assert [at for at, _ in nodes.asked("kvmcluster.facts")] == [0.0, EVERY]
    assert last["ok"] and "silent" not in {one["state"] for one in last["nodes"].values()}


def test_a_silent_node_is_shown_and_stalls_nothing():
    nodes = Nodes(node1=[row()])
    nodes.silent = {"node3"}
    last, shown = watched(nodes, 60.0)
    assert last["nodes"]["node3"]["state"] == "silent"
    assert last["nodes"]["node3"]["detail"] == "no answer since 01:02:03 UTC"
    assert [one["guest"] for one in last["moving"]] == ["web1"]
    assert shown[8]["moving"], "others are shown after two seconds"
    asked = [at for at, one in nodes.asked("kvmcluster.job") if "node3" in one]
    assert asked == [0.0, 10.0, 30.0], "what hangs does not pile up"
    assert len([at for at, one in nodes.asked("kvmcluster.job") if "node1" in one]) == 21


def test_how_a_migration_ended_is_asked_of_its_node():
    nodes = Nodes(node1=[row()])
    nodes.history = {"node1": [ended("other"), ended()]}
    for one in nodes.history["node1"]:
        one["started"] = "2026-11-30T01:00:00+00:00"
    last, shown = watched(nodes, 12.0, t5=lambda: nodes.jobs.clear())
    phases = [data["moving"][0]["phase"] for data in shown if data["moving"]]
    assert list(dict.fromkeys(phases)) == ["copying", "ended"]
    assert [one["guest"] for one in last["ended"]] == ["web1"] and last["moving"] == []
    assert nodes.asked("kvmcluster.history") == [(7.25, ["node1"])]


def test_one_that_ends_while_a_node_is_asked_of_another_is_asked_for_again():
    nodes = Nodes(node1=[row(), row("web2")])
    nodes.history, nodes.late = {"node1": []}, {"kvmcluster.history": 5.0}

    def end(guest):
        nodes.jobs["node1"] = [one for one in nodes.jobs["node1"] if one["guest"] != guest]
        nodes.history["node1"].append({**ended(guest), "started": "2026-11-30T01:00:00+00:00"})

    last, _ = watched(nodes, 30.0, t4=lambda: end("web1"), t8=lambda: end("web2"))
    assert [at for at, _ in nodes.asked("kvmcluster.history")] == [7.25, 13.0]
    assert [one["guest"] for one in last["ended"]] == ["web1", "web2"]


def test_a_migration_of_a_node_that_became_silent_has_not_ended():
    nodes = Nodes(node1=[row(percentage=50)])
    last, _ = watched(nodes, 40.0, t4=lambda: nodes.silent.add("node1"))
    (moving,) = last["moving"]
    assert (moving["phase"], moving["percentage"]) == ("source silent", None)
    assert nodes.asked("kvmcluster.history") == [] and last["ended"] == []


def test_a_master_that_is_lost_is_told_and_ends_it():
    nodes = Nodes()

    def die():
        nodes.master = False

    with pytest.raises(WorldError, match="the master does not take jobs, for 60 s; is salt-ma"):
        watched(nodes, 1000.0, t10=die)
    assert nodes.clock.seconds < 10 + LOST + 10


def test_a_master_that_is_restarted_is_waited_for():
    nodes = Nodes()

    def switch(to):
        nodes.master = to

    last, shown = watched(nodes, 60.0, t10=lambda: switch(False), t30=lambda: switch(True))
    lost = [data for data in shown if data["master"]]
    assert lost[0]["master"] == "the master does not take jobs, since 01:02:15 UTC"
    assert not lost[0]["ok"] and last["ok"] and last["master"] == ""
    states = {one["state"] for data in shown for one in data["nodes"].values()}
    assert "silent" not in states, "it is the master that is"


def test_it_ends_by_itself_and_once_is_enough():
    nodes = Nodes()
    nodes.silent = {"node2"}
    watched(nodes, 1000.0, limit=20.0)
    assert 20 <= nodes.clock.seconds < 21
    nodes = Nodes()
    last, _ = watched(nodes, 1000.0, once=True)
    assert last["problems"] is not None and nodes.clock.seconds < watch.ONCE
    nodes = Nodes()
    nodes.silent = {*NODES}
    last, _ = watched(nodes, 1000.0, once=True)
    assert {one["state"] for one in last["nodes"].values()} == {"silent"}
    assert datetime.fromisoformat(last["at"]).tzinfo == timezone.utc


@pytest.mark.parametrize("odd", ["boom", None, 7, [], {"jobs": 3}, {"jobs": [1, {"a": 2}]}])
def test_whatever_nodes_return_it_goes_on(odd, monkeypatch):
    nodes = Nodes()
    monkeypatch.setattr(nodes, "reply", lambda function, node: odd)
    last, _ = watched(nodes, 40.0)
    assert last["ok"] and last["moving"] == []
