"""What the package says of itself, where a build cannot be asked."""

import importlib.util
import io
import re
import zipfile
from email.message import Message
from pathlib import Path

import package_check
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


def metadata(version="1.2.3", text="[a](https://docs.example/a.html)", url="https://home.test"):
    found = Message()
    found["Version"] = version
    found["Project-URL"] = f"Homepage, {url}"
    found.set_payload(text)
    return found


def wheel(without="", version="1.2.3", entry="[salt.loader]\n"):
    shared = package_check.shared_files() - {without}
    archive = zipfile.ZipFile(io.BytesIO(), "w")
    for path in shared:
        archive.writestr(f"k-1.2.3.data/{package_check.SHARE}{path}", "")
    archive.writestr("k-1.2.3.dist-info/entry_points.txt", entry)
    archive.writestr("saltext_kvmcluster/version.py", f'__version__ = "{version}"\n')
    return archive


def test_a_whole_wheel_has_no_faults():
    assert list(package_check.wheel_faults(wheel(), metadata())) == []


@pytest.mark.parametrize(
    ("archive", "described", "fault"),
    [
        ({"without": "states/kvmcluster/init.sls"}, {}, "lacks states/kvmcluster/init.sls"),
        ({"without": "contrib/check_kvmcluster"}, {}, "lacks contrib/check_kvmcluster"),
        ({"version": "1.2.4"}, {}, "version.py says otherwise"),
        ({"entry": "[console_scripts]\n"}, {}, "no entry point"),
        ({}, {"text": "[a](docs/a.md)"}, "links to docs/a.md"),
    ],
)
def test_what_a_wheel_lacks_is_named(archive, described, fault):
    (found,) = package_check.wheel_faults(wheel(**archive), metadata(**described))
    assert fault in found


def test_a_release_has_no_faults():
    text = "# Changelog\n\n## 1.2.3 (2026-12-01)\n"
    assert list(package_check.release_faults(metadata(), text, [])) == []


@pytest.mark.parametrize(
    ("described", "changelog", "fragments", "fault"),
    [
        ({"version": "1.2.4.dev3+gabc"}, "\n## 1.2.3 (", [], "tag the commit"),
        ({}, "\n## 1.2.2 (", [], "CHANGELOG.md does not know 1.2.3"),
        ({}, "\n## 1.2.3 (", ["+a.added.md"], "+a.added.md"),
        ({"url": "https://kvm.example/x"}, "\n## 1.2.3 (", [], "no real place"),
    ],
)
def test_what_forbids_a_release_is_named(described, changelog, fragments, fault):
    (found,) = package_check.release_faults(metadata(**described), changelog, fragments)
    assert fault in found
