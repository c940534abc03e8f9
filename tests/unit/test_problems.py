"""What of a cluster needs a person, so that its status is not OK, and what does not."""

from dataclasses import replace

import pacemakers
import pytest
import worlds
from worlds import NODES, OTHER, UUID

from saltext_kvmcluster.core import verdicts
from saltext_kvmcluster.core.cordons import Cordon
from saltext_kvmcluster.core.facts import node_report
from saltext_kvmcluster.core.facts.nodefacts import GuestFacts, NodeFacts, silent
from saltext_kvmcluster.core.output import tables
from saltext_kvmcluster.core.pillar import agreement
from saltext_kvmcluster.core.readiness import overview, problems
from saltext_kvmcluster.core.trust import logins
from saltext_kvmcluster.core.verdicts import Observation, Sighting

START = "to start it: salt node1 kvmcluster.start"
RECOVER = "salt-run kvmcluster.recover"


def guest(node, sighting=Sighting.RUNNING, name="web1", uuid=UUID, **known):
    reason = known.pop("reason", "")
    return GuestFacts(node, Observation(sighting, name=name, uuid=uuid, **known), reason=reason)


def nodes(*guests, **changed):
    """Return the facts of three nodes with some guests; a text makes a node silent."""
    found = {}
    for node in NODES:
        change = changed.get(node, {})
        there = tuple(one for one in guests if one.node == node)
        answered = NodeFacts(node, guests=there, cordoned=(), clock=0.0, logged={})
        found[node] = (
            silent(node, change) if isinstance(change, str) else replace(answered, **change)
        )
    return found


def status(found, *listed, definitions="shared", **homes):
    list_ = {name: {"home": homes[name]} if name in homes else {} for name in (*listed, *homes)}
    cluster = worlds.cluster(NODES, {"list": list_, "definitions": definitions})
    return overview.status(cluster, found).to_dict()


def told(found, *listed, **homes):
    return status(found, *listed, **homes)["problems"]


def test_who_is_kept_apart_and_is_no_guest_is_noted():
    cluster = worlds.cluster(NODES, {"list": {"web1": {}}, "apart": [["web1", "wbe2", "mail"]]})
    found = nodes(guest("node1"), guest("node2", name="mail", uuid=OTHER))
    assert problems.notes(cluster, found) == [
        "kvmcluster:guests:apart names wbe2, which is neither in guests:list nor on any node: it"
        " keeps nothing apart"
    ]
    assert problems.notes(cluster, nodes(guest("node1"), node3="down")) == []


# ---- the guests of the list


def test_a_listed_guest_that_runs_nowhere_needs_somebody_to_start_it():
    off = guest("node2", Sighting.SHUT_OFF, reason="crashed")
    assert told(nodes(), web1="node3") == [
        "web1 runs nowhere: no node has it; to start it: salt node3 kvmcluster.start web1"
    ]
    assert told(nodes(off), "web1") == [
        "web1 runs nowhere: it is shut off on node2 (crashed); to start it: salt node2"
        " kvmcluster.start web1"
    ]
    assert told(nodes(guest("node2"))) == told(nodes(guest("node2")), "web1") == []
    assert told(nodes(off)) == []


def test_it_is_started_where_it_can_be():
    cordoned = {"cordoned": (Cordon("", "work"),)}
    (told_,) = told(nodes(node3=cordoned), web1="node3")
    assert told_.endswith(f"{START} web1")
    (told_,) = told(nodes(**dict.fromkeys(NODES, cordoned)), web1="node3")
    assert "uncordon a node: salt-run kvmcluster.undrain node3; then: salt node3 kvm" in told_
    off = guest("node2", Sighting.SHUT_OFF)
    (told_,) = told(nodes(off), web1="node3", definitions="defined")
    assert told_.endswith("salt node2 kvmcluster.start web1")
    (told_,) = told(nodes(), web1="node3", definitions="defined")
    assert told_.endswith("has its definition: the state kvmcluster.guest_placed adds it")


