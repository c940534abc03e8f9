"""What people read: the worst first, one line for what has one cause."""

import pytest

from saltext_kvmcluster.core.migration import jobs, records
from saltext_kvmcluster.core.migration.migration import Move
from saltext_kvmcluster.core.output import tables
from saltext_kvmcluster.core.output.migrations import progress_line
from saltext_kvmcluster.core.trust.logins import LoginProbe, cell, row

GOOD = LoginProbe(0, "", "", 0.1)
CHANGED = LoginProbe(
    255,
    "",
    "REMOTE HOST IDENTIFICATION HAS CHANGED!\n"
    "  remove with:\n"
    '  ssh-keygen -f "/root/.ssh/kvmcluster_known_hosts" -R "node2"\n'
    "Host key verification failed.\r\n",
    0.1,
)
MIGRATION = {
    "kind": "migration",
    "guest": "web1",
    "source": "node1",
    "destination": "node2",
    "result": "unknown",
    "reason": "node2 cannot be asked",
    "findings": [],
    "elapsed": 61.04,
    "downtime_ms": None,
    "memory_bytes": None,
    "afterwards": [],
}


def shown(*cells):
    return tables.render(row("lab", "node1", cells)).splitlines()


def test_names_of_one_peer_with_one_cause_share_a_line():
    lines = shown(
        cell("node2", "node2", CHANGED, False),
        cell("node2", "node2-mig", CHANGED, False),
        cell("node3", "node3", GOOD, False),
    )
    assert lines[0].startswith("PROBLEM  node1 -> node2, node2-mig: host key changed (")
    assert "prepare" in lines[1]
    assert lines[2:] == [
        "ssh from \\ to  node1  node2                 node3",
        "node1          -      HOST KEY CHANGED 0/2  ok 1/1",
        "PROBLEM: 1 of 3 logins good in cluster lab",
    ]


def test_nobody_is_advised_to_forget_a_pinned_host_key():
    text = "\n".join(shown(cell("node2", "node2", CHANGED, False)))
    assert "ssh-keygen" not in text and "remove with" not in text


def test_all_good_has_no_problem_in_it():
    assert "PROBLEM" not in "\n".join(shown(cell("node2", "node2", GOOD, False)))


def test_a_migration_is_one_line_and_unmeasured_figures_are_left_out():
    detail = "UNKNOWN  web1, node1 -> node2: node2 cannot be asked; 61.0 s"
    assert tables.render(MIGRATION) == detail


def test_a_moved_guest_shows_what_it_cost():
    moved = {**MIGRATION, "result": "moved", "downtime_ms": 105, "memory_bytes": 92790698}
    assert tables.render(moved).endswith("; 61.0 s, downtime 105 ms, 88 MiB sent")


def test_a_silent_node_comes_first():
    text = tables.render(
        {"kind": "ssh_matrix", "cluster": "lab", "nodes": ["node1"], "ok": False,
         "cells": 0, "good": 0, "rows": {}, "silent": {"node1": "did not answer"}}
    )  # fmt: skip
    assert text.startswith("PROBLEM  node1 reported nothing: did not answer")


def test_what_is_not_ours_is_left_to_salt():
    assert tables.render({"some": "thing"}) is None and tables.render("text") is None


def test_what_a_minion_says_can_neither_paint_the_terminal_nor_break_the_outputter():
    hostile = {
        "kind": "start",
        "guest": "\x1b]0;x\x07web",
        "node": "node1",
        "result": "started",
        "owner": None,
    }
    assert "\x1b" not in tables.render({**hostile, "reason": "\x1b[2J"})
    assert tables.render({"kind": "check", "ok": True, "moves": 1, "guests": 5}) is None


def job(**known):
    row = {**dict.fromkeys(jobs.KEYS), "guest": "web1", "source": "node1", "phase": "copying"}
    return {**row, **known}


COPYING = job(
    destination="node2", percentage=42, rate=8388608, dirty_rate=3145728, remaining=83886080,
    expected_end=12.0, expected_downtime_ms=300, downtime_ms=0, iteration=2, throttle=20,
    stalled=False, elapsed=34.2,
)  # fmt: skip


def under_way(*rows, **more):
    return tables.render({"kind": "jobs", "cluster": "lab", "ok": True, "jobs": rows, **more})


def test_what_is_under_way_is_read_at_a_glance():
    header, line, last = under_way(COPYING, node="node1").splitlines()
    assert header.split("  ")[0] == "guest"
    assert " ".join(line.split()) == (
        "web1 node1 node2 copying 42 % 8.0 MiB/s 3.0 MiB/s 80 MiB 12 s 2 20 % 300 ms 0 ms 34 s"
    )
    assert last == "1 migration under way on node1"


def test_what_is_not_known_of_a_migration_is_a_dash():
    line = under_way(job(destination="node2", dirty_rate=0)).splitlines()[1]
    assert line.split() == ["web1", "node1", "node2", "copying", *"----------"]


