"""Returned data as text for people: the worst first, a matrix that is read at a glance."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from saltext_kvmcluster.core.applying import outcome
from saltext_kvmcluster.core.drain import assessment
from saltext_kvmcluster.core.output import (
    checks,
    failover,
    fencing,
    guests,
    logins,
    maintenance,
    migrations,
    page,
    plans,
    verbs,
    watching,
)
from saltext_kvmcluster.core.output.layout import silent
from saltext_kvmcluster.core.text import counted, printable


def _error(data: Mapping[str, Any]) -> str:
    return f"ERROR: {data['error']}"


def _metrics(data: Mapping[str, Any]) -> str:
    if data["path"] is None:
        return str(data["text"]).rstrip("\n")
    written = f"{counted(data['samples'], 'sample')} of cluster {data['cluster']} written to"
    return "\n".join([*silent(data), f"OK: {written} {data['path']}"])


def _cluster_conf(data: Mapping[str, Any]) -> str:
    return str(data["yaml"]).rstrip("\n")


KINDS: Mapping[str, Callable[[Mapping[str, Any]], str]] = {
    "acts": verbs.acts,
    "applied": outcome.text,
    "assessment": assessment.text,
    "balance": plans.balance,
    "capacity": failover.capacity,
    "check": checks.check,
    "cluster_conf": _cluster_conf,
    "console": verbs.reached,
    "cordon": guests.cordon,
    "display": verbs.reached,
    "drain": plans.drain,
    "error": _error,
    "evacuation": plans.evacuation,
    "fence_test": fencing.tested,
    "freeze": guests.freeze,
    "guest_reboot": guests.start_or_shutdown,
    "guests": guests.guests,
    "ha_preflight": checks.ha_preflight,
    "history": migrations.history,
    "jobs": migrations.jobs,
    "members": logins.members,
    "metrics": _metrics,
    "migration": migrations.migration,
    "preflight": checks.preflight,
    "publication": logins.publication,
    "reboot": maintenance.reboot,
    "recovery": migrations.recovery,
    "report": page.report,
    "restored": plans.restored,
    "rolling": maintenance.rolling,
    "rotation": logins.rotation,
    "shutdown": guests.start_or_shutdown,
    "sls_check": maintenance.sls_check,
    "ssh_matrix": logins.matrix,
    "ssh_row": logins.row,
    "start": guests.start_or_shutdown,
    "state_jobs": maintenance.state_jobs,
    "status": guests.status,
    "takeover": failover.takeover,
    "undrain": plans.undrain,
    "watch": watching.full,
}


def render(data: object) -> str | None:
    """Return the text for data of one of our kinds, None for any other.

    Data comes from minions, too, so no line of it can hold a terminal's sequences.
    """
    kind = data.get("kind") if isinstance(data, Mapping) else None
    text_of = KINDS.get(kind) if isinstance(kind, str) else None
    if text_of is None or not isinstance(data, Mapping):
        return None
    try:
        text = text_of(data)
    except (AttributeError, IndexError, KeyError, OverflowError, TypeError, ValueError):
        return None
    return "\n".join(map(printable, text.split("\n")))
