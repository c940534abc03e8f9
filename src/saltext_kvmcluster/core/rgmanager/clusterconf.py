"""RGManager's cluster.conf as our pillar: the file's text in, data and remarks out.

Nothing of the file is dropped in silence. Whoever takes an attribute over takes it away from its
part; in the end all that is left is remarked on.
"""

from __future__ import annotations

import posixpath
import re
import textwrap
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from lxml import etree

from saltext_kvmcluster.core import xmltext
from saltext_kvmcluster.core.errors import InputError
from saltext_kvmcluster.core.pillar import clusters, parser
from saltext_kvmcluster.core.rgmanager import rgmanager
from saltext_kvmcluster.core.rgmanager.rgmanager import (
    BECAME,
    CHANGED,
    ELEMENTS,
    LEFT,
    Fate,
    is_set,
    is_yes,
)
from saltext_kvmcluster.core.text import printable
from saltext_kvmcluster.core.trust.identity import MINE_FUNCTION
from saltext_kvmcluster.core.validate import shown

MAX_SIZE = 1024 * 1024
"""The longest text that is read, in bytes; real ones are far shorter."""

NAMELESS = "imported"
ROOT = clusters.ROOT
WIDTH = 100
FRAME = {
    "clusternodes": "cluster",
    "rm": "cluster",
    "failoverdomains": "rm",
    "resources": "rm",
}
XEN_FOLDER = "/etc/xen"
INSIDE_A_GUEST = Fate(
    CHANGED,
    "it stood inside another guest and started after it; guests do not depend on each other here",
)
_LONGEST_PATH = 300
_LONGEST_VALUE = 100
_SECRET = re.compile(r"pass(?!ive)|secret|community", re.IGNORECASE)
# In the value of another attribute, such as a mount's options.
_SECRET_INSIDE = re.compile(r"(pass\w*|secret\w*)\s*[=:]", re.IGNORECASE)
_HIDDEN = "(a password, not shown)"
_JINJA = re.compile(r"\{(?=[{%#])")

Pillar = dict[str, Any]


@dataclass(frozen=True)
class Remark:
    """What became of a piece of the file that is not in the pillar as it was.

    ``attribute`` is None for the element itself, ``value`` is None then, or the text inside it.
    """

    line: int
    element: str
    attribute: str | None
    value: str | None
    became: str
    why: str


@dataclass(frozen=True)
class Imported:
    """The pillar that a cluster.conf makes, and what else there is to say about it."""

    pillar: Pillar
    remarks: tuple[Remark, ...]

    def to_dict(self) -> dict[str, Any]:
        """Return it as plain data."""
        return {"pillar": self.pillar, "remarks": [asdict(remark) for remark in self.remarks]}


def parse(text: str | bytes) -> Imported:
    """Return what a cluster.conf says, in our words; InputError if it is none."""
    if len(text) > MAX_SIZE:
        raise InputError(f"it is no cluster.conf: it is longer than {MAX_SIZE // 1024} KiB")
    parts = _parts(xmltext.parse_xml(text))
    if parts[0].tag != "cluster":
        raise InputError(
            "it is no cluster.conf: its first element is"
            f" {printable(parts[0].tag[:_LONGEST_VALUE])}, not cluster"
        )
    pillar = _pillar(parts)
    parser.from_pillar(pillar)
    for part in parts:  # whatever stands in an element comes after it
        _remark_on_the_rest(part)
    remarks = sorted((remark for part in parts for remark in part.remarks), key=lambda it: it.line)
    return Imported(pillar, tuple(remarks))


def path(value: object) -> str:
    """Return the path of the file; InputError if there cannot be one."""
    if isinstance(value, str) and value and "\0" not in value:
        return value
    raise InputError(f"file: want the path of a cluster.conf, got {shown(value)}")


