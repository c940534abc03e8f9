"""In what two definitions of a guest differ in meaning, not in how they are written.

Both become trees without layout, comments, units and namespace prefixes, which are compared node
by node: what is not known here is compared all the same. Only what libvirt fills in by itself,
where one side leaves it out, is known by name; see ``_FILLED``.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice, zip_longest
from typing import Any

from lxml import etree

from saltext_kvmcluster.core.guest.units import in_bytes
from saltext_kvmcluster.core.text import printable

MAX_DIFFERENCES = 100
_WORDS = 80


@dataclass(frozen=True)
class _Node:
    """An element in its canonical form. ``key`` is a number, equal for equal meaning."""

    tag: str
    attributes: Mapping[str, str]
    text: str
    children: tuple[_Node, ...]
    key: int
    name: str = ""
    """What tells it from its siblings of the same tag; may be empty."""


def differences(one: etree._Element, other: etree._Element, ours: str) -> tuple[str, ...]:
    """Return a sentence for each difference, the first MAX_DIFFERENCES.

    one, other
        Two ``<domain>`` elements; a sentence says "here" of the first, "there" of the second.
    ours
        The namespace of metadata that do not count.
    """
    keys: dict[Hashable, int] = {}
    found = _compared(_node(one, ours, keys), _node(other, ours, keys), "", ())
    return tuple(islice(found, MAX_DIFFERENCES))


def _node(element: etree._Element, ours: str, keys: dict[Hashable, int], parent: str = "") -> _Node:
    """Return an element's meaning; a network is told by its name, not as what runs was given it.

    keys
        The number of each meaning that was met; it grows.
    """
    tag = str(element.tag)
    reported = {str(name): str(value) for name, value in element.attrib.items()}
    if tag == "interface" and element.find("source[@network]") is not None:
        reported["type"] = "network"
    if parent == "interface" and tag == "source" and "network" in reported:
        reported = {name: reported[name] for name in ("network", "portgroup") if name in reported}
    attributes, text = _sizes(tag, reported, (element.text or "").strip())
    if tag in _MADE_IN:
        for name in [name for name in attributes if _is_made(parent, tag, name, attributes)]:
            del attributes[name]
    elif tag == "address":
        attributes = {name: _number(value) for name, value in attributes.items()}
    children = tuple(_children(element, ours, keys, tag)) if len(element) else ()
    if tag == "devices":
        children = _without_twin(children)
    content = (tag, frozenset(attributes.items()), text, _content(children) if children else ())
    key = keys.setdefault(content, len(keys))
    return _Node(tag, attributes, text, children, key, _name(tag, attributes, children))


def _children(
    element: etree._Element, ours: str, keys: dict[Hashable, int], tag: str
) -> Iterator[_Node]:
    for child in element:
        if tag != "metadata" or not str(child.tag).startswith(f"{{{ours}}}"):
            node = _node(child, ours, keys, tag)
            if not _is_generated(child, node):
                yield node


def _content(children: Iterable[_Node]) -> Hashable:
    """Return what children mean: the order counts of those alone that have no names."""
    named = frozenset((child.tag, child.name, child.key) for child in children if child.name)
    ordered: dict[str, list[Hashable]] = defaultdict(list)
    for child in children:
        if not child.name:
            ordered[child.tag].append(child.key)
    return named, frozenset((tag, tuple(keys)) for tag, keys in ordered.items())


def _without_twin(devices: tuple[_Node, ...]) -> tuple[_Node, ...]:
    """Return devices without the console that is their first serial port, told a second time.

    Where only the console is told, it is that port.
    """
    console = next((node for node in devices if _is_serial_console(node)), None)
    if console is None:
        return devices
    if any(node.tag == "serial" for node in devices):
        return tuple(node for node in devices if node is not console)
    return tuple(replace(node, tag="serial") if node is console else node for node in devices)


def _is_serial_console(node: _Node) -> bool:
    targets = [child for child in node.children if child.tag == "target"]
    return node.tag == "console" and all(
        child.attributes.get("type", "serial") == "serial" for child in targets
    )


def _is_generated(element: etree._Element, node: _Node) -> bool:
    """Whether libvirt makes an element anew for each run, or nothing is left that it does not."""
    if node.tag == "alias":
        return not node.attributes.get("name", "").startswith("ua-")
    if node.tag == "seclabel":
        return node.attributes.get("type") == "dynamic" and element.find("baselabel") is None
    if node.tag == "privateData":
        return True
    had = bool(element.attrib) or node.tag == "metadata"
    return had and not (node.attributes or node.text or node.children)


def _is_made(parent: str, tag: str, name: str, attributes: Mapping[str, str]) -> bool:
    """Whether libvirt makes an attribute anew for each run."""
    if tag == "graphics" and name in ("port", "tlsPort"):
        return attributes.get("autoport") == "yes"
    made = _MADE.get(f"{tag}@{name}", _MADE.get(f"{parent}/{tag}@{name}"))
    return made is not None and attributes[name].startswith(made)


def _number(text: str) -> str:
    """Return a number as libvirt reads it, decimal or 0x…, in one form; other text as it is."""
    try:
        return str(int(text, 0)) if len(text) < _WORDS else text
    except ValueError:
        return text.lstrip("0") if text.isdecimal() and text.strip("0") else text


def _sizes(tag: str, attributes: dict[str, str], text: str) -> tuple[dict[str, str], str]:
    """Return attributes and text with a size in KiB instead of one with a unit."""
    unit = attributes.get("unit", "KiB" if tag in _IN_KIB else "")
    if not unit:
        return attributes, text
    size = in_bytes(text, unit)
    if size is not None:
        text = _kib(size)
    reported = {name: in_bytes(attributes.get(name, ""), unit) for name in ("size", "memory")}
    known = {name: _kib(size) for name, size in reported.items() if size is not None}
    if size is not None or known:
        attributes = {**attributes, **known}
        attributes.pop("unit", None)
    return attributes, text


def _kib(size: int) -> str:
    return f"{size / 1024:g} KiB" if size % 1024 else f"{size // 1024} KiB"


def _name(tag: str, attributes: Mapping[str, str], children: Iterable[_Node]) -> str:
    if tag == "controller":
        model = attributes.get("model", "")
        part = model if model.startswith("ich9-") else ""
        return f"{attributes.get('type', '')} {attributes.get('index', '0')} {part}".strip()
    for child in children:
        for part, name in _NAMES:
            if child.tag == part and child.attributes.get(name) and tag != child.tag:
                return child.attributes[name]
    return next((attributes[name] for name in _OWN_NAMES if attributes.get(name)), "")


def _compared(one: _Node, other: _Node, parent: str, path: tuple[str, ...]) -> Iterator[str]:
    if one.key == other.key:
        return
    if one.tag == "cpu":
        one, other = _as_asked(one, other), _as_asked(other, one)
    where = " ".join(path)
    if one.text != other.text:
        yield _sentence(where, one.text, other.text)
    for name in sorted({*one.attributes, *other.attributes}):
        here, there = one.attributes.get(name, ""), other.attributes.get(name, "")
        if here != there and not _same_value(parent, one.tag, name, here, there):
            yield _sentence(f"{where} {_word(name)}".strip(), here, there)
    groups: dict[str, tuple[list[_Node], list[_Node]]] = {}
    for side, node in enumerate((one, other)):
        for child in node.children:
            groups.setdefault(child.tag, ([], []))[side].append(child)
    for mine, theirs in groups.values():
        yield from _group(one, mine, theirs, path)


def _as_asked(cpu: _Node, other: _Node) -> _Node:
    """Return a CPU without what libvirt added when the guest started, for ``other`` was asked.

    Where host-model was asked for, what runs names a model and its features; for any other model
    it has ``check='full'`` and the features that came with it.
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
    parent: _Node, mine: list[_Node], theirs: list[_Node], path: tuple[str, ...]
) -> Iterator[str]:
    """Compare the children of one tag: the same with the same, as far as they can be told."""
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
    parent: _Node, here: _Node | None, there: _Node | None, path: tuple[str, ...]
) -> Iterator[str]:
    """Tell of an element that one side lacks, unless libvirt fills it in."""
    for node, side in ((here, "here"), (there, "there")):
        if node is None:
            continue
        asked = _as_asked(node, _NO_CPU) if node.tag == "cpu" else node
        if not _is_filled(parent.tag, asked):
            yield f"{' '.join(path)}: {_brief(node)} {side}, nothing {_OTHER[side]}"


