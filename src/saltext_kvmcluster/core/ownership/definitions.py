"""What storing a guest's definition changes, and remarks and warnings about it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from saltext_kvmcluster.core.errors import InputError
from saltext_kvmcluster.core.fileplan import FilePlan
from saltext_kvmcluster.core.guest import store
from saltext_kvmcluster.core.guest.domainxml import Frozen, Guest
from saltext_kvmcluster.core.ownership.startup import NodeAnswer, Request, whereabouts
from saltext_kvmcluster.core.verdicts import Observation


@dataclass(frozen=True)
class Placing:
    """A definition to be written to shared storage; ``remarks`` are shown with the result."""

    plan: FilePlan
    remarks: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True)
class Defining:
    """A definition to be added to this host's libvirt. Without ``changes`` there is nothing to do.

    ``frozen``: the freeze in the definition that is there, which is kept.
    """

    guest: Guest
    text: str
    changes: Mapping[str, Any]
    frozen: Frozen | None = None
    remarks: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True)
class Present:
    """What a node's libvirt has: the guests of the wanted name and UUID, and a definition.

    ``definition``: the persistent one of the guest of that name, empty if there is none.
    """

    node: str
    same_name: Observation
    same_uuid: Observation
    definition: str


def defining(
    present: Present, wanted: Guest, text: str, definitions: str, warnings: tuple[str, ...]
) -> Defining:
    """Return the plan of a definition in a node's libvirt.

    definitions
        Where the pillar keeps definitions.

    InputError if the node has another guest of that name or UUID.
    """
    here, name = present.node, wanted.name
    named, found, kept = present.same_name, present.same_uuid, present.definition
    if named.name and named.uuid != wanted.uuid:
        raise InputError(
            f"{here} has a guest {name} of UUID {named.uuid}; with {wanted.uuid} it would be"
            f" another guest: keep the first, or on {here}: virsh undefine --keep-nvram {name}"
        )
    if found.name and found.name != name:
        raise InputError(f"{here} has the guest {found.name} with that UUID: give {name} another")
    old = store.parse(name, kept, f"libvirt's definition on {here}") if kept else None
    change: dict[str, Any] = {}
    if old is None:
        change["added"] = [f"definition of {name}, UUID {wanted.uuid}"]
    elif replaced := store.changes(old, wanted):
        change["replaced"] = list(replaced)
    if found.autostart:
        change["autostart"] = "on -> off"
    request = Request(name, wanted.uuid, here, definitions)
    frozen = old.frozen if old else None
    if not change:
        return Defining(wanted, text, {}, frozen, (), warnings)
    effects, warnings = remarks(request, {here: NodeAnswer(found, named)}, warnings)
    if "replaced" in change and not effects:
        effects = (f"where {name} runs, if it does, it {_GOES_ON}",)
    return Defining(wanted, text, {name: change}, frozen, effects, warnings)


def remarks(
    request: Request, asked: Mapping[str, NodeAnswer], warnings: Iterable[str]
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return remarks on a guest that runs and goes on as it is; and the warnings, with those on
    nodes that did not respond, where it may run. They are true before the change and after it."""
    where = whereabouts(request, asked)
    effects = (*where, f"{request.guest} {_GOES_ON}") if where else ()
    unknown = [
        f"no response from {node}; if {request.guest} runs there, it {_GOES_ON}"
        for node, answer in asked.items()
        if answer.detail and not where
    ]
    return effects, (*warnings, *unknown)


_GOES_ON = "goes on as it is until its next start"
