"""What a beacon tells: from looks to transitions, told once, and nothing that was not seen."""

import itertools
import json
import pathlib
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st
from material import MORE_EXAMPLES

from saltext_kvmcluster.core.errors import InputError, WorldError
from saltext_kvmcluster.core.events import events, transitions
from saltext_kvmcluster.core.events.transitions import Observation
from saltext_kvmcluster.core.fileplan import FilePlan, FileState
from saltext_kvmcluster.core.trust import blocks, client_config, drift, pinned_hosts

UUID = "1c7e0c85-7cd1-4520-96cf-4385fab1f80c"
BOOTED = ("started", "booted")
COMES = ("started", "migrated")
IS_HERE = ("resumed", "migrated")
IO = ("paused", "I/O error")
GOES_ON = ("resumed", "unpaused")


def observe(*events, **more):
    known = {"drifted": [], "identity": {}, "issues": [], "at": 0.0}
    return {"events": list(events), **known, **more}


def entry(active=True, state="running", how="booted", run=1, uuid=UUID, name="web1"):
    return {
        "uuid": uuid, "name": name, "run": run if active else -1,
        "active": active, "state": state, "how": how,
    }  # fmt: skip


def listing(*guests):
    return {"kind": transitions.LISTING, "guests": list(guests)}


def change(what, how, run=1):
    return {
        "kind": transitions.CHANGE, "what": what, "how": how,
        "uuid": UUID, "name": "web1", "run": run,
    }  # fmt: skip


def lost(detail="end of file"):
    return {"kind": transitions.LOST, "detail": detail}


def begun(*guests):
    """Return what is known after a first look at those guests, and what that told."""
    return transitions.compare(Observation(), observe(listing(*guests)))


def whats(reported, kind="guest"):
    return [one.data["what"] for one in reported if one.kind == kind]


def after(observed, *changes):
    """Return what changes of a guest tell, one look for all of them."""
    return transitions.compare(observed, observe(*(change(*one) for one in changes)))[1]


def test_a_first_look_tells_what_is_bad_and_not_what_runs():
    guests = [
        entry(uuid="a", name="a"),
        entry(uuid="b", name="b", state="paused", how="I/O error"),
        entry(uuid="c", name="c", state="crashed", how="panicked"),
        entry(uuid="d", name="d", state="paused", how="migrating"),
        entry(uuid="e", name="e", active=False, state="", how="crashed"),
    ]
    _, reported = transitions.compare(
        Observation(), observe(listing(*guests), drifted=["/k"], issues=["no listener"])
    )
    assert [(one.kind, one.guest, one.data["what"]) for one in reported] == [
        ("guest", "b", "paused"),
        ("guest", "c", "crashed"),
        ("trust", "", "drifted"),
        ("readiness", "", "lost"),
    ]


def test_a_second_look_at_the_same_tells_nothing():
    bad = observe(lost(), drifted=["/k"], issues=["no listener"], identity={"host_keys": ["a"]})
    observed, reported = transitions.compare(Observation(), bad)
    assert [one.kind for one in reported] == ["daemon", "trust", "readiness"]
    assert transitions.compare(observed, bad)[1] == []


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ([("stopped", "shut down")], ["stopped"]),
        ([("stopped", "destroyed")], ["stopped"]),
        ([("stopped", "saved")], ["stopped"]),
        ([("stopped", "failed")], ["crashed"]),
        ([("stopped", "crashed")], ["crashed"]),
        ([("stopped", "migrated")], ["left"]),
        ([("stopped", "")], ["gone"]),
        ([("crashed", "panicked")], ["crashed"]),
        ([("crashed", "panicked"), ("stopped", "crashed")], ["crashed"]),
        ([("crashed", "panicked"), ("stopped", "destroyed")], ["crashed", "stopped"]),
        ([("crashed", "panicked"), ("resumed", "unpaused"), ("stopped", "crashed")],
         ["crashed", "crashed"]),
        ([IO], ["paused"]),
        ([IO, IO], ["paused"]),
        ([IO, GOES_ON, IO], ["paused", "resumed", "paused"]),
        ([IO, ("stopped", "destroyed")], ["paused", "stopped"]),
        ([("paused", "by its user"), GOES_ON], []),
        ([("paused", "migrating"), ("resumed", "migrated")], []),
        ([("stopped", "shut down"), (*BOOTED, 2)], ["stopped", "started"]),
        ([("stopped", "failed"), (*BOOTED, 2), ("stopped", "failed", 2)],
         ["crashed", "started", "crashed"]),
        ([BOOTED], []),
        ([(*BOOTED, 2)], ["gone", "started"]),
        ([("stopped", "shut down"), ("stopped", "shut down")], ["stopped"]),
    ],
)  # fmt: skip
def test_what_becomes_of_a_guest_that_runs(changes, expected):
    assert whats(after(begun(entry())[0], *changes)) == expected


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ([BOOTED], ["started"]),
        ([("started", "restored")], ["started"]),
        ([COMES], []),
        ([COMES, IS_HERE], ["arrived"]),
        ([COMES, IS_HERE, IS_HERE], ["arrived"]),
        ([COMES, ("resumed", "post-copy"), IS_HERE], ["arrived"]),
        ([COMES, ("paused", "by its user")], ["arrived"]),
        ([COMES, ("paused", "handover")], []),
        ([COMES, ("paused", "handover"), ("resumed", "unpaused")], ["arrived"]),
        ([COMES, ("paused", "handover"), ("stopped", "destroyed")], []),
        ([COMES, ("stopped", "failed")], []),
        ([COMES, ("stopped", "destroyed"), BOOTED], ["started"]),
        ([COMES, IS_HERE, ("stopped", "failed")], ["arrived", "crashed"]),
        ([GOES_ON], []),
        ([("stopped", "shut down")], []),
        ([IO], []),
    ],
)
def test_what_becomes_of_a_guest_that_is_not_here(changes, expected):
    assert whats(after(begun()[0], *changes)) == expected


