"""A cluster observed as a whole: what was not seen is not there."""

import json
from dataclasses import replace
from datetime import datetime, timezone

import worlds
from test_problems import guest, nodes
from worlds import NODES, OTHER, UUID

from saltext_kvmcluster.core.cordons import Cordon
from saltext_kvmcluster.core.facts import deeds
from saltext_kvmcluster.core.facts.nodefacts import Daemon
from saltext_kvmcluster.core.migration import jobs
from saltext_kvmcluster.core.monitoring.snapshot import Snapshot
from saltext_kvmcluster.core.readiness import overview
from saltext_kvmcluster.core.untrusted import Reader
from saltext_kvmcluster.core.verdicts import Sighting

BEGAN = datetime(2030, 1, 2, 3, 4, 5, tzinfo=timezone.utc)
MOVED = {
    **{"guest": "web1", "uuid": UUID, "source": "node1", "destination": "node2"},
    **{"result": "moved", "started": "2030-01-01T00:00:00+00:00"},
    **{"elapsed": 4.0, "downtime_ms": 80, "memory_bytes": 1000},
}
ENTRY = {
    **{"guest": "db1", "uuid": OTHER, "source": "node1", "destination": "node2"},
    **{"began": "2030-01-01T00:00:00+00:00", "stage": "ended"},
}
JOB = {**dict.fromkeys(jobs.KEYS), "guest": "web1", "uuid": UUID, "phase": "copying"}


def snapshot(found, *listed, readiness=None, spare=1):
    guests = {"list": {name: {} for name in listed}, "spare_nodes": spare}
    cluster = worlds.cluster(NODES, guests)
    return Snapshot(cluster, BEGAN, 1.25, found, overview.status(cluster, found), readiness)


def told(**sent):
    return {"deeds": deeds.parse(Reader(sent))}


def test_what_nodes_told_of_migrations_is_there_once():
    arriving = {**JOB, "phase": jobs.ARRIVING}
    found = nodes(
        node1=told(history=[MOVED], jobs=[JOB], drifted=["/root/.ssh/known_hosts"]),
        node2=told(history=[], jobs=[arriving], drifted=[]),
    )
    data = snapshot(found).to_dict()
    assert [row["guest"] for row in data["history"]] == ["web1"]
    assert [row["phase"] for row in data["jobs"]] == ["copying"]
    assert data["drifted"] == {"node1": ["/root/.ssh/known_hosts"], "node2": []}
    assert data["untold"] == ["node3"]
    json.dumps(data)


def test_a_migration_that_somebody_is_at_work_on_is_not_unsettled():
    entries = [{**ENTRY, "watched": True}, {**ENTRY, "guest": "web1", "watched": False}]
    found = snapshot(nodes(node1=told(unsettled=entries)))
    assert [row["guest"] for row in found.unsettled] == ["web1"]


def test_what_is_odd_in_them_counts_as_not_told():
    for odd in (None, 7, "x", []):
        assert deeds.parse(Reader(odd)) in (None, deeds.Deeds())
    odd = deeds.parse(
        Reader({"history": [7, MOVED], "jobs": ["x"], "unsettled": [{}, 1], "drifted": {"a": 1}})
    )
    assert [row["guest"] for row in odd.history] == ["web1"]
    assert (odd.jobs, odd.unsettled, odd.drifted, odd.totals) == ((), (), None, None)


def test_room_after_a_loss_is_not_known_while_a_node_or_its_memory_is_not():
    room = {"memory_kib": 8 << 20, "free_kib": 4 << 20, "daemon": Daemon("", "", 0)}
    big = replace(guest("node1"), memory_kib=5 << 20)
    known = dict.fromkeys(NODES, room)
    assert snapshot(nodes(big, **known)).unplaced == {"node1": 1, "node2": 0, "node3": 0}
    assert snapshot(nodes(big, **{**known, "node3": "down"})).unplaced is None
    blind = {**known, "node3": {**room, "free_kib": None}}
    assert snapshot(nodes(big, **blind)).unplaced is None


def test_a_guest_that_somebody_wanted_off_is_told_from_one_that_is_lost():
    off = guest("node1", Sighting.SHUT_OFF)
    noted = {"shutdowns": {"web1": "2030-01-01T00:00:00+00:00"}, "clock": 0.0}
    found = nodes(off, guest("node2", Sighting.SHUT_OFF, name="db1", uuid=OTHER), node1=noted)
    assert snapshot(found, "web1", "db1").wanted_off == {"web1"}
    silent = nodes(off, node1=noted, node3="down")
    assert snapshot(silent, "web1", "db1").wanted_off == set()


def test_a_cordon_is_seen():
    cordoned = nodes(node1={"cordoned": (Cordon("maintenance", "2030-01-01T00:00:00+00:00"),)})
    assert "maintenance" in snapshot(cordoned).to_dict()["status"]["nodes"]["node1"]["cordoned"]
