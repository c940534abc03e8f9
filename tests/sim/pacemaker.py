"""Pacemaker in the simulated world, as far as it meets us: what it believes, and what it then does.

Corosync has two rings, so a node is lost once both of its networks are cut, or its power. What
Pacemaker believes of a guest is the history of each node: what the last probe, monitor, start, stop
or move said there. Its monitor runs every ten seconds where it believes a guest to run, and only
there; a guest that somebody moved it sees at the other node by a refresh alone, which forgets the
history and probes every node. Seen on Pacemaker 2.1.5; `tests/lab/test_pacemaker_rules.py` asks the
real one the same.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import timedelta

import world as sim
from libvirtd import SHUT_OFF, LibvirtError
from simulated import FOLDER, START, Call, domain_xml

from saltext_kvmcluster.core.errors import WorldError
from saltext_kvmcluster.core.migration.plans import Plan
from saltext_kvmcluster.core.pacemaker import model
from saltext_kvmcluster.core.pacemaker.fencing import FenceEvent, Fencing

RUNS, STOPPED, FAILED = "runs", "stopped", "failed"
ACTIVE = (RUNS, FAILED)
MONITOR, TICK = 10.0, 1.0
# Seconds: token and consensus; the membership of a node that is back; a reset machine's boot.
LOST, JOINING, BOOT = (6.6, 8.5), (2.0, 5.0), (20.0, 60.0)
FENCING, PROBE, DECIDING = (0.3, 0.8), (0.05, 0.6), (0.05, 0.5)
AGENT_LIMIT, STOP_LIMIT, START_LIMIT, LET_RUN = 90.0, 60.0, 120.0, 120.0
THRESHOLD, FORGOTTEN = 10, 60.0


@dataclass(eq=False)
class Resource:
    """A guest's resource.

    ``meta``: its meta attributes, as the CIB has them; ``mark``: that of our hold; ``undone``:
    whether a person took the is-managed out of it. ``history``: what is believed, by node.
    ``busy``: the action that is under way; ``shown``: whether it is shown yet. ``probing``: the
    nodes whose probes are under way. ``stuck``: a move failed, which blocks it. ``draws``: the node
    to which a constraint of a move by hand draws it.
    """

    guest: sim.Guest
    meta: dict[str, str] = field(default_factory=dict)
    mark: str = ""
    undone: bool = False
    history: dict[str, str] = field(default_factory=dict)
    probing: set[str] = field(default_factory=set)
    busy: str = ""
    shown: bool = False
    stuck: bool = False
    draws: str = ""
    failures: dict[str, list[float]] = field(default_factory=dict)

    @property
    def id(self):
        return self.guest.name

    @property
    def held(self):
        return bool(self.mark) and not self.undone

    @property
    def managed(self):
        return not self.held and self.meta.get("is-managed", "true") == "true"

    @property
    def wanted(self):
        return self.meta.get("target-role", "Started") == "Started"

    def active(self):
        return [node for node, state in self.history.items() if state in ACTIVE]


class Pacemaker:
    """The cluster, as the partition with quorum knows it. ``block``: multiple-active=block."""

    def __init__(self, world, guests, block=True):
        self.world, self.block = world, block
        self.resources = {guest.name: Resource(guest) for guest in guests}
        self.members, self.away, self.joining = set(world.nodes), {}, {}
        self.standby, self.erased, self.kept_off = set(), set(), set()
        self.our_standby = {}
        self.events, self.running, self.deciding = [], 0, False
        self.views = {}
        world.pacemaker = self
        for resource in self.resources.values():
            where = {qemu.node for qemu in resource.guest.alive}
            resource.history = {node: RUNS if node in where else STOPPED for node in world.nodes}
        world.after(TICK, self._tick)
        for node in world.nodes:
            world.after(world.some(0, MONITOR), lambda node=node: self._monitor(node))

    # Membership and fencing

    def sees(self, one, other):
        return self.world.path(sim.SSH, one, other) or self.world.path(sim.DATA, one, other)

    def quorate(self, node):
        """Whether a node is in the partition that has quorum."""
        return node in self.members and len(self.members) * 2 > len(self.world.nodes)

    @property
    def has_quorum(self):
        return len(self.members) * 2 > len(self.world.nodes)

    def _tick(self):
        self.world.after(TICK, self._tick)
        now, present = self.world.now, self._partition()
        for node in self.world.nodes:
            if node in self.members:
                if node in present:
                    self.away.pop(node, None)
                elif now >= self.away.setdefault(node, now + self.world.some(*LOST)):
                    self._lose(node)
            elif node in present:
                if now >= self.joining.setdefault(node, now + self.world.some(*JOINING)):
                    self._join(node)
            else:
                self.joining.pop(node, None)
        for resource in self.resources.values():
            for node, times in resource.failures.items():
                resource.failures[node] = [one for one in times if now - one < FORGOTTEN]
        self._decide()

    def _partition(self):
        """The nodes that see each other, the most of them; of equal parts, the first one's."""
        alive = [node for node in self.world.nodes if node not in self.world.dark]
        parts = [{other for other in alive if self.sees(node, other)} for node in alive]
        return max(parts, key=len, default=set())

    def _lose(self, node):
        self.world.note(f"Pacemaker: {node} is lost")
        self.views[node] = self.view(node)
        self.members.discard(node)
        self.away.pop(node)
        if self.has_quorum:
            self._act(self._fenced(node))

    def _fenced(self, node):
        """Reset a node; whoever has no power is off already."""
        yield self.world.some(*FENCING)
        if node in self.members:
            return
        was_dark = node in self.world.dark
        self.world.note(f"Pacemaker: {node} is fenced")
        self.world.power_off(node)
        self.events.insert(0, FenceEvent("reboot", node, "success", "a node", self._clock()))
        self.erased.add(node)
        for resource in self.resources.values():
            resource.history.pop(node, None)
            resource.probing.discard(node)
        if not was_dark:
            self.world.after(self.world.some(*BOOT), lambda: self._boot(node))

    def _boot(self, node):
        if node in self.kept_off:
            self.world.after(5, lambda: self._boot(node))
        else:
            self.world.power_on(node)

    def fence_by_failure(self, node):
        """A stop failed: nobody knows what runs there."""
        if self.has_quorum and node in self.members:
            self.views[node] = self.view(node)
            self.members.discard(node)
            self._act(self._fenced(node))

    def _join(self, node):
        self.world.note(f"Pacemaker: {node} is a member")
        self.members.add(node)
        self.joining.pop(node, None)
        self.erased.discard(node)
        self.views.pop(node, None)
        for resource in self.resources.values():
            resource.history.pop(node, None)
            self._probe(resource, node)

    def _clock(self):
        return START + timedelta(seconds=self.world.now)

    # What is done, one step after another

    def _act(self, steps, counts=1):
        """Carry out an action, which yields the seconds that it waits.

        counts
            0 for what ``crm_resource --wait`` does not wait for.
        """
        self.running += counts

        def go():
            try:
                pause = next(steps)
            except StopIteration:
                self.running -= counts
                self.change()
            else:
                self.world.after(pause, go)

        go()

    @property
    def idle(self):
        """What ``crm_resource --wait`` waits for."""
        return not self.running and not self.deciding

    # The agent

    def _asked(self, node, limit=AGENT_LIMIT):
        """Wait until the daemon of a node answers; return whether it does."""
        daemon, end = self.world.daemons[node], self.world.now + limit
        while not daemon.up or daemon.stopped:
            if self.world.now >= end or node in self.world.dark:
                return False
            yield 1.0
        return node not in self.world.dark

    def _domain(self, resource, node):
        domain = self.world.daemons[node].domains.get(resource.guest.uuid)
        return domain if domain and domain.qemu and domain.state != SHUT_OFF else None

    def _looked(self, resource, node):
        """What the agent's monitor says; None if its node is gone."""
        yield self.world.some(*PROBE)
        answers = yield from self._asked(node)
        if node in self.world.dark or node not in self.members:
            return None
        if not answers:
            return FAILED
        return RUNS if self._domain(resource, node) else STOPPED

    def _monitor(self, node):
        self.world.after(MONITOR, lambda: self._monitor(node))
        for resource in self.resources.values():
            if resource.history.get(node) == RUNS and not resource.busy:
                self._act(self._monitored(resource, node), counts=0)

    def _monitored(self, resource, node):
        history = resource.history
        found = yield from self._looked(resource, node)
        if found is None or resource.history is not history or resource.busy:
            return
        if history.get(node) == RUNS and found != RUNS:
            self.world.note(f"Pacemaker: monitor of {resource.id} on {node}: {found}")
            history[node] = found

    def _probe(self, resource, node):
        resource.probing.add(node)
        self._act(self._probed(resource, node))

    def _probed(self, resource, node):
        history = resource.history
        found = yield from self._looked(resource, node)
        if resource.history is not history:
            return
        resource.probing.discard(node)
        if found is not None:
            self.world.note(f"Pacemaker: probe of {resource.id} on {node}: {found}")
            history[node] = found

    # What it decides

    def change(self):
        """Something has changed: decide soon."""
        if not self.deciding:
            self.deciding = True
            self.world.after(self.world.some(*DECIDING), self._decide_now)

    def _decide_now(self):
        self.deciding = False
        self._decide()

    def _decide(self):
        if not self.has_quorum:
            return
        for resource in self.resources.values():
            if not resource.busy and not (resource.probing & self.members):
                self._rule(resource)

    def _rule(self, resource):
        """Decide about one guest, unless it is held, blocked, or a node is not fenced yet."""
        active = resource.active()
        blocked = self.is_blocked(resource)
        if not resource.managed or blocked or not set(active) <= self.members:
            return
        may = [node for node in self._ranked(resource) if node in self.available()]
        if len(active) > 1:
            self._begin(resource, "stop", self._stopped(resource, active))
        elif not active:
            able = [node for node in may if len(resource.failures.get(node, ())) < THRESHOLD]
            if resource.wanted and able:
                self._begin(resource, f"start on {able[0]}", self._started(resource, able[0]))
        elif resource.history[active[0]] == FAILED or not (resource.wanted and self._stays(may)):
            self._begin(resource, "stop", self._stopped(resource, active))
        elif may and may[0] != active[0] and (active[0] not in may or resource.draws == may[0]):
            self._begin(resource, f"move to {may[0]}", self._moved(resource, active[0], may[0]))

    def available(self):
        return self.members - self.standby - set(self.our_standby)

    def is_blocked(self, resource):
        """Whether a move of its own failed, or it is active twice: it waits for a person."""
        return resource.stuck or (self.block and len(resource.active()) > 1)

    def _stays(self, may):
        """Whether there is a node for it, or may be one once another has been fenced."""
        return may or not set(self.world.nodes) <= self.members | self.erased

    def _ranked(self, resource):
        """The nodes, the best first: where it is drawn to, where it is, then the least busy."""
        load = {
            node: sum(node in one.active() for one in self.resources.values())
            for node in self.world.nodes
        }
        return sorted(
            self.world.nodes,
            key=lambda node: (
                node != resource.draws,
                node not in resource.history or resource.history[node] != RUNS,
                load[node],
            ),
        )

    def _begin(self, resource, what, steps):
        world, guest = self.world, resource.guest
        world.note(f"Pacemaker: {what} of {resource.id}")
        for daemon in world.daemons.values():
            domain = daemon.domains.get(guest.uuid)
            if domain and domain.qemu and (domain.job or domain.mark):
                world.violation("fight", f"Pacemaker: {what} of {guest.name} amid a migration")
        resource.busy, resource.shown = what, False
        world.after(world.some(0, 0.5), lambda: setattr(resource, "shown", True))
        self._act(self._until_done(resource, steps))

    def _until_done(self, resource, steps):
        yield from steps
        resource.busy = ""

    def _started(self, resource, node):
        """The agent's start: done if it runs there; as often as the threshold allows."""
        world = self.world
        yield world.some(0.1, 0.5)
        answers = yield from self._asked(node)
        if not answers:
            return self._failed(resource, node)
        if not self._domain(resource, node):
            call, end = Call(), world.now + START_LIMIT
            definition = domain_xml(resource.guest)
            world.daemons[node].create(definition, call, sim.PACEMAKER, world.now)
            while not call.done() and world.now < end and node not in world.dark:
                yield 0.1
        if node in world.dark:
            return None
        if self._domain(resource, node):
            resource.history[node] = RUNS
            return None
        return self._failed(resource, node)

    def _failed(self, resource, node):
        resource.failures.setdefault(node, []).append(self.world.now)

    def _stopped(self, resource, nodes):
        """The agent's stop: the power button, and after a while the plug."""
        world = self.world
        for node in nodes:
            yield world.some(0.1, 0.5)
            answers = yield from self._asked(node, STOP_LIMIT)
            if not answers:
                self.fence_by_failure(node)
                continue
            domain, end = self._domain(resource, node), world.now + STOP_LIMIT
            qemu, off = (domain.qemu, world.now + world.some(0.5, 8.0)) if domain else (None, 0)
            while qemu and qemu.alive and node not in world.dark and world.now < end:
                if resource.guest.obeys and world.now >= off:
                    qemu.die(sim.PACEMAKER, "shut down")
                yield 0.5
            if qemu and qemu.alive and node not in world.dark:
                qemu.die(sim.PACEMAKER, "destroyed")
            if node in self.members:
                resource.history[node] = STOPPED

    def _moved(self, resource, source, destination):
        """A live move of its own, as the agent's migrate_to; one that fails blocks the guest."""
        world, guest = self.world, resource.guest
        call = Call()
        answers = yield from self._asked(source)
        if not answers:
            resource.stuck = True
            return
        world.slotless.add(guest.name)
        world.daemons[source].migrate(
            guest.uuid, Plan(("LIVE", "PEER2PEER", "PAUSED"), "", {}), destination, call
        )
        while not call.done() and not {source, destination} & world.dark:
            yield 0.2
        world.slotless.discard(guest.name)
        moved = call.done() and call.exception() is None
        if moved:
            yield from self._let_run(guest, destination)
        if moved and {source, destination} <= self.members:
            resource.history[source], resource.history[destination] = STOPPED, RUNS
            return
        world.note(f"Pacemaker: the move of {resource.id} failed: blocked")
        resource.stuck = True
        for node in {source, destination} & self.members:
            resource.history[node] = RUNS

    def _let_run(self, guest, node):
        """Resume one that has arrived, as long as migrate_to and migrate_from try to."""
        end = self.world.now + LET_RUN
        while node not in self.world.dark and self.world.now < end:
            yield 0.3
            try:
                self.world.daemons[node].resume(guest.uuid)
            except LibvirtError:
                continue
            return

    # What is asked of it, on a node

    def check(self, node):
        """Fail where the node's part of the cluster has no quorum, or its Pacemaker no DC."""
        if not self.quorate(node):
            raise WorldError(f"{node}: Update does not have quorum")

    def set_meta(self, resource, name, value=None):
        """Set a meta attribute, or remove it: the one that is there, be it of our hold."""
        one = self.resources[resource]
        meta = one.meta
        if name == "is-managed" and one.mark and name not in meta:
            one.undone = value != "false"
        elif value is None:
            meta.pop(name, None)
        else:
            meta[name] = value
        self.world.note(f"CIB: {resource} {name}={value or ''}")
        self.change()

    def hold(self, resource, mark):
        """Set our mark; False if there is one."""
        one = self.resources[resource]
        if one.held:
            return False
        one.mark, one.undone = mark, False
        self.world.note(f"CIB: {resource} held: {mark.partition(' ')[0]}")
        self.change()
        return True

    def release(self, resource, mark):
        """Remove our mark, if it is that one."""
        one = self.resources[resource]
        if not one.mark or one.mark != mark:
            return False
        one.mark, one.undone = "", False
        self.world.note(f"CIB: {resource} given back")
        self.change()
        return True

    def set_our_standby(self, node, mark):
        if node in self.our_standby:
            return False
        self.our_standby[node] = mark
        self.world.note(f"CIB: {node} on our standby")
        self.change()
        return True

    def end_our_standby(self, node):
        found = self.our_standby.pop(node, None)
        if found:
            self.world.note(f"CIB: {node} off our standby")
            self.change()
        return found is not None

    def set_standby(self, node, on):
        (self.standby.add if on else self.standby.discard)(node)
        self.world.note(f"CIB: {node} standby={on}")
        self.change()

    def refresh(self, name):
        """Forget what is known of a resource, and probe it on every member."""
        resource = self.resources[name]
        self.world.note(f"Pacemaker: refresh of {name}")
        if resource.busy:
            # Its result is awaited; the history that it writes is a new one.
            self._act(self._refreshed_once_done(name))
            return
        resource.history, resource.stuck, resource.failures = {}, False, {}
        resource.probing = set()
        for node in sorted(self.members):
            self._probe(resource, node)

    def _refreshed_once_done(self, name):
        while self.resources[name].busy:
            yield 0.5
        self.refresh(name)

    # What a node's tools show

    def view(self, node):
        """What a node knows; a node that was lost knows what it knew then."""
        if node in self.views:
            known = self.views[node]
            return replace(known, status=replace(known.status, quorum=False))
        members = {
            one: model.Member(
                one, one in self.members, one in self.standby or one in self.our_standby
            )
            for one in self.world.nodes
        }
        resources = {
            name: model.ResourceState(
                managed=one.managed and not self.is_blocked(one),
                nodes=tuple(one.active()),
                target=one.meta.get("target-role", ""),
                blocked=self.is_blocked(one),
                busy=bool(one.busy and one.shown),
                moving=one.busy.startswith("move") and one.shown,
            )
            for name, one in self.resources.items()
        }
        return model.Pacemaker(
            runs=True,
            name=node,
            configuration=self._configuration(),
            status=model.Status(self.has_quorum, members, resources),
            guests={_path(name): name for name in self.resources},
        )

    def _configuration(self):
        return model.Configuration(
            guests=tuple(
                model.GuestResource(
                    name,
                    name,
                    (_path(name),),
                    allow_migrate=True,
                    on_fail="block",
                    stickiness="100",
                    parameters={"config": _path(name)},
                    managed=one.managed,
                    mark=one.mark if one.held else "",
                )
                for name, one in self.resources.items()
            ),
            moves=tuple(f"cli-prefer-{name}" for name, one in self.resources.items() if one.draws),
            unmanaged=tuple(name for name, one in self.resources.items() if not one.managed),
            nodes={node: str(number) for number, node in enumerate(self.world.nodes, 1)},
            standbys=dict(self.our_standby),
        )

    def fencing(self, node):
        """Whom it fenced, as a node's tools tell."""
        return Fencing(self.view(node).status, tuple(self.events), frozenset(self.erased))

    # The rule of the world

    def touched(self, guest, what):
        """Something of ours starts, stops or moves a guest."""
        resource = self.resources.get(guest.name)
        if resource is None:
            return
        if resource.managed:
            self.world.violation("fight", f"{what} of {guest.name}, which Pacemaker manages")
        elif resource.busy:
            self.world.violation(
                "fight", f"{what} of {guest.name} amid Pacemaker's {resource.busy}"
            )


