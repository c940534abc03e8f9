"""The only place that writes files: atomically, with owner, mode and label set first.

Everything happens relative to an opened folder that belongs to root or to the account, so that
an account whose files root writes cannot lead root elsewhere by a symbolic link.
"""

from __future__ import annotations

import contextlib
import json
import os
import pwd
import shutil
import stat
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from saltext_kvmcluster.core.errors import InputError, WorldError
from saltext_kvmcluster.core.fileplan import FilePlan, FileState
from saltext_kvmcluster.core.trust import drift
from saltext_kvmcluster.host import commands, locks
from saltext_kvmcluster.host.descriptors import (
    MAX_SIZE,
    account_folder,
    open_regular,
    opened,
    patiently,
    reason,
    resolved,
    state_of,
)

SELINUX = "/sys/fs/selinux/enforce"
RESTORECON = "/sbin/restorecon"
LASTING = "/var/lib/kvmcluster"
# The records of the trust files, as last written.
NOTED = f"{LASTING}/trust.json"
# Opening a named pipe must not wait for its other end.
_OWN = os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
_WORKSHOP = ".kvmcluster-work-"


def read(path: str, owner: str | None = None, most: int = MAX_SIZE) -> FileState:
    """Return a file as it is, invalid UTF-8 as surrogates; an empty state if there is none.

    owner
        The account whose file it must be: refuses what ``apply`` would refuse, so that no plan is
        made that cannot be carried out, and no other account's text gets into the file.
    most
        Bytes; a longer file is not read.
    """
    try:
        return patiently(lambda: state_of(path, owner, most))
    except FileNotFoundError:
        return FileState()
    except OSError as error:
        raise WorldError(f"{path} cannot be read: {reason(error)}") from None


def read_argument(path: str, most: int) -> bytes:
    """Return the first bytes of a file named in an argument, and one more; or InputError."""
    try:
        kind = os.stat(path).st_mode
        if not stat.S_ISREG(kind):
            what = "a folder; name the file in it" if stat.S_ISDIR(kind) else "not a regular file"
            raise InputError(f"{path}: is {what}")
        with open(open_regular(path), "rb") as file:
            return file.read(most + 1)
    except (FileNotFoundError, NotADirectoryError):
        raise InputError(f"{path}: no such file") from None
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {reason(error)}") from None


def tail(path: str, most: int) -> str:
    """Return the end of a file, empty if there is none. WorldError if it cannot be read."""
    try:
        with open(open_regular(path), "rb") as file:
            file.seek(max(0, os.fstat(file.fileno()).st_size - most))
            return file.read(most).decode("utf-8", "replace")
    except (FileNotFoundError, NotADirectoryError):
        return ""
    except OSError as error:
        raise WorldError(f"{path} cannot be read: {reason(error)}") from None


def flush(path: str) -> None:
    """Have the disk keep what is in a file, if there is one; WorldError if it does not."""
    try:
        with open(open_regular(path), "rb") as file:
            _confirm(path, "read", file.fileno())
    except (FileNotFoundError, NotADirectoryError):
        return
    except OSError as error:
        raise WorldError(f"{path} cannot be read: {reason(error)}") from None


def exists(path: str) -> bool:
    """Whether there is something at a path; WorldError if that cannot be found out."""
    try:
        patiently(lambda: os.stat(path))
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError as error:
        raise WorldError(f"{path} cannot be read: {reason(error)}") from None
    return True


def apply(plan: FilePlan) -> None:
    """Carry out a plan: make the folder (0700) where it is missing, then replace the file.

    The new file is complete, on disk, and has its mode, owner and SELinux label before it takes
    the old one's name, so a reader finds the old file or the new one. WorldError if the file
    cannot be written; then the old one stays. A trust file is recorded first, so that ``drifted``
    can detect changes.
    """
    _note(plan)
    _put(plan, os.rename)


def drifted(paths: Iterable[str], exclusive: bool) -> list[str]:
    """Return which of these trust files are no longer what was written last.

    A file without a record is not among them. Busy if another process may be writing.
    """
    with locks.lock(timeout=0):
        noted = drift.parse(read(NOTED).text)
        known = [path for path in paths if path in noted]
        return [path for path in known if _has_drifted(path, noted[path], exclusive)]


def create(plan: FilePlan) -> None:
    """Carry out a plan like ``apply``, but only if there is no file of that name."""
    _put(plan, _link)


def sweep(path: str) -> None:
    """Remove what a killed run left beside a file; the lock excludes other writers."""
    folder, name = os.path.split(os.path.realpath(path))
    with contextlib.suppress(OSError):
        os.unlink(os.path.join(folder, _aside(name)))


