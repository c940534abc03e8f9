"""Migrations as a plot: from which node to which, how long each took, how long its guest stood.

One axis of time for all three. What happened close together is kept apart, and long pauses are
shortened: they are shown as breaks, with their length.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from datetime import datetime
from itertools import pairwise
from statistics import median
from typing import Any

from saltext_kvmcluster.core.migration.migration import MOVED, NOT_MOVED
from saltext_kvmcluster.core.page import figures

MOST = 60
"""Migrations that are drawn, the last ones."""
MOST_LANES = 60
WIDTH, LEFT, RIGHT = 960, 116, 12
TOP, PANEL, GAP = 26, 96, 34
LANE, NARROW, MANY = 24, 14, 16
"""How far lanes are apart, where there are more than so many, too; then only nodes that moved."""
CLOSEST, FARTHEST = 0.6, 2.5
"""How far two are apart at least and at most, as multiples of the median."""
BREAK = 8.0
LABELS = 7
Record = Mapping[str, Any]


def of(records: Sequence[Record], nodes: Sequence[str]) -> dict[str, Any] | None:
    """Return what is drawn of the last migrations between nodes; None if there is nothing."""
    known = set(nodes)
    drawn = [
        one
        for one in records
        if one["source"] in known and one["destination"] in known and figures.moment(one["started"])
    ][-MOST:]
    named = {one[key] for one in drawn for key in ("source", "destination")}
    lanes = [node for node in nodes if node in named or len(nodes) <= MANY][:MOST_LANES]
    drawn = [one for one in drawn if {one["source"], one["destination"]} <= set(lanes)]
    if not drawn:
        return None
    times = [moment for one in drawn if (moment := figures.moment(one["started"]))]
    places, breaks = _places(times)
    return _drawing(drawn, times, places, breaks, lanes)


def _drawing(
    drawn: Sequence[Record],
    times: Sequence[datetime],
    places: Sequence[float],
    breaks: Sequence[tuple[float, str]],
    lanes: Sequence[str],
) -> dict[str, Any]:
    lane = LANE if len(lanes) <= MANY else NARROW
    heights = {node: TOP + lane * (number + 0.5) for number, node in enumerate(lanes)}
    below = TOP + lane * len(lanes)
    durations = _panel(drawn, places, "elapsed", below + GAP, figures.seconds)
    downtimes = _panel(drawn, places, "downtime_ms", below + 2 * GAP + PANEL, figures.milliseconds)
    bottom = below + 2 * (GAP + PANEL)
    return {
        "width": WIDTH,
        "height": bottom + 36,
        "left": LEFT,
        "right": WIDTH - RIGHT,
        "top": TOP,
        "bottom": bottom,
        "lanes": [{"name": node, "y": y} for node, y in heights.items()],
        "marks": [
            {
                "x": round(x, 1),
                "from": heights[one["source"]],
                "to": heights[one["destination"]],
                "points": _arrow(x, heights[one["source"]], heights[one["destination"]]),
                "number": one["number"],
                "result": one["result"],
                "moved": one["result"] == MOVED,
                "stayed": one["result"] == NOT_MOVED,
                "title": _title(one),
            }
            for one, x in zip(drawn, places, strict=True)
        ],
        "panels": [
            {**durations, "name": "Duration", "unit": "whole migration"},
            {**downtimes, "name": "Downtime", "unit": "guest stood still"},
        ],
        "breaks": [{"x": round(x, 1), "text": text} for x, text in breaks],
        "ticks": _ticks(times, places),
        "count": len(drawn),
        "first": figures.at(times[0].isoformat()),
        "last": figures.at(times[-1].isoformat()),
    }


def _places(times: Sequence[datetime]) -> tuple[list[float], list[tuple[float, str]]]:
    """Return where each time is on the axis, and the pauses that are shortened."""
    pauses = [max(0.0, (later - sooner).total_seconds()) for sooner, later in pairwise(times)]
    usual = (median(pauses) if pauses else 0.0) or 1.0
    steps = [min(FARTHEST, max(CLOSEST, pause / usual)) for pause in pauses]
    one = (WIDTH - RIGHT - LEFT) / (sum(steps) + 1)
    places = [LEFT + one / 2]
    for step in steps:
        places.append(places[-1] + one * step)
    breaks = [
        ((places[number] + places[number + 1]) / 2, figures.seconds(pause))
        for number, pause in enumerate(pauses)
        if pause > BREAK * usual
    ]
    return places, breaks


def _panel(
    drawn: Sequence[Record], places: Sequence[float], key: str, top: float, form: Any
) -> dict[str, Any]:
    """Return columns of one figure over the axis of time, with a line at each round value."""
    greatest = max(1.0, *(one[key] or 0.0 for one in drawn))
    step = _round_step(greatest)
    highest = step * math.ceil(greatest / step)
    closest = min((later - sooner for sooner, later in pairwise(places)), default=40.0)
    width = round(min(14.0, 0.7 * closest), 1)
    columns = [
        {
            "x": round(x - width / 2, 1),
            "width": width,
            "y": round(top + PANEL * (1 - one[key] / highest), 1),
            "height": max(1.0, round(PANEL * one[key] / highest, 1)),
            "moved": one["result"] == MOVED,
            "title": _title(one),
        }
        for one, x in zip(drawn, places, strict=True)
        if one[key] is not None
    ]
    lines = [
        {"y": round(top + PANEL * (1 - number * step / highest), 1), "text": form(number * step)}
        for number in range(round(highest / step) + 1)
    ]
    return {"top": top, "bottom": top + PANEL, "columns": columns, "lines": lines}


def _round_step(greatest: float) -> float:
    """Return a round value of which two to four make the axis."""
    base = 10.0 ** math.floor(math.log10(greatest))
    return next(step for step in (base / 2, base, 2 * base, 5 * base) if greatest / step <= 4)


def _ticks(times: Sequence[datetime], places: Sequence[float]) -> list[dict[str, Any]]:
    every = math.ceil(len(times) / LABELS)
    ticks: list[dict[str, Any]] = []
    day = ""
    for number in range(0, len(times), every):
        this = f"{times[number]:%Y-%m-%d}"
        ticks.append(
            {
                "x": round(places[number], 1),
                "time": f"{times[number]:%H:%M:%S}",
                "day": "" if this == day else this,
            }
        )
        day = this
    return ticks


def _arrow(x: float, start: float, end: float) -> str:
    """Return the corners of an arrow's head at its end."""
    back = end + (9 if start > end else -9)
    return f"{x:.1f},{end:.1f} {x - 5:.1f},{back:.1f} {x + 5:.1f},{back:.1f}"


def _title(record: Record) -> str:
    return (
        f"#{record['number']} {record['guest']}: {record['source']} → {record['destination']},"
        f" {record['result'].replace('_', ' ')}, {figures.seconds(record['elapsed'])}, downtime"
        f" {figures.milliseconds(record['downtime_ms'])}"
    )
