"""Who is still waited for: silence is asked about, remembered, and never taken for an answer."""

import random

import pytest

from saltext_kvmcluster.core import silence
from saltext_kvmcluster.core.silence import AGAIN, BRIEF, BUSY, FIRST, LIMIT, MEMORY, Memory, Wait


def over(wait, start, seconds=200.0):
    """Play time until the waiting is over; return when it is, and who was asked when."""
    now, asked = start, []
    while not wait.is_over(now):
        asked += [(now - start, node) for node in wait.to_be_asked(now)]
        now += 0.125
        assert now < start + seconds
    return now - start, asked


def test_all_that_returned_end_the_waiting():
    wait = Wait(["node1", "node2"], 0.0, LIMIT)
    assert not wait.is_over(0.1)
    wait.returned("node1")
    wait.returned("node2")
    assert wait.is_over(0.1) and wait.silent(99.0) == []


def test_a_silent_node_is_asked_several_times_and_costs_one_limit():
    wait = Wait(["node1", "node2"], 5.0, LIMIT)
    wait.returned("node1")
    ended, asked = over(wait, 5.0)
    assert ended == LIMIT
    assert [when for when, _ in asked[:2]] == [FIRST, FIRST + AGAIN] and len(asked) >= 3
    assert wait.silent(5.0 + LIMIT) == ["node2"]


def test_several_silent_nodes_cost_no_more_than_one():
    nodes = [f"node{number}" for number in range(30)]
    assert over(Wait(nodes, 0.0, LIMIT), 0.0)[0] == LIMIT


def test_a_node_whose_job_runs_is_waited_for_and_then_silent_as_any_other():
    wait = Wait(["slow", "dead"], 0.0, LIMIT)
    for moment in (3.0, 13.5, 24.0):
        wait.to_be_asked(moment)
        wait.running("slow", moment + 0.5)
        assert wait.silent(moment + 0.6) == (["dead"] if moment > LIMIT else [])
        assert not wait.is_over(moment + 0.6)
    assert "slow" not in wait.to_be_asked(24.6 + BUSY - 0.2)
    assert "slow" in wait.to_be_asked(24.6 + BUSY)
    assert not wait.is_over(24.6 + BUSY + LIMIT - 0.1)
    assert wait.is_over(24.6 + BUSY + LIMIT)


def test_a_node_that_was_silent_is_waited_for_briefly_until_it_gives_a_sign():
    wait = Wait(["node1", "node2"], 0.0, LIMIT, silent={"node2"})
    wait.returned("node1")
    assert over(wait, 0.0)[0] == BRIEF
    wait = Wait(["node2"], 0.0, LIMIT, silent={"node2"})
    assert wait.to_be_asked(0.0) == ["node2"]
    wait.running("node2", 1.0)
    assert not wait.is_over(1.0 + BRIEF) and not wait.is_over(1.0 + BUSY)


def test_others_are_waited_for_in_full_beside_one_that_was_silent():
    wait = Wait(["node1", "node2"], 0.0, LIMIT, silent={"node2"})
    assert not wait.is_over(LIMIT - 0.1) and wait.silent(LIMIT - 0.1) == ["node2"]
    wait.returned("node2")
    assert wait.silent(LIMIT - 0.1) == []


def test_who_gives_no_sign_is_told_before_he_is_silent():
    wait = Wait(["node1", "node2"], 0.0, LIMIT)
    wait.running("node1", 1.0)
    assert wait.unheard(silence.DOUBT, silence.DOUBT) == ["node2"]
    assert wait.unheard(silence.DOUBT - 0.1, silence.DOUBT) == []


def test_silence_is_remembered_for_a_while_and_no_longer():
    memory = Memory()
    memory.note(["node1", "node2"], ["node3"], 0.0)
    assert memory.silent(1.0) == {"node1", "node2"}
    memory.note(["node2"], ["node1"], 20.0)
    assert memory.silent(20.0) == {"node2"}
    assert memory.silent(MEMORY) == set(), "a brief silence does not prolong it"


@pytest.mark.parametrize(
    ("timeout", "looked_after", "expected"),
    [(5, False, LIMIT), (5, True, silence.LOOKED_AFTER), (60, True, 60), (60, False, 60)],
)
def test_a_longer_timeout_of_salt_is_respected(timeout, looked_after, expected):
    assert silence.limit(timeout, looked_after) == expected


def test_no_order_of_signs_keeps_anybody_waiting_or_silences_who_responds():
    """Whatever a node does, it is silent only if it gave no sign for its limit."""
    for seed in range(300):
        dice, now = random.Random(seed), 0.0
        was_silent = {"node1"} if dice.random() < 0.3 else set()
        wait = Wait(["node1"], now, LIMIT, was_silent)
        last, mute = 0.0, dice.uniform(0.0, 60.0)
        while not wait.is_over(now):
            if wait.to_be_asked(now) and now < mute:
                last = now + dice.uniform(0.0, 1.5)
                wait.running("node1", last)
            now += 0.1
        patience = BRIEF if was_silent and last == 0.0 else LIMIT
        assert now - last >= patience - 0.2, seed
        assert now < max(mute, last) + BUSY + LIMIT + 2 * AGAIN, seed
