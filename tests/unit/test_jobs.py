"""What is under way on a node, what is remembered, what is told: as plain data."""

from dataclasses import replace
from datetime import datetime, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from saltext_kvmcluster.core import verdicts
from saltext_kvmcluster.core.errors import InputError, WorldError
from saltext_kvmcluster.core.events import events
from saltext_kvmcluster.core.migration import jobs, records
from saltext_kvmcluster.core.migration.journal import BEGUN, ENDED, Entry
from saltext_kvmcluster.core.migration.migration import Move
from saltext_kvmcluster.core.migration.progress import COPYING, Progress
from saltext_kvmcluster.core.verdicts import Observation, Sighting

NOW = datetime(2026, 11, 23, 12, 0, 34, tzinfo=timezone.utc)
UUID, OTHER = "11111111-1111-1111-1111-111111111111", "22222222-2222-2222-2222-222222222222"
MOVE = Move("web1", UUID, "node1", "node2")
ENTRY = Entry(MOVE, "2026-11-23T12:00:00.000+00:00", BEGUN, False, "shared")
SENDING = jobs.JobObservation(
    Observation(Sighting.RUNNING, "web1", UUID, job=verdicts.OUTGOING),
    Progress(5.0, COPYING, total=200, processed=90, remaining=100, rate=10, iteration=1),
)
QUEUED = {
    "what": "queued", "guest": "web2", "uuid": OTHER, "source": "node1", "destination": "node3",
    "slot": 2,
}  # fmt: skip
RECORD = {
    "guest": "web1", "uuid": UUID, "source": "node1", "destination": "node2", "owner": "node2",
    "result": "moved", "reason": "it runs on node2", "started": "2026-11-23T12:00:00.000+00:00",
    "elapsed": 1.5, "downtime_ms": 100, "memory_bytes": 1000, "iterations": 3,
}  # fmt: skip


def under_way(*observed, entries=(ENTRY,), words=()):
    return jobs.under_way("node1", observed, entries, words, NOW)


def test_a_migration_shows_where_to_how_far_and_for_how_long():
    (row,) = under_way(SENDING, words=[{"uuid": UUID, "stalled": False}])
    assert set(row) == set(jobs.KEYS)
    assert (row["guest"], row["source"], row["destination"]) == ("web1", "node1", "node2")
    assert (row["percentage"], row["rate"], row["remaining"]) == (50, 10, 100)
    assert (row["elapsed"], row["stalled"], row["expected_end"]) == (34.0, False, 10.0)


def test_one_that_stands_still_has_no_rate():
    (row,) = under_way(SENDING, words=[{"uuid": UUID, "stalled": True}])
    assert (row["stalled"], row["rate"], row["expected_end"]) == (True, 0, None)


def test_how_long_it_has_stood_still_is_told_as_far_as_it_was_seen():
    def reported(sighting, word):
        observed = replace(SENDING, observation=replace(SENDING.observation, sighting=sighting))
        (row,) = under_way(observed, words=[{"uuid": UUID, **word}])
        return row["downtime_ms"]

    assert reported(Sighting.RUNNING, {}) == 0
    assert reported(Sighting.RUNNING, {"downtime_ms": 700}) == 0
    assert reported(Sighting.PAUSED_FOR_MIGRATION, {"downtime_ms": 700}) == 700
    # The watcher's last word is older than what is seen now.
    assert reported(Sighting.PAUSED_FOR_MIGRATION, {"downtime_ms": 0}) is None
    assert reported(Sighting.PAUSED_FOR_MIGRATION, {}) is None


def test_one_that_was_not_begun_by_us_has_no_destination_that_we_know():
    for entries in ((), (Entry(MOVE, ENTRY.began, ENDED, False, "shared"),)):
        (row,) = under_way(SENDING, entries=entries)
        assert (row["destination"], row["phase"]) == (None, COPYING)


