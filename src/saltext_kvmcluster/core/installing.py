"""The command that installs a Python package where Salt finds it."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from types import MappingProxyType

PACKAGED = MappingProxyType(
    {
        "libvirt-python": {
            "apt": "python3-libvirt",
            "dnf": "python3-libvirt",
            "zypper": "python3-libvirt-python",
        },
        "lxml": dict.fromkeys(("apt", "dnf", "zypper"), "python3-lxml"),
        "prometheus-client": {
            "apt": "python3-prometheus-client",
            "dnf": "python3-prometheus_client",
            "zypper": "python3-prometheus_client",
        },
    }
)
"""What distributions call a package, by the tool that installs theirs."""


@dataclass(frozen=True)
class Interpreter:
    """The Python that runs Salt."""

    executable: str
    prefix: str
    base_prefix: str
    onedir: str | None
    """The folder of Salt's own packages, if it runs from there."""
    installers: frozenset[str]
    """What there is of apt, dnf and zypper."""

    @property
    def is_distributions(self) -> bool:
        return not self.onedir and self.prefix == self.base_prefix == "/usr"


def command(package: str, python: Interpreter) -> str:
    """Return what to type so that this Python has a package."""
    if python.onedir:
        return f"{shlex.quote(python.onedir.rstrip('/') + '/salt-pip')} install {package}"
    if python.is_distributions:
        for installer, name in PACKAGED[package].items():
            if installer in python.installers:
                return f"{installer} install {name}"
    return f"{shlex.quote(python.executable)} -m pip install {package}"
