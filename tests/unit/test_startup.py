"""May a guest start? Only when every node has answered that it does not have it."""

import itertools
from dataclasses import replace

import pytest
from material import cluster

from saltext_kvmcluster.core.cordons import Cordon
from saltext_kvmcluster.core.errors import InputError, WorldError
from saltext_kvmcluster.core.migration.migration import Host
from saltext_kvmcluster.core.ownership import locations, startup
from saltext_kvmcluster.core.ownership.startup import May, NodeAnswer, Request, decide, ending
from saltext_kvmcluster.core.pacemaker.fencing import FencingRuling
from saltext_kvmcluster.core.pillar.parser import from_pillar
from saltext_kvmcluster.core.verdicts import ENDLESS, OUTGOING, Observation, Sighting

UUID, OTHER = "1" * 8, "2" * 8
REQUEST = Request("web1", UUID, "node1", "shared")
NODES = ("node1", "node2", "node3")
ACTIVE = [
    sighting
    for sighting in Sighting
    if sighting not in (Sighting.SHUT_OFF, Sighting.ABSENT, Sighting.UNREACHABLE)
]
SETTLED = (Sighting.RUNNING, Sighting.RUNNING_IN_POST_COPY, Sighting.PAUSED_BY_USER)


def has(sighting, name="web1", uuid=UUID, **more):
    """Return what a node says that has a guest of that name and UUID."""
    observation = Observation(sighting, name, uuid, **more)
    same_uuid = observation if uuid == UUID else startup.NOWHERE
    return NodeAnswer(same_uuid, observation if name == "web1" else startup.NOWHERE)


def world(**detail):
    """Return what three nodes say; those that are not named do not have the guest."""
    hosts = {node: Host(f"uuid of {node}", node) for node in NODES}
    full = {}
    for node in NODES:
        asked = detail.get(node, NodeAnswer())
        full[node] = (
            asked if asked.detail else NodeAnswer(asked.same_uuid, asked.same_name, hosts[node])
        )
    return full


SILENT = NodeAnswer(detail="no route")


def test_it_may_start_where_no_node_has_it():
    assert decide(REQUEST, world()).may is May.START


@pytest.mark.parametrize("node", NODES)
def test_one_silent_node_forbids_it_and_is_named(node):
    decision = decide(REQUEST, world(**{node: SILENT}))
    assert decision.may is May.REFUSED
    assert f"no response from {node}, which may have it: no route" in decision.sentence
    assert f"force_unreachable={node}" in decision.sentence


def test_a_node_whose_libvirt_alone_is_silent_is_not_to_be_declared_offline():
    alive = replace(SILENT, alive="node3-mig accepts ssh logins")
    for declared in (frozenset(), frozenset({"node3"})):
        request = replace(REQUEST, declared_offline=declared)
        decision = decide(request, world(node2=SILENT, node3=alive))
        assert decision.may is May.REFUSED
        other, sentence = decision.sentence.split("; no response from libvirt on ")
        assert "force_unreachable=node2" in other and "force_unreachable" not in sentence
        assert "node3 is not off: node3-mig accepts ssh logins" in sentence
        assert sentence.endswith("on node3: systemctl restart libvirtd (or virtqemud)")
        assert ("power it off" in sentence) == bool(declared)


def test_nothing_starts_on_a_closed_node_and_what_runs_elsewhere_runs():
    request = replace(REQUEST, cordoned=Cordon("2026-01-01T10:00:00+00:00", "updates"))
    decision = decide(request, world())
    assert decision.may is May.REFUSED
    assert decision.sentence == (
        "node1 is cordoned since 2026-01-01T10:00:00+00:00: updates; to uncordon it: salt-run"
        " kvmcluster.undrain node1"
    )
    assert decide(request, world(node2=has(Sighting.RUNNING))).may is May.RUNS


