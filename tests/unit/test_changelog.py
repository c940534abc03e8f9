"""Fragments of the changelog are such that a release finds them, and can be read there."""

import re
from pathlib import Path

import pytest

PROJECT = Path(__file__).parent.parent.parent
FOLDER = PROJECT / "changelog"
KINDS = re.findall(
    r'^\[\[tool\.towncrier\.type\]\]\ndirectory = "(\w+)"$',
    (PROJECT / "pyproject.toml").read_text(encoding="utf-8"),
    re.M,
)
NAME = re.compile(rf"(\+[a-z0-9][a-z0-9_-]*|[0-9]+)\.({'|'.join(KINDS)})(\.[0-9]+)?\.md")
# Longer ones are documentation, which has a page of its own.
LONGEST = 600


def faults(name, text):
    """Say what is wrong with a fragment."""
    if not NAME.fullmatch(name):
        yield f"{name} is not called +TOPIC.KIND.md, with a kind of {', '.join(KINDS)}"
    if not text.strip() or text != text.strip() + "\n":
        yield "its text is empty, or does not end with one line end"
    if re.search(r"^\s*([-*#]|\d+\.)\s", text, re.M) or "\n\n" in text:
        yield "it is a list, or has a heading or several paragraphs: one file for each entry"
    if len(text) > LONGEST:
        yield f"it has {len(text)} characters, and {LONGEST} are plenty"
    for target in re.findall(r"\]\(([^)#:]+)[^):]*\)", text):
        if not (PROJECT / target).is_file():
            yield f"it links to {target}, which the project does not have"


def test_kinds_are_known():
    assert {"added", "changed", "fixed", "removed", "deprecated", "security"} == set(KINDS)


def test_fragments_are_well_formed():
    others = {"README.md", "template.jinja"}
    fragments = [path for path in FOLDER.iterdir() if path.name not in others]
    found = {path.name: list(faults(path.name, path.read_text("utf-8"))) for path in fragments}
    assert not {name: wrong for name, wrong in found.items() if wrong}


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("+drain.add.md", "Fine.\n"),
        ("drain.added.md", "Fine.\n"),
        ("+drain.added.txt", "Fine.\n"),
        ("+drain.added.md", ""),
        ("+drain.added.md", "No line end."),
        ("+drain.added.md", "- a\n- b\n"),
        ("+drain.added.md", "One.\n\nTwo.\n"),
        ("+drain.added.md", "See [it](docs/nowhere.md).\n"),
        ("+drain.added.md", "word " * 200 + "\n"),
    ],
)
def test_what_is_wrong_is_found(name, text):
    assert list(faults(name, text))


def test_what_is_right_is_left():
    text = "A node drains, see [draining](docs/drain.md#plan) and [this](https://x.example/a).\n"
    assert not list(faults("+drain-order.fixed.md", text))
