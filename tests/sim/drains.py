"""Drains of a simulated cluster: a runner that may be killed, and what its report is worth."""

from __future__ import annotations

from fleet import Salt, SimulatedFleet, active
from scenario import LONGEST
from simulated import Killed
from tasks import Task

from saltext_kvmcluster.core.errors import KvmclusterError
from saltext_kvmcluster.engine import drainer


class Console:
    """Somebody who watches, and may interrupt."""

    def __init__(self):
        self.stop = False

    def interrupted(self):
        return self.stop

    def show(self, line):
        pass

    def progress(self, progress):
        assert progress.line().isprintable()

    def plan(self, plan):
        pass


class Drains:
    """The drains of a run.

    ``acted``: guests that a person dealt with. ``orphans``: those whose migration lost the process
    that would have recorded it; the node's history has it no sooner than it is settled. What began
    before a node was cordoned again belongs to no drain: ``reopened`` says that this may be.
    """

    def __init__(self, run):
        self.run, self.world = run, run.world
        self.salt = Salt(run, self)
        self.asks, self.drains, self.consoles = {}, [], []
        self.acted, self.orphans, self.opened, self.reopened = set(), set(), False, False
        self.report = None

    # What is done

    def drain(self, node):
        """Drain a node, and wait for the end, if nothing waits for one already."""
        task = self.begin(node)
        if len(self.drains) == 1:
            self.world.until(self.world.now + LONGEST, lambda: task.done)
            if not task.done:
                self.world.violation("endless", f"the drain took more than {LONGEST:.0f} s")
                task.kill(Killed())

    def begin(self, node):
        plan, self.asks = self.asks, {}
        fleet, console = SimulatedFleet(self.salt, plan), Console()
        task = Task(self.world, lambda: self._drained(task, fleet, console, node))
        self.drains.append(task)
        self.consoles.append(console)
        return task

    def _drained(self, task, fleet, console, node):
        there, others = active(self.world, node), len(self.drains) > 1
        self.opened = False
        try:
            report = drainer.drain(fleet, console, node)
        except Killed:
            self.run.results["killed"] += 1
        except KvmclusterError as error:
            self.world.note(f"drain: {error}")
            self.run.results["refused"] += 1
        else:
            self._note(report)
            waits = [row["guest"] for written in fleet.written for row in written.queued()]
            if waits and "did not confirm" not in report.detail:
                self.world.violation("wrong", f"the drain is over, and {waits} still wait")
            if not others:
                self._check(report, node, there)
        finally:
            self.drains.remove(task)
            self.consoles.remove(console)

    def _note(self, report):
        self.report = report
        self.run.results["drained" if report.ok else "not drained"] += 1
        moved = sorted(f"{row['guest']} to {row['destination']}" for row in report.moved)
        self.world.note(f"drain: ok {report.ok}, moved {moved}, left {report.left}")
        for text in report.missing:
            self.world.note(f"  incomplete: {text}")
        for guest, why in report.stuck.items():
            self.world.note(f"  because {guest}: {why}")
        if report.detail:
            self.world.note(f"  because {report.detail}")

    def _check(self, report, node, there):
        """Compare what a drain reports with the truth, but of guests that others dealt with."""
        guests = {
            name: guest
            for name, guest in self.world.guests.items()
            if name not in self.acted and not guest.deaths
        }
        moved = {row["guest"]: row["destination"] for row in report.moved}
        here, under_way = active(self.world, node), {move.guest for move in report.under_way}
        left = here if report.left is None else set(report.left)
        told = {*under_way, *(row["guest"] for row in report.failed)}
        for name, guest in guests.items():
            where = sorted(guest.owners())
            if name in moved and moved[name] not in where:
                self.world.violation("wrong", f"{name} said to be on {moved[name]}; true: {where}")
            if name not in under_way and (name in left) != (name in here):
                self.world.violation("wrong", f"left: {report.left}; true: {sorted(here)}")
            known = {*moved, *left, *told, *self.orphans}
            known |= {
                one
                for one in guests
                for text in report.missing
                if one in text or "no migration history" in text
            }
            if name in there and name not in known and not self.reopened:
                self.world.violation("wrong", f"of {name} nothing is reported")
        if report.ok and here & guests.keys():
            self.world.violation("wrong", f"drained, but {sorted(here)} are there")
        if not report.detail and left & guests.keys() - {*report.stuck, *under_way}:
            self.world.violation("wrong", f"nothing says why {report.left} are left")
        if not self.run.shelves[node].cordon and not self.opened:
            self.world.violation("wrong", f"{node} is not cordoned after its drain")

    def check_dispatch(self, fleet, move):
        """Check that a runner begins nothing that goes on already."""
        guest, daemon = self.world.guests[move.guest], self.world.daemons[move.source]
        begun = [
            worker.begun
            for job in self.salt.jobs
            for worker in job.minions.values()
            if worker.guest == move.guest and worker.begun is not None
        ]
        domain = daemon.domains.get(guest.uuid)
        if any(written.waits(guest.uuid) for written in fleet.written):
            self.world.violation("wrong", f"{move} is dispatched, and waits there already")
        is_seen = domain and domain.job and begun and min(begun) < fleet.planned - 5
        if is_seen and not fleet.was_lost and self.salt.reaches(move.source):
            self.world.violation("wrong", f"{move} is dispatched while it is under way")

    def drained(self, node):
        """Drain a node in a world that has healed: everything has to go that can be moved."""
        self.report = None
        self.drain(node)
        if self.report is None or not self.report.ok or active(self.world, node):
            told = self.report and (dict(self.report.stuck), self.report.detail)
            here = sorted(active(self.world, node))
            self.world.violation("left", f"after all healed {here} are on {node}: {told}")
        unsettled = {name: [*shelf.entries] for name, shelf in self.run.shelves.items()}
        if any(unsettled.values()):
            self.world.violation("untidy", f"journals {unsettled}")

    def undrained(self, node):
        """Take a node back: it takes guests again, in Pacemaker as well."""
        fleet = SimulatedFleet(self.salt)
        fleet.ask([node], "kvmcluster.uncordon", None)
        answer = fleet.ask([node], "kvmcluster.unstandby").get(node)
        if not isinstance(answer, dict) or self.run.shelves[node].cordon:
            self.world.violation("left", f"{node} is not undrained: {answer}")
        pacemaker = self.world.pacemaker
        if pacemaker and node in pacemaker.our_standby:
            self.world.violation("left", f"{node} is on standby after its undrain")

    def kill_master(self):
        self.run.faults["kill master"] += 1
        for task in list(self.drains):
            task.kill(Killed())

    def interrupt(self):
        self.run.faults["interrupt"] += 1
        for console in self.consoles:
            console.stop = True


