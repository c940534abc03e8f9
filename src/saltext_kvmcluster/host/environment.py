"""All that a migration and its recovery touch, in one value; what decides never reaches past it."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent import futures
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any, Protocol

from saltext_kvmcluster.core import events, migration, readiness
from saltext_kvmcluster.core.cluster import Cluster
from saltext_kvmcluster.core.errors import WorldError
from saltext_kvmcluster.core.findings import Finding
from saltext_kvmcluster.core.journal import Entry, Kept
from saltext_kvmcluster.core.migration import Move, Plan
from saltext_kvmcluster.core.recovery import Look
from saltext_kvmcluster.host import examiner, files, hypervisor, journal
from saltext_kvmcluster.host.hypervisor import Hypervisor
from saltext_kvmcluster.host.queue import Places
from saltext_kvmcluster.host.ssh import Session


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

    def by_name(self, name: str) -> Look: ...
    def by_uuid(self, uuid: str) -> Look: ...
    def sight(self, uuid: str) -> Look: ...
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
    tell: Callable[[str, Mapping[str, Any]], None]
    side_by_side: Callable[[Callable[[str], Any], Iterable[str]], dict[str, Any]] = one_by_one


@contextlib.contextmanager
def of_this_node(
    cluster: Cluster,
    here: str,
    tell: Callable[[str, Mapping[str, Any]], None],
    within: float | None = None,
) -> Iterator[Environment]:
    """Make the environment of a node, and let its connections go afterwards.

    within
        Seconds that a migration may wait for its place, 0 to refuse it instead; None for as long
        as the pillar lets a migration last.
    """
    if within is None:
        within = cluster.migration.options.timeout
    libvirts = {
        node.id: Hypervisor()
        if node.id == here
        else Hypervisor(migration.connection_uri(cluster.ssh.login, node))
        for node in cluster.nodes.values()
    }
    shells = {
        node.id: Session(None if node.id == here else node.migration)
        for node in cluster.nodes.values()
    }
    journals: dict[str, Journal] = {
        node.id: journal.Journal() if node.id == here else journal.PeersJournal(shells[node.id])
        for node in cluster.nodes.values()
    }
    try:
        yield Environment(
            cluster=cluster,
            here=here,
            libvirt=libvirts.__getitem__,
            journal=journals.__getitem__,
            clock=_Clock(),
            address=hypervisor.address,
            examine=lambda move: _examined(cluster, move, shells, libvirts),
            alone=_Alone(cluster, here, shells),
            place=Places(
                cluster,
                shells,
                libvirts,
                within,
                journals[here].asked_to_cancel,
                lambda data: tell(events.MIGRATION, data),
            ),
            tell=tell,
            side_by_side=_side_by_side,
        )
    finally:
        for libvirt in libvirts.values():
            libvirt.close()
        for shell in shells.values():
            shell.close()


class _Clock:
    """This host's clock."""

    def monotonic(self) -> float:
        return time.monotonic()

    def now(self) -> datetime:
        return datetime.now(timezone.utc)

    def wait(self, call: Call | None, seconds: float) -> None:
        if isinstance(call, futures.Future):
            futures.wait([call], seconds)
        else:
            time.sleep(seconds)


def _examined(
    cluster: Cluster, move: Move, shells: Mapping[str, Session], libvirts: Mapping[str, Hypervisor]
) -> tuple[Finding, ...]:
    """Run the blocking checks and return what they found; WorldError if one forbids the move."""
    world = examiner.look_at_move(cluster, move, shells, libvirts)
    found = [one for one in world.by_uuid.get(move.uuid, []) if one.node == move.source]
    if not found:
        said = world.nodes[move.source].daemon_said or f"it is no longer on {move.source}"
        raise WorldError(f"{move.guest} was not touched, not sent to {move.destination}: {said}")
    findings = readiness.findings(world, found[0], move.destination)
    migration.refuse_if_blocked(move, findings)
    return findings


class _Alone:
    """Refuses a second call for the same guest of a node while the first is at work.

    libvirt's job lock alone would let the second one wait, and act on what it saw before. A peer's
    lock is taken by the login that is open anyway; one that is not root's cannot take it.
    """

    def __init__(self, cluster: Cluster, here: str, shells: Mapping[str, Session]) -> None:
        self._here, self._shells = here, shells
        self._is_root = cluster.ssh.login == "root"
        self._held: set[tuple[str, str]] = set()

    @contextlib.contextmanager
    def __call__(self, move: Move) -> Iterator[None]:
        claim = (move.source, move.uuid)
        if claim in self._held:
            yield
            return
        with contextlib.ExitStack() as stack:
            if move.source == self._here:
                stack.enter_context(_locked(move))
            elif self._is_root:
                stack.enter_context(_locked_there(move, self._shells[move.source]))
            self._held.add(claim)
            stack.callback(self._held.discard, claim)
            yield


@contextlib.contextmanager
def _locked(move: Move) -> Iterator[None]:
    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(files.lock(journal.lock_name(move.uuid), timeout=0))
        except files.Busy:
            raise migration.at_work(move) from None
        yield


@contextlib.contextmanager
def _locked_there(move: Move, shell: Session) -> Iterator[None]:
    """Hold a peer's lock for as long as its shell stays."""
    path = f"{files.RUN}/{journal.lock_name(move.uuid)}.lock"
    took = shell.run(f'command exec 7<>{path} && {{ flock --nonblock 7; echo "code $?"; }}')
    if took.stdout.strip() == "code 1":
        raise migration.at_work(move)
    if took.stdout.strip() != "code 0":
        said = migration.short(took.stderr) or "nothing"
        raise WorldError(f"{move.source}: its lock {path} cannot be taken; it said: {said}")
    try:
        yield
    finally:
        if shell.is_open:
            with contextlib.suppress(WorldError):
                shell.run("exec 7>&-")


def _side_by_side(ask: Callable[[str], Any], nodes: Iterable[str]) -> dict[str, Any]:
    with futures.ThreadPoolExecutor() as pool:
        asked = {node: pool.submit(ask, node) for node in nodes}
        return {node: answer.result() for node, answer in asked.items()}
