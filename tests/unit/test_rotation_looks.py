"""How far the replacement of a key is, by what nodes answered; and what nodes with old keys say."""

from dataclasses import replace

import pytest
from material import cluster

from saltext_kvmcluster.core.errors import InputError
from saltext_kvmcluster.core.facts.nodefacts import NodeFacts
from saltext_kvmcluster.core.readiness import key_notes
from saltext_kvmcluster.core.trust import logins, rotation
from saltext_kvmcluster.core.trust.rotation import Begun, Look, OwnKey

FOUND = cluster("node1", "node2", "node3")
OLD, NEW = "SHA256:old", "SHA256:new"


def answers(*keys, own=None, **others):
    """Return answers to ``kvmcluster.rotation node1`` in which all nodes accept these keys."""
    good = {node: {"accepted": list(keys), "refused": ""} for node in FOUND.nodes}
    good["node1"]["own"] = own or {"key": OLD, "next": "", "former": "", "problem": ""}
    return {node: one for node, one in {**good, **others}.items() if one is not None}


def look(*keys, **others):
    return rotation.look(FOUND, "node1", answers(*keys, **others))


@pytest.mark.parametrize(
    ("own", "phase"),
    [
        (OwnKey(OLD), "fresh"),
        (OwnKey(OLD, NEW), "fresh"),  # It is nobody's plan: what is beside the key is not recorded.
        (OwnKey(OLD, "", OLD), "begun"),
        (OwnKey(OLD, NEW, OLD), "begun"),
        (OwnKey("SHA256:a third", NEW, OLD), "begun"),
        (OwnKey(NEW, "", OLD), "swapped"),
    ],
)
def test_how_far_it_is_is_seen_on_the_node(own, phase):
    assert own.phase == phase


def test_a_record_is_read_back_and_what_is_none_is_no_record():
    begun = Begun("2026-11-30T12:00:00+00:00", OLD)
    assert rotation.record(begun.to_text()) == begun
    for text in (None, "", "{", "[]", '{"since": "x"}', '{"since": 1, "former": "x"}', "\0"):
        assert rotation.record(text) is None


def test_what_all_nodes_answered_is_taken_over():
    seen = look(OLD, NEW)
    assert seen.own == OwnKey(OLD) and not seen.failed
    assert seen.without([OLD, NEW]) == [] == seen.without([NEW])
    assert seen.beyond(NEW) == [*FOUND.nodes]
    assert look(NEW).beyond(NEW) == [] and look(NEW).without([OLD]) == [*FOUND.nodes]


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (None, "no response"),
        ("", "no response"),
        ("Passed invalid arguments", "Passed invalid arguments"),
        ("'kvmcluster.rotation' is not available.", "its release is older"),
        (7, "want"),
        ({}, "want"),
        ({"accepted": "one"}, "want"),
        ({"accepted": [OLD] * 101}, "100"),
        ({"accepted": [OLD], "refused": "it is\nolder"}, "it is"),
    ],
)
def test_a_node_that_does_not_say_which_keys_it_accepts_is_not_known_to(answer, why):
    seen = look(OLD, node3=answer)
    assert why in seen.failed["node3"] and seen.failed["node3"].isprintable()
    assert seen.without([OLD]) == ["node3"] == seen.beyond(OLD)
    assert "node3" in rotation.refusal(FOUND, "node1", seen)


def test_what_a_peer_says_of_the_nodes_own_key_is_not_believed():
    mine = {"key": NEW, "next": "", "former": "", "problem": ""}
    liar = {"accepted": [OLD], "refused": "", "own": mine}
    assert look(OLD, node2=liar).own == OwnKey(OLD)
    assert look(OLD, node1=None, node2=liar).own is None


def test_why_it_cannot_be_begun():
    assert rotation.refusal(FOUND, "node1", look(OLD)) == ""
    assert "node1 itself" in rotation.refusal(FOUND, "node1", look(OLD, node1=None))
    linked = {"key": "", "next": "", "former": "", "problem": "it is a link"}
    assert "it is a link" in rotation.refusal(FOUND, "node1", look(OLD, own=linked))


