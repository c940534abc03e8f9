"""State authorized_keys, judged by the real sshd: who gets in, who does not, and what is said."""

import re

import pytest
from sandbox import ETC_SSH, NODES, SSH, remedy, restart_sshd, sh, ssh, until, world

KEYS = SSH / "authorized_keys2"
CONFIG = ETC_SSH / "sshd_config"
DROP_IN = ETC_SSH / "sshd_config.d" / "00-kvmcluster.conf"
INCLUDE = "Include /etc/ssh/sshd_config.d/*.conf"


@pytest.fixture
def client_settings(member):
    """A member whose client files are in place, so that only the server's side is open."""
    for state in ("known_hosts", "ssh_config"):
        assert member.state(state)["result"] is True
    return member


def logs_in(*options):
    return "in\n" in ssh("beta", *options, code=None)


def in_soon(*options):
    """sshd needs a moment to read its configuration again after it was told to."""
    until(lambda: logs_in(*options), "no login after sshd was reloaded", 10)
    return True


def correct(message):
    """Do what the message says with each setting: set it, in the line where it is wrong."""
    for setting in re.findall(r"set '(.*?)' in sshd's configuration and reload sshd", message):
        keyword = setting.split()[0]
        text, count = re.subn(rf"(?m)^{keyword} .*$", setting, CONFIG.read_text())
        assert count == 1, (keyword, message)
        CONFIG.write_text(text)
    restart_sshd()


def test_every_member_gets_in_by_every_name_and_nobody_else(client_settings, keys):
    assert not logs_in()
    done = client_settings.good("authorized_keys")
    assert len(done["changes"]["authorized_keys2"]["added"]) == 2
    for name in ("beta", "beta.example.com", "Beta.example.com", "beta-mig", "alpha"):
        assert ssh(name) == "in\n"
    plain = ("-F", "none", "-o", "IdentitiesOnly=yes", "-o", "StrictHostKeyChecking=no")
    assert "in\n" in ssh("alpha", *plain, "-i", keys / "beta")
    assert "Permission denied" in ssh("alpha", *plain, "-i", keys / "other", code=255)
    assert (KEYS.stat().st_mode & 0o777, KEYS.stat().st_uid) == (0o600, 0)


@pytest.mark.parametrize(
    "line",
    [
        "AuthorizedKeysFile .ssh/authorized_keys",
        "AuthorizedKeysFile none",
        "PermitRootLogin no",
        "PermitRootLogin forced-commands-only",
        "PubkeyAuthentication no",
    ],
)
def test_what_a_setting_can_mend_is_named_and_mended_by_what_is_said(client_settings, sshd, line):
    sshd(line)
    detail = client_settings.bad("authorized_keys")
    assert not DROP_IN.exists() and not logs_in()
    assert "beta" in KEYS.read_text(), "the keys are written although sshd refuses the login"
    assert "kvmcluster:ssh:manage_sshd" in detail
    correct(detail)
    client_settings.good("authorized_keys")
    assert logs_in()


@pytest.mark.parametrize(
    "line",
    [
        "AuthorizedKeysFile .ssh/authorized_keys",
        "PermitRootLogin no",
        "PubkeyAuthentication no",
        "AuthorizedKeysFile none\nPermitRootLogin no\nPubkeyAuthentication no",
    ],
)
def test_with_manage_sshd_a_drop_in_mends_it_and_sshd_is_reloaded(client_settings, sshd, line):
    sshd(*line.split("\n"))
    before = CONFIG.read_bytes()
    client_settings.pillar(manage_sshd=True)
    done = client_settings.good("authorized_keys")
    assert len(done["changes"][DROP_IN.name]["added"]) == len(line.split("\n"))
    assert in_soon()
    assert CONFIG.read_bytes() == before and DROP_IN.stat().st_mode & 0o777 == 0o600


def test_the_drop_in_changes_nothing_for_other_accounts(client_settings, sshd):
    sshd("PubkeyAuthentication no")
    client_settings.pillar(manage_sshd=True)
    client_settings.good("authorized_keys")
    other = sh("/usr/sbin/sshd", "-T", "-C", "user=nobody,host=x,addr=127.0.0.2")
    assert "pubkeyauthentication no" in other.lower()


def test_a_drop_in_that_stands_is_kept_when_another_setting_is_wrong(client_settings, sshd):
    sshd("PermitRootLogin no")
    client_settings.pillar(manage_sshd=True)
    client_settings.good("authorized_keys")
    sshd("PermitRootLogin no", "PubkeyAuthentication no")
    client_settings.good("authorized_keys")
    assert in_soon()
    assert "PermitRootLogin prohibit-password" in DROP_IN.read_text()


@pytest.mark.parametrize(
    ("line", "mended"),
    [
        ("AllowUsers somebody", "AllowUsers somebody root"),
        ("DenyUsers root", "DenyUsers nobody"),
        ("AllowGroups wheel", "AllowGroups wheel root"),
        ("AuthenticationMethods publickey,password", "AuthenticationMethods publickey"),
        ("PubkeyAcceptedAlgorithms ssh-ed25519", "PubkeyAcceptedAlgorithms rsa-sha2-512"),
    ],
)
def test_what_only_people_may_decide_is_named_and_has_no_drop_in(
    client_settings, sshd, line, mended
):
    sshd(line)
    assert "manage_sshd" not in client_settings.bad("authorized_keys")
    client_settings.pillar(manage_sshd=True)
    detail = client_settings.bad("authorized_keys")
    assert line.split()[0] in detail and not DROP_IN.exists() and not logs_in()
    sshd(mended)
    client_settings.good("authorized_keys")
    assert logs_in()


