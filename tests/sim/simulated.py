"""What a minion of the simulated world is given as its environment, with all that goes wrong."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from typing import Any

import libvirtd
import world as sim
from libvirtd import LibvirtError, Locked
from shells import Claim, Tickets
from world import Answer

from saltext_kvmcluster.core import verdicts
from saltext_kvmcluster.core.errors import Answered, AtWork, WorldError
from saltext_kvmcluster.core.facts.starters import Starters
from saltext_kvmcluster.core.ha import holds
from saltext_kvmcluster.core.migration import handover
from saltext_kvmcluster.core.migration.journal import Kept
from saltext_kvmcluster.core.migration.migration import Host, Run
from saltext_kvmcluster.core.ownership import contacts
from saltext_kvmcluster.core.pacemaker import managers
from saltext_kvmcluster.core.pacemaker.fencing import FenceEvent, Fencing
from saltext_kvmcluster.core.pacemaker.model import Member, Pacemaker, Status
from saltext_kvmcluster.core.verdicts import Observation, Sighting
from saltext_kvmcluster.engine.environment import Environment
from saltext_kvmcluster.host.hypervisor import MOMENT

TIME_LIMIT = 35.0
CONNECT_LIMIT = 10.0
START = datetime(2030, 1, 1, tzinfo=timezone.utc)
FOLDER = "/srv/guests"

SIGHTINGS = {
    (libvirtd.RUNNING, libvirtd.POST_COPY): Sighting.RUNNING_IN_POST_COPY,
    (libvirtd.RUNNING, libvirtd.POST_COPY_FAILED): Sighting.RUNNING_IN_POST_COPY,
    (libvirtd.PAUSED, libvirtd.BY_USER): Sighting.PAUSED_BY_USER,
    (libvirtd.PAUSED, libvirtd.MIGRATION): Sighting.PAUSED_FOR_MIGRATION,
    (libvirtd.PAUSED, libvirtd.API_ERROR): Sighting.PAUSED_BY_ERROR,
    (libvirtd.PAUSED, libvirtd.POST_COPY): Sighting.PAUSED_IN_POST_COPY,
    (libvirtd.PAUSED, libvirtd.POST_COPY_FAILED): Sighting.PAUSED_IN_POST_COPY,
}
PLAIN = {libvirtd.RUNNING: Sighting.RUNNING, libvirtd.SHUT_OFF: Sighting.SHUT_OFF}


class Killed(BaseException):
    """The minion's process is killed at this moment."""


def domain_xml(guest, version=1):
    """Return a definition of a guest that a start takes for one."""
    named = f"<name>{guest.name}</name><uuid>{guest.uuid}</uuid>"
    return f"<domain type='kvm'>{named}<title>{version}</title></domain>"


# What libvirt reports of a connection that broke, and not of a guest.
LOST = ("client socket is closed", "End of file", "Failed to connect", "deadline")


class Call:
    """A libvirt call that lasts."""

    def __init__(self):
        self._done, self._detail = False, ""

    def end(self, detail=""):
        self._done, self._detail = True, detail

    def done(self):
        return self._done

    def exception(self):
        if not self._detail:
            return None
        lost = any(words in self._detail for words in LOST)
        return WorldError(self._detail) if lost else Answered(self._detail)


@dataclass(frozen=True)
class CallFault:
    """What goes wrong at a call: ``happen`` is given the minion, how to carry it out, and again.

    ``answers``: it is the answer that goes wrong, so the call has to be one that may fail.
    """

    happen: Callable[..., Any]
    answers: bool


class Shelf:
    """What outlives the minions of one node: its journal, locks, claims, tickets, its cordon."""

    def __init__(self):
        self.entries, self.requests, self.history = {}, {}, []
        self.locks, self.undefined, self.shutdowns = {}, {}, {}
        self.claims, self.tickets = {}, {}
        self.cordon = None
        self.counted = 0
        self.departing = {}  # By the number of losses of power: what is in /run goes with it.


