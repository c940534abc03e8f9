"""The wanted ``authorized_keys2``, from cluster, identities and present text.

Only removal from the pillar removes a node's entries: a node that is missing from the mine, or
published an invalid key, keeps its entries. Keys come from identities, names from the pillar.
Foreign lines stay byte for byte.
"""

from __future__ import annotations

import base64
import contextlib
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from saltext_kvmcluster.core.errors import InputError
from saltext_kvmcluster.core.fileplan import Changes, Wanted
from saltext_kvmcluster.core.pillar.clusters import Cluster, Node
from saltext_kvmcluster.core.trust.blocks import (
    BEGIN,
    END,
    TAG,
    KeyChanges,
    key_label,
    owned_lines,
    split_lines,
    tag,
)
from saltext_kvmcluster.core.trust.identity import Identities, PublicKey, parse_public_key

AUTHORIZED_KEYS = "authorized_keys2"
_KEY_TYPE = re.compile(r"(ssh|ecdsa|sk-ssh|sk-ecdsa)-[a-z0-9@.-]+\Z")
_OPTIONS = re.compile(
    r"""((?:\\"|\\(?!")|[^ \t"\\]|"(?:\\"|\\(?!")|[^"\\])*")+)[ \t]+(.*)\Z""", re.DOTALL
)
_ADDRESS = re.compile(r"[0-9.]+\Z|.*:")


@dataclass(frozen=True)
class _Line:
    """One line of an authorized_keys file, as far as it can be parsed.

    ``key`` may be of any type, not only one that a node may have.
    """

    raw: str
    blank: bool = False
    key: PublicKey | None = None
    options: bool = False
    comment: str = ""
    inside: bool = False
    number: int = 0

    @property
    def node(self) -> str | None:
        """The node that our tag names."""
        match = TAG.match(self.comment)
        return match.group(1) if match else None

    @property
    def ours(self) -> bool:
        """Whether the line is in our block or has our tag."""
        return self.inside or self.node is not None


def wanted(cluster: Cluster, identities: Identities, present: str) -> Wanted:
    """Return the wanted ``authorized_keys2``: one block of ours, all members' keys, no former ones.

    Outside the block a line is removed if it has our tag, if it repeats a key of the block, if it
    holds a key that the block now drops, or if it has no options and its comment is ``login@name``
    of a former member, or of a member whose present key is known (a key from before, distributed
    by hand). sshd uses the first line that matches a key, so such lines shadow ours. While a
    member's key is not known, keys from before let it in, and stay.

    A key that is already here under another comment or under none, or that another node has, is
    refused: it is not known to be the node's, and adopting it could lock out its owner.
    """
    published = {node: item.cluster_key for node, item in identities.accepted.items()}
    if len(set(published.values())) == len(cluster.nodes) and present == _block(cluster, published):
        return Wanted(present)
    lines = _parse(present)
    held = _held(lines)
    refused = _unfit(cluster, identities, lines, held)
    known = {node: key for node, key in published.items() if node not in refused}
    all_keys = {**held, **known}
    entries = {node: all_keys[node] for node in cluster.nodes if node in all_keys}
    block = _block(cluster, entries)
    keys = {*held.values(), *entries.values()}
    former = _former_comments(cluster, held, known)
    doomed = {
        line.number
        for line in lines
        if line.key and not line.ours and (line.key in keys or _is_former(line, former))
    }
    text = block if cluster.ssh.exclusive else _with_block(lines, block, doomed)
    return Wanted(text, _changes(cluster, lines, held, entries, doomed), refused)


def stale(cluster: Cluster, identities: Identities, present: str) -> Iterator[tuple[int, str]]:
    """Yield the number of each line with a key tagged as a node's that is not its own now, and why.

    A key of a member whose identity is not known counts as its own.
    """
    for line in _parse(present):
        if not line.key or not line.node or f"/{cluster.name}/" not in line.comment:
            continue
        known = identities.accepted.get(line.node)
        if line.node not in cluster.nodes:
            yield line.number, f"the key of {line.node}, which is no longer a member"
        elif known and known.cluster_key != line.key:
            yield line.number, f"a former key of {line.node}"


