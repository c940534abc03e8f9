"""Which guest a name or a UUID means, by what nodes and journals know."""

from __future__ import annotations

import uuid
from collections.abc import Collection, Iterable, Mapping

from saltext_kvmcluster.core.errors import InputError
from saltext_kvmcluster.core.migration.journal import Entry
from saltext_kvmcluster.core.verdicts import Observation


def name_of(guest: str) -> str:
    """Return a guest's name, or its UUID as libvirt writes it; many tools print it in capitals."""
    return guest.lower() if is_uuid(guest.lower()) else guest


def is_uuid(guest: str) -> bool:
    """Whether that is a guest's UUID, and not a name."""
    try:
        return str(uuid.UUID(guest)) == guest
    except ValueError:
        return False


def refuse_unless_one(
    guest: str,
    entries: Iterable[tuple[str, Entry]],
    observations: Mapping[str, Observation],
    known: Collection[str] = (),
) -> None:
    """Raise InputError if there is no such guest, or more than one of that name.

    entries
        What journals hold, each with its node.
    known
        Guests that need not be anywhere.
    """
    found: dict[str, list[str]] = {}
    for node, observation in observations.items():
        if observation.uuid:
            found.setdefault(observation.uuid, []).append(f"on {node}")
    for node, entry in entries:
        found.setdefault(entry.move.uuid, []).append(f"in the journal of {node}")
    if len(found) > 1:
        which = "; ".join(f"{uuid} {' and '.join(where)}" for uuid, where in found.items())
        raise InputError(f"{guest}: several guests have that name; give the UUID instead: {which}")
    silent = any(observation.detail for observation in observations.values())
    if not found and not silent and guest not in known:
        raise InputError(
            f"{guest}: no node has such a guest or a journal entry of it; to list the guests:"
            " salt-run kvmcluster.status"
        )
