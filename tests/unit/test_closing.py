"""What closes a node: whoever wrote its file, it is closed, and what it says is one plain line."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from saltext_kvmcluster.core import closing
from saltext_kvmcluster.core.closing import Closed
from saltext_kvmcluster.core.errors import InputError
from saltext_kvmcluster.core.factparse import NOTHING, Said, closed

SINCE = "2026-01-01T10:00:00.000+00:00"


def test_what_is_written_is_read():
    mark = Closed(SINCE, "new memory, ask Ann")
    assert closing.read(closing.text(mark)) == mark
    assert str(mark) == f"closed since {SINCE}: new memory, ask Ann"


@pytest.mark.parametrize(
    ("text", "mark", "words"),
    [
        ("", Closed("", ""), "closed"),
        ("disk is broken\n", Closed("", "disk is broken"), "closed: disk is broken"),
        ("2026-01-01T10:00:00 no zone", Closed("", "2026-01-01T10:00:00 no zone"), None),
        (f"{SINCE}\n", Closed(SINCE, ""), f"closed since {SINCE}"),
        ("a\x1b[2Jb", Closed("", "a\ufffd[2Jb"), None),
    ],
)
def test_what_somebody_else_wrote_closes_it_too(text, mark, words):
    assert closing.read(text) == mark
    assert words is None or str(mark) == words


def test_a_reason_is_what_will_be_read():
    words = closing.reason("updates,  kernel ")
    assert closing.read(closing.text(Closed(SINCE, words))).reason == words


@pytest.mark.parametrize(
    ("known", "wanted", "kept"),
    [
        (None, "new memory", "new memory"),
        (Closed(SINCE, ""), "new memory", "new memory"),
        (Closed(SINCE, "new memory"), "drained", "new memory"),
        (Closed(SINCE, "new memory"), "kvmcluster.orch.rolling updates", "new memory"),
        (Closed(SINCE, "kvmcluster.orch.rolling updates"), "new memory", "new memory"),
        (
            Closed(SINCE, "kvmcluster.orch.rolling updates"),
            closing.DRAINED,
            "kvmcluster.orch.rolling updates",
        ),
        (
            Closed(SINCE, "kvmcluster.orch.rolling updates"),
            "kvmcluster.orch.maintenance",
            "kvmcluster.orch.rolling updates",
        ),
    ],
)
def test_the_first_reason_stays_but_a_persons_takes_the_place_of_an_orchestrations(
    known, wanted, kept
):
    assert closing.kept(known, wanted) == kept


@given(st.text())
def test_any_text_is_read_as_one_line(text):
    assert str(closing.read(text)).isprintable()


@pytest.mark.parametrize(
    ("said", "found"),
    [
        (Said(0, f"{SINCE} updates\n"), (Closed(SINCE, "updates"),)),
        (Said(0, ""), (Closed("", ""),)),
        (Said(1, "", "cat: /etc/kvmcluster.closed: No such file or directory"), ()),
        (Said(1, "", "cat: /etc/kvmcluster.closed: Permission denied"), None),
        (Said(None, "", "timed out"), None),
        (NOTHING, None),
    ],
)
def test_that_nothing_is_known_does_not_make_a_node_open(said, found):
    assert closed(said) == found


@pytest.mark.parametrize("reason", [None, "", "  ", "two\nlines", "x" * 501, 7, "\x1b[2J"])
def test_a_reason_is_a_line_of_text(reason):
    with pytest.raises(InputError, match="reason: want a line of text"):
        closing.reason(reason)
