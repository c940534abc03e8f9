"""What follows where it is not certain whose a guest is: what is missing, and what to type."""

from __future__ import annotations

import shlex

from saltext_kvmcluster.core import verdicts
from saltext_kvmcluster.core.migration.journal import Entry
from saltext_kvmcluster.core.ownership.cases import (
    CONFLICT,
    UNKNOWN,
    Action,
    Case,
    Do,
    Settlement,
)
from saltext_kvmcluster.core.ownership.identification import KEPT
from saltext_kvmcluster.core.verdicts import (
    BROKEN,
    Owner,
    Sighting,
    Verdict,
)


def conflict(case: Case) -> Settlement:
    nodes = case.observed(Sighting.RUNNING)
    sentence = (
        f"it RUNS TWICE, on {' and on '.join(nodes)}: its disks are in danger; nothing was touched,"
        " decide which of them has to go"
    )
    return Settlement(
        Verdict(Owner.CONFLICT, sentence),
        CONFLICT,
        needs=("which of them is the right one: the one whose work its users see",),
        commands=(
            *(f"on {node}: virsh suspend {case.typed}" for node in nodes[1:]),
            f"on the node where it has to go: virsh destroy {case.typed}",
            f"kvmcluster.recover {case.typed}",
        ),
    )


def torn(case: Case) -> Settlement:
    """Return what follows where its memory is on two nodes: neither half may ever be destroyed."""
    entry = case.entry
    sentence = f"{case.reported}: its memory is on two nodes, neither of which can go on alone"
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
        needs=_silence(case) or ("whether both halves are still there, and can reach each other",),
        commands=(
            f"on {source}: virsh migrate --live --p2p --postcopy --postcopy-resume {case.typed}"
            f" qemu+ssh://{destination}/system tcp:{destination}",
            "if one half is lost, so is its memory: on the other node: virsh destroy"
            f" {case.typed}, then start it anew",
        ),
    )


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


def _silence(case: Case) -> tuple[str, ...]:
    return tuple(
        f"an answer of {node}, which may have it; it was asked, and:"
        f" {case.observations[node].detail}"
        for node in case.observed(Sighting.UNREACHABLE)
    )


def unknown(case: Case) -> Settlement:
    again = f"kvmcluster.recover {case.typed}"
    entry = case.entry
    verdict = Verdict(Owner.UNKNOWN, f"{case.reported}: that does not tell which of them owns it")
    silent = _silence(case)
    if silent:
        gone = [
            f"if {node} is gone for good, and the guest is where it should be: on"
            f" {entry.move.source}: rm {KEPT}/{entry.move.uuid}.json"
            for node in case.observed(Sighting.UNREACHABLE)
            if entry and node in case.ends
        ]
        commands = (f"once they answer: {again}", *gone)
        return Settlement(verdict, UNKNOWN, needs=silent, commands=commands)
    if entry and case.active == [entry.move.source] == case.observed(Sighting.PAUSED_FOR_MIGRATION):
        return _switched(case, entry)
    return Settlement(
        verdict,
        UNKNOWN,
        needs=("which node has the youngest state of it",),
        commands=(
            *(f"on {node}: virsh domstate --reason {case.typed}" for node in case.active),
            f"where the right one is paused: virsh resume {case.typed}",
            f"where an old one is: virsh destroy {case.typed}",
            again,
        ),
    )


def _switched(case: Case, entry: Entry) -> Settlement:
    """Return what follows where the source waits, and the destination has nothing any more."""
    source, destination, guest = entry.move.source, entry.move.destination, case.typed
    return Settlement(
        verdicts.judge(case.sighting(source), case.sighting(destination), source, destination),
        UNKNOWN,
        needs=(f"whether it ran on {destination} after {entry.began}, even for a moment",),
        commands=(
            f"on {destination}: tail /var/log/libvirt/qemu/{guest}.log",
            f"on {source}: stat its disks: were they written after it was paused?",
            f"only if it never ran on {destination}: on {source}: virsh resume {guest}",
            f"otherwise its memory is old: on {source}: virsh destroy {guest}, then start it anew",
            f"kvmcluster.recover {guest}",
        ),
    )