def listed(folder: str) -> list[str]:
    """Return the paths of a folder's entries, none if there is no folder."""
    try:
        return sorted(entry.path for entry in os.scandir(folder))
    except FileNotFoundError:
        return []
    except OSError as error:
        raise WorldError(f"{folder} cannot be read: {reason(error)}") from None


def children(folder: str) -> list[str]:
    """Return the names in a folder of ours, none if there is no folder; it may be no link."""
    try:
        with opened(folder) as directory:
            return sorted(os.listdir(directory))
    except FileNotFoundError:
        return []
    except OSError as error:
        why = "it is not a folder; move it away" if _is_other(folder) else reason(error)
        raise WorldError(f"{folder} cannot be read: {why}") from None


def remove(path: str) -> None:
    """Remove a file, if it is there; when this returns, a crash does not bring it back."""
    try:
        with opened(os.path.dirname(path)) as directory:
            os.unlink(os.path.basename(path), dir_fd=directory)
            _confirm(path, "removed", directory)
    except FileNotFoundError:
        return
    except IsADirectoryError:
        raise WorldError(f"{path} cannot be removed: it is a folder; move it away") from None
    except OSError as error:
        raise WorldError(f"{path} cannot be removed: {reason(error)}") from None


def remove_empty(folder: str) -> None:
    """Remove a folder if nothing is in it."""
    with contextlib.suppress(OSError):
        os.rmdir(folder)


def mark(path: str) -> None:
    """Make an empty file in a folder of mode 0700, unless it exists; cheap.

    Threads may do it in parallel. The file survives its process, but not a power failure.
    """
    try:
        with contextlib.suppress(FileExistsError):
            os.mkdir(os.path.dirname(path), 0o700)
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | _OWN, 0o600))
    except OSError as error:
        raise WorldError(f"{path} cannot be made: {reason(error)}") from None


def keep(folder: str, names: Iterable[str]) -> None:
    """Make a folder of mode 0700 and empty files in it, each unless it exists; WorldError if not.

    On storage that others write, where the owner does not matter; a file that is there keeps its
    inode, which others may have locked. When this returns, a crash does not remove them.
    """
    parent, own = os.path.split(folder)
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW
    try:
        with opened(os.path.realpath(parent)) as above:
            with contextlib.suppress(FileExistsError):
                os.mkdir(own, 0o700, dir_fd=above)
            with opened(own, above) as directory:
                for name in names:
                    with contextlib.suppress(FileExistsError):
                        os.close(os.open(name, flags, 0o600, dir_fd=directory))
                os.fsync(directory)
            os.fsync(above)
    except OSError as error:
        raise WorldError(f"{folder} cannot be made or filled: {error.strerror}") from None


def ensure_folder(folder: str, owner: str) -> None:
    """Make a folder of mode 0700 for an account if it is missing."""
    parent, name = os.path.split(folder)
    if os.path.lexists(folder):
        return
    account = pwd.getpwnam(owner)
    try:
        with account_folder(parent, owner) as directory:
            aside = _aside(name)
            with contextlib.suppress(FileNotFoundError):
                os.rmdir(aside, dir_fd=directory)
            os.mkdir(aside, 0o700, dir_fd=directory)
            os.chown(aside, account.pw_uid, account.pw_gid, dir_fd=directory, follow_symlinks=False)
            os.rename(aside, name, src_dir_fd=directory, dst_dir_fd=directory)
    except FileNotFoundError:
        raise WorldError(f"{folder} cannot be made: there is no {parent}; make it first") from None
    except OSError as error:
        raise WorldError(f"{folder} cannot be made: {reason(error)}") from None
    label(folder)


def leave(folder: str, name: str, text: str) -> None:
    """Put a small file, readable by all, into our folder on shared storage, made if missing.

    Others write there, too, and its server may map root to another account: so owners do not
    matter, no link is followed below the parent folder, and a failure leaves the old file.
    """
    parent, own = os.path.split(folder)
    try:
        with opened(parent) as above:
            with contextlib.suppress(FileExistsError):
                os.mkdir(own, 0o755, dir_fd=above)
            with opened(own, above) as directory:
                _replace(directory, name, text)
    except OSError as error:
        raise WorldError(f"{folder}/{name} cannot be written: {error.strerror}") from None


