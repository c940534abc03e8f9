"""Rumours: which events are followed, what they are taken to say, and what is seen to be wrong."""

import json
import math
from datetime import datetime, timezone
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from material import MORE_EXAMPLES

from saltext_kvmcluster.core.errors import InputError
from saltext_kvmcluster.core.events import events, reactions, split_brain, unasked
from saltext_kvmcluster.core.events.reactions import ALARM, RECOVER, RESTART, TRUST, Event
from saltext_kvmcluster.core.facts import node_report
from saltext_kvmcluster.core.failover import restarts
from saltext_kvmcluster.core.pillar.parser import from_pillar
from saltext_kvmcluster.master import reactor

UUID = "11111111-1111-4111-8111-111111111111"
MEMBERS = {"lab": ("node1", "node2"), "two": ("node2", "other")}
CLUSTER = from_pillar({"kvmcluster": {"name": "lab", "nodes": {"node1": None, "node2": None}}})
ENDED = {"what": "ended", "result": "unknown"}
DRIFTED = {"what": "drifted"}


def event(tag, data, sender="node1"):
    """Return an event as the master's bus has one that was fired by ``event.send``."""
    return tag, {"id": sender, "cmd": "_minion_event", "tag": tag, "data": data}


def nested(depth):
    value = "deep"
    for _ in range(depth):
        value = {"data": value}
    return value


WELL_FORMED = {
    "identity": (event("kvmcluster/lab/identity/node1", {"what": "changed"}), {TRUST}),
    "drifted": (event("kvmcluster/lab/trust/node1", DRIFTED), {TRUST}),
    "mended": (event("kvmcluster/lab/trust/node1", {"what": "mended"}), set()),
    "unknown": (event("kvmcluster/lab/migration/node1/web", ENDED), {RECOVER, ALARM}),
    "failed": (
        event("kvmcluster/lab/migration/node1/web", {**ENDED, "result": "not_moved"}),
        {RECOVER, ALARM},
    ),
    "moved": (event("kvmcluster/lab/migration/node1/web", {**ENDED, "result": "moved"}), set()),
    "copying": (event("kvmcluster/lab/migration/node1/web", {"what": "copying"}), set()),
    "quoted": (event(events.tag("lab", "guest", "node1", "web 1"), {"what": "started"}), {ALARM}),
    "back": (event("kvmcluster/lab/daemon/node1", {"what": "back"}), {RECOVER, ALARM}),
    "gone": (event("kvmcluster/lab/daemon/node1", {"what": "gone"}), set()),
    "started": (event("kvmcluster/lab/guest/node1/web", {"what": "started"}), {ALARM}),
    "appeared": (event("kvmcluster/lab/guest/node1/web", {"what": "appeared"}), {ALARM}),
    "stands": (event("kvmcluster/lab/guest/node1/web", {"what": "stands"}), {RECOVER, ALARM}),
    "crashed": (event("kvmcluster/lab/guest/node1/web", {"what": "crashed"}), {RESTART}),
    "vanished": (event("kvmcluster/lab/guest/node1/web", {"what": "gone"}), {RESTART}),
    "stopped": (event("kvmcluster/lab/guest/node1/web", {"what": "stopped"}), set()),
    "our own restart": (("kvmcluster/lab/restart/node1/web", {"what": "started"}), set()),
    "lost": (event("kvmcluster/lab/readiness/node1", {"what": "lost"}), set()),
    "our own alarm": (
        ("kvmcluster/lab/alarm/node1/web", {"what": "appeared", "guest": "web"}),
        set(),
    ),
}

