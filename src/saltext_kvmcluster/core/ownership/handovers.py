"""Whose a guest is after a handover that was interrupted, and what completes it.

What is certain of a strict one rests on one rule: the copy is resumed only on proof that the
source's run is over. So as long as the source's QEMU is there, the copy has not run; and once it is
gone, something has to say how it ended: a source that went on after a lost answer, and then lost
its power, is gone too.

Where libvirt itself starts the copy, a lost answer counts as "not started" there
(qemuMigrationSrcPerformPeer2Peer3), and it lets the source go on: so a copy that has disappeared
may have run.
"""

from __future__ import annotations

from dataclasses import dataclass

from saltext_kvmcluster.core.migration.journal import ENDED, FAILED, OVER, RUNS, Entry
from saltext_kvmcluster.core.ownership.cases import Action, Do
from saltext_kvmcluster.core.verdicts import (
    CANCELED,
    OFF,
    UNPAUSED,
    WAITING_HALVES,
    Observation,
    Owner,
    Sighting,
    Verdict,
)

# The source is there, and stands still: it cannot have run since the switch.
STOPPED = (Sighting.PAUSED_FOR_MIGRATION, Sighting.PAUSED_BY_ERROR)
ALIVE = (Sighting.RUNNING, Sighting.PAUSED_BY_USER, *STOPPED)


@dataclass(frozen=True)
class Ruling:
    """The verdict over both ends, and what completes or undoes the handover.

    ``stands``: it is to be resumed; until then it stands still. ``is_open``: what may be left of it
    is on a node that does not respond, so the journal stays.
    """

    verdict: Verdict
    actions: tuple[Action, ...] = ()
    stands: bool = False
    is_open: bool = False


def rule(entry: Entry, here: Observation, there: Observation, fresh: bool = False) -> Ruling | None:
    """Return what follows for a guest of which nothing but these two is active anywhere.

    To be called when no job is active on either side. None if the table of `verdicts` judges it.

    here, there
        The last observations of source and destination.
    fresh
        Whether the migration has just ended, so that nobody else has resumed the guest since.
    """
    if here.sighting is Sighting.PAUSED_BY_ERROR and there.sighting is Sighting.RUNNING:
        return _could_not_resume(entry)
    if entry.handover is None:
        return _by_libvirt(entry, here, there, fresh)
    if there.sighting is Sighting.WAITING:
        return _waiting(entry, here, there)
    if there.sighting is Sighting.UNREACHABLE:
        return _unheard(entry, here)
    is_there = there.sighting not in (*OFF, Sighting.PAUSED_FOR_MIGRATION)
    if here.sighting in STOPPED and not is_there and entry.stage not in (OVER, RUNS):
        return _source(entry, here, there)
    if here.sighting in OFF and there.sighting in (Sighting.RUNNING, Sighting.PAUSED_BY_USER):
        move = entry.move
        sentence = f"it runs on {move.destination} and not on {move.source}"
        if there.sighting is Sighting.PAUSED_BY_USER:
            sentence = f"it is on {move.destination}, paused by its user, and not on {move.source}"
        return Ruling(Verdict(Owner.DESTINATION, sentence), (Action(Do.UNMARK, move.destination),))
    return None


def verdict(entry: Entry, here: Observation, there: Observation) -> Verdict | None:
    """Return the verdict over a migration that has just ended, as ``rule``.

    A guest whose copy still waits to be resumed has not arrived.
    """
    ruling = rule(entry, here, there, fresh=True)
    if ruling and ruling.stands and ruling.verdict.owner is Owner.DESTINATION:
        return Verdict(Owner.UNKNOWN, ruling.verdict.sentence)
    return ruling.verdict if ruling else None


def needs_proof(entry: Entry | None, here: Observation, there: Observation) -> bool:
    """Whether it decides how the source's run ended, and that is not known yet."""
    return (
        entry is not None
        and entry.handover is not None
        and entry.stage not in (OVER, RUNS)
        and there.sighting is Sighting.WAITING
        and here.sighting in OFF
        and not here.left
    )


