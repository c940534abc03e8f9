"""Who owns a guest, judged from what two nodes report of it.

Only pairs in the table are certain. Every other pair is UNKNOWN, and UNKNOWN touches nothing:
a guest that is shot on a guess is lost, a guest that is left alone can still be looked at.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum


class Sighting(Enum):
    """What one node reports of one guest."""

    RUNNING = "running"
    RUNNING_IN_POST_COPY = "running in post-copy"
    PAUSED_BY_USER = "paused by its user"
    PAUSED_FOR_MIGRATION = "paused for migration"
    PAUSED_IN_POST_COPY = "paused in post-copy"
    PAUSED_OTHERWISE = "neither running nor paused by its user"
    SHUT_OFF = "shut off"
    ABSENT = "absent"
    UNREACHABLE = "unreachable"


class Owner(Enum):
    """Whose the guest is now."""

    SOURCE = "source"
    DESTINATION = "destination"
    NOBODY = "nobody"
    CONFLICT = "conflict"
    UNKNOWN = "unknown"


@dataclass(frozen=True)
class Verdict:
    """Whose the guest is, and why, in a sentence that names the nodes."""

    owner: Owner
    sentence: str


@dataclass(frozen=True)
class Observation:
    """One look at one guest on one node.

    ``job`` names what is under way with it, empty if nothing is; ``saved`` is whether the node
    keeps a saved state of it (virsh managedsave), with which its next start there would go on;
    ``said`` holds the words of a node that could not be asked.
    """

    sighting: Sighting
    name: str = ""
    uuid: str = ""
    persistent: bool = False
    autostart: bool = False
    job: str = ""
    detail: str = ""
    saved: bool = False


@dataclass(frozen=True)
class Doubled:
    """A guest that several nodes have, none of them only to receive it or to have sent it.

    ``job`` is what may explain it, and will end; without one it is an alarm.
    """

    nodes: tuple[str, ...]
    job: str = ""

    @property
    def sentence(self) -> str:
        """What to say of it; to be preceded by the guest's name."""
        where = " and on ".join(self.nodes)
        if self.job:
            return f"is on its way: it is on {where}, and {self.job} is active; look again"
        return f"RUNS TWICE, on {where}: its disks are in danger; decide which of them has to go"


INCOMING, OUTGOING = "an incoming migration", "an outgoing migration"
BACKUP, BOOT = "a save, dump, snapshot or backup", "a start"
ENDLESS = "an operation that does not end"
BROKEN = "a post-copy migration that broke"

OFF = (Sighting.SHUT_OFF, Sighting.ABSENT)
IN_POST_COPY = (Sighting.RUNNING_IN_POST_COPY, Sighting.PAUSED_IN_POST_COPY)
_HARMLESS = (*OFF, Sighting.UNREACHABLE, Sighting.PAUSED_FOR_MIGRATION)

TABLE = (
    (
        (Sighting.RUNNING,),
        OFF,
        Owner.SOURCE,
        "it runs on {source} and not on {destination}",
    ),
    (
        (Sighting.RUNNING,),
        (Sighting.PAUSED_FOR_MIGRATION,),
        Owner.SOURCE,
        "it runs on {source}; {destination} is left with a paused copy, to be tidied away",
    ),
    (
        (Sighting.PAUSED_BY_USER,),
        OFF,
        Owner.SOURCE,
        "it is on {source}, paused by its user, and not on {destination}",
    ),
    (
        OFF,
        (Sighting.RUNNING,),
        Owner.DESTINATION,
        "it runs on {destination} and not on {source}",
    ),
    (
        (Sighting.PAUSED_FOR_MIGRATION,),
        (Sighting.RUNNING,),
        Owner.DESTINATION,
        "it runs on {destination}; {source} is left with a paused copy, to be tidied away",
    ),
    (
        OFF,
        (Sighting.PAUSED_BY_USER,),
        Owner.DESTINATION,
        "it is on {destination}, paused by its user, and not on {source}",
    ),
    (
        (Sighting.SHUT_OFF,),
        OFF,
        Owner.NOBODY,
        "it runs neither on {source} nor on {destination}; kvmcluster.recover asks the others, and"
        " if it runs nowhere, an operator has to start it",
    ),
    (
        (Sighting.ABSENT,),
        (Sighting.SHUT_OFF,),
        Owner.NOBODY,
        "it runs neither on {source} nor on {destination}; kvmcluster.recover asks the others, and"
        " if it runs nowhere, an operator has to start it",
    ),
    (
        (Sighting.RUNNING,),
        (Sighting.RUNNING,),
        Owner.CONFLICT,
        "it RUNS TWICE, on {source} and on {destination}: its disks are in danger; nothing was"
        " touched, decide which of the two has to go",
    ),
    (
        (Sighting.PAUSED_FOR_MIGRATION,),
        (Sighting.ABSENT,),
        Owner.UNKNOWN,
        "{source} has it paused for migration and {destination} does not have it, but may have"
        " run it, and written to its disks, before it vanished there",
    ),
)

_VERDICTS = {
    (at_source, at_destination): (owner, sentence)
    for at_sources, at_destinations, owner, sentence in TABLE
    for at_source in at_sources
    for at_destination in at_destinations
}


def doubled(observations: Mapping[str, Observation]) -> Doubled | None:
    """Return whether several nodes have a guest, other than as a half that waits for the other.

    A copy that is paused counts: whoever lets it go on lets it write.
    """
    found = {
        node: observation
        for node, observation in observations.items()
        if observation.sighting not in _HARMLESS
    }
    if len(found) < 2:
        return None
    # A backup explains no second copy.
    jobs = [
        observation.job
        for observation in observations.values()
        if observation.job not in ("", BACKUP)
    ]
    return Doubled(tuple(found), jobs[0] if jobs else "")


def judge(at_source: Sighting, at_destination: Sighting, source: str, destination: str) -> Verdict:
    """Return whose the guest is.

    To be asked only when the migration's call has returned and no job is active on either side.

    source, destination
        What to call the two nodes in the sentence.
    """
    owner, sentence = _VERDICTS.get(
        (at_source, at_destination),
        (
            Owner.UNKNOWN,
            f"on {{source}} it is {at_source.value}, on {{destination}} {at_destination.value}:"
            " that does not tell which of them owns it",
        ),
    )
    return Verdict(owner, sentence.format(source=source, destination=destination))
