"""By what Pacemaker's configuration (the CIB) differs from what the pillar wants.

Ours is what bears our prefix, and of a guest's resource only what we write: what others have set
beside it, such as a hold or a role, stays. All else stays as it is.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from lxml import etree

from saltext_kvmcluster.core import xmltext
from saltext_kvmcluster.core.errors import InputError
from saltext_kvmcluster.core.ha import content
from saltext_kvmcluster.core.ha.content import (
    CONSTRAINTS,
    FENCING,
    GUESTS,
    PREFIX,
    RESOURCES,
    TOPOLOGY,
    Piece,
)
from saltext_kvmcluster.core.pacemaker.model import is_true
from saltext_kvmcluster.core.text import printable

_Element = etree._Element

SECTIONS = ("crm_config", "nodes", RESOURCES, CONSTRAINTS, TOPOLOGY)
"""Of a configuration, in the order that Pacemaker's schema has."""
BOOTSTRAP = "cib-bootstrap-options"
"""The set of properties that Pacemaker's tools make, and its controllers read."""
STOP_ORPHANS, LETTING_GO = "stop-orphan-resources", f"{PREFIX}letting-go"
EMPTY = (
    '<cib admin_epoch="0" epoch="0" num_updates="0" validate-with="pacemaker-3.0"><configuration>'
    "<crm_config/><nodes/><resources/><constraints/></configuration><status/></cib>"
)
"""The CIB of a Pacemaker that was never configured."""


@dataclass(frozen=True)
class Difference:
    """What is to change: nothing, if there are no ``changes``.

    ``before`` and ``after`` are the whole CIB. ``differing``: a sentence for each property that
    somebody has set otherwise.
    """

    before: str
    after: str
    changes: Mapping[str, Mapping[str, str]]
    differing: tuple[str, ...] = field(default=())


def of_pieces(present: str, part: str, wanted: Iterable[Piece]) -> Difference:
    """Return by what a part of our content differs.

    present
        The CIB as Pacemaker has it.
    part
        Which part: ``content.FENCING`` or ``content.GUESTS``.
    wanted
        All pieces of that part.
    """
    edit = _Edit(present)
    pieces = {piece.id: piece for piece in wanted}
    for found in edit.ours(part):
        if str(found.get("id")) not in pieces:
            edit.remove(found)
    for piece in pieces.values():
        edit.put(piece)
    return edit.done()


def is_letting_go(present: str) -> bool:
    """Whether guests are being let go: Pacemaker stops nothing that it has no resource of."""
    return _Edit(present).letting_go is not None


def of_letting_go(present: str) -> Difference:
    """Return the difference that ends the letting go of guests."""
    edit = _Edit(present)
    if edit.letting_go is not None:
        edit.remove(edit.letting_go)
    return edit.done()


def of_properties(present: str, wanted: Mapping[str, str]) -> Difference:
    """Return which properties are missing; one that is there already is nobody's but its setter's.

    present
        The CIB as Pacemaker has it.
    """
    edit = _Edit(present)
    differing = []
    for name, value in wanted.items():
        found = edit.property(name)
        if found is None:
            edit.set_property(name, value)
        elif found.get("value", "").strip().lower() != value:
            differing.append(
                f"Pacemaker's property {name} is {printable(found.get('value', '')[:100])}, and has"
                f" to be {value}: crm_attribute -t crm_config -n {name} -v {value}"
            )
    return edit.done(tuple(differing))