def _path(name):
    return f"{FOLDER}/{name}.xml"


# What persons type.


def crm(run, rest):
    """``crm VERB [WHAT]``: as a person types it, on a node that has quorum.

    ``hold``: a command of ours was killed and left its hold, ``crm hold web1 to migrate``.
    """
    verb, _, rest = rest.partition(" ")
    pacemaker, world = run.world.pacemaker, run.world
    if verb == "wait":
        world.until(world.now + 300, lambda: pacemaker.idle)
        return
    if not pacemaker.has_quorum:
        return
    run.faults["person"] += 1
    name, _, node = rest.partition(" to ")
    verbs = {
        "unmanage": lambda: pacemaker.set_meta(name, "is-managed", "false"),
        "manage": lambda: pacemaker.set_meta(name, "is-managed"),
        "stop": lambda: pacemaker.set_meta(name, "target-role", "Stopped"),
        "start": lambda: pacemaker.set_meta(name, "target-role", "Started"),
        "standby": lambda: pacemaker.set_standby(name, True),
        "online": lambda: pacemaker.set_standby(name, False),
        "refresh": lambda: pacemaker.refresh(name),
        "move": lambda: _draw(pacemaker, name, node),
        "clear": lambda: _draw(pacemaker, name, ""),
        "hold": lambda: pacemaker.hold(name, f"{node} node1 2030-01-01T00:00:00.000+00:00"),
    }
    verbs[verb]()


def _draw(pacemaker, name, node):
    pacemaker.resources[name].draws = node
    pacemaker.world.note(f"CIB: cli-prefer-{name}={node}")
    pacemaker.change()


def kept(run, name):
    """All has healed, and recover ran: a guest runs once, Pacemaker manages it, and knows it."""
    world, pacemaker = run.world, run.world.pacemaker
    resource = pacemaker.resources[name]
    guest = resource.guest
    for node in world.nodes:
        if node in pacemaker.standby or node in pacemaker.our_standby:
            world.violation("left", f"{node} is on standby")
    if not resource.managed:
        world.violation("left", f"{name} is not managed: {resource.mark} {resource.meta}")
    world.until(world.now + 300, lambda: pacemaker.idle and (guest.running or not resource.wanted))
    nodes = sorted(qemu.node for qemu in guest.running)
    if len(nodes) != resource.wanted or sorted(resource.active()) != nodes:
        world.violation("left", f"{name} runs on {nodes}, and is known on {resource.active()}")
    elif pacemaker.is_blocked(resource):
        world.violation("left", f"{name} is blocked")


COMMANDS = {"crm": crm, "kept": kept}
