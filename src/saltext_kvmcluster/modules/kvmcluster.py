"""Execution module: this node's part of the cluster.

Every function reads the cluster from pillar ``kvmcluster`` and returns plain data, whose ``kind``
says what it is. A failure is one sentence: what was wrong, and what to do.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import os
from collections.abc import Callable, Iterator
from typing import Any

import salt.defaults.exitcodes
import salt.payload
import salt.utils.state
from salt.exceptions import SaltException, SaltInvocationError

from saltext_kvmcluster import doors
from saltext_kvmcluster.core import validate
from saltext_kvmcluster.core.applying import running
from saltext_kvmcluster.core.cordons import LEAVING, Cordon, checked_reason
from saltext_kvmcluster.core.drain import departures, maintenance, updates
from saltext_kvmcluster.core.errors import InputError
from saltext_kvmcluster.core.facts import highstate
from saltext_kvmcluster.core.facts.questions import Part
from saltext_kvmcluster.core.failover import restarts
from saltext_kvmcluster.core.migration import migration, records
from saltext_kvmcluster.core.migration.migration import Move
from saltext_kvmcluster.core.ownership import guest_reboots, locations, startup
from saltext_kvmcluster.core.pillar import clusters, options
from saltext_kvmcluster.core.pillar.clusters import Cluster
from saltext_kvmcluster.core.pillar.names import guest_name
from saltext_kvmcluster.core.readiness import overview
from saltext_kvmcluster.core.readiness.checks.node import OUT_OF_SIGHT
from saltext_kvmcluster.core.trust import keyfile, logins
from saltext_kvmcluster.core.trust.identity import MINE_FUNCTION
from saltext_kvmcluster.core.trust.logins import login_targets
from saltext_kvmcluster.core.untrusted import from_json
from saltext_kvmcluster.engine import (
    canceller,
    departer,
    fencer,
    freezer,
    inquiry,
    lifecycle,
    migrator,
    node_standby,
    rebooter,
    recoverer,
    restarter,
    stopper,
)
from saltext_kvmcluster.engine.environment import Environment
from saltext_kvmcluster.engine.leaver import Leaver
from saltext_kvmcluster.host import (
    accounts,
    bootid,
    calls,
    collector,
    cordons,
    deeds,
    departing,
    examiner,
    jobs,
    journal,
    kept_returns,
    keys,
    login_file,
    notifier,
    proofs,
    rotating,
    salt_queues,
    silent_peers,
    ssh,
    sshd_settings,
    this_node,
)

__virtualname__ = "kvmcluster"
# Releases without it let jobs beyond process_count_max wait in the minion's memory.
_HAS_QUEUE = hasattr(salt.utils.state, "job_queue_dir")
# Seconds to keep asking both nodes where a guest is that leaves a node which shuts down.
PATIENCE = 30.0

# Set by Salt's loader.
__context__: dict[str, Any]
__opts__: dict[str, Any]
__pillar__: dict[str, Any]
__salt__: dict[str, Callable[..., Any]]
__outputter__ = {
    "cancel": "kvmcluster",
    "check": "kvmcluster",
    "cordon": "kvmcluster",
    "freeze": "kvmcluster",
    "guests": "kvmcluster",
    "history": "kvmcluster",
    "job": "kvmcluster",
    "leave": "kvmcluster",
    "migrate": "kvmcluster",
    "reboot_guest": "kvmcluster",
    "recover": "kvmcluster",
    "shutdown": "kvmcluster",
    "sls_check": "kvmcluster",
    "ssh_check": "kvmcluster",
    "start": "kvmcluster",
    "state_jobs": "kvmcluster",
    "uncordon": "kvmcluster",
    "unfreeze": "kvmcluster",
}


def __virtual__() -> str | tuple[bool, str]:
    return doors.virtual(__opts__)


@doors.salt_errors
def identity() -> dict[str, Any]:
    """Return this node's identity: public key, host keys, fingerprints, login, time, signatures.

    The mine function of every node. Public data only. It is signed with the cluster key, which
    proves to others that the node holds it; with an OpenSSH before 8.1 it is not. It fails
    while the cluster key is missing or unfit, so that the mine keeps what was published last.

    CLI Example:

    .. code-block:: bash

        salt 'node1' kvmcluster.identity
        salt '*' mine.send kvmcluster.identity
    """
    cluster = doors.member_cluster(__pillar__, __opts__["id"], __context__)
    found = proofs.own(cluster, __opts__["id"], sshd_settings.host_keys())
    return {"kind": "identity", **found.to_dict()}


@doors.salt_errors
def rotation(node: str) -> dict[str, Any]:
    """Return by which keys a node may log in here; there, also how far their replacement is.

    For ``salt-run kvmcluster.rotate``.

    node
        The node's minion id.

    Returns ``{node, accepted, refused, own}``: ``accepted`` are fingerprints; ``own``, on the node
    itself, is ``{key, next, former, problem}``: the fingerprints of its key, of the one that is to
    replace it, and of the one that was recorded when that was begun.

    .. versionadded:: 0.1.0

    CLI Example:

    .. code-block:: bash

        salt '*' kvmcluster.rotation node1
    """
    cluster = doors.member_cluster(__pillar__, __opts__["id"], __context__)
    return _rotation(cluster, cluster.node(str(node)).id)


@doors.salt_errors
def rotation_accept(node: str) -> dict[str, Any]:
    """Let a node log in here by the keys that it has published, and by no other key of its.

    For ``salt-run kvmcluster.rotate``. The keys of other nodes, and all other files, stay as they
    are; ``authorized_keys2`` becomes what the pillar wants of it otherwise.

    node
        The node's minion id.

    Returns what ``kvmcluster.rotation`` returns; ``refused`` says why its identity was refused.

    .. versionadded:: 0.1.0

    CLI Example:

    .. code-block:: bash

        salt '*' kvmcluster.rotation_accept node1
    """
    cluster = doors.member_cluster(__pillar__, __opts__["id"], __context__)
    name = cluster.node(str(node)).id
    published = doors.mine_identities(cluster, __salt__["mine.get"], {}).only(name)
    return _rotation(cluster, name, login_file.accept(cluster, __opts__["id"], published, name))


@doors.salt_errors
def rotation_begin() -> dict[str, Any]:
    """Make a second key beside this node's cluster key, and publish both.

    For ``salt-run kvmcluster.rotate``. The cluster key stays what it is.

    Returns what ``kvmcluster.rotation`` returns.

    .. versionadded:: 0.1.0

    CLI Example:

    .. code-block:: bash

        salt 'node1' kvmcluster.rotation_begin
    """
    cluster = doors.member_cluster(__pillar__, __opts__["id"], __context__)
    rotating.begin(cluster, __opts__["id"])
    return _rotation(cluster, __opts__["id"], _publish())


@doors.salt_errors
def rotation_swap(timeout: float = 10, time_limit: float = 120) -> dict[str, Any]:
    """Put the second key in place of the cluster key, if it opens every peer by every name.

    For ``salt-run kvmcluster.rotate``. If one login by it alone fails, nothing is replaced. Then it
    waits until no login is under way that began before, and publishes the key.

    timeout
        Seconds for one login. Default: 10.

    time_limit
        Seconds for all logins. Default: 120.

    Returns what ``kvmcluster.rotation`` returns, and ``cells`` as ``kvmcluster.ssh_check``.

    .. versionadded:: 0.1.0

    CLI Example:

    .. code-block:: bash

        salt 'node1' kvmcluster.rotation_swap
    """
    cluster = doors.member_cluster(__pillar__, __opts__["id"], __context__)
    limits = doors.seconds(timeout, "timeout"), doors.seconds(time_limit, "time_limit")
    cells = rotating.swap(cluster, __opts__["id"], *limits)
    return {**_rotation(cluster, __opts__["id"], _publish()), "cells": cells}


@doors.salt_errors
def rotation_end() -> dict[str, Any]:
    """Forget the replacement of this node's cluster key: no node accepts the former one any more.

    For ``salt-run kvmcluster.rotate``.

    Returns what ``kvmcluster.rotation`` returns.

    .. versionadded:: 0.1.0

    CLI Example:

    .. code-block:: bash

        salt 'node1' kvmcluster.rotation_end
    """
    cluster = doors.member_cluster(__pillar__, __opts__["id"], __context__)
    rotating.end(cluster)
    return _rotation(cluster, __opts__["id"])


def _publish() -> str:
    """Have the mine hold this node's identity; return why it may not."""
    if __salt__["mine.send"](MINE_FUNCTION):
        return ""
    return "the master did not take its identity into the mine"


