"""Figures as text for node_exporter and Prometheus, their file, and what contrib/ has for them."""

import argparse
import importlib.machinery
import importlib.util
import json
import os
import pathlib
import re
import stat
import subprocess
import sys
from datetime import datetime, timezone

import pytest
from sandbox import CHECKOUT, sh

from saltext_kvmcluster.core.errors import InputError, WorldError
from saltext_kvmcluster.core.facts import deeds
from saltext_kvmcluster.core.facts.nodefacts import Daemon, GuestFacts, NodeFacts, silent
from saltext_kvmcluster.core.migration.totals import Totals
from saltext_kvmcluster.core.monitoring import metrics
from saltext_kvmcluster.core.monitoring.metrics import Family
from saltext_kvmcluster.core.monitoring.snapshot import Snapshot
from saltext_kvmcluster.core.pillar import parser
from saltext_kvmcluster.core.readiness import overview
from saltext_kvmcluster.core.verdicts import Observation, Sighting
from saltext_kvmcluster.master import exposition

CONTRIB = CHECKOUT / "contrib"
ODD_NAME = 'we"b\\1'
NAME = re.compile(r"\bkvmcluster_\w+")
RULES, RULES_TEST = CONTRIB / "kvmcluster.rules.yml", CONTRIB / "kvmcluster.rules.test.yml"
DASHBOARD = json.loads((CONTRIB / "kvmcluster.dashboard.json").read_text())
EXPRESSIONS = [one["expr"] for panel in DASHBOARD["panels"] for one in panel["targets"]]
MOVED = {
    **{"source": "node1", "destination": "node2", "result": "moved"},
    **{"elapsed": 4.0, "downtime_ms": 80, "memory_bytes": 1 << 40},
}


def seen():
    nodes = {f"node{number}": {} for number in range(1, 4)}
    guests = {"list": {"web1": {}, "db1": {}}}
    cluster = parser.from_pillar({"kvmcluster": {"name": "lab", "nodes": nodes, "guests": guests}})
    told = deeds.Deeds((), Totals().plus([MOVED]), (), (), ("/root/.ssh/config",))
    there = (GuestFacts("node1", Observation(Sighting.RUNNING, name="web1", uuid="1")),)
    full = {"daemon": Daemon("", "", 0), "memory_kib": 9, "free_kib": 5, "cordoned": ()}
    facts = {
        "node1": NodeFacts("node1", guests=there, deeds=told, clock=0.0, logged={}, **full),
        "node2": NodeFacts("node2", guests=(), deeds=told, clock=0.0, logged={}, **full),
        "node3": NodeFacts("node3", guests=(), deeds=told, clock=0.0, logged={}, **full),
    }
    return cluster, facts


def families(**changed):
    cluster, facts = seen()
    facts.update(changed)
    status = overview.status(cluster, facts)
    moment = datetime(2030, 1, 2, tzinfo=timezone.utc)
    return metrics.families(Snapshot(cluster, moment, 1.5, facts, status))


def lint(text, folder):
    """Return what promtool has against metrics."""
    file = folder / "metrics.txt"
    file.write_text(text)
    return sh("sh", "-c", f"promtool check metrics <{file}")


def test_prometheus_finds_nothing_wrong_with_them(tmp_path):
    text = exposition.text(families())
    assert lint(text, tmp_path) == ""
    assert 'kvmcluster_listed_guest_up{cluster="lab",guest="web1"} 1.0' in text
    assert 'kvmcluster_migrations_total{cluster="lab",node="node1",result="moved"} 1.0' in text
    bucket = 'kvmcluster_migration_duration_seconds_bucket{cluster="lab",le="5.0",node="node1"} 1.0'
    assert bucket in text and "NaN" not in text and "# EOF" not in text
    text = exposition.text(families(node3=silent("node3", "no response")))
    assert lint(text, tmp_path) == ""
    assert text.count('node="node3"') == 2


def test_what_stands_in_a_label_stays_there(tmp_path):
    odd = [Family("kvmcluster_x", metrics.GAUGE, "X.", ("guest",), (((ODD_NAME,), 1.0),))]
    text = exposition.text(odd)
    assert text.split("\n")[2] == r'kvmcluster_x{guest="we\"b\\1"} 1.0'
    assert lint(text, tmp_path) == ""


def test_the_file_is_replaced_as_a_whole_and_can_be_read_by_node_exporter(tmp_path):
    path = exposition.checked_path(f"{tmp_path}/x/../kvmcluster.prom")
    assert path == f"{tmp_path}/kvmcluster.prom"
    exposition.write(path, "old\n")
    before = os.stat(path)
    with open(path) as reader:
        exposition.write(path, "new\n")
        assert reader.read() == "old\n"
    assert pathlib.Path(path).read_text() == "new\n"
    assert os.stat(path).st_ino != before.st_ino
    assert stat.S_IMODE(os.stat(path).st_mode) == 0o644
    assert os.listdir(tmp_path) == ["kvmcluster.prom"]


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("kvmcluster.prom", "want an absolute path"),
        (7, "want an absolute path"),
        (["/x.prom"], "want an absolute path"),
        ("", "want an absolute path"),
        ("/tmp/a\nb.prom", "want an absolute path"),
        ("/tmp/kvmcluster.txt", "does not end in .prom"),
        ("/tmp/.prom", "does not end in .prom"),
        ("/tmp/", "does not end in .prom"),
        ("/nowhere/kvmcluster.prom", "there is no folder /nowhere"),
        ("/etc/passwd/kvmcluster.prom", "there is no folder"),
    ],
)
def test_a_path_that_cannot_be_right_is_refused(path, words):
    with pytest.raises(InputError, match=words):
        exposition.checked_path(path)


