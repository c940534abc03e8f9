"""Runner and orchestration on the real master: the words and exit codes an administrator gets."""

import json
import pathlib
import re
import shutil
import time

import pytest
import salt.config
import yaml
from sandbox import NODES, SSH, sentence, sh, ssh

from saltext_kvmcluster.core import silence
from saltext_kvmcluster.core.pillar import parser
from saltext_kvmcluster.master.nodes import SaltNodes

# Seconds in which a minion answers. By default it is 5.
IMPATIENT = {"timeout": 3}


class Master:
    def __init__(self, salt, salt_run):
        self.run, self.config = salt_run, salt.master.config_dir
        self.pki = pathlib.Path(salt.master.config["pki_dir"]) / "minions"

    def text(self, *words, code=0):
        """Return what salt-run prints for people; Salt's own warnings go to standard error."""
        done = self.run("--log-level=quiet", *words, config=self.config)
        assert done.returncode == code, done.stdout
        return sentence(done.stdout.decode())

    def data(self, *words, code=0):
        return json.loads(self.text("--out=json", *words, code=code))

    def prepare(self, code=0, *words):
        """Run the orchestration and return its states by id."""
        data = self.data("state.orchestrate", "kvmcluster.orch.prepare", *words, code=code)
        states = next(iter(data["data"].values()))
        return {state["__id__"]: state for state in states.values()}


@pytest.fixture
def master(kvm, salt_run):
    for node in NODES:
        kvm.run(node, "saltutil.refresh_pillar", wait=True)
    return Master(kvm, salt_run)


@pytest.fixture
def sleeper(master):
    """A member whose key is accepted and whose minion is down."""
    shutil.copyfile(master.pki / "beta", master.pki / "ghost")
    yield "ghost"
    (master.pki / "ghost").unlink()


@pytest.fixture
def impatient(kvm, master, tmp_path):
    """The master, with commands that wait less for a minion that is down."""
    config = yaml.safe_load(pathlib.Path(kvm.master.config_file).read_text())
    (tmp_path / "master").write_text(yaml.safe_dump({**config, **IMPATIENT}))
    master.config = tmp_path
    return master


@pytest.fixture
def nodes(impatient, sleeper):
    """The cluster's nodes, one of which is down, as the runner asks them."""
    found = parser.from_pillar(pillar("test", *NODES, sleeper))
    return SaltNodes(salt.config.master_config(str(impatient.config / "master")), found)


def pillar(name, *nodes):
    return {"kvmcluster": {"name": name, "nodes": {node: NODES.get(node) for node in nodes}}}


def test_members_are_those_of_the_pillar(master):
    assert master.text("kvmcluster.members") == "cluster test: alpha, beta\n"
    assert master.data("kvmcluster.members")["members"] == ["alpha", "beta"]


def test_identities_are_published_once(member, master):
    for node in NODES:
        member.publish(node, None)
    first = master.data("kvmcluster.publish")
    assert [entry.split()[0] for entry in first["published"]] == ["alpha", "beta"]
    assert member.filed("alpha")["cluster_key"] in (SSH / "id_rsa_cluster.pub").read_text()
    again = master.data("kvmcluster.publish")
    assert (again["published"], again["unchanged"], again["ok"]) == ([], ["alpha", "beta"], True)


def test_a_node_that_cannot_publish_is_named(kvm, master):
    detail = master.text("kvmcluster.publish", code=1)
    assert "PROBLEM  alpha" in detail and "kvmcluster.key_present" in detail


def test_the_matrix_is_good_and_then_names_what_is_not(member, master):
    for state in ("authorized_keys", "known_hosts", "ssh_config"):
        assert member.state(state)["result"] is True
    assert "OK: 5 of 5 logins good" in master.text("kvmcluster.ssh_matrix")
    (SSH / "authorized_keys2").unlink()
    detail = master.text("kvmcluster.ssh_matrix", code=1)
    assert "alpha -> beta" in detail and "beta-mig: key not accepted" in detail


def test_prepare_ends_at_its_first_failure_and_does_the_nodes_that_are_named(
    kvm, impatient, sleeper
):
    kvm.pillar(raw=pillar("test", "alpha", sleeper))
    for node in NODES:
        kvm.run(node, "saltutil.refresh_pillar", wait=True)
    states = impatient.prepare(code=1)
    assert list(states) == ["preflight", "keys"] and states["keys"]["result"] is False
    assert f"no response from the minion of {sleeper}" in states["keys"]["comment"]
    assert "changed: alpha" in states["keys"]["comment"] and (SSH / "id_rsa_cluster").exists()
    states = impatient.prepare(1, 'pillar={"nodes": ["alpha"]}')
    results = {name: state["result"] for name, state in states.items()}
    assert results.pop("preflight") is True
    assert results == {"keys": True, "identities": True, "trust": True, "ssh": False}
    assert sleeper in states["ssh"]["comment"]
    assert "/alpha\n" in (SSH / "authorized_keys2").read_text()


