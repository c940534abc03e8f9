"""Maintenance as text: a node's reboot, how far a rolling run is."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from saltext_kvmcluster.core import cordons
from saltext_kvmcluster.core.output.checks import reasons
from saltext_kvmcluster.core.output.layout import LONGEST, table, verdict
from saltext_kvmcluster.core.text import listed


def reboot(data: Mapping[str, Any]) -> str:
    """Return whether a node was, or would be, rebooted, and is ready again."""
    node = data["node"]
    needed = f" ({'; '.join(data['needed'])})" if data["needed"] else ""
    if "elapsed" not in data:
        if data["rebooted"]:
            return f"{node} would be rebooted{needed}"
        unless = "" if data["when"] == "never" else ", unless an earlier step makes that necessary"
        return f"{node} would not be rebooted{unless}"
    lines = list(reasons(data["findings"]))
    if data["still"]:
        lines.append(f"WARN     a reboot is still needed: {'; '.join(data['still'])}")
    after = f"{data['elapsed']:.0f} s"
    if data["missing"]:
        what = f"{data['missing']}, {after} after the reboot was requested{needed}"
    else:
        what = f"{node} was rebooted{needed}" if data["rebooted"] else f"{node} was not rebooted"
        what += f", and is {'' if data['ok'] else 'not '}ready after {after}"
    stays = f"; its cordon is unchanged; to uncordon it: {cordons.remedy(node)}"
    return "\n".join([*lines, f"{verdict(data)}: {what}{'' if data['ok'] else stays}"])


def rolling(data: Mapping[str, Any]) -> str:
    """Return which nodes of a rolling run are done, and which come next."""
    todo = listed(data["todo"], LONGEST)
    if not data["done"]:
        return f"nodes to do, in this order: {todo}"
    done = ", ".join(f"{node} at {when}" for node, when in data["done"].items())
    if not todo:
        return f"all nodes are done: {done}"
    if data.get("just"):
        return f"{data['just']} is done; {data['figures']}; remaining: {todo}"
    return (
        f"continues with {todo}; already done: {done}; to start with the first node again: anew:"
        " true in the pillar"
    )


def state_jobs(data: Mapping[str, Any]) -> str:
    """Return which states run and wait on a node."""
    rows = [
        (state, job["jid"], job["what"], job["path"] or "-")
        for state, key in (("runs", "running"), ("waits", "waiting"))
        for job in data[key]
    ]
    if not rows:
        return f"{data['node']}: no state runs or waits"
    return table(("state", "job", "what", "file"), rows)


def sls_check(data: Mapping[str, Any]) -> str:
    """Return whether SLS files can be applied, and why not."""
    lines = [f"PROBLEM  {detail}" for detail in data["problems"]]
    lines += [f"UNKNOWN  {detail}" for detail in data.get("silent", ())]
    where = data.get("node") or f"cluster {data['cluster']}"
    what = listed(data["sls"])
    if data.get("silent") and not data["problems"]:
        last = f"UNKNOWN: whether {what} can be applied to {where}"
    else:
        can = "can" if data["ok"] else "cannot"
        last = f"{verdict(data)}: {what} {can} be applied to {where}"
    return "\n".join([*lines, last])
