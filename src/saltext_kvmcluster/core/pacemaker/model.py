"""Pacemaker as one node knows it: its configuration, its state, and the guests of its resources."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from saltext_kvmcluster.core.pacemaker.fence_agents import FenceDevice, FenceLevel

DEFAULT_STICKINESS = "0"
TRUE = ("true", "on", "yes", "y", "1")


def is_true(value: str) -> bool:
    """Whether Pacemaker takes a value for true (crm_is_true in its lib/common/strings.c)."""
    return value.strip().lower() in TRUE


@dataclass(frozen=True)
class GuestResource:
    """A resource that is a guest: its agent is VirtualDomain, or is given a definition.

    ``moved`` is the id to name when it is moved: that of the outermost group or clone around it, or
    its own. ``configs`` are the paths of its guest's definition: several if rules choose among
    them. ``on_fail`` is that of its operation migrate_to, ``stickiness`` as configured, both empty
    if not set. ``parameters`` are the agent's.

    ``mark``: that of our hold, empty if there is none. ``ruled``: whether rules decide about its
    meta attributes, or another set of them outranks all. ``bound``: the ids of the constraints by
    which others stop unless it is active.
    """

    id: str
    moved: str
    configs: tuple[str, ...] = ()
    allow_migrate: bool = False
    on_fail: str = ""
    stickiness: str = DEFAULT_STICKINESS
    parameters: Mapping[str, str] = field(default_factory=dict)
    managed: bool = True
    is_virtual_domain: bool = True
    mark: str = ""
    ruled: bool = False
    bound: tuple[str, ...] = ()
    provider: str = ""

    @property
    def sticks(self) -> bool:
        """Whether its stickiness is above 0: a number or INFINITY."""
        return not self.stickiness.startswith("-") and self.stickiness.lstrip("+0") != ""


@dataclass(frozen=True)
class Configuration:
    """What the CIB says.

    ``options`` are the cluster's properties that are set; ``levels`` those of fencing that are set
    for a node by its name; ``moves`` the ids of the constraints that
    ``crm_resource --move`` and ``--ban`` left; ``unmanaged`` the ids of resources, nodes or
    defaults that are set to be unmanaged or in maintenance. ``nodes``: the id of each node, by its
    name; ``standbys``: the mark of our own standby, by its name.
    """

    options: Mapping[str, str] = field(default_factory=dict)
    guests: tuple[GuestResource, ...] = ()
    fencing: tuple[FenceDevice, ...] = ()
    levels: tuple[FenceLevel, ...] = ()
    moves: tuple[str, ...] = ()
    unmanaged: tuple[str, ...] = ()
    nodes: Mapping[str, str] = field(default_factory=dict)
    standbys: Mapping[str, str] = field(default_factory=dict)

    @property
    def has_watchdog(self) -> bool:
        """Whether each node has a watchdog that ends it (sbd without a shared disk)."""
        keys = ("fencing-watchdog-timeout", "stonith-watchdog-timeout")
        return any(self.options.get(key, "").strip("0ms ") for key in keys)


@dataclass(frozen=True)
class Member:
    """A node of Pacemaker's cluster, as ``crm_mon`` shows it; ``guest``: it is a resource."""

    name: str
    online: bool
    standby: bool = False
    pending: bool = False
    unclean: bool = False
    maintenance: bool = False
    guest: bool = False


@dataclass(frozen=True)
class ResourceState:
    """A resource's state; ``managed`` is false where it is unmanaged, in maintenance, or blocked.

    ``nodes``: where it is active. ``target``: the role that is wanted, empty if it is the default.
    ``blocked``: whether Pacemaker does nothing with it until a person has: it failed, or
    is taken for active on several nodes. ``fleeting``: whether it is unmanaged
    only since its node is in maintenance. Once that node was down Pacemaker knows it nowhere, so
    that it is managed again, and started (native_add_running in lib/pengine/native.c).
    ``busy``: whether an action on it is under way; one that was begun before it became unmanaged
    goes on. ``moving``: whether that is a live migration.
    """

    managed: bool = True
    nodes: tuple[str, ...] = ()
    target: str = ""
    blocked: bool = False
    fleeting: bool = False
    busy: bool = False
    moving: bool = False

    @property
    def idle(self) -> bool:
        """Whether Pacemaker leaves it alone now."""
        return not self.managed and not self.blocked

    @property
    def acts(self) -> bool:
        """Whether Pacemaker acts on it, or would after a cleanup, or a restart of its node."""
        return not self.idle or self.fleeting


@dataclass(frozen=True)
class Status:
    """What ``crm_mon`` shows. ``quorum``: whether there is a DC, and its partition has quorum.

    ``removed``: the resources of the agent VirtualDomain that are no longer configured, but known
    to be somewhere; Pacemaker stops them.
    """

    quorum: bool
    members: Mapping[str, Member] = field(default_factory=dict)
    resources: Mapping[str, ResourceState] = field(default_factory=dict)
    options: Mapping[str, str] = field(default_factory=dict)
    removed: tuple[str, ...] = ()


@dataclass(frozen=True)
class Pacemaker:
    """Pacemaker on one node. Nothing is set where there is none.

    ``runs``: whether its process does. ``error``: why it cannot be read, or what it would do is not
    known. ``name``: this node's in its cluster. ``guests``: the name in each definition that a
    resource names, by path; ``unread``: why one cannot be read. ``fencers``: the
    fence devices that this node can use to fence another one, by its name, where it tells.
    ``working``: the marks of holds of ours whose process runs on this node.
    """

    runs: bool = False
    error: str = ""
    name: str = ""
    configuration: Configuration | None = None
    status: Status | None = None
    guests: Mapping[str, str] = field(default_factory=dict)
    unread: Mapping[str, str] = field(default_factory=dict)
    fencers: Mapping[str, frozenset[str]] = field(default_factory=dict)
    working: frozenset[str] = frozenset()

    def state(self, resource: GuestResource) -> ResourceState:
        """Return the state of a resource; one that is not shown counts as managed."""
        status = self.status or Status(quorum=False)
        found = status.resources.get(resource.id, ResourceState())
        lasting = not resource.managed or is_true(status.options.get("maintenance-mode", ""))
        at = (status.members.get(node) for node in found.nodes)
        by_node = any(member and member.maintenance for member in at)
        return replace(found, fleeting=found.idle and by_node and not lasting)

    @property
    def resources(self) -> tuple[GuestResource, ...]:
        """The resources that are guests."""
        return self.configuration.guests if self.configuration else ()
