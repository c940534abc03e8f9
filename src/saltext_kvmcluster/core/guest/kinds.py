"""The kinds of devices in a definition that a QEMU may be built without, by libvirt's words."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from lxml import etree


class Kind(NamedTuple):
    """A value of an enum of libvirt's domain capabilities, such as video, modelType, qxl."""

    device: str
    enum: str
    value: str


# Where a definition has the values of an enum, and which of them QEMU or its host may lack. libvirt
# lists no others, or not all that it accepts; see virQEMUCapsFillDomainCaps in
# src/qemu/qemu_capabilities.c.
_GPUS = ("vga", "cirrus", "vmvga", "qxl", "virtio", "bochs", "ramfb")
_SCREENS = ("sdl", "vnc", "spice", "egl-headless", "dbus", "rdp")
_PLACES = (
    ("disk", "bus", "devices/disk/target", "bus", ("usb", "sata")),
    ("graphics", "type", "devices/graphics", "type", _SCREENS),
    ("video", "modelType", "devices/video/model", "type", _GPUS),
    ("rng", "backendModel", "devices/rng/backend", "model", ("random", "egd", "builtin")),
    ("filesystem", "driverType", "devices/filesystem/driver", "type", ("path", "virtiofs")),
    ("tpm", "model", "devices/tpm", "model", ("tpm-tis", "tpm-crb", "tpm-spapr")),
    ("tpm", "backendModel", "devices/tpm/backend", "type", ("emulator", "external")),
    ("tpm", "backendVersion", "devices/tpm/backend", "version", ("1.2", "2.0")),
    ("redirdev", "bus", "devices/redirdev", "bus", ("usb",)),
    ("channel", "type", "devices/channel", "type", ("spicevmc",)),
    ("interface", "backendType", "devices/interface/backend", "type", ("passt",)),
    ("panic", "model", "devices/panic", "model", ("isa", "hyperv", "pvpanic")),
    ("memoryBacking", "sourceType", "memoryBacking/source", "type", ("memfd",)),
)


def find(root: etree._Element) -> frozenset[Kind]:
    """Return the kinds of a ``<domain>`` of which a destination's libvirt tells if it has them."""
    return frozenset(_kinds(root))


def _kinds(root: etree._Element) -> Iterator[Kind]:
    for device, enum, path, attribute, values in _PLACES:
        for element in root.iterfind(path):
            if element.get(attribute) in values:
                yield Kind(device, enum, element.get(attribute, ""))
