"""Schedules of drains by seed: which guests there are, what goes wrong, when the master dies."""

from __future__ import annotations

import random
import re
from dataclasses import replace

from scenario import SETTLING, Scenario, Start

NODES = ("node1", "node2", "node3")


def scenario(seed):
    """Return the scenario of a seed."""
    rng = random.Random(f"drain {seed}")
    guests = {f"web{number}": _start(rng) for number in range(1, rng.choice((2, 3, 4, 5, 8)))}
    commands = [*_armed(rng, [*guests]), "drain node1"]
    for _ in range(rng.choice((0, 1, 1, 2))):
        commands += [f"wait {rng.choice((0.1, 3, 30)):g}", *_armed(rng, [*guests]), "drain node1"]
    commands += ["heal", f"wait {SETTLING:g}", "settle-all node3", "drained node1"]
    return Scenario(tuple(commands), guests, NODES, rng.choice(("shared", "defined")), seed)


def managed(seed):
    """Return the scenario of a seed, with guests that Pacemaker manages among the others."""
    rng = random.Random(f"managed drain {seed}")
    found = scenario(seed)
    guests = {
        name: replace(one, persistent=False, managed=name == "web1" or rng.random() < 0.5)
        for name, one in found.guests.items()
    }
    commands = [_LONGER.sub(r"\1 for 30", one) for one in found.commands]
    commands += ["undrained node1", "crm wait"]
    commands += [f"kept {name}" for name, one in guests.items() if one.managed]
    return replace(found, guests=guests, commands=tuple(commands), definitions="shared")


# A machine takes longer to boot than its peers to notice that it is gone.
_LONGER = re.compile(r"(power off \S+) for \d\..*")


def _start(rng):
    return Start(
        on=rng.choices(NODES, (8, 1, 1))[0],
        persistent=rng.random() < 0.5,
        memory=rng.choice((80, 160, 320)),
        rate=rng.choice((20, 64, 400)),
        dirty=5,
        working_set=20,
    )


def _armed(rng, guests):
    """Arm some faults: of the world, of jobs, of the master's questions, and people."""
    for _ in range(rng.choice((0, 1, 1, 2, 3))):
        kind = rng.random()
        when = f"at {rng.uniform(0, rng.choice((5, 40))):.2f}"
        if kind < 0.25:
            fault = rng.choice(
                (
                    "unsent",
                    "unreturned",
                    "late 10",
                    "late 60",
                    "broken",
                    "another",
                    "wrong",
                    "twice",
                    "held 10",
                    "held 40",
                )
            )
            yield f"job {rng.randint(1, 4)}: {fault}"
        elif kind < 0.45:
            fault = rng.choice(("die before", "die after", "unasked", "lost", "late 20", "odd"))
            yield f"ask {rng.randint(1, 12)}: {fault}"
        elif kind < 0.55:
            yield f"{when}: halt {rng.choice(('master', 'minion node1'))}"
        elif kind < 0.6:
            yield f"{when}: interrupt"
        elif kind < 0.68:
            yield f"{when}: {_person(rng, guests)}"
        else:
            yield f"{when}: {_fault(rng, guests)}"


def _person(rng, guests):
    guest = rng.choice(guests)
    return rng.choice(
        (
            "uncordon node1",
            f"person migrate {guest} to {rng.choice(NODES)}",
            f"person cancel {guest} on node1",
            f"person recover {guest} on {rng.choice(NODES)}",
        )
    )


def _fault(rng, guests):
    node = rng.choices(NODES, (2, 1, 1))[0]
    what = rng.choice(
        (
            f"kill qemu {rng.choice(guests)} on {node}",
            "kill libvirtd",
            "stop libvirtd",
            "cut ssh",
            "cut data",
            "cut both",
            "fill",
            "reset",
            "power off",
        )
    )
    if what.startswith("kill qemu"):
        return what
    seconds = rng.choice((0.5, 5, 20, 40, 90, 400)) * rng.uniform(0.8, 1.2)
    tail = "" if what == "reset" else f" for {seconds:.2f}"
    return f"{what} {node}{tail}"
