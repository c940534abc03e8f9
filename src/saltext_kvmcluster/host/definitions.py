"""Puts a guest's definition where it belongs: a file on shared storage, or this host's libvirt."""

from __future__ import annotations

import contextlib
import glob
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from saltext_kvmcluster.core.errors import InputError, WorldError
from saltext_kvmcluster.core.fileplan import Changes, FilePlan, Wanted, plan_file
from saltext_kvmcluster.core.guest import domainxml, store
from saltext_kvmcluster.core.guest.disks import Source
from saltext_kvmcluster.core.guest.domainxml import Frozen, Guest
from saltext_kvmcluster.core.guest.store import SCHEMA, SCHEMAS
from saltext_kvmcluster.core.ownership.startup import NodeAnswer, Request, active_on, decide
from saltext_kvmcluster.core.pillar.clusters import Cluster
from saltext_kvmcluster.core.storage import inventory, shared_storage
from saltext_kvmcluster.host import commands, files
from saltext_kvmcluster.host.hypervisor import Hypervisor
from saltext_kvmcluster.host.peers import Peers


@dataclass(frozen=True)
class Placing:
    """A definition on its way to shared storage; ``remarks`` are for whoever reads the result."""

    plan: FilePlan
    remarks: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True)
class Defining:
    """A definition on its way into this host's libvirt. Without ``changes`` there is nothing to do.

    ``frozen`` is an administrator's word in the definition that is there: it is kept.
    """

    guest: Guest
    text: str
    changes: Mapping[str, Any]
    frozen: Frozen | None = None
    remarks: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()


def plan_shared(cluster: Cluster, here: str, name: str, text: str) -> Placing:
    """Return the plan of a definition on shared storage.

    InputError if the text is no good definition of the guest, or its place is no good place.
    """
    wanted, warnings = _read(name, text)
    guests = cluster.guests
    there = [path for path in store.all_paths(guests, name) if files.exists(path)]
    path = store.target(guests, name, there)
    # What is written goes to where a link leads, and every node comes there by the same link.
    for place in dict.fromkeys((path, os.path.realpath(path))):
        _check_place(os.path.dirname(place))
    found = files.read(path)
    words = Changes(added=(f"definition of {name}, UUID {wanted.uuid}",))
    if found.text is not None:
        old = store.parse(name, found.text, f"{path}, which would be replaced,")
        store.same_guest(old, wanted, path)
        words = Changes(replaced=store.changes(old, wanted))
    mode = 0o600 if found.mode is None else found.mode
    plan = plan_file(path, found, Wanted(text, words), mode, found.owner or "root")
    if not plan.changes:
        return Placing(plan, (), warnings)
    with contextlib.closing(Peers(cluster, here)) as nodes:
        asked = nodes.ask(name, wanted.uuid)
    request = Request(name, wanted.uuid, here, guests.definitions)
    return Placing(plan, *_remarks(request, asked, warnings))


def plan_defined(cluster: Cluster, here: str, name: str, text: str) -> Defining:
    """Return the plan of a definition in this host's libvirt; InputError as of ``plan_shared``."""
    wanted, warnings = _read(name, text)
    with contextlib.closing(Hypervisor()) as own:
        named, found = own.by_name(name), own.by_uuid(wanted.uuid)
        kept = own.definition(name)
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
    request = Request(name, wanted.uuid, here, cluster.guests.definitions)
    frozen = old.frozen if old else None
    if not change:
        return Defining(wanted, text, {}, frozen, (), warnings)
    remarks, warnings = _remarks(request, {here: NodeAnswer(found, named)}, warnings)
    if "replaced" in change and not remarks:
        remarks = (f"where {name} runs, if it does, it goes on as it is until its next start",)
    return Defining(wanted, text, {name: change}, frozen, remarks, warnings)


def define(defining: Defining) -> tuple[Mapping[str, Any], str]:
    """Carry out a plan of ``plan_defined``, without a restart of the daemon, and look again.

    Returns the changes that were made, and what failed after the first of them, empty if nothing.
    WorldError if libvirt did not take the definition.
    """
    guest = defining.guest
    ((name, planned),) = defining.changes.items()
    made = {what: detail for what, detail in planned.items() if what != "autostart"}
    with contextlib.closing(Hypervisor()) as own:
        own.define(store.as_text(defining.text))
        try:
            own.autostart_off(guest.uuid)
            made = planned
            _finish(own, defining)
        except WorldError as error:
            return {name: made} if made else {}, str(error)
    return defining.changes, ""


def _finish(own: Hypervisor, defining: Defining) -> None:
    """Put back an administrator's word, and look whether libvirt has what it was given."""
    guest = defining.guest
    if defining.frozen:
        note = domainxml.frozen_xml(defining.frozen.reason, defining.frozen.since)
        own.note(guest.uuid, domainxml.METADATA, note)
    kept = store.parse(guest.name, own.definition(guest.name), "what libvirt kept")
    left = domainxml.differences(guest, kept)
    if left:
        raise WorldError(f"libvirt kept another definition than given: {'; '.join(left)}")
    if own.by_uuid(guest.uuid).autostart:
        raise WorldError(f"libvirt would still start {guest.name} at the next boot")


def _read(name: str, text: str) -> tuple[Guest, tuple[str, ...]]:
    """Return what a definition says, and warnings; InputError if it is not good enough."""
    guest = store.parse(name, text, "the definition given")
    schema = {os.path.basename(path): _bytes(path) for path in glob.glob(f"{SCHEMAS}/*.rng")}
    if SCHEMA not in schema:
        return guest, (f"there is no {SCHEMAS}/{SCHEMA}: libvirt's schema was not applied",)
    faults = store.faults(text, schema)
    if faults:
        raise InputError(f"the definition given breaks libvirt's schema: {'; '.join(faults)}")
    return guest, ()


def _bytes(path: str) -> bytes:
    return (files.read(path).text or "").encode("utf-8", "surrogateescape")


def _check_place(folder: str) -> None:
    """Raise unless a folder is on storage that every node has."""
    real = os.path.realpath(folder)
    misplaced = store.misplaced(real)
    if misplaced:
        raise InputError(f"{misplaced}; choose a folder on storage that every node mounts")
    if not os.path.isdir(real):
        raise WorldError(f"there is no folder {folder}; is its file system mounted?")
    outputs = commands.run_all(inventory.COMMANDS)
    facts = inventory.parse({key: (detail.code, detail.stdout) for key, detail in outputs.items()})
    place = shared_storage.locate(Source("file", real), facts)
    if place.fit is None:
        raise WorldError(f"it is not known whether every node has {folder}: {place.why}")
    if not place.fit:
        raise InputError(f"a definition must lie where every node has it: {place.why}")


def _remarks(
    request: Request, asked: Mapping[str, NodeAnswer], warnings: Iterable[str]
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Say that a guest which runs goes on as it is, and of whom that is not known."""
    active = active_on(request, asked)
    observed = decide(request, asked).sentence
    remarks = (f"{observed}: the change takes effect at the next start",) if active else ()
    unknown = [
        f"{node} does not answer; if {request.guest} runs there, the change takes effect at the"
        " next start"
        for node, detail in asked.items()
        if detail.detail and not active
    ]
    return remarks, (*warnings, *unknown)