@pytest.mark.parametrize("folder", ["/root", "/root/.ssh"])
def test_a_folder_that_others_may_write_is_named_and_mended_by_the_command(client_settings, folder):
    sh("chmod", "g+w,o+w", folder)
    detail = client_settings.bad("authorized_keys")
    assert (
        f"{folder} is writable by others (mode " in detail
        and "StrictModes" in detail
        and not logs_in()
    )
    remedy(re.search(r"run: (.*)", detail).group(1))
    client_settings.good("authorized_keys")
    assert logs_in()


def test_a_home_of_somebody_elses_is_named_and_mended_by_the_command(client_settings, outsider):
    sh("chown", outsider, "/root")
    try:
        detail = client_settings.bad("authorized_keys")
        assert "/root belongs to outsider" in detail and not logs_in()
        remedy(re.search(r"run: (.*)", detail).group(1))
        client_settings.good("authorized_keys")
        assert logs_in()
    finally:
        sh("chown", "root:", "/root")


def test_without_strict_modes_nobody_minds_the_folders(client_settings, sshd):
    sshd("StrictModes no")
    sh("chmod", "o+w", "/root/.ssh")
    client_settings.good("authorized_keys")
    assert logs_in()


def test_a_match_block_that_lets_the_peers_alone_in_is_good(client_settings, sshd):
    sshd(
        "PubkeyAuthentication no", end="Match Address 127.0.0.2,127.0.0.3\nPubkeyAuthentication yes"
    )
    client_settings.good("authorized_keys")
    assert logs_in("-b", "127.0.0.2") and not logs_in("-b", "127.0.0.9")


def test_a_match_block_that_keeps_one_address_out_names_it(client_settings, sshd):
    sshd(end="Match Address 127.0.0.3\nPubkeyAuthentication no")
    detail = client_settings.bad("authorized_keys")
    assert "beta-mig (127.0.0.3)" in detail and "127.0.0.2" not in detail


def test_a_match_on_the_local_address_is_understood(client_settings, sshd):
    match = "Match LocalAddress 127.0.0.0/8 LocalPort 22"
    sshd("PermitRootLogin no", end=f"{match}\nPermitRootLogin yes")
    client_settings.good("authorized_keys")
    assert logs_in()


@pytest.mark.parametrize("head", ["# no include\n", "Port 22\n" + INCLUDE + "\n"])
def test_a_configuration_that_does_not_include_drop_ins_first_is_named(client_settings, head):
    CONFIG.write_text(head + "PermitRootLogin no\n")
    restart_sshd()
    client_settings.pillar(manage_sshd=True)
    detail = client_settings.bad("authorized_keys")
    assert not DROP_IN.exists()
    include = re.search(r"does not begin with '(.*?)'; add it", detail).group(1)
    CONFIG.write_text(f"{include}\n{CONFIG.read_text()}")
    client_settings.good("authorized_keys")
    assert in_soon()


def test_a_drop_in_that_is_read_before_ours_and_wins_is_named(client_settings):
    earlier = ETC_SSH / "sshd_config.d" / "00-hardening.conf"
    earlier.write_text("Match User root\n    PubkeyAuthentication no\n")
    restart_sshd()
    client_settings.pillar(manage_sshd=True)
    detail = client_settings.bad("authorized_keys")
    assert str(earlier) in detail and not DROP_IN.exists()


@pytest.mark.parametrize("manage", [False, True])
def test_a_broken_configuration_gets_sshds_own_words_and_nothing_is_written(member, manage):
    member.pillar(manage_sshd=manage)
    CONFIG.write_text(f"{CONFIG.read_text()}\nPermitRootLogin perhaps\n")
    before = world(SSH, ETC_SSH)
    detail = member.bad("authorized_keys")
    assert "perhaps" in detail and "sshd_config" in detail and "correct it" in detail
    assert world(SSH, ETC_SSH) == before


def test_a_key_of_a_former_member_goes_and_foreign_lines_stay(client_settings, keys):
    foreign = b'# mine\r\ncommand="echo  hi" ssh-ed25519 AAAAC3Nz foo@@bar \xe4\xff\n\n  odd line'
    KEYS.write_bytes(foreign)
    client_settings.good("authorized_keys")
    assert KEYS.read_bytes().startswith(foreign + b"\n# BEGIN")
    nodes = {"alpha": NODES["alpha"]}
    client_settings.pillar(raw={"kvmcluster": {"name": "test", "nodes": nodes}})
    done = client_settings.good("authorized_keys")
    assert done["changes"]["authorized_keys2"]["removed"]
    plain = ("-F", "none", "-o", "IdentitiesOnly=yes", "-o", "StrictHostKeyChecking=no")
    assert "Permission denied" in ssh("alpha", *plain, "-i", keys / "beta", code=255)


def test_exclusive_leaves_the_members_keys_alone_in_the_file(client_settings, keys):
    KEYS.write_text((keys / "other.pub").read_text())
    client_settings.pillar(exclusive=True)
    client_settings.good("authorized_keys")
    assert (keys / "other.pub").read_text().split()[1] not in KEYS.read_text()
    assert logs_in()


def test_a_node_that_is_missing_from_the_mine_is_named_and_keeps_its_key(client_settings, filed):
    client_settings.good("authorized_keys")
    before = KEYS.read_bytes()
    client_settings.publish("beta", None)
    done = client_settings.good("authorized_keys")
    assert KEYS.read_bytes() == before
    assert "beta has no identity in the mine" in done["warnings"][0]