def test_an_administrators_word_counts_for_the_node_that_he_named():
    forced = Request("web1", UUID, "node1", "shared", frozenset({"node3"}))
    allowed = decide(forced, world(node3=SILENT))
    assert (
        allowed.may is May.START
        and "node3 declared offline (force_unreachable)" in allowed.sentence
    )
    assert decide(forced, world(node2=SILENT)).may is May.REFUSED
    assert decide(forced, world(node2=SILENT, node3=SILENT)).may is May.REFUSED
    assert decide(forced, world()).sentence == "no node has it"
    alive = decide(forced, world(node3=replace(SILENT, alive="node3-mig responds to ping")))
    assert alive.may is May.REFUSED and "node3 is not off" in alive.sentence


def test_his_word_does_not_count_against_what_a_node_says():
    forced = Request("web1", UUID, "node1", "shared", frozenset(NODES[1:]))
    decision = decide(forced, world(node3=has(Sighting.RUNNING)))
    assert (decision.may, decision.owner) == (May.RUNS, "node3")


@pytest.mark.parametrize(("sighting", "node"), [*itertools.product(ACTIVE, NODES)])
def test_it_never_starts_while_a_node_has_it_in_whatever_state(sighting, node):
    for peers in ({}, {"node2": SILENT}):
        decision = decide(REQUEST, world(**{**peers, node: has(sighting)}))
        stuck = sighting in (Sighting.PAUSED_OTHERWISE, Sighting.PAUSED_BY_ERROR)
        rest = May.REFUSED if stuck else May.WAIT
        assert decision.may is (May.RUNS if sighting in SETTLED else rest)
        assert stuck is ("virsh domstate --reason web1" in decision.sentence)
        assert node in decision.sentence
        assert decision.owner == (node if sighting in SETTLED else None)


def test_a_guest_on_the_move_runs_at_its_source():
    moving = world(node2=has(Sighting.RUNNING), node3=has(Sighting.PAUSED_FOR_MIGRATION))
    assert (decide(REQUEST, moving).may, decide(REQUEST, moving).owner) == (May.RUNS, "node2")
    assert "it is paused for migration on node3" in decide(REQUEST, moving).sentence
    changing = world(
        node2=has(Sighting.PAUSED_IN_POST_COPY, job=OUTGOING),
        node3=has(Sighting.RUNNING_IN_POST_COPY),
    )
    decision = decide(REQUEST, changing)
    assert decision.may is May.WAIT and "check again" in decision.sentence


@pytest.mark.parametrize("node", NODES)
@pytest.mark.parametrize("sighting", [Sighting.SHUT_OFF, Sighting.PAUSED_OTHERWISE])
def test_a_job_is_waited_for_wherever_it_is(node, sighting):
    decision = decide(REQUEST, world(**{node: has(sighting, job=ENDLESS)}))
    assert decision.may is May.WAIT and f"{ENDLESS} is active" in decision.sentence


def test_a_guest_that_runs_twice_is_an_alarm():
    decision = decide(REQUEST, world(node2=has(Sighting.RUNNING), node3=has(Sighting.RUNNING)))
    assert (decision.may, decision.owner) == (May.REFUSED, None)
    assert "RUNS TWICE, on node2 and on node3" in decision.sentence
    for other in (Sighting.PAUSED_BY_USER, Sighting.PAUSED_OTHERWISE):
        decision = decide(REQUEST, world(node2=has(Sighting.RUNNING), node3=has(other)))
        assert decision.may is May.REFUSED and "on node2 and on node3" in decision.sentence


@pytest.mark.parametrize(
    ("node", "found", "detail"),
    [
        ("node3", has(Sighting.SHUT_OFF, uuid=OTHER), "node3 has another guest of that name"),
        ("node3", has(Sighting.RUNNING, uuid=OTHER), "node3 has another guest of that name"),
        ("node3", has(Sighting.SHUT_OFF, name="web2"), "node3 has a guest web2 of the same UUID"),
        (
            "node3",
            has(Sighting.SHUT_OFF, autostart=True),
            "virsh autostart --disable web1 on node3",
        ),
        ("node1", has(Sighting.SHUT_OFF), "node1 has an old definition of it"),
        ("node1", has(Sighting.SHUT_OFF), "virsh undefine --keep-nvram web1 on node1"),
        ("node3", has(Sighting.SHUT_OFF, saved=True), "virsh managedsave-remove web1"),
    ],
)
def test_what_is_in_the_way_is_named_with_a_remedy(node, found, detail):
    decision = decide(REQUEST, world(**{node: found}))
    assert decision.may is May.REFUSED and detail in decision.sentence


