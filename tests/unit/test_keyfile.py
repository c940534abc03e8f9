"""Whether a file is fit to be the cluster key, and what to do if it is not."""

import dataclasses
import grp
import os
import pwd

import pytest
from material import KEYS, cluster

from saltext_kvmcluster.core.errors import InputError
from saltext_kvmcluster.core.trust import keyfile
from saltext_kvmcluster.host import accounts

PATH = "/root/.ssh/id_rsa_cluster"
RSA = cluster("node1")
PLACED = cluster("node1", key=PATH)
UNREAD = f'Load key "{PATH}": bad permissions'
FIT = keyfile.KeyFile(PATH, True, 0o600, "root", KEYS["rsa4096"], f"{KEYS['rsa4096']} comment\n")


def found(**changed):
    return dataclasses.replace(FIT, **changed)


def test_a_fit_key_has_no_problem_and_is_read():
    assert keyfile.key_problem(FIT, RSA) is None
    assert str(keyfile.parsed(FIT, RSA)) == KEYS["rsa4096"]


def test_a_fit_key_needs_no_public_half_beside_it():
    assert keyfile.key_problem(found(public_file=None), RSA) is None


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"owner": "alice"}, f"belongs to alice; run: chown root: {PATH}"),
        ({"mode": 0o640}, f"mode 0640, other accounts can use it; run: chmod 600 {PATH}"),
        ({"mode": 0o601}, "mode 0601"),
        ({"everyday": "/root/.ssh/id_rsa"}, "everyday key (/root/.ssh/id_rsa)"),
        ({"encrypted": True, "public": None}, f'ssh-keygen -p -N "" -f {PATH}'),
        ({"public": None, "error": "invalid format"}, "cannot be read as a private key"),
        ({"public": KEYS["rsa2048"]}, "RSA with 2048 bits; at least 3072 are required"),
        ({"public": KEYS["node1"]}, "is of type ssh-ed25519, not rsa as in the pillar:"),
        ({"public": KEYS["ecdsa256"]}, "is not rsa or ed25519"),
        ({"public_file": KEYS["rsa3072"]}, f"run: ssh-keygen -y -f {PATH} > {PATH}.pub"),
        ({"public_file": ""}, "is not the public half"),
    ],
)
def test_what_is_wrong_is_told_with_the_remedy(changed, words):
    problem = keyfile.key_problem(found(**changed), RSA)
    assert words in problem and problem.startswith("kvmcluster:ssh:key: ")
    with pytest.raises(InputError, match=PATH):
        keyfile.parsed(found(**changed), RSA)


@pytest.mark.parametrize(
    "changed",
    [
        {},
        {"owner": "alice", "mode": 0o644},
        {"mode": 0o644, "public_file": None},
        {"link": "/home/alice/notes", "owner": "alice"},
    ],
)
def test_a_file_that_is_no_private_key_is_left_alone(changed):
    strange = found(**{"public": None, "error": "error in libcrypto", **changed})
    assert keyfile.key_problem(strange, PLACED) == (
        f"kvmcluster:ssh:key: {PATH} is not a private key; choose another path in"
        " kvmcluster:ssh:key"
    )


@pytest.mark.parametrize("owner", ["root", "alice"])
def test_what_could_not_be_read_for_its_mode_may_be_no_key(owner):
    unread = found(owner=owner, mode=0o644, public=None, public_file=None, error=UNREAD)
    problem = keyfile.key_problem(unread, PLACED)
    assert "has mode 0644" in problem and "belongs" not in problem
    assert "if it is not a private key, choose another path in kvmcluster:ssh:key" in problem
    assert problem.endswith(f"if it is one, run: chmod 600 {PATH}")


def test_a_key_beside_its_public_half_gets_its_mode_back_though_it_was_not_read():
    problem = keyfile.key_problem(found(mode=0o640, public=None, error=UNREAD), PLACED)
    assert problem.endswith(f"mode 0640, other accounts can use it; run: chmod 600 {PATH}")