@pytest.mark.parametrize(
    ("now", "expected"),
    [
        ([entry()], []),
        ([entry(state="paused", how="by its user")], []),
        ([entry(state="paused", how="I/O error")], ["paused"]),
        ([entry(state="crashed", how="panicked")], ["crashed"]),
        ([], ["gone"]),
        ([entry(active=False, state="", how="shut down")], ["stopped"]),
        ([entry(active=False, state="", how="crashed")], ["crashed"]),
        ([entry(active=False, state="", how="migrated")], ["left"]),
        ([entry(active=False, state="", how="")], ["gone"]),
        ([entry(run=2)], ["gone", "started"]),
        ([entry(run=2, how="migrated")], ["gone", "arrived"]),
        ([entry(run=2, how="unpaused")], ["gone", "appeared"]),
        ([entry(run=2, state="paused", how="migrating")], ["gone"]),
    ],
)
def test_what_became_of_a_guest_while_the_daemon_was_away(now, expected):
    observed, _ = transitions.compare(begun(entry())[0], observe(lost()))
    observed, reported = transitions.compare(observed, observe(listing(*now)))
    assert whats(reported, "daemon") == ["back"]
    assert whats(reported) == expected
    assert whats(transitions.compare(observed, observe(listing(*now)))[1]) == []


def standing(*steps, first=()):
    """Return what is reported at each step: seconds, and what happened by then."""
    observed, told = begun(*first)[0], []
    for at, *happened in steps:
        observed, reported = transitions.compare(observed, observe(*happened, at=at))
        told += [(at, one.data["what"], one.data["how"]) for one in reported if one.guest]
    return told


STOPS, WAITS = change("paused", "migration"), change("paused", "handover")


@pytest.mark.parametrize("how", ["migration", "API error", "post-copy failed"])
def test_a_guest_that_stands_at_its_source_is_reported_once_and_when_it_goes_on(how):
    assert standing(
        (0.0, change("paused", how)), (59.0,), (61.0,), (200.0,), (210.0, change(*GOES_ON)),
        first=[entry()],
    ) == [(61.0, "stands", how), (210.0, "resumed", how)]  # fmt: skip


def test_a_copy_that_waits_is_reported_once_and_arrives_when_it_runs():
    assert standing(
        (0.0, change(*COMES)), (50.0, WAITS), (100.0,), (111.0,), (500.0,),
        (600.0, change("resumed", "unpaused")),
    ) == [(111.0, "stands", "handover"), (600.0, "arrived", "unpaused")]  # fmt: skip


@pytest.mark.parametrize("how", ["migration", "API error", "post-copy failed", "handover"])
def test_what_stood_before_the_first_look_is_reported_too(how):
    stood = entry(state="paused", how=how)
    assert standing((1.0,), (62.0,), first=[stood]) == [(62.0, "stands", how)]


