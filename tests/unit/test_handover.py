"""A strict handover: its mark, its proofs, and whose the guest is when it was interrupted."""

import itertools
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from lxml import etree

from saltext_kvmcluster.core.migration import handover, journal
from saltext_kvmcluster.core.migration.handover import Handover, LastRun, Status
from saltext_kvmcluster.core.migration.journal import BEGUN, ENDED, OVER, RUNS, Entry
from saltext_kvmcluster.core.migration.migration import Move
from saltext_kvmcluster.core.ownership import cases, handovers, safeguards
from saltext_kvmcluster.core.ownership.cases import Action, Do
from saltext_kvmcluster.core.ownership.settlements import settle
from saltext_kvmcluster.core.pillar.options import Options
from saltext_kvmcluster.core.verdicts import (
    CANCELED,
    OFF,
    UNPAUSED,
    Observation,
    Owner,
    Sighting,
)

UUID = "c6a03beb-295e-499a-b50f-94bfb088f6f2"
ENTRY = Entry(
    Move("web1", UUID, "node1", "node2"),
    "2024-01-01T00:00:00+00:00",
    BEGUN,
    False,
    "shared",
    handover=Handover(True),
)
PAUSED_ENTRY = replace(ENTRY, handover=Handover(False))
WAITS = Observation(Sighting.WAITING, "web1", UUID, mark=ENTRY.token)
LEFT = Observation(Sighting.SHUT_OFF, "web1", UUID, left=True)
GONE = Observation(Sighting.ABSENT, left=True)
PAIRS = list(itertools.product(Sighting, Sighting))


def see(sighting, **more):
    detail = "no route" if sighting is Sighting.UNREACHABLE else ""
    mark = ENTRY.token if sighting is Sighting.WAITING else ""
    return Observation(sighting, "web1", UUID, detail=detail, mark=mark, **more)


def settled(here, there, entry=ENTRY, **elsewhere):
    others = elsewhere or {"node3": see(Sighting.ABSENT)}
    return settle("web1", {"node1": entry}, {"node1": here, "node2": there, **others}, True)


def done(settlement):
    return [f"{action.do.name} {action.node}" for action in settlement.actions]


@pytest.mark.parametrize(
    ("here", "there", "owner", "actions"),
    [
        (GONE, WAITS, "node2", ["RESUME_COPY node2", "UNMARK node2", "CLEAR node1"]),
        (LEFT, WAITS, "node2", ["RESUME_COPY node2", "UNMARK node2", "CLEAR node1"]),
        (see(Sighting.ABSENT), WAITS, None, []),
        (see(Sighting.SHUT_OFF), WAITS, None, []),
        (see(Sighting.RUNNING), WAITS, "node1", ["DESTROY_COPY node2", "CLEAR node1"]),
        (see(Sighting.PAUSED_BY_USER), WAITS, "node1", ["DESTROY_COPY node2", "CLEAR node1"]),
        (
            see(Sighting.PAUSED_FOR_MIGRATION),
            WAITS,
            "node1",
            ["DESTROY_COPY node2", "RESUME_SOURCE node1", "CLEAR node1"],
        ),
        (
            see(Sighting.PAUSED_BY_ERROR),
            WAITS,
            "node1",
            ["DESTROY_COPY node2", "RESUME_SOURCE node1", "CLEAR node1"],
        ),
        (
            see(Sighting.PAUSED_FOR_MIGRATION),
            see(Sighting.ABSENT),
            "node1",
            ["RESUME_SOURCE node1", "CLEAR node1"],
        ),
        (
            see(Sighting.PAUSED_BY_ERROR),
            see(Sighting.ABSENT),
            "node1",
            ["RESUME_SOURCE node1", "CLEAR node1"],
        ),
        (GONE, see(Sighting.RUNNING), "node2", ["UNMARK node2", "CLEAR node1"]),
        (see(Sighting.RUNNING), see(Sighting.ABSENT), "node1", ["CLEAR node1"]),
        (see(Sighting.UNREACHABLE), WAITS, None, []),
        (GONE, see(Sighting.UNREACHABLE), None, []),
        (see(Sighting.PAUSED_FOR_MIGRATION), see(Sighting.UNREACHABLE), None, []),
        (see(Sighting.RUNNING), see(Sighting.RUNNING), None, []),
        (GONE, replace(WAITS, mark="node1 another"), None, []),
        (see(Sighting.PAUSED_IN_POST_COPY), WAITS, None, []),
    ],
)
def test_rows(here, there, owner, actions):
    found = settled(here, there)
    assert (found.owner, done(found)) == (owner, actions)
    if owner is None:
        assert found.needs and found.commands


