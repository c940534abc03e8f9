"""What follows where the owner is not certain: missing information and manual steps."""

from __future__ import annotations

import shlex

from saltext_kvmcluster.core import verdicts
from saltext_kvmcluster.core.migration.handover import NAMESPACE
from saltext_kvmcluster.core.migration.journal import FOLDER, Entry
from saltext_kvmcluster.core.ownership.cases import (
    BUSY,
    CONFLICT,
    UNKNOWN,
    Action,
    Case,
    Do,
    Settlement,
)
from saltext_kvmcluster.core.verdicts import (
    BROKEN,
    MIGRATED,
    Owner,
    Sighting,
    Verdict,
)


def conflict(case: Case) -> Settlement:
    nodes = case.observed(Sighting.RUNNING)
    sentence = (
        f"it RUNS TWICE, on {' and on '.join(nodes)}: its disks are at risk; nothing was changed;"
        " decide which copy to stop"
    )
    return Settlement(
        Verdict(Owner.CONFLICT, sentence),
        CONFLICT,
        needs=("which copy is the right one: the one that its users work with",),
        commands=(
            *(f"on {node}: virsh suspend {case.typed}" for node in nodes[1:]),
            f"on the node whose copy is to stop: virsh destroy {case.typed}",
            f"kvmcluster.recover {case.typed}",
        ),
    )


def torn(case: Case) -> Settlement:
    """Return what follows where its memory is split: neither half may ever be destroyed."""
    entry = case.entry
    sentence = (
        f"{case.reported}: its memory is split across two nodes; neither half can run without the"
        " other"
    )
    verdict = Verdict(Owner.UNKNOWN, sentence)
    if entry and "POSTCOPY" in entry.flags and _both_broke(case, entry):
        return Settlement(
            verdict, UNKNOWN, actions=(Action(Do.RESUME_POST_COPY, entry.move.source),)
        )
    known = (entry.move.source, entry.move.destination) if entry else ("SOURCE", "DESTINATION")
    source, destination = map(shlex.quote, known)
    return Settlement(
        verdict,
        UNKNOWN,
        needs=silence(case) or ("whether both halves still exist and can reach each other",),
        commands=(
            f"on {source}, unless libvirt on {destination} is 11.2 or 11.3, which dies of it: virsh"
            f" migrate --live --p2p --postcopy --postcopy-resume {case.typed}"
            f" qemu+ssh://{destination}/system tcp:{destination}",
            "if one half is lost, its memory is lost: on the other node: virsh destroy"
            f" {case.typed}, then start it again",
        ),
    )


def waiting(case: Case, sentence: str) -> Settlement:
    """Return what follows where a copy waits for a handover that may not be completed now.

    Whatever is missing, time does not replace it: the source may run on.

    sentence
        What is known; empty for the sightings.
    """
    copies = case.observed(Sighting.WAITING)
    again = f"kvmcluster.recover {case.typed}"
    verdict = Verdict(
        Owner.UNKNOWN, sentence or f"{case.reported}: whether its source is over is not certain"
    )
    entry, silent = case.entry, silence(case)
    source = entry.move.source if entry else "its source"
    if silent:
        return Settlement(
            verdict,
            UNKNOWN,
            needs=silent,
            commands=(
                f"once they respond: {again}",
                *(
                    f"only once {source} is certainly off, and cannot come back by itself: on"
                    f" {node}: virsh resume {case.typed}"
                    for node in copies
                ),
            ),
        )
    if entry is None:
        marks = {case.observations[node].mark.partition(" ")[0] for node in copies}
        known = len(marks) == 1 and marks <= set(case.observations)
        origin = marks.pop() if known else "the node that it came from"
        return Settlement(
            verdict,
            UNKNOWN,
            needs=(f"the journal entry of its migration, on {origin}",),
            commands=(
                f"on {origin}: tail /var/log/libvirt/qemu/{case.typed}.log",
                *_if_it_ran(case, copies, f"on {origin}" if known else "there"),
                *(
                    f"once it runs there: on {node}: virsh metadata {case.typed}"
                    f" {NAMESPACE} --live --remove"
                    for node in copies
                ),
            ),
        )
    return Settlement(
        verdict,
        UNKNOWN,
        needs=(f"whether it ran on {source} after {entry.began}, even briefly",),
        commands=(
            f"on {source}: tail /var/log/libvirt/qemu/{case.typed}.log",
            *_if_it_ran(case, copies, f"on {source}"),
            again,
        ),
    )


def _if_it_ran(case: Case, copies: list[str], where: str) -> list[str]:
    guest = case.typed
    return [
        line
        for node in copies
        for line in (
            f"only if it did not go on {where}: on {node}: virsh resume {guest}",
            f"otherwise its copy is out of date: on {node}: virsh destroy {guest}, then start it"
            " again",
        )
    ]


