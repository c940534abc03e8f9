"""Opens files and folders for reading, so that no symbolic link redirects root.

A folder that root writes to belongs to root or to the account whose files are in it.
"""

from __future__ import annotations

import contextlib
import errno
import os
import pwd
import stat
import time
from collections.abc import Callable, Iterator
from typing import BinaryIO, TypeVar

from saltext_kvmcluster.core.errors import WorldError
from saltext_kvmcluster.core.fileplan import FileState

MAX_SIZE = 64 * 1024 * 1024
_PIECE = 1024 * 1024
STALE_PAUSES = (0.1, 0.5, 1.0, 1.0)
_T = TypeVar("_T")


def owner_name(uid: int) -> str:
    """Return the account's name of a user id, or the number if there is none."""
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def state_of(path: str, owner: str | None, most: int = MAX_SIZE) -> FileState:
    """Return a file's text, mode and owner; FileNotFoundError if there is none.

    owner
        The account whose file it must be, None for any.
    """
    if owner is None:
        return _content(path, open_regular(path), most)
    real = resolved(path, owner)
    with account_folder(os.path.dirname(real), owner) as directory:
        name = os.path.basename(real)
        return _content(path, _open_in(directory, name), most, owner)


def open_regular(path: str) -> int:
    """Open a regular file; nothing else is opened, since to open a device is to act on it."""
    observed = os.open(path, os.O_PATH | os.O_CLOEXEC)
    try:
        if not stat.S_ISREG(os.fstat(observed).st_mode):
            raise WorldError(f"{path} is not a regular file; move it away")
        return os.open(f"/proc/self/fd/{observed}", os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    finally:
        os.close(observed)


def patiently(examine: Callable[[], _T]) -> _T:
    """Retry for a while: another host may have just replaced the file on shared storage."""
    for pause in STALE_PAUSES:
        try:
            return examine()
        except OSError as error:
            if error.errno != errno.ESTALE:
                raise
        time.sleep(pause)
    return examine()


def _content(path: str, descriptor: int, most: int, owner: str | None = None) -> FileState:
    with open(descriptor, "rb") as file:
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode):
            raise WorldError(f"{path} is not a regular file; move it away")
        if found.st_size > most:
            raise WorldError(f"{path} has {found.st_size} bytes, at most {most} are read")
        belongs = owner_name(found.st_uid)
        if owner and belongs != owner and found.st_nlink > 1:
            raise WorldError(f"{path} is a hard link to a file of {belongs}; move it away")
        text = _read(file, most).decode("utf-8", "surrogateescape")
    return FileState(text, stat.S_IMODE(found.st_mode), belongs)


def _read(file: BinaryIO, most: int) -> bytes:
    """Read a file's first bytes piece by piece: files of /proc/sys refuse long reads (ENOMEM)."""
    content = b""
    while piece := file.read(min(_PIECE, most - len(content))):
        content += piece
    return content


def resolved(path: str, owner: str) -> str:
    """Follow a symbolic link only to a file of the account itself."""
    if not os.path.islink(path):
        return path
    target = os.path.realpath(path)
    with contextlib.suppress(OSError):
        if owner_name(os.stat(target).st_uid) == owner:
            return target
    raise WorldError(
        f"{path} is a link to {target}, which does not belong to {owner}; move the link away"
    )


@contextlib.contextmanager
def opened(folder: str, above: int | None = None) -> Iterator[int]:
    """Open a folder, which may be no link, below another one that is open."""
    directory = _open_folder(folder, above)
    try:
        yield directory
    finally:
        os.close(directory)


@contextlib.contextmanager
def account_folder(folder: str, owner: str) -> Iterator[int]:
    """Open a folder that an account's files may be written to; FileNotFoundError if it is none."""
    try:
        directory = _open_folder(folder)
    except FileNotFoundError:
        raise
    except OSError as error:
        detail = "is a link" if os.path.islink(folder) else reason(error)
        remedy = "" if is_denied(error) else "; move it away"
        raise WorldError(f"{folder} cannot be opened as a folder: {detail}{remedy}") from None
    try:
        found = owner_name(os.fstat(directory).st_uid)
        if found not in ("root", owner):
            raise WorldError(f"{folder} belongs to {found}; run: chown {owner}: {folder}")
        _stay(folder, owner, directory)
        yield directory
    finally:
        os.close(directory)


def is_denied(error: OSError) -> bool:
    """Whether this process's account lacks a right, which root would have."""
    return error.errno in (errno.EACCES, errno.EPERM) and os.geteuid() != 0


def reason(error: OSError) -> str:
    """Return why something failed; where the account lacks a right, with it and what to do."""
    if not is_denied(error):
        return error.strerror or str(error)
    account = owner_name(os.geteuid())
    return f"{error.strerror} to account {account}, as which this runs; give it access (chown)"


def _stay(folder: str, owner: str, directory: int) -> None:
    """Refuse a folder reached through a link that the account could have created."""
    if owner == "root":
        return
    home = pwd.getpwnam(owner).pw_dir
    expected = folder
    if os.path.commonpath([home, folder]) == os.path.normpath(home):
        expected = os.path.normpath(
            os.path.join(os.path.realpath(home), os.path.relpath(folder, home))
        )
    actual = os.readlink(f"/proc/self/fd/{directory}")
    if actual != expected:
        raise WorldError(f"{folder} is reached through a link and is {actual}; use that path")


def _open_in(directory: int, name: str) -> int:
    return os.open(
        name, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOFOLLOW, dir_fd=directory
    )


def _open_folder(folder: str, above: int | None = None) -> int:
    return os.open(
        folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=above
    )
