"""What a drain, an undrain and a balance report: what was observed, and what is missing."""

from dataclasses import replace

import pytest
import worlds
from batches import batch, begun, cluster, move, plan, result

from saltext_kvmcluster.core.cordons import Cordon
from saltext_kvmcluster.core.drain import endings, report
from saltext_kvmcluster.core.errors import InputError, WorldError
from saltext_kvmcluster.core.facts.nodefacts import silent
from saltext_kvmcluster.core.migration.migration import CANCELLED, MOVED, NOT_MOVED, UNKNOWN, Move
from saltext_kvmcluster.core.output import tables

SINCE = "2026-01-01T10:00:00.000+00:00"


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
    detail = str(report.stopped("node1", "new memory", WorldError("no facts")))
    assert detail.startswith("no facts; node1 stays cordoned; to continue: ")
    assert "kvmcluster.undrain node1" in detail
    orchestrated = str(report.stopped("node1", "kvmcluster.orch.rolling a", WorldError("no facts")))
    assert "to continue: salt-run state.orchestrate kvmcluster.orch.rolling, with" in orchestrated


def test_a_drain_in_which_no_guest_can_leave_says_that_the_node_is_cordoned_all_the_same():
    made = batch(db="guest.frozen")
    text = tables.render(reported(made, ["db"]))
    assert "updates (as asked for, though none of its guests can leave); to continue" in text


def test_that_somebody_opened_it_meanwhile_is_told():
    def told(*cordons, **facts):
        node = worlds.node("node1", **{"cordoned": cordons, **facts})
        return report.uncordoned_meanwhile(node, SINCE)

    assert told().startswith("node1 was uncordoned")
    assert told(Cordon("2030-11-30T12:00:00+00:00", "anew")).startswith("node1 was uncordoned")
    assert told(cordoned=None) == "", "not known"
    assert told(Cordon(SINCE, "another reason")) == told(Cordon("", "cannot be read")) == ""


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
        ([], {}, endings.INTERRUPTED),
        ([], {"b": "frozen"}, ""),
    ):
        made.stuck = stuck
        assert reported(made, left, detail)["ok"] is False


def test_nothing_counts_as_stopped_that_its_node_did_not_confirm():
    stop = "did not confirm that it begins no further migrations; to stop it: salt node1"
    assert endings.ending("", False, {}) == ""
    assert endings.ending("", True, {}) == endings.INTERRUPTED
    for detail, interrupted, begins in (
        ("", True, "interrupted: node1 "),
        ("", False, "node1 "),
        ("no plan", True, "no plan; node1 "),
    ):
        found = endings.ending(detail, interrupted, {"77": "node1"})
        assert found == f"{begins}{stop} kvmcluster.departed 77 stop=True"


def test_each_guest_has_one_place_whatever_failed_before():
    ends = {"source": "node1", "elapsed": 2.0, "downtime_ms": 31}
    failed = [
        {"guest": guest, "destination": "node2", "reason": f"{guest} changes too fast", **ends}
        for guest in "dcba"
    ]
    data = reported(batch(), ["b", "c", "d"])
    data["moved"] = [
        {"guest": guest, "destination": "node3", "reason": "", **ends} for guest in ("web", "a")
    ]
    data["under_way"] = [{"guest": "c", "source": "node1", "destination": "node3"}]
    data |= {"failed": failed, "stuck": {"b": "frozen", "own": "no room"}}
    assert tables.render(data).split("\n")[:-1] == [
        "guest  from   to     took   downtime  before",
        "a      node1  node3  2.0 s  31 ms     not moved to node2: a changes too fast",
        "web    node1  node3  2.0 s  31 ms",
        "FAILED  d, node1 -> node2: d changes too fast",
        "UNDER WAY  c, node1 -> node3; not moved to node2: c changes too fast",
        "STUCK  b: frozen; not moved to node2: b changes too fast",
        "STUCK  own: no room",
    ]


def test_the_last_line_says_what_to_do():
    made = batch(move("a"), move("b"), db="guest.frozen")
    begun(made)
    made.end("a", {**result(), "elapsed": 2.0, "downtime_ms": 31})
    made.end("b", result(UNKNOWN, "node2 is cut"))
    assert tables.render(reported(made, ["b", "db"])).split("\n") == [
        "guest  from   to     took   downtime",
        "a      node1  node2  2.0 s  31 ms",
        "STUCK  b: the result of its migration to node2 is unknown: node2 is cut",
        "STUCK  db: guest.frozen",
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


def test_what_a_report_lacks_is_named_with_how_to_find_it():
    made = batch(move("a"), shut="frozen", stays="frozen")
    begun(made)
    made.end("a", result())

    def missing(left, rows):
        done = report.reported(report.DRAIN, plan(), made, left, "", 12.0, "node1")
        return report.of_drain(done, Cordon(SINCE, "updates"), rows)

    assert missing(["shut", "stays"], ()).missing == ()
    assert missing(None, ()).missing == (), "nobody knows who is gone"
    (gone,) = missing(["stays"], ()).missing
    assert gone.startswith("no longer on node1, without a recorded migration: shut; to find them: ")
    assert missing(["stays"], [row("shut")]).missing == ()
    silent_node = missing(["shut", "stays"], None)
    assert silent_node.missing[0].startswith("no migration history from node1: ")
    assert f"INCOMPLETE  {silent_node.missing[0]}" in tables.render(silent_node.to_dict())


def test_guests_that_are_not_known_come_with_the_reason():
    assert report.not_reported(worlds.node("node1", guests=())) == ""
    known = report.not_reported(silent("node1", "no response"))
    assert known == "node1 did not report its guests: no response"
