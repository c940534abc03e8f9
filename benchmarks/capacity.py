"""Measure whether all still fits if any node is lost: 1,000 nodes, 20,000 guests, core alone.

Run by ``make bench``, on the world of ``benchmarks/placement.py``: each guest is kept apart from
the next one, and has a home. Once with room for all, and once with so little that a third finds
none. Times are processor time, with the facts already made.
"""

import sys
from dataclasses import replace

from placement import GUESTS, NODES, with_wishes
from readiness import cluster_of, seconds

from saltext_kvmcluster.core.failover import shortages
from saltext_kvmcluster.core.readiness.checks.base import World

MOST = {"capacity": 15.0, "capacity with little memory": 15.0, "what status asks": 3.0}


def main():
    found = with_wishes(cluster_of(NODES, GUESTS), 50)
    roomy = with_memory(found, 512 << 20)
    scarce = with_memory(found, 64 << 20)
    taken = {}
    for name, world in (("capacity", roomy), ("capacity with little memory", scarce)):
        taken[name], report = seconds(lambda world=world: shortages.report(world, 1))
        print(
            f"{name}: {taken[name]:.2f} s, {report.cases} cases, {len(report.shortages)} of"
            f" {report.guests} guests find no place"
        )
    name = "what status asks"
    taken[name], sentences = seconds(lambda: shortages.sentences(scarce.cluster, scarce.nodes))
    print(f"{name}: {taken[name]:.2f} s, {len(sentences)} problems")
    missed = {name: bar for name, bar in MOST.items() if taken[name] > bar}
    for name, bar in missed.items():
        print(f"MISSED {name}: {taken[name]:.2f}, the limit is {bar}")
    return 1 if missed else 0


def with_memory(world, free):
    texts = dict.fromkeys(world.cluster.guests.list, "<domain/>")
    nodes = {
        name: replace(node, free_kib=free, definitions=texts) for name, node in world.nodes.items()
    }
    return World(world.cluster, nodes)


if __name__ == "__main__":
    sys.exit(main())
