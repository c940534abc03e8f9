"""Runner: the whole cluster, seen and prepared from the master.

Membership comes from the pillar, rendered afresh on the master. Every function returns plain
data with ``ok`` and ``retcode``, prints it by the outputter ``kvmcluster``, and ends with exit
code 1 when not all is well; ``--out=json`` gives the data itself.
"""

import contextlib
import functools
import json
import logging
import os
import signal
import sys
import threading
import time
from dataclasses import asdict
from datetime import datetime, timezone

import salt.client
import salt.runner
import salt.utils.event
import salt.utils.minions
import salt.utils.yaml
from salt.exceptions import SaltClientError, SaltException

from saltext_kvmcluster import doors, master
from saltext_kvmcluster.core import (
    alarm,
    closing,
    clusterconf,
    draining,
    events,
    facts,
    given,
    jobs,
    maintenance,
    migration,
    options,
    placement,
    publication,
    reach,
    readiness,
    rumours,
    settling,
    tables,
    whereabouts,
)
from saltext_kvmcluster.core import cluster as pillar_cluster
from saltext_kvmcluster.core import history as records
from saltext_kvmcluster.core import status as cluster_status
from saltext_kvmcluster.core.batch import Batch
from saltext_kvmcluster.core.checks.base import World
from saltext_kvmcluster.core.cluster import guest_name
from saltext_kvmcluster.core.errors import InputError, KvmclusterError
from saltext_kvmcluster.core.identity import MINE_FUNCTION
from saltext_kvmcluster.core.migration import Move
from saltext_kvmcluster.host import boot, files
from saltext_kvmcluster.host.spool import Spool

__virtualname__ = "kvmcluster"

POLL = 0.2
ASK_AGAIN = 3.0
DRAINED = "drained"
# Where Salt's own cache keeps how far a rolling run is.
ROLLING = "kvmcluster/rolling"
# Of a terminal that does not say.
COLUMNS = 80
# Seconds for which the pillar is not read again, however many events come.
MEMBERSHIPS, MEMBERSHIPS_AGE = "kvmcluster.memberships", 10.0

log = logging.getLogger(__name__)
_SAYINGS = rumours.Sayings()
_HEARING = threading.Lock()


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
    seen = _facts(found, reach=False, trust=False)
    if cluster_status.is_doubled(seen):
        # Nodes answer one after the other, and a guest may have moved meanwhile.
        time.sleep(ASK_AGAIN)
        seen = _facts(found, reach=False, trust=False)
    return cluster_status.status(found, seen)


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
    _, ready = _examined(found, guest=guest, destination=destination)
    return ready.as_data()


@_reported
def migrate(
    guest,
    destination=None,
    live=None,
    bandwidth=None,
    downtime=None,
    timeout=None,
    parallel=None,
    compression=None,
    auto_converge=None,
    post_copy=None,
    tls=None,
    tunnelled=None,
    wait=True,
    patience=60,
    cluster=None,
):
    """Move a guest live to a node, wherever it is now, and say where it was seen afterwards.

    Finds the guest by one job on all nodes, and has its node move it. On a terminal a line shows
    how far it is. Ctrl-C ends the watching; the migration goes on. Where the node stops
    answering, the others are asked where the guest is.

    guest
        The guest's name, exactly.

    destination
        The minion id of the node to which it is to go. Default: the best one, by all checks and
        by what the nodes have to do; ``chosen`` says why.

    live, bandwidth, downtime, timeout, parallel, compression
        As ``kvmcluster.migrate`` on a node has them.

    auto_converge, post_copy, tls, tunnelled, wait
        As well.

    patience
        Seconds to go on asking while it is not sure where the guest is, after libvirt has ended
        the migration, or its node has stopped answering. Default: 60.

    cluster
        The cluster's name; needed only where this master has several.

    Returns what ``kvmcluster.migrate`` on a node returns, ``ok`` and ``retcode``; the exit code
    is zero if the guest has moved.

    CLI Example:

    .. code-block:: bash

        salt-run kvmcluster.migrate web1 node2
        salt-run kvmcluster.migrate web1
        salt-run kvmcluster.migrate web1 node2 bandwidth=50 --out=json
    """
    found = _cluster(cluster)
    limit = doors.seconds(patience, "patience")
    arguments = {
        "live": live,
        "bandwidth": bandwidth,
        "downtime": downtime,
        "timeout": timeout,
        "parallel": parallel,
        "compression": compression,
        "auto_converge": auto_converge,
        "post_copy": post_copy,
        "tls": tls,
        "tunnelled": tunnelled,
    }
    options.of_call(found.migration.options, arguments)
    arguments.update(wait=doors.flag(wait, "wait"), patience=limit)
    given = {key: value for key, value in arguments.items() if value is not None}
    guest, chosen = guest_name(guest, "guest"), ""
    move = _move(found, guest, destination)
    if destination is None:
        step = placement.best(*_placeable(found, guest, move.source), guest)
        move, chosen = step.move, step.why
    with _interrupts() as interrupted:
        done = _watched(found, move, given, interrupted)
    return {**done, "chosen": chosen, "ok": done["result"] == migration.MOVED}