def _pairs(mine: list[_Node], theirs: list[_Node]) -> Iterator[tuple[_Node | None, _Node | None]]:
    """Pair equal elements, then those of equal name, of equal kind, and the rest in order."""
    for key in (_equal, _named, _kind):
        mine, theirs, found = _matched(mine, theirs, key)
        yield from found
    if all(node.name for node in (*mine, *theirs)):
        yield from ((node, None) for node in mine)
        yield from ((None, node) for node in theirs)
    else:
        yield from zip_longest(mine, theirs)


def _matched(
    mine: list[_Node], theirs: list[_Node], key: Callable[[_Node], Any]
) -> tuple[list[_Node], list[_Node], list[tuple[_Node, _Node]]]:
    waiting: dict[Any, list[_Node]] = defaultdict(list)
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


def _equal(node: _Node) -> Any:
    return node.key


def _named(node: _Node) -> Any:
    return node.name or None


def _kind(node: _Node) -> Any:
    if node.name:
        return None
    return tuple(node.attributes.get(name) for name in ("type", "bus", "model", "mode"))


def _same_value(parent: str, tag: str, name: str, here: str, there: str) -> bool:
    """Whether two values of an attribute mean the same: one is left out, or libvirt's alias."""
    if not here or not there:
        return _fills(parent, tag, name, here or there)
    if f"{tag}@{name}" == "type@machine":
        short, long = sorted((here, there), key=len)
        return long.startswith((f"{short}-", f"pc-{short}-", f"{short}-i440fx-"))
    return False


