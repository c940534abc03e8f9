"""What a node publishes of itself, and what it believes of what others publish."""

import json
import re

import pytest
from salt.exceptions import CommandExecutionError, SaltInvocationError
from sandbox import ETC_SSH, HOST_KEYS, SSH, sh


def fingerprint(path):
    return sh("ssh-keygen", "-l", "-f", path).split()[1]


def test_an_identity_is_what_ssh_keygen_sees_and_nothing_else(member):
    detail = member.call("kvmcluster.identity")
    assert set(detail) == {
        *("kind", "node", "login", "cluster_key", "cluster_fingerprint", "host_keys", "time"),
        "signatures",
    }
    assert (detail["node"], detail["login"]) == ("alpha", "root")
    assert detail["cluster_fingerprint"] == fingerprint(SSH / "id_rsa_cluster.pub")
    assert {entry["fingerprint"] for entry in detail["host_keys"]} == {
        fingerprint(path) for path in HOST_KEYS
    }


def test_no_private_key_is_in_anything_that_is_returned(member):
    member.run("alpha", "saltutil.refresh_pillar", wait=True)
    answers = [
        member.full("alpha", name) for name in ("kvmcluster.identity", "kvmcluster.peers")
    ] + [member.state(name) for name in ("key_present", "authorized_keys", "known_hosts")]
    text = json.dumps(answers)
    private = [SSH / "id_rsa_cluster", *ETC_SSH.glob("ssh_host_*_key")]
    public = "".join(f.read_text() for f in [*ETC_SSH.glob("*.pub"), SSH / "id_rsa_cluster.pub"])
    for path in private:
        # The head of the body is the public half once more; what follows is not.
        lines = [line for line in path.read_text().splitlines() if line not in public]
        assert not any(line in text for line in lines[-10:] if len(line) > 20)
    assert "PRIVATE" not in text


def test_a_host_key_that_sshd_does_not_use_is_not_published(member, sshd):
    sshd("HostKey /etc/ssh/ssh_host_ed25519_key")
    keys = member.call("kvmcluster.identity")["host_keys"]
    assert [entry["key"].split()[0] for entry in keys] == ["ssh-ed25519"]


@pytest.mark.parametrize("damage", ["rm", "chmod 644", "ssh-keygen -q -p -P  -N secret -f"])
def test_there_is_no_identity_without_a_fit_key(member, damage):
    sh(*damage.split(" "), SSH / "id_rsa_cluster")
    with pytest.raises((CommandExecutionError, SaltInvocationError)) as caught:
        member.call("kvmcluster.identity")
    assert "id_rsa_cluster" in str(caught.value)
    assert member.run("alpha", "mine.send", "kvmcluster.identity") is False
    assert member.filed("alpha"), "the mine keeps what was published last"


def short(identity):
    key = "AAAAB3NzaC1yc2EAAAADAQABAAAAgQ" + "C" * 170 + "=="
    return {**identity, "cluster_key": f"ssh-rsa {key}"}


HOSTILE = {
    "options": lambda it: {**it, "cluster_key": f'command="id" {it["cluster_key"]}'},
    "two lines": lambda it: {**it, "cluster_key": f"{it['cluster_key']}\n{it['cluster_key']}"},
    "another node": lambda it: {**it, "node": "alpha"},
    "a weak key": short,
    "not a mapping": lambda it: [it],
    "a host key for all": lambda it: {**it, "host_keys": [{"key": "@cert-authority * ssh-rsa A"}]},
    "an endless list": lambda it: {**it, "host_keys": it["host_keys"] * 100},
}


@pytest.mark.parametrize("what", HOSTILE)
def test_a_hostile_identity_is_refused_by_name_and_the_others_are_served(member, filed, what):
    for state in ("authorized_keys", "known_hosts"):
        assert member.state(state)["result"] is True
    before = (SSH / "authorized_keys2").read_bytes()
    member.publish("beta", HOSTILE[what](filed["beta"]))
    (SSH / "authorized_keys2").write_text(re.sub(".*/alpha\n", "", before.decode()))
    detail = member.bad("authorized_keys")
    assert "beta: its published identity is refused" in detail
    assert (SSH / "authorized_keys2").read_bytes() == before
    assert "beta" in member.bad("known_hosts")
    assert list(member.call("kvmcluster.peers")["refused"]) == ["beta"]


def test_a_key_that_another_node_has_is_refused(member, filed):
    for state in ("authorized_keys", "known_hosts"):
        assert member.state(state)["result"] is True
    before = (SSH / "authorized_keys2").read_bytes()
    member.publish("beta", {**filed["beta"], "cluster_key": filed["alpha"]["cluster_key"]})
    refusal = "beta: its published identity is refused: it does not prove that it holds"

    assert refusal in member.bad("authorized_keys")
    assert (SSH / "authorized_keys2").read_bytes() == before