def test_once_the_node_has_the_second_key_a_silent_peer_does_not_stop_it():
    swapped = {"key": NEW, "next": "", "former": OLD, "problem": ""}
    assert rotation.refusal(FOUND, "node1", look(OLD, NEW, own=swapped, node2=None)) == ""
    begun = {**swapped, "key": OLD, "next": NEW}
    why = rotation.refusal(FOUND, "node1", look(OLD, NEW, own=begun, node2=None))
    assert why.startswith("node2: no response")


def test_a_login_that_failed_is_named_and_a_good_one_is_not():
    good = {"name": "node2", "ok": True}
    bad = {"name": "node3-mig", "ok": False, "cause": "refused", "detail": "Connection refused"}
    assert rotation.bad_logins({"cells": [good, bad]}) == ["node3-mig: refused: Connection refused"]
    assert rotation.bad_logins({}) == [] == rotation.bad_logins({"cells": [good]})


@pytest.mark.parametrize("asked", ["node1,node2", ["node1", "node2"], "node[12]", " node1 , node2"])
def test_nodes_are_named_in_several_ways(asked):
    assert rotation.named(FOUND, rotation.words(asked)) == ["node1", "node2"]


@pytest.mark.parametrize("asked", [None, "", ",", 5, [1], {"node1": 1}, "node1\x1b[2J", True])
def test_what_names_no_node_is_refused(asked):
    with pytest.raises(InputError, match="want a minion id"):
        rotation.words(asked)


@pytest.mark.parametrize("asked", ["node9", "web*", "node1,node9"])
def test_an_unknown_node_is_refused(asked):
    with pytest.raises(InputError, match=r"node9|web"):
        rotation.named(FOUND, rotation.words(asked))


def test_where_the_former_key_may_be_left_is_said_with_what_removes_it():
    said = rotation.left_sentence(["node2", "node3"], {"node2": "no response"})
    assert "node2, node3 (node2: no response)" in said and "same command" in said


def test_a_row_is_good_if_it_was_replaced_or_planned():
    seen = Look(OwnKey(NEW), {})
    every = ("replaced", "planned", "left", "refused", "failed", "interrupted")
    rows = {done: rotation.row("node1", done, seen) for done in every}
    assert {done for done, row in rows.items() if row["ok"]} == {"replaced", "planned"}
    assert rotation.result(FOUND, [rows["left"]], test=False)["ok"] is False


SAID = "debug1: Server accepts key: {} RSA SHA256:{} explicit\n"


def test_a_login_counts_only_if_the_last_key_that_was_accepted_is_that_one():
    def by(code, *keys):
        stderr = "".join(SAID.format(f"/root/.ssh/{key}", key) for key in keys)
        return logins.by_key(logins.LoginProbe(code, "", stderr + "a banner\n", 0.1), NEW)

    assert by(0, "new").code == 0 and by(0, "new").stderr == "a banner"
    assert by(0, "old", "new").code == 0
    for keys in (["old"], ["new", "old"], [], ["newer"]):
        assert logins.cause(by(0, *keys), encrypted_key=False) == logins.KEY_NOT_ACCEPTED
    assert by(255, "new").code == 255 and by(None).code is None


def facts(days=None, since=""):
    age = None if days is None else days * key_notes.DAY
    return replace(NodeFacts("node1"), key_age=age, key_replaced=since)


def test_an_old_key_is_noted_only_if_the_pillar_says_how_old_one_may_be():
    aged = cluster("node1", key_age=30)
    assert list(key_notes.notes(cluster("node1"), {"node1": facts(9999)})) == []
    assert list(key_notes.notes(aged, {"node1": facts(30.9)})) == []
    assert list(key_notes.notes(aged, {"node1": facts()})) == []
    (said,) = key_notes.notes(aged, {"node1": facts(31)})
    assert "31 days" in said and said.endswith("salt-run kvmcluster.rotate node1")


def test_a_replacement_that_was_begun_is_noted_whatever_the_pillar_says():
    (said,) = key_notes.notes(cluster("node1"), {"node1": facts(1, "2026-11-30T12:00:00+00:00")})
    assert "begun 2026-11-30T12:00:00+00:00" in said and "kvmcluster.rotate node1" in said
