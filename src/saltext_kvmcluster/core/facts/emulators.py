"""What a host's QEMU has, by libvirt's domain capabilities: the values of each enum."""

from __future__ import annotations

from collections.abc import Mapping

from saltext_kvmcluster.core import xmltext
from saltext_kvmcluster.core.errors import InputError

SEPARATOR = "/"
_WHOLE = "*"


def parse(text: str) -> dict[str, list[str]] | None:
    """Return the values of each enum as ``DEVICE/ENUM``; None if that is no such document.

    A device that is not supported at all has ``DEVICE/*`` without values. Enums that this libvirt
    does not know are missing. See "Domain capabilities XML format".
    """
    try:
        root = xmltext.parse_xml(text)
    except InputError:
        return None
    if root.tag != "domainCapabilities":
        return None
    found: dict[str, list[str]] = {}
    for device in (*root.iterfind("memoryBacking"), *root.iterfind("devices/*")):
        if device.get("supported") == "no":
            found[f"{device.tag}{SEPARATOR}{_WHOLE}"] = []
        for enum in device.iterfind("enum"):
            name = f"{device.tag}{SEPARATOR}{enum.get('name', '')}"
            found[name] = [value.text or "" for value in enum.iterfind("value")]
    return found


def lacks(offered: Mapping[str, frozenset[str]], device: str, enum: str, value: str) -> bool:
    """Whether a QEMU has no such device; what its libvirt does not tell counts as there."""
    if f"{device}{SEPARATOR}{_WHOLE}" in offered:
        return True
    known = offered.get(f"{device}{SEPARATOR}{enum}")
    return known is not None and value not in known