def _rotation(cluster: Cluster, node: str, refused: str = "") -> dict[str, Any]:
    """Return by which keys a node may log in here, and what it has itself."""
    here = __opts__["id"]
    own = {"own": dataclasses.asdict(rotating.own_key(cluster))} if here == node else {}
    return {
        **_of_this_node("key_rotation", cluster),
        "accepted": [key.fingerprint for key in login_file.accepted(cluster, node)],
        "refused": refused,
        **own,
    }


@doors.salt_errors
def peers() -> dict[str, Any]:
    """Return the peers' identities that the mine holds: accepted, refused with the reason, missing.

    CLI Example:

    .. code-block:: bash

        salt 'node1' kvmcluster.peers
    """
    cluster = doors.member_cluster(__pillar__, __opts__["id"], __context__)
    found = doors.mine_identities(cluster, __salt__["mine.get"], __context__)
    own = __opts__["id"]
    return {
        "kind": "peers",
        "cluster": cluster.name,
        "identities": {
            node: item.to_dict() for node, item in found.accepted.items() if node != own
        },
        "refused": {node: why for node, why in found.refused.items() if node != own},
        "missing": [node for node in found.missing if node != own],
    }


@doors.salt_errors
def ssh_check(timeout: float = 10, time_limit: float = 120) -> dict[str, Any]:
    """Log in to every peer by every name, as a migration does; return the cause of each failure.

    timeout
        Seconds for one login. Default: 10.

    time_limit
        Seconds for all logins; the rest is reported as ``not tried``. Default: 120.

    Returns ``{cluster, node, ok, cells: [{peer, name, ok, cause, detail, remedy, seconds}],
    refuses_for}``; the exit code is non-zero unless every cell is good. ``refuses_for``: for how
    many seconds sshd here may refuse an address after failed logins. ``cause`` is ``ok`` or one of:
    no such name, refused, host key changed, host key unknown, timed out, no answer, no route, key
    not accepted, passphrase asked, refused for now, sudo refused, libvirt refused, no common
    algorithm, dropped, bad configuration, noise, not tried, failed. ``detail`` is ssh's message,
    and which settings of this node's own, by file and line, may be behind the failure.

    CLI Example:

    .. code-block:: bash

        salt 'node1' kvmcluster.ssh_check
        salt-run kvmcluster.ssh_matrix
    """
    cluster = doors.member_cluster(__pillar__, __opts__["id"], __context__)
    account = accounts.account(cluster.ssh.login)
    encrypted = keys.key_file(keyfile.key_path(cluster, account.home), account).encrypted
    named = logins.by_every_name(cluster, __opts__["id"])
    observed = ssh.probe_peers(
        named,
        doors.seconds(timeout, "timeout"),
        doors.seconds(time_limit, "time_limit"),
        logins.trial(cluster.ssh),
    )
    cells = [
        ssh.cell_of(peer.id, name, observed.get((peer.id, name)), encrypted, cluster.ssh.from_)
        for peer, names in named.items()
        for name in names
    ]
    row = logins.row(cluster.name, __opts__["id"], cells, sshd_settings.penalty())
    return _ended(row, row["ok"])


@doors.salt_errors
@doors.takes_options
def migrate(
    guest: str,
    destination: str,
    wait: bool = True,
    patience: float = 60,
    **named: Any,
) -> dict[str, Any]:
    """Migrate a guest live from this node to a peer, and return where it is afterwards.

    libvirt's daemon here drives the migration, peer to peer over ssh; the guest's memory goes
    over the destination's migration name. If this call is killed, the migration continues. A
    transient guest stays transient. A persistent one becomes persistent there; here it is
    undefined where the pillar says ``guests: {definitions: shared}``. One that Pacemaker manages
    is held from it meanwhile (docs/pacemaker.md).

    guest
        The guest's name, exactly.

    destination
        The minion id of another node of the cluster.

    |options|
    wait
        Whether to wait for a slot, up to ``timeout`` seconds, while as many migrations are under
        way as the pillar allows; otherwise this one is refused. Default: true.

    patience
        Seconds to keep asking both nodes if it is not certain where the guest is after libvirt has
        ended the migration. Default: 60.

    An option that is left out is that of the pillar, ``kvmcluster:migration``.

    Returns ``{guest, uuid, source, destination, owner, result, reason, findings, started, elapsed,
    downtime_ms, memory_bytes, iterations, afterwards}``. ``result`` is ``moved``, ``not_moved`` or
    ``unknown``, as observed on both nodes after the end, whatever libvirt reported; the exit code
    is non-zero unless it is ``moved``. ``owner`` is the node entitled to run the guest, or None if
    that is not certain: then nothing was changed, and ``reason`` says what was observed.
    ``elapsed`` is in seconds, from ``started`` to the last observation. What libvirt did not
    measure is None. ``afterwards`` lists the cleanup steps, ``{step, ok, detail}``; a failed one
    does not change ``result``.

    For its progress see ``kvmcluster.job``, and events.

    An invalid request is refused with an error that names every reason; nothing is started.

    CLI Example:

    .. code-block:: bash

        salt 'node1' kvmcluster.migrate web1 node2
        salt 'node1' kvmcluster.migrate web1 node2 bandwidth=50 downtime=1000 post_copy=true
    """
    cluster = doors.member_cluster(__pillar__, __opts__["id"], __context__)
    limit = doors.seconds(patience, "patience")
    waits = doors.flag(wait, "wait")
    wanted = options.of_call(cluster.migration.options, named)
    within = wanted.timeout if waits else 0.0
    with _environment(cluster.with_options(wanted)) as env:
        done = migrator.migrate(env, guest, destination, wanted, limit, within).to_dict()
    return _ended(done, done["result"] == migration.MOVED)


