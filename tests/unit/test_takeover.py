"""Guests of a node that is off by a person's word: who starts where, and when nothing does."""

import json
from dataclasses import replace
from types import SimpleNamespace

import pacemakers
import pytest
import worlds
from test_capacity import with_list
from test_placement import one, world

from saltext_kvmcluster.core.errors import InputError, WorldError
from saltext_kvmcluster.core.facts.nodefacts import silent
from saltext_kvmcluster.core.guest import domainxml
from saltext_kvmcluster.core.migration import records
from saltext_kvmcluster.core.output import tables
from saltext_kvmcluster.core.ownership import contacts, startup
from saltext_kvmcluster.core.ownership.results import StartResult
from saltext_kvmcluster.core.pillar.clusters import Listed
from saltext_kvmcluster.core.pillar.ha import GuestHa
from saltext_kvmcluster.core.readiness.checks.base import World
from saltext_kvmcluster.core.verdicts import Sighting
from saltext_kvmcluster.engine import by_word
from saltext_kvmcluster.engine.takeover import take_over

NO = "no response"


def text(name, mib=1, extra=""):
    uuid = f"11111111-1111-1111-1111-{sum(name.encode()):012d}"
    machine = "<os><type arch='x86_64' machine='q35'>hvm</type></os>"
    size = f"<memory unit='MiB'>{mib}</memory><vcpu>1</vcpu>"
    return (
        f"<domain type='kvm'><name>{name}</name><uuid>{uuid}</uuid>{size}{machine}"
        f"<devices>{extra}</devices></domain>"
    )


def running(name, at="node2", uuid="", sighting=Sighting.RUNNING):
    """A guest that is active on a node, by the UUID of its definition."""
    found = one(name, at=at, sighting=sighting)
    uuid = uuid or domainxml.parse(text(name).encode()).uuid
    return replace(found, observation=replace(found.observation, uuid=uuid))


def lost(free=(8, 8, 8), *guests, texts=None, keys=None, **changes):
    """A world in which node1 is off, and the list has guests web1 and web2, of 1 MiB each."""
    texts = texts or {"web1": text("web1"), "web2": text("web2")}
    found = with_list(world(list(free), *guests), **dict.fromkeys(texts) | (keys or {}))
    nodes = {
        node: replace(facts, **{"definitions": texts, "logged": {}, **changes.get(node, {})})
        for node, facts in found.nodes.items()
    }
    return World(found.cluster, {**nodes, "node1": silent("node1", NO)})


class Fleet:
    """Nodes that answer by rote; ``starts`` has what was asked to start, where and how."""

    def __init__(self, found, answer=None, responses=None):
        self.world, self.cluster, self.all = found, found.cluster, list(found.nodes)
        self.answer = answer or (lambda node, guest, attempt: started(guest, node))
        self.responses = {} if responses is None else responses
        self.starts, self.jobs, self.time = [], [], 0.0
        self.clock = SimpleNamespace(monotonic=lambda: self.time, wait=self._wait)

    def _wait(self, call, seconds):
        self.time += seconds

    def facts(self, **named):
        return self.world.nodes

    def ask(self, nodes, function, *arguments, within=0, **named):
        name = function.partition(".")[2]
        if name == "responds":
            quiet = dict.fromkeys(arguments[0], "")
            return {node: self.responses.get(node, {"responses": quiet}) for node in nodes}
        if name == "inspect":
            assert "node1" not in nodes
            return {}
        assert name == "start_assigned" and list(arguments[0]) == nodes
        self.jobs.append(nodes)
        answers = {}
        for node, guest in arguments[0].items():
            self.starts.append((guest, node, named["force_unreachable"], named["force_unguarded"]))
            attempt = sum(one[0] == guest for one in self.starts)
            answers[node] = self.answer(node, guest, attempt)
        return {node: answer for node, answer in answers.items() if answer is not None}


def started(guest, node, result="started", reason="", **more):
    return {"guest": guest, "result": result, "owner": node, "reason": reason, **more}


class Console:
    def __init__(self, stops_after=99):
        self.plans, self.left = [], stops_after

    def interrupted(self):
        self.left -= 1
        return self.left < 0

    def show(self, line):
        pass

    def plan(self, plan):
        self.plans.append(plan)


