"""How a migration is cancelled, and the result."""

from __future__ import annotations

from dataclasses import dataclass

from saltext_kvmcluster.core.errors import InputError, WorldError
from saltext_kvmcluster.core.migration import migration
from saltext_kvmcluster.core.verdicts import IN_POST_COPY, OUTGOING, Observation

# Seconds for the process that runs a migration to end it itself.
COURTESY = 5.0


@dataclass(frozen=True)
class Ending:
    """How to end a migration now: ``ask`` the process that runs it, or ``abort`` it by libvirt."""

    ask: bool
    abort: bool


def ending(
    observation: Observation, watched: bool, waited: float, may_switch: bool
) -> Ending | None:
    """Return what to do now about a migration that is to end, None if it has ended.

    The process that runs it can report the reason, so it is asked first.

    observation
        The last observation of its source.
    watched
        Whether a process runs it.
    waited
        Seconds since its cancellation was requested.
    may_switch
        Whether it may switch to post-copy: only the process that runs it knows if it asked for
        that.
    """
    leaving = observation.job == OUTGOING
    if not watched and not leaving:
        return None
    late = waited >= COURTESY and not may_switch
    return Ending(ask=watched, abort=leaving and (late or not watched))


def refuse_to_cancel(guest: str, node: str, observation: Observation) -> None:
    """Raise WorldError if a guest's migration can no longer be cancelled."""
    if observation.sighting in IN_POST_COPY:
        raise WorldError(
            f"the migration of {guest} was not cancelled: it is in post-copy, its memory is on two"
            " nodes, and ending it would lose the guest; wait for its end; if it makes no progress:"
            f" kvmcluster.recover {guest}"
        )


def nothing_to_cancel(guest: str, here: str) -> InputError:
    """Return the error that says that no migration from here is there to be cancelled."""
    return InputError(
        f"no migration of {guest} from {here} is under way or queued; nothing was cancelled"
    )


def after_cancel(owner: str | None, here: str) -> str:
    """Return the result of a migration from here that was to be cancelled; it may be too late."""
    if owner is None:
        return migration.UNKNOWN
    return migration.NOT_MOVED if owner == here else migration.MOVED
