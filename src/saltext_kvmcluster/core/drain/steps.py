"""The states of each orchestration, in order: the first that fails ends it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from saltext_kvmcluster.core.drain.requests import Request

KEY_SLS, TRUST_SLS, LEASES_SLS = "kvmcluster.key", "kvmcluster.trust", "kvmcluster.disk_leases"


def refused(reason: str) -> dict[str, Any]:
    """Return the only state of an orchestration that is refused: nothing is begun."""
    return {"request": {"kvmcluster.refused": [{"reason": reason}]}}


def rolling(request: Request, todo: Iterable[str]) -> dict[str, Any]:
    """Return the states of ``kvmcluster.orch.rolling``.

    todo
        The nodes to be done.
    """
    nodes = list(todo)
    run: dict[str, Any] = {"reboot": request.reboot, "anew": request.anew}
    found = {
        "rolling": _state(request, "rolling", **_sls(request), **run),
        "preflight": _state(request, "preflight", nodes=nodes, **_sls(request)),
    }
    for node in nodes:
        found |= _of_node(request, node)
        found[f"{node} done"] = _state(request, "rolling_done", node=node)
    return found


def maintenance(request: Request) -> dict[str, Any]:
    """Return the states of ``kvmcluster.orch.maintenance``."""
    first = _state(request, "preflight", nodes=[request.node], **_sls(request))
    return {"preflight": first, **_of_node(request, request.node)}


def prepare(request: Request) -> dict[str, Any]:
    """Return the states of ``kvmcluster.orch.prepare``."""
    nodes = list(request.nodes) or None
    return {
        "preflight": _state(request, "sls_ready", sls=[KEY_SLS, TRUST_SLS], nodes=nodes),
        "keys": _state(request, "applied", sls=KEY_SLS, nodes=nodes),
        "identities": _state(request, "identities_published", nodes=nodes),
        "trust": _state(request, "applied", sls=TRUST_SLS, nodes=nodes),
        "ssh": _state(request, "ssh_ready"),
    }


def disk_leases(request: Request) -> dict[str, Any]:
    """Return the states of ``kvmcluster.orch.disk_leases``."""
    return {
        "preflight": _state(request, "sls_ready", sls=[LEASES_SLS]),
        "disk-leases": _state(request, "applied", sls=LEASES_SLS),
    }


def recover(request: Request) -> dict[str, Any]:
    """Return the states of ``kvmcluster.orch.recover``; they do not depend on each other."""
    return {
        f"recover {guest}": _state(request, "migration_settled", failhard=False, name=guest)
        for guest in request.guests
    }


def _of_node(request: Request, node: str) -> dict[str, Any]:
    """Return the states of one node's maintenance."""
    of_node: dict[str, Any] = {"node": node, "reason": request.reason}
    found = {f"{node} drained": _state(request, "drained", **of_node)}
    if request.sls:
        found[f"{node} updated"] = _state(request, "applied", nodes=[node], **_sls(request))
    wait: dict[str, Any] = {"when": request.reboot, "timeout": request.timeout}
    found[f"{node} reboot"] = _state(request, "reboot", node=node, **wait)
    found[f"{node} undrained"] = _state(request, "undrained", home=request.home, **of_node)
    return found


def _sls(request: Request) -> dict[str, Any]:
    return {"sls": list(request.sls) or None}


def _state(
    request: Request, function: str, failhard: bool = True, **arguments: Any
) -> dict[str, Any]:
    given = {**arguments, "cluster": request.cluster, "failhard": failhard}
    return {f"kvmcluster.{function}": [{key: value} for key, value in given.items()]}
