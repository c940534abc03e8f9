"""What every node's libvirt and journal know of one guest, and the guest's locks on them."""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Iterator
from dataclasses import dataclass, replace

from saltext_kvmcluster.core.errors import AtWork, InputError, WorldError
from saltext_kvmcluster.core.migration.journal import Entry
from saltext_kvmcluster.core.migration.migration import Move
from saltext_kvmcluster.core.ownership import identification
from saltext_kvmcluster.core.verdicts import Observation, Sighting
from saltext_kvmcluster.engine.environment import Environment, Libvirt


@dataclass(frozen=True)
class Answer:
    """What one node reports of a guest; ``unread``: why its journal could not be read."""

    observation: Observation
    entries: tuple[Entry, ...] = ()
    unread: str = ""


def asked(env: Environment, node: str, guest: str) -> Answer:
    """Return what one node reports of a guest."""
    entries, unread = journal(env, node, guest)
    libvirt = env.libvirt(node)
    try:
        observation = find(libvirt, guest)
    except WorldError as error:
        observation = Observation(Sighting.UNREACHABLE, detail=str(error))
    return Answer(observation, entries, unread)


def journal(env: Environment, node: str, guest: str) -> tuple[tuple[Entry, ...], str]:
    """Return what a node's journal holds of a guest, and why it could not be read, if so."""
    try:
        kept = env.journal(node).entries()
        identification.refuse_foreign(node, kept.of(guest))
    except (InputError, WorldError) as error:
        return (), str(error)
    return kept.of(guest), "; ".join(kept.unread)


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
            except AtWork:
                taken = f"another kvmcluster command is at work on it on {node}"
                break
        yield taken
