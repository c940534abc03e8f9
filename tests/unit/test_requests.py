"""What an orchestration is asked for: refused whole, by name, where anything of it is wrong."""

import pytest
import worlds
from worlds import NODES

from saltext_kvmcluster.core.drain import requests, steps
from saltext_kvmcluster.core.drain.requests import Request
from saltext_kvmcluster.core.errors import InputError

CLUSTER = worlds.cluster(NODES)
OWN = {"kvmcluster": {"name": "lab"}, "users": ["ann"]}


def asked(name, own=OWN, **pillar):
    request = requests.parse(name, {**own, **pillar}, own)
    requests.complete(request, CLUSTER)
    return request


WRONG = [
    ("maintenance", {}, "node: want the minion id of the node to be maintained, got nothing"),
    ("maintenance", {"node": None}, "got nothing; the nodes of"),
    (
        "maintenance",
        {"node": "node11"},
        "node11 is not a node of cluster lab; its nodes are node1, node2",
    ),
    ("maintenance", {"node": ["node1"]}, r"node: want one node's minion id, got \['node1'\]"),
    ("maintenance", {"node": 1}, "node: want one node's minion id, got 1; put it in quotes"),
    ("maintenance", {"node": "node1,node2"}, "node1,node2 is not a node"),
    ("maintenance", {"nodes": ["node1"]}, "unknown key 'nodes'; .*did you mean node?"),
    (
        "maintenance",
        {"node": "node1", "anew": True},
        "unknown key 'anew'; known keys are node, sls",
    ),
    ("rolling", {"node": "node1"}, "pillar: unknown key 'node'; known keys are sls, reboot"),
    ("rolling", {"slss": "updates"}, "unknown key 'slss'; .*did you mean sls?"),
    ("rolling", {"rebot": "always"}, "did you mean reboot?"),
    ("rolling", {"reboot": "sometimes"}, "reboot: want needed or always or never, got 'sometimes'"),
    ("rolling", {"reboot": "allways"}, "did you mean always?"),
    ("rolling", {"reboot": True}, "reboot: want needed or always or never, got True"),
    ("rolling", {"reboot": ["always"]}, "reboot: want needed or always or never, got"),
    ("rolling", {"timeout": -5}, "timeout: want seconds, above 0 and at most 86400, got -5"),
    ("rolling", {"timeout": "900"}, "timeout: want seconds, .* got '900'"),
    ("rolling", {"timeout": 0}, "timeout: want seconds"),
    ("rolling", {"timeout": True}, "timeout: want seconds"),
    ("rolling", {"timeout": float("nan")}, "timeout: want seconds"),
    ("rolling", {"timeout": float("inf")}, "timeout: want seconds"),
    ("rolling", {"home": "yes"}, "home: want true or false, got 'yes'"),
    ("rolling", {"home": 1}, "home: want true or false, got 1"),
    ("rolling", {"anew": "true"}, "anew: want true or false, got 'true'"),
    ("rolling", {"stuck": "shut"}, "stuck: want refuse or shutdown or leave, got 'shut'"),
    ("rolling", {"stuck": "shutdwon"}, "did you mean shutdown?"),
    ("rolling", {"stuck": ["leave"]}, "stuck: want refuse or shutdown or leave"),
    ("rolling", {"drain": "never"}, "drain: want always or reboot, got 'never'"),
    ("rolling", {"drain": False}, "drain: want always or reboot, got False"),
    ("rolling", {"sls": []}, "sls: want the name of an SLS, or a list of them"),
    ("rolling", {"sls": {"updates": 1}}, "sls: want the name of an SLS"),
    ("rolling", {"sls": "up dates"}, "sls: want the name of an SLS"),
    ("rolling", {"sls": True}, "sls: want the name of an SLS"),
    ("rolling", {"cluster": ["lab"]}, "cluster: want a cluster's name"),
    ("rolling", {"cluster": ""}, "cluster: want a cluster's name"),
    ("rolling", {"kvmcluster": {"name": "other"}}, "unknown key 'kvmcluster'"),
    ("rolling", {7: 1}, "unknown key 7"),
    ("prepare", {"clustre": "lab"}, "known keys are nodes, cluster; did you mean cluster?"),
    ("prepare", {"sls": "x"}, "unknown key 'sls'"),
    ("prepare", {"nodes": "node1"}, "nodes: want a list, got 'node1'"),
    ("prepare", {"nodes": []}, "nodes: want a list of minion ids"),
    ("prepare", {"nodes": ["node1", "node4"]}, "node4 is not a node"),
    ("disk_leases", {"cluster": 7}, "cluster: want a cluster's name, got 7"),
    ("recover", {}, "guests: want a list of guests"),
    ("recover", {"guests": []}, "guests: want a list of guests"),
    ("recover", {"guests": "web1"}, "guests: want a list, got 'web1'"),
    ("recover", {"guests": ["web1", 7]}, r"guests\[1\]: want a guest's name, got 7"),
    ("recover", {"guest": ["web1"]}, "did you mean guests?"),
    (
        "rolling",
        {"slss": "updates", "speed": 1, "reboot": "yes", "stuck": "shut"},
        r"unknown keys 'slss', 'speed'; known keys are sls, .*; did you mean sls\? \(for 'slss'\)\n"
        r"reboot: want .*, got 'yes'\nstuck: want .*, got 'shut'",
    ),
]


