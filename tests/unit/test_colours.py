"""Colours: after everything else, on words that say how it is, and where somebody wants them."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from saltext_kvmcluster.core.output import colours, tables
from saltext_kvmcluster.output import kvmcluster as door

RED, YELLOW, GREEN, END = "\x1b[1;31m", "\x1b[33m", "\x1b[32m", "\x1b[0m"
ESCAPES = re.compile(r"\x1b\[[0-9;]*m")


@pytest.mark.parametrize(
    ("line", "word", "colour"),
    [
        ("PROBLEM  node3 is silent", "PROBLEM", RED),
        ("PROBLEM: 3 guests", "PROBLEM", RED),
        ("NOT MOVED  web1, node1 -> node2: why", "NOT MOVED", RED),
        ("MOVED  web1, node1 -> node2: 6 s", "MOVED", GREEN),
        ("NOT DRAINED  node1: left: a", "NOT DRAINED", RED),
        ("STUCK  web1: frozen", "STUCK", YELLOW),
        ("OK: 3 guests", "OK", GREEN),
        ("node3  minion silent  1  2", "minion silent", RED),
        ("2026-11-30  web1  node1  node2  NOT MOVED  6.0 s", "NOT MOVED", RED),
        ("web1   NO guest.guard +1", "NO guest.guard +1", RED),
        ("node2  cordoned", "cordoned", YELLOW),
    ],
)
def test_a_word_that_says_how_it_is_has_its_colour(line, word, colour):
    assert colours.coloured(line) == line.replace(word, f"{colour}{word}{END}", 1)


@pytest.mark.parametrize(
    "line",
    ["web1  running  yes", "MOVED", "MOVED -> x", "NOTHING  x", "PROBLEMS  x", "", "MOVED  x"[6:]],
)
def test_nothing_else_is_coloured(line):
    assert colours.coloured(line) == line


@given(st.text())
def test_without_its_colours_a_text_is_what_it_was(text):
    safe = "\n".join("".join(filter(str.isprintable, line)) for line in text.split("\n"))
    assert ESCAPES.sub("", colours.coloured(safe)) == safe


STATE = {"kind": "error", "ok": False, "error": "no such guest \x1b[31mevil"}


@pytest.mark.parametrize(
    ("options", "environment", "is_coloured"),
    [
        ({"color": True}, {}, True),
        ({"color": True}, {"NO_COLOR": ""}, True),
        ({"color": True}, {"NO_COLOR": "1"}, False),
        ({"color": True}, {"NO_COLOR": "0"}, False),
        ({"color": True, "force_color": True}, {"NO_COLOR": "1"}, True),
        ({"color": False}, {}, False),
        ({}, {}, False),
    ],
)
def test_it_is_coloured_where_salt_would_unless_the_environment_forbids_it(
    monkeypatch, options, environment, is_coloured
):
    monkeypatch.delenv("NO_COLOR", raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(door, "__opts__", options, raising=False)
    for data in (STATE, {"node1": STATE}):
        text = door.output(data)
        assert text.startswith(f"{RED}ERROR{END}: no such guest" if is_coloured else "ERROR:")
        assert "\x1b[31m" not in text, "what a name brings along is no colour"


def test_widths_are_those_of_the_text():
    data = {
        "kind": "members",
        "cluster": "lab",
        "ok": False,
        "members": ["node1"],
        "faults": {"node1": "PROBLEM  x"},
    }
    text = tables.render(data)
    assert ESCAPES.sub("", colours.coloured(text)) == text