def test_a_place_in_the_queue_and_a_guest_that_arrives_are_told():
    text = under_way(
        job(phase="queued", slot=2, destination="node3"),
        job(phase="arriving", source=None, destination="node1"),
    )
    assert "queued, slot 2" in text and " ?      node1  arriving" in text


def test_one_that_stands_still_says_how_to_end_it():
    first = under_way(job(stalled=True, guest="web 1")).splitlines()[0]
    assert first.startswith("STALLED  web 1") and "salt node1 kvmcluster.cancel 'web 1'" in first


def test_nothing_under_way_says_so_and_who_is_silent():
    assert under_way() == "0 migrations under way in cluster lab"
    text = under_way(silent={"node3": "it does not answer"}, ok=False)
    assert text.startswith("PROBLEM  node3 reported nothing: it does not answer")


def test_what_moved_when_is_a_line_each_with_why():
    moved = {
        **dict.fromkeys((*records.TEXTS, *records.FIGURES)),
        **{"guest": "web1", "source": "node1", "destination": "node2", "result": "moved"},
        **{"started": "2026-11-23T14:23:34.410+00:00", "elapsed": 1.77, "downtime_ms": 387},
        **{"memory_bytes": 126900233, "reason": "it runs on node2 and not on node1"},
    }
    odd = {**moved, "result": "not_moved", "elapsed": None, "downtime_ms": None, "reason": None}
    odd["memory_bytes"] = None
    lines = tables.render(
        {"kind": "history", "cluster": "lab", "node": "node1", "ok": True, "history": [moved, odd]}
    ).splitlines()
    assert " ".join(lines[1].split()) == (
        "2026-11-23T14:23:34 web1 node1 node2 MOVED 1.8 s 387 ms 121 MiB it runs on node2 and not"
        " on node1"
    )
    assert lines[2].split()[4:] == ["NOT", "MOVED", "-", "-", "-", "-"]
    assert lines[3] == "2 migrations recorded on node1; times are UTC"


RECOVERED = {
    "kind": "recovery",
    "guest": "web1", "uuid": "x", "owner": None, "result": "unknown", "reason": "node2 is silent",
    "sightings": {"node1": "running", "node2": "unreachable; no route"}, "actions": [],
    "needs": ["a response from node2"], "commands": ["kvmcluster.recover web1"],
}  # fmt: skip


def test_what_is_not_settled_says_what_was_seen_what_is_needed_and_what_to_type():
    lines = tables.render(RECOVERED).splitlines()
    assert [line.split()[0] for line in lines[:3]] == ["node", "node1", "node2"]
    assert lines[3] == "NEEDED  a response from node2"
    assert lines[4:6] == ["manual steps:", "  kvmcluster.recover web1"]
    assert lines[6] == "UNKNOWN  web1: node2 is silent"


def test_what_was_done_to_settle_it_is_told_step_by_step():
    steps = [
        {"step": "undefine it", "node": "node1", "ok": True, "detail": ""},
        {"step": "clear the journal", "node": "node2", "ok": False, "detail": "disk full"},
    ]
    done = {**RECOVERED, "owner": "node2", "result": "running", "reason": "it runs", "needs": []}
    text = tables.render({**done, "actions": steps, "commands": []})
    assert "DONE  node1: undefine it\nFAILED  node2: clear the journal: disk full\n" in text
    assert text.endswith("RUNNING  web1, owner node2: it runs")
    moved = tables.render({**MIGRATION, "afterwards": steps[1:], "result": "moved"})
    assert moved.startswith("FAILED  node2: clear the journal: disk full\nMOVED  web1")


MOVE = Move("web1", "x", "node1", "node2")


def test_the_line_on_a_terminal_has_what_matters_in_front():
    line = progress_line(MOVE, {**COPYING, "what": "copying"}, 34.4)
    assert line.startswith("web1, node1 -> node2, 34 s: copying 42 %, 8.0 MiB/s, 80 MiB left, 12 s")
    assert "throttled by 20 %" in line and "STALLED" not in line
    assert "STALLED" in progress_line(MOVE, {**COPYING, "stalled": True}, 1)


def test_the_line_says_what_it_waits_for():
    assert progress_line(MOVE, {}, 0) == "web1, node1 -> node2, 0 s: being checked"
    queued = {"what": "queued", "slot": 2}
    assert progress_line(MOVE, queued, 5).endswith("5 s: queued, slot 2")
    assert progress_line(MOVE, {"what": "ended", "result": "moved"}, 9).endswith("ended")


@pytest.mark.parametrize(
    "reported", [{"what": "\x1b[2J"}, {"what": ["x"]}, {"phase": 3}, {"slot": "\r\n"}]
)
def test_whoever_fires_an_event_cannot_paint_the_terminal(reported):
    assert progress_line(MOVE, reported, 1).isprintable()


@pytest.mark.parametrize(
    "reported", [{"percentage": 5}, {"percentage": "x", "rate": "y"}, 3, None, []]
)
def test_an_event_that_is_none_of_ours_tells_nothing(reported):
    assert progress_line(MOVE, reported, 1) == "web1, node1 -> node2, 1 s: being checked"


