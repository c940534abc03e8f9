"""A cluster that is watched: who is asked when, what is seen, and what is not claimed."""

import itertools
from datetime import datetime, timedelta, timezone

import pytest
import worlds
from batches import batch, move
from hypothesis import given
from hypothesis import strategies as st

from saltext_kvmcluster.core.drain import progress
from saltext_kvmcluster.core.drain.rolling import Rolling, course
from saltext_kvmcluster.core.drain.runs import Run
from saltext_kvmcluster.core.migration.jobs import KEYS
from saltext_kvmcluster.core.output import tables, watching
from saltext_kvmcluster.core.watching import view
from saltext_kvmcluster.core.watching.inquiry import FIRST, LONGEST, MOST, Inquiry
from saltext_kvmcluster.core.watching.view import View

AT = datetime(2026, 11, 30, 1, 2, 3, tzinfo=timezone.utc)
NODES = ("node1", "node2", "node3")
EVIL = "[bold red]evil[/]\x1b[2J\n:smile: 漢字" + "x" * 200


def row(guest="web1", phase="copying", **named):
    found = {"guest": guest, "uuid": f"uuid of {guest}", "source": "node1", "destination": "node2"}
    return {**dict.fromkeys(KEYS), **found, "phase": phase, **named}


def answer(*rows):
    return {"jobs": list(rows)}


def ended(guest="web1", result="moved", reason=""):
    figures = {"elapsed": 6.13, "downtime_ms": 41}
    return {**row(guest), "result": result, "reason": reason, **figures}


def seen(**named):
    node = view.node_row(answer(), None, None, None)
    nodes = named.pop("nodes", dict.fromkeys(NODES, node))
    return View("lab", AT, nodes, **named).to_dict()


# ---- who is asked when


def test_a_node_that_answers_is_asked_at_each_interval():
    asked = Inquiry(NODES, 3.0)
    assert asked.due(0.0) == [*NODES]
    asked.sent("1", NODES, 0.0)
    assert asked.due(2.0) == [] and asked.waits_since("node1") == 0.0
    assert asked.take("1", {"node1": answer(), "stranger": answer()}, 1.0) == ["node1"]
    assert asked.take("1", {"node1": "again"}, 2.0) == [], "an answer counts once"
    assert (asked.answers, asked.waits_since("node1")) == ({"node1": answer()}, None)
    assert asked.due(3.0) == ["node1"], "the others have not answered yet"
    asked.take("1", {"node2": "an error, which a minion logs"}, 1.0)
    assert "node2" not in asked.due(FIRST - 1) and "node2" in asked.due(FIRST)


def test_who_does_not_answer_is_asked_ever_more_seldom_and_may_answer_late():
    asked, now, times = Inquiry(["node1"], 3.0), 0.0, []
    while now < 400:
        if asked.due(now):
            asked.sent(str(now), ["node1"], now)
            times.append(now)
        now += 1.0
    pauses = [later - earlier for earlier, later in itertools.pairwise(times)]
    assert pauses[:3] == [FIRST, FIRST * 2, FIRST * 4] and set(pauses[3:]) == {LONGEST}
    assert len(asked.jobs()) == MOST
    assert asked.take(asked.jobs()[0], {"node1": "late"}, now) == ["node1"]
    assert asked.jobs() == [] and asked.is_answered()


def test_what_is_not_answered_is_read_ever_more_seldom():
    asked, now, reads = Inquiry(["node1"], 3.0), 0.0, []
    asked.sent("1", ["node1"], 0.0)
    while now < 60:
        now += 0.25
        reads += [now] if asked.to_read(now) else []
    assert reads[:3] == [0.25, 0.5, 0.75] and len(reads) < 40
    assert reads[-1] - reads[-2] > 5
    many = Inquiry([f"node{number}" for number in range(4000)], 3.0)
    many.sent("1", many.nodes, 0.0)
    assert [now for now in range(9) if many.to_read(now)] == [4, 8]
    many.take("1", dict.fromkeys(many.nodes, answer()), 9.0)
    assert many.to_read(99.0) == []


# ---- what is seen


def test_what_a_silent_node_said_is_not_what_it_does():
    told = {"node1": answer(row()), "node2": answer(row("web2", source="node2")), "node3": "boom"}
    assert [one["guest"] for one in view.migrations(told, [])] == ["web1", "web2"]
    assert [one["guest"] for one in view.migrations(told, ["node1"])] == ["web2"]


@pytest.mark.parametrize("odd", [None, "x", 7, [], {}, {"jobs": 1}, {"jobs": [None, 1, {}]}])
def test_an_odd_answer_is_no_migration(odd):
    assert view.migrations({"node1": odd}, []) == []


