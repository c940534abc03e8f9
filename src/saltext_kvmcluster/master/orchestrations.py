"""Orchestrations, while they are rendered: what is asked for becomes states, or is refused.

What is refused here has begun nothing, and asked no node.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from typing import Any

import salt.loader
import salt.pillar
from salt.exceptions import SaltException

from saltext_kvmcluster.core.drain import requests, steps
from saltext_kvmcluster.core.drain.requests import Request
from saltext_kvmcluster.core.errors import KvmclusterError, WorldError
from saltext_kvmcluster.core.pillar.clusters import Cluster
from saltext_kvmcluster.master import holds, pillars, rollings
from saltext_kvmcluster.master.pillars import Functions
from saltext_kvmcluster.master.stopped import StoppedGuests

_BUILDERS: Mapping[str, Callable[[Request], dict[str, Any]]] = {
    requests.PREPARE: steps.prepare,
    requests.RECOVER: steps.recover,
    requests.DISK_LEASES: steps.disk_leases,
}


def states(name: str, opts: Mapping[str, Any], pillar: Mapping[str, Any]) -> dict[str, Any]:
    """Return the states of an orchestration.

    name
        The orchestration's, after ``kvmcluster.orch.``.
    opts, pillar
        The master's options, and the pillar in which the orchestration is rendered.
    """
    # Salt's py renderer leaves the SLS behind as a module of this name. It holds the master's whole
    # minion until Python ends, where Salt then fails to load returners, and says so.
    sys.modules.pop(name, None)
    try:
        request = requests.parse(name, pillar, _own_pillar(opts))
        functions = _runners(opts)
        cluster = pillars.cluster(request.cluster, opts, functions)
        requests.complete(request, cluster)
        return _built(request, cluster, functions, StoppedGuests(opts, cluster.name))
    except KvmclusterError as error:
        return steps.refused(str(error))


def _built(
    request: Request, cluster: Cluster, functions: Functions, memory: StoppedGuests
) -> dict[str, Any]:
    if request.name in _BUILDERS:
        return _BUILDERS[request.name](request)
    if request.name == requests.HA:
        return steps.ha(request, list(cluster.nodes))
    off = [node for node in cluster.nodes if memory.stopped(node)]
    if request.name == requests.MAINTENANCE:
        holds.refuse_second(functions, cluster.name, cluster.node(request.node).id)
        return steps.maintenance(request, off)
    sls, anew = list(request.sls) or None, request.anew
    course = rollings.begun(cluster, functions, sls, request.reboot, anew, test=True)
    for node in course.todo:
        holds.refuse_second(functions, cluster.name, node)
    return steps.rolling(request, course.todo, off)


def _own_pillar(opts: Mapping[str, Any]) -> dict[str, Any]:
    """Return the pillar that the master has without what this orchestration was given."""
    env = {"saltenv": opts.get("saltenv"), "pillarenv": opts.get("pillarenv")}
    # Salt would merge the pillar that its options hold already (`ssh_merge_pillar`).
    bare = {key: value for key, value in opts.items() if key != "pillar"}
    try:
        compiled = salt.pillar.get_pillar(bare, opts["grains"], opts["id"], **env)
        found: dict[str, Any] = compiled.compile_pillar()
    except SaltException as error:
        raise WorldError(f"the master's own pillar does not render: {error}") from None
    return found


def _runners(opts: Mapping[str, Any]) -> Functions:
    """Return the runner functions.

    ``saltutil.runner`` would leave a client behind whose finalizer changes what Salt's loader
    iterates over (https://github.com/saltstack/salt/pull/69790).
    """
    own = dict(opts)
    found: Functions = salt.loader.runner(own, utils=salt.loader.utils(own), context={})
    return found