class Minion:
    """One process on a node: it migrates, recovers or cancels, and may be killed at any call.

    ``plan``: what goes wrong at its calls, by their number; see ``CallFault``.
    """

    def __init__(self, world, cluster, here, shelves, plan=None):
        self.world, self.cluster, self.here, self.shelves = world, cluster, here, shelves
        self.plan = plan or {}
        self.calls = 0
        self.reported = []
        self.observations, self.asked = {}, {}
        self.held, self.holds, self.dead = set(), [], False
        self.may_destroy, self.options = False, None
        self.clock = Clock(self)
        self.begun = None
        self.libvirts = {node: Libvirt(self, node) for node in cluster.nodes}
        self.detoured = {node: Libvirt(self, node) for node in cluster.nodes}
        self.journals = {node: Journal(self, node) for node in cluster.nodes}
        self.remotes = {node: Remote(self, node) for node in cluster.nodes}
        self.controls = {node: Control(self, node) for node in cluster.nodes}
        self.queues = {node: Tickets(self, self.remotes[node]) for node in cluster.nodes}

    def environment(self):
        return Environment(
            cluster=self.cluster,
            here=self.here,
            libvirt=self.libvirts.__getitem__,
            journal=self.journals.__getitem__,
            tickets=self.queues.__getitem__,
            clock=self.clock,
            responds=self._responds,
            address=self._address,
            claim=lambda node, uuid, seconds: Claim(self, self.remotes[node], uuid, seconds),
            cordon=lambda: self.shelves[self.here].cordon,
            exists=lambda path: path in self.definitions(),
            read=lambda path: self.definitions()[path],
            unguarded=lambda definition: () if self.world.locks else ("vda",),
            starters=lambda node: Starters(),
            pacemaker=self._pacemaker,
            control=self.controls.__getitem__,
            fencing=self._fencing,
            examine=self._examine,
            lock=self._lock,
            leaving=self._leaving,
            reboots=self._reboots,
            keeper=lambda move: contextlib.nullcontext(),
            withdraw=self._withdraw,
            detours=lambda node: (self.detoured[node],),
            notify=lambda kind, data: self.reported.append((kind, data)),
        )

    @contextlib.contextmanager
    def _reboots(self, uuid):
        call, calls = Call(), self.world.daemons[self.here].watched.setdefault(uuid, [])
        calls.append(call)
        try:
            yield call
        finally:
            calls.remove(call)

    def call(self, carry, again=None, fallible=True):
        """Make one call of the environment; what was planned for it happens.

        Time does not fail: what is planned for an answer then waits for the next call.

        again
            What a second delivery of the question does, if anything.
        """
        if self.dead or self.here in self.world.dark:
            self.die()
        self.calls += 1
        fault = self.plan.pop(self.calls, None)
        if fault and fault.answers and not fallible:
            self.plan.setdefault(self.calls + 1, fault)
            fault = None
        try:
            found = fault.happen(self, carry, again) if fault else carry()
        except Killed:
            self.die()
        if self.here in self.world.dark:
            self.die()
        return found

    def die(self):
        """End the process, and what it holds, as far as that is noticed."""
        self.dead = True
        self.exit()
        raise Killed

    def exit(self):
        """Let everything go that ends with a process."""
        holds, self.holds = self.holds, []
        for held in holds:
            if isinstance(held, tuple):
                held[0].abandon(held[1])
            else:
                held.release()

    def _withdraw(self, uuid, requester):
        def withdrawn():
            kept = self.shelves[self.here].departing.get(self.world.losses[self.here], {})
            lists = [one for one in kept.values() if one.waits(uuid)]
            for one in lists:
                one.cancel(uuid, requester)
            return bool(lists)

        return self.call(withdrawn)

    def definitions(self):
        """The files on shared storage, by path."""
        return {
            f"{FOLDER}/{guest.name}.xml": domain_xml(guest) for guest in self.world.guests.values()
        }

    def asked_since(self):
        """When the nodes were begun to be asked for the last time."""
        return min(self.asked.values(), default=self.world.now)

    def truly(self, uuid, node, at):
        """Who owned a guest when a node was looked at last before some time."""
        found = [owners for when, owners in self.observations.get((uuid, node), []) if when <= at]
        return found[-1] if found else set()

    def _responds(self, node):
        try:
            self.call(self.remotes[node].reach)
        except WorldError:
            return ""
        return "" if node in self.world.dark else "accepts ssh logins"

    def _pacemaker(self, node):
        if not self.world.pacemaker:
            return Pacemaker()
        try:
            self.call(self.remotes[node].reach)
        except WorldError:
            return None
        return self.world.pacemaker.view(node)

    def _fencing(self, node):
        """What Pacemaker on a node knows: who has no power was fenced, and has not been back."""
        if not self.world.fences and not self.world.pacemaker:
            return None
        try:
            self.call(self.remotes[node].reach)
        except WorldError:
            return None
        if self.world.pacemaker:
            return self.world.pacemaker.fencing(node)
        dark = frozenset(self.world.dark)
        members = {one: Member(one, online=one not in dark) for one in self.cluster.nodes}
        now = self.clock.now()
        events = tuple(FenceEvent("off", one, "success", node, now) for one in sorted(dark))
        return Fencing(Status(True, members), events, dark)

    def _address(self, name):
        return self.call(lambda: "192.0.2.1")

    def _examine(self, move):
        """Look as the blocking checks do, as far as they concern this world."""
        if self.shelves[move.destination].cordon:
            raise WorldError(f"{move.guest} was not migrated: {move.destination} is cordoned")
        for node in (move.source, move.destination):
            observation = self.libvirts[node].by_uuid(move.uuid)
            away = node == move.destination
            if away and observation.sighting not in (Sighting.ABSENT, Sighting.SHUT_OFF):
                raise WorldError(f"{move.guest} was not migrated: it is on {node}, too")
            if not away and (observation.job or observation.sighting not in _MOVABLE):
                raise WorldError(
                    f"{move.guest} was not migrated: {observation.job or observation.sighting}"
                )
            runs = observation.sighting is Sighting.RUNNING
            if not away and self.options and (risk := self._risk(runs)):
                raise WorldError(f"{move.guest} was not migrated: {risk[0]}: {risk[1]}")
        self._refuse_managed(move)
        return ()

    def _refuse_managed(self, move):
        """Refuse what Pacemaker acts on, as the check ``ha.manager`` does."""
        if not self.world.pacemaker:
            return
        views = {node: self._pacemaker(node) for node in (move.source, move.destination)}
        found = managers.of(move.guest, views)
        if refusal := holds.forbids(found, move.guest, holds.MIGRATE):
            raise WorldError(f"{move.guest} was not migrated: {refusal}")

    def _risk(self, runs):
        unguarded = () if self.world.locks else ("vda",)
        return handover.risk(self.options, runs, unguarded)

    @contextlib.contextmanager
    def _leaving(self, move):
        yield Leaving(self.world, self.world.daemons[self.here], move.uuid)

    @contextlib.contextmanager
    def _lock(self, move):
        """Hold a node's lock for a guest; its holder may take it again."""
        claim = (move.source, move.uuid)
        if claim in self.held:
            yield
            return
        locks = self.shelves[move.source].locks
        try:
            if not self.journals[move.source].locked(move.uuid):
                raise AtWork(f"another kvmcluster command is at work on {move.guest}")
            self.held.add(claim)
            yield
        finally:
            self.held.discard(claim)
            if locks.get(move.uuid) is self:
                del locks[move.uuid]


