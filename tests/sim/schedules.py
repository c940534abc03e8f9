"""Schedules of faults by seed: what is migrated, what goes wrong when, and how it is healed."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, replace

from scenario import SETTLING, Scenario, Start

NODES = ("node1", "node2", "node3")
STEPS = (
    *("begin", "prepare sent", "prepare", "prepared", "perform", "copied once", "switch"),
    *("device state", "loaded", "perform done", "finish sent", "finish", "resume", "resumed"),
    *("finished", "confirm", "confirm cancelled", "source over", "copy resumed"),
)
POST_COPY = ("post-copy",) * 8


def scenario(seed):
    """Return the scenario of a seed."""
    rng = random.Random(seed)
    post_copy = rng.random() < 0.2
    start = _start(rng, post_copy)
    definitions = rng.choice(("shared", "defined"))
    # Post-copy, and libvirt's own handover, are refused where nothing locks an image.
    locks = post_copy or rng.random() < 0.35
    # What starts by itself when its node boots needs no handover to run twice.
    start = start if locks else replace(start, autostart=False)
    by_libvirt = locks and rng.random() < 0.3
    pair = ("node1", "node2")
    commands = [
        *_armed(rng, pair, post_copy),
        _migration(rng, "from node1 to node2", post_copy, start, by_libvirt),
    ]
    if rng.random() < 0.3:
        commands += [f"wait {rng.uniform(0, rng.choice((2, 60))):.3f}"]
        commands += _recovery_amid_faults(rng, pair)
    commands += _healed(rng)
    if rng.random() < 0.25:
        destination = rng.choice(NODES)
        commands += _armed(rng, NODES, post_copy)
        commands.append(_migration(rng, f"to {destination}", post_copy, start, by_libvirt))
        commands += _healed(rng)
    return Scenario(
        tuple(commands),
        {"web1": start},
        NODES,
        definitions,
        seed,
        locks,
        activates=rng.random() < 0.3,
        lookouts=rng.random() < 0.8,
        fences=rng.random() < 0.4,
    )


def _start(rng, post_copy):
    """How the guest is; one that is to go by post-copy is mostly too busy to go otherwise."""
    persistent = rng.random() < 0.5
    busy = rng.random() < (0.8 if post_copy else 0.12)
    return Start(
        on="node1",
        persistent=persistent,
        autostart=persistent and rng.random() < 0.4,
        paused=not post_copy and rng.random() < 0.06,
        rate=rng.choice((32, 64)) if busy else 400,
        dirty=rng.choice((80, 100)) if busy else 20,
        working_set=120 if busy else 40,
    )


def _migration(rng, way, post_copy, start, by_libvirt):
    words = [f"migrate web1 {way}"]
    if by_libvirt:
        words.append("handover=libvirt")
    if post_copy:
        words.append("post_copy=true")
    elif rng.random() < 0.06:
        words.append("live=false")
    if start.rate < start.dirty and rng.random() < 0.7:
        words.append("auto_converge=false")
    words.append(f"timeout={rng.choice((10, 30) if post_copy else (10, 30, 60, 120))}")
    if rng.random() < 0.5:
        words.append(f"patience={rng.choice((5, 20))}")
    return " ".join(words)


def _armed(rng, nodes, post_copy):
    """Arm some faults, each with what triggers it."""
    steps = (*STEPS, *POST_COPY) if post_copy else STEPS
    for _ in range(rng.choices((0, 1, 2, 3, 4), (1, 8, 8, 4, 2))[0]):
        kind = rng.random()
        if kind < 0.25:
            yield f"on call {rng.randint(3, 40)}: {_call_fault(rng, nodes)}"
        elif kind < 0.85:
            after = rng.choice((0, 0, 0.001, 0.005, 0.02, 0.05, 0.3, 2, 10))
            when = f" + {after}" if after else ""
            yield f"on step {rng.choice(steps)}{when}: {_fault(rng, nodes)}"
        else:
            yield f"at {rng.uniform(0, 40 if post_copy else 3):.3f}: {_fault(rng, nodes)}"


def _call_fault(rng, nodes):
    return rng.choice(
        (
            "die before",
            "die after",
            "refused",
            "lost",
            f"twice {rng.choice((0, 0.1, 1))}",
            f"late {rng.choice((1, 5, 20))}",
            f"early {rng.choice((1, 5, 20))}",
            f"cancel web1 on {nodes[0]}",
            f"recover web1 on {rng.choice(NODES)}",
            f"migrate web1 to {rng.choice(NODES)}",
        )
    )


FAULTS = {
    "kill qemu web1 on": 4,
    "kill libvirtd": 6,
    "stop libvirtd": 4,
    "cut ssh": 3,
    "cut data": 2,
    "cut both": 3,
    "fill": 1,
    "clock -7200": 1,
    "clock 7200": 1,
    "reset": 1,
    "drop": 1,
    "power off": 2,
    "recover web1 on": 1,
    "cancel web1 on": 1,
}
AT_ONCE = ("kill qemu web1 on", "reset", "drop", "recover web1 on", "cancel web1 on")


def _fault(rng, nodes):
    what = rng.choices(tuple(FAULTS), tuple(FAULTS.values()))[0]
    words = f"{what} {rng.choice(nodes)}"
    if what in AT_ONCE:
        return words
    seconds = rng.choice((0.1, 1, 5, 20, 29, 40, 90)) * rng.uniform(0.8, 1.2)
    return f"{words} for {seconds:.2f}"


def _recovery_amid_faults(rng, nodes):
    if rng.random() < 0.4:
        fault = rng.choice(
            (
                "die before",
                "die after",
                "lost",
                "late 0.2",
                "late 20",
                "early 1",
                "early 20",
                "twice 1",
            )
        )
        yield f"on call {rng.randint(2, 40)}: {fault}"
    if rng.random() < 0.4:
        yield f"at {rng.uniform(0, 2):.3f}: {_fault(rng, nodes)}"
    yield f"recover web1 on {rng.choice(NODES)}"


def _healed(rng):
    yield "heal"
    yield f"wait {SETTLING:g}"
    yield f"settle web1 on {rng.choice(NODES)}"


@dataclass(frozen=True)
class Armed:
    """What goes wrong in schedules of a kind: at a call, at a step of a move, or at a time.

    ``counts``: the weights of 0, 1, 2 … of them. ``shares``: below the first a fault is at a call,
    below the second at a step. ``calls``, ``moments``: the last call, and the last second.
    ``delays``: by how many seconds an answer is late. ``fault``, ``act``: what happens, and what
    somebody does.
    """

    counts: tuple
    shares: tuple
    calls: Callable
    steps: tuple
    moments: Callable
    delays: tuple
    fault: Callable
    act: Callable


def armed(rng, kind):
    """Yield what goes wrong, by a kind of schedule."""
    at_call, at_step = kind.shares
    for _ in range(rng.choices(range(len(kind.counts)), kind.counts)[0]):
        share = rng.random()
        if share < at_call:
            yield f"on call {rng.randint(1, kind.calls(rng))}: {_fault_of_call(rng, kind)}"
        elif share < at_step:
            after = rng.choice((0, 0, 0.001, 0.02, 0.3, 2, 10))
            when = f" + {after}" if after else ""
            yield f"on step {rng.choice(kind.steps)}{when}: {kind.fault(rng)}"
        else:
            yield f"at {rng.uniform(0, kind.moments(rng)):.3f}: {kind.fault(rng)}"


def _fault_of_call(rng, kind):
    return rng.choice(
        (
            "die before",
            "die after",
            "refused",
            "lost",
            f"late {rng.choice(kind.delays)}",
            f"early {rng.choice(kind.delays)}",
            f"fault {kind.fault(rng)}",
            f"meanwhile {kind.act(rng)}",
        )
    )
