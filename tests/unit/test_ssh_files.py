"""Known hosts and client configuration: every name of every member, none from the mine."""

from hypothesis import given
from hypothesis import strategies as st
from material import KEYS, cluster, published, read

from saltext_kvmcluster.core.fileplan import Changes
from saltext_kvmcluster.core.trust import blocks, client_config, pinned_hosts

NAMES = {"node1": ["Node1.example.com", "192.0.2.11"], "node2": ["2001:DB8::2"]}
FOUND = cluster("node1", "node2", "node3", names=NAMES)
ALL = {node: published(node) for node in ("node1", "node2", "node3")}
KEY, HOSTS = "/root/.ssh/id_rsa_cluster", "/root/.ssh/kvmcluster_known_hosts"
INCLUDE = f"{blocks.BEGIN}Include /root/.ssh/kvmcluster_config\n{blocks.END}"


def hosts(found, present="", **mine):
    return pinned_hosts.wanted(found, read(found, **mine), present)


def test_each_host_key_is_pinned_under_all_names_in_lower_case():
    wanted = hosts(FOUND, node1=ALL["node1"], node2=ALL["node2"])
    assert wanted.text.splitlines()[1:-1] == [
        f"node1,node1.example.com,192.0.2.11 {KEYS['host1']} kvmcluster/marathon/node1",
        f"node2,2001:db8::2 {KEYS['host2']} kvmcluster/marathon/node2",
    ]
    assert [word.split()[0] for word in wanted.changes.added] == ["node1", "node2"]
    assert wanted.changes.replaced == wanted.changes.removed == ()


def test_a_silent_or_refused_member_keeps_its_host_keys_under_the_names_of_today():
    before = hosts(FOUND, **ALL).text
    renamed = cluster("node1", "node2", "node3", names={"node2": ["192.0.2.12"]})
    wanted = hosts(renamed, before, node1=ALL["node1"], node3={"node": "node3"})
    assert f"node2,192.0.2.12 {KEYS['host2']} kvmcluster/marathon/node2\n" in wanted.text
    assert f"node3 {KEYS['host3']} kvmcluster/marathon/node3\n" in wanted.text
    assert "node2 names node2,2001:db8::2 -> node2,192.0.2.12" in wanted.changes.replaced
    assert wanted.changes.removed == ()


def test_a_reinstalled_node_has_its_new_host_key_alone():
    before = hosts(FOUND, **ALL).text
    wanted = hosts(
        FOUND, before, **{**ALL, "node2": published("node2", host_keys=[{"key": KEYS["other"]}])}
    )
    assert KEYS["host2"] not in wanted.text and KEYS["other"] in wanted.text
    assert wanted.changes.replaced[0].startswith("node2 ssh-ed25519 SHA256:")


def test_a_host_key_of_another_type_does_not_replace_but_the_missing_one_goes():
    before = hosts(FOUND, **ALL).text
    wanted = hosts(
        FOUND, before, **{**ALL, "node2": published("node2", host_keys=[{"key": KEYS["ecdsa256"]}])}
    )
    assert wanted.changes.added[0].startswith("node2 ecdsa-sha2-nistp256")
    assert wanted.changes.removed[0].startswith("node2 ssh-ed25519")


lines = st.lists(
    st.sampled_from(
        [
            "",
            "# a note",
            "node1 ssh-rsa",
            "@revoked * " + KEYS["other"],
            "|1|aaaa|bbbb " + KEYS["other"],
            "x\x00 \udcff",
            *(
                f"{names} {KEYS[key]} kvmcluster/{name}/{node}"
                for names in ("node2", "evil,*", "a\x85b")
                for key in ("host2", "other", "dsa", "rsa1024")
                for name in ("marathon", "sprint")
                for node in ("node1", "node2", "node4")
            ),
        ]
    )
)


@given(
    present=lines.map("\n".join),
    mine=st.fixed_dictionaries({}, optional={node: st.just(data) for node, data in ALL.items()}),
)
def test_known_hosts_applied_twice_is_applied_once_and_names_come_from_the_pillar(present, mine):
    once = hosts(FOUND, present, **mine)
    twice = hosts(FOUND, once.text, **mine)
    assert (twice.text, twice.changes) == (once.text, Changes())
    pillar = {",".join(name.lower() for name in node.names) for node in FOUND.nodes.values()}
    assert {line.split()[0] for line in once.text.splitlines()[1:-1]} <= pillar
    assert "node4" not in once.text


def test_who_leaves_the_pillar_leaves_no_name_and_no_key():
    rest = cluster("node1", "node3", names=NAMES)
    wanted = hosts(rest, hosts(FOUND, **ALL).text, **ALL)
    before = client_config.wanted(FOUND, KEY, HOSTS, "").text
    config = client_config.wanted(rest, KEY, HOSTS, before)
    for text in (wanted.text, config.text):
        assert not any(trace in text for trace in ("node2", "2001:db8", KEYS["host2"]))
    assert wanted.changes.removed[0].startswith("node2 ") and config.changes.removed == (
        "node2",
        "2001:db8::2",
    )


def test_the_client_configuration_names_every_name_as_written_and_in_lower_case():
    text = client_config.wanted(FOUND, KEY, HOSTS, "").text
    names = text.splitlines()[1].split()
    assert names == [
        "Host",
        "node1",
        "Node1.example.com",
        "node1.example.com",
        "192.0.2.11",
        "node2",
        "2001:db8::2",
        "node3",
    ]


