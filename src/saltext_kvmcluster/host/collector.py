"""Collects the facts of a node, this one or a peer, over the cluster's own ssh, for the checks.

What is sent is raw: what programs printed, definitions as they are. ``core.facts`` parses it where
it is judged. Both nodes are asked alike: argument lists that are run, and one libvirt connection; a
peer needs neither Salt nor this package for it.
"""

from __future__ import annotations

import contextlib
import functools
import time
from collections.abc import Collection, Iterable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from types import MappingProxyType
from typing import Any

from saltext_kvmcluster.core.errors import WorldError
from saltext_kvmcluster.core.facts import node_report, parsers, questions, starters
from saltext_kvmcluster.core.facts.nodefacts import NodeFacts
from saltext_kvmcluster.core.facts.parsers import CommandOutput
from saltext_kvmcluster.core.facts.questions import Part
from saltext_kvmcluster.core.guest import store
from saltext_kvmcluster.core.guest.disks import Source
from saltext_kvmcluster.core.guest.domainxml import Guest
from saltext_kvmcluster.core.migration.migration import Move
from saltext_kvmcluster.core.pillar.clusters import Cluster, Node
from saltext_kvmcluster.core.readiness.checks.guest import Close, matters
from saltext_kvmcluster.core.storage import inventory, lock_manager, shared_storage
from saltext_kvmcluster.core.trust import keyfile, logins
from saltext_kvmcluster.core.trust.identity import Identities
from saltext_kvmcluster.host import (
    accounts,
    commands,
    journal,
    keys,
    libvirt_answers,
    pacemaker_view,
    rotating,
    shutdowns,
    ssh,
)
from saltext_kvmcluster.host.hypervisor import Hypervisor
from saltext_kvmcluster.host.node_access import (
    NodeAccess,
    Outputs,
    peer_host,
    run_in_parts,
    this_host,
)
from saltext_kvmcluster.host.paths import kinds_found, links_found, path_commands, realpath_commands
from saltext_kvmcluster.host.resolver import name_commands, names_found
from saltext_kvmcluster.host.shared_definitions import read_listed
from saltext_kvmcluster.host.ssh_facts import (
    dialing,
    is_encrypted,
    issues_of,
    migration_port,
    own_trust,
    peers_seen,
)
from saltext_kvmcluster.host.tokens import token_commands, token_name, tokens_read, write_tokens


def gather(
    cluster: Cluster,
    node: str,
    identities: Identities | None = None,
    login_targets: logins.Targets | None = None,
    part: Part | None = None,
) -> dict[str, Any]:
    """Return the facts of this node, as plain data for ``core.facts.node_report``.

    Writes a fresh token into each shared folder that holds files of its active guests, or
    definitions; a node that reads it there sees the same storage.

    identities
        What the mine holds of the members; None where that is not known.
    login_targets
        The peers to log in to, by which names, and whose migration port to try. Default: none.
    part
        The move in question; None for any. A node without a part in it does not log in, nor inspect
        its own trust.
    """
    with contextlib.closing(this_host()) as access, ThreadPoolExecutor() as pool:
        machine = pool.submit(_libvirt, access.hypervisor, _defined(cluster))
        host = pool.submit(_of_host, access, node, machine, fencers=True)
        placed = pool.submit(read_listed, cluster, access)
        sends = part is None or part.sends(machine.result())
        receives = part is None or part.receives(node)
        trust = pool.submit(own_trust, cluster, node, identities) if sends or receives else None
        reached = pool.submit(peers_seen, cluster, login_targets or {} if sends else {})
        reported = host.result()
        texts, notes = placed.result()
        reported["definitions"].update(texts)
        reported["definition_notes"] = notes
        reported.update(ssh=trust.result() if trust else {}, peers=reached.result())
    found = node_report.parse(node, reported, 0.0, 0.0)
    written, detail = write_tokens(
        _shared_folders(_sources_of_node(cluster, found), found), token_name(node)
    )
    return {**reported, "written": written, "write_errors": detail}


def gather_peer(cluster: Cluster, peer: Node) -> dict[str, Any]:
    """Return the facts of a peer, without those that only it can see: its ssh trust and its peers.

    Definitions on shared storage are not read again. WorldError if it accepts no login.
    """
    with contextlib.closing(peer_host(cluster, peer)) as access:
        return of_access(access, peer.id, _defined(cluster), parsers.OF_PEER, fencers=True)


def gather_source(
    cluster: Cluster,
    move: Move,
    access: NodeAccess,
    guest: Guest | None,
    login: Future[logins.LoginProbe],
) -> dict[str, Any]:
    """Return the facts of this node that the blocking checks of one migration need.

    guest
        The definition of the guest to migrate, None if it cannot be read.
    login
        The result of the login to the destination.
    """
    peer, account = cluster.node(move.destination), accounts.account(cluster.ssh.login)
    key = functools.cache(lambda: keys.key_file(keyfile.key_path(cluster, account.home), account))
    with ThreadPoolExecutor() as pool:
        port = pool.submit(migration_port, peer)
        trusted = pool.submit(issues_of, dialing(cluster, account, key, peer.names))
        reported = _of_one(access, move, guest, parsers.OF_SOURCE, runs_here=True)
        found = node_report.parse(move.source, reported, 0.0, 0.0)
        folders = _shared_folders([*_storage_of([guest]), *_leases(found)], found)
        written, detail = write_tokens(folders, token_name(move.source, move))
        reported.update(ssh=trusted.result(), written=written, write_errors=detail)
        cell = ssh.cell_of(
            peer.id, peer.migration, login.result(), is_encrypted(key), cluster.ssh.from_
        )
        reported["peers"] = {peer.id: {"cells": [cell], "names": [peer.migration], **port.result()}}
        return reported