def test_while_a_node_is_silent_it_is_not_known_what_runs():
    found = nodes(guest("node1"), node3="no response")
    unreachable, unknown = told(found, "web1", "db1")
    assert unreachable == (
        "node3 is unreachable: no response; if it is up: on node3: systemctl restart salt-minion"
    )
    assert unknown == (
        "it is not known whether db1 runs: not on a node that responded, and node3 may have it"
    )
    assert "whether db1, db2 run: " in told(found, "web1", "db1", "db2")[1]
    assert "kvmcluster.start" not in " ".join(told(found, "db1"))
    assert len(told(found, "web1")) == 1


SHUT = "2026-11-29T09:00:00+00:00"
SHUT_AT = 1795942800.0


def test_a_guest_that_was_shut_down_by_our_command_is_a_note():
    off = guest("node2", Sighting.SHUT_OFF)
    found = status(nodes(off, node2={"shutdowns": {"web1": SHUT}}), web1="node1")
    assert found["ok"] and found["problems"] == []
    assert found["notes"] == [
        f"web1 was shut down by kvmcluster.shutdown on node2 at {SHUT}; {START} web1"
    ]
    assert f"NOTE  {found['notes'][0]}" in tables.render(found).splitlines()
    unknown = status(nodes(node2={"shutdowns": {"web1": SHUT}}, node3="gone"), "web1")
    assert "not known whether web1 runs" in unknown["problems"][1] and not unknown["notes"]


@pytest.mark.parametrize(
    ("where", "ahead", "logged", "is_noted"),
    [
        *((node, 0.0, SHUT_AT - 86400, True) for node in ("node1", "node2")),
        *((node, 0.0, SHUT_AT + 10, True) for node in ("node1", "node2")),
        *((node, 0.0, SHUT_AT + 60, False) for node in ("node1", "node2")),
        *((node, None, SHUT_AT + 60, False) for node in ("node1", "node2")),
        ("node2", 3600.0, SHUT_AT + 3605, True),
        ("node2", -3600.0, SHUT_AT - 3500, False),
    ],
)
def test_a_note_is_outdated_once_a_node_logged_a_later_run(where, ahead, logged, is_noted):
    changed = {"node1": {"shutdowns": {"web1": SHUT}}}
    changed[where] = {**changed.get(where, {}), "logged": {"web1": logged}, "clock": ahead}
    found = status(nodes(**changed), "web1")
    assert (found["problems"] == []) is is_noted is bool(found["notes"])


def test_a_note_does_not_count_where_the_log_of_a_node_or_its_clock_is_not_known():
    noted = {"shutdowns": {"web1": SHUT}}
    for doubt in (
        {"node1": noted, "node2": {"logged": None}},
        {"node1": {**noted, "clock": None}},
        {"node1": noted, "node2": {"logged": {"web1": SHUT_AT - 9}, "clock": None}},
    ):
        assert "web1 runs nowhere" in told(nodes(**doubt), "web1")[0]
    assert not told(nodes(node1=noted, node2={"clock": None}), "web1")


def test_of_two_notes_the_later_counts_and_a_guest_that_runs_has_none():
    earlier = {"shutdowns": {"web1": "2026-11-28T09:00:00+00:00"}}
    later = {"shutdowns": {"web1": SHUT}, "logged": {"web1": SHUT_AT}}
    assert "on node2 at" in status(nodes(node1=earlier, node2=later), "web1")["notes"][0]
    assert status(nodes(guest("node3"), node2=later), "web1")["notes"] == []


def test_a_guest_that_pacemaker_manages_is_started_by_pacemaker():
    held = {"pacemaker": pacemakers.view("running")}
    (problem,) = told(nodes(**dict.fromkeys(NODES, held)), "web1")
    assert problem.startswith("web1 runs nowhere: no node has it; Pacemaker manages it, as its")
    assert "crm_mon -1 shows why" in problem and "kvmcluster.start" not in problem
    disabled = {"pacemaker": pacemakers.view("stopped"), "shutdowns": {"web1": SHUT}}
    found = status(nodes(**dict.fromkeys(NODES, disabled)), "web1")
    assert found["ok"] and len(found["notes"]) == 1
    assert found["notes"][0].startswith("web1 runs nowhere, as Pacemaker wants it: its resource")
    assert "target-role -v Started" in found["notes"][0]


