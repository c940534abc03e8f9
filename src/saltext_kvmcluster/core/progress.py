"""How far a migration is, by what libvirt tells of its job while it lasts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

# In order: libvirt has not begun to send; memory is sent while the guest runs (or stands still, if
# it is not moved live); the destination runs it and fetches what is missing.
PREPARING, COPYING, POST_COPY = "preparing", "copying", "post-copy"


@dataclass(frozen=True)
class Progress:
    """A migration at one moment; sizes in bytes, rates in bytes a second.

    ``at``: seconds of the observer's monotonic clock. ``throttle``: the percentage by which QEMU
    slows the guest's CPUs. ``downtime_ms``: libvirt's own guess of the switch, None where it does
    not say.
    """

    at: float
    phase: str
    total: int = 0
    processed: int = 0
    remaining: int = 0
    rate: int = 0
    dirty_rate: int = 0
    iteration: int = 0
    throttle: int = 0
    downtime_ms: int | None = None


def read(job: Mapping[str, Any], at: float, in_post_copy: bool) -> Progress | None:
    """Return what libvirt's job statistics tell; None if no migration is at work.

    job
        Typed parameters by libvirt's names for them (``memory_total`` and so on), as
        virDomainGetJobStats gives them.
    at
        Seconds of the observer's monotonic clock.
    in_post_copy
        Whether the guest was seen in post-copy.
    """
    return Progress(at, POST_COPY if in_post_copy else COPYING)
