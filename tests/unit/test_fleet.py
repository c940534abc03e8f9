"""Which nodes the master asks what: about one move, and about nodes that are silent."""

from dataclasses import replace
from datetime import datetime, timedelta, timezone

import pytest
from material import cluster as cluster_of

from saltext_kvmcluster.core.errors import InputError
from saltext_kvmcluster.core.facts.questions import Part
from saltext_kvmcluster.core.pillar.clusters import Listed
from saltext_kvmcluster.core.silence import DOUBT, LOOKED_AFTER
from saltext_kvmcluster.engine.fleet import ASK_AGAIN, ASKERS, Fleet

NODES = ("node1", "node2", "node3", "node4", "node5")
LOOK = 4.0


class Clock:
    def __init__(self):
        self.time = 1000.0

    def monotonic(self):
        return self.time

    def now(self):
        return datetime(2030, 1, 1, tzinfo=timezone.utc) + timedelta(seconds=self.time)

    def wait(self, call, seconds):
        self.time += seconds


class Asked(Fleet):
    """Nodes that answer at once, but for the ``dead``; ``late`` ones answer while peers look.

    ``calls`` has the nodes, the function and the arguments of each job.
    """

    dispatch = begin = hints = returns = new_job = begin_states = None
    begun_states = remember_states = forget_states = None

    def __init__(self, where=None, dead=(), late=(), listed=()):
        found = cluster_of(*NODES)
        guests = replace(found.guests, list={name: Listed(name) for name in listed})
        super().__init__(replace(found, guests=guests), Clock())
        self.where, self.dead, self.late, self.calls = where or {}, set(dead), set(late), []

    def ask(self, nodes, function, *arguments, within=0.0, sent=None, meanwhile=None, **named):
        nodes, begun = list(nodes), self.clock.time
        self.calls.append((nodes, function.partition(".")[2], arguments or named))
        unheard = [node for node in nodes if node in self.dead | self.late]
        answered = [node for node in nodes if node not in unheard]
        if unheard and answered and meanwhile:
            self.clock.time = begun + DOUBT
            meanwhile(unheard, answered)
        if self.dead & set(nodes):
            self.clock.time = max(self.clock.time, begun + LOOKED_AFTER)
        verb = getattr(self, "_" + function.partition(".")[2])
        return {node: verb(node) for node in nodes if node not in self.dead}

    def _facts(self, node):
        uuid = "11111111-1111-1111-1111-{:012d}"
        rows = [
            {"name": name, "uuid": uuid.format(int(name[3:])), "sighting": "running"}
            for name, nodes in self.where.items()
            if node in nodes
        ]
        return {"node": node, "guests": rows, "commands": {}}

    def _inspect(self, node):
        return {}

    def _peer_facts(self, node):
        self.clock.time += LOOK / ASKERS
        reached = {one: self._facts(one) for one in self.late}
        return {"nodes": {**dict.fromkeys(self.dead, "no login by ssh (timed out)"), **reached}}

    def of(self, what):
        return [(nodes, given) for nodes, function, given in self.calls if function == what]


def test_a_check_of_one_move_says_which_guest_and_where_to_and_inspects_two_nodes():
    fleet = Asked({"web1": ["node2"], "web2": ["node4"]})
    ready = fleet.checked("web1", "node3")
    ((nodes, given),) = fleet.of("facts")
    assert tuple(nodes) == NODES, "uniqueness takes all of them"
    assert (given["guest"], given["destination"]) == ("web1", "node3")
    assert all(peers in ([], ["node3"]) for peers in given["targets"].values())
    ((nodes, _),) = fleet.of("inspect")
    assert sorted(nodes) == ["node2", "node3"]
    assert [row["node"] for row in ready.to_dict()["guests"]] == ["node2"]
    assert {node for one in ready.findings for node in one.nodes} <= {"node2", "node3"}


def test_of_a_guest_that_is_on_several_nodes_all_is_asked():
    fleet = Asked({"web1": ["node2", "node4"]})
    ready = fleet.checked("web1", "node3")
    assert [given.get("guest") for _, given in fleet.of("facts")] == ["web1", None]
    assert {row["node"] for row in ready.to_dict()["guests"]} == {"node2", "node4"}


def test_a_silent_node_is_no_proof_that_a_guest_is_unique():
    fleet = Asked({"web1": ["node2"]}, dead=["node5"])
    ready = fleet.checked("web1", "node3")
    unique = [one for one in ready.findings if one.id in ("guest.name", "guest.once")]
    assert {one.issue.outcome for one in unique} == {"UNKNOWN"}
    assert all("node5" in one.issue.sentence for one in unique) and len(unique) == 2
    with pytest.raises(InputError, match="no list of guests from node5"):
        fleet.checked("web9", "node3")


@pytest.mark.parametrize(
    ("reported", "sends"),
    [
        ({"guests": [{"name": "web1"}]}, True),
        ({"guests": [{"name": "web2"}]}, False),
        ({"guests": []}, False),
        ({"daemon": {"detail": "no response"}}, True),
    ],
)
def test_a_node_that_may_have_the_guest_answers_in_full(reported, sends):
    assert Part("web1", "node3").sends(reported) is sends


def test_without_a_destination_every_node_receives():
    assert Part("web1").receives("node4") and not Part("web1", "node3").receives("node4")


def test_silent_nodes_are_looked_after_while_they_are_waited_for():
    fleet = Asked(dead=["node4", "node5"])
    begun = fleet.clock.time
    facts = fleet.steady_facts()
    assert fleet.clock.time - begun == pytest.approx(DOUBT + LOOK)
    ((askers, (silent,)),) = fleet.of("peer_facts")
    assert (len(askers), silent) == (ASKERS, ["node4", "node5"])
    assert all("no login by ssh (timed out)" in facts[node].detail for node in silent)


def test_a_node_that_answers_meanwhile_is_heard():
    fleet = Asked({"web1": ["node4"]}, late=["node4"])
    facts = fleet.steady_facts()
    assert len(fleet.of("peer_facts")) == 1
    assert [one.name for one in facts["node4"].guests] == ["web1"]
    assert (facts["node4"].asker, facts["node4"].detail) == ("", "")


def test_a_second_look_asks_nobody_twice_who_could_not_be_reached():
    fleet = Asked({"web1": ["node1"]}, dead=["node5"], listed=["web1", "web2"])
    begun = fleet.clock.time
    facts = fleet.steady_facts()
    assert len(fleet.of("peer_facts")) == 1
    assert [nodes for nodes, _ in fleet.of("facts")] == [[*NODES], [*NODES[:-1]]]
    assert fleet.clock.time - begun == pytest.approx(DOUBT + LOOK), "it is later already"
    assert "timed out" in facts["node5"].detail


def test_a_second_look_waits_where_nobody_was_waited_for():
    fleet = Asked({"web1": ["node1"]}, listed=["web1", "web2"])
    begun = fleet.clock.time
    fleet.steady_facts()
    assert fleet.clock.time - begun == ASK_AGAIN
