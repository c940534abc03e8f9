"""DRBD's volumes on a node, parsed from the output of DRBD 9 or 8; see drbdsetup(8)."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

from saltext_kvmcluster.core.errors import InputError
from saltext_kvmcluster.core.storage.outputs import Outputs, as_list, items, number, text

COMMANDS: Mapping[str, tuple[str, ...]] = {
    "replicas": ("drbdsetup", "status", "--json"),
    "replica_settings": ("drbdsetup", "show", "all"),
    "old_replicas": ("cat", "/proc/drbd"),
}

_WORD = re.compile(r'"([^"\n]*)"|#[^\n]*|([{};])|([^\s{};"#]+)')
_NUMBER = re.compile(r"(?:minor )?(\d{1,7})", re.A)
_OLD = re.compile(
    r"^ *(\d{1,7}): cs:(\w+) (?:ro|st):(\w+)/(\w+) ds:(\w+)/(\w+)(?: +([ABC])(?= |$))?"
    r"(?: +([rs])[a-z-]*$)?",
    re.M | re.A,
)


@dataclass(frozen=True)
class Net:
    """The settings of a connection, with DRBD's defaults.

    ``ends`` are its pairs of addresses, this node's first: its peer has them in reverse.
    """

    protocol: str
    two_primaries: bool
    ends: frozenset[tuple[str, str]] = frozenset()


@dataclass(frozen=True)
class Peer:
    """One peer of a DRBD volume, as this node sees it. ``net`` is None if it is not known."""

    name: str
    role: str
    disk: str
    connected: bool
    net: Net | None = None


@dataclass(frozen=True)
class Replica:
    """One DRBD volume on this node. ``promotes``: it becomes Primary by being opened.

    ``suspended``: its I/O stands still. ``quorum``: too few of its nodes are connected if False.
    """

    resource: str
    volume: int
    minor: int
    role: str
    disk: str
    peers: tuple[Peer, ...] = ()
    promotes: bool = False
    suspended: bool = False
    quorum: bool = True


def replicas(outputs: Outputs) -> tuple[Replica, ...]:
    """Parse DRBD 9's status, else DRBD 8's /proc/drbd, which does not exist without DRBD."""
    settings = _settings_of(outputs)
    if outputs.code("replicas") == 0:
        found = outputs.document("replicas") if outputs.text("replicas").strip() else []
        return tuple(replica for item in as_list(found) for replica in _of_nine(item, settings))
    if outputs.code("old_replicas") not in (0, None):
        return ()
    reported = outputs.text("old_replicas")
    if not reported.startswith("version: 8."):
        outputs.text("replicas")
    return tuple(_of_eight(found, settings) for found in _OLD.findall(reported))


def _settings_of(outputs: Outputs) -> Mapping[str, _Setting]:
    try:
        found = [_setting(one) for one in _statements(outputs.text("replica_settings"))]
    except InputError:
        return {}
    return {one.resource: one for one in found}


def _of_nine(item: Mapping[str, Any], settings: Mapping[str, _Setting]) -> Iterator[Replica]:
    """Yield the volumes of one resource of ``drbdsetup status --json``."""
    name = text(item, "name")
    setting = settings.get(name, _Setting(name, True))
    for device in items(item, "devices"):
        volume = number(device, "volume")
        peers = (_peer(one, volume, setting.nets) for one in items(item, "connections"))
        yield Replica(
            name,
            volume,
            number(device, "minor"),
            text(item, "role"),
            text(device, "disk-state"),
            tuple(peers),
            setting.promotes,
            _stands(item),
            device.get("quorum") is not False,
        )


def _stands(item: Mapping[str, Any]) -> bool:
    """Whether I/O of a resource is suspended, for whatever reason: by its user, fencing, quorum."""
    flags = [value for name, value in item.items() if name.partition("-")[0] == "suspended"]
    return any(flag is True or (isinstance(flag, str) and flag not in ("", "no")) for flag in flags)


def _peer(item: Mapping[str, Any], volume: int, nets: Mapping[str, Net]) -> Peer:
    devices = [one for one in items(item, "peer_devices") if number(one, "volume") == volume]
    return Peer(
        text(item, "name"),
        text(item, "peer-role"),
        text(devices[0], "peer-disk-state") if devices else "",
        text(item, "connection-state") == "Connected",
        nets.get(str(number(item, "peer-node-id"))),
    )


def _of_eight(found: tuple[str, ...], settings: Mapping[str, _Setting]) -> Replica:
    """Return the volume of one line of /proc/drbd; its peer is the only one, and has no name."""
    minor, state, role, peer_role, disk, peer_disk, protocol, flow = found
    setting = next((one for one in settings.values() if int(minor) in one.volumes), _Setting(""))
    net = setting.nets.get("")
    if net and protocol:
        net = replace(net, protocol=protocol)
    peer = Peer("", peer_role, peer_disk, state == "Connected", net)
    volume = setting.volumes.get(int(minor), 0)
    return Replica(setting.resource, volume, int(minor), role, disk, (peer,), suspended=flow == "s")


@dataclass(frozen=True)
class _Setting:
    """The settings of one resource: its volumes by minor, and its nets by the peer's node id.

    DRBD 8 has one peer, without an id.
    """

    resource: str
    promotes: bool = False
    volumes: Mapping[int, int] = field(default_factory=dict)
    nets: Mapping[str, Net] = field(default_factory=dict)


class _Statement(NamedTuple):
    """One line of ``drbdsetup show``: its words, and the block behind them."""

    words: tuple[str, ...]
    block: list[_Statement]


_Block = list[_Statement]


def _statements(reported: str) -> _Block:
    top: _Block = []
    blocks, words = [top], []
    for quoted, mark, word in (found.groups() for found in _WORD.finditer(reported)):
        if not mark:
            words += [word or quoted] if word or quoted is not None else []
            continue
        if words or mark == "{":
            blocks[-1].append(_Statement(tuple(words), []))
            words = []
        if mark == "{":
            blocks.append(blocks[-1][-1].block)
        elif mark == "}":
            blocks.pop()
        if not blocks:
            raise InputError("unbalanced braces in DRBD's settings")
    return top


def _setting(resource: _Statement) -> _Setting:
    hosts, options = _blocks(resource.block, "_this_host"), _blocks(resource.block, "options")
    nets = {}
    for connection in _blocks(resource.block, "connection"):
        ends = [
            (_value(path, "_this_host"), _value(path, "_remote_host"))
            for path in _blocks(connection, "path")
        ]
        nets[_value(connection, "_peer_node_id")] = _net(connection, ends)
    for remote in _blocks(resource.block, "_remote_host"):
        ends = [(_value(host, "address"), _value(remote, "address")) for host in hosts]
        nets[""] = _net(resource.block, ends)
    return _Setting(
        " ".join(resource.words[1:]),
        promotes=all(_value(block, "auto-promote") != "no" for block in options),
        volumes={minor: volume for host in hosts for minor, volume in _volumes(host)},
        nets=nets,
    )


def _net(block: _Block, ends: list[tuple[str, str]]) -> Net:
    set_here = [one for net in _blocks(block, "net") for one in net]
    return Net(
        _value(set_here, "protocol") or "C",
        _value(set_here, "allow-two-primaries") == "yes",
        frozenset(pair for pair in ends if all(pair)),
    )


def _volumes(host: _Block) -> Iterator[tuple[int, int]]:
    """Yield the minor and the number of each volume."""
    for words, block in host:
        minor = _NUMBER.fullmatch(_value(block, "device"))
        volume = _NUMBER.fullmatch(" ".join(words[1:]))
        if words[:1] == ("volume",) and minor and volume:
            yield int(minor[1]), int(volume[1])


def _blocks(block: _Block, name: str) -> list[_Block]:
    return [one.block for one in block if one.words[:1] == (name,) and one.block]


def _value(block: _Block, name: str) -> str:
    """Return the value of a setting, empty if it is missing."""
    found = (one.words[1:] for one in block if one.words[:1] == (name,) and not one.block)
    return " ".join(next(found, ()))
