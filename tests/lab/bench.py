"""A lab with one guest in it, as a series of faulted migrations needs it."""

import concurrent.futures
import contextlib
import itertools
import json
import os
import re
import subprocess
import time

import libvirt
from cases import DISKS
from faults import AFTER, ASKED, BOTH, COPYING, EDGE, GONE, SOURCE, SWITCH
from judging import Sight, is_clean, reported
from kvmlab import cluster, guests, plan, processes, services, spoiling
from watching import RESUMED, SOCKET, STOPPED, SUSPENDED, Watch

libvirt.registerErrorHandler(lambda context, error: None, None)

HISTORY = "/var/lib/kvmcluster/history"
JOURNAL = "/var/lib/kvmcluster/journal"
NAMESPACE = "urn:saltext-kvmcluster:handover"
# Seconds for a migration to answer, a job to end, a guest to be settled.
LONGEST = 150
# Seconds for libvirt to notice that a QEMU process has gone.
NOTICED = 20
CONF = "/etc/libvirt"
CONFIGURATION = {
    "libvirtd.conf": """
log_filters="1:qemu.qemu_migration 1:qemu.qemu_process 3:rpc 4:util"
log_outputs="1:file:/var/log/libvirt/libvirtd.log"
""",
}


class Disorder(Exception):
    """The lab is not in order: this says nothing about a migration."""


def returned(detail, node):
    """What salt said that a node returned, None where it says that it did not."""
    with contextlib.suppress(ValueError, KeyError):
        found = json.loads(detail)[node]
        if isinstance(found, dict) or (found and "did not return" not in found):
            return found
    return None