def as_text(found: Imported, source: str, dumped: str) -> str:
    """Return the pillar as the text of an SLS file, with the remarks as comments.

    source
        The name of the file that it was.

    dumped
        The pillar as YAML.
    """
    steps = [
        "The nodes are called as in cluster.conf. They have to be called by their minion ids:"
        " compare with 'salt-key -L', and change here what differs.",
        "Read the remarks at the end: they say what has changed, and what has no counterpart.",
        "Put this into the pillar of these nodes, and of nobody else. Then run"
        " 'salt-run state.orchestrate kvmcluster.orch.prepare' and 'salt-run kvmcluster.check'.",
        "Two cluster managers must not look after one guest: end RGManager on all nodes before"
        " anything here starts or moves a guest.",
    ]
    lines = [*_wrapped(f"Pillar for saltext-kvmcluster, made from {source}."), "#"]
    for number, step in enumerate(steps, 1):
        lines += _wrapped(f"{number}. {step}", "   ")
    return "\n".join([*lines, "", dumped.rstrip("\n"), "", *_remarks(found.remarks), ""])


@dataclass(eq=False)
class _Part:
    """An element of the file, and what of it nobody has taken over yet.

    ``seen``: the element itself has a counterpart. ``why``: why it was left out after all, with
    everything in it. ``word``: what is said of all in it that has no word of its own.
    """

    tag: str
    line: int
    path: str
    parent: _Part | None
    given: Mapping[str, str]
    text: str
    left: dict[str, str]
    observed: bool = False
    why: str | None = None
    word: Fate = rgmanager.UNKNOWN
    children: list[_Part] = field(default_factory=list)
    remarks: list[Remark] = field(default_factory=list)

    def take(self, attribute: str) -> str | None:
        """Return an attribute that is taken over; None if there is none, or it is empty."""
        value = self.left.get(attribute, "")
        return self.left.pop(attribute) if value.strip() else None

    def remark(self, attribute: str | None, value: str | None, fate: Fate) -> None:
        """Say what became of the element, or of an attribute's value."""
        self.left.pop(attribute or "", None)
        if value and (_SECRET.search(attribute or "") or _SECRET_INSIDE.search(value)):
            value = _HIDDEN
        self.remarks.append(
            Remark(self.line, self.path, attribute, value and printable(value), *fate)
        )

    def drop(self, why: str) -> None:
        """Leave the element out, with all of its attributes and all that is in it."""
        self.observed, self.why, self.left = False, why, dict(self.given)

    def inside(self, tag: str) -> bool:
        """Whether the element stands in another one of that name, however deep."""
        part = self.parent
        while part and part.tag != tag:
            part = part.parent
        return part is not None


def _parts(root: etree._Element) -> list[_Part]:
    """Return every element of the file in its order."""
    parts: dict[etree._Element, _Part] = {}
    for element in root.iter("*"):
        above = element.getparent()
        parent = None if above is None else parts[above]
        line: Any = element.sourceline
        given = {str(name): str(value) for name, value in element.attrib.items()}
        texts = [element.text, *(child.tail for child in element)]
        parts[element] = part = _Part(
            tag=str(element.tag),
            line=line or 0,
            path=_path(parent, str(element.tag), given.get("name")),
            parent=parent,
            given=given,
            text=" ".join(text.strip() for text in texts if text and text.strip()),
            left=dict(given),
        )
        if parent:
            parent.children.append(part)
    return list(parts.values())


def _path(parent: _Part | None, tag: str, name: str | None) -> str:
    label = f"{tag[:_LONGEST_VALUE]}[{name[:_LONGEST_VALUE]}]" if name and parent else tag
    path = printable(f"{parent.path}/{label}" if parent else label)
    return path if len(path) <= _LONGEST_PATH else "…" + path[-_LONGEST_PATH:]


def _remark_on_the_rest(part: _Part) -> None:
    """Remark on each thing of an element that nobody took over."""
    whole = _fate(part)
    if not part.observed:
        part.remark(None, None, whole)
    for attribute, value in list(part.left.items()):
        own = rgmanager.fate(part.tag, attribute, value)
        part.remark(attribute, value, own if part.observed else whole)
    if part.text:
        part.remark(None, part.text, rgmanager.TEXT)


