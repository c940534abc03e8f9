"""Runner: the whole cluster, from the master.

Membership comes from the pillar, rendered on the master at each call. Every function returns plain
data with ``kind``, ``ok`` and ``retcode``, prints it by the outputter ``kvmcluster``, and ends with
exit code 1 unless it is ``ok``; ``--out=json`` prints the data itself.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import salt.utils.yaml

from saltext_kvmcluster import doors
from saltext_kvmcluster.core import cordons, validate
from saltext_kvmcluster.core.applying import outcome
from saltext_kvmcluster.core.drain import assessment, immovable, maintenance, updates
from saltext_kvmcluster.core.errors import InputError, KvmclusterError
from saltext_kvmcluster.core.failover import shortages
from saltext_kvmcluster.core.guest.graphics import Ways
from saltext_kvmcluster.core.migration import jobs, migration, records
from saltext_kvmcluster.core.monitoring.metrics import families
from saltext_kvmcluster.core.ownership import locations, startup
from saltext_kvmcluster.core.pillar import options
from saltext_kvmcluster.core.pillar.clusters import Cluster
from saltext_kvmcluster.core.pillar.ha import Ha
from saltext_kvmcluster.core.pillar.names import guest_name
from saltext_kvmcluster.core.readiness import ha_refusals, move_findings
from saltext_kvmcluster.core.rgmanager import clusterconf, pillar_text
from saltext_kvmcluster.core.text import one_line
from saltext_kvmcluster.core.trust import rotation
from saltext_kvmcluster.core.trust.identity import Identity
from saltext_kvmcluster.core.verbs import access, selection, targets
from saltext_kvmcluster.engine import (
    applier,
    drainer,
    evacuation,
    fencing_test,
    rotator,
    takeover,
    verbs,
)
from saltext_kvmcluster.host import files
from saltext_kvmcluster.master import (
    balances,
    exposition,
    holds,
    matrix,
    page,
    pillars,
    progress,
    publisher,
    reboots,
    rollings,
    search,
    survey,
    terminal,
    viewer,
)
from saltext_kvmcluster.master.nodes import SaltNodes
from saltext_kvmcluster.master.outbox import Outbox
from saltext_kvmcluster.master.reactor import Reactor
from saltext_kvmcluster.master.stopped import StoppedGuests
from saltext_kvmcluster.master.watch import Watch

__virtualname__ = "kvmcluster"

# Set by Salt's loader.
__context__: dict[str, Any]
__opts__: dict[str, Any]
__salt__: dict[str, Callable[..., Any]]


def __virtual__() -> str:
    return __virtualname__


def _reported(function: Callable[..., Any]) -> Callable[..., Any]:
    """Turn a function's errors into data, and have its data printed by our outputter."""
    checked = doors.checks_arguments(function, "salt-run")

    @functools.wraps(checked)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        terminal.INTERRUPTED.clear()
        try:
            data = checked(*args, **kwargs)
        except KvmclusterError as error:
            data = {"kind": "error", "ok": False, "error": str(error)}
        if isinstance(data, list):  # That of `react` is for no person.
            return data
        if terminal.INTERRUPTED.is_set():
            data = {**data, "interrupted": True}
        return {"data": {**data, "retcode": 0 if data["ok"] else 1}, "outputter": "kvmcluster"}

    return wrapped


@_reported
def members(cluster: str | None = None) -> dict[str, Any]:
    """Return the minion ids of a cluster's nodes, as the pillar names them.

    The pillar of every node is rendered, and has to be the same as that of the first one. It is not
    asked by which pillar nodes work: ``kvmcluster.status`` does that.

    cluster
        The cluster's name; needed only where this master has several.

    Returns ``{cluster, ok, members, faults, retcode}``: ``faults`` says by node what is wrong with
    its pillar: it does not render, has an error, is of another cluster, or differs.

    CLI Example:

    .. code-block:: bash

        salt-run kvmcluster.members
    """
    found = _cluster(cluster)
    faults = pillars.faults(found, found.nodes, __opts__, __salt__)
    return {
        "kind": "members",
        "cluster": found.name,
        "ok": not faults,
        "members": list(found.nodes),
        "faults": faults,
    }


@_reported
def publish(
    cluster: str | None = None,
    timeout: float = 60,
    test: bool = False,
    nodes: str | list[str] | None = None,
) -> dict[str, Any]:
    """Have every node publish its identity, and wait until the mine holds it.

    cluster
        The cluster's name; needed only where this master has several.

    timeout
        Seconds to wait for the mine. Default: 60.

    test
        Only return what would be published. Default: false.

    nodes
        The minion id of a node, or a list of several. Default: all.

    Returns ``{cluster, ok, published, unchanged, failed, retcode}``; ``failed`` has the
    reason for each node whose identity is not in the mine.

    CLI Example:

    .. code-block:: bash

        salt-run kvmcluster.publish
    """
    of_cluster = _nodes(cluster)
    found = of_cluster.cluster

    def filed() -> Mapping[str, Identity]:
        return doors.mine_identities(found, __salt__["mine.get"], __context__).accepted

    limit, dry = doors.seconds(timeout, "timeout"), doors.flag(test, "test")
    return publisher.published(of_cluster, filed, limit, dry, maintenance.to_work_on(found, nodes))


@_reported
def ssh_matrix(
    cluster: str | None = None,
    timeout: float = 10,
    time_limit: float = 120,
    wait: float | None = None,
) -> dict[str, Any]:
    """Check ssh from every node to every node by every name.

    cluster
        The cluster's name; needed only where this master has several.

    timeout
        Seconds for one login. Default: 10.

    time_limit
        Seconds for all logins of one node. Default: 120.

    wait
        Seconds for which all is tried again while nothing is wrong but that sshd refuses logins for
        a time, as it does after failed ones (PerSourcePenalties of OpenSSH 9.8 and newer).
        Default: none.

    Returns ``{cluster, nodes, ok, cells, good, rows, silent, waited, retcode}``: ``rows`` holds
    each node's ``kvmcluster.ssh_check``, ``silent`` the nodes that reported nothing, with the
    reason; ``waited`` the seconds.

    CLI Example:

    .. code-block:: bash

        salt-run kvmcluster.ssh_matrix
        salt-run kvmcluster.ssh_matrix --out=json
    """
    limits = {
        "timeout": doors.seconds(timeout, "timeout"),
        "time_limit": doors.seconds(time_limit, "time_limit"),
        "wait": 0.0 if wait is None else doors.seconds(wait, "wait"),
    }
    with _nodes(cluster) as nodes, terminal.attached(__opts__) as console:
        return matrix.observed(nodes, console, **limits)


@_reported
def status(cluster: str | None = None) -> dict[str, Any]:
    """Return every guest of the cluster: where it is, its state, and whether it can move.

    All nodes are asked by one job. One whose minion gives no facts is asked by up to three peers,
    over ssh. The exit code is for monitoring: it is 0 if nothing in ``problems`` needs a person;
    docs/status.md has the list. ``notes`` are what somebody wanted so, as a guest that was shut
    down by ``kvmcluster.shutdown``, or is paused by its user, and need nobody. What a second look
    a few seconds later does not show is no problem, and no migration under way is one: a guest that
    migrates has a row for each of its halves.

    cluster
        The cluster's name; needed only where this master has several.

    Returns ``{cluster, ok, nodes, silent, problems, kinds, notes, status, retcode}``: ``kinds``
    counts the problems by kind, as ``runs_nowhere``. ``nodes`` has for each node ``{state,
    seen_from, cordoned, cordon, guests, active, memory_kib, free_kib, cpus}``, ``seen_from`` the
    peer that asked it over ssh, ``cordon`` is ``{since, reason}``; ``silent`` why a node did not
    report its guests itself; ``status`` a row for each guest and node where it is active: what
    ``kvmcluster.guests`` returns, ``where`` (a node, ``nowhere``, or ``?`` while a node's guests
    are not known) and ``defined``, the nodes that have its definition. A guest of the pillar's list
    that no node has is a row, too.

    CLI Example:

    .. code-block:: bash

        salt-run kvmcluster.status
        salt-run kvmcluster.status --out=json
    """
    nodes = _nodes(cluster)
    return survey.status_of(nodes, __salt__)[1].to_dict()


