"""A copy that libvirt must not destroy, since it would spoil what the guest has open."""

import pytest
import scenario
import simulate

from saltext_kvmcluster.core.ownership import safeguards


@pytest.mark.parametrize(
    "name", ["strict-source-daemon-dies-after-the-copy", "strict-answer-of-the-switch-lost"]
)
def test_a_guest_runs_on_though_its_copy_must_stay(name, monkeypatch):
    monkeypatch.setattr(safeguards, "hazard", lambda definition: "it would spoil the labels")
    run = scenario.Run(scenario.read(simulate.SCENARIOS / name)[0])
    run.outcome()
    guest = run.world.guests["web1"]
    assert [qemu.node for qemu in guest.running] == ["node1"]
    assert {qemu.node for qemu in guest.alive} == {"node1", "node2"}
