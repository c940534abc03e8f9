"""The elements of a cluster.conf, and what was not imported of each."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from lxml import etree

from saltext_kvmcluster.core.rgmanager import fates
from saltext_kvmcluster.core.rgmanager.fates import ELEMENTS, LEFT, Fate
from saltext_kvmcluster.core.text import printable

_LONGEST_PATH = 300
LONGEST_VALUE = 100
_SECRET = re.compile(r"pass(?!ive)|secret|community|_kg\Z|api_?key", re.IGNORECASE)
# In the value of another attribute, such as a mount's options.
_SECRET_INSIDE = re.compile(r"(pass\w*|secret\w*)\s*[=:]", re.IGNORECASE)
_HIDDEN = "(a password, not shown)"


@dataclass(frozen=True)
class Remark:
    """The result for a piece of the file that is not in the pillar unchanged.

    ``attribute`` is None for the element itself, ``value`` is None then, or the text inside it.
    """

    line: int
    element: str
    attribute: str | None
    value: str | None
    became: str
    why: str


@dataclass(eq=False)
class Element:
    """An element of the file, and what is not imported of it yet.

    ``imported``: the element itself has a counterpart. ``why``: why it was left out after all, with
    everything in it. ``default``: the fate of everything in it without a fate of its own.
    """

    tag: str
    line: int
    path: str
    parent: Element | None
    given: Mapping[str, str]
    text: str
    left: dict[str, str]
    imported: bool = False
    why: str | None = None
    default: Fate = fates.UNKNOWN
    children: list[Element] = field(default_factory=list)
    remarks: list[Remark] = field(default_factory=list)

    def take(self, attribute: str) -> str | None:
        """Return an attribute that is imported; None if there is none, or it is empty."""
        value = self.left.get(attribute, "")
        return self.left.pop(attribute) if value.strip() else None

    def remark(self, attribute: str | None, value: str | None, fate: Fate) -> None:
        """Add the fate of the element, or of an attribute's value."""
        self.left.pop(attribute or "", None)
        if value and (is_secret(attribute or "") or _SECRET_INSIDE.search(value)):
            value = _HIDDEN
        self.remarks.append(
            Remark(self.line, self.path, attribute, value and printable(value), *fate)
        )

    def drop(self, why: str) -> None:
        """Leave the element out, with its attributes and everything in it."""
        self.imported, self.why, self.left = False, why, dict(self.given)

    def inside(self, tag: str) -> bool:
        """Whether the element is inside another one of that name, at any depth."""
        part = self.parent
        while part and part.tag != tag:
            part = part.parent
        return part is not None


def elements_of(root: etree._Element) -> list[Element]:
    """Return every element of the file in its order."""
    parts: dict[etree._Element, Element] = {}
    for element in root.iter("*"):
        above = element.getparent()
        parent = None if above is None else parts[above]
        line: Any = element.sourceline
        given = {str(name): str(value) for name, value in element.attrib.items()}
        texts = [element.text, *(child.tail for child in element)]
        parts[element] = part = Element(
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


def _path(parent: Element | None, tag: str, name: str | None) -> str:
    label = f"{tag[:LONGEST_VALUE]}[{name[:LONGEST_VALUE]}]" if name and parent else tag
    path = printable(f"{parent.path}/{label}" if parent else label)
    return path if len(path) <= _LONGEST_PATH else "…" + path[-_LONGEST_PATH:]


def remark_on_the_rest(part: Element) -> None:
    """Add a remark for everything of an element that was not imported."""
    fate = _fate(part)
    if not part.imported:
        part.remark(None, None, fate)
    for attribute, value in list(part.left.items()):
        own = fates.fate(part.tag, attribute, value)
        part.remark(attribute, value, own if part.imported else fate)
    if part.text:
        part.remark(None, part.text, fates.TEXT)


def _fate(part: Element) -> Fate:
    """Return why an element is left out: its own fate, or that of the element around it."""
    above = part.parent.default if part.parent else fates.UNKNOWN
    part.default = Fate(LEFT, part.why) if part.why else ELEMENTS.get(part.tag, above)
    return above if part.tag == "vm" and not part.why else part.default


def is_secret(attribute: str) -> bool:
    """Whether the value of an attribute of that name is not shown; a script's path is."""
    return bool(_SECRET.search(attribute)) and not attribute.endswith("_script")


def is_in(part: Element, frame: str) -> bool:
    return part.parent is not None and part.parent.imported and part.parent.tag == frame
