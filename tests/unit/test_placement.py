"""Which guest goes where: no plan overfills a node, breaks a rule, or forgets a guest."""

import itertools
from collections import Counter
from dataclasses import replace

import pacemakers
import pytest
import worlds
from hypothesis import given
from hypothesis import strategies as st
from worlds import RUNNING, WEB

from saltext_kvmcluster.core.cordons import Cordon
from saltext_kvmcluster.core.drain import evening, placement
from saltext_kvmcluster.core.errors import InputError, WorldError
from saltext_kvmcluster.core.facts.nodefacts import silent
from saltext_kvmcluster.core.guest.domainxml import Frozen
from saltext_kvmcluster.core.migration.migration import Move
from saltext_kvmcluster.core.pillar.clusters import Listed
from saltext_kvmcluster.core.pillar.ha import GuestHa
from saltext_kvmcluster.core.readiness import examination
from saltext_kvmcluster.core.readiness.checks.base import World
from saltext_kvmcluster.core.readiness.checks.node import memory, needed_memory
from saltext_kvmcluster.core.verdicts import INCOMING, OUTGOING, Sighting

MIB = 1024
TOTAL = 16


def one(name, size=1, at="node1", vcpus=1, sighting=Sighting.RUNNING, job="", **changes):
    """A guest of ``size`` MiB without disks."""
    uuid = f"uuid of {name}"
    observation = replace(RUNNING, name=name, uuid=uuid, sighting=sighting, job=job)
    definition = replace(WEB, name=name, uuid=uuid, disks=(), memory_kib=size * MIB, **changes)
    return worlds.guest(at, observation, definition, disks=(), memory_kib=size * MIB, vcpus=vcpus)


CLOSED = (Cordon("", "updates"),)


def world(free, *guests, threads=0, homes=None, apart=(), cordoned=(), **changes):
    """Nodes node1, node2, … of 16 MiB, of which so many are free; ``changes`` by node."""
    names = [f"node{number}" for number in range(1, len(free) + 1)]
    nodes = {}
    for name, left in zip(names, free, strict=True):
        here = tuple(guest for guest in guests if guest.node == name)
        body = {"guests": here, "memory_kib": TOTAL * MIB, "free_kib": left * MIB}
        daemon = worlds.daemon(name, threads=threads)
        found = worlds.node(name, names, daemon=daemon, clock=0.0, **body)
        shut = CLOSED if name in cordoned else ()
        nodes[name] = replace(found, cordoned=shut, **changes.get(name, {}))
    listed = {guest: {"home": node} for guest, node in (homes or {}).items()}
    pillar = {"list": listed, "apart": [list(group) for group in apart]}
    return World(worlds.cluster(names, guests=pillar), nodes)


def drained(found, node="node1", ready=None, **more):
    ready = ready or examination.examine(found, source=node)
    return placement.drain(found, ready, node, **more)


def brought_home(found, node="node1", ready=None, **more):
    ready = ready or examination.examine(found, destination=node)
    return placement.home(found, ready, node, **more)


def evened(found, most=10, ready=None, **more):
    return placement.balance(found, ready or examination.examine(found), most, **more)


def moves(plan):
    return [(step.move.guest, step.move.destination) for step in plan.steps]


def test_a_guest_goes_where_most_is_left_with_it():
    plan = drained(world([8, 4, 6], one("web1", 2)))
    assert moves(plan) == [("web1", "node3")] and plan.stuck == {}
    (step,) = plan.steps
    assert step.move == Move("web1", "uuid of web1", "node1", "node3")
    assert step.why == (
        "least loaded of 2 eligible nodes; as planned, node3 has 75 % of its memory in use"
    )


def of_pacemaker(found, **guests):
    """The same world with ha for guests, and Pacemaker on every node."""
    listed = {
        name: one if isinstance(one, Listed) else Listed(name, ha=one)
        for name, one in guests.items()
    }
    known = replace(found.cluster, guests=replace(found.cluster.guests, list=listed))
    nodes = {
        name: replace(node, pacemaker=pacemakers.view(node=name))
        for name, node in found.nodes.items()
    }
    return World(known, nodes)


