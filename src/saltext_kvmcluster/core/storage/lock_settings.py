"""The text of libvirt's configuration with the lock manager lockd: other lines stay as they are."""

from __future__ import annotations

import re
from collections.abc import Mapping

from saltext_kvmcluster.core.errors import InputError
from saltext_kvmcluster.core.fileplan import Changes, Wanted
from saltext_kvmcluster.core.pillar.clusters import ROOT
from saltext_kvmcluster.core.storage import lock_manager
from saltext_kvmcluster.core.storage.lock_manager import LOCKD, LOCKD_CONF, QEMU_CONF, SANLOCK
from saltext_kvmcluster.core.text import printable

PACKAGE = "libvirt-daemon-lock and libvirt-daemon-plugin-lockd (before libvirt 9.1, libvirt-daemon)"


def qemu_conf(text: str) -> Wanted:
    """Return qemu.conf with lockd as the lock manager; InputError if another one is chosen."""
    name = lock_manager.name_of(text)
    if name == SANLOCK:
        raise InputError(
            f"{QEMU_CONF} chooses the lock manager sanlock, which guards disks as well: configure"
            f" its leases by hand and set {ROOT}:guests:leases to false, or remove that line"
        )
    return _with(text, {"lock_manager": f'"{LOCKD}"'})


def lockd_conf(text: str, folder: str) -> Wanted:
    """Return qemu-lockd.conf with leases in a folder.

    InputError if it has another folder: while some nodes use the old one and some the new one,
    their leases do not exclude each other.
    """
    prefixed = "".join(f"{LOCKD_CONF}:{line}\n" for line in text.splitlines())
    found = lock_manager.parse(f"lock_manager = {LOCKD}", prefixed, "", None).folder
    if found not in ("", folder):
        raise InputError(
            f"{LOCKD_CONF} has file_lockspace_dir = {printable(found[:200])}, not {folder}: set"
            f" {ROOT}:guests:lease_folder to {printable(found[:200])}, or shut down all guests of"
            " all nodes and remove that line on each"
        )
    return _with(text, {"auto_disk_leases": "1", "file_lockspace_dir": f'"{folder}"'})


def _with(text: str, settings: Mapping[str, str]) -> Wanted:
    """Return a text with settings; libvirt takes the first line of a setting, ours is the only."""
    lines, added, replaced = text.split("\n"), [], []
    if not lines[-1]:
        lines.pop()
    for name, value in settings.items():
        wanted = f"{name} = {value}"
        places = [at for at, line in enumerate(lines) if re.match(rf"\s*{name}\s*=", line)]
        if [_bare(lines[at]) for at in places] == [_bare(wanted)]:
            continue
        if places:
            replaced += [f"{lines[at].strip()} -> {wanted}" for at in places[:1]]
            replaced += [f"{lines[at].strip()} -> removed, a repetition" for at in places[1:]]
            lines[places[0]] = wanted
            lines = [line for at, line in enumerate(lines) if at not in places[1:]]
        else:
            added.append(wanted)
            lines.insert(_place(lines, name), wanted)
    if not added and not replaced:
        return Wanted(text)
    changes = Changes(added=tuple(added), replaced=tuple(replaced))
    return Wanted("".join(f"{line}\n" for line in lines), changes)


def _place(lines: list[str], name: str) -> int:
    """Return where a new setting goes: below its commented-out default, or at the end."""
    defaults = (at for at, line in enumerate(lines) if re.match(rf"\s*#\s*{name}\s*=", line))
    return next(defaults, len(lines) - 1) + 1


def _bare(line: str) -> str:
    return re.sub(r"""["'\s]|#.*""", "", line)
