"""A scenario: a cluster, what is done, what goes wrong; what it comes to, judged by the truth.

Its commands are lines of text, so that a failing one can be kept, read and changed:

    on step prepared: kill qemu web1 on node2
    on step finish sent + 0.01: cut ssh node2 for 40
    on call 12: late 20
    at 3.5: stop libvirtd node1 for 60
    migrate web1 from node1 to node2 timeout=30
    recover web1 on node3
    cancel web1 on node1
    fault fill node2
    fault clock -7200 node1
    wait 60
    heal
    settle web1 on node3

A fault with a trigger is armed until the next ``heal``; ``settle`` recovers until that is done, if
need be with an operator who does what the engine says. Steps are those that `libvirtd` and `world`
tell of; calls are the calls of the environment of the next migrate, recover or cancel.
"""

from __future__ import annotations

import contextlib
import re
from collections import Counter
from dataclasses import asdict, dataclass, field, replace

import libvirtd
import world as sim
import yaml
from pacemaker import Pacemaker
from simulated import FOLDER, Call, CallFault, Killed, Minion, Shelf, domain_xml
from tasks import Task

from saltext_kvmcluster.core.errors import InputError, WorldError
from saltext_kvmcluster.core.migration import journal
from saltext_kvmcluster.core.migration.plans import Plan
from saltext_kvmcluster.core.pillar.options import Options
from saltext_kvmcluster.core.pillar.parser import from_pillar
from saltext_kvmcluster.engine import canceller, migrator, recoverer

UUID = "11111111-1111-1111-1111-{:012d}"
SETTLING = 150.0  # Longer than any keepalive, connection or job of libvirt waits.
LONGEST = 7200.0


@dataclass(frozen=True)
class Start:
    """How a guest is in the beginning. Sizes in MiB, rates in MiB/s.

    ``on``: empty if it runs nowhere. ``defined``: where it is defined as well, shut off.
    ``managed``: whether Pacemaker does. ``obeys``: whether it does as its power button says.
    """

    on: str
    persistent: bool = False
    autostart: bool = False
    paused: bool = False
    memory: float = 160
    rate: float = 400
    dirty: float = 20
    working_set: float = 40
    defined: tuple[str, ...] = ()
    obeys: bool = True
    managed: bool = False


@dataclass(frozen=True)
class Scenario:
    """What a run is made of. ``limits``: migrations at once from a node, and to a node.

    ``locks``: whether images are locked; ``activates``: even by a copy that is left paused.
    ``lookouts``: whether something completes handovers that nobody holds. ``fences``: whether
    Pacemaker fences each node that loses its power, and tells of it.
    """

    commands: tuple[str, ...]
    guests: dict[str, Start] = field(default_factory=lambda: {"web1": Start("node1")})
    nodes: tuple[str, ...] = ("node1", "node2", "node3")
    definitions: str = "shared"
    seed: int = 0
    locks: bool = True
    limits: tuple[int, int] = (2, 2)
    activates: bool = False
    lookouts: bool = True
    fences: bool = False


def read(folder):
    """Return the scenario of a folder, and the log that it is expected to have.

    Its times and reasons are left out: they change with every word of the engine.
    """
    reported = yaml.safe_load((folder / "cluster").read_text(encoding="utf-8"))
    guests = {}
    for name, start in reported.pop("guests").items():
        guests[name] = Start(**{**start, "defined": tuple(start.get("defined", ()))})
    commands = (folder / "commands").read_text(encoding="utf-8").splitlines()
    found = Scenario(tuple(filter(None, commands)), guests, **reported)
    found = replace(found, nodes=tuple(found.nodes), limits=tuple(found.limits))
    return found, (folder / "log").read_text(encoding="utf-8")


