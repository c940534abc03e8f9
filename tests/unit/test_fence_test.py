"""A test of fencing: who asks which device, when may a node lose its power, what came of it."""

import json
from dataclasses import replace
from datetime import datetime, timezone
from types import SimpleNamespace

import pacemakers
import pytest
from ha_cases import NODES, of_pacemaker
from test_ha_refusals import QUORUMTOOL, parsed
from worlds import guest

from saltext_kvmcluster.core.cordons import Cordon
from saltext_kvmcluster.core.errors import WorldError
from saltext_kvmcluster.core.facts.nodefacts import silent
from saltext_kvmcluster.core.failover import fence_test
from saltext_kvmcluster.core.migration import records
from saltext_kvmcluster.core.output import tables
from saltext_kvmcluster.core.ownership import contacts
from saltext_kvmcluster.core.pacemaker.corosync import Corosync
from saltext_kvmcluster.core.pacemaker.fenced import Tried
from saltext_kvmcluster.core.pacemaker.fencing import FenceEvent, Fencing
from saltext_kvmcluster.core.readiness.checks.base import World
from saltext_kvmcluster.engine import fencer, fencing_test

THREE = """Quorum information
------------------
Nodes:            3
Quorate:          Yes

Votequorum information
----------------------
Expected votes:   3
Highest expected: 3
Total votes:      {total}
Quorum:           2
Flags:            Quorate

Membership information
----------------------
    Nodeid      Votes Name
         1          1 node1 (local)
         2          1 node2
         3          1 node3
"""
WELL = parsed((0, "", ""), (0, THREE.format(total=3), ""))
DRAINED = (Cordon("2026-11-29T22:25:36+00:00", "drained"),)
LOG = (
    "Nov 29 22:59:32.1 node1 pacemaker-fenced [7] (log_async_result) notice: Operation 'reboot' [9]"
    " targeting node2 using {} returned {} | call 2 from stonith_admin.12"
)


def with_nodes(found, **changes):
    """The world with other facts of some nodes."""
    nodes = {name: replace(one, **changes.get(name, {})) for name, one in found.nodes.items()}
    return World(found.cluster, nodes)


def well(view=None, corosync=WELL, **changes):
    """A world of three nodes in order, of which node2 was drained; web1 runs on node1."""
    found = of_pacemaker(view or pacemakers.good(), corosync=corosync)
    numbers = {"node1": "1", "node2": "2", "node3": "3"}
    nodes = {}
    for name, one in found.nodes.items():
        members = {
            key: replace(member, standby=key == "node2")
            for key, member in one.pacemaker.status.members.items()
        }
        known = replace(
            one.pacemaker,
            status=replace(one.pacemaker.status, members=members),
            configuration=replace(one.pacemaker.configuration, nodes=numbers),
        )
        cordon = DRAINED if name == "node2" else ()
        nodes[name] = replace(one, pacemaker=known, cordoned=cordon)
    return with_nodes(World(found.cluster, nodes), **changes)


def answers(**devices):
    """What nodes return that asked their device: by node, why it does not respond."""
    return {node: {"devices": {"fence": devices.get(node, "")}} for node in NODES}


def planned(found, node="node2", with_guests=False, **devices):
    known = fence_test.examined(found, [node], answers(**devices))
    return fence_test.planned(found, known, node, with_guests)


def changed(found, node, **member):
    """The world in which Pacemaker on all nodes shows one of them like that."""
    nodes = {}
    for name, one in found.nodes.items():
        members = dict(one.pacemaker.status.members)
        members[node] = replace(members[node], **member)
        status = replace(one.pacemaker.status, members=members)
        nodes[name] = replace(one, pacemaker=replace(one.pacemaker, status=status))
    return World(found.cluster, nodes)


def test_each_device_is_asked_from_every_node_that_may_need_it():
    assert fence_test.questions(well(), NODES) == {node: ["fence"] for node in NODES}
    assert {*fence_test.questions(well(), ["node2"])} == {"node1", "node3"}
    found = fence_test.examined(well(), NODES, answers())
    assert found.to_dict()["ok"] and len(found.rows) == 3
    assert "OK: 1 device for 3 nodes" in tables.render(found.to_dict())
    assert "nothing was switched" in tables.render(found.to_dict())