@contextlib.contextmanager
def workshop() -> Iterator[str]:
    """Make a folder that only root can enter, for as long as the context lasts.

    Leftovers of a killed run are removed first; the lock excludes other users.
    """
    for entry in os.scandir(locks.RUN):
        if entry.name.startswith(_WORKSHOP) and entry.is_dir(follow_symlinks=False):
            shutil.rmtree(entry.path, ignore_errors=True)
    try:
        with tempfile.TemporaryDirectory(prefix=_WORKSHOP, dir=locks.RUN) as folder:
            yield folder
    except OSError as error:
        raise WorldError(f"{locks.RUN} cannot be written: {error.strerror}") from None


def label(path: str) -> None:
    """Give a path the SELinux label that the policy wants, where SELinux is on."""
    if os.path.exists(SELINUX):
        commands.checked([RESTORECON, path])


def _is_other(folder: str) -> bool:
    """Whether there is something else than a folder at a path."""
    return os.path.lexists(folder) and (os.path.islink(folder) or not os.path.isdir(folder))


def _note(plan: FilePlan) -> None:
    """Record the text of a trust file. If that fails, no record stays rather than an old one."""
    entry = drift.note(plan)
    if entry is None:
        return
    try:
        noted = {**drift.parse(read(NOTED).text), plan.path: entry}
        ensure_folder(LASTING, "root")
        _put(FilePlan(NOTED, json.dumps(noted, indent=1), 0o600, "root", {}), os.rename)
    except WorldError:
        with contextlib.suppress(WorldError):
            remove(NOTED)


def _has_drifted(path: str, noted: Mapping[str, Any], exclusive: bool) -> bool:
    try:
        found = read(path)
    except WorldError:
        return True
    return drift.has_drifted(path, noted, found, exclusive)


def _aside(name: str) -> str:
    """Return the name under which this host writes a file; on shared storage others write, too."""
    return f".{name}.kvmcluster-new-{os.uname().nodename}"


def _put(plan: FilePlan, place: Callable[..., None]) -> None:
    """Write a file aside and give it its name by ``place``, a function like ``os.rename``."""
    path = resolved(plan.path, plan.owner)
    folder, name = os.path.split(path)
    ensure_folder(folder, plan.owner)
    aside = _aside(name)
    try:
        with account_folder(folder, plan.owner) as directory:
            try:
                _write(directory, folder, aside, plan)
                place(aside, name, src_dir_fd=directory, dst_dir_fd=directory)
            except BaseException:
                with contextlib.suppress(OSError):
                    os.unlink(aside, dir_fd=directory)
                raise
            _confirm(path, "written", directory)
    except FileExistsError:
        raise WorldError(f"{path} already exists and was not changed") from None
    except OSError as error:
        raise WorldError(f"{path} cannot be written, it is unchanged: {reason(error)}") from None


def _confirm(path: str, what: str, directory: int) -> None:
    try:
        os.fsync(directory)
    except OSError as error:
        raise WorldError(
            f"{path} is {what}, but the disk did not confirm it: {error.strerror}"
        ) from None


def _link(aside: str, name: str, src_dir_fd: int, dst_dir_fd: int) -> None:
    os.link(aside, name, src_dir_fd=src_dir_fd, dst_dir_fd=dst_dir_fd, follow_symlinks=False)
    os.unlink(aside, dir_fd=src_dir_fd)


def _write(directory: int, folder: str, name: str, plan: FilePlan) -> None:
    try:
        account = pwd.getpwnam(plan.owner)
    except KeyError:
        raise WorldError(
            f"{plan.path} belongs to user {plan.owner}, which does not exist on this host: give it"
            " an owner that exists on every node, such as root (chown)"
        ) from None
    with contextlib.suppress(FileNotFoundError):
        os.unlink(name, dir_fd=directory)
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW
    descriptor = os.open(name, flags, 0o600, dir_fd=directory)
    with open(descriptor, "wb") as file:
        os.fchown(descriptor, account.pw_uid, account.pw_gid)
        os.fchmod(descriptor, plan.mode)
        file.write(plan.text.encode("utf-8", "surrogateescape"))
        file.flush()
        os.fsync(descriptor)
    label(os.path.join(folder, name))


def _replace(directory: int, name: str, text: str) -> None:
    aside = _aside(name)
    with contextlib.suppress(FileNotFoundError):
        os.unlink(aside, dir_fd=directory)
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW
    with open(os.open(aside, flags, 0o644, dir_fd=directory), "wb") as file:
        file.write(text.encode())
        file.flush()
        os.fsync(file.fileno())
    os.rename(aside, name, src_dir_fd=directory, dst_dir_fd=directory)
