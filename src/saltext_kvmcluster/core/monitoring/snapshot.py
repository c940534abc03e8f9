"""A cluster as it was observed once, as a whole: for metrics and for the report.

What was not seen is not there: a node that did not answer has no figures.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from saltext_kvmcluster.core.facts.deeds import Deeds
from saltext_kvmcluster.core.facts.nodefacts import NodeFacts
from saltext_kvmcluster.core.failover import shortages
from saltext_kvmcluster.core.migration import jobs, records
from saltext_kvmcluster.core.pillar.clusters import Cluster
from saltext_kvmcluster.core.readiness import problems
from saltext_kvmcluster.core.readiness.overview import ClusterStatus
from saltext_kvmcluster.core.readiness.report import Readiness


@dataclass(frozen=True)
class Snapshot:
    """What the nodes of a cluster told, when that was asked, and how many seconds it took.

    ``status`` and ``readiness`` are made of ``nodes``, the facts of each node; ``readiness`` is
    None where it was not asked for.
    """

    cluster: Cluster
    began: datetime
    seconds: float
    nodes: Mapping[str, NodeFacts]
    status: ClusterStatus
    readiness: Readiness | None = None

    @property
    def deeds(self) -> dict[str, Deeds]:
        """What nodes told of their migrations and their trust; a node that did not is not there."""
        return {node: facts.deeds for node, facts in self.nodes.items() if facts.deeds}

    @property
    def history(self) -> list[dict[str, Any]]:
        """The migrations that ended, of the nodes in ``deeds``, by their clocks: for people."""
        known = {node: one.history for node, one in self.deeds.items() if one.history}
        return records.merged(known, None, len(known) * records.MOST)

    @property
    def moving(self) -> list[dict[str, Any]]:
        """The migrations that are under way, as ``kvmcluster.job`` has them."""
        return jobs.merged({node: one.jobs for node, one in self.deeds.items() if one.jobs})

    @property
    def unsettled(self) -> list[dict[str, Any]]:
        """The migrations that are not known to be settled, and that nobody is at work on."""
        return [
            row for one in self.deeds.values() for row in one.unsettled or () if not row["watched"]
        ]

    @property
    def wanted_off(self) -> set[str]:
        """The guests of the list that run nowhere because somebody wants it so."""
        return problems.wanted_off(self.cluster, self.nodes)

    @property
    def unplaced(self) -> dict[str, int] | None:
        """By node, how many guests would find no room if it were lost; None if not known."""
        return shortages.after_one(self.cluster, self.nodes)

    def to_dict(self) -> dict[str, Any]:
        """Return it as plain data."""
        deeds = self.deeds
        return {
            "cluster": self.cluster.name,
            "began": self.began.isoformat(timespec="seconds"),
            "seconds": round(self.seconds, 2),
            "status": self.status.to_dict(),
            "check": self.readiness.to_dict() if self.readiness else None,
            "history": self.history,
            "jobs": self.moving,
            "unsettled": self.unsettled,
            "untold": [node for node in self.nodes if node not in deeds],
            "drifted": {
                node: list(one.drifted) for node, one in deeds.items() if one.drifted is not None
            },
            "unplaced": self.unplaced,
        }
