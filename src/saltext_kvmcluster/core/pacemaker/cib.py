"""The configuration section of Pacemaker's CIB: which resources are guests, and what is set.

As in "Pacemaker Explained": a primitive takes what neither it nor its template sets from the groups
and clones around it, parameters included (get_rsc_attributes in lib/pengine/complex.c), then from
``rsc_defaults`` and ``op_defaults``.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping

from lxml import etree

from saltext_kvmcluster.core import xmltext
from saltext_kvmcluster.core.errors import InputError
from saltext_kvmcluster.core.pacemaker.fence_agents import FenceDevice, FenceLevel
from saltext_kvmcluster.core.pacemaker.model import (
    DEFAULT_STICKINESS,
    Configuration,
    GuestResource,
    is_true,
)
from saltext_kvmcluster.core.text import printable

AGENT = "virtualdomain"
"""In the names of the agent of guests, and of what was made of it."""
PARENTS = ("group", "clone", "master", "bundle")
HOLD_SET, HOLD_MARK = "kvmcluster-hold-", "kvmcluster-hold"
STANDBY_SET, STANDBY_MARK = "kvmcluster-standby-", "kvmcluster-standby"
"""Our own sets of attributes of a resource or a node, by how their ids begin, and our marks."""
# What crm_resource calls the constraints of --move and --ban.
LEFT = ("cli-prefer-", "cli-ban-", "cli-standby-")
LONGEST = 1000

_Element = etree._Element


def is_definition(value: str) -> bool:
    """Whether a parameter's value may be the path of a guest's definition."""
    return value.startswith("/") and value.endswith(".xml")


def parse(text: str) -> Configuration:
    """Return what a CIB, or its section configuration, says; InputError if it is neither."""
    root = xmltext.parse_xml(text)
    found = root if root.tag == "configuration" else root.find("configuration")
    if found is None:
        raise InputError(f"<{printable(str(root.tag)[:100])}> has no <configuration>")
    return _Cib(found).parsed()


class _Cib:
    """A configuration section, with its elements by id."""

    def __init__(self, root: _Element) -> None:
        self.root = root
        self.ids = {one.get("id"): one for one in root.iter(etree.Element) if one.get("id")}

    def parsed(self) -> Configuration:
        primitives = list(self.root.iterfind("resources//primitive"))
        return Configuration(
            options=dict(self._options()),
            guests=tuple(self._guests(primitives)),
            fencing=tuple(
                self._device(one) for one in primitives if self._agent(one)[0] == "stonith"
            ),
            levels=tuple(self._levels()),
            moves=tuple(
                _id(one) for one in self.root.iterfind("constraints/*") if _id(one).startswith(LEFT)
            ),
            unmanaged=tuple(self._unmanaged()),
            nodes={_text(node, "uname"): _id(node) for node in self.root.iterfind("nodes/node")},
            standbys=dict(self._standbys()),
        )

    def _options(self) -> Iterator[tuple[str, str]]:
        for group in reversed(self.root.findall("crm_config/cluster_property_set")):
            yield from self._pairs(group).items()

    def _agent(self, primitive: _Element) -> tuple[str, str, str]:
        """Return the class, the type and the provider of its agent."""
        source = self._template(primitive) if primitive.get("template") else primitive
        if source is None:
            return "", "", ""
        return source.get("class", ""), source.get("type", ""), source.get("provider", "")

    def _template(self, primitive: _Element) -> _Element | None:
        found = self.ids.get(primitive.get("template"))
        return found if found is not None and found.tag == "template" else None

    def _own(self, primitive: _Element) -> list[_Element]:
        """Return a primitive and its template, whose sets of attributes Pacemaker puts together."""
        return [one for one in (primitive, self._template(primitive)) if one is not None]

    def _device(self, primitive: _Element) -> FenceDevice:
        around = [[one] for one in primitive.iterancestors() if one.tag in PARENTS]
        levels = [self._own(primitive), *around]
        provides = self._value(levels[:1], "meta_attributes", "provides")
        kind = self._agent(primitive)[1][:LONGEST]
        defaults = self.root.findall("rsc_defaults")
        role = self._value([*levels, defaults], "meta_attributes", "target-role")
        return FenceDevice(
            _id(primitive), printable(kind), provides == "unfencing", role.lower() == "stopped"
        )

    def _levels(self) -> Iterator[FenceLevel]:
        for one in self.root.iterfind("fencing-topology/fencing-level"):
            devices = printable(one.get("devices", "")[:LONGEST])
            named = tuple(name.strip() for name in devices.split(","))
            if target := printable(one.get("target", "")[:LONGEST]):
                yield FenceLevel(target, named)

    def _guests(self, primitives: Iterable[_Element]) -> Iterator[GuestResource]:
        for one in primitives:
            standard, kind, provider = self._agent(one)
            found = self._guest(one, AGENT in kind.lower(), printable(provider[:LONGEST]))
            if standard == "ocf" and (found.is_virtual_domain or found.configs):
                yield found

    def _guest(self, primitive: _Element, is_virtual_domain: bool, provider: str) -> GuestResource:
        around = [one for one in primitive.iterancestors() if one.tag in PARENTS]
        levels = [self._own(primitive), *([one] for one in around)]
        with_defaults = [*levels, self.root.findall("rsc_defaults")]

        def meta(name: str, default: str = "") -> str:
            return self._value(with_defaults, "meta_attributes", name, default)

        names = {
            name: None
            for level in levels
            for group in self._sets(level, "instance_attributes")
            for name in self._pairs(group)
        }
        possible = {name: tuple(self._possible(levels, name)) for name in names}
        paths = [path for values in possible.values() for path in values if is_definition(path)]
        return GuestResource(
            _id(primitive),
            _id(around[-1]) if around else _id(primitive),
            possible.get("config", ()) if is_virtual_domain else tuple(dict.fromkeys(paths)),
            allow_migrate=is_true(meta("allow-migrate")),
            on_fail=self._on_fail(levels[0]),
            stickiness=meta("resource-stickiness", DEFAULT_STICKINESS),
            parameters={name: values[0] for name, values in possible.items() if values},
            managed=is_true(meta("is-managed", "true")) and not is_true(meta("maintenance")),
            is_virtual_domain=is_virtual_domain,
            mark=self._mark_of_hold(primitive),
            ruled=any(map(self._outranks, self._sets(levels[0], "meta_attributes"))),
            bound=tuple(self._binding({_id(one) for one in (primitive, *around)})),
            provider=provider,
        )

    def _mark_of_hold(self, primitive: _Element) -> str:
        """Return the mark of our hold, empty if there is none, or if somebody has ended it.

        ``crm_resource --meta`` removes or changes the is-managed that it finds, which is ours.
        """
        own = self._of_ours(primitive, "meta_attributes", HOLD_SET)
        return "" if is_true(own.get("is-managed", "true")) else own.get(HOLD_MARK, "")

    def _of_ours(self, element: _Element, tag: str, set_id: str) -> Mapping[str, str]:
        """Return what our own set of attributes says, nothing if there is none."""
        for group in element.iterfind(tag):
            if group.get("id", "").startswith(set_id):
                return self._pairs(group)
        return {}

    def _outranks(self, group: _Element) -> bool:
        """Whether a set of meta attributes may count before one of ours."""
        if group.get("id", "").startswith(HOLD_SET):
            return False
        return group.find("rule") is not None or _score(group) == math.inf

    def _standbys(self) -> Iterator[tuple[str, str]]:
        for node in self.root.iterfind("nodes/node"):
            own = self._of_ours(node, "instance_attributes", STANDBY_SET)
            # Whoever took the node back by crm_attribute removed or changed what we had set.
            if own.get(STANDBY_MARK) and is_true(own.get("standby", "")):
                yield _text(node, "uname"), own[STANDBY_MARK]

    def _binding(self, ids: set[str]) -> Iterator[str]:
        """Yield the ids of the constraints by which others stop unless one of these is active."""
        for tag in self.root.iterfind("tags/tag"):
            if ids & {one.get("id") for one in tag.iterfind("obj_ref")}:
                ids = ids | {_id(tag)}
        for one in self.root.iterfind("constraints/*"):
            if one.tag == "rsc_colocation":
                binds = one.get("with-rsc") in ids and _score(one, "INFINITY") == math.inf
                negative = _score(one, "INFINITY") < 0
            elif one.tag == "rsc_order":
                optional = (
                    one.get("kind") in ("Optional", "Serialize")
                    or one.get("score") == "0"
                    or not is_true(one.get("symmetrical", "true"))
                )
                binds, negative = one.get("first") in ids and not optional, optional
            else:
                continue
            in_set = ids & {each.get("id") for each in one.iterfind("resource_set/resource_ref")}
            if binds or (in_set and not negative):
                yield _id(one)

    def _on_fail(self, own: Iterable[_Element]) -> str:
        """Return what is to follow if the operation migrate_to fails."""
        defaults = self._value([self.root.findall("op_defaults")], "meta_attributes", "on-fail")
        for one in own:
            for operations in one.iterfind("operations"):
                for operation in self._referred(operations).iterfind("op"):
                    if operation.get("name") == "migrate_to":
                        inner = self._value([[operation]], "meta_attributes", "on-fail")
                        found = operation.get("on-fail") or inner
                        return printable(found[:LONGEST]) or defaults
        return defaults

    def _unmanaged(self) -> Iterator[str]:
        """Yield the ids of what is set to be unmanaged, or in maintenance."""
        for one in self.root.iterfind("resources//*"):
            if one.tag in ("primitive", "template", *PARENTS) and self._is_unmanaged(one):
                yield _id(one)
        if any(map(self._is_unmanaged, self.root.findall("rsc_defaults"))):
            yield "rsc_defaults"
        for node in self.root.iterfind("nodes/node"):
            if is_true(self._value([[node]], "instance_attributes", "maintenance")):
                yield printable(node.get("uname", "")[:LONGEST])

    def _is_unmanaged(self, one: _Element) -> bool:
        managed = self._value([[one]], "meta_attributes", "is-managed", "true")
        maintenance = self._value([[one]], "meta_attributes", "maintenance")
        return not is_true(managed) or is_true(maintenance)

    def _value(
        self, levels: Iterable[Iterable[_Element]], tag: str, name: str, default: str = ""
    ) -> str:
        """Return the value of a name that counts."""
        for level in levels:
            for pairs in map(self._pairs, self._sets(level, tag)):
                if name in pairs:
                    return pairs[name]
        return default

    def _possible(self, levels: Iterable[Iterable[_Element]], name: str) -> Iterator[str]:
        """Yield the values that a parameter may have, that which counts first.

        Rules decide at run time; and of sets of the same score releases may take another.
        """
        for level in levels:
            decided = math.inf
            for group in self._sets(level, "instance_attributes"):
                pairs = self._pairs(group)
                if decided < math.inf and _score(group) < decided:
                    return
                if name in pairs:
                    yield pairs[name]
                    decided = decided if group.find("rule") is not None else _score(group)
            if decided < math.inf:
                return

    def _sets(self, level: Iterable[_Element], tag: str) -> list[_Element]:
        """Return the sets of attributes of a level, that which counts first.

        It is that of the highest score; of several, a primitive's own before its template's, and
        the last one: seen with ``crm_resource --get-parameter`` of Pacemaker 2.1.5.
        """
        found = [one for element in level for one in reversed(element.findall(tag))]
        return sorted(map(self._referred, found), key=lambda one: -_score(one))

    def _pairs(self, group: _Element) -> Mapping[str, str]:
        pairs: dict[str, str] = {}
        for one in map(self._referred, group.iterfind("nvpair")):
            name = one.get("name", "")
            pairs.setdefault(printable(name[:LONGEST]), printable(one.get("value", "")[:LONGEST]))
        return pairs

    def _referred(self, element: _Element) -> _Element:
        """Return the element that an id-ref names, or the element itself."""
        found = self.ids.get(element.get("id-ref"))
        return found if found is not None and found.tag == element.tag else element


def _id(element: _Element) -> str:
    return printable(element.get("id", "")[:LONGEST])


def _text(element: _Element, name: str) -> str:
    return printable(element.get(name, "")[:LONGEST])


def _score(group: _Element, default: str = "0") -> float:
    text = group.get("score", default).lstrip("+")
    if text.lstrip("-") == "INFINITY":
        return float(text.replace("INFINITY", "inf"))
    try:
        return int(text[:20])
    except ValueError:
        return 0
