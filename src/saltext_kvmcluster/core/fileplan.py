"""Plans for files: what stands there, what should stand there, and the difference in words.

A plan is a value. ``test=True`` prints it, the real run carries the same one out.
"""

from __future__ import annotations

import posixpath
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from saltext_kvmcluster.core.text import printable


@dataclass(frozen=True)
class FileState:
    """A file as it was found; all None when there is none. ``mode`` holds permission bits."""

    text: str | None = None
    mode: int | None = None
    owner: str | None = None


@dataclass(frozen=True)
class Changes:
    """A change said in words: what is added, removed and replaced."""

    added: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    replaced: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, list[str]]:
        """Return the three lists under their names, as text that any terminal and codec bears."""
        return {
            "added": [printable(word) for word in self.added],
            "removed": [printable(word) for word in self.removed],
            "replaced": [printable(word) for word in self.replaced],
        }


@dataclass(frozen=True)
class Wanted:
    """The text a file should have, the way there in words, and who was refused and why."""

    text: str
    words: Changes = Changes()
    refused: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class FilePlan:
    """One file as it should be. Without ``changes`` there is nothing to do."""

    path: str
    text: str
    mode: int
    owner: str
    changes: Mapping[str, Any]


def plan_file(path: str, found: FileState, wanted: Wanted, mode: int, owner: str) -> FilePlan:
    """Return the plan that makes the file at ``path`` what is wanted, whatever was found."""
    change: dict[str, Any] = {}
    if found.text != wanted.text:
        change.update(wanted.words.to_dict())
        if found.text is not None and wanted.words == Changes():
            change["replaced"] = ["layout, no entry"]
    if found.text is not None and found.mode != mode:
        change["mode"] = f"{found.mode:04o} -> {mode:04o}"
    if found.text is not None and found.owner != owner:
        change["owner"] = f"{found.owner} -> {owner}"
    changes = {posixpath.basename(path): change} if change else {}
    return FilePlan(path, wanted.text, mode, owner, changes)


def merged_changes(plans: Iterable[FilePlan]) -> dict[str, Any]:
    """Return the changes of several plans under one roof; equal file names get their folder."""
    merged: dict[str, Any] = {}
    for plan in plans:
        for name, change in plan.changes.items():
            merged[plan.path if name in merged else name] = change
    return merged
