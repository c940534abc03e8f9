"""Facts as nodes send them: what is read of them, and that nothing they send does harm."""

import json
from dataclasses import replace

import pytest
import worlds
from hypothesis import given
from hypothesis import strategies as st
from material import KEYS, cluster, published, read

from saltext_kvmcluster.core import untrusted
from saltext_kvmcluster.core.cordons import PATH, Cordon
from saltext_kvmcluster.core.facts import node_report, nodefacts, offers, parsers
from saltext_kvmcluster.core.facts.parsers import CommandOutput
from saltext_kvmcluster.core.findings import UNKNOWN
from saltext_kvmcluster.core.guest.disks import Disk, Source
from saltext_kvmcluster.core.guest.domainxml import Frozen
from saltext_kvmcluster.core.output import tables
from saltext_kvmcluster.core.pillar.clusters import Listed
from saltext_kvmcluster.core.readiness import overview
from saltext_kvmcluster.core.trust import sshcheck
from saltext_kvmcluster.core.trust.blocks import tag
from saltext_kvmcluster.core.trust.identity import read_identities

CAPABILITIES = """<capabilities>
  <host><uuid>11111111-2222-3333-4444-555555555555</uuid></host>
  <guest><os_type>hvm</os_type><arch name='x86_64'>
    <machine maxCpus='255'>pc-i440fx-7.2</machine>
    <machine canonical='pc-i440fx-7.2' maxCpus='255'>pc</machine>
    <domain type='qemu'/>
    <domain type='kvm'><machine>q35</machine></domain>
  </arch></guest>
</capabilities>"""
COMMANDS = {
    "clock": "1000.5\n",
    "memory": "MemTotal:       2048 kB\nMemFree:  1 kB\nMemAvailable:   1024 kB\n",
    "host_name": "node1\n",
    "resolves": "192.0.2.11 2001:db8::11\n",
    "bridges": (
        '[{"ifname":"lo","flags":["LOOPBACK","UP"],"addr_info":[{"local":"127.0.0.1"},'
        '{"local":"::1"}]},{"ifname":"br0","flags":["BROADCAST"],"addr_info":[{}]}]'
    ),
    "listening": (
        "tcp LISTEN 0 128 0.0.0.0:22 0.0.0.0:*\ntcp LISTEN 0 128 [::]:49152 [::]:*\n"
        "udp UNCONN 0 0 127.0.0.1%lo:323 0.0.0.0:*\ntcp LISTEN 0 4096 *:111 *:*\n"
    ),
    "settings": 'lock_manager = "lockd"\nmigration_port_min = 50000\n',
    "started": "900.0 web1.pid\n10.0 driver.pid\n",
    "cordoned": "2026-01-01T10:00:00+00:00 updates\n",
    "qemu": "QEMU emulator version 7.2.22 (Debian 1:7.2+dfsg-7)\n",
}
GUEST = {
    "name": "web1",
    "uuid": "16a36525-6e7b-454c-93a9-97f91369f824",
    "sighting": "running",
    "reason": "booted",
    "persistent": False,
    "autostart": True,
    "job": "",
    "memory_kib": 163840,
    "vcpus": 1,
    "disks": ["/srv/web1.img"],
}
SENT = {
    "node": "node1",
    "daemon": {"capabilities": CAPABILITIES, "networks": ["default"]},
    "guests": [GUEST],
    "commands": {
        **{name: {"code": 0, "out": text} for name, text in COMMANDS.items()},
        "pcmk_process": {"code": 1, "out": ""},
    },
    "ssh": {"ssh.key": [], "ssh.label": [{"sentence": "s", "remedy": "r", "outcome": "UNKNOWN"}]},
    "peers": {"node2": {"cells": [], "port": "refused"}},
    "written": {"/srv": "0" * 32 + " 1000"},
    "write_errors": {"/nfs": "Permission denied"},
    "definitions": {"web1": "<domain/>"},
}
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner),
    max_leaves=12,
)


def parsed(**changed):
    return node_report.parse("node1", {**SENT, **changed}, 998.0, 1000.0)


def commanded(**changed):
    reported = {name: {"code": 0, "out": text} for name, text in changed.items()}
    return parsed(commands={**SENT["commands"], **reported})


def places(value, path=()):
    """Yield the path of every value inside a value, itself included."""
    yield path
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from places(inner, (*path, key))
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            yield from places(inner, (*path, index))