def test_a_guest_of_pacemakers_goes_where_it_may_stay():
    found = world([8, 8, 4], one("web1", 2))
    assert moves(drained(of_pacemaker(found, web1=GuestHa()))) == [("web1", "node2")]
    only = of_pacemaker(found, web1=Listed("web1", only=("node1", "node3"), ha=GuestHa()))
    assert moves(drained(only)) == [("web1", "node3")]
    beside = world([8, 8, 4], one("web1", 2), one("web2", 1, at="node2"))
    apart = of_pacemaker(beside, web1=GuestHa(), web2=GuestHa(apart=("web1",)))
    assert moves(drained(apart)) == [("web1", "node3")]


def test_what_pacemaker_manages_goes_unless_it_cannot_be_held():
    found = world([8, 8], one("web1", 2), one("web2", 2))
    for case in ("running", "unmanaged", "blocked"):
        nodes = {
            name: replace(node, pacemaker=pacemakers.view(case, name))
            for name, node in found.nodes.items()
        }
        plan = drained(World(found.cluster, nodes))
        assert ("web1" in plan.stuck) is (case == "blocked") and "web2" not in plan.stuck
        why = {step.move.guest: step.why for step in plan.steps}
        assert "crm_resource --refresh" not in why["web2"]
        must_follow = "crm_resource --refresh -r web1" in why.get("web1", "")
        assert must_follow is (case == "unmanaged")
        if case == "blocked":
            assert "Pacemaker manages it, as its resource web1" in plan.stuck["web1"]


def test_nodes_that_are_alike_are_taken_by_name():
    assert moves(drained(world([8, 4, 4], one("web1")))) == [("web1", "node2")]


def test_what_is_planned_counts_for_who_comes_next():
    plan = drained(world([8, 6, 6], one("a", 2), one("b", 2), one("c", 1)))
    assert moves(plan) == [("a", "node2"), ("b", "node3"), ("c", "node2")]


def test_the_biggest_comes_first():
    plan = drained(world([0, 16], one("a", 1), one("b", 3), one("c", 2)))
    assert [step.move.guest for step in plan.steps] == ["b", "c", "a"]


def test_cpus_count_where_they_are_the_scarcer_part():
    busy = one("busy", 1, "node3", vcpus=12)
    found = world([8, 8, 12], one("web1", 1, vcpus=2), busy, threads=8)
    assert moves(drained(found)) == [("web1", "node2")]
    unknown = world([8, 8, 12], one("web1", 1, vcpus=2), busy)
    assert moves(drained(unknown)) == [("web1", "node3")]
    only = drained(world([8, 8], one("web1", 1, vcpus=20), threads=8)).steps[0]
    assert only.why == (
        "the only eligible node; as planned, node2 has 2.50 vCPUs for each of its CPUs"
    )


def test_home_is_preferred_to_more_room():
    homes = {"web1": "node2", "web2": "node1"}
    plan = drained(world([8, 4, 8], one("web1", 2), one("web2", 2), homes=homes))
    assert moves(plan) == [("web1", "node2"), ("web2", "node3")]
    assert plan.steps[0].why.startswith("its home node; ")


def test_a_home_that_is_closed_or_to_be_avoided_is_none():
    homes = {"web1": "node2"}
    shut = world([8, 4, 8], one("web1", 2), homes=homes, cordoned=["node2"])
    assert moves(drained(shut)) == [("web1", "node3")]
    found = world([8, 4, 8], one("web1", 2), homes=homes)
    avoid = {"web1": ["node2"], "web2": ["node3"]}
    assert moves(drained(found, avoid=avoid)) == [("web1", "node3")]


