"""What is asked of libvirt, and of the simulated one: the same tests, on two benches.

A bench has one guest, GUEST, which runs on node1 and is transient, and nothing else. It begins a
migration, looks, breaks things, and waits; see ``Bench``.
"""

from typing import Protocol

import pytest

from saltext_kvmcluster.core import verdicts
from saltext_kvmcluster.core.errors import WorldError
from saltext_kvmcluster.core.migration import handover, migration
from saltext_kvmcluster.core.verdicts import Observation, Sighting

GUEST = "contract"
SLOW = 4  # MiB/s: so slow that there is time for something to happen meanwhile.
ABSENT = Observation(Sighting.ABSENT)
MARK = "node1 2024-01-01T00:00:00+00:00"

# What is read of a migration's statistics while it copies, and of one that is over.
NUMBERS = {
    *("type", "operation", "time_elapsed", "data_total", "data_processed", "data_remaining"),
    *("memory_total", "memory_processed", "memory_remaining", "memory_dirty_rate"),
    *("memory_iteration", "memory_page_size", "memory_bps", "downtime"),
}


class Bench(Protocol):
    """Two nodes, node1 and node2, with a libvirt each."""

    uuid: str

    def begin(self, source: str, destination: str, *flags: str, **parameters: object) -> object:
        """Begin a live peer-to-peer migration; the parameters are libvirt's."""

    def words(self, call: object, seconds: float = 90) -> str:
        """Wait for a migration's end and return what its call failed with, empty if it did not."""

    def ask(self, node: str, verb: str, *arguments: object) -> object:
        """Ask a node's libvirt, as host/hypervisor.py does; WorldError."""

    def fault(self, words: str) -> None:
        """Let something go wrong: ``kill qemu|libvirtd NODE``, ``cut both NODE``."""

    def heal(self) -> None:
        """Start what was killed, plug in what was cut."""

    def break_post_copy(self, node: str) -> None:
        """Interrupt a post-copy migration from a node."""

    def alive(self) -> set[str]:
        """The nodes on which a QEMU process of the guest lives."""

    def wait(self, seconds: float) -> None:
        """Let time pass."""


def observe(bench, node):
    return bench.ask(node, "by_uuid", bench.uuid)


def until(bench, holds, seconds=60.0):
    """Wait until something holds."""
    for _ in range(int(seconds / 0.25)):
        if holds():
            return
        bench.wait(0.25)
    pytest.fail("it did not come to that")


def copying(bench, *flags, **parameters):
    """Begin a slow migration and wait until some memory is there."""
    call = bench.begin("node1", "node2", *flags, **{"BANDWIDTH": SLOW, **parameters})
    until(bench, lambda: progress(bench).get("memory_processed", 0) > 1 << 20)
    return call


def progress(bench, node="node1"):
    return bench.ask(node, "progress", bench.uuid)


def stays_at_the_source(bench):
    """A connection that broke says so once, and that is a sighting, too."""

    def observed(node):
        found = bench.ask(node, "sight", bench.uuid)
        return found.sighting, found.job

    until(bench, lambda: observed("node1") == (Sighting.RUNNING, ""))
    until(bench, lambda: observed("node2") == (Sighting.ABSENT, ""))
    assert bench.alive() == {"node1"}


def test_success(bench):
    assert bench.words(bench.begin("node1", "node2")) == ""
    assert observe(bench, "node1") == ABSENT
    found = observe(bench, "node2")
    assert (found.sighting, found.job, found.persistent) == (Sighting.RUNNING, "", False)
    assert (found.name, found.uuid) == (GUEST, bench.uuid)
    assert bench.alive() == {"node2"}


def test_what_both_sides_show_meanwhile(bench):
    call = copying(bench)
    here, there = observe(bench, "node1"), observe(bench, "node2")
    assert (here.sighting, here.job) == (Sighting.RUNNING, verdicts.OUTGOING)
    assert (there.sighting, there.job) == (Sighting.PAUSED_FOR_MIGRATION, verdicts.INCOMING)
    assert progress(bench, "node2") == {}
    bench.ask("node1", "abort", bench.uuid)
    assert bench.words(call)


