"""The nodes of the simulated world as the master asks them: by jobs, as Salt would run them.

Jobs are processes of their own on the nodes. A question may be lost, its answer, or both; what a
job returns is in the master's cache, which outlives whoever asked, or never gets there.
"""

from __future__ import annotations

import contextlib
import copy
import importlib
import sys
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import world as sim
from libvirtd import SHUT_OFF
from simulated import START, Killed, Minion
from tasks import Task

from saltext_kvmcluster.core import verdicts
from saltext_kvmcluster.core.cordons import Cordon
from saltext_kvmcluster.core.drain import departures
from saltext_kvmcluster.core.drain.departures import Departures, Wishes
from saltext_kvmcluster.core.errors import KvmclusterError
from saltext_kvmcluster.core.events import events
from saltext_kvmcluster.core.facts.nodefacts import silent
from saltext_kvmcluster.core.migration import jobs
from saltext_kvmcluster.core.migration.jobs import JobObservation
from saltext_kvmcluster.core.migration.migration import MOVED
from saltext_kvmcluster.core.ownership import locations
from saltext_kvmcluster.core.readiness import examination
from saltext_kvmcluster.core.readiness.checks.base import World
from saltext_kvmcluster.core.trust import logins
from saltext_kvmcluster.engine import departer, node_standby, recoverer
from saltext_kvmcluster.engine.fleet import QUESTION, Fleet
from saltext_kvmcluster.host import notifier

sys.path.append(str(Path(__file__).resolve().parents[1] / "unit"))
worlds = importlib.import_module("worlds")

MASTER = "master"
LONGEST = 86400.0
TIMEOUT = 5.0  # Salt's own, for a minion that does not respond at all.


class Job:
    """A job on a node, while it is there. ``minions``: its workers, by the task of each."""

    def __init__(self, node, jid):
        self.node, self.jid = node, jid
        self.task, self.tasks, self.minions = None, [], {}

    def kill(self):
        for task in [self.task, *self.tasks]:
            task.kill(Killed())

    def exit(self):
        for minion in self.minions.values():
            minion.exit()

    @property
    def under_way(self):
        """The guests that it migrates."""
        return {minion.guest for minion in self.minions.values() if minion.guest}


class Worker(Minion):
    """A worker of a job; ``guest``: whose migration it is at. Its events may get lost."""

    def __init__(self, salt, node):
        super().__init__(salt.world, salt.run.cluster, node, salt.shelves)
        self.salt, self.guest, self.reported = salt, "", _Reported(salt, node)


class _Reported(list):
    def __init__(self, salt, node):
        super().__init__()
        self._salt, self._node = salt, node

    def append(self, event):
        super().append(event)
        if self._salt.reaches(self._node) and self._salt.world.random.random() < 0.8:
            tag = events.tag(self._salt.run.cluster.name, event[0], self._node, event[1]["guest"])
            self._salt.events.append((tag, {"id": self._node, "data": event[1]}))


class Written:
    """The departures of a job, on its node in /run. ``open``: the job is there."""

    def __init__(self, salt, job, moves):
        self._salt, self._job = salt, job
        self._departures, self._cancelled = Departures(salt.run.cluster, moves, True), {}
        self._stop, self.open, self._failed, self._cordons = False, True, False, set()

    def next(self):
        worker = self._job.minions[self._salt.world.task]
        wished, cordon = self._wished()
        self._cordons.add(cordon)
        move = self._departures.next(wished, cordon)
        forbidden = self._stop or self._failed or not cordon or len(self._cordons) > 1
        if move and (forbidden or move.uuid in self._cancelled):
            self._salt.world.violation("wrong", f"{move} is begun, although nothing further is to")
        worker.begun, worker.guest = None, move.guest if move else ""
        return move

    def _wished(self):
        return Wishes(self._stop, self._cancelled), self._salt.shelves[self._job.node].cordon

    def is_stopped(self):
        return self._departures.is_stopped(*self._wished())

    def put_back(self, move):
        self._job.minions[self._salt.world.task].guest = ""
        self._departures.put_back(move)

    def is_more(self):
        return self._departures.is_more

    def end(self, move, result):
        self._salt.check(self._job.minions[self._salt.world.task], move, result)
        self._departures.end(move, result)
        self._failed |= result["result"] != MOVED

    def stop(self):
        self._departures.stop()

    def forbid(self):
        self._stop = True

    def cancel(self, uuid, requester):
        self._cancelled[uuid] = requester

    def waits(self, uuid):
        return any(row["uuid"] == uuid for row in self.queued())

    def queued(self):
        is_over = self._stop or not self.open
        return [] if is_over else departures.queued([self._departures.to_dict()])

    def answer(self, jid):
        data = self._departures.to_dict()
        data["stopped"] |= self._stop
        flags = {"kind": departures.KIND, "id": jid, "known": True, "open": self.open}
        return copy.deepcopy({**data, **flags})


