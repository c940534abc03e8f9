"""Cordons and uncordons this node, by the file that ``core.cordons`` describes."""

from __future__ import annotations

from datetime import datetime, timezone

from saltext_kvmcluster.core import cordons
from saltext_kvmcluster.core.cordons import PATH, Cordon
from saltext_kvmcluster.core.errors import WorldError
from saltext_kvmcluster.core.fileplan import FilePlan
from saltext_kvmcluster.host import files

# Not the lock of all else: a node whose storage hangs while a state writes there can be cordoned.
LOCK = "kvmcluster-cordon"


def current() -> Cordon | None:
    """Return what cordons this node, None if it is not cordoned."""
    text = files.read(PATH).text
    return None if text is None else cordons.parse(text)


def cordon(reason: str) -> tuple[Cordon, bool]:
    """Cordon this node; return what cordons it, and whether that is new.

    One that is cordoned keeps since when and, but for what ``core.cordons.kept`` says, why.
    """
    with files.lock(LOCK):
        known = current()
        now = datetime.now(timezone.utc).isoformat(timespec="milliseconds")
        wanted = Cordon((known and known.since) or now, cordons.kept(known, reason))
        if wanted != known:
            files.apply(FilePlan(PATH, cordons.text(wanted), 0o644, "root", {}))
        return wanted, wanted != known


def uncordon(reason: str | None = None) -> Cordon | None:
    """Uncordon this node, whatever is in its file; return the cordon, None if there was none.

    reason
        Only if that is why it is cordoned, else WorldError. None for whatever cordons it.
    """
    with files.lock(LOCK):
        try:
            known = current()
        except WorldError as error:
            known = Cordon("", str(error))
        if known and reason not in (None, known.reason):
            raise WorldError(f"it stays cordoned, now for another reason: {known}")
        files.remove(PATH)
        return known
