"""State key_present: the cluster key is made, kept, or refused with a remedy that works."""

import os
import re
import shutil

import pytest
from sandbox import SSH, put_key, remedy, sh, world

KEY = SSH / "id_rsa_cluster"
PUB = SSH / "id_rsa_cluster.pub"


def run_in(message):
    """Return the last command that a message says to run."""
    return re.findall(r"run: (.*)$", message, re.M)[-1]


@pytest.mark.parametrize(
    ("kind", "listed"), [("rsa", "4096 .*(RSA)"), ("ed25519", "256 .*ED25519")]
)
def test_a_key_is_made(kvm, kind, listed):
    kvm.pillar(key_type=kind)
    done = kvm.good("key_present")
    path = SSH / f"id_{kind}_cluster"
    detail = sh("ssh-keygen", "-l", "-f", f"{path}.pub")
    assert re.search(listed, detail) and "kvmcluster/test/alpha" in detail
    assert detail.split()[1] in done["comment"]
    assert (
        sh("ssh-keygen", "-y", "-P", "", "-f", path).split()[:2]
        == path.with_suffix(".pub").read_text().split()[:2]
    )
    observed = path.stat()
    assert (observed.st_mode & 0o777, observed.st_uid, observed.st_gid, observed.st_nlink) == (
        0o600,
        0,
        0,
        1,
    )
    assert (SSH.stat().st_mode & 0o777, SSH.stat().st_uid) == (0o700, 0)
    assert sorted(os.listdir(SSH)) == [path.name, f"{path.name}.pub"]


def test_a_fit_key_is_never_touched(member):
    before = world(SSH)
    assert member.good("key_present")["changes"] == {}
    assert world(SSH) == before


def test_a_missing_public_half_is_restored(member, keys):
    PUB.unlink()
    before = world(KEY)
    done = member.good("key_present")
    assert list(done["changes"]) == [PUB.name]
    assert PUB.read_text().split()[:2] == (keys / "alpha.pub").read_text().split()[:2]
    assert world(KEY) == before


@pytest.mark.parametrize("damage", ["chmod 640", "chmod 604", "chown outsider"])
def test_a_wrong_mode_or_owner_is_mended_by_the_command_in_the_message(member, outsider, damage):
    sh(*damage.split(), KEY)
    before = KEY.read_bytes()
    remedy(run_in(member.bad("key_present")))
    assert member.good("key_present")["changes"] == {}
    assert KEY.read_bytes() == before


def test_a_passphrase_is_removed_by_the_command_in_the_message(member, tmp_path):
    sh("ssh-keygen", "-q", "-p", "-P", "", "-N", "secret", "-f", KEY)
    detail = member.bad("key_present")
    assert "passphrase" in detail
    typed = tmp_path / "typed"
    typed.write_text("#!/bin/sh\necho secret\n")
    typed.chmod(0o755)
    command = re.search(r"'(ssh-keygen -p .*?)'", detail).group(1)
    sh(
        *("sh", "-ec", command),
        env={**os.environ, "SSH_ASKPASS": str(typed), "SSH_ASKPASS_REQUIRE": "force"},
    )
    assert member.good("key_present")["changes"] == {}


def test_a_passphrase_is_got_rid_of_with_the_key_by_the_other_remedy(member):
    sh("ssh-keygen", "-q", "-p", "-P", "", "-N", "secret", "-f", KEY)
    remedy(run_in(member.bad("key_present")))
    assert member.state("key_present", test=True)["changes"].keys() == {KEY.name}


def weak(keys):
    put_key(keys / "weak")


def of_another_type(keys):
    put_key(keys / "other")


def of_no_cluster_type(keys):
    put_key(keys / "elliptic")


def garbage(keys):
    KEY.write_text("-----BEGIN OPENSSH PRIVATE KEY-----\nAAAA\n-----END OPENSSH PRIVATE KEY-----\n")


