"""What was begun is on disk before it is done: this node's journal of migrations, and its history.

One file for each guest in /var/lib/kvmcluster/journal, there for as long as its last migration is
not settled. The history is one line for each migration that ended.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping
from typing import Any

from saltext_kvmcluster.core import journal
from saltext_kvmcluster.core.journal import Entry
from saltext_kvmcluster.core.plan import FilePlan
from saltext_kvmcluster.host import files

FOLDER = "/var/lib/kvmcluster"
ENTRIES = f"{FOLDER}/journal"
HISTORY = f"{FOLDER}/history"
LONGEST_HISTORY = 1000


class Journal:
    """This node's own journal. Every verb raises WorldError where the disk does not do its part."""

    def entries(self) -> list[Entry]:
        """Return all entries; InputError, which names the file, if one is none."""
        paths = [path for path in files.listed(ENTRIES) if path.endswith(".json")]
        return [journal.read(kept, path) for path in paths if (kept := files.read(path).text)]

    def write(self, entry: Entry) -> None:
        """Keep an entry, in place of an older one of the same guest."""
        files.ensure_folder(FOLDER, "root")
        files.apply(FilePlan(_entry(entry.move.uuid), journal.text(entry), 0o600, "root", {}))

    def clear(self, uuid: str) -> None:
        """Forget a guest's entry, and that anybody wanted its migration cancelled."""
        files.remove(_entry(uuid))
        files.remove(_request(uuid))

    def ask_to_cancel(self, uuid: str, words: str) -> None:
        """Leave a request for whoever migrates the guest; ``words`` say who wants it."""
        files.ensure_folder(FOLDER, "root")
        files.apply(FilePlan(_request(uuid), words, 0o600, "root", {}))

    def asked_to_cancel(self, uuid: str) -> str:
        """Return the words of the request to cancel, empty if there is none."""
        return files.read(_request(uuid)).text or ""

    def remember(self, record: Mapping[str, Any]) -> None:
        """Add a migration that ended to the history, which keeps the last LONGEST_HISTORY."""
        files.ensure_folder(FOLDER, "root")
        with files.lock("kvmcluster-history"):
            lines = (files.read(HISTORY).text or "").splitlines()
            kept = [*lines[1 - LONGEST_HISTORY :], json.dumps(record)]
            files.apply(FilePlan(HISTORY, "\n".join(kept) + "\n", 0o600, "root", {}))

    def history(self) -> list[dict[str, Any]]:
        """Return what is remembered, the oldest first; a line that is none is left out."""
        found = []
        for line in (files.read(HISTORY).text or "").splitlines():
            with contextlib.suppress(ValueError):
                record = json.loads(line)
                found += [record] if isinstance(record, dict) else []
        return found


def _entry(uuid: str) -> str:
    return f"{ENTRIES}/{uuid}.json"


def _request(uuid: str) -> str:
    return f"{ENTRIES}/{uuid}.cancel"