def _by_libvirt(entry: Entry, here: Observation, there: Observation, fresh: bool) -> Ruling | None:
    """Return what follows if its copy, which is no more, may have run before; None if not.

    libvirt says of a source that it let go on that its migration was canceled, until the guest is
    paused or resumed for another reason. So a migration of which that was observed once stays
    unknown.
    """
    resumed = here.sighting is Sighting.RUNNING and here.reason == CANCELED
    hidden = here.sighting is Sighting.PAUSED_BY_USER or here.reason == UNPAUSED
    was_unknown = entry.stage == ENDED and not fresh
    if entry.stage == FAILED or there.sighting not in OFF:
        return None
    if not resumed and not (hidden and was_unknown):
        return None
    source, destination = entry.move.source, entry.move.destination
    went_on = ", where libvirt let it go on after the switch" if resumed else ""
    sentence = (
        f"it is {here.sighting.value} on {source}{went_on}; nothing shows whether it had run on"
        f" {destination} in between, and written to its disks"
    )
    return Ruling(Verdict(Owner.UNKNOWN, sentence))


def _could_not_resume(entry: Entry) -> Ruling:
    """Return what follows where the copy runs, and its locks kept the source from going on."""
    source, destination = entry.move.source, entry.move.destination
    sentence = (
        f"it runs on {destination}; on {source}, where it could not resume, it is to be removed"
    )
    unmark = [Action(Do.UNMARK, destination)] if entry.handover else []
    actions = (Action(Do.DESTROY_COPY, source), *unmark)
    return Ruling(Verdict(Owner.DESTINATION, sentence), actions)


def _waiting(entry: Entry, here: Observation, there: Observation) -> Ruling | None:
    source, destination = entry.move.source, entry.move.destination
    if there.mark != entry.token:
        sentence = f"the copy that waits on {destination} is of another migration"
        return Ruling(Verdict(Owner.UNKNOWN, sentence))
    if entry.stage == RUNS and here.sighting in OFF:
        sentence = f"it is on {destination}, where it ran and was paused, and not on {source}"
        return Ruling(Verdict(Owner.DESTINATION, sentence), (Action(Do.UNMARK, destination),))
    if here.sighting in ALIVE and entry.stage not in (OVER, RUNS):
        return _source(entry, here, there)
    if here.sighting in OFF and (here.left or entry.stage == OVER):
        return _destination(entry)
    if here.sighting in OFF:
        sentence = (
            f"its copy waits on {destination}, and it is not on {source}, but nothing says that it"
            f" migrated away: it may have run on there, and written to its disks"
        )
        return Ruling(Verdict(Owner.UNKNOWN, sentence))
    return None


def _unheard(entry: Entry, here: Observation) -> Ruling | None:
    """Return what follows where the destination does not respond: its copy cannot have run."""
    if here.sighting is not Sighting.RUNNING or entry.stage in (OVER, RUNS):
        return None
    source, destination = entry.move.source, entry.move.destination
    sentence = (
        f"it runs on {source}, and never ran on {destination}, which does not respond: a copy that"
        " may be left there is to be removed"
    )
    return Ruling(Verdict(Owner.SOURCE, sentence), is_open=True)


def _destination(entry: Entry) -> Ruling:
    source, destination = entry.move.source, entry.move.destination
    unmark = Action(Do.UNMARK, destination)
    if entry.handover and entry.handover.resume:
        sentence = f"its run on {source} is over; its copy on {destination} waits to be resumed"
        actions = (Action(Do.RESUME_COPY, destination), unmark)
        return Ruling(Verdict(Owner.DESTINATION, sentence), actions, stands=True)
    sentence = f"it is on {destination}, paused by its user, and not on {source}"
    return Ruling(Verdict(Owner.DESTINATION, sentence), (unmark,))


def _source(entry: Entry, here: Observation, there: Observation) -> Ruling:
    source, destination = entry.move.source, entry.move.destination
    stands = here.sighting in STOPPED
    is_copy = there.sighting in WAITING_HALVES
    copy = (
        f"the copy on {destination} never ran, and is to be removed"
        if is_copy
        else f"it never ran on {destination}"
    )
    state = "stands still, to be resumed," if stands else "runs"
    if here.sighting is Sighting.PAUSED_BY_USER:
        state = "is paused by its user"
    actions = [Action(Do.DESTROY_COPY, destination)] if is_copy else []
    if stands and entry.handover and entry.handover.resume:
        actions.append(Action(Do.RESUME_SOURCE, source))
    verdict = Verdict(Owner.SOURCE, f"it {state} on {source}; {copy}")
    return Ruling(verdict, tuple(actions), stands)
