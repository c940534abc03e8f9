"""Real faults at random moments of real migrations, and what came of each.

As a program (``make faults``) it goes on where the last call stopped: FAULTS says how many
migrations in all, KVMCLUSTER_LAB which lab, KVMCLUSTER_FAULTS_FILE where the outcome of each one
is appended as a line of JSON.

A seed says what goes wrong, on which side, when, and for how long. What is compared: what
kvmcluster.migrate returned, what libvirt and /proc show on every node once the fault has healed,
what kvmcluster.recover makes of it, and what the guest itself wrote meanwhile.
"""

import concurrent.futures
import contextlib
import dataclasses
import datetime
import itertools
import json
import os
import pathlib
import random
import re
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable

import libvirt

HERE = pathlib.Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parents[1] / "lab")]

import conftest  # noqa: E402
from kvmlab import cluster, guests, network, plan, processes, services, spoiling  # noqa: E402

libvirt.registerErrorHandler(lambda context, error: None, None)

HISTORY = "/var/lib/kvmcluster/history"
JOURNAL = "/var/lib/kvmcluster/journal"
BEFORE, ASKED, COPYING, SWITCH, AFTER = "before", "asked", "copying", "switch", "after"
LIBVIRT_SOCKET = "/run/libvirt/libvirt-sock"
# Seconds for a migration to answer, a job to end, a guest to be settled.
LONGEST = 150
# Seconds for libvirt to notice that a QEMU process has gone.
NOTICED = 20
# Its disk is full after 131,071.
MOST_NUMBERS = 15_000
CONF = "/etc/libvirt"
CONFIGURATION = {
    "libvirtd.conf": """
log_filters="1:qemu.qemu_migration 1:qemu.qemu_process 3:rpc 4:util"
log_outputs="1:file:/var/log/libvirt/libvirtd.log"
""",
}


class Disorder(Exception):
    """The lab is not in order: this says nothing about a migration."""


# ---- what goes wrong, and when ----


def does(verb, *words):
    """Return a deed; it returns whether there was something to do it to.

    words
        Further arguments of the verb; {guest} stands for the guest's name.
    """

    def deed(bench, node):
        reported = [
            word.format(guest=bench.guest) if isinstance(word, str) else word for word in words
        ]
        try:
            verb(bench.place, node, *reported)
        except plan.LabError:
            return False
        return True

    return deed


@dataclasses.dataclass(frozen=True)
class Fault:
    """One kind of fault: ``begin`` makes it on the node of that ``side``, ``end`` heals it.

    ``kills`` says whether it ends a QEMU process, ``mute`` whether nobody is left to answer.
    """

    name: str
    side: str
    begin: Callable = lambda bench, node: True
    end: Callable = lambda bench, node: True
    moments: tuple = (ASKED, COPYING, SWITCH, AFTER)
    kills: bool = False
    mute: bool = False


def either(name, *deeds, **more):
    return [Fault(f"{name}, {side}", side, *deeds, **more) for side in ("source", "destination")]


def cut(name):
    cable = network.set_link, [name]
    return either(f"{name} network cut", does(*cable, "down"), does(*cable, "up"))


def spoilt(kind):
    return does(spoiling.spoil, kind), does(spoiling.mend, kind)


EARLY = (BEFORE, ASKED, COPYING, SWITCH)
NONE = Fault("none", "source")
FAULTS = [
    NONE,
    Fault("QEMU killed, source", "source", does(services.kill, "qemu:{guest}"), kills=True),
    Fault(
        "QEMU killed, destination",
        "destination",
        does(services.kill, "qemu:{guest}"),
        moments=(COPYING, SWITCH, AFTER),
        kills=True,
    ),
    *either("libvirtd killed", does(services.kill, "libvirtd"), does(services.start, "libvirtd")),
    *either("libvirtd hangs", does(services.stop, "libvirtd"), does(services.cont, "libvirtd")),
    Fault(
        "minion killed, source",
        "source",
        does(services.kill, "minion"),
        does(services.start, "minion"),
        mute=True,
    ),
    Fault(
        "job killed, source",
        "source",
        does(services.kill, "job"),
        moments=(COPYING, SWITCH),
        mute=True,
    ),
    Fault("ssh connection killed", "source", does(services.kill, "ssh"), moments=(COPYING, SWITCH)),
    *cut("management"),
    *cut("migration"),
    *either("disk full", *spoilt("disk"), EARLY),
    Fault(
        "minion gone, destination",
        "destination",
        does(services.kill, "minion"),
        does(services.start, "minion"),
        (BEFORE, COPYING),
    ),
    Fault("second call", "source", lambda bench, node: bench.call_again(node)),
    Fault("noise, destination", "destination", *spoilt("noise"), EARLY),
    Fault("banner, destination", "destination", *spoilt("banner"), (BEFORE, COPYING)),
    Fault("first contact", "source", *spoilt("known-hosts"), (BEFORE, ASKED)),
]