def test_the_client_configuration_pins_and_never_asks():
    options = [
        line.strip() for line in client_config.wanted(FOUND, KEY, HOSTS, "").text.splitlines()
    ]
    for option in (
        "User root",
        f"IdentityFile {KEY}",
        "IdentitiesOnly yes",
        "StrictHostKeyChecking yes",
        f"UserKnownHostsFile {HOSTS}",
        "GlobalKnownHostsFile /dev/null",
        "UpdateHostKeys no",
    ):
        assert option in options


def test_host_keys_are_looked_up_by_the_node_s_id_whatever_alias_the_login_has():
    text = client_config.wanted(FOUND, KEY, HOSTS, "").text
    aliases = text[text.index("Host node1 Node1.example.com node1.example.com 192.0.2.11\n") :]
    assert aliases == (
        "Host node1 Node1.example.com node1.example.com 192.0.2.11\n    HostKeyAlias node1\n"
        "Host node2 2001:db8::2\n    HostKeyAlias node2\n"
        f"Host node3\n    HostKeyAlias node3\n{blocks.END}"
    )
    capital = client_config.wanted(cluster("Node1"), KEY, HOSTS, "").text
    assert "Host Node1 node1\n    HostKeyAlias node1\n" in capital


def test_an_unknown_option_of_the_login_s_is_ignored_and_ours_are_known():
    text = client_config.wanted(FOUND, KEY, HOSTS, "", ["StdinNull no"]).text
    assert text.splitlines()[2].strip() == "IgnoreUnknown *"
    assert "StdinNull no" in text and "SessionType" not in text
    upgraded = client_config.wanted(FOUND, KEY, HOSTS, text)
    assert "SessionType unset -> default" in upgraded.changes.replaced
    back = client_config.wanted(FOUND, KEY, HOSTS, upgraded.text, ["StdinNull no"])
    assert "SessionType default -> unset" in back.changes.replaced and back.text == text


def test_further_patterns_stand_beside_the_names():
    found = cluster("node1", host_patterns=["kvm-*"])
    assert "Host node1 kvm-*\n" in client_config.wanted(found, KEY, HOSTS, "").text


def test_many_names_make_several_short_host_lines_each_with_all_options():
    many = cluster(*(f"node-with-a-long-name-{number:04}.example.com" for number in range(300)))
    text = client_config.wanted(many, KEY, HOSTS, "").text
    rules = text.partition(" HostKeyAlias ")[0].rpartition("\nHost ")[0]
    hosts_lines = [line for line in rules.splitlines() if line.startswith("Host ")]
    assert max(map(len, text.splitlines())) < 1024 and len(hosts_lines) > 1
    assert sum(len(line.split()) - 1 for line in hosts_lines) == 300
    assert text.count("StrictHostKeyChecking yes") == len(hosts_lines)


def test_changed_options_and_names_are_told():
    before = client_config.wanted(cluster("node1", "node2"), KEY, HOSTS, "").text
    words = client_config.wanted(
        cluster("node1", "node3", login="virt"), KEY, HOSTS, before
    ).changes
    assert words == Changes(("node3",), ("node2",), ("User root -> virt",))


def test_a_path_with_a_space_or_a_percent_sign_is_read_by_ssh_as_it_is():
    text = client_config.wanted(FOUND, "/srv/50% key", HOSTS, "").text
    assert '    IdentityFile "/srv/50%% key"\n' in text


def included(present):
    return client_config.with_include(present, "/root/.ssh/kvmcluster_config")


def test_the_include_stands_before_the_first_directive():
    assert included("Host *\n  User me\n").text == f"{INCLUDE}Host *\n  User me\n"


def test_an_include_below_comments_alone_stays_where_it_is():
    present = f"# my notes\n\n{INCLUDE}Host *\n"
    assert included(present).text == present and included(present).changes == Changes()


def test_an_include_below_a_directive_moves_up():
    wanted = included(f"User me\n{INCLUDE}Host *\n")
    assert wanted.text == f"{INCLUDE}User me\nHost *\n"
    assert wanted.changes.replaced == ("block put first",)


config_lines = st.lists(
    st.sampled_from(
        [
            *(
                "",
                "# a note",
                "Host *",
                "  User me\r",
                "Match all",
                "\tUser \udcff",
                "x\x0cy\u2028z\x85",
            ),
            *("# BEGIN kvmcluster-old", "x # END kvmcluster", "Include other"),
        ]
    )
)
marked = st.lists(
    st.sampled_from([*blocks.BEGIN.splitlines(), "# END kvmcluster", *INCLUDE.splitlines()])
)


@given(above=config_lines, ours=marked, below=config_lines, final=st.sampled_from(["", "\n"]))
def test_a_login_s_own_configuration_stays_byte_for_byte(above, ours, below, final):
    before = "\n".join(above + below) + final
    wanted = included(before)
    assert wanted.text == INCLUDE + before
    once = included("\n".join(above + ours + below) + final)
    assert included(once.text).text == once.text and included(once.text).changes == Changes()
    kept = [line for line in once.text.split("\n") if line not in (*ours, *INCLUDE.splitlines())]
    assert [line for line in kept if line] == [line for line in above + below if line]