def test_what_was_left_half_way_in_pacemaker_needs_a_person():
    mark = "migrate node1 2026-11-29T10:45:06.123+00:00"
    found = pacemakers.view("running")
    held = replace(
        found,
        configuration=replace(
            found.configuration,
            guests=tuple(
                replace(one, mark=mark, managed=False) for one in found.configuration.guests
            ),
            standbys={"node2": "drain node2"},
        ),
    )
    views = {node: {"pacemaker": held} for node in NODES}
    seen = nodes(guest("node1"), **views)
    hold, standby = told(seen, "web1")
    assert hold.startswith("web1 is held from Pacemaker") and "kvmcluster.recover web1" in hold
    assert standby.startswith("node2 is on standby") and "kvmcluster.undrain node2" in standby
    gone = told(nodes(**views), "web1")[0]
    assert gone.startswith("web1 runs nowhere") and "kvmcluster.start" not in gone
    assert "kvmcluster.recover web1" in gone


def test_what_a_command_of_ours_holds_that_is_at_work_is_a_note():
    mark = "shutdown node1 2026-11-29T10:45:06.123+00:00 812:4711"
    found = pacemakers.view("running")
    guests_held = (
        replace(one, mark=mark, managed=False) if one.id == "web1" else one
        for one in found.configuration.guests
    )
    held = replace(
        found,
        configuration=replace(found.configuration, guests=tuple(guests_held)),
        working=frozenset({mark}),
    )
    views = {node: {"pacemaker": replace(held, name=node)} for node in NODES}
    for seen in (nodes(guest("node1"), **views), nodes(**views)):
        data = status(seen, "web1")
        assert data["ok"] and len(data["notes"]) == 1
        assert data["notes"][0].endswith("which is at work")


# ---- guests that stand, and what migrations left


@pytest.mark.parametrize("job", verdicts.PASSING)
def test_what_is_under_way_needs_nobody(job):
    for sighting in Sighting:
        found = nodes(guest("node1", job=job), guest("node2", sighting))
        assert all("RUNS TWICE" in one for one in told(found))


@pytest.mark.parametrize(
    ("sighting", "reason", "words"),
    [
        (
            Sighting.PAUSED_OTHERWISE,
            "I/O error",
            "web1 stands on node1, neither running nor paused by its user (I/O error): on node1:"
            " virsh domstate --reason web1; mend the cause, then: virsh resume web1",
        ),
        (
            Sighting.PAUSED_OTHERWISE,
            "panicked",
            "web1 stands on node1, neither running nor paused by its user (panicked): on node1:"
            " virsh dump web1 FILE, if its memory is to be examined; virsh destroy web1; then start"
            " it again",
        ),
        (Sighting.PAUSED_BY_ERROR, "", f"as paused, since it could not resume: {RECOVER} web1"),
        (Sighting.PAUSED_FOR_MIGRATION, "", f"as paused for migration: {RECOVER} web1"),
        (Sighting.WAITING, "", f"as a copy that waits for its handover: {RECOVER} web1"),
        (Sighting.PAUSED_IN_POST_COPY, "", f"as paused in post-copy: {RECOVER} web1"),
    ],
)
def test_a_guest_that_stands_still_is_told_with_the_way_out(sighting, reason, words):
    (problem,) = told(nodes(guest("node1", sighting, reason=reason)), "web1")
    assert problem.endswith(words) and problem.startswith("web1 stands on node1, ")


def test_a_copy_that_a_migration_left_beside_its_guest_is_to_be_removed():
    found = nodes(guest("node1"), guest("node2", Sighting.PAUSED_FOR_MIGRATION))
    assert told(found) == [
        f"web1 is running on node1, and node2 still has a copy of it, paused for migration:"
        f" {RECOVER} web1"
    ]


def test_a_post_copy_migration_that_broke_is_told_once():
    halves = [
        guest("node1", Sighting.PAUSED_IN_POST_COPY, job=verdicts.BROKEN),
        guest("node2", Sighting.RUNNING_IN_POST_COPY, job=verdicts.BROKEN),
    ]
    assert told(nodes(*halves)) == [
        "the post-copy migration of web1 broke: it is paused in post-copy on node1 and running in"
        f" post-copy on node2: {RECOVER} web1"
    ]


