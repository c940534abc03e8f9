"""RGManager's decisions about where a guest runs, as its code took them (fo_domain.c, groups.c).

Without central_processing: each node asks by itself how good it is for a guest. All nodes that are
best may start one that runs nowhere, and the first of them does.
"""

import itertools
import re
from dataclasses import dataclass

from lxml import etree

ILLEGAL, GOOD, BETTER, BEST = range(4)


def number(text):
    """Return what C's atoi makes of a text."""
    found = re.match(r"\s*[+-]?[0-9]+", text or "")
    return int(found.group()) if found else 0


def priority(member, ordered):
    found = number(member.get("priority")) if ordered else 0
    return found if 0 < found <= 100 else 0


@dataclass(frozen=True)
class Domain:
    """A failover domain; ``priorities``: of its members by name."""

    priorities: dict
    ordered: bool
    restricted: bool
    nofailback: bool


class RgManager:
    """What a cluster.conf makes RGManager do."""

    def __init__(self, text):
        root = etree.fromstring(text)
        self.nodes = [node.get("name") for node in root.iterfind("clusternodes/clusternode")]
        self.guests = {vm.get("name"): vm for vm in root.iterfind("rm/vm")}
        self.domains = {}
        for part in root.iterfind("rm/failoverdomains/failoverdomain"):
            ordered = number(part.get("ordered")) != 0
            self.domains[part.get("name").lower()] = Domain(
                {
                    member.get("name"): priority(member, ordered)
                    for member in part.iterfind("failoverdomainnode")
                },
                ordered,
                number(part.get("restricted")) != 0,
                number(part.get("nofailback")) != 0,
            )

    def domain(self, guest):
        return self.domains.get((self.guests[guest].get("domain") or "").lower())

    def exclusive(self, guest):
        value = self.guests[guest].get("exclusive") or ""
        return value == "yes" or number(value) > 0

    def fitness(self, guest, node, online, owner):
        """Return how good a node is for a guest, whom ``owner`` runs (None: nobody)."""
        domain = self.domain(guest)
        if node not in online:
            return ILLEGAL
        if domain is None:
            return BEST
        present = [rank for name, rank in domain.priorities.items() if name in online]
        if node not in domain.priorities:
            return ILLEGAL if domain.restricted else GOOD if present else BEST
        settled = domain.nofailback and owner in online
        if domain.priorities[node] > min(present):
            return BEST if not domain.ordered or (settled and owner == node) else BETTER
        return BETTER if settled and owner != node else BEST

    def starts(self, guest, online):
        """Return the nodes of which one starts a guest that runs nowhere."""
        return {node for node in online if self.fitness(guest, node, online, None) == BEST}

    def after_return(self, guest, node, online, owner):
        """Return where a guest is once a node is online again; it ran on another one before."""
        there, here = (self.fitness(guest, name, online, owner) for name in (node, owner))
        return node if there > here else owner

    def deaths(self):
        """Return all sets of one or two nodes whose death leaves another one."""
        sets = [*itertools.combinations(self.nodes, 1), *itertools.combinations(self.nodes, 2)]
        return [dead for dead in sets if len(dead) < len(self.nodes)]
