"""This node's journal, in which a migration is written before it begins, and its history.

One file for each guest in /var/lib/kvmcluster/journal, there for as long as its last migration is
not settled. The history is one line for each migration that ended. A definition that was undefined
is kept in /var/lib/kvmcluster/undefined.
"""

from __future__ import annotations

import base64
import contextlib
import json
import os
import stat
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any, NoReturn

from saltext_kvmcluster.core.errors import InputError, WorldError
from saltext_kvmcluster.core.failover.restarts import Traces
from saltext_kvmcluster.core.fileplan import FilePlan
from saltext_kvmcluster.core.migration import handover, journal, totals
from saltext_kvmcluster.core.migration.handover import LastRun
from saltext_kvmcluster.core.migration.journal import Entry, Found, Kept
from saltext_kvmcluster.core.migration.totals import Totals
from saltext_kvmcluster.core.ownership import contacts
from saltext_kvmcluster.core.ownership.contacts import Contact
from saltext_kvmcluster.core.text import one_line
from saltext_kvmcluster.host import commands, files, leaving, locks, shutdowns
from saltext_kvmcluster.host.descriptors import MAX_SIZE
from saltext_kvmcluster.host.ssh import Session

FOLDER = files.LASTING
ENTRIES = journal.FOLDER
SEQUENCE = f"{FOLDER}/sequence"
HISTORY = f"{FOLDER}/history"
UNDEFINED = f"{FOLDER}/undefined"
LONGEST_HISTORY = 1000
LONGEST_RECORD = 65536
PEER_TIME = 15.0
_CONTACTS = {
    "history": ("cat", HISTORY),
    "claims": (
        *("find", locks.RUN, "-maxdepth", "1", "-type", "f"),
        *("-name", "kvmcluster-start-*.lock"),
        *("-printf", r"\n%T@ ", "-exec", "head", "-c", "300", "{}", ";"),
    ),
}
_SEQUENCE_LOCK = "kvmcluster-sequence"
# Removes files of folder $1, and has the disk confirm it. To a login that may not look into the
# folder above, it is none: so it is rm that tells.
_CLEAR = 'rm -f -- "$2" "$3" || exit; [ ! -d "$1" ] || sync "$1"'
# As ``Journal.advance``, by the file $1, for a number above $2.
_ADVANCE = r"""
umask 077
file=$1 folder=${1%/*} last=
new=$folder/.sequence.kvmcluster-new
[ -d "$folder" ] || mkdir -p -m 700 "$folder" || exit
if [ -e "$file" ] || [ -L "$file" ]; then
  [ -f "$file" ] && [ ! -L "$file" ] && last=$(head -c 20 "$file" 2>&1)
  case $last in
    *[!0-9]*|0*|""|???????????????????*) echo "$file holds no number; remove it" >&2; exit 1 ;;
  esac
else
  last=$(date +%s)
fi
[ "$last" -ge "$2" ] || last=$2
last=$((last + 1))
[ ! -e "$new" ] || rm -f "$new" || exit
echo "$last" >"$new" && sync "$new" && mv -f "$new" "$file" && echo "$last"
"""
_KINDS = {
    stat.S_IFREG: "f",
    stat.S_IFDIR: "d",
    stat.S_IFLNK: "l",
    stat.S_IFIFO: "p",
    stat.S_IFSOCK: "s",
    stat.S_IFBLK: "b",
}
# The folder itself and what is in it: kind, size, owner, path, and a small file's content, encoded
# since a NUL in it would end it. No link is followed, and nothing but a regular file is opened.
_NAMES = "????????-????-????-????-????????????.json"
_SIZE = ("-type", "f", "-name", _NAMES, "-size", f"-{journal.LONGEST + 1}c")
_LISTED = (
    *("-maxdepth", "1", "-printf", r"\0%y %s %U %p\0"),
    *(*_SIZE, "-exec", "base64", "-w0", "{}", ";"),
)


