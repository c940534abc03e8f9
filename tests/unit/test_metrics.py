"""Figures for monitoring: each is what was seen, and what was not seen has none."""

import re
from dataclasses import replace
from pathlib import Path

import pytest
from test_problems import guest, nodes
from test_snapshot import ENTRY, JOB, MOVED, snapshot, told
from worlds import NODES, OTHER

from saltext_kvmcluster.core.cordons import Cordon
from saltext_kvmcluster.core.facts.nodefacts import ACTIVE, Daemon
from saltext_kvmcluster.core.migration.totals import Spread, Totals
from saltext_kvmcluster.core.monitoring import metrics
from saltext_kvmcluster.core.verdicts import Sighting

CORDON = Cordon("maintenance", "2030-01-01T00:00:00+00:00")
SUMS = Totals().plus([MOVED, {**MOVED, "result": "not_moved"}])
TOLD = told(
    jobs=[JOB, {**JOB, "uuid": OTHER, "phase": "queued"}],
    unsettled=[{**ENTRY, "watched": False}],
    totals=SUMS.to_dict(),
    drifted=["/root/.ssh/known_hosts"],
)
ROOM = {"memory_kib": 8 << 20, "free_kib": 4 << 20, "daemon": Daemon("", "", 0)}
OF_CLUSTER = {"problems", "listed_guests", "listed_guest_up", "listed_guest_wanted"}


def figures(*found, **named):
    """Return by name and labels, without that of the cluster, what is told."""
    return {
        (family.name.removeprefix("kvmcluster_"), *labels[1:]): value
        for family in metrics.families(snapshot(*found, **named))
        for labels, value in family.samples
    }


def test_the_page_has_every_kind_of_problem_and_how_many_figures_a_cluster_has():
    page = (Path(__file__).parents[2] / "docs" / "monitoring.md").read_text(encoding="utf-8")
    seen = figures(nodes())
    kinds = {labels[0] for name, *labels in seen if name == "problems"}
    assert kinds <= {*re.findall(r"`(\w+)`", page)}
    own = ("observation_timestamp_seconds", "observation_duration_seconds")
    of_cluster = [one for one in seen if one[0] in (*own, "problems", "listed_guests")]
    assert f"and {len(of_cluster)} for the cluster" in page


def test_what_nodes_told_is_told():
    big = replace(guest("node1"), memory_kib=5 << 20)
    off = guest("node2", Sighting.SHUT_OFF, name="db1", uuid=OTHER)
    seen = figures(
        nodes(big, off, node1={**ROOM, **TOLD}, node2={**ROOM, "cordoned": (CORDON,)}, node3=ROOM),
        "web1",
        "db1",
    )
    assert {node: seen["node_up", node] for node in NODES} == dict.fromkeys(NODES, 1)
    assert [seen["node_cordoned", node] for node in NODES] == [0, 1, 0]
    assert seen["node_memory_bytes", "node1"] == 8 << 30
    assert seen["node_memory_available_bytes", "node1"] == 4 << 30
    assert seen["guests", "node1", "running"] == 1 and seen["guests", "node2", "shut_off"] == 1
    assert seen["guests", "node3", "running"] == 0
    assert sum(seen["active_guests", "node1", word] for word in ("yes", "no", "unknown")) == 1
    assert [seen["node_loss_unplaced_guests", node] for node in NODES] == [1, 0, 0]
    assert seen["listed_guest_up", "web1"] == 1 and seen["listed_guest_up", "db1"] == 0
    assert seen["listed_guest_wanted", "db1"] == 1
    assert seen["listed_guests", "runs"] == seen["listed_guests", "nowhere"] == 1
    assert seen["problems", "runs_nowhere"] == 1 and seen["problems", "runs_twice"] == 0
    assert seen["migrations_in_progress", "node1"] == seen["migrations_queued", "node1"] == 1
    assert seen["migrations_unsettled", "node1"] == 1
    assert seen["migrations_total", "node1", "moved"] == 1
    assert seen["migrations_total", "node1", "not_moved"] == 1
    assert seen["migrations_total", "node1", "unknown"] == 0
    assert seen["migration_sent_bytes_total", "node1"] == 1000
    assert seen["migration_duration_seconds", "node1"].sum == 4.0
    assert seen["migration_downtime_seconds", "node1"].sum == 0.08
    assert seen["node_trust_drifted_files", "node1"] == 1
    assert seen["observation_duration_seconds",] == 1.25
    assert seen["observation_timestamp_seconds",] == 1893553445


