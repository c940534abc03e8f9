"""The facts of nodes and their guests at one moment, for the checks to judge.

A value that could not be had is None, with the reason beside it: no response is not absence.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from saltext_kvmcluster.core.cordons import Cordon
from saltext_kvmcluster.core.facts.deeds import Deeds
from saltext_kvmcluster.core.facts.starters import Starters
from saltext_kvmcluster.core.findings import Issue
from saltext_kvmcluster.core.guest.domainxml import Guest
from saltext_kvmcluster.core.migration.migration import Run
from saltext_kvmcluster.core.pacemaker.corosync import Corosync
from saltext_kvmcluster.core.pacemaker.model import Pacemaker
from saltext_kvmcluster.core.storage.inventory import StorageFacts
from saltext_kvmcluster.core.storage.lock_manager import LockManager
from saltext_kvmcluster.core.verdicts import Observation, Sighting

ACTIVE = tuple(
    sighting
    for sighting in Sighting
    if sighting not in (Sighting.SHUT_OFF, Sighting.ABSENT, Sighting.UNREACHABLE)
)


@dataclass(frozen=True)
class GuestFacts:
    """One guest as one node reports it.

    ``guest`` is its parsed definition (of an active guest: the running one), None if it was not
    asked for or cannot be parsed; ``error`` says why it cannot. ``kept`` is the
    persistent definition of an active guest. ``disks`` are the paths of its disks, known even
    without the definition. ``uptime`` is in seconds, None if it is not running or not known.
    ``block_jobs`` are the disks that have an active one. ``refusals`` is what its QEMU says that
    it does not migrate, None if it was not asked.
    """

    node: str
    observation: Observation
    reason: str = ""
    guest: Guest | None = None
    error: str = ""
    kept: Guest | None = None
    disks: tuple[str, ...] = ()
    memory_kib: int = 0
    vcpus: int = 0
    snapshots: int = 0
    block_jobs: tuple[str, ...] = ()
    refusals: tuple[str, ...] | None = None
    run: Run | None = None
    """The run of its QEMU, None if it is not known: only that of a paused one is asked for."""
    uptime: float | None = None

    @property
    def name(self) -> str:
        return self.observation.name

    @property
    def uuid(self) -> str:
        return self.observation.uuid

    @property
    def active(self) -> bool:
        """Whether it has a QEMU process: running, or paused for any reason."""
        return self.observation.sighting in ACTIVE


class Socket(NamedTuple):
    """A port in use: tcp or udp, its IP address (``*`` for all of both versions), its number."""

    protocol: str
    address: str
    port: int


class HeldSecret(NamedTuple):
    """A secret that a libvirt daemon has, without its value: the kind is that of its usage."""

    uuid: str
    kind: str
    usage: str
    ephemeral: bool


@dataclass(frozen=True)
class Resources:
    """What a host has for a guest that arrives; None where that is not known.

    ``anywhere`` are the versions of IP in which any address can be bound. ``cpus`` are those that
    the kernel may ever have; ``confines``: libvirt puts guests into cgroups of CPUs. ``hugepages``
    says how many are free by their size in KiB, ``default_page`` is the size of those that are
    meant without one, 0 if not known.
    """

    addresses: frozenset[str] | None = None
    sockets: frozenset[Socket] | None = None
    anywhere: frozenset[int] = frozenset()
    cpus: frozenset[int] | None = None
    hugepages: Mapping[int, int] | None = None
    default_page: int = 0
    confines: bool = True


@dataclass(frozen=True)
class Daemon:
    """A node's libvirt daemon, as it reports itself and its host.

    ``qemu`` and ``libvirt`` are versions as numbers, 7002000 for 7.2.0, 0 if not known.
    ``machines`` are the machine types by architecture and domain type, as ``"x86_64/kvm" ->
    {"pc-i440fx-7.2", …}``; aliases count. ``networks`` and ``filters`` are None if not known;
    ``drivers`` holds, by either word, why there are none or it is not known. ``cpu`` is the host's
    own, as XML; ``threads`` its hardware threads, 0 if not known. ``cpus`` holds the CPUs that were
    asked about, by questions.cpu_key: empty if the host can run it, else why not. ``certificates``
    are the folder of the certificates for migrations and the files in it, None if not known;
    ``verifies`` says whether it verifies the certificate of a node that sends it a guest. ``locks``
    is its lock manager. ``online`` and ``numa_nodes`` are the host's CPUs and NUMA nodes,
    ``models`` its security drivers, empty if not known; ``secrets`` those that it has, and
    ``secret_values`` the UUIDs of those whose values are on its disk, None if not known.
    """

    uuid: str
    name: str
    qemu: int
    machines: Mapping[str, frozenset[str]] = field(default_factory=dict)
    networks: Mapping[str, bool] | None = field(default_factory=dict)
    filters: frozenset[str] | None = frozenset()
    drivers: Mapping[str, str] = field(default_factory=dict)
    cpu: str = ""
    cpus: Mapping[str, str] = field(default_factory=dict)
    ports: tuple[int, int] = (49152, 49215)
    locks: LockManager = field(default_factory=LockManager)
    certificates: tuple[str, frozenset[str]] | None = None
    verifies: bool = True
    threads: int = 0
    libvirt: int = 0
    online: frozenset[int] = frozenset()
    numa_nodes: frozenset[int] = frozenset()
    models: frozenset[str] = frozenset()
    secrets: frozenset[HeldSecret] | None = None
    secret_values: frozenset[str] | None = None
    emulators: Mapping[str, Mapping[str, frozenset[str]]] = field(default_factory=dict)
    """The values of each enum of the emulators asked about, by questions.emulator_key."""
    tsc: int = 0
    """The frequency of the host's time stamp counter in Hz where it cannot be scaled, else 0."""
    refuses: Mapping[str, str] = field(default_factory=dict)
    """Why its libvirt does not take a guest's definition, by UUID: of one that is to move here from
    a newer libvirt."""


