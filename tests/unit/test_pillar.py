"""The pillar becomes a cluster, or an error that names the path, the fault and the remedy."""

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from material import CASES, cases, cluster, parameters

from saltext_kvmcluster.core.errors import InputError
from saltext_kvmcluster.core.pillar.clusters import Cluster, Guests, Migration, Node
from saltext_kvmcluster.core.pillar.options import Options
from saltext_kvmcluster.core.pillar.parser import from_pillar
from saltext_kvmcluster.core.pillar.ssh import Ssh


@pytest.mark.parametrize("case", parameters("pillar", lambda case: "error" in case))
def test_a_fault_is_told_with_its_path_and_a_remedy(case):
    with pytest.raises(InputError) as caught:
        from_pillar(case["pillar"])
    detail = str(caught.value)
    assert [words for words in case["error"] if words not in detail] == [], detail
    assert detail.isprintable() and len(detail) < 300


@pytest.mark.parametrize("case", parameters("pillar", lambda case: "error" not in case))
def test_a_good_pillar_is_a_cluster(case):
    assert from_pillar(case["pillar"]).name


def test_every_key_arrives_in_the_model():
    found = from_pillar(cases("pillar")["good_everything"]["pillar"])
    one = ("marathon-01.example.com", "marathon-01", "192.0.2.11", "2001:db8::11", "198.51.100.11")
    two = ("marathon-02.example.com", "marathon-02-mig")
    assert found == Cluster(
        "marathon",
        {one[0]: Node(one[0], one, one[-1]), two[0]: Node(two[0], two, two[-1])},
        Ssh(
            login="virt",
            sudo=True,
            key="/srv/keys/id_cluster",
            key_type="ed25519",
            host_patterns=("marathon-*", "*.example.com", "192.0.2.1?"),
            from_=("192.0.2.0/24", "198.51.100.11", "2001:db8::/64"),
            exclusive=True,
            manage_sshd=True,
        ),
        Guests("defined", apart=(("web1", "web2"),), spare_nodes=0),
        Migration(
            Options(
                live=False,
                bandwidth=8,
                downtime=1000,
                timeout=600.0,
                parallel=2,
                compression="zstd",
                auto_converge=False,
                tls=True,
                handover="libvirt",
            ),
            max_outgoing=1,
            max_incoming=3,
        ),
    )


def test_what_is_left_out_has_the_documented_default():
    found = cluster("node1")
    assert found.ssh == Ssh("root", False, None, "rsa", (), (), False, False)
    assert found.guests == Guests("shared")
    assert found.migration == Migration(Options(), 2, 2)
    assert found.nodes["node1"] == Node("node1", ("node1",), "node1")


def test_the_example_is_a_good_pillar():
    example = CASES.parent.parent / "pillar.example"
    assert from_pillar(yaml.safe_load(example.read_text())).name == "marathon"


def test_a_minion_that_is_no_node_is_told_who_is():
    many = cluster(*(f"node{number}" for number in range(1, 13)))
    with pytest.raises(InputError, match=r"nodex is not a node of cluster marathon; its nodes are"):
        many.node("nodex")
    with pytest.raises(InputError, match=r"node10 and 2 more \(pillar kvmcluster:nodes\)\Z"):
        many.node("nodee1")


def test_few_nodes_are_told_without_more():
    with pytest.raises(InputError, match=r"n8, n9 \(pillar kvmcluster:nodes\)\Z"):
        cluster(*(f"n{number}" for number in range(10))).node("quite another")


def test_nothing_need_not_be_quoted():
    with pytest.raises(InputError, match=r"got nothing\Z"):
        from_pillar({"kvmcluster": {"name": "a", "nodes": {"node1": {"migration": None}}}})


@pytest.mark.parametrize("name", ["a/b", None, 1 << 100_000], ids=["text", "nothing", "huge"])
def test_quotes_are_not_advised_where_they_would_not_help(name):
    with pytest.raises(InputError) as caught:
        from_pillar({"kvmcluster": {"name": name, "nodes": {"node1": None}}})
    assert "quotes" not in str(caught.value)


@pytest.mark.parametrize("login", [0, 1.5])
def test_a_login_is_never_a_number_in_quotes_either(login):
    with pytest.raises(InputError, match=r"kvmcluster:ssh:login: .*account's name, got [\d.]+\Z"):
        cluster("node1", login=login)


