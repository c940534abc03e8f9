"""Cordons and uncordons this node, by the file that ``core.cordons`` describes."""

from __future__ import annotations

import os
from datetime import datetime, timezone

from saltext_kvmcluster.core import cordons
from saltext_kvmcluster.core.cordons import LONGEST, PATH, Cordon
from saltext_kvmcluster.core.errors import WorldError
from saltext_kvmcluster.core.fileplan import FilePlan
from saltext_kvmcluster.host import files, locks

# A lock of its own: a node can be cordoned while a state hangs in a write to storage.
LOCK = "kvmcluster-cordon"


def current() -> Cordon | None:
    """Return this node's cordon, None if it is not cordoned.

    Whatever is there cordons it, so an error is the reason.
    """
    try:
        text = files.read(PATH, most=LONGEST).text
    except WorldError as error:
        return Cordon("", str(error))
    if text is None and os.path.islink(PATH):
        return Cordon("", f"{PATH} is a symbolic link that leads nowhere; move it away")
    return None if text is None else cordons.parse(text)


def cordon(reason: str) -> tuple[Cordon, bool]:
    """Cordon this node; return its cordon, and whether that changed.

    A cordoned node keeps its time, and its reason unless ``core.cordons.kept`` replaces it.
    """
    with locks.lock(LOCK):
        known = current()
        now = datetime.now(timezone.utc).isoformat(timespec="milliseconds")
        wanted = Cordon((known and known.since) or now, cordons.kept(known, reason))
        if wanted != known:
            files.apply(FilePlan(PATH, cordons.text(wanted), 0o644, "root", {}))
        return wanted, wanted != known


def uncordon(reason: str | None = None) -> Cordon | None:
    """Uncordon this node, even if its file is invalid; return the cordon, None if there was none.

    reason
        Uncordon only if it is cordoned for this reason, else WorldError. None for any reason.
    """
    with locks.lock(LOCK):
        known = current()
        if known and reason not in (None, known.reason):
            raise WorldError(f"it stays cordoned, for another reason: {known}")
        files.remove(PATH)
        return known
