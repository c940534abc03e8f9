"""What jobs returned on this node, kept for a master that did not receive it."""

from __future__ import annotations

import os

from saltext_kvmcluster.core.applying import running
from saltext_kvmcluster.core.errors import WorldError
from saltext_kvmcluster.core.fileplan import FilePlan
from saltext_kvmcluster.host import files

FOLDER = f"{files.LASTING}/returns"
MOST = 10


def keep(job: object, text: str) -> None:
    """Keep what a job returned, and that of the last jobs before it; WorldError if it fails."""
    name = running.job_id(job)
    files.ensure_folder(files.LASTING, "root")
    files.apply(FilePlan(os.path.join(FOLDER, name), text, 0o600, "root", {}))
    for old in files.children(FOLDER)[:-MOST]:
        files.remove(os.path.join(FOLDER, old))


def read(job: object) -> str | None:
    """Return what a job returned; None if it is not kept, or cannot be read."""
    try:
        return files.read(os.path.join(FOLDER, running.job_id(job))).text
    except WorldError:
        return None
