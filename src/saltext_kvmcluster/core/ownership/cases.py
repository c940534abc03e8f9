"""A migration that is to be settled: what is known of it, and what is to be done."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum

from saltext_kvmcluster.core.migration import migration
from saltext_kvmcluster.core.migration.journal import Entry
from saltext_kvmcluster.core.verdicts import OFF, Observation, Sighting, Verdict

RUNNING, PAUSED, NOWHERE = "running", "paused", "nowhere"
# Its owner is certain, but it stands still until it is resumed.
STANDS = "stands"
CONFLICT, UNKNOWN, BUSY = "conflict", migration.UNKNOWN, "busy"
OWNING = {Sighting.RUNNING: RUNNING, Sighting.PAUSED_BY_USER: PAUSED}


class Do(Enum):
    """What may be done on a node to settle a migration."""

    RESUME_COPY = "resume the copy that waits for its handover"
    DESTROY_COPY = "destroy the paused copy that the migration left"
    RESUME_SOURCE = "resume it where its migration stopped it"
    UNMARK = "remove the mark of its handover"
    UNDEFINE = "undefine it"
    DEFINE = "define it as it runs"
    AUTOSTART_OFF = "switch its autostart off"
    RESUME_POST_COPY = "resume the post-copy migration"
    CLEAR = "clear the journal"


@dataclass(frozen=True)
class Action:
    """Something to be done on a node, in this order."""

    do: Do
    node: str


@dataclass(frozen=True)
class Settlement:
    """The verdict over all nodes, what is to be done, and the manual steps that remain.

    ``result``: the verdict as one of the constants above. ``owner``: a node, None if it is not
    certain or there is none. ``needs``: the missing information; ``commands``: the manual steps
    for an operator who has it.
    """

    verdict: Verdict
    result: str
    owner: str | None = None
    actions: tuple[Action, ...] = ()
    needs: tuple[str, ...] = ()
    commands: tuple[str, ...] = ()


@dataclass(frozen=True)
class Case:
    """What is known. ``entry``: the latest one, if that is certain; it names the two roles.

    ``doubted``: whether a file that cannot be read may be a later entry.
    """

    guest: str
    entries: Mapping[str, Entry]
    observations: Mapping[str, Observation]
    fresh: bool
    doubted: bool = False

    @property
    def entry(self) -> Entry | None:
        return None if self.doubted else latest(self.entries)

    @property
    def typed(self) -> str:
        """The guest's name, quoted for a shell."""
        return shlex.quote(self.guest)

    @property
    def ends(self) -> set[str]:
        """The sources and destinations of its known migrations."""
        return set(ends_of(self.entries))

    def observed(self, *sightings: Sighting) -> list[str]:
        return [
            node
            for node, observation in self.observations.items()
            if observation.sighting in sightings
        ]

    def sighting(self, node: str) -> Sighting:
        return self.observations[node].sighting

    @property
    def active(self) -> list[str]:
        return [
            node
            for node in self.observations
            if node not in self.observed(*OFF, Sighting.UNREACHABLE)
        ]

    @property
    def reported(self) -> str:
        """Every sighting as text."""
        return ", ".join(
            f"on {node} it is {observation.sighting.value}"
            for node, observation in self.observations.items()
        )


def ends_of(entries: Mapping[str, Entry]) -> list[str]:
    moves = [entry.move for entry in entries.values()]
    return [node for move in moves for node in (move.source, move.destination)]


def latest(entries: Mapping[str, Entry]) -> Entry | None:
    """Return the entry of the migration that was begun last; None if that is not certain.

    It is never found by time, since clocks differ and are set. Sequences order two migrations only
    if they have a node in common, which counted both.
    """
    found = list(entries.values())
    for one in found:
        if all(other is one or _is_after(one, other) for other in found):
            return one
    return None


def _is_after(one: Entry, other: Entry) -> bool:
    has_common_node = bool(set(ends_of({"": one})) & set(ends_of({"": other})))
    return has_common_node and one.sequence > other.sequence > 0


def cleared(case: Case) -> tuple[Action, ...]:
    return tuple(Action(Do.CLEAR, node) for node in case.entries)