@_reported
def capacity(nodes: int = 1, cluster: str | None = None) -> dict[str, Any]:
    """Return which guests would find no place on the other nodes if any so many of them were lost.

    Every set of so many nodes is tried, by a plan of its own: by all checks of a start, memory,
    hugepages, and the pillar's ``only``, ``apart`` and ``with``; a group of ``guests: with`` is
    parted only where no node can take all of it. Memory is what nodes report as available now. What
    may keep a guest from moving, as a host's device, counts as what keeps it from starting
    elsewhere. Two jobs, as for ``kvmcluster.check``; it needs no cluster engine, and changes
    nothing.

    nodes
        How many nodes are lost at once. At most 20,000 sets of nodes are tried, so of 100 nodes at
        most 2. Default: 1.

    cluster
        The cluster's name; needed only where this master has several.

    Returns ``{cluster, ok, nodes, cases, guests, shortages, silent, retcode}``: ``cases`` sets of
    nodes were tried, with ``guests`` active guests. ``shortages`` has ``{guest, node, lost, cases,
    why}`` for each guest that would find no place: ``node`` is where it is, ``lost`` the first set
    of nodes of which that is so, ``cases`` says of how many it is. ``silent`` has the reason for
    each node whose guests are not known. It is ``ok`` if both are empty.

    CLI Example:

    .. code-block:: bash

        salt-run kvmcluster.capacity
        salt-run kvmcluster.capacity nodes=2 --out=json
    """
    of_cluster = _nodes(cluster)
    number = shortages.count(of_cluster.cluster, nodes)
    return shortages.report(of_cluster.startable(), number).to_dict()


@_reported
def metrics(path: str | None = None, cluster: str | None = None) -> dict[str, Any]:
    """Return figures of the cluster as text for Prometheus, or write them into a file.

    One job, as for ``kvmcluster.status``; it changes nothing on the nodes. A node that does not
    answer has ``kvmcluster_node_up 0`` and no other figure, and what is not known then of the
    cluster is left out. docs/monitoring.md has the list of figures, alert rules, and a schedule.
    Needs ``prometheus_client`` on the master, the extra ``metrics``.

    path
        The file to replace as a whole, for node_exporter's textfile collector: an absolute path
        that ends in ``.prom``, in a folder that exists. Default: none, the text is printed.

    cluster
        The cluster's name; needed only where this master has several: a file for each.

    Returns ``{cluster, ok, path, samples, text, silent, retcode}``: ``text`` is None if there is a
    ``path``; ``silent`` has the reason for each node that did not report its guests itself. It is
    ``ok`` once the cluster was looked at, whatever was seen: its problems are a figure.

    CLI Example:

    .. code-block:: bash

        salt-run kvmcluster.metrics
        salt-run kvmcluster.metrics path=/var/lib/prometheus/node-exporter/kvmcluster.prom
    """
    exposition.client_library()
    file = None if path is None else exposition.checked_path(path)
    seen = survey.observed(_nodes(cluster), __salt__)
    found = families(seen)
    text = exposition.text(found)
    if file is not None:
        exposition.write(file, text)
    return {
        "kind": "metrics",
        "cluster": seen.cluster.name,
        "ok": True,
        "path": file,
        "samples": sum(len(one.samples) for one in found),
        "text": text if file is None else None,
        "silent": dict(seen.status.silent),
    }


@_reported
def check(
    guest: str | None = None, destination: str | None = None, cluster: str | None = None
) -> dict[str, Any]:
    """Return which guest of the cluster can move where, and why not, with a remedy for each reason.

    Two jobs: all nodes report their facts, then inspect what the guests need. Names, UUIDs and
    disks are compared over all guests of all nodes. Logins are tried by the migration name, as a
    migration does; ``kvmcluster.ssh_matrix`` tries every name.

    guest
        The guest in question. Its node and the destination are checked, the others asked for what
        keeps it unique. Default: all that are active.

    destination
        The minion id of the destination in question. Default: every node.

    cluster
        The cluster's name; needed only where this master has several.

    Returns what ``kvmcluster.check`` returns, and ``retcode``.

    CLI Example:

    .. code-block:: bash

        salt-run kvmcluster.check
        salt-run kvmcluster.check web1 node2
        salt-run kvmcluster.check --out=json
    """
    nodes = _nodes(cluster)
    guest, destination = migration.wanted(nodes.cluster, None, guest, destination)
    if guest is None:
        return nodes.placeable(destination=destination)[1].to_dict()
    return nodes.checked(guest, destination).to_dict()


@_reported
@doors.takes_options
def migrate(
    guest: str,
    destination: str | None = None,
    wait: bool = True,
    patience: float = 60,
    cluster: str | None = None,
    **named: Any,
) -> dict[str, Any]:
    """Migrate a guest live to a node, wherever it is now, and return where it is afterwards.

    Finds the guest by one job on all nodes, and has its node migrate it. On a terminal a line shows
    the progress. Ctrl-C ends the display; the migration continues. If the node becomes
    unreachable, the others are asked where the guest is.

    guest
        The guest's name, exactly.

    destination
        The minion id of the destination. Default: the best one, by all checks and the nodes' load;
        ``chosen`` says why.

    |options|

    wait
        As ``kvmcluster.migrate`` on a node has it. Default: true.

    patience
        Seconds to keep asking if it is not certain where the guest is after libvirt has ended the
        migration, or its node has become unreachable. Default: 60.

    cluster
        The cluster's name; needed only where names do not decide.

    An option that is left out is that of the pillar, ``kvmcluster:migration``.

    Returns what ``kvmcluster.migrate`` on a node returns, ``ok`` and ``retcode``; the exit code
    is zero if the guest was moved.

    CLI Example:

    .. code-block:: bash

        salt-run kvmcluster.migrate web1 node2
        salt-run kvmcluster.migrate web1
        salt-run kvmcluster.migrate web1 node2 bandwidth=50 --out=json
    """
    nodes = _nodes_with(guest, cluster, destination)
    limit = doors.seconds(patience, "patience")
    options.of_call(nodes.cluster.migration.options, named)
    given = {key: value for key, value in named.items() if value is not None}
    given |= {"wait": doors.flag(wait, "wait"), "patience": limit}
    guest, chosen, warnings = guest_name(guest, "guest"), "", []
    if destination is None:
        move, chosen = nodes.best_move(guest)
    else:
        move, silent, answered = nodes.move(guest, destination)
        warnings = move_findings.of_silent_minion(move, silent, answered)
    progress.warn(warnings)
    done = progress.watched(nodes, move, given)
    done = move_findings.with_warnings(done, warnings)
    moved = done["result"] == migration.MOVED
    return {**done, "kind": "migration", "chosen": chosen, "ok": moved}


@_reported
def start(
    guest: str | list[str],
    node: str | None = None,
    force_unreachable: str | list[str] | None = None,
    timeout: float = 300,
    force_unguarded: bool = False,
    test: bool | None = None,
    cluster: str | None = None,
) -> dict[str, Any]:
    """Start guests that run nowhere, each on the node where it is best.

    That is its home by the pillar; where that one cannot, the best by all checks of a start, memory
    and the pillar's ``only``, ``apart``, ``with`` and ``prefer``. The node then does what
    ``kvmcluster.start`` does there: every node of the cluster has to answer that it does not have
    the guest. Of more than one the plan is shown, and nothing is done unless ``test=False``.

    guest
        The guest's name, exactly; several with commas, a list, or a pattern as ``web*``.

    node
        The minion id of the node that is to start them. Default: the best.

    force_unreachable, timeout, force_unguarded
        As of ``kvmcluster.start`` on a node. ``timeout`` is for each guest. Default: 300 s.

    test
        Only show what would be done. Default: true for more than one guest, else false.

    cluster
        The cluster's name; needed only where names do not decide.

    Returns what ``kvmcluster.shutdown`` returns; ``result`` is ``started``, ``running`` (it ran
    already, ``owner`` says where), ``not_started``, ``unknown`` or ``refused``.

    CLI Example:

    .. code-block:: bash

        salt-run kvmcluster.start web1
        salt-run kvmcluster.start web1 node2
        salt-run kvmcluster.start 'web*' test=False
    """
    named = {
        "force_unreachable": force_unreachable,
        "timeout": doors.seconds(timeout, "timeout"),
        "force_unguarded": doors.flag(force_unguarded, "force_unguarded"),
    }
    return _acted(targets.START, guest, test, cluster, "kvmcluster.start", named, node=node)