def own_keys(present: str) -> str:
    """Return the lines of an ``authorized_keys2`` that are ours, and those that repeat our keys."""
    lines = _parse(present)
    keys = {line.key for line in lines if line.ours and line.key}
    return "".join(line.raw for line in lines if line.ours or line.key in keys)


def _parse(text: str) -> list[_Line]:
    lines = split_lines(text)
    return [
        _parse_line(raw, inside, number)
        for number, (raw, inside) in enumerate(zip(lines, owned_lines(lines), strict=True), start=1)
    ]


def _parse_line(raw: str, inside: bool, number: int) -> _Line:
    stripped = raw.strip(" \t\r\n")
    if not stripped or stripped.startswith("#"):
        return _Line(raw, blank=True, inside=inside, number=number)
    options, rest = _without_options(stripped)
    kind, blob, comment = (*re.split(r"[ \t]+", rest, maxsplit=2), "", "", "")[:3]
    return _Line(raw, False, _any_key(kind, blob), bool(options), comment, inside, number)


def _without_options(line: str) -> tuple[str, str]:
    """Split a line into its options and the rest, as sshd does.

    Spaces inside quotes do not end the options, and a backslash escapes nothing but a quote.
    """
    if _KEY_TYPE.match(re.split(r"[ \t]", line, maxsplit=1)[0]):
        return "", line
    match = _OPTIONS.match(line)
    return (match.group(1), match.group(2)) if match else (line, "")


def _any_key(kind: str, blob: str) -> PublicKey | None:
    """Return the key of a line that a person wrote, of any type and size."""
    if not _KEY_TYPE.match(kind):
        return None
    try:
        raw = base64.b64decode(blob.encode("ascii"), validate=True)
    except ValueError:
        return None
    return PublicKey(kind, base64.b64encode(raw).decode())


def _held(lines: Iterable[_Line]) -> dict[str, PublicKey]:
    """Return the key that our lines hold for each node, the block's before any stray one."""
    held: dict[str, PublicKey] = {}
    for line in sorted(lines, key=lambda line: not line.inside):
        if line.node and line.key:
            with contextlib.suppress(InputError):
                held.setdefault(line.node, parse_public_key(str(line.key)))
    return held


def _unfit(
    cluster: Cluster, identities: Identities, lines: list[_Line], held: Mapping[str, PublicKey]
) -> dict[str, str]:
    """Return the nodes whose key may not be theirs, each with the reason.

    A refused node keeps its key and the lines from before, which may show that another node's
    claim is false: so repeat until there is nothing more to refuse.
    """
    publishers: dict[PublicKey, list[str]] = {}
    for node, identity in identities.accepted.items():
        publishers.setdefault(identity.cluster_key, []).append(node)
    unfit: dict[str, str] = {}
    while True:
        fit = {key: [n for n in nodes if n not in unfit] for key, nodes in publishers.items()}
        known = {node for nodes in fit.values() for node in nodes}
        keepers = {held[node]: node for node in cluster.nodes if node in held and node not in known}
        strangers = _strangers(cluster, lines, held, known)
        more = {}
        for key, nodes in fit.items():
            holders = [node for node in publishers[key] if held.get(node) == key]
            for node in nodes:
                if len(publishers[key]) > 1 and holders != [node]:
                    other = next(item for item in publishers[key] if item != node)
                    more[node] = f"is also published by {other}"
                elif node in holders:
                    continue
                elif key in keepers:
                    more[node] = f"belongs to {keepers[key]}"
                elif line := _stranger(cluster, node, strangers.get(key, ())):
                    more[node] = (
                        f"is already in {AUTHORIZED_KEYS}, line {line.number},"
                        f" {f'as {line.comment!r}' if line.comment else 'without a comment'};"
                        " if it is the node's, delete that line"
                    )
                if node in more:
                    more[node] = f"its cluster key {key.fingerprint} {more[node]}"
        if not more:
            return unfit
        unfit.update(more)


