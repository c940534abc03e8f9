"""The simulated Pacemaker: it keeps the rules of the real one, and a fight with it is noticed."""

import kinds  # noqa: F401  (it registers the commands of persons)
import libvirtd
import pytest
import world as sim
from scenario import Run, Scenario, Start
from simulated import Call

from saltext_kvmcluster.core.errors import WorldError
from saltext_kvmcluster.core.migration.plans import Plan
from saltext_kvmcluster.engine import freezer

pytest.register_assert_rewrite("pacemaker_rules")
import pacemaker_rules  # noqa: E402
from pacemaker_rules import *  # noqa: E402, F403


class Bench:
    def __init__(self):
        start = Start("node1", managed=True)
        self.run = Run(Scenario((), {pacemaker_rules.GUEST: start}, locks=False))
        self.world = self.run.world
        self.world.advance(1)
        self.guest = self.world.guests[pacemaker_rules.GUEST]
        self.pacemaker = self.world.pacemaker
        self.resource = self.pacemaker.resources[pacemaker_rules.GUEST]

    def alive(self):
        return {qemu.node for qemu in self.guest.alive}

    def starts(self):
        return sum(qemu.has_run and qemu.incoming is None for qemu in self.guest.qemus)

    def known(self):
        return sorted(self.resource.active())

    def blocked(self):
        return self.pacemaker.is_blocked(self.resource)

    def move_by_hand(self, source, destination):
        call = Call()
        plan = Plan(("LIVE", "PEER2PEER"), "", {})
        self.world.daemons[source].migrate(self.guest.uuid, plan, destination, call)
        assert self.until(call.done, 60) and not call.exception()

    def end_by_hand(self, node):
        self.world.daemons[node].destroy(self.guest.uuid, by=sim.OPERATOR)

    def meta(self, name, value):
        self.pacemaker.set_meta(pacemaker_rules.GUEST, name, value)

    def refresh(self):
        self.pacemaker.refresh(pacemaker_rules.GUEST)

    def settle(self):
        assert self.until(lambda: self.pacemaker.idle, 300)

    def standby(self, node, on):
        self.pacemaker.set_standby(node, on)

    def kill_node(self, node):
        self.run.fault(f"power off {node} for 40")

    def wait(self, seconds):
        self.world.advance(seconds)

    def until(self, condition, seconds):
        self.world.until(self.world.now + seconds, condition)
        return condition()


@pytest.fixture(name="rules")
def bench():
    return Bench()


def wrong(bench):
    return {kind for kind, _ in bench.world.wrong}


def test_without_block_both_copies_are_stopped_and_one_is_started(rules):
    rules.pacemaker.block = False
    rules.move_by_hand("node1", "node2")
    assert rules.until(lambda: len(rules.alive()) == 2, 60)
    rules.refresh()
    assert rules.until(lambda: rules.starts() == 3, 120)
    rules.settle()
    assert len(rules.alive()) == 1


def test_a_second_copy_that_pacemaker_starts_is_noticed(rules):
    rules.move_by_hand("node1", "node2")
    rules.wait(30)
    assert "twice" in wrong(rules)


def test_a_move_of_its_own_that_breaks_off_blocks_the_guest(rules):
    rules.world.on_step["copied once"] = [lambda: rules.run.fault("kill libvirtd node2 for 5")]
    rules.standby("node1", True)
    rules.wait(60)
    assert rules.blocked() and rules.alive() == {"node1"}
    assert not rules.world.wrong
    rules.standby("node1", False)
    rules.refresh()
    rules.settle()
    assert (rules.blocked(), rules.known()) == (False, ["node1"])


def test_a_node_that_is_cut_off_is_fenced_and_its_guest_is_elsewhere(rules):
    rules.run.fault("cut both node1 for 300")
    assert rules.until(lambda: rules.alive() and "node1" not in rules.alive(), 60)
    assert rules.pacemaker.fencing("node2").erased == {"node1"}
    assert not rules.world.wrong


