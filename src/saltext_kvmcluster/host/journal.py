"""This node's journal, in which a migration is written before it begins, and its history.

One file for each guest in /var/lib/kvmcluster/journal, there for as long as its last migration is
not settled. The history is one line for each migration that ended. A definition that was undefined
is kept in /var/lib/kvmcluster/undefined.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping, Sequence
from typing import Any, NoReturn

from saltext_kvmcluster.core.errors import WorldError
from saltext_kvmcluster.core.fileplan import FilePlan
from saltext_kvmcluster.core.migration import handover, journal
from saltext_kvmcluster.core.migration.journal import Entry, Kept
from saltext_kvmcluster.host import commands, files, leaving
from saltext_kvmcluster.host.ssh import Session

FOLDER = files.LASTING
ENTRIES = f"{FOLDER}/journal"
HISTORY = f"{FOLDER}/history"
UNDEFINED = f"{FOLDER}/undefined"
LONGEST_HISTORY = 1000
LONGEST_ENTRY = 65536
PEER_TIME = 15.0


class Journal:
    """This node's own journal. All methods raise WorldError if the disk fails."""

    def entries(self) -> Kept:
        """Return all entries, and why some files are not valid."""
        paths = [path for path in files.listed(ENTRIES) if path.endswith(".json")]
        return journal.read_all({path: files.read(path).text or "" for path in paths})

    def write(self, entry: Entry) -> None:
        """Keep an entry, in place of an older one of the same guest."""
        files.ensure_folder(FOLDER, "root")
        files.apply(FilePlan(entry_path(entry.move.uuid), journal.text(entry), 0o600, "root", {}))

    def clear(self, uuid: str) -> None:
        """Remove a guest's entry, and the request to cancel its migration."""
        files.remove(entry_path(uuid))
        files.remove(_request(uuid))

    def ask_to_cancel(self, uuid: str, requester: str) -> None:
        """Leave a request to cancel for the process that migrates the guest, with its requester."""
        files.ensure_folder(FOLDER, "root")
        files.apply(FilePlan(_request(uuid), requester, 0o600, "root", {}))

    def asked_to_cancel(self, uuid: str) -> str:
        """Return the requester of a cancellation, empty if there is no request."""
        return files.read(_request(uuid)).text or ""

    def withdraw(self, uuid: str) -> None:
        """Remove the request to cancel a guest's migration."""
        files.remove(_request(uuid))

    def keep(self, node: str, uuid: str, definition: str) -> None:
        """Keep the definition that a guest has on a node, which is about to be undefined there."""
        files.ensure_folder(FOLDER, "root")
        path = f"{UNDEFINED}/{uuid}-{node}.xml"
        files.apply(FilePlan(path, definition, 0o600, "root", {}))

    def remember(self, record: Mapping[str, Any]) -> None:
        """Add a migration that ended to the history, which keeps the last LONGEST_HISTORY."""
        files.ensure_folder(FOLDER, "root")
        with files.lock("kvmcluster-history"):
            lines = (files.read(HISTORY).text or "").splitlines()
            kept = [*lines[1 - LONGEST_HISTORY :], json.dumps(record)]
            files.apply(FilePlan(HISTORY, "\n".join(kept) + "\n", 0o600, "root", {}))

    def last_end(self, guest: str) -> str:
        """Return how the last run of a guest on this node ended, by libvirt's log of it."""
        return leaving.last_end(guest)

    def history(self) -> list[dict[str, Any]]:
        """Return what is remembered, the oldest first; an invalid line is left out."""
        found = []
        for line in (files.read(HISTORY).text or "").splitlines():
            with contextlib.suppress(ValueError):
                record = json.loads(line)
                found += [record] if isinstance(record, dict) else []
        return found


class PeersJournal:
    """A peer's journal, over ssh: read and cleared from here, but only written on the peer."""

    def __init__(self, shell: Session) -> None:
        self.name, self._shell = shell.name, shell

    def entries(self) -> Kept:
        """Return all entries, as ``Journal``; WorldError if they cannot be read."""
        size = str(LONGEST_ENTRY)
        each = ("-printf", r"\0%p\0", "-exec", "head", "-c", size, "{}", ";")
        reported = self._done(["find", ENTRIES, "-name", "*.json", "-type", "f", *each])
        if reported.code != 0 and reported.stderr.endswith("No such file or directory"):
            return journal.read_all({})
        if reported.code != 0:
            raise WorldError(
                f"the journal of {self.name} could not be read: {reported.stderr[:500]}"
            )
        _, *parts = reported.stdout.split("\0")
        kept = zip(parts[0::2], parts[1::2], strict=False)
        return journal.read_all({f"{path} on {self.name}": text for path, text in kept})

    def clear(self, uuid: str) -> None:
        """Remove a guest's entry, as ``Journal``; to be done under its lock there."""
        reported = self._done(["rm", "-f", "--", entry_path(uuid), _request(uuid)])
        if reported.code != 0:
            raise WorldError(
                f"the journal of {self.name} could not be cleared: {reported.stderr[:500]}"
            )

    def last_end(self, guest: str) -> str:
        """Return how the last run of a guest there ended, as ``Journal``."""
        log = f"{leaving.LOGS}/{guest}.log"
        reported = self._done(["tail", "-c", str(leaving.LOG_TAIL), "--", log])
        if reported.code != 0:
            raise WorldError(f"{log} on {self.name} could not be read: {reported.stderr[:500]}")
        return handover.run_ended(reported.stdout)

    def _elsewhere(self, *arguments: object, **named: object) -> NoReturn:
        raise WorldError(f"the journal of {self.name} is only written there")

    write = ask_to_cancel = asked_to_cancel = withdraw = keep = remember = _elsewhere

    def _done(self, program: Sequence[str]) -> commands.Outcome:
        return self._shell.run_all({"": program}, PEER_TIME)[""]


def lock_name(uuid: str) -> str:
    """Return the name of the lock that is held while a guest is moved or its migration settled."""
    return f"kvmcluster-migrate-{uuid}"


def entry_path(uuid: str) -> str:
    """Return the file that keeps a guest's entry."""
    return f"{ENTRIES}/{uuid}.json"


def _request(uuid: str) -> str:
    return f"{ENTRIES}/{uuid}.cancel"
