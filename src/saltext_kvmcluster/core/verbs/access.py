"""What opens a guest's console or display from elsewhere: commands and addresses to type."""

from __future__ import annotations

import ipaddress
import re
from dataclasses import asdict
from shlex import quote
from typing import Any

from saltext_kvmcluster.core.guest.graphics import Display, Ways
from saltext_kvmcluster.core.pillar.clusters import Cluster
from saltext_kvmcluster.core.text import listed, printable

CONSOLE, DISPLAY = "console", "display"
_ON_A_HOST = ("sdl", "desktop")
_SCHEMES = ("vnc", "spice", "rdp")
_HOST = re.compile(r"[A-Za-z0-9_.:-]{0,255}")


def console(cluster: Cluster, guest: str, node: str, ways: Ways) -> dict[str, Any]:
    """Return the command that opens a guest's serial console."""
    reason = ""
    if not ways.consoles:
        reason = "it has no serial console: its definition has neither <console> nor <serial>"
    elif "pty" not in ways.consoles:
        reason = (
            f"its console is of type {listed(ways.consoles)}, and only one of type pty can be"
            " opened"
        )
    command = f"virsh -c {_uri(cluster, node)} console {quote(guest)}"
    commands = [] if reason else [command]
    return {**_of(CONSOLE, cluster, guest, node, reason), "commands": commands}


def display(cluster: Cluster, guest: str, node: str, ways: Ways) -> dict[str, Any]:
    """Return the addresses of a guest's displays, with the tunnel that leads there.

    A password that a display may ask for is not known here.
    """
    found = [
        {**asdict(one), "where": _where(node, one), "commands": _commands(cluster, node, one)}
        for one in ways.displays
    ]
    reason = "" if found else "it has no display: its definition has no <graphics>"
    viewer = f"virt-viewer -c {_uri(cluster, node)} {quote(guest)}"
    opens = any(one["commands"] or one["listens"] == "none" for one in found)
    return {
        **_of(DISPLAY, cluster, guest, node, reason),
        "displays": found,
        "commands": [viewer] if opens else [],
    }


def _of(what: str, cluster: Cluster, guest: str, node: str, reason: str) -> dict[str, Any]:
    return {
        "kind": what,
        "cluster": cluster.name,
        "guest": printable(guest),
        "node": node,
        "ok": not reason,
        "reason": reason,
    }


def _uri(cluster: Cluster, node: str) -> str:
    return f"qemu+ssh://{cluster.ssh.login}@{_bracketed(node)}/system"


def _where(node: str, one: Display) -> str:
    """Return where a display listens, in words."""
    if one.socket:
        return f"socket {one.socket} of {node}"
    if one.kind in _ON_A_HOST:
        return f"a window on {node} itself"
    if one.listens == "none":
        return "no address: through libvirt alone"
    if not (one.port or one.tls_port):
        return "no port is assigned"
    ports = [str(one.port)] if one.port else []
    ports += [f"{one.tls_port} (TLS)"] if one.tls_port else []
    return f"{one.address or 'its own address'} port {', '.join(ports)} of {node}"


def _commands(cluster: Cluster, node: str, one: Display) -> list[str]:
    """Return what opens a display: the tunnel first, if it listens only on its host."""
    if one.kind not in _SCHEMES:
        return []
    login = f"{cluster.ssh.login}@{node}"
    if one.socket:
        port = {"vnc": 5900, "spice": 5930}.get(one.kind, 3389)
        tunnel = f"ssh -N -L {port}:{quote(one.socket)} {login}"
        return [tunnel, _address(one.kind, "127.0.0.1", port, 0)]
    if one.listens == "none" or not (one.port or one.tls_port) or not _HOST.fullmatch(one.address):
        return []
    address = _parsed(one.address)
    if one.address == "localhost" or (address and address.is_loopback):
        host = _bracketed(one.address)
        ports = [port for port in (one.port, one.tls_port) if port]
        pairs = " ".join(f"-L {port}:{host}:{port}" for port in ports)
        return [f"ssh -N {pairs} {login}", _address(one.kind, "127.0.0.1", one.port, one.tls_port)]
    anywhere = not one.address or (address is not None and address.is_unspecified)
    return [_address(one.kind, node if anywhere else one.address, one.port, one.tls_port)]


def _address(kind: str, host: str, port: int, tls_port: int) -> str:
    name = _bracketed(host)
    if kind != "spice":
        return f"{kind}://{name}:{port}"
    ports = [f"port={port}"] if port else []
    ports += [f"tls-port={tls_port}"] if tls_port else []
    return f"spice://{name}?{'&'.join(ports)}"


def _bracketed(host: str) -> str:
    address = _parsed(host)
    return f"[{host}]" if address and address.version == 6 else host


def _parsed(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None
