"""What goes wrong in a migration, on which side, and how it heals.

A deed is made ready first, for some of them must take no time: ``begin`` returns what to call for
it, which returns whether there was something to do it to.
"""

import contextlib
import dataclasses
import os
import signal
import subprocess
import time
from collections.abc import Callable

from kvmlab import network, plan, power, processes, services, spoiling
from watching import SUSPENDED

# When it begins. EDGE: when the guest has stopped at its source; GONE: when libvirt has ended it
# there, and nobody has resumed it yet.
BEFORE, ASKED, COPYING, SWITCH, EDGE, GONE, AFTER = (
    *("before", "asked", "copying", "switch", "edge", "gone", "after"),
)
SOURCE, DESTINATION, BOTH = "source", "destination", "both"
KEEPER = "^sh -c IFS= read -r request"


class Hand:
    """A shell that is there before it is needed."""

    def __init__(self, line):
        self._process = subprocess.Popen(
            line, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self.do("true")

    def do(self, script):
        """Run a script; return whether that went well."""
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.write(f"{{ {script}; }} >/dev/null 2>&1; echo $?\n")
            self._process.stdin.flush()
        return self._process.stdout.readline().strip() == "0"

    def close(self):
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.close()
        self._process.wait(30)
        self._process.stdout.close()


def in_node(bench, node):
    return Hand(processes.entering(bench.first[node], ["sh"]))


def in_switch(bench, node):
    switch = processes.need(bench.place, "switch")
    return Hand(["nsenter", "--target", str(switch), "--net", "sh"])


def by_hand(hand, script):
    """Return a deed that a shell does; ``script`` returns what it is to run."""

    def begin(bench, node):
        ready = hand(bench, node)

        def act():
            done = ready.do(script(bench, node))
            ready.close()
            return done

        return act

    return begin


def does(verb, *words):
    """Return a deed of the lab's.

    words
        Further arguments of the verb; {guest} stands for the guest's name.
    """

    def begin(bench, node):
        return lambda: tried(verb, bench.place, node, *named(bench, words))

    return begin


def heals(verb, *words):
    return lambda bench, node: tried(verb, bench.place, node, *named(bench, words))


def named(bench, words):
    return [word.format(guest=bench.guest) if isinstance(word, str) else word for word in words]


def tried(verb, *words):
    try:
        verb(*words)
    except plan.LabError:
        return False
    return True


def signals(number, target):
    """Return a deed that takes no time: the processes that it is sent to are looked up before."""

    def begin(bench, node):
        pids = pids_of(bench, node, target)

        def act():
            hit = [pid for pid in pids if not processes.is_over(pid)]
            services.send(hit, number)
            if number == signal.SIGKILL:
                over = lambda: all(map(processes.is_over, hit))  # noqa: E731
                processes.wait_until(over, 10, f"{target} on {node} does not end")
            return bool(hit)

        return act

    return begin


def pids_of(bench, node, target):
    try:
        return services.targets(bench.place, node, *named(bench, [target]))
    except plan.LabError:
        return []


def held_and_killed(target, keeper=False):
    """Hold the job, so that it notices nothing more, and kill it and what else is meant.

    keeper
        Whether the process goes too that would complete it.
    """

    def begin(bench, node):
        jobs = pids_of(bench, node, "job")
        services.send(jobs, signal.SIGSTOP)
        if keeper:
            bench.exec(node, f"pkill -9 -f '{KEEPER}'")
        kill = signals(signal.SIGKILL, target)(bench, node)
        return lambda: kill() and bool(jobs)

    return begin


def answers(bench, destination, verb):
    """Return the command that drops all that the destination's sshd sends to the source."""
    source = next(node for node in bench.route if node != destination)
    address = plan.NETWORKS["migration"].address(plan.host_number(source))
    return f"iptables -{verb} OUTPUT -p tcp --sport 22 -d {address} -j DROP"


lost = by_hand(in_node, lambda bench, node: answers(bench, node, "A"))


def arrive_again(bench, node):
    return bench.exec(node, answers(bench, node, "D"))[0] == 0


def off(bench, node):
    """End all processes of a node; it does not come up again."""

    def act():
        bench.place.off(node).touch()
        os.kill(bench.first[node], signal.SIGTERM)
        processes.wait_until(
            lambda: processes.is_over(bench.first[node]), 30, f"{node} does not end"
        )
        return True

    return act


def on_again(bench, node):
    bench.place.off(node).unlink(missing_ok=True)
    power.wait_for(bench.place, node)
    bench.booted(node)


def lost_then_off(bench, node):
    """Lose the answers, and soon after the switch, before anybody gives up, the destination."""
    drop, end = lost(bench, node), off(bench, node)

    def act():
        done = drop()
        stopped = bench.watch.wait(bench.route[0], SUSPENDED, bench.call_is_over)
        time.sleep(0.5 + 3 * bench.pause)
        return end() and done and stopped is not None

    return act


def on_again_with_answers(bench, node):
    """The kernel of a node that lost its power has forgotten what it had not sent; ours has not."""
    on_again(bench, node)
    bench.exec(node, "ss --kill -Htn state fin-wait-1 sport = 22")
    arrive_again(bench, node)


@dataclasses.dataclass(frozen=True)
class Fault:
    """One kind of fault: ``begin`` makes it on the nodes of that ``side``, ``end`` heals it.

    ``kills`` says whether it ends a QEMU process, ``mute`` whether nobody is left to answer.
    ``lasts``: the seconds that it lasts, at least and at most; ``must_heal``: until then nothing
    goes on.
    ``by_itself``: the guest runs again though nobody does anything.
    """

    name: str
    side: str
    begin: Callable = lambda bench, node: lambda: True
    end: Callable = lambda bench, node: True
    moments: tuple = (ASKED, COPYING, SWITCH, EDGE, AFTER)
    kills: bool = False
    mute: bool = False
    lasts: tuple = (0.1, 4.0)
    must_heal: bool = False
    by_itself: bool = False


def either(name, *deeds, **more):
    return [Fault(f"{name}, {side}", side, *deeds, **more) for side in (SOURCE, DESTINATION)]


def cut(name, networks, **more):
    def down(bench, node):
        ports = [network.port(node, plan.NETWORKS[one]) for one in networks]
        return "; ".join(f"ip link set {port} down" for port in ports)

    return either(
        f"{name} cut", by_hand(in_switch, down), heals(network.set_link, networks, "up"), **more
    )


def spoilt(kind):
    return does(spoiling.spoil, kind), heals(spoiling.mend, kind)


EARLY = (BEFORE, ASKED, COPYING, SWITCH)
LATE = (COPYING, SWITCH, EDGE)
MINION = does(services.kill, "minion"), heals(services.start, "minion")
LIBVIRTD = signals(signal.SIGKILL, "libvirtd"), heals(services.start, "libvirtd")
NONE = Fault("none", SOURCE)
ANSWERS = [
    Fault(
        f"answers lost, {words}",
        DESTINATION,
        lost,
        arrive_again,
        (moment,),
        lasts=(9.0, 14.0),
    )
    for words, moment in (("in the copy", COPYING), ("at the switch", EDGE))
]
CUTS = [
    *cut("management network", ["management"]),
    *cut("migration network", ["migration"]),
    *cut("both networks", [*plan.NETWORKS]),
]
OLDER = Fault(
    "answers lost, then power lost",
    DESTINATION,
    lost_then_off,
    on_again_with_answers,
    (COPYING,),
    kills=True,
)
JOB_BETWEEN = Fault(
    "job killed before the resume",
    SOURCE,
    held_and_killed("job"),
    moments=(GONE,),
    mute=True,
    by_itself=True,
)
MINION_BETWEEN = Fault(
    "minion killed before the resume",
    SOURCE,
    held_and_killed("minion"),
    heals(services.start, "minion"),
    (GONE,),
    mute=True,
    by_itself=True,
)
FAULTS = [
    NONE,
    Fault("QEMU killed, source", SOURCE, signals(signal.SIGKILL, "qemu:{guest}"), kills=True),
    Fault(
        "QEMU killed, destination",
        DESTINATION,
        signals(signal.SIGKILL, "qemu:{guest}"),
        moments=(*LATE, AFTER),
        kills=True,
    ),
    *either(
        "QEMU stopped",
        signals(signal.SIGSTOP, "qemu:{guest}"),
        heals(services.cont, "qemu:{guest}"),
        moments=LATE,
        must_heal=True,
    ),
    *either("libvirtd killed", *LIBVIRTD),
    Fault("both libvirtd killed", BOTH, *LIBVIRTD, moments=LATE),
    *either(
        "libvirtd hangs", signals(signal.SIGSTOP, "libvirtd"), heals(services.cont, "libvirtd")
    ),
    Fault("power lost, source", SOURCE, off, on_again, (*LATE, AFTER), kills=True, mute=True),
    Fault("power lost, destination", DESTINATION, off, on_again, (*LATE, AFTER), kills=True),
    Fault("minion killed, source", SOURCE, *MINION, mute=True),
    Fault(
        "job killed, source",
        SOURCE,
        signals(signal.SIGKILL, "job"),
        moments=LATE,
        mute=True,
    ),
    JOB_BETWEEN,
    MINION_BETWEEN,
    Fault(
        "job and keeper killed before the resume",
        SOURCE,
        held_and_killed("job", keeper=True),
        moments=(GONE,),
        mute=True,
    ),
    Fault("ssh connection killed", SOURCE, signals(signal.SIGKILL, "ssh"), moments=LATE),
    *ANSWERS,
    OLDER,
    *CUTS,
    *either("disk full", *spoilt("disk"), EARLY),
    Fault("minion gone, destination", DESTINATION, *MINION, (BEFORE, COPYING)),
    Fault("second call", SOURCE, lambda bench, node: lambda: bench.call_again(node), moments=LATE),
    Fault("noise, destination", DESTINATION, *spoilt("noise"), EARLY),
    Fault("banner, destination", DESTINATION, *spoilt("banner"), (BEFORE, COPYING)),
    Fault("first contact", SOURCE, *spoilt("known-hosts"), (BEFORE, ASKED)),
]
