"""Which cluster a command on the master is about, from the pillars of several minions."""

import pytest

from saltext_kvmcluster.core.errors import InputError
from saltext_kvmcluster.core.pillar.collection import Clusters


def pillar(name, *nodes):
    return {"kvmcluster": {"name": name, "nodes": dict.fromkeys(nodes)}}


def clusters(**pillars):
    found = Clusters()
    for minion, data in pillars.items():
        found.read(minion, data)
    return found


TWO = {"a1": pillar("a", "a1", "a2"), "b1": pillar("b", "b1")}


def test_the_only_cluster_needs_no_name():
    assert clusters(a1=TWO["a1"], web={}).choose(None).name == "a"


def test_one_of_several_is_chosen_by_name():
    assert clusters(**TWO).choose("b").name == "b"


def test_several_clusters_are_never_guessed_between():
    with pytest.raises(InputError, match="say which cluster: cluster= one of a, b"):
        clusters(**TWO).choose(None)


def test_an_unknown_name_is_told_the_known_ones():
    with pytest.raises(InputError, match="there is no cluster 'c': cluster= one of a, b"):
        clusters(**TWO).choose("c")


def test_no_cluster_at_all_is_one_sentence():
    with pytest.raises(InputError, match="no accepted minion has a usable pillar 'kvmcluster'"):
        clusters(web={}).choose(None)


def test_where_no_pillar_is_usable_what_is_wrong_with_them_comes_first():
    broken = {"kvmcluster": {"name": "c", "nods": {}}}
    with pytest.raises(
        InputError, match=r"^the pillar of c1, c2: .*nods.*; no accepted minion has"
    ):
        clusters(c1=broken, c2=broken, web={}).choose(None)


def test_two_opinions_of_one_cluster_are_refused_by_name():
    with pytest.raises(InputError, match="a1 and x1 have different pillars for cluster a"):
        clusters(a1=TWO["a1"], x1=pillar("a", "x1"))


def test_one_broken_pillar_does_not_stop_another_cluster():
    broken = {"kvmcluster": {"name": "c", "nods": {}}}
    found = clusters(c1=broken, d1={"_errors": ["no such SLS"]}, **TWO)
    assert found.choose("a").name == "a"
    with pytest.raises(InputError, match=r"pillar of c1: .*nods.*pillar of d1: it does not render"):
        found.choose("c")


def test_nodes_of_a_known_cluster_are_covered():
    found = clusters(a1=TWO["a1"])
    assert found.covers("a2") and not found.covers("b1")
    assert found.has("a") and found.has(None) and not found.has("b")
    assert not Clusters().has(None)
