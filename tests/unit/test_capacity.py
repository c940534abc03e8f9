"""If nodes are lost: who finds no place, and nobody else."""

import itertools
from dataclasses import replace

import pytest
import worlds
from test_placement import MIB, one, world

from saltext_kvmcluster.core.errors import InputError
from saltext_kvmcluster.core.facts.nodefacts import silent
from saltext_kvmcluster.core.failover import shortages
from saltext_kvmcluster.core.guest.blocker import Blocker
from saltext_kvmcluster.core.guest.domainxml import Interface
from saltext_kvmcluster.core.guest.tuning import Tuning
from saltext_kvmcluster.core.output import tables
from saltext_kvmcluster.core.pillar.clusters import Listed
from saltext_kvmcluster.core.pillar.ha import GuestHa
from saltext_kvmcluster.core.readiness.checks.base import World
from saltext_kvmcluster.core.verdicts import INCOMING, OUTGOING, Sighting


def short(found, number=1):
    return {row.guest: row.lost for row in shortages.report(found, number).shortages}


def with_list(found, **guests):
    """The same world, in which these guests are of the list; ``ha`` by guest, or None."""
    listed = {
        name: one if isinstance(one, Listed) else Listed(name, ha=one)
        for name, one in guests.items()
    }
    texts = dict.fromkeys(guests, "<domain/>")
    cluster = replace(found.cluster, guests=replace(found.cluster.guests, list=listed))
    nodes = {node: replace(one, definitions=texts) for node, one in found.nodes.items()}
    return World(cluster, nodes)


def test_all_fit_elsewhere():
    data = shortages.report(world([8, 8, 8], one("web1", 4), one("web2", 4)), 1).to_dict()
    assert data["ok"] and data["cases"] == 3 and data["guests"] == 2
    assert tables.render(data) == (
        "OK: if any node is lost, the others have a place for all its guests"
        " (3 cases, 2 active guests)"
    )


def test_who_finds_no_room_is_named_with_the_best_place_that_it_had():
    found = world([8, 4, 3], one("web1", 5), one("web2", 3, at="node2"))
    data = shortages.report(found, 1).to_dict()
    assert not data["ok"]
    assert tables.render(data) == (
        "NO PLACE  web1, if node1 is lost: node2, the best of 2 that could take it: node.memory"
        " (it needs 5 MiB, 4 MiB would be left)\n"
        "PROBLEM: 1 guest would find no place if any node is lost (3 cases, 2 active guests)"
    )


def test_room_is_given_once():
    assert short(world([8, 3, 3], one("web1", 3), one("web2", 3))) == {}
    found = short(world([8, 3, 3], one("web1", 3), one("web2", 3), one("web3", 2)))
    assert found == {"web3": ("node1",)}


def test_a_guest_moves_aside_for_one_that_has_no_other_place():
    guests = one("a", 3), one("b", 3, interfaces=(Interface("bridge", "br9"),))
    bridges = {"bridges": {"br0": True, "br9": True}}
    assert short(world([8, 4, 3], *guests, node2=bridges)) == {}
    assert set(short(world([8, 3, 2], *guests, node2=bridges))) == {"b"}


@pytest.mark.parametrize("number, expected", [(1, {}), (2, {"web2": ("node1", "node2")})])
def test_as_many_nodes_as_asked_for_are_lost_at_once(number, expected):
    found = world([8, 3, 3], one("web1", 3), one("web2", 3, at="node2"))
    assert short(found, number) == expected


def test_guests_that_are_kept_apart_take_no_place_beside_each_other():
    guests = one("web1", 1), one("web2", 1, at="node2")
    assert short(world([8, 8], *guests)) == {}
    assert set(short(world([8, 8], *guests, apart=[["web1", "web2"]]))) == {"web1", "web2"}
    hindered = with_list(world([8, 8], *guests), web1=GuestHa(apart=("web2",)), web2=GuestHa())
    assert set(short(hindered)) == {"web1", "web2"}


def test_a_guest_of_which_the_pillar_says_where_it_may_run_goes_nowhere_else():
    guest = one("web1", 1)
    assert (
        short(with_list(world([8, 8, 8], guest), web1=Listed("web1", only=("node1", "node3"))))
        == {}
    )
    found = shortages.report(
        with_list(world([8, 8], guest), web1=Listed("web1", only=("node1",))), 1
    )
    assert (
        "node2: guest.only (its only in the pillar names node1, and not the destination)"
        in found.shortages[0].why
    )


def test_guests_that_run_together_need_one_place():
    guests = one("web1", 3), one("db1", 3)
    keys = {"web1": GuestHa(with_=("db1",)), "db1": GuestHa()}
    assert short(with_list(world([8, 6], *guests), **keys)) == {}
    assert set(short(with_list(world([8, 5, 5], *guests), **keys))) == {"web1", "db1"}


def test_cordoned_and_silent_nodes_take_nobody():
    assert set(short(world([8, 8], one("web1"), cordoned=["node2"]))) == {"web1"}
    found = world([8, 8], one("web1"))
    report = shortages.report(
        World(found.cluster, {**found.nodes, "node2": silent("node2", "no response")}), 1
    )
    assert not report.ok and report.silent == {"node2": "no response"}
    assert [row.guest for row in report.shortages] == ["web1"]
    assert "PROBLEM  node2 reported nothing: no response" in tables.render(report.to_dict())


