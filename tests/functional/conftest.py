"""A real master and two real minions in the sandbox, and the world put back before every test.

``alpha`` is the node under test: its ssh files, sshd and accounts are the sandbox's own.
``beta`` is the second member; what it publishes is the tests' choice. Both answer on loopback.
"""

import contextlib
import json
import logging
import os
import pathlib
import pwd
import shutil

import pytest
from saltline import CommandLines
from sandbox import (
    CHECKOUT,
    ETC_SSH,
    HOSTS,
    NODES,
    NOTED,
    REACTING,
    SALT,
    SSH,
    Salt,
    clear_mounts,
    contents,
    in_sandbox,
    listening,
    published,
    put_key,
    restart_sshd,
    sh,
)

MINION = {
    "enable_fqdns_grains": False,
    "enable_gpu_grains": False,
    "acceptance_wait_time": 0.5,
    "log_level_logfile": "warning",
}


def pytest_configure(config):
    if not in_sandbox():
        raise pytest.UsageError(
            "these tests write to /root/.ssh and /etc/ssh, so they run in the sandbox only:"
            " lab/ctl sandbox -- .venv/bin/pytest tests/functional (or: make functional)"
        )
    for handler in logging.root.handlers[:]:  # Salt's, which would outlive its own stream
        logging.root.removeHandler(handler)
        handler.close()
    logging.root.setLevel(logging.WARNING)
    SALT.mkdir(exist_ok=True)
    (SALT / "tmp").mkdir(exist_ok=True)
    os.environ["TMPDIR"] = str(SALT / "tmp")
    config.option.basetemp = SALT / "pytest"


@pytest.fixture(scope="session")
def salt_factories_config():
    return {
        "root_dir": SALT,
        "code_dir": str(CHECKOUT),
        "inject_sitecustomize": False,
        "slow_stop": False,
        # What is started beside much else takes its time; that is no failure.
        "start_timeout": 600,
    }


def reacts(request):
    """Whether the master follows events: what puts things right would spoil all other tests."""
    return {item.path.name for item in request.session.items} == {"test_reactor.py"}


@pytest.fixture(scope="session")
def salt_master(request, salt_factories):
    pathlib.Path("/etc/hosts").write_text(HOSTS)
    (SALT / "pillar").mkdir()
    (SALT / "states").mkdir()
    top = {"base": {node: [node] for node in NODES}}
    (SALT / "pillar" / "top.sls").write_text(json.dumps(top))
    for node in NODES:
        (SALT / "pillar" / f"{node}.sls").write_text("{}")
    overrides = {
        "auto_accept": True,
        "file_roots": {"base": [str(CHECKOUT / "states"), str(SALT / "states")]},
        "pillar_roots": {"base": [str(SALT / "pillar")]},
        "worker_threads": 3,
        "log_level_logfile": "warning",
        **(REACTING if reacts(request) else {}),
    }
    factory = salt_factories.salt_master_daemon("master", overrides=overrides)
    with factory.started():
        yield factory


@pytest.fixture(scope="session")
def salt_minions(salt_master):
    with contextlib.ExitStack() as stack:
        minions = {}
        for node in NODES:
            minions[node] = salt_master.salt_minion_daemon(node, overrides=MINION)
            stack.enter_context(minions[node].started())
        yield minions


@pytest.fixture(scope="session")
def command_lines():
    lines = CommandLines()
    yield lines
    lines.close()


@pytest.fixture
def salt_run(kvm, command_lines):
    """A function that runs salt-run as an administrator does, with what it prints as bytes."""

    def run(*words, config=kvm.master.config_dir):
        return command_lines.run("salt-run", "-c", config, *words)

    return run


@pytest.fixture(scope="session")
def pristine(tmp_path_factory):
    """A copy of /etc/ssh as the sandbox made it."""
    copy = tmp_path_factory.mktemp("pristine") / "ssh"
    shutil.copytree(ETC_SSH, copy)
    return copy


@pytest.fixture(scope="session")
def keys(tmp_path_factory):
    """Key pairs to begin from: making an RSA key takes a second."""
    folder = tmp_path_factory.mktemp("keys")
    kinds = {
        "alpha": ("rsa", "4096"),
        "weak": ("rsa", "2048"),
        "beta": ("ed25519", "256"),
        "other": ("ed25519", "256"),
        "elliptic": ("ecdsa", "256"),
    }
    for name, (kind, bits) in kinds.items():
        comment = f"kvmcluster/test/{name}"
        path = folder / name
        sh("ssh-keygen", "-q", "-t", kind, "-b", bits, "-N", "", "-C", comment, "-f", path)
    return folder


@pytest.fixture
def fresh(pristine):
    """The node before anything was done: no ~/.ssh, the distribution's sshd."""
    clear_mounts()
    NOTED.unlink(missing_ok=True)
    NOTED.with_name("identities.json").unlink(missing_ok=True)
    shutil.rmtree(SSH, ignore_errors=True)
    os.chmod("/root", 0o700)
    if contents(ETC_SSH) != contents(pristine):
        for path in ETC_SSH.iterdir():
            shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
        shutil.copytree(pristine, ETC_SSH, dirs_exist_ok=True)
        restart_sshd()
    elif not listening():
        restart_sshd()
    yield
    clear_mounts()


@pytest.fixture(scope="session")
def salt_session(salt_master, salt_minions):
    return Salt(salt_master, salt_minions)


@pytest.fixture
def kvm(salt_session, fresh):
    """Salt, the plain cluster in the pillar, and a node before anything was done."""
    salt_session.pillar()
    return salt_session


@pytest.fixture
def member(kvm, keys, filed):
    """Like ``kvm``, with a fit key in its place and both members' identities in the mine."""
    put_key(keys / "alpha")
    return kvm


@pytest.fixture
def filed(salt_session, keys, pristine):
    """The identities in the mine; whatever a test put there is gone."""
    wanted = {node: published(keys, node) for node in NODES}
    for node, data in wanted.items():
        if salt_session.filed(node) != data:
            salt_session.publish(node, data)
    return wanted


@pytest.fixture
def sshd(pristine):
    """A function that puts lines into sshd's configuration, early or last, and has sshd read it."""

    def configure(*lines, end=""):
        text = (pristine / "sshd_config").read_text()
        head, include, tail = text.rpartition("Include /etc/ssh/sshd_config.d/*.conf\n")
        wanted = "\n".join([head + include, *lines, tail, end, ""])
        (ETC_SSH / "sshd_config").write_text(wanted)
        restart_sshd()

    return configure


def remove_account(name):
    """Remove an account, though a session of it may still be ending.

    Without --force that fails. A home that a test put elsewhere is not removed, which is no fault.
    """
    sh("userdel", "--force", "--remove", name, code=None)
    with pytest.raises(KeyError):
        pwd.getpwnam(name)


@pytest.fixture
def migrator(kvm):
    """An account that is not root, made anew; the cluster's login."""
    sh("useradd", "--create-home", "--shell", "/bin/sh", "--password", "*", "migrator")
    kvm.pillar(login="migrator")
    yield pathlib.Path("/home/migrator")
    clear_mounts()
    remove_account("migrator")
    shutil.rmtree("/home/migrator", ignore_errors=True)


@pytest.fixture
def outsider(fresh):
    """An account that has nothing to do with the cluster."""
    sh("useradd", "--create-home", "outsider")
    yield "outsider"
    remove_account("outsider")
