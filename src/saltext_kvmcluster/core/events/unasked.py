"""Which reactions are due although no event calls for them: an event may be lost."""

from __future__ import annotations

from collections.abc import Mapping
from fnmatch import fnmatch
from typing import TypeGuard

from saltext_kvmcluster.core.events import reactions
from saltext_kvmcluster.core.events.reactions import ALARM, RECOVER, RESTART, TRUST

# Seconds after which a reaction is due, the most urgent first: after a check that left nothing, and
# after one that left something to people. A crash counts for five minutes (``restarts.RECENT``).
AFTER: Mapping[str, tuple[float, float]] = {
    RESTART: (60.0, 60.0),
    RECOVER: (120.0, 600.0),
    ALARM: (600.0, 600.0),
    TRUST: (600.0, 3600.0),
}
# An SLS of ours, by the end of its path.
_FILE = "kvmcluster/reactor/{}.sls"


def configured(reactor: object) -> list[str]:
    """Return the reactions that a master's option ``reactor`` has, by their SLS files.

    reactor
        A list of ``{TAG: FILES}``; Salt passes over what is anything else.
    """
    entries = [one for one in reactor if isinstance(one, Mapping)] if _is_list(reactor) else []
    values = [value for one in entries for value in one.values()]
    files = [file for value in values for file in (value if _is_list(value) else [value])]
    ends = {_end(str(file)) for file in files}
    return [one for one in AFTER if any(fnmatch(_FILE.format(one), end) for end in ends)]


def is_due(reaction: str, seconds: float, needed: str) -> bool:
    """Whether a reaction is due although no event calls for it.

    seconds
        How long ago it began or ended last; negative after a clock was set back.
    needed
        What it left to people then, empty if nothing.
    """
    nothing_left, something_left = AFTER[reaction]
    return not 0 <= seconds < (something_left if needed else nothing_left)


def urgency(key: str) -> int:
    """Return the place of a reaction's key among those that wait."""
    found = reactions.parts(key)
    return [*AFTER].index(found[1]) if found else len(AFTER)


def _end(file: str) -> str:
    """Return as much of a path, which may be a pattern, as names an SLS of ours."""
    return "/".join(file.split("/")[-_FILE.count("/") - 1 :])


def _is_list(value: object) -> TypeGuard[list[object]]:
    return isinstance(value, list)
