"""How far a migration is, by libvirt's statistics of its job."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from saltext_kvmcluster.core.untrusted import Reader

# In order: libvirt has not begun to send; memory is sent while the guest runs (or stands still, if
# it is not moved live); the destination runs it and fetches what is missing.
PREPARING, COPYING, POST_COPY = "preparing", "copying", "post-copy"

# virDomainJobOperation; and virDomainJobType: bounded and unbounded, other jobs are over.
_MIGRATION_OUT, _AT_WORK = 5, (1, 2)
# Where nearly as much changes as is carried, it depends on chance when it ends.
_ENDLESS = 0.9
# Numbers are libvirt's unsigned ones, of 64 bits at most.
_MOST = (1 << 64) - 1


@dataclass(frozen=True)
class Progress:
    """A migration at one moment; sizes in bytes, rates in bytes a second.

    ``at``: seconds of the observer's monotonic clock. ``iteration``: 1 while all memory is sent
    once, one more each time that what has changed meanwhile is counted and sent. ``changed``: what
    was counted last. ``dirty_rate``: the same for each second between two counts; a page that
    changes twice counts once, so a guest that writes to the same memory again and again seems to
    change no more than the link carries. In post-copy nothing changes here any more. ``throttle``:
    the percentage by which QEMU slows the guest's CPUs. ``expected_downtime_ms``: libvirt's own
    estimate of the switch, None if not reported. ``elapsed``: seconds since libvirt began.
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
    expected_downtime_ms: int | None = None
    changed: int = 0
    elapsed: float = 0.0


def parse(job: Mapping[str, Any], at: float, in_post_copy: bool) -> Progress | None:
    """Return the progress by libvirt's job statistics; None if nothing migrates from here.

    job
        Typed parameters by libvirt's names for them (``memory_total`` and so on), as
        virDomainGetJobStats gives them.
    at
        Seconds of the observer's monotonic clock.
    in_post_copy
        Whether the guest was observed in post-copy.
    """
    at_work = job.get("type") in _AT_WORK
    if not at_work or job.get("operation", _MIGRATION_OUT) != _MIGRATION_OUT:
        return None
    total, rate = _number(job, "memory_total"), _number(job, "memory_bps")
    iteration = _number(job, "memory_iteration")
    # libvirt keeps estimating the switch after it took place.
    guessed = "downtime" in job and not in_post_copy
    downtime = _number(job, "downtime") if guessed else None
    # The estimate is what QEMU counted last by the rate it measured last. Before it has counted
    # anything, it is the downtime that it is allowed.
    changed = (downtime or 0) * rate // 1000 if iteration > 1 else 0
    return Progress(
        at,
        POST_COPY if in_post_copy else COPYING if total else PREPARING,
        total=total,
        processed=_number(job, "memory_processed"),
        remaining=_number(job, "memory_remaining"),
        rate=rate,
        dirty_rate=0
        if in_post_copy
        else _number(job, "memory_dirty_rate") * _number(job, "memory_page_size"),
        iteration=iteration,
        throttle=min(_number(job, "auto_converge_throttle"), 100),
        expected_downtime_ms=downtime,
        changed=min(changed, total),
        elapsed=_number(job, "time_elapsed") / 1000,
    )


def percentage(observed: Progress) -> int:
    """Return the percentage of memory that is up to date at the destination.

    It falls when what has changed meanwhile is counted.
    """
    if not observed.total:
        return 0
    return 100 * max(observed.total - observed.remaining, 0) // observed.total


def expected_end(observed: Progress) -> float | None:
    """Return the seconds until all memory is sent, None if that is not known, or never.

    While a guest runs here it changes memory that was sent already; while all memory is sent for
    the first time nothing is known of that, and it is the least that it takes.
    """
    if (
        observed.phase == PREPARING
        or not observed.rate
        or observed.dirty_rate >= observed.rate * _ENDLESS
    ):
        return None
    return round(observed.remaining / (observed.rate - observed.dirty_rate), 1)


def shown(
    observed: Progress, stalled: bool | None = None, downtime_ms: int | None = None
) -> dict[str, Any]:
    """Return an observation as plain data.

    ``remaining``, ``total``, ``processed`` in bytes, ``rate`` and ``dirty_rate`` in bytes a second,
    ``expected_end`` in seconds from then, ``expected_downtime_ms`` and ``downtime_ms`` in
    milliseconds, ``elapsed`` in seconds, ``percentage`` and ``throttle`` of 100.

    stalled
        Whether the link carries nothing, None if unknown: it takes several observations. QEMU
        keeps reporting the last rate that was above zero.
    downtime_ms
        How long the guest has been stopped so far, None if that is not known.
    """
    if stalled:
        observed = replace(observed, rate=0)
    return {
        "phase": observed.phase,
        "percentage": percentage(observed),
        "rate": observed.rate,
        "dirty_rate": observed.dirty_rate,
        "remaining": observed.remaining,
        "total": observed.total,
        "processed": observed.processed,
        "expected_end": expected_end(observed),
        "expected_downtime_ms": observed.expected_downtime_ms,
        "downtime_ms": downtime_ms,
        "iteration": observed.iteration,
        "throttle": observed.throttle,
        "stalled": stalled,
        "elapsed": observed.elapsed,
    }


def _number(job: Mapping[str, Any], key: str) -> int:
    """Return a number of libvirt's, 0 if it is not valid."""
    return Reader(job, lenient=True).at(key).whole(default=0, most=_MOST)