@pytest.mark.parametrize(("name", "pillar", "detail"), WRONG)
def test_what_is_wrong_is_refused_by_its_key(name, pillar, detail):
    own = OWN
    with pytest.raises(InputError, match=detail):
        requests.complete(requests.parse(name, {**own, **pillar}, own), CLUSTER)


def test_what_is_right_is_taken():
    assert asked("rolling") == Request("rolling")
    given = {"sls": "a,b", "reboot": "never", "timeout": 60, "home": True, "cluster": "lab"}
    wanted = {**given, "sls": ("a", "b"), "timeout": 60.0}
    assert asked("maintenance", node="node1", **given) == Request(
        "maintenance", node="node1", **wanted
    )
    assert asked("rolling", anew=True) == Request("rolling", anew=True)
    assert asked("recover", guests=["web1", "web1", "db1"]).guests == ("web1", "db1")
    assert asked("prepare", cluster=None) == Request("prepare")
    assert asked("prepare", nodes=["node1", "node2", "node1"]).nodes == ("node1", "node2")


def test_no_sls_at_all_is_asked_for_by_leaving_it_out():
    with pytest.raises(
        InputError, match="sls: want the name of an SLS, or a list of them, got null"
    ):
        asked("rolling", sls=None)


def test_what_is_in_the_masters_own_pillar_anyway_is_no_request():
    assert asked("rolling", own={**OWN, "slss": "x"}) == Request("rolling")
    with pytest.raises(InputError, match="unknown key 'slss'"):
        asked("rolling", own={**OWN, "slss": "x"}, slss="y")
    assert asked("rolling", own={**OWN, "reboot": "never"}).reboot == "never"


def test_the_steps_of_an_orchestration():
    request = asked("rolling", sls=["a", "b"], reboot="always")
    found = steps.rolling(request, ["node1", "node2"])
    of_node = ("assessed", "drained", "updated", "reboot", "undrained", "done")
    of_nodes = [f"{node} {step}" for node in ("node1", "node2") for step in of_node]
    assert list(found) == ["rolling", "preflight", *of_nodes, "report"]
    assert {"reason": "kvmcluster.orch.rolling a b"} in found["node1 drained"]["kvmcluster.drained"]
    assert {"when": "always"} in found["node2 reboot"]["kvmcluster.reboot"]
    assert all({"failhard": True} in given for one in found.values() for given in one.values())

    one = steps.maintenance(asked("maintenance", node="node1", cluster="lab"))
    of_one = ["assessed", "drained", "reboot", "undrained"]
    assert list(one) == ["preflight", *(f"node1 {step}" for step in of_one), "report"]
    assert {"cluster": "lab"} in one["preflight"]["kvmcluster.preflight"]
    updated = found["node1 updated"]["kvmcluster.applied"]
    assert {"nodes": ["node1"]} in updated and {"sls": ["a", "b"]} in updated
    reason = {"reason": "kvmcluster.orch.maintenance"}
    assert reason in one["node1 drained"]["kvmcluster.drained"]
    assert reason in one["node1 undrained"]["kvmcluster.undrained"]


def test_guests_that_were_shut_down_are_started_again_also_by_the_next_run():
    restored = "node1 restored"
    request = asked("maintenance", node="node1")
    assert restored not in steps.maintenance(request)
    assert restored in steps.maintenance(request, off=["node1"])
    assert restored in steps.maintenance(asked("maintenance", node="node1", stuck="shutdown"))
    found = list(steps.rolling(asked("rolling"), ["node1", "node2"], off=["node2"]))
    assert "node1 restored" not in found
    assert found.index("node2 undrained") < found.index("node2 restored")
    assert found.index("node2 restored") < found.index("node2 done")


def test_a_node_that_is_drained_only_for_a_reboot_may_need_one_after_its_update():
    late = "node1 drained to be rebooted"
    request = asked("maintenance", node="node1", sls="updates", drain="reboot")
    found = steps.maintenance(request)
    assert {"before_reboot": "needed"} in found[late]["kvmcluster.drained"]
    assert list(found).index("node1 updated") < list(found).index(late)
    for pillar in ({"sls": "updates"}, {"drain": "reboot"}, {"drain": "reboot", "reboot": "never"}):
        assert late not in steps.maintenance(asked("maintenance", node="node1", **pillar))


def test_the_steps_of_the_others():
    found = steps.prepare(asked("prepare"))
    assert list(found) == ["preflight", "keys", "identities", "trust", "ssh"]
    assert all({"failhard": True} in given for one in found.values() for given in one.values())
    found = steps.prepare(asked("prepare", nodes=["node1"]))
    assert {"nodes": ["node1"]} in found["keys"]["kvmcluster.applied"]
    found = steps.recover(asked("recover", guests=["web1", "db1"]))
    assert list(found) == ["recover web1", "recover db1"], "one that fails does not end the others"
    assert not any({"failhard": True} in given for one in found.values() for given in one.values())
    assert list(steps.disk_leases(asked("disk_leases"))) == ["preflight", "disk-leases"]
    found = steps.ha(asked("ha"), ["node1", "node2", "node3"])
    assert list(found)[:4] == ["preflight", "sls", "first-node", "nodes"]
    assert list(found)[-1] == "guests", "guests are given to it last"
    assert {"nodes": ["node2", "node3"]} in found["nodes"]["kvmcluster.applied"]
    assert all({"failhard": True} in given for one in found.values() for given in one.values())
    assert "nodes" not in steps.ha(asked("ha"), ["node1"])
    (only,) = steps.refused("no").values()
    assert only == {"kvmcluster.refused": [{"reason": "no"}]}
