"""The lab as tests see it: one cluster for the session, prepared, and taken down at the end."""

import contextlib
import json
import os
import pathlib
import subprocess

import pytest
import yaml

ROOT = pathlib.Path(__file__).resolve().parents[2]
# The files that take longest come first, so that none is left over for one process in the end.
LONGEST = ["rolling", "drain", "recover", "check", "migrate", "pacing", "reactor", "start", "queue"]
PREPARE = ("state.orchestrate", "kvmcluster.orch.prepare")


def pytest_collection_modifyitems(items):
    def place(item):
        name = item.path.stem.removeprefix("test_")
        return LONGEST.index(name) if name in LONGEST else len(LONGEST)

    items.sort(key=place)


class Lab:
    """Commands to a running lab; a command that fails raises with what it printed."""

    def __init__(self, name):
        self.environment = {**os.environ, "KVMCLUSTER_LAB": name}
        self.nodes = ["node1", "node2", "node3"]

    def ctl(self, *arguments, check=True, timeout=180, stdin=None):
        done = subprocess.run(
            [str(ROOT / "lab" / "ctl"), *map(str, arguments)],
            capture_output=True,
            timeout=timeout,
            env=self.environment,
            input=None if stdin is None else stdin.encode(),
        )
        done.stdout, done.stderr = done.stdout.decode(), done.stderr.decode()
        if check and done.returncode:
            raise AssertionError(
                f"lab/ctl {arguments}: {done.returncode}\n{done.stdout}{done.stderr}"
            )
        return done

    def exec(self, node, *command, check=True, timeout=120, stdin=None):
        """Run a command on a node and return what it printed."""
        return self.ctl(
            "exec", node, "--", *command, check=check, timeout=timeout, stdin=stdin
        ).stdout

    def read(self, node, path):
        return self.exec(node, "cat", path)

    def write(self, node, path, text):
        self.exec(node, "tee", path, stdin=text)

    def salt(self, node, function, *arguments, timeout=180, patience=120):
        """Run a function on a node through the master and return what it returned.

        patience
            Seconds before Salt asks the minion whether it is still at work; on a busy machine the
            minion may be too late to say so.
        """
        done = self.ctl(
            "salt",
            "--",
            "--out=json",
            "--static",
            f"--timeout={patience}",
            node,
            function,
            *arguments,
            check=False,
            timeout=timeout,
        )
        return _json(done)[node]

    def salt_code(self, node, function, *arguments):
        """Return the exit code that an administrator gets."""
        return self.ctl("salt", "--", node, function, *arguments, check=False).returncode

    def run(self, function, *arguments, timeout=300):
        """Run a runner function on the master and return its data."""
        done = self.ctl(
            "salt-run", "--", "--out=json", function, *arguments, check=False, timeout=timeout
        )
        return _json(done)

    def prepare(self, *arguments):
        """Run the orchestration and return its states by id, in order."""
        data = self.run(*PREPARE, *arguments)["data"]
        states = next(iter(data.values()))
        ordered = sorted(states.values(), key=lambda state: state["__run_num__"])
        return {state["__id__"]: state for state in ordered}

    def apply(self, node, sls, *arguments):
        """Apply an SLS on a node and return its states by id."""
        states = self.salt(node, "state.apply", sls, *arguments)
        assert isinstance(states, dict), states
        return {state["__id__"]: state for state in states.values()}

    def guest(self, name, on, *arguments):
        self.ctl("guest", name, "--on", on, *arguments)

    def stop_guest(self, name):
        self.ctl("guest", name, "--stop", check=False)

    def record(self, name):
        """Return what the guest's own disk and consoles show."""
        return json.loads(self.ctl("record", name, "--json", check=False).stdout)

    @contextlib.contextmanager
    def pillar(self):
        """Yield the ``kvmcluster`` pillar for changes; the old one is put back at the end."""
        path = pathlib.Path(self.ctl("pillar").stdout.strip())
        before = path.read_text(encoding="utf-8")
        try:
            yield Pillar(path)
        finally:
            path.write_text(before, encoding="utf-8")


class Pillar:
    """The lab's pillar file."""

    def __init__(self, path):
        self.path = path
        self.data = yaml.safe_load(path.read_text(encoding="utf-8"))
        self.cluster = self.data["kvmcluster"]

    def save(self):
        self.path.write_text(yaml.safe_dump(self.data), encoding="utf-8")


def _json(done):
    try:
        return json.loads(done.stdout)
    except ValueError:
        raise AssertionError(f"not JSON:\n{done.stdout}\n{done.stderr}") from None


@pytest.fixture(scope="session")
def bare_lab():
    """A lab with nothing prepared yet; each of several processes has one of its own."""
    worker = os.environ.get("PYTEST_XDIST_WORKER", "").removeprefix("gw")
    name = os.environ.get("KVMCLUSTER_LAB", "test") + worker
    lab = Lab(name)
    lab.ctl("down")
    lab.ctl("up", timeout=300)
    try:
        yield lab
    finally:
        lab.ctl("down")


@pytest.fixture(scope="session")
def first_prepare(bare_lab):
    """What the first run of the orchestration returned."""
    return bare_lab.prepare()


@pytest.fixture(scope="session")
def prepared_lab(bare_lab, first_prepare):
    """A lab whose nodes trust each other."""
    failed = {
        name: state["comment"] for name, state in first_prepare.items() if not state["result"]
    }
    assert not failed
    return bare_lab


@pytest.fixture
def lab(prepared_lab):
    return prepared_lab
