"""sshd's settings: what keeps the login out is found, and the drop-in mends what settings mend."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from material import parameters

from saltext_kvmcluster.core.fileplan import Changes
from saltext_kvmcluster.core.trust import sshd
from saltext_kvmcluster.core.trust.blocks import BEGIN, END

ROOT = sshd.Account("root", "/root", ("root",))
CASES = parameters("sshd")


def found_in(case):
    account = case.get("account")
    account = sshd.Account(**{**account, "groups": tuple(account["groups"])}) if account else ROOT
    settings = sshd.parse_settings(case["output"])
    return sshd.issues(settings, account, case.get("key_type", "rsa"))


@pytest.mark.parametrize("case", CASES)
def test_each_issue_is_found_and_no_other(case):
    found = found_in(case)
    assert [o.setting for o in found] == [wanted["setting"] for wanted in case["issues"]]
    for issue, wanted in zip(found, case["issues"], strict=True):
        assert wanted["problem"] in issue.problem


@pytest.mark.parametrize("case", CASES)
def test_each_issue_has_a_remedy_that_names_its_setting(case):
    for issue in found_in(case):
        assert (issue.setting or "") in issue.remedy and issue.remedy


@pytest.mark.parametrize("case", CASES)
def test_the_drop_in_has_a_line_for_each_setting_and_touches_the_login_alone(case):
    found = found_in(case)
    wanted = sshd.drop_in(found, "root", "")
    settings = [issue.setting for issue in found if issue.setting]
    body = [f"    {line}" for line in settings]
    assert wanted.text.splitlines() == [BEGIN[:-1], "Match User root", *body, END[:-1]]
    assert wanted.changes == Changes(added=tuple(settings))


def test_a_keyword_that_repeats_collects_its_values():
    settings = sshd.parse_settings("allowusers alice\nport 22\nAllowUsers bob\n")
    assert settings == {"allowusers": ("alice", "bob"), "port": ("22",)}


def test_settings_of_an_old_sshd_that_names_key_types_are_read():
    settings = {"authorizedkeysfile": (".ssh/authorized_keys2",)}
    old = {**settings, "pubkeyacceptedkeytypes": ("ssh-ed25519",)}
    assert sshd.issues(settings, ROOT, "rsa") == []
    assert [o.problem.partition(" (")[0] for o in sshd.issues(old, ROOT, "rsa")] == [
        "sshd accepts no rsa keys"
    ]


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("crash:90 authfail:5 noauth:1 grace-exceeded:20 max:600 min:15 max-sources4:65536", 600),
        ("crash:90.0 authfail:5.0 invaliduser:5.0 max:45.0 min:15.0 max-sources4:9", 45),
        ("max-sources4:9 max:7", 7),
        ("no", None),
        ("", None),
    ],
)
def test_how_long_sshd_refuses_an_address_at_most(value, seconds):
    settings = sshd.parse_settings(f"port 22\npersourcepenalties {value}\n")
    assert sshd.penalty(settings) == seconds
    assert sshd.penalty({"port": ("22",)}) is None


def test_a_group_may_have_a_domain():
    account = sshd.Account("virt", "/srv/virt", ("kvm@example.com",))
    settings = {"authorizedkeysfile": (".ssh/authorized_keys2",), "allowgroups": ("kvm",)}
    assert len(sshd.issues(settings, account, "rsa")) == 1
    settings["allowgroups"] = ("kvm@example.com",)
    assert sshd.issues(settings, account, "rsa") == []
    settings["allowgroups"] = ("root@example.com",)
    assert len(sshd.issues(settings, ROOT, "rsa")) == 1


GOOD = {"authorizedkeysfile": (".ssh/authorized_keys2",), "strictmodes": ("yes",)}


@pytest.mark.parametrize(
    ("mode", "owner", "remedies"),
    [
        (0o700, "virt", []),
        (0o755, "root", []),
        (0o720, "virt", ["run: chmod go-w /srv/virt"]),
        (0o702, "virt", ["run: chmod go-w /srv/virt"]),
        (0o755, "alice", ["run: chown virt: /srv/virt"]),
        (0o777, "alice", ["run: chown virt: /srv/virt", "run: chmod go-w /srv/virt"]),
    ],
)
def test_a_folder_where_others_may_write_is_an_issue(mode, owner, remedies):
    folder = sshd.Folder("/srv/virt", mode, owner)
    account = sshd.Account("virt", "/srv/virt", ("virt",), (folder,))
    assert [o.remedy for o in sshd.issues(GOOD, account, "rsa")] == remedies
    assert sshd.issues({**GOOD, "strictmodes": ("no",)}, account, "rsa") == []


def test_issues_of_all_connections_are_told_once_and_those_of_some_with_whom():
    found = sshd.together({"node2": [KEYS_FILE, ROOT_IN], "node3": [KEYS_FILE]})
    assert [o.problem for o in found] == ["p", "for logins from node2: p"]
    assert [o.setting for o in found] == [KEYS_FILE.setting, ROOT_IN.setting]


KEYS_FILE = sshd.Refusal("p", "r", "AuthorizedKeysFile .ssh/authorized_keys .ssh/authorized_keys2")
ROOT_IN = sshd.Refusal("p", "r", "PermitRootLogin prohibit-password")
PEOPLE_DECIDE = sshd.Refusal("p", "r")


def drop_in(*settings):
    return "".join([BEGIN, "Match User root\n", *(f"    {line}\n" for line in settings), END])


def test_a_drop_in_keeps_what_it_mended_before():
    before = sshd.drop_in([KEYS_FILE], "root", "").text
    wanted = sshd.drop_in([ROOT_IN, PEOPLE_DECIDE], "root", before)
    assert wanted.text == drop_in(KEYS_FILE.setting, ROOT_IN.setting)
    assert wanted.changes == Changes(added=(ROOT_IN.setting,))


def test_a_setting_that_is_another_now_is_replaced_whatever_its_case():
    wanted = sshd.drop_in([KEYS_FILE], "root", drop_in("authorizedkeysfile .ssh/old"))
    assert wanted.text == drop_in(KEYS_FILE.setting)
    assert wanted.changes.replaced == (f"authorizedkeysfile .ssh/old -> {KEYS_FILE.setting}",)


def test_settings_that_stand_without_our_frame_are_kept_and_notes_are_not():
    wanted = sshd.drop_in([ROOT_IN], "root", "PubkeyAuthentication yes\n\n# a note\n")
    assert wanted.text == drop_in("PubkeyAuthentication yes", ROOT_IN.setting)


some = st.lists(st.sampled_from([KEYS_FILE, ROOT_IN, PEOPLE_DECIDE]), max_size=3)


@given(first=some, second=some, login=st.sampled_from(["root", "virt"]))
def test_a_drop_in_written_twice_is_written_once(first, second, login):
    start = sshd.drop_in(first, "root", "").text
    once = sshd.drop_in(second, login, start)
    twice = sshd.drop_in(second, login, once.text)
    assert (twice.text, twice.changes) == (once.text, Changes())
    assert all(not o.setting or o.setting in once.text for o in [*first, *second])


def test_what_keeps_the_login_out_names_the_setting_only_where_one_would_help():
    by_setting = sshd.Refusal("keys are refused", "allow them", "PubkeyAuthentication yes")
    by_person = sshd.Refusal("the home is open", "chmod it")
    assert sshd.unmanaged([]) == []
    assert sshd.unmanaged([by_person]) == ["the home is open: chmod it"]
    assert sshd.unmanaged([by_setting]) == ["keys are refused: allow them", sshd.MANAGE]


def test_a_drop_in_that_would_not_do_says_which_file_wins():
    issue = sshd.Refusal("keys are refused", "allow them", "PubkeyAuthentication yes")
    assert sshd.unresolved([], [], ["/a.conf"]) == []
    assert sshd.unresolved([], ["no Include"], ["/a.conf"]) == ["no Include"]
    assert sshd.unresolved([issue], [], ["/a.conf"]) == [
        "keys are refused: allow them",
        f"/a.conf is read before {sshd.DROP_IN}, and sshd uses the first value: correct it there",
    ]
