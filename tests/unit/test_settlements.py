"""What follows from all sightings: who owns the guest, and what may be done about it."""

import itertools
from dataclasses import replace

import pytest
from hypothesis import event, given
from hypothesis import strategies as st
from material import MORE_EXAMPLES, cluster

from saltext_kvmcluster.core import verdicts
from saltext_kvmcluster.core.errors import InputError, WorldError
from saltext_kvmcluster.core.migration.journal import BEGUN, Entry
from saltext_kvmcluster.core.migration.migration import Move
from saltext_kvmcluster.core.ownership import (
    cancellation,
    cases,
    identification,
    safeguards,
    settlements,
)
from saltext_kvmcluster.core.ownership.cases import Action, Do
from saltext_kvmcluster.core.ownership.safeguards import concerned, forbids
from saltext_kvmcluster.core.ownership.settlements import settle
from saltext_kvmcluster.core.pacemaker.fencing import FencingRuling
from saltext_kvmcluster.core.verdicts import (
    BACKUP,
    BROKEN,
    ENDLESS,
    INCOMING,
    MIGRATED,
    OUTGOING,
    Observation,
    Owner,
    Sighting,
    judge,
)

UUID, OTHER = "c6a03beb-295e-499a-b50f-94bfb088f6f2", "11111111-1111-4111-8111-111111111111"
ENTRY = Entry(
    Move("web1", UUID, "node1", "node2"), "2024-01-01T00:00:00+00:00", BEGUN, False, "shared"
)
RUNS, COPY, OFF, ABSENT, SILENT = (
    Observation(Sighting.RUNNING, "web1", UUID),
    Observation(Sighting.PAUSED_FOR_MIGRATION, "web1", UUID),
    Observation(Sighting.SHUT_OFF, "web1", UUID, persistent=True),
    Observation(Sighting.ABSENT),
    Observation(Sighting.UNREACHABLE, detail="no route"),
)
HARMLESS = {Do.CLEAR, Do.RESUME_POST_COPY}
PAIRS = list(itertools.product(Sighting, Sighting))
INACTIVE = {Sighting.SHUT_OFF, Sighting.ABSENT}


def observe(sighting, **more):
    detail = "no route" if sighting is Sighting.UNREACHABLE else ""
    return Observation(sighting, detail=detail, persistent=sighting is Sighting.SHUT_OFF, **more)


def settled(node1, node2, node3=ABSENT, entry=ENTRY, steady=True):
    entries = {entry.move.source: entry} if entry else {}
    return settle("web1", entries, {"node1": node1, "node2": node2, "node3": node3}, steady)


def done(settlement):
    """Return the actions as words."""
    return [f"{action.do.name} {action.node}" for action in settlement.actions]


@pytest.mark.parametrize(("one", "other"), PAIRS, ids=[f"{a.value} / {b.value}" for a, b in PAIRS])
def test_every_pair_in_both_roles(one, other):
    for source, destination in (("node1", "node2"), ("node2", "node1")):
        observations = {source: observe(one), destination: observe(other), "node3": ABSENT}
        entry = replace(ENTRY, move=Move("web1", UUID, source, destination))
        settlement = settle("web1", {source: entry}, observations, True)
        owner = judge(one, other, source, destination).owner
        if {one, other} <= INACTIVE:
            owner = Owner.NOBODY  # Three nodes have answered, so it is nowhere else.
        assert settlement.verdict.owner is owner
        expected = {Owner.SOURCE: source, Owner.DESTINATION: destination}.get(owner)
        assert settlement.owner == expected
        if expected or owner is Owner.NOBODY:
            assert settlement.actions[-1] == Action(Do.CLEAR, source)
        else:
            assert settlement.actions == ()
            assert settlement.needs or settlement.result == cases.BUSY
            assert settlement.commands
        copies = [node for node in observations if observations[node].sighting in verdicts.COPIES]
        destroyed = [one.node for one in settlement.actions if one.do is Do.DESTROY_COPY]
        assert destroyed == (copies if expected else [])