def test_a_node_that_is_none_of_ours_may_be_avoided():
    found = world([8, 4], one("web1"))
    assert moves(drained(found, avoid={"web1": ["gone"]})) == [("web1", "node2")]


def test_guests_that_are_apart_part_ways_and_stay_away_from_whom_they_find():
    there = one("web3", 1, "node2")
    found = world([8, 16, 4, 4], one("web1"), one("web2"), there, apart=[["web1", "web2", "web3"]])
    plan = drained(found)
    assert moves(plan) == [("web1", "node3"), ("web2", "node4")]


def test_who_is_nowhere_apart_is_stuck_with_that_reason():
    there = one("web3", 1, "node2")
    found = world([8, 16, 4], one("web1"), one("web2"), there, apart=[["web1", "web2", "web3"]])
    plan = drained(found)
    assert moves(plan) == [("web1", "node3")]
    assert plan.stuck == {
        "web2": "no eligible node: node2: to be kept apart from web3, which is there; node3: to be"
        " kept apart from web1, which goes there"
    }


def test_a_conflict_that_is_there_already_keeps_nobody_else_away():
    here = [one("web1", 1, "node2"), one("web2", 1, "node2")]
    found = world([8, 8], one("db"), *here, apart=[["web1", "web2"], ["db", "web9"]])
    assert moves(drained(found)) == [("db", "node2")]


def test_one_that_is_shut_off_there_keeps_nobody_away():
    off = one("web2", 1, "node2", sighting=Sighting.SHUT_OFF)
    assert moves(drained(world([8, 8], one("web1"), off, apart=[["web1", "web2"]]))) == [
        ("web1", "node2")
    ]


def test_every_reason_is_told_and_destinations_that_share_them_are_together():
    frozen = one("db", 1, frozen=Frozen("a test", "2026-01-01"))
    big = one("big", 9)
    found = world([8, 4, 4, 9, 12], frozen, big, cordoned=["node4"], node5={"bridges": {}})
    plan = drained(found, avoid={"big": ["node4"]})
    assert plan.steps == ()
    assert plan.stuck == {
        "big": "no eligible node: node2, node3: node.memory (it needs 9 MiB of memory, 4 MiB are"
        " available on the destination); node4: node.cordon (it is cordoned: updates), its"
        " migration there failed; node5: network.present (bridge br0 does not exist on the"
        " destination)",
        "db": "no eligible node: node2, node3: guest.frozen (it was frozen 2026-01-01: a test);"
        " node4: node.cordon (it is cordoned: updates), guest.frozen (it was frozen 2026-01-01: a"
        " test); node5: network.present (bridge br0 does not exist on the destination),"
        " guest.frozen (it"
        " was frozen 2026-01-01: a test)",
    }


def test_one_reason_for_all_nodes_is_told_once():
    frozen = one("db", 1, frozen=Frozen("a test", "2026-01-01"))
    detail = drained(world([8, 4, 4], frozen)).stuck["db"]
    assert detail == "no eligible node: guest.frozen (it was frozen 2026-01-01: a test)"


def test_many_nodes_that_share_a_reason_are_counted():
    detail = drained(world([8] + [1] * 8, one("big", 2))).stuck["big"]
    assert detail == (
        "no eligible node: node.memory (it needs 2 MiB of memory, 1 MiB are available on the"
        " destination)"
    )
    detail = drained(world([8] + [1] * 8, one("big", 2), cordoned=["node2"])).stuck["big"]
    assert "node3, node4, node5, node6, node7 and 2 more: node.memory" in detail


def test_of_a_cluster_of_one_node_nobody_leaves():
    detail = drained(world([8], one("web1"))).stuck["web1"]
    assert detail == "there is no other node"


def test_who_was_not_examined_is_not_forgotten():
    found = world([8, 8], one("web1"), one("web2"))
    plan = placement.drain(found, examination.examine(found, "web1"), "node1")
    assert moves(plan) == [("web1", "node2")] and plan.stuck == {"web2": "not examined"}


