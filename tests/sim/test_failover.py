"""Failover as RGManager did it: what the pillar of a cluster.conf makes Pacemaker do instead."""

import copy
from pathlib import Path

import pytest
from rgmanager import ILLEGAL, RgManager
from scheduler import Scheduler

from saltext_kvmcluster.core.pillar import parser
from saltext_kvmcluster.core.rgmanager import clusterconf

FOLDER = Path(__file__).parent.parent / "cases" / "clusterconf"
NAMES = (
    *("four_nodes", "marathon", "no_failback", "preferring", "services", "three_nodes"),
    *("two_nodes", "xen"),
)
"""Files with failover domains, in which no guest is exclusive."""


def imported(name):
    """Return what a file was to RGManager, and the cluster that it is now."""
    text = (FOLDER / f"{name}.xml").read_bytes()
    return RgManager(text), parser.from_pillar(clusterconf.parse(text).pillar)


def deaths():
    for name in NAMES:
        for dead in imported(name)[0].deaths():
            yield pytest.param(name, dead, id=f"{name}-{'-'.join(dead)}")


def check(old, guests, online, before):
    """See that guests are where RGManager had them: those of nodes that are left stay."""
    for guest, node in guests.items():
        if before.get(guest) in online:
            assert node == before[guest], guest
        elif guest in old.guests:
            assert node in (old.starts(guest, online) or {None}), guest


def ours(old, guest, node, online, owner):
    """Return where a guest is after a node's return: what RGManager did, but for one difference.

    It moved a guest from outside of its domain into it even with nofailback.
    """
    domain = old.domain(guest)
    left = domain and domain.nofailback and owner not in domain.priorities
    return owner if left else old.after_return(guest, node, online, owner)


@pytest.mark.parametrize(("name", "dead"), [*deaths()])
def test_guests_of_dead_nodes_start_where_rgmanager_started_them(name, dead, tmp_path):
    old, cluster = imported(name)
    scheduler = Scheduler(cluster, tmp_path)
    first = scheduler.play()
    check(old, first, set(cluster.nodes), {})
    online = set(cluster.nodes) - {*dead}
    now = scheduler.lose(dead)
    check(old, now, online, first)
    for node in dead:
        online.add(node)
        before, now = now, scheduler.join(node)
        for guest in {*now} & {*old.guests}:
            if before[guest]:
                assert now[guest] == ours(old, guest, node, online, before[guest]), guest
            else:
                assert now[guest] in (old.starts(guest, online) or {None}), guest


@pytest.mark.parametrize("dead", imported("exclusive")[0].deaths(), ids="-".join)
def test_an_exclusive_guest_is_alone_on_its_node_and_yields_where_none_is_left(dead, tmp_path):
    old, cluster = imported("exclusive")
    scheduler = Scheduler(cluster, tmp_path)
    for online, now in (
        ({*cluster.nodes}, scheduler.play()),
        ({*cluster.nodes} - {*dead}, scheduler.lose(dead)),
    ):
        able = {node for node in online if old.fitness("web", node, online, None) != ILLEGAL}
        assert now["mail"] in online
        assert now["web"] in able - {now["mail"]} or now["web"] is None
        assert now["web"] or len(online) == 1


def test_a_guest_that_fails_is_started_again_or_elsewhere_or_left_off(tmp_path):
    _, cluster = imported("three_nodes")
    scheduler = Scheduler(cluster, tmp_path)
    first = scheduler.play()
    assert {first["web1"], first["web2"]} == {"node-01.example.com"}
    # recovery="relocate"
    assert scheduler.fail("web1", first["web1"])["web1"] == "node-02.example.com"
    # max_restarts="3": three times in place.
    for _ in range(3):
        assert scheduler.fail("web2", first["web2"])["web2"] == first["web2"]
    assert scheduler.fail("web2", first["web2"])["web2"] == "node-02.example.com"


def test_a_guest_that_depends_on_another_starts_after_it_and_stops_by_itself(tmp_path):
    _, cluster = imported("three_nodes")
    scheduler = Scheduler(cluster, tmp_path)
    place = scheduler.play()["anywhere"]
    assert scheduler.stop("web1") | {"web2": None} == {
        "web1": None,
        "web2": None,
        "anywhere": place,
    }
    assert scheduler.lose([place])["anywhere"] is None
    other = Scheduler(cluster, tmp_path)
    assert other.stop("web1")["anywhere"] is None


def test_a_guest_whose_recovery_was_disable_is_left_off_for_good(tmp_path):
    _, cluster = imported("no_failback")
    scheduler = Scheduler(cluster, tmp_path)
    node = scheduler.play()["oracle"]
    assert scheduler.fail("oracle", node)["oracle"] is None
    assert scheduler.play("--set-datetime", "2030-01-01 00:00:00")["oracle"] is None
    # A node's death is none of its own failures.
    other = Scheduler(cluster, tmp_path)
    assert other.lose([other.play()["oracle"]])["oracle"]


PINNED = {"ha": True, "only": ["n3"]}
FREE = {"ha": True}


@pytest.mark.parametrize(
    ("guests", "together"),
    [
        ({**dict.fromkeys("abc", PINNED), "x": FREE}, [["a", "x"], ["b", "x"], ["c", "x"]]),
        ({**dict.fromkeys("abc", PINNED), "x": FREE}, [["x", "a", "b", "c"]]),
        ({"x": FREE, **dict.fromkeys("abc", PINNED)}, [["x", "a", "b", "c"]]),
        (
            {**dict.fromkeys("abc", PINNED), "y": {"ha": {"with": ["x"]}}, "x": FREE},
            [["a", "y"], ["b", "y"], ["c", "y"]],
        ),
    ],
)
def test_no_guest_that_runs_is_moved_for_its_group_and_it_starts_there(guests, together, tmp_path):
    def pillar(with_):
        return parser.from_pillar(
            {
                "kvmcluster": {
                    "name": "lab",
                    "nodes": {"n1": {}, "n2": {}, "n3": {}},
                    "ha": {"manage": False},
                    "guests": {"path": "/guests", "list": guests, "with": with_},
                }
            }
        )

    apart = Scheduler(pillar([]), tmp_path)
    first = apart.play()
    assert first["x"] != "n3"
    grouped = Scheduler(pillar(together), tmp_path)
    grouped.cib.replace(grouped.cib.find("status"), copy.deepcopy(apart.cib.find("status")))
    assert grouped.play() == first
    assert {*Scheduler(pillar(together), tmp_path).play().values()} == {"n3"}