@pytest.mark.parametrize(
    "answer, words",
    [
        (answers(node3="exit code 1"), "fence does not respond to node3 (exit code 1); on node3:"),
        ({"node1": answers()["node1"]}, "does not respond to node3 (no answer was returned)"),
        ({**answers(), "node3": "Minion did not return"}, "(Minion did not return)"),
    ],
)
def test_a_device_that_does_not_respond_is_named_with_the_node_that_asked(answer, words):
    data = fence_test.examined(well(), ["node2"], answer).to_dict()
    assert not data["ok"] and words in tables.render(data)
    assert "PROBLEM: fencing of node2 is not in order; nothing was switched" in tables.render(data)


def test_what_cannot_be_fenced_and_whose_pacemaker_is_not_known_is_named():
    view = replace(pacemakers.good(), fencers=dict.fromkeys(NODES, frozenset()))
    found = fence_test.examined(well(view), ["node2"], {})
    assert "node2: none of Pacemaker's fence devices can fence it" in found.problems[0]
    lost = World(well().cluster, {**well().nodes, "node3": silent("node3", "no response")})
    assert "node3: no response" in fence_test.examined(lost, ["node2"], answers()).problems


def test_a_drained_node_may_lose_its_power():
    plan = planned(well())
    assert (plan.hindered, plan.asker, plan.levels) == ((), "node1", [["fence"]])
    text = tables.render({**plan.to_dict(), "begins": True})
    assert text.splitlines()[-1] == (
        "PLAN  node2 loses its power: stonith_admin --reboot=node2 on node1, by fence"
    )


RUNS = {"guests": (guest(at="node2"),)}
ONE_LEFT = parsed((0, "", ""), (0, THREE.format(total=2), ""))
PAIR = parsed((0, "", ""), (0, QUORUMTOOL, ""))


@pytest.mark.parametrize(
    "found, words",
    [
        (well(node2={"cordoned": ()}), "not cordoned: a guest may arrive at any time; first: salt"),
        (well(node2=RUNS), "node2 still has active guests: web1; first: salt-run kvmcluster.drain"),
        (well(node2={"guests": None}), "node2 does not report its guests"),
        (changed(well(), "node2", standby=False), "node2 may not be fenced: Pacemaker manages"),
        (changed(well(), "node3", online=False, unclean=True), "has node3 offline and unclean"),
        (changed(well(), "node3", maintenance=True), "Pacemaker has node3 in maintenance"),
        (changed(well(), "node2", online=False), "Pacemaker has node2 offline"),
        (well(corosync=ONE_LEFT), "node1 would lose quorum without it, and start nothing"),
        (well(corosync=Corosync(NODES)), "not known whether node3 would have quorum without it"),
        (well(node3={"pacemaker": None}), "node3: not known whether Pacemaker runs there"),
        (World(well().cluster, {**well().nodes, "node3": silent("node3", "gone")}), "node3: gone"),
    ],
)
def test_a_node_is_not_fenced_unless_all_is_well(found, words):
    data = planned(found).to_dict()
    assert any(words in why for why in data["hindered"]) and not data["ok"]
    assert "PROBLEM: node2 is not fenced; nothing was done" in tables.render(data)


def test_of_a_silent_node_only_that_is_said():
    lost = World(well().cluster, {**well().nodes, "node2": silent("node2", "no response")})
    for with_guests in (True, False):
        (why, *more) = planned(lost, with_guests=with_guests).hindered
        assert why == "node2: no response" and not any("cordoned" in one for one in more)


def test_a_device_that_does_not_respond_hinders_it():
    assert any("node1 (killed)" in why for why in planned(well(), node1="killed").hindered)


def test_guests_may_stay_if_somebody_starts_them_elsewhere():
    there = well(node2=RUNS)
    plan = planned(there, with_guests=True)
    assert not plan.hindered and plan.guests == ("web1",)
    assert "PLAN  node2 loses its power, and with it web1: " in tables.render(plan.to_dict())
    stray = well(node2={"guests": (guest(at="node2"),)}, view=pacemakers.without_guests())
    (why,) = (why for why in planned(stray, with_guests=True).hindered if "web1" in why)
    assert why.startswith("web1 runs there, and Pacemaker would not start it elsewhere")
    alone = there
    for node in ("node1", "node3"):
        alone = changed(alone, node, standby=True)
    assert any("no other node" in why for why in planned(alone, with_guests=True).hindered)


def test_a_pair_keeps_quorum_by_two_node():
    text = QUORUMTOOL + "\nTotal votes:      2\n\n    Nodeid      Votes Name\n    1    1 node1\n"
    found = parsed((0, "", ""), (0, text, ""))
    assert found.is_quorate_without("1") is True and found.is_quorate_without("2") is None
    assert ONE_LEFT.is_quorate_without("2") is False and PAIR.is_quorate_without("2") is None


