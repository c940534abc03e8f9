"""Rolling runs on this master: what is done is in Salt's cache, which outlives the process."""

from __future__ import annotations

import os
import time

from saltext_kvmcluster.core.drain import maintenance, rolling
from saltext_kvmcluster.core.drain.rolling import Course, Rolling
from saltext_kvmcluster.core.errors import InputError
from saltext_kvmcluster.core.pillar.clusters import Cluster
from saltext_kvmcluster.host import bootid
from saltext_kvmcluster.master.pillars import Functions

BANK = "kvmcluster/rolling"


def begun(
    cluster: Cluster, functions: Functions, sls: object, reboot: object, anew: bool, test: bool
) -> Course:
    """Begin a rolling run, or continue the same one; under ``test`` nothing is saved."""
    own = bootid.process(os.getpid())
    now = time.time()
    wanted = Rolling(maintenance.slses(sls), maintenance.when(reboot), {}, now, own, began=now)
    last = _last(cluster, functions)
    rolling.refuse_second(cluster, own, last, bool(last and bootid.is_alive(last.process)))
    run = rolling.continued(wanted, last, anew, cluster.nodes)
    if not test:
        functions["cache.store"](BANK, cluster.name, run.to_dict())
    return rolling.course(cluster, run)


def done(cluster: Cluster, functions: Functions, node: object, report: str = "") -> Course:
    """Save that a rolling run is done with a node; after the last one the run is removed.

    report
        What was done to it.
    """
    name, last = cluster.node(str(node)).id, _last(cluster, functions)
    if last is None:
        raise InputError(f"no rolling run of {cluster.name} is in progress")
    run = rolling.with_done(last, name, time.time(), report)
    course = rolling.course(cluster, run, name)
    if course.todo:
        functions["cache.store"](BANK, cluster.name, run.to_dict())
    else:
        functions["cache.flush"](BANK, cluster.name)
    return course


def observed(cluster: Cluster, functions: Functions) -> tuple[Rolling, Course] | None:
    """Return the cluster's last rolling run and its course, None if there is none to go on with."""
    last = _last(cluster, functions)
    return (last, rolling.course(cluster, last)) if last else None


def _last(cluster: Cluster, functions: Functions) -> Rolling | None:
    """Return the cluster's last rolling run, unless it ended well."""
    return rolling.parse(functions["cache.fetch"](BANK, cluster.name))
