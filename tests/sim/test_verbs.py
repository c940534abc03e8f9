"""A verb for several guests: whatever becomes of a job, nothing counts that no node reported."""

from datetime import datetime, timedelta, timezone

import pytest

from saltext_kvmcluster.core.facts import nodefacts
from saltext_kvmcluster.core.pillar.parser import from_pillar
from saltext_kvmcluster.core.verbs.selection import Selection
from saltext_kvmcluster.core.verdicts import Observation, Sighting
from saltext_kvmcluster.engine import verbs
from saltext_kvmcluster.engine.fleet import Fleet

DAY = datetime(2030, 1, 1, tzinfo=timezone.utc)
STOPPED = {"result": "stopped", "reason": "it runs nowhere", "owner": None}


class Played(Fleet):
    """Nodes whose jobs end as a play says: by guest, after how many seconds, and with what.

    ``gone``: the job has ended, and its return is lost. ``dead``: the node answers nothing.
    """

    def __init__(self, plays, stop_at=1e9):
        names = {f"node{number}": {} for number in range(1, 4)}
        super().__init__(from_pillar({"kvmcluster": {"name": "lab", "nodes": names}}), self)
        self.plays, self.stop_at = plays, stop_at
        self.time, self.begun, self.most, self.shown = 0.0, {}, 0, []

    def monotonic(self):
        return self.time

    def now(self):
        return DAY + timedelta(seconds=self.time)

    def wait(self, call, seconds):
        self.time += seconds

    def begin(self, node, function, guest, **named):
        assert function == "kvmcluster.shutdown" and named == {"timeout": 5.0}
        self.begun[guest] = (node, self.time)
        running = [one for one in self.begun if not self.returns(one)]
        self.most = max(self.most, len(running))
        return guest

    def hints(self):
        return []

    def returns(self, job):
        node, since = self.begun[job]
        seconds, what = self.plays[job]
        done = isinstance(what, dict) and self.time >= since + seconds
        return {node: what} if done else {}

    def ask(self, nodes, function, job, **named):
        assert function == "saltutil.find_job"
        (node,), (seconds, what) = nodes, self.plays[job]
        self.time += 5.0
        if what == "dead":
            return {}
        over = self.time >= self.begun[job][1] + seconds
        return {node: {} if over else {"jid": job}}

    def _never(self, *arguments):
        raise AssertionError(arguments)

    dispatch = new_job = begin_states = remember_states = forget_states = begun_states = _never

    # A console

    def interrupted(self):
        return self.time >= self.stop_at

    def show(self, line):
        self.shown.append(line)


def done(fleet, test=False):
    seen = {node: [] for node in fleet.all}
    for at, name in enumerate(fleet.plays):
        node = fleet.all[at % 3]
        found = Observation(Sighting.RUNNING, name=name, uuid=name)
        seen[node].append(nodefacts.GuestFacts(node, found))
    facts = {node: nodefacts.NodeFacts(node, guests=tuple(there)) for node, there in seen.items()}
    meant = Selection(tuple(sorted(fleet.plays)))
    named = {"timeout": 5.0}
    acts = verbs.act(fleet, fleet, "shutdown", facts, meant, "kvmcluster.shutdown", test, named)
    return acts.to_dict()


def results(data):
    return {row["guest"]: row["result"] for row in data["guests"]}


def test_each_guest_has_what_its_own_node_returned_however_late():
    refused = {"web1": (1, STOPPED), "web2": (400, STOPPED)}
    fleet = Played({**refused, "web3": (2, {"result": "not_stopped", "reason": "it runs"})})
    data = done(fleet)
    assert results(data) == {"web1": "stopped", "web2": "stopped", "web3": "not_stopped"}
    assert not data["ok"] and 400 <= fleet.time < 430


@pytest.mark.parametrize(
    "what, why",
    [("gone", "node1 does not run its job now"), ("dead", "no response from node1")],
)
def test_what_no_node_returned_is_unknown_and_ends(what, why):
    fleet = Played({"web1": (3, what), "web2": (1, STOPPED)})
    data = done(fleet)
    assert results(data) == {"web1": "unknown", "web2": "stopped"} and not data["ok"]
    reason = data["guests"][0]["reason"]
    assert reason == f"{why}; it may go on: salt-run jobs.lookup_jid web1"
    assert fleet.time <= verbs.LOST + 2 * verbs.QUIET


def test_an_interruption_waits_for_nothing_and_claims_nothing():
    plays = {f"web{number:02d}": (100, STOPPED) for number in range(verbs.MOST + 2)}
    fleet = Played(plays, stop_at=10)
    data = done(fleet)
    assert fleet.time <= 11 and not data["ok"]
    found = results(data)
    assert sorted(found.values()) == ["refused"] * 2 + ["unknown"] * verbs.MOST
    assert all("jobs.lookup_jid" in row["reason"] for row in data["guests"][: verbs.MOST])


def test_not_more_than_a_few_are_under_way():
    fleet = Played({f"web{number:02d}": (3, STOPPED) for number in range(30)})
    data = done(fleet)
    assert data["ok"] and len(data["guests"]) == 30
    assert fleet.most == verbs.MOST


def test_without_consent_nothing_is_begun():
    for test in (None, True):
        fleet = Played({"web1": (1, STOPPED), "web2": (1, STOPPED)})
        data = done(fleet, test)
        assert not fleet.begun and data["test"]
        assert data["ok"] is (test is True)
    one = Played({"web1": (1, STOPPED)})
    assert results(done(one, None)) == {"web1": "stopped"}
