"""Collects the facts of this node and its peers for the checks, over the cluster's own ssh."""

from __future__ import annotations

import contextlib
import functools
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any, TypeVar

from saltext_kvmcluster.core.errors import KvmclusterError, WorldError
from saltext_kvmcluster.core.facts import node_report, nodefacts
from saltext_kvmcluster.core.facts.nodefacts import NodeFacts
from saltext_kvmcluster.core.guest import domainxml
from saltext_kvmcluster.core.guest.domainxml import Guest
from saltext_kvmcluster.core.migration.migration import Move
from saltext_kvmcluster.core.pillar.clusters import Cluster, Node
from saltext_kvmcluster.core.readiness import examination, follow_up
from saltext_kvmcluster.core.readiness.checks.base import World
from saltext_kvmcluster.core.readiness.report import Readiness
from saltext_kvmcluster.core.trust.identity import Identities
from saltext_kvmcluster.host import collector, node_access, tokens
from saltext_kvmcluster.host.hypervisor import Hypervisor
from saltext_kvmcluster.host.node_access import NodeAccess
from saltext_kvmcluster.host.ssh import Session

WORKERS = 32

_T = TypeVar("_T")


def examine(
    cluster: Cluster,
    here: str,
    guest: str | None = None,
    destination: str | None = None,
    identities: Identities | None = None,
) -> Readiness:
    """Say which guest of this node can go where.

    guest
        The guest in question; None for all.
    destination
        The one peer in question, the only one that is asked; None for all.
    identities
        What the mine holds of the members; None where that is not known.

    InputError if there is no such guest here.
    """
    peers = cluster.peers(here) if destination is None else (cluster.node(destination),)
    world = observe(cluster, here, peers, guest, identities)
    return examination.examine(world, guest, here, destination)


def placeable(
    cluster: Cluster, here: str, identities: Identities | None
) -> tuple[World, Readiness]:
    """Return this node and all its peers as observed, and which guest of it can go where."""
    world = observe(cluster, here, cluster.peers(here), None, identities)
    return world, examination.examine(world, None, here, None)


def observe(
    cluster: Cluster,
    here: str,
    peers: Sequence[Node],
    guest: str | None = None,
    identities: Identities | None = None,
) -> World:
    """Return the facts of this node and of some peers, asked in parallel, in two rounds.

    The second round asks about what guests need, which is known only after the first. Parameters
    as for ``examine``.
    """
    asked: dict[str, Node | None] = {here: None, **{peer.id: peer for peer in peers}}

    def ask(node: str, peer: Node | None) -> object:
        if peer is None:
            targets = {one: (one.migration,) for one in peers}
            return collector.gather(cluster, node, identities, targets)
        return collector.gather_peer(cluster, peer)

    found = _side_by_side(
        asked,
        lambda node, peer: replace(_timed(node, lambda: ask(node, peer)), by_peer=node != here),
    )
    world = World(cluster, {node: found[node] for node in cluster.nodes if node in found})
    questions = follow_up.questions(world, guest, here)
    return follow_up.answered(
        world, _side_by_side(questions, functools.partial(_asked, cluster, here))
    )


def observe_move(
    cluster: Cluster, move: Move, shells: Mapping[str, Session], libvirts: Mapping[str, Hypervisor]
) -> World:
    """Return the facts of a migration's two nodes that its blocking checks need, in two rounds.

    shells, libvirts
        Of both nodes. They are opened if they are not, and stay open.
    """
    here, there = move.source, move.destination
    accesses = {node: NodeAccess(shells[node].run_all, libvirts[node]) for node in (here, there)}
    libvirts[there].dial()
    with ThreadPoolExecutor() as pool:
        login = pool.submit(shells[there].login)
        guest = _definition(libvirts[here], move.uuid)

        def answer() -> object:
            login.result()
            shells[there].refuse_unless_open()
            return collector.gather_destination(move, accesses[there], guest)

        reported = pool.submit(_timed, there, answer)
        own = _timed(
            here, lambda: collector.gather_source(cluster, move, accesses[here], guest, login)
        )
        found = {here: own, there: replace(reported.result(), by_peer=True)}
    world = World(cluster, {node: found[node] for node in cluster.nodes if node in found})
    try:
        asked = follow_up.questions(world, move.guest, here, there)
        answers = _side_by_side(
            asked, lambda node, question: _answer(question, accesses[node], move)
        )
    finally:
        tokens.remove_tokens(own.written, move)
    return _with_refusal(follow_up.answered(world, answers), move, libvirts)


def _with_refusal(world: World, move: Move, libvirts: Mapping[str, Hypervisor]) -> World:
    """Add what a destination with an older libvirt than the source's says of the definition.

    libvirt would say so once it has begun, and then mostly reports the end of its connection.
    """
    own, there = (world.nodes[node].daemon for node in (move.source, move.destination))
    if own is None or there is None or there.libvirt >= own.libvirt:
        return world
    try:
        definition = libvirts[move.source].migratable(move.uuid)
        why = libvirts[move.destination].definition_issue(definition)
    except WorldError:
        return world
    daemon = replace(there, refuses={move.uuid: why} if why else {})
    node = replace(world.nodes[move.destination], daemon=daemon)
    return World(world.cluster, {**world.nodes, move.destination: node})


def _definition(hypervisor: Hypervisor, uuid: str) -> Guest | None:
    """Return the definition of a guest, None if it cannot be had: the checks report why."""
    try:
        return domainxml.parse(hypervisor.described(uuid))
    except KvmclusterError:
        return None


def _timed(node: str, ask: Callable[[], object]) -> NodeFacts:
    """Ask a node for its facts; no response is a fact too."""
    asked_at = time.time()
    try:
        sent = ask()
    except WorldError as error:
        return nodefacts.silent(node, str(error))
    return node_report.parse(node, sent, asked_at, time.time())


def _asked(cluster: Cluster, here: str, node: str, question: Mapping[str, Any]) -> object:
    access = (
        node_access.this_host()
        if node == here
        else node_access.peer_host(cluster, cluster.node(node))
    )
    with contextlib.closing(access):
        return _answer(question, access)


def _answer(question: Mapping[str, Any], access: NodeAccess, move: Move | None = None) -> object:
    try:
        return collector.answer(question, access, move)
    except WorldError as error:
        return str(error)


def _side_by_side(asked: Mapping[str, Any], ask: Callable[[str, Any], _T]) -> dict[str, _T]:
    with ThreadPoolExecutor(WORKERS) as pool:
        futures = {node: pool.submit(ask, node, what) for node, what in asked.items()}
        return {node: future.result() for node, future in futures.items()}
