"""What is tried beside Pacemaker: commands to its guests, and to one that is none of its own."""

import contextlib
import json
import re

from labs import until
from managed import ELSEWHERE, HOME, NOWHERE, RESOURCES, SOMEWHERE, Attempt, Said

# MiB/s: a migration lasts for half a minute.
SLOW = 3


# ---- states of the lab ----


def with_meta(name, option, value):
    """A resource with another meta attribute."""

    @contextlib.contextmanager
    def arrange(bench):
        bench.meta(name, option, value)
        try:
            yield
        finally:
            bench.meta(name, option)

    return arrange


@contextlib.contextmanager
def unmanaged(bench):
    """Pacemaker leaves web1 alone, and looks for it before it manages it again."""
    bench.meta("web1", "is-managed", "false")
    try:
        yield
    finally:
        refresh(bench)
        bench.meta("web1", "is-managed")


@contextlib.contextmanager
def in_maintenance(bench):
    """Pacemaker leaves all alone, and looks for all before it goes on."""
    mode = ("crm_attribute", "-t", "crm_config", "-n", "maintenance-mode")
    bench.crm(*mode, "-v", "true")
    bench.settle()
    try:
        yield
    finally:
        refresh(bench)
        bench.crm(*mode, "-D")
        bench.settle()


@contextlib.contextmanager
def on_standby(bench):
    """Pacemaker has moved its guests away from a node, and starts none there."""
    standby = ("crm_attribute", "-N", HOME, "-n", "standby")
    bench.crm(*standby, "-v", "on")
    bench.settle()
    try:
        yield
    finally:
        bench.await_members()
        bench.crm(*standby, "-D")
        bench.settle()


@contextlib.contextmanager
def database_away(bench):
    """What we cannot hold has been moved away from home by Pacemaker, as is said."""
    bench.crm("crm_resource", "-r", "database", "--move", "-N", "node3")
    bench.settle()
    bench.crm(*CLEAR)
    try:
        yield
    finally:
        bench.await_members()
        bench.runner("undrain", HOME)
        bench.settle()


def refresh(bench):
    bench.crm("crm_resource", "--refresh", "-r", "web1")
    bench.settle()


def hanging(node):
    """Pacemaker's daemons on a node stand still."""

    @contextlib.contextmanager
    def arrange(bench):
        bench.lab.ctl("stop", node, "pacemaker")
        try:
            yield
        finally:
            bench.lab.ctl("cont", node, "pacemaker")
            bench.settle()

    return arrange


@contextlib.contextmanager
def failed_move(bench):
    """Pacemaker could not move web1, and leaves it blocked where it runs."""
    others = [node for node in bench.lab.nodes if node != HOME]
    for node in others:
        bench.lab.ctl("kill", node, "sshd")
    bench.crm("crm_resource", "-r", "web1", "--move", "-N", "node2")
    until(lambda: "blocked" in bench.crm("crm_mon", "-1"), "web1 is blocked")
    for node in others:
        bench.lab.ctl("start", node, "sshd")
    try:
        yield
    finally:
        bench.crm("crm_resource", "-r", "web1", "--clear")
        bench.crm("crm_resource", "--cleanup")
        bench.settle()


def without_power(node, fenced=True):
    """A node has lost its power, and was fenced; or its board does not answer."""

    @contextlib.contextmanager
    def arrange(bench):
        if not fenced:
            bench.lab.ctl("spoil", node, "power")
        switch_off(bench, node)
        if fenced:
            await_fencing(bench, node)
            until(lambda: all(map(bench.has_restarted, RESOURCES)), "Pacemaker's guests write")
        else:
            until(lambda: "UNCLEAN" in bench.crm("crm_mon", "-1"), f"{node} is missed", pause=1)
        try:
            yield
        finally:
            bench.lab.ctl("mend", node, "power")
            bench.lab.ctl("mend", node, "boot")
            bench.await_members()

    return arrange


def switch_off(bench, node):
    bench.lab.ctl("spoil", node, "boot")
    bench.lab.ctl("reboot", node)


def await_fencing(bench, node):
    """Wait until Pacemaker holds a node for off."""
    off = re.compile(rf"OFFLINE: \[.*\b{node}\b")
    until(lambda: off.search(bench.crm("crm_mon", "-1")), f"{node} is fenced", pause=1)
    bench.settle()


