"""How far a run over many moves is: what was seen, and nothing that was not."""

import re

import pytest
from batches import batch, begun, move, result
from hypothesis import given
from hypothesis import strategies as st

from saltext_kvmcluster.core.drain import progress, runs
from saltext_kvmcluster.core.drain.progress import BatchProgress
from saltext_kvmcluster.core.drain.runs import Run
from saltext_kvmcluster.core.migration.migration import MOVED, NOT_MOVED, UNKNOWN

BEGAN = "2026-11-30T01:00:00+00:00"


def of(made, elapsed=60.0):
    return progress.of(made, BEGAN, elapsed)


def at_work():
    """20 guests, of which 7 have moved."""
    made = batch(*(move(f"g{number}") for number in range(20)))
    for number in range(7):
        begun(made)
        made.end(f"g{number}", result())
    begun(made)
    return made


def test_what_is_done_comes_first_and_is_a_line():
    line = of(at_work(), 200.0).line()
    assert line == (
        "7/20 moved, 0 failed, 2.1 guests/min, about 6 min left, 11 waiting; in flight:"
        " g7 -> node2, g8 -> node2"
    )


def test_what_its_node_has_not_begun_waits_and_what_is_said_to_have_moved_counts():
    made = batch(*(move(name) for name in "abcd"))
    made.hand_over()
    assert (of(made).waiting, of(made).in_flight) == (4, ())
    made.idle -= {"a", "b"}
    made.arrived.add("a")
    found = of(made)
    assert (found.moved, found.waiting, found.in_flight) == (1, 2, (move("b"),))
    made.end("a", result(NOT_MOVED, "it is said that it had"))
    assert (of(made).moved, of(made).total) == (0, 4)


def test_before_some_have_moved_nothing_is_known_of_the_rest():
    made = batch(*(move(name) for name in "abc"))
    found = of(made)
    assert (found.rate, found.left, found.total) == (None, None, 3)
    begun(made)
    made.end("a", result())
    assert of(made).figures() == "1/3 moved, 0 failed, time left unknown"
    made.end("b", result())
    assert of(made).figures() == "2/3 moved, 0 failed, 2.0 guests/min, about 30 s left"
    assert of(made, 0.0).left is None, "no time has passed"


def test_no_end_is_expected_while_the_rest_is_planned_anew():
    made = at_work()
    made.end("g7", result(NOT_MOVED, "no room"))
    found = of(made)
    assert found.left is None and found.total == 20, "who is to be planned anew still counts"
    assert found.figures() == "7/20 moved, 1 failed, the rest is planned anew"


def test_what_stays_is_not_waited_for():
    made = batch(move("a"), move("b"), c="frozen")
    begun(made)
    made.end("a", result(UNKNOWN, "cut"))
    found = of(made)
    assert (found.total, found.stuck, found.failed) == (2, 2, 1)
    assert "2 stuck" in found.line()


@pytest.mark.parametrize(
    ("left", "text"),
    [
        (None, "time left unknown"),
        (0, "about 5 s left"),
        (47, "about 45 s left"),
        (170, "about 3 min left"),
        (7100, "about 118 min left"),
        (9000, "about 2.5 h left"),
    ],
)
def test_an_expected_end_is_no_more_exact_than_it_can_be(left, text):
    assert progress.expected(left) == text


def test_a_slow_rate_is_told_by_the_hour():
    assert progress.pace(2.13, "guest") == "2.1 guests/min"
    assert progress.pace(0.05, "node") == "3.0 nodes/h"


def test_what_was_published_is_read_again():
    found = of(at_work())
    assert progress.parse(found.to_dict()) == found
    run = Run("drain", "node1", "7:8", 1.0, 2.0, "a line", found)
    assert runs.parse(run.to_dict()) == run
    assert (run.pid, run.name) == ("7", "drain node1")
    assert runs.parse({**run.to_dict(), "progress": "odd"}).progress is None


@pytest.mark.parametrize("odd", [None, {}, [], "x", {"command": 7}, {"total": -1}])
def test_what_cannot_be_read_is_none(odd):
    assert progress.parse(odd) is None
    assert runs.parse(odd) is None


@given(st.text(), st.lists(st.sampled_from([MOVED, NOT_MOVED, UNKNOWN])))
def test_whatever_a_guest_is_called_its_line_is_one(name, ends):
    made = batch(move(name), *(move(f"{name}{number}") for number in range(5)))
    for how in ends:
        for guest in begun(made)[:1]:
            made.end(guest, result(how, "why"))
    line = of(made).line()
    assert line.isprintable() and re.match(r"\d/6 moved", line)


@given(
    st.builds(
        BatchProgress,
        *[st.integers(0, 9)] * 5,
        st.just(()),
        st.booleans(),
        st.just(""),
        st.floats(0, 1e6),
    )
)
def test_there_is_never_an_end_without_a_rate(found):
    assert (found.rate is None) <= (found.left is None)
    assert (found.left or 0) >= 0
