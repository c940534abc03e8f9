"""A simulated world with virtual time: networks, disks with locks, QEMUs, and the truth of guests.

A QEMU behaves as QEMU 7.2 with the capabilities that libvirt 9.0 sets: return-path,
pause-before-switchover and late-block-activate. A guest is told by how long it has run: the number
that it writes ten times a second. Its image knows the highest one and who may write.
"""

from __future__ import annotations

import heapq
import math
import random
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

SSH, DATA = "ssh", "data"
FAULT, LIBVIRT, ENGINE, OPERATOR = "a fault", "libvirt", "the engine", "an operator"
PACEMAKER = "Pacemaker"
PER_SECOND = 10
CONNECT_LIMIT = 127.0  # Linux gives up a TCP connection after so long.
EPSILON = 1e-6
PAGE = 4096

# States of a migration as QEMU names them.
NONE, ACTIVE, PRE_SWITCHOVER, DEVICE = "none", "active", "pre-switchover", "device"
POST_COPY, POST_COPY_PAUSED = "postcopy-active", "postcopy-paused"
COMPLETED, FAILED, CANCELLED = "completed", "failed", "cancelled"
OVER = (COMPLETED, FAILED, CANCELLED, NONE)


class Answer:
    """Something that will be known, once."""

    __slots__ = ("_waiting", "known", "value")

    def __init__(self):
        self.known, self.value, self._waiting = False, None, []

    def set(self, value=None):
        if not self.known:
            self.known, self.value = True, value
            waiting, self._waiting = self._waiting, []
            for call in waiting:
                call(value)

    def then(self, call):
        if self.known:
            call(self.value)
        else:
            self._waiting.append(call)


