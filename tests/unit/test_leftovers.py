"""What was left half-way in Pacemaker: named with its remedy, ended only where that is certain."""

from dataclasses import replace

import pacemakers
import pytest

from saltext_kvmcluster.core.ha import holds, leftovers
from saltext_kvmcluster.core.ha.leftovers import End
from saltext_kvmcluster.core.pacemaker import managers, pacemaker_facts
from saltext_kvmcluster.core.pacemaker.pacemaker_tools import CONFIGURATION, NAME
from saltext_kvmcluster.core.verdicts import Observation, Sighting

NODES = ("node1", "node2", "node3")
BEGAN = "2026-11-29T10:45:06.123+00:00"
ABSENT, RUNNING = Observation(Sighting.ABSENT), Observation(Sighting.RUNNING)


def view(verb="", standbys=(), quorum=True, process="", **state):
    """A Pacemaker whose web1 is held for a verb, or in a state."""
    found = pacemakers.view("running")
    mark = f"{verb} node1 {BEGAN} {process}".rstrip() if verb else ""
    guests = tuple(
        replace(one, mark=mark, managed=not mark) if one.id == "web1" else one
        for one in found.configuration.guests
    )
    shown = replace(found.status.resources["web1"], **{"managed": not mark, **state})
    status = replace(
        found.status, quorum=quorum, resources={**found.status.resources, "web1": shown}
    )
    configuration = replace(found.configuration, guests=guests, standbys=dict(standbys))
    return replace(found, configuration=configuration, status=status)


def sentences(found, moving=(), uncordoned=NODES):
    return leftovers.sentences({"node1": found, "node2": found, "node3": None}, moving, uncordoned)


def end(found, result):
    management = managers.of("web1", {"node1": found})
    assert management.managers
    return leftovers.end(management, result)


def test_nothing_is_left_of_what_pacemaker_manages():
    assert sentences(view()) == []
    assert end(view(), "running") is None


@pytest.mark.parametrize("verb", [holds.MIGRATE, holds.START, holds.SHUTDOWN, "dance"])
def test_a_hold_is_named_once_with_its_remedy(verb):
    (sentence,) = sentences(view(verb))
    assert "web1 is held from Pacemaker" in sentence
    assert sentence.endswith("salt-run kvmcluster.recover web1")


def test_the_guest_of_our_agent_is_named_though_no_definition_can_be_read():
    gone = {"/srv/guests/web1.xml": pacemakers.UNREAD}
    found = pacemakers.of_our_agent(guests=gone, guest="mail")
    state = replace(found.status.resources["web1"], blocked=True)
    found = replace(found, status=replace(found.status, resources={"web1": state}))
    (sentence,) = sentences(found)
    assert sentence.startswith("mail is blocked") and sentence.endswith("recover mail")
    assert sentences(found, moving={"mail"}) == []


def test_a_hold_is_no_leftover_while_its_guest_moves():
    assert sentences(view(holds.MIGRATE), moving={"web1"}) == []


def by_nodes(**views):
    """What is left, and what is at work, by the views of the nodes that answered."""
    found = {node: replace(one, name=node) for node, one in views.items()}
    return leftovers.sentences(found, (), NODES), leftovers.at_work(found)


WORKS = "812:4711"
"""The number and the start time of the process that holds web1 from node1."""


def working(**changes):
    held = view(holds.MIGRATE, process=WORKS)
    return replace(held, working=frozenset({f"{holds.MIGRATE} node1 {BEGAN} {WORKS}"}), **changes)


def test_a_hold_is_no_leftover_while_its_command_is_at_work():
    held = view(holds.MIGRATE, process=WORKS)
    left, at_work = by_nodes(node1=working(), node2=held)
    assert left == []
    assert at_work == {
        "web1": "web1 is held from Pacemaker, as its resource web1, by migrate on node1, begun"
        f" {BEGAN}, which is at work"
    }


