"""What is said of the process that holds a lock."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from saltext_kvmcluster.core import holders
from saltext_kvmcluster.core.holders import Process

LOCK = "/run/kvmcluster-migrate-x.lock"


def stat(state="S", began=500):
    return f"4711 (a ) b) {state} 1 " + "0 " * 17 + f"{began} 0 0"


def said(
    text="4711 500 1000.5\n", state="S", began=500, command="salt-minion x", uptime="1312.7 9"
):
    return holders.holder("node1", LOCK, text, Process(stat(state, began), command), uptime)


@pytest.mark.parametrize(
    ("state", "what", "remedy"),
    [
        ("R", "running", "wait for its end; if it hangs: on node1: kill 4711"),
        ("S", "running", "wait for its end; if it hangs: on node1: kill 4711"),
        ("T", "stopped", "to let it go on: on node1: kill -CONT 4711; to end it: kill -KILL 4711"),
        ("t", "stopped by a debugger", "end the debugger, or on node1: kill -KILL 4711"),
        (
            "D",
            "waiting for a disk or the network",
            "it ends when they respond, and cannot be killed before; to look at it: on node1:"
            " cat /proc/4711/stack",
        ),
    ],
)
def test_a_holder_is_named_with_its_state_since_when_and_a_way_out(state, what, remedy):
    found = said(state=state)
    assert found.detail == f"process 4711 (salt-minion x), {what}, has held the lock for 312 s"
    assert found.remedy == remedy and str(found) == f"{found.detail}; {remedy}"


def test_a_node_that_has_been_up_for_years():
    line = holders.line(4711, stat(), "123456789.25 3.2")
    assert "has held the lock for 41 s" in said(line, uptime="123456830.25 9").detail


def test_the_command_of_a_peer_is_named():
    line = holders.line(4711, stat(), "1000.5 3.2", "node3")
    assert line == "4711 500 1000.50 node3\n"
    assert "(sh), for a command on node3, running" in said(line, command="sh").detail


@pytest.mark.parametrize(
    "given",
    [
        {"text": ""},
        {"text": "4711"},
        {"text": "4711 500"},
        {"text": "\0\0 500 1"},
        {"text": "٣ 500 1"},
        {"text": "9" * 300},
        # Its number is another process's now.
        {"began": 501},
    ],
)
def test_a_holder_that_is_not_certain_is_not_named(given):
    found = said(**given)
    assert "4711" not in str(found)
    assert str(found) == f"its process is not known; to find it: on node1: fuser -v {LOCK}"


@given(st.text(), st.text(), st.text(), st.text())
def test_nothing_breaks_it(text, stat_text, command, uptime):
    found = holders.holder("node1", LOCK, text, Process(stat_text, command), uptime)
    assert str(found).isprintable()


def test_it_is_one_printable_line_however_long_its_command():
    assert (
        "…" in said(command="a\x1b\n" * 1000).detail and len(said(command="a" * 999).detail) < 250
    )