@pytest.mark.parametrize(("one", "other"), PAIRS, ids=[f"{a.value} / {b.value}" for a, b in PAIRS])
@pytest.mark.parametrize("stage", [BEGUN, ENDED, OVER, RUNS])
@pytest.mark.parametrize("resume", [True, False])
def test_a_copy_is_resumed_on_proof_alone_and_a_source_only_if_the_copy_never_ran(
    one, other, stage, resume
):
    entry = replace(ENTRY, stage=stage, handover=Handover(resume))
    for left in (True, False):
        found = settled(replace(see(one), left=left and one in OFF), see(other), entry)
        dos = {action.do for action in found.actions}
        if Do.RESUME_COPY in dos:
            assert resume and one in OFF and other is Sighting.WAITING
            assert left or stage == OVER
        if Do.RESUME_SOURCE in dos:
            assert resume and stage in (BEGUN, ENDED)
            assert one in handovers.STOPPED and other is not Sighting.RUNNING
        if found.owner == "node2":
            assert other in (Sighting.RUNNING, Sighting.PAUSED_BY_USER, Sighting.WAITING)
        if found.owner is None:
            assert dos <= {Do.CLEAR} and (found.result == cases.NOWHERE or not dos)


def test_a_source_that_runs_is_the_owner_even_if_the_destination_does_not_respond():
    """The copy there cannot have run; but it may be there, so the journal stays."""
    found = settled(see(Sighting.RUNNING), see(Sighting.UNREACHABLE))
    assert (found.owner, found.result, done(found)) == ("node1", cases.RUNNING, [])
    assert "node2" in found.needs[0]
    for entry in (replace(ENTRY, stage=OVER), replace(ENTRY, handover=None)):
        assert settled(see(Sighting.RUNNING), see(Sighting.UNREACHABLE), entry).owner is None


def test_a_third_node_that_has_it_changes_all():
    for sighting in set(Sighting) - {*OFF, Sighting.UNREACHABLE}:
        found = settled(GONE, WAITS, node3=see(sighting))
        assert Do.RESUME_COPY not in {action.do for action in found.actions}
    assert settled(GONE, WAITS, node3=see(Sighting.UNREACHABLE)).owner == "node2"


def test_a_guest_that_its_user_paused_stays_paused():
    found = settled(GONE, WAITS, PAUSED_ENTRY)
    assert (found.owner, found.result) == ("node2", cases.PAUSED)
    assert done(found) == ["UNMARK node2", "CLEAR node1"]
    found = settled(see(Sighting.PAUSED_BY_USER), WAITS, PAUSED_ENTRY)
    assert (found.owner, done(found)) == ("node1", ["DESTROY_COPY node2", "CLEAR node1"])


def test_one_that_ran_and_was_paused_by_its_user_before_its_mark_was_removed():
    found = settled(GONE, WAITS, replace(ENTRY, stage=RUNS))
    assert (found.result, done(found)) == (cases.PAUSED, ["UNMARK node2", "CLEAR node1"])