@pytest.mark.parametrize(
    "verb",
    [
        lambda libvirt, guest: libvirt.press_power(guest.uuid),
        lambda libvirt, guest: libvirt.destroy(guest.uuid),
        lambda libvirt, guest: libvirt.boot(guest.uuid, 60.0),
    ],
)
def test_what_touches_a_managed_guest_is_a_fight(rules, verb):
    verb(rules.run.minion("node1").libvirts["node1"], rules.guest)
    assert "fight" in wrong(rules)


def test_pacemaker_that_acts_amid_a_migration_of_ours_is_a_fight(rules):
    rules.meta("is-managed", "false")
    rules.world.daemons["node1"].migrate(
        rules.guest.uuid, Plan(("LIVE", "PEER2PEER"), "", {}), "node2", Call()
    )
    rules.wait(0.4)
    assert rules.world.daemons["node1"].domains[rules.guest.uuid].job.kind == libvirtd.OUT
    rules.meta("is-managed", None)
    rules.meta("target-role", "Stopped")
    rules.wait(1)
    assert "fight" in wrong(rules)


def test_a_shutdown_that_touched_nothing_holds_nothing_and_says_so():
    commands = ("fault cut ssh node1 for 1000", "wait 1", "shutdown web1 on node2 timeout=10")
    start = Start("node1", managed=True, defined=("node2",))
    run = Run(Scenario(commands, {"web1": start}))
    assert run.outcome().wrong == []
    assert run.results == {"unknown": 1}
    assert not run.world.pacemaker.resources["web1"].mark
    assert run.warnings == ()


def test_a_frozen_guest_is_not_given_back_where_it_is_not_active():
    commands = ("crm hold web1 to freeze", "wait 1")
    start = Start("node1", managed=True, defined=("node2",))
    run = Run(Scenario(commands, {"web1": start}))
    assert run.outcome().wrong == []
    with pytest.raises(WorldError, match=r"not active on node2.*kvmcluster\.recover web1"):
        freezer.freeze(run.minion("node2").environment(), "web1", None)
    assert run.world.pacemaker.resources["web1"].mark


LEFT = "crm hold web1 to"


@pytest.mark.parametrize(
    ("commands", "nodes"),
    [
        ((f"{LEFT} migrate", "virsh-migrate web1 from node1 to node2", "wait 30"), ["node2"]),
        ((f"{LEFT} migrate", "wait 30"), ["node1"]),
        ((f"{LEFT} start", "fault power off node1 for 30", "wait 90"), None),
        ((f"{LEFT} migrate", "fault power off node1 for 1000", "wait 60"), None),
        ((f"{LEFT} shutdown", "fault kill qemu web1 on node1", "wait 30"), []),
        ((f"{LEFT} shutdown", "wait 30"), ["node1"]),
        (
            (
                "on step copied once: kill libvirtd node2 for 5",
                *("crm standby node1", "wait 60", "crm online node1"),
            ),
            ["node1"],
        ),
    ],
)
def test_recover_ends_what_was_left(commands, nodes):
    run = Run(
        Scenario((*commands, "recover web1 on node3"), {"web1": Start("node1", managed=True)})
    )
    assert run.outcome().wrong == []
    resource, guest = run.world.pacemaker.resources["web1"], run.world.guests["web1"]
    run.world.advance(60)
    found = [qemu.node for qemu in guest.running]
    assert found == nodes if nodes is not None else len(found) == 1
    assert resource.managed and not run.world.pacemaker.is_blocked(resource)
    assert sorted(resource.active()) == sorted(found)
    assert not run.world.wrong


@pytest.mark.parametrize(
    "commands",
    [
        ("fault cut ssh node2 for 1000", "wait 5"),
        ("virsh-migrate web1 from node1 to node2",),
        ("virsh-migrate web1 from node1 to node2", "wait 0.5"),
    ],
)
def test_recover_gives_nothing_back_before_all_answered_and_nothing_moves(commands):
    start = Start("node1", managed=True, memory=4000, rate=100)
    run = Run(Scenario((f"{LEFT} migrate", *commands, "recover web1 on node3"), {"web1": start}))
    assert run.outcome().wrong == []
    assert run.world.pacemaker.resources["web1"].mark
    step = next(one for one in run.reported["actions"] if "Pacemaker" in one["step"])
    assert not step["ok"] and step["detail"].startswith("not done: ")