@_reported
def drain(node, reason=None, test=False, cluster=None):
    """Close a node and move all its guests to others, by a plan made beforehand.

    The plan gives each guest the place where it fits best: by every check, memory and CPUs, what
    goes there already, ``kvmcluster:guests:apart`` and its home. As many moves at once as the
    pillar allows, the biggest guest first; when one fails, the rest is planned anew. What can go
    nowhere stays, with the reasons.

    The node stays closed, over a reboot too, until ``kvmcluster.undrain``: nothing starts on it
    and nothing moves to it. A drain that was interrupted goes on when it is called again. Ctrl-C
    ends the watching; moves that are under way go on.

    node
        The node's minion id.

    reason
        Why, for whoever wants to use the node. Default: that it was drained.

    test
        Only show the plan; the node is not closed. Default: false.

    cluster
        The cluster's name; needed only where this master has several.

    Returns ``{cluster, node, ok, test, plan, stuck, moved, failed, under_way, left, said,
    closed, elapsed, retcode}``. ``plan`` has ``{guest, uuid, source, destination, why}`` for each
    move that was planned at first, ``stuck`` says of each guest that is not moved why, ``moved``
    are all moves away since the node was closed, ``failed`` the attempts that moved nothing,
    ``left`` the guests that are active there in the end (None if that is not known), ``closed`` is
    ``{since, reason}``, ``elapsed`` is in seconds. It is ``ok`` if none is left.

    CLI Example:

    .. code-block:: bash

        salt-run kvmcluster.drain node1 test=True
        salt-run kvmcluster.drain node1 'new memory, ask Ann'
    """
    found = _cluster(cluster)
    here = found.node(str(node)).id
    words = closing.reason(DRAINED if reason is None else reason)

    def plan(batch):
        coming = [*batch.coming.values(), *draining.others(_under_way(here), batch.coming, here)]
        world, ready = _placeable(found, source=here)
        if batch.ended and draining.is_open(world.nodes[here]):
            return draining.nothing(batch)
        return placement.drain(world, ready, here, batch.avoid, coming)

    if doors.flag(test, "test"):
        return {**_proposed(found, plan), "node": here}
    mark = draining.closed(here, _ask([here], "kvmcluster.close", words).get(here))
    try:
        done = _carried_out(found, plan, drained=here)
    except KvmclusterError as error:
        raise draining.stopped(here, error) from None
    moved = draining.merged(done["moved"], _remembered(here), here, mark.since)
    return {**draining.emptied(done), "node": here, "closed": asdict(mark), "moved": moved}


@_reported
def undrain(node, home=False, reason=None, cluster=None):
    """Open a node again: guests may start on it and move to it.

    node
        The node's minion id.

    home
        Whether to move the guests there whose home it is, by the pillar, and that are active
        elsewhere. Default: false.

    reason
        Open it only if that is why it is closed. Default: whatever closes it.

    cluster
        The cluster's name; needed only where this master has several.

    Returns ``{cluster, node, ok, opened, plan, stuck, moved, failed, under_way, said, elapsed,
    retcode}``, as ``kvmcluster.drain``; ``opened`` is false if it was open already.

    CLI Example:

    .. code-block:: bash

        salt-run kvmcluster.undrain node1
        salt-run kvmcluster.undrain node1 home=True
    """
    found = _cluster(cluster)
    here = found.node(str(node)).id
    bring = doors.flag(home, "home")

    def plan(batch):
        world, ready = _placeable(found, destination=here)
        return placement.home(world, ready, here, batch.avoid, batch.coming.values())

    opened = draining.opened(here, _ask([here], "kvmcluster.open", reason).get(here))
    done = _carried_out(found, plan if bring else draining.nothing)
    return {**done, "node": here, "opened": opened}


@_reported
def balance(most=4, test=True, cluster=None):
    """Propose the few moves that even out the nodes' load most, or carry them out.

    A node's load is the share of its memory, or of its CPUs, that is in use: the larger of the two.

    most
        How many moves at most. Default: 4.

    test
        Only show the plan. Default: true.

    cluster
        The cluster's name; needed only where this master has several.

    Returns ``{cluster, ok, test, plan, stuck, moved, failed, under_way, said, elapsed, retcode}``,
    as ``kvmcluster.drain``.

    CLI Example:

    .. code-block:: bash

        salt-run kvmcluster.balance
        salt-run kvmcluster.balance most=2 test=False
    """
    found = _cluster(cluster)
    most = draining.number_of(most)

    def plan(batch):
        left = most - len(batch.moved) - len(batch.coming)
        return placement.balance(*_placeable(found), left, batch.avoid, batch.coming.values())

    return (_proposed if doors.flag(test, "test") else _carried_out)(found, plan)