def _fate(part: _Part) -> Fate:
    """Return why an element is left out: its own word, or that of what it stands in."""
    above = part.parent.word if part.parent else rgmanager.UNKNOWN
    part.word = Fate(LEFT, part.why) if part.why else ELEMENTS.get(part.tag, above)
    return above if part.tag == "vm" and not part.why else part.word


def _pillar(parts: list[_Part]) -> Pillar:
    root = parts[0]
    for part in parts:
        part.observed = part is root or bool(
            part.parent and part.parent.observed and FRAME.get(part.tag) == part.parent.tag
        )
    nodes = _nodes(parts)
    guests = _guests(part for part in parts if part.tag == "vm" and part.inside("rm"))
    listed = _listed(guests, _domains(parts, nodes))
    _map_migration(guests.values(), nodes)
    body: Pillar = {"name": _name(root), "nodes": nodes.bodies}
    for key, value in (("guests", listed), ("migration", _migration(list(guests.values())))):
        if value:
            body[key] = value
    return {ROOT: body, "mine_functions": {MINE_FUNCTION: []}}


def _name(root: _Part) -> str:
    """Return the cluster's name, or one that stands for a name that cannot be."""
    name = root.take("name")
    why = _refusal({"name": name}) if name else "the cluster has no name"
    if name and not why:
        return name
    stand_in = f"the cluster is called {NAMELESS!r} until you give it another name: {why}"
    root.remark("name" if name else None, name, Fate(CHANGED, stand_in))
    return NAMELESS


def _refusal(body: Pillar, *texts: str) -> str | None:
    """Return why a part of a pillar cannot be; None if it can.

    texts
        What of it stands in the pillar's file as it is, where Salt looks for Jinja first.
    """
    if any(_JINJA.search(text) for text in texts):
        return "Salt would take it for Jinja in a pillar's file"
    try:
        parser.from_pillar({ROOT: {"name": NAMELESS, "nodes": {"node": {}}, **body}})
    except InputError as error:
        return printable(str(error))
    return None


class _Nodes:
    """The nodes that are taken over, and to whom each name belongs."""

    def __init__(self) -> None:
        self.bodies: dict[str, Pillar] = {}
        self._owners: dict[str, str] = {}

    def owner(self, name: str) -> str | None:
        """Return the node that has a name; RGManager did not tell capitals from small letters."""
        return self._owners.get(name.lower())

    def claim(self, node: str, key: str | None = None, name: str = "") -> str | None:
        """Take a node over, or one more name of it under a key; or return why that cannot be."""
        more: Pillar = {"names": [name]} if key == "names" else {key: name} if key else {}
        try:
            wanted = {ROOT: {"name": NAMELESS, "nodes": {node: more}}}
            found = parser.from_pillar(wanted).nodes[node]
        except InputError as error:
            return printable(str(error))
        names = [known.lower() for known in found.names]
        for known in names:
            if self._owners.get(known, node) != node:
                return f"the name {known} is one of {self._owners[known]}'s, and leads there"
        self._owners.update(dict.fromkeys(names, node))
        body = self.bodies.setdefault(node, {})
        if key == "names":
            body.setdefault(key, []).append(name)
        elif key:
            body[key] = name
        return None

    def map(self, pair: str) -> str | None:
        """Take over one NODE:NAME of a migration mapping; or return why that cannot be."""
        member, _, target = (word.strip() for word in pair.partition(":"))
        node = self.owner(member)
        if not target:
            return "want NODE:NAME"
        if node is None:
            return f"{member!r} is none of the nodes that were taken over"
        body = self.bodies[node]
        known = body.get("migration", target)
        if known != target:
            return f"a node has one migration name here, and the first one for {node} is {known}"
        return None if "migration" in body else self.claim(node, "migration", target)


