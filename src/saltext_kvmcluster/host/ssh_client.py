"""ssh's own reading of its configuration on this host (``ssh -G``), and the files that it reads."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from saltext_kvmcluster.core.errors import WorldError
from saltext_kvmcluster.core.trust import client_settings, sshd
from saltext_kvmcluster.host import commands, files

WORKERS = 16
# Match exec in a user's file runs a command, which may hang.
READING_TIME = 5.0


def settings(names: Sequence[str]) -> dict[str, sshd.Settings | str]:
    """Return ssh's settings for each name; its error where it cannot read its configuration.

    The error is empty where it did not finish in time.
    """
    with ThreadPoolExecutor(max_workers=WORKERS) as pool:
        return dict(zip(names, pool.map(_settings, names), strict=True))


def known(options: Sequence[str]) -> list[str]:
    """Return those of some options, as lines of a configuration, that this ssh knows."""

    def are_known(*asked: str) -> bool:
        named = [word for option in asked for word in ("-o", option)]
        line = ["ssh", "-F", "/dev/null", "-G", *named, "--", "localhost"]
        return commands.run(line, READING_TIME).code == 0

    if are_known(*options):
        return list(options)
    with ThreadPoolExecutor(max_workers=WORKERS) as pool:
        found = pool.map(are_known, options)
        return [option for option, is_one in zip(options, found, strict=True) if is_one]


def texts(name: str) -> dict[str, str]:
    """Return the configuration files that ssh reads for a name, by path and in its order."""
    outcome = commands.run(["ssh", "-v", "-G", "--", name], READING_TIME)
    return _texts(outcome.stderr)


def note(name: str, cause: str) -> str:
    """Return which settings of the login's own may be behind a failed login; or nothing."""
    if cause not in client_settings.BLAMED:
        return ""
    outcome = commands.run(["ssh", "-v", "-G", "--", name], READING_TIME)
    found = _texts(outcome.stderr)
    if outcome.code is None:
        return client_settings.unread(found)
    defaults = commands.run(["ssh", "-F", "/dev/null", "-G", "--", name], READING_TIME)
    own, default = (sshd.parse_settings(one.stdout) for one in (outcome, defaults))
    return client_settings.note(cause, own, default, found) if outcome.code == 0 else ""


def _settings(name: str) -> sshd.Settings | str:
    outcome = commands.run(["ssh", "-G", "--", name], READING_TIME)
    if outcome.code == 0:
        return sshd.parse_settings(outcome.stdout)
    return "" if outcome.code is None else outcome.stderr


def _texts(debug: str) -> dict[str, str]:
    found = {}
    for path in client_settings.files_read(debug):
        with contextlib.suppress(WorldError):
            found[path] = files.read(path).text or ""
    return found
