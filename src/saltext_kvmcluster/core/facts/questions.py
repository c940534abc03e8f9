"""What a node is asked once it is known what guests there are, read where it is asked."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from saltext_kvmcluster.core.errors import InputError
from saltext_kvmcluster.core.storage.inventory import MAX_PATH
from saltext_kvmcluster.core.text import printable

MAX_ITEMS = 10_000
CPU = ("type", "arch", "machine", "emulator", "cpu")


@dataclass(frozen=True)
class Question:
    """Paths to look at, whose tokens to read in which folders, and CPUs by the keys of CPU."""

    paths: tuple[str, ...] = ()
    tokens: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    cpus: tuple[Mapping[str, str], ...] = ()


def parse(reported: object) -> Question:
    """Return a question; InputError, with what is wrong, if it is none."""
    if not isinstance(reported, Mapping):
        raise InputError(f"question: want a mapping, got {type(reported).__name__}")
    tokens = _part(reported, "tokens", Mapping, {})
    return Question(
        tuple(_path(path) for path in _part(reported, "paths", list, [])),
        {_path(folder): _writers(writers) for folder, writers in tokens.items()},
        tuple(_cpu(cpu) for cpu in _part(reported, "cpus", list, [])),
    )


def cpu_key(cpu: Mapping[str, str]) -> str:
    """Return what the answer calls a CPU by: all that was asked, since all of it matters."""
    return json.dumps([cpu[key] for key in CPU])


def is_path(reported: object) -> bool:
    """Whether a node can be asked about a path."""
    return (
        isinstance(reported, str)
        and reported.startswith("/")
        and reported.isprintable()
        and len(reported) <= MAX_PATH
    )


def _part(reported: Mapping[Any, Any], key: str, kind: Any, default: Any) -> Any:
    value = reported.get(key, default)
    if not isinstance(value, kind):
        raise InputError(f"question: {key} is a {type(value).__name__}")
    if len(value) > MAX_ITEMS:
        raise InputError(f"question: {key} has more than {MAX_ITEMS} entries; ask in parts")
    return value


def _path(reported: object) -> str:
    if not is_path(reported):
        raise InputError(f"question: want an absolute path that prints, got {_shown(reported)}")
    return str(reported)


def _writers(reported: Any) -> tuple[str, ...]:
    if (
        not isinstance(reported, list)
        or len(reported) > MAX_ITEMS
        or not all(map(_is_name, reported))
    ):
        raise InputError(f"question: want a list of nodes for each folder, got {_shown(reported)}")
    return tuple(reported)


def _is_name(reported: Any) -> bool:
    """Whether it can be a node's id, which is a file's name where that node writes."""
    return (
        isinstance(reported, str)
        and reported.isprintable()
        and 0 < len(reported) < 256
        and "/" not in reported
        and reported not in (".", "..")
    )


def _cpu(reported: object) -> Mapping[str, str]:
    if not isinstance(reported, Mapping) or not all(
        isinstance(reported.get(key), str) for key in CPU
    ):
        raise InputError(f"question: want {', '.join(CPU)} of each CPU, got {_shown(reported)}")
    return {key: reported[key] for key in CPU}


def _shown(reported: object) -> str:
    return printable(repr(reported)[:200])