def _nodes(parts: list[_Part]) -> _Nodes:
    nodes, refused = _Nodes(), ""
    for part in parts:
        if part.tag != "clusternode" or not _is_in(part, "clusternodes"):
            continue
        name = part.given.get("name", "")
        twice = f"{name} is in the file twice; the first one is taken over"
        why = twice if nodes.owner(name) else nodes.claim(name)
        if why:
            part.drop(why)
            refused = refused or f" ({why})"
            continue
        part.take("name")
        part.observed = True
        for child in part.children:
            if child.tag == "altname":
                _add_name(child, name, nodes)
    if not nodes.bodies:
        raise InputError(f"it has no node that can be taken over{refused}")
    return nodes


def _is_in(part: _Part, frame: str) -> bool:
    return part.parent is not None and part.parent.observed and part.parent.tag == frame


def _add_name(altname: _Part, node: str, nodes: _Nodes) -> None:
    """Take a node's name in its second network over as one of its names."""
    altname.observed = True
    name = altname.take("name")
    why = nodes.claim(node, "names", name) if name else None
    if why:
        altname.remark("name", name, Fate(LEFT, why))


def _guests(vms: Iterable[_Part]) -> dict[str, _Part]:
    """Return the guests that can be taken over, by name; each of the others says why it cannot."""
    guests: dict[str, _Part] = {}
    for part in vms:
        name = part.given.get("name", "")
        twice = f"{name} is in the file twice; the first one is taken over"
        why = twice if name in guests else _no_guest(part, name)
        if why:
            part.drop(why)
            continue
        part.take("name")
        part.observed = True
        guests[name] = part
        if part.inside("vm"):
            part.remark(None, None, INSIDE_A_GUEST)
    return guests


def _no_guest(part: _Part, name: str) -> str | None:
    """Return why a <vm> cannot be a guest here; None if it can."""
    if "ref" in part.given and not name:
        return "it refers to a guest in <resources>, and that one counts"
    if (
        part.given.get("hypervisor", "").strip().lower() == "xen"
        or part.given.get("use_virsh", "").strip() == "0"
        or part.given.get("hypervisor_uri", "").strip().lower().startswith("xen")
        or part.given.get("migration_uri", "").strip().lower().startswith("xen")
    ):
        return "it is a guest of Xen, and nodes here run QEMU/KVM"
    return _refusal({"guests": {"list": {name: {}}}}, name)


@dataclass(frozen=True)
class _Domain:
    """A failover domain, and the member by which it names the home of its guests."""

    part: _Part
    best: _Part | None
    node: str | None


def _domains(parts: list[_Part], nodes: _Nodes) -> dict[str, _Domain]:
    """Return the failover domains by name, in small letters: RGManager made no difference."""
    domains: dict[str, _Domain] = {}
    for part in parts:
        if part.tag != "failoverdomain" or not _is_in(part, "failoverdomains"):
            continue
        name = part.given.get("name", "")
        if name.lower() in domains:
            part.drop(f"{name} is in the file twice; the first one counts")
            continue
        best = _best(part, nodes)
        node = nodes.owner(best.given["name"]) if best else None
        domains[name.lower()] = _Domain(part, best, node)
    return domains


def _best(domain: _Part, nodes: _Nodes) -> _Part | None:
    """Return the first of the members with the lowest priority number."""
    ranked = [
        (priority, member)
        for member in _members(domain)
        if (priority := _priority(member)) is not None and nodes.owner(member.given.get("name", ""))
    ]
    return min(ranked, key=lambda pair: pair[0])[1] if ranked else None


def _members(domain: _Part) -> list[_Part]:
    return [part for part in domain.children if part.tag == "failoverdomainnode"]


def _priority(member: _Part) -> int | None:
    """Return a priority as RGManager knew it: 1 to 100, and anything else for none."""
    text = member.given.get("priority", "").strip()
    return int(text) if re.fullmatch("0*([1-9][0-9]?|100)", text) else None


