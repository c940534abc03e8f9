"""The files of definitions: where they are, whether they may be there, what a new one changes."""

from __future__ import annotations

import contextlib
import posixpath
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass

from lxml import etree

from saltext_kvmcluster.core.errors import InputError
from saltext_kvmcluster.core.guest import domainxml
from saltext_kvmcluster.core.guest.domainxml import Guest
from saltext_kvmcluster.core.pillar.clusters import ROOT, Guests
from saltext_kvmcluster.core.text import printable
from saltext_kvmcluster.core.xmltext import parse_xml

SCHEMAS = "/usr/share/libvirt/schemas"
SCHEMA = "domain.rng"
FAULTS = 5
_DECLARED = re.compile(r"""<\?xml[^>]{0,99}encoding\s*=\s*["']([^"']{1,40})["']""")
_OLD, _NEW = re.compile(r" here(?=, |\Z)"), re.compile(r" there(?=, |\Z)")
_RNG = "{http://relaxng.org/ns/structure/1.0}"


@dataclass(frozen=True)
class Found:
    """Where a definition was found; ``warning`` names another one that is not used."""

    path: str
    warning: str = ""


def paths(guests: Guests, name: str) -> tuple[str, ...]:
    """Return the paths of a guest's definition, in the order of search.

    As RGManager's vm.sh does it: ``xmlfile`` alone if the pillar gives it; else DIR/NAME and
    DIR/NAME.xml along ``path``.
    """
    listed = guests.list.get(name)
    if listed and listed.xmlfile:
        return (listed.xmlfile,)
    return _along_path(guests, name)


def find(guests: Guests, name: str, there: Collection[str]) -> Found:
    """Return where the definition of a guest is.

    there
        Which of ``all_paths`` exist.

    InputError, which lists where it was looked for, if there is none.
    """
    wanted = paths(guests, name)
    if not wanted:
        raise InputError(
            f"{ROOT}:guests has neither a path nor, in its list, an xmlfile for {name}: set one of"
            " them to where its definition is"
        )
    unused = [path for path in _along_path(guests, name) if path in there and path not in wanted]
    for path in wanted:
        if path in there:
            warning = f"{path} is used, as xmlfile says; {', '.join(unused)} is not"
            return Found(path, warning if unused else "")
    hint = f"; {unused[0]} exists, but xmlfile names another path" if unused else ""
    raise InputError(f"no definition of {name} at {', '.join(wanted)}{hint}")


def all_paths(guests: Guests, name: str) -> tuple[str, ...]:
    """Return every path that ``find`` has to know of."""
    return tuple(dict.fromkeys([*paths(guests, name), *_along_path(guests, name)]))


def target(guests: Guests, name: str, there: Collection[str]) -> str:
    """Return where to put the definition of a guest: where it is found, or the preferred path.

    InputError if the pillar names no path.
    """
    wanted = paths(guests, name)
    if not any(path in there for path in wanted) and len(wanted) > 1:
        return wanted[1]
    return wanted[0] if len(wanted) == 1 else find(guests, name, there).path


def parse(name: str, text: str, where: str) -> Guest:
    """Return a parsed definition; InputError if it is not of the guest with that name.

    where
        The name of the text in errors: its path, or the state's argument.
    """
    try:
        guest = domainxml.parse(text.encode("utf-8", "surrogateescape"))
    except InputError as error:
        raise InputError(f"{where}: {error}") from None
    if guest.name != name:
        raise InputError(
            f"{where} defines a guest named {printable(guest.name[:100])!r}, not {name!r}"
        )
    if not guest.uuid:
        raise InputError(
            f"{where} has no <uuid>, so each start would create a different guest; set one (uuidgen"
            " prints one) and never change it"
        )
    return guest


def as_text(definition: str) -> str:
    """Return a definition as text for libvirt, whatever the encoding of its file."""
    declared = _DECLARED.match(definition)
    foreign = declared and declared.group(1).lower() not in ("utf-8", "us-ascii")
    if not foreign and "\0" not in definition:
        with contextlib.suppress(UnicodeEncodeError):
            definition.encode()
            return definition
    return etree.tostring(
        _parsed(definition.encode("utf-8", "surrogateescape")), encoding="unicode"
    )


def decoded(data: bytes, where: str) -> str:
    """Return a definition's file as text; InputError if it is not in its declared encoding.

    where
        Its path, for the error.
    """
    try:
        return as_text(data.decode("utf-8", "surrogateescape"))
    except (etree.LxmlError, SyntaxError, ValueError, LookupError) as error:
        raise InputError(
            f"{where} is not in its declared encoding, or UTF-8: {printable(str(error)[:200])}"
        ) from None


def same_guest(old: Guest, new: Guest, where: str) -> None:
    """Raise InputError if a new definition would replace the guest by a different one."""
    if old.uuid != new.uuid:
        raise InputError(
            f"{where} has UUID {old.uuid}; with {new.uuid} it would be a different guest: keep the"
            " UUID, or remove the old definition by hand"
        )


def changes(old: Guest, new: Guest) -> tuple[str, ...]:
    """Return what a new definition changes in meaning, a sentence each."""
    return differences(old, new, "before", "now")


def differences(one: Guest, other: Guest, first: str, second: str) -> tuple[str, ...]:
    """Return how two definitions differ in meaning, a sentence each, with the names of the two."""
    return tuple(
        _NEW.sub(f" {second}", _OLD.sub(f" {first}", sentence))
        for sentence in domainxml.differences(one, other)
    )


def misplaced(folder: str) -> str:
    """Return why definitions must not be in a folder, given without links; empty if they may.

    libvirt's page on migration: "/etc/libvirt must never be shared between hosts".
    """
    if f"{folder}/".startswith("/etc/libvirt/"):
        return (
            f"{folder} belongs to this node's libvirt, which deletes files there when it undefines"
        )
    return ""


def faults(text: str, schema: Mapping[str, bytes]) -> tuple[str, ...]:
    """Return how a definition violates libvirt's RNG schema, a line each, the first few.

    schema
        The files of SCHEMAS by name.
    """
    grammar = _parsed(schema[SCHEMA])
    _include(grammar, schema, set())
    validator = etree.RelaxNG(grammar)
    if validator.validate(parse_xml(text.encode("utf-8", "surrogateescape"))):
        return ()
    found = dict.fromkeys(
        f"line {error.line}: {printable(error.message[:200])}" for error in validator.error_log
    )
    return tuple(found)[:FAULTS]


def _along_path(guests: Guests, name: str) -> tuple[str, ...]:
    return tuple(
        posixpath.join(folder, file) for folder in guests.path for file in (name, f"{name}.xml")
    )


def _parsed(data: bytes) -> etree._Element:
    parser = etree.XMLParser(resolve_entities=False, no_network=True, load_dtd=False)
    return etree.fromstring(data, parser)


def _include(grammar: etree._Element, schema: Mapping[str, bytes], done: set[str]) -> None:
    """Replace a grammar's includes by their content, each file once, so that no file is read."""
    for include in list(grammar.iter(f"{_RNG}include")):
        name = include.get("href", "")
        inner = etree.Element(f"{_RNG}div")
        if name not in done:
            done.add(name)
            included = _parsed(schema[name])
            _include(included, schema, done)
            inner.set("datatypeLibrary", included.get("datatypeLibrary", ""))
            inner.extend(list(included))
        parent = include.getparent()
        if parent is not None:
            parent.replace(include, inner)