@doors.salt_errors
def depart(moves: list[dict[str, str]], id: str, while_cordoned: bool = False) -> dict[str, Any]:
    """Migrate guests from this node to peers, side by side; for ``salt-run kvmcluster.drain``.

    Each migration is that of ``kvmcluster.migrate``, with its own checks and its own slot, and
    begins in this order. After the first that fails or is cancelled no further one begins. If this
    call is killed, the migrations that were begun continue.

    moves
        Rows of ``{guest, uuid, destination}``.

    id
        The id by which to ask for them: ``kvmcluster.departed``. The same one a second time
        begins nothing.

    while_cordoned
        Whether none begins any more once this node is not cordoned. Default: false.

    Returns what ``kvmcluster.departed`` returns, once all that was begun has ended.

    CLI Example:

    .. code-block:: bash

        salt 'node1' kvmcluster.depart '[{"guest": "web1", "uuid": "…", "destination": "node2"}]' 1
    """
    cluster, here = doors.member_cluster(__pillar__, __opts__["id"], __context__), __opts__["id"]
    wanted, known = departures.moves_of(cluster, here, moves), departures.id_of(id)
    list_ = departing.Departing(
        known, cluster, wanted, doors.flag(while_cordoned, "while_cordoned")
    )
    if not list_.begin():
        return departing.told(known)
    root = __pillar__.get(clusters.ROOT)
    workers = min(cluster.migration.max_outgoing, len(wanted))
    with notifier.event_sender(cluster.name, here, __salt__["event.send"]) as notify:
        departer.depart(
            list_,
            lambda: this_node.environment(cluster, here, notify, root),
            workers,
            calls.side_by_side,
        )
    return list_.answer()


@doors.salt_errors
def departed(id: str, stop: bool = False) -> dict[str, Any]:
    """Return what became of the migrations of a ``kvmcluster.depart``, whether it runs or not.

    For ``salt-run kvmcluster.drain``. An id that is not known here begins nothing afterwards.

    id
        The id that it was given.

    stop
        Whether none of them is to begin any more. Those that were begun go on. Default: false.

    Returns ``{id, known, open, stopped, moves: [{guest, uuid, source, destination, state,
    result}]}``. ``known``: whether there was such a call since the node was booted; ``open``:
    whether it runs; ``stopped``: whether nothing further begins. ``state`` is ``waits``, ``begun``
    or ``ended``; then ``result`` is what ``kvmcluster.history`` keeps of it.

    CLI Example:

    .. code-block:: bash

        salt 'node1' kvmcluster.departed 20261130094500123456
    """
    doors.member_cluster(__pillar__, __opts__["id"], __context__)
    return departing.told(departures.id_of(id), doors.flag(stop, "stop"))


@doors.salt_errors
def job(guest: str | None = None) -> dict[str, Any]:
    """Return the migrations that are under way from and to this node, with their progress.

    guest
        The guest in question. Default: all.

    Returns ``{cluster, node, ok, jobs: [{guest, uuid, source, destination, phase, percentage, rate,
    dirty_rate, remaining, expected_end, expected_downtime_ms, downtime_ms, iteration, throttle,
    stalled, elapsed, slot, reason}]}``. ``phase`` is ``queued`` (``slot`` is the position in the
    queue, ``reason`` what is ahead of it), ``preparing``, ``copying``, ``post-copy``, or
    ``arriving`` for a guest of a peer: its source knows more. Rates are in bytes a second,
    ``remaining`` in bytes, ``expected_end`` in seconds from now, ``expected_downtime_ms`` is the
    switch as QEMU expects it, ``downtime_ms`` for how long the guest has stood still so far,
    ``throttle`` the percentage by which QEMU slows its CPUs, ``stalled`` whether nothing is sent,
    and ``elapsed`` in seconds. What is not known is None.

    CLI Example:

    .. code-block:: bash

        salt 'node1' kvmcluster.job
        salt 'node1' kvmcluster.job web1
    """
    cluster = doors.member_cluster(__pillar__, __opts__["id"], __context__)
    wanted = None if guest is None else guest_name(guest, "guest")
    found = jobs.under_way(__opts__["id"], wanted)
    return {**_of_this_node("jobs", cluster), "ok": True, "jobs": found}


@doors.salt_errors
def sighting(guest: str) -> dict[str, Any]:
    """Return this node's own observation of a guest, for ``salt-run kvmcluster.migrate``.

    guest
        The guest's name, exactly.

    Returns ``{guest, uuid, state, job}``.

    CLI Example:

    .. code-block:: bash

        salt '*' kvmcluster.sighting web1
    """
    doors.member_cluster(__pillar__, __opts__["id"], __context__)
    return {"kind": "sighting", **jobs.sighting(guest_name(guest, "guest"))}


@doors.salt_errors
def cancel(guest: str) -> dict[str, Any]:
    """Cancel a guest's migration from this node, and return where the guest is afterwards.

    The process that runs the migration is asked to end it; if there is none, it is ended here. A
    queued migration is cancelled, too. One in post-copy cannot be: the guest's memory is on two
    nodes.

    guest
        The guest's name, exactly, or its UUID.

    Returns what ``kvmcluster.recover`` returns, but with the ``result`` of a migration: it is
    ``moved`` if this came too late. The exit code is zero if it is ``not_moved``.

    CLI Example:

    .. code-block:: bash

        salt 'node1' kvmcluster.cancel web1
    """
    cluster = doors.member_cluster(__pillar__, __opts__["id"], __context__)
    name = guest_name(guest, "guest")
    with _environment(cluster) as env:
        done = canceller.cancel(env, name, f"kvmcluster.cancel on {__opts__['id']}").to_dict()
    return _ended(done, done["result"] == migration.NOT_MOVED)


@doors.salt_errors
def recover(guest: str) -> dict[str, Any]:
    """Settle a guest's last migration, as far as the observations of all nodes allow.

    Asks all nodes, over the cluster's own ssh trust, and decides by the table in docs/recovery.md.
    If it is certain which node owns the guest, what the migration left is cleaned up: the paused
    copy, definitions, autostart, the journal. If it is not, nothing is changed. A guest that
    Pacemaker manages is not touched; a silent node that it fenced counts as off.

    Then what is left half-way in Pacemaker is ended: a guest that a command of ours still holds is
    given back, one that is blocked is looked for anew. That takes an answer of every node, no
    active migration, and a guest that is active on one node, or on none; see docs/pacemaker.md.

    guest
        The guest's name, exactly, or its UUID.

    Returns ``{guest, uuid, owner, result, reason, sightings, actions, needs, commands}``.
    ``result`` is ``running``, ``paused``, ``stands`` (it is to be resumed: a step failed),
    ``nowhere``, ``busy`` (try again), ``conflict`` (it runs
    twice) or ``unknown``; ``sightings`` has the last observation of each node; ``actions`` lists
    what was done, ``{step, node, ok, detail}`` for each; ``needs`` says what is not known, and
    ``commands`` are the manual steps that would settle it. The exit code is zero if it is settled.

    CLI Example:

    .. code-block:: bash

        salt 'node1' kvmcluster.recover web1
    """
    cluster = doors.member_cluster(__pillar__, __opts__["id"], __context__)
    name = guest_name(guest, "guest")
    with _environment(cluster) as env:
        done = recoverer.recover(env, name).to_dict()
    return _ended(done, locations.is_settled(done))