WHEN = datetime(2026, 11, 29, 23, tzinfo=timezone.utc)
OLD = FenceEvent("reboot", "node2", "success", "node1", WHEN.replace(hour=1))
EVENT = FenceEvent("reboot", "node2", "success", "node3", WHEN)


def environment(view=None, events=((OLD,), (EVENT, OLD)), logs=None, code=0):
    """Node1 with Pacemaker; ``events``, ``logs`` by node: before and after the fencing."""
    state = SimpleNamespace(fenced=[], kept=[], asked=0)
    logs = logs or {}

    def fence(node):
        state.fenced.append(node)
        if isinstance(code, Exception):
            raise code
        return code

    def control(node):
        said = logs.get(node, ("", ""))
        return SimpleNamespace(
            fence=fence,
            monitor=lambda device: 0 if device == "good" else 1,
            fencer_log=lambda: said[len(state.fenced)],
        )

    return state, SimpleNamespace(
        here="node1",
        cluster=SimpleNamespace(nodes=NODES),
        clock=SimpleNamespace(monotonic=lambda: 0.0, now=lambda: WHEN),
        pacemaker=lambda node: view or pacemakers.good(),
        fencing=lambda node: Fencing(pacemakers.good().status, events[len(state.fenced)]),
        control=control,
        journal=lambda node: SimpleNamespace(remember=state.kept.append),
        side_by_side=lambda ask, nodes: {node: ask(node) for node in nodes},
    )


def test_a_node_is_fenced_and_which_device_did_it_is_read_in_the_fencers_log():
    old, failed, new = LOG.format("a", 0), LOG.format("bmc2", 1), LOG.format("pdu", 0)
    state, env = environment(logs={"node3": (old, f"{old}\n{failed}\n{new}\n")})
    assert fencer.fence(env, "node2") == Tried(True, "node3", "pdu")
    assert state.fenced == ["node2"]
    (row,) = records.chosen(state.kept, None, 9)
    assert (row["source"], row["result"]) == ("node2", "fenced")
    assert row["reason"] == "fencing test, asked for on node1: by pdu, carried out by node3"
    text = tables.render({"kind": "history", "cluster": "lab", "history": [row]})
    assert text.endswith("0 migrations and 1 fencing test recorded in cluster lab; times are UTC")
    assert records.chosen(state.kept, "web1", 9) == []


@pytest.mark.parametrize(
    "changes, expected",
    [
        ({}, Tried(True, "node3")),
        ({"events": ((OLD,), (OLD,))}, Tried(None, detail="Pacemaker's history does not show it")),
        (
            {"events": ((OLD,), (replace(EVENT, status="failed"), OLD)), "code": 1},
            Tried(False, "node3", detail="stonith_admin --reboot=node2 ended with exit code 1"),
        ),
        ({"events": ((), ()), "code": WorldError("lost")}, Tried(None, detail="lost")),
        ({"events": ((), (replace(EVENT, completed=None),))}, Tried(None)),
    ],
)
def test_what_became_of_it_is_what_the_history_shows(changes, expected):
    state, env = environment(**changes)
    found = fencer.fence(env, "node2")
    assert (found.ok, found.by, found.device) == (expected.ok, expected.by, "")
    assert not expected.detail or found.detail == expected.detail
    assert len(state.kept) == 1


@pytest.mark.parametrize(
    "view, words",
    [
        (pacemakers.at_rest(), "cannot be read here"),
        (replace(pacemakers.good(), status=replace(pacemakers.good().status, quorum=False)), "no"),
        (
            pacemakers.edited('name="node2" id="2" online="true"', 'name="node2" online="false"'),
            "s",
        ),
    ],
)
def test_the_node_that_is_asked_looks_once_more(view, words):
    state, env = environment(view)
    with pytest.raises(WorldError, match=words):
        fencer.fence(env, "node2")
    assert not state.fenced and not state.kept


def test_devices_are_asked_by_their_agents():
    _, env = environment()
    assert fencer.responses(env, ["good", "bad"]) == {"good": "", "bad": "exit code 1"}


def test_a_fenced_node_was_not_up_afterwards_and_its_test_is_no_migration():
    state, env = environment()
    fencer.fence(env, "node2")
    assert contacts.of_history(json.dumps(state.kept[0])) == []


