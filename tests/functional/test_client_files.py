"""States known_hosts and ssh_config: what ssh makes of them, and what of the user's own stays."""

import os
import pathlib

import pytest
from sandbox import SSH, sh, ssh, world

NAMES = ("alpha", "alpha.example.com", "beta", "Beta.example.com", "beta.example.com", "beta-mig")
CONFIG = SSH / "config"
OURS = SSH / "kvmcluster_config"
HOSTS = SSH / "kvmcluster_known_hosts"


def effective(name):
    """Return what ssh would do for a name, by option; options that repeat are lists."""
    found = {}
    for line in sh("ssh", "-G", name).splitlines():
        option, _, value = line.partition(" ")
        found.setdefault(option, []).append(value)
    return found


@pytest.fixture
def ready(member):
    """A member that lets itself in, so that only the client's side is open."""
    assert member.state("authorized_keys")["result"] is True
    return member


def test_every_host_key_is_pinned_under_every_name(member, filed):
    member.good("known_hosts")
    for name in NAMES:
        found = sh("ssh-keygen", "-F", name.lower(), "-f", HOSTS)
        for entry in filed["beta"]["host_keys"]:
            assert entry["key"] in found
    assert (HOSTS.stat().st_mode & 0o777, HOSTS.stat().st_uid) == (0o600, 0)


def test_every_name_is_dialled_with_our_key_and_pinned_host_keys(member):
    member.good("ssh_config")
    for name in NAMES:
        observed = effective(name)
        assert observed["identityfile"] == [str(SSH / "id_rsa_cluster")], name
        assert observed["user"] == ["root"] and observed["identitiesonly"] == ["yes"]
        assert observed["stricthostkeychecking"] == ["true"]
        assert observed["userknownhostsfile"] == [str(HOSTS)]
        assert observed["globalknownhostsfile"] == ["/dev/null"]
    assert effective("elsewhere.example")["stricthostkeychecking"] == ["ask"]


def test_a_host_key_that_is_not_pinned_is_not_accepted(ready, keys):
    ready.good("ssh_config")
    detail = ssh("beta", code=255)
    assert "Host key verification failed" in detail
    ready.good("known_hosts")
    assert ssh("beta") == "in\n"
    assert not (SSH / "known_hosts").exists()


def test_a_changed_host_key_is_replaced_in_words(member, filed, keys):
    member.good("known_hosts")
    other = " ".join((keys / "other.pub").read_text().split()[:2])
    entries = [e for e in filed["beta"]["host_keys"] if "ed25519" not in e["key"]]
    member.publish("beta", {**filed["beta"], "host_keys": [*entries, {"key": other}]})
    done = member.good("known_hosts")
    assert any("beta" in line for line in done["changes"][HOSTS.name]["replaced"])
    assert other in sh("ssh-keygen", "-F", "beta", "-f", HOSTS)


def test_the_users_own_files_stay_byte_for_byte(member):
    config = b"# b\xfccher\r\nHost *\n  User some\tone\n\n\nHost odd\n  Port 99"
    known = b"|1|c2FsdA==|aGFzaA== ssh-ed25519 AAAA\nbeta ssh-rsa AAAA \xff\n@revoked * ssh-rsa B"
    CONFIG.write_bytes(config)
    CONFIG.chmod(0o640)
    (SSH / "known_hosts").write_bytes(known)
    (SSH / "known_hosts2").write_bytes(b"")
    before = world(SSH / "known_hosts", SSH / "known_hosts2")
    for state in ("known_hosts", "ssh_config"):
        member.good(state)
    assert CONFIG.read_bytes().endswith(b"# END kvmcluster\n" + config)
    assert CONFIG.stat().st_mode & 0o777 == 0o640
    assert world(SSH / "known_hosts", SSH / "known_hosts2") == before