_MOVABLE = (Sighting.RUNNING, Sighting.PAUSED_BY_USER)


class Leaving:
    """A guest that leaves, as host/leaving.py watches it: by files and processes of its node."""

    def __init__(self, world, daemon, uuid):
        self.world, self._daemon, self._uuid = world, daemon, uuid
        self._domain = daemon.domains.get(uuid)
        self._qemu = self._domain.qemu if self._domain else None
        name = self._domain.guest.name if self._domain else ""
        run = handover.last_run(daemon.log(name))
        self.sent = -1 if run.ended else run.sent
        self.ended = self

    def done(self):
        return self._qemu is not None and not self._qemu.alive

    def exception(self):
        return None

    def is_confirmed(self):
        domain = self._domain
        mine = domain.qemu is self._qemu and domain.job is not None
        return mine and domain.job.phase == "confirm3"

    def stopped_at(self):
        stream = self._qemu.outgoing if self._qemu else None
        return stream.stopped_at if stream and stream.stopped_at else None


class Clock:
    def __init__(self, minion):
        self._minion, self._world = minion, minion.world
        self.read = 0.0

    def monotonic(self):
        self.read = self._world.now
        return self.read

    def now(self):
        wrong = self._world.clocks.get(self._minion.here, 0)
        return START + timedelta(seconds=self._world.now + wrong)

    def wait(self, call, seconds):
        world = self._world
        calls = () if call is None else call if isinstance(call, tuple) else (call,)

        def ready():
            return any(one.done() for one in calls)

        self._minion.call(lambda: world.until(world.now + seconds, calls and ready), fallible=False)


