"""What came of a command for one or several guests: a row for each, as its node reported it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from saltext_kvmcluster.core.ownership import locations, startup
from saltext_kvmcluster.core.text import printable
from saltext_kvmcluster.core.untrusted import Reader
from saltext_kvmcluster.core.verbs import targets
from saltext_kvmcluster.core.verbs.targets import Target

KIND = "acts"
REFUSED, UNKNOWN, FROZEN, NOT_FROZEN = "refused", "unknown", "frozen", "not_frozen"
REBOOTED = "rebooted"
_WISHED = {
    targets.START: (startup.STARTED, startup.RUNNING),
    targets.SHUTDOWN: (startup.STOPPED,),
    targets.REBOOT: (REBOOTED,),
    targets.FREEZE: (FROZEN,),
    targets.UNFREEZE: (NOT_FROZEN,),
}


@dataclass(frozen=True)
class Row:
    """What came of one guest. ``owner``: the node that has it, where that was observed."""

    guest: str
    node: str
    ok: bool
    result: str
    reason: str
    owner: str = ""
    warnings: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Return it as plain data."""
        return {
            "guest": printable(self.guest),
            "node": self.node,
            "ok": self.ok,
            "result": self.result,
            "reason": printable(self.reason),
            "owner": self.owner,
            "warnings": list(self.warnings),
        }


@dataclass(frozen=True)
class Acts:
    """What came of a command, or, with ``test``, what it would do.

    ``silent``: why nodes do not tell their guests, where there may be more that are meant.
    ``unmatched``: patterns that no guest matches. ``asks``: it was not carried out since nobody
    has agreed to so many guests.
    """

    verb: str
    cluster: str
    rows: tuple[Row, ...]
    test: bool = False
    asks: bool = False
    silent: Mapping[str, str] = field(default_factory=dict)
    unmatched: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Return it as plain data."""
        well = all(row.ok for row in self.rows)
        return {
            "kind": KIND,
            "verb": self.verb,
            "cluster": self.cluster,
            "ok": well and not (self.asks or self.silent or self.unmatched),
            "test": self.test,
            "asks": self.asks,
            "guests": [row.to_dict() for row in sorted(self.rows, key=lambda row: row.guest)],
            "silent": dict(self.silent),
            "unmatched": [printable(pattern) for pattern in self.unmatched],
        }


def planned(target: Target) -> Row:
    """Return what would be done with a guest."""
    if target.refusal:
        return refused(target)
    return Row(target.guest, target.node, True, "planned", target.state)


def refused(target: Target) -> Row:
    """Return that nothing is done with a guest, and why."""
    return Row(target.guest, target.node, False, REFUSED, target.refusal)


def not_awaited(target: Target, job: str, why: str) -> Row:
    """Return that it is not known what came of a guest, since nobody waited for it."""
    reason = f"{why}; it may go on: salt-run jobs.lookup_jid {job}"
    return Row(target.guest, target.node, False, UNKNOWN, reason)


def of_answer(verb: str, target: Target, answer: object) -> Row:
    """Return what came of a guest by what its node returned, which may be anything."""
    if not isinstance(answer, Mapping):
        heard = locations.silent(answer)
        if not heard.heard:
            reason = f"no response from {target.node}; to see: salt-run kvmcluster.status"
            return Row(target.guest, target.node, False, UNKNOWN, reason)
        why = heard.observation.detail
        if locations.is_broken(str(answer)):
            reason = f"{target.node} failed amid it: {why}; to see: salt-run kvmcluster.status"
            return Row(target.guest, target.node, False, UNKNOWN, reason)
        return Row(target.guest, target.node, False, REFUSED, why)
    sent = Reader(answer, lenient=True)
    if verb in (targets.FREEZE, targets.UNFREEZE):
        return _of_freeze(verb, target, sent)
    result = sent.at("result").line(default=UNKNOWN)
    warnings = [one.line(default="") for one in sent.at("warnings").items(optional=True)]
    return Row(
        target.guest,
        target.node,
        result in _WISHED[verb],
        result,
        sent.at("reason").line(default="unexpected response"),
        sent.at("owner").line(default=""),
        tuple(filter(None, warnings)),
    )


def _of_freeze(verb: str, target: Target, sent: Reader) -> Row:
    is_frozen = sent.at("frozen").flag(default=None)
    if is_frozen is None:
        return Row(target.guest, target.node, False, UNKNOWN, "unexpected response")
    result = FROZEN if is_frozen else NOT_FROZEN
    since, why = (sent.at(key).line(default="") for key in ("since", "reason"))
    before = "" if is_frozen else "it was frozen " if since else "it was not frozen"
    reason = f"{before}{f'since {since[:19]} UTC: {why}' if since else ''}"
    return Row(target.guest, target.node, result in _WISHED[verb], result, reason)


def refusals(found: Iterable[Target]) -> Sequence[Row]:
    """Return the rows of the guests with which nothing is done."""
    return [refused(one) for one in found if one.refusal]
