"""What is read from the mine: good identities whole, everything else refused by name."""

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st
from material import KEYS, cluster, ed25519, parameters, published, read, rsa

from saltext_kvmcluster.core.errors import InputError
from saltext_kvmcluster.core.trust import identity, login_keys, pinned_hosts

FORMER = published("node2", cluster_key=KEYS["node2-new"], host_keys=[{"key": KEYS["other"]}])
FOUND = cluster("node1", "node2", "node3", names={"node2": ["192.0.2.12"]})
BEFORE = read(FOUND, node1=published("node1"), node2=FORMER)
KEYS_BEFORE = login_keys.wanted(FOUND, BEFORE, "ssh-dss AAAA admin\n").text
HOSTS_BEFORE = pinned_hosts.wanted(FOUND, BEFORE, "").text


def mine_of(case):
    """Return a mine in which node2 published the case's data, between two good nodes."""
    if "data" in case:
        data = case["data"]
    else:
        data = {**published("node2"), **case.get("identity", {})}
        data = {key: item for key, item in data.items() if key not in case.get("without", ())}
    return {"node1": published("node1"), "node2": data, "node3": published("node3")}


def files_after(mine):
    """Return the files that mine data reaches, where node2's former entries already stand."""
    after = read(FOUND, **mine)
    return (
        login_keys.wanted(FOUND, after, KEYS_BEFORE).text,
        pinned_hosts.wanted(FOUND, after, HOSTS_BEFORE).text,
    )


BAD = parameters("identity", lambda case: "refused" in case)
GOOD = parameters("identity", lambda case: "refused" not in case)


@pytest.mark.parametrize("case", BAD)
def test_unfit_data_is_refused_by_name_in_one_plain_line_and_nobody_else_suffers(case):
    found = read(FOUND, **mine_of(case))
    assert (list(found.refused), list(found.accepted)) == (["node2"], ["node1", "node3"])
    why = found.refused["node2"]
    assert case["refused"] in why and why.isprintable() and len(why) < 200
    assert case.get("leak", "no such text") not in why


@pytest.mark.parametrize("case", BAD)
def test_nothing_of_refused_data_reaches_a_file_and_the_last_good_entry_stays(case):
    keys, hosts = files_after(mine_of(case))
    assert (keys, hosts) == files_after(mine_of({"data": None}))
    assert f"{KEYS['node2-new']} kvmcluster/marathon/node2\n" in keys
    assert f"node2,192.0.2.12 {KEYS['other']} kvmcluster/marathon/node2\n" in hosts


@pytest.mark.parametrize("case", GOOD)
def test_good_data_is_accepted_and_only_its_keys_are_written(case):
    mine = mine_of(case)
    found = read(FOUND, **mine)
    assert found.refused == {} and "node2" in found.accepted
    written = "".join(files_after(mine))
    bare = " ".join(mine["node2"]["cluster_key"].split()[:2])
    assert f"\nrestrict {bare} kvmcluster/marathon/node2\n" in written
    for entry in mine["node2"]["host_keys"]:
        assert written.count(f"node2,192.0.2.12 {entry['key']} kvmcluster/marathon/node2\n") == 1
    assert case.get("leak", "no such text") not in written


def test_null_in_the_mine_is_silence_not_a_refusal():
    found = read(FOUND, node1=published("node1"), node2=None)
    assert found.missing == ("node2", "node3") and found.refused == {}


@pytest.mark.parametrize("mine", [None, False, "", [], "Minion did not return"])
def test_a_mine_that_is_no_mapping_is_silence_of_all(mine):
    assert identity.read_identities(FOUND, mine).missing == ("node1", "node2", "node3")


def test_whoever_is_no_member_is_not_even_read():
    found = read(FOUND, stranger=published("stranger"), **{"node2.": published("node2.")})
    assert found.accepted == found.refused == {}


def test_an_identity_is_published_and_read_again_unchanged():
    first = read(FOUND, node2=published("node2")).accepted["node2"]
    assert identity.parse_identity("node2", first.to_dict(), "root") == first


def test_fingerprints_are_those_of_ssh_keygen():
    key = identity.parse_public_key(KEYS["admin"])
    assert key.fingerprint == "SHA256:cEB1CYgkoX0+/vihmzNyaczUPIYaJCX0frIkst4n440"


@pytest.mark.parametrize("exponent", [3, 65537, (1 << 64) - 1])
def test_rsa_exponents_that_openssl_bears_are_fit(exponent):
    assert identity.parse_cluster_key(rsa(exponent=exponent)).type == "ssh-rsa"


@pytest.mark.parametrize("exponent", [1, 2, 65536, (1 << 64) + 1])
def test_other_rsa_exponents_are_refused(exponent):
    with pytest.raises(InputError, match="not a valid ssh-rsa key"):
        identity.parse_cluster_key(rsa(exponent=exponent))


def test_a_line_is_measured_before_it_is_read():
    with pytest.raises(InputError, match="5008 characters, at most 4096"):
        identity.parse_host_key("ssh-rsa " + "A" * 5000)


@pytest.mark.parametrize("bits", [3072, 4096, 16384])
def test_rsa_of_sizes_that_openssh_bears_is_fit(bits):
    assert identity.parse_cluster_key(rsa(bits)).type == "ssh-rsa"


json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20) | st.binary(),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=9), inner, max_size=4)
    ),
    max_leaves=12,
)
line_like = st.one_of(
    st.sampled_from([*KEYS.values(), rsa(512), ed25519(7)]),
    st.text(max_size=60),
    st.builds(
        "{} {}{}".format,
        st.sampled_from(["ssh-rsa", "ssh-ed25519", "ecdsa-sha2-nistp256", "ssh-dss"]),
        st.binary(max_size=90).map(lambda raw: base64.b64encode(raw).decode()),
        st.text(max_size=20).map(lambda text: f" {text}" if text else ""),
    ),
    st.tuples(st.sampled_from(list(KEYS.values())), st.integers(0, 90), st.text(max_size=2)).map(
        lambda parts: parts[0][: parts[1]] + parts[2] + parts[0][parts[1] :]
    ),
)
near_misses = st.fixed_dictionaries(
    {
        "node": st.just("node2") | json,
        "login": st.just("root") | json,
        "cluster_key": line_like | json,
        "host_keys": st.lists(st.fixed_dictionaries({"key": line_like | json}), max_size=3) | json,
        "time": st.just("2026-01-02T03:04:05+00:00") | st.datetimes().map(str) | json,
    },
    optional={"more": json},
)


@given(data=json | near_misses)
def test_any_data_is_an_identity_or_an_input_error(data):
    try:
        found = identity.parse_identity("node2", data, "root")
    except InputError as error:
        assert str(error)
    else:
        assert found.node == "node2" and found.host_keys


good = st.fixed_dictionaries(
    {
        "node": st.just("node2"),
        "login": st.just("root"),
        "cluster_key": line_like,
        "host_keys": st.lists(st.fixed_dictionaries({"key": line_like}), min_size=1, max_size=3),
        "time": st.datetimes().map(str),
    }
)


@given(data=good)
def test_what_is_accepted_yields_one_plain_line(data):
    found = read(FOUND, node2=data)
    text = login_keys.wanted(FOUND, found, "").text
    lines = text.split("\n")
    assert len(lines) == 3 + len(found.accepted) and text.isascii()
    assert all(line.isprintable() for line in lines)
    hosts = pinned_hosts.wanted(FOUND, found, "").text
    assert all(line.isprintable() and line.isascii() for line in hosts.split("\n"))