def test_without_a_journal_a_copy_that_waits_is_left_alone():
    found = settle("web1", {}, {"node1": see(Sighting.ABSENT), "node2": WAITS}, True)
    assert found.owner is None and not found.actions
    assert any("virsh resume" in one and "only if" in one for one in found.commands)
    found = settle("web1", {}, {"node1": see(Sighting.RUNNING), "node2": WAITS}, True)
    assert done(found) == ["DESTROY_COPY node2"]


def test_while_it_stands_it_has_not_arrived():
    assert handovers.verdict(ENTRY, GONE, WAITS).owner is Owner.UNKNOWN
    assert handovers.verdict(PAUSED_ENTRY, GONE, WAITS).owner is Owner.DESTINATION
    assert handovers.verdict(replace(ENTRY, handover=None), GONE, WAITS) is None


def test_proof_is_looked_for_only_where_it_decides():
    absent = see(Sighting.ABSENT)
    assert handovers.needs_proof(ENTRY, absent, WAITS)
    assert not handovers.needs_proof(replace(ENTRY, stage=OVER), absent, WAITS)
    assert not handovers.needs_proof(ENTRY, GONE, WAITS)
    assert not handovers.needs_proof(ENTRY, see(Sighting.RUNNING), WAITS)


@pytest.mark.parametrize(("here", "there"), PAIRS)
def test_each_step_looks_again_immediately_before(here, there):
    nodes = {"node1": see(here), "node2": see(there)}

    def forbids(do, node, entry=ENTRY):
        return safeguards.forbids(Action(do, node), "node2", nodes, entry)

    if not forbids(Do.RESUME_COPY, "node2"):
        assert here in OFF and there in (Sighting.WAITING, Sighting.RUNNING)
    if not forbids(Do.RESUME_SOURCE, "node1"):
        assert there in (*OFF, Sighting.WAITING) and here in (*handovers.STOPPED, Sighting.RUNNING)
    if not forbids(Do.UNMARK, "node2"):
        assert here in OFF and there in cases.OWNING
    if not safeguards.forbids(Action(Do.DESTROY_COPY, "node2"), "node1", nodes, ENTRY):
        assert here in handovers.ALIVE


def test_the_copy_of_another_migration_is_not_touched():
    nodes = {"node1": see(Sighting.ABSENT), "node2": replace(WAITS, mark="node1 another")}
    for do in (Do.RESUME_COPY, Do.UNMARK):
        assert "another" in safeguards.forbids(Action(do, "node2"), "node2", nodes, ENTRY)
    nodes["node1"] = see(Sighting.PAUSED_FOR_MIGRATION)
    resume = Action(Do.RESUME_SOURCE, "node1")
    assert "another" in safeguards.forbids(resume, "node1", nodes, ENTRY)
    assert not safeguards.forbids(resume, "node1", {**nodes, "node2": WAITS}, ENTRY)


@given(st.text(st.characters(blacklist_categories=("C",)), min_size=1, max_size=60))
def test_a_mark_is_read_as_it_was_written(of):
    domain = "<domain type='kvm'><name>a</name><metadata><x xmlns='urn:x'/></metadata></domain>"
    marked = handover.marked(handover.marked(domain, "before"), of)
    assert handover.mark_of(domain) == ""
    assert handover.mark_of(marked) == of
    root = etree.fromstring(marked)
    assert len(root.find("metadata")) == 2, "the other element stays, the old mark does not"
    assert handover.mark(etree.tostring(root.find("metadata")[1], encoding="unicode")) == of


DISK = "<disk type='file'><source file='{}'/><target dev='vda'/></disk>"
GUEST = "<domain type='kvm'><name>a</name><uuid>{}</uuid><devices>{}</devices></domain>"


def test_a_copy_that_would_get_other_disks_is_outdated():
    """A snapshot in the moment before libvirt began: the source writes the overlay."""
    before = GUEST.format(UUID, DISK.format("/g/a.qcow2"))
    copy = handover.marked(before, ENTRY.token)
    assert handover.outdated(copy, before) == ""
    assert handover.outdated(copy, before.replace("<devices>", "<devices><tpm/>")) == ""
    after = GUEST.format(UUID, DISK.format("/g/a.snapshot"))
    assert "disks were changed" in handover.outdated(copy, after)
    assert "could not be compared" in handover.outdated(copy, "<domain>")


