"""The contract with libvirt, on real parts."""

import contextlib
import json
import pathlib
import subprocess
import sys
import time

import pytest
from labs import LOGIN

from saltext_kvmcluster.core.errors import WorldError
from saltext_kvmcluster.core.verdicts import Observation, Sighting

pytest.register_assert_rewrite("contract")
import contract  # noqa: E402
from contract import *  # noqa: E402, F403

ROOT = pathlib.Path(__file__).resolve().parents[2]
AGENT = ROOT / "tests" / "contract" / "agent.py"
NODES = ("node1", "node2")

pytestmark = pytest.mark.nightly


class Agent:
    """A node's libvirt, through a process of ours on that node."""

    def __init__(self, lab, node):
        command = [str(ROOT / "lab" / "ctl"), "exec", node, "--", sys.executable, str(AGENT)]
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=lab.environment,
        )

    def ask(self, verb, *arguments):
        print(json.dumps([verb, *arguments]), file=self._process.stdin, flush=True)
        reported = json.loads(self._process.stdout.readline())
        if "error" in reported:
            raise WorldError(reported["error"])
        if "observation" in reported:
            found = reported["observation"]
            return Observation(**{**found, "sighting": Sighting(found["sighting"])})
        return reported["value"]

    def close(self):
        self._process.stdin.close()
        self._process.wait(30)


class Bench:
    def __init__(self, lab, agents):
        self.lab, self.agents = lab, agents
        self.uuid = agents["node1"].ask("by_name", contract.GUEST).uuid
        self._healing = []

    def begin(self, source, destination, *flags, live=True, **parameters):
        name = f"{destination}-mig"
        ways = ("LIVE", "PEER2PEER") if live else ("PEER2PEER",)
        connection = f"qemu+ssh://{LOGIN}@{name}/system?no_tty=1"
        given = {"URI": f"tcp:{name}", **parameters}
        return source, self.ask(source, "begin", self.uuid, [*ways, *flags], connection, given)

    def words(self, call, seconds=90):
        node, number = call
        end = time.monotonic() + seconds
        while (detail := self.ask(node, "ended", number)) is None:
            assert time.monotonic() < end, "the migration does not end"
            time.sleep(0.1)
        return detail

    def ask(self, node, verb, *arguments):
        return self.agents[node].ask(verb, *arguments)

    def fault(self, words):
        verb, what, node = words.split()
        if verb == "cut":
            self.lab.ctl("cut", node)
            self._healing.append(("heal", node))
        elif what == "qemu":
            self.lab.ctl("kill", node, f"qemu:{contract.GUEST}")
        else:
            self.lab.ctl("kill", node, what)
            self._healing.append(("start", node, what))

    def heal(self):
        while self._healing:
            self.lab.ctl(*self._healing.pop())

    def break_post_copy(self, node):
        self.ask(node, "break_post_copy", self.uuid)

    def alive(self):
        command = ("pgrep", "-f", f"guest={contract.GUEST},")
        return {node for node in NODES if self.lab.exec(node, *command, check=False).split()}

    def wait(self, seconds):
        time.sleep(seconds)

    def clean(self):
        """Leave nothing of the guest on any node."""
        self.heal()
        for node in NODES:
            for verb in ("destroy", "undefine"):
                with contextlib.suppress(WorldError):
                    self.ask(node, verb, self.uuid)
            if not self._is_gone(node):
                self._restart_libvirt(node)

    def _is_gone(self, node):
        """Whether the guest is soon listed no more.

        Where a QEMU whose storage hung could not be killed in time, libvirt 11.3 goes on to list
        its guest, which is neither active nor defined, and refuses another one of that name.
        """
        for _ in range(20):
            with contextlib.suppress(WorldError):
                if contract.GUEST not in self.ask(node, "names"):
                    return True
            time.sleep(0.25)
        return False

    def _restart_libvirt(self, node):
        self.lab.ctl("kill", node, "libvirtd", check=False)
        self.lab.ctl("start", node, "libvirtd")
        with contextlib.suppress(WorldError):
            self.ask(node, "names")  # The broken connection says so once.


@pytest.fixture(scope="module")
def agents(prepared_lab):
    with contextlib.ExitStack() as stack:
        found = {node: Agent(prepared_lab, node) for node in NODES}
        for agent in found.values():
            stack.callback(agent.close)
        yield found


@pytest.fixture
def bench(prepared_lab, agents):
    prepared_lab.guest(contract.GUEST, "node1")
    found = Bench(prepared_lab, agents)
    yield found
    found.clean()
    prepared_lab.stop_guest(contract.GUEST)


# libvirt's own connection to QEMU is free while the daemon is dead. The memory goes nowhere.
FORGOTTEN = """import glob, json, socket
(path,) = glob.glob("/var/lib/libvirt/qemu/domain-*-contract/monitor.sock")
qemu = socket.socket(socket.AF_UNIX)
qemu.settimeout(20)
qemu.connect(path)
lines = qemu.makefile()
json.loads(lines.readline())

def ask(command, **arguments):
    qemu.sendall(json.dumps({"execute": command, "arguments": arguments}).encode() + b"\\n")
    while True:
        answer = json.loads(lines.readline())
        if "event" not in answer:
            return answer["return"]

ask("qmp_capabilities")
held = {"capability": "pause-before-switchover", "state": True}
ask("migrate-set-capabilities", capabilities=[held])
ask("migrate", uri="exec:cat > /dev/null")
while ask("query-migrate")["status"] != "pre-switchover":
    pass
"""


def test_a_migration_that_libvirt_has_forgotten_is_cancelled(bench):
    bench.fault("kill libvirtd node1")
    bench.lab.exec("node1", "timeout", "60", "python3", "-c", FORGOTTEN)
    bench.heal()
    contract.until(
        bench,
        lambda: contract.observe(bench, "node1").sighting is Sighting.PAUSED_FOR_MIGRATION,
    )
    bench.ask("node1", "resume_stopped", bench.uuid)
    assert contract.observe(bench, "node1").sighting is Sighting.RUNNING
    assert bench.words(bench.begin("node1", "node2")) == ""
    assert contract.observe(bench, "node2").sighting is Sighting.RUNNING