def test_a_huge_config_is_no_trouble(member):
    line = b"Host h%d.example\n  Port 2222\n"
    text = b"".join(line % number for number in range(20000))
    CONFIG.write_bytes(text)
    member.good("ssh_config")
    assert CONFIG.read_bytes().endswith(text)


def test_the_users_star_block_does_not_win(ready):
    CONFIG.write_text(
        "Host *\n  User nobody\n  IdentityFile ~/.ssh/id_rsa\n  StrictHostKeyChecking no\n"
        "  UserKnownHostsFile /dev/null\n  IdentitiesOnly no\n  PubkeyAuthentication no\n"
        "  UpdateHostKeys yes\n  CheckHostIP yes\n  ControlMaster auto\n  ControlPath ~/.ssh/%h\n"
    )
    for state in ("known_hosts", "ssh_config"):
        ready.good(state)
    observed = effective("beta")
    assert (observed["user"], observed["identityfile"][0]) == (
        ["root"],
        str(SSH / "id_rsa_cluster"),
    )
    assert (observed["stricthostkeychecking"], observed["updatehostkeys"]) == (["true"], ["false"])
    assert ssh("beta") == "in\n"
    assert effective("elsewhere.example")["user"] == ["nobody"]


@pytest.mark.parametrize(
    "line",
    [
        "ProxyCommand /bin/false",
        "ProxyJump elsewhere.example",
    ],
)
def test_nodes_dial_each_other_directly_whatever_the_users_star_block_says(ready, line):
    CONFIG.write_text(f"Host *\n  {line}\n")
    for state in ("known_hosts", "ssh_config"):
        ready.good(state)
    assert sh("ssh", "-T", "-o", "BatchMode=yes", "beta", "true") == ""


def test_a_block_that_slid_down_is_put_first_again(ready):
    ready.good("ssh_config")
    ready.good("known_hosts")
    CONFIG.write_text(f"Host *\n  User nobody\n{CONFIG.read_text()}")
    assert effective("beta")["user"] == ["nobody"]
    ready.good("ssh_config")
    assert ssh("beta") == "in\n"
    assert CONFIG.read_text().count("Include") == 1


def test_a_config_in_a_folder_of_dotfiles_is_followed(member):
    dotfiles = SSH / "dotfiles"
    dotfiles.mkdir()
    (dotfiles / "ssh").write_text("Host x\n")
    CONFIG.symlink_to("dotfiles/ssh")
    member.good("ssh_config")
    assert CONFIG.is_symlink() and "Include" in (dotfiles / "ssh").read_text()
    assert effective("beta")["user"] == ["root"]


def test_a_link_to_somebody_elses_file_is_refused(member, outsider):
    theirs = f"/home/{outsider}/config"
    sh("runuser", "-u", outsider, "--", "sh", "-c", f"echo Host x > {theirs}")
    CONFIG.symlink_to(theirs)
    detail = member.bad("ssh_config")
    assert theirs in detail and pathlib.Path(theirs).read_text() == "Host x\n"
    assert not OURS.exists(), "nothing is written where not all can be"


@pytest.mark.parametrize("name", ["authorized_keys2", "kvmcluster_known_hosts", "config"])
@pytest.mark.parametrize("kind", ["fifo", "folder", "dangling link"])
def test_what_is_no_file_is_refused_without_waiting(member, name, kind):
    path = SSH / name
    if kind == "fifo":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    else:
        path.symlink_to("nowhere")
    state = {"authorized_keys2": "authorized_keys", "config": "ssh_config"}.get(name, "known_hosts")
    assert str(path) in member.bad(state)


def test_an_ssh_folder_that_is_a_link_is_refused(member):
    SSH.rename("/root/elsewhere")
    SSH.symlink_to("elsewhere")
    try:
        for state in ("key_present", "authorized_keys", "known_hosts", "ssh_config"):
            assert "/root/.ssh" in member.bad(state)
    finally:
        SSH.unlink()
        sh("rm", "-r", "/root/elsewhere")
