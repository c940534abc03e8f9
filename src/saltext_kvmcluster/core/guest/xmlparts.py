"""What the readers of a definition share."""

from __future__ import annotations

from lxml import etree

from saltext_kvmcluster.core.text import printable

_WORDS = 100


def attributes(element: etree._Element, path: str) -> dict[str, str]:
    found = element.find(path)
    return {str(name): str(value) for name, value in found.items()} if found is not None else {}


def attribute(element: etree._Element, path: str, name: str) -> str:
    """Return an attribute of a part of an element, empty if there is none."""
    child = element.find(path)
    return child.get(name, "") if child is not None else ""


def shown(text: str) -> str:
    """Return a text of a definition as a sentence may quote it."""
    return printable(text[:_WORDS])


def text_at(element: etree._Element, path: str) -> str:
    return (element.findtext(path) or "").strip()


def pci_address(address: etree._Element) -> str:
    """Return a PCI address as ``lspci -D`` writes it, or unchanged if it is invalid."""
    reported = [address.get(part, "0") for part in ("domain", "bus", "slot", "function")]
    try:
        domain, bus, slot, function = (int(number, 0) for number in reported)
    except ValueError:
        return ":".join(reported)
    return f"{domain:04x}:{bus:02x}:{slot:02x}.{function:x}"
