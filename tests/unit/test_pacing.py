"""The schedule of a migration that does not converge, against a model of how QEMU sends memory."""

import math
import re
from dataclasses import dataclass, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from saltext_kvmcluster.core.migration import pacing
from saltext_kvmcluster.core.migration.pacing import MIB, GiveUp, Pace, SetDowntime, StartPostCopy
from saltext_kvmcluster.core.migration.progress import COPYING, POST_COPY, PREPARING, Progress
from saltext_kvmcluster.core.pillar.options import Options

POLL = 0.5
LOOP = 0.1  # QEMU measures its rate, and so decides, no more often than that
MOVED, GIVEN_UP, SWITCHED = "moved", "given up", "switched over by post-copy"
SHORT = Options()


@dataclass
class Guest:
    """What a guest changes, and how long libvirt takes before it sends anything.

    ``working``: the MiB that it changes again and again, ``writes`` of them a second.
    """

    total: float = 160
    working: float = 50
    writes: float = 50
    prepared: float = 1.0

    def changed(self, seconds, throttle):
        return min(self.working, self.writes * (1 - throttle / 100) * seconds, self.total) * MIB


class Qemu:
    """Sends all memory, then what has changed, until that fits into the downtime."""

    def __init__(self, guest, options, link):
        self.guest, self.options = guest, options
        self.rate = min(link, options.bandwidth or link) * MIB
        self.downtime, self.throttle, self.iteration, self.high = 300, 0, 1, 0
        self.processed, self.counted, self.counted_at = 0.0, 0.0, 0.0
        self.hot = min(guest.working, guest.total) * MIB
        self.cold = guest.total * MIB - self.hot
        self.now, self.ended = 0.0, False

    def run(self, until):
        while self.now < until and not self.ended:
            step = min(LOOP, until - self.now)
            self.now += step
            if self.now <= self.guest.prepared:
                self.counted_at = self.now
                continue
            self.send(self.rate * step)
            if self.remaining <= self.allowed():
                self.count()

    @property
    def remaining(self):
        return self.cold + self.hot

    def send(self, size):
        size = min(size, self.remaining)
        self.processed += size
        cold = min(size, self.cold)
        self.cold, self.hot = self.cold - cold, self.hot - (size - cold)

    def allowed(self):
        return self.rate * self.downtime / 1000

    def count(self):
        changed = self.guest.changed(self.now - self.counted_at, self.throttle)
        period, self.counted_at = max(self.now - self.counted_at, LOOP), self.now
        self.hot = min(self.hot + changed, min(self.guest.working, self.guest.total) * MIB)
        self.counted = self.remaining
        self.ended = self.remaining <= self.allowed()
        self.dirty_rate = changed / period
        self.iteration += 1
        self.high += changed > self.rate * period / 2
        if self.options.auto_converge and self.high >= 2:
            self.high, self.throttle = 0, min(max(self.throttle + 10, 20), 99)

    def progress(self):
        if self.now <= self.guest.prepared:
            return Progress(self.now, PREPARING)
        return Progress(
            self.now,
            COPYING,
            total=int(self.guest.total * MIB),
            processed=int(self.processed),
            remaining=int(self.remaining),
            rate=int(self.rate),
            dirty_rate=int(getattr(self, "dirty_rate", 0)),
            iteration=self.iteration,
            throttle=self.throttle,
            changed=int(self.counted),
        )


@dataclass
class Run:
    """How a migration went: its end, the steps with their times, the last reason."""

    end: str
    at: float
    steps: list
    reason: str = ""

    def downtimes(self):
        """The downtimes that were asked for, each once."""
        asked = [step.milliseconds for _, step in self.steps if isinstance(step, SetDowntime)]
        return list(dict.fromkeys(asked))


