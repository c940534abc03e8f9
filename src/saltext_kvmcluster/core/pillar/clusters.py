"""The cluster as the pillar describes it: its nodes, logins, guests and migrations.

Membership, names and addresses come from here and from nowhere else.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from saltext_kvmcluster.core.errors import InputError
from saltext_kvmcluster.core.pillar.balancing import Balance
from saltext_kvmcluster.core.pillar.ha import GuestHa, Ha
from saltext_kvmcluster.core.pillar.names import HOST
from saltext_kvmcluster.core.pillar.options import Options
from saltext_kvmcluster.core.pillar.schema import described
from saltext_kvmcluster.core.pillar.ssh import Ssh
from saltext_kvmcluster.core.text import MAX_NAMES, listed, one_line
from saltext_kvmcluster.core.validate import FLAG, LIST, one_of, whole

ROOT = "kvmcluster"
DEFINITIONS = ("shared", "defined")
LETTERS = "letters, digits, '.', '_' and '-'"
# As many ports as libvirt sets aside for guests that arrive: qemu.conf's migration_port_min, _max.
MOST_AT_ONCE = 64
MOST_SPARE = 8
MOST_RESTARTS, LONGEST_WITHIN = 100, 7 * 86400
MOST_CASES = 20000
"""How many sets of lost nodes are tried at most: each takes about a millisecond."""


@dataclass(frozen=True)
class Node:
    """A host that runs guests (pillar ``kvmcluster:nodes:NODE``).

    ``id`` is its minion id; ``names`` here are all by which peers may reach it, id and migration
    name included, without repetition.
    """

    id: str
    names: tuple[str, ...] = field(
        metadata=described(
            LIST, "Further names and addresses by which peers reach this node.", "none"
        )
    )
    migration: str = field(
        metadata=described(
            HOST,
            "The name or address to which peers migrate: it selects the network that carries the"
            " guests' memory.",
            "the minion id",
        )
    )


@dataclass(frozen=True)
class Listed:
    """A guest of the cluster's own list (pillar ``kvmcluster:guests:list:GUEST``).

    ``xmlfile`` is None to search ``path``, ``home`` if the start is left to people, ``only`` empty
    for all nodes.
    """

    name: str
    xmlfile: str | None = field(
        default=None,
        metadata=described(
            "an absolute path",
            "The file with its definition; overrides path. Only with definitions shared.",
        ),
    )
    home: str | None = field(
        default=None,
        metadata=described(
            "a node's id",
            "The node that starts it if it runs nowhere; with prefer, one of the first there.",
            "none, it is started by hand",
        ),
    )
    prefer: tuple[tuple[str, ...], ...] = field(
        default=(),
        metadata=described(
            LIST,
            "Nodes on which it runs if they can take it, the best one first. A list in place of a"
            " node: nodes that are equally good. A plan chooses by it, kvmcluster.balance moves the"
            " guest there, and Pacemaker starts it there; another node will do where none of these"
            " can take it.",
            "none",
        ),
    )
    only: tuple[str, ...] = field(
        default=(),
        metadata=described(
            LIST,
            "The only nodes on which it may run: it is neither started on, nor moved to, any other"
            " one (the check guest.only).",
            "all nodes",
        ),
    )
    restarts: int = field(
        default=0,
        metadata=described(
            whole(0, MOST_RESTARTS),
            "How often it is started again where its QEMU crashed, within the time of within, by"
            " the reactor restart. Not for a guest with ha, which Pacemaker restarts.",
        ),
    )
    within: int = field(
        default=3600,
        metadata=described(
            whole(1, LONGEST_WITHIN, "seconds"),
            "Seconds after which a restart does not count any more.",
        ),
    )
    ha: GuestHa | None = field(
        default=None,
        metadata=described(
            f"{FLAG}, or a mapping",
            "Whether it starts elsewhere if its node dies, by kvmcluster:ha: true, or a mapping of"
            " how. A guest with ha needs no home.",
            "false",
        ),
    )

    @property
    def places(self) -> tuple[tuple[str, ...], ...]:
        """The nodes to which it is brought if there is a choice, the best ones first."""
        return self.prefer or (((self.home,),) if self.home else ())

    def rank(self, node: str) -> int:
        """Return how good a node is for it: 0 is the best."""
        places = self.places
        return next((rank for rank, tier in enumerate(places) if node in tier), len(places))


@dataclass(frozen=True)
class Guests:
    """Which guests there are, and where they are defined (pillar ``kvmcluster:guests``)."""

    definitions: str = field(
        default="shared",
        metadata=described(
            one_of(DEFINITIONS),
            "shared: guests are transient, started from XML on shared storage. defined: guests are"
            " defined on every node, and stay defined on both nodes of a migration.",
        ),
    )
    path: tuple[str, ...] = field(
        default=(),
        metadata=described(
            "folders with ':' between them",
            "Folders on storage that every node mounts, with ':' between them. Each is searched in"
            " turn for a definition NAME, then NAME.xml.",
        ),
    )
    list: Mapping[str, Listed] = field(
        default_factory=dict,
        metadata=described(
            "a mapping of guest names",
            "The guests that this cluster keeps running.",
            "none",
        ),
    )
    apart: tuple[tuple[str, ...], ...] = field(
        default=(),
        metadata=described(
            LIST,
            "Groups of guests that are kept on different nodes. A destination is never chosen for a"
            " guest where another one of its group is, or moves to. Guests that share a node all"
            " the same are parted by kvmcluster.balance, and a destination that you name yourself"
            " is accepted.",
        ),
    )
    with_: tuple[tuple[str, ...], ...] = field(
        default=(),
        metadata=described(
            LIST,
            "Groups of guests that are kept on one node, where one can take them all; else they are"
            " parted, and the plan says why. kvmcluster.balance brings them together again. A"
            " destination that you name yourself is accepted.",
            "none",
        ),
    )
    leases: bool = field(
        default=False,
        metadata=described(
            FLAG,
            "true: the state kvmcluster.disk_leases configures libvirt's lock manager lockd, and"
            " gives each guest of the list a lease, so that a second copy of it cannot start on"
            " another node, whatever its disks are on.",
        ),
    )
    lease_folder: str | None = field(
        default=None,
        metadata=described(
            "an absolute path",
            "The folder of the leases, on a file system that every node mounts and whose locks"
            " reach all nodes. It must not change while guests run.",
            "kvmcluster-leases in the first folder of path",
        ),
    )

    passthrough: tuple[str, ...] = field(
        default=(),
        metadata=described(
            LIST,
            "Guests that may be migrated although their definitions hand QEMU arguments past"
            " libvirt (qemu:commandline, qemu:override, qemu:capabilities), which nothing"
            " checks: a path among them may be another file on the destination. '*' in a name"
            " stands for any characters.",
        ),
    )

    spare_nodes: int = field(
        default=1,
        metadata=described(
            whole(0, MOST_SPARE),
            "How many nodes may be lost at once with a place left on the others for each guest of"
            " the list: kvmcluster.status reports a PROBLEM where that is not so. 0: it does not"
            " look.",
        ),
    )

    def may_pass(self, guest: str) -> bool:
        """Whether what a guest's definition hands QEMU past libvirt is allowed."""
        return any(
            re.fullmatch(".*".join(map(re.escape, name.split("*"))), guest)
            for name in self.passthrough
        )

    def only(self, guest: str) -> tuple[str, ...]:
        """Return the only nodes on which a guest may run; empty for all."""
        known = self.list.get(guest)
        return known.only if known else ()

    @property
    def leases_in(self) -> str:
        """The folder of the leases, empty if the pillar names none."""
        if self.lease_folder or not self.path:
            return self.lease_folder or ""
        return f"{self.path[0].rstrip('/')}/kvmcluster-leases"