def empty(keys):
    KEY.write_bytes(b"")


def a_copy_of_the_everyday_key(keys):
    put_key(keys / "alpha", SSH / "id_rsa")


def a_copy_of_an_everyday_key_without_its_public_half(keys):
    put_key(keys / "alpha", SSH / "id_rsa")
    (SSH / "id_rsa.pub").unlink()


def a_hard_link_to_the_everyday_key(keys):
    os.link(KEY, SSH / "id_rsa")


def a_link_to_the_everyday_key(keys):
    KEY.rename(SSH / "id_rsa")
    KEY.symlink_to("id_rsa")


def a_dangling_link(keys):
    KEY.unlink()
    KEY.symlink_to("nowhere")


def a_public_half_alone(keys):
    KEY.unlink()


@pytest.mark.parametrize(
    ("what", "named"),
    [
        (weak, "2048 bits"),
        (of_another_type, "ssh-ed25519"),
        (of_no_cluster_type, "ecdsa-sha2-nistp256"),
        (garbage, "cannot be read as a private key"),
        (empty, "cannot be read as a private key"),
        (a_copy_of_the_everyday_key, "everyday key"),
        (a_copy_of_an_everyday_key_without_its_public_half, "everyday key"),
        (a_hard_link_to_the_everyday_key, "everyday key"),
        (a_link_to_the_everyday_key, "everyday key"),
        (a_dangling_link, "does not exist"),
        (a_public_half_alone, "without its private key"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_an_unfit_key_is_refused_and_the_command_in_the_message_makes_room(
    member, keys, what, named
):
    what(keys)
    before = world(SSH)
    detail = member.bad("key_present")
    assert named in detail and world(SSH) == before
    kept = (SSH / "id_rsa").read_bytes() if (SSH / "id_rsa").exists() else None
    remedy(run_in(detail))
    assert kept is None or (SSH / "id_rsa").read_bytes() == kept
    member.pillar(key=str(KEY), key_type="ed25519")  # an RSA key takes seconds to make
    assert KEY.name in member.good("key_present")["changes"]


def test_the_everyday_keys_own_path_is_refused_in_the_pillar_with_a_better_one(kvm, keys):
    put_key(keys / "alpha", SSH / "id_rsa")
    kvm.pillar(key=str(SSH / "id_rsa"))
    detail = kvm.bad("key_present")
    kvm.pillar(key=re.search(r"such as (\S+)", detail).group(1), key_type="ed25519")
    assert KEY.name in kvm.good("key_present")["changes"]


def test_a_public_half_of_another_key_is_mended_by_the_command_in_the_message(member, keys):
    shutil.copyfile(keys / "weak.pub", PUB)
    detail = member.bad("key_present")
    assert PUB.read_bytes() == (keys / "weak.pub").read_bytes()
    remedy(run_in(detail))
    assert member.good("key_present")["changes"] == {}


def test_no_regular_file_is_refused_without_waiting(kvm):
    SSH.mkdir(0o700)
    os.mkfifo(KEY)
    assert "not a regular file" in kvm.bad("key_present")


def test_what_a_killed_run_left_is_swept(kvm):
    SSH.mkdir(0o700)
    workshop = "/run/.kvmcluster-work-killed"
    os.mkdir(workshop)
    left = SSH / f".id_rsa_cluster.kvmcluster-new-{os.uname().nodename}"
    left.write_text("half a key")
    kvm.pillar(key=str(KEY), key_type="ed25519")
    kvm.good("key_present")
    assert not os.path.exists(workshop)
    assert sorted(os.listdir(SSH)) == [KEY.name, PUB.name]


def test_a_kept_place_for_the_key_is_used(kvm):
    kvm.pillar(key="/root/.ssh/deep-key", key_type="ed25519")
    kvm.good("key_present")
    assert "ED25519" in sh("ssh-keygen", "-l", "-f", SSH / "deep-key")
