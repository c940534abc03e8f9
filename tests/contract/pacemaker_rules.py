"""What is asked of Pacemaker, and of the simulated one: the same tests, on two benches.

A bench has three nodes and one guest, GUEST, transient, of which nothing guards the disk. It runs
on node1, Pacemaker manages it there as a resource of its name, with ``multiple-active=block``, and
knows it so; nothing else is under way.
"""

from typing import Protocol

GUEST = "web1"
HOME, AWAY = "node1", "node2"
# Seconds: a monitor every ten, and what follows of it.
MONITORED = 30
RECOVERED = 120


class Bench(Protocol):
    """Three nodes, and one guest of Pacemaker."""

    def alive(self) -> set[str]:
        """The nodes on which a QEMU process of the guest lives."""

    def starts(self) -> int:
        """How often the guest has booted."""

    def known(self) -> list[str]:
        """Where Pacemaker shows it."""

    def blocked(self) -> bool:
        """Whether Pacemaker shows it as blocked."""

    def move_by_hand(self, source: str, destination: str) -> None:
        """``virsh migrate --live --p2p``, until it is there."""

    def end_by_hand(self, node: str) -> None:
        """``virsh destroy``."""

    def meta(self, name: str, value: str | None) -> None:
        """Set or remove a meta attribute of the resource."""

    def refresh(self) -> None:
        """``crm_resource --refresh`` of the resource."""

    def settle(self) -> None:
        """``crm_resource --wait``."""

    def standby(self, node: str, on: bool) -> None:
        """Put a node on standby, or take it off."""

    def kill_node(self, node: str) -> None:
        """Take a node's power, for longer than its peers need to notice."""

    def wait(self, seconds: float) -> None:
        """Let time pass."""

    def until(self, condition, seconds: float) -> bool:
        """Wait until a condition holds; whether it did."""


def test_what_its_monitor_misses_it_starts_again(rules):
    rules.end_by_hand(HOME)
    assert rules.until(lambda: len(rules.alive()) == 1 and rules.starts() == 2, RECOVERED)
    rules.settle()
    assert rules.known() == sorted(rules.alive())


def test_a_guest_moved_by_hand_is_started_once_more(rules):
    rules.move_by_hand(HOME, AWAY)
    assert rules.until(lambda: rules.alive() == {HOME, AWAY}, RECOVERED)


def test_what_is_held_is_left_alone_wherever_it_is(rules):
    rules.meta("is-managed", "false")
    rules.move_by_hand(HOME, AWAY)
    rules.wait(MONITORED)
    assert rules.alive() == {AWAY}
    assert rules.known() == []
    assert rules.starts() == 1


def test_a_refresh_of_what_is_held_finds_it_and_starts_nothing(rules):
    rules.meta("is-managed", "false")
    rules.move_by_hand(HOME, AWAY)
    rules.refresh()
    rules.settle()
    assert rules.known() == [AWAY]
    rules.meta("is-managed", None)
    rules.settle()
    rules.wait(MONITORED)
    assert (rules.alive(), rules.starts(), rules.known()) == ({AWAY}, 1, [AWAY])


def test_what_is_given_back_before_it_was_refreshed_is_started_once_more(rules):
    rules.meta("is-managed", "false")
    rules.move_by_hand(HOME, AWAY)
    rules.wait(MONITORED)
    rules.meta("is-managed", None)
    assert rules.until(lambda: len(rules.alive()) == 2, RECOVERED)


def test_what_is_held_is_not_started_if_it_ends(rules):
    rules.meta("is-managed", "false")
    rules.end_by_hand(HOME)
    rules.wait(MONITORED)
    assert rules.alive() == set()
    rules.meta("is-managed", None)
    assert rules.until(lambda: len(rules.alive()) == 1, RECOVERED)


def test_two_copies_are_blocked_and_both_left_running(rules):
    rules.move_by_hand(HOME, AWAY)
    assert rules.until(lambda: rules.alive() == {HOME, AWAY}, RECOVERED)
    rules.settle()
    rules.refresh()
    assert rules.until(rules.blocked, RECOVERED)
    rules.wait(MONITORED)
    assert rules.alive() == {HOME, AWAY}
    rules.end_by_hand(HOME)
    rules.refresh()
    rules.settle()
    assert (rules.blocked(), rules.known()) == (False, [AWAY])


def test_standby_moves_it_live(rules):
    rules.standby(HOME, True)
    assert rules.until(lambda: rules.alive() and HOME not in rules.alive(), RECOVERED)
    rules.settle()
    assert rules.starts() == 1
    assert rules.known() == sorted(rules.alive())
    rules.standby(HOME, False)


def test_standby_leaves_what_is_held(rules):
    rules.meta("is-managed", "false")
    rules.standby(HOME, True)
    rules.settle()
    rules.wait(MONITORED)
    assert (rules.alive(), rules.starts()) == ({HOME}, 1)
    rules.standby(HOME, False)


def test_the_target_role_stops_and_starts_it(rules):
    rules.meta("target-role", "Stopped")
    assert rules.until(lambda: not rules.alive(), RECOVERED)
    rules.wait(MONITORED)
    assert rules.alive() == set()
    rules.meta("target-role", "Started")
    assert rules.until(lambda: len(rules.alive()) == 1, RECOVERED)


def test_the_target_role_does_nothing_to_what_is_held(rules):
    rules.meta("is-managed", "false")
    rules.meta("target-role", "Stopped")
    rules.settle()
    rules.wait(MONITORED)
    assert (rules.alive(), rules.starts()) == ({HOME}, 1)


def test_what_a_dead_node_had_runs_elsewhere(rules):
    rules.kill_node(HOME)
    assert rules.until(lambda: HOME not in rules.alive() and rules.starts() == 2, RECOVERED)
    assert len(rules.alive()) == 1


def test_what_is_held_waits_when_its_node_dies(rules):
    rules.meta("is-managed", "false")
    rules.kill_node(HOME)
    rules.wait(RECOVERED / 2)
    assert rules.alive() == set()
    rules.meta("is-managed", None)
    assert rules.until(lambda: len(rules.alive()) == 1, RECOVERED)
