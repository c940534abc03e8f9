"""What a migration is refused for, how it is to be done, what is said of it afterwards."""

from dataclasses import replace

import pytest

from saltext_kvmcluster.core import xmltext
from saltext_kvmcluster.core.errors import InputError, WorldError
from saltext_kvmcluster.core.findings import BLOCK, OK, PROBLEM, SEE, UNKNOWN, WARN, Finding
from saltext_kvmcluster.core.holders import Holder
from saltext_kvmcluster.core.migration import migration, plans, results
from saltext_kvmcluster.core.migration.migration import Move
from saltext_kvmcluster.core.migration.results import Statistics
from saltext_kvmcluster.core.pillar.options import Options
from saltext_kvmcluster.core.pillar.parser import from_pillar
from saltext_kvmcluster.core.text import MAX_LENGTH, one_line
from saltext_kvmcluster.core.verdicts import Observation, Owner, Sighting, Verdict

UUID = "11111111-1111-1111-1111-111111111111"
ABSENT = Observation(Sighting.ABSENT)
RUNNING = Observation(Sighting.RUNNING, name="web", uuid=UUID)
DEFINED = Observation(Sighting.SHUT_OFF, name="web", uuid=UUID, persistent=True)
SILENT = Observation(Sighting.UNREACHABLE, detail="node2 said nothing")
MOVE = Move("web", UUID, "node1", "node2")


def cluster(**more):
    nodes = {"node1": {}, "node2": {"names": ["node2.example.com"], "migration": "node2-mig"}}
    return from_pillar({"kvmcluster": {"name": "lab", "nodes": nodes, **more}})


def bad(check, sentence, remedy="", outcome=PROBLEM, severity=BLOCK):
    return Finding(check, outcome, sentence, remedy, severity)


def test_what_is_ok_and_what_is_a_warning_does_not_refuse():
    fine = [Finding("x", OK, "well"), bad("y", "not quite", severity=WARN)]
    assert migration.refuse_if_blocked(MOVE, fine) is None


def test_a_refusal_names_every_reason_and_what_to_do():
    found = [bad("guest.uuid", "it is there twice", "virsh undefine it"), bad("x", "y", "z")]
    with pytest.raises(WorldError) as refused:
        migration.refuse_if_blocked(MOVE, [Finding("ok", OK, "well"), *found])
    assert str(refused.value) == (
        "web was not migrated to node2: guest.uuid: it is there twice (virsh undefine it); x: y (z)"
    )


def test_a_refusal_names_the_cause_and_not_what_is_unknown_because_of_it():
    follows = bad("cpu.model", "not known", f"{SEE}node.daemon", UNKNOWN)
    with pytest.raises(WorldError, match=r"node\.daemon: no route to host$"):
        migration.refuse_if_blocked(MOVE, [bad("node.daemon", "no route to host"), follows])
    with pytest.raises(WorldError, match=r"cpu\.model: not known"):
        migration.refuse_if_blocked(MOVE, [follows])


def test_a_second_call_is_refused_by_name():
    error = migration.at_work(MOVE, Holder("process 7 (x), stopped", "kill -CONT 7"))
    assert error.holder == "process 7 (x), stopped; kill -CONT 7"
    assert str(error) == (
        "web was not migrated to node2: guest.blockers: another kvmcluster command is at work on"
        " web on node1: process 7 (x), stopped (kill -CONT 7)"
    )


@pytest.mark.parametrize(
    ("guest", "destination", "words"),
    [
        ("web", "node3", "node1, node2"),
        ("web", "node1", "this node itself"),
        ("web", "node2.example.com", "minion id, node2"),
        ("web", "node2-mig", "minion id, node2"),
        ("web", ["node2"], "destination: want a name"),
        (7, "node2", "guest: want a name"),
        ("", "node2", "guest: want a name"),
        ("a\0b", "node2", "unprintable"),
        ("web1\n", "node2", "unprintable"),
    ],
)
def test_a_request_that_makes_no_sense(guest, destination, words):
    with pytest.raises(InputError, match=words):
        migration.wanted(cluster(), "node1", guest, destination)


def test_what_is_left_out_stands_for_all():
    assert migration.wanted(cluster(), "node1", None, None) == (None, None)
    assert migration.wanted(cluster(), None, "web", "node1") == ("web", "node1")


def test_an_unknown_guest_is_answered_with_how_to_list_the_known_ones():
    assert str(migration.no_such_guest("web", "node1")) == (
        "node1 has no guest web; to list its guests: salt node1 kvmcluster.guests; those of all"
        " nodes: salt-run kvmcluster.status"
    )


@pytest.mark.parametrize(
    ("persistent", "definitions", "flags"),
    [
        (False, "shared", set()),
        (False, "defined", set()),
        (True, "shared", {"PERSIST_DEST", "UNDEFINE_SOURCE"}),
        (True, "defined", {"PERSIST_DEST"}),
    ],
)
def test_definitions_are_kept_where_the_pillar_says(persistent, definitions, flags):
    found = cluster(guests={"definitions": definitions})
    way = plans.plan(found, found.node("node2"), Options(), persistent, "192.0.2.2")
    assert {flag for flag in way.flags if "DEST" in flag or "SOURCE" in flag} == flags


