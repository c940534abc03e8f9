"""What people read: the worst first, one line for what has one cause."""

from saltext_kvmcluster.core import tables
from saltext_kvmcluster.core.reach import Knock, cell, row

GOOD = Knock(0, "", "", 0.1)
CHANGED = Knock(
    255,
    "",
    "REMOTE HOST IDENTIFICATION HAS CHANGED!\n"
    "  remove with:\n"
    '  ssh-keygen -f "/root/.ssh/kvmcluster_known_hosts" -R "node2"\n'
    "Host key verification failed.\r\n",
    0.1,
)
MIGRATION = {
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
    said = "UNKNOWN  web1, node1 -> node2: node2 cannot be asked; 61.0 s"
    assert tables.render(MIGRATION) == said


def test_a_moved_guest_shows_what_it_cost():
    moved = {**MIGRATION, "result": "moved", "downtime_ms": 105, "memory_bytes": 92790698}
    assert tables.render(moved).endswith("; 61.0 s, downtime 105 ms, 88 MiB sent")


def test_a_silent_node_comes_first():
    text = tables.render(
        {"cluster": "lab", "nodes": ["node1"], "ok": False, "cells": 0, "good": 0, "rows": {},
         "silent": {"node1": "did not answer"}}
    )  # fmt: skip
    assert text.startswith("PROBLEM  node1 gave no row: did not answer")


def test_what_is_not_ours_is_left_to_salt():
    assert tables.render({"some": "thing"}) is None and tables.render("text") is None


def test_what_a_minion_says_can_neither_paint_the_terminal_nor_break_the_outputter():
    hostile = {"guest": "\x1b]0;x\x07web", "node": "node1", "result": "started", "owner": None}
    assert "\x1b" not in tables.render({**hostile, "reason": "\x1b[2J"})
    assert tables.render({"ok": True, "moves": 1, "guests": 5}) is None
