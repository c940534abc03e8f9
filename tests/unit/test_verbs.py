"""Verbs for guests: which are meant, who acts, what came of it, what opens them."""

from dataclasses import replace

import pytest
import worlds

from saltext_kvmcluster.core.errors import InputError
from saltext_kvmcluster.core.facts import nodefacts
from saltext_kvmcluster.core.guest import graphics
from saltext_kvmcluster.core.output import tables
from saltext_kvmcluster.core.ownership import guest_reboots
from saltext_kvmcluster.core.verbs import access, results, selection, targets
from saltext_kvmcluster.core.verbs.results import Acts, Row
from saltext_kvmcluster.core.verbs.targets import Target
from saltext_kvmcluster.core.verdicts import INCOMING, OUTGOING, Observation, Sighting

NODES = ("node1", "node2", "node3")


def one(name, at, sighting=Sighting.RUNNING, job=""):
    seen = Observation(sighting, name=name, uuid=f"uuid of {name}", job=job)
    return nodefacts.GuestFacts(at, seen)


def facts(*guests, **changes):
    """All nodes with these guests; changes by node replace its facts, None silences it."""
    found = {}
    for node in NODES:
        there = worlds.node(node, NODES, guests=tuple(each for each in guests if each.node == node))
        given = changes.get(node, {})
        found[node] = (
            nodefacts.silent(node, "no response") if given is None else replace(there, **given)
        )
    return found


def cluster(*guests, **more):
    return worlds.cluster(NODES, {"list": {name: {} for name in guests}, **more})


LISTED = cluster("web1", "web2", "db1")
WEB = one("web1", "node1")


# ---- which are meant ----


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        ("web1", ["web1"]),
        ("web2,web1", ["web1", "web2"]),
        (" web2 , web1,", ["web1", "web2"]),
        (["db1", "web1"], ["db1", "web1"]),
        ("web*", ["web1", "web2"]),
        ("web?,db1", ["db1", "web1", "web2"]),
        ("*", ["db1", "own", "web1", "web2"]),
    ],
)
def test_guests_are_meant_by_name_list_or_pattern(given, meant):
    found = selection.select(selection.words(given), LISTED, facts(WEB, one("own", "node2")))
    assert list(found.guests) == meant
    assert found.needs_consent == (len(meant) > 1)


@pytest.mark.parametrize(
    "given", [None, 7, "", ",", [], [7], "a/b", "-x", ["a", {}], "x\x1b*", "."]
)
def test_what_names_no_guest_is_refused(given):
    with pytest.raises(InputError):
        selection.words(given)


def test_a_guest_of_exactly_that_name_is_meant_alone():
    known = facts(one("a,b", "node1"), one("a", "node1"), one("b", "node1"), one("w*", "node1"))
    known["node2"] = replace(known["node2"], guests=(one("w1", "node2"),))
    assert selection.select(selection.words("a,b"), LISTED, known).guests == ("a,b",)
    assert selection.select(selection.words("w*"), LISTED, known).guests == ("w*",)


def test_an_unknown_guest_in_a_list_refuses_all_of_it_by_name():
    with pytest.raises(InputError, match="no node that responded has a guest web9; to list"):
        selection.select(selection.words("web1,web9"), LISTED, facts(WEB))


def test_a_node_is_no_guest_and_is_named_as_a_node():
    with pytest.raises(InputError, match="node2 is a node; to empty one"):
        selection.select(selection.words("web1,node2"), LISTED, facts(WEB))


def test_a_pattern_that_matches_nothing():
    with pytest.raises(InputError, match=r"no guest matches mail\*; no information from node3"):
        selection.select(selection.words("mail*"), LISTED, facts(node3=None))
    found = selection.select(selection.words("mail*,web1"), LISTED, facts())
    assert (found.guests, found.unmatched) == (("web1",), ("mail*",))


def test_a_pattern_never_means_one_guest_while_a_node_is_silent():
    found = selection.select(selection.words("db*"), LISTED, facts(node3=None))
    assert found.guests == ("db1",) and found.is_open and found.needs_consent
    assert not selection.select(selection.words("db1"), LISTED, facts(node3=None)).needs_consent