def run(guest, options=SHORT, link=8.0):
    """Migrate a guest of the model, paced."""
    qemu, known, steps = Qemu(guest, options, link), Pace(0.0), []
    qemu.downtime = pacing.first_downtime(options)
    while True:
        qemu.run(qemu.now + POLL)
        if qemu.ended:
            return Run(MOVED, qemu.now, steps)
        known, step = pacing.pace(known, qemu.progress(), options)
        steps += [(qemu.now, step)] if step else []
        if isinstance(step, SetDowntime):
            qemu.downtime = step.milliseconds
        elif isinstance(step, StartPostCopy):
            return Run(SWITCHED, qemu.now, steps)
        elif isinstance(step, GiveUp):
            return Run(GIVEN_UP, qemu.now, steps, step.reason)


def proposed(reason, key):
    """Return the number that a reason proposes for an option, None if it proposes none."""
    found = re.search(rf"\b{key}=(\d+)", reason)
    return int(found[1]) if found else None


def test_a_calm_guest_is_left_alone():
    done = run(Guest(working=1, writes=1), SHORT)
    assert done.end == MOVED
    assert done.downtimes() == [300]


def test_a_small_downtime_is_never_exceeded():
    assert run(Guest(), replace(SHORT, downtime=50)).downtimes() == [50]


def test_the_downtime_is_raised_step_by_step_while_it_does_not_converge():
    done = run(Guest(), replace(SHORT, downtime=20000))
    assert done.end == MOVED
    assert done.downtimes() == [300, 600, 1200, 2400, 4800, 9600]


def test_what_does_not_fit_is_given_up_with_what_would_have_been_needed():
    done = run(Guest(), replace(SHORT, bandwidth=8))
    assert done.end == GIVEN_UP
    assert done.downtimes() == [300, 500]
    assert done.reason == (
        "it does not converge: 50.0 of 160.0 MiB change while what changed before is sent; at"
        " 8.0 MiB/s they take 6250 ms, and 500 ms are allowed now; needed: downtime=7813, or"
        " bandwidth=125 (it is 8), or post_copy=true"
    )


def test_where_no_bandwidth_was_asked_for_it_is_the_link_that_is_too_slow():
    reason = run(Guest()).reason
    assert "or a link that carries 125 MiB/s, or" in reason
    assert "bandwidth=" not in reason


def test_post_copy_is_proposed_only_where_it_could_be_allowed():
    assert "post_copy=true" in run(Guest()).reason
    assert "post_copy" not in run(Guest(), replace(SHORT, tunnelled=True)).reason
    assert "post_copy" not in run(Guest(), replace(SHORT, parallel=2)).reason


def test_post_copy_comes_where_it_would_be_given_up():
    given_up, switched = run(Guest()), run(Guest(), replace(SHORT, post_copy=True))
    assert switched.end == SWITCHED
    assert switched.at == given_up.at
    assert switched.downtimes() == [300, 500]


def test_qemu_throttles_before_anything_is_given_up():
    done = run(Guest(), Options(auto_converge=True), link=8)
    assert done.end == MOVED
    assert done.downtimes() == [300, 500]


def test_throttling_that_does_not_help_is_waited_for_until_it_rises_no_further():
    done = run(Guest(writes=5000), Options(auto_converge=True))
    assert done.end == GIVEN_UP
    assert "although its CPUs are slowed by 99 %" in done.reason


def test_the_timeout_ends_it_and_says_how_much_time_was_needed():
    done = run(Guest(working=0), replace(SHORT, timeout=10))
    assert done.end == GIVEN_UP
    assert done.reason == (
        "the timeout of 10 s has expired: 88.0 of 160.0 MiB are left, at 8.0 MiB/s;"
        " needed: at least timeout=27"
    )
    assert run(Guest(working=0), replace(SHORT, timeout=27)).end == MOVED


def test_the_timeout_of_one_that_does_not_converge_says_what_it_lacked():
    done = run(Guest(), replace(SHORT, timeout=30))
    assert done.reason.startswith("the timeout of 30 s has expired: 50.0 of 160.0 MiB change while")
    assert proposed(done.reason, "downtime")
    assert proposed(done.reason, "timeout") > 30


def test_post_copy_at_the_timeout():
    done = run(Guest(working=0), replace(SHORT, timeout=10, post_copy=True))
    assert (done.end, done.at) == (SWITCHED, pytest.approx(10, abs=POLL))


