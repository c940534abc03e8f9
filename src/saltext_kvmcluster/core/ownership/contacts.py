"""When nodes were up, by what another node keeps of them: migrations that ended, and starts.

A start claims every node (host/claims.py): the file stays, with the name of the node that started.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from datetime import datetime, timezone
from typing import NamedTuple

from saltext_kvmcluster.core.migration import records

_LATEST = 253402300800.0
"""The seconds of the year 10000, which no datetime has."""
_CLAIM = re.compile(r"^(\d{1,12}(?:\.\d{1,12})?) (\S.{0,299})$", re.M | re.ASCII)


class Contact(NamedTuple):
    """A node that was up at a moment, by the clock of the node that noted it."""

    node: str
    moment: datetime


def of_history(text: str) -> list[Contact]:
    """Return the ends of the migrations in a node's history, when these began."""
    rows = records.chosen(_rows(text), None, records.MOST)
    # A node that was declared offline was not up, and a fenced one not afterwards.
    away = (records.BY_WORD, records.BY_WORD_UNSEEN, *records.TESTS)
    ends = (
        (row[end], row["started"])
        for row in rows
        for end in ("source", "destination")
        if row[end] != records.NOTHING and (end == "destination" or row["result"] not in away)
    )
    return [Contact(node, moment) for node, text in ends for moment in _moments(text)]


def of_claims(text: str) -> list[Contact]:
    """Return who claimed a node for a start, and when: a line each, seconds and name."""
    return [
        Contact(name.strip(), datetime.fromtimestamp(float(seconds), timezone.utc))
        for seconds, name in _CLAIM.findall(text)
        if float(seconds) < _LATEST
    ]


def at(node: str, text: str) -> list[Contact]:
    """Return the contact with a node at a time in ISO 8601; empty if it is none."""
    return [Contact(node, moment) for moment in _moments(text)]


def _rows(text: str) -> Iterator[object]:
    for line in text.splitlines():
        try:
            yield json.loads(line)
        except (ValueError, RecursionError):
            continue


def _moments(text: str) -> Iterator[datetime]:
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        return
    if found.tzinfo:
        yield found