@dataclasses.dataclass(frozen=True)
class Case:
    """What a seed stands for.

    ``leg``: which of the other nodes is the destination. ``moment``: when the first fault begins;
    ``share``, from 0 to 1, says how far in that. ``lasting``: seconds until all heals, None for
    after the answer. ``pause``: seconds between two faults. ``speed``: MiB/s. ``asked``: which
    node is to recover.
    """

    seed: int
    faults: tuple
    leg: int
    moment: str
    share: float
    lasting: float | None
    pause: float
    speed: int
    patience: int
    asked: int

    @classmethod
    def of(cls, seed, brief=False):
        """Draw a case; a brief one has a single fault that heals soon."""
        chance = random.Random(f"faults {seed}")
        first = FAULTS[seed % len(FAULTS)]
        others = [fault for fault in FAULTS[1:] if fault is not first]
        double = chance.random() < 0.25 and first is not NONE and seed >= 2 * len(FAULTS)
        long = chance.random() < 0.2
        return cls(
            seed=seed,
            faults=(first, chance.choice(others)) if double and not brief else (first,),
            leg=chance.randrange(2),
            moment=chance.choice(first.moments),
            share=round(chance.random(), 3),
            lasting=None if long and not brief else round(chance.uniform(0.1, 4.0), 2),
            pause=round(chance.uniform(0.0, 1.0), 2),
            speed=chance.choice((32, 48, 64)),
            patience=chance.choice((3, 6, 15)),
            asked=chance.randrange(3),
        )

    @property
    def name(self):
        return " + ".join(fault.name for fault in self.faults)


# ---- what is seen ----


@dataclasses.dataclass(frozen=True)
class Sight:
    """The guest on one node: libvirt's words for its state and job, its process, its journal."""

    state: str
    job: str
    process: bool
    journal: bool

    @property
    def runs(self):
        return self.state.startswith("running")

    @property
    def has_no_process(self):
        """Whether libvirt has not noticed yet that there is none any more."""
        return self.state.startswith(("running", "paused")) and not self.process

    @property
    def absent(self):
        return self.state == "absent" and not self.process


def running(observation):
    return [node for node, sight in observation.items() if sight.runs]


def is_clean(observation):
    """Whether the guest runs on one node and nothing of it is on any other."""
    rest = [sight for sight in observation.values() if not sight.runs]
    return len(rest) == len(observation) - 1 and all(sight.absent for sight in rest)


def reported(observation):
    return {node: dataclasses.asdict(sight) for node, sight in observation.items()}


def returned(detail, node):
    """What salt said that a node returned, None where it says that it did not."""
    with contextlib.suppress(ValueError, KeyError):
        found = json.loads(detail)[node]
        if isinstance(found, dict) or (found and "did not return" not in found):
            return found
    return None


