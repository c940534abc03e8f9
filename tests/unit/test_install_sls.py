"""kvmcluster.install: what is installed where, decided without the extension; and its wheels."""

import importlib.machinery
import importlib.util
import re
import sys
from pathlib import Path

import pytest
import wheelhouse
from packaging.version import Version

CHECKOUT = Path(__file__).parent.parent.parent
SLS = CHECKOUT / "states" / "kvmcluster" / "install.sls"
THIS = f"cp{sys.version_info[0]}{sys.version_info[1]}"
FOLDER = "kvmcluster-wheels/debian-12"
WHEELS = [
    f"{FOLDER}/saltext_kvmcluster-0.9.0-py3-none-any.whl",
    f"{FOLDER}/saltext_kvmcluster-0.10.0-py3-none-any.whl",
    f"{FOLDER}/libvirt_python-9.0.0-{THIS}-{THIS}-linux_x86_64.whl",
    f"{FOLDER}/libvirt_python-12.8.0-cp39-cp39-linux_x86_64.whl",
]


def loaded():
    loader = importlib.machinery.SourceFileLoader("install_sls", str(SLS))
    sls = importlib.util.module_from_spec(importlib.util.spec_from_loader("install_sls", loader))
    loader.exec_module(sls)
    return sls


class Node:
    """The SLS as Salt renders it on a minion."""

    def __init__(self, monkeypatch):
        self.sls = loaded()
        self.there, self.files, self.running, self.services = {}, list(WHEELS), [], set()
        self.sls.pillar, self.sls.__env__ = {"kvmcluster": {}}, "base"
        self.sls.opts = {"config_dir": "/etc/salt", "cachedir": "/var/cache/salt/minion"}
        self.sls.__salt__ = {
            "cp.list_master": lambda saltenv, prefix: [
                path for path in self.files if path.startswith(prefix)
            ],
            "saltutil.is_running": lambda pattern: [{"fun": fun} for fun in self.running],
            "service.available": lambda name: name in self.services,
        }
        monkeypatch.setattr(self.sls, "distribution", lambda: "debian-12")
        monkeypatch.setattr(self.sls, "version_of", self.there.get)
        monkeypatch.setattr(self.sls, "is_managed", lambda: False)
        monkeypatch.setattr(self.sls.platform, "machine", lambda: "x86_64")

    def states(self):
        return {
            name: (function, {key: value for one in arguments for key, value in one.items()})
            for name, state in self.sls.run().items()
            for function, arguments in state.items()
        }

    def refusal(self):
        ((function, arguments),) = self.states().values()
        assert function == "test.fail_without_changes"
        return arguments["name"]


@pytest.fixture
def node(monkeypatch):
    return Node(monkeypatch)


def test_a_node_gets_the_newest_wheels_for_its_python(node):
    _, wheels = node.states()["kvmcluster-wheels"]
    function, installed = node.states()["kvmcluster-installed"]
    assert function == "pip.installed" and wheels["source"] == f"salt://{FOLDER}"
    assert installed["pkgs"] == [
        *("saltext-kvmcluster==0.10.0", "lxml", "libvirt-python==9.0.0"),
    ]
    assert installed["no_index"] and installed["find_links"] == wheels["name"]


def test_where_there_are_no_guests_there_is_no_libvirt(node):
    node.sls.pillar = {}
    node.there["lxml"] = "5"
    assert node.states()["kvmcluster-installed"][1]["pkgs"] == ["saltext-kvmcluster==0.10.0"]


def test_from_an_index_the_pillar_gives_the_version(node):
    node.sls.pillar["kvmcluster_install"] = {"index": "https://index.example/simple"}
    assert "index needs version" in node.refusal()
    node.sls.pillar["kvmcluster_install"]["version"] = "0.1.0"
    states = node.states()
    assert "kvmcluster-wheels" not in states
    assert states["kvmcluster-installed"][1]["index_url"] == "https://index.example/simple"
    assert states["kvmcluster-installed"][1]["pkgs"][0] == "saltext-kvmcluster==0.1.0"


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ("wheels", "want a mapping of wheels, index, version"),
        ({"wheel": "salt://x"}, "want a mapping of wheels, index, version"),
        ({"version": 0.1}, "kvmcluster_install:version: want text, not 0.1"),
        ({"wheels": "/srv/wheels"}, "want a folder of the file server"),
    ],
)
def test_a_wrong_pillar_is_named(node, given, says):
    node.sls.pillar["kvmcluster_install"] = given
    assert says in node.refusal()


def test_what_is_not_on_the_file_server_is_named(node):
    node.files = []
    assert "the master has no salt://kvmcluster-wheels/debian-12" in node.refusal()
    node.files = WHEELS[:2]
    assert "has no wheel of libvirt-python for Python 3" in node.refusal()
    assert f"make wheelhouse PYTHONS={sys.executable}" in node.refusal()


