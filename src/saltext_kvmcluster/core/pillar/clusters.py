"""The cluster as the pillar describes it: raw pillar in, a validated model out.

Membership, names and addresses come from here and from nowhere else. Every error names the
key by its whole path, what is wrong with it, and what would be right.
"""

from __future__ import annotations

import fnmatch
import ipaddress
import posixpath
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from saltext_kvmcluster.core import validate
from saltext_kvmcluster.core.errors import InputError
from saltext_kvmcluster.core.pillar import options
from saltext_kvmcluster.core.pillar.options import Options
from saltext_kvmcluster.core.pillar.schema import keys_of, words
from saltext_kvmcluster.core.validate import (
    FLAG,
    LIST,
    listed,
    one_of,
    quotes,
    shown,
    suggestion,
    whole,
)

ROOT = "kvmcluster"
KEY_TYPES = {"rsa": "ssh-rsa", "ed25519": "ssh-ed25519"}
DEFINITIONS = ("shared", "defined")
EVERYDAY_KEYS = ("id_rsa", "id_dsa", "id_ecdsa", "id_ed25519", "id_ecdsa_sk", "id_ed25519_sk")
TAKEN_NAMES = (
    *("authorized_keys", "authorized_keys2", "known_hosts", "config", "environment", "rc"),
    *("kvmcluster_known_hosts", "kvmcluster_config", "ssh_host_*", "*.pub"),
)
TAKEN_FOLDERS = (
    *("/boot", "/dev", "/etc/ssh", "/proc", "/run", "/sys", "/tmp"),
    *("/var/lock", "/var/run", "/var/tmp"),
)
SYSTEM_FOLDERS = ("/boot", "/dev", "/proc", "/run", "/sys")
LOOPBACK_NAMES = ("localhost", "localhost.localdomain", "ip6-localhost", "ip6-loopback")
LITERAL_LENGTH = 2
LETTERS = "letters, digits, '.', '_' and '-'"
ACCOUNT = "a Unix account's name"
HOST = "a host name or an address"
# As many ports as libvirt sets aside for guests that arrive: qemu.conf's migration_port_min, _max.
MOST_AT_ONCE = 64

_HOST_NAME = re.compile(r"[A-Za-z0-9_]([A-Za-z0-9_.-]{0,251}[A-Za-z0-9_])?\Z")
_CLUSTER_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,62}\Z")
_LOGIN = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]{0,31}\Z")
_PATTERN = re.compile(r"!?[A-Za-z0-9_.:*?-]{1,253}\Z")
_PATH = re.compile(r"/[A-Za-z0-9_./@+-]+\Z")
_GUEST = re.compile(r"[^/.\-\s\x00-\x1f\x7f][^/\x00-\x1f\x7f]{0,252}\Z")
_DOTTED_NUMBERS = re.compile(r"[0-9.]+\Z")


@dataclass(frozen=True)
class Node:
    """A host that runs guests (pillar ``kvmcluster:nodes:NODE``).

    ``id`` is its minion id; ``names`` here are all by which it may be dialled, id and migration
    name included, without repetition.
    """

    id: str
    names: tuple[str, ...] = field(
        metadata=words(LIST, "Further names and addresses by which peers reach this node.", "none")
    )
    migration: str = field(
        metadata=words(
            HOST,
            "The name or address to which peers migrate: it selects the network that carries the"
            " guests' memory.",
            "the minion id",
        )
    )


@dataclass(frozen=True)
class Ssh:
    """How nodes log in to each other (pillar ``kvmcluster:ssh``)."""

    login: str = field(
        default="root",
        metadata=words(
            ACCOUNT,
            "The account to which peers log in. libvirt's daemon connects as root and logs in as"
            " this account.",
        ),
    )
    key: str | None = field(
        default=None,
        metadata=words(
            "an absolute path",
            "The cluster key. It must not be the login's everyday key.",
            "~login/.ssh/id_rsa_cluster, or id_ed25519_cluster with key_type ed25519",
        ),
    )
    key_type: str = field(
        default="rsa", metadata=words(one_of(tuple(KEY_TYPES)), "rsa (4096 bits) or ed25519.")
    )
    host_patterns: tuple[str, ...] = field(
        default=(),
        metadata=words(
            LIST,
            "Further ssh_config patterns for the Host block. Only needed to reach nodes by names"
            " that are not listed above; host keys are not pinned for such names.",
        ),
    )
    exclusive: bool = field(
        default=False,
        metadata=words(
            FLAG, "true: authorized_keys2 contains the cluster's keys and nothing else."
        ),
    )
    manage_sshd: bool = field(
        default=False,
        metadata=words(
            FLAG,
            "true: if sshd does not read authorized_keys2 (RHEL, Fedora) or refuses the login, a"
            " drop-in in /etc/ssh/sshd_config.d changes that. false: the state fails and says what"
            " to do. The drop-in stays when this is set to false again; remove it by hand.",
        ),
    )