def of(asked, one_facts, two_facts):
    two = worlds.cluster(("other1",), {"list": {"mail": {}}})
    two = replace(two, name="two")
    seen = {"lab": (LISTED, one_facts), "two": (two, two_facts)}
    return selection.cluster_of(selection.words(asked), seen)


OTHER = {"other1": worlds.node("other1", ("other1",))}
SILENT = {"other1": nodefacts.silent("other1", "no response")}


def test_names_decide_which_cluster():
    assert of("web1", facts(WEB), OTHER) == "lab"
    assert of("mail", facts(WEB), OTHER) == "two"
    assert of("web1,db1", facts(WEB), OTHER) == "lab"


@pytest.mark.parametrize(
    ("asked", "other", "words"),
    [
        ("web1,mail", OTHER, "of clusters lab, two; say which"),
        ("web*", OTHER, "a pattern is for the guests of one cluster"),
        ("web9", OTHER, "no cluster has a guest web9"),
        ("web1", SILENT, "another one may have a guest of that name; no information from other1"),
        (
            "web1",
            {"other1": replace(OTHER["other1"], guests=(one("web1", "other1"),))},
            "web1 is a guest of clusters lab, two",
        ),
    ],
)
def test_where_names_do_not_decide_the_cluster_is_asked_for(asked, other, words):
    with pytest.raises(InputError, match=words):
        of(asked, facts(WEB), other)


# ---- who acts ----

EVERY = (targets.START, targets.SHUTDOWN, targets.REBOOT, targets.FREEZE, targets.ACCESS)


@pytest.mark.parametrize("verb", EVERY)
def test_the_node_that_has_it_acts(verb):
    found = targets.target(verb, LISTED, facts(one("web1", "node2"), node3=None), "web1")
    assert (found.node, found.refusal, found.state) == ("node2", "", "running on node2")


@pytest.mark.parametrize("verb", EVERY)
def test_a_guest_that_migrates_is_left_alone(verb):
    halves = (
        one("web1", "node1", job=OUTGOING),
        one("web1", "node2", Sighting.PAUSED_FOR_MIGRATION, INCOMING),
    )
    found = targets.target(verb, LISTED, facts(*halves), "web1")
    assert not found.node and "it is migrating from node1 to node2" in found.refusal
    alone = targets.target(verb, LISTED, facts(halves[0], node2=None), "web1")
    assert not alone.node and "it is migrating from node1;" in alone.refusal


@pytest.mark.parametrize("verb", EVERY)
def test_a_guest_that_is_twice_there_is_left_alone(verb):
    found = targets.target(verb, LISTED, facts(WEB, one("web1", "node2")), "web1")
    assert not found.node and "salt-run kvmcluster.recover web1" in found.refusal


@pytest.mark.parametrize("verb", EVERY[1:])
def test_a_guest_whose_minion_is_silent_is_said_to_be_there(verb):
    seen = facts(WEB, node1={"by_peer": True, "asker": "node2", "minion": "no response"})
    found = targets.target(verb, LISTED, seen, "web1")
    assert not found.node
    assert "running on node1, as node2 sees it, and the minion of node1 does not" in found.refusal
    assert targets.target(targets.START, LISTED, seen, "web1").node == "node2"


@pytest.mark.parametrize("verb", [targets.REBOOT, targets.FREEZE, targets.ACCESS])
def test_what_needs_a_guest_that_runs_says_that_it_does_not(verb):
    found = targets.target(verb, LISTED, facts(), "web1")
    assert not found.node and "it does not run: no node has it; to start it" in found.refusal
    hidden = targets.target(verb, LISTED, facts(node3=None), "web1")
    assert not hidden.node and "no information from node3 (no response)" in hidden.refusal
    assert "to start it" not in hidden.refusal