def test_memory_that_is_not_known_is_not_said_to_be_used():
    found = with_list(world([8, 8], one("web1", 2), node2={"free_kib": None}), web1=None)
    why = shortages.report(found, 1).shortages[0].why
    assert why == "node2: node.memory (not known: its available memory)"
    assert sentences(found) == []


def test_a_guest_of_which_nobody_tells_what_it_needs_is_not_said_to_fit():
    guest = one("web1")
    unknown = replace(guest, memory_kib=0, guest=replace(guest.guest, memory_kib=0))
    (row,) = shortages.report(world([8, 8], unknown), 1).shortages
    assert row.why == "node2: node.memory (not known: how much memory it needs)"


@pytest.mark.parametrize("size", [2048, 0])
def test_hugepages_are_given_once(size):
    def paged(name):
        guest = one(name, 512)
        tuning = Tuning(hugepages=((size, 524288),), mounted=False)
        return replace(guest, guest=replace(guest.guest, tuning=tuning))

    room = [2000, 2000]
    assert short(world(room, paged("web1"), paged("web2"))) == {}
    found = shortages.report(world(room, paged("web1"), paged("web2"), paged("web3")), 1)
    assert [row.guest for row in found.shortages] == ["web3"]
    assert "memory.hugepages (it needs 256 of 2048 KiB)" in found.shortages[0].why


def test_what_is_bound_to_its_host_finds_no_place():
    guest = one("web1", blockers=(Blocker("it uses the host's pci device"),))
    found = shortages.report(world([8, 8], guest), 1)
    assert "node2: guest.blockers (it uses the host's pci device)" in found.shortages[0].why


def test_a_listed_guest_needs_its_definition_there():
    found = with_list(world([8, 8], one("web1")), web1=None)
    nodes = {**found.nodes, "node2": replace(found.nodes["node2"], definitions={"web1": ""})}
    report = shortages.report(World(found.cluster, nodes), 1)
    assert "guest.definition (it has no definition there)" in report.shortages[0].why


def test_a_guest_that_moves_is_counted_once():
    halves = (
        one("web1", 4, sighting=Sighting.RUNNING, job=OUTGOING),
        one("web1", 4, at="node2", sighting=Sighting.WAITING, job=INCOMING),
    )
    report = shortages.report(world([8, 8, 8], *halves), 1)
    assert report.guests == 1 and report.ok


@pytest.mark.parametrize("wrong", [0, 3, "two", True, -1, 1.5])
def test_a_wrong_number_of_nodes_is_refused(wrong):
    with pytest.raises(InputError, match="nodes: want a whole number from 1 to 2"):
        shortages.count(worlds.cluster(worlds.NODES), wrong)


def test_more_sets_than_can_be_tried_are_refused():
    many = worlds.cluster([f"node{number}" for number in range(30)])
    assert shortages.count(many, 3) == 3
    with pytest.raises(InputError, match="27405 ways"):
        shortages.count(many, 4)
    with pytest.raises(InputError, match="one node"):
        shortages.count(worlds.cluster(["node1"]), 1)


def test_what_has_a_place_has_one_by_every_other_way_of_trying():
    """Against brute force: small worlds in which each guest may go to each node."""
    sizes = [1, 2, 3]
    for free in itertools.product([0, 2, 3, 5], repeat=2):
        guests = [one(f"web{size}", size) for size in sizes]
        stuck = short(world([8, *free], *guests))
        fit = any(
            all(
                sum(s for s, p in zip(sizes, places, strict=True) if p == node) <= room
                for node, room in enumerate(free)
            )
            for places in itertools.product(range(2), repeat=3)
        )
        if stuck:
            assert not fit or sum(free) - sum(sizes) <= 1, (free, stuck)
        else:
            assert fit, free


STATUS = world([8, 4, 3], one("web1", 5), one("web2", 3, at="node2"))


def sentences(found, spare=1):
    guests = replace(found.cluster.guests, spare_nodes=spare)
    return shortages.sentences(replace(found.cluster, guests=guests), found.nodes)


def test_status_names_the_guests_of_the_list_that_find_no_room():
    assert sentences(STATUS) == []
    listed = with_list(STATUS, web1=None, web2=None)
    assert sentences(listed) == [
        "if node1 is lost, web1 finds no place on the others: salt-run kvmcluster.capacity"
    ]
    assert sentences(listed, 0) == []
    assert (
        sentences(listed, 2)
        == [
            "if node1 and node2 are lost, web1 finds no place on the others: salt-run"
            " kvmcluster.capacity nodes=2",
            "if node1 and node3 are lost, web1 finds no place on the others: salt-run"
            " kvmcluster.capacity nodes=2",
        ][:1]
    )


def test_status_counts_cordoned_nodes_and_not_what_could_go_nowhere_anyway():
    found = with_list(world([8, 8], one("web1", 2), cordoned=["node2"]), web1=None)
    assert sentences(found) == []
    gone = {**found.nodes, "node2": silent("node2", "no response")}
    assert sentences(World(found.cluster, gone)) == []


def test_status_names_the_first_nodes_alone():
    names = [f"web{number}" for number in range(1, 13)]
    guests = [one(name, 2, at=f"node{number}") for number, name in enumerate(names, 1)]
    found = sentences(with_list(world([1] * 12, *guests), **dict.fromkeys(names)))
    assert len(found) == 11 and found[-1].startswith("2 more nodes")
    assert MIB == 1024
