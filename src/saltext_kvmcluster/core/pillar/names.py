"""Names in the pillar: of guests, of nodes and their addresses, and patterns of host names."""

from __future__ import annotations

import ipaddress
import re

from saltext_kvmcluster.core.errors import InputError
from saltext_kvmcluster.core.validate import quotes, shown

LOOPBACK_NAMES = ("localhost", "localhost.localdomain", "ip6-localhost", "ip6-loopback")
LITERAL_LENGTH = 2
HOST = "a host name or an address"
_HOST_NAME = re.compile(r"[A-Za-z0-9_]([A-Za-z0-9_.-]{0,251}[A-Za-z0-9_])?\Z")
_PATTERN = re.compile(r"!?[A-Za-z0-9_.:*?-]{1,253}\Z")
_GUEST = re.compile(r"[^/.\-\s\x00-\x1f\x7f][^/\x00-\x1f\x7f]{0,252}\Z")
_DOTTED_NUMBERS = re.compile(r"[0-9.]+\Z")


def guest_name(value: object, where: str) -> str:
    """Return the name of a guest, which may also be a file name; InputError if invalid.

    where
        The key's path or the argument's name, for the error.
    """
    if isinstance(value, str) and value.isprintable() and _GUEST.match(value):
        return value
    raise InputError(
        f"{where}: want a guest's name, got {shown(value)}{quotes(value)}; a name is"
        " printable, without '/', and begins with neither '.' nor '-'"
    )


def host_pattern(value: object, path: str) -> str:
    if not isinstance(value, str) or not _PATTERN.match(value):
        raise InputError(f"{path}: want ssh_config patterns such as 'kvm-*', got {shown(value)}")
    if not re.search(r"[A-Za-z0-9]", value):
        raise InputError(f"{path}: {value!r} matches every host; name the cluster's hosts alone")
    if value.startswith("!"):
        raise InputError(f"{path}: {value!r} excludes hosts; patterns here only add some")
    first, *others = re.split(r"[*?]", value)
    if others and max(len(first), len(others[-1])) < LITERAL_LENGTH:
        raise InputError(
            f"{path}: {shown(value)} matches hosts of all sorts; give it a beginning or an end of"
            f" {LITERAL_LENGTH} characters or more without '*' and '?', as 'kvm-*' has"
        )
    return value


def minion_id(value: object, path: str) -> str:
    """Return a node's minion id, by which peers reach it; Salt allows more in an id."""
    if isinstance(value, str) and _spelled(value) is None:
        raise InputError(
            f"{path}: want {HOST}, got {shown(value)}; the minion id has to be"
            " a host name here, of letters, digits, '.', '_' and '-': change 'id' in the minion's"
            " configuration"
        )
    return host_name(value, path)


def host_name(value: object, path: str) -> str:
    """Return a host name, or an address in canonical form, that peers can reach.

    Addresses with a scope (``fe80::1%eth0``) mean another host on each node and are refused.
    """
    found = _spelled(value)
    if found is None:
        raise InputError(f"{path}: want {HOST}, got {shown(value)}{quotes(value)}")
    kind = _unreachable_kind(found)
    if kind:
        raise InputError(
            f"{path}: {found} is {kind}, peers cannot reach it; give a name or an address that"
            " reaches this node from every other"
        )
    return found


def _spelled(value: object) -> str | None:
    """Return a host name as it is, an address in canonical form, None for anything else."""
    if not isinstance(value, str) or "%" in value:
        return None
    address = _address(value)
    if address:
        return str(address)
    named = _HOST_NAME.match(value) and not _DOTTED_NUMBERS.match(value)
    return value if named else None


def _address(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """Return a text as an address, None for a name, which is found without parsing."""
    if ":" not in text and not _DOTTED_NUMBERS.match(text):
        return None
    try:
        return ipaddress.ip_address(text)
    except ValueError:
        return None


def _unreachable_kind(host: str) -> str | None:
    """Return what a name or address is that reaches no host or the caller itself; or None."""
    if host.lower() in LOOPBACK_NAMES:
        return "every host's own name for itself"
    address = _address(host)
    if address is None:
        return None
    address = getattr(address, "ipv4_mapped", None) or address
    if address.is_loopback:
        return "a loopback address"
    if address.is_unspecified:
        return "the unspecified address"
    return "a multicast address" if address.is_multicast else None
