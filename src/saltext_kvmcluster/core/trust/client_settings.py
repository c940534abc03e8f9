"""ssh's settings that are not ours: which of them may fail a login, and where they are set.

Judged from ``ssh -G``: ssh's effective settings for one name. See ssh_config(5).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping

from saltext_kvmcluster.core.text import one_line
from saltext_kvmcluster.core.trust import logins
from saltext_kvmcluster.core.trust.blocks import owned_lines, split_lines
from saltext_kvmcluster.core.trust.client_config import CONFIG
from saltext_kvmcluster.core.trust.sshd import Settings

MAX_PLACES = 3
MAX_ERROR = 300
# Ours name no port, address or algorithm: sshd may listen elsewhere, and the site decides on
# algorithms.
_NETWORK = ("port", "addressfamily", "bindaddress", "bindinterface")
_ALGORITHMS = ("ciphers", "macs", "kexalgorithms", "hostkeyalgorithms")
_KEYS = (
    *("pubkeyacceptedalgorithms", "pubkeyacceptedkeytypes", "requiredrsasize"),
    "certificatefile",
)
BLAMED = {
    "refused": _NETWORK,
    "no answer": _NETWORK,
    logins.TIMED_OUT: _NETWORK,
    "no route": _NETWORK,
    "no such name": ("addressfamily",),
    "dropped": ("port",),
    "host key changed": ("port", "revokedhostkeys"),
    "host key unknown": ("port", "hostkeyalgorithms", "revokedhostkeys"),
    logins.NO_ALGORITHM: _ALGORITHMS,
    logins.KEY_NOT_ACCEPTED: (*_KEYS, "port"),
    logins.FAILED: (*_NETWORK, *_ALGORITHMS, "requiredrsasize"),
}
"""The settings that may be behind a cause."""

_READ = re.compile(r"^debug1: Reading configuration data (.+?)\r?$", re.M)
_EXEC = re.compile(r"\s*match\b.*\bexec\b", re.I)


def files_read(debug: str) -> list[str]:
    """Return the files that ssh read, in its order, from what ``ssh -v`` says."""
    return list(dict.fromkeys(_READ.findall(debug)))


def places(texts: Mapping[str, str], keyword: str) -> list[str]:
    """Return where a keyword is set outside of our own part, as ``FILE, line N``.

    texts
        The configuration files by path.
    """
    line = re.compile(rf"\s*\"?{re.escape(keyword)}\"?[\s=]", re.I)
    return [f"{path}, line {number}" for path, number in _lines(texts, line)][:MAX_PLACES]


def commands_run(texts: Mapping[str, str]) -> list[str]:
    """Return where ``Match exec`` runs a command whenever ssh reads its configuration."""
    return [f"{path}, line {number}" for path, number in _lines(texts, _EXEC)][:MAX_PLACES]


def note(cause: str, found: Settings, defaults: Settings, texts: Mapping[str, str]) -> str:
    """Return the settings that may be behind a failed login, with where they are; or nothing.

    found, defaults
        ssh's settings for the name, and without any configuration file.
    texts
        The configuration files by path.
    """
    return "; ".join(_blamed(BLAMED.get(cause, ()), found, defaults, texts))


def unread(texts: Mapping[str, str], error: str = "") -> str:
    """Return why ssh does not read its configuration to the end.

    error
        What it says itself; empty if it says nothing, since it does not finish.
    """
    if error.strip():
        return f"ssh cannot read its configuration: {one_line(error.strip(), MAX_ERROR)}"
    at = "; ".join(commands_run(texts))
    return "ssh cannot read its configuration" + (f" (it runs a command: {at})" if at else "")


def _blamed(
    keywords: Iterable[str], found: Settings, defaults: Settings, texts: Mapping[str, str]
) -> Iterator[str]:
    for keyword in keywords:
        at = places(texts, keyword)
        if at and found.get(keyword) != defaults.get(keyword):
            values = found.get(keyword, ())
            shown = " is " + values[-1] if keyword not in _ALGORITHMS and values else " is set"
            yield f"{keyword}{shown} ({'; '.join(at)})"


def _lines(texts: Mapping[str, str], pattern: re.Pattern[str]) -> Iterator[tuple[str, int]]:
    for path, text in texts.items():
        lines = split_lines(text)
        owned = owned_lines(lines)
        for number, line in enumerate(lines, 1):
            ours = owned[number - 1] or path.endswith(f"/{CONFIG}")
            if not ours and pattern.match(line):
                yield path, number