class Salt:
    """What outlives the runner on the master, and the jobs on the nodes.

    ``faults``: what goes wrong with a job that migrates, by the number of the job.
    """

    def __init__(self, run, drains):
        self.run, self.drains = run, drains
        self.world, self.shelves = run.world, run.shelves
        self.jobs, self.returns, self.faults, self.count, self.events = [], {}, {}, 0, []

    def minion(self, node):
        return Minion(self.world, self.run.cluster, node, self.shelves)

    def reaches(self, node):
        return self.world.path(sim.SSH, MASTER, node) and node not in self.world.dark

    def kill_minion(self, node):
        """Kill a node's minion, and every job with it; the minion itself is restarted."""
        for job in list(self.jobs):
            if job.node == node:
                job.kill()

    def dispatch(self, source, moves):
        """Send a job that migrates; return its id."""
        self.count += 1
        jid, fault = f"2030{self.count:04d}", self.faults.pop(self.count, "")
        if fault:
            self.run.faults[f"job {fault.partition(' ')[0]}"] += 1
            self.world.note(f"job {self.count}: {fault}")
        if fault == "unsent" or not self.reaches(source):
            return jid
        late = float(fault.removeprefix("held ")) if fault.startswith("held ") else 0.0
        self.world.after(late, lambda: self.send(jid, source, moves, fault))
        if fault == "twice":
            self.world.after(self.world.some(0, 5), lambda: self.send(jid, source, moves, ""))
        return jid

    def send(self, jid, source, moves, fault):
        job = Job(source, jid)

        def work():
            try:
                self.world.advance(self.world.some(0.2, 1.0))
                self._return(jid, job, self._departed(job, moves), fault)
            except Killed:
                self.drains.orphans |= job.under_way
            finally:
                job.exit()
                self.jobs.remove(job)

        self.jobs.append(job)
        job.task = Task(self.world, work)

    def _departed(self, job, moves):
        lists = self.lists(job.node)
        if job.jid in lists:
            return self.told(job.node, job.jid)
        written = lists[job.jid] = Written(self, job, moves)

        @contextlib.contextmanager
        def opening():
            minion = job.minions[self.world.task] = Worker(self, job.node)
            try:
                yield minion.environment()
            finally:
                minion.exit()

        def side_by_side(call, numbers):
            job.tasks = [Task(self.world, lambda one=one: call(one)) for one in numbers]
            self.world.until(self.world.now + LONGEST, lambda: all(task.done for task in job.tasks))
            if job.node in self.world.dark or any(
                isinstance(task.error, Killed) for task in job.tasks
            ):
                raise Killed

        limit = self.run.cluster.migration.max_outgoing
        try:
            departer.depart(written, opening, min(limit, len(moves)), side_by_side)
        finally:
            written.open = False
        return written.answer(job.jid)

    def check(self, worker, move, result):
        """Compare the result of a migration with the truth."""
        if "started" not in result and worker.begun is not None:
            self.world.violation("denied", f"an error after libvirt was told: {result['reason']}")
        if "started" in result:
            judged = worker.begun + result["elapsed"] + 0.001
            guest = self.world.guests[move.guest]
            self.run.check_verdict(guest, result["owner"], worker, judged)
            self.run.results[f"job {result['result']}"] += 1

    def lists(self, node):
        """Return the departures that a node has written down since it was booted, by id."""
        return self.shelves[node].departing.setdefault(self.world.losses[node], {})

    def told(self, node, jid, stop=False):
        """Return what a node has written down; what it does not know it begins no more."""
        lists = self.lists(node)
        known = jid in lists
        if not known:
            lists[jid] = Written(self, None, ())
            lists[jid].open = False
        if stop or not known:
            lists[jid].forbid()
        return {**lists[jid].answer(jid), "known": known}

    def _return(self, jid, job, found, fault):
        """Let what a job returned reach the master's cache, or not."""
        what, _, value = fault.partition(" ")
        if what == "unreturned":
            return
        if what == "broken":
            found = "Traceback (most recent call last):\nKeyError: 'x'"
        rows = [row for row in found["moves"] if row["result"]] if isinstance(found, dict) else []
        odd = {"another": {"uuid": "another"}, "wrong": {"result": MOVED, "owner": "node9"}}
        if rows and what in odd:
            rows[-1]["result"] = {**rows[-1]["result"], **odd[what]}

        def arrive():
            self.returns.setdefault(jid, {})[job.node] = found

        if what == "late":
            self.world.after(float(value), arrive)
        elif self.reaches(job.node):
            arrive()
        elif self.world.random.random() < 0.5:
            self.world.when_healed(MASTER, job.node, arrive)


