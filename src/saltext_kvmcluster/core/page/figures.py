"""Figures as people read them, with their units; a dash for what is not known."""

from __future__ import annotations

from datetime import datetime, timezone

NONE = "–"
_MINUTE, _HOUR, _DAY = 60, 3600, 86400


def memory(kib: float | None) -> str:
    """Return a number of KiB in the unit in which it is short."""
    if kib is None:
        return NONE
    for unit in ("KiB", "MiB", "GiB"):
        if kib < 1000:
            return f"{_short(kib)} {unit}"
        kib /= 1024
    return f"{_short(kib)} TiB"


def seconds(number: float | None) -> str:
    """Return a duration, as exactly as it matters at its length."""
    if number is None:
        return NONE
    if round(number, 1) < _MINUTE:
        return f"{number:.1f} s" if number != int(number) else f"{number:.0f} s"
    whole = round(number)
    if whole < _HOUR:
        return f"{whole // _MINUTE} min {whole % _MINUTE} s"
    if whole < _DAY:
        return f"{whole // _HOUR} h {whole % _HOUR // _MINUTE} min"
    return f"{whole // _DAY} d {whole % _DAY // _HOUR} h"


def milliseconds(number: float | None) -> str:
    if number is None:
        return NONE
    return f"{number:.0f} ms" if number < 10000 else seconds(number / 1000)


def moment(text: str) -> datetime | None:
    """Return a time in ISO 8601 with a zone as UTC; None if it is none."""
    try:
        found = datetime.fromisoformat(text.replace("Z", "+00:00"))
        return found.astimezone(timezone.utc) if found.tzinfo else None
    except (ValueError, OverflowError):
        return None


def at(text: str) -> str:
    """Return a time for people, or the text itself if it is none."""
    found = moment(text)
    return f"{found:%Y-%m-%d %H:%M:%S} UTC" if found else text


def percent(part: float, whole: float) -> int:
    """Return a share as a whole number from 0 to 100."""
    return round(100 * min(1.0, max(0.0, part / whole))) if whole > 0 else 0


def _short(number: float) -> str:
    return f"{number:.0f}" if number >= 100 else f"{number:.1f}".removesuffix(".0")
