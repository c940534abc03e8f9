"""When a migration does not converge: more downtime, then post-copy, then an end with figures.

QEMU throttles the guest by itself (auto-converge), where that is allowed at the start.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from saltext_kvmcluster.core.options import Options
from saltext_kvmcluster.core.progress import Progress


@dataclass(frozen=True)
class Pace:
    """What is remembered between two looks at a migration."""

    began: float
    downtime: int = 0
    switched: bool = False
    seen: tuple[Progress, ...] = field(default=())


@dataclass(frozen=True)
class SetDowntime:
    """Let the switch take so many milliseconds."""

    milliseconds: int


@dataclass(frozen=True)
class StartPostCopy:
    """Switch over now; fetch the rest afterwards."""


@dataclass(frozen=True)
class GiveUp:
    """End it; ``reason`` says with figures why, and what would have been needed."""

    reason: str


Step = SetDowntime | StartPostCopy | GiveUp


def pace(known: Pace, seen: Progress, options: Options) -> tuple[Pace, Step | None]:
    """Return what to remember, and what to do now; None for nothing."""
    return known, None
