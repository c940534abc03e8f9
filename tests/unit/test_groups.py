"""Groups in plans: none is broken that could be kept, by brute force; and the words of plans."""

from dataclasses import replace

import groups_oracle
import pytest
import test_placement
import worlds
from test_placement import brought_home, drained, evened, moves, one

from saltext_kvmcluster.core.cordons import Cordon
from saltext_kvmcluster.core.drain import placement
from saltext_kvmcluster.core.errors import InputError, WorldError
from saltext_kvmcluster.core.guest.domainxml import Frozen
from saltext_kvmcluster.core.readiness import examination
from saltext_kvmcluster.core.readiness.checks.base import World


def world(case):
    """The cluster of a case, or why its pillar is refused."""
    names = list(case.free)
    listed = {name: {} for name in case.guests}
    for key in ("only", "prefer"):
        for name, nodes in getattr(case, key).items():
            listed[name][key] = list(nodes)
    pillar = {"list": listed, "apart": case.apart, "with": case.together}
    cluster = worlds.cluster(names, guests=pillar)
    nodes = {}
    for node in names:
        guests = tuple(
            one(name, size, at, frozen=Frozen("x", "y") if frozen else None)
            for name, (at, size, frozen) in case.guests.items()
            if at == node
        )
        body = {"guests": guests, "memory_kib": 16 * 1024, "free_kib": case.free[node] * 1024}
        found = worlds.node(node, names, daemon=worlds.daemon(node), **body)
        shut = (Cordon("", "x"),) if node in case.cordoned else ()
        nodes[node] = replace(found, cordoned=shut)
    return World(cluster, nodes)


def judge(seed):
    """Compare both plans of one random cluster with the best that there is; None if refused."""
    case = groups_oracle.case(seed)
    try:
        found = world(case)
    except InputError:
        return None
    ready = examination.examine(found)
    here = [name for name, (at, _, _) in case.guests.items() if at == "node1"]
    plan = placement.drain(found, ready, "node1")
    sent = {step.move.guest: step.move.destination for step in plan.steps}
    assert case.allowed(sent), (seed, "drain", sent)
    got = len(here) - len(sent), case.outcome({**case.now(), **sent})[2]
    assert got == groups_oracle.best_drain(case, "node1"), (seed, "drain", got, sent)
    for most in (2, 10):
        plan = placement.balance(found, ready, most)
        sent = {step.move.guest: step.move.destination for step in plan.steps}
        assert len(sent) <= most and case.allowed(sent), (seed, "balance", most, sent)
        got = case.outcome({**case.now(), **sent})
        assert got == groups_oracle.best_balance(case, most), (seed, "balance", most, got, sent)
    return case


@pytest.mark.parametrize("first", range(0, 300, 50))
def test_no_group_is_broken_that_could_be_kept(first):
    cases = [judge(seed) for seed in range(first, first + 50)]
    assert sum(case is not None for case in cases) > 30


@pytest.mark.nightly
def test_no_group_is_broken_that_could_be_kept_in_ten_thousand_clusters():
    assert sum(judge(seed) is not None for seed in range(10_000)) > 8_000


def grouped(free, *guests, together=(), only=None, prefer=None, homes=None, apart=()):
    """A world as of test_placement, with rules of the pillar."""
    found = test_placement.world(free, *guests)
    listed = {name: {} for name in {*(only or {}), *(prefer or {}), *(homes or {})}}
    for key, values in (("only", only), ("prefer", prefer), ("home", homes)):
        for name, value in (values or {}).items():
            listed[name][key] = value
    pillar = {"list": listed, "with": [*together], "apart": [*apart]}
    return World(worlds.cluster(list(found.nodes), guests=pillar), found.nodes)


def test_a_group_leaves_together_to_a_node_that_has_room_for_all():
    guests = one("db", 3), one("web", 2)
    plan = drained(grouped([8, 6, 4], *guests, together=[["db", "web"]]))
    assert moves(plan) == [("db", "node2"), ("web", "node2")]
    assert "least loaded of 2 eligible nodes, with web;" in plan.steps[0].why
    assert "NOT together" not in plan.steps[0].why


def test_a_group_follows_those_of_it_that_are_elsewhere():
    guests = one("db", 1), one("web", 1, "node3")
    assert moves(drained(grouped([8, 9, 4], *guests, together=[["db", "web"]]))) == [
        ("db", "node3")
    ]


def test_a_group_that_must_be_parted_says_why():
    guests = one("db", 3), one("web", 2)
    plan = drained(grouped([8, 3, 3], *guests, together=[["db", "web"]]))
    assert moves(plan) == [("db", "node2"), ("web", "node3")] and plan.stuck == {}
    assert "; NOT together with web on node3: no node can take all of them;" in plan.steps[0].why
    frozen = one("db", 3), one("web", 2, frozen=Frozen("x", "y"))
    plan = drained(grouped([8, 8, 8], *frozen, together=[["db", "web"]]))
    assert moves(plan) == [("db", "node2")]
    assert "NOT together with web on node1: web cannot leave node1 (guest.frozen), and node1" in (
        plan.steps[0].why
    )


def test_preferred_nodes_are_taken_in_order_and_others_if_none_can():
    guest = one("web", 4)
    prefer = {"web": ["node3", "node2"]}
    assert moves(drained(grouped([8, 8, 5, 8], guest, prefer=prefer))) == [("web", "node3")]
    assert moves(drained(grouped([8, 5, 3, 8], guest, prefer=prefer))) == [("web", "node2")]
    plan = drained(grouped([8, 2, 3, 8], guest, prefer=prefer))
    assert moves(plan) == [("web", "node4")] and plan.steps[0].why.startswith("the only eligible")


