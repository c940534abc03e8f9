"""All that a migration and its recovery touch, in one value; what decides never reaches past it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol

from saltext_kvmcluster.core.findings import Finding
from saltext_kvmcluster.core.migration.journal import Entry, Kept
from saltext_kvmcluster.core.migration.migration import Move, Plan
from saltext_kvmcluster.core.pillar.clusters import Cluster
from saltext_kvmcluster.core.verdicts import Observation


class Call(Protocol):
    """Something that was begun and goes on without us."""

    def done(self) -> bool:
        """Whether it has ended."""

    def exception(self) -> BaseException | None:
        """Return what it failed with; to be asked once it has ended."""


class Clock(Protocol):
    """Time, and waiting for it."""

    def monotonic(self) -> float:
        """Return seconds of a clock that nobody sets."""

    def now(self) -> datetime:
        """Return the time of day, UTC."""

    def wait(self, call: Call | None, seconds: float) -> None:
        """Wait until a call has ended, but no longer than so many seconds."""


class Libvirt(Protocol):
    """One node's libvirt, as ``hypervisor.Hypervisor``: see there. WorldError: no answer."""

    def by_name(self, name: str) -> Observation: ...
    def by_uuid(self, uuid: str) -> Observation: ...
    def sight(self, uuid: str) -> Observation: ...
    def names(self) -> list[str]: ...
    def migrate(self, uuid: str, way: Plan) -> Call: ...
    def progress(self, uuid: str) -> dict[str, Any]: ...
    def measured(self, uuid: str) -> dict[str, Any]: ...
    def set_downtime(self, uuid: str, milliseconds: int) -> None: ...
    def start_post_copy(self, uuid: str) -> None: ...
    def abort(self, uuid: str) -> None: ...
    def destroy_copy(self, uuid: str) -> None: ...
    def described(self, uuid: str) -> str: ...
    def definition_of(self, uuid: str) -> str: ...
    def define(self, definition: str) -> None: ...
    def undefine(self, uuid: str) -> None: ...
    def autostart_off(self, uuid: str) -> None: ...
    def close(self) -> None: ...


class Journal(Protocol):
    """One node's journal, as ``journal.Journal``: see there. WorldError: no answer."""

    def entries(self) -> Kept: ...
    def write(self, entry: Entry) -> None: ...
    def clear(self, uuid: str) -> None: ...
    def ask_to_cancel(self, uuid: str, words: str) -> None: ...
    def asked_to_cancel(self, uuid: str) -> str: ...
    def withdraw(self, uuid: str) -> None: ...
    def keep(self, node: str, uuid: str, definition: str) -> None: ...
    def remember(self, record: Mapping[str, Any]) -> None: ...


def one_by_one(ask: Callable[[str], Any], nodes: Iterable[str]) -> dict[str, Any]:
    """Ask nodes one after another; return what each one said."""
    return {node: ask(node) for node in nodes}


@dataclass(frozen=True)
class Environment:
    """What a migration touches.

    ``libvirt``, ``journal``: those of a node, by its id; a call gives the same one again.
    ``address``: what a name means on this node. ``examine``: what the blocking checks say of a
    move; it raises WorldError if one forbids it. ``alone``: nobody else moves this guest from here
    meanwhile; who is in it may enter it again. ``place``: the move has its place among those that
    run at once; entering may take long, and gives whether it did. ``tell``: an event's kind and
    data, which may get lost. ``side_by_side``: what a function gives for each of some nodes.
    """

    cluster: Cluster
    here: str
    libvirt: Callable[[str], Libvirt]
    journal: Callable[[str], Journal]
    clock: Clock
    address: Callable[[str], str]
    examine: Callable[[Move], Sequence[Finding]]
    alone: Callable[[Move], AbstractContextManager[None]]
    place: Callable[[Move], AbstractContextManager[bool]]
    notify: Callable[[str, Mapping[str, Any]], None]
    side_by_side: Callable[[Callable[[str], Any], Iterable[str]], dict[str, Any]] = one_by_one
