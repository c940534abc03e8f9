"""Schedules of many migrations at once by seed, which wait for their slots while things fail."""

from __future__ import annotations

import random

import schedules
from scenario import SETTLING, Scenario, Start
from schedules import NODES

FAULTS = {
    "kill libvirtd": 3,
    "stop libvirtd": 3,
    "cut ssh": 5,
    "cut data": 2,
    "cut both": 4,
    "drop ssh": 6,
    "power off": 3,
}


def scenario(seed):
    """Return the scenario of a seed."""
    rng = random.Random(f"queues {seed}")
    limits = (rng.choice((1, 1, 2)), rng.choice((1, 1, 2)))
    names = [f"web{number}" for number in range(1, rng.choice((3, 4, 5, 6)))]
    guests = {name: _start(rng) for name in names}
    commands = [*_armed(rng, names)]
    for name in rng.sample(names, len(names)):
        source = guests[name].on
        node = rng.choice([node for node in NODES if node != source])
        commands.append(f"meanwhile {_migration(rng, name, node)}")
        if rng.random() < 0.4:
            commands.append(f"wait {rng.uniform(0, rng.choice((1, 10))):.3f}")
    commands.append(f"wait {rng.uniform(0, 120):.3f}")
    commands += ["heal", "join", f"wait {SETTLING:g}"]
    node = rng.choice(NODES)
    commands += [f"settle {name} on {node}" for name in names]
    commands.append("free")
    return Scenario(tuple(commands), guests, NODES, "shared", seed, limits=limits)


def _start(rng):
    slow = rng.random() < 0.5
    return Start(on=rng.choice(NODES[:2]), rate=rng.choice((8, 40)) if slow else 400, dirty=4)


def _migration(rng, name, node):
    words = f"migrate {name} to {node} timeout={rng.choice((20, 60, 120))}"
    if rng.random() < 0.2:
        words += f" within={rng.choice((0, 5))}"
    return words


def _armed(rng, names):
    for _ in range(rng.choices((0, 1, 2, 3, 4), (1, 6, 8, 5, 2))[0]):
        kind = rng.random()
        if kind < 0.3:
            yield f"on call {rng.randint(1, 60)}: {_call_fault(rng, names)}"
        elif kind < 0.6:
            after = rng.choice((0, 0.001, 0.3, 2, 10))
            yield f"on step {rng.choice(schedules.STEPS)} + {after}: {_fault(rng, names)}"
        else:
            yield f"at {rng.uniform(0, rng.choice((2, 60))):.3f}: {_fault(rng, names)}"


def _call_fault(rng, names):
    return rng.choice(
        (
            "die before",
            "die after",
            "refused",
            "lost",
            f"late {rng.choice((1, 20, 70))}",
            f"early {rng.choice((1, 20, 70))}",
            f"fault {_fault(rng, names)}",
        )
    )


def _fault(rng, names):
    if rng.random() < 0.15:
        verb = rng.choice(("cancel", "recover"))
        return f"meanwhile {verb} {rng.choice(names)} on {rng.choice(NODES)}"
    what = rng.choices(tuple(FAULTS), tuple(FAULTS.values()))[0]
    words = f"{what} {rng.choice(NODES)}"
    if what == "drop ssh":
        return words
    return f"{words} for {rng.choice((1, 5, 20, 40, 70, 120)) * rng.uniform(0.8, 1.2):.2f}"