FORGED = {
    "about another node": event("kvmcluster/lab/trust/node2", DRIFTED),
    "start of another": event("salt/minion/node2/start", "Minion node2 started"),
    "no sender": ("kvmcluster/lab/trust/node1", {"data": DRIFTED}),
    "a beacon's list": ("kvmcluster/lab/trust/node1", DRIFTED),
    "a sender that is a list": event("kvmcluster/lab/trust/node1", DRIFTED, ["node1"]),
    "bytes for a sender": event("kvmcluster/lab/trust/node1", DRIFTED, b"node1"),
    "no kind": event("kvmcluster", DRIFTED),
    "two parts": event("kvmcluster/lab", DRIFTED),
    "no node": event("kvmcluster/lab/trust", DRIFTED),
    "an empty part": event("kvmcluster/lab/trust//node1", DRIFTED),
    "a part too many": event("kvmcluster/lab/trust/node1/web", DRIFTED),
    "a guest too few": event("kvmcluster/lab/migration/node1", ENDED),
    "a guest too many": event("kvmcluster/lab/migration/node1/web/web", ENDED),
    "an unknown kind": event("kvmcluster/lab/destroy/node1", DRIFTED),
    "an unknown what": event("kvmcluster/lab/trust/node1", {"what": "rm -rf"}),
    "a what that is a list": event("kvmcluster/lab/trust/node1", {"what": ["drifted"]}),
    "no what": event("kvmcluster/lab/trust/node1", {}),
    "data that are text": event("kvmcluster/lab/trust/node1", "drifted"),
    "data that are none": event("kvmcluster/lab/trust/node1", None),
    "data that are a list": event("kvmcluster/lab/trust/node1", [DRIFTED]),
    "an unknown result": event("kvmcluster/lab/migration/node1/web", {**ENDED, "result": "ok"}),
    "a result that is a mapping": event(
        "kvmcluster/lab/migration/node1/web", {"what": "ended", "result": {}}
    ),
    "no result": event("kvmcluster/lab/migration/node1/web", {"what": "ended"}),
    "another root": event("kvmclusters/lab/trust/node1", DRIFTED),
    "a newline": event("kvmcluster/lab/trust/node1\n", DRIFTED),
    "a newline in the start": event("salt/minion/node1\n/start", "started", "node1"),
    "Jinja": event("kvmcluster/{{ salt['cmd.run']('id') }}/trust/node1", DRIFTED),
    "YAML": event("kvmcluster/!!python%2Fobject/trust/node1", DRIFTED),
    "a quotation mark": event('kvmcluster/lab/trust/node1"', DRIFTED),
    "quoted otherwise": event("kvmcluster/lab/trust/n%6Fde1", DRIFTED),
    "half a quotation": event("kvmcluster/lab/trust/node1%", DRIFTED),
    "no UTF-8": event("kvmcluster/lab/trust/%FF%FE", DRIFTED),
    "beyond ASCII": event("kvmcluster/lab/trust/nøde1", DRIFTED),
    "a surrogate": event("kvmcluster/lab/trust/\udcff", DRIFTED),
    "a terminal's sequence": event("kvmcluster/\x1b[2J/trust/node1", DRIFTED),
    "a guest that is a path": event("kvmcluster/lab/migration/node1/..%2F..%2Fetc", ENDED),
    "a guest that is an option": event("kvmcluster/lab/migration/node1/-rf", ENDED),
    "a long tag": event("kvmcluster/lab/trust/" + "x" * 100000, DRIFTED),
    "a long guest": event("kvmcluster/lab/migration/node1/" + "x" * 1300, ENDED),
    "a long what": event("kvmcluster/lab/trust/node1", {"what": "drifted" * 100000}),
    "deep data": event("kvmcluster/lab/trust/node1", nested(5000)),
    "a tag that is none": (None, {"id": "node1", "data": DRIFTED}),
    "data that are no mapping": ("kvmcluster/lab/trust/node1", "drifted"),
}
NO_MEMBERS = {
    "no member": event("kvmcluster/lab/trust/stranger", DRIFTED, "stranger"),
    "a member of another": event("kvmcluster/lab/trust/other", DRIFTED, "other"),
    "no cluster": event("kvmcluster/nowhere/trust/node1", DRIFTED),
    "a path for a cluster": event("kvmcluster/..%2F..%2Fetc/trust/node1", DRIFTED),
}


@pytest.mark.parametrize("name", WELL_FORMED)
def test_a_well_formed_event_is_followed_by(name):
    (tag, data), wanted = WELL_FORMED[name]
    heard = reactions.parse(tag, data)
    assert set(heard.reactions) == wanted
    assert reactions.clusters(heard, MEMBERS) == ["lab"]


@pytest.mark.parametrize("name", FORGED)
def test_what_is_forged_or_malformed_is_refused_in_one_short_line(name):
    tag, data = FORGED[name]
    with pytest.raises(InputError) as caught:
        reactions.parse(tag, data)
    detail = str(caught.value)
    assert detail.startswith("event ") and " ignored: " in detail
    assert detail.isprintable() and len(detail) < 400, detail


@pytest.mark.parametrize("name", NO_MEMBERS)
def test_an_event_from_outside_its_cluster_is_refused(name):
    event = reactions.parse(*NO_MEMBERS[name])
    with pytest.raises(InputError, match=r"not a node of cluster|no cluster") as caught:
        reactions.clusters(event, MEMBERS)
    assert str(caught.value).isprintable() and len(str(caught.value)) < 400