class SimulatedFleet(Fleet):
    """One runner's view; it is killed with the master. ``plan``: what goes wrong at its calls."""

    def __init__(self, salt, plan=None):
        super().__init__(salt.run.cluster, self)
        self.salt, self.world, self.run = salt, salt.world, salt.run
        self.plan, self.calls = plan or {}, 0
        self.planned, self.was_lost, self.sent = 0.0, False, []

    # The clock

    def monotonic(self):
        return self.world.now

    def now(self):
        return START + timedelta(seconds=self.world.now)

    def wait(self, call, seconds):
        self.world.advance(seconds)

    # Questions

    def _call(self, carry):
        """Make a call; what was planned for it happens. What is lost is None for every node."""
        self.calls += 1
        fault = self.plan.pop(self.calls, "")
        what, _, value = fault.partition(" ")
        if fault:
            self.run.faults[f"ask {what}"] += 1
            self.world.note(f"the master's call {self.calls}: {fault}")
        if what == "die":
            if value == "after":
                carry()
            raise Killed
        if what == "unasked":
            self.world.advance(TIMEOUT)
            self.was_lost = True
            return {}
        found = carry()
        if what == "late":
            self.world.advance(float(value))
        if what == "lost":
            self.world.advance(TIMEOUT)
            self.was_lost = True
            return {}
        if what == "odd":
            self.was_lost = True
            return {node: ["odd"] for node in found}
        return found

    def _of_each(self, nodes, ask, within=QUESTION):
        """Ask nodes side by side; return what those answer that can be reached throughout."""
        found = {}

        def asked(node):
            self.world.advance(self.world.some(0.05, 0.3))
            if not self.salt.reaches(node):
                return
            try:
                answer = ask(node)
            except KvmclusterError as error:
                answer = f"ERROR: {error}"
            except Killed:
                return
            if self.salt.reaches(node):
                found[node] = answer

        tasks = [Task(self.world, lambda node=node: asked(node)) for node in nodes]
        self.world.until(self.world.now + within, lambda: all(task.done for task in tasks))
        if len(found) < len(tasks):
            self.world.advance(TIMEOUT)
        return dict(found)

    def ask(self, nodes, function, *arguments, within=QUESTION, **named):
        verb = getattr(self, "_" + function.partition(".")[2])
        return self._call(
            lambda: self._of_each(list(nodes), lambda node: verb(node, *arguments), within)
        )

    def dispatch(self, source, moves, while_cordoned):
        assert while_cordoned, "all lists of these runs are of drains"
        for move in moves:
            self.salt.drains.check_dispatch(self, move)
        sent = []
        self._call(lambda: sent.append(self.salt.dispatch(source, moves)) or {})
        self.sent += [(source, job) for job in sent]
        return sent[0] if sent else "never sent"

    @property
    def written(self):
        """What the nodes have written down of the departures that this runner sent them."""
        lists = [(self.salt.lists(source), job) for source, job in self.sent]
        return [kept[job] for kept, job in lists if job in kept]

    def hints(self):
        found = [departures.hint(self.cluster.name, *event) for event in self.salt.events]
        self.salt.events.clear()
        return [one for one in found if one]

    def returns(self, job):
        return self.salt.returns.get(job, {})

    def _applies(self, *arguments):
        raise AssertionError(
            f"no SLS is applied in what this fleet plays; see applying.py: {arguments}"
        )

    begin = new_job = begin_states = remember_states = forget_states = _applies

    def begun_states(self):
        return {}

    def _departed(self, node, jid, stop):
        return self.salt.told(node, jid, stop)

    def _cordon(self, node, reason):
        shelf = self.salt.shelves[node]
        changed = shelf.cordon is None
        shelf.cordon = shelf.cordon or Cordon(self.now().isoformat(), reason)
        return {
            "cordoned": True,
            "changed": changed,
            "since": shelf.cordon.since,
            "reason": shelf.cordon.reason,
        }

    def _uncordon(self, node, reason):
        shelf = self.salt.shelves[node]
        changed, shelf.cordon = shelf.cordon is not None, None
        return {"cordoned": False, "changed": changed}

    def _standby(self, node, reason):
        if not self.world.pacemaker:
            return {"ok": True, "standby": False}
        return {"ok": True, "standby": self._by(node, lambda env: node_standby.begin(env, reason))}

    def _unstandby(self, node):
        changed = bool(self.world.pacemaker) and self._by(node, node_standby.end)
        return {"ok": True, "standby": False, "changed": changed}

    def _by(self, node, act):
        minion = self.salt.minion(node)
        try:
            return act(minion.environment())
        finally:
            minion.exit()

    def _history(self, node, guest, most):
        return {"history": list(self.salt.shelves[node].history)}

    def _job(self, node):
        """Return what is under way, as ``kvmcluster.job`` does from libvirt, journal and status."""
        libvirt, shelf = self.salt.minion(node).libvirts[node], self.salt.shelves[node]
        observed = [JobObservation(libvirt.by_name(name), None) for name in libvirt.names()]
        moving = [
            one for one in observed if one.observation.job in (verdicts.INCOMING, verdicts.OUTGOING)
        ]
        words = [
            worker.reported[-1][1]
            for job in self.salt.jobs
            for worker in job.minions.values()
            if job.node == node and worker.reported
            if worker.reported[-1][1]["what"] not in notifier.LAST
        ]
        rows = jobs.under_way(node, moving, shelf.entries.values(), words, self.now())
        moving = {row["uuid"] for row in rows}
        for written in self.salt.lists(node).values():
            rows += [row for row in written.queued() if row["uuid"] not in moving]
        return {"jobs": rows}

    def _sighting(self, node, guest):
        libvirt = self.salt.minion(node).libvirts[node]
        return locations.as_data(guest, libvirt.by_name(guest))

    def _recover(self, node, guest):
        minion = self.salt.minion(node)
        try:
            done = recoverer.recover(minion.environment(), guest).to_dict()
        finally:
            minion.exit()
        self.run.check_verdict(self.world.guests[guest], done["owner"], minion, self.world.now)
        return done

    # Facts

    def look(self, node):
        return self.under_way(node), self.facts([node])[node]

    def facts(self, nodes=None, **named):
        nodes = list(nodes or self.all)
        sent = self._call(lambda: self._of_each(nodes, self._node_facts))
        return {
            node: sent[node] if hasattr(sent.get(node), "node") else silent(node, "no response")
            for node in nodes
        }

    def placeable(self, guest=None, source=None, destination=None, **named):
        self.planned, self.was_lost = self.world.now, False
        world = World(self.cluster, self.facts())
        return world, examination.examine(world, guest, source, destination)

    def _node_facts(self, node):
        world, cordon = self.world, self.salt.shelves[node].cordon
        nodes = tuple(self.cluster.nodes)
        images = {f"{worlds.IMAGES}/{name}.img" for name in world.guests}
        facts = replace(
            worlds.node(node, nodes),
            cordoned=(cordon,) if cordon else (),
            memory_kib=8 << 20,
            free_kib=6 << 20,
            observed=dict.fromkeys(images, worlds.Inspection("file")),
            peers={peer: self._login(node, peer) for peer in nodes if peer != node},
        )
        if world.pacemaker:
            facts = replace(facts, pacemaker=world.pacemaker.view(node))
        daemon = world.daemons[node]
        if daemon.stopped:
            world.until(world.now + 35.0, lambda: not daemon.stopped)
        if daemon.stopped or not daemon.up:
            return replace(facts, daemon=None, daemon_detail="Connection refused", guests=None)
        guests = [self._guest_facts(node, domain) for domain in daemon.domains.values()]
        return replace(facts, guests=tuple(guests))

    def _login(self, node, peer):
        is_there = self.world.path(sim.SSH, node, peer)
        cause = logins.OK if is_there else logins.TIMED_OUT
        port = "refused" if self.world.path(sim.DATA, node, peer) else "timed out"
        return worlds.LoginResults(worlds.cells(peer, id=cause, mig=cause), port)

    def _guest_facts(self, node, domain):
        guest = domain.guest
        observation = (
            self.salt.minion(node).libvirts[node]._observe(self.world.daemons[node], domain)
        )
        image = f"{worlds.IMAGES}/{guest.name}.img"
        disk = worlds.Disk("vda", worlds.Source("file", image, "raw"), cache="none")
        definition = replace(worlds.WEB, name=guest.name, uuid=guest.uuid, disks=(disk,))
        found = worlds.guest(node, observation, definition, disks=(image,))
        return replace(found, kept=definition if domain.persistent else None)


def active(world, node):
    """Return the guests that a node's libvirt has active."""
    return {
        domain.guest.name
        for domain in world.daemons[node].domains.values()
        if domain.state != SHUT_OFF
    }
