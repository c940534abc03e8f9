"""Whether SLS files compile for a node, by what Salt and the nodes return."""

import pytest

from saltext_kvmcluster.core.drain import updates
from saltext_kvmcluster.core.output import tables

STATES = [
    {"state": "file", "fun": "mangaed", "__sls__": "updates", "__id__": "/etc/motd"},
    {"state": "pkg", "fun": "latest", "__sls__": "kernel", "__id__": "linux"},
]


def test_a_state_function_that_a_node_lacks_is_named_with_the_nearest():
    called = updates.functions(STATES)
    assert called == {"file.mangaed": "updates", "pkg.latest": "kernel"}
    (found,) = updates.unavailable(called, ["file.managed", "pkg.latest"])
    assert found == (
        "SLS updates calls the state file.mangaed, which is not available there; did you mean"
        " file.managed?"
    )


@pytest.mark.parametrize("loads", [{"reload_modules": True}, {"state": "saltutil"}])
def test_what_may_be_there_later_is_not_missed(loads):
    assert updates.functions([*STATES, {**STATES[1], **loads}]) == {}


def test_an_sls_that_is_not_there_is_named_with_the_nearest():
    known = ["updates", "base.kernel"]
    (found,) = updates.missing(["updatez", "base.*"], known, "base")
    assert found == "there is no SLS updatez in saltenv base; did you mean updates?"


@pytest.mark.parametrize(
    ("compiled", "problems"),
    [
        ([], []),
        (STATES, []),
        (
            ["Rendering SLS 'base:x' failed:\n  line\x1b 1"],
            ["Rendering SLS 'base:x' failed: line� 1"],
        ),
        (
            ["Rendering SLS 'base:x' failed: mapping values; line 2\n\n---\np: x1y2: z  <===\n---"],
            ["Rendering SLS 'base:x' failed: mapping values; line 2"],
        ),
        ({"updates": {}}, ["unexpected response of Salt: no list of states"]),
        ("no", ["no"]),
        (None, ["None"]),
        ([*STATES, "odd"], ["odd"]),
    ],
)
def test_what_salt_returns_of_an_sls(compiled, problems):
    assert updates.problems(compiled) == problems


def test_what_nodes_return_is_grouped_and_untrusted():
    bad = {"ok": False, "problems": ["there is no SLS x"]}
    answers = {
        "node1": bad,
        "node2": {"ok": True, "problems": []},
        "node3": bad,
        "node4": "'kvmcluster.sls_check' is not available.",
        "node5": {"problems": 7},
    }
    nodes = [f"node{at}" for at in range(1, 7)]
    found = updates.on_nodes(nodes, answers)
    assert found[0] == "node1, node3: there is no SLS x"
    assert found[1] == "node4: 'kvmcluster.sls_check' is not available."
    assert found[2].startswith("node5: unexpected response") and len(found) == 3
    assert updates.silent(nodes, answers) == [
        "no response from node6: it is not known whether the SLS compiles there"
    ]
    assert updates.silent(nodes[:5], answers) == []


def test_it_is_shown():
    data = {"kind": "sls_check", "cluster": "lab", "ok": True, "sls": ["updates"], "problems": []}
    assert tables.render(data) == "OK: updates can be applied to cluster lab"
    bad = {**data, "ok": False, "node": "node1", "problems": ["it is broken"]}
    assert (
        tables.render(bad) == "PROBLEM  it is broken\nPROBLEM: updates cannot be applied to node1"
    )


def test_what_is_not_known_is_not_called_a_problem():
    silent = ["no response from node1: it is not known whether the SLS compiles there"]
    data = {"kind": "sls_check", "cluster": "lab", "ok": False, "sls": ["updates"], "problems": []}
    shown = tables.render({**data, "silent": silent})
    assert shown.splitlines() == [
        f"UNKNOWN  {silent[0]}",
        "UNKNOWN: whether updates can be applied to cluster lab",
    ]
    shown = tables.render({**data, "silent": silent, "problems": ["node2: it is broken"]})
    assert shown.endswith("PROBLEM: updates cannot be applied to cluster lab")
