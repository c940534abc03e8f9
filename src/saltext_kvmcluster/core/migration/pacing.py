"""When a migration does not converge: more downtime, then post-copy, then the end, with figures.

QEMU throttles the guest by itself (auto-converge), where that is allowed at the start; here it is
only waited for. ``docs/pacing.md`` shows the schedule as a table.

QEMU sends all memory once, then what has changed meanwhile, and so on. Whenever it has sent nearly
everything it counts what has changed; if that can be sent within the downtime that it is allowed,
it stops the guest, sends it and switches over. So a migration converges when what it counts gets
less, and what would have been needed follows from the same number.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

from saltext_kvmcluster.core.migration.progress import COPYING, POST_COPY, PREPARING, Progress
from saltext_kvmcluster.core.pillar.options import MOST_DOWNTIME, RULES, Options

# Milliseconds; QEMU's own default, so that a guest that is easy to move is moved as by virsh.
FIRST_DOWNTIME = 300
# Seconds. A round is what is compared with what was before: at least one count, and long enough
# for several where they follow fast, so that one of them does not decide.
ROUND = 5.0
# So many rounds in which it gets no better are the end. It gets better with a round that has this
# part less to send than the best before, so what gains a hundredth each time goes on; and with
# more throttle, which QEMU adds after two counts. A burst of half a minute is ridden out.
QUIET = 6
FALL = 0.05
# Seconds without anything carried. The first is reported, the second is the end: twice
# what libvirt itself allows a peer without response.
STALLED, BROKEN = 5.0, 60.0
# Seconds for post-copy to begin after it was asked for; QEMU does it within a tenth of one.
SWITCH = 30.0
# What is proposed is so much above what was measured: the rate of a link swings.
MARGIN = 1.25

MIB = 1 << 20


@dataclass(frozen=True)
class Pace:
    """What is kept between two observations of a migration.

    ``downtime``: the milliseconds that were set last. ``moved``: the first
    observation with the amount sent so far. ``round``: the observation that began the round.
    ``peak``: the most bytes that were to be sent in it. ``best``: the least peak of all rounds.
    ``quiet``: the rounds since something got better. ``asked``: when post-copy was asked for.
    """

    began: float
    downtime: int = 0
    moved: Progress | None = None
    round: Progress | None = None
    peak: int = 0
    best: int | None = None
    quiet: int = 0
    asked: float | None = None


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


def first_downtime(options: Options) -> int:
    """Return the milliseconds that a switch may take to begin with.

    To be set before libvirt migrates: a small guest has moved before the first observation.
    """
    return min(FIRST_DOWNTIME, options.downtime)


def stalled(known: Pace, observed: Progress) -> bool:
    """Whether the link carries nothing, by the observations so far."""
    return _idle(known, observed) >= STALLED


def broken(known: Pace, observed: Progress) -> bool:
    """Whether the link has carried nothing for so long that the migration is given up."""
    return _idle(known, observed) >= BROKEN


def pace(known: Pace, observed: Progress, options: Options) -> tuple[Pace, Step | None]:
    """Return what to keep, and what to do now; None for nothing.

    A step that fails is retried: the downtime with every round, post-copy with every observation.
    """
    known = _noted(known, observed)
    if observed.phase == POST_COPY:
        return known, None
    if known.asked is not None:
        late = observed.at - known.asked >= SWITCH
        why = f"post-copy did not begin within {SWITCH:g} s"
        return known, GiveUp(f"{why}; {_state(known, observed)}") if late else StartPostCopy()
    if observed.at - known.began >= options.timeout:
        return _ended(known, observed, options, f"the timeout of {options.timeout:g} s has expired")
    if broken(known, observed):
        return known, GiveUp(f"the link carried nothing for {BROKEN:g} s: {_left(observed)}")
    if not options.live:
        return known, None
    return _paced(known, observed, options)


def _noted(known: Pace, observed: Progress) -> Pace:
    """Keep what was sent, and what remains to be sent."""
    before = known.moved
    if before is None or observed.phase == PREPARING or _moved(before, observed):
        known = replace(known, moved=observed)
    return replace(known, peak=max(known.peak, observed.remaining, observed.changed))


def _moved(before: Progress, observed: Progress) -> bool:
    return (before.phase, before.processed) != (observed.phase, observed.processed)


def _idle(known: Pace, observed: Progress) -> float:
    """Return for how many seconds nothing was carried."""
    before = known.moved
    return 0.0 if before is None or _moved(before, observed) else observed.at - before.at


def _paced(known: Pace, observed: Progress, options: Options) -> tuple[Pace, Step | None]:
    began = known.round
    if began is None or began.phase != observed.phase:
        downtime = first_downtime(options)
        return _round(known, observed, downtime=downtime), SetDowntime(downtime)
    if observed.iteration <= began.iteration or observed.at - began.at < ROUND:
        return known, None
    fell = known.best is None or known.peak <= known.best * (1 - FALL)
    quiet = 0 if fell or observed.throttle > began.throttle else known.quiet + 1
    if quiet >= QUIET and known.downtime == options.downtime < _switch_ms(known, observed):
        return _ended(known, observed, options, "it does not converge")
    downtime = known.downtime if fell else min(2 * known.downtime, options.downtime)
    best = known.peak if fell else known.best
    return _round(known, observed, downtime=downtime, best=best, quiet=quiet), SetDowntime(downtime)


def _round(known: Pace, observed: Progress, **changes: Any) -> Pace:
    """Begin another round."""
    return replace(known, round=observed, peak=max(observed.remaining, observed.changed), **changes)


def _ended(known: Pace, observed: Progress, options: Options, why: str) -> tuple[Pace, Step]:
    """Switch to post-copy or give up. On a stalled link post-copy would stop the guest."""
    if options.post_copy and observed.phase == COPYING and not stalled(known, observed):
        return replace(known, asked=observed.at), StartPostCopy()
    needed = _needed(known, observed, options)
    return known, GiveUp("; ".join([f"{why}: {_state(known, observed)}", *needed]))


def _rate(known: Pace, observed: Progress) -> float:
    """Return the bytes a second that the link carries, by the mean of the round."""
    began = known.round
    if began is None or began.phase != observed.phase or observed.at - began.at < 1:
        return observed.rate
    return max(observed.processed - began.processed, 0) / (observed.at - began.at)


def _switch_ms(known: Pace, observed: Progress) -> float:
    """Return the milliseconds that the switch would have taken at the round's worst moment."""
    rate = _rate(known, observed)
    return 1000 * known.peak / rate if rate else math.inf