@doors.salt_errors
def unsettled() -> dict[str, Any]:
    """Return the migrations from this node that were started and are not known to be settled.

    For ``salt-run kvmcluster.react``. Read from this node's journal alone, without libvirt.

    Returns ``{cluster, node, ok, unsettled: [{guest, uuid, source, destination, began, stage,
    watched}], unread}``: ``stage`` is ``begun``; ``ended`` once libvirt's part is over; of a strict
    handover ``over``, once its run here certainly is and its copy waits to be resumed, or ``runs``,
    once the copy ran; ``watched`` whether a process still runs it, ``unread`` why a part of the
    journal is not known.

    CLI Example:

    .. code-block:: bash

        salt '*' kvmcluster.unsettled
    """
    cluster = doors.member_cluster(__pillar__, __opts__["id"], __context__)
    here = __opts__["id"]
    unread = journal.known(here).unread
    return {
        **_of_this_node("unsettled", cluster),
        "ok": not unread,
        "unsettled": deeds.unsettled(here),
        "unread": list(unread),
    }


@doors.salt_errors
def history(guest: str | None = None, limit: int = 50) -> dict[str, Any]:
    """Return the migrations from this node that ended, the newest last.

    guest
        The guest in question. Default: all.

    limit
        How many of them at most. Default: 50.

    Returns ``{cluster, node, ok, history: [{guest, uuid, source, destination, owner, result,
    reason, started, elapsed, downtime_ms, memory_bytes, iterations}]}``, as ``kvmcluster.migrate``
    returned it.

    CLI Example:

    .. code-block:: bash

        salt 'node1' kvmcluster.history
        salt 'node1' kvmcluster.history web1 limit=5
    """
    cluster = doors.member_cluster(__pillar__, __opts__["id"], __context__)
    wanted = None if guest is None else guest_name(guest, "guest")
    found = records.chosen(journal.Journal().history(), wanted, records.number_of(limit))
    return {**_of_this_node("history", cluster), "ok": True, "history": found}


@doors.salt_errors
def facts(
    targets: bool | dict[str, list[str]] = True,
    trust: bool = True,
    history: int | None = None,
    guest: str | None = None,
    destination: str | None = None,
) -> dict[str, Any]:
    """Return this node's facts for the checks, unparsed, for the runner.

    targets
        Whether to log in to every peer by its migration name, too; or, by node, the list of peers
        to which it logs in. Default: true.

    trust
        Whether to inspect this node's own part of the ssh trust, and to write a fresh token into
        each shared folder that holds parts of its guests. Default: true.

    history
        How many of its last migrations to add, from 0 to 1000, with the sums over all that ever
        ended, those under way and unsettled, and trust files that were changed. Default: none.

    guest
        The guest whose move is in question: a node that does not have it does not log in to peers.
        Default: any.

    destination
        Where that guest would go: a node that neither is this one nor has the guest does not
        inspect its own trust. Default: anywhere.

    CLI Example:

    .. code-block:: bash

        salt 'node1' kvmcluster.facts targets=false
    """
    here = __opts__["id"]
    cluster = doors.member_cluster(__pillar__, here, __context__)
    full, more = doors.flag(trust, "trust"), {}
    if history is not None:
        most = validate.number({"history": history}, "history", "", (0, records.MOST), 0)
        more = {"deeds": deeds.gather(cluster, here, most)}
    if history is not None or not full:
        more = {**more, **collector.own_state(cluster, here)}
    if not full:
        return {"kind": "facts", **collector.gather_host(here), **more}
    identities = doors.mine_identities(cluster, __salt__["mine.get"], __context__)
    wanted = targets if isinstance(targets, dict) else doors.flag(targets, "targets")
    targets_here = login_targets(cluster, here, wanted)
    part = None if guest is None else Part(guest_name(guest, "guest"), destination)
    found = collector.gather(cluster, here, identities, targets_here, part)
    return {"kind": "facts", **found, **more, **_started_by_states(cluster)}


@doors.salt_errors
def peer_facts(nodes: list[str]) -> dict[str, Any]:
    """Return the facts of peers whose minions are silent, over ssh, for the runner.

    nodes
        The minion ids of the peers.

    Returns by node what ``kvmcluster.facts targets=false trust=false`` returns, without its
    journal, or a sentence if it lets nobody in.

    CLI Example:

    .. code-block:: bash

        salt 'node1' kvmcluster.peer_facts '[node2]'
    """
    cluster = doors.member_cluster(__pillar__, __opts__["id"], __context__)
    if not isinstance(nodes, list):
        raise SaltInvocationError(f"nodes: want a list of minion ids, got {nodes!r}")
    peers = [cluster.node(node) for node in nodes if node != __opts__["id"]]
    return {"kind": "peer_facts", "nodes": silent_peers.facts(cluster, peers)}


@doors.salt_errors
def inspect(question: dict[str, Any]) -> dict[str, Any]:
    """Return what this node finds for a question, for ``salt-run kvmcluster.check``.

    question
        By node: ``{"paths": [PATH], "tokens": {FOLDER: [NODE]}, "cpus": [...], …}``; each
        node answers its own.

    CLI Example:

    .. code-block:: bash

        salt 'node1' kvmcluster.inspect '{node1: {paths: [/mounts/images/web1.img]}}'
    """
    doors.member_cluster(__pillar__, __opts__["id"], __context__)
    if not isinstance(question, dict):
        raise SaltInvocationError(f"question: want a mapping by node, got {question!r}")
    return {"kind": "inspection", **collector.answer(question.get(__opts__["id"], {}))}


@doors.salt_errors
def guests() -> dict[str, Any]:
    """Return every guest of this node, unmanaged ones included.

    Returns ``{cluster, node, ok, guests: [{name, uuid, state, reason, persistent, autostart,
    frozen, vcpus, memory_kib, disks, networks, machine, uptime, job, movable, why}]}``. ``frozen``
    is the reason given, or None; ``uptime`` is in seconds since it runs on this node; ``movable``
    is what this node alone can tell, and ``why`` lists the reasons against it. What only the
    definition has is None for a guest that does not run, since its definition is not read. The
    exit code is non-zero if libvirt gave no answer; ``detail`` has its error.

    CLI Example:

    .. code-block:: bash

        salt 'node1' kvmcluster.guests
        salt 'node1' kvmcluster.guests --out=json
    """
    cluster = doors.member_cluster(__pillar__, __opts__["id"], __context__)
    data = overview.guests(cluster, collector.own(__opts__["id"])).to_dict()
    return _ended(data, data["ok"])


@doors.salt_errors
def check(guest: str | None = None, destination: str | None = None) -> dict[str, Any]:
    """Return which guests of this node can move where, and why not, with a remedy for each reason.

    Asks this node and its peers, these over ssh, as a migration does; names and UUIDs are
    compared with those of the nodes that are asked. ``salt-run kvmcluster.check`` checks all
    guests of all nodes.

    guest
        The guest in question. Default: all that are active here.

    destination
        The minion id of the peer in question, which alone is asked then. Default: every peer.

    Returns ``{cluster, ok, nodes, moves, movable, findings, guests}``: ``findings`` says what is
    not as it should be, the worst first, each reason once: ``{id, severity, outcome, sentence,
    remedy, guests, nodes, destinations, everywhere}``; ``guests`` has for each guest ``{guest,
    uuid, node, state, movable_to, blocked}``, where ``blocked`` names the checks that forbid each
    destination. Of all ``moves`` in question, ``movable`` are possible. The exit code is non-zero
    unless ``ok``: unless nothing forbids any of them. Warnings forbid nothing.

    CLI Example:

    .. code-block:: bash

        salt 'node1' kvmcluster.check
        salt 'node1' kvmcluster.check web1 node2
    """
    cluster = doors.member_cluster(__pillar__, __opts__["id"], __context__)
    wanted = migration.wanted(cluster, __opts__["id"], guest, destination)
    identities = doors.mine_identities(cluster, __salt__["mine.get"], __context__)
    found = examiner.examine(cluster, __opts__["id"], *wanted, identities)
    return _ended(found.to_dict(), found.ok)