def gather_destination(move: Move, access: NodeAccess, guest: Guest | None) -> dict[str, Any]:
    """Return the facts of a peer that the blocking checks of one migration to it need."""
    return _of_one(access, move, guest, parsers.OF_DESTINATION)


def answer(
    question: Mapping[str, Any], access: NodeAccess | None = None, move: Move | None = None
) -> dict[str, Any]:
    """Answer a question of ``core.readiness``: paths, tokens, CPUs, host names, emulators.

    Facts that cannot be had are not in the answer.

    access
        How to ask; None for this host.
    move
        The migration whose tokens are meant; see ``token_name``.

    InputError if the question is invalid.
    """
    if access is None:
        with contextlib.closing(this_host()) as own:
            return answer(question, own)
    asked = questions.parse(question)
    with ThreadPoolExecutor() as pool:
        libvirt = pool.submit(libvirt_answers.answers, access.hypervisor, asked)
        wanted = {
            **path_commands(asked.paths),
            **token_commands(asked.tokens, move),
            **name_commands(asked.names),
        }
        found = run_in_parts(access, wanted)
        return {
            "paths": kinds_found(asked.paths, found),
            "tokens": tokens_read(asked.tokens, found, move),
            **libvirt.result(),
            "names": names_found(asked.names, found),
        }


def gather_host(node: str) -> dict[str, Any]:
    """Return the facts of this node's guests, storage and host alone."""
    with contextlib.closing(this_host()) as access:
        return of_access(access, node)


def own_state(cluster: Cluster, node: str) -> dict[str, Any]:
    """Return this node's journal, pillar and key, and what it knows of listed guests."""
    return {
        "journal": list(journal.known(node).unread),
        "pillar": dict(cluster.parts),
        "shutdowns": shutdowns.noted(cluster.guests.list),
        "logged": shutdowns.logged(cluster.guests.list),
        "key_age": rotating.age(cluster),
        "key_replaced": rotating.replaced_since(),
    }


def own_minion() -> str:
    """Return what is wrong with the salt-minion of this host, empty if it runs or if unknown.

    ``salt-call`` needs none.
    """
    found = commands.run_all(parsers.OF_PEER)["minion"]
    return parsers.minion(CommandOutput(found.code, found.stdout, found.stderr)) or ""


def own(node: str) -> NodeFacts:
    """Return the parsed facts of this node's guests, storage and host."""
    asked_at = time.time()
    reported = gather_host(node)
    return node_report.parse(node, reported, asked_at, time.time())


def of_access(
    access: NodeAccess,
    node: str,
    defined: Collection[str] = (),
    more: Mapping[str, Sequence[str]] = MappingProxyType({}),
    fencers: bool = False,
) -> dict[str, Any]:
    """Return a host's facts, with libvirt's definitions of the guests ``defined``.

    more, fencers
        As of ``_of_host``.
    """
    with ThreadPoolExecutor() as pool:
        machine = pool.submit(_libvirt, access.hypervisor, defined)
        return _of_host(access, node, machine, more, fencers)


def _of_host(
    access: NodeAccess,
    node: str,
    machine: Future[dict[str, Any]],
    more: Mapping[str, Sequence[str]] = MappingProxyType({}),
    fencers: bool = False,
) -> dict[str, Any]:
    """Return a host's facts.

    machine
        Those of its libvirt.
    more
        Programs to run besides.
    fencers
        Whether to ask Pacemaker whom it can fence, for which it may ask fence devices.
    """
    outputs = access.run_all(
        {**parsers.COMMANDS, **starters.COMMANDS, **inventory.COMMANDS, **more}
    )
    outputs = {**outputs, **pacemaker_view.further(access.run_all, outputs)}
    if fencers:
        outputs = {**outputs, **pacemaker_view.membership(access.run_all, outputs)}
    reported: dict[str, Any] = {
        "node": node,
        "commands": _to_dicts(outputs),
        **machine.result(),
    }
    found = node_report.parse(node, reported, 0.0, 0.0)
    sources = [*_storage_of(_running(found)), *_leases(found)]
    reported["commands"] = _with_links(access, reported["commands"], sources, _holders(outputs))
    return reported


