"""Which guest can go where: the same whether judged move by move or all at once, told once."""

import json
from dataclasses import replace

import pytest
import worlds
from hypothesis import given
from hypothesis import strategies as st
from worlds import IMAGE, IMAGES, NODES, OTHER, RUNNING, WEB, guest, node

from saltext_kvmcluster.core.cordons import Cordon
from saltext_kvmcluster.core.errors import InputError
from saltext_kvmcluster.core.facts import node_report, questions
from saltext_kvmcluster.core.facts.nodefacts import Inspection, silent
from saltext_kvmcluster.core.findings import BLOCK, OK, PROBLEM, UNKNOWN, WARN
from saltext_kvmcluster.core.guest.disks import Source
from saltext_kvmcluster.core.guest.domainxml import Frozen, Interface
from saltext_kvmcluster.core.guest.kinds import Kind
from saltext_kvmcluster.core.guest.needed_files import File
from saltext_kvmcluster.core.output import tables
from saltext_kvmcluster.core.readiness import examination, follow_up, move_findings, report
from saltext_kvmcluster.core.readiness.checks.base import World
from saltext_kvmcluster.core.readiness.checks.registry import REGISTRY
from saltext_kvmcluster.core.verdicts import Sighting

DB_LOOK = replace(RUNNING, name="db", uuid=OTHER)
DB = replace(WEB, name="db", uuid=OTHER, disks=())
SHUT_OFF = replace(RUNNING, sighting=Sighting.SHUT_OFF, persistent=True)


def three(**changes):
    """web1 runs on node1, db on node2, nothing on node3; ``changes`` are of nodes by name."""
    guests = {"node1": (guest(),), "node2": (guest("node2", DB_LOOK, DB),)}
    nodes = {
        name: replace(
            node(name, NODES, guests=guests.get(name, ()), clock=0.0), **changes.get(name, {})
        )
        for name in NODES
    }
    return World(worlds.cluster(NODES), nodes)


def rows(found):
    return {row["guest"]: row for row in found.to_dict()["guests"]}


def reported(found):
    return [(one.id, one.issue.outcome) for one in found.findings]


def test_all_well():
    found = examination.examine(three())
    assert found.ok and found.findings == ()
    assert rows(found)["web1"]["movable_to"] == ["node2", "node3"]
    assert rows(found)["db"]["movable_to"] == ["node1", "node3"]
    data = found.to_dict()
    assert (data["moves"], data["movable"]) == (4, 4)


def test_a_missing_bridge_forbids_one_way():
    found = examination.examine(three(node3={"bridges": {}}))
    assert not found.ok
    assert rows(found)["web1"]["blocked"] == {"node3": ["network.present"]}
    (one,) = found.findings
    assert (one.guests, one.destinations, one.everywhere) == (("web1", "db"), ("node3",), False)


def test_a_guest_that_cannot_move_at_all():
    frozen = guest(of=replace(WEB, frozen=Frozen("a test", "2026-01-01")))
    found = examination.examine(three(node1={"guests": (frozen,)}))
    assert rows(found)["web1"]["movable_to"] == []
    assert rows(found)["web1"]["blocked"] == {node: ["guest.frozen"] for node in ("node2", "node3")}
    assert rows(found)["db"]["blocked"] == {}
    assert found.findings[0].guests == ("web1",)


def test_a_silent_node_is_told_by_name_and_forbids_no_move_between_others():
    nodes = {**three().nodes, "node3": silent("node3", "timed out")}
    found = examination.examine(World(worlds.cluster(NODES), nodes))
    assert not found.ok
    first = found.findings[0]
    assert (first.id, first.nodes, first.issue.outcome) == ("node.daemon", ("node3",), UNKNOWN)
    assert rows(found)["web1"]["movable_to"] == ["node2"]
    assert "node.daemon" in rows(found)["web1"]["blocked"]["node3"]
    unsure = [one for one in found.findings if one.id == "guest.once"]
    assert [(one.severity, one.guests) for one in unsure] == [("WARN", ("web1", "db"))]


