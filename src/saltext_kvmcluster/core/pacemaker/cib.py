"""The configuration section of Pacemaker's CIB: which resources are guests, and what is set.

As in "Pacemaker Explained": a primitive takes what it does not set from its template, then from the
groups and clones around it, then from ``rsc_defaults`` and ``op_defaults``.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from lxml import etree

from saltext_kvmcluster.core import xmltext
from saltext_kvmcluster.core.errors import InputError
from saltext_kvmcluster.core.pacemaker.model import (
    DEFAULT_STICKINESS,
    Configuration,
    FenceDevice,
    GuestResource,
    is_true,
)
from saltext_kvmcluster.core.text import printable

AGENT = ("ocf", "VirtualDomain")
PARENTS = ("group", "clone", "master")
# What crm_resource calls the constraints of --move and --ban.
LEFT = ("cli-prefer-", "cli-ban-", "cli-standby-")
LONGEST = 1000

_Element = etree._Element


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
            guests=tuple(self._guest(one) for one in primitives if self._is_guest(one)),
            fencing=tuple(
                self._device(one) for one in primitives if self._agent(one)[0] == "stonith"
            ),
            moves=tuple(
                _id(one) for one in self.root.iterfind("constraints/*") if _id(one).startswith(LEFT)
            ),
            unmanaged=tuple(self._unmanaged()),
        )

    def _options(self) -> Iterator[tuple[str, str]]:
        for group in reversed(self.root.findall("crm_config/cluster_property_set")):
            yield from self._pairs(group).items()

    def _agent(self, primitive: _Element) -> tuple[str, str]:
        source = self._template(primitive) if primitive.get("template") else primitive
        return (source.get("class", ""), source.get("type", "")) if source is not None else ("", "")

    def _template(self, primitive: _Element) -> _Element | None:
        found = self.ids.get(primitive.get("template"))
        return found if found is not None and found.tag == "template" else None

    def _device(self, primitive: _Element) -> FenceDevice:
        own = [one for one in (primitive, self._template(primitive)) if one is not None]
        provides = next(self._values(own, "meta_attributes", "provides"), "")
        return FenceDevice(
            _id(primitive), printable(self._agent(primitive)[1][:LONGEST]), provides == "unfencing"
        )

    def _is_guest(self, primitive: _Element) -> bool:
        return self._agent(primitive) == AGENT

    def _guest(self, primitive: _Element) -> GuestResource:
        around = [one for one in primitive.iterancestors() if one.tag in PARENTS]
        own = [one for one in (primitive, self._template(primitive)) if one is not None]
        defaults = self.root.findall("rsc_defaults")

        def meta(name: str, default: str = "") -> str:
            found = self._values([*own, *around, *defaults], "meta_attributes", name)
            return next(found, default)

        names = {
            name
            for one in own
            for group in self._groups(one, "instance_attributes")
            for name in self._pairs(group)
        }
        return GuestResource(
            _id(primitive),
            _id(around[-1]) if around else _id(primitive),
            tuple(self._possible(own, "config")),
            allow_migrate=is_true(meta("allow-migrate")),
            on_fail=self._on_fail(own),
            stickiness=meta("resource-stickiness", DEFAULT_STICKINESS),
            parameters={
                name: next(self._values(own, "instance_attributes", name), "") for name in names
            },
            managed=is_true(meta("is-managed", "true")) and not is_true(meta("maintenance")),
        )

    def _on_fail(self, own: Iterable[_Element]) -> str:
        """Return what is to follow if the operation migrate_to fails."""
        for one in own:
            for operations in one.iterfind("operations"):
                for operation in self._referred(operations).iterfind("op"):
                    if operation.get("name") == "migrate_to":
                        inner = self._values([operation], "meta_attributes", "on-fail")
                        found = operation.get("on-fail") or next(inner, "")
                        return printable(found[:LONGEST]) or self._default_on_fail()
        return self._default_on_fail()

    def _default_on_fail(self) -> str:
        return next(
            self._values(self.root.findall("op_defaults"), "meta_attributes", "on-fail"), ""
        )

    def _unmanaged(self) -> Iterator[str]:
        """Yield the ids of what is set to be unmanaged, or in maintenance."""
        for one in self.root.iterfind("resources//*"):
            if one.tag in ("primitive", "bundle", "template", *PARENTS) and self._is_unmanaged(one):
                yield _id(one)
        if any(map(self._is_unmanaged, self.root.findall("rsc_defaults"))):
            yield "rsc_defaults"
        for node in self.root.iterfind("nodes/node"):
            if is_true(next(self._values([node], "instance_attributes", "maintenance"), "")):
                yield printable(node.get("uname", "")[:LONGEST])

    def _is_unmanaged(self, one: _Element) -> bool:
        managed = next(self._values([one], "meta_attributes", "is-managed"), "true")
        return not is_true(managed) or is_true(
            next(self._values([one], "meta_attributes", "maintenance"), "")
        )

    def _values(self, elements: Iterable[_Element], tag: str, name: str) -> Iterator[str]:
        """Yield the values of a name, that which counts first."""
        for element in elements:
            for group in self._groups(element, tag):
                pairs = self._pairs(group)
                if name in pairs:
                    yield pairs[name]

    def _possible(self, elements: Iterable[_Element], name: str) -> Iterator[str]:
        """Yield the values that a name may have: rules decide at run time."""
        for element in elements:
            for group in self._groups(element, "instance_attributes"):
                pairs = self._pairs(group)
                if name in pairs:
                    yield pairs[name]
                    if group.find("rule") is None:
                        return

    def _groups(self, element: _Element, tag: str) -> list[_Element]:
        """Return the sets of an element, that of the highest score first."""
        return sorted(map(self._referred, element.iterfind(tag)), key=lambda one: -_score(one))

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


def _score(group: _Element) -> float:
    text = group.get("score", "0").lstrip("+")
    if text.lstrip("-") == "INFINITY":
        return float(text.replace("INFINITY", "inf"))
    try:
        return int(text[:20])
    except ValueError:
        return 0