def test_only_keeps_a_guest_where_it_may_run_and_says_so():
    found = grouped([8, 8, 8], one("web", 1), only={"web": ["node1", "node3"]})
    assert moves(drained(found)) == [("web", "node3")]
    stuck = grouped([8, 8], one("web", 1), only={"web": ["node1"]})
    assert drained(stuck).stuck == {
        "web": "node2 is not eligible: guest.only (its only in the pillar names node1, and not the"
        " destination)"
    }


def test_a_single_guest_goes_to_its_group_and_says_if_it_leaves_it():
    guests = one("db", 1), one("web", 1, "node3")
    found = grouped([8, 9, 4], *guests, together=[["db", "web"]])
    step = placement.best(found, examination.examine(found, "db"), "db")
    assert step.move.destination == "node3" and ", with web;" in step.why
    beside = grouped([8, 9, 4], one("db", 1), one("web", 1), together=[["db", "web"]])
    step = placement.best(beside, examination.examine(beside, "db"), "db")
    assert step.move.destination == "node2"
    assert "; NOT together with web on node1: it is moved alone;" in step.why
    full = grouped([8, 9, 0], *guests, together=[["db", "web"]])
    step = placement.best(full, examination.examine(full, "db"), "db")
    assert "; NOT together with web on node3: node3 cannot take it;" in step.why
    more = grouped([8, 9, 9], *guests, one("x", 1, "node2"), together=[["db", "web", "x"]])
    step = placement.best(more, examination.examine(more, "db"), "db")
    assert "they are parted already;" in step.why


def test_home_takes_a_group_as_a_whole_or_leaves_it():
    guests = one("db", 3, "node2"), one("web", 2, "node2")
    homes = {"db": "node1"}
    both = grouped([8, 6], *guests, together=[["db", "web"]], homes=homes)
    assert moves(brought_home(both)) == [("db", "node1"), ("web", "node1")]
    plan = brought_home(grouped([4, 6], *guests, together=[["db", "web"]], homes=homes))
    assert plan.steps == () and {*plan.stuck} == {"db", "web"}
    assert any("to be on one node with" in why for why in plan.stuck.values())


def test_who_prefers_a_node_most_comes_home_to_it_without_a_home():
    found = grouped([8, 8], one("web", 1, "node2"), prefer={"web": ["node1", "node2"]})
    assert moves(brought_home(found)) == [("web", "node1")]


def test_balance_mends_rules_before_it_evens_out():
    guests = one("db", 2), one("web", 1, "node2"), one("a", 1, "node3"), one("b", 1, "node3")
    found = grouped(
        [4, 8, 9], *guests, together=[["db", "web"]], apart=[["a", "b"]], prefer={"a": ["node3"]}
    )
    plan = evened(found, 2)
    assert moves(plan) == [("b", "node2"), ("web", "node1")] or moves(plan) == [
        ("web", "node1"),
        ("b", "node2"),
    ]
    assert all(step.mends for step in plan.steps) and plan.notes == ()
    why = {step.move.guest: step.why for step in plan.steps}
    assert why["b"].startswith("to be apart from a") and why["web"].startswith("to be with db")
    assert len(evened(found, 1).notes) == 1


def test_balance_brings_a_guest_to_a_node_of_its_only_and_to_one_that_it_prefers():
    outside = grouped([8, 8, 8], one("web", 1), only={"web": ["node3"]})
    (step,) = evened(outside).steps
    assert step.move.destination == "node3" and step.why.startswith("its only does not name node1")
    better = grouped([8, 8, 8], one("web", 1), prefer={"web": ["node2", "node1"]})
    (step,) = evened(better).steps
    assert step.move.destination == "node2" and step.why.startswith("a node that it prefers")
    assert evened(grouped([8, 8, 8], one("web", 1), prefer={"web": ["node1"]})).steps == ()


def test_balance_moves_a_group_for_the_load_as_a_whole_or_not_at_all():
    guests = one("db", 2), one("web", 2), one("big", 8, frozen=Frozen("x", "y"))
    found = grouped([2, 12], *guests, together=[["db", "web"]])
    assert {*moves(evened(found, 2))} == {("db", "node2"), ("web", "node2")}
    assert evened(found, 1).steps == ()
    parted = grouped([4, 16], one("db", 2), one("web", 2), one("x", 8), together=[["db", "web"]])
    assert len({node for _, node in moves(evened(parted, 2))}) <= 1


def test_balance_says_which_rules_stay_broken_and_why():
    frozen = one("a", 1, frozen=Frozen("x", "y")), one("b", 1, frozen=Frozen("x", "y"))
    plan = evened(grouped([8, 8], *frozen, apart=[["a", "b"]]))
    assert plan.steps == ()
    (note,) = plan.notes
    assert note.startswith("a and b are to be apart, and stay on node1: a: node2 is not eligible:")
    apart = one("a", 9), one("b", 9, "node2")
    (note,) = evened(grouped([4, 4], *apart, together=[["a", "b"]])).notes
    assert note == (
        "to be on one node, and not brought together: a on node1, b on node2:"
        " a cannot leave node1 (node.memory), b cannot leave node2 (node.memory)"
    )


def test_a_named_destination_outside_of_only_is_refused_by_the_check():
    found = grouped([8, 8, 8], one("web", 1), only={"web": ["node1", "node3"]})
    ready = examination.examine(found, "web", destination="node2")
    assert ready.rows[0].blocked == {"node2": ["guest.only"]}


def test_one_guest_that_can_go_nowhere_says_so():
    found = grouped([8, 8], one("web", 1), only={"web": ["node1"]})
    with pytest.raises(WorldError, match=r"guest\.only"):
        placement.best(found, examination.examine(found, "web"), "web")
