"""The nodes of the simulated world as the master asks them: by jobs, as Salt would run them.

Jobs are processes of their own on the nodes. A question may be lost, its answer, or both; what a
job returns is in the master's cache, which outlives whoever asked, or never gets there.
"""

from __future__ import annotations

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
from saltext_kvmcluster.core.errors import KvmclusterError
from saltext_kvmcluster.core.facts.nodefacts import silent
from saltext_kvmcluster.core.migration import jobs
from saltext_kvmcluster.core.migration.jobs import JobObservation
from saltext_kvmcluster.core.ownership import locations
from saltext_kvmcluster.core.pillar.options import Options
from saltext_kvmcluster.core.readiness import examination
from saltext_kvmcluster.core.readiness.checks.base import World
from saltext_kvmcluster.core.trust import logins
from saltext_kvmcluster.engine import migrator, node_standby, recoverer
from saltext_kvmcluster.engine.fleet import QUESTION, Fleet

sys.path.append(str(Path(__file__).resolve().parents[1] / "unit"))
worlds = importlib.import_module("worlds")

MASTER = "master"
TIMEOUT = 5.0  # Salt's own, for a minion that does not respond at all.


class Job:
    """A job on a node, while it is there; ``begun``: when libvirt was told, if it was."""

    def __init__(self, node, guest, minion):
        self.node, self.guest, self.minion = node, guest, minion
        self.task = None

    @property
    def begun(self):
        return self.minion.begun


class Salt:
    """What outlives the runner on the master, and the jobs on the nodes.

    ``faults``: what goes wrong with a job that migrates, by the number of the job.
    """

    def __init__(self, run, drains):
        self.run, self.drains = run, drains
        self.world, self.shelves = run.world, run.shelves
        self.jobs, self.returns, self.faults, self.count = {}, {}, {}, 0

    def minion(self, node):
        return Minion(self.world, self.run.cluster, node, self.shelves)

    def reaches(self, node):
        return self.world.path(sim.SSH, MASTER, node) and node not in self.world.dark

    def kill_minion(self, node):
        """Kill a node's minion, and every job with it; the minion itself is restarted."""
        for job in list(self.jobs.values()):
            if job.node == node:
                self.drains.orphans.add(job.guest)
                job.task.kill(Killed())

    def dispatch(self, move):
        """Send a job that migrates; return its id."""
        self.count += 1
        jid, fault = f"2030{self.count:04d}", self.faults.pop(self.count, "")
        if fault:
            self.run.faults[f"job {fault.partition(' ')[0]}"] += 1
            self.world.note(f"job {self.count}: {fault}")
        if fault == "unsent" or not self.reaches(move.source):
            return jid
        self.send(jid, move, fault)
        if fault == "twice":
            self.send(f"{jid}-again", move, "")
        return jid

    def send(self, jid, move, fault):
        job = Job(move.source, move.guest, self.minion(move.source))

        def work():
            try:
                self.world.advance(self.world.some(0.2, 1.0))
                found = self._migrated(job, move)
                self._return(jid, job, found, fault)
            except Killed:
                self.drains.orphans.add(move.guest)
            finally:
                job.minion.exit()
                self.jobs.pop(jid, None)

        self.jobs[jid] = job
        job.task = Task(self.world, work)

    def _migrated(self, job, move):
        guest, minion = self.world.guests[move.guest], job.minion
        try:
            done = migrator.migrate(
                minion.environment(), move.guest, move.destination, Options(), 60.0
            ).to_dict()
        except KvmclusterError as error:
            if minion.begun is not None:
                self.world.violation("denied", f"an error after libvirt was told: {error}")
            return f"ERROR: {error}"
        judged = minion.begun + done["elapsed"] + 0.001
        self.run.check_verdict(guest, done["owner"], minion, judged)
        self.run.results[f"job {done['result']}"] += 1
        return done

    def _return(self, jid, job, found, fault):
        """Let what a job returned reach the master's cache, or not."""
        what, _, value = fault.partition(" ")
        if what == "unreturned":
            return
        if what == "broken":
            found = "Traceback (most recent call last):\nKeyError: 'x'"
        if what == "another":
            found = {**found, "uuid": "another"} if isinstance(found, dict) else {}
        if what == "wrong" and isinstance(found, dict):
            found = {**found, "result": "moved", "owner": "node9"}

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
        self.out, self.planned, self.was_lost = {}, 0.0, False

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

    def dispatch(self, move):
        self.salt.drains.check_dispatch(self, move)
        sent = []
        self._call(lambda: sent.append(self.salt.dispatch(move)) or {})
        return sent[0] if sent else "never sent"

    def returns(self, job):
        return self.salt.returns.get(job, {})

    def _applies(self, *arguments):
        raise AssertionError(
            f"no SLS is applied in what this fleet plays; see applying.py: {arguments}"
        )

    begin = new_job = begin_states = remember_states = forget_states = _applies

    def begun_states(self):
        return {}

    def _find_job(self, node, jid):
        return {"jid": jid} if jid in self.salt.jobs else {}

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
            job.minion.reported[-1][1]
            for job in self.salt.jobs.values()
            if job.node == node and job.minion.reported
        ]
        rows = jobs.under_way(node, moving, shelf.entries.values(), words, self.now())
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