@doors.salt_errors
def start(
    guest: str,
    force_unreachable: str | list[str] | None = None,
    timeout: float = 300,
    force_unguarded: bool = False,
) -> dict[str, Any]:
    """Start a guest on this node, unless it runs anywhere in the cluster.

    Every node is asked, over the cluster's own ssh trust, and has to answer that it does not have
    the guest. Of several starts at once, on any nodes, one wins; the others wait and return where
    the guest runs. With ``guests: {definitions: shared}`` a transient guest is created from its
    definition; with ``defined`` the one that libvirt keeps here is started. A frozen guest may be
    started; it may not be moved. One that Pacemaker manages is held from it meanwhile, and given
    back as one that is to run; a silent node that Pacemaker fenced counts as off
    (docs/pacemaker.md).

    guest
        The guest's name, exactly.

    force_unreachable
        Nodes that are unreachable and that you know to be off. One that responds under any of its
        names, to ssh or to ping, is not off. If you are wrong, the guest may run twice, and only an
        image lock or a lease protects its disks. Default: none.

    timeout
        Seconds for all of it. Default: 300.

    force_unguarded
        Whether to trust ``force_unreachable`` also where neither an image lock nor a lease keeps
        that node off a disk of the guest (see the check ``guest.guard``): if you are wrong, two
        copies write the disk, and its file system is destroyed. Default: false.

    Returns ``{guest, uuid, node, result, owner, reason, started, elapsed, warnings}``. ``result``
    is ``started``, ``running`` (it ran already, or another start was first: ``owner`` says where),
    ``not_started`` or ``unknown``, as observed afterwards; the exit code is zero if it runs.
    ``reason`` also warns if no salt-minion runs here, as may be with ``salt-call``.
    ``warnings`` say what may start it once more at a node's next boot, as the check
    ``guest.autostart`` does, what Pacemaker has to be told first if it leaves the guest alone for
    now, and why Pacemaker was not given it back: then it stays held until ``kvmcluster.recover``.

    A start that is not allowed is refused with an error that names every reason; nothing is
    started.

    CLI Example:

    .. code-block:: bash

        salt 'node1' kvmcluster.start web1
        salt 'node1' kvmcluster.start web1 force_unreachable=node3
    """
    cluster = doors.member_cluster(__pillar__, __opts__["id"], __context__)
    limit = doors.seconds(timeout, "timeout")
    with this_node.environment(cluster, __opts__["id"]) as env:
        done = lifecycle.start(
            env,
            guest_name(guest, "guest"),
            force_unreachable,
            limit,
            doors.flag(force_unguarded, "force_unguarded"),
        ).to_dict()
    process = collector.own_minion() if done["owner"] == __opts__["id"] else ""
    if process:
        done["reason"] += f"; {process}: {OUT_OF_SIGHT}"
    return _ended(done, done["result"] in (startup.STARTED, startup.RUNNING))


@doors.salt_errors
def start_assigned(
    guests: dict[str, str],
    force_unreachable: str | list[str] | None = None,
    force_unguarded: bool = False,
) -> dict[str, Any]:
    """Start the guest that is assigned to this node, for ``salt-run kvmcluster.evacuate off=true``.

    So nodes start a guest each by one job. The rules are those of ``kvmcluster.start``.

    guests
        By node: the guest that it starts.

    force_unreachable, force_unguarded
        As of ``kvmcluster.start``.

    Returns what ``kvmcluster.start`` returns.

    CLI Example:

    .. code-block:: bash

        salt -L 'node1,node2' kvmcluster.start_assigned '{node1: web1, node2: web2}'
    """
    name = guests.get(__opts__["id"]) if isinstance(guests, dict) else None
    if name is None:
        raise InputError(
            f"guests: want a guest for {__opts__['id']}, by node, got {validate.shown(guests)}"
        )
    return start(name, force_unreachable, force_unguarded=force_unguarded)


@doors.salt_errors
def startable(guest: str) -> dict[str, Any]:
    """Return whether a guest of this node could be started here again if it were off.

    For ``salt-run kvmcluster.evacuate``. It has a definition where the pillar says, that is of the
    same guest, and no node has anything that forbids the start, as ``kvmcluster.start`` has it.
    Nothing is changed.

    guest
        The guest's name, exactly.

    Returns ``{cluster, node, guest, ok, detail}``.

    CLI Example:

    .. code-block:: bash

        salt 'node1' kvmcluster.startable web1
    """
    cluster = doors.member_cluster(__pillar__, __opts__["id"], __context__)
    name = guest_name(guest, "guest")
    with this_node.environment(cluster, __opts__["id"]) as env:
        detail = lifecycle.startable(env, name)
    done = {**_of_this_node("startable", cluster), "guest": name, "ok": not detail}
    return _ended({**done, "detail": detail}, not detail)


@doors.salt_errors
def restart_crashed() -> dict[str, Any]:
    """Start guests of this node again that crashed here, as the pillar has it.

    For ``salt-run kvmcluster.react``. A guest of ``kvmcluster:guests:list`` with ``restarts``
    crashed if libvirt's log of it on this node says so, less than five minutes ago. One that ran on
    another node since, or that somebody had shut down (``kvmcluster.shutdown``), is left alone. It
    is started by the rules of every start: all nodes have to answer that they do not have it. The
    node's history has each restart, which is how they are counted.

    Returns ``{cluster, node, ok, restarts}``: ``restarts`` has ``{guest, ok, result, reason}`` for
    each guest that crashed and did not run any more; ``result`` is that of ``kvmcluster.start``, or
    ``refused``.

    CLI Example:

    .. code-block:: bash

        salt 'node1' kvmcluster.restart_crashed
    """
    cluster = doors.member_cluster(__pillar__, __opts__["id"], __context__)
    with this_node.environment(cluster, __opts__["id"]) as env:
        rows = restarter.restarted(env, journal.Journal().history)
    well = all(row["ok"] for row in rows)
    return _ended({**_of_this_node(restarts.KIND, cluster), "ok": well, "restarts": rows}, well)


@doors.salt_errors
def responds(nodes: str | list[str]) -> dict[str, Any]:
    """Return whether nodes respond, as this node sees them: by ssh or ping, under any name.

    For ``salt-run kvmcluster.evacuate off=true`` and ``salt-run kvmcluster.fence_test``.

    nodes
        The minion id of a node, or a list of several.

    Returns ``{cluster, node, responses}``: by node how it responds, empty if it does not.

    CLI Example:

    .. code-block:: bash

        salt 'node1' kvmcluster.responds node3
    """
    cluster = doors.member_cluster(__pillar__, __opts__["id"], __context__)
    asked = [nodes] if isinstance(nodes, str) else nodes
    if not isinstance(asked, list):
        raise InputError(f"nodes: want a minion id, or a list of them, got {validate.shown(nodes)}")
    wanted = [cluster.node(str(node)).id for node in asked]
    with this_node.environment(cluster, __opts__["id"]) as env:
        found = env.side_by_side(env.responds, wanted)
    return {**_of_this_node("response", cluster), "responses": found}