def test_the_worst_comes_first():
    found = examination.examine(
        three(node1={"clock": 99.0}, node2={"resolves": None}, node3={"bridges": {}})
    )
    assert reported(found)[:3] == [
        ("network.present", PROBLEM),
        ("node.name", UNKNOWN),
        ("node.clock", PROBLEM),
    ]


def test_warnings_alone_are_ok():
    found = examination.examine(three(node1={"clock": 99.0}))
    assert found.ok and reported(found) == [("node.clock", PROBLEM)]


def test_a_guest_that_runs_nowhere_is_audited_and_has_no_row():
    resting = guest("node3", replace(SHUT_OFF, name="web1", uuid=OTHER), None, disks=())
    found = examination.examine(three(node2={"guests": ()}, node3={"guests": (resting,)}))
    assert list(rows(found)) == ["web1"]
    assert ("guest.name", PROBLEM) in reported(found)


def test_one_guest_and_one_destination():
    found = examination.examine(three(node3={"bridges": {}}), "web1", "node1", "node2")
    assert found.ok
    assert rows(found)["web1"]["movable_to"] == ["node2"]


def test_a_guest_asked_for_by_name_is_examined_though_it_does_not_run():
    resting = guest("node1", SHUT_OFF, None)
    found = examination.examine(three(node1={"guests": (resting,)}), "web1")
    assert ("guest.once", PROBLEM) in reported(found)
    assert rows(found)["web1"]["movable_to"] == []


@pytest.mark.parametrize(
    ("guest", "source", "words"),
    [
        ("web", None, "no node of cluster lab has a guest web; to list the guests: salt-run"),
        ("web1", "node2", "node2 has no guest web1; to list its guests: salt node2 kvmcluster"),
        ("w\x1b[31m", None, "has a guest w\ufffd"),
    ],
)
def test_no_other_guest_is_named_for_an_unknown_one(guest, source, words):
    with pytest.raises(InputError) as refused:
        examination.examine(three(), guest, source)
    assert words in str(refused.value) and "did you mean" not in str(refused.value)


def test_an_unknown_node_is_answered_with_the_known_ones():
    with pytest.raises(InputError, match="node9 is not a node of cluster lab"):
        examination.examine(three(), None, None, "node9")


def test_data_is_plain():
    data = examination.examine(three(node3={"bridges": {}})).to_dict()
    assert json.loads(json.dumps(data)) == data


def test_words_of_a_hostile_node_print_as_one_line():
    ugly = {"daemon": None, "daemon_detail": "no\x1b[31m\n" + "x" * 5000, "guests": None}
    (first, *_) = examination.examine(three(node3=ugly)).to_dict()["findings"]
    assert first["id"] == "node.daemon" and first["sentence"].isprintable()
    assert len(first["sentence"]) <= report.MAX_SENTENCE


CHANGES = st.fixed_dictionaries(
    {},
    optional={
        "bridges": st.sampled_from([{}, {"br0": False}, None]),
        "free_kib": st.sampled_from([None, 0, 10**9]),
        "resolves": st.sampled_from([(), ("127.0.0.1",), None]),
        "clock": st.sampled_from([None, 50.0]),
        "ssh": st.just({}),
        "peers": st.just({}),
        "listening": st.sampled_from([None, frozenset(range(49152, 49216))]),
        "daemon": st.sampled_from([None, worlds.daemon("node2"), worlds.daemon("x", qemu=1)]),
        "storage": st.just(None),
        "observed": st.sampled_from([{}, {IMAGE: Inspection("nothing")}]),
        "written": st.just({}),
        "tokens": st.just({}),
        "guests": st.sampled_from(
            [
                None,
                (),
                (guest("node3", SHUT_OFF, None), guest("node3", DB_LOOK, None)),
                (guest("node3", replace(RUNNING, uuid=OTHER, autostart=True)),),
            ]
        ),
    },
)


