"""A login that is not root: its files, root's files for dialling as it, and an evil owner."""

import contextlib
import os
import pathlib
import pwd

import pytest
from sandbox import SSH, published, put_key, sh, ssh, world

from saltext_kvmcluster.core.errors import WorldError
from saltext_kvmcluster.host import ssh as logins

STATES = ("key_present", "authorized_keys", "known_hosts", "ssh_config")
ETC = pathlib.Path("/etc")
RULE = ETC / "sudoers.d" / "kvmcluster"
AHEAD = ("sudo", "-n")


@pytest.fixture
def member(kvm, migrator, keys):
    """The migrator with its key in place, and identities for it in the mine."""
    put_key(keys / "alpha", migrator / ".ssh" / "id_rsa_cluster", "migrator")
    for node in ("alpha", "beta"):
        kvm.publish(node, published(keys, node, "migrator"))
    return kvm


def test_files_are_the_accounts_and_root_dials_as_it(member, migrator):
    home = migrator / ".ssh"
    for state in STATES:
        member.twice(state, watched=(SSH, home))
    owner = pwd.getpwnam("migrator")
    assert {path.name for path in home.iterdir()} == {
        *("id_rsa_cluster", "id_rsa_cluster.pub", "authorized_keys2"),
        *("kvmcluster_known_hosts", "kvmcluster_config", "config"),
    }
    for path in (home, *home.iterdir()):
        observed = path.stat()
        assert (observed.st_uid, observed.st_gid) == (owner.pw_uid, owner.pw_gid), path
    assert {path.name for path in SSH.iterdir()} == {
        *("kvmcluster_known_hosts", "kvmcluster_config", "config")
    }
    assert {path.stat().st_uid for path in SSH.iterdir()} == {0}
    for name in ("beta", "beta-mig"):
        assert sh("ssh", "-T", "-o", "BatchMode=yes", name, "id -un") == "migrator\n"
    login_targets = ("runuser", "-u", "migrator", "--", "ssh", "-T", "-o", "BatchMode=yes")
    assert sh(*login_targets, "beta", "id -un") == "migrator\n"


def test_what_needs_root_is_run_by_sudo_or_refused_by_name(member, migrator):
    for state in STATES[1:]:
        assert member.state(state)["result"] is True
    member.pillar(login="migrator", sudo=True)
    cells = member.call("kvmcluster.ssh_check", timeout=5)["cells"]
    assert {cell["cause"] for cell in cells} == {"sudo refused"}
    assert "NOPASSWD: /bin/sh" in cells[0]["remedy"] and "sudo: " in cells[0]["detail"]
    with (
        contextlib.closing(logins.Session("beta", AHEAD)) as session,
        pytest.raises(WorldError, match="sudo refused: sudo: "),
    ):
        session.run("true")
    RULE.write_text("migrator ALL=(root) NOPASSWD: /bin/sh\n")
    try:
        assert member.call("kvmcluster.ssh_check", timeout=5)["ok"]
        with contextlib.closing(logins.Session("beta", AHEAD)) as session:
            assert session.run("id -u").stdout == "0\n"
        assert logins.run_all("beta", {"": ["id", "-u"]}, ahead=AHEAD)[""].stdout == "0\n"
        assert logins.run_all("beta", {"": ["id", "-un"]})[""].stdout == "migrator\n"
    finally:
        RULE.unlink()


def test_an_account_that_may_not_use_libvirt_is_named(member, migrator):
    for state in STATES[1:]:
        assert member.state(state)["result"] is True
    virsh = pathlib.Path("/usr/local/bin/virsh")
    try:
        for words, cause in (("Permission denied", "libvirt refused"), ("No such file", "ok")):
            virsh.write_text(
                f'#!/bin/sh\necho "error: Failed to connect socket: {words}" >&2; exit 1\n'
            )
            virsh.chmod(0o755)
            cells = member.call("kvmcluster.ssh_check", timeout=5)["cells"]
            assert {cell["cause"] for cell in cells} == {cause}, cells
    finally:
        virsh.unlink()


def test_a_key_is_made_for_the_account(kvm, migrator):
    assert kvm.twice("key_present", watched=(SSH, migrator))["result"] is True
    path = migrator / ".ssh" / "id_rsa_cluster"
    assert path.owner() == "migrator" and path.stat().st_mode & 0o777 == 0o600
    assert not SSH.exists()


def test_an_account_that_is_not_there_is_named_and_made_by_what_is_said(kvm):
    kvm.pillar(login="nobody-here")
    for state in STATES:
        detail = kvm.bad(state)
        assert "nobody-here" in detail and "user.present" in detail


def test_a_home_that_is_not_there_is_named(kvm, migrator):
    os.rename(migrator, "/home/elsewhere")
    try:
        for state in ("key_present", "known_hosts"):
            assert "/home/migrator" in kvm.state(state)["comment"]
            assert kvm.state(state)["result"] is False
    finally:
        os.rename("/home/elsewhere", migrator)


