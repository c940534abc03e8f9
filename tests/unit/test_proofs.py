"""Who needs a proof of the keys that it publishes, and what is accepted without one."""

from datetime import datetime, timezone

import pytest
from material import KEYS, TIME, cluster, published, read

from saltext_kvmcluster.core.errors import WorldError
from saltext_kvmcluster.core.trust import login_keys, pinned_hosts, proofs
from saltext_kvmcluster.host import commands
from saltext_kvmcluster.host import proofs as signing

FOUND = cluster("node1", "node2", "node3")
ALL = {node: published(node) for node in FOUND.nodes}
BEFORE = read(FOUND, **ALL)
TEXT = login_keys.wanted(FOUND, BEFORE, "").text
HOSTS = pinned_hosts.wanted(FOUND, BEFORE, "").text
NEW = published("node2", cluster_key=KEYS["node2-new"], time="2026-06-01T00:00:00+00:00")
COPIED = published("node2", cluster_key=KEYS["node1"])


def judged(verdicts, last=(), found=FOUND, **mine):
    identities = read(found, **{**ALL, **mine})
    asked = login_keys.unproven(found, identities, TEXT)
    return asked, proofs.judged(found, identities, asked, verdicts, dict(last))


def test_what_is_in_place_needs_no_proof():
    assert login_keys.unproven(FOUND, BEFORE, TEXT) == []
    assert pinned_hosts.unproven(BEFORE, HOSTS) == []


def test_what_would_change_does():
    assert login_keys.unproven(FOUND, BEFORE, "") == ["node1", "node2", "node3"]
    other = read(FOUND, **{**ALL, "node3": published("node3", host_keys=[{"key": KEYS["other"]}])})
    assert login_keys.unproven(FOUND, other, TEXT) == []
    assert pinned_hosts.unproven(other, HOSTS) == ["node3"]


def test_of_two_nodes_that_publish_one_key_both_do_and_the_one_with_proof_is_accepted():
    asked, found = judged({"node1": "", "node2": "not that key's"}, node2=COPIED)
    assert asked == ["node1", "node2"]
    assert list(found.accepted) == ["node1", "node3"]
    assert "which node1 publishes, too: not that key's" in found.refused["node2"]


def test_a_copy_without_a_signature_is_refused_beside_a_proof_whatever_the_pillar_says():
    lax = cluster(*FOUND.nodes, unsigned="accept")
    _, found = judged({"node1": "", "node2": None}, found=lax, node2=COPIED)
    assert list(found.refused) == ["node2"]


@pytest.mark.parametrize(("policy", "refused"), [("accept", []), ("refuse", ["node2"])])
def test_a_new_key_without_a_signature_is_accepted_if_the_pillar_says_so(policy, refused):
    asked, found = judged({"node2": None}, found=cluster(*FOUND.nodes, unsigned=policy), node2=NEW)
    assert asked == ["node2"] and list(found.refused) == refused


@pytest.mark.parametrize("last", ["2026-06-01T00:00:01+00:00", "2026-06-01T02:00:00+01:00"])
def test_an_identity_older_than_the_last_one_is_refused(last):
    _, found = judged({"node2": ""}, {"node2": last}, node2=NEW)
    assert "clock" in found.refused["node2"]
    _, found = judged({"node2": ""}, {"node2": "2026-05-01T00:00:00"}, node2=NEW)
    assert found.refused == {}


def test_a_clock_that_is_ahead_is_not_remembered():
    now = datetime(2026, 1, 1, tzinfo=timezone.utc)
    times = proofs.taken(read(FOUND, node1=ALL["node1"]), ["node1", "node2"], {"node3": TIME}, now)
    assert times == {"node1": now.isoformat(), "node3": TIME}


def test_a_statement_is_of_one_cluster_one_node_and_all_that_is_taken_from_it():
    first = proofs.statement(FOUND, BEFORE.accepted["node1"])
    others = [
        proofs.statement(cluster("node1", name="other"), BEFORE.accepted["node1"]),
        proofs.statement(FOUND, BEFORE.accepted["node2"]),
        *(
            proofs.statement(FOUND, read(FOUND, node1=published("node1", **one)).accepted["node1"])
            for one in (
                {"time": "2026-01-02T03:04:06+00:00"},
                {"next_key": KEYS["other"]},
                {"host_keys": [{"key": KEYS["other"]}]},
            )
        ),
    ]
    assert len({first, *others}) == 6


def test_of_two_keys_that_are_not_proven_both_are_named():
    two = published("node2", next_key=KEYS["node1"])
    _, found = judged({"node1": "", "node2": "a signature is missing"}, node2=two)
    both = " and ".join(
        str(read(FOUND, node2=two).accepted["node2"].keys[at].fingerprint) for at in (0, 1)
    )
    assert (
        f"the cluster keys {both}, one of which node1 publishes, too: a" in found.refused["node2"]
    )


def test_a_host_that_is_too_busy_accuses_nobody_and_publishes_nothing(monkeypatch):
    monkeypatch.setattr(commands, "run", lambda *_, **__: commands.Outcome(None, "", ""))
    data = published("node2", signatures=["-----BEGIN SSH SIGNATURE-----"])
    found = signing.judged(FOUND, read(FOUND, **{**ALL, "node2": data}), ["node2"], False)
    assert "ssh-keygen did not verify it within" in found.refused["node2"]
    with pytest.raises(WorldError, match="did not sign"):
        signing.signed(FOUND, BEFORE.accepted["node1"], ["/root/.ssh/id_rsa_cluster"])
