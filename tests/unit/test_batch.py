"""Many moves at once: within the limits, no guest twice, nothing more by a plan that failed."""

from collections import Counter
from dataclasses import replace

import pytest
import worlds
from hypothesis import given
from hypothesis import strategies as st
from worlds import NODES

from saltext_kvmcluster.core.cordons import Cordon
from saltext_kvmcluster.core.drain import report
from saltext_kvmcluster.core.drain.batch import AHEAD, ATTEMPTS, Batch
from saltext_kvmcluster.core.drain.placement import Placement, Step
from saltext_kvmcluster.core.errors import InputError, WorldError
from saltext_kvmcluster.core.facts.nodefacts import silent
from saltext_kvmcluster.core.migration.migration import CANCELLED, MOVED, NOT_MOVED, UNKNOWN, Move
from saltext_kvmcluster.core.output import tables
from saltext_kvmcluster.core.pillar.clusters import Cluster

SINCE = "2026-01-01T10:00:00.000+00:00"
LIMIT = 2


def cluster() -> Cluster:
    return worlds.cluster(NODES, migration={"max_outgoing": LIMIT, "max_incoming": LIMIT})


def move(guest, destination="node2", source="node1"):
    return Move(guest, f"uuid of {guest}", source, destination)


def plan(*moves, **stuck):
    return Placement(tuple(Step(one, "because") for one in moves), stuck)


def batch(*moves, **stuck):
    made = Batch(cluster())
    made.follow(plan(*moves, **stuck))
    return made


def begun(made):
    return [one.guest for one in iter(made.due, None)]


def result(how=MOVED, reason="", owner="node2"):
    return {"result": how, "reason": reason, "owner": owner}


def test_no_more_are_begun_than_a_node_may_send_and_those_that_are_ready():
    made = batch(*(move(f"g{number}", f"node{2 + number % 2}") for number in range(6)))
    assert begun(made) == ["g0", "g1", "g2", "g3"]
    made.end("g1", result(owner="node3"))
    assert begun(made) == ["g4"]


def test_a_full_destination_is_passed_over():
    moves = [move(f"g{number}", "node2", f"node{number}") for number in (1, 3, 4, 5)]
    made = batch(*moves, move("g6", "node2"), move("other", "node3", "node4"))
    assert begun(made) == ["g1", "g3", "g4", "g5", "other"]


def test_after_a_failure_nothing_is_begun_before_a_new_plan():
    made = batch(*(move(name) for name in "abcde"))
    assert begun(made) == ["a", "b", "c", "d"]
    made.end("a", result(NOT_MOVED, "no room"))
    assert (made.is_stale, begun(made), made.avoid) == (True, [], {"a": ["node2"]})
    made.follow(plan(move("e"), move("b"), move("a", "node3"), f="frozen"))
    assert begun(made) == ["e"], "b is under way, and takes its place"
    assert made.stuck == {"f": "frozen"}
    assert [row["reason"] for row in made.failed] == ["no room"]


@pytest.mark.parametrize(
    "how", [result(UNKNOWN, "who knows"), result(NOT_MOVED, f"{CANCELLED}kvmcluster.cancel on x")]
)
def test_who_was_cancelled_or_is_not_known_is_not_tried_again(how):
    made = batch(move("a"))
    begun(made)
    made.end("a", how)
    made.follow(plan(move("a", "node3")))
    assert begun(made) == [] and made.given_up["a"].endswith(how["reason"])


@pytest.mark.parametrize(
    "answer", [result(owner="node9"), {**result(), "uuid": "another"}, result(owner=None)]
)
def test_an_answer_about_something_else_tells_nothing(answer):
    made = batch(move("a"))
    begun(made)
    made.end("a", answer)
    assert made.moved == [] and made.unsettled == [move("a")]
    assert "not about this migration" in made.given_up["a"]


def test_after_some_attempts_it_is_enough():
    made = batch(move("a"))
    for number in range(ATTEMPTS):
        made.follow(plan(move("a", f"node{number + 2}")))
        assert begun(made) == ["a"]
        made.end("a", result(NOT_MOVED, f"attempt {number}"))
    made.follow(plan(move("a", "node9")))
    assert begun(made) == []
    assert made.given_up == {"a": "3 attempts failed; last: attempt 2"}


def test_who_is_found_at_its_source_is_tried_again_and_elsewhere_has_moved():
    for owner, how, again in (("node1", UNKNOWN, True), ("node2", MOVED, True), (None, UNKNOWN, 0)):
        made = batch(move("a"))
        begun(made)
        made.end("a", result(UNKNOWN, "cut"))
        made.follow(plan())
        assert made.unsettled == [move("a")]
        made.settle(move("a"), result(how, "by all nodes", owner))
        assert (made.is_stale, made.given_up == {}) == (bool(again), bool(again))
        assert len(made.moved) == (how == MOVED)