def test_a_guest_stands_from_the_end_of_its_job_on():
    job_ends = change("paused", "migration")
    assert standing(
        (0.0, change("paused", "migrating")), (7200.0, job_ends), (7259.0,), (7260.0,),
        first=[entry()],
    ) == [(7260.0, "stands", "migration")]  # fmt: skip


@pytest.mark.parametrize(
    ("first", "happens"),
    [
        ([entry()], STOPS | {"how": "by its user"}),
        ([entry()], STOPS | {"how": "post-copy"}),
        ([entry()], change("paused", "migrating")),
        ([entry(state="paused", how="migrating")], listing(entry(state="paused", how="migrating"))),
        ([], listing(entry(state="paused", how="migrating"))),
        ([], change(*COMES)),
    ],
)
def test_what_is_paused_for_its_user_or_arrives_does_not_stand(first, happens):
    told = standing((0.0, happens), (100.0,), (1000.0,), first=first)
    assert "stands" not in [what for _, what, _ in told]


def test_what_a_dead_daemon_does_not_show_is_not_reported():
    away = standing((0.0, STOPS), (1.0, lost()), (100.0,), first=[entry()])
    assert away == []
    stands = entry(state="paused", how="API error")
    back = ((0.0, STOPS), (1.0, lost()), (100.0, listing(stands)))
    assert standing(*back, first=[entry()]) == [(100.0, "stands", "API error")]


def test_another_run_of_it_has_not_stood():
    assert standing(
        (0.0, WAITS), (50.0, change("stopped", "destroyed"), change(*COMES, run=2)),
        (55.0, change("paused", "handover", run=2)), (100.0,),
        first=[entry(state="paused", how="handover")],
    ) == [(50.0, "stopped", "destroyed")]  # fmt: skip


def test_a_guest_that_arrived_while_the_daemon_was_away_has_arrived():
    in_flight = entry(state="paused", how="migrating")
    observed, reported = transitions.compare(begun()[0], observe(lost(), listing(in_flight)))
    assert whats(reported) == []
    assert whats(
        transitions.compare(observed, observe(lost(), listing(entry(how="migrated"))))[1]
    ) == ["arrived"]


def test_the_daemon_and_readiness_are_told_when_they_change_only():
    observed, reported = transitions.compare(Observation(), observe(lost("refused")))
    assert [(one.kind, one.data["what"]) for one in reported] == [
        ("daemon", "gone"),
        ("readiness", "lost"),
    ]
    assert "refused" in reported[1].data["reason"]
    observed, reported = transitions.compare(observed, observe(lost("refused"), lost("again")))
    assert reported == []
    observed, reported = transitions.compare(
        observed, observe(listing(), issues=["the key is gone"])
    )
    assert [(one.kind, one.data["what"]) for one in reported] == [("daemon", "back")]
    observed, reported = transitions.compare(observed, observe())
    assert [(one.kind, one.data["what"]) for one in reported] == [("readiness", "regained")]


def test_nothing_is_said_of_readiness_before_the_daemon_was_asked():
    observed, reported = transitions.compare(Observation(), observe(issues=["the key is gone"]))
    assert reported == [] and observed.ready is None


def test_a_daemon_that_was_gone_and_is_back_within_one_look_was_both():
    reported = transitions.compare(begun()[0], observe(lost(), listing()))[1]
    assert [(one.kind, one.data["what"]) for one in reported] == [
        ("daemon", "gone"),
        ("daemon", "back"),
    ]


def test_an_identity_that_cannot_be_read_has_not_changed():
    first = {"cluster_key": ["a"], "host_keys": ["b", "c"]}
    observed, reported = transitions.compare(Observation(), observe(identity=first))
    assert reported == []
    observed, reported = transitions.compare(
        observed, observe(identity={"cluster_key": [], "host_keys": []})
    )
    assert reported == []
    observed, reported = transitions.compare(
        observed, observe(identity={**first, "cluster_key": ["d"]})
    )
    (one,) = reported
    assert one.data == {
        "what": "changed",
        "changed": ["cluster_key"],
        **first,
        "cluster_key": ["d"],
    }
    assert transitions.compare(observed, observe(identity={**first, "cluster_key": ["d"]}))[1] == []