def test_memory_that_is_taken_by_the_plan_is_told_as_such():
    plan = drained(world([8, 4], one("a", 3), one("b", 2)))
    assert moves(plan) == [("a", "node2")]
    assert plan.stuck == {
        "b": "node2 is not eligible: node.memory (planned guests leave less than its 2 MiB)"
    }


@pytest.mark.parametrize(
    "arriving",
    [
        {"sighting": Sighting.PAUSED_FOR_MIGRATION, "job": INCOMING},
        {"sighting": Sighting.PAUSED_FOR_MIGRATION},
        {"sighting": Sighting.PAUSED_IN_POST_COPY, "job": INCOMING},
        {"sighting": Sighting.RUNNING_IN_POST_COPY},
    ],
)
def test_room_is_kept_for_who_is_on_its_way(arriving):
    in_flight = one("late", 3, "node2", **arriving)
    found = world([8, 4, 2], one("web1", 2), in_flight, one("late", 3, "node3", job=OUTGOING))
    assert moves(drained(found)) == [("web1", "node3")]
    assert moves(drained(found, avoid={"web1": ["node3"]})) == []


def test_who_leaves_a_node_is_not_on_its_way_there():
    leaving = one("x", 3, "node2", sighting=Sighting.PAUSED_FOR_MIGRATION, job=OUTGOING)
    assert moves(drained(world([8, 4], one("web1", 2), leaving))) == [("web1", "node2")]


def test_moves_that_wait_keep_their_room_and_are_left_out():
    waits = Move("web2", "uuid of web2", "node1", "node2")
    found = world([8, 4, 2], one("web1", 2), one("web2", 3))
    plan = drained(found, in_flight=[waits])
    assert moves(plan) == [("web1", "node3")] and plan.stuck == {}
    guests, apart = (one("web1", 2), one("web2", 3)), [["web1", "web2"]]
    both = world([8, 4, 2], *guests, apart=apart, cordoned=["node3"])
    detail = drained(both, in_flight=[waits]).stuck["web1"]
    assert "to be kept apart from web2, which is there" in detail.replace("goes", "is")


def test_room_is_kept_once_for_who_is_told_of_and_seen():
    waits = Move("late", "uuid of late", "node3", "node2")
    for observed in ({"sighting": Sighting.PAUSED_FOR_MIGRATION, "job": INCOMING}, {}):
        there = one("late", 1, "node2", **observed)
        found = world([8, 3, 0], one("web1", 2), there)
        assert moves(drained(found, in_flight=[waits, waits])) == [("web1", "node2")]


def test_a_move_that_nobody_knows_keeps_nobody_away():
    lost = [Move("lost", "u", "node1", "node2"), Move("other", "u", "node1", "gone")]
    assert moves(drained(world([8, 3], one("web1", 2)), in_flight=lost)) == [("web1", "node2")]


def test_after_a_failure_the_rest_is_planned_anew():
    found = world([8, 4, 4, 3], one("web1", 2), one("web2", 2), one("web3", 2))
    first = dict(moves(drained(found)))
    assert first == {"web1": "node2", "web2": "node3", "web3": "node4"}
    arrived = replace(one("web2", 2), node="node3")
    later = world([8, 4, 2, 3], one("web1", 2), one("web3", 2), arrived, cordoned=["node2"])
    again = drained(later, avoid={"web1": ["node3"]})
    assert moves(again) == [("web1", "node4"), ("web3", "node3")]


def test_one_moves_aside_for_another_that_would_be_stranded():
    """Biggest first alone puts 6 on node2, where most is free, then 5 on node3, and strands 5."""
    plan = drained(world([0, 10, 6], one("a", 6), one("b", 5), one("c", 5)))
    assert plan.stuck == {}
    assert dict(moves(plan)) == {"a": "node3", "b": "node2", "c": "node2"}
    assert any("to make room" in step.why for step in plan.steps)