@doors.salt_errors
def shutdown(
    guest: str, timeout: float = 120, destroy: bool = False, stays_off: bool = True
) -> dict[str, Any]:
    """Shut down a guest of this node by its power button (ACPI), and wait until it is off.

    guest
        The guest's name, exactly.

    timeout
        Seconds to wait. Default: 120.

    destroy
        Whether to power off a guest that is still running then: data that it has not written is
        lost. Default: false.

    stays_off
        Whether it is to be off until somebody starts it. That is noted here, also of a guest that
        was off before, so that the cluster's status does not call it a problem; false for one that
        is to be started again soon. Default: true.

    A guest that is being migrated, or has another libvirt job, is not powered off. One that
    Pacemaker manages is held from it meanwhile, and given back as one that is to stay off
    (``target-role=Stopped``), until ``kvmcluster.start``.

    Returns ``{guest, uuid, node, result, owner, reason, warnings}``, as observed on all nodes
    afterwards. ``warnings`` say why Pacemaker was not given the guest back: it stays held until
    ``kvmcluster.recover``.
    ``result`` is ``stopped``, ``not_stopped`` (it is active somewhere) or ``unknown``: this node's
    libvirt does not answer, or another node does not and the guest may run there, since it was not
    active here at first or was leaving. The exit code is zero if it is stopped.

    CLI Example:

    .. code-block:: bash

        salt 'node1' kvmcluster.shutdown web1
        salt 'node1' kvmcluster.shutdown web1 timeout=60 destroy=true
    """
    cluster = doors.member_cluster(__pillar__, __opts__["id"], __context__)
    limit, pulls = doors.seconds(timeout, "timeout"), doors.flag(destroy, "destroy")
    stays = doors.flag(stays_off, "stays_off")
    with this_node.environment(cluster, __opts__["id"]) as env:
        done = stopper.shutdown(env, guest_name(guest, "guest"), limit, pulls, stays).to_dict()
    return _ended(done, done["result"] == startup.STOPPED)


@doors.salt_errors
def reboot_guest(guest: str, timeout: float = 120, reset: bool = False) -> dict[str, Any]:
    """Reboot a guest of this node by its power button (ACPI), and wait until it starts anew.

    By libvirt: its QEMU stays, so a changed definition counts only after a shutdown and a start.
    While that lasts, it is not migrated. One that is migrated, or has another libvirt job, is
    refused, and so is one whose definition ends it at a reboot.

    guest
        The guest's name, exactly.

    timeout
        Seconds to wait. Default: 120.

    reset
        Whether to reset a guest that has not reacted then: data that it has not written is lost.
        Default: false.

    Returns ``{guest, uuid, node, result, owner, reason}``. ``result`` is ``rebooted`` if libvirt
    reported its reset and it runs, ``not_rebooted``, or ``unknown`` if libvirt does not answer, or
    could not report it: then it is not reset either. The exit code is zero if it was rebooted.

    CLI Example:

    .. code-block:: bash

        salt 'node1' kvmcluster.reboot_guest web1
    """
    cluster = doors.member_cluster(__pillar__, __opts__["id"], __context__)
    limit, resets = doors.seconds(timeout, "timeout"), doors.flag(reset, "reset")
    with this_node.environment(cluster, __opts__["id"]) as env:
        done = rebooter.reboot(env, guest_name(guest, "guest"), limit, resets).to_dict()
    return _ended(done, done["result"] == guest_reboots.REBOOTED)


@doors.salt_errors
def access(guest: str) -> dict[str, Any]:
    """Return the displays and serial consoles of a guest that runs on this node.

    For ``salt-run kvmcluster.console`` and ``kvmcluster.display``. By the definition that runs,
    without passwords.

    guest
        The guest's name, exactly.

    Returns ``{cluster, node, guest, displays, consoles}``: ``displays`` has ``{kind, listens,
    address, port, tls_port, socket}`` by libvirt's words, ``consoles`` the type of each console.

    CLI Example:

    .. code-block:: bash

        salt 'node1' kvmcluster.access web1
    """
    cluster = doors.member_cluster(__pillar__, __opts__["id"], __context__)
    name = guest_name(guest, "guest")
    with this_node.environment(cluster, __opts__["id"]) as env:
        ways = inquiry.ways(env, name)
    return {**_of_this_node("access", cluster), "guest": name, **ways.to_dict()}


@doors.salt_errors
def freeze(guest: str, reason: str) -> dict[str, Any]:
    """Forbid to move a guest of this node, until ``kvmcluster.unfreeze``.

    This is kept in the guest's libvirt metadata. A transient guest loses it when it ends. The
    guest may be shut down and started all the same. One that Pacemaker manages is held from it
    (docs/pacemaker.md): it is not moved, nor started again if its node dies, until it is unfrozen.

    guest
        The guest's name, exactly.

    reason
        Why; shown when a move is refused.

    Returns ``{guest, uuid, node, frozen, reason, since, changed}``, as read afterwards.

    CLI Example:

    .. code-block:: bash

        salt 'node1' kvmcluster.freeze web1 'backup until Monday, ask Ann'
    """
    cluster = doors.member_cluster(__pillar__, __opts__["id"], __context__)
    name, why = guest_name(guest, "guest"), startup.freezing_reason(reason)
    with this_node.environment(cluster, __opts__["id"]) as env:
        return freezer.freeze(env, name, why)


@doors.salt_errors
def unfreeze(guest: str) -> dict[str, Any]:
    """Allow to move a guest of this node again.

    One that is held from Pacemaker is given back first; if that fails, it stays frozen.

    guest
        The guest's name, exactly.

    Returns ``{guest, uuid, node, frozen, reason, since, changed}``: ``reason`` and ``since`` are
    those of the freeze that ended.

    CLI Example:

    .. code-block:: bash

        salt 'node1' kvmcluster.unfreeze web1
    """
    cluster = doors.member_cluster(__pillar__, __opts__["id"], __context__)
    name = guest_name(guest, "guest")
    with this_node.environment(cluster, __opts__["id"]) as env:
        return freezer.freeze(env, name, None)


@doors.salt_errors
def cordon(reason: str) -> dict[str, Any]:
    """Cordon this node: no guest starts on it or moves to it until ``kvmcluster.uncordon``.

    What runs here stays; ``salt-run kvmcluster.drain`` cordons a node and moves its guests away.
    The cordon is the file /etc/kvmcluster.cordoned, however it was created, and survives a reboot.

    reason
        Why; shown in status and refusals.

    Returns ``{cluster, node, cordoned, since, reason, changed}``. A node that is cordoned already
    keeps since when, and why; but a person's reason takes the place of an orchestration's, which
    then does not uncordon the node.

    CLI Example:

    .. code-block:: bash

        salt 'node1' kvmcluster.cordon 'new memory, ask Ann'
    """
    cluster = doors.member_cluster(__pillar__, __opts__["id"], __context__)
    mark, changed = cordons.cordon(checked_reason(reason))
    return _mark(cluster, cordons.current(), mark, changed)