def _state(known: Pace, observed: Progress) -> str:
    """Return how far it is, and what delays it, as text."""
    if observed.phase == PREPARING:
        return "libvirt had not begun to send memory"
    rate = _rate(known, observed)
    if not rate or stalled(known, observed):
        return f"{_left(observed)}, and the link carries nothing"
    if known.best is None:
        return f"{_left(observed)}, at {_mib(rate)} MiB/s"
    slowed = f", although its CPUs are slowed by {observed.throttle} %" if observed.throttle else ""
    return (
        f"{_mib(known.peak)} of {_mib(observed.total)} MiB change while what changed before is sent"
        f"{slowed}; at {_mib(rate)} MiB/s they take {math.ceil(_switch_ms(known, observed))} ms,"
        f" and {known.downtime} ms are allowed now"
    )


def _left(observed: Progress) -> str:
    return f"{_mib(observed.remaining)} of {_mib(observed.total)} MiB are left"


def _needed(known: Pace, observed: Progress, options: Options) -> list[str]:
    """Return what would have been needed, as far as that is known."""
    rate = _rate(known, observed)
    if observed.phase != COPYING or not rate or stalled(known, observed):
        return []
    gone, switch = observed.at - known.began, _switch_ms(known, observed)
    if known.best is None or not options.live or switch <= options.downtime:
        return [
            f"needed: at least timeout={math.ceil(MARGIN * (gone + observed.remaining / rate))}"
        ]
    downtime = math.ceil(MARGIN * switch)
    rounds = math.log2(max(downtime / known.downtime, 1)) + 2
    timeout = math.ceil(MARGIN * (gone + rounds * (ROUND + switch / 1000)))
    bandwidth = math.ceil(MARGIN * known.peak / MIB / (options.downtime / 1000))
    remedies = [
        f"downtime={downtime}" if downtime <= MOST_DOWNTIME else "",
        f"bandwidth={bandwidth} (it is {options.bandwidth})"
        if options.bandwidth
        else f"a link that carries {bandwidth} MiB/s",
        "post_copy=true" if _may_post_copy(options) else "",
    ]
    more = f", and timeout={timeout}" if timeout > options.timeout else ""
    return [f"needed: {', or '.join(filter(None, remedies))}{more}"]


def _may_post_copy(options: Options) -> bool:
    """Whether post-copy is not allowed, but could be."""
    allowed = replace(options, post_copy=True)
    return allowed != options and not any(rule.broken(allowed) for rule in RULES)


def _mib(size: float) -> str:
    return f"{size / MIB:.1f}"