@given(CHANGES, CHANGES, CHANGES)
def test_all_at_once_is_as_move_by_move(one, two, three_):
    one.pop("guests", None)
    if two.get("guests"):
        two.pop("guests")
    found = three(node1=one, node2=two, node3=three_)
    for row in examination.examine(found).rows:
        for destination in NODES:
            if destination != row.guest.node:
                judged = move_findings.findings(found, row.guest, destination)
                wanted = list(dict.fromkeys(item.id for item in judged if item.blocks))
                assert row.blocked.get(destination, []) == wanted
                assert (destination in row.movable_to) == (not wanted)


def test_findings_of_one_move_tell_what_is_ok_too():
    found = three()
    web = found.by_name["web1"][0]
    judged = move_findings.findings(found, web, "node2")
    assert {one.outcome for one in judged} == {OK}
    blocking = {check.id for check in REGISTRY if check.severity == BLOCK}
    assert {one.id for one in judged if one.severity == BLOCK} == blocking
    assert {one.id for one in judged} == {*blocking, "node.minion"}


def test_what_forbids_no_move_may_be_told_of_one():
    found = three(node2={"minion_process": "its salt-minion is stopped"})
    judged = move_findings.findings(found, found.by_name["web1"][0], "node2")
    (one,) = [one for one in judged if one.outcome != OK]
    assert (one.id, one.severity, one.blocks) == ("node.minion", WARN, False)
    assert one.sentence.startswith("node2: its salt-minion is stopped: the master loses sight")


def test_findings_name_the_node_that_they_are_about():
    found = three(node2={"resolves": ("127.0.0.1",)})
    judged = move_findings.findings(found, found.by_name["web1"][0], "node2")
    (bad,) = [one for one in judged if one.outcome != OK]
    assert bad.sentence.startswith(
        "node2: its host name node2 resolves to loopback on it: 127.0.0.1"
    )


def test_only_what_no_shared_file_system_brings_is_asked_of_others():
    kernel = replace(WEB, files=(File("/boot/vmlinuz", "kernel"),))
    asked = follow_up.questions(three(node1={"guests": (guest(of=kernel),)}))
    assert asked["node1"]["paths"] == [IMAGE, "/boot/vmlinuz"]
    assert asked["node2"]["paths"] == asked["node3"]["paths"] == ["/boot/vmlinuz"]
    assert asked["node3"]["tokens"] == {IMAGES: list(NODES)}
    assert [one["cpu"] for one in asked["node3"]["cpus"]] == [worlds.CPU]


def test_one_cpu_of_two_machine_types_is_two_questions():
    other = guest(observation=DB_LOOK, of=replace(DB, machine="q35"))
    asked = follow_up.questions(three(node1={"guests": (guest(), other)}, node2={"guests": ()}))
    assert [one["machine"] for one in asked["node3"]["cpus"]] == ["pc-i440fx-7.2", "q35"]


def test_an_emulator_is_asked_about_once_where_guests_with_such_devices_would_go():
    kinds = frozenset({Kind("graphics", "type", "spice")})
    some = (guest(of=replace(WEB, kinds=kinds)), guest(observation=DB_LOOK, of=DB))
    asked = follow_up.questions(three(node1={"guests": some}, node2={"guests": ()}))
    (emulator,) = asked["node3"]["emulators"]
    assert questions.parse(asked["node3"]).emulators == (emulator,)
    told = {questions.emulator_key(emulator): {"graphics/type": ["vnc", 7], "video": 3}, "x": 1}
    facts = node_report.answered(worlds.node("node3"), {"emulators": told}).daemon
    assert facts.emulators[questions.emulator_key(emulator)]["graphics/type"] >= {"vnc"}


def test_what_no_node_can_be_asked_about_spoils_no_question():
    disk = replace(WEB.disks[0], source=Source("file", "/images/\x1b[31m", "raw"))
    files = (File("/boot/vmlinuz", "kernel"),)
    bad = guest(of=replace(WEB, disks=(disk,), files=files))
    assert follow_up.questions(three(node1={"guests": (bad,)}))["node1"]["paths"] == [
        "/boot/vmlinuz"
    ]