def test_drift_is_told_of_each_file_when_it_begins_and_when_it_is_over():
    def drifted(observed, files):
        observed, reported = transitions.compare(observed, observe(drifted=files))
        return observed, [(one.data["what"], one.data["files"]) for one in reported]

    observed, reported = drifted(Observation(), ["a"])
    assert reported == [("drifted", ["a"])]
    observed, reported = drifted(observed, None)
    assert reported == []
    observed, reported = drifted(observed, ["b", "a"])
    assert reported == [("drifted", ["b"])]
    observed, reported = drifted(observed, ["b"])
    assert reported == [("mended", ["a"])]


@pytest.mark.parametrize(
    "odd",
    [
        {},
        {"events": None},
        observe(listing(), {"kind": transitions.CHANGE}),
        observe({"kind": transitions.LISTING, "guests": [{}]}),
        observe({"kind": transitions.LISTING, "guests": 7}),
        observe("text"),
        observe(identity=[1]),
        observe(drifted=7),
        observe(listing(entry(run="many"))),
        observe(listing(), issues=None),
    ],
)
def test_what_is_no_look_is_refused_in_a_sentence(odd):
    with pytest.raises(WorldError, match="invalid observer message"):
        transitions.compare(Observation(), odd)


CHANGES = st.sampled_from([
    *[("started", how) for how in ("booted", "migrated", "restored")],
    *[("stopped", how) for how in ("shut down", "destroyed", "failed", "migrated", "")],
    *[("resumed", how) for how in ("unpaused", "migrated", "post-copy")],
    *[("paused", how) for how in ("by its user", "I/O error", "migration")],
    ("crashed", "panicked"),
])  # fmt: skip
HERE = {"started", "arrived", "appeared"}
AWAY = {"stopped", "left", "gone"}


@MORE_EXAMPLES
@given(st.booleans(), st.lists(CHANGES, max_size=12), st.integers(1, 4))
def test_a_guest_comes_and_goes_by_turns_however_the_looks_fall(is_here, changes, size):
    """``crashed`` may be followed by an end of what crashed, or be the end itself."""
    runs = itertools.accumulate((what == "started" for what, _ in changes), initial=2)
    events = [
        change(*one, run=run)
        for one, run in zip(changes, itertools.islice(runs, 1, None), strict=True)
    ]
    reported = {}
    for step in (size, len(events) or 1):
        observed, _ = begun(*[entry()] * is_here)
        reported[step] = []
        for at in range(0, len(events), step):
            observed, more = transitions.compare(observed, observe(*events[at : at + step]))
            reported[step] += whats(more)
    assert reported[size] == reported[len(events) or 1], "it matters when one looks"
    here = is_here
    for what in reported[size]:
        assert what not in AWAY | {"crashed", "paused", "resumed"} or here, reported
        assert not (what in HERE and here and "crashed" not in reported[size]), reported
        here = what in HERE or (here and what not in AWAY)


@MORE_EXAMPLES
@given(st.lists(st.sampled_from([
    listing(), listing(entry()), listing(entry(run=2)), lost(),
    listing(entry(state="paused", how="I/O error")), listing(entry(active=False, how="crashed")),
]), max_size=10))  # fmt: skip
def test_the_daemon_is_gone_and_back_by_turns(events):
    _, reported = transitions.compare(Observation(), observe(*events))
    daemon = whats(reported, "daemon")
    assert daemon == [("gone", "back")[at % 2] for at in range(len(daemon))]
    assert all(count == 1 for count in Counter(map(id, reported)).values())


@pytest.mark.parametrize(
    "good",
    [
        [],
        [{}],
        [{"interval": 5}],
        [{"interval": 0.5}, {"disable_during_state_run": True}],
        [{"enabled": True}, {"_beacon_name": "kvmcluster"}],
        [{"interval": 5, "beacon_module": "kvmcluster"}],
    ],
)
def test_good_settings(good):
    transitions.check_settings(good)


@pytest.mark.parametrize(
    ("bad", "words"),
    [
        (None, "beacons:kvmcluster: want a list"),
        ({"interval": 5}, "want a list"),
        ("interval", "want a list"),
        (["interval"], "want a mapping, got 'interval'"),
        ([None], "want a mapping"),
        ([{"intervall": 5}], "unknown key 'intervall'.*did you mean interval?"),
        ([{5: 5}], "unknown key 5"),
        ([{"interval": 0}], "beacons:kvmcluster:interval: want seconds"),
        ([{"interval": "5"}], "want seconds, above 0"),
        ([{"interval": True}], "want seconds"),
        ([{"interval": float("nan")}], "want seconds"),
        ([{"enabled": "yes"}], "beacons:kvmcluster:enabled: want true or false"),
        ([{"beacon_module": 3}], "beacon_module: want a name"),
    ],
)
def test_bad_settings_are_refused_by_name(bad, words):
    with pytest.raises(InputError, match=words):
        transitions.check_settings(bad)