def test_who_starts_what_a_person_has_made_unmanaged_is_told_what_pacemaker_would_do():
    ended = ("crm unmanage web1", "fault kill qemu web1 on node1", "wait 20")
    start = Start("node1", managed=True)
    run = Run(Scenario((*ended, "start web1 on node2"), {"web1": start}, locks=False))
    assert run.outcome().wrong == []
    (warning,) = run.warnings
    assert "crm_resource --refresh -r web1, then crm_resource --wait" in warning
    run.do("crm manage web1")
    run.do("wait 30")
    assert "twice" in {kind for kind, _ in run.world.wrong}


def test_what_a_person_has_made_unmanaged_is_moved_as_it_is_and_stays_so():
    commands = ("crm unmanage web1", "migrate web1 from node1 to node2", "wait 30")
    run = Run(Scenario(commands, {"web1": Start("node1", managed=True)}))
    assert run.outcome().wrong == []
    resource = run.world.pacemaker.resources["web1"]
    assert (resource.mark, resource.managed, resource.active()) == ("", False, [])
    for command in ("crm refresh web1", "crm wait", "crm manage web1", "wait 30", "kept web1"):
        run.do(command)
    assert run.world.wrong == []
    assert [qemu.node for qemu in run.world.guests["web1"].running] == ["node2"]


def test_a_hold_that_a_person_has_ended_is_in_nobodys_way():
    commands = (f"{LEFT} migrate", "wait 5", "crm manage web1", "wait 5", "recover web1 on node3")
    run = Run(Scenario(commands, {"web1": Start("node1", managed=True)}))
    assert run.outcome().wrong == []
    assert run.reported["actions"] == []
    for command in ("migrate web1 from node1 to node2", "wait 30", "kept web1"):
        run.do(command)
    assert run.world.wrong == []
    assert [qemu.node for qemu in run.world.guests["web1"].running] == ["node2"]
    assert run.world.pacemaker.resources["web1"].mark == ""


@pytest.mark.parametrize("call", range(4, 10))
def test_what_is_to_be_shut_down_is_not_given_back_before_it_is_locked(call):
    start = Start("node1", managed=True)
    shutdown = "meanwhile shutdown web1 on node1 timeout=40"
    commands = (f"on call {call}: early 45", shutdown, "wait 3", "recover web1 on node3", "join")
    assert Run(Scenario(commands, {"web1": start})).outcome().wrong == []


def test_what_a_person_has_managed_meanwhile_is_not_said_to_be_held():
    start = Start("node1", managed=True, memory=4000, rate=100, obeys=False)
    commands = (
        "meanwhile shutdown web1 on node1 timeout=30",
        *("wait 8", "crm manage web1", "join"),
    )
    run = Run(Scenario(commands, {"web1": start}))
    assert run.outcome().wrong == []
    (warning,) = run.warnings
    assert "it is held no more: crm_mon -1" in warning


def test_whether_it_is_held_is_told_as_it_is_whichever_answer_is_lost():
    def moved(*faults):
        commands = (*faults, "migrate web1 from node1 to node2")
        run = Run(Scenario(commands, {"web1": Start("node1", managed=True)}))
        assert run.outcome().wrong == []
        return run

    calls = moved().calls
    # The last ones give it back.
    for call in range(calls - 20, calls + 1):
        run = moved(f"on call {call}: lost")
        steps = [one for one in run.moved["afterwards"] if "Pacemaker" in one["step"]]
        is_held = run.world.pacemaker.resources["web1"].held
        assert ["stays held" in one["detail"] for one in steps] == ([True] if is_held else []), call
