"""What is simulated: one entry for each kind of run, with its share of all runs.

A seed is of a kind, written ``starts:4711``; a number alone is a migration's. To add a kind, add an
entry to ``KINDS``. What its scenarios do beyond the commands of `scenario` is registered there,
in ``COMMANDS``, by the module that carries it out.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import drain_schedules
import drains
import managed_schedules
import pacemaker
import queue_schedules
import schedules
import start_schedules
import starts
from scenario import ACTORS, COMMANDS, Scenario


@dataclass(frozen=True)
class Kind:
    """A kind of run: ``scenario`` makes one from a seed; ``results`` are its table's columns.

    ``share``: how many of all runs are of this kind, in relation to the others' shares.
    """

    scenario: Callable[[int], Scenario]
    share: int
    results: tuple[str, ...]


COMMANDS.update(starts.COMMANDS)
COMMANDS.update(drains.COMMANDS)
COMMANDS.update(pacemaker.COMMANDS)
ACTORS.update(drains.ACTORS)

KINDS = {
    "migrations": Kind(
        schedules.scenario, 60, ("moved", "not_moved", "unknown", "refused", "killed")
    ),
    "starts": Kind(
        start_schedules.scenario,
        20,
        ("started", "running", "not_started", "stopped", "not_stopped", "unknown", "refused"),
    ),
    "queues": Kind(
        queue_schedules.scenario, 10, ("moved", "not_moved", "unknown", "refused", "killed")
    ),
    "managed": Kind(managed_schedules.scenario, 10, ("moved", "refused", "killed")),
    "managed-drains": Kind(drain_schedules.managed, 5, ("drained",)),
    "drains": Kind(drain_schedules.scenario, 10, ("drained", "not drained", "refused", "killed")),
}


def scenario(seed: str) -> Scenario:
    """Return the scenario of a seed such as ``starts:4711``."""
    kind, _, number = seed.rpartition(":")
    return KINDS[kind or "migrations"].scenario(int(number))


def mixed(
    runs: int, first: int, at_once: int, wanted: Iterable[str]
) -> Iterator[tuple[str, range]]:
    """Yield the wanted kinds and their seeds, in parts, that make up so many runs."""
    shares = {name: KINDS[name].share for name in wanted}
    parts = []
    for name, share in shares.items():
        end = first + round(runs * share / sum(shares.values()))
        parts.append(
            [(name, range(at, min(at + at_once, end))) for at in range(first, end, at_once)]
        )
    for together in itertools.zip_longest(*parts):
        yield from filter(None, together)