def evacuated(fleet, **named):
    return take_over(fleet, Console(), named.pop("node", "node1"), **named)


def test_each_guest_starts_where_most_room_is_after_the_plan_was_shown():
    fleet, console = Fleet(lost((8, 2, 9))), Console()
    data = take_over(fleet, console, "node1")
    assert fleet.starts == [(name, "node3", ["node1"], False) for name in ("web1", "web2")]
    assert data["ok"] and console.plans[0]["plan"] == data["plan"] and console.plans[0]["test"]
    assert tables.render(data).splitlines()[-1] == "OK: 2 guests seen running, while node1 is off"


def test_under_test_nothing_is_started():
    fleet = Fleet(lost())
    data = evacuated(fleet, test=True)
    assert fleet.starts == [] and data["test"] and len(data["plan"]) == 2
    assert "PLAN  2 guests to start while node1 is off, 0 stuck; nothing" in tables.render(data)


@pytest.mark.parametrize(
    "change, words",
    [
        ({"responses": {"node2": {"responses": {"node1": "node1-mig responds to ping"}}}}, "ping"),
        ({"responses": {"node2": "ERROR: unknown function"}}, "node2 did not say whether node1"),
        ({"responses": {"node2": {"responses": {}}}}, "node2 did not say whether node1"),
    ],
)
def test_a_word_that_is_not_so_is_refused(change, words):
    fleet = Fleet(lost(), **change)
    with pytest.raises(WorldError, match=words):
        evacuated(fleet)
    assert fleet.starts == []


@pytest.mark.parametrize(
    "node, facts, words",
    [
        ("node1", worlds.node("node1", guests=()), "node1 is not off: its minion answers"),
        ("node1", silent("node1", "ERROR", answered=True), "node1 is not off"),
        ("node2", silent("node2", NO), "node2 does not tell its guests.*name it too"),
    ],
)
def test_a_minion_that_answers_is_not_off_and_all_others_have_to(node, facts, words):
    found = lost()
    fleet = Fleet(World(found.cluster, {**found.nodes, node: facts}))
    with pytest.raises(WorldError, match=words):
        evacuated(fleet)
    assert fleet.starts == []


def test_if_no_node_answers_the_master_is_suspected_before_any_node():
    found = lost()
    fleet = Fleet(World(found.cluster, {node: silent(node, NO) for node in found.nodes}))
    with pytest.raises(WorldError, match=r"no node answers.*the master") as refused:
        evacuated(fleet)
    assert "name it too" not in str(refused.value)
    assert fleet.starts == []


def test_several_nodes_may_be_off():
    found = lost()
    nodes = {**found.nodes, "node2": silent("node2", NO)}
    fleet = Fleet(World(found.cluster, nodes))
    assert evacuated(fleet, node=["node1", "node2"])["ok"]
    assert {(node, tuple(off)) for _, node, off, _ in fleet.starts} == {
        ("node3", ("node1", "node2"))
    }


@pytest.mark.parametrize(
    "node, words",
    [("node9", "not a node"), (["node1", "node2", "node3"], "all nodes are named"), ([], "empty")],
)
def test_a_wrong_node_is_refused(node, words):
    with pytest.raises(InputError, match=words):
        evacuated(Fleet(lost()), node=node)


def test_what_runs_elsewhere_or_was_shut_down_on_purpose_is_not_started():
    since = "2026-11-23T12:00:00+00:00"
    found = lost((8, 8, 8), running("web1"), node3={"shutdowns": {"web2": since}})
    fleet = Fleet(found)
    data = evacuated(fleet)
    assert fleet.starts == [] and data["ok"]
    assert tables.render(data).startswith(
        "NOTE  web2 was shut down by kvmcluster.shutdown on node3"
    )
    evacuated(fleet, named=["web2"])
    assert [start[0] for start in fleet.starts] == ["web2"]
    stuck = evacuated(Fleet(found), named=["web1"])["stuck"]
    assert stuck == {"web1": "it is active on node2"}
    assert evacuated(Fleet(lost()), named=[])["plan"] == []
    with pytest.raises(InputError, match="web9 is not in"):
        evacuated(Fleet(found), named=["web9"])


