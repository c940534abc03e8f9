"""Closes and opens this node, by the file that ``core.closing`` describes."""

from __future__ import annotations

from datetime import datetime, timezone

from saltext_kvmcluster.core import closing
from saltext_kvmcluster.core.closing import PATH, Closed
from saltext_kvmcluster.core.errors import WorldError
from saltext_kvmcluster.core.plan import FilePlan
from saltext_kvmcluster.host import files


def mark() -> Closed | None:
    """Return what closes this node, None if it is open."""
    text = files.read(PATH).text
    return None if text is None else closing.read(text)


def close(reason: str) -> tuple[Closed, bool]:
    """Close this node; return what closes it, and whether it was open.

    One that is closed keeps since when and, unless its file gives none, why.
    """
    with files.lock():
        known = mark()
        if known and known.since and known.reason:
            return known, False
        since = datetime.now(timezone.utc).isoformat(timespec="milliseconds")
        wanted = Closed(since, known.reason if known and known.reason else reason)
        files.apply(FilePlan(PATH, closing.text(wanted), 0o644, "root", {}))
        return wanted, known is None


def open_again() -> Closed | None:
    """Open this node; return what closed it, None if it was open. Whatever is there is removed."""
    with files.lock():
        try:
            known = mark()
        except WorldError as error:
            known = Closed("", str(error))
        files.remove(PATH)
        return known