def test_a_definition_that_is_wanted_is_not_in_the_way():
    defined = Request("web1", UUID, "node1", "defined")
    kept = {node: has(Sighting.SHUT_OFF) for node in NODES}
    assert decide(defined, world(**kept)).may is May.START
    assert decide(REQUEST, world(node2=has(Sighting.SHUT_OFF))).may is May.START


def test_without_a_definition_it_is_looked_for_by_name_and_never_started():
    why = "there is no definition"
    unknown = Request("web1", "", "node1", "shared", detail=why, undefined=True)
    named = NodeAnswer(same_name=Observation(Sighting.RUNNING, "web1", OTHER))
    assert decide(unknown, world(node2=named)).owner == "node2"
    assert decide(unknown, world()) == startup.Decision(May.UNDEFINED, "there is no definition")
    assert decide(unknown, world(node2=SILENT)).may is May.REFUSED
    garbled = Request("web1", "", "node1", "shared", detail="it is no XML")
    assert decide(garbled, world()).may is May.REFUSED


def test_two_names_of_one_host_leave_another_unasked():
    asked = world()
    asked["node3"] = asked["node2"]
    decision = decide(REQUEST, asked)
    assert decision.may is May.REFUSED and "node2 and node3 are one host" in decision.sentence


@pytest.mark.parametrize(
    ("detail", "words", "returned", "result", "owner"),
    [
        ({"node1": has(Sighting.RUNNING)}, "", True, "started", "node1"),
        ({"node1": has(Sighting.RUNNING), "node2": SILENT}, "", True, "started", "node1"),
        ({"node1": has(Sighting.RUNNING)}, "it exists", True, "running", "node1"),
        ({"node2": has(Sighting.RUNNING)}, "no lock", True, "running", "node2"),
        ({}, "no lock", True, "not_started", None),
        ({}, "", True, "not_started", None),
        ({"node2": SILENT}, "no lock", True, "not_started", None),
        ({"node1": SILENT}, "it is gone", True, "unknown", None),
        ({}, "", False, "unknown", None),
        ({"node1": has(Sighting.PAUSED_OTHERWISE)}, "", True, "unknown", None),
        (
            {"node1": has(Sighting.RUNNING), "node2": has(Sighting.RUNNING)},
            *("", True, "unknown", None),
        ),
    ],
)
def test_the_result_is_what_was_seen(detail, words, returned, result, owner):
    done = ending(REQUEST, world(**detail), words, returned)
    assert (done.result, done.owner) == (result, owner), done
    assert words in done.reason
    keys = ["kind", "guest", "uuid", "node", "result", "owner", "reason", "started", "elapsed"]
    assert list(done.to_dict()) == [*keys, "warnings"] and done.to_dict()["kind"] == "start"


@pytest.mark.parametrize(
    ("detail", "stayed", "result"),
    [
        ({}, True, "stopped"),
        ({}, False, "stopped"),
        ({"node1": has(Sighting.SHUT_OFF)}, True, "stopped"),
        ({"node3": SILENT}, True, "stopped"),
        ({"node3": SILENT}, False, "unknown"),
        ({"node1": SILENT}, True, "unknown"),
        ({"node1": has(Sighting.RUNNING)}, True, "not_stopped"),
        ({"node2": has(Sighting.RUNNING)}, True, "not_stopped"),
        ({"node2": has(Sighting.RUNNING), "node3": SILENT}, False, "not_stopped"),
    ],
)
def test_stopped_is_what_runs_nowhere(detail, stayed, result):
    done = startup.stopped(REQUEST, world(**detail), ["libvirt said: no"], stayed)
    assert done.result == result and "libvirt said: no" in done.reason
    assert done.to_dict()["kind"] == "shutdown"
    assert all(f"no response from {node}" in done.reason for node in detail if detail[node].detail)


