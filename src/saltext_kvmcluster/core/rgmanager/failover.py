"""The failover domains of a cluster.conf."""

from __future__ import annotations

import re
from dataclasses import dataclass

from saltext_kvmcluster.core.rgmanager.elements import Element, is_in
from saltext_kvmcluster.core.rgmanager.nodes import Nodes


@dataclass(frozen=True)
class Domain:
    """A failover domain, and the member that is the home of its guests."""

    part: Element
    best: Element | None
    node: str | None


def domains_of(parts: list[Element], nodes: Nodes) -> dict[str, Domain]:
    """Return the failover domains by name, in lower case: RGManager ignored case."""
    domains: dict[str, Domain] = {}
    for part in parts:
        if part.tag != "failoverdomain" or not is_in(part, "failoverdomains"):
            continue
        name = part.given.get("name", "")
        if name.lower() in domains:
            part.drop(f"{name} is defined twice; the first definition is used")
            continue
        best = _best(part, nodes)
        node = nodes.owner(best.given["name"]) if best else None
        domains[name.lower()] = Domain(part, best, node)
    return domains


def _best(domain: Element, nodes: Nodes) -> Element | None:
    """Return the first of the members with the lowest priority number."""
    ranked = [
        (priority, member)
        for member in members_of(domain)
        if (priority := priority_of(member)) is not None
        and nodes.owner(member.given.get("name", ""))
    ]
    return min(ranked, key=lambda pair: pair[0])[1] if ranked else None


def members_of(domain: Element) -> list[Element]:
    return [part for part in domain.children if part.tag == "failoverdomainnode"]


def priority_of(member: Element) -> int | None:
    """Return a priority as RGManager knew it: 1 to 100, and anything else for none."""
    text = member.given.get("priority", "").strip()
    return int(text) if re.fullmatch("0*([1-9][0-9]?|100)", text) else None