@dataclass(frozen=True)
class Listed:
    """A guest of the cluster's own list (pillar ``kvmcluster:guests:list:GUEST``).

    ``xmlfile`` is None to search ``path``, ``home`` if the start is left to people.
    """

    name: str
    xmlfile: str | None = field(
        default=None,
        metadata=words(
            "an absolute path",
            "The file with its definition; overrides path. Only with definitions shared.",
        ),
    )
    home: str | None = field(
        default=None,
        metadata=words(
            "a node's id",
            "The node that starts it if it runs nowhere.",
            "none, it is started by hand",
        ),
    )


@dataclass(frozen=True)
class Guests:
    """Which guests there are, and where they are defined (pillar ``kvmcluster:guests``)."""

    definitions: str = field(
        default="shared",
        metadata=words(
            one_of(DEFINITIONS),
            "shared: guests are transient, started from XML on shared storage. defined: guests are"
            " defined on every node, and stay defined on both nodes of a migration.",
        ),
    )
    path: tuple[str, ...] = field(
        default=(),
        metadata=words(
            "folders with ':' between them",
            "Folders on storage that every node mounts, with ':' between them. Each is searched in"
            " turn for a definition NAME, then NAME.xml.",
        ),
    )
    list: Mapping[str, Listed] = field(
        default_factory=dict,
        metadata=words(
            "a mapping of guest names",
            "The guests that this cluster keeps running.",
            "none",
        ),
    )
    apart: tuple[tuple[str, ...], ...] = field(
        default=(),
        metadata=words(
            LIST,
            "Groups of guests that are kept on different nodes. A destination is never chosen for a"
            " guest where another one of its group is, or moves to. Guests that already share a"
            " node are left there, and a destination that you name yourself is accepted.",
        ),
    )


@dataclass(frozen=True)
class Migration:
    """How guests migrate unless a call says otherwise (pillar ``kvmcluster:migration``)."""

    options: Options = field(default_factory=Options)
    max_outgoing: int = field(
        default=2,
        metadata=words(
            whole(1, MOST_AT_ONCE),
            "How many guests one node sends at once; others wait in the queue.",
        ),
    )
    max_incoming: int = field(
        default=2,
        metadata=words(
            whole(1, MOST_AT_ONCE),
            "How many guests one node receives at once; others wait in the queue.",
        ),
    )


@dataclass(frozen=True)
class Cluster:
    """The set of nodes named in the pillar, and how they trust each other."""

    name: str = field(metadata=words(LETTERS, "The cluster's name."))
    nodes: Mapping[str, Node] = field(
        metadata=words(
            "a mapping of minion ids to nodes",
            "The nodes by minion id. This is the only source of membership, names and addresses:"
            " a host that is removed here loses its entries in our files at the next apply.",
        )
    )
    ssh: Ssh = field(
        default_factory=Ssh,
        metadata=words("a mapping", "How nodes log in to each other.", "as below"),
    )
    guests: Guests = field(
        default_factory=Guests,
        metadata=words(
            "a mapping", "Which guests there are, and where they are defined.", "as below"
        ),
    )
    migration: Migration = field(
        default_factory=Migration,
        metadata=words(
            "a mapping",
            "How guests migrate. Every key is optional; all but the last two are also arguments of"
            " kvmcluster.migrate.",
            "as below",
        ),
    )

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
            f"{node_id} is not a node of cluster {self.name}; its nodes are {listed(self.nodes)}"
            f" (pillar {ROOT}:nodes){suggestion(node_id, self.nodes)}"
        )

    def peers(self, node_id: str) -> tuple[Node, ...]:
        """Return every node but the given one, in pillar order."""
        self.node(node_id)
        return tuple(node for node in self.nodes.values() if node.id != node_id)

    def with_options(self, options: Options) -> Cluster:
        """Return the same cluster for one migration that has options of its own."""
        return replace(self, migration=replace(self.migration, options=options))