def test_what_is_no_mark_counts_as_one_of_nobody():
    assert handover.mark("<") == handover.mark("<a/>") == "?"
    assert handover.mark_of(handover.marked("<domain type='kvm'/>", "")) == "?"


STATUS = """<domstatus state='paused' reason='migration' pid='{pid}'>
<job type='none' async='migration out' phase='{phase}' asyncFlags='0x203'/>
<domain type='qemu' id='1'><name>web1</name><uuid>{uuid}</uuid></domain></domstatus>"""


def test_libvirts_status_file():
    text = STATUS.format(pid=123, phase="confirm3", uuid=UUID)
    assert handover.status(text, UUID) == Status(123, "confirm3")
    assert handover.status(text, UUID).is_confirmed
    assert not handover.status(text.replace("confirm3", "confirm3_cancelled"), UUID).is_confirmed
    assert not handover.status(text.replace("confirm3", "perform3_done"), UUID).is_confirmed
    for odd in ("", "<", "<domain/>", text.replace("123", "x"), text.replace("123", "1")):
        assert handover.status(odd, UUID) is None
    assert handover.status(text, UUID.replace("c", "d")) is None


UP = "2024-01-01 10:00:00.000+0000: starting up libvirt version: 9.0.0, qemu version: 7.2\n"
SENT = "2024-01-01 08:00:00.000+0000: initiating migration\n"


def down(reason):
    return f"2024-01-01 09:00:00.000+0000: shutting down, reason={reason}\n"


@pytest.mark.parametrize(
    ("log", "ended", "sent"),
    [
        ("", "", 0),
        (UP, "", 0),
        (UP + SENT, "", 1),
        (UP + SENT + down("migrated"), "migrated", 1),
        (UP + SENT + SENT + down("migrated"), "migrated", 2),
        (UP + SENT + down("migrated") + down("crashed"), "migrated", 1),
        (UP + SENT + down("migrated") + UP, "", 0),
        (UP + SENT + down("migrated") + UP + down("destroyed"), "destroyed", 0),
        (UP + down("destroyed"), "destroyed", 0),
        ("noise of QEMU\n" + down("migrated"), "migrated", 0),
        (UP + "it said: shutting down, reason=migrated\n", "", 0),
        (UP + "it said: initiating migration\n", "", 0),
        (UP + down("migrated").rstrip("\n"), "migrated", 0),
        (UP + down("migrated") + "noise of QEMU", "migrated", 0),
    ],
)
def test_the_last_run_by_the_order_of_the_log_not_by_its_times(log, ended, sent):
    assert handover.last_run(log) == LastRun(ended, sent)


@pytest.mark.parametrize(
    ("before", "ended", "sent", "left"),
    [
        (0, "migrated", 1, True),
        (3, "migrated", 4, True),
        (0, "migrated", 2, False),
        (0, "migrated", 0, False),
        (1, "migrated", 1, False),
        (-1, "migrated", 0, False),
        (0, "destroyed", 1, False),
        (0, "", 1, False),
    ],
)
def test_a_run_was_ended_by_this_migration_if_it_was_sent_once_since(before, ended, sent, left):
    assert Handover(True, sent=before).has_left(LastRun(ended, sent)) == left


