"""Many moves at once: within the limits, no guest twice, nothing more by a plan that failed."""

from collections import Counter

import pytest
from batches import LIMIT, batch, begun, move, plan, result
from hypothesis import given
from hypothesis import strategies as st
from worlds import NODES

from saltext_kvmcluster.core.drain.batch import ATTEMPTS
from saltext_kvmcluster.core.migration.migration import CANCELLED, MOVED, NOT_MOVED, UNKNOWN


def test_no_more_are_begun_than_a_node_may_send():
    made = batch(*(move(f"g{number}", f"node{2 + number % 2}") for number in range(6)))
    assert begun(made) == ["g0", "g1"]
    made.end("g1", result(owner="node3"))
    assert begun(made) == ["g2"]


def test_all_are_handed_over_to_the_nodes_that_they_leave():
    made = batch(move("a"), move("b", source="node3"), move("c", "node3"))
    assert made.hand_over() == {
        "node1": [move("a"), move("c", "node3")],
        "node3": [move("b", source="node3")],
    }
    assert made.hand_over() == {} and made.idle == {"a", "b", "c"} == made.in_flight.keys()
    made.take_back("c")
    assert made.is_stale and made.hand_over() == {}
    made.follow(plan(move("c")))
    assert made.hand_over() == {"node1": [move("c")]}, "another attempt is not counted"
    assert made.failed == [] and made.avoid == {}


def test_a_full_destination_is_passed_over():
    moves = [move(f"g{number}", "node2", f"node{number}") for number in (1, 3)]
    made = batch(*moves, move("g6", "node2"), move("other", "node3", "node4"))
    assert begun(made) == ["g1", "g3", "other"]


def test_after_a_failure_nothing_is_begun_before_a_new_plan():
    made = batch(*(move(name) for name in "abcde"))
    assert begun(made) == ["a", "b"]
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
            assert max(counts.values(), default=0) <= LIMIT
        if made.in_flight:
            guest = sorted(made.in_flight)[0]
            made.end(guest, result(how, "why", made.in_flight[guest].destination))
            reported += 1
        if made.is_stale:
            made.follow(plan(*again))
    assert not made.in_flight and not made.waiting
    assert len(made.moved) + len(made.failed) == reported


def test_a_guest_that_others_migrate_is_asked_for_where_no_end_is_recorded():
    made = batch(move("mine"))
    begun(made)
    others = [move("a"), move("b", "node3"), move("in", "node1", "node4"), move("mine")]
    made.others |= {one.guest: one for one in others}
    row = {"guest": "a", "uuid": "uuid of a", "destination": "node2"}
    assert made.unrecorded("node1", [row]) == [move("b", "node3")]
    assert made.unrecorded("node1", []) == [move("a"), move("b", "node3")]
    made.adopt(move("a"), result(MOVED, "by all nodes"))
    made.adopt(move("b", "node3"), result(UNKNOWN, "node3 is cut", None))
    assert made.unrecorded("node1", []) == []
    assert [one["guest"] for one in made.moved] == ["a"]
    assert made.unsettled == [move("b", "node3")] and "node3 is cut" in made.given_up["b"]
