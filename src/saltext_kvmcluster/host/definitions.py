"""Stores a guest's definition: in a file on shared storage, or in this host's libvirt."""

from __future__ import annotations

import contextlib
import glob
import os
from collections.abc import Mapping
from typing import Any

from saltext_kvmcluster.core.errors import InputError, WorldError
from saltext_kvmcluster.core.fileplan import Changes, Wanted, plan_file
from saltext_kvmcluster.core.guest import domainxml, store
from saltext_kvmcluster.core.guest.disks import Source
from saltext_kvmcluster.core.guest.domainxml import Guest
from saltext_kvmcluster.core.guest.store import SCHEMA, SCHEMAS
from saltext_kvmcluster.core.ownership.definitions import (
    Defining,
    Placing,
    Present,
    defining,
    remarks,
)
from saltext_kvmcluster.core.ownership.startup import Request
from saltext_kvmcluster.core.pillar.clusters import Cluster
from saltext_kvmcluster.core.storage import inventory, shared_storage
from saltext_kvmcluster.engine.peers import Peers
from saltext_kvmcluster.host import commands, files, this_node
from saltext_kvmcluster.host.hypervisor import Hypervisor


def plan_shared(cluster: Cluster, here: str, name: str, text: str) -> Placing:
    """Return the plan of a definition on shared storage.

    InputError if the text is not a valid definition of the guest, or its folder is not shared.
    """
    wanted, warnings = _read(name, text)
    guests = cluster.guests
    there = [path for path in store.all_paths(guests, name) if files.exists(path)]
    path = store.target(guests, name, there)
    # What is written goes to where a link leads, and every node comes there by the same link.
    for location in dict.fromkeys((path, os.path.realpath(path))):
        check_folder(os.path.dirname(location))
    found = files.read(path)
    changes = Changes(added=(f"definition of {name}, UUID {wanted.uuid}",))
    if found.text is not None:
        old = store.parse(name, found.text, f"{path}, which would be replaced,")
        store.same_guest(old, wanted, path)
        changes = Changes(replaced=store.changes(old, wanted))
    mode = 0o600 if found.mode is None else found.mode
    plan = plan_file(path, found, Wanted(text, changes), mode, found.owner or "root")
    if not plan.changes:
        return Placing(plan, (), warnings)
    with this_node.environment(cluster, here) as env:
        asked = Peers(env).ask(name, wanted.uuid)
    request = Request(name, wanted.uuid, here, guests.definitions)
    return Placing(plan, *remarks(request, asked, warnings))


def plan_defined(cluster: Cluster, here: str, name: str, text: str) -> Defining:
    """Return the plan of a definition in this host's libvirt; InputError as of ``plan_shared``."""
    wanted, warnings = _read(name, text)
    with contextlib.closing(Hypervisor()) as own:
        named, found = own.by_name(name), own.by_uuid(wanted.uuid)
        kept = own.definition(name)
    present = Present(here, named, found, kept)
    return defining(present, wanted, text, cluster.guests.definitions, warnings)


def define(planned: Defining) -> tuple[Mapping[str, Any], str]:
    """Carry out a plan of ``plan_defined``, without a restart of the daemon, and check the result.

    Returns the changes that were made, and what failed after the first of them, empty if nothing.
    WorldError if libvirt did not take the definition.
    """
    guest = planned.guest
    ((name, changes),) = planned.changes.items()
    made = {what: change for what, change in changes.items() if what != "autostart"}
    with contextlib.closing(Hypervisor()) as own:
        own.define(store.as_text(planned.text))
        try:
            own.autostart_off(guest.uuid)
            made = changes
            _finish(own, planned)
        except WorldError as error:
            return {name: made} if made else {}, str(error)
    return planned.changes, ""


def check_folder(folder: str, what: str = "a definition") -> None:
    """Raise unless a folder is on storage that every node has.

    WorldError where that is not known, InputError where it is not.
    """
    real = os.path.realpath(folder)
    misplaced = store.misplaced(real)
    if misplaced:
        raise InputError(f"{misplaced}; choose a folder on storage that every node mounts")
    if not os.path.isdir(real):
        raise WorldError(f"there is no folder {folder}; is its file system mounted?")
    outputs = commands.run_all(inventory.COMMANDS)
    facts = inventory.parse({key: (detail.code, detail.stdout) for key, detail in outputs.items()})
    location = shared_storage.locate(Source("file", real), facts)
    if location.fit is None:
        raise WorldError(f"it is not known whether every node has {folder}: {location.why}")
    if not location.fit:
        raise InputError(f"{what} must be stored where every node has it: {location.why}")


def _finish(own: Hypervisor, planned: Defining) -> None:
    """Keep the guest frozen if it was, and check that libvirt has what it was given."""
    guest = planned.guest
    if planned.frozen:
        note = domainxml.frozen_xml(planned.frozen.reason, planned.frozen.since)
        own.note(guest.uuid, domainxml.METADATA, note)
    kept = store.parse(guest.name, own.definition(guest.name), "what libvirt kept")
    left = domainxml.differences(guest, kept)
    if left:
        raise WorldError(
            f"libvirt kept a different definition from the one given: {'; '.join(left)}"
        )
    if own.by_uuid(guest.uuid).autostart:
        raise WorldError(f"libvirt would still start {guest.name} at the next boot")


def _read(name: str, text: str) -> tuple[Guest, tuple[str, ...]]:
    """Return the guest of a definition, and warnings; InputError if it is not valid."""
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