class Journal:
    """This node's own journal. All methods raise WorldError if the disk fails."""

    def entries(self) -> Kept:
        """Return all entries, and why some files are not valid."""
        kept = journal.read_all(filter(None, map(_found, files.children(ENTRIES))))
        try:
            _counted()
        except WorldError as error:
            return replace(kept, unread=(*kept.unread, str(error)))
        return kept

    def write(self, entry: Entry) -> None:
        """Keep an entry, in place of an older one of the same guest."""
        files.ensure_folder(FOLDER, "root")
        files.apply(FilePlan(entry_path(entry.move.uuid), journal.text(entry), 0o600, "root", {}))

    def clear(self, uuid: str) -> None:
        """Remove the request to cancel a guest's migration, then its entry."""
        files.remove(_request(uuid))
        files.remove(entry_path(uuid))

    def advance(self, least: int) -> int:
        """Return a number above ``least`` and all that this node has counted, and count it."""
        files.ensure_folder(FOLDER, "root")
        with locks.lock(_SEQUENCE_LOCK):
            number = max(_counted(), least) + 1
            files.apply(FilePlan(SEQUENCE, f"{number}\n", 0o600, "root", {}))
        return number

    def ask_to_cancel(self, uuid: str, requester: str) -> None:
        """Leave a request to cancel for the process that migrates the guest, with its requester."""
        files.ensure_folder(FOLDER, "root")
        files.apply(FilePlan(_request(uuid), requester, 0o600, "root", {}))

    def asked_to_cancel(self, uuid: str) -> str:
        """Return the requester of a cancellation, empty if there is no request."""
        return one_line(files.read(_request(uuid)).text or "")

    def withdraw(self, uuid: str) -> None:
        """Remove the request to cancel a guest's migration."""
        files.remove(_request(uuid))

    def keep(self, node: str, uuid: str, definition: str) -> None:
        """Keep the definition that a guest has on a node, which is about to be undefined there."""
        files.ensure_folder(FOLDER, "root")
        path = f"{UNDEFINED}/{uuid}-{node}.xml"
        files.apply(FilePlan(path, definition, 0o600, "root", {}))

    def remember(self, record: Mapping[str, Any]) -> None:
        """Add a migration that ended to the history, which keeps the last LONGEST_HISTORY.

        The sums over those that it drops are its first line.
        """
        files.ensure_folder(FOLDER, "root")
        with locks.lock("kvmcluster-history"):
            sums, rows = totals.split(_objects(_lines()))
            kept = rows[1 - LONGEST_HISTORY :]
            sums = sums.plus(rows[: len(rows) - len(kept)])
            lines = map(json.dumps, [totals.line(sums), *kept, record])
            files.apply(FilePlan(HISTORY, "\n".join(lines) + "\n", 0o600, "root", {}))

    def note_shutdown(self, guest: str, time: datetime) -> None:
        """Note that a guest was shut down here because somebody wanted it."""
        shutdowns.note(guest, time)

    def forget_shutdown(self, guest: str) -> None:
        """Remove the note of a guest that is to start."""
        shutdowns.forget(guest)

    def last_run(self, guest: str) -> LastRun:
        """Return the last run of a guest on this node, by libvirt's log of it."""
        return leaving.last_run(guest)

    def traces(self, guest: str) -> Traces:
        """Return what this node's disk tells of a guest, by libvirt's log of it and by our note."""
        return _traces(commands.run_all(_of_guest(guest)), guest, "this node")

    def contacts(self) -> list[Contact]:
        """Return which nodes were up, and when, by migrations that ended and by starts."""
        return _contacts(commands.run_all(_CONTACTS), "this node")

    def history(self) -> list[dict[str, Any]]:
        """Return what is remembered, the oldest first; an invalid line is left out."""
        return totals.split(_objects(_lines()))[1]

    def totals(self) -> Totals:
        """Return the sums over all migrations that were ever remembered here."""
        sums, rows = totals.split(_objects(_lines()))
        return sums.plus(rows)


def known(node: str) -> Kept:
    """Return what the journal of this node holds; one that cannot be read is an unread file."""
    try:
        return Journal().entries().of_node(node)
    except WorldError as error:
        return Kept(unread=(str(error),))