class Bench:
    """A lab with one guest in it."""

    def __init__(self, lab):
        self.lab = lab
        # Started from here and not by lab/ctl, what is done takes no time for a Python to start.
        os.environ["KVMCLUSTER_LAB"] = lab.environment["KVMCLUSTER_LAB"]
        self.place = cluster.current()
        self.first = {name: processes.need(self.place, name) for name in self.place.places}
        self.daemons = {}
        self.guest = self.uuid = ""
        self.route = ()
        self.second = None

    def node_of(self, fault):
        return self.route[fault.side == "destination"]

    def exec(self, node, script):
        """Run a shell script on a node; return its exit code and what it printed."""
        line = processes.entering(self.first[node], ["sh", "-c", script])
        done = subprocess.run(line, capture_output=True, text=True, timeout=LONGEST)
        return done.returncode, done.stdout

    def prepare(self):
        """Have libvirt's daemons write down what they do, and begin with a new guest."""
        for node, (name, text) in itertools.product(self.lab.nodes, CONFIGURATION.items()):
            self.exec(node, f"cp {CONF}/{name} {CONF}/{name}.before")
            self.lab.exec(node, "tee", "-a", f"{CONF}/{name}", stdin=text)
        self.restart_libvirt()
        self.new_guest()

    def leave(self):
        """Leave the lab as it was."""
        self.lab.stop_guest(self.guest)
        for node, name in itertools.product(self.lab.nodes, CONFIGURATION):
            self.exec(node, f"mv {CONF}/{name}.before {CONF}/{name}")
        self.restart_libvirt()

    def restart_libvirt(self):
        for node in self.lab.nodes:
            services.kill(self.place, node, "libvirtd")
            services.start(self.place, node, "libvirtd")

    def new_guest(self):
        """Begin with a new guest, of a new name: nothing of the old one's disk is in a cache."""
        if self.guest:
            self.lab.stop_guest(self.guest)
        self.guest = f"fault{time.monotonic_ns() // 10**6}"
        for node in self.lab.nodes:
            self.exec(node, f"rm -f {JOURNAL}/*")
        self.lab.guest(self.guest, self.lab.nodes[0], "--dirty", "2")
        self.uuid = self.lab.exec(self.lab.nodes[0], "virsh", "domuuid", self.guest).strip()

    # -- calls of the tool

    def call(self, node, function, *words):
        command = ["salt", "--out=json", "--static", "--timeout=60", node, function, *words]
        line = processes.entering(self.first[plan.MASTER], command)
        return subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

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

    def operate(self, recovered, source):
        """Type what `recover` says, as who knows that the guest wrote nothing elsewhere; say what.

        It is known by the numbers on its consoles; Disorder if it did write, or if nothing is said.
        """
        resume = f"virsh resume {self.guest}"
        if self.last_writer() != source or not any(
            command.endswith(f"on {source}: {resume}") for command in recovered["commands"]
        ):
            raise Disorder(f"nothing for an operator to do: {recovered['commands']}")
        self.lab.exec(source, *resume.split())
        return f"{source}: {resume}"

    # -- the right moment

    def wait_for(self, case, source, call):
        """Wait for a moment of a migration, or its end; return what was seen of it last."""
        if case.moment == ASKED:
            time.sleep(case.share * 2)
            return self.observed(source)
        enough = {COPYING: 0.05 + 0.8 * case.share, SWITCH: 0.88, AFTER: 2}[case.moment]
        began = False
        while call.poll() is None:
            observed = self.observed(source)
            began = began or "done" in observed
            if observed.get("done", 0) >= enough or (began and "done" not in observed):
                break
            time.sleep(0.05)
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
            socket = processes.inside_path(self.first[node], LIBVIRT_SOCKET)
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
            f" ls {JOURNAL}/{self.uuid}.json 2>/dev/null"
        )
        detail = self.exec(node, script)[1].split("==")
        state, job, process, entry = map(str.strip, detail)
        if "failed to get domain" in state:
            state, job = "absent", ""
        job = job.partition("\n")[0].removeprefix("Job type:").strip()
        return Sight(state, "" if job == "None" else job, bool(process), bool(entry))

    def printed(self):
        """Return the highest number on the guest's console, by node."""
        script = f"tail -n 5 /var/log/guests/{self.guest}.console 2>/dev/null"
        numbers = {
            node: re.findall(r"<(\d{10})>", self.exec(node, script)[1]) for node in self.lab.nodes
        }
        return {node: max(map(int, found), default=0) for node, found in numbers.items()}

    def last_writer(self):
        """Return the node on whose console the highest number is."""
        highest = self.printed()
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

    def put_in_order(self, case, clean):
        """Mend all, and see to it that the guest is in order; Disorder if that fails."""
        for node, line in self.status().items():
            for word, verb in (("STOPPED", "cont"), ("DOWN", "start")):
                for service in re.findall(rf"([\w-]+) {word}", line):
                    self.lab.ctl(verb, node, service)
            if "CUT" in line:
                self.lab.heal(node)
        bad = [line for line in self.status().values() if re.search("STOPPED|DOWN|CUT|GONE", line)]
        if bad:
            raise Disorder("not mended: " + "; ".join(bad))
        if re.search("minion|management|disk", case.name):
            self.wait_for_minions()
        if not clean:
            self.new_guest()
        observation = self.observe()
        if not is_clean(observation):
            raise Disorder(f"the guest is not in order: {reported(observation)}")

    def wait_for_minions(self):
        words = ("--static", "--out=json", "--timeout=3", "*", "test.ping")
        for _ in range(10):
            done = self.lab.ctl("salt", "--", *words, check=False)
            with contextlib.suppress(ValueError):
                if all(json.loads(done.stdout).get(node) is True for node in self.lab.nodes):
                    return
        raise Disorder(f"not every minion answers: {done.stdout}")