class World:
    """All that there is, and when."""

    def __init__(self, nodes, seed=0, locks=True, keep_log=False):
        self.now = 0.0
        self.random = random.Random(seed)
        self.locks = locks
        # A copy that libvirt leaves paused takes its image's locks at once, as with QEMU 10.
        self.activates = False
        self.cut = {SSH: set(), DATA: set()}
        self.guests = {}
        self.daemons = {}
        self.full, self.dark = set(), set()
        self.losses = Counter()
        self.fences = False
        self.pacemaker = None
        # Seconds by which a node's clock is wrong; it was set.
        self.clocks = {}
        self.wrong = []
        self.lost_in_post_copy = 0
        self.log = [] if keep_log else None
        self.on_step = {}
        self.task, self.tasks, self.waiting = None, [], {}
        self._main_end = 0.0
        self.shells, self.limits, self.slotless = [], None, set()
        self._late = []
        self.nodes = tuple(nodes)
        self._queue, self._count = [], 0

    # Time

    def after(self, seconds, call):
        self._count += 1
        heapq.heappush(self._queue, (self.now + seconds, self._count, call))

    def advance(self, seconds):
        self.until(self.now + seconds)

    def until(self, end, ready=None):
        """Let time pass, at most until ``end``; stop as soon as it is ready."""
        if self.task:
            self._wait_in_turn(end, ready)
            return
        outer, self._main_end = self._main_end, end
        try:
            self._turn(end, ready)
        finally:
            self._main_end = outer

    def _wait_in_turn(self, end, ready):
        """Let a process wait; alone in the world until then, it goes on at once."""
        if ready and ready():
            return
        due = min(self._main_end, self._queue[0][0] if self._queue else end)
        if due > end and not any(is_due() for is_due in self.waiting.values()):
            self.now = max(self.now, end)
        else:
            self.task.wait(end, ready)

    def _turn(self, end, ready):
        queue = self._queue
        while not (ready and ready()):
            if not queue or queue[0][0] > end:
                self.now = max(self.now, end)
                return
            self.now, _, call = heapq.heappop(queue)
            call()
            while task := next((one for one, is_due in self.waiting.items() if is_due()), None):
                task.resume()

    def close(self):
        """End the processes that still wait."""
        for task in list(self.tasks):
            task.end()

    def some(self, low, high):
        """Some seconds of what always takes a little."""
        return self.random.uniform(low, high)

    # What is told

    def note(self, words):
        if self.log is not None:
            self.log.append(f"{self.now:9.3f}  {words}")

    def step(self, name):
        """A step of the protocol is reached: what was planned for it happens."""
        self.note(f"step {name}")
        for call in self.on_step.pop(name, ()):
            call()

    def violation(self, kind, words):
        self.note(f"VIOLATION {kind}: {words}")
        self.wrong.append((kind, words))

    def may_lock(self, guest):
        return not self.locks or guest.lock is None

    # Networks

    def path(self, network, one, other):
        away, dark = self.cut[network], self.dark
        if dark and (one in dark or other in dark):
            return False
        return one == other or (one not in away and other not in away)

    def set_cut(self, network, node, cut):
        if cut == (node in self.cut[network]):
            return
        (self.cut[network].add if cut else self.cut[network].discard)(node)
        self.note(f"{node}: {network} network {'cut' if cut else 'healed'}")
        self.changed()

    def power_off(self, node):
        """Take the power from a node: all that runs on it is gone, what is on its disk is not."""
        if node not in self.dark:
            self.note(f"{node}: power lost")
            self.dark.add(node)
            self.losses[node] += 1
            for guest in self.guests.values():
                for qemu in [qemu for qemu in guest.alive if qemu.node == node]:
                    qemu.events = None
                    qemu.die(FAULT, "lost power")
            self.daemons[node].power_off()
            for shell in [shell for shell in self.shells if shell.node == node]:
                shell.end()
            self.changed()

    def power_on(self, node):
        if node in self.dark:
            self.note(f"{node}: power is back")
            self.dark.discard(node)
            self.daemons[node].boot()
            self.changed()

    def when_healed(self, one, other, call):
        """Let something arrive that was sent into a cut: shortly after it has healed."""
        self._late.append((one, other, call))

    def changed(self):
        """Somebody may have come back, or gone: whoever speaks over a network notices."""
        late, self._late = self._late, []
        for one, other, call in late:
            if self.path(SSH, one, other):
                self.after(self.some(0.1, 3.0), call)
            else:
                self._late.append((one, other, call))
        for daemon in self.daemons.values():
            for connection in list(daemon.connections):
                connection.check()
        for guest in self.guests.values():
            for qemu in guest.qemus:
                if qemu.outgoing:
                    qemu.outgoing.check()


@dataclass(eq=False)
class Guest:
    """A guest as it truly is.

    ``written``: the highest that its image knows, in seconds of the guest's life. ``owner``: the
    QEMU that ran last, or that has taken over its memory. ``killed``: a fault killed its owner,
    and nothing of it has run since. ``switched``: by post-copy, and not yet whole and running.
    ``obeys``: it shuts down when its power button is pressed.
    """

    world: World
    name: str
    uuid: str
    memory: float = 160 * 2**20
    rate: float = 400 * 2**20
    dirty: float = 20 * 2**20
    working_set: float = 40 * 2**20
    written: float = 0.0
    lock: Qemu | None = None
    qemus: list[Qemu] = field(default_factory=list)
    owner: Qemu | None = None
    killed: bool = False
    switched: bool = False
    obeys: bool = True
    deaths: int = 0
    forks: int = 0

    @property
    def alive(self) -> list[Qemu]:
        return [qemu for qemu in self.qemus if qemu.alive]

    @property
    def running(self) -> list[Qemu]:
        return [qemu for qemu in self.qemus if qemu.alive and qemu.running]

    def whole(self) -> Iterator[Qemu]:
        """The living QEMUs that have all of its memory, none of it older than its disk."""
        return (
            qemu
            for qemu in self.qemus
            if qemu.alive and qemu.whole and qemu.life >= self.written - EPSILON
        )

    def owners(self) -> set[str]:
        """The nodes of which it is right to say that they own it, at this moment."""
        running = self.running
        if running:
            return {qemu.node for qemu in running}
        if self.owner and self.owner.alive:
            return {self.owner.node, *(qemu.node for qemu in self.whole())}
        return {qemu.node for qemu in (*self.whole(), *self.booting())}

    def booting(self) -> Iterator[Qemu]:
        return (qemu for qemu in self.alive if qemu.paused_as == "booting")

    def number(self) -> int:
        return int(max([self.written, *(qemu.life for qemu in self.running)]) * PER_SECOND)