def _with_links(
    access: NodeAccess,
    outputs: Mapping[str, dict[str, Any]],
    sources: Iterable[Source],
    more: Mapping[str, Sequence[str]],
) -> dict[str, Any]:
    """Return the outputs with the links of some paths, and with those of more programs."""
    paths = [source.path for source in sources]
    found = run_in_parts(access, {**more, **realpath_commands(paths)})
    known = outputs.get("links", {"code": 0, "out": ""})
    links = {**known, "out": known["out"] + links_found(paths, found)}
    return {**outputs, "links": links, **_to_dicts({key: found[key] for key in more})}


def _holders(outputs: Outputs) -> Mapping[str, Sequence[str]]:
    """Return the programs that list the guests which the lock manager knows, if there is one."""
    return lock_manager.HOLDERS.get(lock_manager.name_of(outputs["settings"].stdout), {})


def _of_one(
    access: NodeAccess,
    move: Move,
    guest: Guest | None,
    wanted: Iterable[str],
    runs_here: bool = False,
) -> dict[str, Any]:
    """Return a host's facts for one guest that is to migrate, by the programs that are wanted.

    Devices are listed only where the guest's disks may be on them, and whom the lock manager knows
    only where there is one, and the guest runs.
    """
    paths = [source.path for source in _storage_of([guest])]
    disks = [layer for disk in (guest.disks if guest else ()) for layer in disk.layers]
    known = {**parsers.COMMANDS, **parsers.OF_PEER}
    asked = {**{key: known[key] for key in wanted}, **starters.COMMANDS}
    asked["mounts"] = inventory.COMMANDS["mounts"]
    with ThreadPoolExecutor() as pool:
        close = matters(guest, move.guest, move.uuid)
        machine = pool.submit(_libvirt, access.hypervisor, (), close)
        outputs = run_in_parts(access, {**asked, **realpath_commands(paths)})
        links, reported = (
            links_found(paths, outputs),
            _to_dicts({key: outputs[key] for key in asked}),
        )
        reported["links"] = {"code": 0, "out": links}
        mounted = inventory.parse({key: (one["code"], one["out"]) for key, one in reported.items()})
        if not all(shared_storage.needs_mounts_alone(layer, mounted) for layer in disks):
            reported.update(_to_dicts(access.run_all(inventory.COMMANDS)))
            reported["links"]["out"] += links
        reported.update(_to_dicts(pacemaker_view.further(access.run_all, outputs)))
        more: Mapping[str, Sequence[str]] = {}
        leases: list[Source] = []
        if lock_manager.name_of(outputs["settings"].stdout):
            named = {"commands": reported, **machine.result()}
            leases = _leases(node_report.parse("", named, 0.0, 0.0))
            more = _holders(outputs) if runs_here else {}
        if more or leases:
            reported = _with_links(access, reported, leases, more)
        return {"commands": reported, **machine.result()}


def _defined(cluster: Cluster) -> Collection[str]:
    """Return the guests whose definitions libvirt keeps on every node."""
    return cluster.guests.list if cluster.guests.definitions == "defined" else ()


def _to_dicts(outputs: Outputs) -> dict[str, dict[str, Any]]:
    return {
        key: {
            "code": one.code,
            "out": one.stdout,
            **({"detail": one.stderr[:300]} if one.code != 0 else {}),
        }
        for key, one in outputs.items()
    }


def _libvirt(
    libvirt: Hypervisor, defined: Collection[str], close: Close | None = None
) -> dict[str, Any]:
    """Return libvirt's facts; no response from its daemon is a fact too."""
    try:
        return {
            "daemon": libvirt.daemon(),
            "guests": libvirt.guests(close),
            "definitions": {name: libvirt.definition(name) for name in defined},
        }
    except WorldError as error:
        return {"daemon": {"detail": str(error)}, "definitions": {}}


def _shared_folders(sources: Iterable[Source], found: NodeFacts) -> set[str]:
    """Return the mount points of shared storage that hold any of these."""
    if found.storage is None:
        return set()
    locations = (shared_storage.locate(source, found.storage) for source in sources)
    return {one.folder for one in locations if one.folder and one.fit}


def _leases(found: NodeFacts) -> list[Source]:
    """Return the folders of the lock manager's leases."""
    folders = found.daemon.locks.folders if found.daemon else ()
    return [Source("file", folder) for folder in folders]


def _sources_of_node(cluster: Cluster, found: NodeFacts) -> list[Source]:
    """Return the storage of a node's active guests, of leases, and of definitions."""
    sources = [*_storage_of(_running(found)), *_leases(found)]
    if cluster.guests.definitions == "shared":
        sources += [
            Source("file", path)
            for guest in cluster.guests.list.values()
            for path in store.paths(cluster.guests, guest.name)
        ]
    return sources


def _running(found: NodeFacts) -> list[Guest]:
    return [guest.guest for guest in found.guests or () if guest.active and guest.guest]


def _storage_of(guests: Iterable[Guest | None]) -> list[Source]:
    """Return the disks and files of guests, as far as they are known."""
    known = [guest for guest in guests if guest]
    disks = [disk for guest in known for disk in guest.disks]
    return [
        *(layer for disk in disks for layer in disk.layers if layer.path),
        *(Source("file", file.path) for guest in known for file in guest.files),
        *(Source("file", lease.target) for guest in known for lease in guest.leases),
    ]