@pytest.mark.parametrize(("one", "other"), PAIRS, ids=[f"{a.value} / {b.value}" for a, b in PAIRS])
def test_without_a_journal_only_what_is_true_in_both_directions(one, other):
    settlement = settled(observe(one), observe(other), entry=None)
    forth, back = judge(one, other, "a", "b").owner, judge(other, one, "b", "a").owner
    opposite = {Owner.SOURCE: Owner.DESTINATION, Owner.DESTINATION: Owner.SOURCE}
    if back is opposite.get(forth):
        assert settlement.owner == ("node1" if forth is Owner.SOURCE else "node2")
    else:
        assert settlement.owner is None
        assert settlement.actions == ()


@pytest.mark.parametrize("sighting", Sighting)
def test_a_third_node(sighting):
    """It counts wherever it has the guest; its silence only where it could be one of the two."""
    beside_running = settled(RUNS, COPY, observe(sighting))
    if sighting in INACTIVE | {Sighting.UNREACHABLE}:
        assert done(beside_running) == ["DESTROY_COPY node2", "CLEAR node1"]
    elif sighting in verdicts.WAITING_HALVES:
        destroyed = ["DESTROY_COPY node2", "DESTROY_COPY node3", "CLEAR node1"]
        assert done(beside_running) == destroyed
    else:
        assert beside_running.owner is None and beside_running.actions == ()
    # A migration's both ends are off: it may have been moved on.
    nowhere = settled(ABSENT, ABSENT, observe(sighting))
    if sighting in INACTIVE:
        assert (nowhere.result, done(nowhere)) == (cases.NOWHERE, ["CLEAR node1"])
    elif sighting in cases.OWNING:
        assert nowhere.owner == "node3"
    else:
        assert nowhere.result == cases.UNKNOWN and nowhere.actions == ()


def test_a_silent_third_node_may_be_an_end_if_there_is_no_journal():
    settlement = settled(RUNS, COPY, SILENT, entry=None)
    assert settlement.owner is None and settlement.actions == ()
    assert "node3" in settlement.needs[0] and "no route" in settlement.needs[0]
    assert done(settled(RUNS, COPY, entry=None)) == ["DESTROY_COPY node2"]


@pytest.mark.parametrize("other", [RUNS, COPY, OFF, ABSENT, observe(Sighting.PAUSED_BY_USER)])
def test_a_silent_end_allows_nothing(other):
    for settlement in (settled(other, SILENT), settled(SILENT, other)):
        assert settlement.result == cases.UNKNOWN
        assert settlement.actions == ()
        assert any("no route" in need for need in settlement.needs)
        assert any("kvmcluster.recover web1" in command for command in settlement.commands)


def test_an_end_that_left_the_cluster_is_silent_for_ever():
    entry = replace(ENTRY, move=Move("web1", UUID, "node1", "node9"))
    settlement = settled(RUNS, ABSENT, entry=entry)
    assert settlement.actions == () and "node9" in settlement.needs[0]
    assert f"rm /var/lib/kvmcluster/journal/{UUID}.json" in settlement.commands[-1]


@pytest.mark.parametrize("job", [OUTGOING, INCOMING, ENDLESS, BACKUP])
def test_nothing_is_done_while_a_job_is_active_anywhere(job):
    for node in range(3):
        observations = [RUNS, COPY, ABSENT]
        observations[node] = replace(observations[node], job=job)
        settlement = settled(*observations)
        assert settlement.result == cases.BUSY
        assert settlement.actions == () and job in settlement.verdict.sentence


def test_nothing_is_done_where_two_looks_differ():
    settlement = settled(RUNS, COPY, steady=False)
    assert settlement.result == cases.BUSY and settlement.actions == ()
    assert not settlements.same(RUNS, replace(RUNS, job=OUTGOING))
    assert not settlements.same(RUNS, COPY) and settlements.same(RUNS, RUNS)


def test_a_conflict_touches_nothing():
    for others in ((RUNS, ABSENT), (ABSENT, RUNS), (RUNS, SILENT), (RUNS, COPY)):
        settlement = settled(RUNS, *others)
        assert settlement.result == cases.CONFLICT and settlement.owner is None
        assert "RUNS TWICE" in settlement.verdict.sentence and settlement.actions == ()
        assert any("virsh destroy web1" in command for command in settlement.commands)
    saving = replace(RUNS, job=BACKUP)
    assert settled(RUNS, saving).result == cases.CONFLICT
    assert settled(RUNS, replace(RUNS, job=OUTGOING)).result == cases.BUSY
    assert settled(RUNS, RUNS, steady=False).result == cases.BUSY