@pytest.mark.parametrize(
    "sighting",
    [Sighting.WAITING, Sighting.PAUSED_FOR_MIGRATION, Sighting.PAUSED_IN_POST_COPY],
)
def test_a_half_that_was_left_behind_is_not_the_guest(sighting):
    data = evacuated(Fleet(lost((8, 8, 8), running("web1", sighting=sighting))))
    assert not data["ok"] and [one["guest"] for one in data["plan"]] == ["web2"]
    assert data["stuck"]["web1"].endswith("runs on no node: salt-run kvmcluster.recover web1")
    both = running("web1", sighting=sighting), running("web1", at="node3")
    assert evacuated(Fleet(lost((8, 8, 8), *both)))["stuck"] == {}


def test_another_guest_of_its_name_is_not_the_guest():
    data = evacuated(Fleet(lost((8, 8, 8), running("web1", uuid="2222"))))
    assert not data["ok"] and [one["guest"] for one in data["plan"]] == ["web2"]
    assert "node2 has another guest of that name active, of UUID 2222" in data["stuck"]["web1"]


def test_one_whose_disks_were_locked_is_tried_again_however_long_the_others_took():
    fleet = Fleet(lost())

    def answer(node, guest, attempt):
        fleet.time += 130
        return started(guest, node, *(["not_started"] if guest == "web1" and attempt == 1 else []))

    fleet.answer = answer
    data = evacuated(fleet)
    assert [start[0] for start in fleet.starts] == ["web1", "web2", "web1"] and data["ok"]


def test_one_that_pacemaker_manages_is_refused_by_name():
    found = lost()
    seen = {node: replace(found.nodes[node], pacemaker=pacemakers.view()) for node in found.nodes}
    seen["node1"] = found.nodes["node1"]
    fleet = Fleet(World(found.cluster, seen))
    data = evacuated(fleet)
    assert [start[0] for start in fleet.starts] == ["web2"] and not data["ok"]
    assert "Pacemaker manages it" in data["stuck"]["web1"]
    assert data["stuck"]["web1"].endswith("stonith_admin --confirm node1")


def test_who_finds_no_room_or_has_no_definition_is_stuck():
    texts = {"web1": text("web1", 5), "web2": text("web2", 5), "web3": "", "web4": text("other")}
    fleet = Fleet(lost((8, 6, 2), texts=texts))
    data = evacuated(fleet)
    assert [start[:2] for start in fleet.starts] == [("web1", "node2")] and not data["ok"]
    assert "node.memory" in data["stuck"]["web2"]
    assert data["stuck"]["web3"] == "no definition of it"
    assert "defines a guest named" in data["stuck"]["web4"]
    assert tables.render(data).splitlines()[-1].startswith("PROBLEM: 1 guest seen running, ")


def test_a_definition_that_was_not_read_is_not_absent():
    unread = {"definitions": {}, "definition_notes": {"web1": "permission denied"}}
    found = lost(texts={"web1": text("web1")}, node2=unread, node3={"definitions": {}})
    assert evacuated(Fleet(found))["stuck"] == {
        "web1": "not known: its definition on node2, node3 (permission denied)"
    }


def test_what_is_bound_to_a_host_is_stuck():
    device = "<hostdev mode='subsystem' type='pci'><source><address bus='1'/></source></hostdev>"
    data = evacuated(Fleet(lost(texts={"web1": text("web1", extra=device)})))
    assert "guest.blockers" in data["stuck"]["web1"] and data["plan"] == []


def test_where_it_may_run_and_whom_it_is_kept_from_counts():
    keys = {
        "web1": Listed("web1", only=("node1", "node3"), ha=GuestHa()),
        "web2": GuestHa(apart=("web1",)),
    }
    fleet = Fleet(lost(keys=keys))
    evacuated(fleet)
    assert {start[:2] for start in fleet.starts} == {("web1", "node3"), ("web2", "node2")}


