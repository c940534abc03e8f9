"""High availability as the pillar describes it: its engine, its fencing, what it does for a guest.

The rules about values are in ``ha_parser``; what Pacemaker is told of them is in ``core.ha``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from saltext_kvmcluster.core.pillar.names import HOST
from saltext_kvmcluster.core.pillar.schema import described
from saltext_kvmcluster.core.validate import FLAG, LIST, one_of, whole

PACEMAKER = "pacemaker"
ENGINES = (PACEMAKER,)
RESTART, RELOCATE, DISABLE = "restart", "relocate", "disable"
ON_FAILURE = (RESTART, RELOCATE, DISABLE)
SECRET = "an absolute path on the nodes, or {pillar: KEY}"
MILLISECONDS, SECONDS = "milliseconds", "seconds"
SHORTEST_TOKEN, LONGEST_TOKEN = 1000, 300_000
MOST_PRIORITY = 1000
MOST_RESTARTS = 1000
LONGEST_WITHIN = 86400 * 7
MOST_LEVELS = 9
"""Of a node in a fencing-topology (ST_LEVEL_MAX in Pacemaker's fencing/internal.h, less one)."""


@dataclass(frozen=True)
class Secret:
    """Where a secret is: in a file on each node, or under a key of the nodes' pillar."""

    file: str = ""
    pillar: str = ""


@dataclass(frozen=True)
class Device:
    """A fence device (pillar ``kvmcluster:ha:fencing:devices:DEVICE``).

    ``nodes`` has by node the device's name for it (a port, a plug), empty if it needs none.
    """

    name: str
    agent: str = field(
        metadata=described(
            "a fence agent's name", "The fence agent, as stonith_admin --list-installed names it."
        )
    )
    nodes: Mapping[str, str] = field(
        metadata=described(
            "a list of nodes, or a mapping of nodes to ports",
            "The nodes that this device switches off; for a device with several ports or plugs,"
            " each with its own. Without ports the plug is the node's name.",
        )
    )
    options: Mapping[str, str] = field(
        default_factory=dict,
        metadata=described(
            "a mapping of the agent's options",
            "Options of the agent, as stonith_admin --metadata --agent AGENT lists them. Passwords"
            " belong under secrets.",
            "none",
        ),
    )
    secrets: Mapping[str, Secret] = field(
        default_factory=dict,
        metadata=described(
            "a mapping of the agent's options to secrets",
            "Options of the agent that nobody may read: each an absolute path of a file with the"
            " secret, which you put on every node with mode 0600, or {pillar: KEY} for a key of the"
            " nodes' pillar (with ':' between levels). Pacemaker's configuration has neither.",
            "none",
        ),
    )


@dataclass(frozen=True)
class Fencing:
    """How a node that is lost is switched off (pillar ``kvmcluster:ha:fencing``)."""

    devices: Mapping[str, Device] = field(
        default_factory=dict,
        metadata=described(
            "a mapping of names to fence devices",
            "The fence devices by name. Every node needs one.",
            "none",
        ),
    )
    levels: Mapping[str, tuple[tuple[str, ...], ...]] = field(
        default_factory=dict,
        metadata=described(
            "a mapping of nodes to lists of devices",
            "For a node with several devices, which of them is tried first, second and so on. A"
            " list in place of a device: devices that switch it off together, such as one for each"
            " of its power supplies.",
            "none",
        ),
    )

    def of(self, node: str) -> tuple[tuple[str, ...], ...]:
        """Return the devices that switch a node off, level by level; empty if none does."""
        if node in self.levels:
            return self.levels[node]
        return tuple((device.name,) for device in self.devices.values() if node in device.nodes)


@dataclass(frozen=True)
class QuorumDevice:
    """A host outside of the cluster that has a vote (pillar ``kvmcluster:ha:quorum_device``)."""

    host: str = field(
        metadata=described(HOST, "The host on which corosync-qnetd runs. It is no node.")
    )


@dataclass(frozen=True)
class Ha:
    """High availability: guests of a node that died start elsewhere (pillar ``kvmcluster:ha``)."""

    engine: str = field(
        default=PACEMAKER,
        metadata=described(
            one_of(ENGINES), "What watches nodes and guests, and acts: Corosync and Pacemaker."
        ),
    )
    manage: bool = field(
        default=True,
        metadata=described(
            FLAG,
            "false: Corosync, Pacemaker's properties and fencing are set up and kept by you, and"
            " only guests are put into Pacemaker.",
        ),
    )
    fencing: Fencing = field(
        default_factory=Fencing,
        metadata=described(
            "a mapping",
            "How a node that is lost is switched off before its guests start again."
            " Needed, unless manage is false.",
            "none",
        ),
    )
    token: int = field(
        default=3000,
        metadata=described(
            whole(SHORTEST_TOKEN, LONGEST_TOKEN, MILLISECONDS),
            "Milliseconds after which a node that is silent is lost. A shorter time fences nodes"
            " that are merely busy.",
        ),
    )
    quorum_device: QuorumDevice | None = field(
        default=None,
        metadata=described(
            "a mapping", "A host outside of the cluster that decides which half goes on."
        ),
    )


@dataclass(frozen=True)
class GuestHa:
    """What high availability does for a guest (pillar ``kvmcluster:guests:list:GUEST:ha``)."""

    priority: int = field(
        default=0,
        metadata=described(
            whole(0, MOST_PRIORITY),
            "If not all guests find a place, those of a higher number go first.",
        ),
    )
    failback: bool = field(
        default=False,
        metadata=described(
            FLAG,
            "true: it moves back, live, when a node that it prefers to its own is there again.",
        ),
    )
    restarts: int = field(
        default=10,
        metadata=described(
            whole(1, MOST_RESTARTS),
            "How often it may fail on one node, within the time of within, before it goes to"
            " another one.",
        ),
    )
    within: int = field(
        default=60,
        metadata=described(
            whole(1, LONGEST_WITHIN, SECONDS), "Seconds after which its failures are forgotten."
        ),
    )
    on_failure: str = field(
        default=RESTART,
        metadata=described(
            one_of(ON_FAILURE),
            "What follows if it fails while its node is well. restart: it starts there again, see"
            " restarts. relocate: it starts on another node at once. disable: it stays stopped. If"
            " its node fails, it always starts elsewhere.",
        ),
    )
    apart: tuple[str, ...] = field(
        default=(),
        metadata=described(
            LIST,
            "Guests, with ha as well, that never share a node with it. Where no node is left for"
            " it, the one of the lower priority is off; of the same, this one.",
            "none",
        ),
    )
    with_: tuple[str, ...] = field(
        default=(),
        metadata=described(
            LIST,
            "Guests, with ha as well, on whose node it runs. It stays stopped where they cannot"
            " run. Of guests that are together one leads: it has no with. The one that others are"
            " placed with cannot be held, so that kvmcluster.migrate, start, shutdown and freeze"
            " refuse it, and name Pacemaker's own commands.",
            "none",
        ),
    )
    after: tuple[str, ...] = field(
        default=(),
        metadata=described(
            LIST,
            "Guests, with ha as well, that have to run, on whatever node, before it starts. It is"
            " not stopped when one of them stops.",
            "none",
        ),
    )
