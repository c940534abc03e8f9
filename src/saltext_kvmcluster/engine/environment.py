"""The value through which the engine touches the world, and nothing else."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol

from saltext_kvmcluster.core.cordons import Cordon
from saltext_kvmcluster.core.facts.starters import Starters
from saltext_kvmcluster.core.failover.restarts import Traces
from saltext_kvmcluster.core.findings import Finding
from saltext_kvmcluster.core.ha.holds import Hold
from saltext_kvmcluster.core.migration.handover import LastRun
from saltext_kvmcluster.core.migration.journal import Entry, Kept
from saltext_kvmcluster.core.migration.migration import Host, Move, Run
from saltext_kvmcluster.core.migration.plans import Plan
from saltext_kvmcluster.core.migration.queues import Queue
from saltext_kvmcluster.core.ownership.contacts import Contact
from saltext_kvmcluster.core.pacemaker.fencing import Fencing
from saltext_kvmcluster.core.pacemaker.model import Pacemaker
from saltext_kvmcluster.core.pillar.clusters import Cluster
from saltext_kvmcluster.core.verdicts import Observation


class Call(Protocol):
    """A libvirt call in progress, which continues in its own thread."""

    def done(self) -> bool:
        """Whether it has ended."""

    def exception(self) -> BaseException | None:
        """Return what it failed with; to be asked once it has ended."""


class Clock(Protocol):
    """Time, and waiting for it."""

    def monotonic(self) -> float:
        """Return seconds of a clock that is never set."""

    def now(self) -> datetime:
        """Return the time of day, UTC."""

    def wait(self, call: Call | Sequence[Call] | None, seconds: float) -> None:
        """Wait until a call, or one of several, has ended, but no longer than so many seconds."""


class Libvirt(Protocol):
    """One node's libvirt, as ``hypervisor.Hypervisor``. WorldError: no response."""

    def host(self) -> Host: ...
    def by_name(self, name: str) -> Observation: ...
    def by_uuid(self, uuid: str) -> Observation: ...
    def sight(self, uuid: str) -> Observation: ...
    def moving(self, job: str) -> dict[str, str]: ...
    def migrate(self, uuid: str, plan: Plan) -> Call: ...
    def progress(self, uuid: str) -> dict[str, Any]: ...
    def measured(self, uuid: str) -> dict[str, Any]: ...
    def set_downtime(self, uuid: str, milliseconds: int) -> None: ...
    def start_post_copy(self, uuid: str) -> None: ...
    def abort(self, uuid: str) -> None: ...
    def create(self, definition: str, end: float) -> Call: ...
    def boot(self, uuid: str, end: float) -> Call: ...
    def press_power(self, uuid: str) -> None: ...
    def press_reboot(self, uuid: str) -> None: ...
    def reset(self, uuid: str) -> None: ...
    def destroy(self, uuid: str) -> None: ...
    def destroy_copy(self, uuid: str, mark: str) -> None: ...
    def run(self, uuid: str) -> Run: ...
    def version(self) -> int: ...
    def ready(self, uuid: str) -> Call: ...
    def resume(self, uuid: str, mark: str) -> Call: ...
    def resume_stopped(self, uuid: str) -> None: ...
    def unmark(self, uuid: str) -> None: ...
    def migratable(self, uuid: str) -> str: ...
    def described(self, uuid: str) -> str: ...
    def definition(self, name: str) -> str: ...
    def definition_of(self, uuid: str) -> str: ...
    def define(self, definition: str) -> None: ...
    def undefine(self, uuid: str) -> None: ...
    def autostart_off(self, uuid: str) -> None: ...
    def note(self, uuid: str, namespace: str, text: str | None) -> None: ...
    def close(self) -> None: ...


class Journal(Protocol):
    """One node's journal, as ``journal.Journal``. WorldError: no response."""

    def entries(self) -> Kept: ...
    def write(self, entry: Entry) -> None: ...
    def advance(self, least: int) -> int: ...
    def clear(self, uuid: str) -> None: ...
    def ask_to_cancel(self, uuid: str, requester: str) -> None: ...
    def asked_to_cancel(self, uuid: str) -> str: ...
    def withdraw(self, uuid: str) -> None: ...
    def keep(self, node: str, uuid: str, definition: str) -> None: ...
    def remember(self, record: Mapping[str, Any]) -> None: ...
    def last_run(self, guest: str) -> LastRun: ...
    def traces(self, guest: str) -> Traces: ...
    def contacts(self) -> Sequence[Contact]: ...
    def note_shutdown(self, guest: str, time: datetime) -> None: ...
    def forget_shutdown(self, guest: str) -> None: ...


class Tickets(Protocol):
    """Our tickets in the queues of one node, which go when this process does.

    What is returned is read by ``queues.standing``. WorldError: no response.
    """

    def take(self, queue: Queue, move: Move) -> str:
        """Take a ticket, and keep it valid until it is released; return the queue."""

    def observe(self, queue: Queue) -> str:
        """Return the queue."""

    def release(self, queue: Queue) -> None:
        """Give the ticket back, if there is one; never raises."""