@doors.salt_errors
def uncordon(reason: str | None = None) -> dict[str, Any]:
    """Uncordon this node: guests may start on it and move to it.

    reason
        Uncordon it only if that is why it is cordoned. Default: whatever cordons it.

    Returns ``{cluster, node, cordoned, since, reason, changed}``: ``since`` and ``reason`` are
    those of the cordon that was removed.

    CLI Example:

    .. code-block:: bash

        salt 'node1' kvmcluster.uncordon
    """
    cluster = doors.member_cluster(__pillar__, __opts__["id"], __context__)
    mark = cordons.uncordon(None if reason is None else checked_reason(reason))
    return _mark(cluster, cordons.current(), mark, mark is not None)


@doors.salt_errors
def standby(reason: str) -> dict[str, Any]:
    """Have Pacemaker start nothing on this node, and move away what it manages here.

    For ``salt-run kvmcluster.drain``, which moves the guests away first. Nothing is done where
    Pacemaker manages no guest, or the node is on standby already. The standby bears a mark, by
    which ``kvmcluster.unstandby`` tells it from a person's.

    reason
        Why; kept in the mark.

    Returns ``{cluster, node, ok, standby}``: whether the node is on standby by us. It is refused if
    no other node of Pacemaker's takes guests, and fails if a guest has not left within 5 minutes;
    the node stays on standby then.

    CLI Example:

    .. code-block:: bash

        salt 'node1' kvmcluster.standby 'new memory, ask Ann'
    """
    cluster = doors.member_cluster(__pillar__, __opts__["id"], __context__)
    why = checked_reason(reason)
    with this_node.environment(cluster, __opts__["id"]) as env:
        ours = node_standby.begin(env, why)
    return {**_of_this_node("standby", cluster), "ok": True, "standby": ours}


@doors.salt_errors
def unstandby() -> dict[str, Any]:
    """Have Pacemaker start guests on this node again, if ``kvmcluster.standby`` kept it from that.

    For ``salt-run kvmcluster.undrain``. A node that a person has put on standby stays so.

    Returns ``{cluster, node, ok, standby, changed}``: ``changed`` is whether it was on standby by
    us.

    CLI Example:

    .. code-block:: bash

        salt 'node1' kvmcluster.unstandby
    """
    cluster = doors.member_cluster(__pillar__, __opts__["id"], __context__)
    with this_node.environment(cluster, __opts__["id"]) as env:
        changed = node_standby.end(env)
    found = {"ok": True, "standby": False, "changed": changed}
    return {**_of_this_node("standby", cluster), **found}


@doors.salt_errors
def fence_devices(question: dict[str, Any]) -> dict[str, Any]:
    """Return whether Pacemaker's fence devices respond to this node, for ``kvmcluster.fence_test``.

    By ``stonith_admin --query``, which has the agent look; nothing is switched.

    question
        By node: a list of devices; each node tries its own.

    Returns ``{cluster, node, devices}``: by device why it does not respond, empty if it does.

    CLI Example:

    .. code-block:: bash

        salt 'node1' kvmcluster.fence_devices '{node1: [kvmcluster-fence-bmc2]}'
    """
    cluster = doors.member_cluster(__pillar__, __opts__["id"], __context__)
    asked = question.get(__opts__["id"]) if isinstance(question, dict) else None
    if not isinstance(asked, list) or not all(isinstance(one, str) for one in asked):
        raise InputError(
            f"question: want a list of devices by node, got {validate.shown(question)}"
        )
    with this_node.environment(cluster, __opts__["id"]) as env:
        found = fencer.responses(env, asked)
    return {**_of_this_node("fence_devices", cluster), "devices": found}


@doors.salt_errors
def fence(node: str) -> dict[str, Any]:
    """Have Pacemaker fence another node from this one, for ``salt-run kvmcluster.fence_test``.

    That one looks first whether guests run there, and whether the others keep quorum; here it is
    refused only if Pacemaker has no quorum, or does not show the node online. It waits until
    ``stonith_admin --reboot`` ends, and keeps what it saw in the history.

    node
        The node's minion id.

    Returns ``{cluster, node, target, ok, by, device, seconds, detail}``: ``ok`` is None if it is
    not known whether it succeeded, ``by`` the node whose fencer did it, ``device`` the one that it
    used, empty if that was not seen in its log.

    CLI Example:

    .. code-block:: bash

        salt 'node1' kvmcluster.fence node2
    """
    cluster = doors.member_cluster(__pillar__, __opts__["id"], __context__)
    target = cluster.node(str(node)).id
    if target == __opts__["id"]:
        raise InputError(f"node: {target} would fence itself; call it on another node")
    with this_node.environment(cluster, __opts__["id"]) as env:
        done = fencer.fence(env, target)
    return _ended(
        {**_of_this_node("fencing", cluster), "target": target, **done.to_dict()}, done.ok is True
    )


@doors.salt_errors
def state_jobs(returns: list[str] | None = None) -> dict[str, Any]:
    """Return which jobs of Salt's states run on this node, and which wait in its queues.

    As ``state.running`` counts them, and beyond that what lies in the queues of the minion, where
    neither that nor ``saltutil.find_job`` looks: a state with ``queue=True`` waits there, over a
    reboot too, and begins as soon as nothing else runs; and any job beyond ``process_count_max``.

    returns
        The ids of ended jobs whose returns are asked for. Default: none.

    It needs no pillar: a node is asked before its first key is made.

    Returns ``{node, running, waiting, returned, unseen}``: rows of ``{jid, what, path}``, where
    ``path`` is the file in a queue; ``returned`` by id, as far as this node kept it, which it does
    for SLS files that an orchestration applied; ``unseen``: whether a job may wait in the minion's
    memory, as beyond ``process_count_max`` in releases without a queue for it.

    CLI Example:

    .. code-block:: bash

        salt 'node1' kvmcluster.state_jobs
    """
    kept = {job: kept_returns.read(job) for job in running.job_ids(returns)}
    waiting = _waiting()  # First: what leaves a queue meanwhile runs by then.
    return {
        "kind": "state_jobs",
        "node": __opts__["id"],
        "running": _running(),
        "waiting": waiting,
        "returned": {
            job: from_json(text, "", lenient=True).value
            for job, text in kept.items()
            if text is not None
        },
        "unseen": __opts__.get("process_count_max", -1) > 0 and not _HAS_QUEUE,
    }


@doors.salt_errors
def leave(timeout: float = 600) -> dict[str, Any]:
    """Cordon this node and migrate its guests to peers before it shuts down.

    For the unit ``kvmcluster-leave.service``, which calls it when somebody simply reboots the host;
    ``salt-run kvmcluster.drain`` is for everything else. It plans as that does, but by the facts
    that this node collects itself, moves one guest after another, the biggest first, and ends when
    the time is over. The unit uncordons the node at its next boot.

    timeout
        Seconds for all of it; a guest waits for a slot, and then migrates, for at most half of what
        is left each. What has not moved by then stays, and its migration is cancelled.
        Default: 600.

    Returns what ``salt-run kvmcluster.drain`` returns; the exit code is zero if no guest is left.

    CLI Example:

    .. code-block:: bash

        salt-call kvmcluster.leave timeout=300
    """
    cluster, here = doors.member_cluster(__pillar__, __opts__["id"], __context__), __opts__["id"]
    limit = doors.seconds(timeout, "timeout")
    identities = doors.mine_identities(cluster, __salt__["mine.get"], __context__)
    leaver = Leaver(
        cluster,
        here,
        this_node.Clock(),
        lambda: examiner.placeable(cluster, here, identities),
        lambda: collector.own(here),
        functools.partial(_migrate_within, cluster),
    )
    mark, _ = cordons.cordon(LEAVING)
    done = leaver.leave(mark, limit).to_dict()
    return _ended(done, done["ok"])


