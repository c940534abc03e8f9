"""On which nodes a guest runs, by its part of the pillar: its ``home``, ``prefer`` and ``only``."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from saltext_kvmcluster.core import validate
from saltext_kvmcluster.core.errors import InputError
from saltext_kvmcluster.core.pillar.clusters import ROOT, Cluster
from saltext_kvmcluster.core.text import MAX_NAMES, listed
from saltext_kvmcluster.core.validate import shown, suggestion

Tiers = tuple[tuple[str, ...], ...]


def node(value: object, path: str, nodes: Collection[str]) -> str:
    """Return the id of a node; InputError with the nearest one if there is none such."""
    if isinstance(value, str) and value in nodes:
        return value
    raise InputError(
        f"{path}: {shown(value)} is not a node; nodes are {listed(nodes, MAX_NAMES)}"
        f"{suggestion(value, nodes)}"
    )


def prefer(fields: Mapping[str, Any], path: str, nodes: Collection[str]) -> Tiers:
    """Return the nodes that a guest prefers, equally good ones together, the best first."""
    here = f"{path}:prefer"
    tiers = tuple(
        tuple(node(one, here, nodes) for one in (item if isinstance(item, list) else [item]))
        for item in validate.items(fields, "prefer", path)
    )
    found = [one for tier in tiers for one in tier]
    if twice := next((one for one in found if found.count(one) > 1), None):
        raise InputError(f"{here}: {twice} is there twice; name each node once")
    if () in tiers:
        raise InputError(f"{here}: want a node, or a list of nodes, got an empty list")
    return tiers


def only(fields: Mapping[str, Any], path: str, nodes: Collection[str]) -> tuple[str, ...]:
    """Return the only nodes on which a guest may run; empty for all."""
    here = f"{path}:only"
    found = tuple(
        dict.fromkeys(node(one, here, nodes) for one in validate.items(fields, "only", path))
    )
    if "only" in fields and not found:
        raise InputError(f"{here}: no node is left; name some, or leave it out for all nodes")
    return found


def refuse(home: str | None, preferred: Tiers, allowed: tuple[str, ...], path: str) -> None:
    """Raise InputError if a guest's home and preferences contradict each other, or its only."""
    outside = [one for tier in preferred for one in tier if allowed and one not in allowed]
    if outside:
        raise InputError(f"{path}:prefer: {outside[0]} is not in {path}:only")
    if home and allowed and home not in allowed:
        raise InputError(f"{path}:home: {home} is not in {path}:only")
    if home and preferred and home not in preferred[0]:
        raise InputError(
            f"{path}:home: {home} is not the first of {path}:prefer, {' or '.join(preferred[0])}:"
            " it would start on one node, and belong on another"
        )


def forbidden(cluster: Cluster, guest: str, here: str) -> str:
    """Return why the pillar forbids a guest to start on a node; empty if it does not."""
    allowed = cluster.guests.only(guest)
    if not allowed or here in allowed:
        return ""
    return (
        f"{guest} may not run on {here}: its only in the pillar names {listed(allowed)}; start it"
        f" there, or add {here} to {ROOT}:guests:list:{guest}:only"
    )
