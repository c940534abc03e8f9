"""The file of a page: which path may be written."""

from __future__ import annotations

import posixpath

from saltext_kvmcluster.core.errors import InputError
from saltext_kvmcluster.core.fileplan import FileState
from saltext_kvmcluster.core.pillar.paths import SYSTEM_FOLDERS
from saltext_kvmcluster.core.validate import shown

MODE = 0o644
"""A web server may show it; it holds no secret."""
GENERATOR = '<meta name="generator" content="saltext-kvmcluster">'
"""By which a page of ours is known."""
SUFFIXES = (".html", ".htm")
# Where a process's files come and go with it, or are none.
_FOLDERS = tuple(folder for folder in SYSTEM_FOLDERS if folder != "/run")


def path(value: object) -> str:
    """Return the path of a page; InputError if it is none."""
    if not isinstance(value, str) or not value.startswith("/") or not value.isprintable():
        raise InputError(f"path: want an absolute path on the master, got {shown(value)}")
    if value.endswith("/") or not value.lower().endswith(SUFFIXES):
        raise InputError(f"path: want a file that ends in .html, got {shown(value)}")
    wanted = posixpath.normpath(value)
    wanted = wanted[1:] if wanted.startswith("//") else wanted
    for folder in _FOLDERS:
        if wanted.startswith(f"{folder}/"):
            raise InputError(f"path: {shown(wanted)} is in {folder}, where no page can be kept")
    return wanted


def refuse_other(path: str, found: FileState) -> None:
    """Refuse to replace a file that is no page of ours."""
    if found.text and GENERATOR not in found.text[:4096]:
        raise InputError(
            f"path: {shown(path)} exists and is no report; name another file, or move it away"
        )