def test_a_start_concerns_every_cluster_of_the_minion_and_nobody_elses():
    heard = reactions.parse(*event("salt/minion/node2/start", "Minion node2 started", "node2"))
    assert heard == Event("node2", None, (TRUST, RECOVER, ALARM))
    assert reactions.clusters(heard, MEMBERS) == ["lab", "two"]
    stranger = reactions.parse(*event("salt/minion/x/start", "", "x"))
    assert reactions.clusters(stranger, MEMBERS) == []


@pytest.mark.parametrize("name", [*WELL_FORMED, *FORGED, *NO_MEMBERS])
@pytest.mark.parametrize("reaction", reactions.REACTIONS)
def test_a_reactor_hands_over_short_texts_that_are_judged_alike(name, reaction):
    known = {**{key: one[0] for key, one in WELL_FORMED.items()}, **FORGED, **NO_MEMBERS}
    tag, data = known[name]
    low = reactions.low(reaction, tag, data, ())
    assert len(json.dumps(low)) < 20000
    wanted = reaction in ((ALARM,) if name in FORGED else reactions.parse(tag, data).reactions)
    assert bool(low) is wanted
    if not low:
        return
    (call,) = low[f"kvmcluster-{reaction}"]["runner.kvmcluster.react"]
    passed = {key: value for one in call["args"] for key, value in one.items()}
    assert passed["reaction"] == reaction
    assert is_refused(passed["tag"], passed["data"]) == is_refused(tag, data)


def test_a_rumour_that_waits_already_is_not_left_again():
    for reaction in (RECOVER, ALARM):
        (tag, data), _ = WELL_FORMED["unknown"]
        assert reactions.low(reaction, tag, data, {"lab.trust", f"two.{reaction}"})
        assert not reactions.low(reaction, tag, data, {f"lab.{reaction}"})
    assert reactions.low(ALARM, *FORGED["about another node"], {"lab.alarm", "lab.trust"})


@pytest.mark.parametrize(
    ("reactor", "wanted"),
    [
        ([], []),
        (None, []),
        ("/etc/salt/reactor.conf", []),
        ([{"kvmcluster/*": ["/srv/salt/kvmcluster/reactor/trust.sls"]}], [TRUST]),
        ([{"kvmcluster/*": "salt://kvmcluster/reactor/recover.sls"}], [RECOVER]),
        (
            [
                {"salt/minion/*/start": ["/a/kvmcluster/reactor/alarm.sls", "/a/other.sls"]},
                {"kvmcluster/*": ["/a/kvmcluster/reactor/alarm.sls", "/b/reactor/trust.sls"]},
            ],
            [ALARM],
        ),
        ([{"*": "/srv/salt/kvmcluster/reactor/*.sls"}], [RESTART, RECOVER, ALARM, TRUST]),
        ([7, {"*": None}, {"*": ["", "trust.sls", 7]}], []),
    ],
)
def test_reactions_that_the_master_has_are_found_by_their_files(reactor, wanted):
    assert unasked.configured(reactor) == wanted


def test_a_reaction_that_nothing_called_for_in_a_while_is_due():
    assert not unasked.is_due(RECOVER, 119, "") and unasked.is_due(RECOVER, 120, "")
    assert not unasked.is_due(RECOVER, 599, "web") and unasked.is_due(RECOVER, 600, "web")
    for reaction in reactions.REACTIONS:
        assert unasked.is_due(reaction, math.inf, "") and unasked.is_due(reaction, -1, "")
        assert not unasked.is_due(reaction, 0, "") and not unasked.is_due(reaction, 0, "x")
    # A restart is tried again while its crash counts, even if nobody heard of it.
    assert 2 * unasked.AFTER[RESTART][1] < restarts.RECENT


def test_what_cannot_wait_comes_first():
    keys = ["a.trust", "lab.recover", "b.restart", "other", "lab.alarm"]
    wanted = ["b.restart", "lab.recover", "lab.alarm", "a.trust", "other"]
    assert sorted(keys, key=unasked.urgency) == wanted