def from_pillar(pillar: object) -> Cluster:
    """Return the cluster that the pillar's ``kvmcluster`` part describes.

    pillar
        The whole pillar of a minion (a mapping).

    Raises InputError with the path of the wrong key.
    """
    raw = pillar.get(ROOT) if isinstance(pillar, Mapping) else None
    if raw is None:
        raise InputError(
            f"this minion has no pillar '{ROOT}': describe the cluster there"
            " (pillar.example shows every key) and run saltutil.refresh_pillar"
        )
    top = validate.section(raw, ROOT, keys_of(Cluster))
    name = validate.matching(top, "name", ROOT, _CLUSTER_NAME, LETTERS)
    nodes = _nodes(top.get("nodes"))
    return Cluster(
        name=name,
        nodes=nodes,
        ssh=_ssh(top.get("ssh")),
        guests=_guests(top.get("guests"), nodes),
        migration=_migration(top.get("migration")),
    )


def guest_name(value: object, where: str) -> str:
    """Return the name of a guest, which may name its file, too; InputError if it is none.

    where
        What to call the place where it stands: a key's path, or an argument's name.
    """
    if isinstance(value, str) and value.isprintable() and _GUEST.match(value):
        return value
    raise InputError(
        f"{where}: want a guest's name, got {shown(value)}{quotes(value)}; a name is"
        " printable, without '/', and begins with neither '.' nor '-'"
    )


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
        """Take in one minion's pillar; what is wrong with it is said when it matters.

        InputError if it describes a cluster of a known name otherwise than another minion's.
        """
        if pillar.get("_errors"):
            self._broken[minion] = f"it does not render: {pillar['_errors'][0]}"
        elif ROOT in pillar:
            try:
                found = from_pillar(pillar)
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
        return name in self._clusters or (name is None and bool(self._clusters))

    def members(self) -> dict[str, tuple[str, ...]]:
        """Return the nodes of every cluster that was read."""
        return {name: tuple(cluster.nodes) for name, cluster in self._clusters.items()}

    def choose(self, name: str | None) -> Cluster:
        """Return the cluster of that name, or the only one; InputError says what is there."""
        if name is None and len(self._clusters) == 1:
            return next(iter(self._clusters.values()))
        if name is not None and name in self._clusters:
            return self._clusters[name]
        broken = "".join(f"; the pillar of {who}: {why}" for who, why in self._broken.items())
        if self._clusters:
            wanted = "say which cluster" if name is None else f"there is no cluster {name!r}"
            raise InputError(f"{wanted}: cluster= one of {listed(sorted(self._clusters))}{broken}")
        raise InputError(
            f"no accepted minion has a usable pillar '{ROOT}': describe the cluster there, for its"
            f" nodes (pillar.example shows every key), and accept their keys{broken}"
        )


def _nodes(raw: object) -> dict[str, Node]:
    path = f"{ROOT}:nodes"
    if not isinstance(raw, Mapping) or not raw:
        raise InputError(f"{path}: want a mapping of minion ids to nodes, got {shown(raw)}")
    nodes = {}
    owners: dict[str, str] = {}
    for node_id, body in raw.items():
        node = _node(node_id, body, path)
        nodes[node.id] = node
        for name in node.names:
            owner = owners.setdefault(name.lower(), node.id)
            if owner != node.id:
                raise InputError(
                    f"{path}: the name {name} belongs to both {owner} and {node.id};"
                    " every name must lead to one node"
                )
    return nodes


def _node(node_id: object, body: object, path: str) -> Node:
    known = _minion_id(node_id, path)
    here = f"{path}:{node_id}"
    fields = validate.section(body, here, keys_of(Node), may_be_empty=True)
    names = [_host(name, f"{here}:names") for name in validate.items(fields, "names", here)]
    migration = _host(fields.get("migration", known), f"{here}:migration")
    return Node(str(node_id), tuple(dict.fromkeys([known, *names, migration])), migration)