def test_it_was_moved_on_meanwhile():
    settlement = settled(ABSENT, COPY, RUNS)
    assert settlement.owner == "node3"
    assert done(settlement) == ["DESTROY_COPY node2", "CLEAR node1"]
    assert "node3" in settlement.verdict.sentence


def sent(source, destination, sequence, began="2024-01-01T00:00:00+00:00"):
    move = Move("web1", UUID, source, destination)
    return replace(ENTRY, move=move, sequence=sequence, began=began)


@pytest.mark.parametrize("began", ["2020-01-01T00:00:00+00:00", "2030-01-01T00:00:00+00:00"])
def test_the_later_one_is_known_by_its_sequence_whatever_the_clocks_say(began):
    there, back = sent("node1", "node2", 7), sent("node2", "node1", 8, began)
    for order in (("node1", "node2"), ("node2", "node1")):
        entries = {node: {"node1": there, "node2": back}[node] for node in order}
        assert cases.latest(entries) is back
        # After both a source that waits is node2, and never node1.
        advice = settle("web1", entries, {"node1": ABSENT, "node2": COPY, "node3": ABSENT}, True)
        assert any("on node2: virsh resume" in one for one in advice.commands)
        advice = settle("web1", entries, {"node1": COPY, "node2": ABSENT, "node3": ABSENT}, True)
        assert advice.owner is None and not any("only if" in one for one in advice.commands)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (sent("node1", "node2", 0), sent("node2", "node1", 0)),
        (sent("node1", "node2", 7), sent("node2", "node1", 0, "2030-01-01T00:00:00+00:00")),
        (sent("node1", "node2", 7), sent("node2", "node3", 7)),
        # What no node has counted together has no order.
        (sent("node1", "node2", 7), sent("node3", "node4", 9)),
    ],
)
def test_an_order_that_is_not_certain_gives_nobody_a_role(one, other):
    entries = {one.move.source: one, other.move.source: other}
    assert cases.latest(entries) is None
    observations = dict.fromkeys(("node1", "node2", "node3", "node4"), ABSENT)
    found = settle("web1", entries, {**observations, "node1": COPY}, True)
    assert (found.result, found.actions) == (cases.UNKNOWN, ())
    assert not any("only if it never ran" in one for one in found.commands)
    found = settle("web1", entries, {**observations, "node1": RUNS, "node2": COPY}, True)
    assert found.owner == "node1" and done(found)[0] == "DESTROY_COPY node2"
    halves = {"node1": observe(Sighting.PAUSED_IN_POST_COPY, job=BROKEN)}
    assert settle("web1", entries, {**observations, **halves}, True).actions == ()


def test_a_file_that_cannot_be_read_may_be_a_later_entry_so_nobody_has_a_role():
    observations = {"node1": COPY, "node2": ABSENT, "node3": ABSENT}
    known = settle("web1", {"node1": ENTRY}, observations, True)
    doubted = settle("web1", {"node1": ENTRY}, observations, True, doubted=True)
    assert any("only if it never ran" in one for one in known.commands)
    assert not any("only if it never ran" in one for one in doubted.commands)
    assert (doubted.result, doubted.actions) == (cases.UNKNOWN, ())
    runs = {**observations, "node1": replace(RUNS, persistent=False)}
    kept = replace(ENTRY, persistent=True)
    assert "DEFINE node1" in done(settle("web1", {"node1": kept}, runs, True))
    assert done(settle("web1", {"node1": kept}, runs, True, doubted=True)) == ["CLEAR node1"]


def test_each_journal_that_waits_for_a_node_that_is_gone_is_named_with_its_own_path():
    entries = {"node1": sent("node1", "node2", 0), "node3": sent("node3", "node2", 0)}
    observations = {"node1": COPY, "node2": SILENT, "node3": ABSENT}
    advice = settle("web1", entries, observations, True).commands
    for node in entries:
        assert any(f"on {node}: rm /var/lib/kvmcluster/journal/{UUID}.json" in it for it in advice)


