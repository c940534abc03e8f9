"""What is known of nodes and their guests at one moment: facts in, for the checks to judge.

Every value that could not be had is None, and says why beside it: silence is not absence.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from saltext_kvmcluster.core.findings import Trouble
from saltext_kvmcluster.core.guestxml import Guest
from saltext_kvmcluster.core.recovery import Look, Sighting
from saltext_kvmcluster.core.storage import StorageFacts

ACTIVE = tuple(
    sighting
    for sighting in Sighting
    if sighting not in (Sighting.SHUT_OFF, Sighting.ABSENT, Sighting.UNREACHABLE)
)


@dataclass(frozen=True)
class GuestFacts:
    """One guest as one node reports it.

    ``guest`` is what its definition says (of an active guest: the one that runs), None if it was
    not asked for or could not be read; ``trouble`` says why it could not. ``kept`` is the
    persistent definition of an active guest. ``disks`` are the paths that it writes, known even
    where the definition was not asked for. ``uptime`` is in seconds, None if it does not run or
    it is not known.
    """

    node: str
    look: Look
    reason: str = ""
    guest: Guest | None = None
    trouble: str = ""
    kept: Guest | None = None
    disks: tuple[str, ...] = ()
    memory_kib: int = 0
    vcpus: int = 0
    uptime: float | None = None

    @property
    def name(self) -> str:
        return self.look.name

    @property
    def uuid(self) -> str:
        return self.look.uuid

    @property
    def active(self) -> bool:
        """Whether a process of it exists: running, or paused for whatever reason."""
        return self.look.sighting in ACTIVE


@dataclass(frozen=True)
class Daemon:
    """A node's libvirt daemon as it describes itself and its host.

    ``versions`` are libvirt's and QEMU's as numbers, 9000000 for 9.0.0. ``machines`` are the
    machine types by architecture and domain type, as ``"x86_64/kvm" -> {"pc-i440fx-7.2", …}``;
    aliases count. ``cpus`` tells of CPUs that were asked about, by their canonical XML: empty if
    the host can run them, else why not.
    """

    uuid: str
    name: str
    libvirt: int
    qemu: int
    machines: Mapping[str, frozenset[str]] = field(default_factory=dict)
    networks: Mapping[str, bool] = field(default_factory=dict)
    cpus: Mapping[str, str] = field(default_factory=dict)
    ports: tuple[int, int] = (49152, 49215)
    lock_manager: str = ""


@dataclass(frozen=True)
class Reach:
    """What a node saw of one peer.

    ``cells`` are its logins (see reach.cell), ``address`` what the migration name means there,
    ``port`` how a connection to one of the peer's migration ports ended: ``refused`` (reachable
    and free), ``taken``, or what went wrong; empty if it was not tried.
    """

    cells: tuple[Mapping[str, object], ...] = ()
    address: str = ""
    port: str = ""


@dataclass(frozen=True)
class Seen:
    """What lies at a path on a node: ``kind`` is file, block, directory, other or nothing."""

    kind: str
    size: int = 0


@dataclass(frozen=True)
class NodeFacts:
    """What one node says of itself.

    ``said`` is why it could not be asked at all; everything else is None or empty then.
    ``daemon_said`` is why its libvirt daemon could not. ``clock`` is how far its clock is ahead
    of the asker's, in seconds, give or take ``clock_error``. ``resolves`` are the addresses that
    its own host name has there. ``bridges`` says of each bridge, and of each device that carries
    guests directly, whether it is up. ``listening`` are the TCP ports in use. ``ssh`` holds, by
    the check's id, what is wrong there. ``seen`` holds the paths that it was asked about,
    ``tokens`` the freshly written token that it read in each folder, by folder and writer.
    """

    node: str
    said: str = ""
    daemon: Daemon | None = None
    daemon_said: str = ""
    guests: tuple[GuestFacts, ...] | None = None
    clock: float | None = None
    clock_error: float = 0.0
    memory_kib: int | None = None
    free_kib: int | None = None
    host_name: str = ""
    resolves: tuple[str, ...] | None = None
    bridges: Mapping[str, bool] | None = None
    listening: frozenset[int] | None = None
    storage: StorageFacts | None = None
    ssh: Mapping[str, tuple[Trouble, ...]] = field(default_factory=dict)
    peers: Mapping[str, Reach] = field(default_factory=dict)
    seen: Mapping[str, Seen] = field(default_factory=dict)
    written: Mapping[str, str] = field(default_factory=dict)
    """The token that it wrote itself, by folder."""
    tokens: Mapping[tuple[str, str], str] = field(default_factory=dict)
    definitions: Mapping[str, str] = field(default_factory=dict)
    """For each guest of the pillar's list: the definition's text, where it was found."""


def silent(node: str, said: str) -> NodeFacts:
    """Return the facts of a node that could not be asked."""
    return NodeFacts(node, said=said, daemon_said=said)