def _ssh(raw: object) -> Ssh:
    path = f"{ROOT}:ssh"
    fields = validate.section(raw, path, keys_of(Ssh), may_be_empty=True)
    default = Ssh()
    key = fields.get("key")
    return Ssh(
        login=validate.matching(fields, "login", path, _LOGIN, ACCOUNT, default.login),
        key=None if key is None else _key_path(key, f"{path}:key"),
        key_type=validate.choice(fields, "key_type", path, tuple(KEY_TYPES), default.key_type),
        host_patterns=tuple(
            _pattern(item, f"{path}:host_patterns")
            for item in validate.items(fields, "host_patterns", path)
        ),
        exclusive=validate.flag(fields, "exclusive", path, default.exclusive),
        manage_sshd=validate.flag(fields, "manage_sshd", path, default.manage_sshd),
    )


def _guests(raw: object, nodes: Mapping[str, Node]) -> Guests:
    path = f"{ROOT}:guests"
    fields = validate.section(raw, path, keys_of(Guests), may_be_empty=True)
    definitions = validate.choice(fields, "definitions", path, DEFINITIONS, Guests().definitions)
    return Guests(
        definitions,
        _search_path(fields.get("path"), f"{path}:path"),
        _listed_guests(fields.get("list"), f"{path}:list", definitions, nodes),
        tuple(
            _group(group, f"{path}:apart:{place}")
            for place, group in enumerate(validate.items(fields, "apart", path))
        ),
    )


def _migration(raw: object) -> Migration:
    path = f"{ROOT}:migration"
    limits = keys_of(Migration)
    fields = validate.section(raw, path, (*options.KEYS, *limits), may_be_empty=True)
    outgoing, incoming = (
        validate.number(fields, key, path, (1, MOST_AT_ONCE), getattr(Migration, key))
        for key in limits
    )
    return Migration(options.parse(fields, path, Options()), outgoing, incoming)


def _search_path(raw: object, path: str) -> tuple[str, ...]:
    if raw is None:
        return ()
    if not isinstance(raw, str):
        raise InputError(f"{path}: want folders with ':' between them, got {shown(raw)}")
    return tuple(_definition_path(folder, path) for folder in raw.split(":"))


def _listed_guests(
    raw: object, path: str, definitions: str, nodes: Mapping[str, Node]
) -> dict[str, Listed]:
    fields = {} if raw is None else raw
    if not isinstance(fields, Mapping):
        raise InputError(f"{path}: want a mapping of guest names, got {shown(raw)}")
    return {
        guest.name: guest
        for guest in (
            _listed_guest(name, body, path, definitions, nodes) for name, body in fields.items()
        )
    }


def _listed_guest(
    name: object, body: object, path: str, definitions: str, nodes: Mapping[str, Node]
) -> Listed:
    known = guest_name(name, path)
    here = f"{path}:{known}"
    fields = validate.section(body, here, keys_of(Listed), may_be_empty=True)
    xmlfile, home = fields.get("xmlfile"), fields.get("home")
    if xmlfile is not None and definitions == "defined":
        raise InputError(
            f"{here}:xmlfile: with {ROOT}:guests:definitions defined, libvirt keeps the"
            " definition; leave it out"
        )
    if home is not None and home not in nodes:
        raise InputError(
            f"{here}:home: {shown(home)} is not a node; nodes are {listed(nodes)}"
            f"{suggestion(home, nodes)}"
        )
    return Listed(
        known, None if xmlfile is None else _definition_path(xmlfile, f"{here}:xmlfile"), home
    )


def _group(raw: object, path: str) -> tuple[str, ...]:
    """Return a group of guests that are to be kept apart; no node need have them yet."""
    if not isinstance(raw, list) or len(raw) < 2:
        raise InputError(
            f"{path}: want a list of two guests or more that are never on one node, as"
            f" [web1, web2], got {shown(raw)}"
        )
    names = tuple(guest_name(name, path) for name in raw)
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice:
        raise InputError(f"{path}: {shown(twice)} is there twice; name each guest once")
    return names


def _definition_path(value: object, path: str) -> str:
    """Return an absolute path for definitions; libvirt's own folder must never be shared."""
    if not isinstance(value, str) or not value.startswith("/") or not value.isprintable():
        raise InputError(f"{path}: want an absolute path, got {shown(value)}")
    wanted = posixpath.normpath(value)
    wanted = wanted[1:] if wanted.startswith("//") else wanted
    for folder in ("/etc/libvirt", *SYSTEM_FOLDERS):
        if f"{wanted}/".startswith(f"{folder}/"):
            raise InputError(
                f"{path}: {shown(wanted)} is in {folder}, which belongs to one host alone; choose"
                " a folder on storage that every node mounts"
            )
    return wanted