def test_odd_values_of_a_migration_are_not_known():
    odd = row(percentage="100", rate=float("inf"), remaining=-1, elapsed="soon", slot=-3)
    (found,) = view.migrations({"node1": answer(odd)}, [])
    assert {found[key] for key in ("percentage", "rate", "elapsed", "slot")} == {None}
    assert watching.filled(seen(moving=[found]), 80, 24)


def test_states_of_a_node():
    since = AT - timedelta(seconds=70)
    silent = view.node_row(answer(), since, None, None)
    assert (silent["state"], silent["detail"]) == ("silent", "no answer since 01:00:53 UTC")
    assert view.node_row(None, None, None, None)["state"] == "asked"
    assert view.node_row("'kvmcluster.job' is not available.", None, None, None)["state"] == (
        "minion error"
    )
    status = {"state": "ok", "cordoned": "new memory since 2026", "active": 2, "guests": 3}
    status |= {"free_kib": 1024, "memory_kib": 2048}
    found = view.node_row(answer(), None, None, status)
    assert (found["state"], found["active"]) == ("ok", 2)


def test_a_migration_that_is_gone_stays_until_its_node_says_how_it_ended():
    before = view.migrations({"node1": answer(row(), row("web2"))}, [])
    gone = view.missed(view.gone(before, before[:1]), before[:1])
    assert list(gone) == ["uuid of web2"]
    assert view.gone_row(gone["uuid of web2"], [])["phase"] == "ended"
    assert view.gone_row(gone["uuid of web2"], ["node1"])["phase"] == "source silent"
    assert view.missed(gone, before) == {}, "it is under way again"
    rows = [ended("web2"), ended("web1"), {**ended("web2"), "destination": "node3"}]
    assert view.ends(rows, gone) == [], "its last one went elsewhere"
    assert view.ends(rows[:2], gone) == [ended("web2")]


def test_runs_of_this_master_and_those_that_were_killed():
    cluster = worlds.cluster(NODES)
    made = progress.of(batch(move("a"), move("b")), "then", 1.0)
    known = [Run("drain", "node1", "7:1", 1.0, 2.0, "", made), Run("reboot", "node2", "8:1", 1, 2)]
    rolling = Rolling(("updates",), "needed", {"node1": "then"}, 9.0, "9:1")
    rows = view.run_rows(known, {"7:1", "9:1"}, (rolling, course(cluster, rolling)))
    assert [(one["name"], one["alive"], one["line"]) for one in rows] == [
        ("rolling run updates", True, "1/3 nodes done, time left unknown"),
        ("drain node1", True, "0/2 moved, 0 failed, time left unknown"),
        ("reboot node2", False, "begins"),
    ]
    assert rows[2]["remedy"] == "the same command"
    drain, stopped = view.run_rows(known[:1], set(), (rolling, course(cluster, rolling))), []
    assert [one["remedy"] for one in drain] == ["salt-run kvmcluster.drain node1"]
    assert view.run_rows([], set(), None) == stopped


# ---- how it is shown


def full():
    moving = [row(percentage=40, rate=2**23, remaining=2**26, elapsed=8.2, expected_end=12.0)]
    queue = [
        row(
            f"web{number}",
            "queued",
            slot=number - 1,
            reason="node1 sends 1 at once (kvmcluster:migration:max_outgoing); ahead",
        )
        for number in (2, 3)
    ]
    runs = [
        {
            "name": "drain node1",
            "pid": "7",
            "alive": True,
            "line": "7/20 moved",
            "remedy": "",
            "progress": None,
        },
        {
            "name": "drain node9",
            "pid": "8",
            "alive": False,
            "line": "1/2 moved",
            "remedy": "salt-run kvmcluster.drain node9",
            "progress": None,
        },
    ]
    silent = view.node_row(answer(), AT, None, None)
    nodes = {"node1": view.node_row(answer(), None, None, None), "node2": silent}
    problems = ["node2 is silent: " + "no response, as far as its peers know, " * 9, "b"]
    return seen(
        nodes=nodes,
        moving=moving,
        queue=queue,
        runs=runs,
        problems=problems,
        status_at=AT,
        ended=[ended(), ended("db1", "not_moved", "no room")],
    )


def test_what_is_worst_comes_first_and_everything_is_there():
    lines = watching.filled(full(), 100, 40)
    text = "\n".join(lines)
    order = [
        "cluster lab",
        "PROBLEM  node2",
        "AT WORK  drain node1",
        "KILLED  drain node9",
        "moves",
        "web1",
        "waits",
        "web2",
        "node   state",
        "NOT MOVED  db1",
        "MOVED  web1",
        "status of",
    ]
    assert [text.index(one) for one in order] == sorted(text.index(one) for one in order)
    assert "40 %" in text and "8.0 MiB/s" in text and "node1 sends 1 at once; ahead" in text
    assert "to continue: salt-run kvmcluster.drain node9" in " ".join(text.split())
    assert "no answer since 01:02:03 UTC" in text


