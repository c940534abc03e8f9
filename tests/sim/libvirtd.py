"""libvirt 9.0's daemon in the simulated world, as far as migrations and what settles them go.

The names of its parts in libvirt's source: `_migration` is qemuMigrationSrcPerformJob, `_peer`
qemuMigrationSrcPerformPeer2Peer3, `_perform` qemuMigrationSrcRun, `_prepare`
qemuMigrationDstPrepareFresh, `_finish` qemuMigrationDstFinish, `_confirm`
qemuMigrationSrcConfirmPhase, `_recover_*` qemuProcessRecoverMigrationIn and -Out.
"""

from __future__ import annotations

import re

import world as sim
from world import EPSILON, Answer

from saltext_kvmcluster.core.migration import handover

RUNNING, PAUSED, SHUT_OFF = "running", "paused", "shut off"
BY_USER, MIGRATION, POST_COPY, POST_COPY_FAILED = (
    "by its user",
    "migration",
    "post-copy",
    "post-copy failed",
)
STARTING, API_ERROR = "starting up", "API error"
IN, OUT = "migration in", "migration out"
PHASES = (
    *("none", "begin3", "perform3", "perform3_done", "confirm3_cancelled", "confirm3"),
    *("prepare", "finish3"),
    *("postcopy_failed", "begin_resume", "perform_resume", "confirm_resume"),
    *("prepare_resume", "finish_resume"),
)
KEEPALIVE = (25.0, 30.0)
JOB_WAIT = 30.0
MIB = 2**20
LIMITS = ("BANDWIDTH", "BANDWIDTH_POSTCOPY")


class LibvirtError(Exception):
    """What libvirt says when something is not done."""


class Locked(LibvirtError):
    """A verb has to wait for a domain's job; libvirt gives up after JOB_WAIT seconds."""

    def __init__(self, domain):
        super().__init__("Timed out during operation: cannot acquire state change lock")
        self.domain = domain


class Thread:
    """A thread of a daemon: it yields seconds to sleep, or an Answer to wait for."""

    __slots__ = ("_done", "_life", "daemon", "work")

    def __init__(self, daemon, work, done=None):
        self.daemon, self.work, self._done, self._life = daemon, work, done, daemon.life
        self._go()

    def _go(self, value=None):
        daemon = self.daemon
        if daemon.life != self._life:
            return
        if daemon.stopped:
            daemon.frozen.append(lambda: self._go(value))
            return
        try:
            wanted = self.work.send(value)
        except StopIteration as end:
            self._end(end.value, None)
        except LibvirtError as error:
            self._end(None, error)
        else:
            if isinstance(wanted, Answer):
                wanted.then(self._go)
            else:
                daemon.world.after(wanted, self._go)

    def _end(self, value, error):
        if self._done:
            self._done(value, error)


class Connection:
    """The connection from a source's daemon to the destination's, over ssh."""

    def __init__(self, source, peer):
        self.world, self.source, self.peer = source.world, source, peer
        self.open_here = self.open_there = True
        self.calls = set()
        self.working = 0
        self.waiting = []
        self._due = {source: 0.0, peer: 0.0}
        self._trouble, self._token = (False, False, False), 0
        source.connections.append(self)
        peer.connections.append(self)

    # What goes over it

    def call(self, handler):
        """Have the peer's daemon do something; the answer is (value, error)."""
        answer = Answer()
        if not self.open_here:
            answer.set((None, LibvirtError("client socket is closed")))
            return answer
        self.calls.add(answer)
        self._carry(self.peer, lambda: self._work(handler, answer))
        return answer

    def _work(self, handler, answer):
        if not self.open_there:
            return
        self.working += 1

        def done(value, error):
            self.working -= 1
            self._carry(self.source, lambda: self._answered(answer, value, error))
            if not self.open_there:
                self._let_go()

        Thread(self.peer, handler(self.peer, self), done)

    def _answered(self, answer, value, error):
        if self.open_here:
            self.calls.discard(answer)
            answer.set((value, error))

    def _carry(self, to, call):
        """Let something arrive at a daemon, in order: soon, or when the network is back."""
        world, life = self.world, to.life

        def arrive():
            if to.life != life:
                return
            if to.stopped:
                to.frozen.append(call)
            else:
                call()

        if self._path():
            self._send(to, arrive, world.some(0.001, 0.02))
        else:
            self.waiting.append((to, arrive))

    def _send(self, to, arrive, seconds):
        world = self.world
        self._due[to] = due = max(world.now + seconds, self._due[to] + EPSILON)
        world.after(due - world.now, arrive)

    def _path(self):
        return self.world.path(sim.SSH, self.source.node, self.peer.node)

    # Its life

    def check(self):
        """A network or a daemon changed: keepalive notices after a while."""
        world = self.world
        if self._path() and self.waiting:
            waiting, self.waiting = self.waiting, []
            delay = world.some(0.1, 3.0)
            for to, arrive in waiting:
                self._send(to, arrive, delay)
        trouble = (not self._path(), self.source.stopped, self.peer.stopped)
        if trouble == self._trouble:
            return
        self._trouble = trouble
        self._token += 1
        if any(trouble):
            token = self._token
            world.after(world.some(*KEEPALIVE), lambda: self._dead(token, here=True))
            world.after(world.some(*KEEPALIVE), lambda: self._dead(token, here=False))

    def _dead(self, token, here):
        if token != self._token:
            return
        daemon, other = (self.source, self.peer) if here else (self.peer, self.source)
        if not daemon.stopped and (not self._path() or other.stopped):
            self.close(here)

    def close(self, here):
        """Close one of its ends; the other learns of it as far as the network carries it."""
        if here and self.open_here:
            self.open_here = False
            self.world.note(f"{self.source.node}: connection to {self.peer.node}'s libvirtd closed")
            calls, self.calls = self.calls, set()
            for answer in calls:
                answer.set((None, LibvirtError("client socket is closed")))
            self.source.connection_closed(self)
            self._carry(self.peer, lambda: self.close(here=False))
        elif not here and self.open_there:
            self.open_there = False
            self._carry(self.source, lambda: self.close(here=True))
            if not self.working:
                self._let_go()
        self._forget()

    def _let_go(self):
        self.peer.client_gone(self)

    def _forget(self):
        if not (self.open_here or self.open_there or self.working):
            for daemon in (self.source, self.peer):
                if self in daemon.connections:
                    daemon.connections.remove(self)


