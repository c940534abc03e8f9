"""Reads what a lab guest wrote and judges it: nothing lost, repeated, doubled, no restart.

Values in, values out. The format is described in lab/guest/recorder.c.
"""

import re
from collections import Counter
from dataclasses import asdict, dataclass, field
from itertools import groupby
from operator import attrgetter

SECTOR = 512
RECORD = re.compile(rb"number=(\d+) boot=([0-9a-f]{16}) stamp=(\d+\.\d+) rtc=(\d+)\n")
# A line may be split over two consoles by a migration: only whole tokens count.
PRINTED = re.compile(r"<(\d{10})>")
# Records on either side of a step, enough to see the real-time clock tick (10 a second).
WINDOW = 12
CLOCK_NOISE = 0.2


@dataclass(frozen=True)
class Record:
    number: int
    boot: str
    stamp: float
    rtc: int


@dataclass
class Judgement:
    written: int = 0
    first: int = 0
    last: int = 0
    lost: list = field(default_factory=list)
    repeated: list = field(default_factory=list)
    doubled: list = field(default_factory=list)
    boots: int = 0
    longest_pause: float = 0.0

    @property
    def whole(self):
        return (
            self.written > 0
            and self.boots == 1
            and not (self.lost or self.repeated or self.doubled)
        )

    def to_dict(self):
        return {**asdict(self), "whole": self.whole}


def read_disk(disk):
    """The records of a disk, in their places: sector n counts only if it holds number n."""
    records = []
    for start in range(SECTOR, len(disk.rstrip(b"\0")), SECTOR):
        match = RECORD.match(disk, start)
        if match and int(match[1]) == start // SECTOR:
            number, boot, stamp, rtc = match.groups()
            records.append(Record(int(number), boot.decode(), float(stamp), int(rtc)))
    return records


def judge(disk, consoles):
    """disk: its bytes. consoles: {node: text of the guest's console there}."""
    records = read_disk(disk)
    printed = {node: Counter(map(int, PRINTED.findall(text))) for node, text in consoles.items()}
    on_disk = {record.number for record in records}
    everywhere = Counter(number for numbers in printed.values() for number in set(numbers))
    highest = max([*on_disk, *everywhere], default=0)
    return Judgement(
        written=len(records),
        first=min(on_disk, default=0),
        last=max(on_disk, default=0),
        lost=[number for number in range(1, highest + 1) if number not in on_disk],
        repeated=sorted(
            {
                number
                for numbers in printed.values()
                for number, times in numbers.items()
                if times > 1
            }
        ),
        doubled=sorted(number for number, nodes in everywhere.items() if nodes > 1),
        boots=len({record.boot for record in records}),
        longest_pause=longest_pause(records),
    )


def longest_pause(records):
    """The longest time between two neighbouring records of one boot, in seconds.

    The guest's clock stands still while the guest does not run; its real-time clock goes on,
    in whole seconds. The lead of the latter is known to a record's distance wherever it ticks,
    so a jump of that lead is time that the guest did not see.
    """
    boots = [[*ones] for _, ones in groupby(records, key=attrgetter("boot"))]
    return round(
        max((pause(one, at) for one in boots for at in range(1, len(one))), default=0.0), 2
    )


def pause(records, at):
    """The time between records[at - 1] and records[at], of one boot, in seconds."""
    return records[at].stamp - records[at - 1].stamp + unseen(records, at)


def unseen(records, at):
    """The time before records[at] that the guest's clock missed, as far as it can be told."""
    before, after = records[max(0, at - WINDOW) : at], records[at : at + WINDOW]
    if len(before) < WINDOW or len(after) < WINDOW:
        return 0.0
    jump = lead(after) - lead(before)
    return jump if jump > CLOCK_NOISE else 0.0


def lead(records):
    return max(record.rtc - record.stamp for record in records)


def describe(judgement):
    """The judgement as lines for people."""
    lines = []
    for name, value in judgement.to_dict().items():
        if isinstance(value, list):
            value = shorten(value)
        elif name == "longest_pause":
            value = f"{value:.2f} s"
        elif name == "whole":
            value = "yes" if value else "NO"
        lines.append(f"{name.replace('_', ' '):14} {value}")
    return "\n".join(lines)


def shorten(numbers, most=10):
    if not numbers:
        return "none"
    text = ", ".join(map(str, numbers[:most]))
    return text if len(numbers) <= most else f"{text} ... ({len(numbers)} in all)"
