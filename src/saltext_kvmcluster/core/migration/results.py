"""What became of a migration, judged by the observations of both ends, not by libvirt's return."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from saltext_kvmcluster.core import verdicts
from saltext_kvmcluster.core.findings import Finding
from saltext_kvmcluster.core.migration.migration import MOVED, NOT_MOVED, UNKNOWN, Move
from saltext_kvmcluster.core.migration.plans import Plan
from saltext_kvmcluster.core.untrusted import Reader
from saltext_kvmcluster.core.verdicts import Observation, Owner, Sighting, Verdict


@dataclass(frozen=True)
class Step:
    """Something that was done to settle a migration; ``detail`` is why it failed."""

    step: str
    node: str
    ok: bool
    detail: str = ""

    def __str__(self) -> str:
        return ": ".join(filter(None, (self.node, self.step, self.detail)))


@dataclass(frozen=True)
class MigrationResult:
    """What became of a migration; see ``kvmcluster.migrate`` for what its fields mean."""

    guest: str
    uuid: str
    source: str
    destination: str
    owner: str | None
    result: str
    reason: str
    findings: tuple[Finding, ...] = ()
    started: str = ""
    elapsed: float = 0.0
    downtime_ms: int | None = None
    memory_bytes: int | None = None
    iterations: int | None = None
    afterwards: tuple[Step, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Return it as data."""
        return {
            "kind": "migration",
            **self.record(),
            "findings": [finding.to_dict() for finding in self.findings],
            "afterwards": [asdict(step) for step in self.afterwards],
        }

    def record(self) -> dict[str, Any]:
        """Return what the history keeps of it."""
        left_out = ("findings", "afterwards")
        return {key: value for key, value in vars(self).items() if key not in left_out}


RESULTS = {Owner.DESTINATION: MOVED, Owner.SOURCE: NOT_MOVED}


@dataclass(frozen=True)
class Statistics:
    """What libvirt measured of a completed migration; None if not reported."""

    downtime_ms: int | None = None
    memory_bytes: int | None = None
    iterations: int | None = None


def result(
    move: Move,
    plan: Plan,
    judged: Verdict,
    observations: tuple[Observation, Observation],
    measured: Statistics,
    detail: str,
    ending: str = "",
    paused: bool = False,
) -> MigrationResult:
    """Return what became of a migration, less findings, times and what was done afterwards.

    observations
        The last ones of the source and of the destination.
    detail
        libvirt's error if its call failed. It explains; it decides nothing.
    ending
        Why it was to be ended, empty if it was not.
    paused
        Whether something else than the migration paused the guest meanwhile.
    """
    found = RESULTS.get(judged.owner, UNKNOWN)
    owners = {Owner.SOURCE: move.source, Owner.DESTINATION: move.destination}
    measured = measured if found == MOVED else Statistics()
    return MigrationResult(
        guest=move.guest,
        uuid=move.uuid,
        source=move.source,
        destination=move.destination,
        owner=owners.get(judged.owner),
        result=found,
        reason="; ".join(
            [
                judged.sentence,
                *_why_ended(found, ending),
                *_was_paused(move, owners.get(judged.owner), paused),
                *_remarks(move, plan, found, observations),
                *_errors(found, detail),
            ]
        ),
        downtime_ms=measured.downtime_ms,
        memory_bytes=measured.memory_bytes,
        iterations=measured.iterations,
    )


def verdict(
    move: Move,
    observations: tuple[Observation, Observation],
    returned: bool,
    steady: bool,
    ruled: Verdict | None = None,
) -> Verdict:
    """Return the owner by the last observations of source and destination.

    returned
        Whether libvirt's call had returned before those observations.
    steady
        Whether the source was the same before and after the destination was observed.
    ruled
        The verdict by the rules of a strict handover, if they apply.
    """
    if not returned:
        return Verdict(Owner.UNKNOWN, f"libvirt on {move.source} has not ended the migration")
    nodes = (move.source, move.destination)
    jobs = [
        f"{observation.job} on {node}"
        for node, observation in zip(nodes, observations, strict=True)
        if observation.job
    ]
    if jobs:
        return Verdict(Owner.UNKNOWN, f"still in progress: {' and '.join(jobs)}; check again later")
    if not steady:
        return Verdict(Owner.UNKNOWN, f"its state on {move.source} changed during the check")
    judged = ruled or verdicts.judge(observations[0].sighting, observations[1].sighting, *nodes)
    silent = [observation.detail for observation in observations if observation.detail]
    return Verdict(judged.owner, "; ".join([judged.sentence, *silent]))


def statistics(job: Mapping[str, Any]) -> Statistics:
    """Return what libvirt's completed job reports of a migration."""
    reported = Reader(job, lenient=True)
    return Statistics(
        reported.at("downtime").whole(default=None),
        reported.at("memory_processed").whole(default=None),
        reported.at("memory_iteration").whole(default=None),
    )


def _remarks(
    move: Move, plan: Plan, found: str, observations: tuple[Observation, Observation]
) -> list[str]:
    """Return where the definitions are not as they should be after a guest has moved."""
    if found != MOVED:
        return []
    remarks = []
    if "PERSIST_DEST" in plan.flags and not observations[1].persistent:
        remarks.append(f"but {move.destination} keeps no definition of it")
    if "UNDEFINE_SOURCE" in plan.flags and observations[0].sighting is Sighting.SHUT_OFF:
        remarks.append(f"but {move.source} still has a definition of it")
    return remarks


def _why_ended(found: str, ending: str) -> list[str]:
    if not ending:
        return []
    return [f"it had moved before it could be ended ({ending})" if found == MOVED else ending]


def _was_paused(move: Move, owner: str | None, paused: bool) -> list[str]:
    if not paused:
        return []
    again = f"; if it is to stand still, on {owner}: virsh suspend {move.guest}" if owner else ""
    return [
        f"it was paused on {move.source} while its memory was copied (virsh suspend), which does"
        f" not last beyond the migration{again}"
    ]


def _errors(found: str, detail: str) -> list[str]:
    if not detail:
        return []
    return [f"although libvirt reported: {detail}" if found == MOVED else f"libvirt: {detail}"]