def test_the_tag_of_an_event_about_a_node_has_no_guest_in_it():
    assert events.tag("lab", events.TRUST, "node1") == "kvmcluster/lab/trust/node1"
    assert events.tag("lab", events.GUEST, "node1", "a/b") == "kvmcluster/lab/guest/node1/a%2Fb"


KEYS = "/root/.ssh/authorized_keys2"
CONFIG = "/root/.ssh/config"
LINE = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIHKBeCcFQNBvEAGJFVnJpHTUWGqWLLYYlLxrTmbVfjQn"
BLOCK = f"{blocks.BEGIN}{LINE} kvmcluster/lab/node2\n{blocks.END}"
INCLUDE = f"{blocks.BEGIN}Include /root/.ssh/kvmcluster_config\n{blocks.END}"


def drifted(path, written, found, mode=0o600, exclusive=False, owner="root"):
    noted = drift.note(FilePlan(path, written, 0o600, "root", {}))
    read = drift.parse(json.dumps({path: noted}))[path]
    return drift.has_drifted(path, read, FileState(found, mode, owner), exclusive)


@pytest.mark.parametrize(
    ("found", "has_drifted"),
    [
        (BLOCK, False),
        (f"ssh-rsa AAAA ann@home\n{BLOCK}# mine\n", False),
        ("", True),
        (BLOCK.replace("node2", "node3"), True),
        (f"restrict {LINE} shadow\n{BLOCK}", True),
        (BLOCK + LINE.replace("IHKB", "IHKC") + " kvmcluster/lab/node9\n", True),
    ],
)
def test_of_authorized_keys_our_part_counts(found, has_drifted):
    assert drifted(KEYS, f"{BLOCK}# theirs\n", found) is has_drifted


def test_where_authorized_keys_is_exclusive_all_of_it_counts():
    assert drifted(KEYS, BLOCK, BLOCK, exclusive=True) is False
    assert drifted(KEYS, BLOCK, f"{BLOCK}# mine\n", exclusive=True) is True


@pytest.mark.parametrize(
    ("found", "mode", "has_drifted"),
    [
        (f"{INCLUDE}Host *\n", 0o644, False),
        (f"# mine\n\n{INCLUDE}", 0o600, False),
        (f"Host *\n{INCLUDE}", 0o600, True),
        ("Host *\n", 0o600, True),
        (INCLUDE, 0o660, True),
    ],
)
def test_of_the_users_configuration_our_block_and_what_is_ahead_of_it_count(
    found, mode, has_drifted
):
    assert drifted(CONFIG, INCLUDE, found, mode) is has_drifted


@pytest.mark.parametrize("name", [pinned_hosts.KNOWN_HOSTS, client_config.CONFIG])
def test_of_our_own_files_all_counts(name):
    path = f"/root/.ssh/{name}"
    assert drifted(path, "a\n", "a\n") is False
    assert drifted(path, "a\n", "a\nb\n") is True
    assert drifted(path, "a\n", "a\n", mode=0o644) is True
    assert drifted(path, "a\n", "a\n", owner="ann") is True
    assert drift.has_drifted(path, {}, FileState(), False) is True


@pytest.mark.parametrize("path", ["/var/lib/kvmcluster/journal/x.json", "/root/config", "/x"])
def test_of_other_files_nothing_is_noted(path):
    assert drift.note(FilePlan(path, "", 0o600, "root", {})) is None


@pytest.mark.parametrize("text", [None, "", "[1]", "{", '{"a": 1}', "null"])
def test_a_record_that_is_none_holds_nothing(text):
    assert drift.parse(text) == {}


def test_the_documentation_has_every_word_that_is_told():
    text = (pathlib.Path(__file__).parents[2] / "docs" / "events.md").read_text()
    words = ["started", "stopped", "crashed", "arrived", "left", "appeared", "gone", "paused"]
    words += ["resumed", "back", "drifted", "mended", "changed", "lost", "regained"]
    assert [word for word in words if f"`{word}`" not in text] == []