def test_who_can_go_to_one_node_alone_gets_it_though_it_comes_last():
    found = world([0, 5, 4], one("a", 4), one("b", 3))
    plan = drained(found, avoid={"b": ["node3"]})
    assert plan.stuck == {} and dict(moves(plan)) == {"a": "node3", "b": "node2"}


def test_one_moves_aside_for_another_that_is_to_be_apart_from_it():
    found = world([0, 9, 8], one("a", 2), one("b", 1), apart=[["a", "b"]])
    plan = drained(found, avoid={"b": ["node3"]})
    assert plan.stuck == {} and dict(moves(plan)) == {"a": "node3", "b": "node2"}


def test_one_for_whom_two_had_to_move_aside_is_tried_again():
    """a may go to node2 alone, and not with b and c, who live there until g and k displace them."""
    found = world(
        [0, 16, 16],
        *(one(name, size) for name, size in zip("abcgk", (3, 4, 4, 1, 1), strict=True)),
        homes={"b": "node2", "c": "node2"},
        apart=["ab", "ac", "bg", "ck"],
    )
    plan = drained(found, avoid={name: ["node3"] for name in "agk"})
    assert plan.stuck == {}
    assert dict(moves(plan)) == {**dict.fromkeys("agk", "node2"), **dict.fromkeys("bc", "node3")}


def test_a_node_that_tells_nothing_cannot_be_drained():
    found = world([8, 8], one("web1"))
    nodes = {**found.nodes, "node1": silent("node1", "timed out")}
    with pytest.raises(WorldError, match=r"its guests are not known: timed out\Z"):
        drained(World(found.cluster, nodes))
    alone = World(found.cluster, {"node2": found.nodes["node2"]})
    with pytest.raises(WorldError, match=r"nothing was moved off node1: .* not known\Z"):
        placement.drain(alone, examination.examine(alone), "node1")
    with pytest.raises(InputError, match="node9 is not a node"):
        drained(found, "node9")


def test_home_brings_back_who_lives_there_and_nobody_else():
    homes = {"web1": "node1", "web2": "node1", "web3": "node2", "web4": "node1", "web5": "node1"}
    guests = [one("web1", 1, "node2"), one("web2", 2, "node3"), one("web3", 1, "node3")]
    guests += [one("web4", 1, "node1"), one("web5", 1, "node2", sighting=Sighting.SHUT_OFF)]
    plan = brought_home(world([8, 8, 8], *guests, one("db", 1, "node2"), homes=homes))
    assert moves(plan) == [("web2", "node1"), ("web1", "node1")] and plan.stuck == {}
    assert [step.move.source for step in plan.steps] == ["node3", "node2"]
    assert plan.steps[0].why.startswith("its home node; ")


def test_who_cannot_come_home_is_told_why():
    homes = {"web1": "node1", "web2": "node1", "web3": "node1"}
    guests = [one("web1", 3, "node2"), one("web2", 2, "node3"), one("web3", 1, "node3")]
    found = world([4, 8, 8], *guests, one("db"), homes=homes, apart=[["db", "web3"]])
    plan = brought_home(found)
    assert moves(plan) == [("web1", "node1")]
    assert plan.stuck == {
        "web2": "node1 is not eligible: node.memory (planned guests leave less than its 2 MiB)",
        "web3": "node1 is not eligible: to be kept apart from db, which is there",
    }
    shut = world([4, 8, 8], *guests, homes=homes, cordoned=["node1"])
    detail = brought_home(shut).stuck["web1"]
    assert detail == "node1 is not eligible: node.cordon (it is cordoned: updates)"


def test_of_what_is_against_a_guest_its_home_alone_is_told():
    found = world([4, 8, 3], one("web1", 5, "node2"), homes={"web1": "node1"})
    detail = brought_home(found, ready=examination.examine(found)).stuck["web1"]
    assert detail == (
        "node1 is not eligible: node.memory (it needs 5 MiB of memory, 4 MiB are available on"
        " the destination)"
    )