class Qemu:
    """One QEMU process."""

    __slots__ = (
        "_life",
        "_since",
        "alive",
        "born",
        "by",
        "downtime_limit",
        "events",
        "finished",
        "guest",
        "has_run",
        "incoming",
        "node",
        "outgoing",
        "paused_as",
        "running",
        "whole",
        "world",
    )

    def __init__(self, guest, node, incoming=False):
        self.world, self.guest, self.node = guest.world, guest, node
        self.alive, self.running = True, False
        # libvirt has received it whole, and told the source so: that one is about to end.
        self.finished = self.has_run = False
        self.by, self.born = LIBVIRT, self.world.now
        self.whole = not incoming
        # A guest that boots goes on with what is on its disk.
        self._life, self._since = 0.0 if incoming else guest.written, 0.0
        self.outgoing = self.incoming = None
        self.paused_as = "inmigrate" if incoming else "paused"
        self.events: Callable[[str, str], None] | None = None
        self.downtime_limit = 0.3
        guest.qemus.append(self)

    def __str__(self):
        return f"{self.guest.name} on {self.node}"

    @property
    def life(self):
        return self._life + (self.world.now - self._since if self.running else 0.0)

    def notify(self, event, value=""):
        """Send an event over the monitor, if anybody listens."""
        if self.events and (self.alive or event == "EOF"):
            self.events(event, value)

    def start(self, by=LIBVIRT):
        """Let its CPUs run; False if the image is somebody else's."""
        guest = self.guest
        if self.running:
            return True
        if guest.lock is not self and not self.world.may_lock(guest):
            self.world.note(f"{self}: write lock refused, {guest.lock.node} has it")
            if by == ENGINE:
                self.world.violation("twice", f"{by} would have started {self} a second time")
            return False
        guest.lock = self
        others = [qemu for qemu in guest.running if qemu is not self]
        if others:
            self.world.violation("twice", f"{self} runs beside {others[0]}, started by {by}")
        if self._life < guest.written - EPSILON:
            guest.forks += 1
            if not guest.killed or by == ENGINE:
                self.world.violation("forked", f"{self} goes on with old memory, started by {by}")
        self.running, self._since, self.has_run = True, self.world.now, True
        guest.owner, guest.killed = self, False
        guest.switched = guest.switched and not self.whole
        self.world.note(f"{self}: runs, number {int(self._life * PER_SECOND)}")
        self.notify("RESUME")
        return True

    def activate(self):
        """Take the image, without running; False if it is somebody else's."""
        if self.guest.lock is not self and not self.world.may_lock(self.guest):
            return False
        self.guest.lock = self
        return True

    @property
    def stands_since_arrival(self):
        """Whether it has received a guest, which has not run since."""
        return self.incoming is not None and not self.has_run

    def boot(self, by, since):
        """Start a guest anew, from what is on its disk.

        since
            When whoever starts it began to ask for the last time where it is: what a person has
            started after that, nobody can know.
        """
        others = [
            qemu
            for qemu in self.guest.alive
            if qemu is not self
            and (qemu.running or qemu.whole)
            and not (qemu.by == OPERATOR and (qemu.born >= since or by == PACEMAKER))
        ]
        if others and by in (ENGINE, PACEMAKER):
            self.world.violation("twice", f"{by} started {self} beside {others[0]}")
        self.by = by
        if self.guest.lock is not None and self.world.locks:
            self.world.note(f"{self}: write lock refused, {self.guest.lock.node} has it")
            return False
        self._life, self.whole = self.guest.written, True
        return self.start()

    def stop(self, why="paused"):
        """Halt its CPUs; the image is still its own."""
        if self.running:
            self._life, self.running = self.life, False
            self.guest.written = max(self.guest.written, self._life)
            self.world.note(f"{self}: halted ({why}), number {int(self._life * PER_SECOND)}")
            self.paused_as = why
            self.notify("STOP")
        self.paused_as = why

    def let_go(self):
        """Leave the image to others."""
        if self.guest.lock is self:
            self.guest.lock = None

    def die(self, by, words="killed"):
        """End the process."""
        if not self.alive:
            return
        guest = self.guest
        was_owner = guest.owner is self
        if self.running:
            self._life, self.running = self.life, False
            guest.written = max(guest.written, self._life)
        self.alive = False
        self.let_go()
        self.world.note(f"{self}: QEMU {words} by {by}")
        torn = self._torn()
        if was_owner or torn:
            self._owner_died(by, torn)
        elif self.finished and by in (FAULT, OPERATOR) and not guest.running:
            guest.killed = True
        for stream in (self.outgoing, self.incoming):
            if stream:
                stream.broken(self)
        self.notify("EOF", words)

    def _torn(self):
        """Whether the guest's memory is partly here and partly elsewhere."""
        return any(
            stream
            and not stream.loaded
            and stream.status in (POST_COPY, POST_COPY_PAUSED)
            and self.guest.owner in (stream.source, stream.destination)
            for stream in (self.outgoing, self.incoming)
        )

    def _owner_died(self, by, torn):
        guest = self.guest
        heir = next(guest.whole(), None)
        if by in (OPERATOR, PACEMAKER):
            # libvirt may resume an older copy after a shutdown; the engine cannot prevent it.
            guest.killed = True
        elif by == FAULT:
            guest.killed = True
            guest.deaths += 1
        elif by == ENGINE:
            self.world.violation("owner destroyed", f"{by} destroyed {self}, which owned the guest")
        if heir and not torn:
            guest.owner = heir
        elif guest.switched and by == LIBVIRT:
            # A half that does not run yet is ended like any other guest that has not arrived.
            self.world.note(f"LOST in post-copy: {by} ended {self}")
            guest.killed = True
            self.world.lost_in_post_copy += 1
        elif by == LIBVIRT and not guest.killed:
            self.world.violation("lost", f"{by} ended {self}, and there is no other")

    # Migration, the side that sends

    def migrate(self, stream):
        self.outgoing = stream
        stream.start()


