"""Leases on this node: libvirt's lock manager lockd, its folder, and leases in definitions.

libvirt's daemon reads its configuration when it starts. Its restart leaves guests running; it ends
migrations, so it is not done during one. virtlockd is never restarted: that would drop the locks of
all guests (virtlockd(8); on SIGUSR1 it keeps them).
"""

from __future__ import annotations

import contextlib
import glob
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from saltext_kvmcluster.core.errors import InputError, KvmclusterError, WorldError
from saltext_kvmcluster.core.facts.nodefacts import ACTIVE
from saltext_kvmcluster.core.fileplan import FilePlan, Wanted, merged_changes, plan_file
from saltext_kvmcluster.core.guest import leases, store
from saltext_kvmcluster.core.ownership.definitions import Defining
from saltext_kvmcluster.core.pillar.clusters import ROOT, Cluster
from saltext_kvmcluster.core.storage import disk_guards, inventory, lock_manager, lock_settings
from saltext_kvmcluster.core.storage.lock_manager import DAEMONS, LOCKD_CONF, QEMU_CONF
from saltext_kvmcluster.core.text import listed
from saltext_kvmcluster.core.verdicts import INCOMING, OUTGOING
from saltext_kvmcluster.host import commands, definitions, files
from saltext_kvmcluster.host.hypervisor import Hypervisor

PLUGINS = ("/usr/lib*/libvirt/lock-driver/lockd.so", "/usr/lib/*/libvirt/lock-driver/lockd.so")
SOCKET = "/run/libvirt/virtlockd-sock"
RESTART_TIME = 60.0


@dataclass(frozen=True)
class Planned:
    """What is to be done on this node.

    ``created`` are the folder and the files of leases that are missing. ``restart`` is the daemon
    to be restarted, empty if none is; ``blocked`` why it cannot be now.
    """

    folder: str
    created: tuple[str, ...]
    settings: tuple[FilePlan, ...]
    restart: str
    blocked: str
    placed: tuple[FilePlan, ...] = ()
    defined: tuple[Defining, ...] = ()
    remarks: tuple[str, ...] = ()
    warnings: tuple[str, ...] = field(default=())

    @property
    def changes(self) -> dict[str, Any]:
        """What is changed when all of it is carried out."""
        found: dict[str, Any] = {}
        if self.created:
            found["leases"] = {"added": list(self.created)}
        found.update(merged_changes(self.settings))
        if self.restart and not self.blocked:
            found[self.restart] = {"restart": "to read its configuration"}
        found.update(merged_changes(self.placed))
        for defining in self.defined:
            found.update(defining.changes)
        return found


def plan(cluster: Cluster, here: str) -> Planned:
    """Return what has to be done for leases on this node.

    InputError or WorldError if there is no folder for them, or no lockd, or another lock manager.
    """
    folder = cluster.guests.leases_in
    if not glob.glob(PLUGINS[0]) and not glob.glob(PLUGINS[1]):
        raise WorldError(f"libvirt's lockd is not installed: install {lock_settings.PACKAGE}")
    _refuse_unless_shared(folder)
    settings = tuple(
        _settings(path, wanted)
        for path, wanted in (
            (QEMU_CONF, lock_settings.qemu_conf),
            (LOCKD_CONF, lambda text: lock_settings.lockd_conf(text, folder)),
        )
    )
    restart = _daemon_to_restart(any(one.changes for one in settings))
    found = _Definitions(cluster, here, folder)
    if restart and settings[0].changes:
        found.warnings += _older_guests()
    return Planned(
        folder,
        tuple(path for path in (folder, *found.lease_files) if not files.exists(path)),
        tuple(one for one in settings if one.changes),
        restart,
        _migrating() if restart else "",
        tuple(found.placed),
        tuple(found.defined),
        tuple(dict.fromkeys(found.remarks)),
        tuple(dict.fromkeys(found.warnings)),
    )


def carry_out(planned: Planned) -> tuple[dict[str, Any], list[str]]:
    """Carry out a plan; return the changes that were made, and what failed: the rest is left.

    The files of the leases come first, since lockd refuses a guest whose file is missing, and the
    definitions last, so that no guest has a lease before lockd gives it.
    """
    made: dict[str, Any] = {}
    try:
        if planned.created:
            names = [os.path.basename(path) for path in planned.created if path != planned.folder]
            files.keep(planned.folder, names)
            made["leases"] = {"added": list(planned.created)}
        for one in planned.settings:
            _apply(one)
            made.update(one.changes)
        if planned.restart:
            # One may have begun since it was planned.
            if busy := _migrating():
                return made, [busy]
            _restart(planned.restart)
            made[planned.restart] = {"restart": "to read its configuration"}
        for one in planned.placed:
            _apply(one)
            made.update(one.changes)
        for defining in planned.defined:
            changed, failed = definitions.define(defining)
            made.update(changed)
            if failed:
                return made, [failed]
    except KvmclusterError as error:
        return made, [str(error)]
    finally:
        for one in (*planned.settings, *planned.placed):
            files.sweep(one.path)
    return made, []


def with_lease(cluster: Cluster, name: str, text: str, make: bool) -> str:
    """Return a definition that is to be stored, with the guest's lease if the pillar wants one.

    make
        Whether to make the file of the lease if it is missing.
    """
    if not cluster.guests.leases or name not in cluster.guests.list:
        return text
    folder, where = cluster.guests.leases_in, "the definition given"
    leased = leases.added(name, text, folder, where)
    path = os.path.join(folder, store.parse(name, leased, where).uuid)
    if make and not files.exists(path):
        _refuse_unless_shared(folder)
        files.keep(folder, [os.path.basename(path)])
    return leased


