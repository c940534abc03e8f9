"""One migration as values: what it is refused for, how libvirt is to do it, what came of it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from saltext_kvmcluster.core import xmltext
from saltext_kvmcluster.core.errors import AtWork, InputError, WorldError
from saltext_kvmcluster.core.findings import PROBLEM, SEE, Finding, sentences
from saltext_kvmcluster.core.holders import Holder
from saltext_kvmcluster.core.migration import pacing
from saltext_kvmcluster.core.migration.pacing import GiveUp, Pace, Step
from saltext_kvmcluster.core.migration.progress import COPYING, POST_COPY, Progress
from saltext_kvmcluster.core.pillar.clusters import Cluster, Node
from saltext_kvmcluster.core.pillar.options import Options
from saltext_kvmcluster.core.verdicts import Observation, Sighting

MOVED, NOT_MOVED, UNKNOWN = "moved", "not_moved", "unknown"
CANCELLED = "cancelled: "
"""The prefix of the reason of what was cancelled; who cancelled it follows."""

# QEMU before this version cannot send a guest that has not run since it arrived: it dies of that
# (bdrv_inactivate_recurse: Assertion `!(bs->open_flags & BDRV_O_INACTIVE)').
SENDS_PAUSED_TWICE = 10_000_000
UNRUN = (
    "paused and has not run since; QEMU before 10 would die of another migration, and the guest"
    " with it"
)

# The rate at which memory is sent swings: so many times what can be sent within the downtime is
# certainly more than that.
SURELY = 3

MOVABLE = (Sighting.RUNNING, Sighting.PAUSED_BY_USER)


@dataclass(frozen=True)
class Host:
    """A host's identity by its libvirt."""

    uuid: str
    name: str


@dataclass(frozen=True)
class Move:
    """Which guest is to go from where to where."""

    guest: str
    uuid: str
    source: str
    destination: str


@dataclass(frozen=True)
class Run:
    """The run of a paused guest's QEMU.

    ``stands_since_arrival``: it arrived by a migration and has not run since. ``qemu``: the version
    of that process as a number, 7002000 for 7.2; 0 for one that did not arrive by a migration.
    """

    stands_since_arrival: bool = False
    qemu: int = 0

    @property
    def dies_of_another(self) -> bool:
        """Whether its QEMU would die of another migration before it runs."""
        return self.stands_since_arrival and self.qemu < SENDS_PAUSED_TWICE


@dataclass(frozen=True)
class Snapshot:
    """One observation of a migration that was begun.

    ``at``: seconds of the observer's monotonic clock. ``ended``: libvirt's call has returned.
    ``answered``: the source's daemon responded. ``progress``: None where it reported no job.
    ``stands``: the guest is paused there for the migration. ``cancel``: who requested its
    cancellation, as text; empty if nobody did.
    """

    at: float
    ended: bool
    answered: bool
    progress: Progress | None
    stands: bool = False
    cancel: str = ""


@dataclass(frozen=True)
class Watch:
    """What is kept of a migration between two observations.

    ``spoke``: when the source's daemon responded last. ``stood``: when the guest was first observed
    stopped, None if it runs. ``ending``, ``since``: why it is to be ended, and since when; empty
    and None if it is not. ``paused``: something else than the migration paused the guest.
    """

    began: float
    spoke: float
    pace: Pace
    stood: float | None = None
    ending: str = ""
    since: float | None = None
    paused: bool = False


@dataclass(frozen=True)
class Abort:
    """Have libvirt end the migration; the guest goes on at the source."""


@dataclass(frozen=True)
class Judge:
    """Watch no longer; observe both sides."""


Act = Step | Abort | Judge


def wanted(
    cluster: Cluster, here: str | None, guest: object, destination: object
) -> tuple[str | None, str | None]:
    """Return the guest and the destination in question, None for all; InputError as `target`.

    here
        The node whose guests are in question, None for those of all nodes.
    """
    return (
        None if guest is None else named(guest, "guest"),
        None if destination is None else target(cluster, here, destination).id,
    )


def target(cluster: Cluster, here: str | None, destination: object) -> Node:
    """Return the node to migrate to; InputError if the request makes no sense by itself."""
    node = cluster.node(named(destination, "destination"))
    if node.id == here:
        raise InputError(f"destination: {here} is this node itself; name one of its peers")
    return node


def named(value: object, argument: str) -> str:
    """Return an argument that may be a name; InputError if it is none."""
    if not isinstance(value, str) or not value:
        raise InputError(
            f"{argument}: want a name, got {value!r}; a number needs two pairs of quotes"
        )
    if not value.isprintable():
        raise InputError(
            f"{argument}: {value!r} has an unprintable character, which no name may have"
        )
    return value


def no_such_guest(guest: str, here: str) -> InputError:
    """Return the error that says that a node lacks a guest, and how to list those that it has.

    No other guest is named: the next command may stop or move it.
    """
    return InputError(
        f"{here} has no guest {guest}; to list its guests: salt {here} kvmcluster.guests; those of"
        " all nodes: salt-run kvmcluster.status"
    )