# ---- one migration ----


def run(bench, case):
    """Carry a case out; return what there is to tell of it."""
    lab, started = bench.lab, time.monotonic()
    observation = bench.observe()
    if not is_clean(observation):
        raise Disorder(f"the guest is not in order: {reported(observation)}")
    (source,) = running(observation)
    at = lab.nodes.index(source)
    destination = lab.nodes[(at + 1 + case.leg) % len(lab.nodes)]
    bench.route, bench.second = (source, destination), None
    lab.exec(source, "virsh", "migrate-setspeed", bench.guest, str(case.speed))

    tale = {"seed": case.seed, "fault": case.name, "moment": case.moment, "lasting": case.lasting}
    tale |= {"source": source, "destination": destination, "at": utc()}
    if case.moment == BEFORE:
        begun = [begin(bench, case.faults[0])]
    words = (bench.guest, destination, f"patience={case.patience}")
    call = bench.call(source, "kvmcluster.migrate", *words)
    if case.moment != BEFORE:
        tale["seen"] = bench.wait_for(case, source, call)
        begun = [begin(bench, case.faults[0])]
    for fault in case.faults[1:]:
        time.sleep(case.pause)
        begun.append(begin(bench, fault))
    tale["begun"] = begun
    effective = [fault for fault, deed in zip(case.faults, begun, strict=True) if deed["effective"]]
    mute = any(fault.mute for fault in effective) and call.poll() is None
    if case.lasting is not None:
        time.sleep(case.lasting)
        end(bench, case)
    tale["answer"], tale["from"] = bench.answer(call, source, tale["at"], mute)
    if bench.second:
        tale["second"], _ = bench.answer(bench.second, source, tale["at"], mute)
    if case.lasting is None:
        end(bench, case)
    observation = bench.observe()
    tale["look"] = reported(observation)

    killed = {
        bench.node_of(fault): deed["at"]
        for fault, deed in zip(case.faults, begun, strict=True)
        if fault.kills and deed["effective"]
    }
    tale["own_qemu_killed"] = gone(observation) and any(
        node == bench.last_writer() or tale.get("seen", {}).get("state") != 1 for node in killed
    )
    answers = [found for found in (tale["answer"], tale.get("second")) if isinstance(found, dict)]
    wrong = [
        f"no plain words: {detail}" for detail in map(str, tale.values()) if "Traceback" in detail
    ]
    wrong += contradictions(answers, observation, killed, tale["own_qemu_killed"])
    node = lab.nodes[case.asked]
    tale["recovered"] = bench.recovered(node, wanted=not tale["own_qemu_killed"])
    observation = bench.observe()
    if is_for_an_operator(tale["recovered"], observation):
        tale["operator"] = bench.operate(tale["recovered"], source)
        tale["recovered"] = bench.recovered(node, wanted=True)
        observation = bench.observe()
    tale["look_again"] = reported(observation)
    wrong += left_over(tale["recovered"], observation, tale["own_qemu_killed"])
    record = tale["record"] = bench.record()
    wrong += [f"{word}: {record[word]}" for word in ("lost", "repeated", "doubled") if record[word]]
    if record["boots"] != 1:
        wrong.append(f"{record['boots']} boots")
    if is_clean(observation) and not bench.writes_on(record["last"]):
        wrong.append("it does not write any more")
    tale |= {"wrong": wrong, "took": round(time.monotonic() - started, 1)}
    # virtlogd writes no more of a console that it once could not write: evidence would be missing.
    silent = any("disk full" in fault.name for fault in effective)
    tale["clean"] = (
        not wrong and not silent and is_clean(observation) and record["last"] < MOST_NUMBERS
    )
    return tale