def test_names_of_text_alone_are_told_what_a_minion_id_is():
    with pytest.raises(InputError, match=r"got 'a b'\Z"):
        cluster("node1", names={"node1": ["a b"]})
    with pytest.raises(InputError, match=r"got 101; put it in quotes\Z"):
        cluster(101)


TWISTED = {
    "a..b": "no part of a name is empty",
    ".a": "no part of a name is empty",
    "a..": "no part of a name is empty",
    ".": "no part of a name is empty",
    "node1.": "leave out the dot at its end",
    "10.0.0.1.": "leave out the dot at its end",
    "-a": "begins or ends with '-'",
    "a-": "begins or ends with '-'",
    "a.-b": "begins or ends with '-'",
    "a-.b": "begins or ends with '-'",
    f"{'a' * 64}.b": "no part of a name is longer than 63 characters",
    "010.0.0.1": "four decimal numbers up to 255, without leading zeros",
    "10.0.0.256": "four decimal numbers",
    "10.1": "four decimal numbers",
    "2130706433": "four decimal numbers",
    "0x7f000001": "four decimal numbers",
    "0x7f.1": "four decimal numbers",
    "10.0.0.0x1": "four decimal numbers",
    "fe80::1%eth0": "a zone means another network on each node",
    "[2001:db8::1]": "got '[2001:db8::1]'",
    "": "got ''",
    "a\n": "got ",
}
USELESS = {
    "every host's own name for itself": (
        *("localhost4", "localhost6", "LocalHost6.LocalDomain6", "localhost.localdomain"),
        *("a.localhost", "ip6-localhost", "IP6-Loopback", "loopback", "localhost4.localdomain4"),
    ),
    "the name of a group of hosts": ("ip6-allnodes", "ip6-localnet", "broadcasthost"),
    "the name of another host on each node": ("_gateway", "_outbound"),
    "a loopback address": ("127.0.0.1", "127.9.9.9", "::1", "0:0::1", "::ffff:127.0.0.2"),
    "the unspecified address": ("0.0.0.0", "::", "::ffff:0.0.0.0"),
    "in 0.0.0.0/8": ("0.0.0.9", "::ffff:0.1.2.3"),
    "a link-local address": ("fe80::1", "febf::1"),
    "a multicast address": ("224.0.0.1", "ff02::1", "::ffff:224.0.0.1"),
    "the broadcast address": ("255.255.255.255", "::ffff:255.255.255.255"),
}


def by(name, key):
    """Return a pillar in which a node is reached by a name; ``key`` says where the name is."""
    body = {"names": [name]} if key == "names" else {"migration": name}
    nodes = {name: None} if key == "id" else {"node1": body}
    return {"kvmcluster": {"name": "a", "nodes": nodes}}


@pytest.mark.parametrize("key", ["id", "names", "migration"])
@pytest.mark.parametrize(("name", "why"), TWISTED.items(), ids=map(repr, TWISTED))
def test_a_twisted_name_is_refused_with_what_is_wrong(name, why, key):
    with pytest.raises(InputError) as caught:
        from_pillar(by(name, key))
    detail = str(caught.value)
    assert why in detail and "want a host name or an address" in detail
    assert detail.isprintable() and len(detail) < 400


@pytest.mark.parametrize("key", ["id", "names", "migration"])
@pytest.mark.parametrize("kind", USELESS)
def test_a_name_that_leads_to_no_node_is_refused_with_what_it_is(kind, key):
    for name in USELESS[kind]:
        with pytest.raises(InputError, match=f"is .*{kind}.*, peers cannot reach it; give a name"):
            from_pillar(by(name, key))


@pytest.mark.parametrize("key", ["id", "names", "migration"])
@pytest.mark.parametrize(
    "name", ["::ffff:10.0.0.1", "::FFFF:0a00:1", "::10.0.0.1", "0::ffff:a00:1"]
)
def test_one_address_has_one_spelling(name, key):
    with pytest.raises(InputError, match=r"is the IPv4 address 10\.0\.0\.1 in .*; write 10"):
        from_pillar(by(name, key))


@pytest.mark.parametrize(
    "name",
    [
        *("a", "node-1", "n--1", "kvm_1", "1a", "3com.example", "kvm.01", "0xen", "localhosts"),
        *("notlocalhost", f"{'a' * 63}.b", "10.0.0.1", "169.254.0.9", "240.0.0.1", "2001:db8::1"),
        *("64:ff9b::a00:1", "fd00::1", "gateway", "localhost.example.com"),
    ],
)
def test_an_odd_but_right_name_stays_as_it_is(name):
    assert from_pillar(by(name, "names")).nodes["node1"].names == ("node1", name)


