"""docs/pillar.md is what the validator says, and pillar.example shows every key."""

import copy
import re
from pathlib import Path

import docs_pillar
import pytest
import yaml

from saltext_kvmcluster.core.errors import InputError
from saltext_kvmcluster.core.pillar import schema
from saltext_kvmcluster.core.pillar.parser import from_pillar

PROJECT = Path(__file__).parent.parent.parent
PAGE = (PROJECT / "docs" / "pillar.md").read_text(encoding="utf-8")
EXAMPLE = (PROJECT / "pillar.example").read_text(encoding="utf-8")
GOOD = yaml.safe_load(EXAMPLE)
STANDS_FOR = {"NODE": "marathon-01", "GUEST:ha": "db2:ha", "GUEST": "web1", "DEVICE": "bmc1"}
FOLLOW = {
    ("kvmcluster", "ha"): ("kvmcluster:guests", "list"),
    ("kvmcluster:ha:fencing", "devices"): ("kvmcluster:ha:fencing", "levels"),
}
"""Keys of the example that mean nothing without another one."""
KEYS = [
    pytest.param(path, key, id=f"{path}:{key.name}")
    for path, holders in docs_pillar.PARTS
    for holder in holders
    for key in schema.documented(holder)
]


def at(pillar, path):
    for word, name in STANDS_FOR.items():
        path = path.replace(word, name)
    for word in path.split(":"):
        pillar = pillar[word]
    return pillar


def refused(path, name, value):
    """Return what is said of the example with one key set to a value that cannot be."""
    pillar = copy.deepcopy(GOOD)
    at(pillar, path)[name] = value
    with pytest.raises(InputError) as caught:
        from_pillar(pillar)
    return str(caught.value)


def test_the_page_is_as_the_validator_makes_it():
    assert docs_pillar.document() == PAGE, "run: make docs"


@pytest.mark.parametrize("path", [path for path, _ in docs_pillar.PARTS])
def test_every_key_that_is_accepted_is_in_the_page_and_no_other(path):
    detail = refused(path, "no_such_key", 1)
    accepted = re.search(r"known keys are ([a-z_, ]+)", detail).group(1).split(", ")
    part = PAGE.partition(f"\n## {path}\n")[2].partition("\n## ")[0]
    assert re.findall(r"^`(\w+)`$", part, re.MULTILINE) == accepted


@pytest.mark.parametrize(("path", "key"), KEYS)
def test_what_the_page_says_a_key_wants_is_what_the_validator_says(path, key):
    detail = refused(path, key.name, float("inf"))
    node = "node" if key.name == "home" else key.wants
    assert node in detail and key.name in detail


@pytest.mark.parametrize(("path", "key"), KEYS)
def test_every_key_is_in_the_example_with_the_same_words(path, key):
    assert key.name in at(GOOD, path)
    comments = " ".join(re.findall(r"^ *#(.*)$", EXAMPLE, re.MULTILINE))
    assert " ".join(key.text.split()) in " ".join(comments.split()), key.text


@pytest.mark.parametrize(("path", "key"), KEYS)
def test_a_key_without_a_default_must_be_given(path, key):
    pillar = copy.deepcopy(GOOD)
    del at(pillar, path)[key.name]
    if (path, key.name) in FOLLOW:
        above, name = FOLLOW[path, key.name]
        del at(pillar, above)[name]
    if key.default is None:
        with pytest.raises(InputError, match=f"{key.name}: want"):
            from_pillar(pillar)
    else:
        from_pillar(pillar)


def test_a_default_of_the_page_is_that_of_a_pillar_without_the_key():
    found = from_pillar({"kvmcluster": {"name": "a", "nodes": {"node1": None}}})
    for part in (found.ssh, found.guests, found.migration, found.migration.options):
        for key in schema.documented(type(part)):
            value = getattr(part, key.name, None) or getattr(part, f"{key.name}_", None)
            detail = f"{value:g}" if isinstance(value, float) else str(value).lower()
            assert key.default == detail or not value, key.name