def _key_path(value: object, path: str) -> str:
    if not isinstance(value, str) or not _PATH.match(value):
        raise InputError(
            f"{path}: want an absolute path of letters, digits and './_@+-', got {shown(value)}"
        )
    if "//" in value or posixpath.basename(value) in ("", ".", ".."):
        raise InputError(
            f"{path}: want the path of a file, without '//' and without '/' at its end,"
            f" got {shown(value)}"
        )
    wanted = posixpath.normpath(value)
    _not_taken(wanted, path)
    return wanted


def _not_taken(wanted: str, path: str) -> None:
    """Raise InputError if a key at that place would be, or would replace, somebody else's."""
    folder, name = posixpath.split(wanted)
    if name in EVERYDAY_KEYS:
        raise InputError(
            f"{path}: {wanted} is a login's everyday key; the cluster needs a key of its own,"
            f" such as {posixpath.join(folder, 'id_rsa_cluster')}"
        )
    for taken in TAKEN_FOLDERS:
        if f"{wanted}/".startswith(f"{taken}/"):
            raise InputError(
                f"{path}: {shown(wanted)} is in {taken}, which is the system's or does not last;"
                " choose a place in the login's home, such as ~/.ssh/id_rsa_cluster, written out"
            )
    if any(fnmatch.fnmatchcase(name, taken) for taken in TAKEN_NAMES):
        raise InputError(
            f"{path}: {shown(wanted)} has the name of a file that ssh or this project keeps;"
            " choose another name, such as id_rsa_cluster"
        )


def _pattern(value: object, path: str) -> str:
    if not isinstance(value, str) or not _PATTERN.match(value):
        raise InputError(f"{path}: want ssh_config patterns such as 'kvm-*', got {shown(value)}")
    if not re.search(r"[A-Za-z0-9]", value):
        raise InputError(f"{path}: {value!r} matches every host; name the cluster's hosts alone")
    if value.startswith("!"):
        raise InputError(f"{path}: {value!r} excludes hosts; patterns here only add some")
    first, *others = re.split(r"[*?]", value)
    if others and max(len(first), len(others[-1])) < LITERAL_LENGTH:
        raise InputError(
            f"{path}: {shown(value)} matches hosts of all sorts; give it a beginning or an end of"
            f" {LITERAL_LENGTH} characters or more without '*' and '?', as 'kvm-*' has"
        )
    return value


def _minion_id(value: object, path: str) -> str:
    """Return a node's minion id, by which peers dial it; Salt allows more than a host name has."""
    if isinstance(value, str) and _spelled(value) is None:
        raise InputError(
            f"{path}: want {HOST}, got {shown(value)}; the minion id has to be"
            " a host name here, of letters, digits, '.', '_' and '-': change 'id' in the minion's"
            " configuration"
        )
    return _host(value, path)


def _host(value: object, path: str) -> str:
    """Return a host name, or an address in its one spelling, that peers can dial.

    Addresses with a scope (``fe80::1%eth0``) mean another host on each node; they are refused.
    """
    found = _spelled(value)
    if found is None:
        raise InputError(f"{path}: want {HOST}, got {shown(value)}{quotes(value)}")
    kind = _undiallable(found)
    if kind:
        raise InputError(
            f"{path}: {found} is {kind}, peers cannot dial it; give a name or an address that"
            " leads to this node from every other"
        )
    return found


def _spelled(value: object) -> str | None:
    """Return a host name as it is, an address in its one spelling, None for anything else."""
    if not isinstance(value, str) or "%" in value:
        return None
    address = _address(value)
    if address:
        return str(address)
    named = _HOST_NAME.match(value) and not _DOTTED_NUMBERS.match(value)
    return value if named else None


def _address(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """Return the address that a text spells; most texts are names and need no closer look."""
    if ":" not in text and not _DOTTED_NUMBERS.match(text):
        return None
    try:
        return ipaddress.ip_address(text)
    except ValueError:
        return None


def _undiallable(host: str) -> str | None:
    """Return what a name or address is that leads to no host, or to whoever dials it; or None."""
    if host.lower() in LOOPBACK_NAMES:
        return "every host's own name for itself"
    address = _address(host)
    if address is None:
        return None
    address = getattr(address, "ipv4_mapped", None) or address
    if address.is_loopback:
        return "a loopback address"
    if address.is_unspecified:
        return "the unspecified address"
    return "a multicast address" if address.is_multicast else None