class Remote:
    """Something on a node, which may be this one: how a question reaches it, or does not."""

    def __init__(self, minion, node):
        self.minion, self.node, self.world = minion, node, minion.world
        self.connected = False

    def reach(self, limit=None):
        """Let a question travel; WorldError where it does not arrive in time."""
        world, here = self.world, self.minion.here
        if here == self.node:
            world.advance(0.002)
            return
        world.advance(0.005 if self.connected else 0.2)
        if not world.path(sim.SSH, here, self.node):
            limit = limit or (TIME_LIMIT if self.connected else CONNECT_LIMIT)
            world.until(world.now + limit, lambda: world.path(sim.SSH, here, self.node))
            if not world.path(sim.SSH, here, self.node):
                self.connected = False
                raise WorldError(f"no response from {self.node} within {limit:g} s")
        self.connected = True

    def come_back(self, limit=TIME_LIMIT):
        """Let an answer travel back."""
        world, here = self.world, self.minion.here
        if not world.path(sim.SSH, here, self.node):
            world.until(world.now + limit, lambda: world.path(sim.SSH, here, self.node))
            if not world.path(sim.SSH, here, self.node):
                self.connected = False
                raise WorldError(f"no response from {self.node} within {limit:g} s")

    def close(self):
        self.connected = False


