"""A lab with Pacemaker, and what a command to a guest did there.

What a command said is held against what is seen for a while afterwards: QEMU's processes on all
nodes, what Pacemaker says, and what the guests themselves wrote.
"""

import contextlib
import dataclasses
import os
import pathlib
import time
from collections.abc import Callable

from kvmlab import cluster, guests, pacemaker, processes, services
from labs import FAULTS, Pillar, until

# Pacemaker's monitor comes every 10 s, and what follows of it some seconds later.
AFTERWARDS = 15
HOME = "node1"
# Pacemaker manages the first as a resource of its name, the second as one of another name, in a
# group, and the third not at all.
GUESTS = ("web1", "db1", "free1")
RESOURCES = {"web1": "web1", "db1": "vm-database"}
OUTERMOST = {"web1": "web1", "db1": "database"}
GROUP = """<group id="database">{}<primitive id="after" class="ocf" provider="heartbeat"
type="Dummy"/></group>"""
# QEMU's image lock keeps a second copy from a file; a network disk shows it.
DISKS = {"web1": "nbd", "db1": "gluster", "free1": "nbd"}
# Where a guest may be in the end, beside a node's name.
NOWHERE, SOMEWHERE, ELSEWHERE = [], "one node", "another node"
JOURNAL = "/var/lib/kvmcluster/journal"
MOVE = ("virsh", "migrate", "--live", "--p2p")


@dataclasses.dataclass(frozen=True)
class Said:
    """What came of a command: its exit code, and all that it printed."""

    code: int
    text: str


@dataclasses.dataclass(frozen=True)
class Seen:
    """A guest: the QEMU processes by node, where Pacemaker says that it runs, and its record."""

    processes: dict
    known: list | None
    record: dict

    @property
    def nodes(self):
        return sorted(self.processes)


@dataclasses.dataclass(frozen=True)
class Attempt:
    """A command, and what is wanted of it.

    ``arrange`` brings the lab into a state for as long as its context lasts, ``ends`` is where
    guests are in the end that are not where they were, ``restarts`` those that may have started
    again.
    """

    name: str
    act: Callable
    refused: bool = True
    words: tuple = ("Pacemaker",)
    arrange: Callable = contextlib.nullcontext
    ends: dict = dataclasses.field(default_factory=dict)
    restarts: tuple = ()

    @property
    def is_plain(self):
        """Whether it is to be refused as the lab is at first."""
        return self.refused and self.arrange is contextlib.nullcontext