@dataclass(frozen=True)
class Migration:
    """How guests migrate unless a call says otherwise (pillar ``kvmcluster:migration``)."""

    options: Options = field(default_factory=Options)
    max_outgoing: int = field(
        default=2,
        metadata=described(
            whole(1, MOST_AT_ONCE),
            "How many guests one node sends at once; others wait in the queue.",
        ),
    )
    max_incoming: int = field(
        default=2,
        metadata=described(
            whole(1, MOST_AT_ONCE),
            "How many guests one node receives at once; others wait in the queue.",
        ),
    )


@dataclass(frozen=True)
class Cluster:
    """The set of nodes named in the pillar, and how they trust each other."""

    name: str = field(metadata=described(LETTERS, "The cluster's name."))
    nodes: Mapping[str, Node] = field(
        metadata=described(
            "a mapping of minion ids to nodes",
            "The nodes by minion id. This is the only source of membership, names and addresses:"
            " a host that is removed here loses its entries in our files at the next apply.",
        )
    )
    ssh: Ssh = field(
        default_factory=Ssh,
        metadata=described("a mapping", "How nodes log in to each other.", "as below"),
    )
    guests: Guests = field(
        default_factory=Guests,
        metadata=described(
            "a mapping", "Which guests there are, and where they are defined.", "as below"
        ),
    )
    migration: Migration = field(
        default_factory=Migration,
        metadata=described(
            "a mapping",
            "How guests migrate. Every key is optional; all but the last two are also arguments of"
            " kvmcluster.migrate.",
            "as below",
        ),
    )
    ha: Ha | None = field(
        default=None,
        metadata=described(
            "a mapping",
            "High availability: guests of a node that died start elsewhere, by Pacemaker, after"
            " that node was switched off.",
        ),
    )

    balance: Balance = field(
        default_factory=Balance,
        metadata=described(
            "a mapping", "When kvmcluster.balance acts by a schedule, and how far.", "as below"
        ),
    )

    parts: Mapping[str, str] = field(default_factory=dict, compare=False, repr=False)
    """Its name, and a digest of each other key of the pillar as it was written."""
    described_by: str = field(default="", compare=False)
    """The minion whose pillar that is, where those of several were read."""

    def node(self, node_id: str) -> Node:
        """Return the node of that minion id; InputError names the members if there is none."""
        if node_id in self.nodes:
            return self.nodes[node_id]
        for node in self.nodes.values():
            if node_id in node.names:
                raise InputError(
                    f"{node_id} is a name of node {node.id}; give the node's minion id, {node.id}"
                )
        raise InputError(
            f"{one_line(node_id)} is not a node of cluster {self.name}; its nodes are"
            f" {listed(self.nodes, MAX_NAMES)} (pillar {ROOT}:nodes)"
        )

    def peers(self, node_id: str) -> tuple[Node, ...]:
        """Return every node but the given one, in pillar order."""
        self.node(node_id)
        return tuple(node for node in self.nodes.values() if node.id != node_id)

    def with_options(self, options: Options) -> Cluster:
        """Return the same cluster for one migration that has options of its own."""
        return replace(self, migration=replace(self.migration, options=options))
