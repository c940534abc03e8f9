"""Whether the definition of a guest is on storage that several nodes share."""

from __future__ import annotations

import posixpath
from collections.abc import Iterator, Sequence

from saltext_kvmcluster.core.findings import SEE, Issue, unknown
from saltext_kvmcluster.core.guest import store
from saltext_kvmcluster.core.guest.disks import Source
from saltext_kvmcluster.core.pillar.agreement import works_by_another
from saltext_kvmcluster.core.pillar.clusters import ROOT
from saltext_kvmcluster.core.readiness.checks.base import World
from saltext_kvmcluster.core.storage.location import MOVE_IT, Location
from saltext_kvmcluster.core.text import listed


def unshared(world: World, guest: str, nodes: Sequence[str]) -> Iterator[Issue]:
    """Yield why the definition of a listed guest is not known to be the same on these nodes.

    A node that does not respond is left out: it is reported on its own.
    """
    paths = store.paths(world.cluster.guests, guest)
    if not paths:
        yield Issue(
            "the pillar does not say where its definition is",
            f"set {ROOT}:guests:path, or its xmlfile, to shared storage",
        )
        return
    asked = [node for node in nodes if node in world.responding]
    yield from _missing(world, guest, asked)
    for folder in dict.fromkeys(map(posixpath.dirname, paths)):
        yield from _of_folder(world, folder, asked)


def _missing(world: World, guest: str, nodes: Sequence[str]) -> Iterator[Issue]:
    """Yield that its definition is not there, or cannot be read, where a node itself looked."""
    lacking, stale = [], []
    for node in nodes:
        found = world.nodes[node]
        if found.by_peer:
            continue
        detail = found.definition_notes.get(guest, "")
        unread = guest not in found.definitions
        if unread and not detail and works_by_another(world.cluster, found.pillar):
            stale.append(node)
        elif unread:
            sentence = f"its definition on {node} is not known: {detail or 'it was not read'}"
            yield unknown(sentence, f"on {node}: make it readable for root")
        elif not found.definitions[guest]:
            lacking.append(node)
    if stale:
        yield unknown(
            f"its definition on {listed(stale)} is not known: by another pillar than the master's,"
            " it was not looked for there",
            f"salt -L {','.join(stale)} saltutil.refresh_pillar",
        )
    if lacking:
        yield Issue(
            f"no definition of it is found on {listed(lacking)}",
            "place it with the state kvmcluster.guest_placed",
        )


def _of_folder(world: World, folder: str, nodes: Sequence[str]) -> Iterator[Issue]:
    """Yield why a folder is not known to be the same on some nodes."""
    found: dict[str, Location] = {}
    local: dict[str, list[str]] = {}
    for node in nodes:
        location = world.locate(node, Source("file", folder))
        if location is None or location.fit is None:
            why = location.why if location else "its storage was not reported"
            yield unknown(
                f"not known whether {folder} is shared storage on {node}: {why}",
                f"on {node}: findmnt -T {folder} must show where it is; {SEE}node.daemon",
            )
        elif not location.fit:
            local.setdefault(location.why.partition("; ")[0], []).append(node)
        else:
            found[node] = location
    for why, where in local.items():
        yield Issue(
            f"its definition is looked for in {folder}, which is not shared on {listed(where)}:"
            f" {why}",
            MOVE_IT.replace("move it", "move definitions", 1),
        )
    yield from _different(world, folder, found)


def _different(world: World, folder: str, found: dict[str, Location]) -> Iterator[Issue]:
    first = next(iter(found), "")
    for node, there in found.items():
        here = found[first]
        if node == first or _is_proven(world, first, here, node, there):
            continue
        names = [f"{one.kind} {one.identity}".strip() for one in (here, there)]
        if here.kind != there.kind or (all((here.identity, there.identity)) and len({*names}) > 1):
            yield Issue(
                f"{folder} is other storage on {first} than on {node}: {listed(names)}",
                f"mount the same storage there on both: findmnt -T {folder}",
            )
        else:
            yield unknown(
                f"{folder} is not proven to be the same storage on {first} and on {node}",
                f"ls {folder} must show the same on both; then check again",
            )


def _is_proven(world: World, first: str, here: Location, node: str, there: Location) -> bool:
    witnesses = world.witnesses(first, here.folder) & world.witnesses(node, there.folder)
    return here.folder == there.folder and bool(witnesses)