def test_libvirt_that_does_not_begin_is_not_waited_for_for_ever():
    options = replace(SHORT, timeout=10, post_copy=True)
    done = run(Guest(prepared=1000), options)
    assert done.end == GIVEN_UP
    assert done.reason == "the timeout of 10 s has expired: libvirt had not begun to send memory"


def test_a_guest_that_stands_still_meanwhile_is_not_paced():
    options = replace(SHORT, live=False, timeout=15)
    known = Pace(0.0)
    for at in range(1, 15):
        known, step = pacing.pace(known, moving(at, iteration=at), options)
        assert step is None
    _, step = pacing.pace(known, moving(15, iteration=15), options)
    assert isinstance(step, GiveUp)


def moving(at, **more):
    """A look at a migration that carries 8 MiB/s and gets no further."""
    sizes = {"total": 160 * MIB, "remaining": 50 * MIB, "processed": int(at * 8) * MIB}
    return Progress(at, COPYING, **{**sizes, "rate": 8 * MIB, "changed": 50 * MIB, **more})


def observations(options, observed, known=None):
    """Pace the looks; return what is remembered, and the steps."""
    known, steps = known or Pace(observed[0].at), []
    for observation in observed:
        known, step = pacing.pace(known, observation, options)
        steps.append(step)
    return known, steps


def test_a_link_that_carries_nothing_is_told_and_then_ends_it():
    still = [moving(at, processed=7 * MIB, rate=0) for at in range(70)]
    known, _ = observations(SHORT, still[:5])
    assert not pacing.stalled(known, still[4])
    known, _ = observations(SHORT, still[:7])
    assert pacing.stalled(known, still[6])
    _, steps = observations(replace(SHORT, post_copy=True), still)
    end = next(step for step in steps if isinstance(step, GiveUp))
    assert steps.index(end) == 60
    assert end.reason == "the link carried nothing for 60 s: 50.0 of 160.0 MiB are left"
    assert StartPostCopy() not in steps


def test_no_post_copy_over_a_link_that_carries_nothing_when_time_is_up():
    options = replace(SHORT, post_copy=True, timeout=10)
    _, steps = observations(options, [moving(at, processed=7) for at in range(12)])
    assert StartPostCopy() not in steps
    assert isinstance(steps[10], GiveUp)


def test_post_copy_is_asked_for_until_it_begins_but_not_for_ever():
    options = replace(SHORT, post_copy=True, timeout=10)
    _, steps = observations(options, [moving(at) for at in range(45)])
    assert steps[10:40] == [StartPostCopy()] * 30
    assert isinstance(steps[40], GiveUp)
    assert "post-copy did not begin within 30 s" in steps[40].reason


def test_in_post_copy_nothing_is_done_however_long_it_takes():
    options = replace(SHORT, post_copy=True, timeout=10)
    there = [replace(moving(at, processed=0), phase=POST_COPY) for at in range(0, 500, 5)]
    known, steps = observations(options, there)
    assert set(steps) == {None}
    assert pacing.stalled(known, there[-1])