class Fleet:
    """Nodes that answer by rote; ``boots``: that of node2 at each look, None for no answer."""

    def __init__(self, boots, tried=None, found=None, back=True, alive="", idle=True):
        self.found = found or well()
        self.cluster, self.all = self.found.cluster, list(NODES)
        self.boots, self.tried, self.back, self.alive = list(boots), tried, back, alive
        self.asked, self.time, self.idle = [], 0.0, idle
        self.clock = SimpleNamespace(monotonic=lambda: self.time, wait=self._wait)

    def _wait(self, call, seconds):
        self.time += seconds

    def facts(self, nodes=None, **named):
        back = self.found if self.back else changed(self.found, "node2", online=False)
        return self.found.nodes if nodes is None else {one: back.nodes[one] for one in nodes}

    def begun_states(self):
        return {}

    def ask(self, nodes, function, *arguments, within=0, **named):
        name = function.partition(".")[2]
        self.asked.append(name)
        if name == "boot":
            boot = self.boots.pop(0) if len(self.boots) > 1 else self.boots[0]
            return {} if boot is None else {"node2": {"boot": boot, "needed": []}}
        if name == "fence":
            assert (nodes, arguments) == (["node1"], ("node2",))
            return {} if self.tried is None else {"node1": self.tried}
        if name == "state_jobs":
            rows = [] if self.idle else [{"jid": "2" * 20, "what": "state.sls", "path": ""}]
            return {"node2": {"running": rows, "waiting": []}}
        if name == "responds":
            return {"node1": {"responses": {"node2": self.alive}}}
        assert name == "fence_devices"
        return answers()


class Console:
    def __init__(self):
        self.plans = []

    def interrupted(self):
        return False

    def show(self, line):
        pass

    def plan(self, plan):
        self.plans.append(plan)


DONE = {"ok": True, "by": "node3", "device": "fence", "seconds": 3.2, "detail": ""}


def fenced_by(fleet, with_guests=False, limit=60, test=False):
    return fencing_test.fence(fleet, Console(), "node2", with_guests, limit, test)


def test_a_node_that_left_and_is_back_is_reported_with_device_and_time():
    data = fenced_by(Fleet(["a", None, "b"], DONE))
    assert data["ok"] and data["fenced"]["result"] == "fenced"
    assert tables.render(data) == (
        "OK: FENCED  node2: by fence, carried out by node3, in 3.2 s; it left, and is back, in"
        " another boot and a member again, after 3 s; if it was drained: salt-run"
        " kvmcluster.undrain node2"
    )


@pytest.mark.parametrize(
    "fleet, result, words",
    [
        (Fleet(["a"], DONE), "not_off", "this device takes no power"),
        (Fleet(["a", None], DONE), "fenced_not_back", "no response from the minion of node2"),
        (Fleet(["a", "b"], DONE, back=False), "fenced_not_back", "does not show node2 online"),
        (Fleet(["a", None], DONE, alive="node2 responds to ssh"), "unknown", "responds to ssh"),
        (Fleet(["a"], {**DONE, "ok": False, "detail": "exit code 1"}), "fencing_failed", "code 1"),
        (Fleet(["a"], "ERROR: node2 was not fenced: why"), "fencing_failed", "not fenced: why"),
        (Fleet(["a"], {**DONE, "ok": None}), "unknown", "whether it was fenced is not known"),
        (Fleet(["a"]), "unknown", "no response from node1"),
        (
            Fleet(["a", None], {**DONE, "device": ""}),
            "fenced_not_back",
            "by fence, carried out by node3",
        ),
    ],
)
def test_what_was_not_seen_is_no_success(fleet, result, words):
    data = fenced_by(fleet)
    assert not data["ok"] and data["fenced"]["result"] == result
    assert words in tables.render(data)


def test_nothing_is_fenced_under_test_against_a_refusal_or_while_states_run():
    fleet = Fleet(["a"])
    assert fenced_by(fleet, test=True)["ok"]
    data = fenced_by(lost := Fleet(["a"], found=well(node2={"cordoned": ()})))
    assert data["hindered"]
    with pytest.raises(WorldError, match="node2 was not fenced: on node2"):
        fenced_by(busy := Fleet(["a"], idle=False))
    with pytest.raises(WorldError, match="no response from node2"):
        fenced_by(gone := Fleet([None]))
    for one in (fleet, lost, busy, gone):
        assert "fence" not in one.asked


def test_a_device_that_was_not_seen_is_not_named():
    done = {"result": "fenced", "elapsed": 3.0, "missing": "", **DONE, "device": ""}
    plan = replace(planned(well()), levels=[["bmc2"], ["pdu1", "pdu2"]]).to_dict()
    text = tables.render({**plan, "fenced": done})
    assert "by one of bmc2, pdu1, pdu2 (not seen which: /var/log/pacemaker/pace" in text
    assert "by bmc2, else pdu1 and pdu2; nothing was done" in tables.render(plan)