def test_an_operation_that_does_not_end_is_told():
    (problem,) = told(nodes(guest("node1", job=verdicts.ENDLESS)))
    assert "an operation of libvirt on web1 does not end on node1" in problem


def test_a_guest_that_runs_twice_is_told_although_a_daemon_hangs():
    twice = nodes(guest("node1", job=verdicts.ENDLESS), guest("node2"))
    assert "RUNS TWICE, on node1 and on node2" in told(twice)[0]
    assert problems.may_pass(worlds.cluster(NODES), twice)
    moving = nodes(guest("node1", job=verdicts.ENDLESS), guest("node2", job=verdicts.INCOMING))
    assert told(moving) == []


@pytest.mark.parametrize("job", [verdicts.BACKUP, verdicts.OUTGOING])
def test_a_fault_is_told_although_a_job_is_active(job):
    stands = guest("node1", Sighting.PAUSED_OTHERWISE, reason="I/O error", job=job)
    arrives = guest("node2", Sighting.PAUSED_FOR_MIGRATION, job=verdicts.INCOMING)
    for found in (nodes(stands), nodes(stands, arrives)):
        (problem,) = told(found)
        assert problem.startswith("web1 stands on node1") and "I/O error" in problem
    saved = guest("node1", Sighting.PAUSED_OTHERWISE, reason="save", job=verdicts.BACKUP)
    assert told(nodes(saved)) == []


def test_a_guest_that_its_user_paused_is_a_note():
    found = status(nodes(guest("node1", Sighting.PAUSED_BY_USER)), "web1")
    assert found["ok"] and found["notes"] == [
        "web1 is paused by its user on node1; to let it go on: on node1: virsh resume web1"
    ]


def test_autostart_where_it_runs_is_a_note_and_elsewhere_it_would_run_twice():
    found = status(nodes(guest("node1", autostart=True)))
    assert found["ok"] and "node1 would start web1 at its next boot, wherever" in found["notes"][0]
    other = guest("node2", Sighting.SHUT_OFF, autostart=True)
    found = status(nodes(guest("node1"), other))
    assert found["problems"] == [
        "node2 would start web1 at its next boot, though it is on node1: on node2: virsh autostart"
        " --disable web1"
    ]
    assert status(nodes(other))["ok"]


def test_a_cordon_needs_nobody():
    found = status(nodes(guest("node1"), node1={"cordoned": (Cordon("", "new memory"),)}), "web1")
    assert found["ok"] and "CORDONED  node1 is cordoned: new memory" in tables.render(found)


@pytest.mark.parametrize(
    "found",
    [
        nodes(guest("node1"), guest("node2")),
        nodes(guest("node1", Sighting.WAITING)),
        nodes(guest("node1", Sighting.PAUSED_FOR_MIGRATION), guest("node2")),
        nodes(),
    ],
)
def test_what_may_be_a_guest_on_its_way_is_looked_at_again(found):
    assert problems.may_pass(worlds.cluster(NODES, {"list": {"web1": {}}}), found)
    assert not problems.may_pass(worlds.cluster(NODES), nodes(guest("node1"), node2="gone"))


def test_what_is_off_on_purpose_is_not_looked_at_again():
    listed = worlds.cluster(NODES, {"list": {"web1": {}}})
    assert not problems.may_pass(listed, nodes(node2={"shutdowns": {"web1": SHUT}}))


# ---- a node whose minion is silent


def by_peers(answers, detail="no response", answered=False):
    return node_report.by_peers(silent("node3", detail, answered), answers, 0.0, 0.0)


PS = "Ss /sbin/init\nS+ vim /etc/salt/minion\n"
RUNS = "Ssl /opt/saltstack/salt/bin/python3.10 /usr/bin/salt-minion\n"


def facts(*guests, ps=PS, **more):
    sent = [
        {"name": one.name, "uuid": one.uuid, "sighting": one.observation.sighting.value}
        for one in guests
    ]
    return {"guests": sent, "commands": {"minion": {"code": 0, "out": ps}}, **more}


