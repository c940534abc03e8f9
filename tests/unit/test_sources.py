"""From where peers log in, and which of these addresses the pillar's networks keep out."""

import ipaddress

import pytest
from material import KEYS, cluster, read

from saltext_kvmcluster.core.pillar import networks
from saltext_kvmcluster.core.trust import key_options, login_keys, sources, sshcheck

NAMES = {"node2": ["192.0.2.12", "node2.example.com"]}


def within(*entries):
    return cluster("node1", "node2", names=NAMES, **{"from": list(entries)})


def at(text):
    return ipaddress.ip_address(text)


@pytest.mark.parametrize(
    ("entries", "client", "is_in"),
    [
        (["192.0.2.0/24"], "192.0.2.255", True),
        (["192.0.2.0/24"], "192.0.3.0", False),
        (["192.0.2.1"], "192.0.2.1", True),
        (["192.0.2.1"], "::ffff:192.0.2.1", True),
        (["192.0.2.0/24", "2001:db8::/64"], "2001:db8::1", True),
        (["192.0.2.0/24"], "::c000:201", False),
        (["2001:db8::/64"], "2001:db8:0:1::1", False),
        (["fe80::/10"], "fe80::1%eth0", True),
    ],
)
def test_what_networks_cover_is_what_sshd_lets_in(entries, client, is_in):
    assert networks.covers(entries, networks.address(client)) is is_in


@pytest.mark.parametrize("text", ["", "localhost", "192.0.2", "192.0.2.1/24", "\x1b[2J"])
def test_what_is_no_address_is_none(text):
    assert networks.address(text) is None


@pytest.mark.parametrize(
    ("output", "found"),
    [
        ("192.0.2.12 40000 192.0.2.11 22\n", "192.0.2.12"),
        ("hello\n::ffff:192.0.2.12 40000 ::ffff:192.0.2.11 22\n", "192.0.2.12"),
        ("fe80::1%eth0 40000 fe80::2%eth0 22\n", "fe80::1"),
        ("", None),
        ("hello\n", None),
        ("a b c d\n", None),
        ("192.0.2.12\n", None),
        ("$SSH_CONNECTION\n", None),
    ],
)
def test_a_login_tells_from_which_address_it_comes(output, found):
    assert sources.client(output) == (found and at(found))


def test_who_would_be_kept_out_is_named_with_what_to_add():
    seen = {
        "node2": {
            at("192.0.2.12"): "its name node2",
            at("198.51.100.12"): "its name node2-mig",
            at("203.0.113.7"): "to node1",
        }
    }
    found = sources.uncovered(within("192.0.2.0/24", "203.0.113.7"), seen)
    assert found == {
        "node2": "node2 logs in from 198.51.100.12 (its name node2-mig), which kvmcluster:ssh:from"
        " does not cover: add 198.51.100.12 there; until then its line lets in from where it did,"
        " too"
    }
    assert sources.uncovered(within("192.0.2.0/24", "198.51.100.0/24", "203.0.113.7"), seen) == {}


def test_an_address_is_told_with_the_first_name_that_has_it():
    names = [
        ("node2", "192.0.2.12", ["192.0.2.12"]),
        ("node2", "node2", ["192.0.2.12", "2001:db8::12"]),
        ("node3", "node3", []),
    ]
    assert sources.by_names(names) == {
        "node2": {
            at("192.0.2.12"): "its name is this address",
            at("2001:db8::12"): "its name node2",
        }
    }


def test_who_could_not_be_asked_is_named():
    ((node, detail),) = sources.unasked({"node2": "no route\x1b[2J"}).items()
    assert (
        node == "node2" and detail.startswith("node2 could not be asked") and detail.isprintable()
    )