def _both_broke(case: Case, entry: Entry) -> bool:
    source, destination = (
        case.observations[entry.move.source],
        case.observations[entry.move.destination],
    )
    return (
        source.sighting is Sighting.PAUSED_IN_POST_COPY
        and source.job == destination.job == BROKEN
        and set(case.active) == {entry.move.source, entry.move.destination}
    )


def silence(case: Case) -> tuple[str, ...]:
    """Return the responses that are missing."""
    return tuple(
        f"a response from {node}, which may have it: {case.observations[node].detail}"
        for node in case.observed(Sighting.UNREACHABLE)
    )


def unknown(case: Case) -> Settlement:
    again = f"kvmcluster.recover {case.typed}"
    entry = case.entry
    verdict = Verdict(Owner.UNKNOWN, f"{case.reported}: its owner is not certain")
    silent = silence(case)
    if silent:
        gone = [
            f"if {node} will not return, and the guest is where it should be: on"
            f" {source}: rm {FOLDER}/{kept.move.uuid}.json"
            for node in case.observed(Sighting.UNREACHABLE)
            for source, kept in case.entries.items()
            if node in (kept.move.source, kept.move.destination)
        ]
        commands = (f"once they respond: {again}", *gone)
        return Settlement(verdict, UNKNOWN, needs=silent, commands=commands)
    stopped = case.observed(Sighting.PAUSED_FOR_MIGRATION, Sighting.PAUSED_BY_ERROR)
    if entry and case.active == [entry.move.source] == stopped:
        return _switched(case, entry)
    return Settlement(
        verdict,
        UNKNOWN,
        needs=("which node has its latest state",),
        commands=(
            *(f"on {node}: virsh domstate --reason {case.typed}" for node in case.active),
            f"on the node with its latest state, if paused: virsh resume {case.typed}",
            f"on a node with an older state: virsh destroy {case.typed}",
            again,
        ),
    )


def _switched(case: Case, entry: Entry) -> Settlement:
    """Return what follows where the source is paused and the destination no longer has it."""
    source, destination, guest = entry.move.source, entry.move.destination, case.typed
    return Settlement(
        verdicts.judge(case.sighting(source), case.sighting(destination), source, destination),
        UNKNOWN,
        needs=(_whether_it_ran(entry),),
        commands=(
            f"on {destination}: tail /var/log/libvirt/qemu/{guest}.log",
            f"on {source}: stat its disks: were they written after it was paused?",
            f"only if it never ran on {destination}: on {source}: virsh resume {guest},"
            f" then {_forget(case, entry)}",
            _out_of_date(source, guest),
            f"kvmcluster.recover {guest}",
        ),
    )


def may_have_run(case: Case, entry: Entry, verdict: Verdict) -> Settlement:
    """Return what follows where the source goes on, and its copy may have run before it ended."""
    source, destination, guest = entry.move.source, entry.move.destination, case.typed
    return Settlement(
        verdict,
        UNKNOWN,
        needs=(_whether_it_ran(entry),),
        commands=(
            f"on {destination}: tail /var/log/libvirt/qemu/{guest}.log",
            f"only if it never ran on {destination}, it may go on: on {source}:"
            f" {_forget(case, entry)}",
            _out_of_date(source, guest),
            f"kvmcluster.recover {guest}",
        ),
    )


def arriving(case: Case) -> Settlement | None:
    """Return what follows where a post-copy migration is about to end; None if it is not.

    After its link has healed, libvirt learns at the destination first that all memory has arrived,
    and ends the half at the source a moment later.
    """
    runs, halves = case.observed(Sighting.RUNNING), case.observed(Sighting.PAUSED_IN_POST_COPY)
    if len(runs) != 1 or len(halves) != 1 or set(case.active) != {*runs, *halves}:
        return None
    (node,), (half,) = runs, halves
    sentence = f"it runs on {node}, and its half on {half} has not ended yet; check again later"
    commands = [f"kvmcluster.recover {case.typed}"]
    if case.observations[node].reason == MIGRATED:
        commands.append(
            f"if it is still so after a minute: all its memory is on {node}; on {half}:"
            f" virsh destroy {case.typed}"
        )
    return Settlement(Verdict(Owner.UNKNOWN, sentence), BUSY, commands=tuple(commands))


def _whether_it_ran(entry: Entry) -> str:
    source, destination = entry.move.source, entry.move.destination
    return f"whether it ran on {destination} after {entry.began} (clock of {source}), even briefly"


def _forget(case: Case, entry: Entry) -> str:
    """Return how an operator says that the source has the latest state: no observation shows it.

    With the entry goes what ``recover`` knows of a definition that the migration left.
    """
    destination = entry.move.destination
    forget, there = f"rm {FOLDER}/{entry.move.uuid}.json", case.observations[destination]
    is_left = entry.definitions == "shared" and entry.persistent and there.persistent
    if not is_left or there.saved:
        return forget
    return f"{forget}, and on {destination}: virsh undefine --keep-nvram {case.typed}"


def _out_of_date(node: str, guest: str) -> str:
    return (
        f"otherwise its memory is out of date: on {node}: virsh destroy {guest}, then start it"
        " again"
    )