def test_half_a_guest_that_waits_for_the_other_half_names_no_owner():
    for sighting in (Sighting.PAUSED_FOR_MIGRATION, Sighting.PAUSED_IN_POST_COPY):
        done = startup.stopped(REQUEST, world(node2=has(sighting)), [], stayed=True)
        assert (done.result, done.owner) == ("not_stopped", None)
        assert done.reason == f"it is {sighting.value} on node2"
    done = startup.stopped(REQUEST, world(node2=has(Sighting.RUNNING)), [], stayed=True)
    assert (done.result, done.owner) == ("not_stopped", "node2")


@pytest.mark.parametrize(
    ("observation", "why"),
    [
        (Observation(Sighting.RUNNING), ""),
        (Observation(Sighting.PAUSED_OTHERWISE), ""),
        (Observation(Sighting.RUNNING, job=OUTGOING), OUTGOING),
        (Observation(Sighting.RUNNING_IN_POST_COPY), "post-copy"),
        (Observation(Sighting.PAUSED_IN_POST_COPY), "post-copy"),
        (Observation(Sighting.PAUSED_FOR_MIGRATION), "migration"),
        (Observation(Sighting.UNREACHABLE, detail="no route"), "no route"),
    ],
)
def test_the_plug_of_a_guest_on_the_move_is_not_pulled(observation, why):
    detail = startup.forbids_destroy(observation)
    assert why in detail and bool(detail) is bool(why)


def test_the_administrators_word_is_about_peers():
    found = cluster(*NODES)
    assert startup.declared_offline(found, "node1", None) == frozenset()
    assert startup.declared_offline(found, "node1", "node2") == {"node2"}
    assert startup.declared_offline(found, "node1", ["node2", "node3"]) == {"node2", "node3"}
    for nodes, detail in (
        ("node1", "this node itself"),
        (["node4"], "not a node"),
        ([2], "want a list of nodes"),
        ({"node2": 1}, "want a list of nodes"),
        (True, "want a list of nodes"),
    ):
        with pytest.raises(InputError, match=detail):
            startup.declared_offline(found, "node1", nodes)


def test_home_is_the_pillars_word_or_the_callers():
    nodes = dict.fromkeys(NODES)
    guests = {"list": {"web1": {"home": "node2"}, "web2": None}}
    found = from_pillar({"kvmcluster": {"name": "a", "nodes": nodes, "guests": guests}})
    assert locations.home(found, "web1", None) == "node2"
    assert locations.home(found, "web1", "node3") == "node3"
    for guest in ("web2", "web3"):
        with pytest.raises(InputError, match=f"list:{guest}:home is not set"):
            locations.home(found, guest, None)
    with pytest.raises(InputError, match="not a node"):
        locations.home(found, "web1", "node9")


@pytest.mark.parametrize("reason", [None, "", "  ", "a\nb", "\x1b[2J", 5, "x" * 501])
def test_a_freeze_needs_a_reason_that_can_be_read(reason):
    with pytest.raises(InputError, match="reason: want a line of text"):
        startup.freezing_reason(reason)
    assert startup.freezing_reason(" ask Ann ") == "ask Ann"


def test_a_claim_names_its_holder_and_has_a_file_of_its_node_where_homes_may_be_shared():
    assert startup.claim_order(["node2", "node10", "node1"]) == ["node1", "node10", "node2"]
    assert startup.claimed("node2", "node1\n").startswith("node1 is starting it")
    assert startup.claimed("node2", "\x1b[2J" + "x" * 1000).isprintable()
    assert startup.claimed("node2", "").startswith("another node is starting it")


def test_a_start_is_begun_only_in_time_and_while_all_claims_are_held():
    may = startup.Decision(May.START, "no node has it")
    assert startup.last_decision(may, [], is_over=False) == may
    late = startup.last_decision(may, [], is_over=True)
    assert late.may is May.REFUSED and "timeout" in late.sentence
    lost = startup.last_decision(may, ["node2", "node3"], is_over=False)
    assert lost.may is May.REFUSED
    assert lost.sentence == "the claim on node2 and on node3 was lost"
    runs = startup.Decision(May.RUNS, "it runs", "node2")
    assert startup.last_decision(runs, ["node2"], is_over=True) == runs


