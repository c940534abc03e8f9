"""One reason why a guest cannot be migrated, and the versions with which it can."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from saltext_kvmcluster.core.findings import BLOCK
from saltext_kvmcluster.core.text import version


class Versions(NamedTuple):
    """Versions of libvirt and QEMU as numbers, 8006000 for 8.6.0; 0 is any where it is wanted.

    Of a node, 0 is one that is not known.
    """

    libvirt: int
    qemu: int

    def __str__(self) -> str:
        named = (("libvirt", self.libvirt), ("QEMU", self.qemu))
        return " and ".join(f"{name} {version(number)}" for name, number in named if number)

    def lacks(self, wanted: Versions) -> Versions:
        """Return those of its versions that are known, and older than what is wanted."""
        pairs = zip(self, wanted, strict=True)
        return Versions(*(own if 0 < own < least else 0 for own, least in pairs))

    def hides(self, wanted: Versions) -> bool:
        """Whether a version that is wanted is not known."""
        return any(least and not own for own, least in zip(self, wanted, strict=True))


@dataclass(frozen=True)
class Blocker:
    """A part of a definition that cannot be migrated, in a sentence that says why.

    ``remedy`` is empty where it has to be removed. ``since`` are the versions, of both nodes, from
    which on it can be; None if it never can. ``asks``: from then on only the running QEMU knows.
    ``unless``: what even QEMU knows only when it tries.
    """

    what: str
    remedy: str = ""
    since: Versions | None = None
    asks: bool = False
    unless: str = ""
    severity: str = BLOCK