def test_what_a_peer_cannot_see_of_another_is_no_finding():
    found = three(node2={"ssh": {}, "by_peer": True})
    judged = move_findings.findings(found, found.by_name["web1"][0], "node2")
    assert {one.outcome for one in judged} == {OK}
    ids = {one.id for one in judged}
    assert "ssh.authorized" not in ids and {"ssh.key", "ssh.reach", "node.name"} <= ids
    assert examination.examine(found, "web1", "node1", "node2").findings == ()


def test_questions_about_one_move_are_for_its_two_nodes():
    asked = follow_up.questions(three(), "web1", "node1", "node2")
    assert set(asked) == {"node1", "node2"}
    assert asked["node1"]["cpus"] == [] and asked["node1"]["paths"] == [IMAGE]


def test_the_silent_are_asked_nothing():
    nodes = {**three().nodes, "node3": silent("node3", "timed out")}
    assert "node3" not in follow_up.questions(World(worlds.cluster(NODES), nodes))


def test_a_few_witnesses_are_enough_for_a_folder():
    names = [f"node{number}" for number in range(1, 11)]
    nodes = {name: node(name, names, guests=()) for name in names}
    nodes["node9"] = replace(nodes["node9"], guests=(guest("node9"),))
    asked = follow_up.questions(World(worlds.cluster(names), nodes))
    assert asked["node5"]["tokens"] == {IMAGES: ["node9", "node1", "node2"]}


def test_alike_troubles_are_told_once_for_many():
    names = [f"node{number}" for number in range(1, 31)]
    card = (Interface("bridge", "br9"),)
    nodes = {
        name: node(
            name,
            names,
            guests=(
                guest(
                    name,
                    replace(RUNNING, name=f"web{name}", uuid=f"uuid of {name}"),
                    replace(WEB, interfaces=card, disks=(replace(WEB.disks[0], source=Source()),)),
                ),
            ),
        )
        for name in names
    }
    found = examination.examine(World(worlds.cluster(names), nodes))
    (one,) = found.findings
    assert one.everywhere and one.destinations == () and len(one.guests) == 30
    assert found.to_dict()["movable"] == 0


def text(found):
    return tables.render(found.to_dict()).splitlines()


def test_reasons_come_first_then_the_matrix_then_the_sum():
    assert text(examination.examine(three(node3={"bridges": {}}))) == [
        "PROBLEM  network.present  web1, db -> node3: bridge br0 does not exist on the destination",
        "         create bridge br0 in the destination's network configuration, as on the source",
        "guest \\ to  node1  node2  node3",
        "db          ok     -      NO network.present",
        "web1        -      ok     NO network.present",
        "PROBLEM: 2 of 4 moves possible in cluster lab",
    ]


def test_what_a_silent_node_leaves_unknown_is_one_line():
    nodes = {**three().nodes, "node3": silent("node3", "timed out")}
    lines = text(examination.examine(World(worlds.cluster(NODES), nodes)))
    assert lines[0] == "UNKNOWN  node.daemon  node3: it is unreachable: timed out"
    assert "checks have no result because of this" in lines[2] and lines[3].startswith("guest ")
    assert lines[5].startswith("web1        -      ok     NO node.daemon +")


def test_a_wide_cluster_is_shown_in_figures():
    names = [f"node{number}" for number in range(1, 31)]
    nodes = {name: node(name, names) for name in names}
    nodes["node1"] = replace(nodes["node1"], guests=(guest(),))
    lines = text(examination.examine(World(worlds.cluster(names), nodes)))
    assert lines[1].split() == ["web1", "node1", "29", "of", "29", "nodes"]


def test_that_a_node_is_closed_forbids_moves_to_it_and_is_no_fault():
    found = examination.examine(three(node3={"cordoned": (Cordon("", "updates"),)}))
    assert found.ok and rows(found)["web1"]["movable_to"] == ["node2"]
    assert [one["id"] for one in found.to_dict()["findings"]] == ["node.cordon"]
    assert not examination.examine(three(node3={"cordoned": None})).ok