class Libvirt(Remote):
    """A node's libvirt, as host/hypervisor.py shows it."""

    def _ask(self, verb):
        return self.minion.call(lambda: self._carried(verb), lambda: self._again(verb))

    def _again(self, verb):
        """Deliver a question whose answer nobody waits for."""
        daemon = self.world.daemons[self.node]
        if daemon.stopped:
            daemon.frozen.append(lambda: _outcome(verb, daemon))
        elif daemon.up:
            self.world.note(f"{self.node}: a question arrives late, or once more")
            _outcome(verb, daemon)

    def _carried(self, verb):
        world, daemon, connected = self.world, self.world.daemons[self.node], self.connected
        try:
            self.reach()
        except WorldError:
            if connected:
                world.when_healed(self.minion.here, self.node, lambda: self._again(verb))
            raise
        if not daemon.up:
            self.connected = False
            raise WorldError(f"{self.node}: Failed to connect socket: Connection refused")
        end = world.now + libvirtd.JOB_WAIT
        found, error = self._done(daemon, verb)
        while isinstance(error, Locked) and world.now < end:
            world.until(end, lambda waited=error.domain: not waited.job or not daemon.up)
            if not daemon.up:
                break
            found, error = self._done(daemon, verb)
        if error:
            self.connected = False
            raise WorldError(f"{self.node}: {error}")
        self.come_back()
        return found

    def _done(self, daemon, verb):
        """Have a daemon do something; one that is stopped does it, in turn, when it goes on."""
        if not daemon.stopped:
            return _outcome(verb, daemon)
        world, life, answer = self.world, daemon.life, Answer()
        daemon.frozen.append(lambda: answer.set(_outcome(verb, daemon)))
        world.until(world.now + TIME_LIMIT, lambda: answer.known or daemon.life != life)
        if not answer.known:
            self.connected = False
            raise WorldError(f"no response from {self.node} within {TIME_LIMIT:g} s")
        return answer.value

    def by_name(self, name):
        self.minion.asked[self.node] = self.world.now
        return self._ask(
            lambda daemon: self._observe(
                daemon, next((d for d in daemon.domains.values() if d.guest.name == name), None)
            )
        )

    def by_uuid(self, uuid):
        return self._ask(lambda daemon: self._observe(daemon, daemon.domains.get(uuid)))

    def sight(self, uuid):
        self.minion.asked[self.node] = self.world.now
        try:
            return self.by_uuid(uuid)
        except WorldError as error:
            return Observation(Sighting.UNREACHABLE, detail=str(error))

    def _observe(self, daemon, domain):
        if domain is None:
            return Observation(Sighting.ABSENT)
        guest = domain.guest
        observations = self.minion.observations.setdefault((guest.uuid, self.node), [])
        observations.append((self.world.now, guest.owners()))
        sighting = SIGHTINGS.get((domain.state, domain.reason)) or PLAIN.get(
            domain.state, Sighting.PAUSED_OTHERWISE
        )
        if sighting is Sighting.PAUSED_BY_USER and domain.mark:
            sighting = Sighting.WAITING
        return Observation(
            sighting,
            name=guest.name,
            uuid=guest.uuid,
            persistent=domain.persistent,
            autostart=domain.autostart,
            job=_job(domain),
            mark=domain.mark if sighting is Sighting.WAITING else "",
            reason=domain.reason,
        )

    def names(self):
        return self._ask(lambda daemon: [d.guest.name for d in daemon.domains.values()])

    def host(self):
        return self._ask(lambda daemon: Host(f"uuid of {self.node}", self.node))

    def moving(self, job):
        return self._ask(
            lambda daemon: {
                domain.guest.uuid: domain.guest.name
                for domain in daemon.domains.values()
                if _job(domain) == job
            }
        )

    def create(self, definition, end):
        since = self.minion.asked_since()
        guest = next(one for one in self.world.guests.values() if one.uuid in definition)

        def verb(daemon, call):
            daemon.create(definition, call, since=since)

        return self._begin(guest, verb, end)

    def boot(self, uuid, end):
        since = self.minion.asked_since()

        def verb(daemon, call):
            daemon.boot_guest(uuid, call, since=since)

        return self._begin(self._guest(uuid), verb, end)

    def _guest(self, uuid):
        return next(one for one in self.world.guests.values() if one.uuid == uuid)

    def _touched(self, guest, what):
        if self.world.pacemaker:
            self.world.pacemaker.touched(guest, what)

    def _begin(self, guest, verb, end):
        """Begin a start; a daemon that stands still begins it when it goes on, unless too late."""
        call = Call()

        def begin():
            daemon = self.world.daemons[self.node]
            self.minion.begun = self.world.now
            self._touched(guest, f"a start on {self.node}")

            def work():
                if self.world.now >= end:
                    call.end("the deadline passed before the call; nothing was done")
                else:
                    verb(daemon, call)

            if not daemon.up:
                call.end("Failed to connect socket: Connection refused")
            elif daemon.stopped:
                daemon.frozen.append(work)
                daemon.calls.append(call)
            else:
                work()
            return call

        return self.minion.call(begin, fallible=False)

    def press_power(self, uuid):
        self._touched(self._guest(uuid), f"the power button on {self.node}")
        self._ask(lambda daemon: daemon.press_power(uuid))

    def press_reboot(self, uuid):
        self._touched(self._guest(uuid), f"the power button on {self.node}")
        self._ask(lambda daemon: daemon.press_reboot(uuid))

    def reset(self, uuid):
        self._touched(self._guest(uuid), f"a reset on {self.node}")
        self._ask(lambda daemon: daemon.reset(uuid))

    def note(self, uuid, namespace, text):
        self._ask(lambda daemon: daemon.find(uuid))

    def definition(self, name):
        def kept(daemon):
            found = [one for one in daemon.domains.values() if one.guest.name == name]
            return found[0].definition if found and found[0].persistent else ""

        return self._ask(kept)

    def migrate(self, uuid, plan):
        call = Call()

        def begin():
            self.minion.begun = self.minion.clock.read
            self._touched(self._guest(uuid), f"a migration from {self.node}")
            daemon = self.world.daemons[self.node]
            peer = next(
                node.id
                for node in self.minion.cluster.nodes.values()
                if f"@{node.migration}/" in plan.connection
            )

            end = self.world.now + MOMENT

            def verb(daemon):
                if self.world.now >= end:
                    call.end("the deadline passed before the call; nothing was done")
                else:
                    daemon.migrate(uuid, plan, peer, call)

            if not daemon.up:
                call.end("Failed to connect socket: Connection refused")
            elif daemon.stopped:
                daemon.frozen.append(lambda: verb(daemon))
                daemon.calls.append(call)
            else:
                verb(daemon)
            return call

        return self.minion.call(begin, fallible=False)

    def progress(self, uuid):
        return self._ask(lambda daemon: daemon.progress(uuid) if uuid in daemon.domains else {})

    def measured(self, uuid):
        return self._ask(lambda daemon: daemon.measured(uuid))

    def set_downtime(self, uuid, milliseconds):
        self._ask(lambda daemon: daemon.set_downtime(uuid, milliseconds))

    def start_post_copy(self, uuid):
        self._ask(lambda daemon: daemon.start_post_copy(uuid))

    def abort(self, uuid):
        self._ask(lambda daemon: daemon.abort(uuid))

    def destroy(self, uuid):
        by = sim.OPERATOR if self.minion.may_destroy else sim.ENGINE
        self._touched(self._guest(uuid), f"the end of a copy on {self.node}")
        self._ask(lambda daemon: daemon.destroy(uuid, by))

    def destroy_copy(self, uuid, mark):
        end, observation = self.world.now + MOMENT, self.by_uuid(uuid)
        waits = observation.sighting is Sighting.WAITING and observation.mark == mark
        left = (Sighting.PAUSED_FOR_MIGRATION, Sighting.PAUSED_BY_ERROR)
        if not (waits or observation.sighting in left) or observation.job:
            raise WorldError(
                f"not destroyed: it is now {observation.sighting.value} {observation.job}"
            )
        if self.world.now >= end:
            raise WorldError("the deadline passed before the call; nothing was done")
        self.destroy(uuid)

    def version(self):
        return self._ask(lambda daemon: 11_004_000 if self.world.activates else 9_000_000)

    def run(self, uuid):
        def found(daemon):
            qemu = daemon.find(uuid).qemu
            if qemu is None:
                raise LibvirtError("domain is not running")
            version = 10_000_000 if self.world.activates else 7_002_000
            return Run(qemu.stands_since_arrival and not self.world.activates, version)

        return self._ask(found)

    def ready(self, uuid):
        """Connect ahead of time; nothing waits for it."""
        call, world = Call(), self.world

        def arrive():
            daemon = world.daemons[self.node]
            if world.path(sim.SSH, self.minion.here, self.node) and daemon.up:
                self.connected = True
                call.end("" if uuid in daemon.domains else "no domain")

        def begin():
            world.after(0.005 if self.connected else 0.2, arrive)
            return call

        return self.minion.call(begin, fallible=False)

    def migratable(self, uuid):
        return self.described(uuid)

    def unmark(self, uuid):
        self._ask(lambda daemon: daemon.unmark(uuid))

    def resume(self, uuid, mark):
        """Send a resume, and do not wait; it may arrive late, and its answer may be lost."""
        call, world, here = Call(), self.world, self.minion.here

        def wanted(domain):
            waits = (domain.state, domain.reason, domain.mark) == (
                libvirtd.PAUSED,
                libvirtd.BY_USER,
                mark,
            )
            return "" if waits or domain.state == libvirtd.RUNNING else "it does not wait"

        def work():
            daemon = world.daemons[self.node]
            _, error = _outcome(lambda one: one.resume(uuid, wanted if mark else None), daemon)
            if world.path(sim.SSH, here, self.node):
                call.end(str(error) if error else "")

        def arrive():
            daemon = world.daemons[self.node]
            if not world.path(sim.SSH, here, self.node):
                world.when_healed(here, self.node, arrive)
            elif not daemon.up:
                call.end("Failed to connect socket: Connection refused")
            elif daemon.stopped:
                daemon.frozen.append(work)
            else:
                work()

        def begin():
            world.after(0.003 if self.connected else 0.2, arrive)
            return call

        return self.minion.call(begin, fallible=False)

    def resume_stopped(self, uuid):
        end = self.world.now + MOMENT

        def wanted(domain):
            reasons = (libvirtd.MIGRATION, libvirtd.API_ERROR)
            if domain.state == libvirtd.RUNNING or (
                domain.job is None and domain.reason in reasons
            ):
                return "" if self.world.now < end else "the deadline passed"
            return f"it is {domain.state}, {domain.reason}"

        self._ask(lambda daemon: daemon.resume(uuid, wanted))

    def described(self, uuid):
        return self._ask(lambda daemon: daemon.find(uuid).live)

    def definition_of(self, uuid):
        def kept(daemon):
            domain = daemon.find(uuid)
            return domain.definition if domain.persistent else domain.live

        return self._ask(kept)

    def define(self, definition):
        self._ask(lambda daemon: daemon.define(definition))

    def undefine(self, uuid):
        self._ask(lambda daemon: daemon.undefine(uuid))

    def autostart_off(self, uuid):
        self._ask(lambda daemon: daemon.autostart_off(uuid))


