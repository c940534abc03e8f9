"""An SLS where others are at work: refused, waited for or followed, and never forgotten."""

import random

import pytest
from applying import WELL, Play, PlayedFleet

from saltext_kvmcluster.core.applying import course
from saltext_kvmcluster.core.applying.outcome import DONE, OVER, REFUSED, UNKNOWN
from saltext_kvmcluster.engine import applier

LONG = 3000.0


@pytest.fixture
def play():
    return Play("node1", "node2")


def apply(play, *nodes, limit=course.WAIT):
    fleet = PlayedFleet(play)
    return applier.apply(fleet, nodes or ["node1"], ["updates"], False, fleet, limit)


def idle(play, limit=course.SOON):
    fleet = PlayedFleet(play)
    return applier.await_idle(fleet, ["node1"], limit, fleet).get("node1", "")


def others(play, lasts, waiting=0):
    """Have somebody else's states run on node1, and others wait behind them."""
    jid = play.jid()
    play.begin("node1", jid, lasts, False)
    play.advance(3)
    play.nodes["node1"].waits += [play.jid() for _ in range(waiting)]
    return jid


def nothing_begins(play):
    """Whatever comes, nothing of ours begins any more."""
    before = list(play.begun)
    play.advance(LONG)
    return play.begun == before


def test_on_nodes_where_nothing_runs_it_is_begun_once_and_at_once(play):
    began = play.now
    found = apply(play, "node1", "node2")
    assert [(one.node, one.result, one.returned) for one in found] == [
        ("node1", DONE, WELL),
        ("node2", DONE, WELL),
    ]
    assert len({one.jid for one in found}) == 1 and len(play.begun) == 2
    assert play.now - began < 15 and play.memory == {}


def test_what_runs_there_is_waited_for_and_then_it_is_applied(play):
    jid = others(play, 150, waiting=1)
    (found,) = apply(play)
    assert found.result == DONE and play.together == []
    assert any(jid in line and "state.apply slow runs" in line for line in play.shown)
    assert play.begun[0][2] > 1000 + 150 + 5


def test_what_does_not_end_is_named_and_nothing_is_begun_then_or_later(play):
    jid = others(play, LONG)
    (found,) = apply(play)
    assert found.result == REFUSED and found.detail.startswith("nothing was applied: on node1 ")
    assert f"salt node1 saltutil.kill_job {jid}" in found.detail
    assert play.memory == {} and nothing_begins(play) and play.begun == []


def test_what_waits_in_the_queue_is_named_with_its_file(play):
    play.nodes["node1"].waits.append(play.jid())
    (found,) = apply(play)
    assert found.result == REFUSED and "waits in Salt's queue" in found.detail
    assert "on node1: rm /queue/2030" in found.detail
    assert nothing_begins(play)


def test_a_node_that_does_not_answer_gets_nothing_and_the_others_go_on(play):
    play.nodes["node1"].is_stopped = True
    first, second = apply(play, "node1", "node2")
    assert first.result == REFUSED and "no response from the minion of node1" in first.detail
    assert second.result == DONE
    assert [name for name, _, _ in play.begun] == ["node2"]


@pytest.mark.parametrize("seconds", [30, 60, 300])
def test_a_minion_that_is_stopped_meanwhile_ends_nothing(play, seconds):
    play.lasts = 40.0
    play.at(5, lambda: play.stopped("node1", seconds))
    (found,) = apply(play)
    assert (found.result, found.returned) == (DONE, WELL) and play.memory == {}


def test_a_job_that_reaches_a_stopped_minion_is_followed_from_its_late_beginning(play):
    play.at(0.5, lambda: play.stopped("node1", 100))
    (found,) = apply(play)
    assert found.result == DONE and play.begun[0][2] >= 1100


def test_a_return_that_the_master_never_got_comes_from_the_node(play):
    play.is_lost = True
    (found,) = apply(play)
    assert (found.result, found.returned) == (DONE, WELL) and play.memory == {}


def test_a_job_that_was_killed_is_over_without_a_result_and_not_forever_looked_for(play):
    play.is_killed, play.lasts = True, 40.0
    (found,) = apply(play)
    assert found.result == OVER and "is over without a result" in found.detail
    assert play.memory == {} and nothing_begins(play) and idle(play) == ""


