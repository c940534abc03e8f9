"""Guests are found by what nodes tell; where none does, the sentence says what to suspect."""

from types import SimpleNamespace

import pytest

from saltext_kvmcluster.core.errors import WorldError
from saltext_kvmcluster.core.facts import nodefacts
from saltext_kvmcluster.master import search


@pytest.mark.parametrize("answered", [False, True])
def test_where_no_node_answers_the_master_is_suspected(monkeypatch, answered):
    facts = {node: nodefacts.silent(node, "no response", answered) for node in ("node1", "node2")}
    cluster = SimpleNamespace(name="lab", guests=SimpleNamespace(listed={}))
    nodes = SimpleNamespace(cluster=cluster, seen=lambda: facts)
    monkeypatch.setattr(search.pillars, "all_clusters", lambda *_: [cluster])
    monkeypatch.setattr(search, "SaltNodes", lambda *_: nodes)
    monkeypatch.setattr(search.selection, "cluster_of", lambda *_: "lab")
    with pytest.raises(WorldError) as caught:
        search.of_guests({}, {}, None, "web1")
    assert str(caught.value).startswith("no node of cluster lab tells its guests; nothing was done")
    assert (
        "the master, or its network, is to be suspected first" in str(caught.value)
    ) is not answered
