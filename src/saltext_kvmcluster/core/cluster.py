"""The cluster as the pillar describes it: raw pillar in, a validated model out.

Membership, names and addresses come from here and from nowhere else. Every error names the
key by its whole path, what is wrong with it, and what would be right.
"""

from __future__ import annotations

import difflib
import fnmatch
import ipaddress
import posixpath
import re
import reprlib
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from saltext_kvmcluster.core.errors import InputError

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

_HOST_NAME = re.compile(r"[A-Za-z0-9_]([A-Za-z0-9_.-]{0,251}[A-Za-z0-9_])?\Z")
_CLUSTER_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,62}\Z")
_LOGIN = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]{0,31}\Z")
_PATTERN = re.compile(r"!?[A-Za-z0-9_.:*?-]{1,253}\Z")
_PATH = re.compile(r"/[A-Za-z0-9_./@+-]+\Z")
_GUEST = re.compile(r"[^/.\-\s\x00-\x1f\x7f][^/\x00-\x1f\x7f]{0,252}\Z")
_DOTTED_NUMBERS = re.compile(r"[0-9.]+\Z")

_SHORT = reprlib.Repr()
_SHORT.maxstring = _SHORT.maxother = _SHORT.maxlong = 60


@dataclass(frozen=True)
class Node:
    """A host that runs guests.

    ``id`` is its minion id, ``migration`` the name that peers dial to migrate, ``names`` every
    name by which it may be dialled (id and migration name included, no repetition).
    """

    id: str
    names: tuple[str, ...]
    migration: str


@dataclass(frozen=True)
class Ssh:
    """How nodes log in to each other (pillar ``kvmcluster:ssh``)."""

    login: str = "root"
    key: str | None = None
    key_type: str = "rsa"
    host_patterns: tuple[str, ...] = ()
    exclusive: bool = False
    manage_sshd: bool = False


@dataclass(frozen=True)
class Listed:
    """A guest of the cluster's own list (pillar ``kvmcluster:guests:list``).

    ``xmlfile`` is where its definition lies, None to search ``path``; ``home`` the node where it
    is started when it runs nowhere, None if that is left to people.
    """

    name: str
    xmlfile: str | None = None
    home: str | None = None


@dataclass(frozen=True)
class Guests:
    """Which guests there are, and where they are defined (pillar ``kvmcluster:guests``).

    ``path`` are folders on shared storage, searched in order for NAME, then NAME.xml.
    """

    definitions: str = "shared"
    path: tuple[str, ...] = ()
    list: Mapping[str, Listed] = field(default_factory=dict)


@dataclass(frozen=True)
class Cluster:
    """The set of nodes named in the pillar, and how they trust each other."""

    name: str
    nodes: Mapping[str, Node]
    ssh: Ssh = field(default_factory=Ssh)
    guests: Guests = field(default_factory=Guests)

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
            f"{node_id} is not a node of cluster {self.name}; its nodes are {_listed(self.nodes)}"
            f" (pillar {ROOT}:nodes){_suggestion(node_id, self.nodes)}"
        )

    def peers(self, node_id: str) -> tuple[Node, ...]:
        """Return every node but the given one, in pillar order."""
        self.node(node_id)
        return tuple(node for node in self.nodes.values() if node.id != node_id)


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
    top = _section(raw, ROOT, ("name", "nodes", "ssh", "guests"))
    name = _matching(top, "name", ROOT, _CLUSTER_NAME, "letters, digits, '.', '_' and '-'")
    nodes = _nodes(top.get("nodes"))
    return Cluster(
        name=name,
        nodes=nodes,
        ssh=_ssh(top.get("ssh")),
        guests=_guests(top.get("guests"), nodes),
    )


