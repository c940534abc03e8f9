"""Every node of the cluster, asked side by side about one guest."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from concurrent.futures import ThreadPoolExecutor

from saltext_kvmcluster.core.errors import WorldError
from saltext_kvmcluster.core.migration import migration
from saltext_kvmcluster.core.migration.migration import Host
from saltext_kvmcluster.core.ownership import startup
from saltext_kvmcluster.core.ownership.startup import NodeAnswer
from saltext_kvmcluster.core.pillar.clusters import Cluster
from saltext_kvmcluster.host import ssh
from saltext_kvmcluster.host.hypervisor import Hypervisor

PROBE_TIME = 5.0


class Peers:
    """Every node of the cluster, to be asked side by side about one guest."""

    def __init__(self, cluster: Cluster, here: str, forced: Collection[str] = frozenset()) -> None:
        self.here = here
        self._forced = {node: cluster.nodes[node].migration for node in forced}
        self._hypervisors = {
            node.id: Hypervisor()
            if node.id == here
            else Hypervisor(migration.connection_uri(cluster.ssh.login, node))
            for node in cluster.nodes.values()
        }
        self._hosts: dict[str, Host] = {}
        self._given_up: dict[str, NodeAnswer] = {}

    @property
    def own(self) -> Hypervisor:
        """This node's libvirt."""
        return self._hypervisors[self.here]

    def ask(self, guest: str, uuid: str) -> dict[str, NodeAnswer]:
        """Return what every node says of a guest; that one is silent is an answer too.

        uuid
            Empty to ask by name alone.
        """
        with ThreadPoolExecutor(max_workers=len(self._hypervisors)) as pool:
            detail = pool.map(lambda node: self._asked(node, guest, uuid), self._hypervisors)
            return dict(zip(self._hypervisors, detail, strict=True))

    def give_up(self, asked: Mapping[str, NodeAnswer]) -> list[str]:
        """Never ask again those that were silent; return the others."""
        self._given_up = {node: detail for node, detail in asked.items() if detail.detail}
        return [node for node in asked if node not in self._given_up]

    def close(self) -> None:
        """Let all connections go."""
        for hypervisor in self._hypervisors.values():
            hypervisor.close()

    def _asked(self, node: str, guest: str, uuid: str) -> NodeAnswer:
        if node in self._given_up:
            return self._given_up[node]
        hypervisor = self._hypervisors[node]
        try:
            if node not in self._hosts:
                self._hosts[node] = hypervisor.host()
            same_uuid = hypervisor.by_uuid(uuid) if uuid else startup.NOWHERE
            return NodeAnswer(same_uuid, hypervisor.by_name(guest), self._hosts[node])
        except WorldError as error:
            return NodeAnswer(detail=str(error), alive=self._lets_in(node))

    def _lets_in(self, node: str) -> bool:
        """Whether a node that is off, by somebody's word, can be logged in to."""
        return node in self._forced and ssh.probe(self._forced[node], PROBE_TIME).code == 0
