"""What a journal keeps of a migration, and what it refuses to have kept."""

import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from saltext_kvmcluster.core.errors import InputError
from saltext_kvmcluster.core.migration import journal
from saltext_kvmcluster.core.migration.handover import Handover
from saltext_kvmcluster.core.migration.journal import BEGUN, ENDED, Entry
from saltext_kvmcluster.core.migration.migration import Move

UUID = "c6a03beb-295e-499a-b50f-94bfb088f6f2"
ENTRY = Entry(
    move=Move("web1", UUID, "node1", "node2"),
    began="2024-01-01T00:00:00.000+00:00",
    stage=BEGUN,
    persistent=True,
    definitions="defined",
    flags=("LIVE", "PEER2PEER"),
)
PRINTABLE = st.text(st.characters(blacklist_categories=("C", "Zl", "Zp")), max_size=20).filter(
    str.isprintable
)


def kept(**changed):
    """Return an entry as it is kept, with some of its fields changed; None drops a field."""
    raw = {**json.loads(journal.text(ENTRY)), **changed}
    return json.dumps({key: value for key, value in raw.items() if value is not None})


def moved(**changed):
    return kept(move={**json.loads(journal.text(ENTRY))["move"], **changed})


@given(
    st.builds(
        Entry,
        st.builds(Move, PRINTABLE.filter(bool), st.uuids().map(str), PRINTABLE, PRINTABLE),
        PRINTABLE,
        st.sampled_from(journal.STAGES),
        st.booleans(),
        PRINTABLE,
        st.lists(PRINTABLE, max_size=3).map(tuple),
        st.none() | st.builds(Handover, st.booleans(), st.integers(0, 1 << 40), st.integers(0, 9)),
    )
)
def test_what_was_kept_is_read_again(entry):
    assert journal.parse(journal.text(entry), "there") == entry


def test_a_version_that_knows_no_strict_handover_does_not_read_one():
    """It would take the copy for a guest that its user paused, and forget the migration."""
    strict = replace(ENTRY, handover=Handover(True, 1, 1))
    assert json.loads(journal.text(strict))["version"] == 2
    assert json.loads(journal.text(ENTRY))["version"] == 1


def test_an_entry_that_cannot_be_read_may_be_of_the_guest():
    assert journal.read_all({f"{UUID}.json": kept()}).may_have(UUID)
    assert journal.read_all({f"{UUID}.json": "{"}).may_have(UUID)
    other = UUID.replace("c", "d")
    assert not journal.read_all({f"{other}.json": "{"}).may_have(UUID)


def test_it_ends():
    ended = ENTRY.at(ENDED)
    assert ended.stage == ENDED
    assert ended.move == ENTRY.move


@pytest.mark.parametrize(
    "text",
    [
        "",
        "\0",
        "{",
        "[]",
        "null",
        "1" * 5000,
        "[" * 100_000,
        '{"version": 1}',
        kept()[:-20],
        kept(version=3),
        kept(stage="finished"),
        kept(handover={}),
        kept(handover={"resume": 1, "pid": 2, "started": 3}),
        kept(handover={"resume": True, "pid": -2, "started": 3}),
        kept(stage=["begun"]),
        kept(persistent="yes"),
        kept(persistent=1),
        kept(flags="LIVE"),
        kept(flags=[1]),
        kept(flags=None),
        kept(began="two\nlines"),
        kept(began=5),
        kept(move=[]),
        kept(move=None),
        moved(uuid="../../../etc/passwd"),
        moved(uuid=UUID.upper()),
        moved(uuid=UUID.replace("-", "")),
        moved(uuid=""),
        moved(uuid=7),
        moved(guest=""),
        moved(guest="web1\x1b[2J"),
        moved(source=None),
    ],
)
def test_what_is_no_entry_is_refused_by_its_place(text):
    with pytest.raises(InputError, match="/the/place is not a journal entry"):
        journal.parse(text, "/the/place")


@given(st.text() | st.recursive(st.none() | st.text() | st.integers(), st.lists).map(json.dumps))
def test_nothing_but_an_input_error_comes_of_garbage(text):
    with pytest.raises(InputError):
        journal.parse(text, "there")


@given(st.data())
def test_nor_of_an_entry_with_one_thing_wrong(data):
    raw = json.loads(journal.text(ENTRY))
    key = data.draw(st.sampled_from(sorted(raw)))
    raw[key] = data.draw(st.none() | st.integers(2) | st.lists(st.integers()) | st.just({}))
    try:
        assert isinstance(journal.parse(json.dumps(raw), "there"), Entry)
    except InputError:
        return
    assert (key, raw[key]) in (("flags", []), ("version", 2))