class Job:
    """An asynchronous job of a domain. ``phase`` and ``flags`` outlive the daemon."""

    __slots__ = (
        *("abort", "flags", "kind", "mig", "paused", "phase", "started", "status", "watched"),
        "stopped",
    )

    def __init__(self, kind, now, flags=frozenset()):
        self.kind, self.phase, self.flags = kind, "none", flags
        self.started, self.stopped = now, None
        self.watched, self.paused, self.abort = True, False, False
        self.status, self.mig = "active", sim.NONE

    @property
    def unattended(self):
        return self.phase == "postcopy_failed" and not self.watched


class Domain:
    """A domain as one daemon knows it."""

    __slots__ = (
        *("autostart", "autodestroy", "before", "changed", "completed", "definition", "guest"),
        *("job", "live", "mark", "persistent", "qemu", "reason", "saved", "starting", "state"),
    )

    def __init__(self, guest, definition):
        self.guest, self.definition, self.live = guest, definition, definition
        self.qemu, self.state, self.reason = None, SHUT_OFF, ""
        self.persistent = self.autostart = self.saved = False
        self.job = self.completed = self.autodestroy = self.before = None
        self.starting, self.mark = MIGRATION, ""
        self.changed = Answer()

    def wake(self):
        changed, self.changed = self.changed, Answer()
        changed.set()

    @property
    def failed_post_copy(self):
        return bool(self.job and self.job.paused) or self.reason == POST_COPY_FAILED

    @property
    def post_copy(self):
        return self.failed_post_copy or self.reason == POST_COPY


