"""What a seed stands for: what goes wrong, on which disk, when, and for how long."""

import dataclasses
import random

from faults import (
    ANSWERS,
    CUTS,
    EDGE,
    FAULTS,
    JOB_BETWEEN,
    MINION_BETWEEN,
    NONE,
    OLDER,
    Fault,
)

DISKS = ("gluster", "nbd", "lun")
# As many neighbours have their guest on the same disk: to change it takes a new guest.
BLOCK = 7
# Seconds from the guest's stop at its source within which EDGE lies, most of it near its begin.
ROUND = 0.2


@dataclasses.dataclass(frozen=True)
class Series:
    """Cases of some faults alone, each with one fault; all faults in turn without any."""

    name: str
    faults: tuple = ()
    moments: tuple = ()


ALL = Series("all")
SERIES = {
    series.name: series
    for series in (
        ALL,
        Series("answers", tuple(ANSWERS)),
        Series("cuts", tuple(CUTS), (EDGE,)),
        Series("older", (OLDER,)),
        Series("job", (JOB_BETWEEN,)),
        Series("minion", (MINION_BETWEEN,)),
    )
}


@dataclasses.dataclass(frozen=True)
class Case:
    """One migration with one or two faults.

    ``leg``: which of the other nodes is the destination. ``moment``: when the first fault begins;
    ``share``, from 0 to 1, says how far in that. ``lasting``: seconds until all heals, None for
    after the answer. ``pause``: seconds between two faults. ``speed``: MiB/s. ``asked``: which
    node is to recover.
    """

    seed: int
    faults: tuple[Fault, ...]
    disk: str
    leg: int
    moment: str
    share: float
    lasting: float | None
    pause: float
    speed: int
    patience: int
    asked: int

    @classmethod
    def of(cls, seed, brief=False, series=ALL, disk=None):
        """Draw a case; a brief one has a single fault that heals soon."""
        chance = random.Random(f"{series.name} {seed}")
        choice = series.faults or FAULTS
        first = choice[seed % len(choice)]
        others = [fault for fault in FAULTS[1:] if fault is not first]
        double = chance.random() < 0.25 and first is not NONE and seed >= 2 * len(FAULTS)
        single = brief or not double or bool(series.faults)
        chosen = (first,) if single else (first, chance.choice(others))
        long = chance.random() < 0.2 and not any(fault.must_heal for fault in chosen)
        return cls(
            seed=seed,
            faults=chosen,
            disk=disk or DISKS[seed // BLOCK % len(DISKS)],
            leg=chance.randrange(2),
            moment=chance.choice(series.moments or first.moments),
            share=round(chance.random(), 3),
            lasting=None if long and not brief else round(chance.uniform(*first.lasts), 2),
            pause=round(chance.uniform(0.0, 1.0), 2),
            speed=chance.choice((32, 48, 64)),
            patience=chance.choice((3, 6, 15)),
            asked=chance.randrange(3),
        )

    @property
    def name(self):
        return " + ".join(fault.name for fault in self.faults)

    @property
    def after_the_stop(self):
        """Seconds from the guest's stop at its source to the fault."""
        return ROUND * self.share**2
