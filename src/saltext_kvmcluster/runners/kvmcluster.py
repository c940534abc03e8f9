"""Runner: the whole cluster, seen and prepared from the master.

Membership comes from the pillar, rendered afresh on the master. Every function returns plain
data with ``ok`` and ``retcode``, prints it by the outputter ``kvmcluster``, and ends with exit
code 1 when not all is well; ``--out=json`` gives the data itself.
"""

import functools
import time

import salt.utils.minions

from saltext_kvmcluster import doors
from saltext_kvmcluster.core import cluster as pillar_cluster
from saltext_kvmcluster.core import facts, migration, publication, reach, readiness
from saltext_kvmcluster.core import status as cluster_status
from saltext_kvmcluster.core.checks.base import World
from saltext_kvmcluster.core.errors import KvmclusterError
from saltext_kvmcluster.core.identity import MINE_FUNCTION

__virtualname__ = "kvmcluster"

POLL = 0.2


def __virtual__():
    return __virtualname__


def _reported(function):
    """Make a function's errors a sentence, not a traceback, and its data the outputter's."""

    @functools.wraps(function)
    def wrapped(*args, **kwargs):
        try:
            data = function(*args, **kwargs)
        except KvmclusterError as error:
            data = {"ok": False, "error": str(error)}
        return {"data": {**data, "retcode": 0 if data["ok"] else 1}, "outputter": "kvmcluster"}

    return wrapped


@_reported
def members(cluster=None):
    """Return the minion ids of a cluster's nodes, as the pillar names them.

    cluster
        The cluster's name; needed only where this master has several.

    CLI Example:

    .. code-block:: bash

        salt-run kvmcluster.members
    """
    found = _cluster(cluster)
    return {"cluster": found.name, "ok": True, "members": list(found.nodes)}


@_reported
def publish(cluster=None, timeout=60, test=False):
    """Have every node publish its identity, and wait until the mine holds what each one says.

    cluster
        The cluster's name; needed only where this master has several.

    timeout
        Seconds to wait for the mine. Default: 60.

    test
        Only say what would be published. Default: false.

    Returns ``{cluster, ok, published, unchanged, failed, retcode}``; ``failed`` says of each
    node why its identity is not in the mine.

    CLI Example:

    .. code-block:: bash

        salt-run kvmcluster.publish
    """
    found = _cluster(cluster)
    limit = doors.seconds(timeout, "timeout")
    nodes = list(found.nodes)
    _ask(nodes, "saltutil.refresh_pillar", wait=True)
    before = doors.mine_identities(found, __salt__["mine.get"], __context__).accepted
    told, failed = publication.told_identities(found, _ask(nodes, MINE_FUNCTION))
    if test:
        return publication.report(found, told, before, {**before, **told}, failed)
    _ask(list(told), "mine.send", MINE_FUNCTION)
    end = time.monotonic() + limit
    after = doors.mine_identities(found, __salt__["mine.get"], __context__).accepted
    while publication.pending(told, after) and time.monotonic() < end:
        time.sleep(POLL)
        after = doors.mine_identities(found, __salt__["mine.get"], __context__).accepted
    return publication.report(found, told, before, after, failed)


@_reported
def ssh_matrix(cluster=None, timeout=10, time_limit=120):
    """Check ssh from every node to every node by every name, and put the rows together.

    cluster
        The cluster's name; needed only where this master has several.

    timeout
        Seconds for one login. Default: 10.

    time_limit
        Seconds for all logins of one node. Default: 120.

    Returns ``{cluster, nodes, ok, cells, good, rows, silent, retcode}``: ``rows`` holds each
    node's ``kvmcluster.ssh_check``, ``silent`` the nodes that gave none, with what they said.

    CLI Example:

    .. code-block:: bash

        salt-run kvmcluster.ssh_matrix
        salt-run kvmcluster.ssh_matrix --out=json
    """
    found = _cluster(cluster)
    limits = {
        "timeout": doors.seconds(timeout, "timeout"),
        "time_limit": doors.seconds(time_limit, "time_limit"),
    }
    return reach.matrix(found, _ask(list(found.nodes), "kvmcluster.ssh_check", **limits))


@_reported
def status(cluster=None):
    """Return every guest of the cluster, where it is, how it is and whether it can move.

    All nodes are asked by one job. A node that does not answer is in ``silent``, and a problem,
    and so is a guest that runs twice.

    cluster
        The cluster's name; needed only where this master has several.

    Returns ``{cluster, ok, nodes, silent, problems, status, retcode}``; ``status`` has a row for
    each guest and node where it is active: what ``kvmcluster.guests`` tells, ``where`` (a node,
    ``nowhere``, or ``?`` while a node is silent) and ``defined``, the nodes that keep its
    definition. A guest of the pillar's list that no node has is a row, too.

    CLI Example:

    .. code-block:: bash

        salt-run kvmcluster.status
        salt-run kvmcluster.status --out=json
    """
    found = _cluster(cluster)
    return cluster_status.status(found, _facts(found, reach=False, trust=False))


@_reported
def check(guest=None, destination=None, cluster=None):
    """Say which guest of the cluster can go where, and why not, with a remedy for each reason.

    Two jobs: all nodes tell their facts, then look at what the guests need. Names, UUIDs and
    disks are compared over all guests of all nodes.

    guest
        The guest in question. Default: all that are active.

    destination
        The minion id of the node to which they would go. Default: every node.

    cluster
        The cluster's name; needed only where this master has several.

    Returns what ``kvmcluster.check`` returns, and ``retcode``.

    CLI Example:

    .. code-block:: bash

        salt-run kvmcluster.check
        salt-run kvmcluster.check web1 node2
        salt-run kvmcluster.check --out=json
    """
    found = _cluster(cluster)
    guest, destination = migration.wanted(found, None, guest, destination)
    world = World(found, _facts(found))
    questions = readiness.questions(world, guest, None, destination)
    answers = _ask(list(questions), "kvmcluster.look", questions)
    world = readiness.answered(world, answers)
    return readiness.examine(world, guest, None, destination).as_data()


def _facts(found, **named):
    """Ask every node for its facts, by one job."""
    asked = time.time()
    sent = _ask(list(found.nodes), "kvmcluster.facts", **named)
    answered = time.time()
    return {node: facts.parse(node, sent.get(node), asked, answered) for node in found.nodes}


def _ask(nodes, function, *arguments, **named):
    """Run a function on the nodes, as one job, and return what each one answered."""
    if not nodes:
        return {}
    answers = __salt__["salt.execute"](
        nodes, function, arg=arguments, kwarg=named, tgt_type="list", full_return=True
    )
    return {
        node: answer["ret"]
        for node, answer in answers.items()
        if isinstance(answer, dict) and "ret" in answer
    }


def _cluster(name):
    """Return the cluster of that name, or the only one, as the pillar has it now.

    Minions whose cached pillar speaks of a cluster are rendered first; the others only where
    that does not answer the question.
    """
    clusters = pillar_cluster.Clusters()
    accepted = sorted(salt.utils.minions.CkMinions(__opts__).check_minions("*")["minions"])
    cached = __salt__["cache.pillar"](tgt="*")
    likely = [minion for minion in accepted if pillar_cluster.ROOT in (cached.get(minion) or {})]
    for minions in (likely, [minion for minion in accepted if minion not in likely]):
        for minion in minions:
            if not clusters.covers(minion):
                clusters.read(minion, __salt__["pillar.show_pillar"](minion))
        if clusters.has(name):
            break
    return clusters.choose(name)