def with_other(value, path, other):
    """Return a value with another one at a path."""
    if not path:
        return other
    copy = value.copy()
    copy[path[0]] = with_other(value[path[0]], path[1:], other)
    return copy


def test_a_node_is_open_when_its_file_is_not_there():
    absent = {"code": 1, "out": "", "detail": f"cat: {PATH}: No such file or directory\n"}
    assert parsed(commands={**SENT["commands"], "cordoned": absent}).cordoned == ()
    assert parsed().cordoned == (Cordon("2026-01-01T10:00:00+00:00", "updates"),)


def test_what_a_node_sends_is_read():
    found = parsed()
    assert found.detail == "" and found.daemon_detail == ""
    daemon = found.daemon
    assert daemon.uuid == "11111111-2222-3333-4444-555555555555"
    assert daemon.machines == {
        "x86_64/qemu": frozenset({"pc", "pc-i440fx-7.2"}),
        "x86_64/kvm": frozenset({"q35"}),
    }
    assert (daemon.qemu, daemon.networks) == (7002022, {"default": True})
    assert (daemon.ports, daemon.locks.name) == ((50000, 49215), "lockd")
    assert (found.clock, found.clock_error) == (1.5, 1.0)
    assert (found.memory_kib, found.free_kib) == (2048, 1024)
    assert found.resolves == ("192.0.2.11", "2001:db8::11")
    assert found.bridges == {"lo": True, "br0": False}
    assert found.listening == {22, 49152, 111}
    assert found.guests[0].uptime == 100.5 and found.guests[0].observation.autostart
    assert found.ssh["ssh.key"] == () and found.ssh["ssh.label"][0].outcome == UNKNOWN
    assert found.peers["node2"].port == "refused"
    assert found.written == {"/srv": "0" * 32 + " 1000"}


def test_json_carries_facts():
    assert node_report.parse("node1", json.loads(json.dumps(SENT)), 998.0, 1000.0) == parsed()


def test_a_daemon_that_said_why_it_cannot_be_asked_leaves_the_rest_of_the_node():
    found = parsed(daemon={"detail": "no socket"}, guests=None)
    assert (found.detail, found.daemon, found.daemon_detail) == ("", None, "no socket")
    assert found.guests is None and found.free_kib == 1024


@pytest.mark.parametrize(
    ("sent", "detail"),
    [
        (None, "no response"),
        ("Minion did not return. [No response]\nThe m", "Minion did not return. [No response]"),
        ("Traceback:\n  line 1\n  line 2\nOSError: gone", "OSError: gone"),
        ([], "invalid facts"),
        ({**SENT, "guests": "none"}, "guests: want a list, got str"),
        ({**SENT, "guests": [{**GUEST, "sighting": "fine"}]}, "guests[0]:sighting: want one of"),
        ({**SENT, "written": {"/srv": "not a token"}}, "written:/srv: want a token, got str"),
    ],
)
def test_what_is_not_facts_makes_a_silent_node(sent, detail):
    found = node_report.parse("node1", sent, 0.0, 1.0)
    assert detail in found.detail and found.guests is None and found.daemon is None


@given(place=st.sampled_from(sorted(places(SENT), key=repr)), other=JSON)
def test_whatever_stands_at_any_place_it_is_facts_or_a_silent_node(place, other):
    found = node_report.parse("node1", with_other(SENT, place, other), 0.0, 1.0)
    assert isinstance(found, nodefacts.NodeFacts)
    shown = overview.status(cluster("node1", "node2"), {"node1": found}).to_dict()
    assert json.dumps(shown) and tables.render(shown).isprintable() is False


@given(JSON)
def test_whatever_is_answered_facts_stay_facts(answer):
    found = parsed()
    assert node_report.answered(found, answer).guests == found.guests


@given(kept=st.sampled_from(["paths", "tokens", "cpus"]), part=JSON)
def test_of_an_answer_what_is_none_is_left_out(kept, part):
    assert isinstance(node_report.answered(parsed(), {kept: part}), nodefacts.NodeFacts)


def test_an_answer_that_is_too_long_is_left_out():
    many = {f"/{number}": {"kind": "file"} for number in range(untrusted.MAX_ITEMS + 1)}
    assert node_report.answered(parsed(), {"paths": many}).observed == {}