@_reported
def job(guest=None, cluster=None):
    """Return the migrations that are under way in the cluster, and how far they are.

    guest
        The guest in question. Default: all.

    cluster
        The cluster's name; needed only where this master has several.

    Returns ``{cluster, ok, jobs, silent, retcode}``: ``jobs`` as ``kvmcluster.job`` on a node,
    ``silent`` says of each node that did not tell why.

    CLI Example:

    .. code-block:: bash

        salt-run kvmcluster.job
        salt-run kvmcluster.job web1
    """
    found = _cluster(cluster)
    wanted = None if guest is None else guest_name(guest, "guest")
    told, silent = _told(found, "kvmcluster.job", "jobs")
    rows = [row for row in jobs.merged(told) if wanted in (None, row["guest"])]
    return {"cluster": found.name, "ok": not silent, "jobs": rows, "silent": silent}


@_reported
def cancel(guest, cluster=None):
    """End a guest's migration, and say where the guest was seen afterwards.

    One job asks all nodes for their migrations; the node that sends the guest ends it.

    guest
        The guest's name, exactly.

    cluster
        The cluster's name; needed only where this master has several.

    Returns what ``kvmcluster.cancel`` on a node returns, ``ok`` and ``retcode``.

    CLI Example:

    .. code-block:: bash

        salt-run kvmcluster.cancel web1
    """
    found = _cluster(cluster)
    name = guest_name(guest, "guest")
    told, silent = _told(found, "kvmcluster.job", "jobs")
    node = jobs.sender(name, told, silent)
    done = whereabouts.ended(_ask([node], "kvmcluster.cancel", name).get(node))
    if done is None:
        done = _recovered(found, name)
        done = {**done, "result": settling.after_cancel(done["owner"], node)}
    return {**done, "ok": done["owner"] == node}


@_reported
def recover(guest, cluster=None):
    """Settle a guest's last migration, as far as what every node says of the guest allows it.

    One node that answers is told to; it asks all the others, over the cluster's own ssh trust.

    guest
        The guest's name, exactly.

    cluster
        The cluster's name; needed only where this master has several.

    Returns what ``kvmcluster.recover`` on a node returns, ``ok`` and ``retcode``.

    CLI Example:

    .. code-block:: bash

        salt-run kvmcluster.recover web1
    """
    done = _recovered(_cluster(cluster), guest_name(guest, "guest"))
    return {**done, "ok": whereabouts.is_settled(done)}


@_reported
def history(guest=None, limit=50, cluster=None):
    """Return the migrations of the cluster that ended, the newest last.

    guest
        The guest in question. Default: all.

    limit
        How many of them at most. Default: 50.

    cluster
        The cluster's name; needed only where this master has several.

    Returns ``{cluster, ok, history, silent, retcode}``: ``history`` as ``kvmcluster.history`` on
    a node, ``silent`` says of each node that did not tell its own why.

    CLI Example:

    .. code-block:: bash

        salt-run kvmcluster.history
        salt-run kvmcluster.history web1 limit=5
    """
    found = _cluster(cluster)
    wanted = None if guest is None else guest_name(guest, "guest")
    most = records.number_of(limit)
    told, silent = _told(found, "kvmcluster.history", "history", wanted, most)
    rows = records.chosen((row for rows in told.values() for row in rows), wanted, most)
    return {"cluster": found.name, "ok": not silent, "history": rows, "silent": silent}


@_reported
def import_cluster_conf(file):
    """Make a pillar of RGManager's ``cluster.conf``: its nodes, guests, migration names and homes.

    Nothing is changed anywhere. What has no counterpart here is told with the reason, and so is
    what means something else here. Comments of the file are not taken over.

    file
        The file's path, on the master.

    Returns ``{file, ok, pillar, yaml, remarks, retcode}``: ``pillar`` as data, ``yaml`` as the
    text of an SLS file with the remarks as comments, ``remarks`` as rows of ``{line, element,
    attribute, value, became, why}``. The text alone is printed; if there is none, what is printed
    begins with ``ERROR:``, and the exit code is 1.

    CLI Example:

    .. code-block:: bash

        salt-run kvmcluster.import_cluster_conf /etc/cluster/cluster.conf > pillar.sls
        salt-run kvmcluster.import_cluster_conf /etc/cluster/cluster.conf --out=json
    """
    path = clusterconf.path(file)
    content = files.given(path, clusterconf.MAX_SIZE)
    try:
        found = clusterconf.read(content)
    except InputError as error:
        raise InputError(f"{path}: {error}") from None
    dumped = salt.utils.yaml.safe_dump(found.pillar, default_flow_style=False, sort_keys=False)
    text = clusterconf.as_text(found, path, dumped)
    return {"file": path, "ok": True, "yaml": text, **found.as_data()}


