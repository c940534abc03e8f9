"""Plans for files: the present text, the wanted text, and a description of the changes.

A plan is a value: ``test=True`` prints it, the real run carries out the same one.
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
    """A description of a change: what is added, removed and replaced."""

    added: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    replaced: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, list[str]]:
        """Return the three lists under their names, as printable text."""
        return {
            "added": [printable(item) for item in self.added],
            "removed": [printable(item) for item in self.removed],
            "replaced": [printable(item) for item in self.replaced],
        }


@dataclass(frozen=True)
class Wanted:
    """The text that a file should have, the changes to it, and the refused nodes with reasons."""

    text: str
    changes: Changes = Changes()
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
        change.update(wanted.changes.to_dict())
        if found.text is not None and wanted.changes == Changes():
            change["replaced"] = ["layout, no entry"]
    if found.text is not None and found.mode != mode:
        change["mode"] = f"{found.mode:04o} -> {mode:04o}"
    if found.text is not None and found.owner != owner:
        change["owner"] = f"{found.owner} -> {owner}"
    changes = {posixpath.basename(path): change} if change else {}
    return FilePlan(path, wanted.text, mode, owner, changes)


def merged_changes(plans: Iterable[FilePlan]) -> dict[str, Any]:
    """Return the changes of several plans by file name; equal names get their folder."""
    merged: dict[str, Any] = {}
    for plan in plans:
        for name, change in plan.changes.items():
            merged[plan.path if name in merged else name] = change
    return merged