GUESTS = [f"g{number}" for number in range(8)]
MOVES = st.lists(
    st.builds(move, st.sampled_from(GUESTS), st.sampled_from(NODES), st.sampled_from(NODES)),
    unique_by=lambda one: one.guest,
)


@given(MOVES, st.lists(st.sampled_from([MOVED, NOT_MOVED, UNKNOWN])), MOVES)
def test_whatever_comes_limits_are_kept_and_all_is_told(moves, ends, again):
    made = batch(*moves)
    reported = 0
    for how in [*ends, *[MOVED] * len(GUESTS) * 2]:
        before = set(made.in_flight)
        for guest in begun(made):
            assert guest not in before
        for side in ("source", "destination"):
            counts = Counter(getattr(one, side) for one in made.in_flight.values())
            assert max(counts.values(), default=0) <= LIMIT + AHEAD
        if made.in_flight:
            guest = sorted(made.in_flight)[0]
            made.end(guest, result(how, "why", made.in_flight[guest].destination))
            reported += 1
        if made.is_stale:
            made.follow(plan(*again))
    assert not made.in_flight and not made.waiting
    assert len(made.moved) + len(made.failed) == reported
    assert made.line().isprintable()


def row(guest, source="node1", how=MOVED, started="2026-01-01T10:00:01.000+00:00"):
    shown = {"elapsed": 2.0, "downtime_ms": 50, "reason": "", "uuid": "u", "destination": "node2"}
    return {"guest": guest, "source": source, "result": how, "started": started, **shown}


def test_what_moved_since_it_was_closed_is_of_one_drain_however_often_it_was_called():
    rows = [
        row("before", started="2026-01-01T09:59:59.999+00:00"),
        row("a"),
        row("elsewhere", source="node2"),
        row("failed", how=NOT_MOVED),
        row("odd", started="yesterday"),
        row("b", started="2026-01-01T12:00:01.000+02:00"),
    ]
    moved = report.moved_since(rows, "node1", SINCE)
    assert [one["guest"] for one in moved] == ["a", "b"]
    assert report.moved_since(rows, "node1", "") == [], "nobody knows since when"


def test_what_others_settled_is_told_beside_what_this_run_moved():
    rows = [row("a"), row("early", started="2026-01-01T10:00:00.500+00:00")]
    own = [{**row("a"), "reason": "seen here"}, {**row("b"), "uuid": "another"}]
    merged = report.merged(own, rows, "node1", SINCE)
    assert [(one["guest"], one["reason"]) for one in merged] == [("a", "seen here"), ("b", "")]
    early = [{**row("early"), "uuid": "early"}]
    both = report.merged(own, early, "node1", SINCE)
    assert [one["guest"] for one in both] == ["early", "a", "b"]


def test_only_moves_of_the_node_that_can_be_told_are_waited_for():
    good = {"guest": "g", "uuid": "u", "source": "node1", "destination": "node2"}
    rows = [good, {**good, "guest": 7}, {**good, "source": "node3", "destination": "node4"}]
    rows += [{**good, "uuid": None}, {**good, "guest": "known"}]
    assert report.others(rows, ["known"], "node1") == [Move("g", "u", "node1", "node2")]


def test_a_drain_that_fails_says_that_the_node_stays_closed():
    detail = str(report.stopped("node1", WorldError("no facts")))
    assert detail.startswith("no facts; node1 stays cordoned; to continue: ")
    assert "kvmcluster.undrain node1" in detail


def test_that_somebody_opened_it_meanwhile_is_told():
    assert report.uncordoned_meanwhile(worlds.node("node1", cordoned=())).startswith(
        "node1 was uncordoned"
    )
    assert report.uncordoned_meanwhile(worlds.node("node1", cordoned=None)) == "", "not known"
    assert report.uncordoned_meanwhile(worlds.node("node1", cordoned=(Cordon("", ""),))) == ""


def reported(made, left, detail=""):
    done = report.reported(report.DRAIN, plan(), made, left, detail, 12.0, "node1")
    return replace(done, cordon=Cordon(SINCE, "updates")).to_dict()


def test_it_is_drained_only_if_nobody_is_seen_to_be_left():
    made = batch(move("a"))
    begun(made)
    made.end("a", result())
    assert reported(made, [])["ok"] is True
    for left, stuck, detail in (
        (["b"], {}, ""),
        (None, {}, ""),
        ([], {}, "no facts"),
        ([], {}, report.INTERRUPTED),
        ([], {"b": "frozen"}, ""),
    ):
        made.stuck = stuck
        assert reported(made, left, detail)["ok"] is False


