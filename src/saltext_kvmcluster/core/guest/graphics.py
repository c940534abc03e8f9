"""How a running guest is reached by people: its displays and its serial console."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from lxml import etree

from saltext_kvmcluster.core.guest.xmlparts import attribute, shown
from saltext_kvmcluster.core.untrusted import Reader
from saltext_kvmcluster.core.xmltext import parse_xml

_PORTS = 65535
_MOST = 20


@dataclass(frozen=True)
class Display:
    """A display of a guest. ``kind`` and ``listens`` are libvirt's words.

    ``port`` and ``tls_port`` are 0 where it has none, ``address`` and ``socket`` empty. Its
    password is not read.
    """

    kind: str
    listens: str = ""
    address: str = ""
    port: int = 0
    tls_port: int = 0
    socket: str = ""


@dataclass(frozen=True)
class Ways:
    """The ways to a guest: its displays, and the types of its serial consoles."""

    displays: tuple[Display, ...] = ()
    consoles: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Return it as plain data."""
        return {"displays": [asdict(one) for one in self.displays], "consoles": [*self.consoles]}


def parse(definition: str) -> Ways:
    """Return the ways to a guest by the definition that runs; InputError if that is invalid."""
    root = parse_xml(definition)
    displays = root.findall("devices/graphics")[:_MOST]
    consoles = root.findall("devices/console") or root.findall("devices/serial")
    return Ways(
        tuple(map(_display, displays)),
        tuple(shown(one.get("type", "")) for one in consoles[:_MOST]),
    )


def received(answer: object) -> Ways:
    """Return the ways to a guest as a node reports them, which may be anything."""
    sent = Reader(answer, lenient=True)
    displays = [
        Display(
            one.at("kind").line(default="?", most=40),
            one.at("listens").line(default="", most=40),
            one.at("address").line(default="", most=255),
            one.at("port").whole(default=0, most=_PORTS),
            one.at("tls_port").whole(default=0, most=_PORTS),
            one.at("socket").line(default="", most=255),
        )
        for one in sent.at("displays").items(optional=True)[:_MOST]
    ]
    consoles = [one.line(default="?", most=40) for one in sent.at("consoles").items(optional=True)]
    return Ways(tuple(displays), tuple(consoles[:_MOST]))


def _display(element: etree._Element) -> Display:
    socket = attribute(element, "listen", "socket") or element.get("socket", "")
    listens = attribute(element, "listen", "type") or ("socket" if socket else "address")
    address = attribute(element, "listen", "address") or element.get("listen", "")
    return Display(
        shown(element.get("type", "?")),
        shown(listens),
        shown(address),
        _port(element.get("port")),
        _port(element.get("tlsPort")),
        socket,
    )


def _port(text: str | None) -> int:
    """Return a port, 0 where none is assigned: -1 asks libvirt for one at the next start."""
    return int(text) if text and text.isdecimal() and int(text) <= _PORTS else 0