def test_a_node_whose_minion_is_silent_is_told_as_its_peers_see_it():
    seen = by_peers({"node1": "no route", "node2": facts(guest("node3"), ps=PS + RUNS)})
    found = {**nodes(), "node3": seen}
    assert told(found, "web1") == [
        "node3: minion silent (no response), host reachable by ssh from node2: guests web1 there;"
        " on node3: systemctl restart salt-minion"
    ]
    data = status(found, "web1")
    assert data["silent"] == {"node3": "no response"}
    assert data["nodes"]["node3"]["seen_from"] == "node2"
    (row,) = data["status"]
    assert (row["where"], row["state"]) == ("node3", "running")
    text = tables.render(data)
    assert "node3  minion silent  1" in text
    assert text.endswith("PROBLEM: 1 guest, 2 of 3 nodes answered in cluster lab")


@pytest.mark.parametrize(
    ("ps", "why"),
    [
        (PS, "no response; no salt-minion runs there"),
        (RUNS.replace("Ssl", "T"), "no response; its salt-minion is stopped"),
        (RUNS + RUNS.replace("Ssl", "T"), "no response"),
        ("Ss /usr/bin/salt-minion -d\n", "no response"),
    ],
)
def test_a_minion_that_does_not_run_is_told(ps, why):
    (problem,) = told({**nodes(), "node3": by_peers({"node1": facts(ps=ps)})})
    assert f"minion silent ({why}), host reachable by ssh from node1: no guest is" in problem


def test_a_start_is_not_proposed_where_the_master_cannot_ask_for_it():
    found = {**nodes(), "node3": by_peers({"node1": facts()})}
    assert told(found, web1="node3")[1].endswith(f"{START} web1")


def test_a_host_without_libvirt_hides_its_guests_although_peers_reach_it():
    seen = by_peers({"node1": facts(daemon={"detail": "no libvirt"}) | {"guests": None}})
    silent_, unknown = told({**nodes(), "node3": seen}, "web1")
    assert "host reachable by ssh from node1: its libvirt does not respond: no libvirt" in silent_
    assert "not known whether web1 runs" in unknown


def test_a_node_that_no_peer_reaches_is_unreachable_with_every_cause():
    seen = by_peers({"node1": "no login by ssh (node3-mig: no route)", "node2": ["?"]})
    (problem,) = told({**nodes(), "node3": seen})
    assert problem == (
        "node3 is unreachable: no response; from node1: no login by ssh (node3-mig: no route);"
        " from node2: invalid facts; if it is up: on node3: systemctl restart salt-minion"
    )


def test_if_no_node_answers_the_master_is_suspected_before_any_node():
    dead = {node: silent(node, "no response") for node in nodes()}
    first, *others = told(dead)
    assert first.startswith("no node answers, so that the master, or its network, is to be suspect")
    assert [sentence.split()[0] for sentence in others] == list(dead)
    answered = {**dead, "node1": silent("node1", "its pillar is wrong", answered=True)}
    assert not any("master" in sentence for sentence in told(answered))


def test_a_node_whose_libvirt_is_down_is_not_called_unreachable():
    (problem,) = told(nodes(node3={"guests": None, "daemon_detail": "refused"}))
    assert problem == (
        "node3: its libvirt does not respond: refused; on node3: systemctl restart libvirtd (or"
        " virtqemud), and read its journal"
    )


def test_a_libvirt_that_refuses_the_login_is_not_to_be_restarted():
    remedy = logins.REMEDIES[logins.NO_LIBVIRT]
    refused = f"authentication unavailable; {remedy}"
    (problem,) = told(nodes(node3={"guests": None, "daemon_detail": refused}))
    assert problem == f"node3: its libvirt does not respond: {refused}"