class Bench:
    """A lab of three nodes with Pacemaker and three guests, all of which are at home at first."""

    def __init__(self, lab):
        self.lab = lab
        os.environ["KVMCLUSTER_LAB"] = lab.environment["KVMCLUSTER_LAB"]
        self.place = cluster.current()

    def prepare(self):
        failed = [name for name, state in self.lab.prepare().items() if not state["result"]]
        assert not failed, failed
        pillar = Pillar(pathlib.Path(self.lab.ctl("pillar").stdout.strip()))
        listed = {name: {"home": HOME} for name in GUESTS}
        pillar.cluster["guests"] |= {"path": "/srv/guests", "list": listed}
        pillar.save()
        self.lab.refresh_pillar()
        for name in GUESTS:
            self.make(name)

    def make(self, name):
        self.lab.guest(name, HOME, "--disk", DISKS[name])
        if name == "web1":
            self.lab.ctl("manage", name)
        elif name in RESOURCES:
            resource = pacemaker.GUEST.format(name=RESOURCES[name], path=f"/srv/guests/{name}.xml")
            create = ("cibadmin", "--create", "--scope", "resources", "--xml-text")
            self.crm(*create, GROUP.format(resource))
            until(lambda: self.known(name) == [HOME], f"Pacemaker knows {name}")

    def remove(self, name):
        if name in RESOURCES:
            self.meta(name, "target-role", "Stopped")
            path = f"//*[@id='{OUTERMOST[name]}']"
            self.crm("cibadmin", "--delete", "--force", "--xpath", path)
        self.lab.stop_guest(name)
        # Its next one has another UUID, and would not be told from what is noted of this one.
        for node in self.lab.nodes:
            self.lab.exec(node, "sh", "-c", f"rm -f {JOURNAL}/*")

    # ---- nodes and Pacemaker

    def responds(self, node):
        """Whether Pacemaker is at work on a node, as seen from outside."""
        if not processes.find(self.place, node):
            return False
        pids = services.running(self.place, node)[0]["pacemaker"]
        return bool(pids) and not any(map(services.is_stopped, pids))

    def asked(self):
        """Return a node that can be asked what Pacemaker says."""
        return next(node for node in reversed(self.lab.nodes) if self.responds(node))

    def crm(self, *command, check=True):
        return self.lab.exec(self.asked(), *command, check=check)

    def settle(self):
        self.crm("crm_resource", "--wait", "--timeout=90", check=False)

    def meta(self, name, option, value=None):
        words = ["crm_resource", "-r", RESOURCES[name], "--meta"]
        self.crm(*words, *(["-d", option] if value is None else ["-p", option, "-v", value]))
        self.settle()

    def await_members(self):
        pacemaker.wait_for(self.place, self.lab.nodes)
        self.settle()

    # ---- what is seen

    def qemus(self, name):
        """Return the guest's QEMU process by node."""
        return services.qemus(self.place, name)

    def known(self, name):
        """Return where Pacemaker says that the guest runs; None if it is none of its own."""
        if name not in RESOURCES:
            return None
        return sorted(pacemaker.found_on(self.place, self.asked(), RESOURCES[name]))

    def has_restarted(self, name):
        """Whether the guest writes since it was started a second time."""
        return self.look(name).record["boots"] > 1

    def look(self, name):
        judgement = guests.record(self.place, name).to_dict()
        record = {key: judgement[key] for key in (*FAULTS, "boots", "last")}
        return Seen(self.qemus(name), self.known(name), record)

    def look_at_all(self):
        return {name: self.look(name) for name in GUESTS}

    # ---- commands

    def said(self, *words, timeout=300):
        done = self.lab.ctl(*words, check=False, timeout=timeout)
        return Said(done.returncode, " ".join((done.stdout + done.stderr).split()))

    def runner(self, function, *words):
        return self.said("salt-run", "--", f"kvmcluster.{function}", *words)

    def module(self, node, function, *words):
        return self.said("salt", "--", node, f"kvmcluster.{function}", *words)

    # ---- attempts

    def carry_out(self, attempt):
        """Try it, and return what there is to tell of it."""
        begun, first = time.monotonic(), self.look_at_all()
        with attempt.arrange(self):
            arranged = self.look_at_all()
            said = attempt.act(self)
            took = time.monotonic() - begun
            twice = self._watch(AFTERWARDS)
            after = self.look_at_all()
        last = self.look_at_all()
        wrong = [f"{name} runs twice: {nodes}" for name, nodes in twice.items()]
        wrong += answered(attempt, said)
        for name in GUESTS:
            wrong += _changes(attempt, name, arranged[name], after[name])
            wrong += _broken(name, first[name].record, last[name])
        return {
            "attempt": attempt.name,
            "code": said.code,
            "said": said.text[-1500:],
            "took": round(took, 1),
            "wrong": wrong,
            "arranged": {name: seen.nodes for name, seen in arranged.items()},
            "after": {name: seen.nodes for name, seen in after.items()},
            "records": {name: seen.record for name, seen in last.items()},
        }

    def _watch(self, seconds):
        """Return the guests that are seen on several nodes meanwhile."""
        found, end = {}, time.monotonic() + seconds
        while time.monotonic() < end:
            for name in GUESTS:
                nodes = sorted(self.qemus(name))
                if len(nodes) > 1:
                    found[name] = nodes
            time.sleep(0.5)
        return found

    def uncordon(self):
        """Have guests go to all nodes again, and forget what was begun with nodes."""
        self.lab.ask(self.lab.nodes, "kvmcluster.uncordon")
        self.lab.ask(self.lab.nodes, "kvmcluster.unstandby")
        self.lab.exec("master", "rm", "-rf", "/var/cache/salt/master/kvmcluster")

    def put_in_order(self):
        """Have all guests at home and whole, and all nodes open and members."""
        self.await_members()
        self.uncordon()
        self.crm("crm_resource", "--cleanup", check=False)
        for name in GUESTS:
            if not self._bring_home(name):
                self.remove(name)
                self.make(name)

    def _bring_home(self, name):
        """Move a guest home; return whether it is there, and has neither stopped nor lost a number.

        A guest that has started again has a broken record, and is made anew.
        """
        record = self.look(name).record
        if not self.qemus(name) or record["boots"] != 1 or any(record[fault] for fault in FAULTS):
            return False
        if self.qemus(name).keys() == {HOME}:
            return True
        if name in RESOURCES:
            resource = ("crm_resource", "-r", OUTERMOST[name])
            self.crm(*resource, "--move", "-N", HOME, check=False)
            self.settle()
            self.crm(*resource, "--clear", check=False)
            self.settle()
        else:
            (node,) = self.qemus(name)
            self.lab.exec(node, *MOVE, name, f"qemu+ssh://{HOME}-mig/system", check=False)
        return self.qemus(name).keys() == {HOME}


def answered(attempt, said):
    """Say what is wrong with what a command said."""
    wrong = [f"it does not say {word}" for word in attempt.words if word not in said.text]
    if "Traceback" in said.text:
        wrong.append("no plain words")
    if attempt.refused and said.code == 0:
        wrong.append("it was not refused")
    if not attempt.refused and said.code:
        wrong.append("it was refused")
    return wrong


def _changes(attempt, name, before, after):
    """Say what has become of a guest that should not have."""
    expected = attempt.ends.get(name, before.nodes)
    if expected in (SOMEWHERE, ELSEWHERE):
        fits = len(after.nodes) == 1 and (expected == SOMEWHERE or after.nodes != before.nodes)
    else:
        fits = after.nodes == ([expected] if isinstance(expected, str) else expected)
    if not fits:
        return [f"{name} runs on {after.nodes or 'no node'}, not on {expected or 'none'}"]
    if name in attempt.restarts:
        return []
    wrong = []
    if name not in attempt.ends and after.processes != before.processes:
        wrong.append(f"{name} is another QEMU than before")
    if after.record["boots"] != before.record["boots"]:
        wrong.append(f"{name} started again")
    return wrong


def _broken(name, before, after):
    """Say what is wrong by a guest's own record, and by what Pacemaker knows of it."""
    wrong = []
    for fault in FAULTS:
        new = len(after.record[fault]) - len(before[fault])
        if new > 0:
            wrong.append(f"{name}: {new} numbers {fault}")
    if after.known not in (None, after.nodes):
        wrong.append(f"Pacemaker takes {name} for running on {after.known}, not on {after.nodes}")
    return wrong