def test_one_that_is_off_is_frozen_where_libvirt_keeps_it():
    off = one("web1", "node2", Sighting.SHUT_OFF)
    assert targets.target(targets.FREEZE, LISTED, facts(off), "web1").node == "node2"
    twice = facts(off, one("web1", "node3", Sighting.SHUT_OFF))
    found = targets.target(targets.FREEZE, LISTED, twice, "web1")
    assert not found.node and "salt NODE kvmcluster.freeze web1" in found.refusal
    assert not targets.target(targets.FREEZE, LISTED, facts(off, node3=None), "web1").node


def test_one_that_is_off_is_noted_so_where_it_is_defined_or_at_home():
    off = one("web1", "node3", Sighting.SHUT_OFF)
    assert targets.target(targets.SHUTDOWN, LISTED, facts(off), "web1").node == "node3"
    home = worlds.cluster(NODES, {"list": {"web1": {"home": "node2"}}})
    assert targets.target(targets.SHUTDOWN, home, facts(), "web1").node == "node2"
    assert targets.target(targets.SHUTDOWN, home, facts(node2=None), "web1").node == "node1"
    nobody = facts(node1=None, node2=None, node3=None)
    assert "no node can be asked" in targets.target(targets.SHUTDOWN, home, nobody, "web1").refusal


def test_a_guest_starts_at_home_if_that_may_take_it():
    home = worlds.cluster(NODES, {"list": {"web1": {"home": "node2"}}, "definitions": "defined"})
    on = ["node2", "node3"]
    assert targets.starter(home, facts(), "web1", on) == "node2"
    cordoned = {"cordoned": (object(),)}
    assert targets.starter(home, facts(node2=cordoned), "web1", on) == ""
    assert targets.starter(home, facts(node2=None), "web1", on) == ""
    assert targets.starter(home, facts(), "web1", ["node3"]) == ""
    assert targets.starter(home, facts(node3=cordoned), "own", on) == "node2"


def test_what_no_plan_places_says_why_unless_pacemaker_has_it():
    listed = Target("web1", state="no node has it")
    stuck = {"web1": "node.memory (too little)"}
    found = targets.chosen(LISTED, facts(), listed, {}, stuck, False)
    assert "no node can start it: node.memory (too little)" in found.refusal
    shared = worlds.cluster(NODES, {"list": {"web1": {}}, "definitions": "shared", "path": "/d"})
    assert targets.chosen(shared, facts(), listed, {}, stuck, True).node == "node1"
    assert targets.chosen(LISTED, facts(), listed, {"web1": "node3"}, {}, False).node == "node3"


# ---- what came of it ----

THERE = Target("web1", "node1", "running on node1")


@pytest.mark.parametrize(
    ("verb", "answer", "ok", "result"),
    [
        ("start", {"result": "started", "reason": "x", "owner": "node1"}, True, "started"),
        ("start", {"result": "running", "reason": "x", "owner": "node2"}, True, "running"),
        ("start", {"result": "unknown", "reason": "x"}, False, "unknown"),
        ("shutdown", {"result": "stopped", "reason": "it runs nowhere"}, True, "stopped"),
        ("shutdown", {"result": "started"}, False, "started"),
        ("reboot", {"result": "rebooted", "reason": "x"}, True, "rebooted"),
        ("reboot", {"result": "not_rebooted", "reason": "x"}, False, "not_rebooted"),
        ("freeze", {"frozen": True, "reason": "x", "since": "2026"}, True, "frozen"),
        ("freeze", {"frozen": False}, False, "not_frozen"),
        ("unfreeze", {"frozen": False}, True, "not_frozen"),
        ("unfreeze", {"frozen": "no"}, False, "unknown"),
        ("freeze", {}, False, "unknown"),
        ("start", {"result": ["started"], "warnings": 3}, False, "unknown"),
        ("start", "ERROR: web1 was not started on node1: no", False, "refused"),
        ("start", None, False, "unknown"),
        ("start", ["started"], False, "unknown"),
        ("shutdown", "Minion did not return. [No response]", False, "unknown"),
        ("shutdown", "The minion function caused an exception: Trace…", False, "unknown"),
        ("freeze", "Traceback (most recent call last):\nKeyError: 'x'", False, "unknown"),
    ],
)
def test_only_what_the_node_reports_counts(verb, answer, ok, result):
    row = results.of_answer(verb, THERE, answer)
    assert (row.ok, row.result) == (ok, result)