class PeersJournal:
    """A peer's journal, over ssh: read and cleared from here, but only written on the peer."""

    def __init__(self, shell: Session) -> None:
        self.name, self._shell = shell.name or "this node", shell

    def entries(self) -> Kept:
        """Return all entries, as ``Journal``; WorldError if they cannot be read."""
        reported = self._done(["find", ENTRIES, *_LISTED])
        _, *parts = reported.stdout.split("\0")
        if not parts and reported.stderr.endswith("No such file or directory"):
            return journal.read_all(())
        # An entry may be cleared meanwhile.
        vanished = reported.stderr.endswith("No such file or directory")
        if reported.code != 0 and not (parts and vanished):
            detail = one_line(reported.stderr)
            remedy = "; set kvmcluster:ssh:sudo (docs/login.md), or run this there"
            raise WorldError(
                f"the journal of {self.name} could not be read: {detail}"
                f"{remedy if detail.endswith('Permission denied') else ''}"
            )
        (root, _), *found = zip(parts[0::2], parts[1::2], strict=False)
        if not root.startswith("d"):
            raise WorldError(f"{ENTRIES} on {self.name} is not a folder; move it away")
        return journal.read_all(_reported(head, text, self.name) for head, text in found)

    def clear(self, uuid: str) -> None:
        """Remove a guest's entry, as ``Journal``; to be done under its lock there."""
        reported = self._done(["sh", "-c", _CLEAR, "sh", ENTRIES, _request(uuid), entry_path(uuid)])
        if reported.code != 0:
            raise WorldError(
                f"the journal of {self.name} could not be cleared: {reported.stderr[:500]}"
            )

    def advance(self, least: int) -> int:
        """Count on the peer, as ``Journal``."""
        script = ["sh", "-c", _ADVANCE, "sh", SEQUENCE, str(least)]
        lock = f"{locks.RUN}/{_SEQUENCE_LOCK}.lock"
        reported = self._done(["flock", "-w", "10", lock, *script])
        number = reported.stdout.strip()
        if reported.code != 0 or not number.isdecimal():
            raise WorldError(f"{self.name} could not count: {one_line(reported.stderr)}")
        return int(number)

    def forget_shutdown(self, guest: str) -> None:
        """Remove the note of a guest, as ``Journal``."""
        reported = self._done(["rm", "-f", "--", shutdowns.path(guest)])
        if reported.code != 0:
            raise WorldError(f"{self.name}: {one_line(reported.stderr)}")

    def last_run(self, guest: str) -> LastRun:
        """Return the last run of a guest there, as ``Journal``."""
        log = f"{leaving.LOGS}/{guest}.log"
        reported = self._done(["tail", "-c", str(leaving.LOG_TAIL), "--", log])
        if reported.code != 0:
            raise WorldError(f"{log} on {self.name} could not be read: {reported.stderr[:500]}")
        return handover.last_run(reported.stdout)

    def traces(self, guest: str) -> Traces:
        """Return what a peer's disk tells of a guest, as ``Journal``."""
        return _traces(self._shell.run_all(_of_guest(guest), PEER_TIME), guest, self.name)

    def contacts(self) -> list[Contact]:
        """Return which nodes were up, and when, as ``Journal``."""
        return _contacts(self._shell.run_all(_CONTACTS, PEER_TIME), self.name)

    def _elsewhere(self, *arguments: object, **named: object) -> NoReturn:
        raise WorldError(f"the journal of {self.name} is only written there")

    write = ask_to_cancel = asked_to_cancel = withdraw = keep = remember = _elsewhere
    note_shutdown = _elsewhere

    def _done(self, program: Sequence[str]) -> commands.Outcome:
        return self._shell.run_all({"": program}, PEER_TIME)[""]


def _counted() -> int:
    """Return the last number that this node has counted; WorldError if its file is odd."""
    try:
        text = _text(SEQUENCE, journal.LONGEST)
        # A count that was lost goes on above what it was: it is one a second at most.
        return int(time.time()) if text is None else journal.counted(text, SEQUENCE)
    except InputError as error:
        raise WorldError(str(error)) from None


def _text(path: str, most: int = MAX_SIZE) -> str | None:
    """Return what a file of this node's own holds, None if there is none."""
    text = files.read(path, most=most).text
    if text is None and os.path.islink(path):
        raise WorldError(f"{path} is a symbolic link that leads nowhere; move it away")
    return text


