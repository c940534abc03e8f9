"""The status of a cluster, observed again and again without waiting for any node."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from saltext_kvmcluster.core.facts import node_report
from saltext_kvmcluster.core.facts.nodefacts import NodeFacts
from saltext_kvmcluster.core.failover import shortages
from saltext_kvmcluster.core.readiness import overview, problems
from saltext_kvmcluster.core.readiness.overview import ClusterStatus
from saltext_kvmcluster.core.watching.inquiry import PATIENCE, Inquiry
from saltext_kvmcluster.engine.fleet import ASK_AGAIN, ASKERS
from saltext_kvmcluster.master.nodes import SaltNodes
from saltext_kvmcluster.master.outbox import Outbox

EVERY = 30.0
"""Seconds between two looks."""
BY_PEERS = 20.0
"""Seconds to wait for what peers find of nodes that are silent."""


@dataclass(frozen=True)
class Look:
    """The status that was observed last, the facts that it was made of, and when that was."""

    status: ClusterStatus
    facts: dict[str, NodeFacts]
    at: datetime


class Looks:
    """Looks at a cluster: ``last`` is the last look, None before the first one is over.

    What may be no problem a moment later counts once a second look shows it, too.
    """

    def __init__(self, nodes: SaltNodes, outbox: Outbox) -> None:
        self._nodes, self._clock, self._outbox = nodes, nodes.clock, outbox
        self.last: Look | None = None
        self._sent, self._peers_sent, self._sent_at = 0.0, 0.0, self._clock.now()
        self._facts = Inquiry(nodes.all, EVERY)
        self._peers: Inquiry | None = None
        self._next = self._clock.monotonic()
        self._is_open = self._is_second = False

    def step(self) -> None:
        """Go on, as far as that is possible without waiting."""
        now = self._clock.monotonic()
        if not self._is_open and now >= self._next:
            self._begin(now)
        if self._is_open:
            self._take(now)

    def forget(self, job: str) -> None:
        """Take in that a job was never sent: a look that it was part of is begun anew."""
        if job in (*self._facts.jobs(), *(self._peers.jobs() if self._peers else ())):
            self._facts.forget(job)
            self._is_open, self._next = False, self._clock.monotonic()

    def _begin(self, now: float) -> None:
        due = self._facts.due(now)
        self._sent, self._sent_at, self._peers = now, self._clock.now(), None
        if due:
            job = self._outbox.send(due, "kvmcluster.facts", targets=False, trust=False)
            self._facts.sent(job, due, now)
        self._is_open = True

    def _take(self, now: float) -> None:
        for job in self._facts.to_read(now):
            self._facts.take(job, self._nodes.returns(job), now)
        if not self._facts.is_answered() and now - self._sent < PATIENCE:
            return
        facts = self._reported()
        silent = [node for node, one in facts.items() if one.detail]
        askers = [node for node, one in facts.items() if not one.detail][:ASKERS]
        if silent and askers:
            if self._peers is None:
                self._peers = Inquiry(askers, EVERY)
                job = self._outbox.send(askers, "kvmcluster.peer_facts", silent)
                self._peers.sent(job, askers, now)
                self._peers_sent = now
            for job in self._peers.to_read(now):
                self._peers.take(job, self._nodes.returns(job), now)
            if not self._peers.is_answered() and now - self._peers_sent < BY_PEERS:
                return
            facts = self._with_peers(facts, silent)
        self._conclude(facts, now)

    def _conclude(self, facts: dict[str, NodeFacts], now: float) -> None:
        cluster, self._is_open = self._nodes.cluster, False
        if not self._is_second and problems.may_pass(cluster, facts):
            self._is_second, self._next = True, now + ASK_AGAIN
            self._facts = Inquiry(self._nodes.all, EVERY)
            return
        short = shortages.sentences(cluster, facts)
        self.last = Look(overview.status(cluster, facts, {}, short), facts, self._clock.now())
        self._is_second, self._next = False, self._sent + EVERY

    def _reported(self) -> dict[str, NodeFacts]:
        asked, answered = self._sent_at.timestamp(), self._clock.now().timestamp()
        told = {
            node: None if self._facts.waits_since(node) else self._facts.answers.get(node)
            for node in self._nodes.all
        }
        return {node: node_report.parse(node, sent, asked, answered) for node, sent in told.items()}

    def _with_peers(self, facts: dict[str, NodeFacts], silent: list[str]) -> dict[str, NodeFacts]:
        asked, answered = self._sent_at.timestamp(), self._clock.now().timestamp()
        answers, found = self._peers.answers if self._peers else {}, dict(facts)
        for node in silent:
            reported = node_report.of_node(answers, node)
            found[node] = node_report.by_peers(found[node], reported, asked, answered)
        return found
