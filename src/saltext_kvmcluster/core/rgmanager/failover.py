"""The failover domains of a cluster.conf: on which nodes their guests run, the best ones first."""

from __future__ import annotations

import re
from dataclasses import dataclass

from saltext_kvmcluster.core.rgmanager.elements import Element, is_in
from saltext_kvmcluster.core.rgmanager.fates import (
    DOMAIN_FLAGS,
    SAME,
    Fate,
    is_set,
    is_yes,
)
from saltext_kvmcluster.core.rgmanager.nodes import Nodes
from saltext_kvmcluster.core.rgmanager.refusals import Pillar

_BEFORE_ALL, _AFTER_ALL = 0, 101
_UNRANKED = {
    _BEFORE_ALL: "RGManager took a node without a priority of 1 to 100 for the best one",
    _AFTER_ALL: "with central_processing, RGManager took a node without a priority of 1 to 100 for"
    " the last one",
}


@dataclass(frozen=True)
class Domain:
    """A failover domain.

    ``tiers``: its nodes, equally good ones together, the best ones first. ``unranked``: where nodes
    without a valid priority are among the others.
    """

    part: Element
    tiers: tuple[tuple[str, ...], ...]
    unranked: int

    @property
    def ordered(self) -> bool:
        """Whether the priorities of its nodes count."""
        return is_set(self.part.given.get("ordered"))

    @property
    def restricted(self) -> bool:
        """Whether its guests may run on none but its nodes."""
        return is_set(self.part.given.get("restricted"))

    @property
    def prefers(self) -> bool:
        """Whether its guests are better on some nodes than on others on which they may run."""
        return len(self.tiers) > 1 or (bool(self.tiers) and not self.restricted)

    @property
    def fails_back(self) -> bool:
        """Whether a guest goes back to a better node."""
        return self.prefers and not is_set(self.part.given.get("nofailback"))

    def placement(self) -> Pillar:
        """Return the part of a guest's pillar that places it as the domain did."""
        body: Pillar = {}
        if self.prefers:
            body["prefer"] = [[*tier] if len(tier) > 1 else tier[0] for tier in self.tiers]
        if self.tiers and self.restricted:
            body["only"] = [node for tier in self.tiers for node in tier]
        return body


def domains_of(parts: list[Element], nodes: Nodes) -> dict[str, Domain]:
    """Return the failover domains by name, in lower case: RGManager ignored case."""
    central = any(
        is_yes(part.given.get("central_processing")) for part in parts if part.tag == "rm"
    )
    unranked = _AFTER_ALL if central else _BEFORE_ALL
    domains: dict[str, Domain] = {}
    for part in parts:
        if part.tag != "failoverdomain" or not is_in(part, "failoverdomains"):
            continue
        name = part.given.get("name", "")
        if name.lower() in domains:
            part.drop(f"{name} is defined twice; the first definition is used")
        else:
            domains[name.lower()] = Domain(part, _tiers(part, nodes, unranked), unranked)
    return domains


def _tiers(part: Element, nodes: Nodes, unranked: int) -> tuple[tuple[str, ...], ...]:
    ordered = is_set(part.given.get("ordered"))
    ranks: dict[str, int] = {}
    for member in _members(part):
        if node := nodes.owner(member.given.get("name", "")):
            ranks.setdefault(node, (_priority(member) or unranked) if ordered else unranked)
    return tuple(
        tuple(node for node in ranks if ranks[node] == rank) for rank in sorted({*ranks.values()})
    )


def use(domain: Domain, nodes: Nodes) -> None:
    """Import the elements of a failover domain: guests in it have its nodes in their ``ha``."""
    part = domain.part
    if part.imported:
        return
    part.imported = True
    part.take("name")
    for flag in DOMAIN_FLAGS:
        if is_set(part.given.get(flag)):
            part.take(flag)
    known: set[str] = set()
    for member in _members(part):
        node = nodes.owner(member.given.get("name", ""))
        if node is None or node in known:
            member.drop("it is there twice" if node else "it is no imported node")
            continue
        known.add(node)
        member.imported = True
        member.take("name")
        _use_priority(domain, member)


def _use_priority(domain: Domain, member: Element) -> None:
    if not domain.ordered:
        return
    if _priority(member):
        member.take("priority")
    else:
        why = _UNRANKED[domain.unranked]
        member.remark("priority", member.given.get("priority"), Fate(SAME, why))


def _members(part: Element) -> list[Element]:
    return [child for child in part.children if child.tag == "failoverdomainnode"]


def _priority(member: Element) -> int | None:
    """Return a priority as RGManager knew it: 1 to 100, and anything else for none."""
    text = member.given.get("priority", "").strip()
    return int(text) if re.fullmatch("0*([1-9][0-9]?|100)", text) else None