@contextlib.contextmanager
def left_in_good_order(bench):
    """A node was fenced once, came back, left the cluster in good order, and is cut off."""
    node = "node3"
    bench.lab.exec(HOME, "stonith_admin", "--reboot", node)
    bench.await_members()
    for daemon in ("pacemakerd", "corosync"):
        stop = f"kill $(pidof {daemon}); while pidof {daemon}; do sleep 0.1; done"
        bench.lab.exec(node, "sh", "-c", stop)
    bench.lab.ctl("cut", node)
    try:
        yield
    finally:
        bench.lab.heal(node)
        for service in ("corosync", "pacemaker"):
            bench.lab.ctl("start", node, service)
        bench.await_members()


# ---- commands ----


def runner(function, *words):
    return lambda bench: bench.runner(function, *words)


def module(node, function, *words):
    return lambda bench: bench.module(node, function, *words)


def highstate(name):
    return lambda bench: bench.said(
        "salt", "--", HOME, "state.single", "kvmcluster.guest_running", name
    )


def orchestration(name, **pillar):
    words = ("state.orchestrate", f"kvmcluster.orch.{name}", f"pillar={json.dumps(pillar)}")
    return lambda bench: bench.said("salt-run", "--", *words, timeout=600)


def one_after_the_other(*acts):
    """Several commands; the first that fails is the last."""

    def act(bench):
        texts = []
        for one in acts:
            said = one(bench)
            texts.append(said.text)
            if said.code:
                break
        return Said(said.code, " ".join(texts))

    return act


def proposed(refused, pattern, *more):
    """Have a command refused, do what it says is to be typed instead, and wait for Pacemaker."""

    def act(bench):
        said = refused(bench)
        found = re.search(pattern, said.text)
        if not (said.code and found):
            return Said(1, f"it proposes nothing: {said.text}")
        for words in (found[0].replace(" NODE", " node2").split(), *more):
            bench.crm(*words)
            bench.settle()
        return Said(0, said.text)

    return act


def interrupted(lost):
    """Have free1 migrate to node2, and a node lose its power amid it; then recover it."""

    def act(bench):
        bench.lab.exec(HOME, "virsh", "migrate-setspeed", "free1", str(SLOW))
        bench.lab.exec(HOME, "sh", "-c", MIGRATE)
        until(lambda: bench.lab.copying(HOME, "free1"), "it is on its way")
        switch_off(bench, lost)
        await_fencing(bench, lost)
        # As long as the migration is at work, it is said to be.
        return until(lambda: recovered(bench), "the migration has ended", pause=2)

    return act


def recovered(bench):
    """Recover free1; return what was said, and None while another command is at work on it."""
    said = bench.runner("recover", "free1")
    return None if "BUSY" in said.text else said


MIGRATE = "setsid salt-call --out=quiet kvmcluster.migrate free1 node2 >/dev/null 2>&1 &"


@contextlib.contextmanager
def mended(bench):
    """What is switched off comes back in the end."""
    try:
        yield
    finally:
        for node in bench.lab.nodes:
            bench.lab.ctl("mend", node, "boot")
        bench.await_members()


def right(name, act, **more):
    """An attempt that is to be carried out."""
    return Attempt(name, act, refused=False, words=(), **more)


