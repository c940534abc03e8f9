"""The clusters that the pillars of several minions describe."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from saltext_kvmcluster.core.errors import InputError
from saltext_kvmcluster.core.pillar import agreement
from saltext_kvmcluster.core.pillar.clusters import ROOT, Cluster
from saltext_kvmcluster.core.pillar.parser import from_pillar
from saltext_kvmcluster.core.text import MAX_NAMES, listed, one_line
from saltext_kvmcluster.core.validate import shown, suggestion


class Clusters:
    """The clusters that the pillars of several minions describe, one pillar read after another."""

    def __init__(self) -> None:
        self._clusters: dict[str, Cluster] = {}
        self._described_by: dict[str, str] = {}
        self._broken: dict[str, str] = {}

    def covers(self, minion: str) -> bool:
        """Whether the minion is a node of a cluster that was read already."""
        return any(minion in cluster.nodes for cluster in self._clusters.values())

    def read(self, minion: str, pillar: Mapping[str, Any]) -> None:
        """Take in one minion's pillar; an error in it is reported only if no cluster is found.

        InputError if it describes a cluster of a known name otherwise than another minion's.
        """
        if pillar.get("_errors"):
            self._broken[minion] = f"it does not render: {pillar['_errors'][0]}"
        elif ROOT in pillar:
            try:
                found = replace(from_pillar(pillar), described_by=minion)
            except InputError as error:
                self._broken[minion] = str(error)
                return
            known = self._clusters.setdefault(found.name, found)
            first = self._described_by.setdefault(found.name, minion)
            if known != found:
                raise InputError(
                    f"{first} and {minion} have different pillars for cluster {found.name};"
                    " give its nodes one and the same"
                )

    def has(self, name: str | None) -> bool:
        """Whether a cluster of that name was read; None stands for any."""
        if name is None:
            return bool(self._clusters)
        return isinstance(name, str) and name in self._clusters

    def members(self) -> dict[str, tuple[str, ...]]:
        """Return the nodes of every cluster that was read."""
        return {name: tuple(cluster.nodes) for name, cluster in self._clusters.items()}

    def all(self) -> list[Cluster]:
        """Return every cluster that was read."""
        return list(self._clusters.values())

    def of_node(self, node: str) -> Cluster:
        """Return the only cluster with a node of that minion id; InputError if there is not one.

        Of one cluster alone, whatever the node: that has an error of its own.
        """
        found = [name for name, cluster in self._clusters.items() if node in cluster.nodes]
        if not found and len(self._clusters) > 1:
            raise InputError(
                f"{one_line(node)} is a node of none of the clusters"
                f" {listed(sorted(self._clusters), MAX_NAMES)}; to list a cluster's nodes: salt-run"
                " kvmcluster.members cluster=NAME"
            )
        return self.choose(found[0] if len(found) == 1 else None)

    def choose(self, name: str | None) -> Cluster:
        """Return the cluster of that name, or the only one; InputError lists the known ones."""
        if name is None and len(self._clusters) == 1:
            return next(iter(self._clusters.values()))
        if isinstance(name, str) and name in self._clusters:
            return self._clusters[name]
        faults = agreement.faulty(self._broken)
        broken = "".join(f"; {sentence}" for sentence in faults)
        if self._clusters:
            wanted = "say which cluster" if name is None else f"there is no cluster {shown(name)}"
            known = listed(sorted(self._clusters), MAX_NAMES)
            nearest = suggestion(name, self._clusters)
            raise InputError(f"{wanted}: cluster= one of {known}{nearest}{broken}")
        if faults:
            raise InputError(
                f"{'; '.join(faults)}; no accepted minion has a usable pillar '{ROOT}'"
            )
        raise InputError(
            f"no accepted minion has a usable pillar '{ROOT}': describe the cluster there, for its"
            f" nodes (pillar.example shows every key), and accept their keys"
        )
