"""Foreign XML, parsed safely: no entities, no DTD, no network, limited size."""

from __future__ import annotations

import re

from lxml import etree

from saltext_kvmcluster.core.errors import InputError
from saltext_kvmcluster.core.text import printable

MAX_SIZE = 10 * 1024 * 1024
"""The longest text that is read, in bytes (libvirt's own limit for a definition is 4 MiB)."""

_DECLARATION = re.compile(r"\A\ufeff?<\?xml\s[^>]{0,200}\?>")
_PARSER = etree.XMLParser(
    resolve_entities=False,
    load_dtd=False,
    no_network=True,
    huge_tree=False,
    remove_comments=True,
    remove_pis=True,
    remove_blank_text=True,
)


def parse_xml(text: str | bytes) -> etree._Element:
    """Return the root of a text, without comments and layout; InputError if it is invalid.

    Bytes are in the encoding that they declare. Text is decoded already, so that its declaration
    is ignored.
    """
    data = _encoded(text)
    if len(data) > MAX_SIZE:
        raise InputError(f"it is longer than {MAX_SIZE // 1024**2} MiB")
    try:
        root = etree.fromstring(data, _PARSER)
    except (etree.LxmlError, ValueError, LookupError) as error:
        raise InputError(f"it is not XML: {printable(str(error)[:200])}") from None
    if root.getroottree().docinfo.internalDTD is not None:
        raise InputError("it has a DTD (<!DOCTYPE …>); remove it")
    return root


def _encoded(text: str | bytes) -> bytes:
    if isinstance(text, bytes):
        return text
    if len(text) > MAX_SIZE:
        return text[: MAX_SIZE + 1].encode("utf-8", "replace")
    return _DECLARATION.sub("", text, count=1).encode("utf-8", "surrogatepass")
