"""Names in the pillar: of guests, of nodes and their addresses, and patterns of host names."""

from __future__ import annotations

import fnmatch
import ipaddress
import re

from saltext_kvmcluster.core.errors import InputError
from saltext_kvmcluster.core.validate import quotes, shown

# What /etc/hosts of Debian, RHEL and SUSE, nss-myhostname(8) and RFC 6761 call the host itself.
LOOPBACK_NAMES = (
    *("localhost", "localhost[46]", "localhost.localdomain", "localhost[46].localdomain[46]"),
    *("*.localhost", "*.localhost.localdomain", "loopback", "ip6-localhost", "ip6-loopback"),
)
GROUP_NAMES = ("ip6-localnet", "ip6-mcastprefix", "ip6-allnodes", "ip6-allrouters", "broadcasthost")
# Of systemd-resolved(8).
RELATIVE_NAMES = ("_gateway", "_outbound", "_localdnsstub", "_localdnsproxy")
THIS_NETWORK = ipaddress.ip_network("0.0.0.0/8")
IPV4_COMPATIBLE = ipaddress.ip_network("::/96")
LABEL_LENGTH, LONGEST_NAME = 63, 253
LITERAL_LENGTH = 2
HOST = "a host name or an address"
_LABEL = rf"[A-Za-z0-9_](?:[A-Za-z0-9_-]{{0,{LABEL_LENGTH - 2}}}[A-Za-z0-9_])?"
_LABELS = re.compile(rf"{_LABEL}(?:\.{_LABEL})*\Z")
_PATTERN = re.compile(r"!?[A-Za-z0-9_.:*?-]{1,253}\Z")
_GUEST = re.compile(r"[^/.\-\s\x00-\x1f\x7f][^/\x00-\x1f\x7f]{0,252}\Z")
_LOOPBACK = re.compile("|".join(map(fnmatch.translate, LOOPBACK_NAMES)))
_DOTTED_NUMBERS = re.compile(r"[0-9.]+\Z")
# inet_aton(3) takes these for an address: getaddrinfo finds 127.0.0.1 for 0x7f000001.
_NUMBERS = re.compile(r"(0[xX][0-9A-Fa-f]*|[0-9]+)(\.(0[xX][0-9A-Fa-f]*|[0-9]+))*\Z")


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
    if any(fnmatch.fnmatchcase(name, value.lower()) for name in ("localhost", "127.0.0.1", "::1")):
        raise InputError(
            f"{path}: {shown(value)} matches every host's own name or address for itself; name the"
            " cluster's hosts alone"
        )
    return value


def minion_id(value: object, path: str) -> str:
    """Return a node's minion id, by which peers reach it; Salt allows more in an id."""
    found = _spelled(value)
    if isinstance(value, str) and found is None:
        raise InputError(
            f"{path}: want {HOST}, got {shown(value)}{_fault(value)}; the minion id has to be"
            " a host name here, of letters, digits, '.', '_' and '-': change 'id' in the minion's"
            " configuration"
        )
    return host_name(value, path) if found is None else _reachable(found, value, path)


def host_name(value: object, path: str) -> str:
    """Return a host name, or an address in canonical form, that peers can reach.

    Addresses with a scope (``fe80::1%eth0``) mean another host on each node and are refused, and
    so is IPv4 in IPv6's form, which would be a second name of one address.
    """
    found = _spelled(value)
    if found is None:
        fault = _fault(value) if isinstance(value, str) else quotes(value)
        raise InputError(f"{path}: want {HOST}, got {shown(value)}{fault}")
    return _reachable(found, value, path)


def _reachable(found: str, value: object, path: str) -> str:
    """Return a name or an address, as ``value`` spells it, that peers can reach."""
    kind = _unreachable_kind(found)
    if kind:
        raise InputError(
            f"{path}: {found} is {kind}, peers cannot reach it; give a name or an address that"
            " reaches this node from every other"
        )
    embedded = _embedded(found)
    if embedded:
        raise InputError(
            f"{path}: {shown(value)} is the IPv4 address {embedded} in IPv6's form; write"
            f" {embedded}"
        )
    return found


def _spelled(value: object) -> str | None:
    """Return a host name as it is, an address in canonical form, None for anything else."""
    if not isinstance(value, str) or "%" in value:
        return None
    address = _address(value)
    if address:
        return str(address)
    is_name = len(value) <= LONGEST_NAME and _LABELS.match(value) and not _NUMBERS.match(value)
    return value if is_name else None


def _fault(text: str) -> str:
    """Return what is wrong with a text that is no address, as the end of a sentence; or nothing."""
    labels = text.split(".")
    if "%" in text:
        return "; an address with a zone means another network on each node"
    if _NUMBERS.match(text):
        return "; an IPv4 address is four decimal numbers up to 255, without leading zeros"
    if text.endswith(".") and all(labels[:-1]):
        return "; leave out the dot at its end"
    if not all(labels):
        return "; no part of a name is empty: there is a dot too many"
    if any(label.startswith("-") or label.endswith("-") for label in labels):
        return "; no part of a name begins or ends with '-'"
    if any(len(label) > LABEL_LENGTH for label in labels):
        return f"; no part of a name is longer than {LABEL_LENGTH} characters"
    return ""


def _address(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """Return a text as an address, None for a name, which is found without parsing."""
    if ":" not in text and not _DOTTED_NUMBERS.match(text):
        return None
    try:
        return ipaddress.ip_address(text)
    except ValueError:
        return None


def _embedded(host: str) -> ipaddress.IPv4Address | None:
    """Return the IPv4 address that an IPv6 address stands for (RFC 4291, 2.5.5); or None."""
    address = _address(host)
    if not isinstance(address, ipaddress.IPv6Address):
        return None
    if address in IPV4_COMPATIBLE and int(address) > 1:
        return ipaddress.IPv4Address(int(address))
    return address.ipv4_mapped


def _unreachable_kind(host: str) -> str | None:
    """Return what a name or address is that reaches no host or the caller itself; or None."""
    name = host.lower()
    if _LOOPBACK.match(name):
        return "every host's own name for itself"
    if name in GROUP_NAMES:
        return "the name of a group of hosts"
    if name in RELATIVE_NAMES:
        return "the name of another host on each node"
    address = _embedded(host) or _address(host)
    if address is None:
        return None
    if address.is_loopback:
        return "a loopback address"
    if address.is_unspecified:
        return "the unspecified address"
    if address.version == 4:
        return _unreachable_ipv4(address)
    if address.is_link_local:
        return "a link-local address, which means another network on each node"
    return "a multicast address" if address.is_multicast else None


def _unreachable_ipv4(address: ipaddress.IPv4Address) -> str | None:
    if address in THIS_NETWORK:
        return "in 0.0.0.0/8, which is no host's"
    if int(address) == 0xFFFFFFFF:
        return "the broadcast address"
    return "a multicast address" if address.is_multicast else None