def test_a_hold_that_its_own_node_does_not_show_was_made_or_ended_meanwhile():
    left, at_work = by_nodes(node1=view(), node2=view(holds.MIGRATE, process=WORKS))
    assert left == [] and [*at_work] == ["web1"]


@pytest.mark.parametrize(
    "views",
    [
        {"node1": view(holds.MIGRATE, process=WORKS), "node2": view(holds.MIGRATE, process=WORKS)},
        {"node2": view(holds.MIGRATE, process=WORKS)},
        {"node1": view(holds.MIGRATE), "node2": view(holds.MIGRATE)},
        {"node1": view(), "node2": view(holds.MIGRATE)},
        {"node1": working(runs=False), "node2": view(holds.MIGRATE, process=WORKS)},
    ],
)
def test_a_hold_of_which_that_is_not_known_is_left(views):
    left, at_work = by_nodes(**views)
    assert len(left) == 1 and at_work == {}


STAT = "812 (a (b) c) {} 1 {} 4711 0 0"


@pytest.mark.parametrize(
    "stat, is_at_work",
    [
        (STAT.format("S", " ".join("0" * 17)), True),
        (STAT.format("Z", " ".join("0" * 17)), False),
        (STAT.format("S", " ".join("0" * 18)), False),
        ("", False),
        ("812 (x) S", False),
    ],
)
def test_whether_a_process_holds_it_is_seen_on_its_own_node(stat, is_at_work):
    mark = f"{holds.MIGRATE} node1 {BEGAN} {WORKS}"
    pairs = '<nvpair id="h" name="is-managed" value="false"/>'
    pairs += f'<nvpair id="k" name="kvmcluster-hold" value="{mark}"/>'
    text = pacemakers.printed("running", "cib")
    at = text.index(">", text.index('<primitive id="web1"')) + 1
    held = f'<meta_attributes id="kvmcluster-hold-web1" score="INFINITY">{pairs}</meta_attributes>'
    cib = (0, text[:at] + held + text[at:], "")
    outputs = pacemakers.outputs(**{CONFIGURATION: cib})
    asked = pacemaker_facts.holder_commands(outputs)
    assert asked == {"pcmk_holder 812": ("cat", "/proc/812/stat")}
    assert pacemaker_facts.holder_commands({**outputs, NAME: (0, "node2", "")}) == {}
    found = pacemaker_facts.parse({**outputs, "pcmk_holder 812": (0, stat, "")})
    assert found.working == ({mark} if is_at_work else set())


def test_a_part_without_quorum_knows_an_old_state():
    assert sentences(view(holds.MIGRATE, quorum=False)) == []


def test_a_frozen_guest_is_no_leftover_but_known():
    assert sentences(view(holds.FREEZE)) == []
    (sentence,) = leftovers.frozen({"node1": view(holds.FREEZE), "node2": None})
    assert sentence.endswith("salt node1 kvmcluster.unfreeze web1")


def test_what_is_blocked_is_named_with_where_pacemaker_takes_it_to_be():
    (sentence,) = sentences(view(managed=False, blocked=True, nodes=("node1", "node2")))
    assert "active on node1, node2" in sentence
    assert sentence.endswith("salt-run kvmcluster.recover web1")


def test_a_blocked_part_of_a_group_is_for_a_person():
    found = view(managed=False, blocked=True)
    guests = tuple(replace(one, moved="database") for one in found.configuration.guests)
    grouped = replace(found, configuration=replace(found.configuration, guests=guests))
    (sentence,) = sentences(grouped)
    assert sentence.endswith("crm_resource --refresh -r web1")
    assert end(grouped, "running") is None


def test_our_standby_is_left_only_where_guests_may_come():
    found = view(standbys={"node2": "drain node2 now"})
    (sentence,) = sentences(found)
    assert sentence.endswith("salt-run kvmcluster.undrain node2")
    assert sentences(found, uncordoned=("node1", "node3")) == []