@pytest.mark.parametrize("folders", [["relative"], ["/a\nb"], [f"/{n}" for n in range(1001)]])
def test_a_node_that_names_folders_that_are_none_spoils_its_own_facts_alone(folders):
    found = parsed(written=dict.fromkeys(folders, "a" * 32))
    assert "invalid facts" in found.detail


def test_how_it_was_asked_is_not_for_the_node_to_say():
    assert not parsed(by_peer=True).by_peer


def test_an_answer_is_merged():
    token, other = "a" * 32 + " 1000", "b" * 32 + " 1001"
    answer = {
        "paths": {"/a": {"kind": "file"}, "/b": {"kind": "ghost"}},
        "tokens": {"/srv": {"node2": f"{token}\n{other}", "node3": "root:x:0:0"}},
        "cpus": {"<cpu/>": "no such feature"},
    }
    found = node_report.answered(parsed(), answer)
    assert found.observed == {"/a": nodefacts.Inspection("file")}
    assert found.tokens == {("/srv", "node2"): (token, other), ("/srv", "node3"): ()}
    assert found.daemon.cpus == {"<cpu/>": "no such feature"}


@pytest.mark.parametrize(
    ("command", "text", "field"),
    [
        ("clock", "now", "clock"),
        ("memory", "MemTotal: 5 kB", "memory_kib"),
        ("resolves", "node1", "resolves"),
        ("bridges", "[" * 100_000, "bridges"),
        ("bridges", "{}", "bridges"),
        ("listening", "tcp LISTEN 0 128 here there", "listening"),
        ("listening", "LISTEN 0 128 0.0.0.0:22 0.0.0.0:*", "listening"),
    ],
)
def test_what_a_tool_prints_otherwise_is_not_known(command, text, field):
    assert getattr(commanded(**{command: text}), field) is None


def test_a_name_without_an_address_is_a_fact_and_a_failing_resolver_is_not():
    nobody = CommandOutput(1, "", "hostname: Name or service not known")
    assert parsers.addresses(nobody) == ()
    assert parsers.addresses(CommandOutput(1, "", "Temporary failure in name resolution")) is None
    assert parsers.addresses(parsers.NOTHING) is None


@pytest.mark.parametrize(
    ("configured", "present", "folder"),
    [
        ({}, (), "/etc/pki/qemu"),
        ({}, ("/etc/pki/libvirt-migrate",), "/etc/pki/libvirt-migrate"),
        ({"default": "/etc/pki/ours/"}, (), "/etc/pki/ours"),
        ({"default": "/srv/ours"}, (), None),
        ({"migrate": "/etc/pki/b"}, ("/etc/pki/libvirt-migrate",), "/etc/pki/b"),
        ({"default": "/etc/pki/a", "migrate": "/etc/pki/b"}, (), "/etc/pki/b"),
    ],
)
def test_the_folder_of_certificates_is_that_which_libvirt_takes(configured, present, folder):
    settings = {f"{name}_tls_x509_cert_dir": path for name, path in configured.items()}
    lines = [*present, f"{folder}/ca-cert.pem", "/etc/pki/other/client-key.pem"]
    found = parsers.certificates(CommandOutput(1, "\n".join(lines), "no such folder"), settings)
    assert found == (folder and (folder, frozenset({"ca-cert.pem"})))


def test_certificates_that_nobody_looked_for_are_not_known():
    assert parsers.certificates(CommandOutput(127, "", "find: not installed"), {}) is None
    assert parsers.certificates(parsers.NOTHING, {}) is None


@pytest.mark.parametrize(
    ("detail", "wants"),
    [
        ("", True),
        ("migrate_tls_x509_verify = 0", False),
        ("default_tls_x509_verify = 0", False),
        ("default_tls_x509_verify = 0\nmigrate_tls_x509_verify = 1", True),
    ],
)
def test_a_destination_wants_to_see_a_certificate_unless_told_not_to(detail, wants):
    assert parsers.verifies(parsers.settings(CommandOutput(0, detail, ""))) is wants


@given(st.text(), st.sampled_from([0, 1, 127, None]))
def test_readers_of_output_raise_nothing(text, code):
    detail = CommandOutput(code, text)
    for reader in (
        *(parsers.number, parsers.memory, parsers.word, parsers.addresses),
        *(parsers.links, parsers.settings, parsers.started, parsers.qemu),
        *(offers.addresses, offers.sockets, offers.cpus, offers.hugepages),
        *(offers.default_page, offers.confines, offers.secret_values),
    ):
        reader(detail)
    parsers.ports(parsers.settings(detail))
    parsers.certificates(detail, parsers.settings(detail))
    parsers.capabilities(text)