def write(folder, scenario, readme):
    """Keep a scenario in a folder, with the log that it has now."""
    folder.mkdir(parents=True)
    reported = asdict(scenario)
    del reported["commands"]
    reported["nodes"], reported["limits"] = list(scenario.nodes), list(scenario.limits)
    for start in reported["guests"].values():
        start["defined"] = list(start["defined"])
    cluster = yaml.safe_dump(reported, sort_keys=False)
    (folder / "README").write_text(f"{readme}\n", encoding="utf-8")
    (folder / "cluster").write_text(cluster, encoding="utf-8")
    (folder / "commands").write_text("\n".join(scenario.commands) + "\n", encoding="utf-8")
    (folder / "log").write_text(plain(Run(scenario).outcome().log), encoding="utf-8")


def plain(log):
    lines = (line[11:] for line in log)
    return "".join(f"{line}\n" for line in lines if not line.startswith(BECAUSE))


@dataclass
class Outcome:
    """What a run came to. ``results``: of each migration; ``faults``: that took place."""

    wrong: list[tuple[str, str]]
    log: list[str]
    results: Counter
    settled: Counter
    faults: Counter
    deaths: int
    lost_in_post_copy: int


_clusters = {}


def cluster(nodes, definitions, limits):
    key = (nodes, definitions, limits)
    if key not in _clusters:
        _clusters[key] = from_pillar(
            {
                "kvmcluster": {
                    "name": "lab",
                    "nodes": {node: {"migration": f"{node}-mig"} for node in nodes},
                    "guests": {"definitions": definitions, "path": FOLDER},
                    "migration": {"max_outgoing": limits[0], "max_incoming": limits[1]},
                }
            }
        )
    return _clusters[key]