def _lines() -> list[str]:
    """Return the lines of the history that may be records."""
    lines = (_text(HISTORY) or "").split("\n")
    return [line for line in lines if 0 < len(line) <= LONGEST_RECORD]


def _objects(lines: Iterable[str]) -> list[dict[str, Any]]:
    """Return what is an object among lines of JSON."""
    found = []
    for line in lines:
        with contextlib.suppress(ValueError, RecursionError):
            record = json.loads(line)
            found += [record] if isinstance(record, dict) else []
    return found


def _contacts(outputs: Mapping[str, commands.Outcome], node: str) -> list[Contact]:
    history = outputs["history"]
    if history.code != 0 and not history.stderr.rstrip().endswith("No such file or directory"):
        detail = one_line(history.stderr) or f"exit code {history.code}"
        raise WorldError(f"the history of {node} could not be read: {detail}")
    return [*contacts.of_history(history.stdout), *contacts.of_claims(outputs["claims"].stdout)]


def _of_guest(guest: str) -> dict[str, list[str]]:
    """Return the programs that tell a guest's traces on the node where they run."""
    log, note = f"{leaving.LOGS}/{guest}.log", shutdowns.path(guest)
    return {
        "now": ["date", "+%s"],
        "log": ["stat", "-L", "-c", "%Y %s", "--", log],
        "note": ["stat", "-L", "-c", "%Y %s", "--", note],
        "run": ["tail", "-c", str(leaving.LOG_TAIL), "--", log],
    }


def _traces(outputs: Mapping[str, commands.Outcome], guest: str, node: str) -> Traces:
    try:
        now = int(outputs["now"].stdout)
        ago = {
            key: now - int(at) if size != "0" else None
            for key in ("log", "note")
            for at, size in [_stated(outputs[key])]
        }
    except ValueError:
        detail = one_line("; ".join(one.stderr for one in outputs.values() if one.stderr))
        raise WorldError(
            f"whether {guest} ran on {node} since is not known: {detail or 'no response'}"
        ) from None
    return Traces(handover.last_run(outputs["run"].stdout), ago["log"], ago["note"])


def _stated(outcome: commands.Outcome) -> list[str]:
    """Return when a file was written, and its size; an empty one and none are alike."""
    if outcome.code == 1 and outcome.stderr.rstrip().endswith("No such file or directory"):
        return ["0", "0"]
    return outcome.stdout.split()


def _found(name: str) -> Found | None:
    """Return what lies in this node's journal under a name, None if it is gone by now."""
    where = f"{ENTRIES}/{name}"
    try:
        info = os.lstat(where)
    except FileNotFoundError:
        return None
    except OSError as error:
        return Found(name, where, "f", 0, error=f"it cannot be read: {error.strerror}")
    kind = _KINDS.get(stat.S_IFMT(info.st_mode), "c")
    found = Found(name, where, kind, info.st_size, error=_of_other(info.st_uid))
    if kind != "f" or found.error or info.st_size > journal.LONGEST:
        return found
    try:
        return replace(found, text=files.read(where).text or "")
    except WorldError as error:
        return replace(found, error=str(error))


def _reported(head: str, text: str, node: str) -> Found:
    """Return what ``find`` reported of a peer's journal."""
    kind, size, owner, path = head.split(" ", 3)
    try:
        content = base64.b64decode(text).decode("utf-8", "surrogateescape")
    except ValueError:
        content = ""
    return Found(
        path.rpartition("/")[2],
        f"{path} on {node}",
        kind,
        int(size),
        content,
        _of_other(int(owner)),
    )


def _of_other(uid: int) -> str:
    """Return why a file is not ours: this node writes its journal as root alone."""
    return "" if uid == 0 else f"it belongs to user {uid}, not to root"


def lock_name(uuid: str) -> str:
    """Return the name of the lock that is held while a guest is moved or its migration settled."""
    return f"kvmcluster-migrate-{uuid}"


def entry_path(uuid: str) -> str:
    """Return the file that keeps a guest's entry."""
    return f"{ENTRIES}/{uuid}.json"


def _request(uuid: str) -> str:
    return f"{ENTRIES}/{uuid}.cancel"
