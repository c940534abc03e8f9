"""Pacemaker's tools that change something: argument lists, each with a time limit."""

from __future__ import annotations

from saltext_kvmcluster.core.ha.holds import Edit

SECONDS = 20.0
"""How long a change of the CIB may take: it needs the DC's consent."""
REFRESH = 60.0
"""How long every node may take to forget a resource, and to begin to look for it."""
SPARE = 5.0
MONITOR, FENCE = 60.0, 600.0
"""How long a fence device may take to respond, and all levels together to fence a node."""
_LOG_BYTES = "300000"

MISSED = 105
"""cibadmin's exit code if an XPath finds nothing (CRM_EX_NOSUCH)."""


def edit(change: Edit) -> tuple[str, ...]:
    """Return what changes the CIB; what adds fails with MISSED if there is no place for it."""
    verb = ("--modify", "--xml-text", change.xml) if change.xml else ("--delete",)
    return (*_within(SECONDS), "cibadmin", *verb, "--xpath", change.xpath)


def refresh(resource: str) -> tuple[str, ...]:
    """Return what has every node forget a resource's history, and look for it anew."""
    return (*_within(REFRESH), "crm_resource", "--refresh", "--resource", resource)


def wait(seconds: float) -> tuple[str, ...]:
    """Return what waits until Pacemaker has nothing left to do, at most so many seconds."""
    whole = f"{seconds:.0f}"
    return (*_within(seconds + SPARE), "crm_resource", "--wait", f"--timeout={whole}")


def role(resource: str, wanted: str) -> tuple[str, ...]:
    """Return what sets whether a resource is to run."""
    return (
        *(*_within(SECONDS), "crm_resource", "--resource", resource, "--meta"),
        *("--set-parameter", "target-role", "--parameter-value", wanted),
    )


def monitor(device: str) -> tuple[str, ...]:
    """Return what asks a fence device whether it responds to this node."""
    return (
        *_within(MONITOR + SPARE),
        *("stonith_admin", f"--query={device}", f"--timeout={MONITOR:.0f}"),
    )


def fence(node: str) -> tuple[str, ...]:
    """Return what has a node fenced, and waits until it is; each device has its own time limit."""
    return (*_within(FENCE), "stonith_admin", f"--reboot={node}")


def fencer_log(path: str) -> tuple[str, ...]:
    """Return what prints the end of the log of a node's fencer."""
    return (*_within(SECONDS), "tail", "-c", _LOG_BYTES, "--", path)


def _within(seconds: float) -> tuple[str, str]:
    return "timeout", f"{seconds:.0f}"