def test_the_latest_of_several_journals_gives_the_roles_and_all_are_cleared():
    first, on = sent("node1", "node2", 1), sent("node2", "node3", 2)
    observations = {"node1": ABSENT, "node2": COPY, "node3": RUNS}
    settlement = settle("web1", {"node1": first, "node2": on}, observations, True)
    assert done(settlement) == ["DESTROY_COPY node2", "CLEAR node1", "CLEAR node2"]
    assert settlement.verdict.owner is Owner.DESTINATION
    observations["node1"] = SILENT
    assert settle("web1", {"node1": first, "node2": on}, observations, True).actions == ()


def test_a_source_that_waits_says_what_has_to_be_found_out():
    settlement = settled(COPY, ABSENT)
    assert settlement.result == cases.UNKNOWN and settlement.actions == ()
    assert "node2" in settlement.needs[0] and ENTRY.began in settlement.needs[0]
    reported = "\n".join(settlement.commands)
    assert "/var/log/libvirt/qemu/web1.log" in reported and "stat" in reported
    assert "only if it never ran on node2: on node1: virsh resume web1" in reported


def test_what_is_to_be_typed_is_quoted():
    settlement = settle("web 1;x", {}, {"node1": RUNS, "node2": RUNS}, True)
    assert "virsh destroy 'web 1;x'" in "\n".join(settlement.commands)


def test_the_two_halves_alone_are_looked_at_before_they_go_on():
    action = Action(Do.RESUME_POST_COPY, "node1")
    assert concerned(action, None, {"node1": ENTRY}, ("node1", "node2", "node3")) == {
        "node1",
        "node2",
    }


class TestPostCopy:
    SOURCE = observe(Sighting.PAUSED_IN_POST_COPY, job=BROKEN)
    DESTINATION = observe(Sighting.RUNNING_IN_POST_COPY, job=BROKEN)
    ENTRY = replace(ENTRY, flags=("LIVE", "PEER2PEER", "POSTCOPY"))

    def test_it_goes_on_where_both_halves_are_there(self):
        settlement = settled(self.SOURCE, self.DESTINATION, entry=self.ENTRY)
        assert done(settlement) == ["RESUME_POST_COPY node1"] and settlement.owner is None

    @pytest.mark.parametrize(
        ("source", "destination"),
        [
            (SOURCE, ABSENT),
            (ABSENT, DESTINATION),
            (SOURCE, SILENT),
            (SILENT, DESTINATION),
            (SOURCE, replace(DESTINATION, job="")),
            (DESTINATION, SOURCE),
            (SOURCE, COPY),
        ],
    )
    def test_a_half_is_never_touched(self, source, destination):
        for entry in (self.ENTRY, None):
            settlement = settled(source, destination, entry=entry)
            assert settlement.actions == () and settlement.result == cases.UNKNOWN
            assert settlement.needs and settlement.commands

    @pytest.mark.parametrize("job", ["", BROKEN])
    def test_one_whose_link_has_healed_is_looked_at_again(self, job):
        """libvirt ends the half at the source a moment after the destination has all memory."""
        half = replace(self.SOURCE, job=job)
        for entry in (self.ENTRY, None):
            found = settled(half, RUNS, entry=entry)
            assert (found.result, found.actions) == (cases.BUSY, ())
            assert found.commands == ("kvmcluster.recover web1",)
            found = settled(half, replace(RUNS, reason=MIGRATED), entry=entry)
            assert found.actions == () and "on node1: virsh destroy web1" in found.commands[1]
        third = settled(half, RUNS, RUNS, entry=self.ENTRY)
        assert third.owner is None and third.actions == ()

    def test_one_that_was_not_begun_in_post_copy_or_that_nobody_knows_is_for_people(self):
        assert settled(self.SOURCE, self.DESTINATION).actions == ()
        settlement = settled(self.SOURCE, self.DESTINATION, entry=None)
        assert settlement.actions == () and "--postcopy-resume" in settlement.commands[0]

    def test_one_that_is_under_way_is_waited_for(self):
        arriving = replace(self.DESTINATION, job=INCOMING)
        assert settled(self.SOURCE, arriving, entry=self.ENTRY).result == cases.BUSY

    def test_it_goes_on_with_the_flags_with_which_it_was_begun(self):
        known = cluster("node1", "node2")
        way = settlements.resumption(known, self.ENTRY, "192.0.2.12")
        assert way.flags == ("LIVE", "PEER2PEER", "POSTCOPY", "POSTCOPY_RESUME")
        assert way.parameters["LISTEN_ADDRESS"] == "192.0.2.12"
        assert known.node("node2").migration in way.connection

    def test_it_cannot_be_cancelled(self):
        with pytest.raises(WorldError, match="two nodes"):
            cancellation.refuse_to_cancel("web1", "node1", self.SOURCE)
        cancellation.refuse_to_cancel("web1", "node1", replace(RUNS, job=OUTGOING))