def test_one_that_arrives_is_named():
    (row,) = under_way(
        jobs.JobObservation(
            Observation(Sighting.RUNNING, "web3", OTHER, job=verdicts.INCOMING), None
        )
    )
    assert (row["guest"], row["destination"], row["phase"]) == ("web3", "node1", jobs.ARRIVING)
    assert row["source"] is None and row["percentage"] is None


def test_one_that_waits_has_its_place():
    sending, queued = under_way(SENDING, words=[QUEUED, {"what": "copying", "uuid": "gone"}])
    assert (queued["guest"], queued["phase"], queued["slot"]) == ("web2", jobs.QUEUED, 2)
    assert sending["slot"] is None


def test_a_clock_that_was_set_gives_no_traceback():
    for began in ("yesterday", "2026-11-23T12:00:00", ""):
        entry = Entry(MOVE, began, BEGUN, False, "shared")
        assert under_way(SENDING, entries=[entry])[0]["elapsed"] is None


def test_a_row_that_is_none_is_left_out():
    (row,) = under_way(SENDING)
    reported = {"node1": [row], "node2": [{**row, "uuid": []}, {**row, "phase": {}}, 1, None]}
    assert jobs.merged(reported) == [row]


def test_what_a_node_of_an_earlier_version_reports_is_not_left_out():
    """A drain that did not know of it would dispatch the guest once more."""
    (row,) = under_way(SENDING)
    older = {key: value for key, value in row.items() if key != "reason"}
    assert jobs.merged({"node1": [older]}) == [{**row, "reason": None}]
    assert jobs.sender("web1", {"node1": [older]}, {}) == "node1"


def test_one_of_whose_progress_nothing_is_known_is_not_left_out():
    """libvirt may show a job, and nothing of how far it is."""
    (row,) = under_way(SENDING)
    assert jobs.merged({"node1": [{**row, "phase": None}]}) == [{**row, "phase": None}]
    assert jobs.sender("web1", {"node1": [{**row, "phase": None}]}, {}) == "node1"


def test_a_figure_that_is_none_is_not_known():
    (row,) = under_way(SENDING)
    odd = {"percentage": "x", "rate": [], "elapsed": "1", "slot": -1, "stalled": "no"}
    reported = {"node1": [{**row, **odd, "reason": "\x1b[31m"}]}
    assert jobs.merged(reported) == [
        {**row, **dict.fromkeys(odd), "reason": "\ufffd[31m"},
    ]


def test_of_two_halves_the_source_knows_more():
    arriving = jobs.JobObservation(
        Observation(Sighting.RUNNING, "web1", UUID, job=verdicts.INCOMING), None
    )
    rows = jobs.merged(
        {"node1": under_way(SENDING), "node2": jobs.under_way("node2", [arriving], [], [], NOW)}
    )
    assert [row["source"] for row in rows] == ["node1"]
    alone = jobs.merged({"node2": jobs.under_way("node2", [arriving], [], [], NOW)})
    assert [row["phase"] for row in alone] == [jobs.ARRIVING]


def test_it_is_cancelled_where_it_comes_from():
    reported = {"node1": under_way(SENDING, words=[QUEUED]), "node2": [{"guest": "web1"}, None, 3]}
    assert jobs.sender("web1", reported, {}) == jobs.sender("web2", reported, {}) == "node1"
    with pytest.raises(WorldError, match="web9 under way; no information from node3: no response"):
        jobs.sender("web9", reported, {"node3": "no response"})


def test_of_a_migration_whose_end_was_seen_later_history_has_what_was_seen():
    unseen = {**RECORD, "result": "unknown", "owner": None}
    observed = records.settled(ENTRY, "node2", "it runs on node2 and not on node1")
    assert (observed["result"], observed["owner"], observed["elapsed"]) == ("moved", "node2", None)
    assert observed["reason"] == "settled later: it runs on node2 and not on node1"
    assert records.settled(ENTRY, "node1", "")["result"] == "not_moved"
    assert records.settled(ENTRY, None, "")["result"] == "unknown"
    same = {"uuid": ENTRY.move.uuid, "started": ENTRY.began}
    assert records.chosen([{**unseen, **same}, observed], None, 5) == [observed]
    assert records.chosen([observed, {**unseen, **same}], None, 5) == [observed]


