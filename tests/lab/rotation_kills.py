"""Kills of the steps by which a node's cluster key is replaced, and of the command on the master.

The steps are those of ``kvmcluster.rotate``, asked for by its own engine; only Salt's jobs and its
mine are this process: a whole command costs many seconds, a step by itself less than one.
"""

import queue
import threading
import time
from typing import ClassVar

from labs import Call
from trust_runs import Disorder, Runner

from saltext_kvmcluster.core.pillar import parser
from saltext_kvmcluster.engine import rotator

KEY = "/root/.ssh/id_ed25519_cluster"
KEYS = "/root/.ssh/authorized_keys2"
RECORD = "/var/lib/kvmcluster/rotation.json"
# The questions of one whole command in their order, and how often a kill falls on each.
STEPS = {
    ("kvmcluster.rotation", 0): 1,
    ("kvmcluster.rotation_begin", 0): 5,
    ("kvmcluster.rotation_accept", 0): 4,
    ("kvmcluster.rotation_swap", 0): 6,
    ("kvmcluster.rotation_swap", 1): 2,
    ("kvmcluster.rotation_accept", 1): 4,
    ("kvmcluster.rotation_end", 0): 3,
}
OLD_MINE = 0.15
"""How often a node takes from the mine what was published before the last time."""


class CommandKilled(Exception):
    """The command on the master was killed; what it had begun on nodes goes on."""


class Terminal:
    """The console of the command, where nobody looks."""

    def interrupted(self):
        return False

    def show(self, line):
        pass


class Clock:
    """Time in which nothing waits: the mine is as late as the series wants."""

    monotonic = staticmethod(time.monotonic)

    def wait(self, call, seconds):
        pass


class Nodes:
    """The nodes as the engine asks them, one of which is killed at one step.

    kill
        At which step, whom (a node, or None: the command), and when; see trust_runner.py.
    """

    def __init__(self, series, chance, kill=None):
        self.cluster, self.all, self.clock = series.cluster, series.lab.nodes, Clock()
        self.series, self.chance, self.kill = series, chance, kill
        self.seen, self._asked = None, {}

    def ask(self, nodes, function, *arguments, within=0.0):
        number = self._asked[function] = self._asked.get(function, -1) + 1
        whom, moment = None, {}
        if self.kill and self.kill[0] == (function, number):
            _, whom, moment = self.kill
            if whom is None:
                self.series.begin_steps(self.chance, nodes, function, arguments)
                time.sleep(moment["seconds"])
                self.seen = {"killed": True, "last": "the command", "after": moment["seconds"]}
                raise CommandKilled
        calls = self.series.begin_steps(self.chance, nodes, function, arguments, whom, moment)
        found = {node: call.end() for node, call in calls.items()}
        if whom is not None:
            self.seen = found[whom]
        return {node: one["answer"] for node, one in found.items() if "answer" in one}


