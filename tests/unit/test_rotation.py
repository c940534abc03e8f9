"""A key is replaced: what nodes answer to that is looked at as what others wrote."""

import types

import pytest
from material import cluster

from saltext_kvmcluster.core.errors import WorldError
from saltext_kvmcluster.core.output import tables
from saltext_kvmcluster.core.trust import logins, rotation
from saltext_kvmcluster.engine import rotator
from saltext_kvmcluster.host import rotating

FOUND = cluster("node1", "node2")
FORGED = "\x1b[2J\nreplaced  node2: a -> b"


def answer(key="b", former="", after="", accepted=("a",), **more):
    own = {"key": key, "next": after, "former": former, "problem": ""}
    return {"accepted": list(accepted), "refused": "", "own": own, **more}


@pytest.mark.parametrize("field", ["key", "former", "next"])
def test_a_nodes_fingerprints_cannot_write_lines_of_the_report(field):
    own = {"key": "a", "next": "b", "former": "a", field: FORGED}
    sent = {"accepted": [FORGED], "own": own}
    seen = rotation.look(FOUND, "node1", {"node1": sent, "node2": {"accepted": [FORGED]}})
    assert all(key.isprintable() for keys in seen.accepted.values() for key in keys)
    row = rotation.row("node1", "replaced", seen, seen.own.former)
    text = tables.render(rotation.result(FOUND, [row], False))
    assert len(text.splitlines()) == 2 and "\x1b" not in text


@pytest.mark.parametrize(
    "sent", [5, [], "no\x1b[2J", {"accepted": "x"}, {"accepted": [1]}, {"accepted": [], "own": 5}]
)
def test_what_is_no_answer_refuses_and_is_told_on_one_line(sent):
    seen = rotation.look(FOUND, "node1", {"node1": sent, "node2": answer()})
    why = rotation.refusal(FOUND, "node1", seen)
    assert "node1 itself does not tell of its key" in why and why.isprintable()


class Nodes:
    """Two nodes whose replacement is at its last steps."""

    cluster, all = FOUND, list(FOUND.nodes)

    def __init__(self, **own):
        self.own, self.asked = answer(former="a", accepted=["b"]), []
        self.own["own"].update(own)

    def ask(self, nodes, function, *arguments, **named):
        self.asked.append(function)
        if function == "kvmcluster.rotation_swap":
            self.own["own"]["next"] = ""
        accepted = {"accepted": self.own["accepted"]}
        return {node: self.own if node == "node1" else accepted for node in nodes}


QUIET = types.SimpleNamespace(interrupted=lambda: False, show=lambda line: None)


def test_a_second_key_that_is_gone_has_replaced_nothing():
    nodes = Nodes(key="a", next="b")
    nodes.own["accepted"] = ["a", "b"]
    (row,) = rotator.rotate(nodes, QUIET, ["node1"], False)["nodes"]
    assert row["result"] == "failed" and "its own was not replaced" in row["reason"]
    assert nodes.asked[-1] == "kvmcluster.rotation_swap"


def test_a_key_that_cannot_be_used_is_named_before_anything_is_tried(monkeypatch):
    gone = rotation.OwnKey("", "", "", "it does not exist")
    monkeypatch.setattr(rotating, "own_key", lambda _: gone)
    monkeypatch.setattr(rotating.keys, "cluster_key", lambda _: ("/nowhere/id", None))
    with pytest.raises(WorldError, match="it does not exist"):
        rotating.swap(FOUND, "node1", 1, 1)


@pytest.mark.parametrize(("interrupted", "result"), [(False, "replaced"), (True, "interrupted")])
def test_what_is_interrupted_at_the_end_is_told_as_that(interrupted, result):
    console = types.SimpleNamespace(interrupted=lambda: interrupted, show=lambda line: None)
    done = rotator.rotate(Nodes(), console, ["node1"], False)
    assert [row["result"] for row in done["nodes"]] == [result]


def test_one_reason_of_several_nodes_is_said_once():
    seen = rotation.Look(rotation.OwnKey("a"), {}, {"node1": "why", "node2": "why"})
    assert rotation.refusal(FOUND, "node1", seen).startswith("node1, node2: why; ")


def test_what_comes_after_a_failure_is_named_as_not_begun():
    nodes = Nodes(key="a", next="b")
    nodes.own["accepted"] = ["a", "b"]
    done = rotator.rotate(nodes, QUIET, ["node1", "node2"], False)
    assert [row["result"] for row in done["nodes"]] == ["failed", "not begun"]
    text = tables.render(done)
    assert "PROBLEM   node2: not begun" in text and text.count("then: ") == 1


def test_a_login_by_a_key_that_fails_is_not_told_with_the_version_of_ssh():
    probe = logins.LoginProbe(255, "", "OpenSSH_9.2p1, OpenSSL 3\ndebug1: x\nssh: no route\n", 0.1)
    assert logins.by_key(probe, "SHA256:x").stderr == "ssh: no route"