@pytest.mark.parametrize("width", [20, 40, 60, 80, 200])
@pytest.mark.parametrize("height", [1, 3, 5, 10, 24, 60])
def test_it_fits_any_terminal(width, height):
    lines = watching.filled(full(), width, height)
    assert len(lines) <= height and all(len(line) <= width for line in lines)
    text = "\n".join(lines)
    if height >= 10:
        assert "PROBLEM" in text and "web1" in text and "web2" in text
    if height >= 24:
        assert "node2" in text and "KILLED" in text and "MOVED  web1" in text


def test_of_many_nodes_those_come_first_that_are_not_well():
    nodes = {f"n{number}": view.node_row(answer(), None, None, None) for number in range(500)}
    nodes["n400"] = view.node_row(answer(), AT, None, None)
    text = "\n".join(watching.filled(seen(nodes=nodes), 80, 24))
    assert "n400" in text and "more: salt-run kvmcluster.status" in text


@given(st.text(max_size=300), st.integers(8, 120), st.integers(1, 40))
def test_no_name_leaves_its_cell_or_brings_anything_along(name, width, height):
    data = seen(
        moving=[row(name, reason=name)],
        queue=[row(name, "queued", reason=name)],
        problems=[name],
        ended=[ended(name, reason=name)],
    )
    for line in (*watching.filled(data, width, height), *watching.changes(None, data)):
        assert line.isprintable()
    assert all(line.isprintable() for line in tables.render(data).split("\n"))


def test_the_outputter_shows_all_of_it():
    text = tables.render(full())
    assert text.count("no response, as far as") == 9
    head = "cluster lab  01:02:03 UTC  2 problems  2 nodes, 1 silent  1 migration, 2 waiting"
    assert text.splitlines()[-1] == head
    lost = {**full(), "ok": False, "master": "the master does not take jobs: x, since 01:00:00 UTC"}
    assert "PROBLEM  the master does not take jobs" in tables.render(lost)


# ---- one line for each change


def test_each_change_is_one_line():
    silent = view.node_row(answer(), AT, None, None)
    ok = view.node_row(answer(), None, None, None)
    first = seen(nodes={"node1": ok, "node2": ok})
    assert watching.changes(None, first) == ["watching cluster lab: node1, node2"]
    assert watching.changes(first, first) == []
    begun = {**first, "moving": [row(percentage=3, rate=2**20)]}
    assert watching.changes(first, begun) == ["web1, node1 -> node2: copying, 3 %, 1.0 MiB/s"]
    onward = {**first, "moving": [row(percentage=20, rate=2**20)]}
    assert watching.changes(begun, onward) == [], "not every percent is a line"
    assert len(watching.changes(onward, {**first, "moving": [row(percentage=25, rate=1)]})) == 1
    asked = {**first, "moving": [row(phase="ended")]}
    assert watching.changes(onward, asked) == ["web1, node1 -> node2: ended"]
    over = {**first, "ended": [ended()]}
    assert watching.changes(asked, over) == ["MOVED  web1, node1 -> node2: 6.1 s, downtime 41 ms"]
    assert watching.changes(asked, first) == ["web1, node1 -> node2: no longer under way"]
    quiet = {**first, "nodes": {"node1": ok, "node2": silent}}
    assert watching.changes(first, quiet) == ["node2: silent: no answer since 01:02:03 UTC"]
    assert watching.changes(quiet, first) == ["node2: ok"]
    wrong = {**first, "problems": ["a"]}
    assert watching.changes(first, wrong) == ["PROBLEM  a"]
    assert watching.changes(wrong, {**first, "problems": []}) == ["OVER  a"]
    assert watching.changes(wrong, {**wrong, "problems": None}) == []


def test_a_run_is_a_line_when_something_has_moved_not_when_time_passes():
    def at(moved, line, alive=True):
        told = {"moved": moved, "failed": 0}
        return seen(
            runs=[
                {
                    "name": "drain node1",
                    "pid": "7",
                    "alive": alive,
                    "line": line,
                    "remedy": "again",
                    "progress": told,
                }
            ]
        )

    first = at(1, "1/3 moved, about 9 s left")
    assert watching.changes(seen(), first) == [
        "AT WORK  drain node1 (process 7): 1/3 moved, about 9 s left"
    ]
    assert watching.changes(first, at(1, "1/3 moved, about 5 s left")) == []
    assert len(watching.changes(first, at(2, "2/3 moved"))) == 1
    assert watching.changes(first, at(1, "x", False))[0].startswith("KILLED  drain node1")
    assert watching.changes(first, seen()) == [
        "drain node1 (process 7) ended; it said last: 1/3 moved, about 9 s left"
    ]