def test_with_two_clusters_the_master_asks_which(kvm, master):
    kvm.pillar("alpha", raw=pillar("one", "alpha"))
    kvm.pillar("beta", raw=pillar("two", "beta"))
    for node in NODES:
        kvm.run(node, "saltutil.refresh_pillar", wait=True)
    assert "cluster= one of one, two" in master.text("kvmcluster.members", code=1)
    assert master.text("kvmcluster.members", "cluster=two") == "cluster two: beta\n"


def test_a_node_belongs_to_one_cluster_and_decides(kvm, master):
    kvm.pillar("alpha", raw=pillar("one", "alpha"))
    kvm.pillar("beta", raw=pillar("two", "beta"))
    for node in NODES:
        kvm.run(node, "saltutil.refresh_pillar", wait=True)
    done = master.data("kvmcluster.cordon", "beta", "new memory")
    assert (done["cluster"], done["cordoned"], done["changed"]) == ("two", True, True)
    assert master.text("kvmcluster.uncordon", "beta") == "beta is uncordoned\n"
    assert "gamma is a node of none of the clusters one, two" in master.text(
        "kvmcluster.cordon", "gamma", "x", code=1
    )
    pattern = master.text("kvmcluster.start", "web*", code=1)
    assert "say which cluster: cluster= one of one, two" in pattern


def test_a_verb_for_guests_that_cannot_be_right_is_refused(master):
    for words, wrong in (
        (["start", "a/b"], "guest: want a guest's name"),
        (["shutdown", "web1", "timeout=0"], "timeout: want seconds"),
        (["shutdown", "web1", "test=perhaps"], "test: want true or false"),
        (["freeze", "web1"], "reason is missing; usage: salt-run kvmcluster.freeze guest reason"),
        (["freeze", "web1", ""], "reason: want a line of text"),
        (["cordon", "gamma", "x"], "gamma is not a node of cluster test"),
        (["cordon", "alpha"], "reason is missing"),
        (["reboot"], "name is missing"),
        (["reboot", "web1", "node=alpha"], "give one of name, node and guest"),
        (["reboot", "guest=web1", "when=always"], "when: it is for a node"),
        (["reboot", "node=alpha", "reset=true"], "reset: it is for guests"),
        (["start", "web1"], "no node of cluster test tells its guests; nothing was done"),
        (["console", "web*"], "no node of cluster test tells its guests"),
    ):
        assert wrong in master.text(f"kvmcluster.{words[0]}", *words[1:], code=1), words


def test_pillars_that_are_broken_or_differ_are_named_by_node(kvm, master):
    kvm.pillar("alpha", raw=pillar("test", *NODES, "nobody"))
    kvm.pillar("beta", raw=pillar("test", *NODES, "nobody"))
    assert master.text("kvmcluster.members", code=1).startswith(
        "PROBLEM  the pillar of nobody: the master has accepted no key of such a minion: salt-key"
    )
    kvm.pillar("alpha", raw=pillar("test", *NODES))
    kvm.pillar("beta", raw=pillar("two", *NODES))
    other = "the pillar of beta: it is of cluster two, and that of alpha of test"
    assert master.text("kvmcluster.members", code=1) == (
        f"PROBLEM  {other}\ncluster test: alpha, beta\n"
    )
    assert other in master.data("kvmcluster.status", code=1)["problems"]
    assert "cluster two: alpha, beta" in master.text("kvmcluster.members", "cluster=two", code=1)
    kvm.pillar("beta", raw={"kvmcluster": {"name": "test", "nodes": NODES, "ssh": {"logn": "x"}}})
    for node in NODES:
        kvm.run(node, "saltutil.refresh_pillar", wait=True)
    data = master.data("kvmcluster.status", code=1)
    (answered,) = [one for one in data["problems"] if one.startswith("beta")]
    assert "error (its pillar is wrong)" in answered or "guests: its pillar is wrong" in answered
    assert "the pillar of beta: kvmcluster:ssh: unknown key 'logn'" in " ".join(data["problems"])