def rendered(*rows, **more):
    return tables.render(Acts("shutdown", "lab", rows, **more).to_dict())


GOOD = Row("web2", "node1", True, "stopped", "it runs nowhere")
BAD = Row("web1", "node2", False, "not_stopped", "running on node2", "node2", ("w\x1b[2J",))


def test_each_guest_has_its_row_and_one_that_is_not_as_wished_fails_all():
    data = Acts("shutdown", "lab", (GOOD, BAD)).to_dict()
    assert not data["ok"] and [row["guest"] for row in data["guests"]] == ["web1", "web2"]
    assert rendered(GOOD, BAD).splitlines() == [
        "NOT STOPPED  web1 on node2: running on node2",
        "WARN  web1: w\ufffd[2J",
        "STOPPED  web2 on node1: it runs nowhere",
        "PROBLEM: 1 of 2 guests shut down in cluster lab",
    ]
    assert rendered(GOOD) == "STOPPED  web2 on node1: it runs nowhere"
    assert Acts("shutdown", "lab", (GOOD,)).to_dict()["ok"]


@pytest.mark.parametrize(
    "more", [{"silent": {"node3": "no response"}}, {"unmatched": ("x*",)}, {"asks": True}]
)
def test_silence_and_what_was_not_done_are_no_success(more):
    assert not Acts("shutdown", "lab", (GOOD,), **more).to_dict()["ok"]
    assert rendered(GOOD, **{"unmatched": ("x*",)}).splitlines()[1:] == [
        "PROBLEM  no guest matches x*",
        "PROBLEM: 1 of 1 guest shut down in cluster lab",
    ]


def test_a_plan_says_what_would_be_done_and_how_to_agree():
    rows = results.planned(THERE), results.planned(Target("web2", refusal="it is migrating"))
    assert rendered(*rows, test=True, asks=True).splitlines() == [
        "guest  by     now",
        "web1   node1  running on node1",
        "REFUSED  web2: it is migrating",
        "PLAN  1 guest would be shut down; nothing was changed; to do it: the same command with"
        " test=False",
    ]


# ---- a reboot of a guest ----

RUNS = Observation(Sighting.RUNNING, name="web1", uuid=worlds.UUID)
XML = "<domain><on_reboot>restart</on_reboot></domain>"


@pytest.mark.parametrize(
    ("observation", "xml", "words"),
    [
        (RUNS, XML, ""),
        (RUNS, "<domain/>", ""),
        (RUNS, XML.replace("restart", "destroy"), "<on_reboot>destroy</on_reboot>) a reboot ends"),
        (RUNS, "<", "cannot be read"),
        (replace(RUNS, job=OUTGOING), XML, "an outgoing migration of it is active on node1"),
        (replace(RUNS, job="a backup"), XML, "virsh domjobinfo web1"),
        (replace(RUNS, sighting=Sighting.SHUT_OFF), "", "to start it"),
        (replace(RUNS, sighting=Sighting.PAUSED_BY_USER), XML, "cannot react"),
    ],
)
def test_what_cannot_be_rebooted_says_why(observation, xml, words):
    found = guest_reboots.refusal(observation, "node1", xml)
    assert words in found and bool(found) == bool(words)


@pytest.mark.parametrize(
    ("seen", "sighting", "result", "owner"),
    [
        (True, Sighting.RUNNING, "rebooted", "node1"),
        (True, Sighting.PAUSED_BY_USER, "not_rebooted", "node1"),
        (True, Sighting.SHUT_OFF, "not_rebooted", None),
        (False, Sighting.RUNNING, "not_rebooted", "node1"),
        (False, Sighting.ABSENT, "not_rebooted", None),
        (True, Sighting.UNREACHABLE, "unknown", None),
    ],
)
def test_only_a_reset_that_was_seen_is_a_reboot(seen, sighting, result, owner):
    after = replace(RUNS, sighting=sighting)
    found = guest_reboots.ended(RUNS, after, "node1", seen, ["libvirt: x"])
    assert (found.result, found.owner) == (result, owner)


