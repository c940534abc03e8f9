"""What lies at paths on a node, and where their symbolic links lead."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Iterator
from typing import Any

from saltext_kvmcluster.core.facts import parsers
from saltext_kvmcluster.core.facts.parsers import CommandOutput
from saltext_kvmcluster.host import commands
from saltext_kvmcluster.host.node_access import Outputs, in_parts, size

KINDS = {
    "regular file": "file",
    "regular empty file": "file",
    "block special file": "block",
    "directory": "directory",
}


def realpath_commands(paths: Iterable[str]) -> dict[str, tuple[str, ...]]:
    """Return the commands that resolve paths with all their symbolic links."""
    return {f"real {part[0]}": ("realpath", "-m", "--", *part) for part in _lines(paths)}


def links_found(paths: Iterable[str], found: Outputs) -> str:
    """Return the paths that resolve elsewhere, in the format of inventory.COMMANDS's links."""
    real = _real(paths, found)
    return "".join(["\n", *(f"{path}\t{to}\n" for path, to in real.items() if path != to)])


def _real(paths: Iterable[str], found: Outputs) -> dict[str, str]:
    real: dict[str, str] = {}
    for part in _lines(paths):
        detail = found[f"real {part[0]}"].stdout.splitlines()
        if len(detail) == len(part):
            real.update(zip(part, detail, strict=True))
    return real


def _lines(paths: Iterable[str]) -> Iterator[list[str]]:
    """Yield the absolute paths without a newline, as many at once as one program can take."""
    lines = dict.fromkeys(path for path in paths if path.startswith("/") and "\n" not in path)
    return in_parts(lines, lambda path: size(shlex.quote(path)))


def path_commands(paths: Iterable[str]) -> dict[str, tuple[str, ...]]:
    stats = {f"stat {path}": ("stat", "-L", "-c", "%F", "--", path) for path in paths}
    return {**stats, **realpath_commands(paths)}


def kinds_found(paths: Iterable[str], found: Outputs) -> dict[str, dict[str, Any]]:
    observed: dict[str, dict[str, Any]] = {}
    real = _real(paths, found)
    for path in paths:
        outcome = found[f"stat {path}"]
        if outcome.code == 0:
            observed[path] = {"kind": KINDS.get(outcome.stdout.strip(), "other")}
        elif is_missing(outcome):
            observed[path] = {"kind": "nothing"}
        if path in observed and path in real:
            observed[path]["real"] = real[path]
    return observed


def is_missing(outcome: commands.Outcome) -> bool:
    return parsers.is_missing(CommandOutput(outcome.code, outcome.stdout, outcome.stderr))
