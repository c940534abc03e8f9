"""A guest's own lease, and definitions with it.

lockd locks the file TARGET/LOCKSPACE/KEY, which has to exist; see libvirt's "Virtual machine lock
manager, virtlockd plugin". The key is the guest's UUID, so that copies of one guest exclude each
other, whatever their disks are on.
"""

from __future__ import annotations

import posixpath
import re
from xml.sax.saxutils import escape, quoteattr

from saltext_kvmcluster.core.errors import InputError
from saltext_kvmcluster.core.guest import domainxml, store
from saltext_kvmcluster.core.guest.domainxml import Guest, Lease

_END = re.compile(r"(\n?)([ \t]*)</devices\s*>")


def of(guest: Guest, folder: str) -> Lease:
    """Return the lease of a guest in a folder."""
    target, lockspace = posixpath.split(folder.rstrip("/"))
    return Lease(lockspace, guest.uuid, target)


def added(name: str, text: str, folder: str, where: str) -> str:
    """Return a definition with the guest's lease; unchanged if it has it.

    where
        The name of the text in errors.

    All else in the text stays as it is. InputError if it is not a valid definition of the guest, or
    if its devices cannot be found in the text.
    """
    guest = store.parse(name, text, where)
    lease = of(guest, folder)
    if lease in guest.leases:
        return text
    for place in reversed(list(_END.finditer(text))):
        found = _inserted(text, place, lease)
        if _is_added(guest, found, lease):
            return found
    raise InputError(
        f"{where}: there is no place in it for a lease; add this to its <devices>:"
        f" {_element(lease)}"
    )


def _inserted(text: str, place: re.Match[str], lease: Lease) -> str:
    start = place.start() + len(place[1])
    indent = place[2] if place[1] else ""
    line = f"{indent}  {_element(lease)}\n" if place[1] else _element(lease)
    return f"{text[:start]}{line}{text[start:]}"


def _element(lease: Lease) -> str:
    return (
        f"<lease><lockspace>{escape(lease.lockspace)}</lockspace><key>{escape(lease.key)}</key>"
        f"<target path={quoteattr(lease.target)}/></lease>"
    )


def _is_added(before: Guest, text: str, lease: Lease) -> bool:
    """Whether a text has that lease and is otherwise the same; not if it is in a comment."""
    try:
        after = domainxml.parse(text.encode("utf-8", "surrogateescape"))
    except InputError:
        return False
    same = (after.name, after.uuid, after.disks) == (before.name, before.uuid, before.disks)
    return same and after.leases == (*before.leases, lease)