@pytest.mark.parametrize("pattern", ["localhost", "local*", "*host", "127.0.0.?", "LOCAL*", "::1"])
def test_a_pattern_of_the_host_itself_is_refused(pattern):
    with pytest.raises(InputError, match="matches every host's own name or address for itself"):
        cluster("node1", host_patterns=[pattern])


@pytest.mark.parametrize(
    "path", ["/a/../b/key", "/a/./key", "/../key", "/a/b/..", "/a/.", "/..", "/a/b/../../c/key"]
)
def test_a_path_with_a_detour_is_refused(path):
    for section in ({"ssh": {"key": path}}, {"guests": {"path": path}}):
        with pytest.raises(InputError, match=r"want a path without '\.' and '\.\.', got '/"):
            from_pillar({"kvmcluster": {"name": "a", "nodes": {"node1": None}, **section}})


@pytest.mark.parametrize("path", ["~/key", "~root/.ssh/key", "key", "./key", "../key", "", "/a/"])
def test_a_key_s_path_is_a_file_s_and_absolute(path):
    with pytest.raises(InputError, match="kvmcluster:ssh:key: want "):
        cluster("node1", key=path)


@pytest.mark.parametrize(
    "name",
    [
        *("authorized_keys", "authorized_keys2", "known_hosts", "config", "environment", "rc"),
        *("kvmcluster_known_hosts", "kvmcluster_config", "ssh_host_rsa_key"),
    ],
)
def test_no_file_of_ssh_or_ours_is_the_cluster_key(name):
    with pytest.raises(InputError, match=r"kvmcluster:ssh:key: .* choose another name"):
        cluster("node1", key=f"/home/virt/.ssh/{name}")
    assert cluster("node1", key=f"/home/virt/.ssh/{name}/key").ssh.key


@pytest.mark.parametrize(
    "folder", ["/proc", "/sys", "/dev", "/run", "/var/run", "/tmp", "/var/tmp"]
)
def test_no_place_that_is_the_system_s_or_passing_holds_the_key(folder):
    for place in (folder, f"{folder}/key", f"{folder}/a/key"):
        with pytest.raises(InputError, match=f"is in {folder}, "):
            cluster("node1", key=place)
    assert cluster("node1", key=f"{folder}s/key").ssh.key


def test_a_further_name_is_not_an_id_and_the_id_is_told():
    with pytest.raises(InputError, match=r"192.0.2.1 is a name of node node1; give .* node1"):
        cluster("node1", names={"node1": ["192.0.2.1"]}).node("192.0.2.1")


def test_peers_are_the_other_nodes_in_the_pillar_s_order():
    found = cluster("c", "a", "b")
    assert [node.id for node in found.peers("a")] == ["c", "b"]


words = st.sampled_from(["kvmcluster", "name", "nodes", "ssh", "names", "key", "node1", "rsa"])
leaves = st.one_of(
    words, st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=9), st.binary()
)
data = st.recursive(
    leaves,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(words | st.text(), inner, max_size=4)
    ),
    max_leaves=15,
)
near = st.fixed_dictionaries(
    {"name": st.just("a"), "nodes": st.dictionaries(st.text(min_size=1), data, max_size=2)},
    optional={
        "ssh": st.dictionaries(words, data, max_size=2) | data,
        "guests": data,
        "migration": data,
    },
)


@given(pillar=data | st.fixed_dictionaries({"kvmcluster": data | near}))
def test_any_pillar_is_a_cluster_or_an_input_error(pillar):
    try:
        found = from_pillar(pillar)
    except InputError as error:
        assert str(error).isprintable()
    else:
        assert isinstance(found, Cluster) and found.nodes


@given(name=st.text(st.sampled_from("a1.:%-_\n *,@/\u2028é"), min_size=1, max_size=6))
def test_a_name_that_is_accepted_cannot_break_a_line_or_a_list_of_names(name):
    try:
        found = cluster("node1", names={"node1": [name]})
    except InputError:
        return
    for accepted in found.nodes["node1"].names:
        assert accepted.isascii() and not set(accepted) & set("%\n *,@/")
        assert not accepted.startswith("-")
