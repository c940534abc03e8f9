"""The lab as tests see it.

Starting a Python for each look would take most of the machine: what is run on a node is run by an
agent that stays there, Salt's commands by one on the master that has Salt loaded, and the rest of
lab/ctl in this process.
"""

import concurrent.futures
import contextlib
import dataclasses
import importlib.machinery
import importlib.util
import io
import itertools
import json
import os
import pathlib
import re
import subprocess
import sys
import threading
import time

import yaml

ROOT = pathlib.Path(__file__).resolve().parents[2]
CTL = ROOT / "lab" / "ctl"
# By this Python: another may be a wrapper, which costs as much again.
PROGRAM = (sys.executable, str(CTL))
AGENT = pathlib.Path(__file__).with_name("agent.py")
MASTER = "master"
# The account that nodes log in to on their peers, and where its keys are; see `lab/ctl up --login`.
LOGIN = os.environ.get("KVMCLUSTER_LAB_LOGIN", "root")
HOME = "/root" if LOGIN == "root" else f"/home/{LOGIN}"
VOLUME = "/srv/guests"
PREPARE = ("state.orchestrate", "kvmcluster.orch.prepare")
# What a guest's record may show, and a whole record does not.
FAULTS = ("lost", "repeated", "doubled")
# What becomes another program there, and what leaves processes behind that are not this one's.
ELSEWHERE = ("exec", "salt", "salt-run", "salt-call", "sandbox", "up", "down")


@dataclasses.dataclass(frozen=True)
class Done:
    """What came of a command."""

    returncode: int
    stdout: str
    stderr: str