class Stream:
    """A migration between two QEMUs, as the source's QEMU drives it."""

    __slots__ = (
        "_busy",
        "_pass_began",
        "_remaining",
        "_sent",
        "_stalled",
        "_token",
        "auto_converge",
        "began",
        "destination",
        "iteration",
        "loaded",
        "post_copy_wanted",
        "processed",
        "rate",
        "rate_in_post_copy",
        "source",
        "status",
        "stopped_at",
        "throttle",
        "was_running",
        "world",
    )

    def __init__(self, source, destination, auto_converge=False, limits=None):
        self.world, self.source, self.destination = source.world, source, destination
        self.status, self.loaded = NONE, False
        self.iteration, self.processed = 0, 0.0
        self._remaining, self._token, self._stalled = source.guest.memory, 0, None
        self.post_copy_wanted = False
        self.was_running = False
        self.began = self.stopped_at = 0.0
        self._sent, self._pass_began = 0.0, None
        limits = limits or {}
        self.rate = min(source.guest.rate, limits.get("BANDWIDTH") or math.inf)
        self.rate_in_post_copy = min(
            source.guest.rate, limits.get("BANDWIDTH_POSTCOPY") or math.inf
        )
        self.auto_converge, self.throttle, self._busy = auto_converge, 0, 0

    def _set(self, status):
        self.status = status
        self.world.note(f"{self.source}: migration {status}")
        self.source.notify("MIGRATION", status)
        if self.destination.alive and status in (POST_COPY, POST_COPY_PAUSED):
            self.destination.notify("MIGRATION", status)

    def _later(self, seconds, call):
        """Go on after some seconds, unless something else has happened meanwhile."""
        self._token += 1
        token = self._token

        def due():
            if token == self._token and self.source.alive:
                if self._flows():
                    call()
                else:
                    self._stalled = call

        self.world.after(seconds, due)

    def _flows(self):
        return self.world.path(DATA, self.source.node, self.destination.node)

    def check(self):
        """A network changed: what stood still goes on after a while."""
        flows = self._flows()
        if self._pass_began is not None and not flows:
            self._sent = self._sent_by_now()
            self._pass_began = None
            self._token += 1
            self._stalled = self._send
        if self._stalled and flows:
            call, self._stalled = self._stalled, None
            self._later(self.world.some(0.2, 3.0), call)

    def _sent_by_now(self):
        """The bytes of this pass that have been sent."""
        if self._pass_began is None:
            return self._sent
        went = (self.world.now - self._pass_began) * self.rate
        return min(self._sent + went, self._remaining)

    def start(self):
        self.began = self.world.now
        self.destination.incoming = self
        self.was_running = self.source.running
        self._set(ACTIVE)
        self._copy()

    # Precopy: pass after pass, until what is left fits into the allowed downtime.

    def _copy(self):
        self._sent = 0.0
        self._send()

    def _send(self):
        self._pass_began = self.world.now
        self._later((self._remaining - self._sent) / self.rate, self._copied)

    def _copied(self):
        self._pass_began = None
        if not self.destination.alive:
            return self._fail()
        self.iteration += 1
        sent, self._sent = self._remaining, 0.0
        self.processed += sent
        self._remaining = self._dirtied(sent)
        if self.iteration == 1:
            self.world.step("copied once")
        if self.post_copy_wanted or self._remaining <= self.rate * self.source.downtime_limit:
            return self._switch()
        return self._copy()

    def _dirtied(self, sent):
        """The bytes that the guest has changed while some were sent; QEMU may slow it for that."""
        guest = self.source.guest
        if not self.source.running:
            return 0.0
        if self.auto_converge and self.iteration > 1:
            self._busy += 1
            if self._busy >= 2:
                self._busy, self.throttle = 0, min(99, self.throttle + 10 if self.throttle else 20)
        fast = guest.dirty * (1 - self.throttle / 100)
        return min(guest.working_set, fast * sent / self.rate)

    def _switch(self):
        """The guest stands still; libvirt has to say that it may go over."""
        self._token += 1
        self._pass_began = self._stalled = None
        self.stopped_at = self.world.now
        self.source.stop("finish-migrate")
        self._set(PRE_SWITCHOVER)

    def go_on(self):
        """migrate-continue"""
        if self.status != PRE_SWITCHOVER:
            return
        if self.source.stands_since_arrival and not self.world.activates:
            self.source.die(LIBVIRT, "died of an assertion, killed")
            return
        self.source.let_go()
        self._set(DEVICE)
        self.world.step("device state")
        arrive = self._arrived_early if self.post_copy_wanted else self._arrived
        self._later(self.world.some(0.01, 0.08), arrive)

    def _arrived(self):
        """The destination has everything; the source does not know that yet."""
        if self.status != DEVICE:
            return
        if not self.destination.alive:
            return self._fail()
        self.loaded = True
        self.processed += self._remaining
        self._remaining = 0.0
        destination = self.destination
        destination._life, destination.whole = self.source._life, True
        destination.paused_as = "paused"
        destination.notify("MIGRATION", COMPLETED)
        self.world.step("loaded")
        self._later(self.world.some(0.001, 0.02), self._complete)

    def _complete(self):
        if self.status not in (DEVICE, POST_COPY):
            return
        self.source.paused_as = "postmigrate"
        self._set(COMPLETED)

    # Post-copy

    def start_post_copy(self):
        self.post_copy_wanted = True
        if self.status == ACTIVE:
            sent = self._sent_by_now()
            self.processed += sent
            self._remaining -= sent
            self._switch()

    def _arrived_early(self):
        if self.status != DEVICE:
            return
        if not self.destination.alive:
            return self._fail()
        destination = self.destination
        destination._life = self.source._life
        destination.paused_as = "paused"
        self.source.whole, self.source.guest.switched = False, True
        self._set(POST_COPY)
        self.world.step("post-copy")
        self._later(max(0.05, self._remaining / self.rate_in_post_copy), self._fetched)

    def _fetched(self):
        if self.status != POST_COPY:
            return
        self.loaded = True
        self.destination.whole = True
        self.source.guest.switched = not self.destination.running
        self.processed += self._remaining
        self._remaining = 0.0
        self.destination.notify("MIGRATION", COMPLETED)
        self._complete()

    def resume(self):
        """Go on with a post-copy that had been broken."""
        if self.status == POST_COPY_PAUSED and self._flows():
            self._set(POST_COPY)
            self._later(max(0.05, self._remaining / self.rate_in_post_copy), self._fetched)
            return True
        return False

    # Its ends

    def cancel(self):
        """migrate_cancel: the guest goes on at the source, if it had run before."""
        if self.status in (ACTIVE, PRE_SWITCHOVER, DEVICE):
            self._give_back(CANCELLED)

    def _fail(self):
        self._give_back(FAILED)

    def _give_back(self, status):
        self._token += 1
        self._pass_began = self._stalled = None
        source, guest = self.source, self.source.guest
        self._set(status)
        if not self.was_running:
            guest.lock = guest.lock or source
        elif not source.running and not source.start():
            source.paused_as = "postmigrate"
        self._end_reader()

    def _end_reader(self):
        """A destination whose stream ends before all has come ends itself."""
        if not self.loaded and self._flows():
            self.world.after(0.01, lambda: self.destination.die(LIBVIRT, "gave up: stream broke;"))

    def broken(self, dead):
        """One of both QEMUs has died."""
        if dead is self.destination and self.status in (ACTIVE, PRE_SWITCHOVER, DEVICE):
            if self.status != PRE_SWITCHOVER and self._flows():
                self._later(0.01, self._fail)
        elif dead is self.source and self.status in (ACTIVE, PRE_SWITCHOVER, DEVICE):
            self._token += 1
            self.status = FAILED
            self._end_reader()
        elif self.status in (POST_COPY, POST_COPY_PAUSED):
            self._pause()

    def _pause(self):
        self._token += 1
        if self.status == POST_COPY:
            self._set(POST_COPY_PAUSED)

    def break_off(self):
        """The connection between both breaks, as by a reset."""
        if self.status == POST_COPY:
            self._pause()
        elif self.status in (ACTIVE, DEVICE) and not self.loaded:
            self._fail()

    # What is told of it

    def statistics(self):
        """What QEMU tells of it, by libvirt's names."""
        guest, sent = self.source.guest, self._sent_by_now()
        processed, remaining = int(self.processed + sent), int(self._remaining - sent)
        found = {
            "time_elapsed": int((self.world.now - self.began) * 1000),
            "setup_time": 2,
            "data_total": int(guest.memory),
            "data_processed": processed,
            "data_remaining": remaining,
            "memory_total": int(guest.memory),
            "memory_processed": processed,
            "memory_remaining": remaining,
            "memory_constant": 0,
            "memory_normal": processed // PAGE,
            "memory_normal_bytes": processed,
            "memory_dirty_rate": int(guest.dirty / PAGE) if self.iteration else 0,
            "memory_iteration": self.iteration + 1,
            "memory_postcopy_requests": 0,
            "memory_page_size": PAGE,
            "disk_total": 0,
            "disk_processed": 0,
            "disk_remaining": 0,
        }
        if processed:
            found["memory_bps"] = int(self.rate)
        if self.throttle:
            found["auto_converge_throttle"] = self.throttle
        if self.status == ACTIVE:
            switch = self._remaining / self.rate if self.iteration else self.source.downtime_limit
            found["downtime"] = int(switch * 1000)
        return found