def test_only_lines_without_the_wanted_networks_are_to_be_limited():
    found = within("192.0.2.0/24")
    mine = read(found, node1=KEYS["node1"])
    text = login_keys.wanted(found, mine, "").text
    assert login_keys.to_be_limited(found, text) == {"node2": False}
    assert login_keys.to_be_limited(found, "") == {"node1": False, "node2": False}
    assert login_keys.to_be_limited(within("192.0.2.0/25"), text) == {"node1": True, "node2": False}
    assert login_keys.to_be_limited(cluster("node1", "node2"), text) == {}


@pytest.mark.parametrize(
    ("options", "kept"),
    [
        ("", "restrict"),
        ("restrict", "restrict"),
        ('restrict,from="192.0.2.0/24"', 'restrict,from="192.0.2.0/24,203.0.113.7"'),
        ('restrict,from="203.0.113.7,192.0.2.1"', 'restrict,from="203.0.113.7,192.0.2.1"'),
        (
            'FROM="192.0.2.0/24,2001:DB8::/64",pty',
            'restrict,from="192.0.2.0/24,2001:db8::/64,203.0.113.7"',
        ),
        ('from="*.example.com"', "restrict"),
        ('from="192.0.2.11/24"', "restrict"),
        ('command="from=\\"192.0.2.1\\"",pty', "restrict"),
    ],
)
def test_a_line_that_stays_lets_in_from_where_it_did_and_from_where_it_should(options, kept):
    assert key_options.kept(options, ("203.0.113.7",)) == kept
    assert key_options.kept(kept, ("203.0.113.7",)) == kept


def test_nodes_that_moved_before_the_pillar_had_it_let_each_other_in_again():
    """Neither can be asked by the other, for as long as its line has the old addresses alone."""
    old, new = within("192.0.2.0/24"), within("198.51.100.0/24")
    mine = read(old, node1=KEYS["node1"], node2=KEYS["node2"])
    before = login_keys.wanted(old, mine, "").text
    after = login_keys.wanted(new, mine, before, ["node1", "node2"]).text
    assert after.count('restrict,from="192.0.2.0/24,198.51.100.0/24" ') == 2
    assert list(login_keys.to_be_limited(new, after)) == ["node1", "node2"]
    assert login_keys.wanted(new, mine, after).text == login_keys.wanted(new, mine, "").text


def test_a_line_that_stays_keeps_any_number_of_networks():
    old, new = ([f"{first}.{at}.0.0/16" for at in range(64)] for first in (10, 11))
    options = key_options.kept(key_options.text(old), new)
    assert options == key_options.kept(options, new) == key_options.text([*old, *new])


KEY = KEYS["node2"]
WHY = "it lets in node2 by its cluster key without restrict and from, and so undoes these"


@pytest.mark.parametrize(
    ("line", "why"),
    [
        (f"{KEY} me@laptop", WHY),
        (f"restrict {KEY}", WHY),
        (f'from="192.0.2.12" {KEY}', WHY),
        (f'from="192.0.2.12",restrict,pty {KEY}', WHY),
        (f'from="192.0.2.12",restrict,command="x" {KEY}', None),
        (f"{KEYS['admin']} admin@laptop", None),
        ("# nothing", None),
    ],
)
def test_a_line_elsewhere_that_opens_more_to_a_members_key_is_named(line, why):
    found = within("192.0.2.0/24")
    mine = read(found, node2=KEY)
    ours = login_keys.wanted(found, mine, "").text
    named = list(login_keys.unrestricted(found, mine, f"#\n{line}\n", ours))
    assert [(number, text[: len(why)]) for number, text in named] == ([(2, why)] if why else [])


def test_a_line_elsewhere_is_not_to_be_deleted_while_it_alone_lets_a_member_in():
    found = within("192.0.2.0/24")
    mine = read(found, node2=KEY)
    files = {"/root/.ssh/authorized_keys": f"{KEY} me@laptop\n", "/root/.ssh/authorized_keys2": ""}
    assert sshcheck.stale(found, mine, files) == []
    files["/root/.ssh/authorized_keys2"] = login_keys.wanted(found, mine, "").text
    (issue,) = sshcheck.stale(found, mine, files)
    assert "line 1" in issue.remedy
