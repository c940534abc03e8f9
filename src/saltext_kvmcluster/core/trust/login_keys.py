"""The wanted ``authorized_keys2``, from cluster, identities and present text.

Only removal from the pillar removes a node's entries: a node that is missing from the mine, or
published an invalid key, keeps its entries. Keys come from identities, names from the pillar.
Foreign lines stay byte for byte.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import replace

from saltext_kvmcluster.core.fileplan import Changes, Wanted
from saltext_kvmcluster.core.pillar.clusters import Cluster, Node
from saltext_kvmcluster.core.text import MAX_NAMES, listed, one_line
from saltext_kvmcluster.core.trust import key_options, proofs
from saltext_kvmcluster.core.trust.blocks import (
    BEGIN,
    END,
    KeyChanges,
    key_label,
    tag,
)
from saltext_kvmcluster.core.trust.identity import Identities, PublicKey
from saltext_kvmcluster.core.trust.key_lines import Line, held_keys, held_lines, parse

AUTHORIZED_KEYS = "authorized_keys2"
_ADDRESS = re.compile(r"[0-9.]+\Z|.*:")
MAX_OPTIONS = 120

Keys = tuple[PublicKey, ...]


def wanted(
    cluster: Cluster, identities: Identities, present: str, uncovered: Collection[str] = ()
) -> Wanted:
    """Return the wanted ``authorized_keys2``: one block of ours, all members' keys, no former ones.

    Each line of the block has the options of ``key_options.text``.

    Outside the block a line is removed if it has our tag, if it repeats a key of the block, if it
    holds a key that the block now drops, or if it has no options and its comment is ``login@name``
    of a former member, or of a member whose present key is known (a key from before, distributed
    by hand). sshd uses the first line that matches a key, so such lines shadow ours. While a
    member's key is not known, keys from before let it in, and stay.

    A key that is already here under another comment or under none, or that another node has, is
    refused: it is not known to be the node's, and adopting it could lock out its owner.

    uncovered
        The nodes that ``kvmcluster:ssh:from`` would keep out: their lines let in from where they
        do now, and from there. One without a line gets none, and keys from before let it in, and
        stay.
    """
    published = {node: item.keys for node, item in identities.accepted.items()}
    is_whole = _are_settled(cluster, published) and not uncovered
    if is_whole and present == _block(cluster, published, {}):
        return Wanted(present)
    lines = parse(present)
    ours = held_lines(lines)
    held = held_keys(present)
    refused = _unfit(cluster, identities, lines, held)
    out = {*refused, *(node for node in uncovered if node not in held)}
    known = {node: key for node, key in published.items() if node not in out}
    all_keys = {**held, **known}
    entries = {node: all_keys[node] for node in cluster.nodes if node in all_keys}
    kept = {
        node: key_options.kept(ours[node][0].options, cluster.ssh.from_)
        for node in uncovered
        if node in ours
    }
    block = _block(cluster, entries, kept)
    keys = {key for keys in (*held.values(), *entries.values()) for key in keys}
    former = _former_comments(cluster, held, known)
    doomed = {
        line.number
        for line in lines
        if line.key and not line.ours and (line.key in keys or _is_former(line, former))
    }
    text = block if cluster.ssh.exclusive else _with_block(lines, block, doomed)
    changes = _changes(cluster, lines, held, entries, doomed)
    replaced = (*changes.replaced, *_other_options(cluster, ours, entries, kept))
    return Wanted(text, replace(changes, replaced=replaced), refused)


def to_be_limited(cluster: Cluster, present: str) -> dict[str, bool]:
    """Return the nodes whose line has not the wanted ``from`` yet, and whether they have a line."""
    held = held_lines(parse(present))
    options = key_options.text(cluster.ssh.from_)
    return {
        node: node in held
        for node in (cluster.nodes if cluster.ssh.from_ else ())
        if any(line.options != options for line in held.get(node, (Line(""),)))
    }


def unproven(cluster: Cluster, identities: Identities, present: str) -> list[str]:
    """Return the nodes whose identities would change something, or that publish another's key."""
    held, copied = held_keys(present), proofs.copied(identities)
    return [
        node
        for node, one in identities.accepted.items()
        if node in copied or set(one.keys) != set(held.get(node, ()))
    ]


