"""What is done about a migration at each look at it."""

from dataclasses import replace

import pytest

from saltext_kvmcluster.core.migration import migration, results
from saltext_kvmcluster.core.migration.migration import Abort, Judge, Snapshot, Watch
from saltext_kvmcluster.core.migration.pacing import Pace, StartPostCopy
from saltext_kvmcluster.core.migration.progress import COPYING, POST_COPY, Progress
from saltext_kvmcluster.core.pillar.options import Options

BEGUN = Watch(began=0.0, spoke=0.0, pace=Pace(0.0))
OPTIONS = Options(timeout=100.0)
PATIENCE = 60.0
MIB = 1 << 20


def observed(at=10.0, **more):
    known = {"ended": False, "answered": True, "progress": None, "cancel": ""}
    return Snapshot(at, **{**known, **more})


def act(watch=BEGUN, options=OPTIONS, **more):
    return migration.act(watch, observed(**more), options, PATIENCE)


def test_what_has_ended_is_judged_whatever_else_is_seen():
    assert act(ended=True, answered=False, cancel="ann")[1] == Judge()


@pytest.mark.parametrize(("at", "expected"), [(59.0, None), (60.0, Judge())])
def test_a_daemon_that_does_not_speak_is_waited_for_with_patience(at, expected):
    assert act(at=at, answered=False)[1] == expected


def test_an_answer_renews_patience():
    watch, _ = act(at=50.0)
    assert act(watch, at=109.0, answered=False)[1] is None
    assert act(watch, at=110.0, answered=False)[1] == Judge()


def test_how_long_the_guest_stands_still_is_told_from_the_first_look_that_showed_it():
    def reported(watch, **more):
        watch, _ = act(watch, **more)
        return watch, migration.downtime_ms(watch, observed(**more))

    copying = {"progress": Progress(10.0, COPYING)}
    watch, downtime = reported(BEGUN, at=10.0, **copying)
    assert downtime == 0
    watch, downtime = reported(watch, at=11.0, stands=True, **copying)
    assert downtime == 0
    watch, downtime = reported(watch, at=12.5, stands=True, **copying)
    assert downtime == 1500
    assert reported(watch, at=13.0, stands=True, progress=Progress(13.0, POST_COPY))[1] is None
    assert reported(watch, at=13.0, **copying)[1] == 0


def test_a_request_to_cancel_is_kept_until_it_has_an_effect():
    watch, act_now = act(cancel="asked for by ann")
    assert act_now == Abort()
    watch, again = act(watch, at=11.0)
    assert again == Abort() and watch.ending == "cancelled: asked for by ann"


@pytest.mark.parametrize("more", [{"cancel": "ann"}, {"at": 10_000.0}])
def test_nothing_ends_a_guest_whose_memory_is_on_two_nodes(more):
    watch = replace(BEGUN, ending="cancelled: ann", since=0.0)
    assert act(watch, progress=Progress(10.0, POST_COPY), **more)[1] is None


@pytest.mark.parametrize(("at", "expected"), [(69.0, Abort()), (70.0, Judge())])
def test_what_does_not_end_when_told_to_is_judged_after_patience(at, expected):
    watch, _ = act(at=10.0, cancel="ann")
    assert act(watch, at=at)[1] == expected


def test_post_copy_that_was_asked_for_is_not_aborted_before_it_is_seen():
    watch = replace(BEGUN, pace=Pace(0.0, asked=9.0))
    assert act(watch, cancel="ann", progress=Progress(10.0, COPYING))[1] == StartPostCopy()


@pytest.mark.parametrize(("at", "expected"), [(99.0, None), (100.0, Abort())])
def test_a_job_of_which_nothing_is_told_ends_with_the_timeout(at, expected):
    watch, found = act(at=at)
    assert found == expected
    assert ("100 s" in watch.ending) == (expected is not None)


def test_what_pacing_gives_up_is_ended_with_its_figures():
    stuck = [
        Progress(float(at), COPYING, total=10**9, processed=at, remaining=10**9) for at in range(99)
    ]
    watch = BEGUN
    for progress in stuck:
        watch, found = act(watch, at=progress.at, progress=progress)
    late = replace(stuck[-1], at=100.0)
    watch, found = act(watch, at=100.0, progress=late)
    assert found == Abort() and watch.ending


def test_reason_says_why_we_ended_it_and_when_that_came_too_late():
    moved = results._why_ended(migration.MOVED, "cancelled: ann")
    stayed = results._why_ended(migration.NOT_MOVED, "cancelled: ann")
    assert stayed == ["cancelled: ann"] and "moved before" in moved[0]


@pytest.mark.parametrize(
    ("remaining", "stands", "options", "paused"),
    [
        (800 * MIB, True, OPTIONS, True),
        (800 * MIB, False, OPTIONS, False),
        # With so much left QEMU may have stopped it itself.
        (60 * MIB, True, OPTIONS, False),
        (800 * MIB, True, replace(OPTIONS, live=False), False),
    ],
)
def test_a_guest_that_something_else_paused(remaining, stands, options, paused):
    job = Progress(1.0, COPYING, total=1024 * MIB, remaining=remaining, rate=100 * MIB)
    watch, _ = act(BEGUN, options, stands=stands, progress=job)
    assert watch.paused is paused
    # It stays known once it is over.
    later, _ = act(watch, options, progress=job, at=2.0)
    assert later.paused is paused