def react(reaction=None, tag=None, data=None):
    """Follow an event: look at the whole cluster, and put right what is seen to be wrong there.

    For reactors. The event says no more than that there is something to look for, and events that
    come together are answered together; one that is malformed, or is not from the member of which
    it speaks, is logged, and nothing is done.

    reaction
        ``trust``: the trust is mended. ``recover``: migrations are settled. ``alarm``: a guest that
        runs twice is told, and not touched. Default: nothing is new, but whatever a killed master
        left unanswered is answered.

    tag, data
        The event's.

    Returns the answers that were due as ``CLUSTER.REACTION``; what came of them is logged.

    CLI Example:

    .. code-block:: bash

        salt-run kvmcluster.react
    """
    spool = Spool(__opts__["cachedir"])
    keys = []
    try:
        if reaction is not None:
            keys = _followed(reaction, tag, data)
        for key in keys:
            spool.leave(key)
        due = [*keys, *(key for key in spool.left() if key not in keys and rumours.parts(key))]
        for key in due:
            spool.answer(key, functools.partial(_answered, spool, key))
    except KvmclusterError as error:
        log.error("%s", rumours.line(str(error)))
        return []
    return due


@_reported
def whole(nodes=None, cluster=None):
    """Say whether maintenance of nodes may begin: their peers are well, nobody closed them.

    A node is well if it answers, its libvirt daemon does, and nothing forbids guests to leave it
    or to come to it, but that it is closed or full. What keeps a guest from going anywhere is the
    guest's own.

    nodes
        The minion id of the node that is to be worked on, or a list of several. Default: all.

    cluster
        The cluster's name; needed only where this master has several.

    Returns ``{cluster, ok, whole, closed, findings, retcode}``: ``whole`` are the nodes that have
    to be well, ``closed`` says of each node that somebody closed why, ``findings`` are as in
    ``kvmcluster.check``.

    CLI Example:

    .. code-block:: bash

        salt-run kvmcluster.whole
        salt-run kvmcluster.whole node1
    """
    found = _cluster(cluster)
    asked = list(found.nodes) if nodes is None else nodes if isinstance(nodes, list) else [nodes]
    work = [found.node(str(node)).id for node in asked]
    world, examined = _examined(found)
    peers = maintenance.peers_of(found, work)
    closed = maintenance.closed_by_others(world, work)
    told = maintenance.unready(examined, peers)
    return {
        "cluster": found.name,
        "ok": not (closed or told),
        "whole": peers,
        "closed": closed,
        "findings": [one.shown() for one in told],
    }


@_reported
def restart(node, when="needed", timeout=900, test=False, cluster=None):
    """Reboot a node that is closed and empty, if that is needed, and wait until it is back.

    It is back when its minion answers from another boot, its libvirt daemon answers, and nothing
    forbids guests to go there but that it is closed. The same is waited for where no reboot is
    needed.

    node
        The node's minion id.

    when
        ``needed``: if ``kvmcluster.boot`` on the node gives a reason. ``always``, or ``never``.
        Default: needed.

    timeout
        Seconds to wait for it. Default: 900.

    test
        Only say whether it would be rebooted now. Default: false.

    cluster
        The cluster's name; needed only where this master has several.

    Returns ``{cluster, node, ok, when, rebooted, needed, still, missing, findings, elapsed,
    retcode}``: ``rebooted`` is None where that was not seen, ``needed`` are the reasons before,
    ``still`` those after, ``missing`` says what of the reboot was not seen within the time,
    ``findings`` what keeps the node from being ready.

    CLI Example:

    .. code-block:: bash

        salt-run kvmcluster.restart node1
        salt-run kvmcluster.restart node1 when=always timeout=1800
    """
    found = _cluster(cluster)
    name = found.node(str(node)).id
    limit, wanted = doors.seconds(timeout, "timeout"), maintenance.when(when)
    before = _boot(name)
    if before is None:
        raise InputError(f"{name} does not answer: it was not told to reboot")
    due = before.is_due(wanted)
    begun = time.monotonic()
    done = {"cluster": found.name, "node": name, "when": wanted, "needed": list(before.needed)}
    if doors.flag(test, "test"):
        return {**done, "ok": True, "rebooted": due, "still": [], "missing": "", "findings": []}
    if due:
        missing, now = _rebooted(name, before, begun + limit)
    else:
        missing, now = "", before
    told = [] if missing else _unready(found, name, begun + limit)
    return {
        **done,
        "ok": not (missing or told),
        "rebooted": None if now is None else now.id != before.id,
        "still": list(now.needed) if now and due else [],
        "missing": missing,
        "findings": [one.shown() for one in told],
        "elapsed": time.monotonic() - begun,
    }


