"""The account of a login: its home, its groups, and the SELinux labels of its files."""

from __future__ import annotations

import grp
import os
import pwd
import stat

from saltext_kvmcluster.core.errors import InputError
from saltext_kvmcluster.core.trust import sshd
from saltext_kvmcluster.host import descriptors, files


def account(login: str) -> sshd.Account:
    """Return the account of a login; InputError if there is none, or none with a usable home."""

    def group(gid: int) -> str:
        try:
            return grp.getgrgid(gid).gr_name
        except KeyError:
            return str(gid)

    try:
        entry = pwd.getpwnam(login)
    except KeyError:
        raise InputError(
            f"kvmcluster:ssh:login: this host has no account {login}; create it with user.present"
        ) from None
    if not os.path.isabs(entry.pw_dir):
        raise InputError(
            f"kvmcluster:ssh:login: the home of account {login} is {entry.pw_dir!r}, not an"
            f" absolute path; give it one: usermod -d /its/home {login}"
        )
    groups = [group(gid) for gid in os.getgrouplist(login, entry.pw_gid)]
    folders = (entry.pw_dir, os.path.join(entry.pw_dir, ".ssh"))
    return sshd.Account(
        login,
        entry.pw_dir,
        tuple(groups),
        tuple(item for path in folders for item in _observe(path)),
    )


def labels(folder: str) -> dict[str, str | None]:
    """Return each file's SELinux label in a folder, None if unreadable; nothing without SELinux."""
    if not os.path.exists(files.SELINUX) or not os.path.isdir(folder):
        return {}

    def of(path: str) -> str | None:
        try:
            return os.getxattr(path, "security.selinux").decode().rstrip("\0")
        except (OSError, ValueError):
            return None

    return {
        path: of(path) for path in [folder, *sorted(entry.path for entry in os.scandir(folder))]
    }


def _observe(path: str) -> list[sshd.Folder]:
    """Return what a folder is, or nothing if it is not there."""
    try:
        found = os.stat(path)
    except OSError:
        return []
    return [sshd.Folder(path, stat.S_IMODE(found.st_mode), descriptors.owner_name(found.st_uid))]
