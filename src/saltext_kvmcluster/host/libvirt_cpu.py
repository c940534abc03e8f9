"""Whether a host's libvirt can run a guest's CPU, takes its definition, has its devices."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from xml.sax.saxutils import escape

from saltext_kvmcluster.core.facts import emulators
from saltext_kvmcluster.host.libvirt_connection import (
    error_text,
    load_libvirt,
)

_NO_MODEL = "Unknown CPU model"


def cpu_issue(connection: Any, asked: Mapping[str, str], capabilities: str) -> str | None:
    libvirt = load_libvirt()
    try:
        connection.compareHypervisorCPU(
            _own_emulator(capabilities, asked["emulator"]),
            asked["arch"] or None,
            asked["machine"] or None,
            asked["type"] or None,
            asked["cpu"],
            libvirt.VIR_CONNECT_COMPARE_CPU_FAIL_INCOMPATIBLE,
        )
    except libvirt.libvirtError as error:
        words = error_text(error)
        if error.get_error_code() == libvirt.VIR_ERR_CPU_INCOMPATIBLE or _NO_MODEL in words:
            return words
        return None
    return ""


def definition_issue(connection: Any, definition: str) -> str:
    """Return why libvirt does not take a definition, empty if it does or cannot tell.

    It makes the QEMU command line of it, for which it reads and verifies all of it, and starts
    nothing (qemuConnectDomainXMLToNative). An older libvirt does not know all that a newer one has.
    """
    libvirt = load_libvirt()
    try:
        connection.domainXMLToNative("qemu-argv", definition)
    except libvirt.libvirtError as error:
        if error.get_error_code() in (
            libvirt.VIR_ERR_CONFIG_UNSUPPORTED,
            libvirt.VIR_ERR_XML_ERROR,
        ):
            return error_text(error)
    return ""


def emulator_devices(
    connection: Any, asked: Mapping[str, str], capabilities: str
) -> dict[str, list[str]] | None:
    """Return what libvirt says that an emulator of this host has; None if it cannot tell."""
    libvirt = load_libvirt()
    try:
        text = connection.getDomainCapabilities(
            _own_emulator(capabilities, asked["emulator"]),
            asked["arch"] or None,
            asked["machine"] or None,
            asked["type"] or None,
        )
    except libvirt.libvirtError:
        return None
    return emulators.parse(text)


def _own_emulator(capabilities: str, path: str) -> str | None:
    """Return an emulator from this host's capabilities, None for any other.

    libvirt runs the emulator that it is asked about, and the path comes from a foreign definition.
    """
    return path if f"<emulator>{escape(path)}</emulator>" in capabilities else None