def _outcome(verb, daemon):
    try:
        return verb(daemon), None
    except LibvirtError as error:
        return None, error


def _job(domain):
    """What is under way with a domain; see host.libvirt_domains."""
    if domain.state == libvirtd.SHUT_OFF:
        return ""
    if domain.reason == libvirtd.POST_COPY_FAILED:
        return verdicts.BROKEN
    if domain.job:
        return verdicts.INCOMING if domain.job.kind == libvirtd.IN else verdicts.OUTGOING
    return verdicts.BOOT if domain.reason == libvirtd.STARTING else ""


class Control(Remote):
    """Pacemaker, driven by one node's tools, as host/pacemaker_control.py does."""

    def _ask(self, verb):
        """Have the tools of a node change something; without quorum they change nothing."""

        def carried():
            self.reach()
            self.world.advance(self.world.some(0.02, 0.2))
            found = self._again(verb)
            self.come_back()
            return found

        return self.minion.call(carried, lambda: self._again(verb))

    def _again(self, verb):
        self.world.pacemaker.check(self.node)
        return verb(self.world.pacemaker)

    def hold(self, resource, hold):
        return self._ask(lambda pacemaker: pacemaker.hold(resource, hold.mark))

    def release(self, resource, mark):
        return self._ask(lambda pacemaker: pacemaker.release(resource, mark))

    def refresh(self, resource):
        self._ask(lambda pacemaker: pacemaker.refresh(resource))

    def wait(self, seconds):
        end = self.world.now + seconds

        def waited(pacemaker):
            self.world.until(end, lambda: pacemaker.idle)
            if not pacemaker.idle:
                raise WorldError(f"crm_resource on {self.node} failed: it was not idle in time")

        self._ask(waited)

    def want(self, resource, role):
        self._ask(lambda pacemaker: pacemaker.set_meta(resource, "target-role", role))

    def standby(self, node, number, mark):
        return self._ask(lambda pacemaker: pacemaker.set_our_standby(node, mark))

    def end_standby(self, node, number):
        return self._ask(lambda pacemaker: pacemaker.end_our_standby(node))

    # No command that is simulated tests a fence device.

    def monitor(self, device):
        raise NotImplementedError

    def fence(self, node):
        raise NotImplementedError

    def fencer_log(self):
        raise NotImplementedError


