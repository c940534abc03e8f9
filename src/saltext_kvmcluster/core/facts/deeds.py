"""What a node's disk and libvirt tell of its migrations, beside its facts: for metrics and reports.

Each part is None where the node could not tell it: that is not the same as none.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from saltext_kvmcluster.core.cordons import is_time
from saltext_kvmcluster.core.migration import jobs, records, totals
from saltext_kvmcluster.core.migration.totals import Totals
from saltext_kvmcluster.core.untrusted import Reader

_UNSETTLED = ("guest", "uuid", "source", "destination", "stage")
_LONGEST_PATH = 4096


@dataclass(frozen=True)
class Deeds:
    """The migrations from a node, and whether its trust files are still as they were written.

    ``history``: those that ended, as ``kvmcluster.history`` has them, the newest last, as many as
    were asked for. ``totals``: the sums over all that ever ended. ``jobs``: those that are under
    way, as ``kvmcluster.job`` has them. ``unsettled``: those that were begun and are not known to
    be settled, as ``kvmcluster.unsettled`` has them. ``drifted``: paths of trust files.
    """

    history: tuple[dict[str, Any], ...] | None = None
    totals: Totals | None = None
    jobs: tuple[dict[str, Any], ...] | None = None
    unsettled: tuple[dict[str, Any], ...] | None = None
    drifted: tuple[str, ...] | None = None


def parse(sent: Reader) -> Deeds | None:
    """Return what a node sent of them, None if it sent nothing."""
    if sent.value is None:
        return None
    found = Reader(sent.value, lenient=True)
    rows = {key: _listed(found.at(key)) for key in ("history", "jobs", "unsettled", "drifted")}
    history, moving, unsettled, drifted = rows.values()
    return Deeds(
        None
        if history is None
        else tuple(records.chosen([one.value for one in history], None, records.MOST)),
        totals.parse(found.at("totals").value) if found.has("totals") else None,
        None if moving is None else tuple(jobs.merged({"": [one.value for one in moving]})),
        None if unsettled is None else tuple(row for row in map(_unsettled, unsettled) if row),
        None
        if drifted is None
        else tuple(one.line(default="", most=_LONGEST_PATH) for one in drifted),
    )


def _listed(sent: Reader) -> list[Reader] | None:
    return sent.items(optional=True) if isinstance(sent.value, list) else None


def _unsettled(sent: Reader) -> dict[str, Any] | None:
    row: dict[str, Any] = {key: sent.at(key).line(default=None) for key in _UNSETTLED}
    row["began"] = began = sent.at("began").line(default="")
    row["watched"] = sent.at("watched").flag(default=False)
    return row if is_time(began) and None not in row.values() else None