@doors.salt_errors
def boot() -> dict[str, Any]:
    """Return the id of this node's current boot, and the reasons for a reboot.

    Reasons are a file /run/reboot-required or /run/reboot-needed, ``needs-restarting -r`` where it
    is installed, or an installed kernel that is newer than the running one.

    Returns ``{cluster, node, boot, needed}``: ``boot`` identifies this boot,
    ``needed`` lists the reasons.

    CLI Example:

    .. code-block:: bash

        salt 'node1' kvmcluster.boot
    """
    cluster = doors.member_cluster(__pillar__, __opts__["id"], __context__)
    return {
        **_of_this_node("boot", cluster),
        "boot": bootid.identity(),
        "needed": [*bootid.needed(), *_newer_kernel()],
    }


@doors.salt_errors
def reboot(boot: str) -> dict[str, Any]:
    """Reboot this node, unless it is not cordoned, a guest is active on it, or a state runs there.

    For ``salt-run kvmcluster.reboot``, which waits until the node is back.

    boot
        The current boot, from ``kvmcluster.boot``: a node that was rebooted meanwhile is not
        rebooted again.

    Returns ``{cluster, node, boot, detail}``, if the response is sent before the node goes down.

    CLI Example:

    .. code-block:: bash

        salt 'node1' kvmcluster.reboot 7e9b0d36-…:1:1423
    """
    cluster = doors.member_cluster(__pillar__, __opts__["id"], __context__)
    here = __opts__["id"]
    now = bootid.identity()
    if boot != now:
        raise InputError(f"boot: {here} has rebooted already and is in {now}; nothing was done")
    maintenance.may_reboot(collector.own(here))
    running.refuse_reboot([*_waiting(), *_running()], here)
    detail = __salt__["system.reboot"]()
    return {**_of_this_node("boot", cluster), "boot": now, "detail": detail}


@doors.salt_errors
def sls_check(sls: str | list[str]) -> dict[str, Any]:
    """Return whether SLS files can be applied to this node: they exist, and compile here.

    Nothing is changed, and it does not matter whether another state run is in progress.

    sls
        The name of an SLS, several separated by commas, or a list.

    Returns ``{cluster, node, ok, sls, states, problems}``: ``states`` is their number,
    ``problems`` has a sentence for each reason.

    CLI Example:

    .. code-block:: bash

        salt 'node1' kvmcluster.sls_check updates
    """
    cluster = doors.member_cluster(__pillar__, __opts__["id"], __context__)
    names = maintenance.some_slses(sls)
    env = __opts__.get("saltenv") or "base"
    retcode = __context__.get("retcode", 0)
    # Not `queue`, which a minion's configuration may ask for: it would wait, or be put off.
    compiled = __salt__["state.show_low_sls"](list(names), queue=False, concurrent=True)
    __context__["retcode"] = retcode
    problems = updates.problems(compiled)
    if problems:
        missing = updates.missing(names, __salt__["cp.list_states"](env), env)
        problems = missing or problems
    else:
        called = updates.functions(compiled)
        modules = sorted({name.partition(".")[0] for name in called})
        known = __salt__["sys.list_state_functions"](*modules) if modules else []
        problems = updates.unavailable(called, known)
    done = {
        **_of_this_node("sls_check", cluster),
        "ok": not problems,
        "sls": list(names),
        "states": 0 if problems else len(compiled),
        "problems": problems,
    }
    return _ended(done, not problems)


def _started_by_states(cluster: Cluster) -> dict[str, Any]:
    """Return which guests the highstate starts, if that matters: a guest is Pacemaker's."""
    if not any(guest.ha for guest in cluster.guests.list.values()):
        return {}
    retcode = __context__.get("retcode", 0)
    try:
        return highstate.started(__salt__["state.show_lowstate"](queue=False, concurrent=True))
    except SaltException as error:
        return highstate.started(str(error))
    finally:
        __context__["retcode"] = retcode


def _running() -> list[dict[str, str]]:
    """Return the jobs of states that run here, but for the one that asks."""
    found = [running.row(held.get("jid"), held) for held in __salt__["saltutil.running"]()]
    return [job for job in found if job]


def _waiting() -> list[dict[str, str]]:
    """Return the jobs of states that wait in the queues of this minion."""
    found = []
    for path, content in salt_queues.waiting(__opts__["cachedir"]):
        job = running.queued_id(os.path.basename(path))
        if job is not None:
            found.append(running.row(job, _unpacked(content), path))
    return [row for row in found if row]


def _unpacked(content: bytes) -> object:
    """Return what a file of Salt's holds; None if it cannot be read."""
    try:
        return salt.payload.loads(content)
    except (SaltException, TypeError, ValueError):
        return None


def _migrate_within(cluster: Cluster, move: Move, seconds: float) -> dict[str, Any]:
    """Migrate a guest of this node within a time, the wait for a slot included."""
    known = cluster.migration.options
    wanted = dataclasses.replace(known, timeout=min(known.timeout, seconds / 2))
    with _environment(cluster.with_options(wanted)) as env:
        patience = min(PATIENCE, seconds)
        done = migrator.migrate(env, move.guest, move.destination, wanted, patience, wanted.timeout)
    return done.to_dict()


def _newer_kernel() -> list[str]:
    """Return that a newer kernel is installed than runs, where Salt can tell."""
    if "kernelpkg.needs_reboot" not in __salt__:
        return []
    latest = __salt__["kernelpkg.latest_installed"]()
    newer = latest and __salt__["kernelpkg.needs_reboot"]()
    return [f"kernel {latest} is installed but not running"] if newer else []


def _mark(
    cluster: Cluster, found: Cordon | None, known: Cordon | None, changed: bool
) -> dict[str, Any]:
    """Return whether this node is cordoned, as read afterwards."""
    return {
        **_of_this_node("cordon", cluster),
        "cordoned": found is not None,
        "since": known.since if known else "",
        "reason": known.reason if known else "",
        "changed": changed,
    }


def _of_this_node(kind: str, cluster: Cluster) -> dict[str, Any]:
    """Return the keys that all data of a kind has."""
    return {"kind": kind, "cluster": cluster.name, "node": __opts__["id"]}


@contextlib.contextmanager
def _environment(cluster: Cluster) -> Iterator[Environment]:
    """Make this node's environment; its notifications become events."""
    here = __opts__["id"]
    with (
        notifier.event_sender(cluster.name, here, __salt__["event.send"]) as notify,
        this_node.environment(cluster, here, notify, __pillar__.get(clusters.ROOT)) as env,
    ):
        yield env


def _ended(done: dict[str, Any], well: bool) -> dict[str, Any]:
    """Give the exit code of a failure unless it ended well."""
    if not well:
        __context__["retcode"] = salt.defaults.exitcodes.EX_GENERIC
    return done