@_reported
def rolling(sls=None, reboot="needed", anew=False, test=False, cluster=None):
    """Begin a rolling run over all nodes, or go on with the same one that stopped within a day.

    For the orchestration ``kvmcluster.orch.rolling``: this writes down, on the master, what is
    to be done to every node; nothing is done to any.

    sls
        The SLS files to apply to each node.

    reboot
        When to reboot it: ``needed``, ``always`` or ``never``. Default: needed.

    anew
        Begin with the first node again. Default: false.

    test
        Only say which nodes would be done. Default: false.

    cluster
        The cluster's name; needed only where this master has several.

    Returns ``{cluster, ok, todo, done, retcode}``: ``done`` says when each node was done.

    CLI Example:

    .. code-block:: bash

        salt-run kvmcluster.rolling updates test=true
    """
    found = _cluster(cluster)
    own = boot.process(os.getpid())
    what = maintenance.slses(sls), maintenance.when(reboot)
    wanted = maintenance.Rolling(*what, {}, time.time(), own)
    last = _last_rolling(found)
    if last and last.process != own and boot.is_alive(last.process):
        raise InputError(
            f"a rolling run of {found.name} is under way on this master, begun or gone on with by"
            f" process {last.process.partition(':')[0]}; wait for its end"
        )
    run = maintenance.continued(wanted, last, doors.flag(anew, "anew"))
    if not doors.flag(test, "test"):
        __salt__["cache.store"](ROLLING, found.name, run.as_data())
    return maintenance.course(found, run)


@_reported
def rolling_done(node, cluster=None):
    """Note that a rolling run is done with a node; after the last one it is forgotten.

    node
        The node's minion id.

    cluster
        The cluster's name; needed only where this master has several.

    Returns what ``kvmcluster.rolling`` returns, and the node as ``just``.

    CLI Example:

    .. code-block:: bash

        salt-run kvmcluster.rolling_done node1
    """
    found = _cluster(cluster)
    name = found.node(str(node)).id
    last = _last_rolling(found)
    if last is None:
        raise InputError(f"no rolling run of {found.name} is under way")
    run = maintenance.with_done(last, name, time.time())
    data = {**maintenance.course(found, run), "just": name}
    if data["todo"]:
        __salt__["cache.store"](ROLLING, found.name, run.as_data())
    else:
        __salt__["cache.flush"](ROLLING, found.name)
    return data


def _last_rolling(found):
    """Return what is written down of the cluster's last rolling run, if it did not end well."""
    return maintenance.rolling(__salt__["cache.fetch"](ROLLING, found.name))


def _boot(node):
    return maintenance.boot(_ask([node], "kvmcluster.boot").get(node))


def _rebooted(node, before, end):
    """Have a node reboot; return what of that was not seen in time, and the boot it is in."""
    with salt.client.get_local_client(__opts__["conf_file"]) as client:
        try:
            job = client.run_job([node], "kvmcluster.reboot", [before.id], tgt_type="list")
        except SaltException as error:
            raise InputError(f"{node} could not be told to reboot: {error}") from None
        while True:
            now = _boot(node)
            answer = _late(client, job, node)
            missing = maintenance.not_back(node, before, now, answer)
            if not missing or (now and isinstance(answer, str)) or time.monotonic() > end:
                return missing, now
            time.sleep(ASK_AGAIN)


def _unready(found, node, end):
    """Wait until nothing keeps a node from taking part; return what still does in the end."""
    while True:
        told = maintenance.unready(_examined(found)[1], [node])
        if not told or time.monotonic() > end:
            return told
        time.sleep(ASK_AGAIN)


def _proposed(found, plan):
    """Return a plan that is not carried out."""
    proposed = draining.planned(plan(Batch(found)))
    return {"cluster": found.name, "ok": not proposed["stuck"], "test": True, **proposed}


def _carried_out(found, plan, drained=None):
    """Carry out a plan, and return what is to be told of it.

    drained
        The node that is to have no guest in the end.
    """
    begun, batch = time.monotonic(), Batch(found)
    first = plan(batch)
    batch.follow(first)
    with _interrupts() as interrupted, contextlib.closing(_Line(__opts__)) as line:
        carrier = master.Carrier(
            __opts__, _ask, lambda move: _of_others(found, move), interrupted, line.show
        )
        if first.steps or first.stuck:
            line.say(tables.render({"ok": True, "test": True, **draining.planned(first)}))
        said, left = carrier.carry_out(batch, plan), []
        for last in [*[False] * draining.ROUNDS, True] if drained else ():
            there = _at_the_end(found, drained, batch, interrupted, line.show)
            left = draining.active(there)
            said = said or draining.opened_meanwhile(there)
            if said or interrupted.is_set() or last or not batch.is_old:
                break
            said = carrier.carry_out(batch, plan)
    told = draining.told(found, first, batch, left, said, interrupted.is_set())
    return {**told, "elapsed": round(time.monotonic() - begun, 1)}


def _at_the_end(found, node, batch, interrupted, show):
    """Return a node's facts; a guest there that nobody had seen makes the plan an old one.

    Moves of somebody else are waited for first, for as long as one may take, and all nodes are
    asked for guests of which it is not known where they are.
    """
    end = time.monotonic() + found.migration.options.timeout
    while guests := draining.of_others(_under_way(node), batch.coming):
        if interrupted.is_set() or time.monotonic() >= end:
            break
        show(f"waiting for {given.listed(guests)}, whose move somebody else began")
        interrupted.wait(ASK_AGAIN)
    for move in batch.unsettled:
        batch.settle(move, _of_others(found, move))
    there = _facts(found, [node], reach=False, trust=False)[node]
    patience = time.monotonic() + master.SILENT
    while there.guests is None and time.monotonic() < patience and not interrupted.is_set():
        interrupted.wait(ASK_AGAIN)
        there = _facts(found, [node], reach=False, trust=False)[node]
    left = draining.active(there)
    batch.is_old = bool(set(left or ()).difference(batch.stuck, batch.given_up, batch.coming))
    return there


