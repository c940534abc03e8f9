"""libvirt's lock manager on a node, by its configuration: what it locks, and in which folder.

``lock_manager`` in qemu.conf chooses the plugin; qemu-lockd.conf or qemu-sanlock.conf configures
it. libvirt's daemon reads all of them only when it starts (``qemuStateInitialize`` in libvirt's
src/qemu/qemu_driver.c, ``virLockManagerLockDaemonLoadConfig`` in src/locking/lock_driver_lockd.c).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

LOCKD, SANLOCK = "lockd", "sanlock"
QEMU_CONF = "/etc/libvirt/qemu.conf"
LOCKD_CONF = "/etc/libvirt/qemu-lockd.conf"
SANLOCK_CONF = "/etc/libvirt/qemu-sanlock.conf"
DAEMONS = ("/run/virtqemud.pid", "/run/libvirtd.pid")
SANLOCK_FOLDER = "/var/lib/libvirt/sanlock"
SETTINGS = (
    *("auto_disk_leases", "require_lease_for_disks", "disk_lease_dir"),
    *("file_lockspace_dir", "lvm_lockspace_dir", "scsi_lockspace_dir"),
)
COMMANDS: Mapping[str, tuple[str, ...]] = {
    "leases": (
        *("grep", "-HE", rf"^[[:space:]]*({'|'.join(SETTINGS)})[[:space:]]*="),
        *(LOCKD_CONF, SANLOCK_CONF),
    ),
    "settings_age": (
        *("find", QEMU_CONF, LOCKD_CONF, SANLOCK_CONF, *DAEMONS),
        *("-maxdepth", "0", "-printf", "%T@ %p\\n"),
    ),
}
HOLDERS: Mapping[str, Mapping[str, tuple[str, ...]]] = {
    LOCKD: {
        "pids": ("grep", "-rHs", "", "/run/libvirt/qemu", "--include=*.pid"),
        "holders": ("ss", "-xHp"),
    },
    SANLOCK: {
        "pids": ("grep", "-rHs", "", "/run/libvirt/qemu", "--include=*.pid"),
        "holders": ("sanlock", "client", "status"),
    },
}
"""What is run besides COMMANDS, by the lock manager, to find the guests that it knows."""

_LINE = re.compile(r"""\s*(\w+)\s*=\s*(?:"([^"]*)"|'([^']*)'|([^\s#]*))""")
_TIME = re.compile(r"^(\d{1,12}(?:\.\d+)?) (/.+)$", re.M)
_PID = re.compile(r"^/run/libvirt/qemu/(.+)\.pid:(\d{1,10})\s*$", re.M)
_SOCKET = "/virtlockd-sock"
_CLIENT = re.compile(r"^p (\d{1,10}) ", re.M)


@dataclass(frozen=True)
class LockManager:
    """libvirt's lock manager on a node.

    ``name`` is empty without one. ``automatic`` says whether it leases every disk that is a file
    or a block device by itself. ``folder`` is where leases of disks are; lockd keeps those of LVM
    volumes and of LUNs in folders of their own if they are set. ``unread`` are the files that were
    changed since the daemon read them. ``holders`` are the guests whose QEMU it knows, None if
    that was not found out.
    """

    name: str = ""
    automatic: bool = True
    folder: str = ""
    lvm_folder: str = ""
    scsi_folder: str = ""
    unread: tuple[str, ...] = ()
    holders: frozenset[str] | None = None

    @property
    def is_on(self) -> bool:
        """Whether there is a lock manager; ``nop`` locks nothing."""
        return self.name in (LOCKD, SANLOCK)

    @property
    def folders(self) -> tuple[str, ...]:
        """The folders of its leases, each once."""
        found = (self.folder, self.lvm_folder, self.scsi_folder) if self.is_on else ()
        return tuple(dict.fromkeys(folder for folder in found if folder.startswith("/")))


def parse(settings: str, leases: str, ages: str, holders: Mapping[str, str] | None) -> LockManager:
    """Return the lock manager of a node by the outputs of its programs.

    settings
        Lines of qemu.conf.
    leases, ages
        The outputs of COMMANDS.
    holders
        Those of HOLDERS, by key; None if they were not run.
    """
    name = _first(settings.splitlines()).get("lock_manager", "")
    path = {LOCKD: LOCKD_CONF, SANLOCK: SANLOCK_CONF}.get(name)
    if path is None:
        return LockManager(name[:100])
    own = (line.removeprefix(f"{path}:") for line in leases.splitlines() if line.startswith(path))
    found = _first(own)
    folder = found.get("file_lockspace_dir", "")
    if name == SANLOCK:
        folder = found.get("disk_lease_dir", SANLOCK_FOLDER)
    return LockManager(
        name,
        # Without its file lockd leases by itself, sanlock does not.
        found.get("auto_disk_leases", "1" if name == LOCKD else "0") == "1",
        folder,
        found.get("lvm_lockspace_dir", "") if name == LOCKD else "",
        found.get("scsi_lockspace_dir", "") if name == LOCKD else "",
        _unread(ages, (QEMU_CONF, path)),
        None if holders is None else _holders(name, holders),
    )


def name_of(settings: str) -> str:
    """Return the lock manager that lines of qemu.conf choose, empty for none."""
    return _first(settings.splitlines()).get("lock_manager", "")


def _first(lines: Iterable[str]) -> dict[str, str]:
    """Return the settings of a file; of a repeated one libvirt takes the first."""
    found: dict[str, str] = {}
    for line in lines:
        match = _LINE.match(line)
        if match:
            found.setdefault(match[1], next(filter(None, match.groups()[1:]), ""))
    return found


def _unread(ages: str, paths: tuple[str, ...]) -> tuple[str, ...]:
    times = {path: float(time) for time, path in _TIME.findall(ages)}
    started = [times[path] for path in DAEMONS if path in times]
    if not started:
        return ()
    return tuple(path for path in paths if times.get(path, 0.0) > max(started))


def _holders(name: str, outputs: Mapping[str, str]) -> frozenset[str] | None:
    """Return the guests whose QEMU is a client of the lock manager's daemon.

    libvirt hands QEMU a connection to virtlockd, which ends with QEMU; a guest that was started
    without a lock manager has none. sanlock lists the processes itself.
    """
    guests = {int(pid): guest for guest, pid in _PID.findall(outputs.get("pids", ""))}
    listed = outputs.get("holders", "")
    pids = _lockd_clients(listed) if name == LOCKD else set(map(int, _CLIENT.findall(listed)))
    if not listed.strip():
        return None
    return frozenset(guest for pid, guest in guests.items() if pid in pids)


def _lockd_clients(listed: str) -> set[int]:
    """Return the processes with a connection to virtlockd, from ``ss -xHp``; see ss(8)."""
    rows = [line.split(None, 8) for line in listed.splitlines()]
    rows = [row for row in rows if len(row) >= 8]
    ends = {row[7] for row in rows if row[4].endswith(_SOCKET)}
    users = [row[8] for row in rows if len(row) == 9 and row[5] in ends]
    return {int(pid) for user in users for pid in re.findall(r"pid=(\d{1,10})", user)}
