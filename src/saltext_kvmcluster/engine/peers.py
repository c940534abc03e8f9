"""Every node of the cluster, asked side by side about one guest."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace

from saltext_kvmcluster.core.errors import WorldError
from saltext_kvmcluster.core.migration.migration import Host
from saltext_kvmcluster.core.ownership import startup
from saltext_kvmcluster.core.ownership.startup import NodeAnswer
from saltext_kvmcluster.engine import other_hands
from saltext_kvmcluster.engine.environment import Environment, Libvirt


def responding(asked: Mapping[str, NodeAnswer]) -> list[str]:
    """Return the nodes that answered."""
    return [node for node, answer in asked.items() if not answer.detail]


class Peers:
    """Every node of the cluster, this one included.

    probed
        Nodes of which is to be found out, where their libvirt does not respond, whether they do by
        any of their names, and whether Pacemaker fenced them.
    """

    def __init__(self, env: Environment, probed: Collection[str] = ()) -> None:
        self.env, self.here = env, env.here
        self._probed = probed
        self._hosts: dict[str, Host] = {}
        self._given_up: dict[str, NodeAnswer] = {}

    @property
    def own(self) -> Libvirt:
        """This node's libvirt."""
        return self.env.libvirt(self.here)

    def ask(self, guest: str, uuid: str) -> dict[str, NodeAnswer]:
        """Return what every node answers about a guest; no response is an answer too.

        uuid
            Empty to ask by name alone.
        """
        asked = self.env.side_by_side(
            lambda node: self._asked(node, guest, uuid), self.env.cluster.nodes
        )
        silent = [node for node in self._probed if asked[node].detail and not asked[node].alive]
        if not silent:
            return asked
        rulings = other_hands.fenced(self.env, silent, responding(asked))
        return asked | {node: replace(asked[node], fenced=rulings[node]) for node in silent}

    def give_up(self, asked: Mapping[str, NodeAnswer]) -> list[str]:
        """Ask those that did not respond no more; return the others."""
        self._given_up = {node: answer for node, answer in asked.items() if answer.detail}
        return [node for node in asked if node not in self._given_up]

    def _asked(self, node: str, guest: str, uuid: str) -> NodeAnswer:
        if node in self._given_up:
            return self._given_up[node]
        libvirt = self.env.libvirt(node)
        try:
            if node not in self._hosts:
                self._hosts[node] = libvirt.host()
            same_name = libvirt.by_name(guest)
            if uuid in ("", same_name.uuid):
                # Asked once: a second answer could contradict the first.
                same_uuid = same_name if uuid else startup.NOWHERE
            else:
                same_uuid = libvirt.by_uuid(uuid)
            return NodeAnswer(same_uuid, same_name, self._hosts[node])
        except WorldError as error:
            alive = self.env.responds(node) if node in self._probed else ""
            return NodeAnswer(detail=str(error), alive=alive)
