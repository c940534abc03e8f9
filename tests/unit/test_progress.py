"""What libvirt's job statistics tell, however odd they are."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from saltext_kvmcluster.core.migration import progress
from saltext_kvmcluster.core.migration.progress import COPYING, POST_COPY, PREPARING, Progress

MIB = 1 << 20
# As libvirt 9.0 with QEMU 7.2 told it of a guest that changes 50 MiB again and again.
JOB = {
    "type": 2, "operation": 5, "time_elapsed": 71034, "downtime": 6327,
    "data_total": 168304640, "data_processed": 601948160, "data_remaining": 33079296,
    "memory_total": 168304640, "memory_processed": 601948160, "memory_remaining": 33079296,
    "memory_bps": 8413380, "memory_constant": 11641, "memory_normal": 142860,
    "memory_dirty_rate": 2045, "memory_iteration": 11, "memory_postcopy_requests": 0,
    "memory_page_size": 4096, "disk_total": 0, "disk_processed": 0, "disk_remaining": 0,
    "auto_converge_throttle": 20,
}  # fmt: skip
KEYS = (
    *("phase", "percentage", "rate", "dirty_rate", "remaining", "total", "processed"),
    *("expected_end", "expected_downtime_ms", "downtime_ms", "iteration", "throttle", "stalled"),
    "elapsed",
)


def test_what_libvirt_tells():
    assert progress.parse(JOB, 12.5, False) == Progress(
        12.5,
        COPYING,
        total=168304640,
        processed=601948160,
        remaining=33079296,
        rate=8413380,
        dirty_rate=2045 * 4096,
        iteration=11,
        throttle=20,
        expected_downtime_ms=6327,
        changed=6327 * 8413380 // 1000,
        elapsed=71.034,
    )


def test_the_names_are_libvirts():
    libvirt = pytest.importorskip("libvirt")
    known = {value for name, value in vars(libvirt).items() if name.startswith("VIR_DOMAIN_JOB_")}
    assert set(JOB) - {"type"} <= known
    assert JOB["operation"] == libvirt.VIR_DOMAIN_JOB_OPERATION_MIGRATION_OUT
    at_work = (libvirt.VIR_DOMAIN_JOB_BOUNDED, libvirt.VIR_DOMAIN_JOB_UNBOUNDED)
    assert all(progress.parse({**JOB, "type": it}, 1, False) for it in at_work)


def test_the_phases():
    begun = {"type": 2, "operation": 5, "time_elapsed": 15, "memory_total": 0}
    assert progress.parse(begun, 1, False).phase == PREPARING
    assert progress.parse(JOB, 1, True).phase == POST_COPY


@pytest.mark.parametrize(
    "job",
    [{}, {"type": 0}, {"type": 2, "operation": 3}, {**JOB, "operation": 4}, {**JOB, "type": 5}],
    ids=["nothing", "no job", "a save", "an arrival", "cancelled"],
)
def test_what_is_no_migration_from_here(job):
    assert progress.parse(job, 1, False) is None


def test_before_anything_was_counted_the_downtime_says_nothing_of_what_changed():
    assert progress.parse({**JOB, "memory_iteration": 1, "downtime": 300}, 1, False).changed == 0


@pytest.mark.parametrize("odd", [-1, None, "7", math.nan, math.inf, 1 << 70, b"", []])
@pytest.mark.parametrize("key", [key for key in JOB if key not in ("type", "operation")])
def test_an_odd_number_counts_for_none(key, odd):
    reported = progress.shown(progress.parse({**JOB, key: odd}, 1, False))
    assert tuple(reported) == KEYS
    without = {name: value for name, value in JOB.items() if name != key}
    if key != "downtime":
        assert reported == progress.shown(progress.parse(without, 1, False))


def test_the_percentage():
    assert progress.percentage(Progress(0, PREPARING)) == 0
    assert progress.percentage(Progress(0, COPYING, total=200, remaining=50)) == 75
    assert progress.percentage(Progress(0, COPYING, total=200, remaining=500)) == 0


def test_the_expected_end_counts_what_changes_meanwhile():
    observed = Progress(0, COPYING, total=100 * MIB, remaining=60 * MIB, rate=8 * MIB)
    assert progress.expected_end(observed) == 7.5
    changing = Progress(0, COPYING, remaining=60 * MIB, rate=8 * MIB, dirty_rate=2 * MIB)
    assert progress.expected_end(changing) == 10


def test_there_is_no_end_where_more_changes_than_is_carried():
    assert progress.expected_end(Progress(0, COPYING, remaining=9, rate=5, dirty_rate=5)) is None
    assert progress.expected_end(Progress(0, COPYING, remaining=9, rate=50, dirty_rate=49)) is None
    assert progress.expected_end(Progress(0, COPYING, remaining=9)) is None
    assert progress.expected_end(Progress(0, PREPARING, rate=5)) is None


def test_where_nothing_is_carried_there_is_no_rate_and_no_end():
    reported = progress.shown(
        progress.parse({**JOB, "memory_dirty_rate": 0}, 1, False), stalled=True
    )
    assert (reported["rate"], reported["expected_end"], reported["stalled"]) == (0, None, True)


def test_after_the_switch_nothing_changes_here_and_no_switch_is_to_come():
    observed = progress.parse(JOB, 1, True)
    assert (observed.dirty_rate, observed.expected_downtime_ms, observed.changed) == (0, None, 0)
    assert progress.expected_end(observed) == 3.9


@given(
    st.dictionaries(
        st.sampled_from(sorted(JOB)),
        st.one_of(st.integers(), st.none(), st.text(), st.floats(), st.booleans()),
    ),
    st.booleans(),
)
def test_nothing_that_is_told_makes_it_fail(job, in_post_copy):
    observed = progress.parse(job, 0.0, in_post_copy)
    if observed is not None:
        reported = progress.shown(observed, stalled=True)
        assert tuple(reported) == KEYS
        assert 0 <= reported["percentage"] <= 100
        assert reported["stalled"] is True
        assert reported["expected_end"] is None or reported["expected_end"] >= 0