KEEPS, RUNS_KEPT = OFF, replace(RUNS, persistent=True)
AUTOSTARTS = replace(OFF, autostart=True)
KEPT = replace(ENTRY, persistent=True)
DEFINED = replace(KEPT, definitions="defined")


@pytest.mark.parametrize(
    ("entry", "source", "destination", "expected"),
    [
        pytest.param(ENTRY, ABSENT, RUNS, [], id="transient, moved"),
        pytest.param(ENTRY, ABSENT, RUNS_KEPT, [], id="somebody defined it since"),
        pytest.param(ENTRY, KEEPS, RUNS, [], id="transient, the only definition"),
        pytest.param(ENTRY, RUNS, KEEPS, [], id="transient, not moved, the only definition"),
        pytest.param(ENTRY, RUNS_KEPT, ABSENT, [], id="somebody defined it where it stayed"),
        pytest.param(KEPT, ABSENT, RUNS_KEPT, [], id="kept, moved"),
        pytest.param(KEPT, KEEPS, RUNS_KEPT, ["UNDEFINE node1"], id="kept, left at the source"),
        pytest.param(
            KEPT, KEEPS, RUNS, ["DEFINE node2", "UNDEFINE node1"], id="kept, not where it went"
        ),
        pytest.param(KEPT, RUNS_KEPT, AUTOSTARTS, ["UNDEFINE node2"], id="kept, not moved"),
        pytest.param(DEFINED, KEEPS, RUNS_KEPT, [], id="defined, moved"),
        pytest.param(DEFINED, KEEPS, RUNS, ["DEFINE node2"], id="defined, not where it went"),
        pytest.param(
            DEFINED, AUTOSTARTS, RUNS_KEPT, ["AUTOSTART_OFF node1"], id="defined, autostart left"
        ),
        pytest.param(
            DEFINED, RUNS_KEPT, AUTOSTARTS, ["AUTOSTART_OFF node2"], id="defined, not moved"
        ),
        pytest.param(
            DEFINED, KEEPS, replace(RUNS_KEPT, autostart=True), [], id="the owner's own autostart"
        ),
        pytest.param(ENTRY, replace(KEEPS, saved=True), RUNS, [], id="a saved state"),
        pytest.param(
            KEPT,
            replace(COPY, persistent=True),
            RUNS_KEPT,
            ["DESTROY_COPY node1", "UNDEFINE node1"],
            id="a copy that is kept",
        ),
    ],
)
def test_definitions_and_autostart(entry, source, destination, expected):
    settlement = settled(source, destination, entry=entry)
    assert done(settlement) == [*expected, "CLEAR node1"]
    assert bool(settlement.needs) is (source.saved or destination.saved)


def test_where_it_was_moved_on_nothing_is_undefined():
    for there in (RUNS, RUNS_KEPT):
        assert done(settled(KEEPS, ABSENT, there, entry=KEPT)) == ["CLEAR node1"]


def test_a_transient_guest_stays_transient_if_that_is_seen_at_once():
    observations = {"node1": ABSENT, "node2": RUNS_KEPT}
    settlement = settle("web1", {"node1": ENTRY}, observations, True, fresh=True)
    assert done(settlement) == ["UNDEFINE node2", "CLEAR node1"]


