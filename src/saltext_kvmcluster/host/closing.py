"""Closes and opens this node, by the file that ``core.closing`` describes."""

from __future__ import annotations

from datetime import datetime, timezone

from saltext_kvmcluster.core import closing
from saltext_kvmcluster.core.closing import PATH, Closed
from saltext_kvmcluster.core.errors import WorldError
from saltext_kvmcluster.core.plan import FilePlan
from saltext_kvmcluster.host import files

# Not the lock of all else: a node whose storage hangs while a state writes there can be closed.
LOCK = "kvmcluster-closing"


def mark() -> Closed | None:
    """Return what closes this node, None if it is open."""
    text = files.read(PATH).text
    return None if text is None else closing.read(text)


def close(reason: str) -> tuple[Closed, bool]:
    """Close this node; return what closes it, and whether that is new.

    One that is closed keeps since when and, but for what ``core.closing.kept`` says, why.
    """
    with files.lock(LOCK):
        known = mark()
        now = datetime.now(timezone.utc).isoformat(timespec="milliseconds")
        wanted = Closed((known and known.since) or now, closing.kept(known, reason))
        if wanted != known:
            files.apply(FilePlan(PATH, closing.text(wanted), 0o644, "root", {}))
        return wanted, wanted != known


def open_again(reason: str | None = None) -> Closed | None:
    """Open this node; return what closed it, None if it was open. Whatever is there is removed.

    reason
        Only if that is why it is closed, else WorldError. None for whatever closes it.
    """
    with files.lock(LOCK):
        try:
            known = mark()
        except WorldError as error:
            known = Closed("", str(error))
        if known and reason not in (None, known.reason):
            raise WorldError(f"it stays closed, for another reason by now: {known}")
        files.remove(PATH)
        return known