def refuse_unless_movable(move: Move, observation: Observation) -> None:
    """Raise WorldError if a guest may no longer be moved, though the checks allowed it."""
    if observation.sighting not in MOVABLE or observation.job:
        state = observation.job or observation.sighting.value
        raise WorldError(
            f"{move.guest} was not migrated to {move.destination}: on {move.source} it is now"
            f" {state}"
        )


def refuse_risk(move: Move, risk: tuple[str, str] | None) -> None:
    """Raise WorldError if a migration may run its guest twice; see ``handover.risk``."""
    if risk:
        raise _refusal(move, [Finding("guest.handover", PROBLEM, *risk)])


def refuse_if_it_stands_since_arrival(move: Move, run: Run) -> None:
    """Raise WorldError if QEMU would die of another migration of a paused guest."""
    if run.dies_of_another:
        raise WorldError(
            f"{move.guest} was not migrated to {move.destination}: it arrived on {move.source}"
            f" {UNRUN}; resume it first, on {move.source}: virsh resume {move.guest}"
        )


def refuse_if_blocked(move: Move, findings: Iterable[Finding]) -> None:
    """Raise the WorldError that names every finding that forbids a migration, if there is one.

    What is not known because of another finding is left out.
    """
    refused = [finding for finding in findings if finding.blocks]
    if refused:
        causes = [finding for finding in refused if not finding.remedy.startswith(SEE)]
        raise _refusal(move, causes or refused)


def at_work(move: Move, holder: Holder) -> AtWork:
    """Return the error of a second call while the first one is at work."""
    at_work = Finding(
        "guest.blockers",
        PROBLEM,
        f"another kvmcluster command is at work on {move.guest} on {move.source}: {holder.detail}",
        holder.remedy,
    )
    return AtWork(str(_refusal(move, [at_work])), str(holder))


def act(
    watch: Watch, observed: Snapshot, options: Options, patience: float
) -> tuple[Watch, Act | None]:
    """Return what to keep of a migration, and what to do about it now; None for nothing.

    patience
        Seconds to wait for a daemon that does not respond, and for one that is to end it:
        libvirt's call does not return while the destination's QEMU stands still.
    """
    if observed.ended:
        return watch, Judge()
    if not observed.answered:
        return watch, Judge() if observed.at - watch.spoke >= patience else None
    stood = (observed.at if watch.stood is None else watch.stood) if observed.stands else None
    paused = watch.paused or (options.live and _paused_by_another(watch, observed))
    watch = replace(watch, spoke=observed.at, stood=stood, paused=paused)
    watch, step = _paced(watch, observed, options)
    if observed.progress and observed.progress.phase == POST_COPY:
        # To end it now would lose the guest: its memory is on both sides.
        return watch, Judge() if pacing.broken(watch.pace, observed.progress) else None
    if isinstance(step, GiveUp):
        watch = _ending(watch, observed, step.reason)
    elif (
        observed.cancel and watch.pace.asked is None
    ):  # Post-copy that was asked for may have begun.
        watch = _ending(watch, observed, f"{CANCELLED}{observed.cancel}")
    if watch.since is None:
        return watch, step
    return watch, Judge() if observed.at - watch.since >= patience else Abort()


def downtime_ms(watch: Watch, observed: Snapshot) -> int | None:
    """Return for how long the guest has stood still so far, None if that is not known.

    In post-copy it runs at the destination, which was not observed.
    """
    if observed.progress is None or observed.progress.phase == POST_COPY:
        return None
    return 0 if watch.stood is None else round(1000 * (observed.at - watch.stood))


def _paused_by_another(watch: Watch, observed: Snapshot) -> bool:
    """Whether the guest stands though QEMU would not have stopped it yet for the switch.

    QEMU stops it once what is left can be sent within the downtime that it is allowed (migration.c,
    migration_iteration_run). libvirt gives the same reason for the pause either way.
    """
    found = observed.progress
    if not observed.stands or found is None or found.phase != COPYING or not found.rate:
        return False
    allowed = max(watch.pace.downtime, pacing.FIRST_DOWNTIME) / 1000
    return found.remaining > SURELY * found.rate * allowed


def _paced(watch: Watch, observed: Snapshot, options: Options) -> tuple[Watch, Step | None]:
    if observed.progress:
        known, step = pacing.pace(watch.pace, observed.progress, options)
        return replace(watch, pace=known), step
    if observed.at - watch.began < options.timeout:
        return watch, None
    why = f"libvirt reported no progress within the timeout of {options.timeout:g} s"
    return watch, GiveUp(why)


def _ending(watch: Watch, observed: Snapshot, why: str) -> Watch:
    """Note that it is to end; the first reason stands."""
    return watch if watch.since is not None else replace(watch, ending=why, since=observed.at)


def host_uuid(capabilities: str) -> str:
    """Return the host's UUID from libvirt's capabilities, empty if they lack it."""
    try:
        return (xmltext.parse_xml(capabilities).findtext("host/uuid") or "").strip()
    except InputError:
        return ""


def _refusal(move: Move, findings: Sequence[Finding]) -> WorldError:
    return WorldError(f"{move.guest} was not migrated to {move.destination}: {sentences(findings)}")