class _Definitions:
    """The definitions of the list's guests with their leases, and what is to be said of them."""

    def __init__(self, cluster: Cluster, here: str, folder: str) -> None:
        self.lease_files: list[str] = []
        self.placed: list[FilePlan] = []
        self.defined: list[Defining] = []
        self.remarks: list[str] = []
        self.warnings: list[str] = []
        self._cluster, self._here, self._folder = cluster, here, folder
        read = self._shared if cluster.guests.definitions == "shared" else self._defined
        for name in cluster.guests.list:
            read(name)

    def _shared(self, name: str) -> None:
        guests = self._cluster.guests
        there = [path for path in store.all_paths(guests, name) if files.exists(path)]
        try:
            path = store.find(guests, name, there).path
        except InputError as error:
            self.remarks.append(str(error))
            return
        text = files.read(path).text or ""
        placing = definitions.plan_shared(
            self._cluster, self._here, name, self._leased(name, text, path)
        )
        self.placed += [placing.plan] if placing.plan.changes else []
        self.remarks += placing.remarks
        self.warnings += placing.warnings

    def _defined(self, name: str) -> None:
        with contextlib.closing(Hypervisor()) as own:
            text = own.definition(name)
        if not text:
            self.remarks.append(f"{self._here} has no definition of {name}")
            return
        leased = self._leased(name, text, f"libvirt's definition of {name}")
        planned = definitions.plan_defined(self._cluster, self._here, name, leased)
        self.defined += [planned] if planned.changes else []
        self.remarks += planned.remarks
        self.warnings += planned.warnings

    def _leased(self, name: str, text: str, where: str) -> str:
        leased = leases.added(name, text, self._folder, where)
        guest = store.parse(name, leased, where)
        self.lease_files.append(os.path.join(self._folder, guest.uuid))
        return leased


def _refuse_unless_shared(folder: str) -> None:
    """Raise unless a folder is on storage that every node has, and whose locks reach them."""
    there = folder if os.path.isdir(folder) else os.path.dirname(folder)
    try:
        definitions.check_folder(there, "a lease")
    except InputError as error:
        raise InputError(f"{ROOT}:guests:lease_folder: {error}") from None
    outputs = commands.run_all({"mounts": inventory.COMMANDS["mounts"]})
    facts = inventory.parse({key: (one.code, one.stdout) for key, one in outputs.items()})
    found = disk_guards.reach(os.path.realpath(folder), facts)
    if found.holds is None:
        raise WorldError(f"{ROOT}:guests:lease_folder: {found.why}; {found.remedy}")
    if not found.holds:
        raise InputError(
            f"{ROOT}:guests:lease_folder: {folder} cannot hold leases: {found.why}; choose a folder"
            " on another file system that every node mounts, or mount this one otherwise"
        )


def _settings(path: str, wanted: Callable[[str], Wanted]) -> FilePlan:
    found = files.read(path)
    mode = (0o600 if path == QEMU_CONF else 0o644) if found.mode is None else found.mode
    return plan_file(path, found, wanted(found.text or ""), mode, found.owner or "root")


def _apply(plan: FilePlan) -> None:
    """Write a file; WorldError if it does not hold what was written."""
    files.apply(plan)
    if files.read(plan.path).text != plan.text:
        raise WorldError(f"{plan.path} is not what was just written; does another tool manage it?")


def _daemon_to_restart(changed: bool) -> str:
    """Return the daemon that has not read its configuration, empty if there is none."""
    running = [path for path in DAEMONS if files.exists(path)]
    outputs = commands.run_all(lock_manager.COMMANDS)
    text = files.read(QEMU_CONF).text or ""
    unread = lock_manager.parse(
        text, outputs["leases"].stdout, outputs["settings_age"].stdout, None
    ).unread
    if not running or not (changed or unread):
        return ""
    return os.path.basename(running[0]).removesuffix(".pid")


def _older_guests() -> list[str]:
    """Return a warning of the guests that run here, which are older than lockd."""
    with contextlib.closing(Hypervisor()) as own:
        names = [name for name in own.names() if own.by_name(name).sighting in ACTIVE]
    if not names:
        return []
    return [
        f"{listed(names)} run without lockd until their next start or migration: do that soon, or"
        " empty the node first (kvmcluster.orch.rolling with sls kvmcluster.disk_leases); the check"
        " guest.guard names those for which only a start is enough"
    ]


def _migrating() -> str:
    """Return why libvirt's daemon must not be restarted now, empty if it may."""
    with contextlib.closing(Hypervisor()) as own:
        moving = [*own.moving(OUTGOING).values(), *own.moving(INCOMING).values()]
    if not moving:
        return ""
    return (
        f"libvirt's daemon has to be restarted, which would end the migration of {listed(moving)}:"
        " apply the state again when it is over"
    )


def _restart(daemon: str) -> None:
    """Restart libvirt's daemon; guests keep running. WorldError if it does not respond then."""
    try:
        if not files.exists(SOCKET):
            commands.checked(["systemctl", "start", "virtlockd.socket"], RESTART_TIME)
        commands.checked(["systemctl", "restart", f"{daemon}.service"], RESTART_TIME)
    except WorldError as error:
        raise WorldError(
            f"{daemon} has not read its configuration: {error}; start virtlockd.socket and restart"
            f" {daemon} yourself (guests keep running), then apply the state again"
        ) from None
    with contextlib.closing(Hypervisor()) as own:
        own.host()
