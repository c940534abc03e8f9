"""What operations.py does to guests that Pacemaker manages: ours, by hand, failures."""

import dataclasses
import subprocess
import threading
import time

from guarded import Disorder
from labs import PROGRAM


@dataclasses.dataclass(frozen=True)
class Meant:
    """What an operation may have done to guests; all others are not to be touched.

    ``ends`` is where guests are to be in the end, ``moves`` how often each may have moved.
    """

    touched: list
    restarted: list = dataclasses.field(default_factory=list)
    ends: dict = dataclasses.field(default_factory=dict)
    moves: int = 1

    @classmethod
    def of_all(cls, several):
        """Return what operations side by side were meant to do."""
        return cls(
            [name for one in several for name in one.touched],
            [name for one in several for name in one.restarted],
            {name: node for one in several for name, node in one.ends.items()},
            max(one.moves for one in several),
        )


class Doings:
    """Operations by name, on some of the guests; each returns what was meant."""

    def __init__(self, bench, chance, guests):
        self.bench, self.chance, self.guests = bench, chance, guests
        self.printed, self.refused = "", []
        by_pcs = chance.random() < 0.5
        self.by_pcs = by_pcs and not bench.crm("sh", "-c", "command -v pcs").returncode

    # ---- ours

    def migrate(self):
        name, node = self.running()
        other = self.other(node)
        self.runner("migrate", name, other)
        return Meant([name], ends={name: other})

    def drain(self):
        node = self.chance.choice(self.bench.lab.nodes)
        there = self.guests_of(node)
        self.runner("drain", node)
        self.runner("undrain", node)
        return Meant(there)

    def shutdown_and_start(self):
        name, node = self.running()
        other = self.other(node)
        self.module(node, "shutdown", name)
        self.module(other, "start", name)
        return Meant([name], [name], {name: other})

    def freeze(self):
        name, node = self.running()
        self.module(node, "freeze", name, "tried")
        time.sleep(self.chance.randrange(12))
        self.module(node, "unfreeze", name)
        return Meant([], ends={name: node})

    # ---- by hand

    def move_by_hand(self):
        name, node = self.running()
        other = self.other(node)
        self.hand_move(name, other)
        return Meant([name], ends={name: other})

    def stop_and_start_by_hand(self):
        name, _ = self.running()
        self.hand_stop(name)
        self.settle()
        self.hand_start(name)
        return Meant([name], [name])

    def standby_by_hand(self):
        node = self.chance.choice(self.bench.lab.nodes)
        there = self.guests_of(node)
        self.hand_standby(node, True)
        self.settle()
        self.hand_standby(node, False)
        return Meant(there)

    # ---- failures

    def lose_power(self):
        node = self.chance.choice(self.bench.lab.nodes)
        there = self.guests_of(node)
        self.reboot(node)
        return Meant(there, there)

    def lose_daemons(self):
        node = self.chance.choice(self.bench.lab.nodes)
        there = self.guests_of(node)
        for daemon in ("libvirtd", "corosync"):
            self.kill(node, daemon)
        return Meant(there, there)

    def crash(self):
        name, node = self.running()
        self.kill(node, f"qemu:{name}")
        return Meant([name], [name])

    # ---- ours, and something else meanwhile

    def power_during_a_move(self):
        """The source or the destination is lost while a guest is moved."""
        name, node, other, move = self.moving()
        there = {node: self.guests_of(node), other: self.guests_of(other)}
        self.wait_a_while(3, 9)
        lost = self.chance.choice([node, other])
        self.reboot(lost)
        move.join()
        gone = sorted({*there[lost], name})
        return Meant(gone, gone, moves=2)

    def killed_job(self):
        """The minion's job is killed amid a move: what it held is left."""
        name, node, _, move = self.moving()
        self.wait_a_while(4, 10)
        self.kill(node, "job")
        move.join()
        return Meant([name])

    def moved_by_both(self):
        name, node, _, move = self.moving()
        self.wait_a_while(0, 8)
        target = self.other(node)
        self.hand_prefer(name, target)
        move.join()
        self.settle()
        self.hand_clear(name)
        return Meant([name], ends={name: target}, moves=2)

    def stopped_during_a_move(self):
        name, _, _, move = self.moving()
        self.wait_a_while(0, 8)
        self.hand_stop(name)
        move.join()
        self.settle()
        self.hand_start(name)
        return Meant([name], [name], moves=2)

    def standby_during_a_drain(self):
        """The node that is drained is put on standby by hand as well."""
        node = self.chance.choice(self.bench.lab.nodes)
        there = self.guests_of(node)
        drain = Call(self.runner, "drain", node, must=False)
        self.wait_a_while(0, 20)
        self.hand_standby(node, True)
        drain.join()
        self.settle()
        self.runner("undrain", node)
        self.hand_standby(node, False)
        return Meant(there, moves=2)

    # ---- by hand, with one tool or the other

    def hand_move(self, name, node):
        if self.by_pcs:
            # What it waits for is that the cluster is idle; it gives up where others act as well.
            moved = self.crm("pcs", "resource", "move", resource(name), node, must=False)
            if moved.returncode:
                self.settle()
                self.hand_clear(name)
            return
        self.hand_prefer(name, node)
        self.settle()
        self.hand_clear(name)

    def hand_prefer(self, name, node):
        if self.by_pcs:
            self.crm("pcs", "resource", "move-with-constraint", resource(name), node)
        else:
            self.crm("crm_resource", "-r", resource(name), "--move", "-N", node)

    def hand_clear(self, name):
        clear = ("pcs", "resource", "clear") if self.by_pcs else ("crm_resource", "--clear", "-r")
        self.crm(*clear, resource(name))

    def hand_stop(self, name):
        if self.by_pcs:
            self.crm("pcs", "resource", "disable", resource(name))
        else:
            self.crm(*meta(name), "-p", "target-role", "-v", "Stopped")

    def hand_start(self, name):
        if self.by_pcs:
            self.crm("pcs", "resource", "enable", resource(name))
        else:
            self.crm(*meta(name), "-d", "target-role")

    def hand_standby(self, node, wanted):
        if self.by_pcs:
            self.crm("pcs", "node", "standby" if wanted else "unstandby", node)
        else:
            value = ("-v", "on") if wanted else ("-D",)
            self.crm("crm_attribute", "-N", node, "-n", "standby", *value)

    # ---- what they use

    def moving(self):
        """Begin to move a guest."""
        name, node = self.running()
        other = self.other(node)
        return name, node, other, Call(self.runner, "migrate", name, other, must=False)

    def running(self):
        """Return a guest that runs, and where."""
        for name in self.guests:
            if len(found := [*self.bench.qemus(name)]) == 1:
                return name, found[0]
        raise Disorder("no guest runs on one node alone")

    def guests_of(self, node):
        return sorted(name for name, nodes in self.bench.everywhere().items() if node in nodes)

    def other(self, node):
        return self.chance.choice([one for one in self.bench.lab.nodes if one != node])

    def wait_a_while(self, least, most):
        seconds = self.chance.uniform(least, most)
        self.printed += f"after {seconds:.1f} s: "
        time.sleep(seconds)

    def settle(self):
        self.crm("crm_resource", "--wait", "--timeout=180")

    def kill(self, node, what):
        self.told(("kill", node, what), self.bench.lab.ctl("kill", node, what, check=False), False)

    def reboot(self, node):
        done = subprocess.run(
            [*PROGRAM, "reboot", node],
            env=self.bench.lab.environment,
            timeout=240,
            capture_output=True,
            text=True,
        )
        self.told(("reboot", node), done)

    def crm(self, *words, must=True):
        return self.told(words, self.bench.crm(*words, timeout=240), must)

    def runner(self, function, *words, must=True):
        call = ("salt-run", "--", f"kvmcluster.{function}", *words)
        return self.told(call, self.bench.lab.ctl(*call, check=False, timeout=600), must)

    def module(self, node, function, *words):
        call = ("salt", "--", node, f"kvmcluster.{function}", *words)
        return self.told(call, self.bench.lab.ctl(*call, check=False, timeout=600))

    def told(self, words, done, must=True):
        text = " ".join((done.stdout + done.stderr).split())[-1500:]
        self.printed += f"{' '.join(words)}: {done.returncode} {text}; "
        if must and done.returncode:
            self.refused.append(f"{' '.join(words)} failed")
        return done


class Call(threading.Thread):
    def __init__(self, function, *words, **options):
        super().__init__(target=function, args=words, kwargs=options)
        self.start()


def resource(name):
    return f"kvmcluster-{name}"


def meta(name):
    return ("crm_resource", "-r", resource(name), "--meta")


# How often each is drawn. Those of one guest are carried out side by side; the others would disturb
# each other.
OF_A_GUEST = {
    **{"migrate": 3, "shutdown_and_start": 3, "freeze": 2, "crash": 2},
    **{"move_by_hand": 2, "stop_and_start_by_hand": 2},
    **{"moved_by_both": 2, "stopped_during_a_move": 2},
}
ALONE = {
    **{"drain": 3, "standby_by_hand": 2, "standby_during_a_drain": 2},
    **{"lose_power": 4, "lose_daemons": 4, "power_during_a_move": 4, "killed_job": 4},
}
SIDE_BY_SIDE = 3


def drawn(chance):
    """Return what is carried out together."""
    known = OF_A_GUEST | ALONE
    (first,) = chance.choices([*known], [*known.values()])
    if first in ALONE:
        return [first]
    more = chance.choices([*OF_A_GUEST], [*OF_A_GUEST.values()], k=SIDE_BY_SIDE - 1)
    return [first, *more]