def test_a_standby_of_somebody_else_is_named_with_its_end():
    found = view(standbys={"node2": "drain node2 now"})
    members = {name: replace(one, standby=True) for name, one in found.status.members.items()}
    seen = replace(found, status=replace(found.status, members=members))
    told = leftovers.standbys_of_others({"node1": seen, "node2": seen, "node3": None})
    assert [one.split()[0] for one in told] == ["node1", "node3"]
    assert "crm_attribute -N node3 -n standby -D" in told[1]
    assert leftovers.standbys_of_others({"node1": view()}) == []


@pytest.mark.parametrize(
    ("verb", "result", "target", "role", "stays_off"),
    [
        (holds.MIGRATE, "running", "", "", False),
        (holds.MIGRATE, "nowhere", "", "", False),
        (holds.MIGRATE, "running", "Stopped", "", False),
        (holds.START, "running", "Stopped", "Started", False),
        (holds.START, "nowhere", "Stopped", "", False),
        (holds.SHUTDOWN, "running", "Stopped", "Started", False),
        (holds.SHUTDOWN, "nowhere", "", "Stopped", True),
        (holds.FREEZE, "nowhere", "", "", False),
        ("dance", "running", "", "", False),
    ],
)
def test_how_a_hold_ends(verb, result, target, role, stays_off):
    mark = f"{verb} node1 {BEGAN}"
    assert end(view(verb, target=target), result) == End("web1", mark, role, stays_off)


def test_a_frozen_guest_that_runs_stays_held():
    assert end(view(holds.FREEZE), "running") is None


def test_what_is_blocked_is_looked_for_anew():
    assert end(view(managed=False, blocked=True), "running") == End("web1", "")


@pytest.mark.parametrize(
    ("result", "owner", "seen", "why"),
    [
        ("running", "node1", {"node1": RUNNING}, ""),
        ("paused", "node1", {"node1": Observation(Sighting.PAUSED_BY_USER)}, ""),
        ("nowhere", None, {}, ""),
        ("nowhere", None, {"node1": Observation(Sighting.ABSENT, detail="fenced")}, ""),
        ("nowhere", None, {"node1": Observation(Sighting.SHUT_OFF)}, ""),
        ("running", "node1", {"node1": RUNNING, "node2": RUNNING}, "active on node1, node2"),
        ("running", "node1", {"node2": RUNNING}, "active on node2"),
        ("nowhere", None, {"node3": Observation(Sighting.WAITING)}, "active on node3"),
        (
            "running",
            "node1",
            {"node1": RUNNING, "node3": Observation(Sighting.UNREACHABLE, detail="timed out")},
            "no response from node3: timed out",
        ),
        (
            "running",
            "node1",
            {"node1": Observation(Sighting.RUNNING, job="a migration to another node")},
            "a migration to another node is active on node1",
        ),
        ("busy", None, {}, "not certain (busy)"),
        ("stands", "node1", {"node1": Observation(Sighting.PAUSED_FOR_MIGRATION)}, "not certain"),
        ("conflict", None, {}, "not certain"),
    ],
)
def test_nothing_is_ended_unless_every_node_answered_and_it_is_on_one(result, owner, seen, why):
    found = leftovers.forbids_end(result, owner, {**dict.fromkeys(NODES, ABSENT), **seen})
    assert why in found
    assert bool(found) == bool(why)


@pytest.mark.parametrize(
    ("found", "why"),
    [
        (None, "cannot be read"),
        (view(), ""),
        (view(blocked=True, nodes=("node1", "node2")), "active on node1, node2"),
    ],
)
def test_whether_it_is_still_blocked(found, why):
    assert why in leftovers.blocked(found, "web1")
    assert bool(leftovers.blocked(found, "web1")) == bool(why)


def test_a_resource_that_is_gone_is_not_known_to_be_free():
    assert leftovers.blocked(view(), "web9") == "crm_mon does not show it"