def test_the_shape_of_statistics(bench):
    call = copying(bench)
    found = progress(bench)
    assert set(found) >= NUMBERS and all(type(found[name]) is int for name in NUMBERS)
    assert (found["operation"], found["memory_iteration"]) == (5, 1)
    assert 0 < found["memory_remaining"] < found["memory_total"]
    before = found["memory_processed"]
    until(bench, lambda: progress(bench)["memory_processed"] > before)
    bench.ask("node1", "abort", bench.uuid)
    assert bench.words(call)
    assert progress(bench) == {}


def test_what_was_measured_is_kept_at_the_destination(bench):
    assert bench.words(bench.begin("node1", "node2")) == ""
    found = bench.ask("node2", "measured", bench.uuid)
    wanted = ("downtime", "memory_processed", "memory_iteration")
    assert all(type(found[name]) is int for name in wanted)
    with pytest.raises(WorldError):
        bench.ask("node1", "measured", bench.uuid)


def marked(bench):
    """Return the guest's definition with a mark."""
    return handover.marked(bench.ask("node1", "migratable", bench.uuid), MARK)


def test_a_marked_copy_waits_until_it_is_resumed(bench):
    assert bench.words(bench.begin("node1", "node2", "PAUSED", DEST_XML=marked(bench))) == ""
    assert observe(bench, "node1") == ABSENT
    found = observe(bench, "node2")
    assert (found.sighting, found.mark, found.job) == (Sighting.WAITING, MARK, "")
    for verb in ("resume_copy", "destroy_copy"):
        with pytest.raises(WorldError):
            bench.ask("node2", verb, bench.uuid, "node1 another")
    assert observe(bench, "node2").sighting is Sighting.WAITING
    bench.ask("node2", "resume_copy", bench.uuid, MARK)
    assert observe(bench, "node2").sighting is Sighting.RUNNING
    bench.ask("node2", "resume_copy", bench.uuid, MARK)
    bench.ask("node2", "resume_copy", bench.uuid, "")
    bench.ask("node2", "unmark", bench.uuid)
    bench.ask("node2", "suspend", bench.uuid)
    found = observe(bench, "node2")
    assert (found.sighting, found.mark) == (Sighting.PAUSED_BY_USER, "")
    with pytest.raises(WorldError):
        bench.ask("node2", "resume_stopped", bench.uuid)
    with pytest.raises(WorldError):
        bench.ask("node2", "destroy_copy", bench.uuid, MARK)


def test_a_marked_copy_is_destroyed_by_its_mark(bench):
    assert bench.words(bench.begin("node1", "node2", "PAUSED", DEST_XML=marked(bench))) == ""
    bench.ask("node2", "destroy_copy", bench.uuid, MARK)
    assert observe(bench, "node2") == ABSENT


def test_a_mark_is_not_in_the_definition_that_is_kept(bench):
    flags = ("PAUSED", "PERSIST_DEST")
    assert bench.words(bench.begin("node1", "node2", *flags, DEST_XML=marked(bench))) == ""
    assert handover.mark_of(bench.ask("node2", "definition_of", bench.uuid)) == ""
    bench.ask("node2", "resume_copy", bench.uuid, MARK)
    bench.ask("node2", "unmark", bench.uuid)
    assert handover.mark_of(bench.ask("node2", "described", bench.uuid)) == ""


def test_post_copy_cannot_be_paused(bench):
    if bench.words(bench.begin("node1", "node2", "PAUSED", "POSTCOPY")) == "":
        pytest.fail("libvirt has learned to: a handover of post-copy may be strict as well")