def test_who_must_wait_waits_until_time_is_up():
    waits = startup.Decision(May.WAIT, "it is leaving")
    startup.refuse_unless_waiting(REQUEST, waits, is_over=False)
    for may, is_over in ((May.WAIT, True), (May.REFUSED, False), (May.UNDEFINED, False)):
        with pytest.raises(WorldError, match="web1 was not started on node1: it is leaving"):
            startup.refuse_unless_waiting(REQUEST, replace(waits, may=may), is_over)
    garbled = replace(REQUEST, detail="it is no XML")
    with pytest.raises(InputError, match=r"\Ait is no XML\Z"):
        refused = startup.Decision(May.REFUSED, "it is no XML; no response from node2")
        startup.refuse_unless_waiting(garbled, refused, is_over=False)


def test_what_the_pillar_forbids_does_not_hide_that_a_guest_runs_twice():
    elsewhere = replace(REQUEST, detail="web1 may not run on node1")
    twice = startup.Decision(May.REFUSED, "it runs on node2 and node3")
    with pytest.raises(WorldError, match="it runs on node2 and node3"):
        startup.refuse_unless_waiting(elsewhere, twice, is_over=False)


UNGUARDED = ("vda, nbd:web1: QEMU's locks do not reach other nodes on a nbd disk",)


def test_an_unguarded_disk_asks_for_a_second_word_that_names_the_risk():
    forced = Request("web1", UUID, "node1", "shared", frozenset({"node3"}), unguarded=UNGUARDED)
    refused = decide(forced, world(node3=SILENT))
    assert refused.may is May.REFUSED
    for words in ("nbd:web1", "keeps node3 from", "destroys", "force_unguarded=true"):
        assert words in refused.sentence
    assert decide(replace(forced, force_unguarded=True), world(node3=SILENT)).may is May.START
    assert decide(replace(forced, unguarded=()), world(node3=SILENT)).may is May.START


def test_the_second_word_is_not_asked_for_where_all_nodes_answer():
    forced = Request("web1", UUID, "node1", "shared", frozenset({"node3"}), unguarded=UNGUARDED)
    assert decide(forced, world()).may is May.START


def test_the_second_word_is_no_word_for_a_node_that_responds():
    forced = Request("web1", UUID, "node1", "shared", frozenset({"node3"}), force_unguarded=True)
    alive = decide(forced, world(node3=replace(SILENT, alive="node3-mig responds to ping")))
    assert alive.may is May.REFUSED and "node3-mig responds to ping" in alive.sentence


FENCED = replace(SILENT, fenced=FencingRuling(True, "fenced by Pacemaker"))


def test_a_node_that_was_fenced_is_off():
    free = {"node1": NodeAnswer(), "node2": FENCED}
    decision = decide(replace(REQUEST, unguarded=("vda",)), free)
    assert decision.may is May.START
    assert decision.sentence == "no node has it; node2 was fenced by Pacemaker"
    again = replace(FENCED, alive="node2 answers ping")
    assert decide(REQUEST, {**free, "node2": again}).may is May.REFUSED
    doubted = replace(SILENT, fenced=FencingRuling(False, "its fencing failed"))
    decision = decide(REQUEST, {**free, "node2": doubted})
    assert decision.may is May.REFUSED
    assert "no route; its fencing failed; if node2 is off" in decision.sentence


def test_a_word_that_pacemaker_bears_out_needs_no_guard():
    declared = replace(REQUEST, declared_offline=frozenset({"node2"}), unguarded=("vda",))
    assert decide(declared, {"node1": NodeAnswer(), "node2": SILENT}).may is May.REFUSED
    decision = decide(declared, {"node1": NodeAnswer(), "node2": FENCED})
    assert decision.may is May.START and "force_unreachable" not in decision.sentence
