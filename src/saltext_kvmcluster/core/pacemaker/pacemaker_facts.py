"""Pacemaker on one node, by what was run there: see pacemaker_tools.py."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from saltext_kvmcluster.core import xmltext
from saltext_kvmcluster.core.errors import InputError
from saltext_kvmcluster.core.pacemaker import cib, crm_mon, pacemaker_tools
from saltext_kvmcluster.core.pacemaker.model import Configuration, Pacemaker
from saltext_kvmcluster.core.pacemaker.pacemaker_tools import (
    CIB,
    CONFIGURATION,
    KEPT,
    NAME,
    PROCESS,
    STARTS,
    STATUS,
    config_key,
    fencers_key,
)
from saltext_kvmcluster.core.text import one_line, printable

Output = tuple[int | None, str, str]
"""A program's exit code (None: killed, 127: not installed), output and error output."""

Outputs = Mapping[str, Output]
NOT_FOUND, TOO_LONG = 127, 124
_NO_FILE = "No such file or directory"
NOT_KNOWN: Output = (None, "", "it was not run")


def parse(outputs: Outputs) -> Pacemaker | None:
    """Return what is known of Pacemaker on a node; None if not even whether it runs there."""
    found = _by_tools(outputs)
    if found is None:
        return None
    return _with_holders(_with_fencers(_with_guests(found, outputs), outputs), outputs)


def further_commands(outputs: Outputs) -> Mapping[str, Sequence[str]]:
    """Return what has to be run besides, by the outputs of ``pacemaker_tools.PRESENCE``."""
    runs = _runs(outputs)
    if runs:
        return pacemaker_tools.TOOLS
    at_rest = pacemaker_tools.AT_REST if _starts(outputs) else {}
    return at_rest if runs is False else {**pacemaker_tools.TOOLS, **at_rest}


def config_paths(outputs: Outputs) -> tuple[str, ...]:
    """Return the definitions that have to be read on a node to know its resources' guests."""
    found = _by_tools(outputs)
    return _paths(found.configuration) if found else ()


def holder_commands(outputs: Outputs) -> Mapping[str, Sequence[str]]:
    """Return what has to be run on a node to know which holds of its own are at work."""
    found = _by_tools(outputs)
    if found is None:
        return {}
    return pacemaker_tools.holder_commands([one.mark for one in found.resources], found.name)


def _by_tools(outputs: Outputs) -> Pacemaker | None:
    runs = _runs(outputs)
    if runs is None:
        return None
    return _running(outputs) if runs else _at_rest(outputs)


def _paths(found: Configuration | None) -> tuple[str, ...]:
    guests = found.guests if found else ()
    return tuple(dict.fromkeys(path for one in guests for path in one.configs))


def _runs(outputs: Outputs) -> bool | None:
    code = outputs.get(PROCESS, NOT_KNOWN)[0]
    if code in (0, 1):
        return code == 0
    # Without pgrep: without its tools there is no Pacemaker.
    return False if outputs.get(STATUS, NOT_KNOWN)[0] == NOT_FOUND else None


def _starts(outputs: Outputs) -> bool:
    return bool(outputs.get(STARTS, NOT_KNOWN)[1].strip())


def _running(outputs: Outputs) -> Pacemaker:
    found = Pacemaker(runs=True, name=_name(outputs.get(NAME, NOT_KNOWN)))
    try:
        return replace(
            found,
            status=crm_mon.parse(_printed(outputs, STATUS, "crm_mon")),
            configuration=cib.parse(_printed(outputs, CONFIGURATION, "cibadmin")),
        )
    except InputError as error:
        return replace(found, error=str(error))


def _at_rest(outputs: Outputs) -> Pacemaker:
    """Return what a Pacemaker would do that does not run, and starts with the node."""
    if not _starts(outputs):
        return Pacemaker()
    code, text, detail = outputs.get(KEPT, NOT_KNOWN)
    if code == 1 and detail.rstrip().endswith(_NO_FILE):
        return Pacemaker()
    if code != 0:
        return Pacemaker(error=f"it does not run, and {CIB} cannot be read: {_why(code, detail)}")
    try:
        return Pacemaker(configuration=cib.parse(text))
    except InputError as error:
        return Pacemaker(error=f"it does not run, and {CIB} cannot be read: {error}")


def _with_guests(found: Pacemaker, outputs: Outputs) -> Pacemaker:
    """Return it with the names in the definitions that its resources name.

    A resource of another agent is a guest only if what it names is a definition.
    """
    guests, unread = {}, {}
    for path in _paths(found.configuration):
        code, text, detail = outputs.get(config_key(path), NOT_KNOWN)
        try:
            if code != 0:
                raise InputError(_why(code, detail))
            guests[path] = _guest(text)
        except InputError as error:
            unread[path] = str(error)
    if configured := found.configuration:
        kept = (
            one for one in configured.guests if one.is_virtual_domain or {*one.configs} & {*guests}
        )
        configured = replace(configured, guests=tuple(kept))
    return replace(found, configuration=configured, guests=guests, unread=unread)


def _with_fencers(found: Pacemaker, outputs: Outputs) -> Pacemaker:
    """Return it with the fence devices that this node can use, by the node to be fenced."""
    fencers = {}
    for node in found.status.members if found.status else ():
        code, text, _ = outputs.get(fencers_key(node), NOT_KNOWN)
        if code == 0 and (devices := _listed(text)) is not None:
            fencers[node] = devices
    return replace(found, fencers=fencers)


def _with_holders(found: Pacemaker, outputs: Outputs) -> Pacemaker:
    """Return it with the marks of holds whose process runs on this node."""
    working = set()
    for mark in {one.mark for one in found.resources}:
        number, began = pacemaker_tools.holder(mark, found.name)
        stat = outputs.get(pacemaker_tools.holder_key(number), NOT_KNOWN)[1] if number else ""
        if pacemaker_tools.is_running(stat, began):
            working.add(mark)
    return replace(found, working=frozenset(working))


def _listed(text: str) -> frozenset[str] | None:
    """Return the devices that ``stonith_admin --list`` printed, None if that is no such list."""
    try:
        root = xmltext.parse_xml(text)
    except InputError:
        return None
    items = (item.text or "" for item in root.iter("item"))
    return frozenset(printable(one[: cib.LONGEST]) for one in items)


def _guest(text: str) -> str:
    """Return the guest's name in a definition; InputError if it is none."""
    root = xmltext.parse_xml(text)
    name = (root.findtext("name") or "").strip()
    if root.tag != "domain" or not name:
        raise InputError("it is no guest's definition with a name")
    return printable(name[: cib.LONGEST])


def _name(output: Output) -> str:
    words = output[1].split()
    return printable(words[0][:253]) if output[0] == 0 and len(words) == 1 else ""


def _printed(outputs: Outputs, key: str, program: str) -> str:
    code, text, detail = outputs.get(key, NOT_KNOWN)
    if code != 0:
        raise InputError(f"{program}: {crm_mon.why(text) or _why(code, detail)}")
    try:
        xmltext.parse_xml(text)
    except InputError as error:
        raise InputError(f"{program}: {error}") from None
    return text


def _why(code: int | None, detail: str) -> str:
    if code == TOO_LONG:
        return f"no answer within {pacemaker_tools.SECONDS} s"
    if code is None:
        return one_line(detail) or "killed"
    return one_line(detail) or f"exit code {code}"