def test_a_kind_decides_what_is_shown_and_any_other_is_left_to_salt():
    members = {"cluster": "lab", "ok": True, "members": ["node1"], "faults": {}}
    assert tables.render({**members, "kind": "members"}) == "cluster lab: node1"
    assert tables.render(members) is None
    assert all(tables.render({**members, "kind": kind}) is None for kind in ("x", None, ["x"]))


def test_a_node_that_is_down_is_named_once_by_all_others():
    down = LoginProbe(255, "", "ssh: connect to host node3 port 22: No route to host", 0.1)
    rows = {node: row("lab", node, [cell("node3", "node3", down, False)]) for node in "ab"}
    data = {"kind": "ssh_matrix", "cluster": "lab", "nodes": ["a", "b", "node3"], "ok": False}
    text = tables.render({**data, "cells": 2, "good": 0, "rows": rows, "silent": {}})
    assert text.count("PROBLEM  ") == 1 and text.startswith("PROBLEM  a, b -> node3: no route (")


def guest(name, **known):
    return {"name": name, "where": "node1", "state": "running", "movable": False, **known}


def test_one_reason_of_many_guests_is_one_line_of_the_status():
    node = {"cordoned": None, "state": "ok", "seen_from": None, "active": 2, "guests": 2}
    data = {
        "kind": "status", "cluster": "lab", "ok": True, "problems": [], "notes": [], "silent": {},
        "nodes": {"node1": {**node, "free_kib": 1024, "memory_kib": None}},
        "status": [guest("a", why=["no"]), guest("b", why=["no"]), guest("c", why=["other"])],
    }  # fmt: skip
    lines = tables.render(data).splitlines()
    assert lines[:2] == ["NOT MOVABLE  a, b: no", "NOT MOVABLE  c: other"]
    assert lines[-1] == "OK: 3 guests, 1 of 1 node answered in cluster lab"
    one = tables.render({**data, "status": [guest("a", why=[], movable=True)]})
    assert one.endswith("OK: 1 guest, 1 of 1 node answered in cluster lab")


def test_a_cordon_and_a_freeze_are_one_line_each():
    mark = {"node": "node1", "since": "2026-01-01T10:00:00+00:00", "reason": "disk"}
    on = {**mark, "kind": "cordon", "cordoned": True, "changed": True}
    assert tables.render(on) == (
        "CORDONED  node1 since 2026-01-01T10:00:00 UTC: disk; to uncordon it: salt-run"
        " kvmcluster.undrain node1"
    )
    off = tables.render({**on, "cordoned": False})
    assert off == "NOT CORDONED  node1; it was since 2026-01-01T10:00:00 UTC: disk"
    never = {**on, "cordoned": False, "changed": False, "since": "", "reason": ""}
    assert tables.render(never) == "NOT CORDONED  node1"
    frozen = {**mark, "kind": "freeze", "guest": "web1", "frozen": True, "changed": False}
    assert tables.render(frozen).startswith("FROZEN  web1 on node1 since 2026-01-01T10:00:00 UTC")


def test_a_cluster_that_nobody_has_prepared_is_one_line():
    def found(id_, nodes, sentence, **more):
        one = {"id": id_, "severity": "BLOCK", "outcome": "PROBLEM", "sentence": sentence}
        one |= {"remedy": "x", "guests": [], "nodes": nodes, "destinations": [], **more}
        return {"everywhere": False, **one}

    key = "/root/.ssh/id_rsa_cluster does not exist"
    nodes = ["node1", "node2"]
    findings = [
        found("ssh.key", nodes, key),
        found("ssh.config", ["node1"], "identityfile is ~/.ssh/id_rsa"),
        found("ssh.reach", ["node1"], "host key unknown", destinations=["node2"]),
        found("network.present", ["node2"], "bridge br0 is down"),
    ]
    data = {"kind": "check", "cluster": "lab", "ok": False, "nodes": nodes, "guests": []}
    data |= {"moves": 2, "movable": 0, "findings": findings}
    lines = tables.render(data).split("\n")
    assert lines[:4] == [
        "PROBLEM  ssh.key  node1, node2: no node is prepared: there is no cluster key, and no trust"
        " between nodes",
        "         salt-run state.orchestrate kvmcluster.orch.prepare",
        "PROBLEM  network.present  node2: bridge br0 is down",
        "         x",
    ]
    assert "ssh.config" not in "\n".join(lines)
    findings[0] = found("ssh.key", ["node1"], key)
    assert "ssh.config" in tables.render(data), "one node has its key: each finding counts"


@pytest.mark.parametrize("kind", ["drain", "takeover"])
def test_a_plan_that_is_about_to_be_carried_out_does_not_say_that_nothing_was_changed(kind):
    data = {"kind": kind, "ok": True, "test": True, "plan": [], "stuck": {}, "off": {}}
    data["nodes"] = ["node1"]
    assert tables.render(data).endswith("; nothing was changed")
    assert "nothing" not in tables.render({**data, "begins": True})
