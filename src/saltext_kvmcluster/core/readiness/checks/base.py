"""What a check is, and the world that it judges: the nodes' facts, with indexes built once."""

from __future__ import annotations

import posixpath
from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple, TypeVar

from saltext_kvmcluster.core.errors import InputError
from saltext_kvmcluster.core.facts.nodefacts import GuestFacts, NodeFacts
from saltext_kvmcluster.core.findings import BLOCK, SEE, UNKNOWN, WARN, Issue, unknown
from saltext_kvmcluster.core.guest import domainxml
from saltext_kvmcluster.core.guest.disks import Disk, Source
from saltext_kvmcluster.core.pacemaker import standby
from saltext_kvmcluster.core.pacemaker.managers import ManagerIndex
from saltext_kvmcluster.core.pillar.clusters import Cluster
from saltext_kvmcluster.core.storage import shared_storage
from saltext_kvmcluster.core.storage.location import Location
from saltext_kvmcluster.core.text import listed

NODE, PAIR, GUEST, MOVE = "node", "pair", "guest", "move"
SOURCE, DESTINATION = "source", "destination"
BOTH = (SOURCE, DESTINATION)
_T = TypeVar("_T")


@dataclass(frozen=True)
class Check:
    """One check of the registry.

    ``id`` is FILE.FUNCTION of this package. ``title`` says what OK means. ``find`` yields an issue
    for each reason why it is not OK. Its arguments, after the world, depend on the scope:

    - node: the node; ``role`` names the roles in which an issue of it keeps guests from moving.
      With ``own`` only the node itself can tell, so it is skipped where a peer asked the node.
    - pair: source and destination.
    - guest: the guest; ``resting`` if it also concerns guests that are not active.
    - move: what ``asks`` returns of the guest, and ``offers`` of the destination. Both are plain
      values, so that each different pair of them is judged once, however many guests and nodes
      there are. A guest that asks for None is skipped; a node that offers None, or a guest whose
      definition cannot be read, is UNKNOWN.

    ``on_move`` if a migration reports it, too, although it forbids none.

    A sentence names neither its guest nor its nodes, since those are shown beside it: "it" is the
    node or guest.
    """

    id: str
    title: str
    remedy: str
    scope: str
    find: Callable[..., Iterable[Issue]]
    severity: str = BLOCK
    role: tuple[str, ...] = BOTH
    resting: bool = False
    own: bool = False
    on_move: bool = False
    asks: Callable[[World, GuestFacts], Hashable] = lambda world, guest: None
    offers: Callable[[World, NodeFacts], Hashable] = lambda world, node: None

    def judged(self, world: World, asked: Hashable, offered: Hashable) -> tuple[Issue, ...]:
        """Return what a move check finds for one pair of values."""
        if asked is None:
            return ()
        if asked == UNREAD:
            return (UNREADABLE,)
        return (NO_DESTINATION,) if offered is None else tuple(self.find(world, asked, offered))


UNREAD = "definition not read"
UNREADABLE = unknown("not known: its definition cannot be read", f"{SEE}guest.blockers")
NO_DESTINATION = unknown("not known: no response from the destination", f"{SEE}node.daemon")
UNREACHABLE_NODE = unknown("not known: it is unreachable", f"{SEE}node.daemon")
NO_SOURCE = unknown("not known: no response from the source", f"{SEE}node.daemon")


class Use(NamedTuple):
    """A guest's use of a disk.

    ``writes`` is True where its definition says that it writes to it, False where that is not
    known, or where the disk is the base of another of its disks.
    """

    guest: GuestFacts
    source: Source
    writes: bool
    shareable: bool


