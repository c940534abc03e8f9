"""From the raw pillar to what it says of high availability.

Every error names the full path of the key, what is wrong with it, and what is accepted.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping
from typing import Any

from saltext_kvmcluster.core import validate
from saltext_kvmcluster.core.errors import InputError
from saltext_kvmcluster.core.pacemaker.fence_agents import ONE_MACHINE
from saltext_kvmcluster.core.pillar import ha, places
from saltext_kvmcluster.core.pillar.clusters import Node
from saltext_kvmcluster.core.pillar.ha import Device, Fencing, GuestHa, Ha, QuorumDevice, Secret
from saltext_kvmcluster.core.pillar.names import guest_name, host_name
from saltext_kvmcluster.core.pillar.schema import keys_of
from saltext_kvmcluster.core.text import MAX_NAMES, listed
from saltext_kvmcluster.core.validate import FLAG, shown, suggestion

LETTERS = "letters, digits, '.', '_' and '-'"
_ID = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,99}\Z")
_AGENT = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_./-]{0,99}\Z")
_OPTION = re.compile(r"[A-Za-z_][A-Za-z0-9_-]{0,99}\Z")
# What pcmk_host_map can hold: it has ':' between node and port, ';' between nodes.
_PORT = re.compile(r"[A-Za-z0-9_./,@+-]{1,200}\Z")
_PATH = re.compile(r"/[A-Za-z0-9_./@+-]+\Z")
_SECRETS = re.compile(r"passw|secret|community|_kg\Z|api_?key", re.IGNORECASE)
DERIVED = ("pcmk_host_list", "pcmk_host_map", "pcmk_host_check")


def parse(raw: object, path: str, nodes: Mapping[str, Node]) -> Ha | None:
    """Return what the pillar says of high availability, None if it says nothing.

    raw
        The value of the key ``ha`` at ``path``.
    nodes
        The cluster's nodes by id.
    """
    if raw is None:
        return None
    fields = validate.section(raw, path, keys_of(Ha))
    manage = validate.flag(fields, "manage", path, Ha.manage)
    theirs = [key for key in ("fencing", "token", "quorum_device") if key in fields]
    if not manage and theirs:
        raise InputError(
            f"{path}: with manage false, {' and '.join(theirs)} would have no effect: that is set"
            " up by you; leave it out"
        )
    return Ha(
        validate.choice(fields, "engine", path, ha.ENGINES, Ha.engine),
        manage,
        _fencing(fields.get("fencing"), f"{path}:fencing", nodes),
        validate.number(
            fields, "token", path, (ha.SHORTEST_TOKEN, ha.LONGEST_TOKEN), Ha.token, ha.MILLISECONDS
        ),
        _quorum_device(fields.get("quorum_device"), f"{path}:quorum_device", nodes),
    )


def _quorum_device(raw: object, path: str, nodes: Mapping[str, Node]) -> QuorumDevice | None:
    if raw is None:
        return None
    fields = validate.section(raw, path, keys_of(QuorumDevice))
    host = host_name(fields.get("host"), f"{path}:host")
    own = {name.lower(): node.id for node in nodes.values() for name in node.names}
    if node := own.get(host.lower()):
        raise InputError(
            f"{path}:host: {host} is a node{'' if host == node else f', {node}'}; its vote has to"
            " come from outside"
        )
    return QuorumDevice(host)


def _fencing(raw: object, path: str, nodes: Collection[str]) -> Fencing:
    fields = validate.section(raw, path, keys_of(Fencing), may_be_empty=True)
    named = _mapping(fields, "devices", path, "a mapping of names to fence devices")
    devices = {
        str(name): _device(name, body, f"{path}:devices", nodes) for name, body in named.items()
    }
    _refuse_shared_plugs(devices.values(), f"{path}:devices")
    levels = _mapping(fields, "levels", path, "a mapping of nodes to lists of devices")
    return Fencing(
        devices,
        {
            places.node(node, f"{path}:levels", nodes): _levels(
                str(node), body, f"{path}:levels:{node}", devices
            )
            for node, body in levels.items()
        },
    )


def _device(name: object, body: object, path: str, nodes: Collection[str]) -> Device:
    known = _named(name, path, _ID, LETTERS)
    here = f"{path}:{known}"
    fields = validate.section(body, here, keys_of(Device))
    options = _options(fields, "options", here, "a mapping of the agent's options")
    secrets = _options(fields, "secrets", here, "a mapping of the agent's options to secrets")
    for option, value in options.items():
        if _SECRETS.search(option) and not option.endswith("_script"):
            raise InputError(
                f"{here}:options:{option}: a secret would be seen by all who may read Pacemaker's"
                f" configuration; put it under {here}:secrets"
            )
        if isinstance(value, bool) or not isinstance(value, (str, int, float)):
            raise InputError(
                f"{here}:options:{option}: want a text or a number, got {shown(value)}"
                f"{'; put it in quotes' if isinstance(value, bool) else ''}"
            )
        if not str(value).isprintable():
            raise InputError(f"{here}:options:{option}: want one line of text, got {shown(value)}")
    if both := sorted({*options} & {*secrets}):
        raise InputError(f"{here}: {both[0]} is both under options and under secrets")
    return Device(
        known,
        validate.matching(fields, "agent", here, _AGENT, "a fence agent's name"),
        _ports(fields.get("nodes"), f"{here}:nodes", nodes),
        {option: str(value) for option, value in options.items()},
        {option: _secret(value, f"{here}:secrets:{option}") for option, value in secrets.items()},
    )


def _refuse_shared_plugs(devices: Iterable[Device], path: str) -> None:
    """Raise InputError if two nodes would be fenced by the same plug.

    Whoever fences the one switches off the other, and Pacemaker starts once more what runs on.
    """
    owners: dict[tuple[object, ...], str] = {}
    for device in devices:
        same = (device.agent, *sorted(device.options.items()), *sorted(device.secrets.items()))
        for node, port in device.nodes.items():
            if not port and device.agent not in ONE_MACHINE:
                continue  # The plug is the node's name.
            for plug in port.split(","):
                other = owners.setdefault((same, plug), node)
                if other != node:
                    what = f"port {plug}" if plug else "the machine of that address"
                    raise InputError(
                        f"{path}:{device.name}: {other} and {node} would both be fenced by"
                        f" {what}, so that one of them runs on: give each node its own"
                    )


def _options(fields: Mapping[str, Any], key: str, path: str, form: str) -> Mapping[str, Any]:
    options = _mapping(fields, key, path, form)
    for option in options:
        _named(option, f"{path}:{key}", _OPTION, "an option's name")
        if option in DERIVED:
            raise InputError(f"{path}:{key}: {option} is made from {path}:nodes; leave it out")
    return options


def _ports(raw: object, path: str, nodes: Collection[str]) -> dict[str, str]:
    form = "a list of nodes, or a mapping of nodes to ports"
    if not isinstance(raw, (list, Mapping)) or not raw:
        raise InputError(f"{path}: want {form}, got {shown(raw)}")
    if isinstance(raw, list):
        return {places.node(node, path, nodes): "" for node in raw}
    found = {}
    for node, port in raw.items():
        text = str(port) if isinstance(port, (str, int)) and not isinstance(port, bool) else ""
        if not _PORT.match(text):
            raise InputError(
                f"{path}:{node}: want a port, of letters, digits and '_./,@+-', got {shown(port)}"
            )
        found[places.node(node, path, nodes)] = text
    return found


def _secret(raw: object, path: str) -> Secret:
    if isinstance(raw, str) and _PATH.match(raw):
        return Secret(file=raw)
    if isinstance(raw, Mapping) and [*raw] == ["pillar"]:
        key = raw["pillar"]
        if isinstance(key, str) and key.isprintable() and all(key.split(":")):
            return Secret(pillar=key)
    # What was found is not shown: it may be the secret itself.
    raise InputError(f"{path}: want {ha.SECRET}; what is there is not shown")


def _levels(
    node: str, raw: object, path: str, devices: Mapping[str, Device]
) -> tuple[tuple[str, ...], ...]:
    if not isinstance(raw, list) or not raw:
        raise InputError(f"{path}: want a list of devices, as [bmc1, pdu], got {shown(raw)}")
    levels = tuple(tuple(level) if isinstance(level, list) else (level,) for level in raw)
    for name in (name for level in levels for name in level or (None,)):
        if not isinstance(name, str) or name not in devices:
            raise InputError(
                f"{path}: {shown(name)} is not a fence device; devices are"
                f" {listed(devices, MAX_NAMES) or 'none'}{suggestion(name, devices)}"
            )
        if node not in devices[name].nodes:
            raise InputError(f"{path}: {name} does not switch off {node}: it is not in its nodes")
    if len(levels) > ha.MOST_LEVELS:
        raise InputError(
            f"{path}: want at most {ha.MOST_LEVELS} levels, which is all that Pacemaker tries, got"
            f" {len(levels)}"
        )
    for level in levels:
        if twice := next((name for name in level if level.count(name) > 1), None):
            raise InputError(f"{path}: {twice} is there twice in one level; name it once")
    return levels


def guest(raw: object, path: str, name: str) -> GuestHa | None:
    """Return what high availability does for a guest, None if nothing.

    raw
        The value of the key ``ha`` at ``path``.
    """
    if raw is None or raw is False:
        return None
    if not isinstance(raw, (bool, Mapping)):
        raise InputError(f"{path}: want {FLAG}, or a mapping, got {shown(raw)}")
    if not _ID.match(name):
        raise InputError(
            f"{path}: Pacemaker cannot have a guest of that name: a name with ha is of {LETTERS}"
        )
    moved = [key for key in ("prefer", "only") if isinstance(raw, Mapping) and key in raw]
    if moved:
        raise InputError(
            f"{path}: {moved[0]} is a key of the guest, not of its ha: write"
            f" {path.rpartition(':')[0]}:{moved[0]}"
        )
    fields = {} if raw is True else validate.section(raw, path, keys_of(GuestHa))
    return GuestHa(
        validate.number(fields, "priority", path, (0, ha.MOST_PRIORITY), GuestHa.priority),
        validate.flag(fields, "failback", path, GuestHa.failback),
        validate.number(fields, "restarts", path, (1, ha.MOST_RESTARTS), GuestHa.restarts),
        validate.number(fields, "within", path, (1, ha.LONGEST_WITHIN), GuestHa.within, ha.SECONDS),
        validate.choice(fields, "on_failure", path, ha.ON_FAILURE, GuestHa.on_failure),
        *(_guests(fields, key, path, name) for key in ("apart", "with", "after")),
    )


def _guests(fields: Mapping[str, Any], key: str, path: str, name: str) -> tuple[str, ...]:
    names = tuple(guest_name(other, f"{path}:{key}") for other in validate.items(fields, key, path))
    if name in names:
        raise InputError(f"{path}:{key}: that is the guest itself; name others")
    return tuple(dict.fromkeys(names))


def _mapping(fields: Mapping[str, Any], key: str, path: str, form: str) -> Mapping[Any, Any]:
    value = fields.get(key)
    if value is None and key not in fields:
        return {}
    if not isinstance(value, Mapping):
        raise InputError(f"{path}:{key}: want {form}, got {shown(value)}")
    return value


def _named(value: object, path: str, pattern: re.Pattern[str], form: str) -> str:
    if isinstance(value, str) and pattern.match(value):
        return value
    raise InputError(f"{path}: want {form}, got {shown(value)}{validate.quotes(value)}")
