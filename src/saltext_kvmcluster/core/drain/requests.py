"""What an orchestration is asked for: its pillar, checked whole before anything is begun."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from saltext_kvmcluster.core import cordons, validate
from saltext_kvmcluster.core.drain import assessment, immovable, maintenance
from saltext_kvmcluster.core.errors import InputError
from saltext_kvmcluster.core.pillar.clusters import Cluster
from saltext_kvmcluster.core.pillar.names import guest_name

MAINTENANCE, ROLLING, PREPARE = "maintenance", "rolling", "prepare"
RECOVER, DISK_LEASES, HA = "recover", "disk_leases", "ha"
OF_A_NODE = ("sls", "reboot", "timeout", "home", "stuck", "drain")
KEYS: Mapping[str, tuple[str, ...]] = {
    MAINTENANCE: ("node", *OF_A_NODE, "cluster"),
    ROLLING: (*OF_A_NODE, "anew", "cluster"),
    PREPARE: ("nodes", "cluster"),
    RECOVER: ("guests", "cluster"),
    DISK_LEASES: ("cluster",),
    HA: ("cluster",),
}
"""The pillar keys of each orchestration, by its name after ``kvmcluster.orch.``."""
DAY = 86400
PATIENCE = 900
"""Seconds to wait for a node that reboots, unless the pillar says another number."""


@dataclass(frozen=True)
class Request:
    """What an orchestration is asked for, as its pillar has it.

    ``name``: the orchestration's. ``node``: the one to be maintained. ``nodes``: those to be
    prepared; empty for all.
    """

    name: str
    cluster: str | None = None
    node: str = ""
    nodes: tuple[str, ...] = ()
    sls: tuple[str, ...] = ()
    reboot: str = maintenance.NEEDED
    timeout: float = PATIENCE
    home: bool = False
    anew: bool = False
    stuck: str = immovable.REFUSE
    drain: str = assessment.ALWAYS
    guests: tuple[str, ...] = ()

    @property
    def reason(self) -> str:
        """Why nodes are cordoned meanwhile."""
        return f"{cordons.ORCHESTRATION}{self.name} {' '.join(self.sls)}"[:150].strip()


def parse(name: str, pillar: Mapping[str, Any], own: Mapping[str, Any]) -> Request:
    """Return what an orchestration is asked for; InputError names all that is wrong with it.

    pillar
        The pillar in which it is rendered.
    own
        The pillar that the master has anyway: what is only in that is none of this request, unless
        the orchestration has such a key.
    """
    known = KEYS[name]
    given = {
        key: value
        for key, value in pillar.items()
        if key in known or key not in own or own[key] != value
    }
    wrong: list[str] = []
    fields: dict[str, Any] = {}
    try:
        validate.section(given, "pillar", known)
    except InputError as error:
        wrong.append(str(error))
    for key in known:
        try:
            if key in given:
                fields[key] = _READERS[key](given)
        except InputError as error:
            wrong.append(str(error))
    if wrong:
        raise InputError("\n".join(wrong))
    return Request(name, **fields)


def complete(request: Request, cluster: Cluster) -> None:
    """Raise InputError if a request lacks what it is about, or asks for what is not there."""
    if request.name == MAINTENANCE:
        if not request.node:
            raise InputError(
                "node: want the minion id of the node to be maintained, got nothing; the nodes of"
                f" cluster {cluster.name} are {', '.join(cluster.nodes)}; for all of them, one"
                " after the other: kvmcluster.orch.rolling"
            )
        cluster.node(request.node)
    for node in request.nodes:
        cluster.node(node)
    if request.name == RECOVER and not request.guests:
        raise InputError(
            "guests: want a list of guests whose last migration is to be settled, got nothing"
        )


def _cluster(given: Mapping[str, Any]) -> str | None:
    value = given["cluster"]
    return None if value is None else _word(value, "cluster", "a cluster's name")


def _node(given: Mapping[str, Any]) -> str:
    value = given["node"]
    return "" if value is None else _word(value, "node", "one node's minion id")


def _nodes(given: Mapping[str, Any]) -> tuple[str, ...]:
    if given["nodes"] is None:
        return ()
    found = validate.items(given, "nodes", "")
    if not found:
        raise InputError("nodes: want a list of minion ids, got an empty one")
    words = [_word(node, f"nodes[{at}]", "a node's minion id") for at, node in enumerate(found)]
    return tuple(dict.fromkeys(words))


def _word(value: object, key: str, form: str) -> str:
    if isinstance(value, str) and value.isprintable() and len(value.split()) == 1:
        return value
    raise InputError(f"{key}: want {form}, got {validate.shown(value)}{validate.quotes(value)}")


def _guests(given: Mapping[str, Any]) -> tuple[str, ...]:
    names = validate.items(given, "guests", "")
    return tuple(dict.fromkeys(guest_name(name, f"guests[{at}]") for at, name in enumerate(names)))


def _slses(given: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the SLS files; null, which a template makes of what is missing, is no list of them."""
    if given["sls"] is None:
        raise InputError(
            "sls: want the name of an SLS, or a list of them, got null; to apply nothing, leave it"
            " out"
        )
    return maintenance.slses(given["sls"])


_READERS: Mapping[str, Callable[[Mapping[str, Any]], Any]] = {
    "anew": lambda given: validate.flag(given, "anew", "", False),
    "cluster": _cluster,
    "drain": lambda given: assessment.choice(given["drain"]),
    "guests": _guests,
    "home": lambda given: validate.flag(given, "home", "", False),
    "node": _node,
    "nodes": _nodes,
    "reboot": lambda given: maintenance.when(given["reboot"]),
    "sls": _slses,
    "stuck": lambda given: immovable.choice(given["stuck"]),
    "timeout": lambda given: validate.seconds(given, "timeout", "", DAY, PATIENCE),
}