def _listed(guests: Mapping[str, _Part], domains: Mapping[str, _Domain]) -> Pillar:
    """Return the pillar's part about guests, empty if there are none."""
    if not guests:
        return {}
    folders: dict[str, None] = {}
    bodies: Pillar = {}
    for name, part in guests.items():
        given = {"xmlfile": _xmlfile(part, name), "home": _home(part, domains)}
        bodies[name] = {key: value for key, value in given.items() if value}
        folders.update(dict.fromkeys(_folders(part)))
    if not folders and not any("xmlfile" in body for body in bodies.values()):
        return {"definitions": "defined", "list": bodies}
    for name, part in guests.items():
        _remark_on_definition(part, bodies[name], folders)
    path = {"path": ":".join(folders)} if folders else {}
    return {"definitions": "shared", **path, "list": bodies}


def _xmlfile(part: _Part, name: str) -> str | None:
    file = part.take("xmlfile")
    why = _refusal({"guests": {"list": {name: {"xmlfile": file}}}}, file) if file else None
    if why:
        part.remark("xmlfile", file, Fate(LEFT, why))
    return None if why else file


def _folders(part: _Part) -> list[str]:
    """Return the folders of a guest's search path that can be taken over."""
    if part.given.get("xmlfile", "").strip():
        if value := part.take("path"):
            part.remark("path", value, Fate(LEFT, "xmlfile wins over it, as it did in RGManager"))
        return []
    fit = []
    for folder in filter(None, (part.take("path") or "").split(":")):
        if posixpath.normpath(folder) == XEN_FOLDER:
            part.remark("path", folder, Fate(LEFT, "RGManager never looked there for libvirt"))
        elif why := _refusal({"guests": {"path": folder}}, folder):
            part.remark("path", folder, Fate(LEFT, why))
        else:
            fit.append(folder)
    return fit


def _remark_on_definition(part: _Part, body: Pillar, folders: Mapping[str, None]) -> None:
    """Say where a guest's definition is looked for, if that is not where it was."""
    if "xmlfile" in body:
        return
    path = part.given.get("path", "")
    own = [folder for folder in path.split(":") if folder in folders]
    if not own:
        why = (
            "its definition was libvirt's own, or lay where only one host has it; here definitions"
            f" are shared: set {ROOT}:guests:list:{part.given['name']}:xmlfile, or put it into a"
            " folder of guests:path"
        )
        part.remark(None, None, Fate(CHANGED, why))
    elif len(set(own)) < len(folders) or list(dict.fromkeys(own)) != list(folders):
        why = "there is one search path for all guests: the folders of all, in the file's order"
        part.remark("path", path, Fate(CHANGED, why))


def _home(part: _Part, domains: Mapping[str, _Domain]) -> str | None:
    """Return the node that starts a guest: the first one of its failover domain, if ordered."""
    name = part.given.get("domain", "")
    domain = domains.get(name.lower())
    if not name.strip():
        return None
    if domain is None:
        part.remark("domain", name, Fate(LEFT, "the file has no failover domain of that name"))
        return None
    _use(domain)
    if not is_set(domain.part.given.get("ordered")):
        why = "its failover domain is not ordered, so no node comes first; set its home by hand"
    elif domain.node is None:
        why = "no node of its failover domain has a priority and was taken over"
    else:
        part.take("domain")
        return domain.node
    part.remark("domain", name, Fate(LEFT, why))
    return None


def _use(domain: _Domain) -> None:
    """Take a failover domain over as far as it says where its guests are at home."""
    if domain.part.observed:
        return
    domain.part.observed = True
    domain.part.take("name")
    members = _members(domain.part)
    for member in members:
        member.observed = True
    best = domain.best
    if best is None or not is_set(domain.part.given.get("ordered")):
        return
    domain.part.take("ordered")
    best.take("name")
    priority = best.take("priority")
    if any(_priority(member) == _priority(best) for member in members if member is not best):
        why = "another node has the same priority; the first of the two is the home of its guests"
        best.remark("priority", priority, Fate(CHANGED, why))


