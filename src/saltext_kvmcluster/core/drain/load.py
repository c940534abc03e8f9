"""How much a node has left for guests, and how loaded it is, by what is there and on its way."""

from __future__ import annotations

from dataclasses import dataclass, field

from saltext_kvmcluster.core.facts.nodefacts import GuestFacts, NodeFacts
from saltext_kvmcluster.core.readiness.checks import node
from saltext_kvmcluster.core.readiness.checks.base import World
from saltext_kvmcluster.core.verdicts import INCOMING, OUTGOING, WAITING_HALVES, Sighting

_HALVES = (*WAITING_HALVES, Sighting.RUNNING_IN_POST_COPY)


@dataclass(frozen=True)
class Load:
    """How busy a node is: the share of its memory, and of its CPUs, that is in use.

    The larger of the two is what counts. Memory in use is what is not available, that of guests on
    their way there included; of CPUs it is the guests' vCPUs, and 0 where it is not known how many
    CPUs the node has.
    """

    memory: float
    cpu: float

    @property
    def share(self) -> float:
        return max(self.memory, self.cpu)

    def __str__(self) -> str:
        if self.memory >= self.cpu:
            return f"{100 * self.memory:.0f} % of its memory in use"
        return f"{self.cpu:.2f} vCPUs for each of its CPUs"


@dataclass(eq=False)
class Capacity:
    """A node as a destination: what it has, and what a plan makes of it. Memory is in KiB.

    ``free`` is what is left there for further guests, ``used`` what is in use by its load;
    ``gives`` is how much of its memory a guest that leaves frees for that: what is measured may
    be less than guests may come to use. ``guests`` are those that are there or on their way.
    """

    node: str
    free: int
    memory: int
    used: float
    vcpus: int
    threads: int
    gives: float
    guests: set[str]
    planned: dict[str, GuestFacts] = field(default_factory=dict)

    def load(self, more: GuestFacts | None = None, less: GuestFacts | None = None) -> Load:
        """Return its load, with one guest more or less than there is."""
        used, vcpus = self.used, self.vcpus
        if more:
            used, vcpus = used + memory_of(more), vcpus + vcpus_of(more)
        if less:
            used, vcpus = used - self.gives * memory_of(less), vcpus - vcpus_of(less)
        # Of a node that does not tell its memory the worst is assumed.
        return Load(
            used / self.memory if self.memory else 1.0,
            vcpus / self.threads if self.threads else 0.0,
        )

    def reserve(self, guest: GuestFacts, sign: int = 1) -> None:
        """Keep room for a guest, or with -1 give it back."""
        self.free -= sign * memory_of(guest)
        self.used += sign * memory_of(guest)
        self.vcpus += sign * vcpus_of(guest)

    def lose(self, guest: GuestFacts) -> None:
        """Count a guest as gone by the load; its room is not free before it is."""
        self.used -= self.gives * memory_of(guest)
        self.vcpus -= vcpus_of(guest)


def capacity_of(facts: NodeFacts) -> Capacity:
    active = [guest for guest in facts.guests or () if guest.active]
    arriving = [guest for guest in active if arrives(guest)]
    memory, free = facts.memory_kib or 0, facts.free_kib or 0
    # What arrives has not taken all its memory yet; how much it has is not known.
    to_come = sum(map(memory_of, arriving))
    claimed = sum(map(memory_of, active)) - to_come
    used = max(0, memory - free)
    return Capacity(
        facts.node,
        free - to_come,
        memory,
        used + to_come,
        sum(map(vcpus_of, active)),
        facts.daemon.threads if facts.daemon else 0,
        min(1.0, used / claimed) if claimed else 0.0,
        {guest.name for guest in active},
    )


def arrives(guest: GuestFacts) -> bool:
    """Whether a guest is on its way to where it is observed, as far as that is known."""
    job = guest.observation.job
    return job == INCOMING or (job != OUTGOING and guest.observation.sighting in _HALVES)


def has_room(world: World, guest: GuestFacts, place: Capacity) -> bool:
    """Whether the check of memory finds nothing, with what is planned and on its way."""
    return not any(node.memory(world, memory_of(guest), place.free))


def memory_of(guest: GuestFacts) -> int:
    """Return the KiB that a guest needs; 0 if that is not known, as the checks will tell."""
    return guest.memory_kib or (guest.guest.memory_kib if guest.guest else 0)


def vcpus_of(guest: GuestFacts) -> int:
    return guest.vcpus or (guest.guest.vcpus if guest.guest else 0)