def test_nothing_is_replaced_below_a_running_job(node):
    node.running = ["kvmcluster.migrate", "kvmcluster.migrate"]
    assert "kvmcluster-installed" in node.states(), "there is nothing to be replaced"
    node.there |= {"saltext-kvmcluster": "0.9.0", "lxml": "5", "libvirt-python": "9.0.0"}
    assert "in the middle of kvmcluster.migrate:" in node.refusal()
    node.there["saltext-kvmcluster"] = "0.10.0"
    assert "kvmcluster-installed" in node.states(), "there is nothing to do"


@pytest.mark.parametrize("is_systemd", [True, False])
def test_a_minion_is_restarted_when_it_runs_no_job(node, monkeypatch, is_systemd):
    monkeypatch.setattr(node.sls.Path, "is_dir", lambda path: is_systemd)
    node.services = {"salt-minion", "salt-master"}
    states = node.states()
    function, given = states["kvmcluster-minion"]
    assert given["onchanges"] == [{"pip": "kvmcluster-installed"}]
    if is_systemd:
        assert function == "cmd.run" and "until " in given["name"]
    else:
        assert function == "test.show_notification" and "runs no job" in given["text"]
    assert "restart salt-master" in states["kvmcluster-master"][1]["text"]


def deb(version):
    return f"python3-saltext-kvmcluster_{version}-1_all.deb"


@pytest.fixture
def managed(node, monkeypatch):
    monkeypatch.setattr(node.sls, "is_managed", lambda: True)
    node.packages = {}
    node.sls.__salt__ |= {
        "pkg.version": lambda name: node.packages.get(name, ""),
        "pkg.version_cmp": lambda one, other: (Version(one) > Version(other)) * 2 - 1,
    }
    return node


def test_the_distributions_python_gets_packages(managed):
    function, installed = managed.states()["kvmcluster-installed"]
    assert function == "pkg.installed" and installed["pkgs"] == ["python3-saltext-kvmcluster"]
    assert managed.states()["kvmcluster-libvirt"][1]["pkgs"] == ["python3-libvirt"]
    managed.files += [f"{FOLDER}/{deb('0.10.0')}", f"{FOLDER}/{deb('0.9.0')}"]
    _, installed = managed.states()["kvmcluster-installed"]
    newest = f"salt://{FOLDER}/{deb('0.10.0')}"
    assert installed["sources"] == [{"python3-saltext-kvmcluster": newest}]


def test_the_pillars_version_is_also_that_of_a_package(managed):
    managed.sls.pillar["kvmcluster_install"] = {"version": "0.9.0"}
    _, installed = managed.states()["kvmcluster-installed"]
    assert installed["pkgs"] == [{"python3-saltext-kvmcluster": "0.9.0-*"}]
    managed.files.append(f"{FOLDER}/{deb('0.10.0')}")
    assert "has python3-saltext-kvmcluster 0.10.0-1, and not 0.9.0" in managed.refusal()
    managed.files.append(f"{FOLDER}/{deb('0.9.0')}")
    _, installed = managed.states()["kvmcluster-installed"]
    older = f"salt://{FOLDER}/{deb('0.9.0')}"
    assert installed["sources"] == [{"python3-saltext-kvmcluster": older}]


def test_no_package_is_replaced_below_a_running_job(managed):
    managed.running = ["kvmcluster.migrate"]
    managed.there["saltext-kvmcluster"] = "0.9.0"
    managed.packages["python3-saltext-kvmcluster"] = "0.9.0-1"
    assert "kvmcluster-installed" in managed.states(), "what is there is kept"
    managed.files.append(f"{FOLDER}/{deb('0.10.0')}")
    assert "in the middle of kvmcluster.migrate:" in managed.refusal()


def test_it_installs_what_the_package_depends_on(node):
    text = (CHECKOUT / "pyproject.toml").read_text()
    needed = re.findall(r'"([a-z0-9]+)>=', re.search(r"^dependencies = (\[.*\])$", text, re.M)[1])
    assert {*node.sls.PACKAGES} - {"libvirt-python"} == {
        "saltext-kvmcluster",
        *(set(needed) - {"salt", "jinja2"}),
    }


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ('ID=debian\nVERSION_ID="12"\n', "debian-12"),
        ("ID=debian\nVERSION_CODENAME=forky\n", "debian-forky"),
        ('ID="almalinux"\nVERSION_ID="9.4"\n', "almalinux-9"),
        ('ID=ubuntu\nVERSION_ID="24.04"\n', "ubuntu-24.04"),
    ],
)
def test_a_folder_is_named_the_same_where_it_is_built_and_used(monkeypatch, text, name):
    sls = loaded()
    monkeypatch.setattr(sls.Path, "read_text", lambda path: text)
    assert sls.distribution() == wheelhouse.distribution(text) == name
