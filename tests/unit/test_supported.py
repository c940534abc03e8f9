"""Where the extension does not work, it says so, and not that a library is missing."""

import importlib

import pytest

from saltext_kvmcluster import supported


@pytest.mark.parametrize(
    ("platform", "by_ssh", "refusal"),
    [
        ("linux", False, ""),
        ("linux", True, "not by salt-ssh; each node needs a salt-minion of its own"),
        ("win32", False, "nodes are Linux hosts with KVM, and this is win32"),
        ("darwin", True, "nodes are Linux hosts with KVM, and this is darwin"),
    ],
)
def test_what_is_refused(platform, by_ssh, refusal):
    said = supported.refusal(platform, by_ssh)
    assert said == (f"kvmcluster: {refusal}" if refusal else "")


def test_it_is_what_every_door_imports_first(monkeypatch):
    monkeypatch.setattr("sys.platform", "win32")
    with pytest.raises(ImportError, match="Linux hosts"):
        supported.check()


def test_a_library_that_is_missing_is_named_with_the_command_that_installs_it(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ImportError, match=r"needs lxml, which is missing for .*install"):
        supported.check()


@pytest.mark.parametrize("door", ["modules", "states", "beacons"])
def test_a_proxy_minion_is_told_why_there_is_nothing(monkeypatch, door):
    module = importlib.import_module(f"saltext_kvmcluster.{door}.kvmcluster")
    monkeypatch.setattr(module, "__opts__", {"proxy": {"proxytype": "dummy"}}, raising=False)
    refused = "kvmcluster: not on a proxy minion; each node needs a salt-minion of its own"
    assert module.__virtual__() == (False, refused)
    monkeypatch.setattr(module, "__opts__", {"id": "node1"})
    assert module.__virtual__() == "kvmcluster"