@pytest.mark.parametrize(
    ("options", "runs", "unguarded", "refused"),
    [
        ({}, True, ("vda",), ""),
        ({"handover": "libvirt"}, True, (), ""),
        ({"handover": "libvirt"}, True, ("vda",), "handover is libvirt"),
        ({"handover": "libvirt", "force_post_copy": True}, True, ("vda",), "handover is libvirt"),
        ({"handover": "libvirt"}, False, ("vda",), ""),
        ({"post_copy": True}, True, ("vda",), "cannot have a strict handover"),
        ({"post_copy": True}, True, (), ""),
        ({"post_copy": True}, False, ("vda",), ""),
        ({"post_copy": True, "force_post_copy": True}, True, ("vda",), ""),
    ],
)
def test_what_may_run_it_twice(options, runs, unguarded, refused):
    risk = handover.risk(Options(**options), runs, unguarded)
    assert bool(risk) == bool(refused)
    if risk:
        assert refused in risk[0] and "vda" in risk[0] and "guard" in risk[1]


def test_what_is_strict():
    assert handover.is_strict(Options(), True)
    for options in (Options(handover="libvirt"), Options(post_copy=True)):
        assert not handover.is_strict(options, True)
        assert handover.is_strict(options, False)


BY_LIBVIRT = replace(ENTRY, handover=None)
WENT_ON = see(Sighting.RUNNING, reason=CANCELED)


@pytest.mark.parametrize(
    ("here", "there", "owner"),
    [
        (see(Sighting.RUNNING, reason="booted"), see(Sighting.ABSENT), "node1"),
        (WENT_ON, see(Sighting.ABSENT), None),
        (WENT_ON, see(Sighting.SHUT_OFF), None),
        (WENT_ON, see(Sighting.SHUT_OFF, reason="crashed"), None),
        (WENT_ON, see(Sighting.SHUT_OFF, reason="destroyed"), None),
        (WENT_ON, see(Sighting.SHUT_OFF, reason="failed"), None),
        (WENT_ON, see(Sighting.PAUSED_FOR_MIGRATION), "node1"),
        (see(Sighting.RUNNING, reason=UNPAUSED), see(Sighting.ABSENT), "node1"),
        (see(Sighting.PAUSED_BY_USER), see(Sighting.ABSENT), "node1"),
        (see(Sighting.PAUSED_BY_ERROR), see(Sighting.ABSENT), None),
        (see(Sighting.PAUSED_BY_ERROR), see(Sighting.RUNNING), "node2"),
    ],
)
def test_what_may_have_run_after_libvirts_own_handover_is_never_certain(here, there, owner):
    found = settled(here, there, BY_LIBVIRT)
    assert found.owner == owner, found
    if owner is None:
        assert found.actions == () and "ran on node2" in found.needs[0]
        assert any(f"journal/{UUID}.json" in one or "virsh resume" in one for one in found.commands)
    assert settled(here, there).owner == ("node1" if owner is None else owner)


@pytest.mark.parametrize(
    "here", [see(Sighting.RUNNING, reason=UNPAUSED), see(Sighting.PAUSED_BY_USER)]
)
def test_what_was_not_certain_stays_so_once_the_guest_was_paused_or_resumed(here):
    found = settled(here, see(Sighting.ABSENT), replace(BY_LIBVIRT, stage=ENDED))
    assert found.owner is None and found.actions == ()


def test_a_migration_that_has_just_ended_was_not_resumed_by_anybody_else():
    there = see(Sighting.ABSENT)
    assert handovers.verdict(BY_LIBVIRT, see(Sighting.RUNNING, reason=UNPAUSED), there) is None
    assert handovers.verdict(BY_LIBVIRT, WENT_ON, there).owner is Owner.UNKNOWN


def test_a_copy_whose_failure_was_answered_never_ran():
    refused, there = replace(BY_LIBVIRT, stage=journal.FAILED), see(Sighting.ABSENT)
    assert handovers.verdict(refused, WENT_ON, there) is None
    assert settled(WENT_ON, there, refused).owner == "node1"


def test_why_a_step_failed():
    assert safeguards.not_done("no response") == "no response"
    found = safeguards.not_done("unable to execute 'cont': Migration is not finalized yet")
    assert "'cont'" in found and "tries again" in found
