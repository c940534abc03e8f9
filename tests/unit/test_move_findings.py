"""Little is asked before one move: it is enough for the verdict that all would give."""

from dataclasses import replace

import worlds
from hypothesis import given
from hypothesis import strategies as st
from worlds import OTHER, RUNNING, UUID, WEB, guest, node

from saltext_kvmcluster.core.facts.nodefacts import LoginResults
from saltext_kvmcluster.core.findings import OK
from saltext_kvmcluster.core.guest.disks import Disk, Source
from saltext_kvmcluster.core.migration.migration import Move
from saltext_kvmcluster.core.readiness import move_findings
from saltext_kvmcluster.core.readiness.checks.guest import matters
from saltext_kvmcluster.core.readiness.checks.registry import REGISTRY
from saltext_kvmcluster.core.trust import logins

CHECKS = {check.id: check for check in REGISTRY}
LOCAL = ("file", "block", "dir")
SOURCES = st.sampled_from(
    [
        Source("file", "/images/a", "raw"),
        Source("file", "/images/b", "raw"),
        Source("file", "/dev/sda", "raw"),
        Source("block", "/dev/sda", "raw"),
        Source("block", "/dev/other", "raw"),
        Source("network", "nbd:a", "raw", "nbd", ("server:1",)),
        Source("network", "nbd:b", "raw", "nbd", ("server:1",)),
        Source("volume", "pool/a"),
        Source(),
    ]
)
DISKS = st.builds(
    Disk,
    st.just("vda"),
    SOURCES,
    readonly=st.booleans(),
    shareable=st.booleans(),
    backing=st.lists(SOURCES.filter(lambda one: one.kind), max_size=2).map(tuple),
)
MANY = st.lists(DISKS, max_size=3).map(tuple)


def stats(found):
    """Return libvirt's statistics of a guest's blocks, as it tells them with all layers."""
    layers = [layer for disk in found.disks for layer in disk.layers]
    paths = [layer.path if layer.kind in LOCAL else None for layer in layers]
    known = {f"block.{at}.path": path for at, path in enumerate(paths) if path}
    return {"block.count": len(layers), **known}


def known_of(at, name, uuid, definition, close):
    """Return what is known of a guest: all, or what libvirt's statistics tell."""
    observation = replace(RUNNING, name=name, uuid=uuid)
    reported = stats(definition)
    paths = tuple(value for key, value in reported.items() if key.endswith("path"))
    found = guest(at, observation, definition, disks=paths)
    return found if close(name, uuid, reported) else replace(found, guest=None)


@given(MANY, MANY, st.booleans())
def test_who_is_not_known_closely_has_nothing_to_do_with_it(own, others, together):
    mine = replace(WEB, disks=own)
    other = replace(WEB, name="other", uuid=OTHER, disks=others)

    def troubles(close):
        subject = guest("node1", RUNNING, mine)
        neighbour = known_of("node1" if together else "node2", "other", OTHER, other, close)
        here = [subject, neighbour] if together else [subject]
        there = [] if together else [neighbour]
        world = worlds.world(node(guests=tuple(here)), node("node2", guests=tuple(there)))
        return [list(CHECKS[check].find(world, subject)) for check in ("guest.disk", "guest.name")]

    close = matters(mine, "web1", UUID)
    assert troubles(close) == troubles(lambda name, uuid, reported: True)


def test_namesakes_and_the_unreadable_are_known_closely():
    nothing = {"block.count": 0}
    close = matters(WEB, "web1", UUID)
    assert close("web1", OTHER, nothing) and close("other", UUID, nothing)
    assert close("other", OTHER, {}), "libvirt was busy with it"
    assert not close("other", OTHER, nothing)
    assert matters(None, "web1", UUID)("other", OTHER, {"block.count": 1})


def one_name(cause):
    """Return a world in which only the migration name of the peer was dialled."""
    cells = [cell for cell in worlds.cells("node2", mig=cause) if cell["name"] == "node2-mig"]
    observed = LoginResults(tuple(cells), "refused", ("node2-mig",))
    return worlds.world(node(guests=(guest(),), peers={"node2": observed}), node("node2"))


def test_a_move_is_judged_by_the_name_that_it_dials():
    for cause in (logins.OK, "refused", logins.NOISE):
        world = one_name(cause)
        found = move_findings.findings(world, world.guests[0], "node2")
        bad = {one.id for one in found if one.outcome != OK}
        assert (
            bad == {logins.OK: set(), "refused": {"ssh.reach"}, logins.NOISE: {"ssh.noise"}}[cause]
        )
        detail = [one.sentence for one in found if one.id == "ssh.config"]
        assert detail[0].endswith("(of node2, by its migration name)")


def test_that_the_master_loses_sight_of_a_guest_is_a_warning_of_its_migration():
    move = Move("web1", "u", "node1", "node3")
    assert move_findings.of_silent_minion(move, "") == []
    warnings = move_findings.of_silent_minion(move, "no response")
    assert [one.blocks for one in warnings] == [False]
    sentence = (
        "node3: its minion does not answer (no response): the master loses sight of what runs"
        " there, and cannot move it away"
    )
    (failed,) = move_findings.of_silent_minion(move, "no libvirt", answered=True)
    assert failed.sentence.startswith("node3: its minion answered with an error (no libvirt): the")
    assert failed.remedy == "salt-run kvmcluster.status"
    done = {"guest": "web1", "findings": [{"id": "node.minion"}, {"id": "guest.once"}, 3]}
    told, other = move_findings.with_warnings(done, warnings)["findings"]
    assert (told["sentence"], told["severity"], other["id"]) == (sentence, "WARN", "guest.once")
    assert move_findings.with_warnings(done, []) == done
    assert len(move_findings.with_warnings({"findings": "x"}, warnings)["findings"]) == 1