def test_who_may_be_on_a_silent_node_is_not_taken_for_absent():
    homes = {"web1": "node1", "web2": "node1"}
    found = world([8, 8, 8], one("web1", 1, "node2"), homes=homes)
    assert brought_home(found).stuck == {}
    nodes = {**found.nodes, "node3": silent("node3", "timed out")}
    plan = brought_home(World(found.cluster, nodes))
    assert moves(plan) == [("web1", "node1")]
    assert plan.stuck == {"web2": "its location is not known: no response from node3"}


def test_the_best_destination_of_one_guest():
    found = world([8, 4, 6], one("web1", 2), one("web2", 9))
    step = placement.best(found, examination.examine(found, "web1"), "web1")
    assert step.move.destination == "node3" and step.why.startswith("least loaded")
    with pytest.raises(
        WorldError, match=r"web2 was not migrated: no eligible node: .*node\.memory"
    ):
        placement.best(found, examination.examine(found, "web2"), "web2")
    with pytest.raises(InputError, match=r"has a guest web; to list the guests"):
        placement.best(found, examination.examine(found), "web")
    shut = world([8, 4, 6], one("web1", 2), cordoned=["node3"])
    assert placement.best(shut, examination.examine(shut), "web1").move.destination == "node2"


def test_balance_relieves_the_busiest_of_what_evens_out_most():
    guests = [one("a", 7), one("b", 4), one("c", 1), one("d", 2, "node2")]
    plan = evened(world([4, 12, 14], *guests), 1)
    assert moves(plan) == [("b", "node3")] and plan.stuck == {}
    assert plan.steps[0].why == (
        "lowers the higher load of the two nodes from 0.75 to 0.50: then node1 has 50 % of its"
        " memory in use, and node3 38 % of its memory in use"
    )


def test_balance_stops_when_no_move_helps_noticeably():
    plan = evened(world([4, 12, 14], one("a", 6), one("b", 4), one("c", 1)))
    assert len(plan.steps) == 2
    assert evened(world([8, 8], one("a", 6))).steps == ()
    assert evened(world([8, 9], one("a", 1))).steps == (), "it would only change places"
    assert evened(world([4, 16], one("a", 6)), 0).steps == ()


def test_balance_keeps_the_rules():
    guests = [one("a", 4), one("b", 4, "node2"), one("c", 4, frozen=Frozen("x", "y"))]
    found = world([4, 12, 16], *guests, apart=[["a", "b"]])
    assert moves(evened(found)) == [("a", "node3")]
    for node in ("node1", "node3"):
        shut = world([4, 12, 16], *guests, apart=[["a", "b"]], cordoned=[node])
        assert evened(shut).steps == ()
    assert evened(found, avoid={"a": ["node3"]}).steps == ()
    assert evened(found, in_flight=[Move("a", "uuid of a", "node1", "node3")]).steps == ()


def test_guests_that_use_less_than_they_may_free_no_more_than_that():
    """12 MiB are in use of 48 that guests may use: one that leaves frees a quarter of one."""
    idle = [one(f"g{number}") for number in range(48)]
    assert evened(world([4, 16], *idle)).steps == ()
    assert evened(world([4, 16], *idle[:12])).steps != ()


def test_room_that_another_move_makes_is_not_counted_on():
    """node1 has room for b when a has left: the two may be under way at once, or a may fail."""
    late = one("late", 2, sighting=Sighting.PAUSED_FOR_MIGRATION, job=INCOMING)
    found = world([2, 1, 10], one("a", 4), one("b", 2, "node2"), late)
    assert moves(evened(found, avoid={"b": ["node3"]})) == [("a", "node3")]


def test_a_node_whose_guests_cannot_move_hides_no_other():
    stays = one("stays", 12, frozen=Frozen("x", "y"))
    plan = evened(world([2, 6, 16], stays, one("b", 5, "node2"), one("c", 4, "node2")))
    assert [(step.move.source, step.move.guest) for step in plan.steps] == [("node2", "b")]


