"""A node proves, by the real ssh-keygen, that it holds the private keys that it publishes."""

import re

import pytest
from sandbox import SSH, published, signed

from saltext_kvmcluster.core.pillar import parser
from saltext_kvmcluster.core.trust import identity
from saltext_kvmcluster.host import proofs

KEYS, HOSTS = SSH / "authorized_keys2", SSH / "kvmcluster_known_hosts"
LATER = "2026-02-01T00:00:00+00:00"


def public(path):
    return " ".join(path.with_name(f"{path.name}.pub").read_text().split()[:2])


@pytest.fixture
def trusting(member):
    """A node whose trust is in place, of identities that were signed."""
    for state in ("authorized_keys", "known_hosts"):
        member.good(state)
    return member


@pytest.fixture
def other(filed, keys):
    """The identity of beta with another key, which it signs with that key."""
    data = {**filed["beta"], "cluster_key": public(keys / "other"), "time": LATER}
    return signed(data, keys / "other")


def both(trusting):
    return KEYS.read_text(), HOSTS.read_text()


def test_a_new_key_is_accepted_from_whoever_holds_it(trusting, other):
    trusting.publish("beta", other)
    done = trusting.good("authorized_keys")
    assert "beta" in done["changes"]["authorized_keys2"]["replaced"][0]
    assert f"{other['cluster_key']} kvmcluster/test/beta\n" in KEYS.read_text()
    assert trusting.good("authorized_keys")["changes"] == {}


@pytest.mark.parametrize("stands", [True, False])
def test_who_publishes_a_copied_key_is_refused_and_its_owner_is_accepted(
    trusting, filed, keys, stands
):
    """Whether the owner's entry is there already, or is to be taken over anew."""
    before = both(trusting)
    if not stands:
        KEYS.write_text(re.sub(".*/alpha\n", "", before[0]))
    copied = {**filed["beta"], "cluster_key": filed["alpha"]["cluster_key"], "time": LATER}
    trusting.publish("beta", signed(copied, keys / "beta"))
    detail = trusting.bad("authorized_keys")
    assert "beta: its published identity is refused" in detail and "alpha: its" not in detail
    assert "which alpha publishes, too" in detail
    assert both(trusting) == before


FORGED = (
    "of another cluster",
    "for another purpose",
    "by another key",
    "of another node",
    "with other host keys",
    "for the key that it replaced",
    "cut",
    "with a next key that it does not hold",
    "without the next key's",
)


def forged(how, filed, keys, other):
    if how == "of another cluster":
        return signed(other, keys / "other", cluster="elsewhere")
    if how == "for another purpose":
        return signed(other, keys / "other", namespace="file")
    if how == "by another key":
        return signed(other, keys / "beta")
    if how == "of another node":
        alphas = signed({**other, "node": "alpha"}, keys / "other")
        return {**other, "signatures": alphas["signatures"]}
    if how == "with other host keys":
        return {**other, "host_keys": [{"key": public(keys / "beta")}]}
    if how == "for the key that it replaced":
        return {**other, "signatures": filed["beta"]["signatures"]}
    if how == "cut":
        return {**other, "signatures": [other["signatures"][0][:200]]}
    two = {**other, "next_key": public(keys / "alpha")}
    if how == "with a next key that it does not hold":
        return signed(two, keys / "other", keys / "other")
    return signed(two, keys / "other")


@pytest.mark.parametrize("policy", ["accept", "refuse"])
@pytest.mark.parametrize("how", FORGED)
def test_a_signature_that_proves_nothing_changes_nothing(keys, filed, other, how, policy):
    nodes = {"name": "test", "nodes": {"alpha": {}, "beta": {}}, "ssh": {"unsigned": policy}}
    cluster = parser.from_pillar({"kvmcluster": nodes})
    mine = {"alpha": filed["alpha"], "beta": forged(how, filed, keys, other)}
    read = identity.read_identities(cluster, mine)
    assert list(read.accepted) == ["alpha", "beta"]
    found = proofs.judged(cluster, read, ["alpha", "beta"], remember=False)
    assert list(found.accepted) == ["alpha"]
    why = found.refused["beta"]
    assert "does not prove" in why and why.isprintable() and len(why) < 300


def test_an_identity_from_before_is_not_taken_back(trusting, filed, other):
    trusting.publish("beta", other)
    trusting.good("authorized_keys")
    before = both(trusting)
    trusting.publish("beta", filed["beta"])
    assert "older than the one of 2026-02-01" in trusting.bad("authorized_keys")
    assert both(trusting) == before


def test_a_node_that_does_not_sign_keeps_what_it_has_and_gets_nothing_new(trusting, filed, other):
    plain = {key: value for key, value in filed["beta"].items() if key != "signatures"}
    trusting.publish("beta", plain)
    for state in ("authorized_keys", "known_hosts"):
        assert trusting.good(state)["changes"] == {}
    fresh = {key: value for key, value in other.items() if key != "signatures"}
    trusting.publish("beta", fresh)
    before = both(trusting)
    detail = trusting.bad("authorized_keys")
    assert "salt beta mine.send kvmcluster.identity" in detail and "ssh:unsigned" in detail
    assert both(trusting) == before
    trusting.pillar(unsigned="accept")
    trusting.good("authorized_keys")
    assert fresh["cluster_key"] in KEYS.read_text()


def test_both_keys_are_accepted_while_one_replaces_the_other(trusting, filed, keys, other):
    """And an identity from before the second one was made does not take it away again."""
    two = {**filed["beta"], "next_key": other["cluster_key"], "time": LATER}
    trusting.publish("beta", signed(two, keys / "beta", keys / "other"))
    done = trusting.good("authorized_keys")["changes"]["authorized_keys2"]
    assert (len(done["added"]), done["removed"], done["replaced"]) == (1, [], [])
    for key in (filed["beta"]["cluster_key"], other["cluster_key"]):
        assert f"{key} kvmcluster/test/beta\n" in KEYS.read_text()
    trusting.publish("beta", None)
    assert trusting.state("authorized_keys")["changes"] == {}
    trusting.publish("beta", filed["beta"])
    trusting.bad("authorized_keys")
    assert other["cluster_key"] in KEYS.read_text()
    trusting.publish("beta", signed({**other, "time": "2026-03-01T00:00:00+00:00"}, keys / "other"))
    done = trusting.good("authorized_keys")["changes"]["authorized_keys2"]
    assert (len(done["removed"]), done["added"], done["replaced"]) == (1, [], [])
    assert filed["beta"]["cluster_key"] not in KEYS.read_text()


def test_what_a_node_publishes_itself_is_accepted(trusting, keys):
    own = trusting.call("kvmcluster.identity")
    assert len(own["signatures"]) == 1
    assert published(keys, "alpha")["cluster_key"] == own["cluster_key"]
    KEYS.write_text(re.sub(".*/alpha\n", "", KEYS.read_text()))
    trusting.publish("alpha", own)
    trusting.good("authorized_keys")
    assert own["cluster_key"] in KEYS.read_text()


def test_under_test_nothing_is_remembered(trusting, filed, other):
    trusting.publish("beta", other)
    assert trusting.state("authorized_keys", test=True)["changes"]
    trusting.publish("beta", filed["beta"])
    assert trusting.good("authorized_keys")["changes"] == {}