def guest_name(value: object, where: str) -> str:
    """Return the name of a guest, which may name its file, too; InputError if it is none.

    where
        What to call the place where it stands: a key's path, or an argument's name.
    """
    if isinstance(value, str) and value.isprintable() and _GUEST.match(value):
        return value
    raise InputError(
        f"{where}: want a guest's name, got {_shown(value)}{_quotes(value)}; a name is"
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

    def choose(self, name: str | None) -> Cluster:
        """Return the cluster of that name, or the only one; InputError says what is there."""
        if name is None and len(self._clusters) == 1:
            return next(iter(self._clusters.values()))
        if name is not None and name in self._clusters:
            return self._clusters[name]
        broken = "".join(f"; the pillar of {who}: {why}" for who, why in self._broken.items())
        if self._clusters:
            wanted = "say which cluster" if name is None else f"there is no cluster {name!r}"
            raise InputError(f"{wanted}: cluster= one of {_listed(sorted(self._clusters))}{broken}")
        raise InputError(
            f"no accepted minion has a usable pillar '{ROOT}': describe the cluster there, for its"
            f" nodes (pillar.example shows every key), and accept their keys{broken}"
        )


def _nodes(raw: object) -> dict[str, Node]:
    path = f"{ROOT}:nodes"
    if not isinstance(raw, Mapping) or not raw:
        raise InputError(f"{path}: want a mapping of minion ids to nodes, got {_shown(raw)}")
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
    fields = _section(body, here, ("names", "migration"), may_be_empty=True)
    names = [_host(name, f"{here}:names") for name in _list(fields, "names", here)]
    migration = _host(fields.get("migration", known), f"{here}:migration")
    return Node(str(node_id), tuple(dict.fromkeys([known, *names, migration])), migration)


def _ssh(raw: object) -> Ssh:
    path = f"{ROOT}:ssh"
    keys = ("login", "key", "key_type", "host_patterns", "exclusive", "manage_sshd")
    fields = _section(raw, path, keys, may_be_empty=True)
    default = Ssh()
    key = fields.get("key")
    return Ssh(
        login=_matching(fields, "login", path, _LOGIN, "a Unix account's name", default.login),
        key=None if key is None else _key_path(key, f"{path}:key"),
        key_type=_choice(fields, "key_type", path, tuple(KEY_TYPES), default.key_type),
        host_patterns=tuple(
            _pattern(item, f"{path}:host_patterns") for item in _list(fields, "host_patterns", path)
        ),
        exclusive=_flag(fields, "exclusive", path, default.exclusive),
        manage_sshd=_flag(fields, "manage_sshd", path, default.manage_sshd),
    )


def _guests(raw: object, nodes: Mapping[str, Node]) -> Guests:
    path = f"{ROOT}:guests"
    fields = _section(raw, path, ("definitions", "path", "list"), may_be_empty=True)
    definitions = _choice(fields, "definitions", path, DEFINITIONS, Guests().definitions)
    return Guests(
        definitions,
        _search_path(fields.get("path"), f"{path}:path"),
        _listed_guests(fields.get("list"), f"{path}:list", definitions, nodes),
    )


def _search_path(raw: object, path: str) -> tuple[str, ...]:
    if raw is None:
        return ()
    if not isinstance(raw, str):
        raise InputError(f"{path}: want folders with ':' between them, got {_shown(raw)}")
    return tuple(_definition_path(folder, path) for folder in raw.split(":"))


def _listed_guests(
    raw: object, path: str, definitions: str, nodes: Mapping[str, Node]
) -> dict[str, Listed]:
    fields = {} if raw is None else raw
    if not isinstance(fields, Mapping):
        raise InputError(f"{path}: want a mapping of guest names, got {_shown(raw)}")
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
    fields = _section(body, here, ("xmlfile", "home"), may_be_empty=True)
    xmlfile, home = fields.get("xmlfile"), fields.get("home")
    if xmlfile is not None and definitions == "defined":
        raise InputError(
            f"{here}:xmlfile: with {ROOT}:guests:definitions defined, libvirt keeps the"
            " definition; leave it out"
        )
    if home is not None and home not in nodes:
        raise InputError(
            f"{here}:home: {_shown(home)} is not a node; nodes are {_listed(nodes)}"
            f"{_suggestion(home, nodes)}"
        )
    return Listed(
        known, None if xmlfile is None else _definition_path(xmlfile, f"{here}:xmlfile"), home
    )


def _definition_path(value: object, path: str) -> str:
    """Return an absolute path for definitions; libvirt's own folder must never be shared."""
    if not isinstance(value, str) or not value.startswith("/") or not value.isprintable():
        raise InputError(f"{path}: want an absolute path, got {_shown(value)}")
    wanted = posixpath.normpath(value)
    wanted = wanted[1:] if wanted.startswith("//") else wanted
    for folder in ("/etc/libvirt", *SYSTEM_FOLDERS):
        if f"{wanted}/".startswith(f"{folder}/"):
            raise InputError(
                f"{path}: {_shown(wanted)} is in {folder}, which belongs to one host alone; choose"
                " a folder on storage that every node mounts"
            )
    return wanted


def _key_path(value: object, path: str) -> str:
    if not isinstance(value, str) or not _PATH.match(value):
        raise InputError(
            f"{path}: want an absolute path of letters, digits and './_@+-', got {_shown(value)}"
        )
    if "//" in value or posixpath.basename(value) in ("", ".", ".."):
        raise InputError(
            f"{path}: want the path of a file, without '//' and without '/' at its end,"
            f" got {_shown(value)}"
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
                f"{path}: {_shown(wanted)} is in {taken}, which is the system's or does not last;"
                " choose a place in the login's home, such as ~/.ssh/id_rsa_cluster, written out"
            )
    if any(fnmatch.fnmatchcase(name, taken) for taken in TAKEN_NAMES):
        raise InputError(
            f"{path}: {_shown(wanted)} has the name of a file that ssh or this project keeps;"
            " choose another name, such as id_rsa_cluster"
        )


def _pattern(value: object, path: str) -> str:
    if not isinstance(value, str) or not _PATTERN.match(value):
        raise InputError(f"{path}: want ssh_config patterns such as 'kvm-*', got {_shown(value)}")
    if not re.search(r"[A-Za-z0-9]", value):
        raise InputError(f"{path}: {value!r} matches every host; name the cluster's hosts alone")
    if value.startswith("!"):
        raise InputError(f"{path}: {value!r} excludes hosts; patterns here only add some")
    first, *others = re.split(r"[*?]", value)
    if others and max(len(first), len(others[-1])) < LITERAL_LENGTH:
        raise InputError(
            f"{path}: {_shown(value)} matches hosts of all sorts; give it a beginning or an end of"
            f" {LITERAL_LENGTH} characters or more without '*' and '?', as 'kvm-*' has"
        )
    return value


def _minion_id(value: object, path: str) -> str:
    """Return a node's minion id, by which peers dial it; Salt allows more than a host name has."""
    if isinstance(value, str) and _spelled(value) is None:
        raise InputError(
            f"{path}: want a host name or an address, got {_shown(value)}; the minion id has to be"
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
        raise InputError(
            f"{path}: want a host name or an address, got {_shown(value)}{_quotes(value)}"
        )
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


def _section(
    raw: object, path: str, known: Iterable[str], may_be_empty: bool = False
) -> Mapping[str, Any]:
    """Return a mapping whose keys are all known; with all of them commented out it is empty."""
    if raw is None and may_be_empty:
        return {}
    if not isinstance(raw, Mapping):
        raise InputError(f"{path}: want a mapping, got {_shown(raw)}")
    known = tuple(known)
    for key in raw:
        if key not in known:
            raise InputError(
                f"{path}: unknown key {_shown(key)}; known keys are {', '.join(known)}"
                f"{_suggestion(key, known)}"
            )
    return raw


def _list(fields: Mapping[str, Any], key: str, path: str) -> list[object]:
    value = fields.get(key, [])
    if not isinstance(value, list):
        raise InputError(f"{path}:{key}: want a list, got {_shown(value)}")
    return value


def _flag(fields: Mapping[str, Any], key: str, path: str, default: bool) -> bool:
    value = fields.get(key, default)
    if not isinstance(value, bool):
        raise InputError(f"{path}:{key}: want true or false, got {_shown(value)}")
    return value


def _choice(
    fields: Mapping[str, Any], key: str, path: str, choices: tuple[str, ...], default: str
) -> str:
    value = fields.get(key, default)
    if value not in choices:
        raise InputError(
            f"{path}:{key}: want {' or '.join(choices)}, got {_shown(value)}"
            f"{_suggestion(value, choices)}"
        )
    return str(value)


def _matching(
    fields: Mapping[str, Any],
    key: str,
    path: str,
    pattern: re.Pattern[str],
    words: str,
    default: str | None = None,
) -> str:
    value = fields.get(key, default)
    if not isinstance(value, str) or not pattern.match(value):
        number = isinstance(value, (int, float))
        quotes = "" if number and not pattern.match(_shown(value)) else _quotes(value)
        raise InputError(f"{path}:{key}: want {words}, got {_shown(value)}{quotes}")
    return value


def _quotes(value: object) -> str:
    """Return the remedy for text that YAML took for a number, a date or a truth value."""
    is_else = value is None or isinstance(value, (str, list, Mapping))
    return "" if is_else else "; put it in quotes"


def _suggestion(value: object, known: Collection[str]) -> str:
    close = difflib.get_close_matches(value[:80], known, n=1) if isinstance(value, str) else []
    return f"; did you mean {close[0]}?" if close else ""


def _listed(ids: Iterable[str], limit: int = 10) -> str:
    all_ids = list(ids)
    rest = len(all_ids) - limit
    return ", ".join(all_ids[:limit]) + (f" and {rest} more" if rest > 0 else "")


def _shown(value: object) -> str:
    """Return a value as a short text, however large, deep or odd it is."""
    if value is None:
        return "nothing"
    try:
        return _SHORT.repr(value)
    except ValueError:
        return "a number too long to be shown"