@pytest.mark.parametrize(
    ("inside", "detail"),
    [
        ("", ""),
        ("<seclabel type='dynamic' model='dac' relabel='yes'/>", ""),
        ("<seclabel type='none' model='selinux'/>", ""),
        ("<seclabel type='dynamic' model='selinux' relabel='yes'/>", "SELinux"),
        ("<devices><tpm><backend type='passthrough'/></tpm></devices>", ""),
        ("<devices><tpm><backend type='emulator'/></tpm></devices>", "TPM"),
    ],
)
def test_a_copy_whose_end_would_harm_the_owner_is_left(inside, detail):
    found = safeguards.hazard(f"<domain>{inside}</domain>")
    assert detail in found and bool(found) == bool(detail)
    assert "cannot be read" in safeguards.hazard("<domain>")


class TestForbids:
    """An action is looked at again immediately before."""

    @pytest.mark.parametrize("copy", Sighting)
    @pytest.mark.parametrize("owner", Sighting)
    def test_a_copy(self, copy, owner):
        action, nodes = Action(Do.DESTROY_COPY, "node2"), {"node1": observe(owner)}
        detail = forbids(action, "node1", {**nodes, "node2": observe(copy)})
        fits = owner is Sighting.RUNNING and copy in verdicts.COPIES
        assert (detail == "") is fits

    @pytest.mark.parametrize("job", [OUTGOING, INCOMING, BACKUP, ENDLESS, BROKEN])
    def test_a_job(self, job):
        busy = replace(RUNS, job=job)
        for do in set(Do) - HARMLESS:
            detail = forbids(Action(do, "node2"), "node1", {"node1": busy, "node2": COPY})
            assert job in detail and "node1" in detail

    def test_an_old_copy_that_nobody_owns(self):
        action = Action(Do.DESTROY_COPY, "node1")
        assert forbids(action, None, {"node1": COPY, "node2": ABSENT, "node3": OFF}) == ""
        for other in (RUNS, COPY, SILENT):
            assert forbids(action, None, {"node1": COPY, "node2": other, "node3": ABSENT})

    def test_a_definition(self):
        there = Action(Do.UNDEFINE, "node2")
        assert forbids(there, "node1", {"node1": RUNS, "node2": OFF}) == ""
        for one in (RUNS, COPY, ABSENT, SILENT, replace(OFF, saved=True)):
            assert forbids(there, "node1", {"node1": RUNS, "node2": one})
        for one in (ABSENT, OFF, COPY, SILENT):
            assert forbids(there, "node1", {"node1": one, "node2": OFF})
        own = Action(Do.UNDEFINE, "node1")
        assert forbids(own, "node1", {"node1": RUNS_KEPT}) == ""
        assert forbids(own, "node1", {"node1": OFF})


@st.composite
def sighted(draw):
    """A look, mostly one that settles: else nearly every draw would be UNKNOWN."""
    often = [one.sighting for one in (RUNS, COPY, COPY, OFF, OFF, ABSENT, ABSENT)]
    sighting = draw(st.sampled_from(often * 4) | st.sampled_from(Sighting))
    if sighting in (Sighting.ABSENT, Sighting.UNREACHABLE):
        return observe(sighting)
    kept, autostart, saved = draw(st.tuples(st.booleans(), st.booleans(), st.booleans()))
    jobs = (
        [BROKEN] if sighting in verdicts.IN_POST_COPY else [""] * 20 + [INCOMING, OUTGOING, BACKUP]
    )
    return replace(
        observe(sighting, job="" if sighting in INACTIVE else draw(st.sampled_from(jobs))),
        persistent=kept or sighting in INACTIVE,
        autostart=autostart,
        saved=saved and sighting in INACTIVE,
    )


NODES = ("node1", "node2", "node3", "node4")
LOOKS = st.fixed_dictionaries(dict.fromkeys(NODES, sighted()))
ENTRIES = st.dictionaries(
    st.sampled_from(NODES),
    st.tuples(st.sampled_from(NODES), st.booleans(), st.sampled_from(["shared", "defined"])),
    max_size=2,
).map(
    lambda drawn: {
        node: Entry(
            Move("web1", UUID, node, to if to != node else "node4" if node != "node4" else "node1"),
            f"2024-01-0{NODES.index(node) + 1}",
            BEGUN,
            persistent,
            definitions,
            ("POSTCOPY",),
        )
        for node, (to, persistent, definitions) in drawn.items()
    }
)