class Rotation:
    """``kvmcluster.rotate`` of any node, killed at any step; then the same command completes."""

    SSH: ClassVar = {"key_type": "ed25519"}  # Another is made in no time.

    def __init__(self, lab, pillar):
        self.lab, self.pillar = lab, pillar
        self.cluster = parser.from_pillar(pillar.data)
        # Two on each node: a command is repeated while what the killed one had begun goes on.
        self.all = {node: [Runner(lab, node) for _ in range(2)] for node in lab.nodes}
        self.free = {node: queue.Queue() for node in lab.nodes}
        self.mine = {node: [] for node in lab.nodes}
        self.got, self.asked = {}, {}
        self.events, self.lengths = {}, {}
        self._lock = threading.Lock()

    def begin(self):
        for node, runners in self.all.items():
            for runner in runners:
                runner.await_ready()
                self.free[node].put(runner)
        for node in self.lab.nodes:
            self._step(node, ["kvmcluster.rotation", node], {}, {})
            self.mine[node] = [self._step(node, ["kvmcluster.identity"], {}, {})["answer"]]

    def close(self):
        for node, runners in self.all.items():
            for runner in runners:
                self.free[node].get(timeout=120)
                runner.close()

    def begin_steps(self, chance, nodes, function, arguments, whom=None, moment=None):
        """Begin a step on nodes at once; return the calls that are under way."""
        return {
            node: Call(
                self._step,
                node,
                [function, *arguments],
                self._filed(node, late=chance.random() < OLD_MINE),
                moment if node == whom else {},
            )
            for node in nodes
        }

    def _filed(self, reader, late):
        """Return what a node gets of the mine: it never goes back, and is late only once."""
        with self._lock:
            found = {}
            for node, published in self.mine.items():
                newest = len(published) - 1
                late = late and self.asked.get((reader, node), -1) < newest
                at = max(self.got.get((reader, node), 0), newest - 1) if late else newest
                self.got[reader, node], self.asked[reader, node] = at, newest
                found[node] = published[at]
        return found

    def _step(self, node, call, mine, moment):
        runner = self.free[node].get(timeout=180)
        try:
            seen = runner.run(pillar=self.pillar.data, call=call, mine=mine, **(moment or {}))
        finally:
            self.free[node].put(runner)
        with self._lock:
            if "published" in seen:
                self.mine[node].append(seen["published"])
            if not seen["killed"]:
                self.events[call[0]], self.lengths[call[0]] = seen["events"], seen["after"]
        return seen

    def run(self, chance):
        """Kill once, and return what there is to tell."""
        node = chance.choice(self.lab.nodes)
        before = self.fingerprint(node)
        nodes = Nodes(self, chance, self.moment(chance, node))
        step, whom, _ = nodes.kill
        row, wrong = {}, []
        try:
            row = rotator.rotate(nodes, Terminal(), [node], False)["nodes"][0]
        except CommandKilled:
            row = {"result": "killed", "reason": ""}
        seen = nodes.seen or {"killed": False, "last": "", "after": 0.0}
        if not seen["killed"] and row["result"] != "replaced":
            wrong.append(f"without a kill: {row['result']}: {row['reason']}")
        return {
            **{key: seen[key] for key in ("killed", "last", "after")},
            "node": node,
            "step": f"{step[0].partition('.')[2]} {step[1] + 1}",
            "of": whom or "the command",
            "result": row["result"],
            "reason": row["reason"],
            "written": self.fingerprint(node) != before,
            "wrong": wrong,
        }

    def moment(self, chance, node):
        """Return a step, whom to kill there, and when: at what it does to files, or at any time."""
        step = chance.choices([*STEPS], [*STEPS.values()])[0]
        function = step[0]
        length = self.lengths.get(function, 1.0)
        if chance.random() < 0.15:
            return step, None, {"seconds": round(chance.uniform(0, length), 4)}
        asks_all = function in ("kvmcluster.rotation", "kvmcluster.rotation_accept")
        whom = chance.choice(self.lab.nodes) if asks_all else node
        if chance.random() < 0.6:
            return step, whom, {"event": chance.randint(1, self.events.get(function, 20))}
        return step, whom, {"seconds": round(chance.uniform(0, length), 4)}

    def completed(self, tale, chance):
        """Have the same command complete; return what is wrong then."""
        node = tale["node"]
        row = rotator.rotate(Nodes(self, chance), Terminal(), [node], False)["nodes"][0]
        if row["result"] != "replaced":
            return [f"the same command: {row['result']}: {row['reason']}"]
        key = self.fingerprint(node)
        wrong = [] if key == row["key"] else [f"{node} has {key}, and {row['key']} is told"]
        if self.fingerprint(node, f"{KEY}.pub") != key:
            wrong.append(f"the public half at {node} is another one")
        left = self.lab.exec(node, "sh", "-c", f"ls {KEY}.next* {RECORD} 2> /dev/null; true")
        wrong += [f"left behind at {node}: {path}" for path in left.split()]
        for here in self.lab.nodes:
            lines = self.lab.exec(here, "ssh-keygen", "-l", "-f", KEYS).splitlines()
            found = [line.split()[1] for line in lines if line.split()[2].endswith(f"/{node}")]
            if found != [key]:
                wrong.append(f"{here} accepts {node} by {found}")
        return wrong

    def fingerprint(self, node, path=KEY):
        words = self.lab.exec(node, "ssh-keygen", "-l", "-f", path).split()
        if len(words) < 2:
            raise Disorder(f"{node} has no key at {path}")
        return words[1]