def _map_migration(guests: Iterable[_Part], nodes: _Nodes) -> None:
    """Take over the names by which nodes are dialled to migrate."""
    plain = []
    for part in guests:
        mapping = part.take("migration_mapping")
        if not mapping:
            plain.append(part)
        for pair in filter(str.strip, (mapping or "").split(",")):
            if why := nodes.map(pair):
                part.remark("migration_mapping", pair.strip(), Fate(LEFT, why))
    if any("migration" in body for body in nodes.bodies.values()):
        why = "it has no migration_mapping, but every guest goes by the nodes' migration names here"
        for part in plain:
            part.remark(None, None, Fate(CHANGED, why))


def _migration(guests: list[_Part]) -> Pillar:
    """Return the pillar's part about how guests migrate, which holds for all of them."""
    return {**_tunnelled(guests), **_live(guests)}


def _tunnelled(guests: list[_Part]) -> Pillar:
    wanted = [part for part in guests if is_yes(part.given.get("tunnelled"))]
    why = (
        "others are tunnelled, and the pillar says it for all guests; without it:"
        " salt-run kvmcluster.migrate GUEST NODE tunnelled=false"
    )
    for part in guests if wanted else ():
        value = part.take("tunnelled")
        if part not in wanted:
            part.remark("tunnelled" if value else None, value, Fate(CHANGED, why))
    return {"tunnelled": True} if wanted else {}


def _live(guests: list[_Part]) -> Pillar:
    paused = [part for part in guests if _is_paused(part)]
    everywhere = bool(paused) and len(paused) == len(guests)
    why = (
        "others migrate live, and the pillar says it for all guests; for this one:"
        " salt-run kvmcluster.migrate GUEST NODE live=false"
    )
    for part in paused:
        value = part.take("migrate")
        if not everywhere:
            part.remark("migrate", value, Fate(LEFT, why))
    return {"live": False} if everywhere else {}


def _is_paused(part: _Part) -> bool:
    return part.given.get("migrate", "").strip().lower() not in ("", "live")


def _remarks(remarks: Iterable[Remark]) -> list[str]:
    """Return comments: each reason once, and under it what it is about."""
    groups: dict[tuple[str, str], dict[tuple[int, str], list[str]]] = {}
    for remark in remarks:
        places = groups.setdefault((remark.became, remark.why), {})
        places.setdefault((remark.line, remark.element), []).append(_piece(remark))
    if not groups:
        return ["# Remarks: none."]
    lines = _wrapped("Remarks. Numbers are lines of cluster.conf. Its comments are not taken over.")
    for (became, why), places in sorted(groups.items(), key=lambda it: BECAME.index(it[0][0])):
        lines += ["#", *_wrapped(f"{became.capitalize()}: {why}")]
        for (line, element), pieces in places.items():
            lines.append(_comment(" ".join(filter(None, [f"    {line}: {element}", *pieces]))))
    return lines


def _piece(remark: Remark) -> str:
    value = remark.value or ""
    shown = value if len(value) <= _LONGEST_VALUE else value[:_LONGEST_VALUE] + "…"
    if remark.attribute is None:
        return f'"{shown}"' if value else ""
    return f'{printable(remark.attribute[:_LONGEST_VALUE])}="{shown}"'


def _wrapped(text: str, indent: str = "") -> list[str]:
    """Return a text as comments, broken into lines."""
    lines = textwrap.wrap(
        text,
        WIDTH - 2,
        subsequent_indent=indent,
        break_long_words=False,
        break_on_hyphens=False,
    )
    return [_comment(line) for line in lines]


def _comment(text: str) -> str:
    """Return a comment that neither YAML nor Jinja takes for anything else."""
    return "# " + _JINJA.sub("{ ", printable(text))