class Journal(Remote):
    """A node's journal: written on that node alone, read and cleared from everywhere."""

    def _ask(self, verb, writes=False):
        def carried():
            self.reach()
            if writes and self.node in self.world.full:
                raise WorldError(f"{self.node}: No space left on device")
            found = verb(self.minion.shelves[self.node])
            self.come_back()
            return found

        if writes and self.node != self.minion.here:
            raise WorldError(f"the journal of {self.node} is only written there")
        self._refuse_login()
        return self.minion.call(carried)

    def _refuse_login(self):
        if self.node != self.minion.here and not self.minion.cluster.ssh.is_root:
            raise WorldError(f"the journal of {self.node}: Permission denied")

    def entries(self):
        return self._ask(lambda shelf: Kept(tuple(shelf.entries.values())))

    def locked(self, uuid):
        return self._ask(lambda shelf: shelf.locks.setdefault(uuid, self.minion)) is self.minion

    def write(self, entry):
        self._ask(lambda shelf: shelf.entries.__setitem__(entry.move.uuid, entry), writes=True)

    def advance(self, least):
        """Count, in no time: it is one more question over a login that is open anyway."""
        self._refuse_login()
        world, shelf = self.world, self.minion.shelves[self.node]
        here = self.minion.here
        if self.node in world.full or self.node in world.dark:
            raise WorldError(f"{self.node}: No space left on device")
        if here != self.node and not world.path(sim.SSH, here, self.node):
            raise WorldError(f"no response from {self.node}")
        shelf.counted = max(shelf.counted, least) + 1
        return shelf.counted

    def clear(self, uuid):
        def forget(shelf):
            shelf.entries.pop(uuid, None)
            shelf.requests.pop(uuid, None)

        self._ask(forget)

    def ask_to_cancel(self, uuid, requester):
        self._ask(lambda shelf: shelf.requests.__setitem__(uuid, requester), writes=True)

    def asked_to_cancel(self, uuid):
        return self._ask(lambda shelf: shelf.requests.get(uuid, ""))

    def withdraw(self, uuid):
        self._ask(lambda shelf: shelf.requests.pop(uuid, None))

    def keep(self, node, uuid, definition):
        self._ask(lambda shelf: shelf.undefined.__setitem__((uuid, node), definition), writes=True)

    def last_run(self, guest):
        def read(shelf):
            return handover.last_run(self.world.daemons[self.node].log(guest))

        return self._ask(read)

    def traces(self, guest):
        raise NotImplementedError("no command that is simulated restarts what crashed")

    def contacts(self):
        return self._ask(
            lambda shelf: contacts.of_history("\n".join(map(json.dumps, shelf.history)))
        )

    def note_shutdown(self, guest, time):
        self._ask(lambda shelf: shelf.shutdowns.__setitem__(guest, time), writes=True)

    def forget_shutdown(self, guest):
        self._ask(lambda shelf: shelf.shutdowns.pop(guest, None))

    def remember(self, record):
        self._ask(lambda shelf: shelf.history.append(record), writes=True)