def test_the_last_line_says_what_to_do():
    made = batch(move("a"), move("b"), db="guest.frozen")
    begun(made)
    made.end("a", {**result(), "elapsed": 2.0, "downtime_ms": 31})
    made.end("b", result(UNKNOWN, "node2 is cut"))
    assert tables.render(reported(made, ["b", "db"])).split("\n") == [
        "guest  from   to     took   downtime",
        "a      node1  node2  2.0 s  31 ms",
        "FAILED  b, node1 -> node2: node2 is cut",
        "STUCK  db: guest.frozen",
        "STUCK  b: the result of its migration to node2 is unknown: node2 is cut",
        "NOT DRAINED  node1: left: b, db; 1 guest moved in 12 s; cordoned since"
        " 2026-01-01T10:00:00 UTC: updates; to continue: salt-run kvmcluster.drain node1;"
        " to uncordon it: salt-run kvmcluster.undrain node1",
    ]
    empty = tables.render(reported(batch(), []))
    assert empty == (
        "DRAINED  node1: no guests left; 0 guests moved in 12 s; cordoned since"
        " 2026-01-01T10:00:00 UTC: updates"
    )
    assert "the guests left are not known" in tables.render(reported(batch(), None))


def test_a_plan_is_shown_as_one():
    found = report.proposed(report.DRAIN, cluster(), plan(move("a"), db="frozen"), "node1")
    assert found.ok is False
    assert tables.render(found.to_dict()).split("\n") == [
        "guest  from   to     why",
        "a      node1  node2  because",
        "STUCK  db: frozen",
        "PLAN  1 move, 1 guest stuck; nothing was changed",
    ]
    begins = tables.render({**found.to_dict(), "begins": True})
    assert begins.split("\n")[-1] == "PLAN  1 move, 1 guest stuck"


def test_what_a_node_answers_decides_whether_it_is_closed():
    mark = report.cordon_of("node1", {"cordoned": True, "since": SINCE, "reason": "a\x1bb"})
    assert (mark.since, mark.reason) == (SINCE, "a\ufffdb")
    assert report.uncordoned("node1", {"cordoned": False, "changed": True}) is True
    assert report.uncordoned("node1", {"cordoned": False, "changed": False}) is False
    with pytest.raises(
        WorldError, match="node1 was not cordoned, and nothing was moved: ERROR: disk"
    ):
        report.cordon_of("node1", "ERROR: disk full")
    for answer in (
        None,
        "",
        "Minion did not return. [Not connected]",
        {},
        {"cordoned": "yes"},
        [1],
    ):
        with pytest.raises(WorldError, match="not known whether node1 was cordoned"):
            report.cordon_of("node1", answer)
        with pytest.raises(WorldError, match="not known whether node1 was uncordoned"):
            report.uncordoned("node1", answer)


def test_a_guest_that_has_left_meanwhile_is_not_stuck():
    made = batch(move("a"), move("b"), c="frozen")
    begun(made)
    made.end("a", result(NOT_MOVED, f"{CANCELLED}somebody"))
    made.end("b", result(NOT_MOVED, f"{CANCELLED}somebody"))

    def drained(left, detail="", rows=()):
        done = report.reported(report.DRAIN, plan(), made, left, detail, 12.0, "node1")
        return report.of_drain(done, Cordon(SINCE, "updates"), rows)

    assert drained(["b"]).ok is False and drained(["b"]).stuck.keys() == {"b"}
    assert drained([]).ok is True and drained([]).stuck == {}
    assert drained([], "no facts").ok is False
    assert drained(None).ok is False and drained(None).stuck.keys() == {"a", "b", "c"}
    assert [one["guest"] for one in drained([], rows=[row("a")]).moved] == ["a"]


def test_an_undrain_reports_whether_the_node_had_been_cordoned():
    made = batch(move("a", "node1", "node2"))
    begun(made)
    made.end("a", result(owner="node1"))
    done = report.reported(report.BALANCE, plan(), made, [], "", 3.0)
    assert "node" not in done.to_dict() and done.to_dict()["kind"] == "balance"
    data = report.of_undrain(done, "node1", True).to_dict()
    assert (data["kind"], data["node"], data["uncordoned"], data["ok"]) == (
        *("undrain", "node1", True, True),
    )
    assert tables.render(data).endswith("node1 is uncordoned; 1 guest moved in 3 s, 0 guests stuck")


def test_whoever_is_on_the_way_by_somebody_else_is_waited_for():
    rows = [{"guest": "in"}, {"guest": "out"}, {"guest": "ours"}, {"guest": None}]
    assert report.of_others(rows, ["ours"]) == ["in", "out"]


def test_a_silent_node_is_not_empty():
    assert report.active(silent("node1", "timed out")) is None
    assert report.active(worlds.node("node1", guests=(worlds.guest(),))) == ["web1"]


@pytest.mark.parametrize("most", [0, 1001, True, "4", None])
def test_a_number_of_moves_is_one(most):
    with pytest.raises(InputError, match="most: want a number from 1 to 1000"):
        report.number_of(most)
