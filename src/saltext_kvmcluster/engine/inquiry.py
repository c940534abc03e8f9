"""What every node's libvirt and journal know of one guest, and the guest's locks on them."""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Iterator
from dataclasses import dataclass, replace

from saltext_kvmcluster.core.errors import AtWork, WorldError
from saltext_kvmcluster.core.guest import graphics
from saltext_kvmcluster.core.guest.graphics import Ways
from saltext_kvmcluster.core.migration import migration
from saltext_kvmcluster.core.migration.journal import Entry, Kept
from saltext_kvmcluster.core.migration.migration import Move
from saltext_kvmcluster.core.ownership import identification
from saltext_kvmcluster.core.verdicts import OFF, OUTGOING, Observation, Sighting
from saltext_kvmcluster.engine import other_hands
from saltext_kvmcluster.engine.environment import Environment, Libvirt

POLL = 0.5
# Seconds for a guest to appear at its destination after the call that resumed it has failed.
ARRIVED = 30.0


@dataclass(frozen=True)
class Answer:
    """What one node reports of a guest; ``unread``: why its journal could not be read."""

    observation: Observation
    entries: tuple[Entry, ...] = ()
    unread: str = ""


@dataclass(frozen=True)
class Found:
    """A guest, by what all nodes report.

    ``uuid``: empty if no node knows it. ``entries``: its journal entries, by node. ``silent``: the
    nodes whose libvirt does not respond, and why; ``unread``: those whose journal cannot be read.
    """

    guest: str
    uuid: str
    entries: dict[str, Entry]
    silent: dict[str, str]
    observations: dict[str, Observation]
    unread: dict[str, str]


def found(env: Environment, guest: str) -> Found:
    """Return the guest of a name or UUID, by journals and nodes.

    InputError if there is none, or more than one.
    """
    nodes = tuple(env.cluster.nodes)
    answers = env.side_by_side(lambda node: asked(env, node, guest), nodes)
    kept = [(node, entry) for node, answer in answers.items() for entry in answer.entries]
    observations = {node: answer.observation for node, answer in answers.items()}
    silent = {
        node: observation.detail for node, observation in observations.items() if observation.detail
    }
    known = set(env.cluster.guests.list)
    if guest not in known and not any(one.uuid for one in observations.values()):
        # No node has it, but Pacemaker may be kept from starting it.
        answering = [node for node in nodes if node not in silent]
        known |= {guest} if other_hands.management(env, guest, answering).managers else set()
    identification.refuse_unless_one(guest, kept, observations, known)
    names = [entry.move.guest for _, entry in kept]
    names += [observation.name for observation in observations.values() if observation.name]
    uuids = [entry.move.uuid for _, entry in kept]
    uuids += [observation.uuid for observation in observations.values() if observation.uuid]
    return Found(
        names[0] if names else guest,
        uuids[0] if uuids else "",
        dict(kept),
        silent,
        observations,
        {node: answer.unread for node, answer in answers.items() if answer.unread},
    )


def asked(env: Environment, node: str, guest: str) -> Answer:
    """Return what one node reports of a guest."""
    kept, unread = journal(env, node, guest)
    libvirt = env.libvirt(node)
    try:
        observation = find(libvirt, guest)
    except WorldError as error:
        observation = Observation(Sighting.UNREACHABLE, detail=str(error))
    return Answer(observation, kept.of(guest), unread)


def journal(env: Environment, node: str, guest: str) -> tuple[Kept, str]:
    """Return what a node's journal holds, and why what it has of a guest could not be read."""
    try:
        kept = env.journal(node).entries().of_node(node)
    except WorldError as error:
        return Kept(), str(error)
    return kept, kept.doubts(guest)


def own_handovers(env: Environment, uuid: str) -> list[Entry]:
    """Return this node's entries of a guest's strict handovers."""
    kept = env.journal(env.here).entries().of_node(env.here)
    return [entry for entry in kept.of(uuid) if entry.handover]


def agreed(env: Environment, entry: Entry) -> Entry:
    """Return an entry by which no definition is removed that the pillar now keeps."""
    if entry.definitions == env.cluster.guests.definitions:
        return entry
    return replace(entry, definitions="defined")


def find(libvirt: Libvirt, guest: str) -> Observation:
    """Observe a guest by its name, or by its UUID."""
    return libvirt.by_uuid(guest) if identification.is_uuid(guest) else libvirt.by_name(guest)


@contextlib.contextmanager
def locked(env: Environment, guest: str, uuid: str, nodes: Collection[str]) -> Iterator[str]:
    """Lock a guest on these nodes; yield why that failed, empty if all are locked."""
    taken = ""
    with contextlib.ExitStack() as stack:
        for node in {env.here: None, **dict.fromkeys(nodes)}:
            try:
                stack.enter_context(env.lock(Move(guest, uuid, node, env.here)))
            except AtWork as error:
                holder = f": {error.holder}" if error.holder else ""
                taken = f"another kvmcluster command is at work on it on {node}{holder}"
                break
        yield taken


def is_held(env: Environment, guest: str, uuid: str) -> bool:
    """Whether another process of ours is at work on a guest of this node."""
    with locked(env, guest, uuid, ()) as taken:
        return bool(taken)


def has_arrived(env: Environment, move: Move, end: float) -> bool:
    """Whether a guest has arrived: the call may have failed only because its connection did.

    end
        Until when to wait for a job that continues without its caller.
    """
    source, destination = env.libvirt(move.source), env.libvirt(move.destination)
    soon = env.clock.monotonic() + ARRIVED
    while True:
        here, there = source.sight(move.uuid), destination.sight(move.uuid)
        if here.sighting in OFF and there.sighting is Sighting.RUNNING:
            return True
        if env.clock.monotonic() >= (end if here.job == OUTGOING else soon):
            return False
        env.clock.wait(None, POLL)


def ways(env: Environment, guest: str) -> Ways:
    """Return how people reach a guest that is active on this node."""
    own = env.libvirt(env.here)
    observation = own.by_name(guest)
    if observation.sighting is Sighting.ABSENT:
        raise migration.no_such_guest(guest, env.here)
    if observation.sighting in OFF:
        raise WorldError(f"{guest} is {observation.sighting.value} on {env.here}")
    return graphics.parse(own.described(observation.uuid))