def test_a_guest_that_arrived_and_has_not_run(bench):
    assert not bench.ask("node1", "run", bench.uuid)["stands_since_arrival"]
    assert bench.words(bench.begin("node1", "node2", "PAUSED", DEST_XML=marked(bench))) == ""
    found = bench.ask("node2", "run", bench.uuid)
    # From QEMU 10 on, a copy that waits has its disks already.
    assert found["stands_since_arrival"] == (found["qemu"] < migration.SENDS_PAUSED_TWICE)
    bench.ask("node2", "resume_copy", bench.uuid, MARK)
    assert not bench.ask("node2", "run", bench.uuid)["stands_since_arrival"]


def test_abort(bench):
    call = copying(bench)
    bench.ask("node1", "abort", bench.uuid)
    assert bench.words(call)
    stays_at_the_source(bench)


def test_nothing_to_abort(bench):
    with pytest.raises(WorldError, match="no job is active"):
        bench.ask("node1", "abort", bench.uuid)


def test_the_destinations_qemu_is_killed(bench):
    call = copying(bench)
    bench.fault("kill qemu node2")
    assert bench.words(call)
    stays_at_the_source(bench)


def test_the_sources_qemu_is_killed(bench):
    call = copying(bench)
    bench.fault("kill qemu node1")
    assert bench.words(call)
    until(bench, lambda: observe(bench, "node1") == observe(bench, "node2") == ABSENT)
    assert bench.alive() == set()


def test_the_destination_is_destroyed_by_hand(bench):
    call = copying(bench)
    bench.ask("node2", "destroy", bench.uuid)
    assert bench.words(call)
    stays_at_the_source(bench)


@pytest.mark.parametrize("node", ["node1", "node2"])
def test_a_daemon_is_killed_and_started(bench, node):
    call = copying(bench)
    bench.fault(f"kill libvirtd {node}")
    assert bench.words(call)
    bench.heal()
    stays_at_the_source(bench)


def test_the_networks_are_cut(bench):
    """libvirt's keepalive notices it within half a minute, on both sides."""
    call = copying(bench)
    bench.fault("cut both node2")
    assert bench.words(call)
    until(bench, lambda: bench.alive() == {"node1"}, 90)
    bench.heal()
    stays_at_the_source(bench)


def test_a_second_migration_at_once(bench):
    call = copying(bench)
    second = bench.begin("node1", "node2")
    assert "another migration job is already running" in bench.words(second)
    assert observe(bench, "node1").job == verdicts.OUTGOING
    bench.ask("node1", "abort", bench.uuid)
    assert bench.words(call)
    stays_at_the_source(bench)


def test_a_guest_that_its_user_paused(bench):
    bench.ask("node1", "suspend", bench.uuid)
    assert bench.words(bench.begin("node1", "node2")) == ""
    assert observe(bench, "node2").sighting is Sighting.PAUSED_BY_USER
    assert observe(bench, "node1") == ABSENT


def test_a_guest_that_is_moved_standing_still(bench):
    call = bench.begin("node1", "node2", BANDWIDTH=SLOW, live=False)
    until(bench, lambda: observe(bench, "node1").sighting is Sighting.PAUSED_FOR_MIGRATION)
    bench.ask("node1", "abort", bench.uuid)
    assert bench.words(call)
    stays_at_the_source(bench)


def test_more_downtime_is_taken(bench):
    call = copying(bench)
    bench.ask("node1", "set_downtime", bench.uuid, 400)
    bench.ask("node1", "abort", bench.uuid)
    bench.words(call)


def test_looks_at_what_is_not_there(bench):
    unknown = "99999999-9999-9999-9999-999999999999"
    assert bench.ask("node1", "by_uuid", unknown) == ABSENT
    assert bench.ask("node1", "by_name", "unknown") == ABSENT
    assert bench.ask("node1", "names") == [GUEST]
    for verb in ("destroy", "undefine", "autostart_off", "definition_of", "measured"):
        with pytest.raises(WorldError, match="Domain not found"):
            bench.ask("node2", verb, bench.uuid)