def test_without_a_pillar_there_is_one_sentence(kvm, master):
    kvm.pillar(raw={})
    for node in NODES:
        kvm.run(node, "saltutil.refresh_pillar", wait=True)
    detail = master.text("kvmcluster.members", code=1)
    assert detail.startswith("ERROR: ") and detail.count("\n") == 1 and "pillar.example" in detail
    for state in ("key_present", "authorized_keys", "known_hosts", "ssh_config"):
        assert "no pillar 'kvmcluster'" in kvm.bad(state)


def test_a_wrong_key_in_the_pillar_is_a_sentence_everywhere(kvm, master):
    kvm.pillar(raw={"kvmcluster": {"name": "test", "nodes": NODES, "shh": {}}})
    for node in NODES:
        kvm.run(node, "saltutil.refresh_pillar", wait=True)
    assert "did you mean ssh?" in kvm.bad("ssh_config")
    assert "did you mean ssh?" in kvm.run("alpha", "kvmcluster.identity")
    assert "did you mean ssh?" in master.text("kvmcluster.members", code=1)


def test_a_failed_function_has_an_exit_code(kvm, master):
    assert kvm.full("alpha", "kvmcluster.identity")["retcode"] != 0


def test_a_migration_that_cannot_be_right_is_refused_before_any_node_is_asked(master):
    detail = master.text("kvmcluster.migrate", "web1", "betta", code=1)
    assert "its nodes are alpha, beta" in detail and "did you mean" not in detail
    detail = master.text("kvmcluster.migrate", "web1", "beta", "downtime=0", code=1)
    assert detail.startswith("ERROR: downtime: want") and detail.count("\n") == 1
    detail = master.text("kvmcluster.migrate", "a/b", "beta", code=1)
    assert detail.startswith("ERROR: guest: want a guest's name")


def test_a_guest_that_nobody_can_look_for_is_not_moved(master, sleeper):
    data = master.data("kvmcluster.migrate", "web1", "beta", code=1)
    assert set(data) == {"kind", "ok", "error", "retcode"} and data["kind"] == "error"
    assert data["error"].startswith("qemu:///system: ")
    assert data["error"].endswith("(reported by alpha, beta)")


def test_the_cluster_remembers_nothing_and_says_so(master):
    assert master.text("kvmcluster.history") == (
        "0 migrations recorded in cluster test; times are UTC\n"
    )
    assert master.data("kvmcluster.history", "web1", "limit=5")["history"] == []
    assert "limit: want" in master.text("kvmcluster.history", "limit=0", code=1)


def test_nodes_that_cannot_tell_their_jobs_are_named(master):
    detail = master.text("kvmcluster.job", code=1)
    assert "PROBLEM  alpha reported nothing: qemu:///system" in detail
    assert "no node that responded has a migration of web1" in master.text(
        "kvmcluster.cancel", "web1", code=1
    )
    assert "alpha" in master.text("kvmcluster.recover", "web1", code=1)


def warnings(caplog):
    """Return what was logged by us; minions of these tests log here, too."""
    return [one.getMessage() for one in caplog.records if one.name.startswith("saltext_kvmcluster")]


def timed(function, *arguments, **named):
    begun = time.monotonic()
    return function(*arguments, **named), time.monotonic() - begun


def test_all_answers_end_the_waiting(nodes):
    answers, elapsed = timed(nodes.ask, list(NODES), "test.ping")
    assert answers == {"alpha": True, "beta": True}
    assert elapsed < nodes.opts["timeout"]


def test_a_node_that_is_down_is_waited_for_once_while_others_look_after_it(nodes, sleeper, caplog):
    looked = []
    answers, elapsed = timed(
        nodes.ask, nodes.all, "test.ping", meanwhile=lambda *found: looked.append(found)
    )
    assert answers == {"alpha": True, "beta": True}
    assert [(unheard, sorted(answered)) for unheard, answered in looked] == [
        ([sleeper], ["alpha", "beta"])
    ]
    assert elapsed >= silence.LOOKED_AFTER
    assert nodes._silences.silent(nodes.clock.monotonic()) == {sleeper}
    assert not warnings(caplog)


def test_a_node_that_was_silent_is_heard_while_others_are_waited_for(nodes, sleeper):
    """That it was silent is remembered, but not taken for an answer."""
    now = nodes.clock.monotonic()
    nodes._silences.note(["alpha", sleeper], (), now)
    command = "sleep {{ 5 if grains['id'] == 'beta' else 0 }}; echo woken"
    answers = nodes.ask(nodes.all, "cmd.run", command, template="jinja")
    assert answers == {"alpha": "woken", "beta": "woken"}
    assert nodes._silences.silent(now) == {sleeper}