def _fills(parent: str, tag: str, name: str, value: str) -> bool:
    """Whether libvirt fills in an attribute with that value, where it is left out."""
    for key in (f"{parent}/{tag}@{name}", f"{tag}@{name}"):
        if key in _FILLED:
            known = _FILLED[key]
            return known is ANY or value in known
    return tag == "address" and parent != "source"


def _is_filled(parent: str, node: _Node) -> bool:
    """Whether libvirt fills in an element where it is left out, as it is or all that it holds."""
    known = _FILLED.get(f"{parent}/{node.tag}", ())
    if known is ANY:
        return True
    if node.text and node.text not in known:
        return False
    return bool(node.text or node.attributes or node.children) and (
        all(_fills(parent, node.tag, name, value) for name, value in node.attributes.items())
        and all(_is_filled(node.tag, child) for child in node.children)
    )


def _sentence(where: str, here: str, there: str) -> str:
    return f"{where}: {_value(here)} here, {_value(there)} there"


def _value(value: str) -> str:
    return _shown(value) if value else "nothing"


def _brief(node: _Node) -> str:
    """Return a few words on an element: attributes and text, its own and those right below."""
    parts = (node, *node.children)
    reported = [value for part in parts for value in (*part.attributes.values(), part.text)]
    reported = [value for value in dict.fromkeys(reported) if value and value != node.name]
    return _shown(" ".join(reported)) or "present"


def _word(tag: str) -> str:
    return _shown(tag.rpartition("}")[2])


def _shown(text: str) -> str:
    return printable(text if len(text) <= _WORDS else f"{text[:_WORDS]}…")