TO_NODE2 = runner("migrate", "web1", "node2")
OFF, DEAF = without_power(HOME), without_power(HOME, fenced=False)
STOPPED = with_meta("web1", "target-role", "Stopped")
UPDATES = {"sls": "updates", "reboot": "always"}
SHUTDOWN = module(HOME, "shutdown", "web1")
START_WEB = module("node2", "start", "web1")
FREEZE = module(HOME, "freeze", "web1", "why"), module(HOME, "unfreeze", "web1")
MOVE_DB, STOP_DB = runner("migrate", "db1", "node2"), module(HOME, "shutdown", "db1")
DRAIN = runner("drain", HOME)
MOVE = r"crm_resource --move -r \S+ -N NODE"
ROLE = r"crm_resource -r \S+ --meta -p target-role -v \w+"
CLEAR = ("crm_resource", "--clear", "-r", "database")
RUN = ("crm_resource", "-r", "vm-database", "--meta", "-d", "target-role")
ALL = (*RESOURCES, "free1")
ON2, AWAY = {"free1": "node2"}, {"free1": ELSEWHERE}
MAINTENANCE = orchestration("maintenance", node=HOME, **UPDATES)
DEAD = {"web1": ELSEWHERE, "db1": ELSEWHERE, "free1": NOWHERE}
PROPOSED = proposed(STOP_DB, ROLE, RUN)
EMPTIED = {"web1": ELSEWHERE, "free1": ELSEWHERE}
RECOVER = runner("recover", "web1")
FREE = runner("migrate", "free1", "node3")
START = module("node2", "start", "free1")
DOWN_AND_UP = one_after_the_other(module(HOME, "shutdown", "free1"), module(HOME, "start", "free1"))
ATTEMPTS = [
    # A part of a group cannot be held.
    Attempt("migrate, in a group", MOVE_DB),
    Attempt("migrate, no node named", runner("migrate", "db1")),
    Attempt("check, in a group", runner("check", "db1", "node2")),
    Attempt("maintenance", MAINTENANCE),
    Attempt("rolling", orchestration("rolling", **UPDATES)),
    Attempt("shutdown", STOP_DB),
    Attempt("shutdown, destroy", module(HOME, "shutdown", "db1", "timeout=1", "destroy=true")),
    Attempt("freeze, in a group", module(HOME, "freeze", "db1", "why")),
    Attempt("highstate, is to be stopped", highstate("web1"), arrange=STOPPED),
    Attempt("migrate, failed before", TO_NODE2, arrange=failed_move),
    Attempt("migrate, hangs at source", TO_NODE2, arrange=hanging(HOME)),
    Attempt("shutdown, hangs", SHUTDOWN, arrange=hanging(HOME)),
    # What is proposed instead is right.
    right("proposed move", proposed(MOVE_DB, MOVE, CLEAR), ends={"db1": "node2"}),
    right("proposed stop and start", PROPOSED, ends={"db1": SOMEWHERE}, restarts=("db1",)),
    # What is held meanwhile.
    right("migrate", TO_NODE2, ends={"web1": "node2"}),
    right("migrate, on its node", module(HOME, "migrate", "web1", "node3"), ends={"web1": "node3"}),
    right("shutdown, held", SHUTDOWN, ends={"web1": NOWHERE}),
    right(
        "down and up",
        one_after_the_other(SHUTDOWN, START_WEB),
        ends={"web1": "node2"},
        restarts=("web1",),
    ),
    right(
        "start, is to be stopped",
        START_WEB,
        arrange=STOPPED,
        ends={"web1": "node2"},
        restarts=("web1",),
    ),
    right("freeze and unfreeze", one_after_the_other(*FREEZE)),
    right("drain", DRAIN, arrange=database_away, ends=EMPTIED),
    right("maintenance, whole", MAINTENANCE, arrange=database_away, ends=EMPTIED),
    # What Pacemaker leaves alone, we may move.
    right("migrate, unmanaged", TO_NODE2, arrange=unmanaged, ends={"web1": "node2"}),
    right("migrate, in maintenance", TO_NODE2, arrange=in_maintenance, ends={"web1": "node2"}),
    # What Pacemaker has emptied of its own, we may empty.
    right("drain, on standby", DRAIN, arrange=on_standby, ends=AWAY),
    right("maintenance, on standby", MAINTENANCE, arrange=on_standby, ends=AWAY),
    # What is none of Pacemaker's.
    right("migrate a free one", FREE, ends={"free1": "node3"}),
    right("a free one, down and up", DOWN_AND_UP, ends={"free1": HOME}, restarts=("free1",)),
    # A node without power.
    right("recover, fenced", RECOVER, arrange=OFF),
    right("start of a free one, fenced", START, arrange=OFF, ends=ON2, restarts=("free1",)),
    right("source fenced amid a move", interrupted(HOME), arrange=mended, ends=DEAD, restarts=ALL),
    right("destination fenced amid a move", interrupted("node2"), arrange=mended),
    Attempt("start of a free one, fencing fails", START, words=(HOME,), arrange=DEAF),
    Attempt("recover, fencing fails", RECOVER, words=(HOME,), arrange=DEAF),
    # It was fenced once, has been a member since, and may run guests of nobody.
    Attempt(
        "start of a free one, a node left",
        DOWN_AND_UP,
        words=("node3",),
        arrange=left_in_good_order,
        ends={"free1": NOWHERE},
        restarts=("free1",),
    ),
]
