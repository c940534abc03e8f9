"""The addresses and ports of its host that a guest's QEMU listens on, by its definition."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from lxml import etree

from saltext_kvmcluster.core.guest.xmlparts import attributes

MAX_FORWARDED = 1000


@dataclass(frozen=True)
class Bind:
    """An address to listen on: an IP address or a host name, empty for all; and a fixed port.

    ``port`` is 0 where it is chosen anew on each host. ``protocol`` is tcp or udp.
    """

    use: str
    address: str
    port: int = 0
    protocol: str = "tcp"


_CHARACTER = ("serial", "parallel", "console", "channel", "redirdev", "smartcard", "rng")
_SCREENS = ("vnc", "spice", "rdp")


def find(root: etree._Element) -> tuple[Bind, ...]:
    """Return what QEMU, or passt beside it, binds when the guest arrives; each pair once.

    libvirt passes addresses and fixed ports on as they are (qemuProcessGraphicsSetupListen in
    src/qemu/qemu_process.c); it chooses ports anew where ``autoport`` says so. A websocket's port
    that it had chosen is fixed from the first migration on.
    """
    known: dict[tuple[str, int, str], Bind] = {}
    for bind in _binds(root):
        known.setdefault((bind.address, bind.port, bind.protocol), bind)
    return tuple(known.values())


def networks(root: etree._Element) -> tuple[str, ...]:
    """Return the networks whose address a screen listens on; each host has its own address."""
    found = root.iterfind("devices/graphics/listen[@network]")
    return tuple(dict.fromkeys(one.get("network", "") for one in found))


def _binds(root: etree._Element) -> Iterator[Bind]:
    for device in root.iterfind("devices/*"):
        if device.tag == "graphics":
            yield from _screen(device)
        elif device.tag in _CHARACTER:
            yield from _character(device)
        elif device.tag == "interface":
            yield from _card(device)


def _screen(graphics: etree._Element) -> Iterator[Bind]:
    kind = graphics.get("type", "")
    if kind not in _SCREENS:
        return
    listens = list(graphics.iterfind("listen"))
    addresses = [one.get("address", "") for one in listens if one.get("type") == "address"]
    if not listens and not graphics.get("socket"):
        addresses = [graphics.get("listen", "")]
    chosen = graphics.get("autoport") == "yes"
    ports = [0 if chosen else _port(graphics.get(name)) for name in ("port", "tlsPort")]
    ports.append(_port(graphics.get("websocket")))
    for address in addresses:
        for port in filter(None, ports):
            yield Bind(kind, address, port)
        if not any(ports):
            yield Bind(kind, address)


def _character(device: etree._Element) -> Iterator[Bind]:
    """Sources of character devices by TCP, which are bound as servers, or by UDP."""
    for parent in (device, *device.iterfind("backend")):
        for source in parent.iterfind("source"):
            kind = source.get("type", parent.get("type", device.get("type", "")))
            if kind in ("tcp", "udp") and source.get("mode") == "bind":
                port = _port(source.get("service"))
                yield Bind(str(device.tag), source.get("host", ""), port, kind)


def _card(card: etree._Element) -> Iterator[Bind]:
    kind, source = card.get("type", ""), attributes(card, "source")
    if kind == "server":
        yield Bind("network card", source.get("address", ""), _port(source.get("port")))
    elif kind == "udp":
        local = attributes(card, "source/local")
        yield Bind("network card", local.get("address", ""), _port(local.get("port")), kind)
    for forward in card.iterfind("portForward"):
        for ports in forward.iterfind("range"):
            first = _port(ports.get("start"))
            last = min(_port(ports.get("end")) or first, first + MAX_FORWARDED)
            if ports.get("exclude") != "yes" and first:
                for port in range(first, last + 1):
                    yield Bind(
                        "port forwarding",
                        forward.get("address", ""),
                        port,
                        "udp" if forward.get("proto") == "udp" else "tcp",
                    )


def _port(text: str | None) -> int:
    """Return a fixed port, 0 for none; a service may also be named."""
    known = re.fullmatch(r"[0-9]{1,5}", text or "")
    return int(known[0]) if known and int(known[0]) < 65536 else 0