@MORE_EXAMPLES
@given(LOOKS, ENTRIES, st.sampled_from([True, True, True, False]))
def test_no_action_unless_allowed(observations, entries, steady):
    settlement = settle("web1", entries, observations, steady)
    runs = [node for node in NODES if observations[node].sighting is Sighting.RUNNING]
    at_work = any(one.job not in ("", BROKEN) for one in observations.values())
    dos = [action.do for action in settlement.actions]
    event(f"{settlement.result}: {sorted({do.name for do in dos})}")
    if at_work or not steady or settlement.result in (cases.CONFLICT, cases.BUSY):
        assert dos == []
    if settlement.result == cases.UNKNOWN:
        assert set(dos) <= {Do.RESUME_POST_COPY}
        assert settlement.needs or dos
    if settlement.owner:
        assert observations[settlement.owner].sighting in cases.OWNING
        assert len(runs) <= 1
        assert not any(
            observations[end].detail for entry in entries.values() for end in _ends(entry)
        )
    for action in settlement.actions:
        observed = observations[action.node]
        if action.do is Do.DESTROY_COPY:
            assert observed.sighting in verdicts.COPIES and action.node not in runs
            assert runs == [settlement.owner]
        if action.do is Do.UNDEFINE:
            assert not observed.saved and observed.persistent
            assert action.node != settlement.owner or observed.sighting in cases.OWNING
        if action.do is Do.AUTOSTART_OFF:
            assert observed.autostart and action.node != settlement.owner
    assert dos.count(Do.CLEAR) in (0, len(entries))
    assert Do.CLEAR not in dos[: len(dos) - dos.count(Do.CLEAR)]


def _ends(entry):
    return entry.move.source, entry.move.destination


def carried_out(action, owner, observations):
    """Return the looks after an action, as libvirt's own rules have it."""
    before = observations[action.node]
    gone = Observation(Sighting.ABSENT)
    after = {
        Do.DESTROY_COPY: replace(before, sighting=Sighting.SHUT_OFF) if before.persistent else gone,
        Do.UNDEFINE: replace(before, persistent=False, autostart=False)
        if action.node == owner
        else gone,
        Do.DEFINE: replace(before, persistent=True),
        Do.AUTOSTART_OFF: replace(before, autostart=False),
    }
    return {**observations, action.node: after.get(action.do, before)}


@pytest.mark.parametrize("entry", [None, ENTRY, KEPT, DEFINED])
def test_what_was_settled_stays_settled(entry):
    """Each action may be done when its turn comes, and afterwards nothing is left to be done."""
    copy_kept = replace(COPY, persistent=True, autostart=True)
    known = (RUNS, RUNS_KEPT, observe(Sighting.PAUSED_BY_USER), COPY, copy_kept)
    met = set()
    for drawn in itertools.product((*known, OFF, AUTOSTARTS, ABSENT, SILENT), repeat=3):
        observations = dict(zip(("node1", "node2", "node3"), drawn, strict=True))
        settlement = settled(**observations, entry=entry)
        owner = settlement.owner
        for action in settlement.actions:
            near = {action.node, owner} if owner else set(observations)
            assert forbids(action, owner, {node: observations[node] for node in near}) == ""
            observations = carried_out(action, owner, observations)
            met.add(action.do)
        again = settled(**observations, entry=entry)
        assert (again.owner, again.result) == (owner, settlement.result)
        assert {action.do for action in again.actions} <= {Do.CLEAR}
    expected = {
        None: {Do.DESTROY_COPY},
        KEPT: {Do.DESTROY_COPY, Do.UNDEFINE, Do.AUTOSTART_OFF, Do.CLEAR},
    }
    assert met >= expected.get(entry, {Do.DESTROY_COPY, Do.AUTOSTART_OFF, Do.CLEAR})