@pytest.mark.parametrize(
    ("counter", "tsc"),
    [
        ("<counter name='tsc' frequency='2596138000' scaling='no'/>", 2_596_138_000),
        ("<counter name='tsc' frequency='2596138000' scaling='yes'/>", 0),
        ("<counter name='tsc' frequency='2596138000'/>", 0),
        ("<counter name='tsc' frequency='x' scaling='no'/>", 0),
        ("<counter name='hpet' frequency='1' scaling='no'/>", 0),
        ("", 0),
    ],
)
def test_a_host_whose_tsc_cannot_be_scaled_is_known(counter, tsc):
    cpu = f"<cpu><arch>x86_64</arch>{counter}</cpu></host>"
    reported = {**SENT["daemon"], "capabilities": CAPABILITIES.replace("</host>", cpu)}
    assert node_report.parse("node1", {**SENT, "daemon": reported}, 0.0, 0.0).daemon.tsc == tsc


@pytest.mark.parametrize(
    ("counts", "threads"), [([], 0), (["8"], 8), (["8", "4"], 12), (["8", "x"], 0), (["8", ""], 0)]
)
def test_a_host_has_the_cpus_of_all_its_cells(counts, threads):
    cells = "".join(f"<cell><cpus num='{count}'/></cell>" for count in counts)
    topology = f"<topology><cells>{cells}</cells></topology></host>"
    reported = {**SENT["daemon"], "capabilities": CAPABILITIES.replace("</host>", topology)}
    assert (
        node_report.parse("node1", {**SENT, "daemon": reported}, 0.0, 0.0).daemon.threads == threads
    )


@pytest.mark.parametrize(
    ("sent", "networks", "filters"),
    [
        ({"networks": ["a"], "filters": ["f"]}, {"a": True}, {"f"}),
        ({"networks": [], "drivers": {"networks": "not supported"}}, {}, None),
        ({"filters": [], "drivers": {"networks": "no socket"}}, None, set()),
        ({}, None, None),
    ],
)
def test_what_a_driver_of_libvirt_did_not_list_is_not_known_and_the_rest_is(
    sent, networks, filters
):
    reported = {"capabilities": CAPABILITIES, **sent}
    found = node_report.parse("node1", {**SENT, "daemon": reported}, 0.0, 0.0)
    assert (found.detail, found.daemon_detail) == ("", "")
    assert (found.daemon.networks, found.daemon.filters) == (networks, filters)
    assert found.daemon.drivers == sent.get("drivers", {})


def test_capabilities_expand_no_entity():
    bomb = '<!DOCTYPE c [<!ENTITY a "pc">]>' + CAPABILITIES.replace(">pc<", ">&a;<")
    found = parsers.capabilities(bomb)
    assert found is None or "pc" not in found[1]["x86_64/qemu"]


GOOD = {
    "user": ("root",),
    "identityfile": ("/root/.ssh/id_rsa_cluster",),
    "identitiesonly": ("yes",),
    "stricthostkeychecking": ("true",),
    "userknownhostsfile": ("/root/.ssh/kvmcluster_known_hosts",),
}


FILES = {
    "/root/.ssh/config": "# port\nHost *\n  StrictHostKeyChecking accept-new\n",
    "/root/.ssh/kvmcluster_config": "Host a\n  StrictHostKeyChecking yes\n",
    "/etc/ssh/ssh_config": 'Match exec "sleep 9"\n\tstricthostkeychecking=no\n',
}
PLACES = "(/root/.ssh/config, line 3; /etc/ssh/ssh_config, line 2)"


def configured(**settings):
    return sshcheck.config(
        cluster("node1", "node2"),
        settings,
        lambda name: FILES,
        GOOD["identityfile"][0],
        GOOD["userknownhostsfile"][0],
    )