@_reported
def shutdown(
    guest: str | list[str],
    timeout: float = 120,
    destroy: bool = False,
    test: bool | None = None,
    cluster: str | None = None,
) -> dict[str, Any]:
    """Shut down guests by their power button (ACPI), wherever they are, and wait for it.

    As ``kvmcluster.shutdown`` on their nodes: they are to stay off until somebody starts them. A
    guest that is off already is noted so. Of more than one the plan is shown, and nothing is done
    unless ``test=False``.

    guest
        The guest's name, exactly; several with commas, a list, or a pattern as ``web*``.

    timeout
        Seconds to wait for each. Default: 120.

    destroy
        Whether to power off one that is still running then: data that it has not written is lost.
        Default: false.

    test
        Only show what would be done. Default: true for more than one guest, else false.

    cluster
        The cluster's name; needed only where names do not decide.

    Returns ``{cluster, verb, ok, test, asks, guests, silent, unmatched, retcode}``: ``guests`` has
    ``{guest, node, ok, result, reason, owner, warnings}`` for each guest: ``node`` did it,
    ``result`` is ``stopped``, ``not_stopped``, ``unknown`` or ``refused``, as observed afterwards;
    with ``test`` it is ``planned``, and ``reason`` says where the guest is. ``asks``: nothing was
    done, since ``test=False`` is missing. ``silent``: which nodes do not tell their guests, where a
    pattern may mean some of them; ``unmatched``: patterns that no guest matches. It is ``ok`` if
    every guest that is meant is as wished.

    CLI Example:

    .. code-block:: bash

        salt-run kvmcluster.shutdown web1
        salt-run kvmcluster.shutdown web1,web2 test=False
    """
    named = {
        "timeout": doors.seconds(timeout, "timeout"),
        "destroy": doors.flag(destroy, "destroy"),
    }
    return _acted(targets.SHUTDOWN, guest, test, cluster, "kvmcluster.shutdown", named)


@_reported
def freeze(
    guest: str | list[str],
    reason: str,
    test: bool | None = None,
    cluster: str | None = None,
) -> dict[str, Any]:
    """Forbid to move guests, wherever they are, until ``kvmcluster.unfreeze``.

    As ``kvmcluster.freeze`` on their nodes. Of more than one the plan is shown, and nothing is done
    unless ``test=False``.

    guest
        The guest's name, exactly; several with commas, a list, or a pattern as ``web*``.

    reason
        Why; shown when a move is refused.

    test
        Only show what would be done. Default: true for more than one guest, else false.

    cluster
        The cluster's name; needed only where names do not decide.

    Returns what ``kvmcluster.shutdown`` returns; ``result`` is ``frozen``, ``not_frozen``,
    ``unknown`` or ``refused``.

    CLI Example:

    .. code-block:: bash

        salt-run kvmcluster.freeze web1 'backup until Monday, ask Ann'
    """
    named = {"reason": startup.freezing_reason(reason)}
    return _acted(targets.FREEZE, guest, test, cluster, "kvmcluster.freeze", named)


@_reported
def unfreeze(
    guest: str | list[str], test: bool | None = None, cluster: str | None = None
) -> dict[str, Any]:
    """Allow to move guests again, wherever they are.

    As ``kvmcluster.unfreeze`` on their nodes. Of more than one the plan is shown, and nothing is
    done unless ``test=False``.

    guest
        The guest's name, exactly; several with commas, a list, or a pattern as ``web*``.

    test
        Only show what would be done. Default: true for more than one guest, else false.

    cluster
        The cluster's name; needed only where names do not decide.

    Returns what ``kvmcluster.freeze`` returns.

    CLI Example:

    .. code-block:: bash

        salt-run kvmcluster.unfreeze web1
    """
    return _acted(targets.UNFREEZE, guest, test, cluster, "kvmcluster.unfreeze", {})


@_reported
def console(guest: str, cluster: str | None = None) -> dict[str, Any]:
    """Return the command that opens a guest's serial console, wherever it runs.

    guest
        The guest's name, exactly.

    cluster
        The cluster's name; needed only where names do not decide.

    Returns ``{cluster, guest, node, ok, reason, commands, retcode}``: ``commands`` are to be typed
    by somebody who may log in to the node, ``reason`` says why there is none.

    CLI Example:

    .. code-block:: bash

        salt-run kvmcluster.console web1
    """
    return access.console(*_reached(guest, cluster))


@_reported
def display(guest: str, cluster: str | None = None) -> dict[str, Any]:
    """Return the addresses of a guest's displays, wherever it runs, and what leads there.

    As the definition that runs has them. If one listens on its node alone, or on a socket, the
    command of an ssh tunnel comes first. A password that it may ask for is not shown.

    guest
        The guest's name, exactly.

    cluster
        The cluster's name; needed only where names do not decide.

    Returns what ``kvmcluster.console`` returns, and ``displays`` with ``{kind, listens, address,
    port, tls_port, socket, where, commands}`` for each: the first five by libvirt's words,
    ``where`` as text.

    CLI Example:

    .. code-block:: bash

        salt-run kvmcluster.display web1
    """
    return access.display(*_reached(guest, cluster))


@_reported
def cordon(node: str, reason: str, cluster: str | None = None) -> dict[str, Any]:
    """Cordon a node: no guest starts on it or moves to it until ``kvmcluster.uncordon``.

    What runs there stays; ``kvmcluster.drain`` moves it away as well.

    node
        The node's minion id.

    reason
        Why; shown in status and refusals.

    cluster
        The cluster's name; needed only where names do not decide.

    Returns what ``kvmcluster.cordon`` on the node returns, ``ok`` and ``retcode``.

    CLI Example:

    .. code-block:: bash

        salt-run kvmcluster.cordon node1 'new memory, ask Ann'
    """
    why = cordons.checked_reason(reason)
    with _nodes_of(node, cluster) as nodes:
        return drainer.cordon(nodes, node, why)


@_reported
def uncordon(
    node: str,
    reason: str | None = None,
    patience: float = 60,
    cluster: str | None = None,
) -> dict[str, Any]:
    """Uncordon a node: guests may start on it and move to it. The same as ``kvmcluster.undrain``.

    node, reason, patience, cluster
        As of ``kvmcluster.undrain``.

    Returns what ``kvmcluster.undrain`` returns.

    CLI Example:

    .. code-block:: bash

        salt-run kvmcluster.uncordon node1
    """
    return _undrained(node, False, reason, patience, cluster)


@_reported
def drain(
    node: str, reason: str | None = None, test: bool = False, cluster: str | None = None
) -> dict[str, Any]:
    """Cordon a node and move all its guests to others, by a plan made beforehand.

    The plan gives each guest the place where it fits best: by every check, memory and CPUs, what
    goes there already, and the pillar's ``only``, ``apart``, ``with``, ``prefer`` and home; a group
    that is parted by it is named with the reason. As many moves at once as the
    pillar allows, the biggest guest first; when one fails, the rest is planned anew. What can go
    nowhere stays, with the reasons. Where Pacemaker may start guests on the node, it is put on
    standby once it is empty; if no other node of Pacemaker's takes guests, nothing is done.

    The node stays cordoned, over a reboot too, until ``kvmcluster.undrain``: nothing starts on it
    and nothing moves to it. An interrupted drain continues when it is called again. At
    Ctrl-C the node begins no further moves; those that are under way continue. If this process is
    killed, the node carries out its list; uncordoned, it begins nothing further of it.

    node
        The node's minion id.

    reason
        Why; shown in status and refusals. Default: ``drained``.

    test
        Only show the plan; the node is not cordoned. Default: false.

    cluster
        The cluster's name; needed only where names do not decide.

    Returns ``{cluster, node, ok, test, plan, stuck, moved, failed, under_way, left, detail,
    cordoned, elapsed, retcode}``. ``plan`` has ``{guest, uuid, source, destination, why}`` for each
    move that was planned at first, ``stuck`` has the reasons for each guest that is not moved,
    ``moved`` are all moves away since the node was cordoned, ``failed`` the attempts that moved
    nothing, ``left`` the guests that are active there in the end (None if not known), ``cordoned``
    is ``{since, reason}``, ``standby`` whether we have put it on standby in Pacemaker, ``elapsed``
    is in seconds. It is ``ok`` if none is left.

    CLI Example:

    .. code-block:: bash

        salt-run kvmcluster.drain node1 test=True
        salt-run kvmcluster.drain node1 'new memory, ask Ann'
    """
    dry = doors.flag(test, "test")
    with _nodes_of(node, cluster) as nodes, _console(nodes, "drain", node, dry) as console:
        drainer.refuse_managed(nodes, node)
        return drainer.drain(nodes, console, node, reason, dry).to_dict()


