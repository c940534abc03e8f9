"""Processes that one node holds on another over ssh: claims of starts, tickets of queues.

As host/claims.py and host/tickets.py have them: what such a process holds is free once it has
ended. It ends with its holder if that can be noticed there: not while the network is cut, and not
where the holder's node lost its power.
"""

from __future__ import annotations

import json

import world as sim

from saltext_kvmcluster.core.errors import AtWork, WorldError
from saltext_kvmcluster.core.migration import queues
from saltext_kvmcluster.core.ownership import startup
from saltext_kvmcluster.host.claims import RESPONSE_TIME
from saltext_kvmcluster.host.tickets import BEAT, SOON

ABANDONED = 60.0


class Shell:
    """A process on a node, held from another or from the node itself.

    ``guest``: of which it has the ticket; one that loses it by a fault may be one too many.
    ``may_be_lost``: a claim that was seen held a moment ago is not lost before the start begins;
    for that there is nothing left but QEMU's lock.
    """

    def __init__(self, world, here, node, guest=""):
        self.world, self.here, self.node, self.guest = world, here, node, guest
        self.alive = self.open = True
        self.may_be_lost = not guest
        world.shells.append(self)

    def close(self):
        """Its holder lets go, or dies."""
        self.open = False
        if self.world.path(sim.SSH, self.here, self.node):
            self.end()
        elif self.here not in self.world.dark:
            self.world.when_healed(self.here, self.node, self.end)

    def end(self):
        """It ends, whatever its holder does."""
        self.alive = self.open = False
        if self.guest:
            self.world.slotless.add(self.guest)
        if self in self.world.shells:
            self.world.shells.remove(self)


class Claim:
    """A claim of a start on one node, as ``host.claims.Claim``."""

    def __init__(self, minion, remote, uuid, seconds):
        self._minion, self._remote, self._uuid, self._seconds = minion, remote, uuid, seconds
        self._claims = minion.shelves[remote.node].claims
        self._shell = None

    def take(self):
        def taken():
            self._remote.reach()
            if self._remote.node in self._minion.world.dark:
                raise WorldError("no response")
            other = self._claims.get(self._uuid)
            if other and other.alive:
                self._remote.come_back(RESPONSE_TIME)
                raise AtWork(startup.claimed(self._remote.node, other.here))
            world = self._minion.world
            self._shell = Shell(world, self._minion.here, self._remote.node)
            self._claims[self._uuid] = self._shell
            self._minion.holds.append(self)
            world.after(int(self._seconds), self._shell.end)
            self._remote.come_back(RESPONSE_TIME)

        self._minion.call(taken)

    def is_held(self):
        def responds():
            self._remote.reach(RESPONSE_TIME)
            alive = bool(self._shell and self._shell.alive and self._shell.open)
            if alive:
                self._shell.may_be_lost = False
            self._remote.come_back(RESPONSE_TIME)
            return alive

        try:
            return self._minion.call(responds)
        except WorldError:
            return False

    def release(self):
        if self in self._minion.holds:
            self._minion.holds.remove(self)
        if self._shell and self._shell.open:
            self._shell.close()


class Ticket:
    """A ticket's file. ``touched``: by the clock of its node."""

    def __init__(self, shell, move, now):
        self.shell, self.move, self.touched = shell, move, now

    def abandoned(self, now):
        return not self.shell.alive or now - self.touched > ABANDONED


class Tickets:
    """The tickets of one process on one node, as ``host.tickets.Tickets``."""

    def __init__(self, minion, remote):
        self._minion, self._remote = minion, remote
        self._held = {}

    def take(self, queue, move):
        def taken():
            self._reach()
            shell = Shell(self._minion.world, self._minion.here, queue.node, move.guest)
            if queue.side == queues.OUTGOING:
                self._minion.world.slotless.discard(move.guest)
            tickets = self._tickets(queue)
            number = max(tickets, default=100_000_000) + 1
            tickets[number] = Ticket(shell, move, self._minion.world.now)
            self._held[queue] = number, shell
            self._minion.holds.append((self, queue))
            self._minion.world.after(BEAT, lambda: self._beat(queue, shell))
            output = self._output(queue)
            self._come_back(shell)
            return output

        return self._minion.call(taken)

    def observe(self, queue):
        def observed():
            self._reach()
            output = self._output(queue)
            self._come_back(self._held[queue][1])
            return output

        return self._minion.call(observed)

    def release(self, queue):
        if (self, queue) in self._minion.holds:
            self._minion.holds.remove((self, queue))
        if queue not in self._held:
            return
        number, shell = self._held.pop(queue)
        shell.guest = ""
        if shell.open and self._path():
            self._tickets(queue).pop(number, None)
            shell.end()
        elif shell.open:
            shell.close()

    def abandon(self, queue):
        """Its process has ended; the file stays until it is looked at."""
        _, shell = self._held.pop(queue)
        if shell.open:
            shell.close()

    def _reach(self):
        """A login that breaks takes the ticket along."""
        try:
            self._remote.reach()
            if self._remote.node in self._minion.world.dark:
                raise WorldError("no response")
        except WorldError:
            for _, shell in self._held.values():
                shell.close()
            raise

    def _come_back(self, shell):
        try:
            self._remote.come_back()
        except WorldError:
            shell.close()
            raise

    def _path(self):
        return self._minion.world.path(sim.SSH, self._minion.here, self._remote.node)

    def _tickets(self, queue):
        return self._minion.shelves[queue.node].tickets.setdefault(queue.folder, {})

    def _beat(self, queue, shell):
        """Touch the ticket again; a shell that does not respond soon is given up."""
        world = self._minion.world
        if not shell.open or not shell.alive or self._minion.dead:
            return

        def touch():
            for ticket in self._tickets(queue).values():
                if ticket.shell is shell:
                    ticket.touched = world.now

        if self._path():
            touch()
            world.after(BEAT, lambda: self._beat(queue, shell))
        else:
            world.after(SOON, lambda: self._beat_late(queue, shell))

    def _beat_late(self, queue, shell):
        if self._path():
            self._beat(queue, shell)
        elif shell.open:
            shell.close()

    def _output(self, queue):
        """What the script prints: the tickets before ours, and ours if it is still there."""
        number, shell = self._held[queue]
        tickets, now = self._tickets(queue), self._minion.world.now
        if number not in tickets or not shell.alive:
            return ""
        tickets[number].touched = now
        before = sorted(one for one in tickets if one < number)
        if before and tickets[before[-1]].abandoned(now):
            self._remove(tickets, before.pop())
        lines, alive = [], 0
        for one in before:
            if alive < queue.limit:
                if tickets[one].abandoned(now):
                    self._remove(tickets, one)
                    continue
                alive += 1
            move = tickets[one].move
            words = json.dumps([move.uuid, move.guest, move.source, move.destination])
            lines.append(f"before {one} {words}")
        return "\n".join([*lines, f"here is {number}", ""])

    def _remove(self, tickets, number):
        guest = tickets.pop(number).shell.guest
        if guest:
            self._minion.world.slotless.add(guest)


def leaked(shelves, now):
    """Return the queues in which a ticket still counts, with the guest."""
    return [
        (queue, ticket.move.guest)
        for shelf in shelves.values()
        for queue, tickets in shelf.tickets.items()
        for ticket in tickets.values()
        if not ticket.abandoned(now)
    ]