def _under_way(node):
    """Return the migrations that a node tells of; none if it tells nothing."""
    told = _ask([node], "kvmcluster.job").get(node)
    rows = told.get("jobs") if isinstance(told, dict) else None
    return jobs.merged({node: rows}) if isinstance(rows, list) else []


def _remembered(node):
    """Return the migrations from a node that it remembers; none if it tells nothing."""
    told = _ask([node], "kvmcluster.history", None, records.MOST).get(node)
    rows = told.get("history") if isinstance(told, dict) else None
    return records.chosen(rows if isinstance(rows, list) else (), None, records.MOST)


def _placeable(found, guest=None, source=None, destination=None):
    """Return what ``_examined`` does, for a plan: logins are tried as its moves make them."""
    dialled = reach.as_moves(found, source, destination)
    return _examined(found, guest, source, destination, dialled)


def _examined(found, guest=None, source=None, destination=None, dialled=True):
    """Return the facts of all nodes, and what they mean for the moves in question.

    Two jobs: all nodes tell their facts, then look at what the guests need.
    """
    world = World(found, _facts(found, reach=dialled))
    questions = readiness.questions(world, guest, source, destination)
    answers = _ask(list(questions), "kvmcluster.look", questions)
    world = readiness.answered(world, answers)
    return world, readiness.examine(world, guest, source, destination)


def _move(found, guest, destination):
    """Return the move that is asked for; an error in words where it cannot be right.

    Its destination is empty where none is given.
    """
    target = "" if destination is None else migration.target(found, None, destination).id
    answers = _ask(list(found.nodes), "kvmcluster.sighting", guest)
    told = whereabouts.read(answers, tuple(found.nodes))
    source = whereabouts.source(guest, told, target)
    return Move(guest, told[source].look.uuid, source, target)


def _watched(found, move, given, interrupted):
    """Have a guest moved by its node, show how far it is, and return what came of it."""
    with salt.client.get_local_client(__opts__["conf_file"]) as client:
        job = _begun(client, move, given)
        done = whereabouts.ended(_answer(client, job, found, move, interrupted)) if job else None
        end = time.monotonic() + given["patience"]
        while done is None and not interrupted.is_set():
            done = _of_others(found, move)
            if done["result"] != migration.MOVED and time.monotonic() < end:
                interrupted.wait(ASK_AGAIN)
                done = whereabouts.ended(_late(client, job, move.source))
    return done or whereabouts.lost(move, "watched no longer; the migration goes on")


def _begun(client, move, given):
    """Tell a guest's node to move it; return the job, None where nobody knows whether it was."""
    try:
        return client.run_job(
            [move.source],
            "kvmcluster.migrate",
            [move.guest, move.destination],
            tgt_type="list",
            kwarg=given,
            listen=True,
        )
    except SaltException:
        return None


def _answer(client, job, found, move, interrupted):
    """Return what a guest's node answers in the end; None if it stops answering, or we do."""
    tag = events.tag(found.name, events.MIGRATION, move.source, move.guest)
    told, begun = {}, time.monotonic()
    nodes = [move.source]
    answers = client.get_iter_returns(job["jid"], nodes, tgt=nodes, tgt_type="list", block=False)
    with (
        salt.utils.event.get_master_event(__opts__, __opts__["sock_dir"]) as bus,
        contextlib.closing(_Line(__opts__)) as line,
        contextlib.closing(answers),
    ):
        for answer in answers:
            if answer and move.source in answer:
                return answer[move.source].get("ret")
            if interrupted.is_set():
                break
            # Any event ends the waiting: one of them is the answer.
            event = bus.get_event(wait=POLL, full=True)
            if event and event["tag"] == tag:
                told = event["data"].get("data", {})
            line.show(tables.progress_line(move, told, time.monotonic() - begun))
    return None


def _late(client, job, node):
    """Return the answer of a node that was given up, if it has come all the same."""
    try:
        return client.get_cache_returns(job["jid"])[node]["ret"] if job else None
    except (KeyError, SaltClientError):
        return None


def _of_others(found, move):
    """Return what came of a migration by what the nodes that answer find."""
    try:
        return whereabouts.settled(move, _recovered(found, move.guest))
    except KvmclusterError as error:
        return whereabouts.lost(move, str(error))


def _recovered(found, guest):
    """Have the first node that answers settle a guest's last migration."""
    told = whereabouts.read(
        _ask(list(found.nodes), "kvmcluster.sighting", guest), tuple(found.nodes)
    )
    for node in whereabouts.fit_to_ask(told):
        answer = _ask([node], "kvmcluster.recover", guest).get(node)
        if whereabouts.is_ending(answer):
            return answer
        told[node] = whereabouts.silent(answer)
    raise whereabouts.nobody(guest, told)


