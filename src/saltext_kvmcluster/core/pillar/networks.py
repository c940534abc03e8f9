"""Addresses and networks in the pillar, as sshd's ``from`` takes them (sshd(8), addr_pton_cidr)."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Sequence

from saltext_kvmcluster.core.errors import InputError
from saltext_kvmcluster.core.validate import quotes, shown

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

WANTED = "an address or a network, as 192.0.2.11 or 192.0.2.0/24"
# Each line of authorized_keys2 repeats them.
MOST = 64
_PREFIX = re.compile(r"(?:0|[1-9][0-9]{0,2})\Z")
_NAME = re.compile(r"[A-Za-z0-9_.*?-]*[A-Za-z*?][A-Za-z0-9_.*?-]*\Z")
_MAPPED = ipaddress.IPv6Network("::ffff:0:0/96")


def parse(items: Sequence[object], path: str) -> tuple[str, ...]:
    """Return addresses and networks in canonical form, each once; InputError names a wrong one.

    Strict: sshd takes an entry that it cannot read for a reason to refuse every login.
    """
    if len(items) > MOST:
        raise InputError(
            f"{path}: {len(items)} entries, of which sshd reads each at each login; want at most"
            f" {MOST}: give networks in place of single addresses"
        )
    return tuple(dict.fromkeys(_parsed(item, path) for item in items))


def network(text: str) -> Network:
    """Return a parsed entry as a network; an address is one by itself."""
    return ipaddress.ip_network(text)


def address(text: str) -> Address | None:
    """Return the address of a client as sshd compares it; None if the text is none.

    An IPv4 client of a socket for IPv6 has an IPv4 address, see ipv64_normalise_mapped.
    """
    try:
        found = ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return None
    return getattr(found, "ipv4_mapped", None) or found


def covers(entries: Sequence[str], client: Address) -> bool:
    """Whether one of some parsed entries is an address, or has it in it."""
    return any(client.version == one.version and client in one for one in map(network, entries))


def _parsed(value: object, path: str) -> str:
    if not isinstance(value, str):
        raise InputError(f"{path}: want {WANTED}, got {shown(value)}{quotes(value)}")
    host, slash, prefix = value.partition("/")
    try:
        found = ipaddress.ip_address(host)
        parsed = ipaddress.ip_network(value, strict=False)
    except ValueError:
        raise InputError(f"{path}: want {WANTED}, got {shown(value)}{_fault(value)}") from None
    if slash and not _PREFIX.match(prefix):
        raise InputError(
            f"{path}: {shown(value)} has a mask, which sshd does not take; write {parsed}"
        )
    _refuse(parsed, found, value, path)
    return str(parsed if slash else found)


def _refuse(parsed: Network, found: Address, value: str, path: str) -> None:
    if "%" in value:
        raise InputError(f"{path}: {shown(value)} has a zone, which is another on each node")
    if parsed.prefixlen == 0:
        raise InputError(f"{path}: {value} is every address; leave it out to let in from anywhere")
    if found != parsed.network_address:
        raise InputError(
            f"{path}: {value} is an address in a network, for which sshd would refuse every login;"
            f" write {parsed} for the network, or {found} for the address alone"
        )
    if isinstance(parsed, ipaddress.IPv6Network) and parsed.subnet_of(_MAPPED):
        four = ipaddress.ip_network((int(parsed[0]) & 0xFFFFFFFF, parsed.prefixlen - 96))
        plain = four if parsed.prefixlen < 128 else four.network_address
        raise InputError(f"{path}: {value} is {plain} in IPv6's form; write {plain}")
    if parsed.is_multicast or parsed.is_unspecified:
        raise InputError(f"{path}: {value} is no host's address, so nobody logs in from it")


def _fault(text: str) -> str:
    """Return what is wrong with a text that is no address, as the end of a sentence; or nothing."""
    if text.startswith("!"):
        return "; exclusions are not possible: give the networks that are allowed"
    if "," in text:
        return "; give each entry by itself, as an item of the list"
    if "*" in text or "?" in text:
        return "; sshd's patterns are not possible: give a network, as 192.0.2.0/24"
    if _NAME.match(text):
        return "; sshd compares addresses, names only if it looks them up (UseDNS): give addresses"
    return ""