class _Edit:
    """A CIB that is being changed, and what was changed."""

    def __init__(self, present: str) -> None:
        self._root = xmltext.parse_xml(present)
        configuration = self._root.find("configuration")
        if self._root.tag != "cib" or configuration is None:
            raise InputError("Pacemaker's configuration has no <configuration>")
        self._configuration = configuration
        self._before = _text(self._root)
        self._changes: dict[str, Mapping[str, str]] = {}

    @property
    def letting_go(self) -> _Element | None:
        """The property by which what has no resource any more is not stopped."""
        found = self.property(STOP_ORPHANS)
        return found if found is not None and found.get("id") == LETTING_GO else None

    def ours(self, part: str) -> Iterator[_Element]:
        """Yield the elements of a part that are in the CIB."""
        for section in (CONSTRAINTS, TOPOLOGY, RESOURCES):
            for one in list(self._configuration.iterfind(f"{section}/*")):
                if str(one.get("id", "")).startswith(PREFIX) and _part(section, one) == part:
                    yield one

    def remove(self, found: _Element) -> None:
        if found.tag == "primitive" and _part(RESOURCES, found) == GUESTS:
            self._let_go()
        self._changes[str(found.get("id"))] = {"old": _shown(found)}
        _detach(found)

    def _let_go(self) -> None:
        """Have Pacemaker leave alone what has no resource any more, instead of stopping it."""
        found = self.property(STOP_ORPHANS)
        if found is None:
            pair = {"id": LETTING_GO, "name": STOP_ORPHANS, "value": "false"}
            etree.SubElement(self._properties(), "nvpair", pair)
        elif is_true(found.get("value", "")):
            raise InputError(
                f"Pacemaker's property {STOP_ORPHANS} is set, so that it would stop a guest that"
                f" is to be let go: crm_attribute -t crm_config -n {STOP_ORPHANS} -D"
            )

    def put(self, piece: Piece) -> None:
        wanted = etree.fromstring(piece.xml)
        section = self._section(piece.section)
        found = next((one for one in section if one.get("id") == piece.id), None)
        if found is not None and found.get("class") != wanted.get("class"):
            raise InputError(
                f"a guest and a fence device of the pillar would both be {piece.id} in Pacemaker:"
                " rename one of them"
            )
        if found is None:
            self._refuse_taken(piece.id)
            self._changes[piece.id] = {"new": _shown(wanted, wanted)}
            section.append(wanted)
            return
        merged = _merged(found, wanted)
        if _text(found) != _text(merged):
            self._changes[piece.id] = {
                "old": _shown(found, wanted),
                "new": _shown(merged, wanted),
            }
            section.replace(found, merged)

    def _refuse_taken(self, name: str) -> None:
        if any(one.get("id") == name for one in self._configuration.iter(etree.Element)):
            raise InputError(
                f"Pacemaker has something else by the id {name}, which is for the pillar's:"
                f" rename it, see cibadmin --query --xpath \"//*[@id='{name}']\""
            )

    def property(self, name: str) -> _Element | None:
        pairs = self._configuration.iterfind("crm_config/cluster_property_set/nvpair")
        return next((one for one in pairs if one.get("name") == name), None)

    def set_property(self, name: str, value: str) -> None:
        group = self._properties()
        pair = {"id": f"{group.get('id')}-{name}", "name": name, "value": value}
        etree.SubElement(group, "nvpair", pair)
        self._changes[name] = {"new": value}

    def _properties(self) -> _Element:
        """Return the set of properties that Pacemaker reads, which is made if there is none."""
        section = self._section("crm_config")
        sets = section.findall("cluster_property_set")
        group = next((one for one in sets if one.get("id") == BOOTSTRAP), sets[0] if sets else None)
        if group is None:
            group = etree.SubElement(section, "cluster_property_set", {"id": BOOTSTRAP})
        return group

    def _section(self, tag: str) -> _Element:
        found = self._configuration.find(tag)
        if found is None:
            found = etree.Element(tag)
            later = SECTIONS[SECTIONS.index(tag) + 1 :]
            others = [one for one in self._configuration if one.tag in later]
            # What Pacemaker has besides, such as rsc_defaults, may come after them.
            last = [one for one in self._configuration if one.tag not in SECTIONS]
            following = (others or last)[:1]
            place = self._configuration.index(following[0]) if following else None
            if place is None:
                self._configuration.append(found)
            else:
                self._configuration.insert(place, found)
        return found

    def done(self, differing: tuple[str, ...] = ()) -> Difference:
        if self._changes:
            # A patch is taken only if it leads to a later version.
            epoch = self._root.get("epoch") or "0"
            if not re.fullmatch("[0-9]{1,18}", epoch):
                raise InputError(f"Pacemaker's configuration has no version: epoch={epoch[:40]!r}")
            self._root.set("epoch", str(int(epoch) + 1))
            self._root.set("num_updates", "0")
        after = _text(self._root)
        return Difference(self._before, after, self._changes, differing)


def _part(section: str, one: _Element) -> str:
    """Return which part of our content an element belongs to."""
    if section == TOPOLOGY or one.get("class") == "stonith":
        return FENCING
    return GUESTS


def _merged(found: _Element, wanted: _Element) -> _Element:
    """Return an element as it is to be: ours, with what others have put into a resource."""
    merged = copy.deepcopy(wanted)
    if wanted.tag != "primitive":
        return merged
    own = {_name(child): child for child in merged}
    kept = []
    for child in found:
        mine = own.get(_name(child))
        if mine is None:
            kept.append(copy.deepcopy(child))
        elif mine.tag == "meta_attributes":
            mine.extend(
                copy.deepcopy(pair) for pair in child if pair.get("name") not in content.META
            )
    for child in kept:
        merged.append(child)
    return _in_order_of(found, merged)


def _in_order_of(found: _Element, merged: _Element) -> _Element:
    """Have children that both have stand in the order of the first, which means nothing."""
    names = list(map(_name, found))
    merged[:] = sorted(merged, key=lambda child: _at(names, _name(child)))
    for child in merged:
        ids = [one.get("id") for same in found if _name(same) == _name(child) for one in same]
        if ids:
            child[:] = sorted(child, key=lambda one: _at(ids, one.get("id")))
    return merged


def _name(child: _Element) -> str:
    return child.get("id") or str(child.tag)


def _at(names: Sequence[str | None], name: str | None) -> int:
    return names.index(name) if name in names else len(names)


def _detach(found: _Element) -> None:
    parent = found.getparent()
    if parent is not None:
        parent.remove(found)


def _text(element: _Element) -> str:
    """Return an element as text in which the order of attributes means nothing."""
    return str(etree.canonicalize(etree.tostring(element, encoding="unicode")))


def _shown(element: _Element, wanted: _Element | None = None) -> str:
    """Return an element for people; of a fence device what may be a secret is left out.

    Somebody may have set a password by hand: only what the pillar has openly is shown.
    """
    shown = copy.deepcopy(element)
    if shown.get("class") == "stonith":
        pairs = [] if wanted is None else wanted.iterfind("instance_attributes/nvpair")
        known = {pair.get("name") for pair in pairs if pair.get("value") != content.SECRET}
        for pair in shown.iterfind("instance_attributes/nvpair"):
            name = str(pair.get("name"))
            is_open = name in known or name.startswith("pcmk_")
            if not is_open and pair.get("value") != content.SECRET:
                pair.set("value", "(not shown)")
    return printable(etree.tostring(shown, encoding="unicode"))
