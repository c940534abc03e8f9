"""The states of each orchestration, in order: the first that fails ends it."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from typing import Any

from saltext_kvmcluster.core.drain import assessment, immovable
from saltext_kvmcluster.core.drain.maintenance import NEVER
from saltext_kvmcluster.core.drain.requests import Request

HA_SLS, FENCING_SLS, GUESTS_SLS = "kvmcluster.ha", "kvmcluster.ha.fencing", "kvmcluster.ha.guests"
SECRETS_SLS = "kvmcluster.ha.secrets"
KEY_SLS, TRUST_SLS, LEASES_SLS = "kvmcluster.key", "kvmcluster.trust", "kvmcluster.disk_leases"


def refused(reason: str) -> dict[str, Any]:
    """Return the only state of an orchestration that is refused: nothing is begun."""
    return {"request": {"kvmcluster.refused": [{"reason": reason}]}}


def rolling(request: Request, todo: Iterable[str], off: Collection[str] = ()) -> dict[str, Any]:
    """Return the states of ``kvmcluster.orch.rolling``.

    todo
        The nodes to be done.
    off
        The nodes whose guests an earlier run has shut down.
    """
    nodes = list(todo)
    run: dict[str, Any] = {"reboot": request.reboot, "anew": request.anew}
    found = {
        "rolling": _state(request, "rolling", **_sls(request), **run),
        "preflight": _preflight(request, nodes),
    }
    for node in nodes:
        found |= _of_node(request, node, node in off)
        found[f"{node} done"] = _state(request, "rolling_done", node=node)
    return {**found, "report": _state(request, "reported")}


def maintenance(request: Request, off: Collection[str] = ()) -> dict[str, Any]:
    """Return the states of ``kvmcluster.orch.maintenance``; ``off`` as in `rolling`."""
    first = _preflight(request, [request.node])
    steps = _of_node(request, request.node, request.node in off)
    return {"preflight": first, **steps, "report": _state(request, "reported")}


def prepare(request: Request) -> dict[str, Any]:
    """Return the states of ``kvmcluster.orch.prepare``."""
    nodes = list(request.nodes) or None
    return {
        "preflight": _state(request, "sls_ready", sls=[KEY_SLS, TRUST_SLS], nodes=nodes),
        "keys": _state(request, "applied", sls=KEY_SLS, nodes=nodes, brief=True),
        "identities": _state(request, "identities_published", nodes=nodes),
        "trust": _state(request, "applied", sls=TRUST_SLS, nodes=nodes, brief=True),
        "ssh": _state(request, "ssh_ready"),
    }


def disk_leases(request: Request) -> dict[str, Any]:
    """Return the states of ``kvmcluster.orch.disk_leases``."""
    return {
        "preflight": _state(request, "sls_ready", sls=[LEASES_SLS]),
        "disk-leases": _state(request, "applied", sls=LEASES_SLS),
    }


def ha(request: Request, nodes: Sequence[str]) -> dict[str, Any]:
    """Return the states of ``kvmcluster.orch.ha``.

    nodes
        Those of the pillar: on the first one the key of Corosync is made.
    """
    on_first: dict[str, Any] = {"nodes": [nodes[0]]}
    others = list(nodes[1:])
    return {
        "preflight": _state(request, "ha_preflight"),
        "sls": _state(request, "sls_ready", sls=[HA_SLS, FENCING_SLS, SECRETS_SLS, GUESTS_SLS]),
        "first-node": _state(request, "applied", sls=HA_SLS, **on_first),
        **({"nodes": _state(request, "applied", sls=HA_SLS, nodes=others)} if others else {}),
        "fencing": _state(request, "applied", sls=FENCING_SLS, **on_first),
        "secrets": _state(request, "applied", sls=SECRETS_SLS, nodes=list(nodes)),
        "may-be-given": _state(request, "ha_preflight", installed=True),
        "guests": _state(request, "applied", sls=GUESTS_SLS, **on_first),
    }


def recover(request: Request) -> dict[str, Any]:
    """Return the states of ``kvmcluster.orch.recover``; they do not depend on each other."""
    return {
        f"recover {guest}": _state(request, "migration_settled", failhard=False, name=guest)
        for guest in request.guests
    }


def _preflight(request: Request, nodes: list[str]) -> dict[str, Any]:
    given: dict[str, Any] = {
        "stuck": request.stuck,
        "reboot": request.reboot,
        "drain": request.drain,
        "reason": request.reason,
    }
    return _state(request, "preflight", nodes=nodes, **_sls(request), **given)


def _of_node(request: Request, node: str, is_off: bool) -> dict[str, Any]:
    """Return the states of one node's maintenance.

    is_off
        Whether an earlier run has shut down guests of it.
    """
    of_node: dict[str, Any] = {"node": node, "reason": request.reason}
    drain: dict[str, Any] = {**of_node, "stuck": request.stuck}
    todo: dict[str, Any] = {"reboot": request.reboot, "drain": request.drain}
    wait: dict[str, Any] = {"when": request.reboot, "timeout": request.timeout}
    found = {
        f"{node} assessed": _state(request, "assessed", node=node, **_sls(request), **todo),
        f"{node} drained": _state(request, "drained", **drain),
    }
    if request.sls:
        found[f"{node} updated"] = _state(request, "applied", nodes=[node], **_sls(request))
        if request.drain == assessment.REBOOT and request.reboot != NEVER:
            late = _state(request, "drained", **drain, before_reboot=request.reboot)
            found[f"{node} drained to be rebooted"] = late
    found[f"{node} reboot"] = _state(request, "reboot", node=node, **wait)
    found[f"{node} undrained"] = _state(request, "undrained", home=request.home, **of_node)
    if is_off or request.stuck == immovable.SHUTDOWN:
        found[f"{node} restored"] = _state(request, "restored", node=node)
    return found


def _sls(request: Request) -> dict[str, Any]:
    return {"sls": list(request.sls) or None}


def _state(
    request: Request, function: str, failhard: bool = True, **arguments: Any
) -> dict[str, Any]:
    given = {**arguments, "cluster": request.cluster, "failhard": failhard}
    return {f"kvmcluster.{function}": [{key: value} for key, value in given.items()]}