def test_a_node_that_was_only_late_is_asked_once_more(monkeypatch):
    """On a busy machine the only event of a migration was answered while its node was silent."""
    row = {"guest": "web", "watched": False, "stage": "ended"}
    late = [{"node2": {"unsettled": [], "unread": []}}]
    late += [{"node1": {"unsettled": [row], "unread": []}}] * 2
    asked, settled = [], []

    def ask(nodes, function):
        asked.append(nodes)
        return late.pop(0)

    def orchestrate(self, sls, pillar):
        settled.append((sls, pillar["guests"]))
        return ""

    monkeypatch.setattr(reactor.Reactor, "_orchestrate", orchestrate)
    monkeypatch.setattr(reactor.log, "warning", lambda *words: None)
    nodes = SimpleNamespace(
        cluster=CLUSTER,
        all=["node1", "node2"],
        ask=ask,
        forget_silence=lambda: asked.append("who was silent may answer"),
    )
    react = reactor.Reactor({"cachedir": "/nonexistent"}, {}, {})._settle_migrations
    assert react(nodes, "") == ""
    assert asked == [["node1", "node2"], "who was silent may answer", ["node1"]]
    assert settled == [("kvmcluster.orch.recover", ["web"])]


def is_refused(tag, data):
    try:
        reactions.parse(tag, data)
    except InputError:
        return True
    return False


JUNK = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)


@MORE_EXAMPLES
@given(
    st.text()
    | st.lists(st.sampled_from(["kvmcluster", "lab", "trust", "node1", "%"])).map("/".join),
    st.fixed_dictionaries({}, optional={"id": JUNK, "data": JUNK}) | JUNK,
)
def test_whatever_comes_is_judged_and_nothing_breaks(tag, data):
    for reaction in reactions.REACTIONS:
        assert isinstance(reactions.low(reaction, tag, data, ()), dict)


def test_nothing_is_said_twice_in_a_minute_nor_too_much():
    limiter = reactions.LogLimiter()
    assert limiter.new("a", 0.0) == "a"
    assert limiter.new("a", 59.0) == ""
    assert limiter.new("a", 61.0) == "a"
    detail = [limiter.new(f"forged {number}", 62.0) for number in range(1000)]
    assert sum(map(bool, detail)) == 100
    assert detail[98] == "forged 98" and detail[99].startswith("too many ignored events")
    assert limiter.new("forged 999", 130.0) == "forged 999"


def test_the_name_of_a_key_tells_cluster_and_reaction():
    assert reactions.parts(reactions.key("a.trust", "recover")) == ("a.trust", "recover")
    assert [reactions.parts(name) for name in ("lab.shred", ".trust", "trust", "")] == [None] * 4


def test_somebodys_words_become_one_line():
    detail = reactions.line("a\nb\x1b[2J\t" + "c" * 5000)
    assert detail.isprintable() and detail.startswith("a b\ufffd[2J c") and len(detail) == 2001


def state(result, changes=(), comment=""):
    return {"result": result, "changes": dict.fromkeys(changes, "x"), "comment": comment}


TRIED = {
    "whole": ({"a": state(True), "b": state(True)}, set(), set()),
    "drifted": ({"a": state(True), "b": state(None, ["authorized_keys2"])}, {"node1"}, set()),
    "refused, and to be mended": ({"a": state(False, ["x"], "refused")}, {"node1"}, set()),
    "refused": ({"a": state(False, (), "refused\n\x1b[2J")}, set(), {"node1"}),
    "no such SLS": (["No matching sls found"], set(), {"node1"}),
    "a failure": ("ERROR: no pillar", set(), {"node1"}),
    "no answer": ("Minion did not return. [Not connected]", set(), set()),
    "nothing": (None, set(), set()),
    "nonsense": ({"a": 3}, set(), {"node1"}),
    "changes that are none": ({"a": {"changes": 5, "result": True}}, set(), {"node1"}),
    "odd changes": ({"a": {"changes": None, "result": True}}, set(), set()),
}
SILENT = ("no answer", "nothing")


@pytest.mark.parametrize("name", TRIED)
def test_the_trust_is_wrong_only_where_that_is_seen(name):
    states, wrong, stuck = TRIED[name]
    observed = reactions.trust(
        CLUSTER, {}, {}, {"node1": states, "stranger": {"a": state(None, "x")}}
    )
    assert (set(observed.wrong), set(observed.stuck)) == (wrong, stuck)
    assert observed.silent == (("node2",) if name not in SILENT else ("node1", "node2"))
    assert all(why.isprintable() for why in [*observed.wrong.values(), *observed.stuck.values()])


def row(guest, stage="begun", watched=False):
    return {"guest": guest, "stage": stage, "watched": watched}


