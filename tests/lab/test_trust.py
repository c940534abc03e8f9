"""Trust in the whole cluster: from nothing to ready, and back to ready after what happens to it."""

import json

import pytest
from labs import HOME, LOGIN
from mistakes import restart

# libvirt's daemon logs in as root does.
SSH = "/root/.ssh"
KEY = f"{HOME}/.ssh/id_rsa_cluster"
KEYS = f"{HOME}/.ssh/authorized_keys2"
HOSTS = f"{SSH}/kvmcluster_known_hosts"
CONFIG = f"{SSH}/kvmcluster_config"
TRUST_FILES = (KEYS, HOSTS, CONFIG, f"{SSH}/config")


def changes(states):
    return {name: state["changes"] for name, state in states.items()}


def cell(lab, node, name, *arguments):
    row = lab.salt(node, "kvmcluster.ssh_check", "timeout=3", *arguments)
    return next(item for item in row["cells"] if item["name"] == name)


def published_again(lab):
    """Have every node publish its identity again; after that, trust is as it was."""
    lab.ask(lab.nodes, "mine.update")
    states = lab.apply("node1", "kvmcluster.trust")
    assert all(state["result"] and "warnings" not in state for state in states.values()), states


@pytest.mark.pair
def test_one_command_makes_every_login_good(prepared_lab, first_prepare):
    assert all(state["result"] for state in first_prepare.values())
    matrix = prepared_lab.run("kvmcluster.ssh_matrix")
    assert matrix["ok"] and (matrix["good"], matrix["cells"]) == (18, 18)
    assert "OK: 18 of 18 logins good" in first_prepare["ssh"]["comment"]


@pytest.mark.pair
def test_a_second_run_changes_nothing(lab):
    before = {node: [lab.read(node, path) for path in TRUST_FILES] for node in lab.nodes}
    again = lab.prepare()
    assert changes(again) == {name: {} for name in again}
    assert before == {node: [lab.read(node, path) for path in TRUST_FILES] for node in lab.nodes}


def test_private_keys_are_nowhere_but_on_their_node(lab):
    private = lab.read("node1", KEY).splitlines()[3]
    for node in ("node2", "node3", "master"):
        found = lab.exec(
            node, "grep", "-rlsF", private, "/root", "/home", "/etc", "/var", "/run", check=False
        )
        assert not found.strip()


def test_test_mode_predicts_exactly_what_the_real_run_does(lab):
    lab.exec("node1", "rm", HOSTS, f"{SSH}/config")
    lab.exec("node1", "sed", "-i", "/lab.node2$/d", KEYS)
    lab.exec("node1", "chmod", "644", CONFIG)
    dry = lab.apply("node1", "kvmcluster", "test=True")
    assert [dry[name]["result"] for name in dry] == [True, None, None, None]
    real = lab.apply("node1", "kvmcluster")
    assert changes(dry) == changes(real) and all(state["result"] for state in real.values())
    assert len(real["kvmcluster-authorized-keys"]["changes"]["authorized_keys2"]["added"]) == 1
    assert changes(lab.apply("node1", "kvmcluster")) == {name: {} for name in real}


@pytest.mark.pair
def test_a_reinstalled_node_is_repaired_by_one_prepare(lab):
    lab.ctl("reinstall", "node2")
    assert cell(lab, "node1", "node2-mig")["cause"] == "host key changed"
    states = lab.prepare()
    assert all(state["result"] for state in states.values()), states
    assert lab.run("kvmcluster.ssh_matrix")["ok"]
    detail = json.dumps(states["trust"]["changes"])
    assert "node2 ssh-rsa SHA256:" in detail and "replaced" in detail


