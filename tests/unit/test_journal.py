"""What a journal keeps of a migration, and what it refuses to have kept."""

import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from saltext_kvmcluster.core.errors import InputError
from saltext_kvmcluster.core.migration import journal
from saltext_kvmcluster.core.migration.handover import Handover
from saltext_kvmcluster.core.migration.journal import BEGUN, ENDED, Entry, Found
from saltext_kvmcluster.core.migration.migration import Move

UUID = "c6a03beb-295e-499a-b50f-94bfb088f6f2"
OTHER = UUID.replace("c", "d")
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


NAMES = PRINTABLE.filter(lambda name: name and "/" not in name)


def kept(**changed):
    """Return an entry as it is kept, with some of its fields changed; None drops a field."""
    raw = {**json.loads(journal.text(ENTRY)), **changed}
    return json.dumps({key: value for key, value in raw.items() if value is not None})


def moved(**changed):
    return kept(move={**json.loads(journal.text(ENTRY))["move"], **changed})


@given(
    st.builds(
        Entry,
        st.builds(Move, NAMES, st.uuids().map(str), PRINTABLE, PRINTABLE),
        PRINTABLE,
        st.sampled_from(journal.STAGES),
        st.booleans(),
        PRINTABLE,
        st.lists(PRINTABLE, max_size=3).map(tuple),
        st.none() | st.builds(Handover, st.booleans(), st.integers(-1, 99)),
        sequence=st.integers(0, 10**18),
    )
)
def test_what_was_kept_is_read_again(entry):
    assert journal.parse(journal.text(entry), "there") == entry


def test_a_version_that_knows_no_strict_handover_does_not_read_one():
    """It would take the copy for a guest that its user paused, and forget the migration."""
    strict = replace(ENTRY, handover=Handover(True))
    assert json.loads(journal.text(strict))["version"] == 2
    assert json.loads(journal.text(ENTRY))["version"] == 1


UNREADABLE = "it is not a journal entry of version 1 or 2"


def found(name, text="", kind="f", size=10, error=""):
    return Found(name, f"/there/{name}", kind, size, text, error)


def test_an_entry_that_cannot_be_read_may_be_of_the_guest():
    assert journal.read_all([found(f"{UUID}.json", kept())]).may_have(UUID)
    assert journal.read_all([found(f"{UUID}.json", "{")]).may_have(UUID)
    assert not journal.read_all([found(f"{OTHER}.json", "{")]).may_have(UUID)


@pytest.mark.parametrize(
    ("odd", "detail"),
    [
        *(({"kind": kind}, f"it is {what}") for kind, what in journal.KINDS.items()),
        ({"size": 1 << 30}, "it has 1073741824 bytes, at most 16384 are read"),
        ({"error": "it belongs to user 7"}, "it belongs to user 7"),
        ({"text": ""}, ""),
        ({"text": "\udcff\0"}, ""),
    ],
)
def test_an_odd_file_concerns_the_guest_of_its_name_alone(odd, detail):
    held = journal.read_all([found(f"{OTHER}.json", **odd), found(f"{UUID}.json", kept())])
    assert held.entries == (ENTRY,) and not held.doubts(UUID)
    assert held.may_have(OTHER) and held.doubts(OTHER) == (
        f"/there/{OTHER}.json is not a valid journal entry: {detail or UNREADABLE}; if no migration"
        " is under way, remove it"
    )


def test_a_name_and_its_entry_have_to_agree_and_both_guests_are_doubted():
    held = journal.read_all([found(f"{OTHER}.json", kept())])
    assert held.entries == () and held.may_have(UUID) and held.may_have(OTHER)
    assert f"it is that of web1, {UUID}" in held.unread[0]


@pytest.mark.parametrize("name", ["a", "journal", "json", ""])
def test_a_name_that_is_a_word_of_a_sentence_is_not_doubted(name):
    held = journal.read_all([found(f"{OTHER}.json", "{")])
    assert held.unread and not held.doubts(name)


def test_a_foreign_name_is_reported_and_concerns_nobody():
    names = ["README", "x\ny.json", f"{UUID}.json.bak", f"{UUID.upper()}.json"]
    held = journal.read_all(map(found, names))
    assert held.entries == () and len(held.unread) == len(names)
    assert all("does not belong there; move it away" in why for why in held.unread)
    assert "'/there/x\\ny.json' does not" in "".join(held.unread)
    own = [f"{UUID}.cancel", f".{UUID}.json.kvmcluster-new-node1"]
    assert journal.read_all(map(found, own)).unread == ()
    many = journal.read_all(found(f"x{number}") for number in range(5000))
    assert len(many.unread) == 11 and many.unread[-1] == "4990 more files there do not belong there"


def test_a_node_keeps_account_of_its_own_migrations_alone():
    held = journal.Kept((ENTRY,))
    assert held.of_node("node1") == held
    foreign = held.of_node("node3")
    assert foreign.entries == () and foreign.may_have(UUID)
    where = f"/var/lib/kvmcluster/journal/{UUID}.json on node3"
    assert f"{where} is the entry of a migration from node1" in foreign.doubts(UUID)


@pytest.mark.parametrize("text", ["", "x", "-1", "1.5", "9" * 19, "٣", "1 2"])
def test_what_is_no_count_is_reported_where_it_lies(text):
    assert journal.counted(" 41\n", "there") == 41
    with pytest.raises(InputError, match="there holds no number; remove it"):
        journal.counted(text, "there")


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
        kept(sequence=-1),
        kept(sequence="1"),
        kept().replace('"stage"', '"stage": "ended", "stage"'),
        kept(move=[]),
        kept(move=None),
        moved(uuid="../../../etc/passwd"),
        moved(uuid=UUID.upper()),
        moved(uuid=UUID.replace("-", "")),
        moved(uuid=""),
        moved(uuid=7),
        moved(guest=""),
        moved(guest="../../../tmp/web1"),
        moved(guest="web1\x1b[2J"),
        moved(source=None),
    ],
)
def test_what_is_no_entry_is_refused_by_its_place(text):
    with pytest.raises(InputError, match="/the/place is not a valid journal entry"):
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
    assert (key, raw[key]) in (("flags", []), ("version", 2)) or key == "sequence"
