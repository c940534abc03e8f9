"""The environment of this node: libvirt, journals, locks and the clock as they really are."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent import futures
from datetime import datetime, timezone
from typing import Any

from saltext_kvmcluster.core.errors import WorldError
from saltext_kvmcluster.core.findings import Finding
from saltext_kvmcluster.core.migration import migration, plans
from saltext_kvmcluster.core.migration.migration import Move
from saltext_kvmcluster.core.pillar.clusters import Cluster, Node
from saltext_kvmcluster.core.readiness import move_findings
from saltext_kvmcluster.core.text import one_line
from saltext_kvmcluster.core.trust import logins
from saltext_kvmcluster.engine import lifecycle
from saltext_kvmcluster.engine.environment import Call, Environment, Journal
from saltext_kvmcluster.host import cordons, examiner, files, guard_facts, journal, resolver, ssh
from saltext_kvmcluster.host.claims import Claim
from saltext_kvmcluster.host.hypervisor import Hypervisor
from saltext_kvmcluster.host.ssh import Session
from saltext_kvmcluster.host.tickets import Tickets

# Seconds for the probes of a node that is declared offline: a login, an echo request.
PROBE_TIME = 5.0
ECHO_TIME = 2.0


@contextlib.contextmanager
def environment(
    cluster: Cluster,
    here: str,
    notify: Callable[[str, Mapping[str, Any]], None] = lambda kind, data: None,
) -> Iterator[Environment]:
    """Make the environment of this node, and close its connections afterwards.

    notify
        Takes an event's kind and data. Default: events go nowhere.
    """
    libvirts = {
        node.id: Hypervisor()
        if node.id == here
        else Hypervisor(plans.connection_uri(cluster.ssh.login, node))
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
    tickets = {node: Tickets(shell) for node, shell in shells.items()}
    try:
        yield Environment(
            cluster=cluster,
            here=here,
            libvirt=libvirts.__getitem__,
            journal=journals.__getitem__,
            tickets=tickets.__getitem__,
            clock=Clock(),
            responds=lambda node: _response(cluster.nodes[node]),
            address=resolver.address,
            claim=lambda node, uuid, seconds: Claim(cluster, here, node, uuid, seconds),
            cordon=cordons.current,
            exists=files.exists,
            read=lambda path: files.read(path).text or "",
            unguarded=guard_facts.unguarded,
            examine=lambda move: _examined(cluster, move, shells, libvirts),
            lock=_Locks(cluster, here, shells),
            notify=notify,
            side_by_side=_side_by_side,
        )
    finally:
        for libvirt in libvirts.values():
            libvirt.close()
        for shell in shells.values():
            shell.close()


def freeze(here: str, guest: str, reason: str | None) -> dict[str, Any]:
    """Freeze a guest of this node, or unfreeze it, as ``lifecycle.freeze``."""
    with contextlib.closing(Hypervisor()) as own:
        return lifecycle.freeze(own, Clock(), here, guest, reason)


class Clock:
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


def _response(node: Node) -> str:
    """Return how a node responds under its names, so on any network; empty if it does not."""

    def of(name: str) -> str:
        return logins.response(name, ssh.probe(name, PROBE_TIME), ssh.echoes(name, ECHO_TIME))

    found = _side_by_side(of, node.names)
    return ", ".join(filter(None, found.values()))


def _examined(
    cluster: Cluster, move: Move, shells: Mapping[str, Session], libvirts: Mapping[str, Hypervisor]
) -> tuple[Finding, ...]:
    """Run the blocking checks and return what they found; WorldError if one forbids the move."""
    world = examiner.observe_move(cluster, move, shells, libvirts)
    found = [one for one in world.by_uuid.get(move.uuid, []) if one.node == move.source]
    if not found:
        detail = world.nodes[move.source].daemon_detail or f"it is no longer on {move.source}"
        raise WorldError(f"{move.guest} was not migrated to {move.destination}: {detail}")
    findings = move_findings.findings(world, found[0], move.destination)
    migration.refuse_if_blocked(move, findings)
    return findings


class _Locks:
    """Refuses a second call for the same guest of a node while the first is at work.

    libvirt's job lock alone would let the second one wait, and act on an old observation. A peer's
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
        detail = one_line(took.stderr) or "no output"
        raise WorldError(f"{move.source}: its lock {path} cannot be taken: {detail}")
    try:
        yield
    finally:
        if shell.is_open:
            with contextlib.suppress(WorldError):
                shell.run("exec 7>&-")


def _side_by_side(ask: Callable[[str], Any], nodes: Iterable[str]) -> dict[str, Any]:
    wanted = list(nodes)
    with futures.ThreadPoolExecutor(max_workers=max(1, len(wanted))) as pool:
        asked = {node: pool.submit(ask, node) for node in wanted}
        return {node: answer.result() for node, answer in asked.items()}