def test_definitions(bench):
    definition = bench.ask("node1", "definition_of", bench.uuid)
    with pytest.raises(WorldError, match="cannot undefine transient domain"):
        bench.ask("node1", "undefine", bench.uuid)
    with pytest.raises(WorldError, match="cannot set autostart for transient domain"):
        bench.ask("node1", "autostart_off", bench.uuid)
    bench.ask("node2", "define", definition)
    found = observe(bench, "node2")
    assert (found.sighting, found.persistent) == (Sighting.SHUT_OFF, True)
    assert bench.uuid in bench.ask("node2", "definition_of", bench.uuid)
    bench.ask("node2", "autostart_off", bench.uuid)
    with pytest.raises(WorldError, match="domain is not running"):
        bench.ask("node2", "destroy", bench.uuid)
    bench.ask("node2", "undefine", bench.uuid)
    assert observe(bench, "node2") == ABSENT


def test_what_may_not_be_done_amid_a_migration(bench):
    """libvirt waits for half a minute for its lock, and gives up."""
    bench.ask("node1", "define", bench.ask("node1", "definition_of", bench.uuid))
    call = copying(bench, BANDWIDTH=1)
    with pytest.raises(WorldError, match="cannot acquire state change lock"):
        bench.ask("node1", "undefine", bench.uuid)
    bench.ask("node1", "abort", bench.uuid)
    bench.words(call)


def test_what_waits_for_a_migrations_end(bench):
    """What had to wait is done as soon as it may be."""
    bench.ask("node1", "define", bench.ask("node1", "definition_of", bench.uuid))
    call = bench.begin("node1", "node2", BANDWIDTH=4 * SLOW)
    until(bench, lambda: observe(bench, "node1").job == verdicts.OUTGOING)
    bench.ask("node1", "undefine", bench.uuid)
    assert bench.words(call) == ""
    assert observe(bench, "node1") == ABSENT


def test_a_guest_that_is_destroyed_is_gone(bench):
    bench.ask("node1", "destroy", bench.uuid)
    assert observe(bench, "node1") == ABSENT and bench.alive() == set()


def test_post_copy(bench):
    call = copying(bench, "POSTCOPY")
    bench.ask("node1", "start_post_copy", bench.uuid)
    assert bench.words(call) == ""
    assert observe(bench, "node1") == ABSENT
    found = observe(bench, "node2")
    assert (found.sighting, found.job) == (Sighting.RUNNING, "")


def test_post_copy_that_was_not_allowed(bench):
    call = copying(bench)
    with pytest.raises(WorldError, match="post-copy"):
        bench.ask("node1", "start_post_copy", bench.uuid)
    bench.ask("node1", "abort", bench.uuid)
    bench.words(call)


def test_post_copy_that_breaks_and_goes_on(bench):
    call = copying(bench, "POSTCOPY", BANDWIDTH_POSTCOPY=2 * SLOW)
    bench.ask("node1", "start_post_copy", bench.uuid)
    until(bench, lambda: observe(bench, "node2").sighting is Sighting.RUNNING_IN_POST_COPY)
    assert observe(bench, "node1").sighting is Sighting.PAUSED_IN_POST_COPY
    with pytest.raises(WorldError, match="post-copy"):
        bench.ask("node1", "abort", bench.uuid)
    # Without its working memory QEMU stands still at the first page that it misses, and answers
    # nobody any more, who would have it go on.
    bench.wait(5)
    bench.break_post_copy("node1")
    assert bench.words(call)
    here, there = observe(bench, "node1"), observe(bench, "node2")
    assert (here.sighting, here.job) == (Sighting.PAUSED_IN_POST_COPY, verdicts.BROKEN)
    assert (there.sighting, there.job) == (Sighting.RUNNING_IN_POST_COPY, verdicts.BROKEN)
    again = bench.begin("node1", "node2", "POSTCOPY", "POSTCOPY_RESUME")
    assert bench.words(again, 240) == ""
    assert observe(bench, "node1") == ABSENT
    assert observe(bench, "node2").sighting is Sighting.RUNNING
