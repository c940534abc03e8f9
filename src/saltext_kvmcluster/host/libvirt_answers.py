"""What a libvirt daemon answers of the CPUs and emulators of guests that would come."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from typing import Any

from saltext_kvmcluster.core.errors import WorldError
from saltext_kvmcluster.core.facts.questions import Question, cpu_key, emulator_key
from saltext_kvmcluster.host.hypervisor import Hypervisor


def answers(libvirt: Hypervisor, asked: Question) -> dict[str, Any]:
    """Return whether it can run each CPU, and the devices of each emulator, as far as it tells."""
    return {
        "cpus": _cpus(libvirt, asked.cpus),
        "emulators": _emulators(libvirt, asked.emulators),
    }


def _cpus(libvirt: Hypervisor, asked: Sequence[Mapping[str, str]]) -> dict[str, str]:
    found = {}
    with contextlib.suppress(WorldError):
        for cpu in asked:
            error = libvirt.cpu_issue(cpu)
            if error is not None:
                found[cpu_key(cpu)] = error
    return found


def _emulators(libvirt: Hypervisor, asked: Sequence[Mapping[str, str]]) -> dict[str, Any]:
    found = {}
    with contextlib.suppress(WorldError):
        for emulator in asked:
            devices = libvirt.emulator_devices(emulator)
            if devices is not None:
                found[emulator_key(emulator)] = devices
    return found