def test_a_minion_that_answers_with_an_error_is_not_called_silent():
    error = node_report.parse("node3", "ERROR executing 'f': no key", 0.0, 0.0)
    assert told({**nodes(), "node3": error}) == [
        "node3 answered, but did not report its guests: no key"
    ]
    seen = node_report.by_peers(error, {"node1": facts(guest("node3"))}, 0.0, 0.0)
    (problem,) = told({**nodes(), "node3": seen}, "web1")
    assert problem.startswith("node3: its minion answered with an error (no key), host")
    found = {**nodes(), "node3": seen}
    wrong, pillar = overview.status(CLUSTER, found, {"node3": "no key"}).to_dict()["problems"]
    assert "with an error (its pillar is wrong), host reachable by ssh from node1" in wrong
    assert pillar == "the pillar of node3: no key"
    assert "restart salt-minion" not in problem


def test_what_peers_report_of_a_node_is_found_in_whatever_they_send():
    answers = {"node1": {"nodes": {"node3": "x"}}, "node2": "ERROR", "node4": {"nodes": []}}
    assert node_report.of_node(answers, "node3") == {
        "node1": "x",
        "node2": "ERROR",
        "node4": {"nodes": []},
    }


# ---- pillars


def described(name="lab", **more):
    pillar = {"kvmcluster": {"name": name, "nodes": dict.fromkeys(NODES), **more}}
    return pillar


CLUSTER = replace(worlds.cluster(NODES), described_by="node1")
SAME = {"kvmcluster": {"name": "lab", "nodes": {n: {"migration": f"{n}-mig"} for n in NODES},
                       "guests": {}}}  # fmt: skip


@pytest.mark.parametrize(
    ("pillar", "why"),
    [
        (SAME, ""),
        ({"_errors": ["Rendering SLS 'kvm' failed:\n  bad"]}, "it does not render: Rendering SLS"),
        ({"other": 1}, "it has no key kvmcluster"),
        (described(shh={}), "kvmcluster: unknown key 'shh'"),
        (described("prod"), "it is of cluster prod, and that of node1 of lab"),
        (described(guests={}), "it differs from that of node1 in nodes"),
        ({"kvmcluster": {**SAME["kvmcluster"], "ssh": {"login": "kvm"}}}, "node1 in ssh"),
    ],
)
def test_a_pillar_that_is_wrong_is_told_with_the_cause(pillar, why):
    found = agreement.fault(CLUSTER, pillar)
    assert why in found and bool(found) is bool(why)


def test_pillars_are_told_by_node_those_by_which_nodes_work_too():
    stale = {**CLUSTER.parts, "guests": "0" * 16}
    kept = {"node1": CLUSTER.parts, "node2": stale, "node3": stale}
    assert agreement.sentences(CLUSTER, kept, {}) == [
        "node2, node3 work by another pillar than the master renders now: it differs from the"
        " master's in guests: salt -L node2,node3 saltutil.refresh_pillar"
    ]
    rendered = {"node3": "it does not render: bad"}
    assert agreement.sentences(CLUSTER, kept | {"node2": {}}, rendered) == [
        "the pillar of node3: it does not render: bad"
    ]
    data = overview.status(CLUSTER, nodes(node2={"pillar": stale}), rendered).to_dict()
    assert not data["ok"] and len(data["problems"]) == 2


def test_of_few_nodes_all_pillars_are_rendered_of_many_those_in_doubt():
    same, other = CLUSTER.parts, {**CLUSTER.parts, "name": "prod"}
    assert agreement.in_question(CLUSTER, {"node1": same, "node2": other}) == ["node1", "node2"]
    many = {f"n{number}": same for number in range(agreement.FEW)}
    assert agreement.in_question(CLUSTER, {**many, "a": other, "b": {}}) == ["a", "b"]


def test_members_says_first_what_is_wrong_with_a_pillar():
    data = {"kind": "members", "cluster": "lab", "ok": False, "members": ["node1", "node2"]}
    text = tables.render({**data, "faults": {"node2": "it has no key kvmcluster"}})
    assert text.splitlines() == [
        "PROBLEM  the pillar of node2: it has no key kvmcluster",
        "cluster lab: node1, node2",
    ]


def test_two_guests_of_one_name_are_no_absentee():
    assert told(nodes(guest("node1"), guest("node2", Sighting.SHUT_OFF, uuid=OTHER)), "web1") == []
