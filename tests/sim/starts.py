"""Starts and shutdowns in the simulated world, with persons who do the same by hand.

    start web1 on node2 timeout=60 force=node3
    shutdown web1 on node2 timeout=30 destroy=true
    virsh start web1 on node3
    virsh destroy web1 on node3
    cordon node2
    started web1 on node1

``force`` declares a node offline only if it is: then it stays off until the start has ended.
``started`` is checked after all has healed: the guest runs, or can be started; ``free``: no
slot of a queue is taken any more.
"""

from __future__ import annotations

import re

import world as sim
from scenario import ACTORS, BECAUSE, LONGEST, value_of
from shells import leaked
from simulated import Call, Killed, domain_xml

from saltext_kvmcluster.core.cordons import Cordon
from saltext_kvmcluster.core.errors import InputError, WorldError
from saltext_kvmcluster.engine import lifecycle, stopper


def _parsed(rest):
    name, node, options = re.fullmatch(r"(\S+) on (\S+)((?: \S+=\S+)*)", rest).groups()
    return name, node, dict(pair.split("=") for pair in options.split())


def start(run, rest):
    """Start a guest; the result has to be what the world says."""
    name, node, given = _parsed(rest)
    world, guest, minion = run.world, run.world.guests[name], run.minion(node)
    declared_offline = [one for one in given.pop("force", "").split(",") if one in world.dark]
    run.kept_off |= set(declared_offline)
    timeout = float(given.pop("timeout", 60))
    began = world.now
    try:
        done = lifecycle.start(minion.environment(), name, declared_offline or None, timeout, True)
    except Killed:
        result = "killed"
    except (InputError, WorldError) as error:
        result = _refused(run, minion, error)
    else:
        result = done.result
        run.note_result(f"start on {node}", done.result, done.owner, done.reason)
        run.warnings = done.warnings
        run.check_verdict(guest, done.owner, minion, world.now)
        mine = [qemu for qemu in guest.running if qemu.node == node and qemu.born >= began]
        if result == "not_started" and any(qemu.by == sim.ENGINE for qemu in mine):
            world.violation("wrong", f"{name} is reported as not started on {node}; it runs there")
    run.kept_off -= set(declared_offline)
    run.end(minion)
    run.last_start = result
    run.results[result] += 1
    if world.now - began > timeout + LONGEST / 4:
        world.violation("endless", f"the start took {world.now - began:.0f} s")


def shutdown(run, rest):
    """Shut a guest down; the result has to be what the world says."""
    name, node, given = _parsed(rest)
    world, guest, minion = run.world, run.world.guests[name], run.minion(node)
    minion.may_destroy = True
    given = {key: value_of(value) for key, value in given.items()}
    try:
        done = stopper.shutdown(minion.environment(), name, **given)
    except Killed:
        result = "killed"
    except (InputError, WorldError) as error:
        result = _refused(run, minion, error)
    else:
        result = done.result
        run.note_result(f"shutdown on {node}", done.result, done.owner, done.reason)
        run.warnings = done.warnings
        run.check_verdict(guest, done.owner, minion, world.now)
        runs = [qemu for qemu in guest.running if qemu.born < minion.asked_since()]
        if result == "stopped" and runs:
            world.violation("wrong", f"{name} is reported as stopped; it is {runs[0]}")
    run.end(minion)
    run.results[result] += 1


def _refused(run, minion, error):
    run.world.note("refused")
    run.world.note(f"{BECAUSE}{error}")
    if minion.begun is not None:
        run.world.violation("denied", f"an error after libvirt was told to start it: {error}")
    return "refused"


def virsh(run, rest):
    """A person with virsh, who checks first: what is started during the check is missed."""
    verb, _, rest = rest.partition(" ")
    name, node, _ = _parsed(rest)
    world, guest = run.world, run.world.guests[name]
    daemon = world.daemons[node]
    if not daemon.up or daemon.stopped or node in world.dark:
        return
    domain = daemon.domains.get(guest.uuid)
    if verb == "start" and not guest.alive:
        run.faults["person"] += 1
        if domain:
            daemon.boot_guest(guest.uuid, Call(), by=sim.OPERATOR)
        else:
            daemon.create(domain_xml(guest), Call(), by=sim.OPERATOR)
    elif verb == "destroy" and domain and domain.qemu and not domain.job:
        run.faults["person"] += 1
        daemon.destroy(guest.uuid, by=sim.OPERATOR)


def cordon(run, node):
    run.shelves[node].cordon = Cordon("2030-01-01T00:00:00+00:00", "updates")


def started(run, rest):
    """A guest that is settled runs, or can be started; and nothing is held any more."""
    name, node, _ = _parsed(rest)
    world = run.world
    for shelf in run.shelves.values():
        shelf.cordon = None
    if run.last in ("running", "nowhere"):
        start(run, f"{name} on {node} timeout=300")
        if run.last_start not in ("started", "running"):
            world.violation("left", f"{name} was {run.last}, and its start is {run.last_start}")
    free(run)


def free(run, rest=""):
    """No slot is taken any more."""
    held = leaked(run.shelves, run.world.now)
    if held:
        run.world.violation("slots", f"a ticket is left: {held}")


COMMANDS = {
    "start": start,
    "shutdown": shutdown,
    "virsh": virsh,
    "cordon": cordon,
    "started": started,
    "free": free,
}
ACTORS.update(("start", "shutdown", "virsh"))
