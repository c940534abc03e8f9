"""A guest that crashed is started again where it crashed: only then, and not for ever."""

from datetime import datetime, timedelta, timezone
from types import SimpleNamespace

import pytest
from material import cluster

from saltext_kvmcluster.core.errors import WorldError
from saltext_kvmcluster.core.failover import restarts
from saltext_kvmcluster.core.migration import records
from saltext_kvmcluster.core.migration.handover import LastRun
from saltext_kvmcluster.core.ownership.results import StartResult
from saltext_kvmcluster.core.pillar.clusters import Listed
from saltext_kvmcluster.core.pillar.parser import from_pillar
from saltext_kvmcluster.engine import lifecycle, restarter
from saltext_kvmcluster.master import reactor

NOW = datetime(2026, 11, 23, 12, 0, tzinfo=timezone.utc)
AT = NOW.timestamp()
WEB = Listed("web1", restarts=2, within=3600)
CRASHED = LastRun("crashed", 0)


def past(minutes, **changes):
    """Return the record of a restart so many minutes ago."""
    begun = restarts.begun("web1", "node1", "", NOW - timedelta(minutes=minutes))
    return {**begun, "result": "started", **changes}


def decided(run=CRASHED, logged=AT - 5, history=(), guest=WEB, noted=None):
    return restarts.decide(guest, "node1", run, logged, history, NOW, noted)


def test_one_that_just_crashed_here_is_started_again():
    verdict = decided()
    assert verdict.again and verdict.sentence == "it crashed on node1: restart 1 of 2 within 3600 s"


@pytest.mark.parametrize("ended", ["", "shutdown", "destroyed", "migrated", "saved", "failed"])
def test_one_that_ended_otherwise_is_not(ended):
    assert decided(run=LastRun(ended, 0)) is None


@pytest.mark.parametrize("logged", [None, AT - 301, AT + 60])
def test_a_crash_that_is_old_or_of_no_time_is_left_to_people(logged):
    assert decided(logged=logged) is None


def test_one_that_somebody_has_wanted_off_since_is_not():
    def shut(seconds):
        return (NOW - timedelta(seconds=seconds)).isoformat(timespec="seconds")

    assert decided(noted=shut(2)) is None
    assert decided(noted=shut(5)) is None
    # It was started again by hand since, and ran.
    assert decided(noted=shut(60)).again


def test_restarts_have_a_limit_within_a_time():
    assert decided(history=[past(1)]).sentence.endswith("restart 2 of 2 within 3600 s")
    over = decided(history=[past(1), past(59)])
    assert not over.again and "where 2 restarts of 2 within 3600 s were begun" in over.sentence
    assert decided(history=[past(61), past(70), past(1)]).again


@pytest.mark.parametrize(
    "row",
    [
        {"guest": "web2"},
        {"source": "node2"},
        {"destination": "node2"},
        {"started": "yesterday"},
        {"started": None},
        {"started": "2026-11-23T11:59:00"},
    ],
)
def test_what_is_no_restart_of_it_here_does_not_count(row):
    assert decided(history=[past(1), past(2, **row)]).again


def test_an_attempt_whose_end_nobody_kept_counts():
    assert not decided(history=[past(1, result="unknown"), past(2, result="unknown")]).again


class Journal:
    def __init__(self, run=CRASHED, fault=None):
        self.run, self.rows, self.fault = run, [], fault

    def last_run(self, guest):
        if isinstance(self.run, Exception):
            raise self.run
        return self.run

    def remember(self, row):
        if self.fault:
            raise self.fault
        self.rows.append(row)


@pytest.fixture
def restarted(monkeypatch):
    def restart(journal, start, logged=AT - 5, history=(), noted=None):
        monkeypatch.setattr(lifecycle, "start", start)
        guests = {"list": {"web1": {"restarts": 2}, "web2": None}}
        pillar = {"name": "lab", "nodes": {"node1": None, "node2": None}, "guests": guests}
        env = SimpleNamespace(
            cluster=from_pillar({"kvmcluster": pillar}),
            here="node1",
            journal=lambda node: journal,
            clock=SimpleNamespace(now=lambda: NOW + timedelta(seconds=len(journal.rows))),
        )
        found = {} if logged is None else {"web1": logged, "web2": logged}
        return restarter.restarted(env, found, lambda: [*history, *journal.rows], lambda _: noted)

    return restart


def starts(env, guest, by_hand):
    return StartResult(guest, "u1", "node1", "started", "node1", "it is on node1, and runs")


def refuses(env, guest, by_hand):
    raise WorldError("web1 was not started on node1: no response from node2")