def test_a_prepare_waits_for_penalties(lab):
    """From OpenSSH 9.8 on, sshd refuses an address for a time after failed logins."""
    drop_in = "/etc/ssh/sshd_config.d/10-penalties.conf"
    penalties = "persourcepenalties" in lab.exec("node2", "sshd", "-T")
    if penalties:
        lab.write("node2", drop_in, "PerSourcePenalties authfail:90 max:120\n")
        restart("node2", "sshd")(lab)
    lab.exec("node2", "rm", KEYS)
    for _ in range(3):
        matrix = lab.run("kvmcluster.ssh_matrix", "timeout=3")
        causes = {cell["cause"] for row in matrix["rows"].values() for cell in row["cells"]}
    wanted = "refused for now" if penalties else "key not accepted"
    assert causes == {"ok", wanted}
    assert ("for up to 120 s (PerSourcePenalties)" in str(matrix)) == penalties
    states = lab.prepare()
    assert all(state["result"] for state in states.values()), states
    assert ("in which sshd refused some for a time" in states["ssh"]["comment"]) == penalties
    lab.exec("node2", "rm", "--force", drop_in)
    restart("node2", "sshd")(lab)


def test_a_node_that_leaves_the_pillar_leaves_no_trace(lab):
    key = lab.read("node3", f"{KEY}.pub").split()[1]
    lab.write("node1", "/tmp/line", f"ssh-rsa {key} {LOGIN}@node3\n")
    lab.exec("node1", "sh", "-c", f"cat /tmp/line {KEYS} > /tmp/both; cat /tmp/both > {KEYS}")
    with lab.pillar() as pillar:
        del pillar.cluster["nodes"]["node3"]
        pillar.save()
        states = lab.apply("node1", "kvmcluster.trust")
        assert all(state["result"] for state in states.values())
        for path in TRUST_FILES:
            text = lab.read("node1", path)
            assert key not in text and "node3" not in text
        assert lab.exec("node1", "ssh", "node2-mig", "echo", "in") == "in\n"
        logged_in = lab.ctl("exec", "node3", "--", "ssh", "node1", "true", check=False)
        assert "Permission denied" in logged_in.stderr
    published_again(lab)
    assert lab.exec("node3", "ssh", "node1", "echo", "in") == "in\n"


def test_silence_in_the_mine_removes_nothing_and_is_named(lab):
    before = [lab.read("node1", path) for path in TRUST_FILES]
    lab.salt("node2", "mine.flush")
    states = lab.apply("node1", "kvmcluster.trust")
    assert before == [lab.read("node1", path) for path in TRUST_FILES]
    assert (
        "node2 has no identity in the mine" in states["kvmcluster-authorized-keys"]["warnings"][0]
    )
    published_again(lab)


@pytest.mark.pair
@pytest.mark.parametrize("stranger", ["node3", "another"])
def test_a_node_that_speaks_for_another_is_refused_by_name(lab, stranger):
    before = [lab.read("node1", path) for path in TRUST_FILES]
    lab.salt(
        "node2", "mine.send", "kvmcluster.identity", "mine_function=test.kwarg", f"node={stranger}"
    )
    states = lab.apply("node1", "kvmcluster.trust")
    failed = states["kvmcluster-authorized-keys"]
    assert (
        failed["result"] is False
        and "node2: its published identity is refused" in failed["comment"]
    )
    assert before == [lab.read("node1", path) for path in TRUST_FILES]
    published_again(lab)


def test_foreign_lines_stay_byte_for_byte(lab):
    foreign = '# mine\r\ncommand="echo  hi" ssh-ed25519 AAAAC3Nz foo@@bar\n\n  odd line without end'
    text = lab.read("node1", KEYS)
    lab.write("node1", KEYS, foreign)
    lab.apply("node1", "kvmcluster.trust")
    assert lab.read("node1", KEYS) == f"{foreign}\n{text}"
    lab.write("node1", KEYS, text)


def test_the_users_own_star_block_does_not_win(lab):
    lab.write("node1", f"{SSH}/config", "Host *\n  User nobody\n  StrictHostKeyChecking no\n")
    lab.apply("node1", "kvmcluster.trust")
    observed = lab.exec("node1", "ssh", "-G", "node2.lab.example")
    assert f"\nuser {LOGIN}\n" in f"\n{observed}" and "stricthostkeychecking true" in observed
    assert "\nuser nobody\n" in "\n" + lab.exec("node1", "ssh", "-G", "elsewhere.example")
    lab.exec("node1", "rm", f"{SSH}/config")
    lab.apply("node1", "kvmcluster.trust")