def test_history_is_of_one_guest_or_all_and_the_newest_last():
    older = {**RECORD, "guest": "web2", "started": "2026-11-22T12:00:00.000+00:00"}
    # On one node the order is that of the file, also after its clock was set back.
    for rows in ([RECORD, older], [older, RECORD]):
        assert records.chosen(rows, None, 5) == rows
        assert records.chosen(rows, None, 1) == rows[1:]
        assert records.chosen(rows, "web2", 5) == [older]
    both = {"node1": [RECORD, None], "node2": [older]}
    assert records.merged(both, None, 5) == [older, RECORD]
    assert records.merged(both, None, 1) == [RECORD]


@given(
    st.recursive(
        st.none() | st.booleans() | st.floats() | st.text(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    ),
    st.sampled_from(sorted(RECORD)),
)
def test_what_is_no_record_is_left_out(odd, key):
    for record in (odd, {**RECORD, key: odd}, {key: odd}):
        for row in records.chosen([record], None, 5):
            assert set(row) == set(RECORD)
            assert all(text.isprintable() for text in row.values() if isinstance(text, str))


@pytest.mark.parametrize("limit", [0, -1, 1001, 1.5, "5", True, None])
def test_a_limit_is_a_number(limit):
    with pytest.raises(InputError, match="limit"):
        records.number_of(limit)


@pytest.mark.parametrize("guest", ["a/b", "../x", "*", "web 1\n", "ä", "\udcff", "a//", "#"])
def test_no_name_adds_a_part_to_a_tag(guest):
    tag = events.tag("lab", events.MIGRATION, "node1", guest)
    assert tag.split("/")[:4] == ["kvmcluster", "lab", "migration", "node1"]
    assert tag.count("/") == 4 and tag.isascii() and tag.isprintable() and " " not in tag
    assert not set("*?[]{}") & set(tag)


def test_a_plain_name_is_in_its_tag_as_it_is():
    assert events.tag("lab", "migration", "node1", "web-1.x") == (
        "kvmcluster/lab/migration/node1/web-1.x"
    )


def test_a_figure_of_the_history_that_cannot_be_is_not_known():
    """The report draws it: an axis up to infinity has no end."""
    odd = {"elapsed": 1.7e308, "downtime_ms": -(10**30), "memory_bytes": 10**400}
    (row,) = records.chosen([{**RECORD, **odd}], None, 5)
    assert row == {**RECORD, **dict.fromkeys(odd)}


def test_an_event_stays_small():
    data = events.small({"reason": "x\n" * 9999, "elapsed": 1.5, "stalled": None})
    assert len(data["reason"]) < 600 and "\n" not in data["reason"]
    assert (data["elapsed"], data["stalled"]) == (1.5, None)


def test_one_whose_outcome_is_checked_is_under_way_but_cannot_be_cancelled():
    """A drain that did not know of it would dispatch the guest once more."""
    for stage in (BEGUN, ENDED):
        entry = Entry(MOVE, ENTRY.began, stage, False, "shared")
        (row,) = under_way(entries=[entry], words=[{"what": "copying", "uuid": UUID}])
        assert set(row) == set(jobs.KEYS)
        assert (row["guest"], row["source"], row["destination"]) == ("web1", "node1", "node2")
        assert (row["phase"], row["elapsed"]) == (jobs.CHECKING, 34.0)
        with pytest.raises(WorldError, match="web1 under way"):
            jobs.sender("web1", {"node1": [row]}, {})
    assert under_way(words=[]) == []