@_reported
def undrain(
    node: str,
    home: bool = False,
    reason: str | None = None,
    patience: float = 60,
    cluster: str | None = None,
) -> dict[str, Any]:
    """Uncordon a node: guests may start on it and move to it.

    A standby in Pacemaker that a drain has set is taken back, that of a person stays. While states
    run on it, wait in its minion's queue, or may do so, that is waited for; then the
    node stays cordoned.

    node
        The node's minion id.

    home
        Whether to move the guests there whose home it is, by the pillar, and that are active
        elsewhere. Default: false.

    reason
        Uncordon it only if that is why it is cordoned. Default: whatever cordons it.

    patience
        Seconds to wait for states that run or wait there. Default: 60.

    cluster
        The cluster's name; needed only where names do not decide.

    Returns ``{cluster, node, ok, uncordoned, plan, stuck, moved, failed, under_way, detail,
    elapsed, shut_down, retcode}``, as ``kvmcluster.drain``; ``uncordoned`` is false if it was not
    cordoned, ``shut_down`` are guests that maintenance has shut down and not started again yet.

    CLI Example:

    .. code-block:: bash

        salt-run kvmcluster.undrain node1
        salt-run kvmcluster.undrain node1 home=True
    """
    return _undrained(node, doors.flag(home, "home"), reason, patience, cluster)


@_reported
def balance(
    most: int | None = None,
    test: bool | None = None,
    scheduled: bool = False,
    cluster: str | None = None,
) -> dict[str, Any]:
    """Propose the few moves that mend groups and even out the nodes' load most, or make them.

    First come the rules of the pillar that are broken: guests outside of their ``only``, guests
    that are to be ``apart``, groups ``with`` that are parted, guests that ``prefer`` another node.
    Then the load: the share of a node's memory, or of its CPUs, that is in use, the larger of the
    two. No rule is broken for it, and nothing is moved off a cordoned node, or that is frozen.

    most
        How many moves at most. Default: 4.

    test
        Only show the plan. Default: true.

    scheduled
        For Salt's scheduler: act as the pillar's ``kvmcluster:balance`` wants it, so that ``most``
        and ``test`` are refused: in its mode, only at its times, only if something is due and has
        lasted, and no more than so many moves an hour. Nothing is moved while a node of the cluster
        is silent, a guest migrates, Pacemaker acts on a guest, or another run is at work on this
        master. Each move fires an event ``kvmcluster/CLUSTER/balance/NODE/GUEST``. Default: false.

    cluster
        The cluster's name; needed only where this master has several.

    Returns ``{cluster, ok, test, plan, stuck, notes, moved, failed, under_way, detail, elapsed,
    retcode}``, as ``kvmcluster.drain``; ``notes`` say which rules stay broken, and why. With
    ``scheduled`` also ``scheduled``: ``{mode, due, why, imbalance}``.

    CLI Example:

    .. code-block:: bash

        salt-run kvmcluster.balance
        salt-run kvmcluster.balance most=2 test=False
        salt-run kvmcluster.balance scheduled=True
    """
    if doors.flag(scheduled, "scheduled"):
        balances.refuse_arguments(most=most, test=test)
        return balances.balance(__opts__, __salt__, _nodes(cluster))
    number, dry = 4 if most is None else most, test is None or doors.flag(test, "test")
    with _nodes(cluster) as nodes, _console(nodes, "balance", test=dry) as console:
        return drainer.balance(nodes, console, number, dry).to_dict()


@_reported
def job(guest: str | None = None, cluster: str | None = None) -> dict[str, Any]:
    """Return the migrations that are under way in the cluster, with their progress.

    guest
        The guest in question. Default: all.

    cluster
        The cluster's name; needed only where this master has several.

    Returns ``{cluster, ok, jobs, silent, retcode}``: ``jobs`` as ``kvmcluster.job`` on a node,
    ``silent`` has the reason for each node that reported nothing.

    CLI Example:

    .. code-block:: bash

        salt-run kvmcluster.job
        salt-run kvmcluster.job web1
    """
    nodes = _nodes(cluster)
    wanted = None if guest is None else guest_name(guest, "guest")
    reported, silent = nodes.rows("kvmcluster.job", "jobs")
    rows = [row for row in jobs.merged(reported) if wanted in (None, row["guest"])]
    if wanted is not None and not rows:
        nodes.refuse_unknown(wanted)
    return {**_of_cluster("jobs", nodes), "ok": not silent, "jobs": rows, "silent": silent}


@_reported
def watch(
    interval: float = 3,
    time_limit: float | None = None,
    once: bool = False,
    cluster: str | None = None,
) -> dict[str, Any]:
    """Watch the cluster: migrations, the queue, nodes, problems, and what runs on this master.

    A drain, undrain, balance, maintenance or rolling run that another process of this master began
    is shown with how far it is; what was begun elsewhere, or lost its process, by its migrations.
    On a terminal, with the library ``rich``, the view fills it; otherwise there is a line for each
    change. Ctrl-C ends the view, and nothing else.

    All nodes are asked for their migrations by one small job every ``interval`` seconds, and every
    30 seconds for what ``kvmcluster.status`` asks. A node that does not answer is asked again ever
    more seldom, and nobody waits for it: after 10 seconds it is shown as silent, with since when.

    interval
        Seconds between two questions about migrations. Default: 3.

    time_limit
        Seconds after which it ends by itself. Default: none.

    once
        Show it once, and end. Default: false.

    cluster
        The cluster's name; needed only where this master has several.

    Returns what was seen last: ``{cluster, ok, at, nodes, moving, queue, ended, runs, problems,
    status_at, retcode}``: ``nodes`` by node ``{state, detail, cordoned, active, guests, free_kib,
    memory_kib}``, ``moving`` and ``queue`` rows of ``kvmcluster.job``, ``ended`` rows of
    ``kvmcluster.history`` for migrations that were seen under way, ``runs`` ``{name, pid, alive,
    line, remedy, progress}``, ``problems`` as of ``kvmcluster.status`` without those of pillars as
    the master renders them, None before they were seen. It is ``ok`` if the master answered.

    CLI Example:

    .. code-block:: bash

        salt-run kvmcluster.watch
        salt-run kvmcluster.watch interval=10 | tee watched.txt
        salt-run kvmcluster.watch once=true --out=json
    """
    every = doors.seconds(interval, "interval")
    limit = None if time_limit is None else doors.seconds(time_limit, "time_limit")
    single = doors.flag(once, "once")
    with (
        _nodes(cluster) as nodes,
        terminal.interrupts() as interrupted,
        contextlib.closing(Outbox(nodes)) as outbox,
        viewer.opened(__opts__, single) as shown,
    ):
        return Watch(nodes, __salt__, every, outbox).until(shown, interrupted, limit, single)


@_reported
def cancel(guest: str, cluster: str | None = None) -> dict[str, Any]:
    """Cancel a guest's migration, and return where the guest is afterwards.

    One job asks all nodes for their migrations; the node that sends the guest ends it.

    guest
        The guest's name, exactly.

    cluster
        The cluster's name; needed only where names do not decide.

    Returns what ``kvmcluster.cancel`` on a node returns, ``ok`` and ``retcode``.

    CLI Example:

    .. code-block:: bash

        salt-run kvmcluster.cancel web1
    """
    name = guest_name(guest, "guest")
    done = _nodes_with(name, cluster).cancelled(name)
    return {**done, "kind": "recovery"}


@_reported
def recover(guest: str, cluster: str | None = None) -> dict[str, Any]:
    """Settle a guest's last migration, as far as the observations of all nodes allow.

    The first node that answers does it: it asks all others, over the cluster's own ssh trust. What
    was left of the guest half-way in Pacemaker is ended as well.

    guest
        The guest's name, exactly.

    cluster
        The cluster's name; needed only where names do not decide.

    Returns what ``kvmcluster.recover`` on a node returns, ``ok`` and ``retcode``.

    CLI Example:

    .. code-block:: bash

        salt-run kvmcluster.recover web1
    """
    name = guest_name(guest, "guest")
    done = _nodes_with(name, cluster).recovered(name)
    return {**done, "kind": "recovery", "ok": locations.is_settled(done)}


