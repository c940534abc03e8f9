"""What the cluster's keys do not allow, asked of the real sshd, and who may still log in."""

import os
import re

import pytest
from sandbox import NODES, SSH, sh, ssh

from saltext_kvmcluster.core.pillar.parser import from_pillar
from saltext_kvmcluster.host import trust_files

KEYS = SSH / "authorized_keys2"
PORT = "47123"


@pytest.fixture
def trusting(member):
    """A member whose states are all applied."""
    for state in ("known_hosts", "ssh_config", "authorized_keys"):
        assert member.state(state)["result"] is True
    return member


@pytest.fixture
def as_beta(keys):
    """How somebody who has beta's key uses it, with no configuration to hinder it."""
    return (
        *("-F", "none", "-i", keys / "beta", "-o", "IdentitiesOnly=yes", "-o", "BatchMode=yes"),
        *("-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null"),
        *("-o", "ExitOnForwardFailure=yes"),
    )


def unrestricted():
    """Let the keys do what they want, so that it is seen that an attempt is one."""
    KEYS.write_text(KEYS.read_text().replace("restrict ", ""))


def through_a_port(options):
    """What -L and -D do for each connection."""
    return "SSH-2.0" in sh(
        "timeout", "5", "ssh", *options, "-W", "127.0.0.1:22", "alpha", code=None
    )


def through_a_port_there(options):
    return "done\n" in sh(
        *("ssh", *options, "-R", f"{PORT}:127.0.0.1:22", "alpha", "echo done"), code=None
    )


def with_an_agent(options):
    words = " ".join(map(str, options))
    line = f"ssh -A {words} alpha 'test -S \"$SSH_AUTH_SOCK\" && echo done'"
    return "done\n" in sh("ssh-agent", "sh", "-c", line, code=None)


def on_a_terminal(options):
    return "/dev/pts/" in sh("ssh", *options, "-tt", "alpha", "tty", code=None)


def with_a_display(options):
    line = ("ssh", *options, "-Y", "alpha", 'test -n "$DISPLAY" && echo done')
    return "done" in sh(*line, code=None, env={**os.environ, "DISPLAY": ":7"})


def with_a_script_of_the_login(options):
    (SSH / "rc").write_text("echo done >&2\n")
    return "done\n" in sh("ssh", *options, "alpha", "true", code=None)


ATTEMPTS = [
    through_a_port,
    through_a_port_there,
    with_an_agent,
    on_a_terminal,
    with_a_display,
    with_a_script_of_the_login,
]


@pytest.mark.parametrize("attempt", ATTEMPTS)
def test_a_key_opens_nothing_but_commands(trusting, as_beta, attempt):
    assert "in\n" in ssh("alpha", *as_beta)
    assert not attempt(as_beta)
    unrestricted()
    assert attempt(as_beta)


def test_a_key_opens_no_tunnel_where_sshd_permits_none(trusting, as_beta, sshd):
    """By sshd's own setting, no by default: ``restrict`` does not touch tunnels."""
    unrestricted()
    line = ("ssh", "-v", *as_beta, "-o", "Tunnel=ethernet", "-w", "any", "alpha", "echo in")
    found = sh("timeout", "10", *line, code=None)
    assert "Server has rejected tunnel device forwarding" in found and "\nin\n" not in found


def test_only_the_pillars_networks_let_in(member, as_beta):
    member.pillar(**{"from": ["127.0.0.2/31"]})
    for state in ("known_hosts", "ssh_config", "authorized_keys"):
        assert member.good(state)["result"] is True
    assert 'restrict,from="127.0.0.2/31" ssh-' in KEYS.read_text()
    for address in ("127.0.0.2", "127.0.0.3"):
        assert "in\n" in ssh("alpha", *as_beta, "-b", address)
    assert "Permission denied" in ssh("alpha", *as_beta, "-b", "127.0.0.9", code=255)
    row = member.call("kvmcluster.ssh_check", timeout=3)
    assert {cell["cause"] for cell in row["cells"]} == {"address not permitted"}
    assert "this node logs in from 127.0.0.1" in row["cells"][0]["detail"]


def test_an_address_of_a_name_that_is_not_covered_is_named_and_nothing_is_lost(trusting, as_beta):
    trusting.pillar(**{"from": ["127.0.0.1", "127.0.0.2"]})
    before = KEYS.read_text()
    detail = trusting.bad("authorized_keys")
    assert "beta logs in from 127.0.0.3 (its name beta-mig), which kvmcluster:ssh:from" in detail
    alpha, beta = (
        next(x for x in KEYS.read_text().splitlines() if x.endswith(f"/{n}"))
        for n in ("alpha", "beta")
    )
    assert beta in before and alpha.startswith('restrict,from="127.0.0.1,127.0.0.2" ')
    assert "in\n" in ssh("alpha", *as_beta, "-b", "127.0.0.9")
    trusting.pillar(**{"from": ["127.0.0.1", "127.0.0.2", "127.0.0.3"]})
    trusting.good("authorized_keys")
    assert "Permission denied" in ssh("alpha", *as_beta, "-b", "127.0.0.9", code=255)


def test_an_address_from_which_a_node_logs_in_now_is_not_lost(trusting):
    """Which its names do not tell: here, beta's logins come from 127.0.0.1."""
    trusting.pillar(**{"from": ["127.0.0.2", "127.0.0.3"]})
    done = trusting.state("authorized_keys", test=True)
    assert done["result"] is False
    assert "beta logs in from 127.0.0.1 (to alpha), which kvmcluster:ssh:from" in done["comment"]
    trusting.state("authorized_keys")
    beta = next(line for line in KEYS.read_text().splitlines() if line.endswith("/beta"))
    assert beta.startswith("restrict ssh-")


def test_a_node_that_cannot_be_asked_keeps_its_line_and_is_named(trusting):
    trusting.pillar(**{"from": ["127.0.0.0/8"]})
    hosts = SSH / "kvmcluster_known_hosts"
    hosts.write_text("")
    done = trusting.good("authorized_keys")
    (warning,) = done["warnings"]
    assert warning.startswith("beta could not be asked") and "host key unknown" in warning
    assert re.findall(r"(?m)^(\S+) .*/(\w+)$", KEYS.read_text()) == [
        ('restrict,from="127.0.0.0/8"', "alpha"),
        ("restrict", "beta"),
    ]


def test_lines_of_a_release_without_options_are_moved_over(trusting, as_beta):
    unrestricted()
    (done,) = trusting.good("authorized_keys")["changes"]["authorized_keys2"]["replaced"]
    assert done == "alpha, beta: options none -> restrict"
    assert not on_a_terminal(as_beta) and "in\n" in ssh("alpha", *as_beta)


def test_options_that_somebody_changed_are_seen_and_put_back(trusting):
    before = KEYS.read_text()
    KEYS.write_text(before.replace("restrict ", "restrict,pty ", 1))
    assert trust_files.drifted(from_pillar({"kvmcluster": {"name": "test", "nodes": NODES}})) == [
        str(KEYS)
    ]
    trusting.good("authorized_keys")
    assert KEYS.read_text() == before
