"""Schedules of what we do with a guest of Pacemaker, by seed: amid faults, and persons at crm."""

from __future__ import annotations

import random

import schedules
from scenario import SETTLING, Scenario, Start
from schedules import NODES

STEPS = (*("starting", "started") * 2, *schedules.STEPS)
FAULTS = {
    "kill qemu web1 on": 3,
    "kill libvirtd": 4,
    "stop libvirtd": 3,
    "cut ssh": 4,
    "cut data": 2,
    "cut both": 3,
    "power off": 4,
    "drop": 1,
    "drop ssh": 2,
}
AT_ONCE = ("kill qemu web1 on", "drop", "drop ssh")
OURS = {"migrate": 10, "start": 2, "shutdown": 2, "recover": 3}
PERSONS = {"refresh": 2, "move": 1, "stop": 1, "start": 1, "standby": 1}


def scenario(seed):
    """Return the scenario of a seed."""
    rng = random.Random(f"managed {seed}")
    commands = [f"wait {rng.uniform(0, 12):.3f}", *schedules.armed(rng, ARMED)]
    for _ in range(rng.choice((1, 1, 2, 3))):
        commands += [f"meanwhile {_act(rng)}" for _ in range(rng.choice((1, 1, 2, 3)))]
        commands.append(f"wait {rng.uniform(0, rng.choice((2, 20, 60))):.3f}")
    commands += [_act(rng), "heal", "join", f"wait {SETTLING:g}"]
    # What persons wanted otherwise, they want no more.
    commands += [f"crm online {node}" for node in NODES]
    commands += [
        "crm clear web1",
        "crm start web1",
        "crm refresh web1",
        "crm wait",
        f"wait {SETTLING:g}",
    ]
    commands += [f"settle web1 on {rng.choice(NODES)}", "kept web1"]
    start = Start("node1", managed=True)
    return Scenario(tuple(commands), {"web1": start}, NODES, seed=seed, lookouts=True)


def _act(rng):
    """What somebody does: mostly we."""
    if rng.random() < 0.2:
        return _person(rng)
    what = rng.choices(tuple(OURS), tuple(OURS.values()))[0]
    node = rng.choice(NODES)
    if what == "migrate":
        return f"migrate web1 to {node} timeout={rng.choice((10, 60))}"
    words = f"{what} web1 on {node}"
    return f"{words} timeout={rng.choice((10, 60))}" if what in ("start", "shutdown") else words


def _person(rng):
    what = rng.choices(tuple(PERSONS), tuple(PERSONS.values()))[0]
    if what == "standby":
        return f"crm {rng.choice(('standby', 'online'))} {rng.choice(NODES)}"
    if what == "move":
        return rng.choice((f"crm move web1 to {rng.choice(NODES)}", "crm clear web1"))
    return f"crm {what} web1"


def _fault(rng):
    if rng.random() < 0.1:
        return f"meanwhile {_act(rng)}"
    what = rng.choices(tuple(FAULTS), tuple(FAULTS.values()))[0]
    words = f"{what} {rng.choice(NODES)}"
    if what in AT_ONCE:
        return words
    # A machine takes longer to boot than its peers to notice that it is gone.
    seconds = (15, 30, 60) if what == "power off" else (1, 5, 20, 40, 90)
    return f"{words} for {rng.choice(seconds) * rng.uniform(0.9, 1.1):.2f}"


ARMED = schedules.Armed(
    counts=(2, 6, 5, 2),
    shares=(0.35, 0.7),
    calls=lambda rng: rng.choice((60, 140)),
    steps=STEPS,
    moments=lambda rng: 60,
    delays=(1, 5, 20),
    fault=_fault,
    act=_act,
)