def test_a_file_system_that_cannot_be_written_is_named(kvm, migrator):
    sh("mount", "-t", "tmpfs", "-o", "ro", "tmpfs", migrator)
    done = kvm.state("key_present")
    assert done["result"] is False
    assert "/home/migrator" in done["comment"] and "Read-only" in done["comment"]


def a_folder_that_is_a_link(home):
    os.rename(home / ".ssh", home / "ssh")
    (home / ".ssh").symlink_to("/etc")


def a_folder_that_is_a_link_to_roots_own(home):
    SSH.mkdir(mode=0o700)
    os.rename(home / ".ssh", home / "ssh")
    (home / ".ssh").symlink_to("/root/.ssh")


def a_folder_of_somebody_elses(home):
    sh("chown", "nobody", home / ".ssh")


def links_to_shadow(home):
    for name in ("authorized_keys2", "kvmcluster_known_hosts", "kvmcluster_config", "config"):
        (home / ".ssh" / name).symlink_to("/etc/shadow")
    (home / ".ssh" / "id_rsa_cluster.pub").unlink()
    (home / ".ssh" / "id_rsa_cluster.pub").symlink_to("/etc/shadow")


def links_to_nothing_in_etc(home):
    for name in ("authorized_keys2", "kvmcluster_known_hosts", "kvmcluster_config", "config"):
        (home / ".ssh" / name).symlink_to(f"/etc/{name}")
    for name in ("id_rsa_cluster", "id_rsa_cluster.pub"):
        (home / ".ssh" / name).unlink()
        (home / ".ssh" / name).symlink_to(f"/etc/{name}")


def hard_links_to_roots_files(home):
    secret = home / "secret"
    secret.write_text("root's own\n")
    secret.chmod(0o600)
    for name in ("authorized_keys2", "kvmcluster_known_hosts", "kvmcluster_config", "config"):
        os.link(secret, home / ".ssh" / name)
    (home / ".ssh" / "id_rsa_cluster.pub").unlink()
    os.link(secret, home / ".ssh" / "id_rsa_cluster.pub")


def pipes(home):
    for name in ("authorized_keys2", "kvmcluster_known_hosts", "kvmcluster_config", "config"):
        os.mkfifo(home / ".ssh" / name)
    (home / ".ssh" / "id_rsa_cluster").unlink()
    os.mkfifo(home / ".ssh" / "id_rsa_cluster")


def folders(home):
    for name in ("authorized_keys2", "kvmcluster_known_hosts", "kvmcluster_config", "config"):
        (home / ".ssh" / name).mkdir()
    (home / ".ssh" / "id_rsa_cluster").unlink()
    (home / ".ssh" / "id_rsa_cluster").mkdir()


@pytest.mark.parametrize(
    "deed",
    [
        a_folder_that_is_a_link,
        a_folder_that_is_a_link_to_roots_own,
        a_folder_of_somebody_elses,
        links_to_shadow,
        links_to_nothing_in_etc,
        hard_links_to_roots_files,
        pipes,
        folders,
    ],
    ids=lambda deed: deed.__name__,
)
def test_an_account_cannot_lead_root_elsewhere(member, migrator, deed):
    deed(migrator)
    before = world(ETC, migrator, SSH)
    for state in STATES:
        for test in (True, False):
            done = member.state(state, test=test)
            assert (done["result"], done["changes"]) == (False, {}), (state, test, done)
            assert "/home/migrator" in done["comment"], done
    assert world(ETC, migrator, SSH) == before


def test_a_link_to_roots_key_is_not_given_away(member, migrator, keys):
    put_key(keys / "alpha")
    path = migrator / ".ssh" / "id_rsa_cluster"
    path.unlink()
    path.symlink_to(SSH / "id_rsa_cluster")
    detail = member.bad("key_present")
    assert "link" in detail and "chown" not in detail


def test_a_key_path_over_the_accounts_own_link_is_refused(member, migrator):
    (migrator / "keys").symlink_to("/etc")
    member.pillar(login="migrator", key="/home/migrator/keys/ssh/key")
    before = world(ETC)
    done = member.state("key_present")
    assert done["result"] is False and "link" in done["comment"]
    assert world(ETC) == before


def test_the_accounts_own_link_to_its_own_file_is_followed(member, migrator):
    dotfiles = migrator / "dotfiles"
    dotfiles.mkdir()
    (dotfiles / "config").write_text("Host x\n")
    sh("chown", "-R", "migrator:", dotfiles)
    (migrator / ".ssh" / "config").symlink_to("../dotfiles/config")
    assert member.twice("ssh_config", watched=(SSH, migrator))["result"] is True
    assert "Include" in (dotfiles / "config").read_text()


def test_strict_modes_of_the_account_are_seen(member, migrator):
    for state in STATES[1:]:
        assert member.state(state)["result"] is True
    assert "in\n" in ssh("beta")
    sh("chmod", "o+w", migrator)
    assert "Permission denied" in ssh("beta", code=255)
    assert "/home/migrator is writable by others (mode " in member.bad("authorized_keys")