def utc():
    return stamp(datetime.datetime.now(datetime.timezone.utc))


def stamp(moment):
    return moment.isoformat(timespec="milliseconds")


def begin(bench, fault):
    deed = {"fault": fault.name, "at": utc()}
    return {**deed, "effective": fault.begin(bench, bench.node_of(fault))}


def end(bench, case):
    for fault in case.faults:
        fault.end(bench, bench.node_of(fault))


def gone(observation):
    return all(sight.absent for sight in observation.values())


def contradictions(answers, observation, killed, own):
    """Say where the world contradicts what was returned, or what never must be.

    killed
        When a QEMU process of it was killed, by node.
    """
    where, wrong = running(observation), []
    if len(where) > 1:
        wrong.append(f"RUNS TWICE: {where}")
    if gone(observation) and not own:
        wrong.append("LOST: it is nowhere, and its own QEMU was not killed")
    for answer in answers:
        if answer["result"] == "unknown":
            continue
        expected = answer["destination"] if answer["result"] == "moved" else answer["source"]
        if answer["owner"] != expected:
            wrong.append(f"{answer['result']}, but the owner is {answer['owner']}")
        died = gone(observation) and killed.get(answer["owner"], "") > last_seen(answer)
        if where != [answer["owner"]] and not died:
            wrong.append(f"{answer['result']} to {answer['owner']}, but it runs on {where}")
    return wrong


def last_seen(answer):
    """When a guest was looked at for an answer, less what may lie between a look and its end."""
    began = datetime.datetime.fromisoformat(answer["started"])
    return stamp(began + datetime.timedelta(seconds=answer["elapsed"] - 2))


def is_for_an_operator(recovered, observation):
    """Whether it waits at its source, is nowhere else, and nobody but a person can know why."""
    waiting = [sight for sight in observation.values() if sight.state == "paused (migrating)"]
    absent = [sight for sight in observation.values() if sight.absent]
    only = len(waiting) == 1 and len(absent) == len(observation) - 1
    return only and recovered.get("result") == "unknown"


def left_over(recovered, observation, own):
    """Say what is not settled though all has healed and the guest was recovered."""
    wrong = []
    if own:
        wrong += [] if gone(observation) else ["its QEMU was killed, and it is not gone"]
    elif "refused" in recovered:
        wrong.append(f"recover: {recovered['refused']}")
    elif not is_clean(observation):
        wrong.append("not settled after recover")
    elif [recovered["owner"]] != running(observation):
        wrong.append(f"recover says {recovered['owner']}, but it runs on {running(observation)}")
    return wrong + [
        f"{node}'s journal was not cleared" for node, sight in observation.items() if sight.journal
    ]


# ---- many of them ----


def carried_out(bench, case):
    """Run a case and put the lab in order again; that it could not be is told, too."""
    tale = {"seed": case.seed, "fault": case.name}
    try:
        tale = run(bench, case)
        if tale["wrong"]:
            tale["evidence"] = evidence(bench, case)
        bench.put_in_order(case, tale["clean"])
    except Exception as error:
        tale["disorder"] = f"{type(error).__name__}: {error}"
        tale.setdefault("evidence", evidence(bench, case))
    return tale


def evidence(bench, case):
    """Keep what daemons, QEMU and guest wrote; return the folder."""
    folder = results_file().with_suffix(".evidence") / f"{case.seed}-{int(time.time())}"
    logs = ("var/log/libvirt", "var/log/guests", "var/log/salt", "var/lib/kvmcluster")
    for node in bench.lab.nodes:
        (folder / node).mkdir(parents=True, exist_ok=True)
        command = ["exec", node, "--", "tar", "-C", "/", "-czf", "-", *logs]
        with open(folder / node / "logs.tar.gz", "wb") as archive:
            subprocess.run(
                [str(conftest.ROOT / "lab" / "ctl"), *command],
                stdout=archive,
                stderr=subprocess.DEVNULL,
                env=bench.lab.environment,
            )
    return str(folder)


def results_file():
    default = pathlib.Path("/var/tmp/kvmcluster-faults.jsonl")
    return pathlib.Path(os.environ.get("KVMCLUSTER_FAULTS_FILE", default))