def test_a_start_that_failed_by_locks_is_tried_again_and_a_refused_one_is_not():
    def answer(node, guest, attempt):
        if guest == "web2":
            return "ERROR: web2 was not started on node2: no lock keeps node1"
        return started(guest, node, *([] if attempt > 3 else ["not_started", "write lock"]))

    fleet = Fleet(lost(), answer)
    data = evacuated(fleet, force_unguarded=True)
    assert [start[0] for start in fleet.starts] == ["web1", "web2", "web1", "web1", "web1"]
    assert all(start[3] is True for start in fleet.starts)
    rows = {row["guest"]: row["result"] for row in data["started"]}
    assert rows == {"web1": "started", "web2": "refused"} and not data["ok"]
    assert "REFUSED  web2" in tables.render(data)


def test_guests_start_side_by_side_one_at_a_time_on_each_node():
    names = ("web1", "web2", "web3", "web4", "web5")
    fleet = Fleet(lost((8, 9, 9), texts={name: text(name) for name in names}))
    data = evacuated(fleet)
    assert data["ok"] and sorted(start[0] for start in fleet.starts) == list(names)
    assert [len(nodes) for nodes in fleet.jobs] == [2, 2, 1]
    assert all(len({*nodes}) == len(nodes) for nodes in fleet.jobs)


def test_it_is_given_up_after_a_time_and_what_is_not_known_is_said():
    fleet = Fleet(lost(), lambda node, guest, attempt: None)
    data = evacuated(fleet)
    assert 200 < fleet.time < 300
    assert {row["result"] for row in data["started"]} == {"unknown"} and not data["ok"]


def test_an_interruption_says_what_was_not_begun():
    data = take_over(Fleet(lost((8, 2, 9))), Console(stops_after=1), "node1")
    assert [row["guest"] for row in data["started"]] == ["web1"]
    assert "NOT BEGUN  web2" in tables.render(data) and "PROBLEM" in tables.render(data)
    assert data["ok"] is False


class Journal:
    def __init__(self, fault=None):
        self.rows, self.fault = [], fault

    def remember(self, row):
        if self.fault:
            raise self.fault
        self.rows.append(row)


DONE = StartResult(
    "web1", "u1", "node2", startup.STARTED, "node2", "it runs", "2026-11-23T12:00:00+00:00", 2.0
)


@pytest.mark.parametrize(
    "done, declared, kept",
    [
        (DONE, {"node1"}, 1),
        (replace(DONE, result=startup.UNKNOWN), {"node1"}, 1),
        (replace(DONE, result=startup.RUNNING), {"node1"}, 0),
        (DONE, set(), 0),
    ],
)
def test_the_word_is_kept_in_the_history(done, declared, kept):
    journal = Journal()
    env = SimpleNamespace(here="node2", journal=lambda node: journal)
    assert by_word.remembered(env, done, declared) == done
    assert len(journal.rows) == kept
    for row in records.chosen(journal.rows, None, 10):
        seen = done.result == startup.STARTED
        assert row["source"] == "node1" and row["owner"] == ("node2" if seen else None)
        assert row["reason"] == "node1 declared offline (force_unreachable)"
        shown = tables.render({"kind": "history", "cluster": "lab", "ok": True, "history": [row]})
        assert ("STARTED" if seen else "START UNKNOWN") in shown
        assert shown.endswith("0 migrations and 1 start recorded in cluster lab; times are UTC")


def test_a_history_that_cannot_be_written_is_said():
    env = SimpleNamespace(here="node2", journal=lambda node: Journal(WorldError("disk full")))
    done = by_word.remembered(env, DONE, {"node1"})
    assert done.reason.endswith("the history does not have it: disk full")


def test_a_node_that_was_declared_offline_was_not_up_then():
    row = records.by_word("web1", "u1", "node2", {"node1"}, DONE.started, 2.0)
    assert {one.node for one in contacts.of_history(json.dumps(row))} == {"node2"}
    unseen = records.by_word("web1", "u1", "node2", {"node1"}, DONE.started, 2.0, was_seen=False)
    assert {one.node for one in contacts.of_history(json.dumps(unseen))} == {"node2"}
    moved = {**row, "result": "moved"}
    assert {one.node for one in contacts.of_history(json.dumps(moved))} == {"node1", "node2"}
