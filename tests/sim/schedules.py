"""Schedules of faults by seed: what is migrated, what goes wrong when, and how it is healed."""

from __future__ import annotations

import random

from scenario import SETTLING, Scenario, Start

NODES = ("node1", "node2", "node3")
STEPS = (
    *("begin", "prepare sent", "prepare", "prepared", "perform", "copied once", "switch"),
    *("device state", "loaded", "perform done", "finish sent", "finish", "resume", "resumed"),
    *("finished", "confirm", "confirm cancelled"),
)
IN_POST_COPY = ("post-copy", *STEPS)


def scenario(seed):
    """Return the scenario of a seed."""
    rng = random.Random(seed)
    start = _start(rng)
    definitions = rng.choice(("shared", "defined"))
    post_copy = rng.random() < 0.25 and not start.paused
    commands = [*_first(rng, post_copy, start)]
    if rng.random() < 0.3:
        commands.append(f"wait {rng.uniform(0, 60):.1f}")
        commands += _recovery_amid_faults(rng)
    commands += _healed(rng)
    return Scenario(tuple(commands), {"web1": start}, NODES, definitions, seed)


def _start(rng):
    persistent = rng.random() < 0.5
    slow = rng.random() < 0.2
    return Start(
        on="node1",
        persistent=persistent,
        autostart=persistent and rng.random() < 0.4,
        paused=rng.random() < 0.06,
        rate=rng.choice((32, 64)) if slow else 400,
        dirty=rng.choice((10, 40, 80)) if slow else 20,
        working_set=120 if slow else 40,
    )


def _first(rng, post_copy, start):
    """Arm some faults, and migrate."""
    amount = rng.choices((0, 1, 2, 3, 4), (1, 8, 8, 4, 2))[0]
    steps = IN_POST_COPY if post_copy else STEPS
    for _ in range(amount):
        yield _armed(rng, steps, "node1", "node2")
    options = []
    if post_copy:
        options.append("post_copy=true")
    if rng.random() < 0.06 and not start.paused and not post_copy:
        options.append("live=false")
    options.append(f"timeout={rng.choice((5, 20, 60, 120))}")
    if rng.random() < 0.5:
        options.append(f"patience={rng.choice((5, 20))}")
    yield " ".join(["migrate web1 from node1 to node2", *options])


def _armed(rng, steps, source, destination):
    """Return a fault with what triggers it."""
    kind = rng.random()
    if kind < 0.25:
        return f"on call {rng.randint(3, 40)}: {_call_fault(rng, source)}"
    fault = _fault(rng, source, destination)
    if kind < 0.85:
        after = rng.choice((0, 0, 0.001, 0.005, 0.02, 0.05, 0.3, 2, 10))
        when = f" + {after}" if after else ""
        return f"on step {rng.choice(steps)}{when}: {fault}"
    return f"at {rng.uniform(0, 4):.3f}: {fault}"


def _call_fault(rng, source):
    return rng.choice(
        (
            "die before",
            "die after",
            "refused",
            "lost",
            f"late {rng.choice((1, 5, 20))}",
            f"early {rng.choice((1, 5, 20))}",
            f"cancel web1 on {source}",
            f"recover web1 on {rng.choice(NODES)}",
        )
    )


def _fault(rng, source, destination):
    where = rng.choice((source, destination))
    seconds = f" for {rng.choice((0.1, 1, 5, 20, 29, 40, 90)) * rng.uniform(0.8, 1.2):.2f}"
    kind = rng.choices(
        ("kill qemu", "kill libvirtd", "stop libvirtd", "cut", "fill", "reset"),
        (4, 6, 4, 7, 1, 1),
    )[0]
    if kind == "kill qemu":
        return f"kill qemu web1 on {where}"
    if kind == "cut":
        return f"cut {rng.choice(('ssh', 'data', 'both'))} {where}{seconds}"
    if kind == "reset":
        return f"reset {where}"
    return f"{kind} {where}{seconds}"


def _recovery_amid_faults(rng):
    if rng.random() < 0.4:
        fault = rng.choice(("die before", "die after", "lost", "late 20"))
        yield f"on call {rng.randint(2, 25)}: {fault}"
    if rng.random() < 0.4:
        yield f"at {rng.uniform(0, 2):.3f}: {_fault(rng, 'node1', 'node2')}"
    yield f"recover web1 on {rng.choice(NODES)}"


def _healed(rng):
    yield "heal"
    yield f"wait {SETTLING:g}"
    yield f"settle web1 on {rng.choice(NODES)}"