def test_a_downtime_that_could_not_be_set_is_set_again():
    _, steps = observations(SHORT, [moving(at, iteration=1 + at // 6) for at in range(20)])
    assert [step.milliseconds for step in steps if step][:3] == [300, 300, 500]


guests = st.builds(
    Guest,
    total=st.floats(64, 65536),
    working=st.floats(0, 65536),
    writes=st.floats(0, 4000),
    prepared=st.floats(0, 5),
)
ways = st.builds(
    Options,
    live=st.just(True),
    bandwidth=st.sampled_from([0, 8, 64, 1000]),
    downtime=st.integers(1, 20000),
    timeout=st.floats(1, 900),
    auto_converge=st.booleans(),
    post_copy=st.booleans(),
)
links = st.floats(1, 1200)


@given(guests, ways, links)
def test_every_migration_ends_in_time_and_within_the_downtime_that_is_allowed(guest, how, link):
    done = run(guest, how, link)
    assert done.at <= how.timeout + 2 * POLL
    assert all(1 <= milliseconds <= how.downtime for milliseconds in done.downtimes())
    assert done.end != SWITCHED or how.post_copy
    assert sorted(done.downtimes()) == done.downtimes()


@st.composite
def stubborn(draw, least, most):
    """A guest that writes to the same memory all the time, and the way and link for it.

    To send that memory takes so many times the downtime that is allowed.
    """
    link, downtime = draw(st.floats(1, 1000)), draw(st.integers(10, 5000))
    working = link * downtime / 1000 * draw(st.floats(least, most))
    guest = Guest(total=working * draw(st.floats(1, 5)), working=working, writes=1e9)
    way = {"bandwidth": draw(st.sampled_from([0, math.ceil(link)])), "downtime": downtime}
    return guest, replace(SHORT, **way, post_copy=draw(st.booleans())), link


@given(stubborn(0.1, 0.9), st.booleans())
def test_what_fits_is_never_given_up(case, throttled):
    guest, how, link = case
    assert run(guest, replace(how, auto_converge=throttled), link).end == MOVED


@given(stubborn(1.2, 20))
def test_what_does_not_fit_is_ended_long_before_the_timeout(case):
    guest, how, link = case
    done = run(guest, how, link)
    assert done.end == (SWITCHED if how.post_copy else GIVEN_UP)
    assert done.at < how.timeout / 2


@given(st.floats(0, 0.98), st.floats(8, 100), st.floats(64, 512))
def test_what_converges_slowly_is_never_given_up(part, link, total):
    """The guest changes another page each time, a part of what the link carries."""
    done = run(Guest(total=total, working=total, writes=part * link), SHORT, link)
    assert done.end == MOVED or done.at >= SHORT.timeout


@given(stubborn(1.2, 20), st.floats(1, 3600))
def test_what_is_proposed_would_have_been_enough(case, timeout):
    guest, how, link = case
    how = replace(how, post_copy=False, timeout=timeout)
    done = run(guest, how, link)
    assert done.end == GIVEN_UP
    assert not re.search(r"\b(inf|nan)\b", done.reason), done.reason
    better = {key: proposed(done.reason, key) for key in ("downtime", "timeout", "bandwidth")}
    longer = replace(how, timeout=better["timeout"] or timeout)
    if better["downtime"]:
        assert run(guest, replace(longer, downtime=better["downtime"]), link).end == MOVED
    if better["bandwidth"]:
        faster = replace(longer, bandwidth=better["bandwidth"])
        assert run(guest, faster, better["bandwidth"]).end == MOVED


@given(st.floats(64, 2048), st.floats(8, 100), st.floats(2, 60))
def test_a_timeout_that_was_too_short_for_all_memory_says_how_long_that_takes(total, link, timeout):
    guest = Guest(total=total, working=0)
    done = run(guest, replace(SHORT, timeout=timeout), link)
    longer = proposed(done.reason, "timeout")
    if longer:
        assert run(guest, replace(SHORT, timeout=longer), link).end == MOVED


numbers = st.one_of(st.integers(0, 1 << 64), st.integers(0, 1000))
odd = st.builds(
    Progress,
    at=st.floats(0, 500),
    phase=st.sampled_from([PREPARING, COPYING, COPYING, POST_COPY]),
    **dict.fromkeys(
        ("total", "processed", "remaining", "rate", "dirty_rate", "iteration", "changed"), numbers
    ),
    throttle=st.integers(0, 100),
)


@given(st.lists(odd, max_size=60), ways)
def test_no_history_makes_it_fail_wait_for_ever_or_exceed_the_downtime(observed, how):
    known = Pace(0.0)
    for observation in sorted(observed, key=lambda observation: observation.at):
        known, step = pacing.pace(known, observation, how)
        if isinstance(step, SetDowntime):
            assert 1 <= step.milliseconds <= how.downtime
        elif isinstance(step, GiveUp):
            assert not re.search(r"\b(inf|nan)\b", step.reason)
        if observation.phase == POST_COPY:
            assert step is None
        elif observation.at >= how.timeout + pacing.SWITCH:
            assert isinstance(step, (GiveUp, StartPostCopy))
        assert math.isfinite(known.downtime)
