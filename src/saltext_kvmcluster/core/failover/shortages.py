"""Does all still fit if nodes are lost? Which guests would find no place on the others.

Every set of so many nodes is tried, each by a plan of its own.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from saltext_kvmcluster.core import validate
from saltext_kvmcluster.core.errors import InputError
from saltext_kvmcluster.core.facts.nodefacts import NodeFacts
from saltext_kvmcluster.core.failover.eligibility import Eligibility
from saltext_kvmcluster.core.failover.survey import Shortage, Survey
from saltext_kvmcluster.core.pillar.clusters import MOST_CASES, Cluster
from saltext_kvmcluster.core.readiness.checks.base import World
from saltext_kvmcluster.core.text import MAX_NAMES, listed, printable


@dataclass(frozen=True)
class Report:
    """Which guests would find no place if any so many nodes were lost.

    ``cases`` are the sets of nodes that were tried, ``guests`` the active guests that have been
    counted, ``silent`` says why a node did not tell its guests.
    """

    cluster: str
    nodes: int
    cases: int
    guests: int
    shortages: tuple[Shortage, ...]
    silent: Mapping[str, str]

    @property
    def ok(self) -> bool:
        """Whether all guests find a place, whichever nodes are lost."""
        return not (self.shortages or self.silent)

    def to_dict(self) -> dict[str, Any]:
        """Return it as plain data."""
        return {
            "kind": "capacity",
            "cluster": self.cluster,
            "ok": self.ok,
            "nodes": self.nodes,
            "cases": self.cases,
            "guests": self.guests,
            "shortages": [one.to_dict() for one in self.shortages],
            "silent": dict(self.silent),
        }


def count(cluster: Cluster, value: object) -> int:
    """Return how many nodes may be lost; InputError if that is no number, or too many to try."""
    most = len(cluster.nodes) - 1
    if most < 1:
        raise InputError(f"cluster {cluster.name} has one node: nothing can start elsewhere")
    number = validate.number({"nodes": value}, "nodes", "", (1, most), 1)
    cases = math.comb(len(cluster.nodes), number)
    if cases > MOST_CASES:
        raise InputError(
            f"nodes: {number} of {len(cluster.nodes)} nodes can be lost in {cases} ways, of which"
            f" at most {MOST_CASES} are tried; want a smaller number"
        )
    return number


def report(world: World, number: int) -> Report:
    """Return which guests would find no place, by all checks of a start.

    world
        Facts of all nodes, and what they answered to the questions about their guests.
    number
        How many nodes are lost at once; see ``count``.
    """
    eligible = Eligibility(world)
    survey = Survey(world, eligible.nodes, eligible.against)
    found, cases = survey.shortages(number)
    silent = {
        node: facts.detail or facts.daemon_detail or "it did not report its guests"
        for node, facts in world.nodes.items()
        if facts.guests is None
    }
    guests = len(survey.victims)
    return Report(world.cluster.name, number, cases, guests, found, silent)


def sentences(cluster: Cluster, nodes: Mapping[str, NodeFacts]) -> list[str]:
    """Return a problem for each node whose loss leaves guests of the list without room.

    By memory, hugepages and groups alone, as every node reports them for the status: a guest that
    finds no room by these finds none by all checks. Cordoned nodes count as open, since they are
    meant to be open again. Nothing is said while a node's available memory is not known.
    """
    number = min(cluster.guests.spare_nodes, len(nodes) - 1)
    by_case: dict[tuple[str, ...], list[str]] = defaultdict(list)
    for one in _by_room(cluster, nodes, number):
        if one.fits and one.guest in cluster.guests.list:
            by_case[one.lost].append(printable(one.guest))
    command = f"salt-run kvmcluster.capacity{f' nodes={number}' if number > 1 else ''}"
    lines = [
        f"if {' and '.join(lost)} {'is' if len(lost) == 1 else 'are'} lost,"
        f" {listed(guests, MAX_NAMES)} {'finds' if len(guests) == 1 else 'find'} no place on the"
        f" others: {command}"
        for lost, guests in by_case.items()
    ]
    rest = len(lines) - MAX_NAMES
    more = [f"{rest} more nodes, or sets of them, would leave guests without a place: {command}"]
    return lines[:MAX_NAMES] + (more if rest > 0 else [])


def after_one(cluster: Cluster, nodes: Mapping[str, NodeFacts]) -> dict[str, int] | None:
    """Return by node how many guests, listed or not, would find no room if it were lost.

    As ``sentences``; None where that is not known: a node does not tell its guests or its memory.
    """
    if any(one.guests is None or one.free_kib is None for one in nodes.values()):
        return None
    found = Counter(one.node for one in _by_room(cluster, nodes, 1) if one.fits)
    return {node: found[node] for node in nodes} if len(nodes) > 1 else None


def _by_room(cluster: Cluster, nodes: Mapping[str, NodeFacts], number: int) -> tuple[Shortage, ...]:
    """Return the guests that find no room if so many nodes are lost; none where not known."""
    if not 1 <= number < len(nodes) or math.comb(len(nodes), number) > MOST_CASES:
        return ()
    if any(one.daemon and one.free_kib is None for one in nodes.values()):
        return ()
    answering = sum(1 << place for place, one in enumerate(nodes.values()) if one.daemon)
    survey = Survey(World(cluster, nodes), lambda guest: answering, lambda guest: [])
    return survey.shortages(number)[0]