@pytest.mark.parametrize(("name", "shown"), [("node2-mig", "node2-mig"), ("fd00::2", "[fd00::2]")])
def test_addresses(name, shown):
    found = from_pillar(
        {
            "kvmcluster": {
                "name": "lab",
                "nodes": {"node1": {}, "node2": {"migration": name}},
                "ssh": {"login": "mover"},
            }
        }
    )
    way = plans.plan(found, found.node("node2"), Options(), False, "192.0.2.2")
    assert way.connection == f"qemu+ssh://mover@{shown}/system?no_tty=1"
    assert way.parameters == {"URI": f"tcp:{shown}", "LISTEN_ADDRESS": "192.0.2.2"}


def judged(here=RUNNING, there=ABSENT, returned=True, steady=True):
    return results.verdict(MOVE, (here, there), returned, steady)


def test_verdict_is_that_of_the_table_once_all_is_quiet():
    assert judged().owner is Owner.SOURCE
    assert judged(ABSENT, RUNNING).owner is Owner.DESTINATION


@pytest.mark.parametrize(
    "doubt",
    [
        {"returned": False},
        {"steady": False},
        {"here": replace(RUNNING, job="an outgoing migration")},
        {"there": replace(RUNNING, job="an incoming migration")},
        {"there": SILENT},
        {"here": SILENT},
    ],
)
def test_nothing_is_judged_in_doubt(doubt):
    assert judged(**doubt).owner is Owner.UNKNOWN


def test_a_silent_nodes_words_are_handed_on():
    assert "node2 said nothing" in judged(there=SILENT).sentence


MEASURED = Statistics(downtime_ms=12, memory_bytes=34, iterations=5)


def shaped(
    owner, detail="", observations=(ABSENT, RUNNING), persistent=False, definitions="shared"
):
    found = cluster(guests={"definitions": definitions})
    way = plans.plan(found, found.node("node2"), Options(), persistent, "192.0.2.2")
    verdict = Verdict(owner, "so it was seen")
    return results.result(MOVE, way, verdict, observations, MEASURED, detail)


@pytest.mark.parametrize(
    ("owner", "result", "node"),
    [
        (Owner.DESTINATION, "moved", "node2"),
        (Owner.SOURCE, "not_moved", "node1"),
        (Owner.NOBODY, "unknown", None),
        (Owner.CONFLICT, "unknown", None),
        (Owner.UNKNOWN, "unknown", None),
    ],
)
@pytest.mark.parametrize("detail", ["", "it failed"])
def test_what_was_seen_decides_whatever_libvirt_said(owner, result, node, detail):
    shown = shaped(owner, detail)
    assert (shown.result, shown.owner, shown.uuid) == (result, node, UUID)
    assert "so it was seen" in shown.reason and detail in shown.reason


def test_a_result_as_data_has_its_kind_and_every_key():
    assert list(shaped(Owner.DESTINATION).to_dict()) == [
        *("kind", "guest", "uuid", "source", "destination", "owner", "result", "reason"),
        *("started", "elapsed", "downtime_ms", "memory_bytes", "iterations"),
        *("findings", "afterwards"),
    ]
    assert shaped(Owner.DESTINATION).to_dict()["kind"] == "migration"
    assert not {"kind", "findings", "afterwards"} & shaped(Owner.SOURCE).record().keys()


def test_figures_are_those_of_a_guest_that_moved():
    assert shaped(Owner.DESTINATION).downtime_ms == 12
    assert shaped(Owner.SOURCE).downtime_ms is None
    assert shaped(Owner.UNKNOWN).memory_bytes is None


def test_definitions_that_are_not_where_they_should_be_are_told():
    left = shaped(Owner.DESTINATION, observations=(DEFINED, RUNNING), persistent=True)
    assert "node2 keeps no definition" in left.reason
    assert "node1 still has a definition" in left.reason
    right = (DEFINED, replace(RUNNING, persistent=True))
    shown = shaped(Owner.DESTINATION, observations=right, persistent=True, definitions="defined")
    assert shown.reason == "so it was seen"


def test_statistics():
    job = {"downtime": 12, "memory_processed": 34, "memory_iteration": 5, "type": 3}
    assert results.statistics(job) == MEASURED
    assert results.statistics({"downtime": "?"}) == Statistics()


BOMB = "<!DOCTYPE x [<!ENTITY a 'aaaa'>]><capabilities><host><uuid>&a;</uuid></host></capabilities>"
FILE = BOMB.replace("'aaaa'", "SYSTEM 'file:///etc/hostname'")


@pytest.mark.parametrize(
    ("xml", "uuid"),
    [
        ("<capabilities><host><uuid> abc </uuid></host></capabilities>", "abc"),
        ("<capabilities/>", ""),
        ("no xml", ""),
        ("", ""),
        (BOMB, ""),
        (FILE, ""),
        ("<a>" + " " * xmltext.MAX_SIZE + "</a>", ""),
    ],
)
def test_host_uuid(xml, uuid):
    assert migration.host_uuid(xml) == uuid


def test_words_are_one_line_of_bounded_length():
    assert one_line("a\n  b") == "a b"
    assert len(one_line("x" * 9999)) == MAX_LENGTH + 1


def test_what_became_of_a_guest_that_was_suspended_meanwhile():
    plan = plans.plan(cluster(), cluster().node("node2"), Options(), False, "192.0.2.2")
    moved = Verdict(Owner.DESTINATION, "it runs on node2")
    found = results.result(MOVE, plan, moved, (ABSENT, RUNNING), Statistics(), "", paused=True)
    assert "virsh suspend" in found.reason and "on node2: virsh suspend web" in found.reason
    unknown = Verdict(Owner.UNKNOWN, "it is not known")
    found = results.result(MOVE, plan, unknown, (SILENT, RUNNING), Statistics(), "", paused=True)
    assert "virsh suspend" in found.reason and "is to stand still" not in found.reason
