"""Peers log in as an account that is not root there: their journals and locks cannot be had."""

from dataclasses import replace

import scenario

from saltext_kvmcluster.core.pillar.ssh import Ssh


def outcome(*commands):
    run = scenario.Run(scenario.Scenario(commands, lookouts=False))
    run.cluster = replace(run.cluster, ssh=Ssh(login="migrator"))
    found = run.outcome()
    assert not found.wrong
    return scenario.plain(found.log).splitlines(), run.reported


# The answer to the switch is lost: the source runs on, and the destination keeps a copy.
LEFT = (
    "on step finished: cut ssh node2 for 100",
    "migrate web1 from node1 to node2 patience=1",
)
DESTROYED = "node2: destroy the paused copy that the migration left: done"


def test_only_a_node_with_the_migration_in_its_journal_does_anything():
    for node in ("node2", "node3"):
        log, reported = outcome(*LEFT, "wait 120", f"recover web1 on {node}")
        assert log[-1] == "recovered: running, owner: node1" and reported["actions"] == []
        (need,) = [need for need in reported["needs"] if "paused copy" in need]
        assert "to destroy the paused copy that the migration left on node2" in need
        assert "set kvmcluster:ssh:sudo" in need and "on the source" in need


def test_its_source_settles_it():
    log, _ = outcome(*LEFT, "wait 120", "recover web1 on node1")
    assert log[-2:] == [DESTROYED, "node1: clear the journal: done"]