@dataclass(frozen=True)
class World:
    """The cluster, and the facts of the nodes that were asked."""

    cluster: Cluster
    nodes: Mapping[str, NodeFacts]

    @cached_property
    def guests(self) -> tuple[GuestFacts, ...]:
        """Every guest of every node, as each node reports it."""
        return tuple(guest for node in self.nodes.values() for guest in node.guests or ())

    @cached_property
    def by_name(self) -> Mapping[str, list[GuestFacts]]:
        return _grouped((guest.name, guest) for guest in self.guests)

    @cached_property
    def by_uuid(self) -> Mapping[str, list[GuestFacts]]:
        return _grouped((guest.uuid, guest) for guest in self.guests)

    def copies(self, guest: GuestFacts) -> list[GuestFacts]:
        """Return every node's report of one guest, which has one UUID and one name."""
        return [found for found in self.by_uuid[guest.uuid] if found.name == guest.name]

    @cached_property
    def silence(self) -> tuple[Issue, ...]:
        """The issue of nodes whose guests are not known, for any guest of another node.

        A warning: a migration between two other nodes does not make it worse.
        """
        silent = [node.node for node in self.nodes.values() if node.guests is None]
        if not silent:
            return ()
        sentence = f"not checked against {listed(silent)}: no list of their guests"
        return (Issue(sentence, f"{SEE}node.daemon", UNKNOWN, WARN),)

    @cached_property
    def steady(self) -> NodeFacts | None:
        """The node with the median clock, None if no node reported its time."""
        reported = {node.clock: node for node in self.nodes.values() if node.clock is not None}
        return reported[sorted(reported)[(len(reported) - 1) // 2]] if reported else None

    @cached_property
    def refused(self) -> frozenset[str]:
        """The UUIDs of guests whose definition a node's libvirt does not take."""
        daemons = [node.daemon for node in self.nodes.values() if node.daemon]
        return frozenset(uuid for daemon in daemons for uuid in daemon.refuses)

    @cached_property
    def free_ports(self) -> Mapping[str, bool | None]:
        """Whether a node has a free port for migrations, None where that is not known."""
        return {node.node: _has_free_port(node) for node in self.nodes.values()}

    @cached_property
    def users(self) -> Mapping[str, list[Use]]:
        """Which guests use a disk, by its keys."""
        return _grouped(
            (key, use) for guest in self.guests for use in uses(guest) for key in self.keys(use)
        )

    @cached_property
    def writers(self) -> Mapping[str, list[Use]]:
        """Which guests write to a disk: for a base of thousands of images, hardly any."""
        return {key: [use for use in found if use.writes] for key, found in self.users.items()}

    def keys(self, use: Use) -> tuple[str, ...]:
        """Return the keys of a disk; one block device has several paths."""
        if use.source.kind != "block":
            return (use.source.path,)
        location = self.locate(use.guest.node, use.source)
        return (
            (use.source.path, location.identity)
            if location and location.identity
            else (use.source.path,)
        )

    def locate(self, node: str, source: Source) -> Location | None:
        """Return where a disk or file lies on a node, None if its storage is not known."""
        facts = self.nodes[node].storage
        if facts is None:
            return None
        key = (node, source)
        if key not in self._locations:
            self._locations[key] = shared_storage.locate(source, facts)
        return self._locations[key]

    def is_covered(self, path: str, folder: str) -> bool:
        """Whether some node has another file system mounted between a folder and a path in it."""
        below = self._mounted_below(folder)
        while below and len(path) > len(folder):
            if path in below:
                return True
            path = posixpath.dirname(path)
        return False

    def _mounted_below(self, folder: str) -> frozenset[str]:
        if folder not in self._below:
            self._below[folder] = frozenset(
                found for found in self._mounted if is_under(folder, found)
            )
        return self._below[folder]

    @cached_property
    def _mounted(self) -> frozenset[str]:
        storages = (node.storage for node in self.nodes.values() if node.storage)
        return frozenset(mount.folder for one in storages for mount in one.mounts or ())

    def identity(self, node: str, folder: str) -> str:
        """Return the identity of the file system that holds a folder, empty if it has none."""
        location = self.locate(node, Source("file", folder))
        return location.identity if location else ""

    def definition(self, text: str) -> domainxml.Guest | str:
        """Return a parsed definition, or why it cannot be parsed."""
        if text not in self._definitions:
            try:
                self._definitions[text] = domainxml.parse(text)
            except InputError as error:
                self._definitions[text] = str(error)
        return self._definitions[text]

    def witnesses(self, node: str, folder: str) -> frozenset[str]:
        """Return the nodes whose fresh token that node read in a folder, its own included."""
        key = (node, folder)
        if key not in self._witnesses:
            self._witnesses[key] = frozenset(self._seen(self.nodes[node], folder))
        return self._witnesses[key]

    def _seen(self, node: NodeFacts, folder: str) -> Iterable[str]:
        for (at, writer), tokens in node.tokens.items():
            known = self.nodes.get(writer)
            if at == folder and known and known.written.get(folder) in tokens:
                yield writer

    @cached_property
    def responding(self) -> frozenset[str]:
        """The nodes that were asked and responded."""
        return frozenset(name for name, node in self.nodes.items() if not node.detail)

    @cached_property
    def managers(self) -> ManagerIndex:
        """What the nodes that responded know of Pacemaker."""
        views = {name: self.nodes[name].pacemaker for name in self.responding}
        return ManagerIndex({name: views[name] for name in self.nodes if name in views})

    @cached_property
    def on_standby(self) -> tuple[str, ...]:
        """The nodes that Pacemaker has on standby, by their own word."""
        views = ((name, node.pacemaker) for name, node in self.nodes.items())
        return tuple(name for name, view in views if view and standby.is_on(name, view))

    @cached_property
    def without_pacemaker(self) -> tuple[str, ...]:
        """The nodes on which Pacemaker is known not to run."""
        views = ((name, node.pacemaker) for name, node in self.nodes.items())
        return tuple(name for name, view in views if view and not view.runs)

    @cached_property
    def guarded(self) -> dict[Hashable, Any]:
        """What guards disks, as far as it was found; see guards.py."""
        return {}

    @cached_property
    def _below(self) -> dict[str, frozenset[str]]:
        return {}

    @cached_property
    def _locations(self) -> dict[tuple[str, Source], Location]:
        return {}

    @cached_property
    def _definitions(self) -> dict[str, domainxml.Guest | str]:
        return {}

    @cached_property
    def _witnesses(self) -> dict[tuple[str, str], frozenset[str]]:
        return {}


def unreported(what: str, node: NodeFacts, destination: NodeFacts | None = None) -> Issue:
    """Return the issue of a missing fact of a node, or of a pair of nodes.

    Where the reason is an unreachable node or daemon, all such issues are equal, to be reported
    as one.

    what
        The fact, as in "not known: WHAT".
    """
    if destination and destination.daemon is None:
        return NO_DESTINATION
    if destination and node.daemon is None:
        return NO_SOURCE
    if node.detail:
        return UNREACHABLE_NODE
    return unknown(f"not known: {what}", "check the output of: salt NODE kvmcluster.facts")


def is_under(folder: str, path: str) -> bool:
    """Whether a path is inside a folder, by name alone."""
    return path.startswith(folder if folder.endswith("/") else f"{folder}/")


def uses(guest: GuestFacts) -> Iterable[Use]:
    """Return the disks that a guest uses.

    Without its definition, libvirt lists the paths but not which of them it writes to.
    """
    if guest.guest is None:
        for path in guest.disks:
            yield Use(guest, Source("file", path), writes=False, shareable=False)
        return
    for disk in written(guest.guest):
        yield Use(guest, disk.source, writes=True, shareable=disk.shareable)
        for layer in disk.backing:
            yield Use(guest, layer, writes=False, shareable=False)


def written(guest: domainxml.Guest) -> Iterable[Disk]:
    """Return the disks that a guest writes to."""
    return (disk for disk in guest.disks if disk.source.kind and not disk.readonly)


def _grouped(pairs: Iterable[tuple[str, _T]]) -> Mapping[str, list[_T]]:
    groups: dict[str, list[_T]] = defaultdict(list)
    for key, value in pairs:
        groups[key].append(value)
    return groups


def _has_free_port(node: NodeFacts) -> bool | None:
    if node.daemon is None or node.listening is None:
        return None
    first, last = node.daemon.ports
    return any(port not in node.listening for port in range(first, last + 1))
