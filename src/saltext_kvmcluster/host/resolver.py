"""What names resolve to, on this host and on others."""

from __future__ import annotations

import socket
from collections.abc import Iterable, Mapping

from saltext_kvmcluster.core.errors import WorldError
from saltext_kvmcluster.host import commands

NOT_FOUND = 2
"""getent's exit code for a name that has no address."""


def address(name: str) -> str:
    """Return the address to which this host resolves a name; WorldError if to none."""
    try:
        return str(socket.getaddrinfo(name, None, type=socket.SOCK_STREAM)[0][4][0])
    except OSError as error:
        raise WorldError(f"{name} does not resolve on this node: {error.strerror}") from None


def addresses(name: str) -> list[str]:
    """Return the addresses of a name on this host, none if it cannot be resolved."""
    try:
        found = socket.getaddrinfo(name, None, type=socket.SOCK_STREAM)
    except OSError:
        return []
    return list(dict.fromkeys(str(entry[4][0]) for entry in found))


def local_address(address: str) -> str:
    """Return the local address from and to which this host and one of that address connect.

    Nothing is sent.
    """
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.connect((address, 22))
            return str(probe.getsockname()[0])
    except OSError:
        return "127.0.0.1"


def name_commands(names: Iterable[str]) -> dict[str, tuple[str, ...]]:
    """Return the commands that resolve names, as a program on that node would."""
    return {f"name {name}": ("getent", "ahosts", name) for name in names}


def names_found(
    names: Iterable[str], found: Mapping[str, commands.Outcome]
) -> dict[str, list[str]]:
    """Return the addresses of each name, none if it has none; what is not known is left out."""
    known = {name: found[f"name {name}"] for name in names}
    return {
        name: list(dict.fromkeys(line.split()[0] for line in outcome.stdout.splitlines() if line))
        for name, outcome in known.items()
        if outcome.code in (0, NOT_FOUND)
    }