class Bench:
    """A lab with one guest in it.

    ``options``: further arguments of each migration. ``watch``: what libvirt tells of the guest.
    ``route``: source and destination of the migration that is under way. ``pause``: the seconds
    between two faults.
    """

    def __init__(self, lab, options=()):
        self.lab, self.options = lab, options
        # Started from here and not by lab/ctl, what is done takes no time for a Python to start.
        os.environ["KVMCLUSTER_LAB"] = lab.environment["KVMCLUSTER_LAB"]
        self.place = cluster.current()
        self.first = {name: processes.need(self.place, name) for name in self.place.places}
        self.daemons = {}
        self.guest = self.uuid = self.disk = ""
        self.route, self.pause = (), 0.0
        self.watch = self.asked = self.second = None

    def nodes_of(self, fault):
        """Return the nodes on which a fault happens."""
        return self.route if fault.side == BOTH else (self.route[fault.side != SOURCE],)

    def exec(self, node, script):
        """Run a shell script on a node; return its exit code and what it printed."""
        line = processes.entering(self.first[node], ["sh", "-c", script])
        done = subprocess.run(line, capture_output=True, text=True, timeout=LONGEST)
        return done.returncode, done.stdout

    def prepare(self):
        """Have libvirt's daemons write down what they do."""
        for node, (name, text) in itertools.product(self.lab.nodes, CONFIGURATION.items()):
            self.exec(node, f"cp {CONF}/{name} {CONF}/{name}.before")
            self.lab.exec(node, "tee", "-a", f"{CONF}/{name}", stdin=text)
        self.restart_libvirt()

    def leave(self):
        """Leave the lab as it was."""
        if self.guest:
            self.lab.stop_guest(self.guest)
        for node, name in itertools.product(self.lab.nodes, CONFIGURATION):
            self.exec(node, f"mv {CONF}/{name}.before {CONF}/{name}")
        self.restart_libvirt()

    def restart_libvirt(self):
        for node in self.lab.nodes:
            services.kill(self.place, node, "libvirtd")
            services.start(self.place, node, "libvirtd")

    def booted(self, node):
        """Find a node again that was off."""
        self.first[node] = processes.need(self.place, node)
        self.daemons.pop(node, None)

    def new_guest(self, disk=DISKS[0]):
        """Begin with a new guest, of a new name: nothing of the old one's disk is in a cache."""
        if self.guest:
            self.lab.stop_guest(self.guest)
        self.guest, self.disk = f"fault{time.monotonic_ns() // 10**6}", disk
        for node in self.lab.nodes:
            self.exec(node, f"rm -f {JOURNAL}/*")
        self.lab.guest(self.guest, self.lab.nodes[0], "--dirty", "2", "--disk", disk)
        self.uuid = self.lab.exec(self.lab.nodes[0], "virsh", "domuuid", self.guest).strip()

    # -- calls of the tool

    def call(self, node, function, *words):
        command = ["salt", "--out=json", "--static", "--timeout=60", node, function, *words]
        line = processes.entering(self.first[plan.MASTER], command)
        return subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    def migrate(self, patience):
        """Call for the migration of its route, and hear all that libvirt tells of it."""
        source, destination = self.route
        self.watch = Watch(self.lab.nodes, self.first, self.uuid)
        words = (self.guest, destination, f"patience={patience}", *self.options)
        self.asked, self.second = self.call(source, "kvmcluster.migrate", *words), None

    def call_is_over(self):
        return self.asked.poll() is not None

    def call_again(self, source):
        """Have the same guest migrated elsewhere at the same time."""
        other = next(node for node in self.lab.nodes if node not in self.route)
        self.second = self.call(source, "kvmcluster.migrate", self.guest, other, "patience=5")
        return True

    def answer(self, call, node, began, mute):
        """Return what a call returned, and where that was found; None where nobody answers.

        An answer may get lost between minion and master; then the node's history has it.
        """
        end, free_since = time.monotonic() + LONGEST, None
        while call.poll() is None:
            if self.at_work(node):
                free_since = None
            elif free_since is None:
                free_since = time.monotonic()
            elif time.monotonic() - free_since > (1 if mute else 10):
                break
            if time.monotonic() > end:
                raise Disorder(f"no answer in {LONGEST} s")
            with contextlib.suppress(subprocess.TimeoutExpired):
                call.wait(0.5)
        if call.poll() is None:
            call.terminate()
        detail, _ = call.communicate()
        if found := returned(detail, node):
            return found, "salt"
        for line in self.exec(node, f"cat {HISTORY}")[1].splitlines()[::-1]:
            record = json.loads(line)
            if record["uuid"] == self.uuid and record["started"] >= began:
                return record, "history"
        return None, ""

    def at_work(self, node):
        """Whether the node's minion has a job."""
        return self.exec(node, "pgrep -f '[P]rocessPayload.jid'")[0] == 0

    def recovered(self, node, wanted):
        """Have a node recover the guest until it says whose it is; return its last answer.

        wanted
            Whether it must be able to say that.
        """
        end = time.monotonic() + LONGEST / 3
        for tries in range(1, 100):
            detail, _ = self.call(node, "kvmcluster.recover", self.guest).communicate(
                timeout=LONGEST
            )
            found = returned(detail, node)
            if found is None and time.monotonic() > end + LONGEST:
                raise Disorder(f"{node} does not answer: {detail}")
            if isinstance(found, str):
                return {"refused": found, "tries": tries}
            if found and (found["owner"] or not wanted or time.monotonic() > end):
                return {**found, "tries": tries}
            time.sleep(1)

    def operate(self, recovered, observation):
        """Type what `recover` says, as who knows whether the guest ran on elsewhere; say what.

        It is known by the numbers on its consoles, and by what libvirt told meanwhile; Disorder
        if `recover` does not say it.
        """
        source, destination = self.route
        waits = any(sight.waits for sight in observation.values())
        outdated = self.went_on() if waits else self.last_writer() != source
        node = destination if waits else source
        command = f"virsh {'destroy' if outdated else 'resume'} {self.guest}"
        if not any(f"on {node}: {command}" in line for line in recovered["commands"]):
            raise Disorder(f"nothing for an operator to do: {recovered['commands']}")
        self.lab.exec(node, *command.split())
        return f"{node}: {command}"

    def went_on(self):
        """Whether the guest ran on at its source after its last stop there."""
        stops = [when for when, *what in self.watch.heard if what[:2] == [self.route[0], SUSPENDED]]
        return not stops or self.watch.at(self.route[0], RESUMED, since=stops[-1]) is not None

    # -- the right moment

    def approach(self, case, share=0.3):
        """Wait until a part of the memory has been sent: time enough to make something ready."""
        began = False
        while not self.call_is_over():
            observed = self.observed(self.route[0])
            began = began or "done" in observed
            if observed.get("done", 0) >= share or (began and "done" not in observed):
                return
            time.sleep(0.05)

    def wait_for(self, case):
        """Wait for a moment of a migration, or its end; return what was seen of it last."""
        source = self.route[0]
        if case.moment in (EDGE, GONE):
            what = SUSPENDED if case.moment == EDGE else STOPPED
            when = self.watch.wait(source, what, self.call_is_over)
            if when is None:
                return self.observed(source)
            pause = case.after_the_stop if case.moment == EDGE else 0.0
            time.sleep(max(0.0, when + pause - time.monotonic()))
            return {"state": libvirt.VIR_DOMAIN_PAUSED, "after": round(pause, 4)}
        if case.moment == ASKED:
            time.sleep(case.share * 2)
            return self.observed(source)
        self.approach(case, {COPYING: 0.05 + 0.8 * case.share, SWITCH: 0.88, AFTER: 2}[case.moment])
        if case.moment in (SWITCH, AFTER):
            time.sleep(case.share * 0.4)
        return self.observed(source)

    def observed(self, source):
        """What the source's daemon says of the guest at this moment, asked past all namespaces."""
        try:
            domain = self.daemon(source).lookupByUUIDString(self.uuid)
            job = domain.jobStats()
            state = {"state": domain.state()[0]}
        except libvirt.libvirtError as error:
            self.daemons.pop(source, None)
            return {"detail": str(error)}
        if not job.get("memory_total"):
            return state
        return {**state, "done": round(1 - job["memory_remaining"] / job["memory_total"], 3)}

    def daemon(self, node):
        """A connection to a node's daemon, a new one if the last one was lost."""
        known = self.daemons.get(node)
        if known is None or not known.isAlive():
            socket = processes.inside_path(self.first[node], SOCKET)
            known = self.daemons[node] = libvirt.open(f"qemu+unix:///system?socket={socket}")
        return known

    # -- looks

    def observe(self):
        """Look at the guest on all nodes; what libvirt was still doing there is waited for.

        So is, for a while, that it learns of the end of a process.
        """
        begun = time.monotonic()
        while True:
            with concurrent.futures.ThreadPoolExecutor() as pool:
                sights = pool.map(self.sight, self.lab.nodes)
                observation = dict(zip(self.lab.nodes, sights, strict=True))
            lasted = time.monotonic() - begun
            at_work = any(sight.job for sight in observation.values())
            torn = any(sight.has_no_process for sight in observation.values())
            if not (at_work and lasted < LONGEST) and not (torn and lasted < NOTICED):
                return observation
            time.sleep(0.5)

    def sight(self, node):
        script = (
            f"timeout 40 virsh -q domstate --reason {self.guest} 2>&1; echo ==;"
            f" timeout 40 virsh -q domjobinfo {self.guest} 2>&1; echo ==;"
            f" pgrep -f '[g]uest={self.guest},'; echo ==;"
            f" ls {JOURNAL}/{self.uuid}.json 2>/dev/null; echo ==;"
            f" timeout 40 virsh -q metadata {self.guest} {NAMESPACE} 2>/dev/null"
        )
        detail = self.exec(node, script)[1].split("==")
        state, job, process, entry, mark = map(str.strip, detail)
        if "failed to get domain" in state:
            state, job = "absent", ""
        job = job.partition("\n")[0].removeprefix("Job type:").strip()
        return Sight(state, "" if job == "None" else job, bool(process), bool(entry), bool(mark))

    def last_writer(self):
        """Return the node on whose console the highest number is."""
        script = f"tail -n 5 /var/log/guests/{self.guest}.console 2>/dev/null"
        numbers = {
            node: re.findall(r"<(\d{10})>", self.exec(node, script)[1]) for node in self.lab.nodes
        }
        highest = {node: max(map(int, found), default=0) for node, found in numbers.items()}
        return max(highest, key=highest.get)

    def record(self):
        return guests.record(self.place, self.guest).to_dict()

    def writes_on(self, last):
        """Whether the guest has written more than ``last``, or does so soon."""
        end = time.monotonic() + 60
        while self.record()["last"] <= last:
            if time.monotonic() > end:
                return False
            time.sleep(0.3)
        return True

    # -- order

    def status(self):
        """Return the lines of lab/ctl status, by place."""
        lines = cluster.status().splitlines()[1:]
        return {line.split()[0]: line for line in lines}

    def put_in_order(self, case):
        """Mend all; Disorder if that fails."""
        for node, line in self.status().items():
            if "GONE" in line:
                spoiling.mend(self.place, node, spoiling.BOOT)
                self.booted(node)
            for word, verb in (("STOPPED", "cont"), ("DOWN", "start")):
                for service in re.findall(rf"([\w-]+) {word}", line):
                    self.lab.ctl(verb, node, service)
            if "CUT" in line:
                self.lab.heal(node)
        for node in self.lab.nodes:
            self.exec(node, "iptables -F OUTPUT")
        bad = [line for line in self.status().values() if re.search("STOPPED|DOWN|CUT|GONE", line)]
        if bad:
            raise Disorder("not mended: " + "; ".join(bad))
        self.wait_for_minions(case)

    def forget_guest(self):
        """Take note that the next migration needs a new guest."""
        self.disk = ""

    def have_guest(self, disk):
        """See to it that there is a guest, in order and on this kind of disk; look at it."""
        if self.disk != disk:
            self.new_guest(disk)
        observation = self.observe()
        if not is_clean(observation):
            raise Disorder(f"the guest is not in order: {reported(observation)}")
        return observation

    def wait_for_minions(self, case):
        """Wait until every minion answers, if it may be that one does not."""
        if not re.search("minion|management|both networks|disk|power", case.name):
            return
        words = ("--static", "--out=json", "--timeout=3", "*", "test.ping")
        for _ in range(10):
            done = self.lab.ctl("salt", "--", *words, check=False)
            with contextlib.suppress(ValueError):
                if all(json.loads(done.stdout).get(node) is True for node in self.lab.nodes):
                    return
        raise Disorder(f"not every minion answers: {done.stdout}")