def test_names_that_are_dialled_alike_share_a_trouble():
    loose = {**GOOD, "stricthostkeychecking": ("accept-new",)}
    assert configured(a=GOOD) == []
    bad = "/root/.ssh/config line 5: Bad port 'abc'.\r\n/root/.ssh/config: terminating, 1 bad"
    found = configured(a=loose, b=loose, c="", d=bad)
    assert [error.sentence for error in found] == [
        f"ssh to a, b: stricthostkeychecking is accept-new, not true {PLACES}",
        "ssh to c: ssh cannot read its configuration (it runs a command: /etc/ssh/ssh_config,"
        " line 1)",
        "ssh to d: ssh cannot read its configuration: /root/.ssh/config line 5: Bad port 'abc'."
        " /root/.ssh/config: terminating, 1 bad",
    ]
    assert found[0].remedy == "apply the state kvmcluster.trust here; 'ssh -G a' shows it"


@pytest.mark.parametrize(
    ("keyword", "value"),
    [
        *(("hostname", "elsewhere"), ("hostkeyalias", "node2"), ("proxyjump", "gate")),
        *(("proxycommand", "nc %h"), ("remotecommand", "tmux"), ("requesttty", "force")),
        *(("sessiontype", "none"), ("stdinnull", "yes"), ("forkafterauthentication", "yes")),
        *(("permitlocalcommand", "yes"), ("exitonforwardfailure", "yes"), ("user", "nobody")),
        *(("canonicalizehostname", "true"), ("knownhostscommand", "/bin/k")),
        *(("preferredauthentications", "password"), ("pubkeyauthentication", "false")),
    ],
)
def test_a_setting_that_comes_before_ours_is_named(keyword, value):
    found = configured(node1={**GOOD, keyword: (value,)})
    assert found[0].sentence.startswith(f"ssh to node1: {keyword} is {value}, not ")
    assert found[0].remedy.startswith("apply the state kvmcluster.trust here")


def test_a_setting_that_is_left_to_the_login_is_corrected_in_its_file():
    narrow = {**GOOD, "pubkeyacceptedalgorithms": ("ssh-ed25519,ecdsa-sha2-nistp256",)}
    found = configured(node1=narrow, node2={**GOOD, "requiredrsasize": ("8192",)})
    assert [(error.sentence, error.remedy) for error in found] == [
        (
            "ssh to node1: pubkeyacceptedalgorithms leaves out rsa keys",
            "correct that file; 'ssh -G node1' shows it",
        ),
        (
            "ssh to node2: requiredrsasize is 8192, and the cluster key has 4096",
            "correct that file; 'ssh -G node2' shows it",
        ),
    ]
    wide = {**GOOD, "pubkeyacceptedalgorithms": ("ssh-ed25519,rsa-sha2-256",)}
    assert configured(a={**wide, "requiredrsasize": ("4096",), "port": ("2222",)}) == []


def test_keys_of_former_members_and_former_keys_of_members_are_stale():
    found = cluster("node1", "node2")
    known = read_identities(found, {"node1": published("node1"), "node2": published("node2")})
    text = "".join(
        f"restrict {key} {comment}\n"
        for key, comment in (
            (KEYS["node1"], tag(found, "node1")),
            (KEYS["other"], tag(found, "node2")),
            (KEYS["other"], tag(found, "gone")),
            (KEYS["other"], "kvmcluster/another/gone"),
            (KEYS["other"], "somebody@else"),
        )
    )
    troubles = sshcheck.stale(found, known, {"/root/.ssh/authorized_keys": text})
    assert [error.sentence.partition(": ")[2] for error in troubles] == [
        "a former key of node2",
        "the key of gone, which is no longer a member",
    ]
    assert sshcheck.stale(found, read(found), {"a": f"{KEYS['other']} {tag(found, 'node2')}"}) == []


def test_labels_other_than_sshs_are_told_and_unread_ones_unknown():
    found = sshcheck.label(
        {"a": "system_u:object_r:ssh_home_t:s0", "b": "x:y:user_t:s0", "c": None}
    )
    assert [error.outcome for error in found] == ["PROBLEM", "UNKNOWN"]


def cluster_status(**nodes):
    return overview.status(
        cluster("node1", "node2"),
        {node: node_report.parse(node, sent, 998.0, 1000.0) for node, sent in nodes.items()},
    ).to_dict()


def test_a_guest_that_runs_on_two_nodes_is_the_first_thing_said():
    data = cluster_status(node1=SENT, node2=SENT)
    assert not data["ok"] and [row["where"] for row in data["status"]] == ["node1", "node2"]
    assert tables.render(data).startswith("PROBLEM  web1 RUNS TWICE, on node1 and on node2")


