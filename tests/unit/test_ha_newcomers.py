"""Guests that Pacemaker does not have yet: given to it only where it sees what runs."""

from dataclasses import replace

import pacemakers
import pytest

from saltext_kvmcluster.core.ha import newcomers
from saltext_kvmcluster.core.ha.difference import Difference

AGENTS = dict.fromkeys(("node1", "node2", "node3"), "")


def why(view, guests=("web9",), agents=AGENTS):
    return "; ".join(newcomers.hindrances(guests, "node1", view, agents))


def with_member(node, **changes):
    view = pacemakers.view()
    members = view.status.members
    changed = {**members, node: replace(members[node], **changes)}
    return replace(view, status=replace(view.status, members=changed))


def test_where_all_nodes_are_online_with_our_agent_it_may_be_given():
    assert why(pacemakers.view()) == ""


@pytest.mark.parametrize("change", [{"online": False}, {"pending": True}, {"unclean": True}])
def test_not_while_pacemaker_does_not_see_a_node(change):
    assert "does not have node3 online" in why(with_member("node3", **change))


def test_a_node_may_still_join():
    nodes = ("node1", "node2", "node3")
    assert newcomers.absent(nodes, pacemakers.view()) == []
    assert newcomers.absent(nodes, with_member("node3", pending=True)) == ["node3"]
    assert newcomers.absent(nodes, None) == [*nodes]


def test_not_with_a_node_that_pacemaker_does_not_know():
    assert "does not have node4 online" in why(pacemakers.view(), agents={**AGENTS, "node4": ""})


def test_not_where_no_agent_could_see_it():
    found = why(pacemakers.view(), agents={**AGENTS, "node2": "not there"})
    assert "on node2" in found and "kvmcluster.ha.agent" in found


def test_not_one_that_another_resource_manages_already():
    assert "web1 is Pacemaker's already, as its resource web1" in why(pacemakers.view(), ["web1"])


@pytest.mark.parametrize("view", [None, pacemakers.at_rest()])
def test_not_where_pacemaker_cannot_be_read(view):
    assert "Pacemaker on node1 cannot be read" in why(view)


def test_not_without_fencing():
    assert "fences nobody" in why(
        pacemakers.edited('stonith-enabled="true"', 'stonith-enabled="false"')
    )


def test_only_what_was_not_there_is_new():
    changes = {
        "kvmcluster-web1": {"new": "<primitive/>"},
        "kvmcluster-web2": {"old": "<primitive/>", "new": "<primitive/>"},
    }
    found = Difference("", "", changes)
    assert newcomers.of(found, ["web1", "web2", "web3"]) == ["web1"]
