"""What a definition hands QEMU past libvirt: ``<qemu:commandline>`` and its kind, in sentences.

No check reads what is in there, and neither does libvirt: a drive that is added so is no disk to
it, so that the destination's QEMU opens whatever file of that name it finds there. libvirt keeps
these elements in the definition that it sends (qemuDomainDefNamespaceFormatXML in
src/qemu/qemu_domain.c). ``<qemu:deprecation>`` is none of them: it only tells QEMU what to say of
commands that are out of date.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from lxml import etree

from saltext_kvmcluster.core.text import one_line

NAMESPACE = "http://libvirt.org/schemas/domain/qemu/1.0"
_MOST = 300
_SECRET = re.compile(r"""\b(data|passw\w*)(["']?\s*[=:]\s*["']?)[^\s,"'}]+""", re.IGNORECASE)


def find(domain: etree._Element) -> tuple[str, ...]:
    """Return a sentence for each such element of a ``<domain>`` that names what is in it.

    Without values that may be secret: variables, and what ``data`` and ``password`` are set to.
    """
    return tuple(
        f"{words}: {one_line(_without_secrets(' '.join(parts)), _MOST)}"
        for words, parts in (
            ("it hands QEMU arguments that nothing checks", arguments(domain)),
            ("it sets variables of QEMU's environment", _variables(domain)),
            ("it overrides what libvirt tells QEMU of its devices", _overrides(domain)),
            ("it changes what libvirt takes its QEMU to be able to", _capabilities(domain)),
        )
        if parts
    )


def _without_secrets(text: str) -> str:
    return _SECRET.sub(r"\1\2…", text)


def arguments(domain: etree._Element) -> list[str]:
    """Return the arguments that a definition hands QEMU besides libvirt's own."""
    return [found.get("value", "") for found in _each(domain, "commandline", "arg")]


def _variables(domain: etree._Element) -> list[str]:
    return [found.get("name", "") for found in _each(domain, "commandline", "env")]


def _overrides(domain: etree._Element) -> list[str]:
    return [
        f"{device.get('alias', '')} {changed.get('name', '')}={changed.get('value', '')}"
        for device in _each(domain, "override", "device")
        for changed in device.iter(_tag("property"))
    ]


def _capabilities(domain: etree._Element) -> list[str]:
    return [
        f"{sign}{one.get('capability', '')}"
        for sign, what in (("+", "add"), ("-", "del"))
        for one in _each(domain, "capabilities", what)
    ]


def _each(domain: etree._Element, outer: str, inner: str) -> Iterator[etree._Element]:
    return domain.iterfind(f"{_tag(outer)}/{_tag(inner)}")


def _tag(name: str) -> str:
    return f"{{{NAMESPACE}}}{name}"
