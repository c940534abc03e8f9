"""The status of a cluster: what it says of guests that migrate, and what is a problem."""

import re

import pytest
from material import cluster
from test_facts import GUEST, SENT, cluster_status

from saltext_kvmcluster.core import verdicts
from saltext_kvmcluster.core.facts import node_report
from saltext_kvmcluster.core.output import tables
from saltext_kvmcluster.core.readiness import overview
from saltext_kvmcluster.core.text import MAX_NAMES


@pytest.mark.parametrize(
    ("arrives", "state"),
    [
        ({"sighting": "neither running nor paused by its user"}, "incoming"),
        ({"sighting": "paused for migration"}, "incoming"),
        ({"sighting": "running in post-copy"}, "running in post-copy"),
        ({"sighting": "a copy that waits for its handover", "job": ""}, "a copy that waits for"),
    ],
)
def test_a_migration_under_way_is_no_problem_and_has_one_line(arrives, state):
    leaves = {**SENT, "guests": [{**GUEST, "job": verdicts.OUTGOING}]}
    incoming = {**SENT, "guests": [{**GUEST, "job": verdicts.INCOMING, **arrives}]}
    data = cluster_status(node1=leaves, node2=incoming)
    text = tables.render(data)
    line = "MIGRATING  web1 from node1 to node2; its progress: kvmcluster.job web1"
    assert data["ok"] and text.splitlines().count(line) == 1
    assert text.splitlines()[-1].startswith("OK: 1 guest, 2 of 2 nodes answered")
    assert "fix that" not in text and "NOT MOVABLE" not in text and "recover" not in text
    assert re.search(rf"^web1 +node1 +running +-$.^web1 +node2 +{state}", text, re.M | re.S)


def test_half_of_a_migration_is_shown_where_the_other_is_not_known():
    incoming = {
        **SENT,
        "guests": [{**GUEST, "job": verdicts.INCOMING, "sighting": "paused for migration"}],
    }
    text = tables.render(cluster_status(node1=None, node2=incoming))
    assert "MIGRATING  web1 to node2; " in text and "PROBLEM  node1 is unreachable" in text
    reported = node_report.parse("node2", incoming, 998.0, 1000.0)
    alone = tables.render(overview.guests(cluster("node1", "node2"), reported).to_dict())
    assert alone.startswith("MIGRATING  web1 to node2; ")


ODD = (
    "/var/lib/kvmcluster/journal/notes does not belong there; move it away",
    "/var/lib/kvmcluster/journal/x.json is not a valid journal entry: it is a named pipe; if no"
    " migration is under way, remove it",
)


def test_what_is_no_entry_of_a_journal_is_a_problem_of_its_node_and_hides_nothing():
    one = {**SENT, "journal": [*ODD, ODD[0]]}
    data = cluster_status(node1=one, node2={**SENT, "guests": [], "journal": [ODD[0]]})
    assert data["problems"] == [f"node1: {ODD[0]}", f"node1: {ODD[1]}", f"node2: {ODD[0]}"]
    assert not data["ok"] and data["status"][0]["name"] == "web1"
    without = cluster_status(node1=SENT, node2={**SENT, "guests": []})
    assert without["ok"] and without["status"] == data["status"]
    lines = tables.render(data).splitlines()
    assert lines[:3] == [f"PROBLEM  {problem}" for problem in data["problems"]]


def test_the_journal_of_a_node_whose_libvirt_is_silent_is_told_as_well():
    sent = {**SENT, "guests": None, "journal": [ODD[0]]}
    unreachable, odd = cluster_status(node1=sent)["problems"]
    assert unreachable.startswith("node1 is unreachable") and odd == f"node1: {ODD[0]}"


def test_of_very_many_files_the_first_are_named():
    many = [f"/var/lib/kvmcluster/journal/{number} is odd; move it away" for number in range(99)]
    problems = cluster_status(node1={**SENT, "journal": many})["problems"]
    assert len(problems) == MAX_NAMES + 1
    assert problems[-1] == f"node1: {99 - MAX_NAMES} more in its journal: salt node1" + (
        " kvmcluster.unsettled"
    )


def test_a_long_path_does_not_hide_what_is_to_be_done():
    long = f"{'x' * 1500} does not belong there; move it away"
    (problem,) = cluster_status(node1={**SENT, "journal": [long]})["problems"]
    assert problem.endswith("move it away")


def test_a_node_has_its_cordon_and_its_cpus():
    data = cluster_status(node1=SENT, node2=None)
    cordon = {"since": "2026-01-01T10:00:00+00:00", "reason": "updates"}
    assert data["nodes"]["node1"]["cordon"] == cordon
    assert data["nodes"]["node2"]["cordon"] is data["nodes"]["node2"]["cpus"] is None
    topology = "<topology><cells><cell><cpus num='8'/></cell></cells></topology></host>"
    host = SENT["daemon"]["capabilities"].replace("</host>", topology)
    reported = {**SENT, "daemon": {**SENT["daemon"], "capabilities": host}}
    assert cluster_status(node1=reported)["nodes"]["node1"]["cpus"] == 8
