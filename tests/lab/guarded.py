"""A lab that kvmcluster.orch.ha has set up, and what is seen of its guests from outside.

What counts is a guest's QEMU processes on all nodes, and what the guest itself wrote.
"""

import contextlib
import datetime
import itertools
import os
import pathlib
import threading
import time
from xml.etree import ElementTree

from kvmlab import cluster, guests, pacemaker, processes, services
from labs import FAULTS, MASTER, VOLUME, Lab, Pillar

HA = "kvmcluster.orch.ha"
MEMBERS = 300
SETTLED = 240
# Whether anybody, on whichever node, has locked a file: it asks for the lock, and takes none.
LOCKED = """
import fcntl, os, struct, sys
F_OFD_GETLK, FLOCK = 36, "hhqqi4x"
with open(sys.argv[1], "rb") as file:
    lock = struct.pack(FLOCK, fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0)
    found = struct.unpack(FLOCK, fcntl.fcntl(file, F_OFD_GETLK, lock))
sys.exit(found[0] == fcntl.F_UNLCK)
"""


class Disorder(Exception):
    """The lab is not as it has to be; nothing can be judged in it."""


class Guarded:
    """Nodes with Corosync, Pacemaker and fencing, and guests that come back."""

    def __init__(self, lab, homes):
        self.lab, self.homes = lab, homes
        os.environ["KVMCLUSTER_LAB"] = lab.environment["KVMCLUSTER_LAB"]
        self.place = cluster.current()

    def prepare(self):
        failed = [name for name, state in self.lab.prepare().items() if not state["result"]]
        if failed:
            raise Disorder(f"not prepared: {failed}")
        for name, home in self.homes.items():
            self.lab.guest(name, home)
        pillar = Pillar(pathlib.Path(self.lab.ctl("pillar").stdout.strip()))
        listed = {name: {"ha": True} for name in self.homes}
        pillar.cluster["guests"] |= {"path": "/srv/guests", "list": listed}
        board = {"agent": "fence_kvmlab", "nodes": self.lab.nodes}
        pillar.cluster["ha"] = {"fencing": {"devices": {"board": board}}}
        pillar.save()
        self.lab.refresh_pillar()
        done = self.lab.ctl("salt-run", "--", "state.orchestrate", HA, check=False, timeout=900)
        if done.returncode:
            raise Disorder(f"{HA}: {done.stdout[-3000:]}{done.stderr[-1000:]}")
        self.settle()

    # ---- Pacemaker

    def responds(self, node):
        """Whether Pacemaker is at work on a node, as seen from outside."""
        if not processes.find(self.place, node):
            return False
        pids = services.running(self.place, node)[0]["pacemaker"]
        return bool(pids) and not any(map(services.is_stopped, pids))

    def asked(self, *but):
        """Return a node that can be asked what Pacemaker says."""
        return next(one for one in self.lab.nodes if one not in but and self.responds(one))

    def crm(self, *command, but=(), timeout=120):
        return self.lab.ctl("exec", self.asked(*but), "--", *command, check=False, timeout=timeout)

    def settle(self):
        """Wait until every node is a member with its storage, and Pacemaker has nothing to do."""
        for what, is_so in (("a member", self.is_member), ("with its storage", self.has_volume)):
            end = time.monotonic() + MEMBERS
            while missing := [one for one in self.lab.nodes if not is_so(one)]:
                if time.monotonic() > end:
                    raise Disorder(f"not {what} again: {', '.join(missing)}")
                time.sleep(1)
        self.crm("crm_resource", "--wait", f"--timeout={SETTLED}", timeout=SETTLED + 30)

    def is_member(self, node):
        with contextlib.suppress(StopIteration):
            state = pacemaker.monitor(self.place, self.asked())
            path = f"nodes/node[@name='{node}'][@online='true'][@pending='false']"
            return state is not None and state.find(path) is not None
        return False

    def known(self, name):
        """Return where Pacemaker says that a guest runs."""
        found = pacemaker.found_on(self.place, self.asked(), f"kvmcluster-{name}")
        return sorted(found)

    def fenced(self, node):
        """Return when a node was fenced, in seconds since 1970, as those know who saw it."""
        # Without the last word it is only the oldest one.
        history = ("stonith_admin", "--history", node, "--output-as=xml", "--verbose")
        found = self.crm(*history, but=[node]).stdout
        events = ElementTree.fromstring(found).iterfind(".//fence_event[@status='success']")
        times = (one.get("completed").replace("Z", "+00:00") for one in events)
        return sorted(datetime.datetime.fromisoformat(one).timestamp() for one in times)

    # ---- what is seen

    def is_locked(self, name):
        """Whether a guest's disk is locked, as its storage says."""
        words = ("python3", "-c", LOCKED, f"{VOLUME}/{name}.img")
        return self.lab.ctl("exec", MASTER, "--", *words, check=False).returncode == 0

    def has_volume(self, place):
        words = f"mountpoint -q {VOLUME} && touch {VOLUME}/.there"
        there = ("timeout", "5", "sh", "-c", words)
        return self.lab.ctl("exec", place, "--", *there, check=False).returncode == 0

    def qemus(self, name):
        """Return the guest's QEMU process by node."""
        return services.qemus(self.place, name)

    def everywhere(self):
        """Return every guest's QEMU process by node; a node that is off has none."""
        found = {name: {} for name in self.homes}
        for node in self.lab.nodes:
            first = processes.find(self.place, node)
            for pid, line in (processes.processes_in(first) if first else {}).items():
                if (guest := services.guest_of(line)) in found:
                    found[guest][node] = pid
        return found

    def silent(self, seconds=60):
        """Wait until every guest writes; return those that do not."""
        last = {name: record["last"] for name, record in self.records().items()}
        end = time.monotonic() + seconds
        while last and time.monotonic() < end:
            last = {name: at for name, at in last.items() if self.record(name)["last"] == at}
            time.sleep(0.2)
        return sorted(last)

    def record(self, name):
        return guests.record(self.place, name).to_dict()

    def records(self):
        return {name: self.record(name) for name in self.homes}

    def faults(self, before):
        """Say which numbers were lost, repeated or doubled since records were taken."""
        wrong = []
        for name, then in before.items():
            now = self.record(name)
            for fault in FAULTS:
                if new := len(now[fault]) - len(then[fault]):
                    wrong.append(f"{name}: {new} numbers {fault}")
        return wrong

    def stray(self):
        """Say where guests are that are not on one node, where Pacemaker has them."""
        wrong = []
        for name in self.homes:
            nodes = sorted(self.qemus(name))
            if len(nodes) != 1:
                wrong.append(f"{name} runs on {', '.join(nodes) or 'no node'}")
            elif self.known(name) != nodes:
                wrong.append(f"Pacemaker has {name} on {self.known(name)}, it is on {nodes}")
        return wrong