ANY = None
_NO_CPU = _Node("cpu", {}, "", (), -1)
_OTHER = {"here": "there", "there": "here"}
_NAMES = (("mac", "address"), ("target", "dir"), ("target", "name"), ("target", "dev"))
_OWN_NAMES = ("name", "id", "index", "vcpu", "iothread", "vcpus", "alias")
_IN_KIB = frozenset(
    {
        *("memory", "currentMemory", "maxMemory", "block", "requested", "current"),
        *("hard_limit", "soft_limit", "swap_hard_limit", "min_guarantee"),
    }
)
_MADE: Mapping[str, tuple[str, ...]] = {
    "domain@id": ("",),
    "source@index": ("",),
    "source@portid": ("",),
    "console@tty": ("",),
    "channel/target@state": ("",),
    "interface/target@dev": ("vnet", "macvtap", "macvlan"),
    "source@path": ("/dev/pts/", "/var/lib/libvirt/qemu/", "/run/libvirt/", "/var/run/libvirt/"),
}
"""What libvirt makes anew for each run, by how its values begin."""

_MADE_IN = {"graphics", *(key.partition("@")[0].rpartition("/")[2] for key in _MADE)}

_FILLED: Mapping[str, Sequence[str] | None] = {
    "domain/uuid": ANY,
    "domain/currentMemory": ANY,
    "domain/vcpu": ("1",),
    "domain/on_poweroff": ("destroy",),
    "domain/on_reboot": ("restart",),
    "domain/on_crash": ("destroy",),
    "devices/emulator": ANY,
    "resource/partition": ("/machine",),
    "vcpu@placement": ("static",),
    "os/type@arch": ANY,
    "os/type@machine": ANY,
    "boot@dev": ("hd",),
    "gic@version": ANY,
    "clock@offset": ("utc",),
    "cpu@mode": ("custom",),
    "cpu@match": ("exact",),
    "cpu@check": ANY,
    "cpu@migratable": ANY,
    "cpu/model": ("qemu64", "qemu32"),
    "cpu/model@fallback": ("allow", "forbid"),
    "topology@dies": ("1",),
    "topology@clusters": ("1",),
    "cell@id": ANY,
    "cell/distances": ANY,
    "hyperv@mode": ("custom",),
    "disk@type": ("file",),
    "disk@device": ("disk",),
    "disk/target@bus": ANY,
    "disk/driver@name": ("qemu",),
    "disk/driver@type": ("raw",),
    "disk/backingStore": ANY,
    "backingStore/backingStore": ANY,
    "controller@type": ANY,
    "controller@index": ANY,
    "controller@model": ANY,
    "controller/model@name": ANY,
    "controller/target@chassis": ANY,
    "controller/target@chassisNr": ANY,
    "controller/target@index": ANY,
    "master@startport": ANY,
    "interface/mac": ANY,
    "interface/model@type": ("rtl8139",),
    "serial/target": ANY,
    "target@port": ANY,
    "serial/target@type": ANY,
    "target/model@name": ANY,
    "source@mode": ("bind",),
    "hostdev@managed": ("no",),
    "shmem/model@type": ("ivshmem",),
    "input@type": ("mouse", "keyboard"),
    "input@bus": ("ps2",),
    "graphics@autoport": ("yes",),
    "graphics@port": ("-1",),
    "graphics@listen": ANY,
    "listen@type": ("address", "none"),
    "listen@address": ANY,
    "audio@id": ANY,
    "audio@type": ANY,
    "video/model@type": ("cirrus", "vga", "virtio"),
    "video/model@heads": ANY,
    "video/model@primary": ("yes",),
    "video/model@ram": ANY,
    "video/model@vram": ANY,
    "video/model@vgamem": ANY,
    "encryption@engine": ("qemu",),
    "disk@snapshot": ("no",),
    "vsock@model": ("virtio",),
    "memballoon@model": ("virtio",),
    "panic@model": ("pseries", "s390"),
}
"""What libvirt fills in where a definition leaves it out: ``[PARENT/]TAG`` or ``[…]TAG@NAME``, and
with which values. See its virDomainDefPostParse and qemuDomainDefPostParse, and what it makes of
the definitions of its own tests."""
