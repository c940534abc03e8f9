"""The status of a cluster: what it says of guests that migrate, and what is a problem."""

import re

import pytest
from material import cluster
from test_facts import GUEST, SENT, cluster_status

from saltext_kvmcluster.core import verdicts
from saltext_kvmcluster.core.facts import node_report
from saltext_kvmcluster.core.output import tables
from saltext_kvmcluster.core.readiness import overview


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