class Run:
    """A scenario while it runs."""

    def __init__(self, scenario, keep_log=True):
        self.scenario = scenario
        self.world = world = sim.World(scenario.nodes, scenario.seed, scenario.locks, keep_log)
        self.world.fences = scenario.fences
        self.cluster = cluster(scenario.nodes, scenario.definitions, scenario.limits)
        self.world.limits = dict(zip((libvirtd.OUT, libvirtd.IN), scenario.limits, strict=True))
        self.shelves = {node: Shelf() for node in scenario.nodes}
        self.faults, self.results, self.settled = Counter(), Counter(), Counter()
        self.plan, self.healing = {}, []
        self.epoch = 0
        self.kept_off = set()
        self.moved_on = False
        self.last_start = ""
        self.last, self.reported = "", {"actions": [], "commands": []}
        self.moved, self.calls = {}, 0
        self.looked = {}
        self.world.activates = scenario.activates
        if scenario.lookouts:
            self.world.after(LOOK_OUT, self._look_out)
        for node in scenario.nodes:
            libvirtd.Daemon(world, node)
        for number, (name, start) in enumerate(scenario.guests.items()):
            self._begin(name, start, UUID.format(number))
        managed = [world.guests[name] for name, one in scenario.guests.items() if one.managed]
        if managed:
            Pacemaker(world, managed)

    def _begin(self, name, start, uuid):
        world, mib = self.world, 2**20
        guest = world.guests[name] = sim.Guest(
            world,
            name,
            uuid,
            start.memory * mib,
            start.rate * mib,
            start.dirty * mib,
            start.working_set * mib,
        )
        guest.obeys = start.obeys
        for node in start.defined:
            world.daemons[node].begin_off(guest, domain_xml(guest))
        if start.on:
            world.daemons[start.on].begin(
                guest, domain_xml(guest), not start.paused, start.persistent, start.autostart
            )

    def outcome(self):
        world = self.world
        try:
            for command in self.scenario.commands:
                self.do(command)
        finally:
            world.close()
        return Outcome(
            world.wrong,
            world.log or [],
            self.results,
            self.settled,
            self.faults,
            sum(guest.deaths for guest in world.guests.values()),
            world.lost_in_post_copy,
        )

    # Commands

    def do(self, command):
        self.world.note(f"> {command}")
        word, _, rest = command.partition(" ")
        if word in ("on", "at"):
            self._arm(word, rest)
        elif word in COMMANDS:
            COMMANDS[word](self, rest)
        else:
            raise ValueError(f"no such command: {command}")

    def on_node(self, verb, rest):
        """Carry out a command that names a guest and a node."""
        name, _, node = rest.partition(" on ")
        verb(name, node)

    def by_hand(self, rest):
        """Begin a migration as ``virsh migrate`` does: nothing of ours knows of it."""
        name, source, destination = _MIGRATION.fullmatch(rest).groups()
        plan = Plan(("LIVE", "PEER2PEER"), "", {})
        uuid = self.world.guests[name].uuid
        self.world.daemons[source].migrate(uuid, plan, destination, Call())

    def start_by_hand(self, name, node):
        """Begin to start a guest as ``virsh create`` does: nobody is asked."""
        definition = domain_xml(self.world.guests[name])
        self.world.daemons[node].create(definition, Call(), sim.OPERATOR, self.world.now)

    def forget(self, name, node):
        """Have a node's journal lose its entry of a guest."""
        self.shelves[node].entries.pop(self.world.guests[name].uuid)

    def outdate(self, name, node):
        """Have a guest's log on a node lack its run, and end with an older one."""
        daemon, guest = self.world.daemons[node], self.world.guests[name]
        daemon.logs.pop(name)
        daemon._log(guest, "starting up libvirt version: 9.0.0")
        daemon._log(guest, "shutting down, reason=migrated")

    def meanwhile(self, command):
        """Begin a command, and go on with the next at once."""
        Task(self.world, lambda: self.do(command))

    def join(self):
        """Wait for the end of what was begun meanwhile."""
        world = self.world
        world.until(world.now + LONGEST, lambda: not world.tasks)
        if world.tasks:
            world.violation("endless", f"{len(world.tasks)} commands do not end")

    def _arm(self, word, rest):
        trigger, _, words = rest.partition(": ")
        if word == "at":
            self._unless_healed(float(trigger), lambda: self.fault(words))
        elif trigger.startswith("call "):
            self.plan[int(trigger[5:])] = self._call_fault(words)
        else:
            step, _, delay = trigger.removeprefix("step ").partition(" + ")
            acts = words.partition(" ")[0] in ACTORS

            def happen():
                if delay or acts:
                    self._unless_healed(float(delay or 0), lambda: self.fault(words))
                else:
                    self.fault(words)

            self.world.on_step.setdefault(step, []).append(happen)

    def _unless_healed(self, seconds, call):
        epoch = self.epoch
        self.world.after(seconds, lambda: call() if epoch == self.epoch else None)

    # Faults of the world

    def fault(self, words):
        """Let a fault happen now: ``WHAT WHERE [for SECONDS]``; somebody who acts is one, too."""
        if words.partition(" ")[0] in ACTORS:
            self.faults["actor"] += 1
            self.do(words)
            return
        words, _, seconds = words.partition(" for ")
        what, _, where = words.partition(" ")
        if what in ("suspend", "unpause", "snapshot"):
            name, _, node = where.partition(" on ")
            getattr(self.world.daemons[node], what)(self.world.guests[name].uuid)
            return
        if what == "kill" and where.startswith("qemu "):
            self._kill_qemu(where)
            return
        what = f"{what} {where.split()[0]}" if " " in where else what
        where = where.split()[-1]
        begin, end = self._pair(what, where)
        self.faults["clock" if what.startswith("clock ") else what] += 1
        begin()
        self.healing.append(end)
        if seconds:
            self._unless_healed(float(seconds), end)

    def _pair(self, what, where):
        """How a fault begins, and how it ends."""
        world, daemon = self.world, self.world.daemons.get(where)
        cuts = {"cut ssh": (sim.SSH,), "cut data": (sim.DATA,), "cut both": (sim.SSH, sim.DATA)}
        if what in cuts:
            return (
                lambda: [world.set_cut(network, where, True) for network in cuts[what]],
                lambda: [world.set_cut(network, where, False) for network in cuts[what]],
            )
        if what.startswith("clock "):
            return lambda: world.clocks.update({where: float(what[6:])}), _nothing
        pairs = {
            "kill libvirtd": (lambda: daemon.kill(), lambda: daemon.start()),
            "stop libvirtd": (lambda: daemon.stop(), lambda: daemon.go_on()),
            "fill": (lambda: world.full.add(where), lambda: world.full.discard(where)),
            "reset": (lambda: self._reset(where), _nothing),
            "drop": (lambda: daemon.drop_clients(), _nothing),
            "drop ssh": (lambda: self._drop_ssh(where), _nothing),
            "lose claims": (lambda: self._lose_claims(where), _nothing),
            "power off": (lambda: world.power_off(where), lambda: self._power_on(where)),
        }
        return pairs[what]

    def _power_on(self, node):
        """Give a node its power back, unless an administrator keeps it off."""
        if node in self.kept_off:
            self.world.after(5, lambda: self._power_on(node))
        else:
            self.world.power_on(node)

    def _drop_ssh(self, node):
        """End the processes on a node that others hold there."""
        for shell in [one for one in self.world.shells if node == one.node != one.here]:
            shell.end()

    def _lose_claims(self, node):
        """Somebody kills the processes by which a node holds claims."""
        for shell in [one for one in self.world.shells if node == one.here and one.may_be_lost]:
            shell.end()

    def _kill_qemu(self, where):
        name, _, node = where.removeprefix("qemu ").partition(" on ")
        for qemu in self.world.guests[name].alive:
            if qemu.node == node:
                self.faults["kill qemu"] += 1
                qemu.die(sim.FAULT)

    def _reset(self, node):
        """Break every migration's own connection from or to a node."""
        for guest in self.world.guests.values():
            for qemu in guest.alive:
                if qemu.outgoing and node in (qemu.node, qemu.outgoing.destination.node):
                    qemu.outgoing.break_off()

    def heal(self):
        self.epoch += 1
        healing, self.healing = self.healing, []
        for end in healing:
            end()
        self.plan = {}
        self.world.on_step.clear()

    # Faults of single calls

    def _call_fault(self, words):
        what, _, value = words.partition(" ")

        def happen(minion, carry, again):
            world = self.world
            world.note(f"call {minion.calls} of {minion.here}: {words}")
            self.faults[f"call {what}" if what in _CALL_FAULTS else "actor"] += 1
            if what == "die":
                if value == "after":
                    with contextlib.suppress(WorldError):
                        carry()
                raise Killed
            if what == "refused":
                raise WorldError("no answer, as somebody wished")
            if what == "claimless":
                self._lose_claims(minion.here)
            if what in ("early", "claimless"):
                world.advance(float(value))
                return carry()
            if what not in _CALL_FAULTS:
                self.do(words)
                return carry()
            found = carry()
            if what == "twice" and again:
                world.after(float(value), again)
            elif what == "late":
                world.advance(float(value))
            elif what == "lost":
                world.advance(35.0)
                raise WorldError("the answer was lost, as somebody wished")
            return found

        return CallFault(happen, what in ("refused", "lost", "twice"))

    # What is done

    def minion(self, node):
        plan, self.plan = self.plan, {}
        return Minion(self.world, self.cluster, node, self.shelves, plan)

    def migrate(self, words):
        found = re.fullmatch(r"(\S+)(?: from (\S+))? to (\S+)((?: \S+=\S+)*)", words)
        name, source, destination, rest = found.groups()
        guest, world = self.world.guests[name], self.world
        source = source or (guest.owner.node if guest.owner and guest.owner.alive else None)
        if source in (None, destination):
            return
        given = {key: value_of(value) for key, value in (pair.split("=") for pair in rest.split())}
        patience, within = given.pop("patience", 60.0), given.pop("within", None)
        minion = self.minion(source)
        self.moved_on |= any(
            guest.uuid in shelf.entries for node, shelf in self.shelves.items() if node != source
        )
        began = world.now
        try:
            minion.options = Options(**given)
            reported = migrator.migrate(
                minion.environment(), name, destination, minion.options, patience, within
            ).to_dict()
        except Killed:
            result = "killed"
        except (InputError, WorldError) as error:
            world.note("refused")
            world.note(f"{BECAUSE}{error}")
            result = "refused"
            if minion.begun is not None:
                world.violation("denied", f"an error after libvirt was told: {error}")
        else:
            result, self.moved = reported["result"], reported
            self._note_told("result", reported)
            judged = minion.begun + reported["elapsed"] + 0.001
            self.check_verdict(guest, reported["owner"], minion, judged)
        self.end(minion)
        self.results[result] += 1
        if world.now - began > LONGEST:
            world.violation("endless", f"the migration took {world.now - began:.0f} s")

    def end(self, minion):
        """A command has ended: it holds nothing any more, by its own doing."""
        self.calls = minion.calls
        if minion.holds and not minion.dead:
            held = [type(one[0] if isinstance(one, tuple) else one) for one in minion.holds]
            self.world.violation("slots", f"{minion.here} still holds {held}")
        minion.exit()

    def _note_told(self, what, reported):
        self.note_result(what, reported["result"], reported["owner"], reported["reason"])

    def note_result(self, what, result, owner, reason):
        self.world.note(f"{what}: {result}, owner: {owner}")
        self.world.note(f"{BECAUSE}{reason}")

    def check_verdict(self, guest, owner, minion, judged):
        """An owner that is told has to be the true one: when it was looked at, or now."""
        if owner is None:
            return
        right = guest.owners() | minion.truly(guest.uuid, owner, judged)
        if owner not in right:
            self.world.violation(
                "wrong", f"{owner} said to own {guest.name}; true: {sorted(right)}"
            )

    def recover(self, name, node):
        guest, world = self.world.guests[name], self.world
        minion = self.minion(node)
        self.reported = {"actions": [], "commands": []}
        try:
            reported = recoverer.recover(minion.environment(), name).to_dict()
        except Killed:
            result = "killed"
        except InputError as error:
            world.note("refused")
            world.note(f"{BECAUSE}{error}")
            result = "nowhere" if not guest.alive else "refused"
        except WorldError as error:
            world.note("refused")
            world.note(f"{BECAUSE}{error}")
            result = "refused"
        else:
            result = reported["result"]
            self._note_told("recovered", reported)
            for action in reported["actions"]:
                done = "done" if action["ok"] else "NOT DONE"
                world.note(f"{action['node']}: {action['step']}: {done}")
            self.check_verdict(guest, reported["owner"], minion, world.now)
            since = minion.asked_since()
            if result == "nowhere" and any(qemu.born < since for qemu in guest.running):
                world.violation("wrong", f"{name} is said to run nowhere; it does")
            self.reported = reported
        self.last = result

    def _look_out(self):
        """Complete the strict handovers of every node's journal that no process holds."""
        world = self.world
        for node, shelf in self.shelves.items():
            for uuid, entry in shelf.entries.items():
                due, pause = self.looked.get((node, uuid, entry.began), (world.now, LOOK_OUT))
                held = uuid in shelf.locks or node in world.dark
                if entry.handover and not held and world.now >= due:
                    self.looked[node, uuid, entry.began] = world.now + pause, min(2 * pause, 16)
                    Task(world, lambda node=node, uuid=uuid: self._complete(node, uuid))
        world.after(LOOK_OUT, self._look_out)

    def _complete(self, node, uuid):
        minion = Minion(self.world, self.cluster, node, self.shelves)
        with contextlib.suppress(Killed, WorldError):
            done = recoverer.complete(minion.environment(), uuid)
            if done:
                self.world.note(f"lookout, {node}: {done.result}, owner: {done.owner}")
                for action in done.actions:
                    state = "done" if action.ok else "NOT DONE"
                    self.world.note(f"{action.node}: {action.step}: {state}")
                guest = next(one for one in self.world.guests.values() if one.uuid == uuid)
                self.check_verdict(guest, done.owner, minion, self.world.now)
        self.end(minion)

    def cancel(self, name, node):
        guest, world = self.world.guests[name], self.world
        minion = self.minion(node)
        try:
            reported = canceller.cancel(minion.environment(), name, "somebody").to_dict()
        except Killed:
            pass
        except (InputError, WorldError) as error:
            world.note("refused")
            world.note(f"{BECAUSE}{error}")
        else:
            self._note_told("cancelled", reported)
            self.check_verdict(guest, reported["owner"], minion, world.now)

    # What is left when all has healed

    def settle(self, name, node):
        """Recover a guest until that is done; then nothing may be left but an operator's choice."""
        world, guest = self.world, self.world.guests[name]
        for _ in range(3):
            self.recover(name, node)
            if self.last in SETTLED and not self.reported.get("needs"):
                break
            world.advance(60)
        else:
            self._left(guest, node)
        if self.last in SETTLED:
            self._restart_what_is_stuck(guest, node)
            self.settled[self.last] += 1
            self._check_tidy(guest)

    def _restart_what_is_stuck(self, guest, node):
        """libvirt keeps the job of a post-copy that broke just before its end, even of a guest
        that is shut off; until its daemon is restarted nothing can be changed there."""
        stuck = {
            action["node"]
            for action in self.reported["actions"]
            if not action["ok"] and "state change lock" in action["detail"]
        }
        for where in stuck:
            self.world.daemons[where].kill()
            self.world.daemons[where].start()
        if stuck:
            self.settled["operator: restart libvirtd"] += 1
            self.recover(guest.name, node)

    def _left(self, guest, node):
        """Recovering did not settle it: that may only be where nobody but an operator can know."""
        world = self.world
        active = {
            name: daemon.domains[guest.uuid]
            for name, daemon in world.daemons.items()
            if guest.uuid in daemon.domains and daemon.domains[guest.uuid].qemu
        }
        states = sorted((domain.state, domain.reason) for domain in active.values())
        world.note(f"left: {self.last}, {states}")
        if any(domain.post_copy for domain in active.values()) and len(active) == 1:
            self._operate(guest, node, next(iter(active)), "destroy", "half in post-copy")
        elif len(active) == 1 and any(domain.mark for domain in active.values()):
            where, domain = next(iter(active.items()))
            young = domain.qemu in guest.whole()
            self._operate(guest, node, where, "resume" if young else "destroy", "waiting")
        elif states in (
            [(libvirtd.PAUSED, libvirtd.MIGRATION)],
            [(libvirtd.PAUSED, libvirtd.API_ERROR)],
        ):
            source, domain = next(iter(active.items()))
            young = domain.qemu in guest.whole()
            self._operate(guest, node, source, "resume" if young else "destroy", "switched")
        elif len(states) == 1 and states[0] in HAS_GONE_ON and not _jobs(active):
            source, domain = next(iter(active.items()))
            young = domain.qemu in guest.whole()
            self._operate(guest, node, source, "forget" if young else "destroy", "went on")
        elif (
            len(states) == 2 and (libvirtd.PAUSED, libvirtd.BY_USER) in states and not _jobs(active)
        ):
            old = next(name for name in active if name != guest.owner.node)
            self._operate(guest, node, old, "destroy", "paused by its user")
        elif _jobs(active):
            self.cancel(guest.name, _jobs(active)[0])
            self.settled["operator: cancel"] += 1
            self.recover(guest.name, node)
        else:
            world.violation("left", f"{guest.name} is {self.last} by {node}: {states}")

    def _operate(self, guest, node, where, verb, why):
        """Do as the printed commands say, as an operator who knows whose it truly is."""
        daemon, wanted = self.world.daemons[where], f"virsh {verb} {guest.name}"
        forget = f"rm {journal.FOLDER}/{guest.uuid}.json"
        if verb == "forget":
            wanted = f"on {where}: {forget}"
        commands = [command for command in self.reported["commands"] if wanted in command]
        self.world.note(f"operator, {where}: {commands}")
        if not commands:
            self.world.violation("left", f"no command says {wanted!r}: {self.reported['commands']}")
            return
        if forget in commands[0]:
            self.shelves[where].entries.pop(guest.uuid)
        if left := re.search(r"on (\S+): virsh undefine --keep-nvram ", commands[0]):
            self.world.daemons[left[1]].undefine(guest.uuid)
        if verb == "resume":
            daemon.domains[guest.uuid].starting = "unpaused"
            daemon.domains[guest.uuid].qemu.start(by=sim.OPERATOR)
        elif verb == "destroy":
            daemon.destroy(guest.uuid, by=sim.OPERATOR)
        self.recover(guest.name, node)
        if self.last == "busy":
            # A lookout may be at it, for a moment.
            self.world.advance(60)
            self.recover(guest.name, node)
        self.settled[f"operator: {why}, {verb}"] += 1
        if self.last not in SETTLED:
            self.world.violation("left", f"{guest.name} is {self.last} after {wanted!r}")

    def _check_tidy(self, guest):
        world = self.world
        here = {
            node: daemon.domains[guest.uuid]
            for node, daemon in world.daemons.items()
            if guest.uuid in daemon.domains
        }
        journals = [node for node, shelf in self.shelves.items() if guest.uuid in shelf.entries]
        active = [node for node, domain in here.items() if domain.qemu]
        kept = {node for node, domain in here.items() if domain.persistent}
        starting = {node for node, domain in here.items() if domain.autostart}
        for wrong, words in (
            (journals, f"journals on {journals}"),
            (len(guest.alive) > 1, f"QEMUs on {[qemu.node for qemu in guest.alive]}"),
            (any(here[node].job for node in active), "a job"),
            (self.last == "nowhere" and active, f"a QEMU on {active}"),
            (self.last != "nowhere" and starting - set(active), f"autostart on {starting}"),
        ):
            if wrong:
                world.violation("untidy", words)
        if self.last != "nowhere":
            self._check_definitions(self.scenario.guests[guest.name], set(active), kept)

    def _check_definitions(self, start, active, kept):
        if not start.persistent:
            right = not kept
        elif self.scenario.definitions == "shared":
            right = kept == active
        else:
            right = kept >= active
        if self.moved_on and not right and kept >= active:
            # It may be somebody's wish since: the engine leaves it.
            self.settled["operator: definition where it was moved on from"] += 1
        elif not right:
            self.world.violation("untidy", f"runs on {sorted(active)}, defined on {sorted(kept)}")


