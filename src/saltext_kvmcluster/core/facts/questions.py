"""What a node is asked once its guests are known, parsed on that node."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from saltext_kvmcluster.core.storage.inventory import MAX_PATH
from saltext_kvmcluster.core.untrusted import Reader

MAX_ITEMS = 10_000
_HOST = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,252}\Z")
EMULATOR = ("type", "arch", "machine", "emulator")
CPU = (*EMULATOR, "cpu")


@dataclass(frozen=True)
class Question:
    """Paths to inspect, tokens to read by folder and writer, CPUs by the keys of CPU, names.

    And emulators, by the keys of EMULATOR.
    """

    paths: tuple[str, ...] = ()
    tokens: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    cpus: tuple[Mapping[str, str], ...] = ()
    names: tuple[str, ...] = ()
    emulators: tuple[Mapping[str, str], ...] = ()


@dataclass(frozen=True)
class Part:
    """The one move in question: which guest, and where to; None for anywhere."""

    guest: str
    destination: str | None = None

    def sends(self, reported: Mapping[str, Any]) -> bool:
        """Whether the guest would leave a node, by the guests of its libvirt: if it has it at all.

        A node whose guests are not known may have it.
        """
        guests = reported.get("guests")
        return guests is None or any(one.get("name") == self.guest for one in guests)

    def receives(self, node: str) -> bool:
        """Whether the guest would come to a node."""
        return self.destination in (None, node)


def parse(reported: object) -> Question:
    """Return a question; InputError, with what is wrong, if it is none."""
    asked = Reader(reported, "question")
    return Question(
        tuple(_path(path) for path in asked.at("paths").items(optional=True, most=MAX_ITEMS)),
        _tokens(asked.at("tokens")),
        tuple(_cpu(cpu) for cpu in asked.at("cpus").items(optional=True, most=MAX_ITEMS)),
        tuple(_host(name) for name in asked.at("names").items(optional=True, most=MAX_ITEMS)),
        tuple(_emulator(one) for one in asked.at("emulators").items(optional=True, most=MAX_ITEMS)),
    )


def cpu_key(cpu: Mapping[str, str]) -> str:
    """Return the key of a CPU in the answer: all that was asked, since all of it matters."""
    return json.dumps([cpu[key] for key in CPU])


def emulator_key(emulator: Mapping[str, str]) -> str:
    """Return the key of an emulator in the answer."""
    return json.dumps([emulator[key] for key in EMULATOR])


def is_path(reported: object) -> bool:
    """Whether a node can be asked about a path."""
    return (
        isinstance(reported, str)
        and reported.startswith("/")
        and reported.isprintable()
        and len(reported) <= MAX_PATH
    )


def is_host(reported: object) -> bool:
    """Whether a node can be asked about a host name; see hostname(7)."""
    return isinstance(reported, str) and bool(_HOST.match(reported))


def _host(asked: Reader) -> str:
    if not is_host(asked.value):
        raise asked.error("a host name")
    return str(asked.value)


def _path(asked: Reader) -> str:
    if not is_path(asked.value):
        raise asked.error("an absolute path that prints")
    return str(asked.value)


def _tokens(asked: Reader) -> dict[str, tuple[str, ...]]:
    """Return whose tokens to read, by folder."""
    tokens = {}
    for folder, writers in asked.fields(optional=True, most=MAX_ITEMS).items():
        if not is_path(folder):
            raise asked.error("absolute paths that print")
        tokens[folder] = tuple(_writer(one) for one in writers.items(most=MAX_ITEMS))
    return tokens


def _writer(asked: Reader) -> str:
    if not _is_name(asked.value):
        raise asked.error("the id of a node")
    return str(asked.value)


def _is_name(reported: object) -> bool:
    """Whether it can be a node's id, which is a file's name where that node writes."""
    return (
        isinstance(reported, str)
        and reported.isprintable()
        and 0 < len(reported) < 256
        and "/" not in reported
        and reported not in (".", "..")
    )


def _emulator(asked: Reader) -> Mapping[str, str]:
    return {key: asked.at(key).text() for key in EMULATOR}


def _cpu(asked: Reader) -> Mapping[str, str]:
    return {key: asked.at(key).text() for key in CPU}