def test_a_passphrase_makes_a_key_no_less_a_key():
    problem = keyfile.key_problem(found(public=None, encrypted=True, mode=0o640), PLACED)
    assert "run: chmod 600" in problem


def test_a_missing_key_is_to_be_made_by_its_state():
    with pytest.raises(InputError, match=r"does not exist; apply the state kvmcluster.key_present"):
        keyfile.parsed(keyfile.KeyFile(PATH, False), RSA)


@pytest.mark.parametrize(
    ("ssh", "path"),
    [
        ({}, "/root/.ssh/id_rsa_cluster"),
        ({"key_type": "ed25519"}, "/root/.ssh/id_ed25519_cluster"),
        ({"key": "/srv/key"}, "/srv/key"),
    ],
)
def test_the_key_lies_where_the_pillar_says_or_in_the_login_s_home(ssh, path):
    assert keyfile.key_path(cluster("node1", **ssh), "/root") == path


def test_a_key_behind_a_link_is_fit_if_it_is_the_login_s_own():
    assert keyfile.key_problem(found(link="/srv/keys/cluster"), RSA) is None
    problem = keyfile.key_problem(found(link="/home/alice/key", owner="alice"), RSA)
    assert "is a link to /home/alice/key, which belongs to alice" in problem


def test_where_nothing_is_a_key_can_be_made():
    assert keyfile.creation_problem(keyfile.KeyFile(PATH, False)) is None


@pytest.mark.parametrize(
    ("changed", "words", "command"),
    [
        ({"link": "/gone"}, "link to /gone, which does not exist", f"mv {PATH} {PATH}.old"),
        ({"public_file": ""}, "without its private key", f"mv {PATH}.pub {PATH}.pub.old"),
        (
            {"link": "/gone", "public_file": "x"},
            "link to /gone",
            f"mv {PATH} {PATH}.old && mv {PATH}.pub {PATH}.pub.old",
        ),
    ],
)
def test_what_is_in_the_way_of_a_new_key_is_moved_not_lost(changed, words, command):
    problem = keyfile.creation_problem(keyfile.KeyFile(PATH, False, **changed))
    assert words in problem and problem.endswith(f"run: {command}")


def test_an_unfit_pair_is_moved_away_whole_and_a_single_half_alone():
    both = keyfile.key_problem(found(public=None), RSA)
    assert both.endswith(f"run: mv {PATH} {PATH}.old && mv {PATH}.pub {PATH}.pub.old")
    alone = keyfile.key_problem(found(public=None, public_file=None), RSA)
    assert alone.endswith(f"run: mv {PATH} {PATH}.old")


def test_a_public_half_may_have_any_comment_and_spacing():
    line = KEYS["rsa4096"].replace(" ", "   ") + " a b c\n"
    assert keyfile.key_problem(found(public_file=line, public=line), RSA) is None


def account_of(monkeypatch, home):
    entry = pwd.struct_passwd(("virt", "x", 1000, 1000, "", home, "/bin/sh"))
    monkeypatch.setattr(pwd, "getpwnam", lambda login: entry)
    monkeypatch.setattr(os, "getgrouplist", lambda login, gid: [0, 4242])
    monkeypatch.setattr(grp, "getgrgid", {0: grp.struct_group(("root", "x", 0, []))}.__getitem__)
    return accounts.account("virt")


def test_a_group_without_a_name_is_known_by_its_number(monkeypatch):
    assert account_of(monkeypatch, "/nowhere/virt").groups == ("root", "4242")


@pytest.mark.parametrize("home", ["", "virt"])
def test_an_account_without_a_usable_home_is_told_with_the_remedy(monkeypatch, home):
    with pytest.raises(InputError) as caught:
        account_of(monkeypatch, home)
    assert f"home of account virt is '{home}', not an absolute path" in str(caught.value)
    assert str(caught.value).endswith("usermod -d /its/home virt")