def _strangers(
    cluster: Cluster, lines: Iterable[_Line], held: Mapping[str, PublicKey], known: Iterable[str]
) -> dict[PublicKey, list[_Line]]:
    """Return the foreign lines without another reason to be removed, by key."""
    strangers: dict[PublicKey, list[_Line]] = {}
    if cluster.ssh.exclusive:
        return strangers
    keys, former = set(held.values()), _former_comments(cluster, held, known)
    for line in lines:
        if line.key and not line.ours and line.key not in keys and not _is_former(line, former):
            strangers.setdefault(line.key, []).append(line)
    return strangers


def _stranger(cluster: Cluster, node: str, lines: Iterable[_Line]) -> _Line | None:
    """Return the first line whose comment does not show that the key was created on the node."""
    return next((line for line in lines if not _made_on(cluster, node, line.comment)), None)


def _made_on(cluster: Cluster, node: str, comment: str) -> bool:
    """Whether a comment is a name of the node, or the login's or root's there.

    A host name without a domain may be the first part of a name of this one node alone; one with a
    domain must be a name: a host of the same short name in another domain is another host.
    """
    user, _, host = comment.lower().rpartition("@")
    if user not in ("", "root", cluster.ssh.login.lower()):
        return False
    if host in (name.lower() for name in cluster.nodes[node].names):
        return True
    return [item.id for item in cluster.nodes.values() if host in _shorts(item)] == [node]


def _shorts(node: Node) -> set[str]:
    """Return a node's names without their domains; an address has none."""
    return {name.lower().partition(".")[0] for name in node.names if not _ADDRESS.match(name)}


def _former_comments(
    cluster: Cluster, held: Mapping[str, PublicKey], known: Iterable[str]
) -> set[str]:
    """Return the comments of keys from before: those of former members and of known members."""
    names = {node for node in held if node not in cluster.nodes}
    names.update(name for node in known for name in cluster.nodes[node].names)
    return {f"{cluster.ssh.login}@{name}".lower() for name in names}


def _is_former(line: _Line, comments: set[str]) -> bool:
    return not line.options and line.comment.lower() in comments


def _block(cluster: Cluster, entries: Mapping[str, PublicKey]) -> str:
    lines = (f"{entries[node]} {tag(cluster, node)}\n" for node in cluster.nodes if node in entries)
    return "".join([BEGIN, *lines, END])


def _with_block(lines: list[_Line], block: str, doomed: set[int]) -> str:
    """Put the block where the old one began, or at the end, and leave out the doomed lines."""
    at = next((index for index, line in enumerate(lines) if line.inside), len(lines))
    kept = [line.raw for line in lines[:at] if not line.ours and line.number not in doomed]
    if kept and not kept[-1].endswith("\n"):
        kept[-1] += "\n"
    tail = [line.raw for line in lines[at:] if not line.ours and line.number not in doomed]
    return "".join([*kept, block, *tail])


def _changes(
    cluster: Cluster,
    lines: list[_Line],
    held: Mapping[str, PublicKey],
    entries: Mapping[str, PublicKey],
    doomed: set[int],
) -> Changes:
    changes = KeyChanges()
    for node in dict.fromkeys([*entries, *held]):
        old, new = held.get(node), entries.get(node)
        if old and new and old != new:
            changes.replaced.append(f"{node} {key_label(old)} -> {key_label(new)}")
        else:
            changes.compare(node, [old] if old else [], [new] if new else [])
    detail = Counter([*held.values()])
    for line in lines:
        if line.ours and line.key and detail[line.key]:
            detail[line.key] -= 1
        elif line.ours and line.key:
            changes.removed.append(
                f"{line.comment or 'no comment'} {key_label(line.key)} (in our block)"
            )
        elif line.number in doomed or (cluster.ssh.exclusive and not line.ours and not line.blank):
            what = (
                f"{line.comment or 'no comment'} {key_label(line.key)}" if line.key else "not a key"
            )
            changes.removed.append(f"{what} (line {line.number})")
    return changes.changes()