class Leaving(Protocol):
    """A guest of this node that migrates away, watched for what must not wait for a poll.

    ``sent``: as in `handover.Handover`. ``ended``: is done once its QEMU has ended.
    """

    @property
    def sent(self) -> int: ...
    @property
    def ended(self) -> Call: ...

    def is_confirmed(self) -> bool:
        """Whether libvirt had confirmed the migration when it was read last, or has by now."""

    def stopped_at(self) -> float | None:
        """Return when the guest stopped last, by the monotonic clock, None if not observed."""


class Claim(Protocol):
    """The claim of a start on one node, which goes when this process does, or after its time."""

    def take(self) -> None:
        """Take it; AtWork if another start holds it, WorldError if it cannot be had."""

    def is_held(self) -> bool:
        """Whether it is certain, by a response of its holder, that it is still held."""

    def release(self) -> None:
        """Release it; never raises."""


class Control(Protocol):
    """Pacemaker, driven by one node's tools, as ``pacemaker_control.Control``.

    What returns a bool says whether there was something to change. WorldError: it was not done, or
    that is not known.
    """

    def hold(self, resource: str, hold: Hold) -> bool: ...
    def release(self, resource: str, mark: str) -> None: ...
    def refresh(self, resource: str) -> None: ...
    def wait(self, seconds: float) -> None: ...
    def want(self, resource: str, role: str) -> None: ...
    def standby(self, node: str, number: str, mark: str) -> bool: ...
    def end_standby(self, node: str, number: str) -> None: ...
    def monitor(self, device: str) -> int | None: ...
    def fence(self, node: str) -> int | None: ...
    def fencer_log(self) -> str: ...


def one_by_one(ask: Callable[[str], Any], nodes: Iterable[str]) -> dict[str, Any]:
    """Ask nodes one after another; return what each one answered."""
    return {node: ask(node) for node in nodes}


@dataclass(frozen=True)
class Environment:
    """What the engine touches.

    ``libvirt``, ``journal``, ``tickets``: those of a node, by its id; a call returns the same one
    again. ``responds``: how a node responds on any network, empty if it does not. ``address``: what
    a name means on this node. ``claim``: a claim on a node for a guest's UUID, not yet taken, that
    lasts so many seconds. ``cordon``: what cordons this node. ``exists``, ``read``: whether there
    is a file, and its text. ``examine``: what the blocking checks find about a move; WorldError if
    one forbids it. ``unguarded``: the disks of a definition off which, as this node sees them,
    nothing keeps a second writer on another node, a sentence each. ``starters``: what starts guests
    at a node's next boot, None where that is not known. ``pacemaker``: Pacemaker as a node knows
    it, None where that is not known. ``fencing``: whom it fenced, None where it does not tell.
    ``lock``: the exclusive right to move this guest from its source; its holder may take it again.
    ``leaving``: watches a guest of this node while the context lasts. ``reboots``: what is done
    once a guest of this node, by its UUID, has rebooted in the context, and failed once that can no
    longer be seen; WorldError if it cannot be seen at all. ``keeper``: something outside of this
    process that completes a strict handover if this process ends in the context. ``withdraw``: has
    a guest not depart that waits here to (its UUID, who requests it), and returns whether there was
    one. ``detours``: a node's libvirt by each of its further names. ``notify``: takes an event's
    kind and data, which may get lost. ``side_by_side``: what a function returns for each of some
    nodes. ``process``: this process, as ``bootid.process`` has it; empty if nobody asks for it.
    """

    cluster: Cluster
    here: str
    libvirt: Callable[[str], Libvirt]
    journal: Callable[[str], Journal]
    tickets: Callable[[str], Tickets]
    clock: Clock
    responds: Callable[[str], str]
    address: Callable[[str], str]
    claim: Callable[[str, str, float], Claim]
    cordon: Callable[[], Cordon | None]
    exists: Callable[[str], bool]
    read: Callable[[str], str]
    examine: Callable[[Move], Sequence[Finding]]
    unguarded: Callable[[str], Sequence[str]]
    starters: Callable[[str], Starters | None]
    pacemaker: Callable[[str], Pacemaker | None]
    control: Callable[[str], Control]
    fencing: Callable[[str], Fencing | None]
    lock: Callable[[Move], AbstractContextManager[None]]
    leaving: Callable[[Move], AbstractContextManager[Leaving]]
    reboots: Callable[[str], AbstractContextManager[Call]]
    keeper: Callable[[Move], AbstractContextManager[None]]
    withdraw: Callable[[str, str], bool]
    detours: Callable[[str], Sequence[Libvirt]]
    notify: Callable[[str, Mapping[str, Any]], None]
    side_by_side: Callable[[Callable[[str], Any], Iterable[str]], dict[str, Any]] = one_by_one
    process: str = ""
