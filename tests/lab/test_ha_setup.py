"""From nothing to a guarded cluster by one command; what is not ours stays."""

import json
import os
import time

import pytest
from labs import Lab, until

pytestmark = pytest.mark.nightly

ORCHESTRATION = ("state.orchestrate", "kvmcluster.orch.ha")
SECRET = "q7Vx2mB9"
FOREIGN = (
    '<primitive id="foreign" class="ocf" provider="pacemaker" type="Dummy">'
    '<meta_attributes id="foreign-m"><nvpair id="foreign-x" name="priority" value="1"/>'
    "</meta_attributes></primitive>"
)
GUESTS = {"web1": {"ha": True}, "web2": {"prefer": ["node2", "node3"], "ha": True}}
# What the first run of the SLS makes; Salt's own states word their predictions otherwise.
OURS = "kvmcluster_|-"


@pytest.fixture(scope="module")
def lab():
    worker = os.environ.get("PYTEST_XDIST_WORKER", "").removeprefix("gw")
    lab = Lab(os.environ.get("KVMCLUSTER_LAB", "test") + worker + "h")
    lab.ctl("down")
    lab.ctl("up", "--ha", timeout=900)
    try:
        lab.prepare()
        for at, name in enumerate(GUESTS, 1):
            lab.guest(name, f"node{at}")
        yield lab
    finally:
        lab.ctl("down")


@pytest.fixture(autouse=True, scope="module")
def pillar(lab):
    device = {"agent": "fence_kvmlab", "nodes": ["node1", "node2", "node3"]}
    device["secrets"] = {"passwd": {"pillar": "board"}}
    with lab.pillar() as pillar:
        pillar.cluster["guests"] |= {"path": "/srv/guests", "list": GUESTS}
        pillar.cluster["ha"] = {"fencing": {"devices": {"board": device}}}
        pillar.data["board"] = SECRET
        pillar.save()
        lab.refresh_pillar()
        yield pillar


def orchestrate(lab, *arguments):
    """Run the orchestration; return what each step said, and the changes of our states."""
    words = ("--out=json", *ORCHESTRATION, *arguments)
    done = lab.ctl("salt-run", "--", *words, check=False, timeout=900)
    (states,) = json.loads(done.stdout)["data"].values()
    ordered = sorted(states.values(), key=lambda state: state["__run_num__"])
    assert SECRET not in done.stdout + done.stderr
    failed = [f"{state['__id__']}: {state['comment']}" for state in ordered if not state["result"]]
    changes = {
        (node, name): state["changes"]
        for step in ordered
        for node, found in (step["changes"].get("ret") or {}).items()
        for name, state in found.items()
        if name.startswith(OURS) and state.get("changes")
    }
    return ordered, failed, changes


def resource(lab, name):
    query = ("cibadmin", "--query", "--xpath", f"/cib/configuration//*[@id='{name}']")
    return lab.exec("node1", *query, check=False)


def await_nodes(lab):
    """Wait until every node is a member and its minion responds: one has just booted."""
    online = ("sh", "-c", "crm_mon -1 --output-as=xml | grep -c 'online=\"true\"'")
    until(lambda: lab.exec("node2", *online, check=False).strip() == "3", "three nodes", 180)
    pong = dict.fromkeys(lab.nodes, True)
    until(lambda: lab.ask(lab.nodes, "test.ping", patience=10) == pong, "three minions", 180)


def test_one_command_leads_from_nothing_to_guests_that_come_back(lab, pillar):
    steps, _, predicted = orchestrate(lab, "test=True")
    assert not [step for step in steps if step["result"] is False], steps
    assert not lab.exec("node1", "ls", "/etc/corosync")

    _, failed, made = orchestrate(lab)
    assert not failed
    assert made == predicted
    for name, node in (("web1", "node1"), ("web2", "node2")):
        assert lab.running(name) == [node]
    assert SECRET not in lab.exec("node1", "cibadmin", "--query")

    lab.exec("node2", "cibadmin", "--create", "--scope", "resources", "--xml-text", FOREIGN)
    before = resource(lab, "foreign")
    steps, failed, made = orchestrate(lab)
    assert not failed and not made
    assert not [step["__id__"] for step in steps if step["changes"]]

    pillar.cluster["guests"]["list"] = {**GUESTS, "web2": {"ha": {"priority": 5}}}
    pillar.save()
    lab.refresh_pillar()
    _, failed, made = orchestrate(lab)
    assert not failed
    assert {name for changes in made.values() for name in changes} == {
        *("kvmcluster-web2", "kvmcluster-web2-prefers-node2", "kvmcluster-web2-prefers-node3")
    }
    assert resource(lab, "foreign") == before

    lab.ctl("reboot", "node1")
    others = ("node2", "node3")
    until(lambda: any("web1" in lab.guests(node) for node in others), "web1 elsewhere", 120)
    lab.assert_whole("web2")
    await_nodes(lab)


def test_a_guest_without_ha_is_let_go_and_runs_on(lab, pillar):
    where = lab.running("web2")
    pillar.cluster["guests"]["list"] = {"web1": {"ha": True}, "web2": {}}
    pillar.save()
    lab.refresh_pillar()
    _, failed, made = orchestrate(lab)
    assert not failed
    assert {name for changes in made.values() for name in changes} == {"kvmcluster-web2"}
    assert not resource(lab, "kvmcluster-web2") and not resource(lab, "kvmcluster-letting-go")
    time.sleep(20)
    assert lab.running("web2") == where
    lab.assert_whole("web2")
    _, failed, made = orchestrate(lab)
    assert not failed and not made
