"""How a migration is ended that somebody wants cancelled, and what came of that."""

from __future__ import annotations

from dataclasses import dataclass

from saltext_kvmcluster.core.errors import InputError, WorldError
from saltext_kvmcluster.core.migration import migration
from saltext_kvmcluster.core.verdicts import IN_POST_COPY, OUTGOING, Observation

# Seconds for whoever watches over a migration to end it by himself.
COURTESY = 5.0


@dataclass(frozen=True)
class Ending:
    """How a migration is to end now: ``ask`` who watches over it, or have libvirt ``abort`` it."""

    ask: bool
    abort: bool


def ending(
    observation: Observation, watched: bool, waited: float, may_switch: bool
) -> Ending | None:
    """Return what to do now about a migration that is to end, None if it has ended.

    Whoever watches over it knows the reason then, and says it; so it is left to him at first.

    look
        The last look at its source.
    watched
        Whether somebody watches over it.
    waited
        For how many seconds it has been wanted to end.
    may_switch
        Whether it may switch to post-copy: that it was told to, only who told it knows.
    """
    leaving = observation.job == OUTGOING
    if not watched and not leaving:
        return None
    late = waited >= COURTESY and not may_switch
    return Ending(ask=watched, abort=leaving and (late or not watched))


def refuse_to_cancel(guest: str, node: str, observation: Observation) -> None:
    """Raise WorldError if a guest's migration cannot be ended any more."""
    if observation.sighting in IN_POST_COPY:
        raise WorldError(
            f"the migration of {guest} was not cancelled: it is in post-copy, its memory is on two"
            " nodes, and to end it would lose the guest; wait for its end; if it stands still:"
            f" kvmcluster.recover {guest}"
        )


def nothing_to_cancel(guest: str, here: str) -> InputError:
    """Return the error that says that no migration from here is there to be cancelled."""
    return InputError(
        f"no migration of {guest} from {here} is under way or waits for its turn; nothing was"
        " cancelled"
    )


def after_cancel(owner: str | None, here: str) -> str:
    """Return the result of a migration from here that was to be cancelled; it may be too late."""
    if owner is None:
        return migration.UNKNOWN
    return migration.NOT_MOVED if owner == here else migration.MOVED