BECAUSE = "  because "
LOOK_OUT = 1.0
# What a command does; other modules register theirs here.
_MIGRATION = re.compile("(.+) from (.+) to (.+)")
COMMANDS = {
    "migrate": Run.migrate,
    "recover": lambda run, rest: run.on_node(run.recover, rest),
    "cancel": lambda run, rest: run.on_node(run.cancel, rest),
    "settle": lambda run, rest: run.on_node(run.settle, rest),
    "meanwhile": Run.meanwhile,
    "join": lambda run, rest: run.join(),
    "wait": lambda run, rest: run.world.advance(float(rest)),
    "fault": Run.fault,
    "heal": lambda run, rest: run.heal(),
    "virsh-migrate": Run.by_hand,
    "virsh-create": lambda run, rest: run.on_node(run.start_by_hand, rest),
    "forget": lambda run, rest: run.on_node(run.forget, rest),
    "outdate": lambda run, rest: run.on_node(run.outdate, rest),
}
ACTORS = {"migrate", "recover", "cancel", "meanwhile"}
SETTLED = ("running", "paused", "nowhere")
# A source of which its state does not show any more whether it was stopped for the switch.
HAS_GONE_ON = (
    (libvirtd.RUNNING, "migration canceled"),
    (libvirtd.RUNNING, "unpaused"),
    (libvirtd.PAUSED, libvirtd.BY_USER),
)
_CALL_FAULTS = ("die", "refused", "early", "late", "lost", "twice", "claimless")


def _jobs(domains):
    """The nodes that a migration is leaving."""
    return [
        node for node, domain in domains.items() if domain.job and domain.job.kind == libvirtd.OUT
    ]


def _nothing():
    pass


def value_of(text):
    if text in ("true", "false"):
        return text == "true"
    return int(text) if text.isdigit() else float(text) if text[0].isdigit() else text