def test_of_a_silent_node_nothing_is_told_but_that():
    seen = figures(nodes(guest("node1"), node3="down"), "web1", "db1", "db2")
    of_node = {name[0] for name in seen if "node3" in name}
    assert of_node == {"node_up", "node_seen"}
    assert seen["node_up", "node3"] == seen["node_seen", "node3"] == 0
    assert seen["listed_guest_up", "web1"] == 1
    assert not any("db1" in name or "db2" in name for name in seen), "it may be on node3"
    assert seen["listed_guests", "unknown"] == 2 and seen["listed_guests", "nowhere"] == 0
    assert not any(name[0] == "node_loss_unplaced_guests" for name in seen)
    assert seen["problems", "node"] == 1


def test_of_no_node_at_all_only_that_is_told():
    seen = figures(nodes(**dict.fromkeys(NODES, "down")), "web1")
    assert {name[0] for name in seen if set(name) & set(NODES)} == {"node_up", "node_seen"}
    assert seen["listed_guests", "unknown"] == 1


def test_a_node_that_a_peer_sees_is_not_up_and_its_guests_are_known():
    seen = figures(nodes(guest("node3"), node3={"asker": "node1", "minion": "no response"}), "web1")
    assert (seen["node_up", "node3"], seen["node_seen", "node3"]) == (0, 1)
    assert seen["guests", "node3", "running"] == seen["listed_guest_up", "web1"] == 1
    assert not any(name[0].startswith("migration") and "node3" in name for name in seen)


def test_a_part_that_a_node_did_not_tell_has_no_figure():
    seen = figures(nodes(node1={**told(history=[]), "cordoned": None}))
    of_node = {name[0] for name in seen if "node1" in name}
    assert of_node == {"node_up", "node_seen", "guests", "active_guests"}


def test_a_guest_that_somebody_wants_off_is_down_and_not_wanted():
    noted = {"shutdowns": {"web1": "2030-01-01T00:00:00+00:00"}}
    seen = figures(nodes(guest("node1", Sighting.SHUT_OFF), node1=noted), "web1")
    assert (seen["listed_guest_up", "web1"], seen["listed_guest_wanted", "web1"]) == (0, 0)
    assert seen["listed_guests", "wanted_off"] == 1


def test_a_guest_of_which_there_are_two_is_one_that_runs_and_a_problem():
    seen = figures(nodes(guest("node1"), guest("node2")), "web1")
    assert seen["listed_guests", "runs"] == 1 and seen["problems", "runs_twice"] == 1


@pytest.mark.parametrize("sighting", [*ACTIVE, Sighting.SHUT_OFF])
def test_every_state_has_a_word_of_its_own(sighting):
    seen = figures(nodes(guest("node1", sighting)))
    of_node = {name[2]: value for name, value in seen.items() if name[:2] == ("guests", "node1")}
    assert of_node[metrics.STATES[sighting]] == sum(of_node.values()) == 1
    assert len(of_node) == len(set(metrics.STATES.values())) == len(metrics.STATES)


def test_names_of_guests_that_are_not_listed_are_in_no_label():
    hostile = 'x"} 1\nkvmcluster_node_up{node="node1\\'
    found = metrics.families(snapshot(nodes(guest("node1", name=hostile)), "web1"))
    labels = {label for family in found for values, _ in family.samples for label in values}
    assert labels <= {
        *("lab", "web1", *NODES, *metrics.STATES.values(), *metrics.MOVABLE.values()),
        *(metrics.RUNS, metrics.LOST, metrics.WANTED_OFF, metrics.NOT_KNOWN),
        *(label for label in labels if label in snapshot(nodes()).status.kinds),
    }


def test_how_many_samples_there_are_is_bounded_by_the_pillar():
    many = [guest("node1", name=f"guest{number}", uuid=f"{number:032}") for number in range(500)]
    few = len(figures(nodes(node1=TOLD), "web1"))
    assert len(figures(nodes(*many, node1=TOLD), "web1")) == few


def test_every_family_has_a_name_help_and_kind_of_its_own():
    found = metrics.families(snapshot(nodes(node1=TOLD), "web1"))
    assert len({family.name for family in found}) == len(found)
    for family in found:
        assert family.help.endswith(".") and family.labels[0] == "cluster"
        assert family.name.endswith("_total") == (family.kind == metrics.COUNTER)
        for labels, value in family.samples:
            assert len(labels) == len(family.labels)
            assert isinstance(value, Spread) == (family.kind == metrics.HISTOGRAM)
            assert isinstance(value, Spread) or value == value
