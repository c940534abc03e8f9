"""Listens for the returns of one job, and asks nodes that are late whether it runs there.

Salt's own waiting asks no node twice while all are silent, and as long as one runs the job it waits
anew for those that are silent.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from typing import Any

from saltext_kvmcluster.core.silence import DOUBT, Wait
from saltext_kvmcluster.core.text import listed
from saltext_kvmcluster.engine.environment import Clock
from saltext_kvmcluster.engine.fleet import Meanwhile

# Seconds between looks for a return, as in Salt itself.
PAUSE = 0.01

log = logging.getLogger(__name__)


class Listener:
    """What is heard of a job: ``reported`` by node, and which nodes ``responded`` at all."""

    def __init__(self, client: Any, job: Mapping[str, Any], clock: Clock) -> None:
        self.reported: dict[str, Any] = {}
        self.responded: set[str] = set()
        self._client, self._job, self._clock = client, job, clock
        self._questions: set[str] = set()
        self._events = client.get_returns_no_block("salt/job/")

    def listen(self, wait: Wait, within: float, meanwhile: Meanwhile | None) -> None:
        """Listen until all nodes have returned, or no more can be expected.

        within
            Seconds to listen while nodes report that the job runs.
        meanwhile
            As of ``Fleet.ask``.
        """
        end = self._clock.monotonic() + within
        while True:
            self._hear(wait)
            now = self._clock.monotonic()
            if wait.is_over(now):
                return
            if now >= end:
                self._warn(within)
                return
            unheard = wait.unheard(now, DOUBT)
            if meanwhile and unheard and self.reported:
                look, meanwhile = meanwhile, None
                look(unheard, [*self.reported])
            else:
                self._ask(wait.to_be_asked(now))
                self._clock.wait(None, PAUSE)

    def _hear(self, wait: Wait) -> None:
        """Note all that has arrived."""
        for job, node, returned in self._returns():
            self.responded.add(node)
            if job == self._job["jid"]:
                self.reported[node] = returned
                wait.returned(node)
            elif isinstance(returned, dict) and returned.get("jid") == self._job["jid"]:
                wait.running(node, self._clock.monotonic())

    def _returns(self) -> Iterator[tuple[str, str, Any]]:
        """Yield what nodes have returned for this job, and for questions whether it runs."""
        while event := next(self._events):
            tag, data = event["tag"].split("/"), event["data"]
            job, node = "/".join(tag[2:3]), data.get("id")
            is_known = job == self._job["jid"] or job in self._questions
            if is_known and tag[3:4] == ["ret"] and node in self._job["minions"]:
                yield from [(job, node, data["return"])] if "return" in data else []

    def _ask(self, nodes: list[str]) -> None:
        """Ask nodes whether the job runs there."""
        if nodes:
            asked = self._client.gather_job_info(self._job["jid"], nodes, "list")
            self._questions |= {asked["jid"]} if "jid" in asked else set()

    def _warn(self, within: float) -> None:
        log.warning(
            "kvmcluster: no return of %s from %s within %g seconds;"
            " salt-run jobs.lookup_jid %s shows it when it ends",
            self._job["fun"],
            listed(sorted(set(self._job["minions"]) - set(self.reported))),
            within,
            self._job["jid"],
        )
