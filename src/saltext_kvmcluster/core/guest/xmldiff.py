"""How two definitions of a guest differ in meaning, not in how they are written.

Both become trees (xmltree), which are compared node by node: what is not known here is compared
all the same. Only what libvirt fills in by itself, where one side leaves it out, is known by
name; see ``libvirt_defaults``.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Hashable, Iterator
from dataclasses import replace
from itertools import islice, zip_longest
from typing import Any

from lxml import etree

from saltext_kvmcluster.core.guest import firmware
from saltext_kvmcluster.core.guest.libvirt_defaults import ANY, FILLED, fills, same_value
from saltext_kvmcluster.core.guest.xmltree import WORDS, Node, tree
from saltext_kvmcluster.core.text import printable

MAX_DIFFERENCES = 100


def differences(one: etree._Element, other: etree._Element, ours: str) -> tuple[str, ...]:
    """Return a sentence for each difference, the first MAX_DIFFERENCES.

    one, other
        Two ``<domain>`` elements; a sentence says "here" of the first, "there" of the second.
    ours
        The namespace of metadata that do not count.
    """
    keys: dict[Hashable, int] = {}
    found = _compared(tree(one, ours, keys), tree(other, ours, keys), "", ())
    return tuple(islice(found, MAX_DIFFERENCES))


def _compared(one: Node, other: Node, parent: str, path: tuple[str, ...]) -> Iterator[str]:
    if one.key == other.key:
        return
    if one.tag == "domain":
        one, other = firmware.as_asked(one, other)
    elif one.tag == "cpu":
        one, other = _as_asked(one, other), _as_asked(other, one)
    where = " ".join(path)
    if one.text != other.text:
        yield _sentence(where, one.text, other.text)
    for name in sorted({*one.attributes, *other.attributes}):
        here, there = one.attributes.get(name, ""), other.attributes.get(name, "")
        if here != there and not same_value(parent, one.tag, name, here, there):
            yield _sentence(f"{where} {_word(name)}".strip(), here, there)
    groups: dict[str, tuple[list[Node], list[Node]]] = {}
    for side, node in enumerate((one, other)):
        for child in node.children:
            groups.setdefault(child.tag, ([], []))[side].append(child)
    for mine, theirs in groups.values():
        yield from _group(one, mine, theirs, path)


def _as_asked(cpu: Node, other: Node) -> Node:
    """Return a CPU without what libvirt added when the guest started, by what ``other`` requests.

    For host-model, the running definition names a model and its features; for any other model it
    has ``check='full'`` and the features that came with it.
    """
    nodes = (cpu, other)
    if any(node.attributes.get("mode") == "host-model" for node in nodes):
        added = ("model", "vendor", "feature")
        kept = tuple(child for child in cpu.children if child.tag not in added)
        return replace(cpu, attributes={}, children=kept)
    if sum(node.attributes.get("check") == "full" for node in nodes) != 1:
        return cpu
    asked = {child.name for child in other.children if child.tag == "feature"}
    kept = tuple(child for child in cpu.children if child.tag != "feature" or child.name in asked)
    return replace(cpu, attributes={**cpu.attributes, "check": ""}, children=kept)


def _group(
    parent: Node, mine: list[Node], theirs: list[Node], path: tuple[str, ...]
) -> Iterator[str]:
    """Compare the children of one tag, each with its counterpart, as far as there is one."""
    tag = (mine or theirs)[0].tag
    own = path if tag == "devices" else (*path, _word(tag))
    pairs = list(_pairs(mine, theirs))
    if all(here and there and here.key == there.key for here, there in pairs):
        unnamed = ([node.key for node in side if not node.name] for side in (mine, theirs))
        if len({*map(tuple, unnamed)}) > 1:
            yield f"{' '.join(own)}: in another order there"
        return
    several = len(mine) > 1 or len(theirs) > 1 or parent.tag == "devices"
    for here, there in pairs:
        name = next((node.name for node in (here, there) if node and node.name), "")
        at = (*own, _shown(name)) if name and several else own
        if here and there:
            yield from _compared(here, there, parent.tag, at)
        else:
            yield from _alone(parent, here, there, at)


def _alone(
    parent: Node, here: Node | None, there: Node | None, path: tuple[str, ...]
) -> Iterator[str]:
    """Report an element that one side lacks, unless libvirt fills it in."""
    for node, side in ((here, "here"), (there, "there")):
        if node is None:
            continue
        asked = _as_asked(node, _NO_CPU) if node.tag == "cpu" else node
        if not _is_filled(parent.tag, asked):
            yield f"{' '.join(path)}: {_brief(node)} {side}, nothing {_OTHER[side]}"


def _pairs(mine: list[Node], theirs: list[Node]) -> Iterator[tuple[Node | None, Node | None]]:
    """Pair equal elements, then those of equal name, then of equal kind, then the rest in order."""
    for key in (_equal, _named, _kind):
        mine, theirs, found = _matched(mine, theirs, key)
        yield from found
    if all(node.name for node in (*mine, *theirs)):
        yield from ((node, None) for node in mine)
        yield from ((None, node) for node in theirs)
    else:
        yield from zip_longest(mine, theirs)


def _matched(
    mine: list[Node], theirs: list[Node], key: Callable[[Node], Any]
) -> tuple[list[Node], list[Node], list[tuple[Node, Node]]]:
    waiting: dict[Any, list[Node]] = defaultdict(list)
    for node in reversed(theirs):
        waiting[key(node)].append(node)
    rest, found = [], []
    for node in mine:
        if key(node) is not None and waiting.get(key(node)):
            found.append((node, waiting[key(node)].pop()))
        else:
            rest.append(node)
    taken = {id(there) for _, there in found}
    return rest, [node for node in theirs if id(node) not in taken], found


def _equal(node: Node) -> Any:
    return node.key


def _named(node: Node) -> Any:
    return node.name or None


def _kind(node: Node) -> Any:
    if node.name:
        return None
    return tuple(node.attributes.get(name) for name in ("type", "bus", "model", "mode"))


def _is_filled(parent: str, node: Node) -> bool:
    """Whether libvirt fills in an element if it is omitted, itself or all its contents."""
    known = FILLED.get(f"{parent}/{node.tag}", ())
    if known is ANY:
        return True
    if node.text and node.text not in known:
        return False
    return bool(node.text or node.attributes or node.children) and (
        all(fills(parent, node.tag, name, value) for name, value in node.attributes.items())
        and all(_is_filled(node.tag, child) for child in node.children)
    )


def _sentence(where: str, here: str, there: str) -> str:
    return f"{where}: {_value(here)} here, {_value(there)} there"


def _value(value: str) -> str:
    return _shown(value) if value else "nothing"


def _brief(node: Node) -> str:
    """Return a short description of an element: attributes and text, its own and its children's."""
    parts = (node, *node.children)
    reported = [value for part in parts for value in (*part.attributes.values(), part.text)]
    reported = [value for value in dict.fromkeys(reported) if value and value != node.name]
    return _shown(" ".join(reported)) or "present"


def _word(tag: str) -> str:
    return _shown(tag.rpartition("}")[2])


def _shown(text: str) -> str:
    return printable(text if len(text) <= WORDS else f"{text[:WORDS]}…")


_NO_CPU = Node("cpu", {}, "", (), -1)
_OTHER = {"here": "there", "there": "here"}
