"""A guest that crashed is started again where it crashed: only then, and not for ever."""

from datetime import datetime, timedelta, timezone
from types import SimpleNamespace

import pytest
from material import cluster

from saltext_kvmcluster.core.errors import WorldError
from saltext_kvmcluster.core.failover import restarts
from saltext_kvmcluster.core.failover.restarts import Traces
from saltext_kvmcluster.core.migration import records
from saltext_kvmcluster.core.migration.handover import LastRun
from saltext_kvmcluster.core.ownership.results import StartResult
from saltext_kvmcluster.core.ownership.startup import Decision, May
from saltext_kvmcluster.core.pillar.clusters import Listed
from saltext_kvmcluster.core.pillar.parser import from_pillar
from saltext_kvmcluster.engine import lifecycle, restarter
from saltext_kvmcluster.engine.environment import one_by_one
from saltext_kvmcluster.master import reactor

NOW = datetime(2026, 11, 23, 12, 0, tzinfo=timezone.utc)
NOWHERE = Decision(May.START, "no node has it")
WEB = Listed("web1", restarts=2, within=3600)
CRASHED, NONE = LastRun("crashed", 0), LastRun("", 0)
JUST, NEVER = Traces(CRASHED, 30.0), Traces(NONE)


def past(minutes, **changes):
    """Return the record of a restart so many minutes ago."""
    begun = restarts.begun("web1", "node1", "", NOW - timedelta(minutes=minutes))
    return {**begun, "result": "started", **changes}


def decided(history=(), guest=WEB):
    return restarts.decide(guest, "node1", history, NOW)


def test_one_that_just_crashed_here_is_started_again():
    verdict = decided()
    assert verdict.again and verdict.sentence == "it crashed on node1: restart 1 of 2 within 3600 s"


@pytest.mark.parametrize("ended", ["", "shutdown", "destroyed", "migrated", "saved", "failed"])
def test_one_that_ended_otherwise_is_not(ended):
    assert not restarts.has_crashed(Traces(LastRun(ended, 0), 5.0))


def test_a_crash_that_is_old_or_of_no_time_is_left_to_people():
    assert restarts.has_crashed(Traces(CRASHED, 0.0)) and restarts.has_crashed(JUST)
    assert not any(restarts.has_crashed(Traces(CRASHED, ago)) for ago in (None, 301.0, -60.0))


@pytest.mark.parametrize(
    ("here", "there", "over"),
    [
        (JUST, NEVER, False),
        (JUST, Traces(LastRun("migrated", 1), 3600.0), False),
        (JUST, Traces(LastRun("migrated", 1), 29.0), False),
        (JUST, Traces(LastRun("shutdown", 0), 5.0), True),
        (JUST, Traces(NONE, 5.0), True),
        # A start that failed there, or the copy of a migration amid which it crashed here.
        (JUST, Traces(LastRun("failed", 0), 5.0), False),
        (JUST, Traces(NONE, None, 29.0), True),
        (JUST, Traces(NONE, None, 86400.0), False),
        (Traces(CRASHED, 30.0, 29.0), NEVER, True),
        (Traces(CRASHED, 30.0, 31.0), NEVER, False),
    ],
)
def test_one_that_was_shut_down_or_ran_elsewhere_since_is_left_alone(here, there, over):
    assert restarts.is_over(here, {"node2": there, "node3": NEVER}) is over


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
    def __init__(self, here=JUST, fault=None):
        self.here, self.rows, self.fault = here, [], fault

    def traces(self, guest):
        if isinstance(self.here, Exception):
            raise self.here
        return self.here

    def remember(self, row):
        if self.fault:
            raise self.fault
        self.rows.append(row)


@pytest.fixture
def restarted(monkeypatch):
    def restart(journal, start, history=(), found=NOWHERE, there=NEVER):
        monkeypatch.setattr(lifecycle, "start", start)
        monkeypatch.setattr(lifecycle, "runs", lambda env, guest: found)
        guests = {"list": {"web1": {"restarts": 2}, "web2": None}}
        pillar = {"name": "lab", "nodes": {"node1": None, "node2": None}, "guests": guests}
        journals = {"node1": journal, "node2": Journal(there)}
        env = SimpleNamespace(
            cluster=from_pillar({"kvmcluster": pillar}),
            here="node1",
            journal=journals.get,
            side_by_side=one_by_one,
            clock=SimpleNamespace(now=lambda: NOW + timedelta(seconds=len(journal.rows))),
        )
        return restarter.restarted(env, lambda: [*history, *journal.rows])

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
    (row,) = restarted(Journal(WorldError("no log")), never)
    assert row["reason"] == "no log"
    (row,) = restarted(Journal(), never, there=WorldError("node2 does not tell"))
    assert row["reason"] == "node2 does not tell"
    assert restarted(Journal(Traces(LastRun("shutdown", 0), 5.0)), never) == []


def test_one_that_runs_or_may_not_start_is_no_attempt(restarted):
    journal = Journal()
    assert restarted(journal, starts, found=Decision(May.RUNS, "it is on node2", "node2")) == []
    for may in (May.REFUSED, May.WAIT, May.UNDEFINED):
        (row,) = restarted(journal, starts, found=Decision(may, "node1 is cordoned"))
        assert (row["result"], row["reason"]) == ("refused", "it crashed; node1 is cordoned")
    assert restarted(journal, starts, there=Traces(LastRun("shutdown", 0), 5.0)) == []
    assert journal.rows == []


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