class Watch(threading.Thread):
    """Looks at all QEMU processes until it is ended; knows where each guest was, one by one.

    For as long as a guest is moved there are two processes, of which one does not run: whether it
    ran twice is what its record tells.
    """

    def __init__(self, bench):
        super().__init__(daemon=True)
        self.bench, self.over, self.begun = bench, threading.Event(), time.monotonic()
        self.paths = {name: [] for name in bench.homes}

    def run(self):
        while not self.over.wait(0.5):
            now = round(time.monotonic() - self.begun, 1)
            for name, nodes in self.bench.everywhere().items():
                if not self.paths[name] or self.paths[name][-1][1] != nodes:
                    self.paths[name].append((now, nodes))

    def end(self):
        self.over.set()
        self.join(60)

    def told(self):
        """Return the paths of guests that did not stay as they were."""
        return {name: path for name, path in self.paths.items() if len(path) > 1}

    def against(self, meant):
        """Say which guests did not go the way that was meant."""
        wrong = []
        for name, path in self.paths.items():
            alone = [next(iter(nodes)) for _, nodes in path if len(nodes) == 1]
            moves = sum(one != other for one, other in itertools.pairwise(alone))
            if name not in meant.touched and len(path) > 1:
                wrong.append(f"{name} was touched, and was not meant")
            elif moves > meant.moves:
                wrong.append(f"{name} moved {moves} times: {' '.join(alone)}")
            if alone and alone[-1] != meant.ends.get(name, alone[-1]):
                wrong.append(f"{name} is on {alone[-1]}, not on {meant.ends[name]}")
        return wrong


@contextlib.contextmanager
def bench_of(name, homes):
    """A lab with guests that come back, which is taken down in the end."""
    lab = Lab(name)
    lab.ctl("down")
    lab.ctl("up", "--ha", timeout=900)
    try:
        bench = Guarded(lab, homes)
        bench.prepare()
        yield bench
    finally:
        lab.ctl("down")