class Agent:
    """A lasting process on one place of a lab; see agent.py."""

    def __init__(self, lab, place):
        words = [AGENT, "salt"] if place == MASTER else [AGENT]
        self._process = subprocess.Popen(
            [*PROGRAM, "exec", place, "--", "python3", *map(str, words)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=lab.environment,
        )
        self._numbers, self._lock, self._waiting = itertools.count(), threading.Lock(), {}
        self.gone = False
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def ask(self, timeout, **request):
        """Have a request carried out; see agent.py. A place that goes down meanwhile kills it."""
        future = concurrent.futures.Future()
        with self._lock:
            number = next(self._numbers)
            self._waiting[number] = future
            line = json.dumps({"id": number, "timeout": timeout, **request}) + "\n"
            if self.gone:
                self._lose()
            else:
                with contextlib.suppress(BrokenPipeError):
                    self._process.stdin.write(line.encode())
                    self._process.stdin.flush()
        found = future.result(timeout + 30)
        if found["code"] is None:
            raise subprocess.TimeoutExpired(str(request), timeout, found["out"], found["err"])
        return Done(found["code"], found["out"], found["err"])

    def _read(self):
        for line in self._process.stdout:
            answer = json.loads(line)
            with self._lock:
                future = self._waiting.pop(answer["id"])
            future.set_result(answer)
        with self._lock:
            self.gone = True
            self._lose()

    def _lose(self):
        for future in self._waiting.values():
            future.set_result({"code": -9, "out": "", "err": "the place went down\n"})
        self._waiting.clear()

    def close(self):
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.close()
        self._process.wait(30)
        self._reader.join(30)
        self._process.stdout.close()


class Lab:
    """Commands to a running lab; a command that fails raises with what it printed."""

    def __init__(self, name):
        self.environment = {**os.environ, "KVMCLUSTER_LAB": name}
        self.nodes = ["node1", "node2", "node3"]
        self._agents, self._agents_lock = {}, threading.Lock()
        self._ctl, self._ctl_lock = None, threading.Lock()
        self._broken = {}

    # ---- lab/ctl

    def ctl(self, *arguments, check=True, timeout=180, stdin=None):
        """Do what lab/ctl does with these arguments."""
        words = [str(word) for word in arguments]
        if words[0] == "down":
            self.close()
        if words[0] not in ELSEWHERE:
            done = self._here(words)
        elif words[0] == "exec":
            assert words[2] == "--"
            done = self._ask(words[1], timeout, argv=words[3:], stdin=stdin)
        elif words[0] in ("salt", "salt-run"):
            assert words[1] == "--"
            call = [words[0], *words[2:]]
            done = self._ask(MASTER, timeout, call="command", arguments=call)
        else:
            done = subprocess.run(
                [*PROGRAM, *words],
                capture_output=True,
                timeout=timeout,
                env=self.environment,
                text=True,
            )
        return checked(done, words) if check else done

    def _here(self, words):
        """Run lab/ctl in this process; one at a time, since it prints."""
        out, err = io.StringIO(), io.StringIO()
        with self._ctl_lock:
            os.environ["KVMCLUSTER_LAB"] = self.environment["KVMCLUSTER_LAB"]
            self._ctl = self._ctl or loaded(CTL)
            with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
                try:
                    code = self._ctl.main(words) or 0
                except self._ctl.LabError as error:
                    print(error, file=sys.stderr)
                    code = 1
        return Done(code, out.getvalue(), err.getvalue())

    def _ask(self, place, timeout, **request):
        with self._agents_lock:
            agent = self._agents.get(place)
            if agent is None or agent.gone:
                agent = self._agents[place] = Agent(self, place)
        return agent.ask(timeout, **request)

    def close(self):
        """End the agents."""
        for agent in self._agents.values():
            agent.close()
        self._agents.clear()

    # ---- nodes

    def exec(self, node, *command, check=True, timeout=120, stdin=None):
        """Run a command on a node and return what it printed."""
        return self.ctl(
            "exec", node, "--", *command, check=check, timeout=timeout, stdin=stdin
        ).stdout

    def read(self, node, path):
        return self.exec(node, "cat", path)

    def write(self, node, path, text):
        self.exec(node, "tee", path, stdin=text)

    def keep(self, folder, *paths):
        """Keep what nodes have under paths, which begin without a slash, as archives."""
        for node in self.nodes:
            (folder / node).mkdir(parents=True, exist_ok=True)
            command = ["exec", node, "--", "tar", "-C", "/", "-czf", "-", *paths]
            with open(folder / node / "logs.tar.gz", "wb") as archive:
                subprocess.run(
                    [*PROGRAM, *command],
                    stdout=archive,
                    stderr=subprocess.DEVNULL,
                    env=self.environment,
                )

    def running(self, guest):
        """Return the nodes on which libvirt says that the guest runs."""
        return [node for node in self.nodes if self.guests(node).get(guest, (False,))[0]]

    def guests(self, node):
        """Return what libvirt shows of its active guests, by name.

        Of each whether it runs, and which half of a migration it is: ``outgoing``, ``incoming``
        or None.
        """
        words = f"libvirt of {node}"
        return _json(checked(self._ask(node, 120, call="guests", arguments=[]), words))

    def move_by_hand(self, guest, source, destination, *flags):
        """Move a guest by libvirt alone.

        libvirt's own handover resumes it at once, and fails now and then: QEMU gives up its image's
        locks by closing the file, and a FUSE client such as GlusterFS's tells the server only
        later, by up to 40 ms on a busy machine (FUSE_RELEASE has no answer to wait for). So it
        arrives paused, and is resumed when the lock is free.
        """
        words = ("virsh", "migrate", "--live", "--p2p", "--suspend", *flags, guest)
        self.exec(source, *words, f"qemu+ssh://{LOGIN}@{destination}-mig/system")
        resume = ("exec", destination, "--", "virsh", "resume", guest)
        until(
            # By its exit code: it prints an empty line when it fails.
            lambda: self.ctl(*resume, check=False).returncode == 0,
            f"{guest} resumed on {destination}",
            seconds=10,
        )

    def released_late(self, node):
        """Whether libvirt's own handover failed there as ``move_by_hand`` says."""
        return 'shared "write" lock' in self.read(node, "/var/log/libvirt/libvirtd.log")

    def listed(self, node, *options):
        """Return the names of the guests that ``virsh list`` shows on a node."""
        return self.exec(node, "virsh", "list", "--name", *options).split()

    def heal(self, node):
        """Plug a node in again, and wait until its shared storage is back.

        GlusterFS gives up a connection that has been silent for 42 s, and makes the next one in
        its own time; until then a check rightly finds that the node does not have the volume.
        """
        self.ctl("heal", node)
        path = f"{VOLUME}/healed-{node}"
        back = ("timeout", "5", "sh", "-c", f"echo >{path} && cat {path} && rm {path}")
        until(
            lambda: self.ctl("exec", node, "--", *back, check=False).returncode == 0,
            f"{VOLUME} on {node}, which was healed",
        )

    # ---- Salt

    def ask(self, nodes, function, *arguments, timeout=180, patience=120):
        """Run a function on nodes at one moment and return what each returned.

        patience
            Seconds before Salt asks the minions whether they are still at work; on a busy machine
            a minion may be too late to say so.
        """
        words = [str(word) for word in arguments]
        call = [list(nodes), function, words, patience]
        done = self._ask(MASTER, timeout, call="ask", arguments=call)
        return _json(checked(done, call))

    def salt(self, node, function, *arguments, timeout=180, patience=120):
        """Run a function on a node through the master and return what it returned."""
        found = self.ask([node], function, *arguments, timeout=timeout, patience=patience)
        assert node in found, f"no response from {node} to {function} {arguments}: {found}"
        return found[node]

    def salt_code(self, node, function, *arguments):
        """Return the exit code that an administrator gets."""
        return self.ctl("salt", "--", node, function, *arguments, check=False).returncode

    def run(self, function, *arguments, timeout=300):
        """Run a runner function on the master and return its data."""
        call = [function, [str(word) for word in arguments]]
        done = self._ask(MASTER, timeout, call="run", arguments=call)
        return _json(checked(done, call))

    def refresh_pillar(self):
        """Have every minion take what the pillar says now."""
        found = self.ask(self.nodes, "saltutil.refresh_pillar", "wait=True")
        assert found == dict.fromkeys(self.nodes, True), found

    def prepare(self, *arguments):
        """Run the orchestration and return its states by id, in order."""
        words = ("--out=json", *PREPARE, *arguments)
        data = _json(self.ctl("salt-run", "--", *words, check=False, timeout=900))["data"]
        states = next(iter(data.values()))
        ordered = sorted(states.values(), key=lambda state: state["__run_num__"])
        return {state["__id__"]: state for state in ordered}

    def apply(self, node, sls, *arguments):
        """Apply an SLS on a node and return its states by id."""
        states = self.salt(node, "state.apply", sls, *arguments)
        assert isinstance(states, dict), states
        return {state["__id__"]: state for state in states.values()}

    # ---- guests

    def guest(self, name, on, *arguments):
        self.ctl("guest", name, "--on", on, *arguments)

    def stop_guest(self, name):
        self._broken.pop(name, None)
        self.ctl("guest", name, "--stop", check=False)

    def record(self, name):
        """Return what the guest's own disk and consoles show."""
        return json.loads(self.ctl("record", name, "--json", check=False).stdout)

    def assert_whole(self, *names):
        """Fail unless the record of each guest is whole and the guest still writes.

        A guest's record is kept as long as the guest: once it is broken it stays so. The test
        that finds it first fails by it; a later one does only by what has been added since, and
        prints what it passes over.
        """
        for name in names:
            record = self._continued(name)
            faults = {key: record[key] for key in (*FAULTS, "boots")}
            if not record["writes"]:
                faults["last"] = record["last"]
            whole = record["whole"] and record["writes"]
            known = None if whole else self._broken.get(name)
            if known == faults:
                print(f"the record of {name} was broken before this test: {json.dumps(record)}")
                continue
            self._broken[name] = faults
            assert whole, f"the record of {name} is broken: {json.dumps(record)}"

    def _continued(self, name, seconds=30):
        """Return the record once the guest has written on: a guest that hangs loses no number."""
        begun = record = self.record(name)
        end = time.monotonic() + seconds
        standing = self._broken.get(name, {}).get("last") == begun["last"]
        while record["last"] == begun["last"] and time.monotonic() < end and not standing:
            time.sleep(0.1)
            record = self.record(name)
        return {**record, "writes": record["last"] > begun["last"]}

    def copying(self, node, guest):
        """Return whether libvirt on the source of a migration has sent some of the memory."""
        job = self.exec(node, "virsh", "domjobinfo", guest, check=False)
        return re.search(r"Memory processed: +[1-9]", job) is not None

    # ---- the pillar

    @contextlib.contextmanager
    def pillar(self):
        """Yield the ``kvmcluster`` pillar for changes; the old one is put back at the end."""
        path = pathlib.Path(self.ctl("pillar").stdout.strip())
        before = path.read_text(encoding="utf-8")
        try:
            yield Pillar(path)
        finally:
            path.write_text(before, encoding="utf-8")


class Call(threading.Thread):
    """A function that is under way in a thread of its own; what it returned or raised is kept."""

    def __init__(self, function, *arguments, **options):
        super().__init__()
        self.answer = self.error = None
        self._call = (function, arguments, options)
        self.start()

    def run(self):
        function, arguments, options = self._call
        try:
            self.answer = function(*arguments, **options)
        except Exception as error:
            self.error = error

    def ended(self):
        """Return how it ended, in words, and nothing while it is under way; for ``until``."""
        if self.is_alive():
            return ""
        if self.error:
            return repr(self.error)
        return f"it returned {json.dumps(self.answer, default=str)}"

    def end(self, timeout=180):
        """Wait for the end; return what it returned, or raise what it raised."""
        self.join(timeout)
        assert not self.is_alive(), f"it is still under way after {timeout} s"
        if self.error:
            raise self.error
        return self.answer


class Pillar:
    """The lab's pillar file."""

    def __init__(self, path):
        self.path = path
        self.data = yaml.safe_load(path.read_text(encoding="utf-8"))
        self.cluster = self.data["kvmcluster"]

    def save(self):
        self.path.write_text(yaml.safe_dump(self.data), encoding="utf-8")


def loaded(path):
    """Load a program as a module."""
    loader = importlib.machinery.SourceFileLoader("lab_ctl", str(path))
    module = importlib.util.module_from_spec(importlib.util.spec_from_loader("lab_ctl", loader))
    loader.exec_module(module)
    return module


def until(question, complaint, seconds=120, pause=0.2, ended=None):
    """Ask until there is an answer, and return it.

    complaint
        What was waited for: a text, or a function that returns one.
    ended
        A function that returns how that ended which alone can bring the answer about, in words,
        and nothing while it is under way: after its end nobody waits.
    """
    end = time.monotonic() + seconds
    while True:
        # Before the question: what happened at the very end is still an answer.
        over = ended() if ended else ""
        if answer := question():
            return answer
        if over or time.monotonic() >= end:
            words = complaint() if callable(complaint) else complaint
            when = f"and nothing is left to bring it about, {over}" if over else f"in {seconds} s"
            raise AssertionError(f"not seen: {words}; {when}")
        time.sleep(pause)


def checked(done, words):
    if done.returncode:
        raise AssertionError(f"{words}: {done.returncode}\n{done.stdout}{done.stderr}")
    return done


def _json(done):
    try:
        return json.loads(done.stdout)
    except ValueError:
        raise AssertionError(f"not JSON:\n{done.stdout}\n{done.stderr}") from None
