"""The queues in which migrations wait for their slots: tickets, and which one is next.

Each node has a queue for what it sends and one for what it receives. A ticket has the next number
of its queue; it is abandoned once its holder is gone, and removed by the next one that looks.

A migration waits to be sent first and, while it holds that slot, to be received. So one that may
be received has both its slots and ends, and then the next one may: none waits in a circle.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass

from saltext_kvmcluster.core import verdicts
from saltext_kvmcluster.core.errors import Unwanted, WorldError
from saltext_kvmcluster.core.migration.migration import CANCELLED, Move
from saltext_kvmcluster.core.pillar.clusters import Cluster
from saltext_kvmcluster.core.text import printable

OUTGOING, INCOMING = "outgoing", "incoming"


@dataclass(frozen=True)
class Queue:
    """One queue: ``node`` and ``side`` name it, ``limit`` are the slots, ``folder`` has tickets.

    ``job`` is what libvirt calls what is under way there.
    """

    node: str
    side: str
    limit: int
    folder: str

    @property
    def job(self) -> str:
        return verdicts.OUTGOING if self.side == OUTGOING else verdicts.INCOMING

    @property
    def name(self) -> str:
        """What it limits, for a sentence."""
        verb = "sends" if self.side == OUTGOING else "receives"
        return f"{self.node} {verb} {self.limit} at once (kvmcluster:migration:max_{self.side})"


@dataclass(frozen=True)
class Standing:
    """A migration's position: ``slot``, 0 if it may start, and which are ``before`` it.

    ``odd``: what else lies in the queue's folder, which counts for nothing.
    """

    queue: Queue
    slot: int
    before: tuple[str, ...]
    odd: tuple[str, ...] = ()

    def __str__(self) -> str:
        odd = f"; not a ticket, to be moved away: {', '.join(self.odd)}" if self.odd else ""
        return f"{self.queue.name}; ahead of it: {', '.join(self.before)}{odd}"


def queues(cluster: Cluster, move: Move) -> tuple[Queue, Queue]:
    """Return the queues in which a migration waits, in this order: see above."""
    limits = cluster.migration
    # Tickets of the destination are held over ssh: who is not root there keeps them at home.
    home = "/run" if cluster.ssh.is_root else ".ssh"
    return (
        Queue(move.source, OUTGOING, limits.max_outgoing, "/run/kvmcluster-outgoing"),
        Queue(
            move.destination,
            INCOMING,
            limits.max_incoming,
            f"{home}/kvmcluster-incoming-{move.destination}",
        ),
    )


def standing(queue: Queue, move: Move, detail: str, jobs: Mapping[str, str]) -> Standing:
    """Return where a migration stands; WorldError if its ticket is gone.

    detail
        The output of the shell that holds the ticket.
    jobs
        The guests that libvirt shows on their way there, by UUID: some have no ticket, such as
        one whose minion was killed, or that is moved by hand.
    """
    lines = detail.split("\n")
    if not any(line.startswith("here is ") for line in lines):
        output = printable(" / ".join(lines)[-300:]).strip() or "none"
        raise WorldError(
            f"{move.guest} was not migrated to {move.destination}: it has no"
            f" slot among the {queue.side} migrations of {queue.node}; the shell there:"
            f" {output}"
        )
    odd = tuple(printable(line[4:]) for line in lines if line.startswith("odd "))
    known = dict(_ticket(line[7:]) for line in lines if line.startswith("before "))
    others = {uuid: f"{printable(name)} (by libvirt)" for uuid, name in jobs.items()}
    found = {**others, **known}
    found.pop(move.uuid, None)
    return Standing(queue, max(0, len(found) - queue.limit + 1), tuple(found.values()), odd)


def unwanted(move: Move, at: Standing) -> Unwanted:
    """Return that a migration waits no longer, since nobody wants it any more."""
    sent = f"{move.guest} was not migrated to {move.destination}"
    return Unwanted(f"{sent}: it was stopped while it waited for a slot; {at}")


def refuse_to_wait(move: Move, at: Standing, cancelled: str, within: float, is_over: bool) -> None:
    """Raise the WorldError that says why a migration waits no longer, and what is ahead of it.

    cancelled
        Who requested its cancellation, as text; empty if nobody did.
    within
        The seconds that it may wait, 0 if it is not to; ``is_over`` when they are.
    """
    why = ""
    if cancelled:
        why = f"{CANCELLED}{cancelled}"
    elif not within:
        why = "no slot is free, and waiting was not requested"
    elif is_over:
        why = f"no slot was free within {within:g} s"
    if why:
        sent = f"{move.guest} was not migrated to {move.destination}"
        raise WorldError(f"{sent}: {why}; {at}")


def _ticket(line: str) -> tuple[str, str]:
    """Return a ticket's migration, by UUID, as text. A ticket without one counts as well."""
    number, _, text = line.partition(" ")
    try:
        uuid, guest, source, destination = map(str, json.loads(text))
    except (ValueError, TypeError):
        return number, "an unknown migration"
    return uuid, printable(f"{guest} ({source} to {destination})"[:300])
