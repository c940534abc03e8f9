"""What the documentation shows to be copied is right: pillars validate, SLS files are legal."""

import re
from pathlib import Path

import pytest
import yaml

from saltext_kvmcluster.core.pillar.parser import from_pillar

PROJECT = Path(__file__).parent.parent.parent
PAGES = (PROJECT / "README.md", *sorted((PROJECT / "docs").glob("*.md")))
BLOCKS = [
    pytest.param(text, id=f"{page.name}-{number}")
    for page in PAGES
    for number, text in enumerate(
        re.findall(r"^```yaml\n(.*?)^```", page.read_text(encoding="utf-8"), re.M | re.S)
    )
]


def is_sls(data):
    return any("." in key for body in data.values() if isinstance(body, dict) for key in body)


def test_there_are_examples():
    assert len(BLOCKS) >= 4


@pytest.mark.parametrize("text", BLOCKS)
def test_an_example_can_be_copied(text):
    data = yaml.safe_load(text)
    assert isinstance(data, dict)
    if "kvmcluster" in data:
        from_pillar(data)
    elif is_sls(data):
        for name, body in data.items():
            modules = [key.partition(".")[0] for key in body]
            assert len(modules) == len(set(modules)), f"{name}: Salt refuses a module twice"
            assert all(isinstance(arguments, list) for arguments in body.values())


def test_a_wrong_example_is_found():
    wrong = {"web1": {"kvmcluster.guest_placed": [], "kvmcluster.guest_running": []}}
    with pytest.raises(AssertionError, match="module twice"):
        test_an_example_can_be_copied(yaml.safe_dump(wrong))