def test_a_refused_login_is_named(lab):
    lab.ctl("kill", "node2", "sshd")
    assert cell(lab, "node1", "node2")["cause"] == "refused"
    assert lab.salt_code("node1", "kvmcluster.ssh_check") != 0
    lab.ctl("start", "node2", "sshd")
    assert cell(lab, "node1", "node2")["ok"]


def test_a_cut_network_is_named_and_only_that_one(lab):
    lab.ctl("cut", "node2", "--network", "migration")
    try:
        assert cell(lab, "node1", "node2-mig")["cause"] in ("timed out", "no route")
        assert cell(lab, "node1", "node2.lab.example")["ok"]
        matrix = lab.run("kvmcluster.ssh_matrix", "timeout=3")
        assert not matrix["ok"] and matrix["good"] == 14
    finally:
        lab.heal("node2")


def test_a_node_without_a_minion_is_silent_not_absent(lab):
    lab.ctl("kill", "node3", "minion")
    try:
        matrix = lab.run("kvmcluster.ssh_matrix")
        assert list(matrix["silent"]) == ["node3"] and not matrix["ok"]
    finally:
        lab.ctl("start", "node3", "minion")


def test_an_unknown_name_an_unknown_host_key_and_a_lost_key_are_named(lab):
    hosts = lab.read("node1", "/etc/hosts")
    lab.write(
        "node1", "/etc/hosts", "\n".join(x for x in hosts.splitlines() if "node2-mig" not in x)
    )
    assert cell(lab, "node1", "node2-mig")["cause"] == "no such name"
    lab.write("node1", "/etc/hosts", hosts)
    lab.exec("node1", "sed", "-i", "/node2/d", HOSTS)
    assert cell(lab, "node1", "node2")["cause"] == "host key unknown"
    lab.exec("node2", "sed", "-i", "/node1$/d", KEYS)
    assert cell(lab, "node3", "node2")["ok"]
    lab.apply("node1", "kvmcluster.trust")
    assert cell(lab, "node1", "node2")["cause"] == "key not accepted"
    lab.apply("node2", "kvmcluster.trust")
    assert cell(lab, "node1", "node2")["ok"]


def test_a_passphrase_and_noise_are_named(lab):
    lab.exec("node1", "ssh-keygen", "-q", "-p", "-P", "", "-N", "secret", "-f", KEY)
    assert cell(lab, "node1", "node2")["cause"] == "passphrase asked"
    failed = lab.apply("node1", "kvmcluster.key")["kvmcluster-key"]
    assert failed["result"] is False and "passphrase" in failed["comment"]
    lab.exec("node1", "ssh-keygen", "-q", "-p", "-P", "secret", "-N", "", "-f", KEY)
    lab.write("node2", f"{HOME}/.bashrc", "echo hello\n")
    noisy = cell(lab, "node1", "node2")
    assert (noisy["cause"], noisy["detail"]) == ("noise", "hello")
    lab.exec("node2", "rm", f"{HOME}/.bashrc")


def test_errors_are_sentences(lab):
    with lab.pillar() as pillar:
        pillar.cluster["ssh"] = {"exclusiv": True}
        pillar.save()
        failed = lab.apply("node1", "kvmcluster.trust")["kvmcluster-authorized-keys"]
        assert failed["result"] is False
        assert failed["comment"].startswith("kvmcluster:ssh: unknown key 'exclusiv'")
        assert "did you mean exclusive" in failed["comment"]
        assert "unknown key 'exclusiv'" in lab.run("kvmcluster.ssh_matrix")["error"]
    assert "sorting hat" in lab.run("kvmcluster.members", "cluster=sorting hat")["error"]
