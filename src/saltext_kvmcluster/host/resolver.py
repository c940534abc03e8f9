"""What names resolve to on this host."""

from __future__ import annotations

import socket

from saltext_kvmcluster.core.errors import WorldError


def address(name: str) -> str:
    """Return the address to which this host resolves a name; WorldError if to none."""
    try:
        return str(socket.getaddrinfo(name, None, type=socket.SOCK_STREAM)[0][4][0])
    except OSError as error:
        raise WorldError(f"{name} does not resolve on this node: {error.strerror}") from None