def _told(found, function, key, *arguments):
    """Ask every node for rows by one job; return them, and why a node gave none."""
    answers = _ask(list(found.nodes), function, *arguments)
    told = {
        node: answers[node][key]
        for node in found.nodes
        if isinstance(answers.get(node), dict) and isinstance(answers[node].get(key), list)
    }
    silent = {
        node: whereabouts.silent(answers.get(node)).look.said
        for node in found.nodes
        if node not in told
    }
    return told, silent


class _Line:
    """A line on a terminal that is written over until it is closed; nowhere else is it shown."""

    def __init__(self, opts):
        self._shown = sys.stderr.isatty() and opts.get("output") in (None, __virtualname__)
        self._text = ""

    def show(self, text):
        if self._shown and text != self._text:
            self._text = text
            columns = os.get_terminal_size(sys.stderr.fileno()).columns or COLUMNS
            print(f"\r{text[: columns - 1]}\x1b[K", end="", file=sys.stderr, flush=True)

    def say(self, text):
        """Print something that stays."""
        if self._shown:
            self.close()
            print(text, file=sys.stderr, flush=True)

    def close(self):
        if self._text:
            print("\r\x1b[K", end="", file=sys.stderr, flush=True)
            self._text = ""


@contextlib.contextmanager
def _interrupts():
    """Yield an event that the first Ctrl-C sets, the next one does what it always does.

    An exception would not do: Salt's event bus takes KeyboardInterrupt for an event.
    """
    interrupted = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield interrupted
        return

    def note(number, frame):
        signal.signal(signal.SIGINT, before)
        interrupted.set()

    before = signal.signal(signal.SIGINT, note)
    try:
        yield interrupted
    finally:
        signal.signal(signal.SIGINT, before)


def _facts(found, nodes=None, **named):
    """Ask every node, or some, for their facts, by one job."""
    nodes = list(nodes or found.nodes)
    asked = time.time()
    sent = _ask(nodes, "kvmcluster.facts", **named)
    answered = time.time()
    return {node: facts.parse(node, sent.get(node), asked, answered) for node in nodes}


def _ask(nodes, function, *arguments, **named):
    """Run a function on the nodes, as one job, and return what each one answered."""
    if not nodes:
        return {}
    try:
        answers = __salt__["salt.execute"](
            nodes, function, arg=arguments, kwarg=named, tgt_type="list", full_return=True
        )
    except SaltException as error:
        # A master that was started anew has another key: it knows us the next time.
        log.warning("kvmcluster: nobody could be asked for %s: %s", function, error)
        return {}
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
    for minions in _accepted():
        _read(clusters, minions)
        if clusters.has(name):
            break
    return clusters.choose(name)


def _accepted():
    """Return the accepted minions whose cached pillar speaks of a cluster, and the others."""
    accepted = sorted(salt.utils.minions.CkMinions(__opts__).check_minions("*")["minions"])
    cached = __salt__["cache.pillar"](tgt="*")
    likely = [minion for minion in accepted if pillar_cluster.ROOT in (cached.get(minion) or {})]
    return likely, [minion for minion in accepted if minion not in likely]


def _read(clusters, minions):
    """Render the pillars of minions, but of each cluster one."""
    for minion in minions:
        if not clusters.covers(minion):
            clusters.read(minion, __salt__["pillar.show_pillar"](minion))


def _followed(reaction, tag, data):
    """Return the keys of the answers that an event calls for; what is wrong with it is logged."""
    with _HEARING:
        try:
            rumour = rumours.heard(tag, data)
            if reaction not in rumour.reactions:
                return []
            names = rumours.clusters(rumour, _memberships())
            return [rumours.key(name, reaction) for name in names]
        except InputError as error:
            said = _SAYINGS.new(str(error), time.monotonic())
            if said:
                log.warning("%s", said)
            return []


def _memberships():
    """Return the nodes of every cluster, as the pillar had them some seconds ago at most."""
    at, members = __context__.get(MEMBERSHIPS, (-MEMBERSHIPS_AGE, {}))
    if time.monotonic() - at > MEMBERSHIPS_AGE:
        clusters = pillar_cluster.Clusters()
        likely, others = _accepted()
        _read(clusters, likely or others)
        members = clusters.members()
        __context__[MEMBERSHIPS] = (time.monotonic(), members)
    return members


def _answered(spool, key, before):
    """Look, act, and log what came of it; return what a person has to do, empty if nothing.

    before
        What was returned last, which is not logged again.
    """
    name, reaction = rumours.parts(key)
    try:
        found = _cluster(name)
        needed = _REACTIONS[reaction](found, spool, before)
    except (KvmclusterError, SaltException) as error:
        needed = rumours.line(f"{key}: nothing could be done: {error}")
    except Exception as error:
        # Nobody reads what a runner returns to a reactor.
        log.exception("%s: nothing could be done", key)
        needed = rumours.line(f"{key}: nothing could be done: {error!r}")
    if needed and needed != before:
        log.error("%s", needed)
    return needed


