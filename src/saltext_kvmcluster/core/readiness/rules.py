"""Which of the pillar's rules about places are broken now: ``only``, ``apart`` and ``with``."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from saltext_kvmcluster.core.facts.nodefacts import NodeFacts
from saltext_kvmcluster.core.pillar import groups
from saltext_kvmcluster.core.pillar.clusters import Cluster
from saltext_kvmcluster.core.text import MAX_NAMES, listed, printable

MEND = "to see whether that can be mended: salt-run kvmcluster.balance"


def broken(cluster: Cluster, nodes: Mapping[str, NodeFacts]) -> Iterator[str]:
    """Yield each rule that is broken, by what the nodes report."""
    at = {
        one.name: node for node, facts in nodes.items() for one in facts.guests or () if one.active
    }
    guests = cluster.guests
    for one in guests.list.values():
        node = at.get(one.name)
        if one.only and node and node not in one.only:
            yield f"{one.name} runs on {node}, and its only names {listed(one.only)}; {MEND}"
    for name, others in groups.kept_apart(guests).items():
        near = [other for other in others if name in at and at.get(other) == at[name]]
        for other in sorted(near):
            if name < other:
                both = f"{printable(name)} and {printable(other)}"
                yield f"{both} are to be apart, and run on {at[name]}; {MEND}"
    for whole in dict.fromkeys(groups.kept_together(guests).values()):
        sites = {name: at[name] for name in sorted(whole) if name in at}
        if len({*sites.values()}) > 1:
            where = [f"{printable(name)} on {node}" for name, node in sites.items()]
            yield f"to be on one node, and not there: {listed(where, MAX_NAMES)}; {MEND}"
