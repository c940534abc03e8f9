"""A test of fencing as text: which device responds where, what is planned, what came of it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from saltext_kvmcluster.core.failover import fence_test
from saltext_kvmcluster.core.output.layout import result, table_if_any, verdict
from saltext_kvmcluster.core.pacemaker.fenced import LOG
from saltext_kvmcluster.core.text import counted, listed


def tested(data: Mapping[str, Any]) -> str:
    """Return what is known of fence devices, and of a node that was fenced for a test."""
    if "fenced" in data:
        return _fenced(data)
    rows = [[row["node"], row["device"], _responds(row["responds"])] for row in data["devices"]]
    lines = table_if_any(["node", "device", "responds to"], rows)
    wrong = data["hindered"] or data["problems"]
    lines += [f"PROBLEM  {why}" for why in wrong]
    return "\n".join([*lines, _planned(data) if data["node"] else _known(data)])


def _known(data: Mapping[str, Any]) -> str:
    if not data["ok"]:
        return f"PROBLEM: fencing of {listed(data['nodes'])} is not in order; nothing was switched"
    devices = {row["device"] for row in data["devices"]}
    found = f"{counted(len(devices), 'device')} for {counted(len(data['nodes']), 'node')}"
    return (
        f"OK: {found}, and each responds to every node that may need it; nothing was switched. That"
        " one takes a node's power shows only: salt-run kvmcluster.fence_test NODE reboot=true"
    )


def _planned(data: Mapping[str, Any]) -> str:
    node = data["node"]
    if data["hindered"]:
        return f"PROBLEM: {node} is not fenced; nothing was done"
    runs = f", and with it {listed(data['guests'])}" if data["guests"] else ""
    end = "" if data.get("begins") else "; nothing was done"
    return (
        f"PLAN  {node} loses its power{runs}: stonith_admin --reboot={node} on {data['asker']}, by"
        f" {_levels(data['levels'])}{end}"
    )


def _fenced(data: Mapping[str, Any]) -> str:
    done, node = data["fenced"], data["node"]
    word = result(done["result"])
    how = f"by {_device(done, data['levels'])}, carried out by {done['by'] or '?'}"
    took = f"{done['seconds']:.1f} s"
    detail = "; ".join(filter(None, [done["detail"], done["missing"]]))
    after = f"{done['elapsed']:.0f} s"
    texts = {
        fence_test.BACK: f"{how}, in {took}; it left, and is back, in another boot and a member"
        f" again, after {after}; if it was drained: salt-run kvmcluster.undrain {node}",
        fence_test.AWAY: f"{how}, in {took}; not back after {after}: {detail}",
        fence_test.STAYED: f"fenced by Pacemaker's word, {how}, in {took}, and {detail}: this"
        " device takes no power, and would let guests run twice",
        fence_test.FAILED: f"{detail}; on {data['asker']}: stonith_admin --history {node}"
        " --verbose",
    }
    text = texts.get(done["result"], f"whether it was fenced is not known: {detail}")
    return f"{verdict(data)}: {word}  {node}: {text}" if data["ok"] else f"{word}  {node}: {text}"


def _device(done: Mapping[str, Any], levels: Iterable[Iterable[str]]) -> str:
    """Return which device has fenced a node, as far as that was seen."""
    if done["device"]:
        return str(done["device"])
    devices = [one for level in levels for one in level]
    if len(devices) == 1:
        return devices[0]
    return f"one of {listed(devices)} (not seen which: {LOG} of {done['by'] or '?'})"


def _levels(levels: Iterable[Iterable[str]]) -> str:
    """Return devices as they are used: those of a level together, one level after the other."""
    return ", else ".join(" and ".join(level) for level in levels)


def _responds(responds: Mapping[str, str]) -> str:
    return ", ".join(f"{node} NOT" if why else node for node, why in responds.items())
