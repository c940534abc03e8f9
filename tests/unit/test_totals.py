"""The sums over a node's migrations: they never go back, and nothing counts twice."""

from hypothesis import given
from hypothesis import strategies as st

from saltext_kvmcluster.core.migration import totals
from saltext_kvmcluster.core.migration.totals import Totals


def row(result="moved", source="node1", destination="node2", **more):
    return {"guest": "web1", "source": source, "destination": destination, "result": result, **more}


def test_only_what_moved_has_seconds_downtime_and_bytes():
    found = Totals().plus(
        [
            row(elapsed=4.5, downtime_ms=80, memory_bytes=1000),
            row("not_moved", elapsed=60, downtime_ms=9, memory_bytes=7),
            row("unknown"),
            row(elapsed=None, downtime_ms=None, memory_bytes=None),
        ]
    )
    assert found.results == {"moved": 2, "not_moved": 1, "unknown": 1}
    assert (found.seconds.sum, sum(found.seconds.counts)) == (4.5, 1)
    assert (found.downtime.sum, sum(found.downtime.counts)) == (0.08, 1)
    assert found.bytes == 1000


def test_a_value_counts_below_the_first_bound_that_is_not_less():
    spread = totals.Spread((1.0, 2.0)).plus(1.0).plus(1.5).plus(99.0).plus(None).plus(-1.0)
    assert spread.counts == (1, 1, 1) and spread.sum == 101.5


def test_what_is_no_migration_does_not_count():
    others = [row(source="node2", destination="node2"), row("started"), row("fenced"), "x", {}, 7]
    assert Totals().plus(others) == Totals()


RECORDS = st.builds(
    row,
    st.sampled_from([*totals.RESULTS, "fenced"]),
    elapsed=st.none() | st.integers(0, 10000),
    downtime_ms=st.none() | st.integers(0, 100000),
    memory_bytes=st.none() | st.integers(0, 1 << 40),
)


@given(st.lists(RECORDS, max_size=30), st.integers(1, 5))
def test_dropping_the_oldest_changes_no_sum(records, longest):
    kept: list = []
    for record in records:
        sums, rows = totals.split(kept)
        stays = rows[len(rows) - longest + 1 :] if len(rows) >= longest else rows
        sums = sums.plus(rows[: len(rows) - len(stays)])
        kept = [totals.line(sums), *stays, record]
    sums, rows = totals.split(kept)
    assert sums.plus(rows).results == Totals().plus(records).results
    assert sums.plus(rows).bytes == Totals().plus(records).bytes
    assert sums.plus(rows).seconds.counts == Totals().plus(records).seconds.counts


def test_sums_survive_the_way_over_a_disk_and_what_is_odd_begins_anew():
    found = Totals().plus([row(elapsed=4.5, downtime_ms=80, memory_bytes=1000)])
    assert totals.parse(found.to_dict()) == found
    for odd in (
        None,
        7,
        [],
        {"results": 3},
        {"results": {"moved": -1}},
        {"seconds": {"counts": []}},
    ):
        assert totals.parse(odd) == Totals()
    longer = found.to_dict()
    longer["seconds"]["bounds"] = [1, 2]
    assert totals.parse(longer).seconds == Totals().seconds
