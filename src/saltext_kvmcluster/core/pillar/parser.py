"""From the raw pillar to the validated model of the cluster.

Every error names the full path of the key, what is wrong with it, and what is accepted.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Mapping
from typing import Any

from saltext_kvmcluster.core import validate
from saltext_kvmcluster.core.errors import InputError
from saltext_kvmcluster.core.pillar import (
    balancing,
    groups,
    ha_parser,
    ha_relations,
    options,
    places,
    ssh,
)
from saltext_kvmcluster.core.pillar.clusters import (
    DEFINITIONS,
    LETTERS,
    LONGEST_WITHIN,
    MOST_AT_ONCE,
    MOST_CASES,
    MOST_RESTARTS,
    MOST_SPARE,
    ROOT,
    Cluster,
    Guests,
    Listed,
    Migration,
    Node,
)
from saltext_kvmcluster.core.pillar.names import guest_name, host_name, minion_id
from saltext_kvmcluster.core.pillar.options import Options
from saltext_kvmcluster.core.pillar.paths import definition_path, lease_path
from saltext_kvmcluster.core.pillar.schema import keys_of
from saltext_kvmcluster.core.validate import shown

_CLUSTER_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,62}\Z")


def from_pillar(pillar: object) -> Cluster:
    """Return the cluster that the pillar's ``kvmcluster`` part describes.

    pillar
        The whole pillar of a minion (a mapping).

    Raises InputError with the path of the wrong key.
    """
    raw = pillar.get(ROOT) if isinstance(pillar, Mapping) else None
    if raw is None:
        raise InputError(
            f"this minion has no pillar '{ROOT}': describe the cluster there"
            " (pillar.example shows every key) and run saltutil.refresh_pillar"
        )
    top = validate.section(raw, ROOT, keys_of(Cluster))
    name = validate.matching(top, "name", ROOT, _CLUSTER_NAME, LETTERS)
    nodes = _nodes(top.get("nodes"))
    ha = ha_parser.parse(top.get("ha"), f"{ROOT}:ha", nodes)
    guests = _guests(top.get("guests"), nodes)
    if not ha and (guest := next((guest for guest in guests.list.values() if guest.ha), None)):
        raise InputError(
            f"{ROOT}:guests:list:{guest.name}:ha: nothing would start it elsewhere: there is no"
            f" {ROOT}:ha"
        )
    login = ssh.parse(top.get("ssh"), f"{ROOT}:ssh")
    if ha and login.lacks_root:
        raise InputError(f"{ROOT}:ha: {login.lacks_root}")
    return Cluster(
        name=name,
        nodes=nodes,
        ssh=login,
        guests=guests,
        migration=_migration(top.get("migration")),
        ha=ha,
        balance=balancing.parse(top.get("balance"), f"{ROOT}:balance"),
        parts={key: name if key == "name" else _digest(part) for key, part in top.items()},
    )


def _digest(part: object) -> str:
    """Return a short digest of a part of the pillar, the same on every node and the master."""
    text = json.dumps(part, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _nodes(raw: object) -> dict[str, Node]:
    path = f"{ROOT}:nodes"
    if not isinstance(raw, Mapping) or not raw:
        raise InputError(f"{path}: want a mapping of minion ids to nodes, got {shown(raw)}")
    nodes = {}
    owners: dict[str, str] = {}
    for node_id, body in raw.items():
        node = _node(node_id, body, path)
        nodes[node.id] = node
        for name in node.names:
            owner = owners.setdefault(name.lower(), node.id)
            if owner != node.id:
                raise InputError(
                    f"{path}: the name {name} belongs to both {owner} and {node.id};"
                    " every name must lead to one node"
                )
    return nodes


def _node(node_id: object, body: object, path: str) -> Node:
    known = minion_id(node_id, path)
    here = f"{path}:{node_id}"
    fields = validate.section(body, here, keys_of(Node), may_be_empty=True)
    names = [host_name(name, f"{here}:names") for name in validate.items(fields, "names", here)]
    migration = host_name(fields.get("migration", known), f"{here}:migration")
    return Node(str(node_id), tuple(dict.fromkeys([known, *names, migration])), migration)


def _guests(raw: object, nodes: Mapping[str, Node]) -> Guests:
    path = f"{ROOT}:guests"
    fields = validate.section(raw, path, keys_of(Guests), may_be_empty=True)
    definitions = validate.choice(fields, "definitions", path, DEFINITIONS, Guests().definitions)
    known = _listed_guests(fields.get("list"), f"{path}:list", definitions, nodes)
    apart, together = (
        tuple(
            _group(group, f"{path}:{key}:{place}", wish)
            for place, group in enumerate(validate.items(fields, key, path))
        )
        for key, wish in (("apart", "never"), ("with", "always"))
    )
    ha_relations.refuse(known, apart, f"{path}:list")
    found = Guests(
        definitions,
        _search_path(fields.get("path"), f"{path}:path"),
        known,
        apart,
        together,
        passthrough=tuple(
            guest_name(name, f"{path}:passthrough")
            for name in validate.items(fields, "passthrough", path)
        ),
        spare_nodes=_spare_nodes(fields, path, len(nodes)),
        **_leases(fields, path),
    )
    groups.refuse(found, path)
    return found


def _spare_nodes(fields: Mapping[str, Any], path: str, nodes: int) -> int:
    """Return how many nodes may be lost; InputError if that is too many to try all sets of them."""
    spare = validate.number(fields, "spare_nodes", path, (0, MOST_SPARE), Guests.spare_nodes)
    cases = math.comb(nodes, spare)
    if cases > MOST_CASES and "spare_nodes" in fields:
        raise InputError(
            f"{path}:spare_nodes: {spare} of {nodes} nodes can be lost in {cases} ways, of which"
            f" at most {MOST_CASES} are tried; want a smaller number"
        )
    return spare


def _leases(fields: Mapping[str, Any], path: str) -> dict[str, Any]:
    """Return whether guests have leases, and where; InputError where that is not said."""
    leases = validate.flag(fields, "leases", path, Guests.leases)
    folder = fields.get("lease_folder")
    if folder is not None:
        folder = lease_path(folder, f"{path}:lease_folder")
    elif leases and not fields.get("path"):
        raise InputError(
            f"{path}:lease_folder: with leases true and no path, it is needed: a folder on a file"
            " system that every node mounts"
        )
    return {"leases": leases, "lease_folder": folder}


def _migration(raw: object) -> Migration:
    path = f"{ROOT}:migration"
    limits = keys_of(Migration)
    fields = validate.section(raw, path, (*options.KEYS, *limits), may_be_empty=True)
    outgoing, incoming = (
        validate.number(fields, key, path, (1, MOST_AT_ONCE), getattr(Migration, key))
        for key in limits
    )
    return Migration(options.parse(fields, path, Options()), outgoing, incoming)


def _search_path(raw: object, path: str) -> tuple[str, ...]:
    if raw is None:
        return ()
    if not isinstance(raw, str):
        raise InputError(f"{path}: want folders with ':' between them, got {shown(raw)}")
    return tuple(definition_path(folder, path) for folder in raw.split(":"))


def _listed_guests(
    raw: object, path: str, definitions: str, nodes: Mapping[str, Node]
) -> dict[str, Listed]:
    fields = {} if raw is None else raw
    if not isinstance(fields, Mapping):
        raise InputError(f"{path}: want a mapping of guest names, got {shown(raw)}")
    return {
        guest.name: guest
        for guest in (
            _listed_guest(name, body, path, definitions, nodes) for name, body in fields.items()
        )
    }


def _listed_guest(
    name: object, body: object, path: str, definitions: str, nodes: Mapping[str, Node]
) -> Listed:
    known = guest_name(name, path)
    here = f"{path}:{known}"
    fields = validate.section(body, here, keys_of(Listed), may_be_empty=True)
    xmlfile, home = fields.get("xmlfile"), fields.get("home")
    if xmlfile is not None and definitions == "defined":
        raise InputError(
            f"{here}:xmlfile: with {ROOT}:guests:definitions defined, libvirt keeps the"
            " definition; leave it out"
        )
    if home is not None:
        places.node(home, f"{here}:home", nodes)
    prefer, only = places.prefer(fields, here, nodes), places.only(fields, here, nodes)
    places.refuse(home, prefer, only, here)
    ha = ha_parser.guest(fields.get("ha"), f"{here}:ha", known)
    most = validate.number(fields, "restarts", here, (0, MOST_RESTARTS), Listed.restarts)
    if ha and most:
        raise InputError(
            f"{here}:restarts: with ha, Pacemaker restarts it: leave it out, and see"
            f" {here}:ha:restarts"
        )
    return Listed(
        known,
        None if xmlfile is None else definition_path(xmlfile, f"{here}:xmlfile"),
        home,
        prefer,
        only,
        most,
        validate.number(fields, "within", here, (1, LONGEST_WITHIN), Listed.within, "seconds"),
        ha,
    )


def _group(raw: object, path: str, wish: str) -> tuple[str, ...]:
    """Return a group of guests that are kept together, or apart; no node need have them yet.

    wish
        How often they are to be on one node, for the error.
    """
    if not isinstance(raw, list) or len(raw) < 2:
        raise InputError(
            f"{path}: want a list of two guests or more that are {wish} on one node, as"
            f" [web1, web2], got {shown(raw)}"
        )
    names = tuple(guest_name(name, path) for name in raw)
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice:
        raise InputError(f"{path}: {shown(twice)} is there twice; name each guest once")
    return names
