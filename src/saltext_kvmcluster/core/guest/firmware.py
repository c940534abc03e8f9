"""What libvirt chose where a definition asks for a kind of firmware: ``<os firmware='efi'>``.

libvirt looks for a descriptor that fits, and writes its loader, nvram and features into the
definition, with the SMM that a secure loader requires (qemuFirmwareFillDomain and
qemuFirmwareEnableFeaturesModern in src/qemu/qemu_firmware.c); newer versions do so when a guest is
defined, and name the kind that a given loader is of. None of that makes another guest.
"""

from __future__ import annotations

from dataclasses import replace

from saltext_kvmcluster.core.guest.xmltree import Node

_CHOSEN = ("firmware", "loader", "nvram", "varstore")
# Where descriptors have their firmware, and libvirt a guest's variables.
_FIRMWARE, _VARIABLES = "/usr/", "/var/lib/libvirt/qemu/"
_PLACES = {"firmware": "", "loader": _FIRMWARE, "nvram": _VARIABLES, "varstore": _VARIABLES}


def as_asked(one: Node, other: Node) -> tuple[Node, Node]:
    """Return two ``<domain>`` elements without what libvirt chose for the one of them alone.

    Both have to ask for the same kind of firmware, or name the same loader.
    """
    here, there = (_child(node, "os") for node in (one, other))
    if here is None or there is None or not _is_one_choice(here, there):
        return one, other
    if _size(here) < _size(there):
        return one, _reduced(other, one)
    if _size(there) < _size(here):
        return _reduced(one, other), other
    return one, other


def _is_one_choice(here: Node, there: Node) -> bool:
    kinds = [node.attributes.get("firmware", "") for node in (here, there)]
    loaders = [child.text for node in (here, there) if (child := _child(node, "loader"))]
    same_loader = len(loaders) == 2 and loaders[0] == loaders[1] != ""
    return kinds[0] == kinds[1] != "" or (same_loader and "" in kinds)


def _reduced(domain: Node, asked: Node) -> Node:
    """Return a ``<domain>`` without what libvirt chose where ``asked``, another one, is silent."""
    os, wanted = _child(domain, "os"), _child(asked, "os")
    assert os is not None and wanted is not None
    children = (_kept(one, _child(wanted, one.tag)) for one in os.children)
    attributes = {
        name: value
        for name, value in os.attributes.items()
        if name != "firmware" or name in wanted.attributes
    }
    kept = replace(os, attributes=attributes, children=tuple(filter(None, children)))
    parts = [kept if one is os else one for one in domain.children]
    loader, features = _child(os, "loader"), _child(domain, "features")
    if features and loader and loader.attributes.get("secure") == "yes":
        parts = _without_smm(parts, features, _child(asked, "features"))
    return replace(domain, children=tuple(parts))


def _without_smm(parts: list[Node], features: Node, asked: Node | None) -> list[Node]:
    """Return a domain's parts without the SMM of a secure loader, unless another names it."""
    if asked and _child(asked, "smm"):
        return parts
    rest = tuple(
        one for one in features.children if (one.tag, one.attributes) != ("smm", {"state": "on"})
    )
    return [
        replace(one, children=rest) if one is features else one
        for one in parts
        if one is not features or rest or asked
    ]


def _kept(chosen: Node, asked: Node | None) -> Node | None:
    """Return of an element what another names, too: attributes, text and children by name.

    What is in none of the places that libvirt chooses was asked for.
    """
    if chosen.tag not in _CHOSEN:
        return chosen
    if asked is None:
        return None if chosen.text.startswith(_PLACES[chosen.tag]) else chosen
    named = {(child.tag, child.name) for child in asked.children}
    return replace(
        chosen,
        attributes={
            name: value for name, value in chosen.attributes.items() if name in asked.attributes
        },
        text=chosen.text if asked.text else "",
        children=tuple(one for one in chosen.children if (one.tag, one.name) in named),
    )


def _size(os: Node) -> int:
    """Return how much an ``<os>`` says of its firmware."""
    chosen = [child for child in os.children if child.tag in _CHOSEN]
    parts = [one for child in chosen for one in (child, *child.children)]
    return sum(1 + len(part.attributes) + bool(part.text) for part in parts) + (
        "firmware" in os.attributes
    )


def _child(node: Node, tag: str) -> Node | None:
    return next((child for child in node.children if child.tag == tag), None)