# ---- what opens it ----


def ways(devices):
    return graphics.parse(f"<domain><devices>{devices}</devices></domain>")


VNC = "<graphics type='vnc' port='{}' autoport='yes' passwd='secret' listen='{}'>{}</graphics>"


def opened(devices):
    data = access.display(LISTED, "web1", "node1", graphics.received(ways(devices).to_dict()))
    assert "secret" not in str(data)
    return data


@pytest.mark.parametrize(
    ("devices", "commands"),
    [
        (
            VNC.format(5901, "127.0.0.1", ""),
            ["ssh -N -L 5901:127.0.0.1:5901 root@node1", "vnc://127.0.0.1:5901"],
        ),
        (
            VNC.format(5901, "::1", ""),
            ["ssh -N -L 5901:[::1]:5901 root@node1", "vnc://127.0.0.1:5901"],
        ),
        (VNC.format(5901, "0.0.0.0", ""), ["vnc://node1:5901"]),
        (VNC.format(5901, "", ""), ["vnc://node1:5901"]),
        (VNC.format(5901, "192.0.2.7", ""), ["vnc://192.0.2.7:5901"]),
        (VNC.format(5901, "2001:db8::7", ""), ["vnc://[2001:db8::7]:5901"]),
        (
            VNC.format(5901, "", "<listen type='network' address='192.0.2.7' network='x'/>"),
            ["vnc://192.0.2.7:5901"],
        ),
        (VNC.format(-1, "127.0.0.1", ""), []),
        (VNC.format(5901, "$(reboot)", ""), []),
        ("<graphics type='sdl'/>", []),
        ("<graphics type='spice'><listen type='none'/></graphics>", []),
        (
            "<graphics type='spice' port='5902' tlsPort='5903' listen='127.0.0.1'/>",
            [
                "ssh -N -L 5902:127.0.0.1:5902 -L 5903:127.0.0.1:5903 root@node1",
                "spice://127.0.0.1?port=5902&tls-port=5903",
            ],
        ),
        (
            "<graphics type='vnc' socket='/run/a b'><listen type='socket' socket='/run/a b'/>"
            "</graphics>",
            ["ssh -N -L 5900:'/run/a b' root@node1", "vnc://127.0.0.1:5900"],
        ),
    ],
)
def test_a_display_is_told_by_what_the_running_definition_says(devices, commands):
    data = opened(devices)
    assert data["ok"] and data["displays"][0]["commands"] == commands
    viewer = ["virt-viewer -c qemu+ssh://root@node1/system web1"]
    assert data["commands"] == (viewer if commands or "none" in devices else [])


def test_without_a_display_that_is_said():
    data = opened("")
    assert not data["ok"]
    assert tables.render(data).startswith("NONE  web1 on node1: it has no display")


@pytest.mark.parametrize(
    ("devices", "text"),
    [
        ("<console type='pty'/>", "virsh -c qemu+ssh://root@node1/system console 'web 1'"),
        ("<serial type='pty'/>", "virsh -c qemu+ssh://root@node1/system console 'web 1'"),
        ("<serial type='file'/>", "NONE  web 1 on node1: its console is of type file"),
        ("", "NONE  web 1 on node1: it has no serial console"),
    ],
)
def test_a_console_is_a_command(devices, text):
    data = access.console(LISTED, "web 1", "node1", ways(devices))
    assert tables.render(data).startswith(text)


@pytest.mark.parametrize("answer", [None, 3, {"displays": 3}, {"displays": [3, {"port": "x"}]}])
def test_odd_ways_are_none(answer):
    assert all(not one.port for one in graphics.received(answer).displays)