def _mend_trust(found, spool, before):
    nodes = list(found.nodes)
    told, _ = publication.told_identities(found, _ask(nodes, MINE_FUNCTION))
    filed = doors.mine_identities(found, __salt__["mine.get"], __context__).accepted
    tried = _ask(nodes, "state.apply", "kvmcluster", test=True, queue=True)
    seen = rumours.trust(found, told, filed, tried)
    if not seen.wrong and not seen.stuck:
        log.info("cluster %s: its trust is whole; silent: %s", found.name, [*seen.silent])
        return ""
    needed = "; ".join(f"{node}: {why}" for node, why in seen.stuck.items())
    if seen.wrong:
        why = "; ".join(f"{node}: {why}" for node, why in seen.wrong.items())
        log.warning("cluster %s: its trust is mended: %s", found.name, rumours.line(why))
        needed = _orchestrate("kvmcluster.orch.prepare", {"cluster": found.name})
    if not needed:
        log.warning("cluster %s: its trust is whole again", found.name)
        return ""
    return rumours.line(
        f"cluster {found.name}: its trust is not whole: {needed}; when that is put right: salt-run"
        f' state.orchestrate kvmcluster.orch.prepare pillar=\'{{"cluster": "{found.name}"}}\''
    )


def _settle_migrations(found, spool, before):
    left = rumours.left(found, _ask(list(found.nodes), "kvmcluster.unsettled"))
    if left.watched:
        spool.leave(rumours.key(found.name, rumours.RECOVER))
    if not left.guests and not left.unread:
        silent = [*left.silent]
        log.info("cluster %s: no migration is left to be settled; silent: %s", found.name, silent)
        return ""
    needed = "; ".join(left.unread)
    if left.guests:
        names = given.listed(left.guests)
        log.warning("cluster %s: migrations are settled: %s", found.name, names)
        pillar = {"cluster": found.name, "guests": list(left.guests)}
        needed = "; ".join(filter(None, [needed, _orchestrate("kvmcluster.orch.recover", pillar)]))
    if not needed:
        log.warning("cluster %s: migrations were settled: %s", found.name, names)
        return ""
    return rumours.line(
        f"cluster {found.name}: not settled: {needed}; for each guest: salt-run"
        f" kvmcluster.recover GUEST cluster={found.name}"
    )


def _doubles(found):
    """Return the evidence for each guest that runs twice, the nodes' facts, and the time.

    Of nodes that answer one after the other a guest that moves meanwhile may be told of by both: so
    it takes two looks that show the same.
    """
    alarms, read, now = _doubled(found)
    if alarms:
        time.sleep(ASK_AGAIN)
        again, read, now = _doubled(found)
        alarms = alarm.steady(alarms, again)
    return alarms, read, now


def _doubled(found):
    sent = _ask(list(found.nodes), "kvmcluster.facts", reach=False, trust=False)
    now = datetime.now(timezone.utc)
    read = {
        node: facts.parse(node, sent.get(node), now.timestamp(), now.timestamp())
        for node in found.nodes
    }
    return alarm.alarms(found, read, sent, now), read, now


def _tell_doubles(found, spool, before):
    alarms, read, now = _doubles(found)
    if not alarms:
        silent = [node for node, one in read.items() if one.guests is None]
        log.info("cluster %s: no guest is seen to run twice; silent: %s", found.name, silent)
        return ""
    sentences = "; ".join(one["sentence"] for one in alarms)
    needed = rumours.line(
        f"cluster {found.name}: {alarm.summary(alarms)}; nothing was touched; to see it: salt-run"
        f" kvmcluster.status cluster={found.name}: {sentences}"
    )
    if needed != before:
        stamp = now.strftime("%Y%m%dT%H%M%S")
        text = json.dumps(alarms, indent=1) + "\n"
        path = spool.keep(f"alarm.{found.name}", stamp, text)
        log.error("cluster %s: a guest runs twice, the evidence is in %s", found.name, path)
        for one in alarms:
            tag = events.tag(found.name, events.ALARM, one["nodes"][0], one["guest"])
            __salt__["event.send"](tag, events.small(alarm.small(one)))
    return needed


_REACTIONS = {
    rumours.TRUST: _mend_trust,
    rumours.RECOVER: _settle_migrations,
    rumours.ALARM: _tell_doubles,
}


def _orchestrate(sls, pillar):
    """Run an orchestration as a job of its own; return why states of it failed, empty if none."""
    client = salt.runner.RunnerClient({**__opts__})
    try:
        done = client.cmd(
            "state.orchestrate",
            kwarg={"mods": sls, "pillar": pillar},
            print_event=False,
            full_return=True,
        )
    finally:
        # Salt 3006 has nothing to close there.
        getattr(client, "destroy", bool)()
    returned = done.get("return")
    data = returned.get("data") if isinstance(returned, dict) else None
    return rumours.failures(next(iter(data.values()), None) if data else returned)
