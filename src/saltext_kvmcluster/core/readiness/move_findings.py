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
from saltext_kvmcluster.core.readiness.report import WORDS
from saltext_kvmcluster.core.text import listed, printable


def findings(world: World, guest: GuestFacts, destination: str) -> tuple[Finding, ...]:
    """Return what each blocking check says of one move, in the registry's order, OK or not."""
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
    """Yield what one check says of one move: its troubles, or that it is OK."""
    subject = {"guest": guest.name, "source": source.node, "destination": there.node}
    troubles: list[tuple[str, Issue]] = []
    if check.scope == NODE:
        roles = {SOURCE: source, DESTINATION: there}
        nodes = [roles[role] for role in check.role if not (check.own and roles[role].by_peer)]
        if not nodes:
            return
        for node in nodes:
            troubles += [(f"{node.node}: ", found) for found in check.find(world, node)]
    elif check.scope == PAIR:
        troubles += [("", found) for found in check.find(world, source, there)]
    elif check.scope == GUEST:
        troubles += [("", found) for found in check.find(world, guest)]
    else:
        asked, offered = check.asks(world, guest), check.offers(world, there)
        troubles += [("", found) for found in check.judged(world, asked, offered)]
    troubles = [item for item in troubles if item[1].destination in ("", there.node)]
    if not troubles:
        yield Finding(
            check.id,
            OK,
            check.says + _limits(world, check, source, there),
            severity=check.severity,
            **subject,
        )
    for prefix, found in troubles:
        yield Finding(
            check.id,
            found.outcome,
            prefix + printable(found.sentence[:WORDS]),
            printable((found.remedy or check.remedy)[:WORDS]),
            found.severity or check.severity,
            **subject,
        )


def _limits(world: World, check: Check, source: NodeFacts, there: NodeFacts) -> str:
    """Say of what nodes a guest's check speaks, and by what names, where not all were asked."""
    observed = source.peers.get(there.node)
    if observed and observed.names and check.id in ("ssh.reach", "ssh.config"):
        return f" (of {there.node}, as a migration dials it)"
    if check.scope != GUEST or len(world.nodes) == len(world.cluster.nodes):
        return ""
    return f" (of {listed(world.nodes)}, which were asked)"