def of(run):
    """Return the drains of a run."""
    if not hasattr(run, "drains"):
        run.drains = Drains(run)
    return run.drains


def _halt(drains, rest):
    if rest == "master":
        drains.kill_master()
    else:
        drains.run.faults["stop minion"] += 1
        drains.salt.kill_minion(rest.removeprefix("minion "))


def _arm_job(drains, rest):
    number, _, fault = rest.partition(": ")
    drains.salt.faults[drains.salt.count + int(number)] = fault


def _arm_ask(drains, rest):
    number, _, fault = rest.partition(": ")
    drains.asks[int(number)] = fault


def _uncordon(drains, node):
    drains.opened = drains.reopened = True
    drains.run.shelves[node].cordon = None


def _settle_all(drains, node):
    drains.asks, drains.salt.faults = {}, {}
    for name in drains.world.guests:
        drains.run.settle(name, node)


def _person(drains, rest):
    """Somebody does something to a guest by hand meanwhile."""
    drains.acted.add(rest.split()[1])
    drains.run.do(rest)


_VERBS = {
    "drain": Drains.drain,
    "begin": Drains.begin,
    "drained": Drains.drained,
    "undrained": Drains.undrained,
    "halt": _halt,
    "interrupt": lambda drains, rest: drains.interrupt(),
    "job": _arm_job,
    "ask": _arm_ask,
    "uncordon": _uncordon,
    "person": _person,
    "settle-all": _settle_all,
}
COMMANDS = {word: lambda run, rest, verb=verb: verb(of(run), rest) for word, verb in _VERBS.items()}
ACTORS = ("begin", "halt", "interrupt", "uncordon", "person")