@_reported
def history(
    guest: str | None = None, limit: int = 50, cluster: str | None = None
) -> dict[str, Any]:
    """Return the migrations of the cluster that ended, the newest last.

    A start with ``force_unreachable`` is among them, as ``started``: from the nodes that were
    declared offline; as ``start_unknown`` if the guest was not seen to run afterwards.

    guest
        The guest in question. Default: all.

    limit
        How many of them at most. Default: 50.

    cluster
        The cluster's name; needed only where this master has several.

    Returns ``{cluster, ok, history, silent, retcode}``: ``history`` as ``kvmcluster.history`` on
    a node, ``silent`` has the reason for each node that reported nothing.

    CLI Example:

    .. code-block:: bash

        salt-run kvmcluster.history
        salt-run kvmcluster.history web1 limit=5
    """
    nodes = _nodes(cluster)
    wanted = None if guest is None else guest_name(guest, "guest")
    most = records.number_of(limit)
    reported, silent = nodes.rows("kvmcluster.history", "history", wanted, most)
    rows = records.merged(reported, wanted, most)
    if wanted is not None and not rows:
        nodes.refuse_unknown(wanted)
    return {**_of_cluster("history", nodes), "ok": not silent, "history": rows, "silent": silent}


@_reported
def report(path: str, cluster: str | None = None) -> dict[str, Any]:
    """Write a page that shows the cluster to people: one HTML file, which loads nothing.

    Problems and what to do come first; then nodes with their guests and load, who can go where and
    why not, the migrations with their duration and downtime, cordons and notes. It shows one
    moment, and which nodes did not answer then. docs/report.md has a picture of it.

    All nodes are asked by one job, and about their guests by a second one, as for
    ``kvmcluster.check``; of the migrations, the last 200 of each node are asked for. Nothing else
    is changed.

    path
        The file, by its absolute path on the master; it ends in ``.html``, and its folder exists.
        It is replaced as a whole, and only if it is such a page; everybody may read it (0644).

    cluster
        The cluster's name; needed only where this master has several.

    Returns ``{cluster, ok, path, bytes, observed, problems, silent, retcode}``: ``observed`` is
    when the nodes were asked, ``problems`` how many the page shows, ``silent`` why a node did not
    report its guests itself. It is ``ok`` if the page was written, whatever it shows: for
    monitoring there is ``kvmcluster.status``.

    CLI Example:

    .. code-block:: bash

        salt-run kvmcluster.report path=/srv/cluster.html
    """
    wanted = page.checked(path)
    with _nodes(cluster) as nodes:
        return {**_of_cluster("report", nodes), **page.write(wanted, nodes, __salt__)}