def test_a_name_means_one_guest():
    known = Observation(Sighting.RUNNING, "web1", UUID)
    identification.refuse_unless_one("web1", [("node1", ENTRY)], {"node1": known, "node2": ABSENT})
    with pytest.raises(InputError, match=f"{OTHER} on node2"):
        identification.refuse_unless_one(
            "web1", [], {"node1": known, "node2": replace(known, uuid=OTHER)}
        )
    with pytest.raises(InputError, match="in the journal of node1"):
        identification.refuse_unless_one(
            "web1", [("node1", ENTRY)], {"node2": replace(known, uuid=OTHER)}
        )
    with pytest.raises(InputError, match="no node has"):
        identification.refuse_unless_one("web1", [], {"node1": ABSENT, "node2": ABSENT})
    other = replace(ENTRY, move=replace(ENTRY.move, uuid=OTHER))
    with pytest.raises(InputError, match=f"give the UUID.*{UUID}.*{OTHER} in the journal of node1"):
        identification.refuse_unless_one("web1", [("node1", ENTRY), ("node1", other)], {})
    identification.refuse_unless_one("web1", [], {"node1": ABSENT, "node2": SILENT})
    assert settlements.no_responses("web1", {"node2": SILENT}).result == cases.UNKNOWN


def test_a_node_that_was_fenced_has_nothing():
    fenced = settlements.silent("no route", FencingRuling(True, "fenced by Pacemaker"))
    assert (fenced.sighting, fenced.detail) == (Sighting.ABSENT, "fenced by Pacemaker")
    alone = settlements.no_responses("web1", {"node2": fenced})
    assert (
        alone.result == cases.NOWHERE and "node2 was fenced by Pacemaker" in alone.verdict.sentence
    )
    both = {"node2": fenced, "node3": SILENT}
    assert settlements.no_responses("web1", both).needs == ("a response from node3",)
    found = settlements.silent("no route", FencingRuling(False, "its fencing failed"))
    assert found.sighting is Sighting.UNREACHABLE
    assert found.detail == "no route; its fencing failed"


def test_a_uuid_is_one_in_capitals_too():
    assert identification.name_of(UUID.upper()) == identification.name_of(UUID) == UUID
    assert identification.name_of("WEB1") == "WEB1" and not identification.is_uuid("WEB1")
    assert identification.name_of(UUID.replace("-", "").upper()) == UUID.replace("-", "").upper()


def test_a_migration_is_ended_by_whoever_watches_over_it_and_else_by_us():
    leaving = replace(RUNS, job=OUTGOING)
    soon, late = 0.0, cancellation.COURTESY

    def ending(observation, watched, waited, may_switch=False):
        how = cancellation.ending(observation, watched, waited, may_switch)
        return how and (how.ask, how.abort)

    assert ending(RUNS, watched=False, waited=soon) is None
    assert ending(leaving, watched=False, waited=soon) == (False, True)
    assert ending(leaving, watched=True, waited=soon) == (True, False)
    assert ending(leaving, watched=True, waited=late) == (True, True)
    # It may be in post-copy by now, and to end it would lose the guest.
    assert ending(leaving, watched=True, waited=late, may_switch=True) == (True, False)
    # It waits in the queue, or is about to begin.
    assert ending(RUNS, watched=True, waited=late) == (True, False)


def test_what_became_of_a_migration_that_was_cancelled():
    assert cancellation.after_cancel("node1", "node1") == "not_moved"
    assert cancellation.after_cancel("node2", "node1") == "moved"
    assert cancellation.after_cancel(None, "node1") == "unknown"


def test_a_look_in_words():
    assert (
        settlements.text(replace(RUNS, job=OUTGOING)) == "running; an outgoing migration is active"
    )
    assert settlements.text(SILENT) == "unreachable; no route"


def test_without_a_journal_the_mark_says_where_the_copy_came_from():
    """It is the only thing left that does; once the guest runs nothing else removes the mark."""
    copy = Observation(Sighting.WAITING, "web1", UUID, mark="node1 2026-01-01T00:00:00.000+00:00")
    found = settled(ABSENT, copy, entry=None)
    assert found.result == cases.UNKNOWN and not found.actions
    assert found.needs == ("the journal entry of its migration, on node1",)
    assert found.commands == (
        "on node1: tail /var/log/libvirt/qemu/web1.log",
        "only if it did not go on on node1: on node2: virsh resume web1",
        "otherwise its copy is out of date: on node2: virsh destroy web1, then start it again",
        "once it runs there: on node2: virsh metadata web1 urn:saltext-kvmcluster:handover --live"
        " --remove",
    )
    strange = settled(ABSENT, replace(copy, mark="?"), entry=None)
    assert strange.commands[0].startswith("on the node that it came from: ")