def stale(cluster: Cluster, identities: Identities, present: str) -> Iterator[tuple[int, str]]:
    """Yield the number of each line with a key tagged as a node's that is not its own now, and why.

    A key of a member whose identity is not known counts as its own.
    """
    for line in parse(present):
        if not line.key or not line.node or f"/{cluster.name}/" not in line.comment:
            continue
        known = identities.accepted.get(line.node)
        if line.node not in cluster.nodes:
            yield line.number, f"the key of {line.node}, which is no longer a member"
        elif known and line.key not in known.keys:
            yield line.number, f"a former key of {line.node}"


def unrestricted(
    cluster: Cluster, identities: Identities, present: str, own: str
) -> Iterator[tuple[int, str]]:
    """Yield the number of each line that lets a member's key do more than our line, and why.

    present
        Another authorized_keys file: sshd uses the first line, of all files, that lets a key in.
    own
        Our file: a key that is not in there yet is let in by the other line alone.
    """
    held = held_keys(own)
    owners = {
        key: node
        for node, item in identities.accepted.items()
        for key in item.keys
        if key in held.get(node, ())
    }
    for line in parse(present):
        owner = owners.get(line.key) if line.key else None
        if owner and key_options.lets_more(line.options, cluster.ssh.from_):
            wanted = "restrict and from" if cluster.ssh.from_ else "restrict"
            undone = f"so undoes these in {AUTHORIZED_KEYS}"
            yield (
                line.number,
                f"it lets in {owner} by its cluster key without {wanted}, and {undone}",
            )


def own_keys(present: str) -> str:
    """Return the lines of an ``authorized_keys2`` that are ours, and those that repeat our keys."""
    lines = parse(present)
    keys = {line.key for line in lines if line.ours and line.key}
    return "".join(line.raw for line in lines if line.ours or line.key in keys)


def _are_settled(cluster: Cluster, published: Mapping[str, Keys]) -> bool:
    """Whether every member published its keys, and no two of them the same one."""
    keys = [key for keys in published.values() for key in keys]
    return len(published) == len(cluster.nodes) and len(set(keys)) == len(keys)


def _unfit(
    cluster: Cluster, identities: Identities, lines: list[Line], held: Mapping[str, Keys]
) -> dict[str, str]:
    """Return the nodes whose key may not be theirs, each with the reason.

    A refused node keeps its key and the lines from before, which may show that another node's
    claim is false: so repeat until there is nothing more to refuse.
    """
    publishers: dict[PublicKey, list[str]] = {}
    for node, identity in identities.accepted.items():
        for key in identity.keys:
            publishers.setdefault(key, []).append(node)
    unfit: dict[str, str] = {}
    while True:
        fit = {key: [n for n in nodes if n not in unfit] for key, nodes in publishers.items()}
        known = {node for nodes in fit.values() for node in nodes}
        keepers = {
            key: node for node in cluster.nodes if node not in known for key in held.get(node, ())
        }
        strangers = _strangers(cluster, lines, held, known)
        more: dict[str, str] = {}
        for key, nodes in fit.items():
            holders = [node for node in publishers[key] if key in held.get(node, ())]
            for node in nodes:
                why = ""
                if len(publishers[key]) > 1 and holders != [node]:
                    other = next(item for item in publishers[key] if item != node)
                    why = f"is also published by {other}{_remedy(node)}"
                elif node in holders:
                    continue
                elif key in keepers:
                    why = f"belongs to {keepers[key]}{_remedy(node)}"
                elif line := _stranger(cluster, node, strangers.get(key, ())):
                    why = (
                        f"is already in {AUTHORIZED_KEYS}, line {line.number},"
                        f" {f'as {line.comment!r}' if line.comment else 'without a comment'};"
                        " if it is the node's, delete that line"
                    )
                if why:
                    more.setdefault(node, f"its cluster key {key.fingerprint} {why}")
        if not more:
            return unfit
        unfit.update(more)


