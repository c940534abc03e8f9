"""Reboots of a guest by its power button, in the simulated world."""

import pytest
import scenario

from saltext_kvmcluster.engine import rebooter


def rebooted(obeys=True, reset=False):
    """Reboot web1 on node1; return the result and the run."""
    run = scenario.Run(scenario.Scenario(()))
    run.world.guests["web1"].obeys = obeys
    return rebooter.reboot(run.minion("node1").environment(), "web1", 30, reset), run


def test_a_guest_that_obeys_has_rebooted_in_the_same_qemu():
    done, run = rebooted()
    guest = run.world.guests["web1"]
    assert (done.result, done.owner) == ("rebooted", "node1")
    assert [qemu.node for qemu in guest.qemus] == ["node1"]
    assert "web1 on node1: reset" in scenario.plain(run.world.log)


@pytest.mark.parametrize("obeys", [True, False])
def test_one_whose_reaction_could_not_be_seen_is_not_reset(obeys):
    run = scenario.Run(scenario.Scenario(()))
    guest, daemon = run.world.guests["web1"], run.world.daemons["node1"]
    guest.obeys = obeys
    run.world.after(0.2, lambda: (daemon.kill(), daemon.start()))
    done = rebooter.reboot(run.minion("node1").environment(), "web1", 30, reset=True)
    assert (done.result, done.owner) == ("unknown", "node1")
    assert "libvirt's events were lost" in done.reason
    run.world.advance(20)
    assert scenario.plain(run.world.log).count("web1 on node1: reset") == obeys


@pytest.mark.parametrize("reset, result", [(False, "not_rebooted"), (True, "rebooted")])
def test_one_that_does_not_is_reset_only_if_requested(reset, result):
    done, run = rebooted(obeys=False, reset=reset)
    assert (done.result, done.owner) == (result, "node1")
    assert "did not react within 30 s" in done.reason
    assert len(run.world.guests["web1"].running) == 1
