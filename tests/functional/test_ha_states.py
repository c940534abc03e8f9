"""States of high availability on a node: what is wrong is refused by name, before anything is done.

Pacemaker is installed here and does not run: the lab shows what becomes of its configuration.
"""

import pathlib

import pytest
from sandbox import NODES, sentence, world

SECRET = pathlib.Path("/etc/kvmcluster-board")
PLACES = (pathlib.Path("/etc/corosync"), pathlib.Path("/var/lib/pacemaker"))
BOARD = {"agent": "fence_legacy", "nodes": ["alpha", "beta"]}
DEVICES = "kvmcluster:ha:fencing:devices"


def fencing(devices, **more):
    return {"fencing": {"devices": devices, **more}}


WRONG = {
    "no mapping": (True, "kvmcluster:ha: want a mapping, got True"),
    "a list": (["pacemaker"], "kvmcluster:ha: want a mapping"),
    "a text for true": ({"manage": "yes"}, "kvmcluster:ha:manage: want true or false"),
    "fencing is a list": ({"fencing": [BOARD]}, "kvmcluster:ha:fencing: want a mapping"),
    "devices are a list": (fencing([BOARD]), f"{DEVICES}: want a mapping of names"),
    "a device is a text": (fencing({"a": "fence_xvm"}), f"{DEVICES}:a: want a mapping"),
    "a device without agent": (fencing({"a": {"nodes": ["alpha"]}}), f"{DEVICES}:a:agent: want"),
    "an agent by its path": (
        fencing({"a": {**BOARD, "agent": "../sh"}}),
        f"{DEVICES}:a:agent: want",
    ),
    "an umlaut": (fencing({"büro": BOARD}), f"{DEVICES}: want letters, digits"),
    "a boolean for a node": (fencing({"a": {**BOARD, "nodes": [True]}}), "True is not a node"),
    "a level of nothing": (
        fencing({"a": BOARD}, levels={"alpha": ["b"]}),
        "'b' is not a fence dev",
    ),
    "no fencing": ({}, "alpha: the pillar has no fence device for it"),
    "fencing for one": (
        fencing({"a": {**BOARD, "nodes": ["alpha"]}}),
        "beta: the pillar has no fence device for it (add it to the nodes of a",
    ),
    "a person's word": (
        fencing({"a": {**BOARD, "agent": "fence_ack_manual"}}),
        "the pillar's fence device a (fence_ack_manual) only says that it fences",
    ),
}


@pytest.fixture
def described(kvm):
    """A function that puts high availability into the pillar."""

    def describe(ha, nodes=NODES):
        kvm.pillar(raw={"kvmcluster": {"name": "test", "nodes": nodes, "ha": ha}})
        return kvm

    yield describe
    SECRET.unlink(missing_ok=True)


def untouched(call):
    """Return what a state said that failed, after making sure that nothing was written."""
    before = world(*PLACES)
    done = call()
    assert world(*PLACES) == before
    assert done["result"] is False and not done["changes"], done
    return sentence(done["comment"])


@pytest.mark.parametrize("case", WRONG)
def test_a_pillar_that_is_wrong_is_refused_by_name(described, case):
    ha, wanted = WRONG[case]
    kvm = described(ha)
    for function in ("ha_pillar", "ha_fencing"):
        assert wanted in untouched(lambda name=function: kvm.state(name))


@pytest.mark.parametrize(
    "case", ["no mapping", "fencing is a list", "devices are a list", "a device is a text"]
)
def test_whatever_is_in_the_pillar_the_sls_compiles_and_begins_nothing(described, case):
    ha, wanted = WRONG[case]
    states = described(ha).run("alpha", "state.apply", "kvmcluster.ha", test=True)
    assert isinstance(states, dict), states
    found = {state["__id__"]: state for state in states.values()}
    assert wanted in sentence(found["kvmcluster-ha-pillar"]["comment"])
    after = [name for name in found if name.startswith("kvmcluster-ha-") and "pillar" not in name]
    assert after and {found[name]["result"] for name in after} == {False}
    assert not any(found[name]["changes"] for name in after)


def test_one_node_alone_is_refused(described):
    kvm = described(fencing({"a": {**BOARD, "nodes": ["alpha"]}}), {"alpha": {}})
    assert "alpha: it is the only node" in untouched(lambda: kvm.state("ha_pillar"))


def test_a_pillar_in_order_is_told_so(described):
    kvm = described(fencing({"a": BOARD}))
    for function in ("ha_pillar", "ha_fence_agents"):
        assert kvm.state(function)["result"] is True


def test_without_high_availability_nothing_is_asked_for(described):
    for ha in (None, {"manage": False}):
        kvm = described(ha)
        assert kvm.state("ha_pillar")["result"] is True
        assert kvm.state("ha_fence_agents")["result"] is True


def test_a_fence_agent_that_is_not_installed_is_named(described):
    kvm = described(fencing({"a": {**BOARD, "agent": "fence_none"}}))
    for function in ("ha_fence_agents", "ha_fencing"):
        told = untouched(lambda name=function: kvm.state(name))
        assert "this node has no fence agent fence_none: stonith_admin --list-installed" in told
    dry = kvm.state("ha_fence_agents", test=True)
    assert dry["result"] is None and "fence_none" in dry["comment"]


@pytest.mark.parametrize(
    ("make", "wanted"),
    [
        (lambda: None, "this node has no file"),
        (lambda: SECRET.mkdir(), "is not a regular file"),
        (lambda: SECRET.symlink_to("/nothing/there"), "this node has no file"),
        (lambda: SECRET.write_text("x1y2") and SECRET.chmod(0o644), "chmod 600"),
        (lambda: SECRET.touch(0o600), "is no secret: want one line"),
        (lambda: SECRET.write_bytes(b"\xffx1y2\n") and SECRET.chmod(0o600), "is no secret"),
        (lambda: SECRET.write_text("x1y2\nz\n") and SECRET.chmod(0o600), "is no secret"),
    ],
)
def test_a_secret_that_cannot_be_had_is_named_and_not_shown(described, make, wanted):
    kvm = described(fencing({"a": {**BOARD, "secrets": {"passwd": str(SECRET)}}}))
    make()
    try:
        told = untouched(lambda: kvm.state("ha_secrets"))
    finally:
        if SECRET.is_dir():
            SECRET.rmdir()
    assert wanted in told and str(SECRET) in told and "x1y2" not in told
