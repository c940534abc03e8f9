"""Batches of moves for tests, as a plan would begin them."""

import worlds
from worlds import NODES

from saltext_kvmcluster.core.drain.batch import Batch
from saltext_kvmcluster.core.drain.placement import Placement, Step
from saltext_kvmcluster.core.migration.migration import MOVED, Move
from saltext_kvmcluster.core.pillar.clusters import Cluster

LIMIT = 2


def cluster() -> Cluster:
    return worlds.cluster(NODES, migration={"max_outgoing": LIMIT, "max_incoming": LIMIT})


def move(guest, destination="node2", source="node1"):
    return Move(guest, f"uuid of {guest}", source, destination)


def plan(*moves, **stuck):
    return Placement(tuple(Step(one, "because") for one in moves), stuck)


def batch(*moves, **stuck):
    made = Batch(cluster())
    made.follow(plan(*moves, **stuck))
    return made


def begun(made):
    return [one.guest for one in iter(made.due, None)]


def result(how=MOVED, reason="", owner="node2"):
    return {"result": how, "reason": reason, "owner": owner}