def test_an_end_that_is_not_known_is_said_remembered_and_looked_for(play):
    play.lasts = 2000.0
    play.at(5, lambda: play.stopped("node1", 900))
    (found,) = apply(play)
    jid = play.memory["node1"].jid
    assert found.result == UNKNOWN
    assert f"may still run or wait: job {jid} (state.sls updates) on node1" in found.detail
    silent = idle(play)
    assert "no response" in silent and f"may still run or wait: job {jid}" in silent
    play.advance(300)
    assert jid in idle(play) and jid in apply(play, limit=60)[0].detail
    assert len(play.begun) == 1 and "node1" in play.memory
    play.advance(LONG)
    assert idle(play) == "" and play.memory == {}


def test_a_job_that_is_about_to_begin_is_not_taken_for_one_that_is_over(play):
    """It reaches the minion, with the next question, when that goes on: it is not seen yet."""
    play.at(0.5, lambda: play.stopped("node1", 900))
    (found,) = apply(play)
    assert found.result == UNKNOWN and play.begun == []
    play.lasts = 100.0
    play.advance(900 - (play.now - 1000.5) - 1)
    (found,) = apply(play)
    assert found.result == DONE
    assert round(play.begun[0][2]) == 1900 and len(play.begun) == 2
    assert play.begun[1][2] > 2000, "the second one begins when the first one is over"


def test_a_state_that_begins_at_the_same_time_is_waited_for(play):
    play.at(0.2, lambda: play.begin("node1", play.jid(), 50, False))
    (found,) = apply(play)
    assert found.result == DONE and len(play.begun) == 2


def test_a_state_that_always_begins_first_is_named_in_the_end(play):
    play.at(0.2, lambda: play.begin("node1", play.jid(), LONG, False))
    (found,) = apply(play, limit=30)
    assert found.result == REFUSED and "nothing was applied" in found.detail
    assert found.returned is None and play.memory == {} and nothing_begins(play)


def test_who_interrupts_the_waiting_begins_nothing_and_later_ends_nothing(play):
    others(play, 100)
    play.stop = True
    assert apply(play)[0].result == REFUSED and play.begun == []
    play.stop = False
    play.advance(LONG)
    play.at(4, lambda: setattr(play, "stop", True))
    assert apply(play)[0].result == UNKNOWN and "node1" in play.memory
    play.stop = False
    play.advance(LONG)
    assert idle(play) == ""


def test_who_interrupts_the_waiting_for_one_node_begins_nothing_on_the_others(play):
    others(play, 100)
    play.at(20, lambda: setattr(play, "stop", True))
    first, second = apply(play, "node1", "node2")
    assert first.result == second.result == REFUSED and "interrupted" in second.detail
    assert play.memory == {} and nothing_begins(play) and play.begun == []


@pytest.mark.parametrize(("twice", "named"), [(True, True), (False, False)])
def test_what_has_left_a_queue_and_is_not_seen_yet_takes_two_looks(play, twice, named):
    jid = play.jid()
    play.begin("node1", jid, LONG, False)
    fleet = PlayedFleet(play)
    found = applier.await_idle(fleet, ["node1"], course.SOON, fleet, twice)
    assert (jid in found.get("node1", "")) is named


def test_of_jobs_that_were_begun_only_those_that_may_go_on_are_told(play):
    fleet = PlayedFleet(play)
    others(play, LONG)
    assert applier.unended(fleet, play.nodes, fleet) == {}
    play.memory["node1"] = course.Begun("20300000000000000009", "state.sls updates")
    assert list(applier.unended(fleet, play.nodes, fleet)) == ["node1"]


@pytest.mark.parametrize("seed", range(150))
def test_whatever_happens_nothing_begins_after_another_end_than_unknown(seed):
    dice = random.Random(seed)
    play = Play("node1")
    play.lasts = dice.uniform(1, 300)
    play.is_lost, play.is_killed = dice.random() < 0.3, dice.random() < 0.2
    for _ in range(dice.randrange(4)):
        stop = lambda: play.stopped("node1", dice.uniform(1, 1500))  # noqa: E731
        begin = lambda: play.begin("node1", play.jid(), dice.uniform(1, 900), False)  # noqa: E731
        play.at(dice.uniform(0, 400), dice.choice([stop, begin]))
    for _ in range(3):
        (found,) = apply(play)
        known = len(play.begun)
        if found.result == UNKNOWN:
            assert "node1" in play.memory
        if "node1" not in play.memory:
            play.advance(dice.uniform(0, 2000))
            assert len(play.begun) == known
            assert not any(ours for _, ours in play.nodes["node1"].runs.values())
        else:
            assert found.result in (UNKNOWN, REFUSED) and play.memory["node1"].jid in found.detail
