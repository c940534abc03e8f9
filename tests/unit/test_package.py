"""What the package says of itself, where a build cannot be asked."""

import importlib.util
import re
from pathlib import Path

import pytest

import saltext_kvmcluster

PROJECT = Path(__file__).parent.parent.parent
URLS = {"Documentation": "https://docs.example/k/", "Source": "https://source.example/k"}


@pytest.fixture(scope="module")
def setup():
    spec = importlib.util.spec_from_file_location("setup", PROJECT / "setup.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_it_has_a_version():
    assert re.match(r"\d+(\.\d+)*", saltext_kvmcluster.__version__)


@pytest.mark.parametrize(
    ("link", "elsewhere"),
    [
        ("docs/ha.md", "https://docs.example/k/ha.html"),
        ("docs/ha.md#by-night", "https://docs.example/k/ha.html#by-night"),
        ("LICENSE", "https://source.example/k/blob/HEAD/LICENSE"),
        ("https://salt.example/docs/a.md", "https://salt.example/docs/a.md"),
        ("#installation", "#installation"),
    ],
)
def test_links_of_the_readme_lead_somewhere_from_elsewhere(setup, link, elsewhere):
    assert setup.readable_elsewhere(f"a [b]({link}), c", URLS) == f"a [b]({elsewhere}), c"


def test_every_link_of_the_readme_is_there(setup):
    text = (PROJECT / "README.md").read_text(encoding="utf-8")
    targets = {match[1] for match in setup.LINK.finditer(text)}
    assert len(targets) > 20
    assert not {target for target in targets if not (PROJECT / target).exists()}
