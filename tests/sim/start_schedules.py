"""Schedules of starts and shutdowns by seed: several at once, beside migrations and persons."""

from __future__ import annotations

import random

import schedules
from scenario import SETTLING, Scenario, Start
from schedules import NODES

STEPS = (*("starting", "started") * 4, *schedules.STEPS)
FAULTS = {
    "kill qemu web1 on": 2,
    "kill libvirtd": 5,
    "stop libvirtd": 5,
    "cut ssh": 5,
    "cut data": 1,
    "cut both": 3,
    "drop": 1,
    "drop ssh": 5,
    "power off": 4,
    "lose claims": 5,
}
AT_ONCE = ("kill qemu web1 on", "drop", "drop ssh", "lose claims")


def scenario(seed):
    """Return the scenario of a seed."""
    rng = random.Random(f"starts {seed}")
    definitions = rng.choice(("shared", "defined"))
    runs = rng.random() < 0.35
    start = Start(
        on="node1" if runs else "",
        persistent=definitions == "defined",
        defined=() if definitions == "shared" else NODES[1 if runs else 0 :],
        obeys=rng.random() < 0.7,
    )
    commands = list(schedules.armed(rng, ARMED))
    if rng.random() < 0.15:
        # About when it has claimed all nodes, and asks them for the last time.
        commands.append(f"on call {rng.randint(12, 20)}: claimless {rng.choice((1, 5, 20))}")
    for _ in range(rng.choice((1, 2, 3))):
        commands += [f"meanwhile {_act(rng)}" for _ in range(rng.choice((1, 2, 2, 3, 4)))]
        commands.append(f"wait {rng.uniform(0, rng.choice((2, 40))):.3f}")
    commands += [_act(rng), "heal", "join", f"wait {SETTLING + 120:g}"]
    commands += [f"settle web1 on {rng.choice(NODES)}", f"started web1 on {rng.choice(NODES)}"]
    fences = rng.random() < 0.4
    return Scenario(tuple(commands), {"web1": start}, NODES, definitions, seed, fences=fences)


def _act(rng):
    """What somebody does."""
    what = rng.choices(
        ("start", "shutdown", "virsh start", "virsh destroy", "migrate", "recover", "cordon"),
        (12, 4, 2, 3, 5, 1, 0.3),
    )[0]
    node = rng.choice(NODES)
    if what == "migrate":
        return f"migrate web1 to {node} timeout={rng.choice((10, 60))}"
    if what == "cordon":
        return f"cordon {node}"
    words = f"{what} web1 on {node}"
    if what == "start":
        words += f" timeout={rng.choice((5, 30, 60, 120))}"
        if rng.random() < 0.6:
            words += f" force={','.join(NODES)}"
    if what == "shutdown":
        words += f" timeout={rng.choice((2, 10, 40))}"
        words += rng.choice(("", " destroy=true"))
    return words


def _fault(rng):
    if rng.random() < 0.15:
        return f"meanwhile {_act(rng)}"
    what = rng.choices(tuple(FAULTS), tuple(FAULTS.values()))[0]
    words = f"{what} {rng.choice(NODES)}"
    if what in AT_ONCE:
        return words
    return f"{words} for {rng.choice((0.1, 1, 5, 20, 40, 90)) * rng.uniform(0.8, 1.2):.2f}"


ARMED = schedules.Armed(
    counts=(1, 6, 8, 6, 3),
    shares=(0.3, 0.65),
    calls=lambda rng: 60,
    steps=STEPS,
    moments=lambda rng: rng.choice((2, 40)),
    delays=(1, 5, 20, 70),
    fault=_fault,
    act=_act,
)