def test_it_is_kept_before_it_is_begun_and_as_it_ended(restarted):
    journal = Journal()

    def start(env, guest, by_hand):
        assert [row["result"] for row in journal.rows] == ["unknown"]
        return starts(env, guest, by_hand)

    (row,) = restarted(journal, start)
    assert row["ok"] and row["guest"] == "web1" and "restart 1 of 2" in row["reason"]
    (kept,) = records.chosen(journal.rows, "web1", 10)
    assert (kept["source"], kept["destination"], kept["result"]) == ("node1", "node1", "started")


def test_one_that_is_to_be_off_is_left_off(restarted):
    assert restarted(Journal(), starts, noted=NOW.isoformat(timespec="seconds")) == []


def test_a_start_that_is_refused_does_not_count(restarted):
    journal = Journal()
    for _ in range(3):
        (row,) = restarted(journal, refuses)
        assert row["result"] == "refused" and "no response from node2" in row["reason"]
        assert "restart 1 of 2" in row["reason"]
    for result in ("restart 1 of 2", "restart 2 of 2", "2 restarts of 2"):
        assert result in restarted(journal, starts)[0]["reason"]


def test_nothing_is_begun_that_cannot_be_kept(restarted):
    def never(env, guest, by_hand):
        raise AssertionError("it was started")

    (row,) = restarted(Journal(fault=WorldError("disk full")), never)
    assert (row["result"], row["reason"]) == ("refused", "disk full")
    (row,) = restarted(Journal(run=WorldError("no log")), never)
    assert row["reason"] == "no log"
    assert restarted(Journal(), never, logged=None) == []
    assert restarted(Journal(run=LastRun("shutdown", 0)), never) == []


def test_what_nodes_return_is_read_as_data_from_outside():
    found = from_pillar(
        {
            "kvmcluster": {
                "name": "lab",
                "nodes": {"node1": None, "node2": None},
                "guests": {"list": {"web1": {"restarts": 1}}},
            }
        }
    )
    row = {"guest": "web1", "result": "refused", "reason": "limit\x1b[2J"}
    rows, failed = restarts.answered(
        found,
        {
            "node1": {"restarts": [row, {"guest": "evil", "result": "started"}, 7, None]},
            "node2": "ERROR: unknown function",
            "node3": {"restarts": [row]},
        },
    )
    assert rows == [{"node": "node1", **row, "reason": "limit\ufffd[2J"}]
    assert failed == ["node2: ERROR: unknown function"]
    assert restarts.summary(rows) == "crashed guests: web1 on node1 is refused: limit\ufffd[2J"
    assert restarts.summary([{**rows[0], "result": "started"}]) == ""
    assert restarts.answered(found, {"node1": None, "node2": 7}) == ([], [])


def test_only_guests_that_the_pillar_wants_restarted_are():
    assert restarts.wanted(cluster("node1")) == []


def test_the_master_has_nodes_restart_and_tells_what_came_of_it(monkeypatch):
    told = []
    monkeypatch.setattr(reactor.log, "warning", lambda *words: told.append(words[-1]))
    sent, asked = [], []
    guests = {"list": {"web1": {"restarts": 2}, "web 2": {"restarts": 2}}}
    pillar = {"name": "lab", "nodes": {"node1": None, "node2": None}, "guests": guests}
    answers = {
        "node1": {"restarts": [{"guest": "web1", "result": "started", "reason": "restart 1"}]},
        "node2": {"restarts": [{"guest": "web 2", "result": "refused", "reason": "limit"}]},
    }

    def ask(nodes, function, within):
        asked.append((nodes, function))
        return answers

    nodes = SimpleNamespace(
        cluster=from_pillar({"kvmcluster": pillar}), all=["node1", "node2"], ask=ask
    )
    functions = {"event.send": lambda tag, data: sent.append((tag, data["what"]))}
    react = reactor.Reactor({"cachedir": "/nonexistent"}, functions, {})._restart_crashed
    needed = react(nodes, "")
    assert asked == [(["node1", "node2"], "kvmcluster.restart_crashed")]
    assert needed == "cluster lab: crashed guests: web 2 on node2 is refused: limit"
    both = [
        ("kvmcluster/lab/restart/node1/web1", "started"),
        ("kvmcluster/lab/restart/node2/web%202", "refused"),
    ]
    assert sent == both
    assert told == ["web1 on node1: started: restart 1", "web 2 on node2: refused: limit"]
    assert react(nodes, needed) == needed and sent == [*both, both[0]]
    answers.clear()
    assert react(nodes, needed) == "" and len(sent) == 3
    nodes.cluster = cluster("node1")
    assert react(nodes, "") == "" and len(asked) == 3
