"""A strict handover, by the process that runs the migration; see `core.migration.handover`."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import replace

from saltext_kvmcluster.core.errors import WorldError
from saltext_kvmcluster.core.migration import handover
from saltext_kvmcluster.core.migration.journal import OVER, RUNS, Entry
from saltext_kvmcluster.core.migration.results import Statistics
from saltext_kvmcluster.core.verdicts import OFF, Observation, Sighting
from saltext_kvmcluster.engine.environment import Call, Environment, Leaving

# Seconds from a guest's stop within which its QEMU may be ended.
SWITCH = 3.0
# Seconds for one answer to a resume, before it is tried another way.
ANSWER = 2.0


class StrictHandover:
    """The handover of one migration. ``is_over``: it is certain that the source's run is.

    ``entry``: its journal entry, at the stage RUNS once the copy was resumed.

    copy
        The copy's definition, as libvirt was given it.
    """

    def __init__(self, env: Environment, entry: Entry, leaving: Leaving, copy: str) -> None:
        self.env, self.entry, self.leaving, self._copy = env, entry, leaving, copy
        self.uuid, self.destination = entry.move.uuid, entry.move.destination
        self.is_over = self._is_compared = False
        self._resumed_at: float | None = None
        self._is_measured = False
        self._ready: Call | None = None

    @property
    def waits_for(self) -> Sequence[Call]:
        """What is to be noticed at once, besides the end of libvirt's call."""
        return () if self.leaving.ended.done() else (self.leaving.ended,)

    @property
    def undisturbed_until(self) -> float:
        """Until when the source is not to be observed: libvirt gives no answer while it ends QEMU.

        Whoever waited for that would resume the copy so much later.
        """
        stopped = self.leaving.stopped_at()
        return 0.0 if stopped is None or self.is_over else stopped + SWITCH

    def prepare(self) -> None:
        """Find the copy while its memory still arrives, so that one message resumes it.

        Nothing waits for that: what matters is noticed meanwhile.
        """
        failed = self._ready is not None and self._ready.done() and self._ready.exception()
        if not self.is_over and (self._ready is None or failed):
            self._ready = self.env.libvirt(self.destination).ready(self.uuid)

    def outdated(self) -> str:
        """Return why the copy has other disks than its source; compared once, under way."""
        if self._is_compared:
            return ""
        now = self.env.libvirt(self.env.here).migratable(self.uuid)
        self._is_compared = True
        return handover.outdated(self._copy, now)

    def notice(self) -> None:
        """Resume the copy once the source's QEMU has ended, if libvirt had confirmed it."""
        if not self.is_over and self.leaving.ended.done() and self.leaving.is_confirmed():
            self.is_over = True
            self.resume()

    def returned(self, failed: bool, here: Observation) -> None:
        """Take note of the end of libvirt's call. One that failed proves nothing.

        here
            The source, observed since.
        """
        if not self.is_over and not failed and here.sighting in OFF:
            self.is_over = True
            self.resume()

    def resume(self) -> None:
        """Resume the copy: over the connection that is open first, without a look.

        An error is asked again there: where the image is on a FUSE file system (GlusterFS), the
        lock of what QEMU has just closed is released some milliseconds later, and QEMU refuses to
        go on until then.
        """
        if not (self.entry.handover and self.entry.handover.resume) or self._resumed_at:
            return
        direct, token = self.env.libvirt(self.destination), self.entry.token
        call = direct.resume(self.uuid, "")
        # After a lost answer it may have run for some time.
        self._is_measured = self._has_let_run(call)
        if self._is_measured:
            return
        self._note_over()
        again = (direct,) if call.done() else ()
        for libvirt in (*again, *self.env.detours(self.destination)):
            if self._has_let_run(libvirt.resume(self.uuid, token)):
                return

    def _has_let_run(self, call: Call) -> bool:
        self.env.clock.wait(call, ANSWER)
        if not call.done() or call.exception():
            return False
        self._resumed_at = self.env.clock.monotonic()
        # From now on it stands only if its user has paused it.
        self.entry = self.entry.at(RUNS)
        return True

    def pending(self, there: Observation) -> None:
        """Resume the copy if it was observed to wait although the source is over."""
        if self.is_over and there.sighting is Sighting.WAITING:
            self.resume()

    def known(self, here: Observation) -> Observation:
        """Return an observation of the source with what is known of its end."""
        return replace(here, left=self.is_over and here.sighting in OFF)

    def measured(self, by_libvirt: Statistics) -> Statistics:
        """Return what was measured: libvirt knows of no resume that comes after its own end.

        A guest that its user had paused was neither stopped nor resumed.
        """
        stopped, resumed = self.leaving.stopped_at(), self._resumed_at
        downtime = None
        if self._is_measured and stopped is not None and resumed is not None and resumed >= stopped:
            downtime = round(1000 * (resumed - stopped))
        return replace(by_libvirt, downtime_ms=downtime)

    def _note_over(self) -> None:
        """Keep what this process knows, for whoever has to complete it."""
        with contextlib.suppress(WorldError):
            self.env.journal(self.env.here).write(self.entry.at(OVER))
