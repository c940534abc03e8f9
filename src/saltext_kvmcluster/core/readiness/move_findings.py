"""What the blocking checks find for one migration, before it begins."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from saltext_kvmcluster.core.facts.nodefacts import GuestFacts, NodeFacts
from saltext_kvmcluster.core.findings import BLOCK, OK, PROBLEM, WARN, Finding, Issue
from saltext_kvmcluster.core.migration.migration import Move
from saltext_kvmcluster.core.readiness.checks.base import (
    DESTINATION,
    GUEST,
    NODE,
    PAIR,
    SOURCE,
    Check,
    World,
)
from saltext_kvmcluster.core.readiness.checks.node import MINION, OUT_OF_SIGHT, restart_minion
from saltext_kvmcluster.core.readiness.checks.registry import REGISTRY
from saltext_kvmcluster.core.readiness.report import MAX_SENTENCE
from saltext_kvmcluster.core.text import listed, printable


def findings(world: World, guest: GuestFacts, destination: str) -> tuple[Finding, ...]:
    """Return what the blocking checks, and those of a move, find for one migration."""
    source, there = world.nodes[guest.node], world.nodes[destination]
    return tuple(
        finding
        for check in REGISTRY
        if check.severity == BLOCK or check.on_move
        for finding in _of_move(world, check, guest, source, there)
    )


def of_silent_minion(move: Move, silent: str, answered: bool = False) -> list[Finding]:
    """Return the warning that a guest moves to where the master does not see it.

    silent
        Why the destination's minion did not report the guest to the master, empty if it did.
    answered
        Whether it answered, with an error: then a restart of it is no remedy.
    """
    if not silent:
        return []
    what = "answered with an error" if answered else "does not answer"
    sentence = f"{move.destination}: its minion {what} ({silent}): {OUT_OF_SIGHT}"
    remedy = "salt-run kvmcluster.status" if answered else restart_minion(move.destination)
    return [
        Finding(
            MINION,
            PROBLEM,
            sentence,
            remedy,
            WARN,
            move.guest,
            move.source,
            move.destination,
        )
    ]


def with_warnings(done: Mapping[str, Any], warnings: Sequence[Finding]) -> dict[str, Any]:
    """Return what a node reported of a migration with the master's warnings.

    They replace what the node found by the same checks.
    """
    if not warnings:
        return dict(done)
    ids, reported = {warning.id for warning in warnings}, done.get("findings")
    kept = [
        finding
        for finding in (reported if isinstance(reported, list) else [])
        if isinstance(finding, Mapping) and finding.get("id") not in ids
    ]
    return {**done, "findings": [*(warning.to_dict() for warning in warnings), *kept]}


def _of_move(
    world: World, check: Check, guest: GuestFacts, source: NodeFacts, there: NodeFacts
) -> Iterator[Finding]:
    """Yield the findings of one check for one migration: its issues, or that it is OK."""
    subject = {"guest": guest.name, "source": source.node, "destination": there.node}
    issues: list[tuple[str, Issue]] = []
    if check.scope == NODE:
        roles = {SOURCE: source, DESTINATION: there}
        nodes = [roles[role] for role in check.role if not (check.own and roles[role].by_peer)]
        if not nodes:
            return
        for node in nodes:
            issues += [(f"{node.node}: ", found) for found in check.find(world, node)]
    elif check.scope == PAIR:
        issues += [("", found) for found in check.find(world, source, there)]
    elif check.scope == GUEST:
        issues += [("", found) for found in check.find(world, guest)]
    else:
        asked, offered = check.asks(world, guest), check.offers(world, there)
        issues += [("", found) for found in check.judged(world, asked, offered)]
    issues = [item for item in issues if item[1].destination in ("", there.node)]
    if not issues:
        yield Finding(
            check.id,
            OK,
            check.title + _scope(world, check, source, there),
            severity=check.severity,
            **subject,
        )
    for prefix, found in issues:
        yield Finding(
            check.id,
            found.outcome,
            prefix + printable(found.sentence[:MAX_SENTENCE]),
            printable((found.remedy or check.remedy)[:MAX_SENTENCE]),
            found.severity or check.severity,
            **subject,
        )


def _scope(world: World, check: Check, source: NodeFacts, there: NodeFacts) -> str:
    """Return which nodes, or names, an OK covers where not all were asked."""
    observed = source.peers.get(there.node)
    if observed and observed.names and check.id in ("ssh.reach", "ssh.config"):
        return f" (of {there.node}, by its migration name)"
    if check.scope != GUEST or len(world.nodes) == len(world.cluster.nodes):
        return ""
    return f" (of {listed(world.nodes)} only)"
