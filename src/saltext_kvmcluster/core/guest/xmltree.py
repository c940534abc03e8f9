"""Definitions as trees without layout, comments, units and namespace prefixes."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace

from lxml import etree

from saltext_kvmcluster.core.guest.libvirt_defaults import MADE_IN, is_made, of_host, of_source
from saltext_kvmcluster.core.guest.units import in_bytes

WORDS = 80


@dataclass(frozen=True)
class Node:
    """An element in its canonical form. ``key`` is a number, equal for equal meaning."""

    tag: str
    attributes: Mapping[str, str]
    text: str
    children: tuple[Node, ...]
    key: int
    name: str = ""
    """What distinguishes it from its siblings of the same tag; may be empty."""


def tree(element: etree._Element, ours: str, keys: dict[Hashable, int], parent: str = "") -> Node:
    """Return an element's meaning.

    keys
        The number of each meaning so far; it grows.
    """
    tag = str(element.tag)
    attributes, text = _sizes(tag, _reported(element, tag, parent), (element.text or "").strip())
    if tag in MADE_IN:
        for name in [name for name in attributes if is_made(parent, tag, name, attributes)]:
            del attributes[name]
    elif tag == "address":
        attributes = {name: _number(value) for name, value in attributes.items()}
    children = tuple(_children(element, ours, keys, tag)) if len(element) else ()
    if tag == "devices":
        children = _without_twin(children)
    content = (tag, frozenset(attributes.items()), text, _content(children) if children else ())
    key = keys.setdefault(content, len(keys))
    return Node(tag, attributes, text, children, key, _name(tag, attributes, children))


def _reported(element: etree._Element, tag: str, parent: str) -> dict[str, str]:
    """Return an element's attributes.

    Of a network its name, not what it assigned to a running guest; of a network disk what libvirt
    takes where its definition omits it.
    """
    found = {str(name): str(value) for name, value in element.attrib.items()}
    if tag == "interface" and element.find("source[@network]") is not None:
        return {**found, "type": "network"}
    if tag == "source" and parent == "interface" and "network" in found:
        return {name: found[name] for name in ("network", "portgroup") if name in found}
    if tag == "source":
        return of_source(found)
    if tag == "host" and parent == "source":
        source = element.getparent()
        return of_host("" if source is None else source.get("protocol", ""), found)
    return found


def _children(
    element: etree._Element, ours: str, keys: dict[Hashable, int], tag: str
) -> Iterator[Node]:
    for child in element:
        if tag != "metadata" or not str(child.tag).startswith(f"{{{ours}}}"):
            node = tree(child, ours, keys, tag)
            if not _is_generated(child, node):
                yield node


def _content(children: Iterable[Node]) -> Hashable:
    """Return the meaning of children: their order counts only where they have no names."""
    named = frozenset((child.tag, child.name, child.key) for child in children if child.name)
    ordered: dict[str, list[Hashable]] = defaultdict(list)
    for child in children:
        if not child.name:
            ordered[child.tag].append(child.key)
    return named, frozenset((tag, tuple(keys)) for tag, keys in ordered.items())


def _without_twin(devices: tuple[Node, ...]) -> tuple[Node, ...]:
    """Return devices without the console that repeats their first serial port.

    A console alone stands for that port.
    """
    console = next((node for node in devices if _is_serial_console(node)), None)
    if console is None:
        return devices
    if any(node.tag == "serial" for node in devices):
        return tuple(node for node in devices if node is not console)
    return tuple(replace(node, tag="serial") if node is console else node for node in devices)


def _is_serial_console(node: Node) -> bool:
    targets = [child for child in node.children if child.tag == "target"]
    return node.tag == "console" and all(
        child.attributes.get("type", "serial") == "serial" for child in targets
    )


def _is_generated(element: etree._Element, node: Node) -> bool:
    """Whether libvirt generates an element for each run, or nothing else is left of it."""
    if node.tag == "alias":
        return not node.attributes.get("name", "").startswith("ua-")
    if node.tag == "seclabel":
        return node.attributes.get("type") == "dynamic" and element.find("baselabel") is None
    if node.tag in ("privateData", "mirror"):
        return True
    if node.tag == "readonly" and _is_cdrom(element.getparent()):
        return True
    had = bool(element.attrib) or node.tag == "metadata"
    return had and not (node.attributes or node.text or node.children)


def _is_cdrom(device: etree._Element | None) -> bool:
    """Whether a device is a CD-ROM drive, which libvirt makes read-only where it is not."""
    return device is not None and (device.tag, device.get("device")) == ("disk", "cdrom")


def _number(text: str) -> str:
    """Return a number as libvirt reads it, decimal or 0x…, in one form; other text unchanged."""
    try:
        return str(int(text, 0)) if len(text) < WORDS else text
    except ValueError:
        return text.lstrip("0") if text.isdecimal() and text.strip("0") else text


def _sizes(tag: str, attributes: dict[str, str], text: str) -> tuple[dict[str, str], str]:
    """Return attributes and text with a size in KiB instead of one with a unit."""
    unit = attributes.get("unit", "KiB" if tag in _IN_KIB else "")
    if not unit:
        return attributes, text
    size = in_bytes(text, unit)
    if size is not None:
        text = _kib(size)
    reported = {name: in_bytes(attributes.get(name, ""), unit) for name in ("size", "memory")}
    known = {name: _kib(size) for name, size in reported.items() if size is not None}
    if size is not None or known:
        attributes = {**attributes, **known}
        attributes.pop("unit", None)
    return attributes, text


def _kib(size: int) -> str:
    return f"{size / 1024:g} KiB" if size % 1024 else f"{size // 1024} KiB"


def _name(tag: str, attributes: Mapping[str, str], children: Iterable[Node]) -> str:
    if tag == "controller":
        model = attributes.get("model", "")
        part = model if model.startswith("ich9-") else ""
        return f"{attributes.get('type', '')} {attributes.get('index', '0')} {part}".strip()
    for child in children:
        for part, name in _NAMES:
            if child.tag == part and child.attributes.get(name) and tag != child.tag:
                return child.attributes[name]
    return next((attributes[name] for name in _OWN_NAMES if attributes.get(name)), "")


_NAMES = (("mac", "address"), ("target", "dir"), ("target", "name"), ("target", "dev"))
_OWN_NAMES = ("name", "id", "index", "vcpu", "iothread", "vcpus", "alias")
_IN_KIB = frozenset(
    {
        *("memory", "currentMemory", "maxMemory", "block", "requested", "current"),
        *("hard_limit", "soft_limit", "swap_hard_limit", "min_guarantee"),
    }
)
