"""A question as a node gets it: read, or refused in a sentence."""

import pytest
import worlds
from hypothesis import given
from hypothesis import strategies as st

from saltext_kvmcluster.core.errors import InputError
from saltext_kvmcluster.core.facts import questions
from saltext_kvmcluster.core.readiness import follow_up

JSON = st.recursive(
    st.none() | st.integers() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner),
    max_leaves=12,
)


def test_what_readiness_asks_is_a_question():
    for asked in follow_up.questions(worlds.world()).values():
        found = questions.parse(asked)
        assert list(found.paths) == asked["paths"] and list(found.cpus) == asked["cpus"]
        assert {folder: list(names) for folder, names in found.tokens.items()} == asked["tokens"]


@pytest.mark.parametrize(
    ("reported", "words"),
    [
        ([], "want a mapping, got list"),
        ({"paths": "/etc"}, "paths: want a list, got str"),
        ({"paths": ["etc/passwd"]}, "absolute path"),
        ({"paths": ["/a\0b"]}, "absolute path"),
        ({"paths": ["/a\nb"]}, "absolute path"),
        ({"paths": [None]}, "absolute path"),
        ({"paths": ["/a"] * 10_001}, "10001 entries, at most 10000"),
        ({"tokens": {"images": ["node1"]}}, "absolute path"),
        ({"tokens": {"/images": "node1"}}, "images: want a list, got str"),
        ({"tokens": {"/images": ["../../etc/shadow"]}}, "want the id of a node"),
        ({"tokens": {"/images": [".."]}}, "want the id of a node"),
        ({"cpus": [{"cpu": "<cpu/>"}]}, "type: want text, got nothing"),
        ({"cpus": {"cpu": "<cpu/>"}}, "cpus: want a list, got dict"),
    ],
)
def test_what_is_no_question_is_refused(reported, words):
    with pytest.raises(InputError, match=words):
        questions.parse(reported)


@given(JSON, st.sampled_from(["paths", "tokens", "cpus"]))
def test_whatever_is_asked_is_read_or_refused(reported, part):
    for one in (reported, {part: reported}):
        try:
            questions.parse(one)
        except InputError as error:
            assert str(error).isprintable()
