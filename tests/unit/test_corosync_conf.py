"""The text of corosync.conf: which nodes there are, over which networks, what decides, the key."""

import base64

import pytest

from saltext_kvmcluster.core.errors import InputError
from saltext_kvmcluster.core.ha import corosync_conf
from saltext_kvmcluster.core.pillar.parser import from_pillar


def cluster(nodes, **ha):
    named = {node: {"migration": f"{node}-mig"} for node in nodes}
    return from_pillar({"kvmcluster": {"name": "lab", "nodes": named, "ha": {"token": 3000, **ha}}})


def conf(nodes, **ha):
    found = cluster(nodes, **ha)
    return corosync_conf.wanted(found, found.ha, "").text


def test_the_key_of_a_peer_is_one_or_it_is_refused():
    good = bytes(range(256))
    assert corosync_conf.key(base64.b64encode(good).decode()) == good
    for text in ("", "no base64", "abc", base64.b64encode(b"short").decode()):
        with pytest.raises(InputError, match="authkey") as error:
            corosync_conf.key(text)
        assert "short" not in str(error.value)


def test_a_node_keeps_its_number_whoever_else_is_there():
    few, many = (conf(nodes) for nodes in (("node2", "node3"), ("node1", "node2", "node3")))
    for node in ("node2", "node3"):
        line = f"nodeid: {corosync_conf.node_number(node)}"
        assert line in few and line in many
        assert 0 < corosync_conf.node_number(node) < 65536


@pytest.mark.parametrize(
    ("nodes", "more", "there", "absent"),
    [
        (("a", "b"), {}, ["two_node: 1", "wait_for_all: 1"], ["device"]),
        (("a", "b", "c"), {}, ["wait_for_all: 1"], ["two_node", "device"]),
        (("a", "b"), {"quorum_device": {"host": "q.example"}}, ["host: q.example"], ["two_node"]),
    ],
)
def test_what_decides_which_part_goes_on(nodes, more, there, absent):
    text = conf(nodes, **more)
    assert [word for word in there if word not in text] == []
    assert [word for word in absent if word in text] == []


def test_a_second_ring_needs_a_second_name_of_every_node():
    assert "ring1_addr: a-mig" in conf(("a", "b"))
    one = from_pillar(
        {
            "kvmcluster": {
                "name": "lab",
                "nodes": {"a": {"migration": "a-mig"}, "b": {}},
                "ha": {"token": 5000},
            }
        }
    )
    text = corosync_conf.wanted(one, one.ha, "").text
    assert "ring1_addr" not in text and "token: 5000" in text


def test_nodes_that_would_have_one_number_are_refused(monkeypatch):
    monkeypatch.setattr(corosync_conf, "node_number", lambda node: 1)
    with pytest.raises(InputError, match="a and b would have the same number"):
        conf(("a", "b"))


def test_the_changes_are_the_lines():
    found = cluster(("a", "b", "c"))
    wanted = corosync_conf.wanted(found, found.ha, "")
    assert "token: 3000" in wanted.changes.added and not wanted.changes.removed
    again = corosync_conf.wanted(found, found.ha, wanted.text)
    assert not again.changes.added and not again.changes.removed
    assert corosync_conf.is_ours(wanted.text) and not corosync_conf.is_ours("totem {\n}\n")
