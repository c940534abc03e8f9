"""Measure plans for a simulated cluster of 1,000 nodes and 20,000 guests: core alone.

Run by ``make bench``, on the world of ``benchmarks/readiness.py`` with a home for each guest and
each node's guests kept apart from the next one's. Times are processor time, with the facts already
made; that of a drain includes the examination of its node.
"""

import sys
from dataclasses import replace

from readiness import cluster_of, seconds

from saltext_kvmcluster.core.drain import placement
from saltext_kvmcluster.core.pillar.clusters import Guests, Listed
from saltext_kvmcluster.core.readiness import examination
from saltext_kvmcluster.core.readiness.checks.base import World

NODES, GUESTS = 1000, 20000
NODE = "node5"
MOST = {
    "a drain": 10.0,
    "a drain with little free memory": 10.0,
    "balance with groups": 5.0,
    "a drain with groups": 10.0,
}
MOVES = 1000


def main():
    world = with_wishes(cluster_of(NODES, GUESTS), 50)
    scarce = with_little_room(with_wishes(cluster_of(NODES, GUESTS), 50))
    taken = {}
    for name, found in (("a drain", world), ("a drain with little free memory", scarce)):
        taken[name], plan = seconds(lambda found=found: drained(found))
        reported(name, taken[name], plan)
    took, found = seconds(lambda: examination.examine(world))
    print(f"the examination of the whole cluster, which the other plans need: {took:.2f} s")
    for name, planned in (
        ("home", lambda: placement.home(world, found, NODE)),
        ("balance", lambda: placement.balance(world, found, 20)),
    ):
        reported(name, *seconds(planned))
    took, _ = seconds(lambda: placement.best(world, found, "guest1"))
    print(f"the best destination for one guest: {took:.2f} s")
    grouped = with_groups(with_wishes(cluster_of(NODES, GUESTS), 50))
    took, found = seconds(lambda: examination.examine(grouped))
    print(f"the examination with groups: {took:.2f} s")
    for name, planned in (
        ("balance with groups", lambda: placement.balance(grouped, found, MOVES)),
        ("a drain with groups", lambda: placement.drain(grouped, found, NODE)),
    ):
        taken[name], plan = seconds(planned)
        reported(name, taken[name], plan)
        print(
            f"  {sum(step.mends for step in plan.steps)} mend rules, {len(plan.notes)} stay broken"
        )
    missed = {name: bar for name, bar in MOST.items() if taken[name] > bar}
    for name, bar in missed.items():
        print(f"MISSED {name}: {taken[name]:.2f}, the limit is {bar}")
    return 1 if missed else 0


def drained(world):
    return placement.drain(world, examination.examine(world, source=NODE), NODE)


def reported(name, took, plan):
    print(f"{name}: {took:.2f} s, {len(plan.steps)} moves, {len(plan.stuck)} stuck")


def with_wishes(world, away):
    """Return a world in which each guest has a home, so many nodes further, and is kept apart."""
    homes = {f"guest{number}": f"node{(number + away) % NODES}" for number in range(GUESTS)}
    guests = Guests(
        list={name: Listed(name, home=node) for name, node in homes.items()},
        apart=tuple((f"guest{number}", f"guest{number + 1}") for number in range(GUESTS - 1)),
    )
    nodes = {
        name: replace(
            node,
            daemon=replace(node.daemon, threads=64 + place % 3 * 32),
            free_kib=place * 37 % 200 << 20,
        )
        for place, (name, node) in enumerate(world.nodes.items())
    }
    return World(replace(world.cluster, guests=guests), nodes)


def with_groups(world):
    """Return a world with 6,000 guests in groups of three, of which half are parted, and more.

    500 pairs are to be apart and share a node, each tenth guest has an only of ten nodes, and each
    fifth prefers two nodes.
    """
    together = [tuple(f"guest{n + NODES * k}" for k in range(3)) for n in range(0, NODES, 2)]
    together += [tuple(f"guest{n + k}" for k in range(3)) for n in range(3000, 4500, 3)]
    apart = [(f"guest{n}", f"guest{n + NODES}") for n in range(5001, 5999, 2)]
    listed = {}
    for number in range(GUESTS):
        rack = number // 10 % 100 * 10
        only = tuple(f"node{rack + place}" for place in range(10)) if number % 10 == 9 else ()
        prefer = ((f"node{number % NODES}",), (f"node{number * 7 % NODES}",))
        prefer = prefer if number % 5 == 2 else ()
        name = f"guest{number}"
        listed[name] = Listed(name, prefer=prefer, only=only)
    guests = Guests(list=listed, with_=tuple(together), apart=tuple(apart))
    return World(replace(world.cluster, guests=guests), world.nodes)


def with_little_room(world):
    """Return a world in which a node has a hundred guests, and there is room for half of them."""
    node = world.nodes[NODE]
    many = tuple(
        replace(
            one,
            observation=replace(
                one.observation, name=f"{one.name}-{copy}", uuid=f"{one.uuid}{copy}"
            ),
            guest=replace(one.guest, disks=(), blockers=()),
            memory_kib=(1 + copy) << 20,
        )
        for copy in range(10)
        for one in node.guests[:10]
    )
    nodes = {
        name: replace(one, free_kib=place % 11 << 20 if place < 60 else 0)
        for place, (name, one) in enumerate(world.nodes.items())
    }
    return World(world.cluster, {**nodes, NODE: replace(nodes[NODE], guests=many)})


if __name__ == "__main__":
    sys.exit(main())