# Any cluster: 2 to 5 nodes, up to 8 guests.

NAMES = [f"g{number}" for number in range(8)]
NODES = [f"node{number}" for number in range(1, 6)]
SOME_NODES = st.sets(st.sampled_from(NODES), max_size=2)
SIGHTINGS = st.sampled_from(
    [
        *[(Sighting.RUNNING, "")] * 6,
        (Sighting.PAUSED_BY_USER, ""),
        (Sighting.RUNNING, OUTGOING),
        (Sighting.PAUSED_FOR_MIGRATION, INCOMING),
        (Sighting.SHUT_OFF, ""),
    ]
)


@st.composite
def clusters(draw):
    """Return a world, and what a plan has to mind besides."""
    free = draw(st.lists(st.integers(0, 12), min_size=2, max_size=5))
    here = NODES[: len(free)]
    places = st.sampled_from([here[0], *here])
    guests = [
        one(
            name,
            draw(st.integers(1, 6)),
            draw(places),
            draw(st.integers(1, 4)),
            *draw(SIGHTINGS),
            frozen=draw(st.sampled_from([None] * 9 + [Frozen("x", "y")])),
        )
        for name in NAMES[: draw(st.integers(1, 8))]
    ]
    group = st.lists(st.sampled_from(NAMES), min_size=2, max_size=4, unique=True)
    found = world(
        free,
        *guests,
        threads=draw(st.sampled_from([0, 4])),
        homes=draw(st.dictionaries(st.sampled_from(NAMES), places, max_size=4)),
        apart=draw(st.lists(group, max_size=2)),
        cordoned=draw(SOME_NODES),
        **draw(st.dictionaries(places, st.just({"bridges": {}}), max_size=1)),
    )
    moving = st.builds(Move, st.sampled_from(NAMES), st.just("u"), places, places)
    return found, {
        "avoid": draw(st.dictionaries(st.sampled_from(NAMES), SOME_NODES, max_size=3)),
        "in_flight": draw(st.lists(moving, max_size=2, unique_by=lambda one: one.guest)),
    }


def keeps_the_rules(found, ready, plan, avoid, in_flight):
    """Assert what holds of every plan, whatever it is for."""
    names = [step.move.guest for step in plan.steps]
    assert max(Counter(names).values(), default=0) <= 1, "moved twice"
    assert not {*names} & {*plan.stuck}
    assert not {*names} & {move.guest for move in in_flight}
    allowed = {(row.guest.node, row.guest.name): row for row in ready.rows}
    for step in plan.steps:
        move = step.move
        assert move.destination in allowed[move.source, move.guest].movable_to
        assert move.destination not in avoid.get(move.guest, ())
        assert not found.nodes[move.destination].cordoned
        assert step.why
    for node in found.nodes:
        there_is_room(found, plan, node, in_flight)
        nobody_meets(found, plan, node, in_flight)


def there_is_room(found, plan, node, in_flight):
    """Assert that a node can hold all that is sent there, one after another, by the check."""
    here = [guest for guest in found.nodes[node].guests if guest.active]
    arriving = [guest for guest in here if guest.observation.job == INCOMING]
    expected = [
        guest
        for move in in_flight
        if move.destination == node and move.guest not in {guest.name for guest in here}
        for guest in found.by_name.get(move.guest, [])[:1]
    ]
    sent = [
        next(one for one in found.by_name[step.move.guest] if one.node == step.move.source)
        for step in plan.steps
        if step.move.destination == node
    ]
    free = found.nodes[node].free_kib
    free -= sum(needed_memory(found, guest) for guest in [*arriving, *expected])
    for guest in sent:
        assert list(memory(found, needed_memory(found, guest), free)) == []
        free -= needed_memory(found, guest)