class Daemon:
    """One node's libvirtd."""

    def __init__(self, world, node):
        self.world, self.node = world, node
        self.up, self.stopped, self.life = True, False, 0
        self.domains, self.connections, self.frozen, self.reported, self.calls = {}, [], [], [], []
        self.logs, self.watched = {}, {}
        world.daemons[node] = self

    # Faults

    def kill(self):
        if not self.up:
            return
        self.world.note(f"{self.node}: libvirtd killed")
        self.up, self.stopped = False, False
        self.life += 1
        self.frozen, self.reported = [], []
        self.drop_clients()
        for call in [call for calls in self.watched.values() for call in calls]:
            call.end("Cannot recv data: Connection reset by peer")
        for domain in self.domains.values():
            domain.autodestroy, domain.completed = None, None
            domain.changed = Answer()
            if domain.qemu:
                domain.qemu.events = None
        connections, self.connections = self.connections, []
        for connection in connections:
            if connection.peer is self:
                connection.working = 0
            connection.close(here=connection.source is self)
        self.world.changed()

    def start(self):
        """Start it, and have it find its domains again."""
        if self.up or self.node in self.world.dark:
            return
        self.world.note(f"{self.node}: libvirtd started")
        self.up = True
        for domain in list(self.domains.values()):
            self._reconnect(domain)
        self.world.changed()

    def stop(self):
        if self.up and not self.stopped:
            self.world.note(f"{self.node}: libvirtd stopped (SIGSTOP)")
            self.stopped = True
            self.world.changed()

    def go_on(self):
        if self.stopped:
            self.world.note(f"{self.node}: libvirtd goes on (SIGCONT)")
            self.stopped = False
            # What QEMUs told goes to threads of their own, which are quicker than a client's call.
            frozen, self.frozen, self.reported = self.reported + self.frozen, [], []
            for call in frozen:
                self.world.after(1e-6, self._unless_killed(call))
            self.world.changed()

    def _unless_killed(self, call):
        life = self.life

        def unless():
            if self.life != life:
                return
            if self.stopped:
                self.frozen.append(call)
            else:
                call()

        return unless

    def power_off(self):
        """Nothing of it is left but definitions, and what starts by itself."""
        self.kill()
        for connection in list(self.connections):
            connection.check()
        for domain in list(self.domains.values()):
            domain.qemu = domain.job = None
            domain.state, domain.reason = SHUT_OFF, "crashed"
            self._remove_inactive(domain)

    def boot(self):
        """Start it on a host that has just booted."""
        self.start()
        for domain in list(self.domains.values()):
            if domain.autostart and self.world.may_lock(domain.guest):
                qemu = sim.Qemu(domain.guest, self.node)
                self._attach(domain, qemu)
                self._log(domain.guest, "starting up libvirt version: 9.0.0")
                domain.state, domain.reason = PAUSED, STARTING
                self._start_cpus(domain, "booted")

    def drop_clients(self):
        """Close the connections of those who wait for a call; what they asked for goes on."""
        calls, self.calls = self.calls, []
        for call in calls:
            call.end("End of file while reading data: Input/output error")

    # Domains

    def begin(self, guest, definition, running=True, persistent=False, autostart=False):
        """Have a guest here from the beginning."""
        domain = self.domains[guest.uuid] = Domain(guest, definition)
        domain.persistent, domain.autostart = persistent, autostart
        qemu = sim.Qemu(guest, self.node)
        self._attach(domain, qemu)
        self._log(guest, "starting up libvirt version: 9.0.0")
        guest.owner, guest.lock = qemu, qemu
        domain.state, domain.reason = PAUSED, BY_USER
        if running:
            self._start_cpus(domain, "booted")
        return domain

    def begin_off(self, guest, definition):
        """Have the definition of a guest here that is shut off."""
        domain = self.domains[guest.uuid] = Domain(guest, definition)
        domain.persistent = True
        return domain

    # Starts and ends

    def create(self, definition, call, by=sim.ENGINE, since=0.0):
        """Begin to start a transient guest."""
        guest = next(one for one in self.world.guests.values() if one.uuid in definition)
        self._begin_start(guest, definition, call, by, since)

    def boot_guest(self, uuid, call, by=sim.ENGINE, since=0.0):
        """Begin to start a guest that is defined here."""
        guest = next(one for one in self.world.guests.values() if one.uuid == uuid)
        self._begin_start(guest, None, call, by, since)

    def _begin_start(self, guest, definition, call, by, since):
        self.calls.append(call)

        def done(value, error):
            if call in self.calls:
                self.calls.remove(call)
            call.end(str(error) if error else "")

        Thread(self, self._starting(guest, definition, by, since), done)

    def _starting(self, guest, definition, by, since):
        domain = self.domains.get(guest.uuid)
        if domain and (domain.qemu or domain.job):
            raise LibvirtError(f"operation failed: domain '{guest.name}' is already active")
        if domain is None and definition is None:
            raise LibvirtError(f"Domain not found: no domain with matching uuid '{guest.uuid}'")
        if domain is None:
            domain = self.domains[guest.uuid] = Domain(guest, definition)
        domain.live = definition or domain.definition
        qemu = sim.Qemu(guest, self.node, incoming=True)
        qemu.paused_as = "booting"
        self._attach(domain, qemu)
        self._log(guest, "starting up libvirt version: 9.0.0")
        domain.state, domain.reason, domain.starting = PAUSED, STARTING, "booted"
        self.world.step("starting")
        yield self.world.some(0.1, 1.0)
        if domain.qemu is not qemu or not qemu.alive:
            raise LibvirtError("internal error: QEMU unexpectedly closed the monitor")
        if not qemu.boot(by, since):
            self._stopped(domain, "failed")
            raise LibvirtError('internal error: process exited: Failed to get "write" lock')
        self.world.step("started")
        yield 0.002

    def press_power(self, uuid):
        guest = self._running(uuid).guest
        if guest.obeys:
            self.world.after(self.world.some(0.5, 8.0), lambda: self._power_pressed(guest))

    def _power_pressed(self, guest, restarts=None):
        """The guest has shut itself down, wherever it runs by now.

        restarts
            The QEMU whose daemon starts it anew then.
        """
        for qemu in guest.running:
            if qemu is restarts and self.up:
                self.reset(guest.uuid)
            else:
                qemu.die(sim.OPERATOR, "shut down")
        if guest.alive and not guest.running:
            self.world.after(0.5, lambda: self._power_pressed(guest, restarts))

    def press_reboot(self, uuid):
        qemu = self._running(uuid)
        if qemu.guest.obeys:
            pressed = self.world.some(0.5, 8.0)
            self.world.after(pressed, lambda: self._power_pressed(qemu.guest, qemu))

    def reset(self, uuid):
        """Reset a guest: its QEMU stays, and who watches it is notified."""
        self.world.note(f"{self._running(uuid)}: reset")
        for call in self.watched.get(uuid, ()):
            if not call.done():
                call.end()

    def _running(self, uuid):
        qemu = self.find(uuid).qemu
        if not qemu:
            raise LibvirtError("Requested operation is not valid: domain is not running")
        return qemu

    def _log(self, guest, words):
        """What libvirt appends to a guest's log, with the time of a clock that nobody may trust."""
        self.logs.setdefault(guest.name, []).append(f"2030-01-01 00:00:00.000+0000: {words}\n")

    def log(self, name):
        return "".join(self.logs.get(name, ()))

    def find(self, uuid):
        domain = self.domains.get(uuid)
        if domain is None:
            raise LibvirtError(f"Domain not found: no domain with matching uuid '{uuid}'")
        return domain

    def _attach(self, domain, qemu):
        domain.qemu = qemu
        qemu.events = lambda event, value="": self._event(domain, qemu, event, value)

    def _event(self, domain, qemu, event, value):
        if self.stopped:
            self.reported.append(lambda: self._handle(domain, qemu, event, value))
        else:
            self._handle(domain, qemu, event, value)

    def _handle(self, domain, qemu, event, value):
        """What the monitor of a domain's QEMU tells."""
        if domain.qemu is not qemu:
            return
        job = domain.job
        if event == "EOF":
            self._stopped(domain, "crashed")
        elif event == "STOP" and domain.state == RUNNING:
            domain.state, domain.reason = PAUSED, BY_USER
            if job and job.kind == OUT:
                domain.reason = POST_COPY if job.mig == sim.POST_COPY else MIGRATION
                job.stopped = self.world.now
        elif event == "RESUME" and domain.state != RUNNING:
            domain.state, domain.reason = RUNNING, domain.starting
            domain.starting = "unpaused"
            if domain.job and domain.job.paused:
                domain.reason = POST_COPY_FAILED
        elif event == "MIGRATION" and job:
            self._migration_event(domain, job, value)
        domain.wake()

    def _migration_event(self, domain, job, status):
        job.mig = status
        if status == sim.POST_COPY:
            if job.kind == OUT and (domain.state, domain.reason) == (PAUSED, MIGRATION):
                domain.reason = POST_COPY
            if job.paused:
                job.paused = False
                domain.reason = POST_COPY
        elif status == sim.POST_COPY_PAUSED and job.kind == OUT and domain.state == PAUSED:
            self._source_failed(domain)
        elif status == sim.COMPLETED and job.unattended and domain.post_copy:
            self._unattended(domain)

    def _stopped(self, domain, reason, by=sim.LIBVIRT):
        """End a domain's QEMU, if it still lives, and be rid of it if it is transient."""
        qemu, domain.qemu = domain.qemu, None
        domain.state, domain.reason, domain.mark = SHUT_OFF, reason, ""
        if qemu:
            self._log(domain.guest, f"shutting down, reason={reason.replace(' ', '')}")
        if domain.job and not domain.job.watched:
            domain.job = None
        if qemu:
            qemu.events = None
            qemu.die(by, "ended")
        self._remove_inactive(domain)
        domain.wake()

    def _remove_inactive(self, domain):
        if not domain.persistent and not domain.qemu:
            self.domains.pop(domain.guest.uuid, None)

    def _start_cpus(self, domain, reason):
        domain.starting = reason
        if domain.qemu.start():
            return True
        domain.starting = "unpaused"
        return False

    # The source of a migration

    def migrate(self, uuid, plan, peer, call):
        """Begin a migration as virDomainMigrateToURI3 does."""
        self.calls.append(call)

        def done(value, error):
            if call in self.calls:
                self.calls.remove(call)
            call.end(str(error) if error else "")

        work = self._resumption if "POSTCOPY_RESUME" in plan.flags else self._migration
        Thread(self, work(uuid, plan, peer), done)

    def _migration(self, uuid, plan, peer):
        domain = self.find(uuid)
        name = domain.guest.name
        if domain.job:
            raise LibvirtError(f"another migration job is already running for domain '{name}'")
        if {"PAUSED", "POSTCOPY"} <= set(plan.flags):
            raise LibvirtError("post-copy migration is not supported with non-live or paused one")
        domain.job = job = Job(OUT, self.world.now, frozenset(plan.flags))
        self._check_slots(OUT)
        if not domain.qemu:
            self._end_job(domain, job)
            raise LibvirtError("domain is not running")
        domain.before = domain.state
        error = None
        try:
            yield from self._peer(domain, job, plan, peer)
        except LibvirtError as detail:
            error = detail
        if domain.failed_post_copy:
            job.phase, job.watched = "postcopy_failed", False
        else:
            self._restore(domain)
            self._end_job(domain, job)
        if not domain.qemu and not error:
            if "UNDEFINE_SOURCE" in job.flags:
                domain.persistent = domain.autostart = False
            self._remove_inactive(domain)
        if error:
            raise error

    def _check_slots(self, kind):
        """More migrations at once than the pillar allows are wrong, but for lost tickets."""
        jobs = [
            domain.guest.name
            for domain in self.domains.values()
            if domain.job
            and domain.job.kind == kind
            and not domain.failed_post_copy
            and domain.guest.name not in self.world.slotless
        ]
        if self.world.limits and len(jobs) > self.world.limits[kind]:
            self.world.violation("slots", f"{self.node}: {kind} at once: {', '.join(jobs)}")

    def _end_job(self, domain, job):
        if domain.job is job:
            domain.job = None

    def _restore(self, domain):
        """Let a guest run again that ran before its migration."""
        before, domain.before = domain.before, None
        may = domain.state == PAUSED and domain.reason != POST_COPY_FAILED and before == RUNNING
        if may and not self._start_cpus(domain, "migration canceled") and self.world.activates:
            domain.reason = API_ERROR

    def _connected(self, domain, peer):
        """Open a connection to the peer's daemon."""
        world = self.world
        yield world.some(0.1, 0.3)
        other = world.daemons[peer]
        if not world.path(sim.SSH, self.node, peer):
            yield 10.0
            if not world.path(sim.SSH, self.node, peer):
                raise LibvirtError(f"ssh: connect to host {peer} port 22: Connection timed out")
        while other.stopped and world.path(sim.SSH, self.node, peer):
            yield 1.0
        if not other.up:
            raise LibvirtError("Failed to connect socket: Connection refused")
        if not world.path(sim.SSH, self.node, peer):
            raise LibvirtError("End of file while reading data: Input/output error")
        self._check_active(domain)
        return Connection(self, other)

    def _check_active(self, domain):
        if not domain.qemu:
            raise LibvirtError(f"operation failed: domain '{domain.guest.name}' is not running")

    def _peer(self, domain, job, plan, peer):
        connection = yield from self._connected(domain, peer)
        error = None
        try:
            yield from self._phases(domain, job, plan, connection)
        except LibvirtError as detail:
            error = detail
        connection.close(here=True)
        if error:
            raise error

    def _phases(self, domain, job, plan, connection):
        world = self.world
        job.phase = "begin3"
        world.step("begin")
        yield 0.003
        flags = set(plan.flags)
        if domain.state == PAUSED:
            flags.add("PAUSED")
        kept, live = domain.definition, plan.parameters.get("DEST_XML") or domain.live
        world.step("prepare sent")
        prepared, error = yield connection.call(
            lambda there, link: there._prepare(link, domain.guest, live, flags)
        )
        self._check_active(domain)
        if error:
            raise error
        job.phase = "perform3"
        self._log(domain.guest, "initiating migration")
        world.step("perform")
        first = None
        try:
            yield from self._perform(domain, job, plan, prepared, connection)
            job.phase = "perform3_done"
            world.step("perform done")
        except LibvirtError as detail:
            first = detail
        yield 0.002
        world.step("finish sent")
        cancelled = first is not None
        _, error = yield connection.call(
            lambda there, link: there._finish(link, domain.guest.uuid, kept, flags, cancelled)
        )
        moved = not error
        if not domain.qemu:
            if moved:
                return
            raise first or LibvirtError(f"domain '{domain.guest.name}' is not running")
        yield from self._confirm(domain, job, flags, moved)
        if not moved:
            raise first or error

    def _perform(self, domain, job, plan, prepared, connection):
        world, qemu = self.world, domain.qemu
        end = world.now + sim.CONNECT_LIMIT
        while not world.path(sim.DATA, self.node, prepared.node):
            if world.now >= end:
                raise LibvirtError("unable to connect to server: Connection timed out")
            yield 1.0
        if not prepared.alive:
            raise LibvirtError("unable to connect to server: Connection refused")
        self._check_active(domain)
        if job.abort:
            raise LibvirtError("operation aborted: migration out: canceled by client")
        if "LIVE" not in job.flags and domain.state == RUNNING:
            qemu.stop("paused")
        job.status = "migrating"
        limits = {name: value * MIB for name, value in plan.parameters.items() if name in LIMITS}
        stream = sim.Stream(qemu, prepared, "AUTO_CONVERGE" in job.flags, limits)
        qemu.migrate(stream)
        try:
            yield from self._completed(domain, job, connection, switch=True)
            if job.mig == sim.PRE_SWITCHOVER:
                world.step("switch")
                yield 0.002
                self._check_active(domain)
                stream.go_on()
                yield from self._completed(domain, job, connection, switch=False)
        except LibvirtError as error:
            cancel = job.mig not in sim.OVER and job.mig != sim.POST_COPY_PAUSED
            if domain.qemu:
                if (domain.state, domain.reason) == (PAUSED, POST_COPY):
                    domain.reason = MIGRATION
                if cancel:
                    stream.cancel()
            raise error

    def _completed(self, domain, job, connection, switch):
        """Wait until QEMU has sent everything; before the switch, if so wanted."""
        while True:
            self._check_active(domain)
            if job.mig == sim.FAILED:
                raise LibvirtError("operation failed: job 'migration out' unexpectedly failed")
            if job.mig == sim.CANCELLED:
                raise LibvirtError("operation aborted: job 'migration out' canceled by client")
            if job.mig == sim.POST_COPY_PAUSED:
                raise LibvirtError(
                    "operation failed: job 'migration out' failed in post-copy phase"
                )
            if not connection.open_here:
                raise LibvirtError("operation failed: Lost connection to destination host")
            if switch and job.mig == sim.PRE_SWITCHOVER:
                return
            if job.mig == sim.COMPLETED:
                job.status = "hypervisor completed"
                return
            if job.mig == sim.POST_COPY and "POSTCOPY" in job.flags:
                job.status = "post-copy"
                return
            yield domain.changed

    def _confirm(self, domain, job, flags, moved):
        qemu = domain.qemu
        if not moved and domain.post_copy and qemu.outgoing.status == sim.COMPLETED:
            moved = True
        if not domain.failed_post_copy:
            job.phase = "confirm3" if moved else "confirm3_cancelled"
        self.world.step("confirm" if moved else "confirm cancelled")
        yield 0.002
        if not domain.qemu:
            return
        if moved:
            domain.completed = self._finished_statistics(domain, job)
            yield self.world.some(0.005, 0.02)
            if domain.qemu:
                # libvirt's fixed sleep after its signal.
                self._end_migrated(domain)
                yield 0.2
                self._stop_migrated(domain)
        elif (domain.state, domain.reason) == (PAUSED, POST_COPY):
            self._source_failed(domain)
        elif not domain.failed_post_copy:
            self._restore(domain)

    def _stop_migrated(self, domain):
        """The source's QEMU has done its part."""
        self._end_migrated(domain)
        domain.qemu = None
        domain.state, domain.reason = SHUT_OFF, "migrated"
        domain.wake()

    def _end_migrated(self, domain):
        qemu = domain.qemu
        if qemu and qemu.alive:
            self._log(domain.guest, "shutting down, reason=migrated")
            qemu.events = None
            qemu.die(sim.LIBVIRT, "ended, migrated,")
            self.world.step("source over")

    def _source_failed(self, domain):
        if domain.state == PAUSED and not domain.failed_post_copy:
            domain.job.paused = True
            domain.reason = POST_COPY_FAILED

    def _destination_failed(self, domain):
        if not domain.failed_post_copy:
            domain.job.paused = True
            if domain.state == RUNNING:
                domain.reason = POST_COPY_FAILED

    def connection_closed(self, connection):
        for domain in self.domains.values():
            domain.wake()

    # The destination of a migration

    def _prepare(self, connection, guest, definition, flags):
        world = self.world
        domain = self.domains.get(guest.uuid)
        if domain and domain.qemu:
            raise LibvirtError(f"operation failed: domain '{guest.name}' is already active")
        if domain and domain.job:
            raise LibvirtError(f"another migration job is already running for '{guest.name}'")
        if domain is None:
            domain = self.domains[guest.uuid] = Domain(guest, definition)
        domain.live, domain.mark = definition, handover.mark_of(definition)
        domain.job = job = Job(IN, world.now, frozenset(flags))
        job.phase = "prepare"
        self._check_slots(IN)
        qemu = sim.Qemu(guest, self.node, incoming=True)
        self._attach(domain, qemu)
        self._log(guest, "starting up libvirt version: 9.0.0")
        domain.state, domain.reason = PAUSED, STARTING
        world.step("prepare")
        yield world.some(0.1, 0.5)
        if domain.qemu is not qemu or not qemu.alive:
            self._end_job(domain, job)
            self._remove_inactive(domain)
            raise LibvirtError("internal error: QEMU unexpectedly closed the monitor")
        domain.reason = MIGRATION
        domain.autodestroy = connection
        job.watched = False
        world.step("prepared")
        return qemu

    def client_gone(self, connection):
        """The connection of the source's daemon is closed, and nothing is done for it any more."""
        for domain in list(self.domains.values()):
            if domain.autodestroy is connection:
                domain.autodestroy = None
                if domain.qemu:
                    domain.job = None
                    self._stopped(domain, "destroyed")

    def _finish(self, connection, uuid, definition, flags, cancelled):
        domain = self.domains.get(uuid)
        if domain is None:
            raise LibvirtError(f"Domain not found: no domain with matching uuid '{uuid}'")
        job = domain.job
        if not job or job.kind != IN:
            raise LibvirtError("operation invalid: domain is not processing incoming migration")
        job.phase, job.watched = "finish3", True
        self.world.step("finish")
        kill = True
        persistent = domain.persistent
        try:
            if cancelled:
                raise LibvirtError("migration successfully aborted")
            if not domain.qemu:
                raise LibvirtError("internal error: guest unexpectedly quit")
            if "PERSIST_DEST" in flags:
                if self.node in self.world.full:
                    raise LibvirtError("cannot create config file: No space left on device")
                domain.persistent, domain.definition = True, definition
                persistent = True
            stream = domain.qemu.incoming
            yield from self._received(domain, stream, flags)
            in_post_copy = stream.status in (sim.POST_COPY, sim.POST_COPY_PAUSED)
            if "PAUSED" in flags and self.world.activates and not domain.qemu.activate():
                raise LibvirtError('internal error: Failed to get "write" lock')
            if "PAUSED" not in flags:
                self.world.step("resume")
                yield self.world.some(0.001, 0.01)
                self._check_active(domain)
                reason = POST_COPY if in_post_copy else "migrated"
                if not self._start_cpus(domain, reason):
                    raise LibvirtError('internal error: Failed to get "write" lock')
                self.world.step("resumed")
                kill = not in_post_copy
                yield 0.002
            if in_post_copy:
                yield from self._received(domain, stream, flags - {"POSTCOPY"})
            self._check_active(domain)
        except LibvirtError:
            domain.persistent = persistent
            self._finish_failed(domain, job, kill)
            raise
        self._destination_complete(domain, job)
        self.world.step("finished")
        return True

    def _received(self, domain, stream, flags):
        """Wait until all of a guest has arrived, or all that post-copy lets arrive before."""
        while True:
            self._check_active(domain)
            if stream is None:
                raise LibvirtError("operation failed: job 'migration in' is not active")
            if stream.status == sim.POST_COPY_PAUSED:
                raise LibvirtError("operation failed: job 'migration in' failed in post-copy phase")
            if stream.loaded or (stream.status == sim.POST_COPY and "POSTCOPY" in flags):
                return
            yield domain.changed

    def _finish_failed(self, domain, job, kill):
        if domain.qemu:
            if kill:
                domain.autodestroy = None
                self._stopped(domain, "failed")
            else:
                self._destination_failed(domain)
        if domain.qemu and domain.failed_post_copy:
            job.phase, job.watched, domain.autodestroy = "postcopy_failed", False, None
        else:
            self._end_job(domain, job)
            self._remove_inactive(domain)

    def _destination_complete(self, domain, job):
        domain.completed = self._finished_statistics(domain, job)
        domain.autodestroy = None
        if domain.state == RUNNING:
            domain.reason = "migrated"
        elif domain.state == PAUSED:
            domain.reason = BY_USER
            domain.qemu.finished = True
            if not domain.mark:
                domain.guest.owner = domain.qemu
        self._end_job(domain, job)

    def _unattended(self, domain):
        """A post-copy that nobody watched any more has come to its end after all."""
        job = domain.job
        if job.kind == IN:
            job.paused = False
            self._destination_complete(domain, job)
        else:
            self._end_job(domain, job)
            self._stop_migrated(domain)
            self._remove_inactive(domain)

    def _finished_statistics(self, domain, job):
        qemu = domain.qemu
        stream = qemu.outgoing or qemu.incoming
        if not stream:
            return None
        downtime = self.world.now - (stream.stopped_at or self.world.now)
        return {
            "type": 3,
            "operation": 5 if job.kind == OUT else 4,
            **stream.statistics(),
            "downtime": int(downtime * 1000),
        }

    # After a restart

    def _reconnect(self, domain):
        qemu, job = domain.qemu, domain.job
        domain.starting, domain.before = "unpaused", None
        if qemu is None:
            domain.job = None
            self._remove_inactive(domain)
            return
        if not qemu.alive or domain.reason == STARTING:
            domain.job = None
            self._stopped(domain, "crashed")
            return
        self._attach(domain, qemu)
        if qemu.running and domain.state == PAUSED:
            domain.state, domain.reason = RUNNING, "unpaused"
        elif not qemu.running and domain.state == RUNNING:
            domain.state = PAUSED
            domain.reason = BY_USER if qemu.paused_as == "paused" else MIGRATION
        if not job:
            return
        recover = self._recover_out if job.kind == OUT else self._recover_in
        fate = recover(domain, job)
        if fate == "kill":
            domain.job = None
            if job.kind == OUT:
                self._stop_migrated(domain)
                self._remove_inactive(domain)
            else:
                self._stopped(domain, "ended by the daemon")
        elif fate == "post-copy":
            self._recover_post_copy(domain, job)
        else:
            domain.job = None

    def _recover_in(self, domain, job):
        if job.phase == "prepare":
            return "kill"
        if job.phase == "finish3":
            if domain.post_copy:
                return "post-copy"
            return "kill" if domain.state != RUNNING else ""
        return "post-copy"

    def _recover_out(self, domain, job):
        resume = False
        if job.phase == "perform3":
            if domain.qemu.outgoing:
                domain.qemu.outgoing.cancel()
            resume = True
        elif job.phase == "perform3_done":
            if domain.post_copy:
                return "post-copy"
        elif job.phase == "confirm3_cancelled":
            if domain.post_copy:
                return "post-copy"
            resume = True
        elif job.phase == "confirm3":
            return "kill"
        elif job.phase == "confirm_resume":
            over = self._stream_status(domain) == sim.COMPLETED
            return "kill" if over else "post-copy"
        elif job.phase in ("postcopy_failed", "begin_resume", "perform_resume"):
            return "post-copy"
        if resume and (domain.state, domain.reason) == (PAUSED, MIGRATION):
            self._start_cpus(domain, "migration canceled")
        return ""

    def _stream_status(self, domain):
        stream = domain.qemu.outgoing or domain.qemu.incoming
        return stream.status if stream else sim.NONE

    def _recover_post_copy(self, domain, job):
        status = self._stream_status(domain)
        job.phase, job.watched, job.mig = "postcopy_failed", False, status
        if status == sim.POST_COPY:
            job.paused = False
        elif status != sim.COMPLETED:
            if job.kind == OUT:
                self._source_failed(domain)
            else:
                self._destination_failed(domain)
            job.paused = True
        elif job.kind == OUT:
            domain.job = None
            self._stop_migrated(domain)
            self._remove_inactive(domain)
        else:
            job.paused = False
            self._destination_complete(domain, job)

    # Resuming a post-copy that broke

    def _resumption(self, uuid, plan, peer):
        domain = self.find(uuid)
        job = domain.job
        self._can_resume(domain, OUT)
        job.phase, job.watched = "begin_resume", True
        error = None
        try:
            connection = yield from self._connected(domain, peer)
            error = yield from self._resumed(domain, job, uuid, connection)
            connection.close(here=True)
        except LibvirtError as detail:
            error = detail
        if domain.qemu:
            job.phase, job.watched = "postcopy_failed", False
        else:
            self._end_job(domain, job)
            self._remove_inactive(domain)
        if error:
            raise error

    def _resumed(self, domain, job, uuid, connection):
        _, error = yield connection.call(lambda there, link: there._prepare_resumption(uuid))
        self._check_active(domain)
        if error:
            return error
        job.phase = "perform_resume"
        if not domain.qemu.outgoing.resume():
            return LibvirtError("unable to connect to server: Connection timed out")
        _, error = yield connection.call(lambda there, link: there._finish_resumption(uuid))
        if domain.qemu:
            if not error or domain.qemu.outgoing.status == sim.COMPLETED:
                job.phase = "confirm_resume"
                self._stop_migrated(domain)
            else:
                self._source_failed(domain)
        return error

    def _can_resume(self, domain, kind):
        job = domain.job
        if not job or job.kind != kind:
            raise LibvirtError("Requested operation is not valid: no such migration")
        if job.watched:
            raise LibvirtError("migration is being actively monitored by another thread")
        if not domain.post_copy:
            raise LibvirtError("migration of the domain is not in post-copy phase")
        if job.phase != "postcopy_failed" and not domain.failed_post_copy:
            raise LibvirtError("post-copy migration of the domain has not failed")
        if self._stream_status(domain) != sim.POST_COPY_PAUSED:
            raise LibvirtError("QEMU reports migration is still running")

    def _prepare_resumption(self, uuid):
        domain = self.find(uuid)
        self._can_resume(domain, IN)
        domain.job.phase, domain.job.watched = "prepare_resume", True
        yield 0.01
        return True

    def _finish_resumption(self, uuid):
        domain = self.find(uuid)
        job = domain.job
        try:
            self._check_active(domain)
            yield from self._received(domain, domain.qemu.incoming, frozenset())
        except LibvirtError:
            if domain.qemu:
                self._destination_failed(domain)
                job.phase, job.watched = "postcopy_failed", False
            raise
        job.paused = False
        self._destination_complete(domain, job)
        return True

    # Single verbs

    def resume(self, uuid, wanted=None):
        """Resume a guest; ``wanted`` is given its domain first, and says what is wrong with it."""
        domain = self.find(uuid)
        if domain.job and domain.job.watched:
            raise Locked(domain)
        if not domain.qemu:
            raise LibvirtError("Requested operation is not valid: domain is not running")
        detail = wanted(domain) if wanted else ""
        if detail:
            raise LibvirtError(detail)
        if domain.state == RUNNING:
            return
        self.world.step("copy resumed" if domain.mark else "source resumed")
        domain.starting = "unpaused"
        if not domain.qemu:
            raise LibvirtError("internal error: QEMU unexpectedly closed the monitor")
        if not domain.qemu.start(by=sim.ENGINE):
            raise LibvirtError('internal error: Failed to get "write" lock')

    def snapshot(self, uuid):
        """Have a guest write to an overlay from now on, as a backup does."""
        disk = "<disk type='file'><source file='/overlay'/><target dev='vda'/></disk>"
        domain = self.find(uuid)
        domain.live = domain.live.replace("</domain>", f"<devices>{disk}</devices></domain>")

    def unpause(self, uuid):
        """Let a guest go on, as its user does."""
        domain = self.find(uuid)
        domain.starting = "unpaused"
        domain.qemu.start(by=sim.OPERATOR)

    def suspend(self, uuid):
        """Pause a guest, as its user does."""
        self.find(uuid).qemu.stop()

    def unmark(self, uuid):
        domain = self.find(uuid)
        self._modify_allowed(domain)
        domain.mark = ""
        domain.live = re.sub(f"<[^<]*{handover.NAMESPACE}[^<]*/>", "", domain.live)

    def abort(self, uuid):
        domain = self.find(uuid)
        job = domain.job
        if not domain.qemu:
            raise LibvirtError("Requested operation is not valid: domain is not running")
        if not job:
            raise LibvirtError("Requested operation is not valid: no job is active on the domain")
        if job.kind == IN:
            raise Locked(domain)
        if domain.post_copy:
            raise LibvirtError("cannot abort migration in post-copy mode")
        job.abort = True
        if domain.qemu.outgoing:
            domain.qemu.outgoing.cancel()

    def destroy(self, uuid, by=sim.ENGINE):
        domain = self.find(uuid)
        if not domain.qemu:
            raise LibvirtError("Requested operation is not valid: domain is not running")
        domain.autodestroy = None
        self._stopped(domain, "destroyed", by)

    def set_downtime(self, uuid, milliseconds):
        domain = self.find(uuid)
        self._modify_allowed(domain, OUT)
        self._check_active(domain)
        domain.qemu.downtime_limit = milliseconds / 1000

    def start_post_copy(self, uuid):
        domain = self.find(uuid)
        self._check_active(domain)
        if not domain.job or domain.job.kind != OUT or not domain.qemu.outgoing:
            raise LibvirtError(
                "post-copy can only be started while outgoing migration is in progress"
            )
        if "POSTCOPY" not in domain.job.flags:
            raise LibvirtError("switching to post-copy requires migration to be started with it")
        domain.qemu.outgoing.start_post_copy()

    def define(self, definition):
        if self.node in self.world.full:
            raise LibvirtError("cannot create config file: No space left on device")
        guest = next(one for one in self.world.guests.values() if one.uuid in definition)
        domain = self.domains.setdefault(guest.uuid, Domain(guest, definition))
        domain.persistent, domain.definition = True, definition

    def undefine(self, uuid):
        domain = self.find(uuid)
        self._modify_allowed(domain)
        if not domain.persistent:
            raise LibvirtError("Requested operation is not valid: cannot undefine transient domain")
        domain.persistent = domain.autostart = False
        self._remove_inactive(domain)

    def autostart_off(self, uuid):
        domain = self.find(uuid)
        if not domain.persistent:
            raise LibvirtError("cannot set autostart for transient domain")
        self._modify_allowed(domain)
        domain.autostart = False

    def _modify_allowed(self, domain, kind=None):
        if domain.job and domain.job.kind != kind:
            raise Locked(domain)

    def progress(self, uuid):
        domain = self.find(uuid)
        if not domain.qemu or not domain.job or domain.job.kind == IN:
            return {}
        stream = domain.qemu.outgoing
        found = {"type": 2, "operation": 5}
        if stream is None or domain.job.status == "active":
            elapsed = int((self.world.now - domain.job.started) * 1000)
            return {**found, "time_elapsed": elapsed, **dict.fromkeys(EMPTY, 0)}
        return {**found, **stream.statistics()}

    def measured(self, uuid):
        domain = self.find(uuid)
        return dict(domain.completed or {}) if not domain.job else {}


EMPTY = (
    *("data_total", "data_processed", "data_remaining"),
    *("memory_total", "memory_processed", "memory_remaining"),
    *("memory_dirty_rate", "memory_iteration", "memory_postcopy_requests"),
)
