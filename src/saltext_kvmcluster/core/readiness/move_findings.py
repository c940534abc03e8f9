"""What the blocking checks find for one migration, before it begins."""

from __future__ import annotations

from collections.abc import Iterator

from saltext_kvmcluster.core.facts.nodefacts import GuestFacts, NodeFacts
from saltext_kvmcluster.core.findings import BLOCK, OK, Finding, Issue
from saltext_kvmcluster.core.readiness.checks.base import (
    DESTINATION,
    GUEST,
    NODE,
    PAIR,
    SOURCE,
    Check,
    World,
)
from saltext_kvmcluster.core.readiness.checks.registry import REGISTRY
from saltext_kvmcluster.core.readiness.report import MAX_SENTENCE
from saltext_kvmcluster.core.text import listed, printable


def findings(world: World, guest: GuestFacts, destination: str) -> tuple[Finding, ...]:
    """Return what each blocking check finds for one migration, in the registry's order."""
    source, there = world.nodes[guest.node], world.nodes[destination]
    return tuple(
        finding
        for check in REGISTRY
        if check.severity == BLOCK
        for finding in _of_move(world, check, guest, source, there)
    )


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
