"""What comes from outside is read with its type and within limits, or refused by its path."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from saltext_kvmcluster.core.errors import InputError
from saltext_kvmcluster.core.untrusted import REQUIRED, Reader, from_json

ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20) | st.binary(),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.text(max_size=8) | st.integers(), inner, max_size=4)
    ),
    max_leaves=10,
)
READS = {
    "text": lambda reader, default: reader.text(default, most=5),
    "line": lambda reader, default: reader.line(default, most=5),
    "whole": lambda reader, default: reader.whole(default, 1, 9),
    "number": lambda reader, default: reader.number(default),
    "flag": lambda reader, default: reader.flag(default),
    "choice": lambda reader, default: reader.choice(("a", "b"), default),
}
GOOD = {
    "text": ["", "abcde", "a\nb"],
    "whole": [1, 9],
    "number": [0, -1.5, 10**300],
    "flag": [True, False],
    "choice": ["a", "b"],
    "line": ["", "abcde"],
}
BAD = {
    "text": ["abcdef", 1, b"a", ["a"]],
    "line": [1, b"a"],
    "whole": [0, 10, True, 1.0, "1", 10**400],
    "number": [float("nan"), float("inf"), True, "1", 10**400],
    "flag": [0, 1, "true"],
    "choice": ["c", "", 1, ["a"], {}],
}


def of(pairs):
    return [(name, value) for name, values in pairs.items() for value in values]


@pytest.mark.parametrize(("read", "value"), of(GOOD))
def test_a_value_that_fits_is_read_as_it_is(read, value):
    assert READS[read](Reader(value), REQUIRED) is value or value == READS[read](
        Reader(value), REQUIRED
    )


@pytest.mark.parametrize(("read", "value"), of(BAD))
def test_a_value_that_does_not_fit_is_refused_by_its_path(read, value):
    for default in (REQUIRED, "default"):
        with pytest.raises(InputError, match=r"^answer:rows\[1\]: "):
            READS[read](Reader({"rows": [0, value]}, "answer").at("rows").items()[1], default)


@pytest.mark.parametrize(("read", "value"), of(BAD))
def test_a_lenient_reader_takes_it_as_absent(read, value):
    field = Reader({"key": value}, lenient=True).at("key")
    assert READS[read](field, "default") == "default"
    with pytest.raises(InputError, match=r"^key: "):
        READS[read](field, REQUIRED)


@pytest.mark.parametrize("read", READS)
def test_what_is_absent_is_the_default_or_an_error(read):
    for raw in ({}, {"key": None}):
        assert READS[read](Reader(raw).at("key"), "default") == "default"
        with pytest.raises(InputError, match=r"^key: want .*, got nothing"):
            READS[read](Reader(raw).at("key"), REQUIRED)


def test_a_line_prints_and_is_cut():
    assert Reader("a\x1b[2J\nb").line() == "a\ufffd[2J\ufffdb"
    assert Reader("x" * 2000).line() == "x" * 1000


def test_a_list_and_a_mapping_are_required_unless_optional():
    assert Reader(None).items(optional=True) == [] and Reader(None).fields(optional=True) == {}
    for value in (None, "text", 1):
        for name in ("items", "fields"):
            with pytest.raises(InputError):
                getattr(Reader(value), name)()
            if value is not None:
                with pytest.raises(InputError):
                    getattr(Reader(value), name)(optional=True)


def test_more_entries_than_the_limit_are_refused():
    with pytest.raises(InputError, match=r"^rows: 3 entries, at most 2"):
        Reader({"rows": [1, 2, 3]}).at("rows").items(most=2)
    with pytest.raises(InputError, match=r"^3 entries, at most 2"):
        Reader({"a": 1, "b": 2, "c": 3}).fields(most=2)


def test_more_entries_than_the_limit_are_absent_to_a_lenient_reader():
    lenient = Reader({"rows": [1, 2, 3], "map": {"a": 1, "b": 2}}, lenient=True)
    assert lenient.at("rows").items(optional=True, most=2) == []
    assert lenient.at("map").fields(optional=True, most=1) == {}
    with pytest.raises(InputError, match=r"^rows: want a list"):
        lenient.at("rows").items(most=2)


def test_a_key_that_is_no_text_is_refused_or_left_out():
    with pytest.raises(InputError, match="every key"):
        Reader({1: 2}).fields()
    assert list(Reader({1: 2, "a": 3}, lenient=True).fields()) == ["a"]


def test_a_field_of_what_is_no_mapping_is_refused_or_absent():
    with pytest.raises(InputError, match=r"^answer: want a mapping, got list"):
        Reader([], "answer").at("key")
    assert Reader([], lenient=True).at("key").at("deeper").text(default="") == ""


def test_json_is_read_or_refused():
    assert from_json('{"a": 1}', "file").at("a").whole() == 1
    for text in ("", "{", "[" * 100_000):
        with pytest.raises(InputError, match=r"^file: not JSON"):
            from_json(text, "file")
        assert from_json(text, "file", lenient=True).value is None


@given(ANYTHING, st.booleans())
def test_whatever_is_received_is_read_or_refused_in_one_line(value, lenient):
    for raw in (value, {"key": value}, [value]):
        reader = Reader(raw, "answer", lenient)
        for read in (
            *(lambda found, read=read: read(found, REQUIRED) for read in READS.values()),
            lambda found: found.at("key").text(),
            lambda found: [one.whole() for one in found.items()],
            lambda found: [one.line() for one in found.fields().values()],
        ):
            try:
                read(reader)
            except InputError as error:
                assert str(error).isprintable() and len(str(error)) < 500
