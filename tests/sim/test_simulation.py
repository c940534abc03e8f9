"""The real migrator in the simulated world: what happens without faults, and that mistakes show."""

import inspect
import os

import pytest
import shells
import simulate
import simulated
import world as sim
from kinds import KINDS
from scenario import Run, Scenario, Start

from saltext_kvmcluster.engine import environment

FAULTS = {
    *("kill qemu", "kill libvirtd", "stop libvirtd", "cut ssh", "cut data", "cut both", "fill"),
    *(
        "reset",
        "drop",
        "clock",
        "power off",
        "call die",
        "call lost",
        "call late",
        "call twice",
        "actor",
    ),
}


def run(*commands, **guest):
    found = Run(Scenario(commands, {"web1": Start("node1", **guest)}))
    return found, found.outcome()


def test_a_migration_without_faults():
    found, outcome = run("wait 2", "migrate web1 from node1 to node2")
    guest = found.world.guests["web1"]
    assert [qemu.node for qemu in guest.running] == ["node2"]
    assert not outcome.wrong and outcome.results == {"moved": 1}
    found.world.advance(1)
    assert guest.number() >= 10 * (found.world.now - 0.5)


def test_the_destinations_qemu_dies_amid_the_copy():
    found, outcome = run(
        "on step copied once: kill qemu web1 on node2", "migrate web1 from node1 to node2"
    )
    assert [qemu.node for qemu in found.world.guests["web1"].running] == ["node1"]
    assert not outcome.wrong and outcome.results == {"not_moved": 1}
    assert outcome.faults == {"kill qemu": 1}


def left_twice():
    """A world in which the source waits, and the destination runs the guest."""
    found = Run(
        Scenario(
            (
                "on step resumed: kill libvirtd node2 for 5",
                "migrate web1 from node1 to node2 handover=libvirt patience=1",
                "wait 30",
            )
        )
    )
    found.outcome()
    return found, found.world.daemons, found.world.guests["web1"]


def test_the_owner_that_is_destroyed_is_noticed():
    found, daemons, guest = left_twice()
    daemons["node2"].destroy(guest.uuid)
    assert [kind for kind, _ in found.world.wrong] == ["owner destroyed"]


def test_old_memory_that_goes_on_is_noticed():
    found, _, guest = left_twice()
    old = next(qemu for qemu in guest.alive if qemu.node == "node1")
    assert not old.start()
    guest.lock = None
    guest.running[0].stop()
    assert old.start()
    assert [kind for kind, _ in found.world.wrong] == ["forked"]


def test_a_guest_that_runs_twice_is_noticed():
    found, _, guest = left_twice()
    found.world.locks = False
    assert next(qemu for qemu in guest.alive if qemu.node == "node1").start()
    assert "twice" in [kind for kind, _ in found.world.wrong]


def test_a_guest_that_libvirt_loses_is_noticed():
    found, outcome = run("wait 1")
    found.world.guests["web1"].running[0].die(sim.LIBVIRT)
    assert [kind for kind, _ in outcome.wrong] == ["lost"]


def test_a_wrong_verdict_is_noticed():
    found, outcome = run("wait 1")
    minion = found.minion("node1")
    found.check_verdict(found.world.guests["web1"], "node2", minion, found.world.now)
    assert [kind for kind, _ in outcome.wrong] == ["wrong"]


def test_whatever_goes_wrong_no_guest_is_lost_doubled_or_misjudged():
    tallies = simulate.simulated(1200, 0, os.cpu_count())
    assert {seed for tally in tallies.values() for seed in tally.seeds} == set()
    for kind, tally in tallies.items():
        assert all(tally.results[result] for result in KINDS[kind].results), kind
    tally = tallies["migrations"]
    assert {fault for fault, _ in tally.table} >= FAULTS
    assert tally.settled["running"] and tally.deaths


@pytest.mark.parametrize(
    ("wanted", "found"),
    [
        (environment.Libvirt, simulated.Libvirt),
        (environment.Journal, simulated.Journal),
        (environment.Clock, simulated.Clock),
        (environment.Call, simulated.Call),
        (environment.Tickets, shells.Tickets),
        (environment.Claim, shells.Claim),
        (environment.Control, simulated.Control),
    ],
)
def test_the_world_has_every_verb_and_no_other_parameters(wanted, found):
    verbs = [name for name in vars(wanted) if not name.startswith("_")]
    assert verbs
    for name in verbs:
        reported = [
            list(inspect.signature(getattr(one, name)).parameters) for one in (wanted, found)
        ]
        assert reported[0] == reported[1], name