def test_a_node_whose_job_hangs_is_waited_for_so_long_and_no_longer(nodes, sleeper, caplog):
    command = "sleep {{ 40 if grains['id'] == 'beta' else 0 }}; echo woken"
    answers, elapsed = timed(nodes.ask, nodes.all, "cmd.run", command, template="jinja", within=10)
    assert answers == {"alpha": "woken"}
    assert 10 <= elapsed < 25
    (detail,) = warnings(caplog)
    assert "no return of cmd.run from beta, ghost within 10 seconds" in detail
    (job,) = re.findall(r"salt-run jobs.lookup_jid (\d{20}) ", detail)
    with nodes.client() as client:
        assert client.get_cache_returns(job)["alpha"]["ret"] == "woken"


def test_where_nobody_is_whom_to_ask_there_is_no_answer(nodes):
    assert nodes.ask([], "test.ping") == nodes.ask(["nowhere"], "test.ping") == {}


def test_a_report_is_written_as_a_whole_and_replaces_nothing_else(master, tmp_path):
    file = tmp_path / "cluster.html"
    data = master.data("kvmcluster.report", f"path={file}")
    assert (data["ok"], data["path"], data["bytes"]) == (True, str(file), file.stat().st_size)
    assert data["problems"] == 2 and set(data["silent"]) == {"alpha", "beta"}
    assert file.stat().st_mode & 0o777 == 0o644 and [*tmp_path.iterdir()] == [file]
    first = file.read_text()
    assert first.startswith("<!DOCTYPE html>") and "0 of 2" in first
    line = master.text("kvmcluster.report", file)
    assert line.startswith(f"WRITTEN  {file}, ")
    assert file.read_text() != first
    file.write_text("mine")
    for path, why in (
        (file, "exists and is no report"),
        (tmp_path / "none" / "x.html", "there is no folder"),
        (tmp_path, "want a file that ends in .html"),
        ("x.html", "want an absolute path"),
        (5, "want an absolute path"),
    ):
        detail = master.text("kvmcluster.report", f"path={path}", code=1)
        assert detail.startswith("ERROR: path: ") and why in detail and detail.count("\n") == 1
    assert file.read_text() == "mine"


def fingerprint(path):
    return sh("ssh-keygen", "-l", "-f", path).split()[1]


def test_a_key_is_replaced_and_no_node_accepts_the_former_one(member, master):
    for state in ("authorized_keys", "known_hosts", "ssh_config"):
        assert member.state(state)["result"] is True
    old = fingerprint(SSH / "id_rsa_cluster")
    planned = master.text("kvmcluster.rotate", "alpha", "test=True")
    assert f"would     alpha: its key {old} would be replaced" in planned
    assert "to do it: add test=False" in master.text("kvmcluster.rotate", "*", code=1)
    assert fingerprint(SSH / "id_rsa_cluster") == old
    done = master.text("kvmcluster.rotate", "alpha")
    new = fingerprint(SSH / "id_rsa_cluster")
    assert f"replaced  alpha: {old} -> {new}\nOK: 1 key replaced in cluster test\n" in done
    assert member.call("kvmcluster.rotation", "alpha")["accepted"] == [new] != [old]
    assert not list(SSH.glob("*.next*")) and ssh("beta") == "in\n"


def test_a_key_that_no_silent_node_would_accept_is_not_replaced(member, impatient, sleeper):
    member.pillar(raw=pillar("test", *NODES, sleeper))
    for node in NODES:
        member.run(node, "saltutil.refresh_pillar", wait=True)
    old = fingerprint(SSH / "id_rsa_cluster")
    detail = impatient.text("kvmcluster.rotate", "alpha", code=1)
    assert f"PROBLEM   alpha: refused: {sleeper}: no response" in detail
    assert "salt-run kvmcluster.rotate alpha" in detail
    assert fingerprint(SSH / "id_rsa_cluster") == old and not list(SSH.glob("*.next*"))


@pytest.mark.parametrize("asked", ["nobody", "z*", "", "[]", "7", "a\x1bb"])
def test_a_key_of_no_node_is_refused_in_one_line(member, master, asked):
    detail = master.text("kvmcluster.rotate", asked, code=1)
    assert detail.startswith("ERROR: ") and len(detail.strip().splitlines()) == 1
