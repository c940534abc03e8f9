"""Whether a trust file is still as a state wrote it: of a shared file, our part of it.

Digests are recorded when the file is written, and compared at each check.
"""

from __future__ import annotations

import hashlib
import posixpath
from collections.abc import Mapping
from typing import Any

from saltext_kvmcluster.core.fileplan import FilePlan, FileState
from saltext_kvmcluster.core.trust import client_config, login_keys, pinned_hosts, sshd
from saltext_kvmcluster.core.untrusted import from_json

_WRITABLE_BY_OTHERS = 0o022


def note(plan: FilePlan) -> dict[str, Any] | None:
    """Return the record of a trust file that is written, None for any other file."""
    own = _own_part(plan.path, plan.text)
    if own is None:
        return None
    return {
        "own": _digest(own),
        "text": _digest(plan.text),
        "mode": plan.mode,
        "owner": plan.owner,
    }


def has_drifted(path: str, noted: Mapping[str, Any], found: FileState, exclusive: bool) -> bool:
    """Whether a file differs from its record.

    exclusive
        Whether ``authorized_keys2`` must have no entries but ours.
    """
    own = _own_part(path, found.text or "")
    if found.text is None or found.mode is None or own is None:
        return True
    if found.owner != noted.get("owner"):
        return True
    if posixpath.basename(path) == client_config.USER_CONFIG:
        # The user may change its mode, as long as ssh still takes it.
        return bool(found.mode & _WRITABLE_BY_OTHERS) or _digest(own) != noted.get("own")
    if found.mode != noted.get("mode"):
        return True
    if exclusive and posixpath.basename(path) == login_keys.AUTHORIZED_KEYS:
        return _digest(found.text) != noted.get("text")
    return _digest(own) != noted.get("own")


def parse(text: str | None) -> dict[str, dict[str, Any]]:
    """Return the records by path; nothing from an invalid text."""
    noted = from_json(text or "", "", lenient=True).fields(optional=True)
    return {path: entry.value for path, entry in noted.items() if isinstance(entry.value, dict)}


def _own_part(path: str, text: str) -> str | None:
    """Return our part of a trust file, None for any other file."""
    folder, name = posixpath.split(path)
    if path == sshd.DROP_IN:
        return text
    if posixpath.basename(folder) != ".ssh":
        return None
    if name in (pinned_hosts.KNOWN_HOSTS, client_config.CONFIG):
        return text
    if name == login_keys.AUTHORIZED_KEYS:
        return login_keys.own_keys(text)
    return client_config.own_include(text) if name == client_config.USER_CONFIG else None


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()