def test_a_guest_that_is_paused_by_its_user_elsewhere_runs_twice():
    paused = {**SENT, "guests": [{**GUEST, "sighting": "paused by its user"}]}
    (problem,) = cluster_status(node1=SENT, node2=paused)["problems"]
    assert problem.startswith("web1 RUNS TWICE, on node1 and on node2")


def test_a_guest_on_its_way_does_not_run_twice():
    for sighting, job in (
        ("paused for migration", "an incoming migration"),
        ("paused in post-copy", "an outgoing migration"),
    ):
        other = {**SENT, "guests": [{**GUEST, "sighting": sighting, "job": job}]}
        assert cluster_status(node1=SENT, node2=other)["problems"] == []


def test_a_copy_that_waits_is_a_problem_once_its_guest_is_nowhere_else():
    copy = {
        **SENT,
        "guests": [
            {**GUEST, "sighting": "a copy that waits for its handover", "reason": "handover"}
        ],
    }
    off = {**SENT, "guests": [{**GUEST, "sighting": "shut off", "autostart": False}]}
    assert "node2 still has a copy of it" in cluster_status(node1=SENT, node2=copy)["problems"][0]
    assert cluster_status(node1=off, node2=copy)["problems"] == [
        "web1 stands on node2, as a copy that waits for its handover:"
        " salt-run kvmcluster.recover web1"
    ]


def test_an_unreachable_node_is_shown_and_where_a_guest_is_not_is_not_claimed():
    idle = {**SENT, "guests": [{**GUEST, "sighting": "shut off"}]}
    data = cluster_status(node1=idle, node2=None)
    assert data["silent"] == {"node2": "no response"} and not data["ok"]
    assert data["status"][0]["where"] == "?"
    text = tables.render(data)
    assert "PROBLEM  node2 is unreachable: no response" in text
    assert "node2  unreachable" in text
    assert cluster_status(node1=idle)["status"][0]["where"] == "nowhere"


def test_a_listed_guest_that_no_node_has_is_shown():
    found = node_report.parse("node1", SENT, 998.0, 1000.0)
    wanted = cluster("node1")
    listed = type(wanted.guests)(list={"db1": Listed("db1")})
    data = overview.status(
        type(wanted)("lab", wanted.nodes, guests=listed), {"node1": found}
    ).to_dict()
    assert [(row["name"], row["where"], row["state"]) for row in data["status"]] == [
        ("db1", "nowhere", "absent"),
        ("web1", "node1", "running"),
    ]
    assert not data["ok"] and "db1 runs nowhere: no node has it; " in tables.render(data)


def told_of(one, **changes):
    facts_ = replace(worlds.node(guests=(one,)), **changes)
    (row,) = overview.guests(worlds.cluster(), facts_).to_dict()["guests"]
    return row


FROZEN = replace(worlds.WEB, frozen=Frozen("a test", "2026-01-01"))
MEDIUM = Disk("sda", Source("file", "/root/cd.iso"), device="cdrom", readonly=True)


@pytest.mark.parametrize(
    ("one", "changes", "movable", "words"),
    [
        (worlds.guest(), {}, True, ""),
        (worlds.guest(snapshots=1), {}, False, "it has 1 snapshot"),
        (worlds.guest(kept=FROZEN), {}, False, "it was frozen 2026-01-01: a test"),
        (worlds.guest(of=FROZEN), {}, False, "kvmcluster.unfreeze web1"),
        (worlds.guest(observation=replace(worlds.RUNNING, autostart=True)), {}, False, "next boot"),
        (worlds.guest(observation=replace(worlds.RUNNING, job="a backup")), {}, False, "a backup"),
        (worlds.guest(of=None, error="no XML"), {}, None, "no XML"),
        (worlds.guest(of=replace(worlds.WEB, disks=(MEDIUM,))), {}, True, ""),
        (
            worlds.guest(of=replace(worlds.WEB, disks=(replace(MEDIUM, readonly=False),))),
            {},
            False,
            "ext4",
        ),
        (worlds.guest(), {"storage": None}, None, "the storage of the source"),
    ],
)
def test_what_is_movable_is_what_the_checks_say(one, changes, movable, words):
    row = told_of(one, **changes)
    assert row["movable"] is movable
    assert words in " ".join(row["why"]) and bool(row["why"]) == (movable is not True)