def nobody_meets(found, plan, node, in_flight):
    """Assert that nobody is sent where one is, or comes, from whom it is to be apart."""
    sent = {step.move.guest for step in plan.steps if step.move.destination == node}
    there = {guest.name for guest in found.nodes[node].guests if guest.active}
    there |= {move.guest for move in in_flight if move.destination == node}
    for group in found.cluster.guests.apart:
        for guest in sent.intersection(group):
            assert not (sent | there).intersection(group) - {guest}


@given(clusters())
def test_a_drain_keeps_the_rules_and_forgets_nobody(case):
    found, more = case
    ready = examination.examine(found)
    plan = drained(found, ready=ready, **more)
    keeps_the_rules(found, ready, plan, **more)
    on_their_way = {move.guest for move in more["in_flight"]}
    here = {guest.name for guest in found.nodes["node1"].guests if guest.active} - on_their_way
    assert {step.move.guest for step in plan.steps} | {*plan.stuck} == here
    assert all(detail.isprintable() and detail[-2:] != ": " for detail in plan.stuck.values())
    sizes = [found.by_name[step.move.guest][0].memory_kib for step in plan.steps]
    assert sizes == sorted(sizes, reverse=True)


@given(clusters())
def test_home_keeps_the_rules_and_forgets_nobody(case):
    found, more = case
    ready = examination.examine(found)
    plan = brought_home(found, ready=ready, **more)
    keeps_the_rules(found, ready, plan, **more)
    assert {step.move.destination for step in plan.steps} <= {"node1"}
    away = {guest.name for guest in found.guests if guest.active and guest.node != "node1"}
    live_here = {name for name, one in found.cluster.guests.list.items() if one.home == "node1"}
    on_their_way = {move.guest for move in more["in_flight"]}
    assert {step.move.guest for step in plan.steps} | {*plan.stuck} == (
        away & live_here - on_their_way
    )


@given(clusters(), st.integers(0, 3))
def test_balance_keeps_the_rules_and_evens_out(case, most):
    found, more = case
    ready = examination.examine(found)
    plan = evened(found, most, ready, **more)
    keeps_the_rules(found, ready, plan, **more)
    assert len(plan.steps) <= most and not plan.stuck
    for step in plan.steps:
        assert not found.nodes[step.move.source].cordoned
        if step.mends:
            continue
        words = step.why.split()
        before, after = (float(words[words.index(at) + 1].rstrip(":")) for at in ("from", "to"))
        assert after <= before - evening.NOTICEABLE + 0.011, "as printed, two digits"


@given(clusters())
def test_the_same_world_gives_the_same_plan_whatever_the_order_it_is_told_in(case):
    found, more = case
    nodes = {
        node: replace(facts, guests=facts.guests[::-1])
        for node, facts in reversed(found.nodes.items())
    }
    turned = World(found.cluster, nodes)
    ready, again = examination.examine(found), examination.examine(turned)
    for planned in (drained, brought_home, evened):
        plan = planned(found, ready=ready, **more)
        assert plan == planned(found, ready=ready, **more) == planned(turned, ready=again, **more)


@given(
    st.lists(st.integers(0, 3), min_size=1, max_size=3),
    st.lists(st.sets(st.sampled_from(NODES[1:4])), min_size=1, max_size=5),
)
def test_of_guests_of_one_size_none_is_stranded_that_could_have_a_place(free, avoid):
    guests = [one(name) for name in NAMES[: len(avoid)]]
    shut = dict(zip(NAMES, avoid, strict=False))
    plan = drained(world([0, *free], *guests), avoid=shut)
    ways = [[None, *(set(NODES[1 : len(free) + 1]) - some)] for some in avoid]
    room = dict(zip(NODES[1:], free, strict=False))
    most = max(
        sum(node is not None for node in chosen)
        for chosen in itertools.product(*ways)
        if all(chosen.count(node) <= left for node, left in room.items())
    )
    assert len(plan.steps) == most