def results():
    """Return what was told so far, the last word on each seed."""
    if not results_file().exists():
        return {}
    lines = results_file().read_text(encoding="utf-8").splitlines()
    return {tale["seed"]: tale for tale in map(json.loads, lines)}


def main():
    wanted = int(os.environ.get("FAULTS", "300"))
    done = {seed for seed, tale in results().items() if "disorder" not in tale}
    todo = [seed for seed in range(wanted) if seed not in done]
    print(f"{len(done)} migrations are in {results_file()}, {len(todo)} are to be done")
    if todo:
        work_off(todo)
    tales = results()
    print(table(tales.values()))
    write_document(tales.values())
    bad = [tale for tale in tales.values() if tale.get("wrong") or "disorder" in tale]
    return 1 if bad or len(tales) < wanted else 0


def work_off(seeds):
    """Carry out cases, each with its line in the file; a lab in disorder is built anew."""
    lab = conftest.Lab(os.environ.get("KVMCLUSTER_LAB", "faults"))
    reported = subprocess.run(
        ["git", "rev-parse", "HEAD"], cwd=HERE, capture_output=True, text=True
    )
    revision = reported.stdout.strip()
    try:
        bench = None
        for seed in seeds:
            bench = bench or built(lab)
            tale = {**carried_out(bench, Case.of(seed)), "revision": revision}
            with open(results_file(), "a", encoding="utf-8") as file:
                file.write(json.dumps(tale) + "\n")
            print(seed, tale["fault"], outcome(tale), f"{tale.get('took', 0)} s", flush=True)
            if "disorder" in tale:
                bench = None
    finally:
        lab.ctl("down")


def built(lab):
    lab.ctl("down")
    lab.ctl("up", timeout=300)
    failed = [name for name, state in lab.prepare().items() if not state["result"]]
    if failed:
        raise Disorder(f"not prepared: {failed}")
    bench = Bench(lab)
    bench.prepare()
    return bench


WRONG, DISORDER = "WRONG", "harness"
OUTCOMES = {
    "moved": "moved",
    "not_moved": "not moved",
    "refused": "refused",
    "unknown": "unknown, then settled",
    "operator": "unknown, settled by a person",
    "no answer": "no answer, then settled",
    "ended": "ended with its own QEMU",
    WRONG: "wrong",
    DISORDER: "harness failed",
}


def outcome(tale):
    """Return the key of what came of a run."""
    if "disorder" in tale:
        return DISORDER
    if tale["wrong"]:
        return WRONG
    if tale["own_qemu_killed"]:
        return "ended"
    if "operator" in tale:
        return "operator"
    if tale["answer"] is None:
        return "no answer"
    return tale["answer"]["result"] if isinstance(tale["answer"], dict) else "refused"


TWO, MISSED = "two at once", "too late to hit anything"


def row_of(tale):
    """Return the row of the table in which a run is counted."""
    hit = [deed["fault"] for deed in tale.get("begun", ()) if deed["effective"]]
    if not hit:
        return tale["fault"] if "disorder" in tale else MISSED
    return hit[0] if len(hit) == 1 else TWO


def table(tales):
    """Return faults x outcomes as a table of text."""
    counted = {}
    for tale in tales:
        counted.setdefault(row_of(tale), Counter())[outcome(tale)] += 1
    names = [*(fault.name for fault in FAULTS), TWO, MISSED]
    rows = [["fault", "runs", *OUTCOMES.values()], ["---"] * (2 + len(OUTCOMES))]
    for name in filter(counted.get, names):
        count = counted[name]
        rows.append([name, sum(count.values()), *(count[key] or "" for key in OUTCOMES)])
    all_of_them = sum(counted.values(), Counter())
    rows.append(["all", all_of_them.total(), *(all_of_them[key] or "0" for key in OUTCOMES)])
    return "\n".join("| " + " | ".join(map(str, row)) + " |" for row in rows)


def write_document(tales):
    """Put the table into docs/faults.md, between its marks."""
    path = conftest.ROOT / "docs" / "faults.md"
    before, rest = path.read_text(encoding="utf-8").split(BEGIN)
    after = rest.split(END)[1]
    path.write_text(f"{before}{BEGIN}\n{table(tales)}\n{END}{after}", encoding="utf-8")


BEGIN, END = "<!-- written by make faults -->", "<!-- end -->"

if __name__ == "__main__":
    sys.exit(main())
