"""The environment of this node: libvirt, journals, locks and the clock as they really are."""

from __future__ import annotations

import contextlib
import itertools
import os
import shlex
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent import futures
from datetime import datetime, timezone
from typing import Any

from saltext_kvmcluster.core import holders
from saltext_kvmcluster.core.errors import WorldError
from saltext_kvmcluster.core.facts import parsers, starters
from saltext_kvmcluster.core.facts.parsers import CommandOutput
from saltext_kvmcluster.core.facts.starters import Starters
from saltext_kvmcluster.core.findings import Finding
from saltext_kvmcluster.core.holders import Process
from saltext_kvmcluster.core.migration import migration, plans
from saltext_kvmcluster.core.migration.migration import Move
from saltext_kvmcluster.core.pillar.clusters import Cluster, Node
from saltext_kvmcluster.core.readiness import move_findings
from saltext_kvmcluster.core.text import one_line
from saltext_kvmcluster.core.trust import logins
from saltext_kvmcluster.engine.environment import Call, Environment, Journal
from saltext_kvmcluster.host import (
    bootid,
    cordons,
    departing,
    examiner,
    files,
    guard_facts,
    journal,
    keeper,
    leaving,
    libvirt_events,
    locks,
    pacemaker_control,
    pacemaker_view,
    resolver,
    ssh,
)
from saltext_kvmcluster.host.claims import Claim
from saltext_kvmcluster.host.hypervisor import Hypervisor
from saltext_kvmcluster.host.ssh import Session
from saltext_kvmcluster.host.tickets import Tickets

# Takes the lock of the file $1 for a command on node $2, and signs it as core/holders.py describes;
# or prints what holds it: the line in the file, the node's uptime, its command line and stat file.
_LOCK = r"""
command exec 7<>"$1" && if flock --nonblock 7; then
  read -r stat </proc/$$/stat
  read -r up idle </proc/uptime
  requester=$2
  file=$1
  set -- ${stat##*) }
  shift 19
  echo "$$ $1 $up $requester" >"$file"
  echo "code 0"
else
  echo "code 1"
  pid= text=
  [ -f "$1" ] && text=$(head -c 300 "$1" | head -n 1) && pid=${text%% *}
  case $pid in '' | *[!0-9]*) pid=0 ;; esac
  echo "$text"
  cat /proc/uptime
  [ -d /proc/$pid ] && tr '\0\n' '  ' </proc/$pid/cmdline | head -c 300
  echo
  [ -d /proc/$pid ] && cat /proc/$pid/stat
fi
"""
# Seconds for the probes of a node that is declared offline: a login, an echo request.
PROBE_TIME = 5.0
ECHO_TIME = 2.0


@contextlib.contextmanager
def environment(
    cluster: Cluster,
    here: str,
    notify: Callable[[str, Mapping[str, Any]], None] = lambda kind, data: None,
    pillar: Mapping[str, Any] | None = None,
) -> Iterator[Environment]:
    """Make the environment of this node, and close its connections afterwards.

    notify
        Takes an event's kind and data. Default: events go nowhere.
    pillar
        The pillar's ``kvmcluster`` part, for a process that outlives this one. Default: there is
        none.
    """
    libvirts = {
        node.id: Hypervisor()
        if node.id == here
        else Hypervisor(plans.connection_uri(cluster.ssh.login, node))
        for node in cluster.nodes.values()
    }
    detours = {
        node.id: [
            Hypervisor(plans.connection_uri(cluster.ssh.login, node, name))
            for name in node.names
            if name != node.migration
        ]
        for node in cluster.nodes.values()
    }
    shells = {
        node.id: Session(None if node.id == here else node.migration, cluster.ssh.becomes_root)
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
            starters=lambda node: _starters(shells[node]),
            pacemaker=lambda node: pacemaker_view.observed(shells[node]),
            control=lambda node: pacemaker_control.Control(shells[node]),
            fencing=lambda node: pacemaker_view.fenced(shells[node]),
            examine=lambda move: _examined(cluster, move, shells, libvirts),
            lock=_Locks(here, shells),
            leaving=leaving.leaving,
            reboots=libvirt_events.reboots,
            keeper=lambda move: keeper.keeper(here, pillar, move),
            withdraw=departing.withdraw,
            detours=detours.__getitem__,
            notify=notify,
            side_by_side=_side_by_side,
            process=bootid.process(os.getpid()),
        )
    finally:
        for libvirt in (*libvirts.values(), *itertools.chain(*detours.values())):
            libvirt.close()
        for shell in shells.values():
            shell.close()


class Clock:
    """This host's clock."""

    def monotonic(self) -> float:
        return time.monotonic()

    def now(self) -> datetime:
        return datetime.now(timezone.utc)

    def wait(self, call: Call | Sequence[Call] | None, seconds: float) -> None:
        calls = call if isinstance(call, Sequence) else (call,)
        known = [one for one in calls if isinstance(one, futures.Future)]
        if known:
            futures.wait(known, seconds, futures.FIRST_COMPLETED)
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


def _starters(shell: Session) -> Starters | None:
    asked = {"settings": parsers.COMMANDS["settings"], **starters.COMMANDS}
    try:
        found = shell.run_all(asked)
    except WorldError:
        return None
    outputs = {key: CommandOutput(one.code, one.stdout, one.stderr) for key, one in found.items()}
    return starters.parse(outputs.__getitem__, parsers.settings(outputs["settings"]))


class _Locks:
    """Refuses a second call for the same guest of a node while the first is at work.

    libvirt's job lock alone would let the second one wait, and act on an old observation. A peer's
    lock is taken by the login that is open anyway; it takes root.
    """

    def __init__(self, here: str, shells: Mapping[str, Session]) -> None:
        self._here, self._shells = here, shells
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
            else:
                shell = self._shells[move.source]
                stack.enter_context(_locked_there(move, shell, self._here))
            self._held.add(claim)
            stack.callback(self._held.discard, claim)
            yield


@contextlib.contextmanager
def _locked(move: Move) -> Iterator[None]:
    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(locks.lock(journal.lock_name(move.uuid), timeout=0))
        except locks.Busy as busy:
            holder = locks.holder(move.source, busy.path, busy.text)
            raise migration.at_work(move, holder) from None
        yield


@contextlib.contextmanager
def _locked_there(move: Move, shell: Session, here: str) -> Iterator[None]:
    """Hold a peer's lock for as long as its shell stays."""
    path = f"{locks.RUN}/{journal.lock_name(move.uuid)}.lock"
    took = shell.run(f"{shlex.join(['set', '--', path, here])}\n{_LOCK}")
    code, _, rest = took.stdout.partition("\n")
    if code == "code 1":
        text, uptime, command, stat = [*rest.split("\n", 3), "", "", "", ""][:4]
        found = Process(stat, command)
        raise migration.at_work(move, holders.holder(move.source, path, text, found, uptime))
    if code != "code 0":
        detail = one_line(took.stderr) or "no output"
        raise WorldError(f"{move.source}: its lock {path} cannot be taken: {detail}")
    try:
        yield
    finally:
        if shell.is_open:
            with contextlib.suppress(WorldError):
                shell.run(f": >{path}; exec 7>&-")


def _side_by_side(ask: Callable[[str], Any], nodes: Iterable[str]) -> dict[str, Any]:
    wanted = list(nodes)
    with futures.ThreadPoolExecutor(max_workers=max(1, len(wanted))) as pool:
        asked = {node: pool.submit(ask, node) for node in wanted}
        return {node: answer.result() for node, answer in asked.items()}
