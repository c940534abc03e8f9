"""Waits for a migration's place, on its source and then on its destination; see core.queueing."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict
from typing import Any

from saltext_kvmcluster.core.errors import WorldError
from saltext_kvmcluster.core.migration import queues
from saltext_kvmcluster.core.migration.jobs import QUEUED
from saltext_kvmcluster.core.migration.migration import Move
from saltext_kvmcluster.core.migration.queues import Queue, Standing
from saltext_kvmcluster.core.pillar.clusters import Cluster
from saltext_kvmcluster.host.hypervisor import Hypervisor
from saltext_kvmcluster.host.ssh import Session

POLL = 0.5
SOON = 5.0


class Places:
    """The places of the migrations of a cluster, as far as one call has to do with them.

    ``within``: the seconds that one may wait for its place; 0: it does not wait. ``cancelled``:
    who wants it cancelled, in words. ``tell``: takes the data of an event.
    """

    def __init__(
        self,
        cluster: Cluster,
        shells: Mapping[str, Session],
        libvirts: Mapping[str, Hypervisor],
        within: float,
        cancelled: Callable[[str], str],
        notify: Callable[[Mapping[str, Any]], None],
    ) -> None:
        self._cluster, self._shells, self._libvirts = cluster, shells, libvirts
        self._within, self._cancelled, self._tell = within, cancelled, notify

    @contextlib.contextmanager
    def __call__(self, move: Move) -> Iterator[bool]:
        """Have a place for as long as the context lasts; give whether it had to be waited for."""
        end = time.monotonic() + self._within
        waited = False
        with contextlib.ExitStack() as places:
            places.enter_context(self._kept(move))
            for queue in queues.queues(self._cluster, move):
                places.callback(self._let_go, queue)
                waited |= self._had(queue, move, end)
            yield waited

    def _had(self, queue: Queue, move: Move, end: float) -> bool:
        """Wait for a place; return whether that was necessary."""
        at = self._standing(queue, move, queue.take(move))
        waited, reported = at.place > 0, 0
        while at.place > 0:
            if at.place != reported:
                reported = at.place
                self._tell({"what": QUEUED, **asdict(move), "place": reported, "reason": str(at)})
            over = time.monotonic() >= end
            queues.refuse_to_wait(move, at, self._cancelled(move.uuid), self._within, over)
            time.sleep(POLL)
            at = self._standing(queue, move, queue.observe())
        return waited

    def _standing(self, queue: Queue, move: Move, script: str) -> Standing:
        detail = self._shells[queue.node].run(script).stdout
        return queues.standing(queue, move, detail, self._libvirts[queue.node].moving(queue.job))

    def _let_go(self, queue: Queue) -> None:
        self._reported(queue, queue.let_go())

    def _reported(self, queue: Queue, script: str) -> None:
        """Tell a shell that has a ticket something; one that is gone has none any more."""
        shell = self._shells[queue.node]
        if shell.is_open:
            with contextlib.suppress(WorldError):
                shell.run(script, SOON)

    @contextlib.contextmanager
    def _kept(self, move: Move) -> Iterator[None]:
        """Show all the while that the tickets are somebody's."""
        over = threading.Event()

        def beat() -> None:
            while not over.wait(queues.BEAT):
                for queue in queues.queues(self._cluster, move):
                    self._reported(queue, queue.beat())

        threading.Thread(target=beat, daemon=True).start()
        try:
            yield
        finally:
            over.set()