def test_which_migrations_are_left():
    reported = {
        "node1": {
            "unsettled": [row("killed"), row("going", watched=True), row("late", "ended", True)],
            "unread": ["a file\nis no entry", 3],
        },
        "node2": {
            "unsettled": [row("../x"), row(3), row("x", "odd"), row("x", watched=1)],
            "unread": [],
        },
    }
    left = reactions.left(CLUSTER, reported)
    assert (left.guests, left.watched) == (("killed", "late"), ("going",))
    assert (left.unread, left.silent) == (
        ("node1: a file is no entry", "node1: unexpected response"),
        (),
    )


def test_who_says_that_it_is_at_a_guest_speaks_for_its_own_node_alone():
    reported = {
        "node1": {"unsettled": [row("web")], "unread": []},
        "node2": {"unsettled": [row("web", watched=True)], "unread": []},
    }
    left = reactions.left(CLUSTER, reported)
    assert (left.guests, left.watched) == (("web",), ())


def test_of_a_node_that_makes_up_migrations_some_are_looked_at():
    rows = [row(f"web{number}") for number in range(50_000)]
    left = reactions.left(CLUSTER, {"node1": {"unsettled": rows, "unread": []}})
    assert len(left.guests) == reactions.MOST_LEFT
    assert left.unread == ("node1: 50000 unsettled migrations, 100 were checked",)


@pytest.mark.parametrize(
    "answer", [None, "ERROR", [], {}, {"unsettled": []}, {"unsettled": 3, "unread": []}]
)
def test_of_a_node_that_tells_no_journal_nothing_is_known(answer):
    left = reactions.left(CLUSTER, {"node1": answer, "stranger": {"unsettled": [row("web")]}})
    assert left == reactions.Left((), (), (), ("node1", "node2"))


def test_what_an_orchestration_came_to():
    good = {"a": {"__id__": "keys", "result": True, "comment": "well"}}
    bad = {**good, "b": {"__id__": "trust", "result": False, "comment": "node2\nis down"}}
    assert reactions.failures(good) == ""
    assert reactions.failures(bad) == "trust: node2 is down"
    for states in (None, {}, "Exception occurred", ["No SLS"]):
        assert "the orchestration returned" in reactions.failures(states)
    assert reactions.failures({"a": "text"}) == "text"


def sighted(name="web", uuid=UUID, state="running", job="", xml="<domain/>"):
    return {
        **{"name": name, "uuid": uuid, "sighting": state, "job": job, "xml": xml},
        **{"persistent": True, "autostart": False, "reason": "booted"},
    }


def raised(**guests):
    sent = {
        node: {"node": node, "daemon": {"detail": "-"}, "guests": found, "commands": {}}
        for node, found in guests.items()
    }
    read = {node: node_report.parse(node, sent.get(node), 0.0, 0.0) for node in CLUSTER.nodes}
    return split_brain.alarms(CLUSTER, read, sent, datetime(2026, 1, 1, tzinfo=timezone.utc))


def test_a_guest_that_runs_twice_is_told_with_what_each_node_has():
    (one,) = raised(node1=[sighted()], node2=[sighted(xml="<domain type='kvm'/>")])
    assert (one["guest"], one["uuid"], one["nodes"]) == ("web", UUID, ["node1", "node2"])
    assert one["sentence"].startswith(f"web ({UUID}) RUNS TWICE, on node1 and on node2")
    assert one["copies"]["node2"]["definition"] == "<domain type='kvm'/>"
    assert one["copies"]["node1"]["since"] is None and one["silent"] == []
    reported = split_brain.small(one)
    assert reported["what"] == "twice" and "definition" not in json.dumps(reported)


def test_no_alarm_is_raised_for_what_is_no_double():
    assert raised(node1=[sighted()], node2=[sighted(state="shut off")]) == []
    assert raised(node1=[sighted()]) == []
    moving = sighted(job="an outgoing migration")
    assert raised(node1=[moving], node2=[sighted(job="an incoming migration")]) == []


def test_two_looks_have_to_show_the_same_double():
    one = {"uuid": "u", "nodes": ["node1", "node2"]}
    moved = {"uuid": "u", "nodes": ["node2", "node3"]}
    assert split_brain.steady([one], [one]) == [one]
    assert split_brain.steady([one], [moved]) == split_brain.steady([], [one]) == []
    assert (
        split_brain.summary([one])
        != split_brain.summary([moved])
        != split_brain.summary([one, moved])
    )
    assert split_brain.summary([one, moved]) == split_brain.summary([moved, one])
