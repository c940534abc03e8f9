"""Which node owns a guest, judged by what two nodes report of it.

Only pairs in the table are certain. Every other pair is UNKNOWN, after which nothing is changed:
a guest that is destroyed on a guess is lost, a guest that is left as it is can still be examined.
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
    PAUSED_BY_ERROR = "paused, since it could not resume"
    PAUSED_OTHERWISE = "neither running nor paused by its user"
    WAITING = "a copy that waits for its handover"
    SHUT_OFF = "shut off"
    ABSENT = "absent"
    UNREACHABLE = "unreachable"


class Owner(Enum):
    """Which node owns the guest now."""

    SOURCE = "source"
    DESTINATION = "destination"
    NOBODY = "nobody"
    CONFLICT = "conflict"
    UNKNOWN = "unknown"


@dataclass(frozen=True)
class Verdict:
    """The owner of the guest, and why, in a sentence that names the nodes."""

    owner: Owner
    sentence: str


# libvirt's reasons for which a guest runs again: libvirt let it go on after it had stopped it for
# the switch; a user resumed it, or QEMU itself; or it has arrived.
CANCELED, UNPAUSED, MIGRATED = "migration canceled", "unpaused", "migrated"


@dataclass(frozen=True)
class Observation:
    """One observation of one guest on one node.

    ``job`` names what is in progress on it, empty if nothing is; ``saved`` is whether the node
    keeps a saved state of it (virsh managedsave), from which its next start there would resume;
    ``detail`` is why a node is unreachable. ``mark``: of which migration a copy waits for the
    handover (`handover.token`). ``left``: it is off, since the migration in question has ended it;
    another one may have, so that takes a proof (`handover.Handover.has_left`). ``reason``: why it
    is in its state, by libvirt.
    """

    sighting: Sighting
    name: str = ""
    uuid: str = ""
    persistent: bool = False
    autostart: bool = False
    job: str = ""
    detail: str = ""
    saved: bool = False
    mark: str = ""
    left: bool = False
    reason: str = ""


@dataclass(frozen=True)
class Doubled:
    """A guest that is active on several nodes, other than as the waiting half of a migration.

    ``job`` is what may explain it, and will end; without one it is an alarm.
    """

    nodes: tuple[str, ...]
    job: str = ""

    @property
    def sentence(self) -> str:
        """The sentence about it, without its subject: the guest's name comes before it."""
        where = " and on ".join(self.nodes)
        if self.job:
            return f"is active on {where}, with {self.job} in progress; check again later"
        return f"RUNS TWICE, on {where}: its disks are at risk; decide which copy to stop"


INCOMING, OUTGOING = "an incoming migration", "an outgoing migration"
MIGRATIONS = (OUTGOING, INCOMING)
BACKUP, BOOT = "a save, dump, snapshot or backup", "a start"
ENDLESS = "an operation that does not end"
BROKEN = "a post-copy migration that broke"
# Jobs that end by themselves, and the state with them in which they put a guest.
PASSING = (*MIGRATIONS, BACKUP, BOOT)

OFF = (Sighting.SHUT_OFF, Sighting.ABSENT)
IN_POST_COPY = (Sighting.RUNNING_IN_POST_COPY, Sighting.PAUSED_IN_POST_COPY)
# A half that has not run, or no longer does, and must not on its own.
WAITING_HALVES = (Sighting.PAUSED_FOR_MIGRATION, Sighting.WAITING)
# A copy that may be removed while the guest runs elsewhere. One that could not resume may have run
# before, if it is at the destination.
COPIES = (*WAITING_HALVES, Sighting.PAUSED_BY_ERROR)
_HARMLESS = (*OFF, Sighting.UNREACHABLE, *WAITING_HALVES)

TABLE = (
    (
        (Sighting.RUNNING,),
        OFF,
        Owner.SOURCE,
        "it runs on {source} and not on {destination}",
    ),
    (
        (Sighting.RUNNING,),
        WAITING_HALVES,
        Owner.SOURCE,
        "it runs on {source}; a paused copy is left on {destination}, to be removed",
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
        COPIES,
        (Sighting.RUNNING,),
        Owner.DESTINATION,
        "it runs on {destination}; a paused copy is left on {source}, to be removed",
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
        "it runs neither on {source} nor on {destination}; kvmcluster.recover checks the other"
        " nodes; if it runs nowhere, an operator has to start it",
    ),
    (
        (Sighting.ABSENT,),
        (Sighting.SHUT_OFF,),
        Owner.NOBODY,
        "it runs neither on {source} nor on {destination}; kvmcluster.recover checks the other"
        " nodes; if it runs nowhere, an operator has to start it",
    ),
    (
        (Sighting.RUNNING,),
        (Sighting.RUNNING,),
        Owner.CONFLICT,
        "it RUNS TWICE, on {source} and on {destination}: its disks are at risk; nothing was"
        " changed; decide which copy to stop",
    ),
    (
        (Sighting.PAUSED_FOR_MIGRATION,),
        (Sighting.ABSENT,),
        Owner.UNKNOWN,
        "it is paused for migration on {source} and absent on {destination}, where it may have run,"
        " and written to its disks, before it disappeared",
    ),
)

_VERDICTS = {
    (at_source, at_destination): (owner, sentence)
    for at_sources, at_destinations, owner, sentence in TABLE
    for at_source in at_sources
    for at_destination in at_destinations
}


def doubled(observations: Mapping[str, Observation]) -> Doubled | None:
    """Return whether a guest is active on several nodes, other than as a half that waits.

    A copy that is paused counts: once resumed, it writes.
    """
    found = {
        node: observation
        for node, observation in observations.items()
        if observation.sighting not in _HARMLESS
    }
    if len(found) < 2:
        return None
    # Neither a backup nor a daemon that hangs explains a second copy.
    jobs = [
        observation.job
        for observation in observations.values()
        if observation.job not in ("", BACKUP, ENDLESS)
    ]
    return Doubled(tuple(found), jobs[0] if jobs else "")


def judge(at_source: Sighting, at_destination: Sighting, source: str, destination: str) -> Verdict:
    """Return which node owns the guest.

    To be called only when the migration's call has returned and no job is active on either side.

    source, destination
        The names of the two nodes in the sentence.
    """
    owner, sentence = _VERDICTS.get(
        (at_source, at_destination),
        (
            Owner.UNKNOWN,
            f"on {{source}} it is {at_source.value}, on {{destination}} {at_destination.value}:"
            " its owner is not certain",
        ),
    )
    return Verdict(owner, sentence.format(source=source, destination=destination))