@dataclass(frozen=True)
class LoginResults:
    """The results of a node's logins to one peer.

    ``cells`` are the logins (see logins.cell), ``port`` the result of a connection to one of the
    peer's migration ports: ``refused`` (reachable and free), ``taken``, or what went wrong; empty
    if it was not tried. ``names`` are the names that were to be tried, empty for all.
    """

    cells: tuple[Mapping[str, object], ...] = ()
    port: str = ""
    names: tuple[str, ...] = ()


@dataclass(frozen=True)
class Inspection:
    """What is at a path on a node: ``kind`` is file, block, directory, other or nothing."""

    kind: str


@dataclass(frozen=True)
class NodeFacts:
    """The facts of one node.

    ``detail`` is why it is unreachable; everything else is None or empty then. ``daemon_detail`` is
    why its libvirt daemon gave no response. ``clock`` is how far its clock is ahead of the asking
    node's, in seconds, with an error of ``clock_error``. ``cordoned`` holds its cordon, or nothing
    if it is not cordoned. ``resolves`` are the addresses that its host name has on it. ``bridges``
    says of each network device whether it is up. ``listening`` are the TCP ports in use.
    ``starters`` start guests at its next boot. ``ssh`` holds the issues of its ssh checks, by the
    check's id. ``observed`` holds the paths that it was asked about, ``tokens`` the young tokens
    that it read in each folder, by folder and writer.
    """

    node: str
    detail: str = ""
    daemon: Daemon | None = None
    daemon_detail: str = ""
    guests: tuple[GuestFacts, ...] | None = None
    clock: float | None = None
    clock_error: float = 0.0
    cordoned: tuple[Cordon, ...] | None = None
    memory_kib: int | None = None
    free_kib: int | None = None
    host_name: str = ""
    resolves: tuple[str, ...] | None = None
    bridges: Mapping[str, bool] | None = None
    listening: frozenset[int] | None = None
    starters: Starters | None = None
    resources: Resources = field(default_factory=Resources)
    storage: StorageFacts | None = None
    ssh: Mapping[str, tuple[Issue, ...]] = field(default_factory=dict)
    peers: Mapping[str, LoginResults] = field(default_factory=dict)
    observed: Mapping[str, Inspection] = field(default_factory=dict)
    names: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """The addresses of the host names that it was asked about."""
    written: Mapping[str, str] = field(default_factory=dict)
    """The token that it wrote, by folder."""
    write_errors: Mapping[str, str] = field(default_factory=dict)
    """Why it could write no token, by folder."""
    tokens: Mapping[tuple[str, str], Collection[str]] = field(default_factory=dict)
    definitions: Mapping[str, str] = field(default_factory=dict)
    """For each guest of the pillar's list: the definition's text, empty if the node has none."""
    definition_notes: Mapping[str, str] = field(default_factory=dict)
    """For guests of that list: a warning about the definition's path, or why it cannot be read."""
    journal: tuple[str, ...] = ()
    """A sentence for each file in its journal that is no valid entry."""
    pacemaker: Pacemaker | None = None
    """Pacemaker there; None where not even whether it runs is known."""
    corosync: Corosync | None = None
    """Corosync there, None where that is not known."""
    agent: bool | None = None
    """Whether the resource agent of our own is installed, None where that is not known."""
    state_starts: frozenset[str] = frozenset()
    """The guests that a state of its highstate starts."""
    state_detail: str = ""
    """Why that is not known."""
    by_peer: bool = False
    """Whether a peer asked it over ssh, which sees nothing of its ssh and of its own peers."""
    minion_process: str | None = ""
    """What is wrong with the process of its minion, None if that is not known."""
    asker: str = ""
    """The peer that asked it for the master, since its minion gave no facts."""
    minion: str = ""
    """Why its minion gave none, then."""
    answered: bool = False
    """Whether its minion answered, though with no facts."""
    pillar: Mapping[str, str] = field(default_factory=dict)
    """The parts of the pillar by which it works; see Cluster."""
    shutdowns: Mapping[str, str] = field(default_factory=dict)
    """When a guest was shut down there by kvmcluster.shutdown, in ISO 8601."""
    logged: Mapping[str, float] | None = None
    """When libvirt wrote its log of a guest there last, in seconds by the node's clock."""
    key_age: float | None = None
    """How old the file of its cluster key is, in seconds by its own clock; None if not known."""
    key_replaced: str = ""
    """Since when its cluster key is being replaced; empty if it is not."""
    deeds: Deeds | None = None
    """Its migrations, None if it was not asked for them, or did not tell them itself."""


NOBODY = (
    "no node answers, so that the master, or its network, is to be suspected first:"
    " salt-run manage.status"
)


def nobody_answers(nodes: Mapping[str, NodeFacts]) -> bool:
    """Whether no minion answered anything: it is not likely that all nodes are down."""
    return all(facts.detail and not facts.answered for facts in nodes.values())


def silent(node: str, detail: str, answered: bool = False) -> NodeFacts:
    """Return the facts of an unreachable node.

    detail
        Why it is unreachable.
    answered
        Whether it answered something else.
    """
    return NodeFacts(
        node, detail=detail, daemon_detail=detail, minion_process=None, answered=answered
    )
