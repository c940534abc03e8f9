"""Guests that cannot be moved: found before maintenance begins, and what that forbids."""

from dataclasses import replace

import pytest
import worlds
from worlds import NODES, WEB, guest, node

from saltext_kvmcluster.core.cordons import Cordon
from saltext_kvmcluster.core.drain import immovable, maintenance
from saltext_kvmcluster.core.drain.maintenance import Boot
from saltext_kvmcluster.core.errors import InputError
from saltext_kvmcluster.core.facts.nodefacts import silent
from saltext_kvmcluster.core.guest.disks import Disk, Source
from saltext_kvmcluster.core.guest.needed_files import File
from saltext_kvmcluster.core.readiness import examination
from saltext_kvmcluster.core.readiness.checks.base import World

CLUSTER = worlds.cluster(NODES)
OURS = Cordon("2026-11-23T12:00:00+00:00", "kvmcluster.orch.rolling updates")
ANNS = Cordon("2026-11-23T12:00:00+00:00", "new memory, ask Ann")
CDROM = Disk("hdc", Source("file", "/iso/local.iso", "raw"), device="cdrom")


def world(disks=WEB.disks, **changes):
    """web1 runs on node1, with these disks; ``changes`` are of nodes by name."""
    running = guest(of=replace(WEB, disks=disks))
    nodes = {
        name: replace(
            node(name, NODES, guests=(running,) if name == "node1" else ()),
            **changes.get(name, {}),
        )
        for name in NODES
    }
    return World(CLUSTER, nodes)


def test_a_guest_with_a_local_cdrom_is_named_with_the_reason():
    found = immovable.by_node(world((*WEB.disks, CDROM)), NODES)
    assert list(found) == ["node1"] and list(found["node1"]) == ["web1"]
    assert "storage.kind" in found["node1"]["web1"]
    (sentence,) = immovable.refusals(found)
    assert sentence.startswith("web1 on node1 cannot be moved: no eligible node: storage.kind")
    assert immovable.by_node(world((*WEB.disks, CDROM)), ["node2", "node3"]) == {}


def test_a_guest_that_can_move_is_not_named():
    assert immovable.by_node(world(), NODES) == {}


def test_what_an_orchestration_of_ours_cordoned_is_open_again_by_then():
    ours, anns = {"cordoned": (OURS,)}, {"cordoned": (ANNS,)}
    assert immovable.by_node(world(node2=ours, node3=ours), ["node1"]) == {}
    found = immovable.by_node(world(node2=ours, node3=anns), ["node1"])
    assert found == {}, "there is node2"
    found = immovable.by_node(world(node2=anns, node3=anns), ["node1"])
    assert "node.cordon" in found["node1"]["web1"]


def test_a_node_that_does_not_report_its_guests_is_left_to_the_other_checks():
    found = World(CLUSTER, {**world().nodes, "node2": silent("node2", "no answer")})
    assert immovable.by_node(found, NODES) == {}


def doubts(world):
    found = examination.examine(world)
    return immovable.doubts(found, {"node1": {"web1": "why"}})


DEAD = {"daemon": None, "daemon_detail": "it is stopped", "guests": None}


def test_what_a_guest_has_itself_is_certain_whatever_others_are_like():
    disks = (*WEB.disks, CDROM)
    assert doubts(world(disks)) == doubts(world(disks, node2=DEAD, node3=DEAD)) == []


def test_all_else_is_certain_only_while_all_others_are_ready_and_all_is_known():
    full = {"free_kib": 0}
    assert "node1" in immovable.by_node(world(node2=full, node3=full), NODES)
    assert doubts(world(node2=full, node3=full)) == []
    assert "node1" in immovable.by_node(world(node2=full, node3=DEAD), NODES)
    (sentence,) = doubts(world(node2=full, node3=DEAD))
    assert sentence.startswith("it is not certain that web1 on node1 cannot be moved: ")
    assert "no response from its libvirt daemon: it is stopped" in sentence
    gone = World(CLUSTER, {**world(node3=full).nodes, "node2": silent("node2", "no answer")})
    assert "it is unreachable: no answer" in doubts(gone)[0]
    needs = replace(WEB, files=(File("/usr/share/loader.fd", "loader"),))
    unread = {"guests": (guest(of=needs),)}
    assert "loader.fd was not checked" in doubts(world(node1=unread))[0]


def test_only_one_that_was_named_beforehand_is_shut_down():
    stuck = {"cd1": "storage.kind", "web1": "node.cordon"}
    assert immovable.unnamed("node1", stuck, None) == []
    assert immovable.unnamed("node1", stuck, ["web1", "cd1"]) == []
    (sentence,) = immovable.unnamed("node1", stuck, ["cd1"])
    assert sentence.startswith("web1 on node1 cannot be moved: node.cordon; that was not so when")


STUCK = {"node1": {"web1": "why", "db1": "why"}}


@pytest.mark.parametrize(
    ("boot", "when", "words"),
    [
        (Boot("1"), "needed", ""),
        (Boot("1", ("a kernel",)), "never", ""),
        (Boot("1", ("a kernel",)), "needed", "node1 is to be rebooted (a kernel), but web1, db1"),
        (Boot("1"), "always", "node1 is to be rebooted, but web1, db1 cannot be moved"),
        (None, "needed", "node1 does not say whether it needs a reboot; web1, db1"),
    ],
)
def test_guests_that_stay_forbid_the_reboot_of_their_node(boot, when, words):
    found = immovable.reboots(STUCK, {"node1": boot}, when)
    assert [one.startswith(words) for one in found] == ([True] if words else [])


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        ({"ok": True, "detail": ""}, ""),
        ({"ok": False, "detail": "it is transient"}, "if it is shut down: it is transient"),
        ("ERROR: no\x1b", "ERROR: no�"),
        (None, "no response from node1"),
        ({}, "None"),
    ],
)
def test_a_guest_is_shut_down_only_if_it_can_be_started_again(answer, words):
    found = immovable.not_restartable("node1", "web1", answer)
    assert found.endswith(words) and bool(found) is bool(words)


def test_what_becomes_of_them_is_one_of_three_words():
    assert [immovable.choice(word) for word in immovable.STUCK] == list(immovable.STUCK)
    with pytest.raises(InputError, match="did you mean leave"):
        immovable.choice("leav")


def test_preflight_is_not_ok_while_one_hinders():
    good = maintenance.Preflight("lab", (), (), (), stuck=STUCK)
    assert good.ok and good.to_dict()["stuck"] == STUCK
    assert not replace(good, hindered=("no",)).ok
