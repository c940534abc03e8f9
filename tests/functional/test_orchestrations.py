"""Orchestrations that cannot be meant: refused whole on a real master, with nothing done."""

import json
import os
import pathlib

import pytest
from sandbox import NODES, SALT, SSH

from saltext_kvmcluster.host import bootid

CORDON = pathlib.Path("/etc/kvmcluster.cordoned")
SLS = {
    "good": "touched:\n  test.succeed_with_changes: []\n",
    "jinja": "{{ missing.key }}\n",
    "requires": "one:\n  test.nop:\n    - require:\n      - test: two\n",
    "yaml": "one: [\n",
    "typo": "one:\n  file.mangaed:\n    - name: /etc/touched\n",
    "shape": "one:\n  test.nop: text\n",
}
NODE = {"node": "alpha"}


@pytest.fixture(scope="module", autouse=True)
def slses(salt_master):
    for name, text in SLS.items():
        (SALT / "states" / f"{name}.sls").write_text(text)
    yield
    for name in SLS:
        (SALT / "states" / f"{name}.sls").unlink()


@pytest.fixture
def orchestrate(kvm, salt_run):
    """Run an orchestration; return its states by id, and its exit code."""
    for node in NODES:
        kvm.run(node, "saltutil.refresh_pillar", wait=True)

    def run(name, *words, **pillar):
        given = [f"pillar={json.dumps(pillar)}"] if pillar else []
        command = ["state.orchestrate", f"kvmcluster.orch.{name}", *given, *words]
        done = salt_run("--log-level=quiet", "--out=json", *command)
        (states,) = json.loads(done.stdout)["data"].values()
        assert isinstance(states, dict), states
        return {state["__id__"]: state for state in states.values()}, done.returncode

    return run


@pytest.fixture
def untouched(salt_run):
    """What the master and the node show is the same before and after."""

    def look():
        status = json.loads(salt_run("--log-level=quiet", "--out=json", "kvmcluster.status").stdout)
        for node in status["nodes"].values():
            del node["free_kib"]
        records = sorted((SALT / "master").rglob("kvmcluster/rolling/*"))
        return status, records, CORDON.exists(), sorted(SSH.rglob("*"))

    return look


REFUSED = [
    ("maintenance", {}, "node: want the minion id of the node to be maintained"),
    ("maintenance", {"node": "alpa"}, "alpa is not a node of cluster test; its nodes are alpha"),
    ("maintenance", {"node": ["alpha"]}, "node: want one node's minion id"),
    ("maintenance", {**NODE, "slss": "good"}, "did you mean sls?"),
    ("maintenance", {**NODE, "anew": True}, "unknown key 'anew'"),
    ("rolling", {"reboot": "sometimes"}, "reboot: want needed or always or never"),
    ("rolling", {"reboot": "allways"}, "did you mean always?"),
    ("rolling", {"timeout": -5}, "timeout: want seconds"),
    ("rolling", {"home": "yes"}, "home: want true or false"),
    ("rolling", {"anew": "true"}, "anew: want true or false"),
    ("rolling", {"sls": {"good": 1}}, "sls: want the name of an SLS"),
    ("rolling", {"cluster": "tset"}, "did you mean test?"),
    ("prepare", {"clustre": "test"}, "did you mean cluster?"),
    ("disk_leases", {"guests": ["web1"]}, "unknown key 'guests'"),
    ("recover", {}, "guests: want a list of guests"),
    ("recover", {"guests": ["web1", 7]}, "guests[1]: want a guest's name"),
]


def test_a_wrong_pillar_is_refused_whole(orchestrate, untouched):
    before = untouched()
    for name, pillar, sentence in REFUSED:
        states, code = orchestrate(name, **pillar)
        assert code == 1 and list(states) == ["request"], (name, pillar)
        comment = states["request"]["comment"]
        assert sentence in comment and comment.endswith("nothing was done"), comment
    assert untouched() == before


def test_a_node_that_another_run_is_at_work_on_is_named_before_anything_is_asked(
    orchestrate, salt_run
):
    bank = ["kvmcluster/maintained/test", "alpha"]
    salt_run("cache.store", *bank, bootid.process(os.getpid()))
    try:
        for name, pillar in (("maintenance", NODE), ("rolling", {})):
            states, code = orchestrate(name, **pillar)
            assert code == 1 and list(states) == ["request"], name
            comment = states["request"]["comment"]
            assert f"by another run on this master, in process {os.getpid()}" in comment
    finally:
        salt_run("cache.flush", *bank)


NOT_COMPILED = [
    ("godo", "there is no SLS godo in saltenv base; did you mean good?"),
    ("jinja", "Jinja variable"),
    ("yaml", "yaml"),
    ("shape", "one"),
    ("typo", "the state file.mangaed, which is not available there; did you mean file.managed?"),
]


def test_an_sls_that_does_not_compile_is_refused_before_anything_is_done(
    orchestrate, untouched, kvm
):
    before = untouched()
    assert kvm.run("alpha", "kvmcluster.sls_check", "good,kvmcluster.key")["problems"] == []
    for sls, sentence in NOT_COMPILED:
        (detail,) = kvm.run("alpha", "kvmcluster.sls_check", ["good", sls])["problems"]
        assert sentence in detail, detail
    states, code = orchestrate("maintenance", node="alpha", sls=["good", "godo"])
    assert code == 1 and list(states) == ["preflight"]
    assert f"alpha: {NOT_COMPILED[0][1]}" in states["preflight"]["comment"]
    assert untouched() == before


def test_it_does_not_matter_what_state_runs_meanwhile(kvm):
    (SALT / "states" / "long.sls").write_text(
        "one:\n  module.run:\n    - test.sleep:\n      - 20\n"
    )
    job = kvm.client.cmd_async("alpha", "state.sls", ["long"])
    try:
        found = kvm.run("alpha", "kvmcluster.sls_check", "good")
        assert found["ok"] and found["states"] == 1
    finally:
        kvm.run("alpha", "saltutil.kill_job", job)
        (SALT / "states" / "long.sls").unlink()
