"""When the load is balanced by a schedule, and how far: what the pillar says of it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, time, timedelta
from typing import Any

from saltext_kvmcluster.core import validate
from saltext_kvmcluster.core.errors import InputError
from saltext_kvmcluster.core.pillar.schema import described, keys_of
from saltext_kvmcluster.core.text import MAX_NAMES, listed
from saltext_kvmcluster.core.validate import LIST, one_of, shown, suggestion, whole

OFF, PROPOSE, APPLY = "off", "propose", "apply"
MODES = (OFF, PROPOSE, APPLY)
DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
LONGEST, MOST_HOURLY = 86400, 1000
SHARE = "a number above 0 and at most {most:g}"
MOST_THRESHOLD, MOST_IMPROVEMENT = 10.0, 1.0
_SPAN = re.compile(r"([01][0-9]|2[0-3]):([0-5][0-9])-([01][0-9]|2[0-4]):([0-5][0-9])\Z")

Span = tuple[time, time]


@dataclass(frozen=True)
class Balance:
    """When ``kvmcluster.balance scheduled=True`` acts (pillar ``kvmcluster:balance``).

    ``hours`` are pairs of a beginning and an end, which may be on the next day.
    """

    mode: str = field(
        default=OFF,
        metadata=described(
            one_of(MODES),
            "What a call by schedule does where it is due. off: nothing. propose: it fires an event"
            " with the plan, and logs it. apply: it carries the plan out.",
        ),
    )
    threshold: float = field(
        default=0.3,
        metadata=described(
            SHARE.format(most=MOST_THRESHOLD),
            "The imbalance above which it is due: the standard deviation of the nodes' loads,"
            " divided by their mean. Groups that are broken are due at any load.",
        ),
    )
    lasts: int = field(
        default=900,
        metadata=described(
            whole(0, LONGEST, "seconds"),
            "Seconds for which that has to last, by every look in between; looks that are more"
            " than an hour apart do not count as one time.",
        ),
    )
    improvement: float = field(
        default=0.1,
        metadata=described(
            SHARE.format(most=MOST_IMPROVEMENT),
            "The least share of the imbalance that each move has to take away. Moves that mend"
            " groups need not.",
        ),
    )
    hourly: int = field(
        default=4,
        metadata=described(whole(1, MOST_HOURLY), "The most moves that it makes within an hour."),
    )
    days: tuple[str, ...] = field(
        default=(),
        metadata=described(
            LIST, f"The days on which it acts: {', '.join(DAYS)}, by the master's clock.", "all"
        ),
    )
    hours: tuple[Span, ...] = field(
        default=(),
        metadata=described(
            LIST,
            "The times of day in which it begins moves, each as '22:00-06:00', by the master's"
            " clock. What goes over midnight belongs to the day on which it begins.",
            "all day",
        ),
    )

    def allows(self, now: datetime) -> bool:
        """Whether moves may begin at a time, given in the master's own time zone."""
        return any(
            self._day(day) and begin <= now < end
            for day in (now - timedelta(days=1), now)
            for begin, end in self._spans(day)
        )

    def _day(self, day: datetime) -> bool:
        return not self.days or DAYS[day.weekday()] in self.days

    def _spans(self, day: datetime) -> list[tuple[datetime, datetime]]:
        midnight = day.replace(hour=0, minute=0, second=0, microsecond=0)
        found = []
        for begin, end in self.hours or ((time(), time()),):
            first = midnight.replace(hour=begin.hour, minute=begin.minute)
            last = midnight.replace(hour=end.hour, minute=end.minute)
            found.append((first, last if last > first else last + timedelta(days=1)))
        return found


def parse(raw: object, path: str) -> Balance:
    """Return what the pillar says; ``raw`` is the value of the key at ``path``."""
    fields = validate.section(raw, path, keys_of(Balance), may_be_empty=True)
    if fields.get("mode") is False:  # What YAML makes of: off.
        fields = {**fields, "mode": OFF}
    return Balance(
        validate.choice(fields, "mode", path, MODES, Balance.mode),
        _share(fields, "threshold", path, MOST_THRESHOLD, Balance.threshold),
        validate.number(fields, "lasts", path, (0, LONGEST), Balance.lasts, "seconds"),
        _share(fields, "improvement", path, MOST_IMPROVEMENT, Balance.improvement),
        validate.number(fields, "hourly", path, (1, MOST_HOURLY), Balance.hourly),
        tuple(_day(one, f"{path}:days") for one in validate.items(fields, "days", path)),
        tuple(_span(one, f"{path}:hours") for one in validate.items(fields, "hours", path)),
    )


def _share(fields: Mapping[str, Any], key: str, path: str, most: float, default: float) -> float:
    value = fields.get(key, default)
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value <= most:
        raise InputError(f"{path}:{key}: want {SHARE.format(most=most)}, got {shown(value)}")
    return float(value)


def _day(value: object, path: str) -> str:
    if isinstance(value, str) and value.lower() in DAYS:
        return value.lower()
    raise InputError(
        f"{path}: want days as {listed(DAYS, MAX_NAMES)}, got {shown(value)}"
        f"{suggestion(value, DAYS)}"
    )


def _span(value: object, path: str) -> Span:
    found = _SPAN.match(value) if isinstance(value, str) else None
    if found is None or (found[3] == "24" and found[4] != "00"):
        raise InputError(f"{path}: want times of day as '22:00-06:00', got {shown(value)}")
    begin = time(int(found[1]), int(found[2]))
    end = time(int(found[3]) % 24, int(found[4]))
    if begin == end and found[3] != "24":
        raise InputError(f"{path}: {value} begins when it ends; for all day leave it out")
    return begin, end