def test_figures_of_something_else_stay(tmp_path):
    path = tmp_path / "smart.prom"
    path.write_text("# HELP smart_x X.\nsmart_x 1\n")
    with pytest.raises(InputError, match="something else"):
        exposition.checked_path(str(path))
    path.write_text(exposition.text(families()))
    assert exposition.checked_path(str(path)) == str(path)


def test_what_lies_there_and_is_not_ours_stays(tmp_path):
    folder, link = tmp_path / "folder.prom", tmp_path / "link.prom"
    folder.mkdir()
    link.symlink_to("/nowhere/x")
    for path in (folder, link):
        with pytest.raises(WorldError, match=str(path)):
            exposition.write(str(path), "x")
    assert folder.is_dir() and link.is_symlink()


def test_without_the_library_it_says_how_to_get_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "prometheus_client", None)
    with pytest.raises(InputError, match=r"python\S* -m pip install prometheus-client;"):
        exposition.text(families())


def test_the_alert_rules_are_right_and_do_what_they_say():
    assert "SUCCESS" in sh("promtool", "check", "rules", "--lint=all", "--lint-fatal", RULES)
    assert "SUCCESS" in sh("promtool", "test", "rules", RULES_TEST)
    named = set(re.findall(r"alert: (\w+)", RULES.read_text()))
    assert named == set(re.findall(r"alertname: (\w+)", RULES_TEST.read_text())), "each is tested"


def test_the_dashboard_asks_what_prometheus_understands(tmp_path):
    rules = [
        {"record": f"panel:{number}", "expr": one.replace("$__range", "1h")}
        for number, one in enumerate(EXPRESSIONS)
    ]
    written = tmp_path / "rules.yml"
    written.write_text(json.dumps({"groups": [{"name": "dashboard", "rules": rules}]}))
    assert "SUCCESS" in sh("promtool", "check", "rules", written)
    places = [tuple(panel["gridPos"].values()) for panel in DASHBOARD["panels"]]
    assert len(set(places)) == len(places)
    assert len({panel["id"] for panel in DASHBOARD["panels"]}) == len(places)


def test_what_contrib_and_the_page_name_is_a_figure_that_there_is():
    known = {family.name for family in families()}
    shown = {f"{one}_bucket" for one in known}
    page = (CHECKOUT / "docs" / "monitoring.md").read_text()
    for text in (RULES.read_text(), *EXPRESSIONS):
        assert set(NAME.findall(text)) <= known | shown
    assert known <= set(NAME.findall(page)), "the page has all of them"


STATUS = {
    **{"kind": "status", "cluster": "lab", "problems": [], "kinds": {"node": 0}},
    "nodes": {"node1": {"active": 2}},
}


@pytest.mark.parametrize(
    ("printed", "code", "words"),
    [
        (STATUS, 0, "KVMCLUSTER OK: 2 active guests on 1 nodes in cluster lab"),
        ({**STATUS, "problems": ["a|b"], "kinds": {"pillar": 1}}, 1, "WARNING: a/b"),
        ({**STATUS, "problems": ["a", "b"], "kinds": {"node": 1}}, 2, "CRITICAL: 2 problems"),
        ({**STATUS, "problems": ["a"], "kinds": {"runs_nowhere": 1}}, 2, "CRITICAL: a"),
        ({"kind": "error", "error": "no minion has a cluster"}, 3, "UNKNOWN: no minion"),
        ({}, 3, "UNKNOWN"),
        ([], 3, "UNKNOWN"),
        ("Traceback", 3, "UNKNOWN"),
        (None, 3, "it printed nothing"),
    ],
)
def test_the_plugin_tells_the_four_codes_apart(tmp_path, printed, code, words):
    said = printed if isinstance(printed, str) else "" if printed is None else json.dumps(printed)
    script = tmp_path / "salt-run"
    script.write_text(f"#!/bin/sh\ncat <<'END'\n{said}\nEND\nexit 1\n")
    script.chmod(0o755)
    plugin = [sys.executable, CONTRIB / "check_kvmcluster", "--salt-run", str(script)]
    assert words in sh(*map(str, plugin), code=code)


def test_the_plugin_does_not_wait_for_what_it_may_not_end_as_with_sudo(monkeypatch):
    loader = importlib.machinery.SourceFileLoader("plugin", str(CONTRIB / "check_kvmcluster"))
    plugin = importlib.util.module_from_spec(importlib.util.spec_from_loader(loader.name, loader))
    loader.exec_module(plugin)
    begun, kill = [], subprocess.Popen.kill

    def refuse(process):
        begun.append(process)
        raise PermissionError

    monkeypatch.setattr(subprocess.Popen, "kill", refuse)
    wanted = {"salt_run": "sh -c 'exec sleep 60'", "cluster": None, "timeout": 0.2}
    try:
        code, lines = plugin.checked(argparse.Namespace(**wanted))
        assert (code, "within 0.2 seconds" in lines[0]) == (3, True)
        assert begun[0].poll() is None, "it still runs"
    finally:
        kill(begun[0])
        begun[0].communicate()


def test_the_plugin_does_not_take_silence_for_ok():
    plugin = [sys.executable, str(CONTRIB / "check_kvmcluster"), "--salt-run"]
    assert "within 0.2 seconds" in sh(*plugin, "sh -c 'exec sleep 60'", "--timeout", "0.2", code=3)
    assert "cannot be run" in sh(*plugin, "/nowhere/salt-run", code=3)
    assert "usage" in sh(*plugin[:2], "--nonsense", code=3)