@_reported
def import_cluster_conf(file: str) -> dict[str, Any]:
    """Make a pillar of RGManager's ``cluster.conf``: nodes, guests, failover domains and fencing.

    Nothing is changed anywhere. What has no counterpart here, or another meaning, is listed with
    the reason. Comments of the file are not taken over.

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
    content = files.read_argument(path, clusterconf.MAX_SIZE)
    try:
        found = clusterconf.parse(content)
    except InputError as error:
        raise InputError(f"{path}: {error}") from None
    dumped = salt.utils.yaml.safe_dump(found.pillar, default_flow_style=False, sort_keys=False)
    text = pillar_text.as_text(found, path, dumped)
    return {"kind": "cluster_conf", "file": path, "ok": True, "yaml": text, **found.to_dict()}


@_reported
def react(
    reaction: str | None = None, tag: str | None = None, data: dict[str, Any] | None = None
) -> list[str]:
    """React to an event: check the whole cluster, and repair what is found to be wrong.

    For reactors. The event itself is not trusted: it only causes a check, and events that come
    together cause one. An event that is malformed, or not from the member that it is about, is
    logged and ignored.

    reaction
        ``trust``: the trust is repaired. ``recover``: migrations are settled. ``alarm``: a guest
        that runs twice is reported, and not touched. ``restart``: guests that crashed are started
        again. Default: what a killed master left pending, and each reaction of the master's option
        ``reactor`` that nothing has called for in a while, since an event may be lost.

    tag, data
        The event's.

    Returns the reactions that were due, as ``CLUSTER.REACTION``; their results are logged.

    CLI Example:

    .. code-block:: bash

        salt-run kvmcluster.react
    """
    return Reactor(__opts__, __salt__, __context__).react(reaction, tag, data)


@_reported
def preflight(
    nodes: str | list[str] | None = None,
    sls: str | list[str] | None = None,
    stuck: str = "refuse",
    reboot: str = "needed",
    drain: str = "always",
    reason: str | None = None,
    cluster: str | None = None,
) -> dict[str, Any]:
    """Return whether maintenance can start: all peers are ready, and no node is cordoned by others.

    A node is ready if it answers, its libvirt daemon does, and nothing forbids guests to leave it
    or to come to it, except that it is cordoned or full. Every guest of the nodes to be maintained
    has to have a place elsewhere, each node drained by itself.

    nodes
        The minion id of the node to be maintained, or a list of several. Default: all.

    sls
        The SLS files that are to be applied there. They have to exist and compile there. Default:
        none.

    stuck
        What is to become of guests that cannot be moved. ``refuse``: maintenance cannot start.
        ``shutdown``: they are to be shut down, and started again on their node afterwards; that has
        to be possible. ``leave``: they stay; their node must not be due for a reboot. Default:
        refuse.

    reboot
        When nodes are to be rebooted: ``needed``, ``always`` or ``never``. Default: needed.

    drain
        When nodes are drained: ``always``, or ``reboot``: if they are rebooted. Default: always.

    reason
        Why the nodes are to be cordoned: what another run has left cordoned is refused. Default:
        any run's cordon will do.

    cluster
        The cluster's name; needed only where this master has several.

    Returns ``{cluster, ok, nodes, updates, begun, managed, cordoned, stuck, hindered, findings,
    retcode}``: ``nodes`` are those that have to be ready, ``updates`` has a sentence for each SLS
    that does not compile, ``begun`` says which SLS that was begun before may not have ended,
    ``managed`` where Pacemaker may start guests, ``cordoned`` has the reason for each node that
    others cordoned, ``stuck`` has the reason for each guest that cannot be moved, by node,
    ``hindered`` says why maintenance cannot start with these, ``others`` on which nodes another
    run of maintenance of this master is at work, ``findings`` are as in ``kvmcluster.check``.

    CLI Example:

    .. code-block:: bash

        salt-run kvmcluster.preflight
        salt-run kvmcluster.preflight node1 sls=updates
    """
    names = maintenance.slses(sls)
    given = immovable.choice(stuck), maintenance.when(reboot), assessment.choice(drain)
    why = None if reason is None else cordons.checked_reason(reason)
    with _nodes(cluster) as of_cluster, terminal.attached(__opts__) as console:
        work = maintenance.to_work_on(of_cluster.cluster, nodes)
        begun = applier.unended(of_cluster, of_cluster.all, console).values()
        problems = [sentence for found in _compiled(of_cluster, work, names) for sentence in found]
        world, examined = of_cluster.placeable()
        found = maintenance.preflight(world, examined, work, problems, begun, why)
        others = holds.others(__salt__, of_cluster.cluster.name, of_cluster.all)
        found = dataclasses.replace(found, others=tuple(others))
        return evacuation.with_stuck(of_cluster, found, world, work, *given).to_dict()


@_reported
def ha_preflight(installed: bool = False, cluster: str | None = None) -> dict[str, Any]:
    """Return whether the guests with ``ha`` may be given to Pacemaker, and what forbids it.

    The nodes' pillars are refreshed first, since each node answers by its own; nothing else is
    changed. What is not known forbids it as a problem does, and so does a node that does not
    respond.

    installed
        Whether the resource agent should be on every node already. Default: false.

    cluster
        The cluster's name; needed only where this master has several.

    Returns ``{cluster, ok, engine, guests, findings, retcode}``: ``engine`` is what is to guard
    them, ``guests`` are those with ``ha`` in the pillar, ``findings`` are as in
    ``kvmcluster.check``.

    CLI Example:

    .. code-block:: bash

        salt-run kvmcluster.ha_preflight
    """
    with _nodes(cluster) as nodes:
        nodes.ask(nodes.all, "saltutil.refresh_pillar", wait=True)
        world = nodes.startable()
    found = ha_refusals.refused(world, doors.flag(installed, "installed"))
    return {
        **_of_cluster("ha_preflight", nodes),
        "ok": not found,
        "engine": (world.cluster.ha or Ha()).engine,
        "guests": [guest.name for guest in world.cluster.guests.list.values() if guest.ha],
        "findings": [finding.to_dict() for finding in found],
    }


@_reported
def fence_test(
    node: str | None = None,
    reboot: bool = False,
    with_guests: bool = False,
    timeout: float = 900,
    test: bool = False,
    cluster: str | None = None,
) -> dict[str, Any]:
    """Test fencing: whether every fence device responds, or whether a node really loses its power.

    Without ``reboot`` nothing is switched: each device of Pacemaker's is asked by its agent
    (``stonith_admin --query``) from every node that may have to use it.

    With ``reboot=true``, the plan is shown, then another node has this one fenced
    (``stonith_admin --reboot``): it loses its power at once. It is waited for until it answers from
    another boot and Pacemaker has it again. Refused, with nothing done, unless all is well: every
    device of the node responds, all nodes are in order in Pacemaker, the others keep quorum without
    it, and it is drained (``salt-run kvmcluster.drain``); no state of Salt's may run there.
    Afterwards: ``salt-run kvmcluster.undrain``. It is kept in ``kvmcluster.history``.

    node
        The node's minion id. Default: all; needed for ``reboot``.

    reboot
        Whether to have the node fenced. Default: false.

    with_guests
        Whether its guests may run there meanwhile, instead of being moved before: they lose their
        memory, and start elsewhere, as after a failure. Refused if Pacemaker does not manage one of
        them. Default: false.

    timeout
        Seconds to wait until the node is back. Default: 900.

    test
        Only show what ``reboot`` would do. Default: false.

    cluster
        The cluster's name; needed only where names do not decide.

    Returns ``{cluster, ok, test, nodes, devices, problems, node, asker, levels, guests, hindered,
    retcode}``: ``devices`` has ``{node, device, responds}`` for each device that is for a node;
    ``responds`` says by the node that asked why it does not respond, empty if it does. ``levels``
    are the node's devices in the order in which they are used, ``asker`` is the node that has it
    fenced, ``guests`` run on it, ``hindered`` says why nothing is done. After a test ``fenced`` is
    ``{result, ok, by, device, seconds, detail, elapsed, missing}``: ``result`` is ``fenced``,
    ``fenced_not_back``, ``not_off`` (Pacemaker reports success, and the node ran on),
    ``fencing_failed`` or ``unknown``; ``device`` did it, empty if that was not seen, through the
    fencer of the node ``by``; ``missing`` is what was not seen.

    CLI Example:

    .. code-block:: bash

        salt-run kvmcluster.fence_test
        salt-run kvmcluster.fence_test node1 reboot=true test=true
        salt-run kvmcluster.fence_test node1 reboot=true
    """
    real, lose = doors.flag(reboot, "reboot"), doors.flag(with_guests, "with_guests")
    limit, dry = doors.seconds(timeout, "timeout"), doors.flag(test, "test")
    if real and node is None:
        raise InputError("node: missing; reboot=true is for one node")
    if not real and (lose or dry):
        raise InputError("with_guests and test are for reboot=true alone; leave them out")
    with _nodes_of(node, cluster) as nodes, terminal.attached(__opts__) as console:
        name = None if node is None else nodes.cluster.node(str(node)).id
        if name is None or not real:
            return fencing_test.examine(nodes, [name] if name else nodes.all)[1].to_dict()
        holds.refuse_second(__salt__, nodes.cluster.name, name)
        return fencing_test.fence(nodes, console, name, lose, limit, dry)


@_reported
def sls_check(
    sls: str | list[str],
    nodes: str | list[str] | None = None,
    cluster: str | None = None,
) -> dict[str, Any]:
    """Return whether SLS files can be applied to nodes: they exist, and compile there.

    Nothing is changed.

    sls
        The name of an SLS, several separated by commas, or a list.

    nodes
        The minion id of the node, or a list of several. Default: all.

    cluster
        The cluster's name; needed only where this master has several.

    Returns ``{cluster, ok, sls, nodes, problems, silent, retcode}``: ``problems`` has a sentence
    for each reason, with its nodes, ``silent`` one if nodes did not respond.

    CLI Example:

    .. code-block:: bash

        salt-run kvmcluster.sls_check updates
    """
    of_cluster = _nodes(cluster)
    names = maintenance.some_slses(sls)
    work = maintenance.to_work_on(of_cluster.cluster, nodes)
    problems, silent = _compiled(of_cluster, work, names)
    return {
        **_of_cluster("sls_check", of_cluster),
        "ok": not (problems or silent),
        "sls": list(names),
        "nodes": work,
        "problems": problems,
        "silent": silent,
    }


@_reported
def assess(
    node: str,
    sls: str | list[str] | None = None,
    reboot: str = "needed",
    drain: str = "always",
    cluster: str | None = None,
) -> dict[str, Any]:
    """Return what there is to do on a node in maintenance. Nothing is changed.

    The SLS is tried in test mode, as ``kvmcluster.apply`` does it.

    node
        The node's minion id.

    sls
        The SLS files that are to be applied there. Default: none.

    reboot, drain
        As ``kvmcluster.preflight`` has them.

    cluster
        The cluster's name; needed only where names do not decide.

    Returns ``{cluster, node, ok, update, reboot, needed, drain, left, skip, detail, retcode}``:
    ``update`` is whether the SLS would change anything, ``reboot`` whether a reboot is due,
    ``needed`` why, ``drain`` whether it is drained, ``left`` what an earlier run has left there,
    ``skip`` whether there is nothing to do, ``detail`` why that is not known.

    CLI Example:

    .. code-block:: bash

        salt-run kvmcluster.assess node1 updates
    """
    names, when, policy = maintenance.slses(sls), maintenance.when(reboot), assessment.choice(drain)
    with _nodes_of(node, cluster) as nodes, terminal.attached(__opts__) as console:
        name = nodes.cluster.node(str(node)).id
        holds.refuse_second(__salt__, nodes.cluster.name, name)
        memory = StoppedGuests(__opts__, nodes.cluster.name)
        return evacuation.assess(nodes, console, memory, name, names, when, policy).to_dict()


@_reported
def evacuate(
    node: str | list[str],
    reason: str | None = None,
    stuck: str = "refuse",
    test: bool = False,
    guests: str | list[str] | None = None,
    off: bool = False,
    force_unguarded: bool = False,
    cluster: str | None = None,
) -> dict[str, Any]:
    """Empty a node: for maintenance, or because it is off.

    For maintenance, as ``kvmcluster.drain``; but if a guest can go nowhere by the plan, that is
    decided beforehand. One that was to move, and did not, is never shut down.

    With ``off=true``, its guests start on the other nodes, by your word that it has no power.
    Nobody tells what a node ran that is off, so these are the guests of ``kvmcluster:guests:list``
    that run on no other node, and were not shut down by ``kvmcluster.shutdown`` on another one; of
    a shutdown on the node itself only that node knows. Refused, with
    nothing started, if the node answers: by its minion, or any other node's ssh or ping under any
    of its names; or if another node does not tell its guests. The plan is shown first; then each
    guest is started by the rules of ``kvmcluster.start`` with ``force_unreachable``, one at a time
    on each node and on all nodes side by side, and again for
    four minutes while its disks may be locked by the node that is off. A guest that Pacemaker
    manages is not started. Your word is kept in ``kvmcluster.history``.

    node
        The node's minion id; with ``off`` also a list of nodes that are off.

    reason
        Why it is cordoned. Needed, unless it is off.

    stuck
        ``refuse``: nothing is begun, the node is not cordoned. ``shutdown``: such guests are shut
        down by their power button (ACPI), after it was kept on the master that they have to be
        started again: ``kvmcluster.restore``. Nothing is begun if it is not certain that one
        cannot be moved, as while a node is not ready. ``leave``: they stay. Default: refuse.

    test
        Only show the plan. Default: false.

    guests
        The guests that may be shut down, or stay: nothing is begun if another one cannot be moved.
        With ``off``, the only guests to be started, also if they were shut down on purpose.
        Default: any.

    off
        Whether the node is off: you have seen that it has no power. If you are wrong, and only its
        networks are cut, a guest may run twice. Default: false.

    force_unguarded
        With ``off``: as of ``kvmcluster.start``. Default: false.

    cluster
        The cluster's name; needed only where names do not decide.

    With ``off``, returns ``{cluster, nodes, ok, test, plan, stuck, off, started, retcode}``:
    ``plan`` has ``{guest, node}``, ``stuck`` says why guests are not started, ``off`` which were
    shut down on purpose, ``started`` has ``{guest, node, ok, result, reason, owner, warnings}``. It
    is ``ok`` if none is stuck and all were seen running.

    Otherwise returns what ``kvmcluster.drain`` returns, and ``shut_down`` with ``{guest, ok,
    result, reason, owner}`` for each guest that was to be shut down, ``stay``, the guests that
    stay, and, under ``test``, ``hindered``: why nothing would be begun.

    CLI Example:

    .. code-block:: bash

        salt-run kvmcluster.evacuate node1 'new memory' stuck=shutdown
        salt-run kvmcluster.evacuate node1 off=true test=true
        salt-run kvmcluster.evacuate node1 off=true
    """
    what, dry = immovable.choice(stuck), doors.flag(test, "test")
    is_off, unguarded = doors.flag(off, "off"), doors.flag(force_unguarded, "force_unguarded")
    names = [guests] if isinstance(guests, str) else guests
    if names is not None and not isinstance(names, list):
        raise InputError(f"guests: want a list of guests, got {validate.shown(guests)}")
    named = None if names is None else [guest_name(guest, "guests") for guest in names]
    if not is_off and (reason is None or unguarded):
        wrong = "reason is missing" if reason is None else "force_unguarded is for off=true alone"
        raise InputError(f"{wrong}; if the node has no power: off=true")
    if is_off and (reason is not None or what != immovable.REFUSE):
        raise InputError("reason and stuck are for a node that is not off; leave them out")
    with _nodes_of(node, cluster) as nodes, _console(nodes, "evacuate", node, dry) as console:
        if is_off:
            return takeover.take_over(nodes, console, node, named, unguarded, dry)
        why = cordons.checked_reason(reason)
        name = nodes.cluster.node(str(node)).id
        if not dry:
            holds.hold(__salt__, nodes.cluster.name, name)
        drainer.refuse_managed(nodes, name)
        memory = StoppedGuests(__opts__, nodes.cluster.name)
        return evacuation.evacuate(nodes, console, memory, name, why, what, dry, named)


@_reported
def restore(node: str, cluster: str | None = None) -> dict[str, Any]:
    """Start the guests of a node again that were shut down for its maintenance.

    By the rules of every start: only if no node has the guest. One that runs, wherever, is done.

    node
        The node's minion id.

    cluster
        The cluster's name; needed only where names do not decide.

    Returns ``{cluster, node, ok, started, retcode}``: ``started`` has ``{guest, ok, result, reason,
    owner}`` for each of them; ``owner`` is the node that has it.

    CLI Example:

    .. code-block:: bash

        salt-run kvmcluster.restore node1
    """
    with _nodes_of(node, cluster) as nodes, _console(nodes, "restore", node) as console:
        name = nodes.cluster.node(str(node)).id
        memory = StoppedGuests(__opts__, nodes.cluster.name)
        return evacuation.restore(nodes, console, memory, name)


@_reported
def apply(
    sls: str | list[str],
    nodes: str | list[str] | None = None,
    test: bool = False,
    cluster: str | None = None,
) -> dict[str, Any]:
    """Apply SLS files on nodes where nothing else of Salt's runs or waits, and follow the job.

    As long as a state runs on a node, or waits in its minion's queue, nothing is begun there: that
    is waited for, for ten minutes. The SLS is then begun at once or not at all, and never queued.
    Its job is followed until its return is in the job cache or on the node, while a minion is slow,
    stopped or restarted. If a node does not answer for ten minutes, the SLS ``may still run or
    wait``; that is remembered, and looked for before anything else is applied there, before
    ``kvmcluster.undrain`` and before ``kvmcluster.reboot``. Ctrl-C ends the waiting, not the job.

    sls
        The SLS files: a name, several with commas, or a list.

    nodes
        The minion id of a node, or a list of several. Default: all.

    test
        Only return what would be changed. Default: false.

    cluster
        The cluster's name; needed only where this master has several.

    Returns ``{cluster, ok, test, sls, nodes, retcode}``: ``nodes`` has ``{result, detail, job,
    returned}`` by node. ``result`` is ``done``, ``failed``, ``refused`` (nothing was begun),
    ``over`` (without a result) or ``unknown`` (it may still run or wait); ``returned`` are the
    states.

    CLI Example:

    .. code-block:: bash

        salt-run kvmcluster.apply updates node1
        salt-run kvmcluster.apply updates test=true --out=json
    """
    wanted, dry = maintenance.some_slses(sls), doors.flag(test, "test")
    with (
        _nodes(cluster) as of_cluster,
        _console(of_cluster, "apply", nodes, dry) as console,
    ):
        work = maintenance.to_work_on(of_cluster.cluster, nodes)
        done = applier.apply(of_cluster, work, wanted, dry, console)
        return outcome.to_dict(of_cluster.cluster.name, wanted, done, dry)


@_reported
def reboot(
    name: str | list[str] | None = None,
    when: str | None = None,
    timeout: float | None = None,
    test: bool | None = None,
    cluster: str | None = None,
    node: str | None = None,
    guest: str | list[str] | None = None,
    reset: bool = False,
) -> dict[str, Any]:
    """Reboot guests, wherever they are; or a node that is cordoned and empty, and wait for it.

    A name that is a node's is that node, any other one is a guest; one that is both is refused:
    ``node=`` or ``guest=`` decides. A list or a pattern never means a node.

    Guests reboot by their power button, as ``kvmcluster.reboot_guest`` on their nodes: their QEMU
    stays. One that migrates is refused. Of more than one the plan is shown, and nothing is done
    unless ``test=False``.

    A node is rebooted if that is needed. While states run on it, or wait in its minion's queue,
    that is waited for, for ten minutes; then the reboot is refused. It is back when its minion
    answers from another boot, its libvirt daemon answers, and nothing forbids guests to go there
    but that it is cordoned. The same is waited for where no reboot is needed.

    name
        A guest's name, exactly; several with commas, a list, or a pattern as ``web*``. Or a node's
        minion id.

    when
        Of a node: ``needed``: if ``kvmcluster.boot`` there gives a reason. ``always``, or
        ``never``. Default: needed.

    timeout
        Seconds to wait. Default: 120 for a guest, 900 for a node.

    test
        Only show what would be done. Default: true for more than one guest, else false.

    cluster
        The cluster's name; needed only where names do not decide.

    node
        In place of ``name``: the node, whatever guest has its name.

    guest
        In place of ``name``: the guests, whatever node has their name.

    reset
        Whether to reset a guest that has not reacted in time: data that it has not written is lost.
        Default: false.

    Of guests, returns what ``kvmcluster.shutdown`` returns; ``result`` is ``rebooted`` if libvirt
    reported it, ``not_rebooted``, ``unknown`` or ``refused``. Of a node, returns ``{cluster, node,
    ok, when, rebooted, needed, still, missing, findings, elapsed, retcode}``: ``rebooted`` is None
    if that was not observed, ``needed`` are the reasons before, ``still`` those after, ``missing``
    says what of the reboot was not observed in time, ``findings`` what keeps the node from being
    ready.

    CLI Example:

    .. code-block:: bash

        salt-run kvmcluster.reboot web1
        salt-run kvmcluster.reboot 'web*' test=False
        salt-run kvmcluster.reboot node1
        salt-run kvmcluster.reboot node1 when=always timeout=1800
    """
    given = [one for one in (name, node, guest) if one is not None]
    if len(given) != 1:
        what = "name is missing" if not given else "give one of name, node and guest"
        raise InputError(f"{what}; usage: salt-run kvmcluster.reboot NAME; nothing was done")
    dry = None if test is None else doors.flag(test, "test")
    resets = doors.flag(reset, "reset")
    limit = None if timeout is None else doors.seconds(timeout, "timeout")
    if node is not None or (name is not None and _means_node(name, cluster)):
        if resets:
            raise InputError("reset: it is for guests; leave it out for a node")
        here, last = node or name, limit or 900.0
        with (
            _nodes_of(here, cluster) as nodes,
            _console(nodes, "reboot", here, bool(dry)) as console,
        ):
            known = "needed" if when is None else when
            return reboots.reboot(nodes, console, here, known, last, bool(dry)).to_dict()
    if when is not None:
        raise InputError("when: it is for a node; leave it out for guests")
    named = {"timeout": limit or 120.0, "reset": resets}
    return _acted(targets.REBOOT, guest or name, dry, cluster, "kvmcluster.reboot_guest", named)


@_reported
def rotate(
    node: str | list[str], test: bool | None = None, cluster: str | None = None
) -> dict[str, Any]:
    """Replace the cluster key of nodes by a new one, with no moment in which a node is not let in.

    One node after another: the node makes a second key beside its own and publishes both; every
    node accepts both; the node logs in to every other one, by every name, with the second key
    alone; then that takes the place of the first one, which is removed from every node. Each step
    is observed. Whatever ends it, at any moment every node accepts the key that the node has, and
    the same command continues. Nothing is replaced unless all nodes have answered; a node that is
    silent afterwards has the former key removed by the same command, by ``kvmcluster.orch.prepare``
    or a highstate. Migrations go on.

    It is not for a key that somebody else has: see docs/security.md.

    node
        The node's minion id; several with commas, a list, or a pattern as ``node*``.

    test
        Only show what would be done. Default: true for more than one node, else false; then
        nothing is done, and the exit code is 1.

    cluster
        The cluster's name; needed only where names do not decide.

    Returns ``{cluster, ok, test, nodes, retcode}``: ``nodes`` has ``{node, result, ok, former, key,
    left, reason}`` for each: ``result`` is ``replaced``, ``left`` (replaced, and the nodes in
    ``left`` may still accept the former key), ``refused``, ``failed``, ``interrupted``,
    ``not begun`` or ``planned``. After the first that is not replaced no further one is begun.

    .. versionadded:: 0.1.0

    CLI Example:

    .. code-block:: bash

        salt-run kvmcluster.rotate node1
        salt-run kvmcluster.rotate 'node*' test=False
    """
    words = rotation.words(node)
    dry = None if test is None else doors.flag(test, "test")
    exact = next((word for word in words if not rotation.is_pattern(word)), None)
    with _nodes_of(exact, cluster) as nodes:
        work = rotation.named(nodes.cluster, words)
        dry = len(work) > 1 if dry is None else dry
        with _console(nodes, "rotate", work[0], dry) as console:
            done = rotator.rotate(nodes, console, work, dry)
        return {**done, "ok": done["ok"] and not (dry and test is None)}


@_reported
def rolling(
    sls: str | list[str] | None = None,
    reboot: str = "needed",
    anew: bool = False,
    test: bool = False,
    cluster: str | None = None,
) -> dict[str, Any]:
    """Begin a rolling run over all nodes, or continue the same one if it stopped within a day.

    For the orchestration ``kvmcluster.orch.rolling``: this records, on the master, what is
    to be done to every node; no node is changed.

    sls
        The SLS files to apply to each node.

    reboot
        When to reboot it: ``needed``, ``always`` or ``never``. Default: needed.

    anew
        Start with the first node again. Default: false.

    test
        Only return which nodes would be done. Default: false.

    cluster
        The cluster's name; needed only where this master has several.

    Returns ``{cluster, ok, todo, done, reports, rate, left, figures, retcode}``: ``done`` says when
    each node was done, ``reports`` what was done to it, ``rate`` in nodes a minute and ``left`` in
    seconds how fast it is, None if not known, ``figures`` the same in words.

    CLI Example:

    .. code-block:: bash

        salt-run kvmcluster.rolling updates test=true
    """
    flags = doors.flag(anew, "anew"), doors.flag(test, "test")
    return rollings.begun(_cluster(cluster), __salt__, sls, reboot, *flags).to_dict()


@_reported
def rolling_done(node: str, report: str = "", cluster: str | None = None) -> dict[str, Any]:
    """Record that a rolling run is done with a node; after the last one it is deleted.

    For the orchestration ``kvmcluster.orch.rolling``.

    node
        The node's minion id.

    report
        What was done to it, in a line. Default: none.

    cluster
        The cluster's name; needed only where this master has several.

    Returns what ``kvmcluster.rolling`` returns, and the node as ``just``.

    CLI Example:

    .. code-block:: bash

        salt-run kvmcluster.rolling_done node1
    """
    return rollings.done(_cluster(cluster), __salt__, node, one_line(str(report))).to_dict()


def _undrained(
    node: object, home: bool, reason: str | None, patience: object, cluster: str | None
) -> dict[str, Any]:
    limit = doors.seconds(patience, "patience")
    with _nodes_of(node, cluster) as nodes, _console(nodes, "undrain", node) as console:
        name = nodes.cluster.node(str(node)).id
        off = StoppedGuests(__opts__, nodes.cluster.name).stopped(name)
        done = drainer.undrain(nodes, console, name, home, reason, limit)
        holds.release(__salt__, nodes.cluster.name, name)
        return {**done.to_dict(), "shut_down": off}


def _acted(
    verb: str,
    guest: object,
    test: object,
    cluster: str | None,
    function: str,
    named: Mapping[str, Any],
    node: object = None,
) -> dict[str, Any]:
    """Have nodes act on guests, by a function of theirs that takes the guest first."""
    asked, dry = selection.words(guest), None if test is None else doors.flag(test, "test")
    nodes, facts = search.of_guests(__opts__, __salt__, cluster, asked)
    with nodes, terminal.attached(__opts__) as console:
        where = "" if node is None else nodes.cluster.node(str(node)).id
        unseen = verb == targets.START
        meant = selection.select(asked, nodes.cluster, facts, unseen)
        done = verbs.act(nodes, console, verb, facts, meant, function, dry, named, where)
        return done.to_dict()


def _reached(guest: object, cluster: str | None) -> tuple[Cluster, str, str, Ways]:
    """Return a guest that runs, its node, and the ways to it; an error if it does not run."""
    asked = selection.one_word(guest)
    nodes, facts = search.of_guests(__opts__, __salt__, cluster, asked)
    with nodes:
        meant = selection.select(asked, nodes.cluster, facts)
        return (nodes.cluster, *verbs.ways(nodes, facts, meant.guests[0]))


def _means_node(name: object, cluster: str | None) -> bool:
    """Whether a name is a node's; InputError if it is a guest's as well."""
    if not isinstance(name, str) or not any(
        name in one.nodes for one in pillars.all_clusters(cluster, __opts__, __salt__)
    ):
        return False
    if search.is_guest(__opts__, __salt__, cluster, name):
        raise InputError(
            f"{name} is a node, and a guest has that name as well; say which: node={name} or"
            f" guest={name}; nothing was done"
        )
    return True


def _compiled(
    nodes: SaltNodes, work: list[str], slses: tuple[str, ...]
) -> tuple[list[str], list[str]]:
    """Return why SLS files cannot be applied to nodes, and of which nodes that is not known."""
    if not slses:
        return [], []
    answers = nodes.ask(work, "kvmcluster.sls_check", list(slses))
    return updates.on_nodes(work, answers), updates.silent(work, answers)


@contextlib.contextmanager
def _console(
    nodes: SaltNodes, command: str, node: object = None, test: bool = False
) -> Iterator[terminal.Terminal]:
    """Give the terminal of a command that takes long, and publish how far it is.

    node
        What was given for its node; not published unless it is one.
    test
        Whether the command changes nothing: then it is not published.
    """
    if test:
        with terminal.attached(__opts__) as console:
            yield console
        return
    one = node if isinstance(node, str) and node in nodes.all else ""
    with terminal.publishing(__opts__, nodes.cluster.name, command, one) as console:
        yield console


def _of_cluster(kind: str, nodes: SaltNodes) -> dict[str, Any]:
    """Return the keys that all data of a kind has."""
    return {"kind": kind, "cluster": nodes.cluster.name}


def _nodes(name: str | None) -> SaltNodes:
    """Return the nodes of the cluster of that name, or of the only one."""
    return SaltNodes(__opts__, _cluster(name))


def _nodes_of(node: object, name: str | None) -> SaltNodes:
    """Return the nodes of the cluster of that name, or of the one that a node belongs to."""
    return SaltNodes(__opts__, pillars.cluster_of(node, name, __opts__, __salt__))


def _nodes_with(guest: str, name: str | None, destination: object = None) -> SaltNodes:
    """Return the nodes of the cluster of that name, or of the one that has a guest.

    destination
        Where the guest is to go, which decides as well.
    """
    if name is not None or destination is not None:
        return _nodes_of(destination, name)
    known = pillars.all_clusters(None, __opts__, __salt__)
    if len(known) == 1:
        return SaltNodes(__opts__, known[0])
    return search.of_guests(__opts__, __salt__, None, selection.one_word(guest))[0]


def _cluster(name: str | None) -> Cluster:
    return pillars.cluster(name, __opts__, __salt__)