def _remedy(node: str) -> str:
    """Return what to do where a node may have a copy of another one's key."""
    return (
        f"; if {node} has a copy of that key: move both halves of it away there, then run:"
        " salt-run state.orchestrate kvmcluster.orch.prepare"
    )


def _strangers(
    cluster: Cluster, lines: Iterable[Line], held: Mapping[str, Keys], known: Iterable[str]
) -> dict[PublicKey, list[Line]]:
    """Return the foreign lines without another reason to be removed, by key."""
    strangers: dict[PublicKey, list[Line]] = {}
    if cluster.ssh.exclusive:
        return strangers
    keys = {key for keys in held.values() for key in keys}
    former = _former_comments(cluster, held, known)
    for line in lines:
        if line.key and not line.ours and line.key not in keys and not _is_former(line, former):
            strangers.setdefault(line.key, []).append(line)
    return strangers


def _stranger(cluster: Cluster, node: str, lines: Iterable[Line]) -> Line | None:
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


def _former_comments(cluster: Cluster, held: Iterable[str], known: Iterable[str]) -> set[str]:
    """Return the comments of keys from before: those of former members and of known members."""
    names = {node for node in held if node not in cluster.nodes}
    names.update(name for node in known for name in cluster.nodes[node].names)
    return {f"{cluster.ssh.login}@{name}".lower() for name in names}


def _is_former(line: Line, comments: set[str]) -> bool:
    return not line.options and line.comment.lower() in comments


def _block(cluster: Cluster, entries: Mapping[str, Keys], kept: Mapping[str, str]) -> str:
    """Return the block with all entries; ``kept`` are the nodes with options of their own."""
    usual = key_options.text(cluster.ssh.from_)
    lines = (
        f"{kept.get(node, usual)} {key} {tag(cluster, node)}\n"
        for node in cluster.nodes
        for key in entries.get(node, ())
    )
    return "".join([BEGIN, *lines, END])


def _with_block(lines: list[Line], block: str, doomed: set[int]) -> str:
    """Put the block where the old one began, or at the end, and leave out the doomed lines."""
    at = next((index for index, line in enumerate(lines) if line.inside), len(lines))
    kept = [line.raw for line in lines[:at] if not line.ours and line.number not in doomed]
    if kept and not kept[-1].endswith("\n"):
        kept[-1] += "\n"
    tail = [line.raw for line in lines[at:] if not line.ours and line.number not in doomed]
    return "".join([*kept, block, *tail])


def _changes(
    cluster: Cluster,
    lines: list[Line],
    held: Mapping[str, Keys],
    entries: Mapping[str, Keys],
    doomed: set[int],
) -> Changes:
    changes = KeyChanges()
    for node in dict.fromkeys([*entries, *held]):
        old, new = held.get(node, ()), entries.get(node, ())
        if len(old) == len(new) == 1 and old != new:
            changes.replaced.append(f"{node} {key_label(old[0])} -> {key_label(new[0])}")
        else:
            changes.compare(node, old, new)
    detail = Counter(key for keys in held.values() for key in keys)
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


def _other_options(
    cluster: Cluster,
    ours: Mapping[str, tuple[Line, ...]],
    entries: Iterable[str],
    kept: Mapping[str, str],
) -> Iterator[str]:
    """Yield whose options change, and how; most nodes' change alike."""
    usual = key_options.text(cluster.ssh.from_)
    alike: dict[tuple[str, str], list[str]] = {}
    for node in entries:
        new = kept.get(node, usual)
        for options in dict.fromkeys(line.options for line in ours.get(node, ())):
            if options != new:
                alike.setdefault((options or "none", new), []).append(node)
    for pair, nodes in alike.items():
        old, new = (one_line(options, MAX_OPTIONS) for options in pair)
        yield f"{listed(nodes, MAX_NAMES)}: options {old} -> {new}"
