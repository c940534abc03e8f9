"""The options of a line in authorized_keys: those of ours, and what others' say (see sshd(8)).

``restrict`` takes away what no program of the cluster uses: forwarding of ports, agent and X11,
terminals, and ~/.ssh/rc. sshd knows it from OpenSSH 7.2 on.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from saltext_kvmcluster.core.errors import InputError
from saltext_kvmcluster.core.pillar import networks

RESTRICT, FROM = "restrict", "from"
_GIVEN_BACK = {"agent-forwarding", "port-forwarding", "pty", "user-rc", "x11-forwarding"}
_OPTION = re.compile(r'([A-Za-z0-9-]+)(?:="((?:\\"|[^"])*)")?(?:,|\Z)')


def text(entries: Sequence[str]) -> str:
    """Return the options of our lines.

    entries
        The addresses and networks from which the key lets in; none for everywhere.
    """
    return f'{RESTRICT},{FROM}="{",".join(entries)}"' if entries else RESTRICT


def kept(options: str, entries: Sequence[str]) -> str:
    """Return our options with a line's own ``from`` and these entries besides.

    Without the entries, nodes whose addresses changed would keep each other out for good: none
    could be asked by the others. A ``from`` that we could not have written is left out.
    """
    values = [value for name, value in _OPTION.findall(options) if name.lower() == FROM]
    try:
        own = [networks.parse([one], FROM)[0] for one in (values[0].split(",") if values else ())]
    except InputError:
        own = []
    return text(tuple(dict.fromkeys([*own, *entries])) if own else ())


def lets_more(options: str, entries: Sequence[str]) -> bool:
    """Whether a line with some options lets a key do more than our line with these entries."""
    names = [name.lower() for name, _ in _OPTION.findall(options)]
    return (
        RESTRICT not in names
        or not _GIVEN_BACK.isdisjoint(names)
        or (bool(entries) and FROM not in names)
    )
