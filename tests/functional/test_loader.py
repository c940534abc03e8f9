"""What Salt's loader makes of the extension, with and without libvirt."""

import json
import os
import pathlib
import re
import sys

import pytest
import salt.loader
import yaml
from sandbox import put_key, sh

SALT_CALL = pathlib.Path(sys.executable).with_name("salt-call")
# Python 3.13 strips the indentation that all lines of a docstring have.
EXAMPLE = r"CLI Example:\n\n\s*.. code-block:: bash\n\n\s+salt"
FUNCTIONS = {"identity", "peers", "ssh_check", "migrate", "job", "cancel", "recover", "history"}
STATES = {"key_present", "authorized_keys", "known_hosts", "ssh_config"}
RUNNERS = {"members", "publish", "ssh_matrix", "migrate", "job", "cancel", "recover", "history"}


def ours(names):
    return {name.partition(".")[2] for name in names if name.startswith("kvmcluster.")}


def test_salt_lists_the_extension(salt_session):
    detail = sh(SALT_CALL.with_name("salt"), "--versions-report")
    assert "saltext.kvmcluster" in detail or "saltext-kvmcluster" in detail


def test_the_minions_own_loader_has_every_function_and_state(salt_session):
    assert ours(salt_session.run("alpha", "sys.list_functions", "kvmcluster")) >= FUNCTIONS
    assert ours(salt_session.run("alpha", "sys.list_state_functions", "kvmcluster")) >= STATES


def test_the_master_has_every_runner_and_the_outputter(runners, salt_session):
    assert ours(runners) >= RUNNERS
    assert "kvmcluster" in salt.loader.outputters(dict(salt_session.master.config))


@pytest.fixture(scope="module")
def runners(salt_session):
    return salt.loader.runner(dict(salt_session.master.config))


def documented(functions, *, at_least):
    """Return the docstrings of ours by full name."""
    names = [f"kvmcluster.{name}" for name in ours(functions)]
    assert len(names) >= at_least
    return {name: functions[name].__doc__ for name in names}


def test_every_function_is_documented_with_an_example(salt_session):
    for name, text in documented(salt_session.functions, at_least=4).items():
        assert re.search(rf"{EXAMPLE}.* {name}", text), name


def test_salt_knows_the_options_of_migrate(salt_session, runners):
    spec = salt_session.run("alpha", "sys.argspec", "kvmcluster.migrate")["kvmcluster.migrate"]
    assert spec["args"][:4] == ["guest", "destination", "live", "bandwidth"]
    assert not spec["varargs"]
    text = salt_session.run("alpha", "sys.doc", "kvmcluster.migrate")["kvmcluster.migrate"]
    assert "MiB/s that one guest's memory" in text


WRONG = [
    (["check", "gest=web1"], "unknown argument 'gest'; did you mean guest?"),
    (["drain", "node1", "tset=True"], "unknown argument 'tset'; did you mean test?"),
    (["migrate", "web1", "banwidth=5"], "did you mean bandwidth?"),
    (["drain"], "node is missing"),
    (["cancel", "web1", "lab", "more"], "1 argument too many"),
    (["drain", "alpha", "node=beta"], "node is given twice"),
    (["react", "reacton=trust"], "did you mean reaction?"),
]


@pytest.mark.parametrize(("words", "sentence"), WRONG, ids=lambda value: str(value)[:30])
def test_a_runner_refuses_what_is_no_argument_of_it(salt_run, words, sentence):
    name, *arguments = words
    done = salt_run("--log-level=quiet", f"kvmcluster.{name}", *arguments)
    printed = done.stdout.decode()
    assert done.returncode == 1 and sentence in printed
    assert len(printed.splitlines()) == 1, printed


def test_a_node_refuses_what_is_no_argument_and_takes_salts_own(salt_session):
    for words, sentence in (
        (["check", "gest=web1"], "did you mean guest?"),
        (["cordon"], "reason is missing"),
        (["job", "web1", "web2"], "1 argument too many"),
    ):
        name, *arguments = words
        detail = salt_session.run("alpha", f"kvmcluster.{name}", *arguments)
        assert sentence in detail and "CLI Example" not in detail


def test_salt_run_shows_the_documentation(salt_run):
    done = salt_run("-d", "kvmcluster.drain")
    assert done.returncode == 0 and b"salt-run kvmcluster.drain node1" in done.stdout


def test_every_runner_is_documented_with_an_example(runners):
    for name, text in documented(runners, at_least=3).items():
        assert re.search(rf"{EXAMPLE}-run {name}", text), name


def test_every_state_is_documented_with_an_example_that_is_yaml(salt_session):
    for name, text in documented(salt_session.states[False], at_least=4).items():
        example = yaml.safe_load(text.partition(".. code-block:: yaml")[2])
        assert next(iter(next(iter(example.values())))) == name


@pytest.fixture
def without_libvirt(kvm, keys, tmp_path):
    """A function that runs salt-call where libvirt-python is not installed."""
    put_key(keys / "alpha")
    blocked = tmp_path / "path"
    blocked.mkdir()
    (blocked / "libvirt.py").write_text("raise ImportError('No module named libvirt')\n")
    pillar = {"kvmcluster": {"name": "test", "nodes": {"alpha": None, "beta": None}}}
    (tmp_path / "minion").write_text(
        json.dumps(
            {
                "id": "alpha",
                "file_client": "local",
                "root_dir": str(tmp_path / "root"),
                "pillar": pillar,
                "enable_fqdns_grains": False,
                "enable_gpu_grains": False,
            }
        )
    )

    def call(*words, code=0):
        command = [SALT_CALL, "-c", tmp_path, "--local", "--log-level=quiet", "--out=json", *words]
        data = json.dumps(pillar)
        if words[0].startswith("kvmcluster."):
            (tmp_path / "pillar").mkdir(exist_ok=True)
            (tmp_path / "pillar" / "top.sls").write_text("base: {'*': [it]}")
            (tmp_path / "pillar" / "it.sls").write_text(f"#!json\n{data}")
        roots = f"--pillar-root={tmp_path / 'pillar'}"
        return sh(*command, roots, code=code, env={**os.environ, "PYTHONPATH": str(blocked)})

    return call


def test_without_libvirt_trust_works(without_libvirt, keys):
    detail = json.loads(without_libvirt("kvmcluster.identity"))["local"]
    assert detail["cluster_key"] in (keys / "alpha.pub").read_text()


def test_without_libvirt_migrate_says_what_to_install(without_libvirt):
    detail = without_libvirt("kvmcluster.migrate", "web1", "beta", code=1)
    assert "libvirt-python" in detail and "install" in detail and "Traceback" not in detail
