"""The file of a cordon: whoever wrote it, the node is cordoned, and it reads as one plain line."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from saltext_kvmcluster.core import cordons
from saltext_kvmcluster.core.cordons import Cordon
from saltext_kvmcluster.core.errors import InputError
from saltext_kvmcluster.core.facts.parsers import NOTHING, CommandOutput, cordoned

SINCE = "2026-01-01T10:00:00.000+00:00"


def test_what_is_written_is_read():
    mark = Cordon(SINCE, "new memory, ask Ann")
    assert cordons.parse(cordons.text(mark)) == mark
    assert str(mark) == f"cordoned since {SINCE}: new memory, ask Ann"


@pytest.mark.parametrize(
    ("text", "mark", "words"),
    [
        ("", Cordon("", ""), "cordoned"),
        ("disk is broken\n", Cordon("", "disk is broken"), "cordoned: disk is broken"),
        ("2026-01-01T10:00:00 no zone", Cordon("", "2026-01-01T10:00:00 no zone"), None),
        (f"{SINCE}\n", Cordon(SINCE, ""), f"cordoned since {SINCE}"),
        ("a\x1b[2Jb", Cordon("", "a\ufffd[2Jb"), None),
    ],
)
def test_what_somebody_else_wrote_closes_it_too(text, mark, words):
    assert cordons.parse(text) == mark
    assert words is None or str(mark) == words


def test_a_reason_is_what_will_be_read():
    words = cordons.checked_reason("updates,  kernel ")
    assert cordons.parse(cordons.text(Cordon(SINCE, words))).reason == words


@pytest.mark.parametrize(
    ("known", "wanted", "kept"),
    [
        (None, "new memory", "new memory"),
        (Cordon(SINCE, ""), "new memory", "new memory"),
        (Cordon(SINCE, "new memory"), "drained", "new memory"),
        (Cordon(SINCE, "new memory"), "kvmcluster.orch.rolling updates", "new memory"),
        (Cordon(SINCE, "kvmcluster.orch.rolling updates"), "new memory", "new memory"),
        (
            Cordon(SINCE, "kvmcluster.orch.rolling updates"),
            cordons.DRAINED,
            "kvmcluster.orch.rolling updates",
        ),
        (
            Cordon(SINCE, "kvmcluster.orch.rolling updates"),
            "kvmcluster.orch.maintenance",
            "kvmcluster.orch.rolling updates",
        ),
        (Cordon(SINCE, "new memory"), cordons.LEAVING, "new memory"),
        (Cordon(SINCE, cordons.LEAVING), "new memory", "new memory"),
        (Cordon(SINCE, cordons.LEAVING), cordons.DRAINED, cordons.LEAVING),
    ],
)
def test_the_first_reason_stays_but_a_persons_takes_the_place_of_an_orchestrations(
    known, wanted, kept
):
    assert cordons.kept(known, wanted) == kept


@given(st.text())
def test_any_text_is_read_as_one_line(text):
    assert str(cordons.parse(text)).isprintable()


@pytest.mark.parametrize(
    ("detail", "found"),
    [
        (CommandOutput(0, f"{SINCE} updates\n"), (Cordon(SINCE, "updates"),)),
        (CommandOutput(0, ""), (Cordon("", ""),)),
        (CommandOutput(1, "", "cat: /etc/kvmcluster.cordoned: No such file or directory"), ()),
        (CommandOutput(1, "", "cat: /etc/kvmcluster.cordoned: Permission denied"), None),
        (CommandOutput(None, "", "timed out"), None),
        (NOTHING, None),
    ],
)
def test_that_nothing_is_known_does_not_make_a_node_open(detail, found):
    assert cordoned(detail) == found


@pytest.mark.parametrize("reason", [None, "", "  ", "two\nlines", "x" * 501, 7, "\x1b[2J"])
def test_a_reason_is_a_line_of_text(reason):
    with pytest.raises(InputError, match="reason: want a line of text"):
        cordons.checked_reason(reason)
